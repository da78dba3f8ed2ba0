// Package localpg starts real PostgreSQL servers from the installed binaries: managers with streaming replicas, on
// loopback, as an unprivileged user, in a directory that is gone when they are. The demo, the tests and the benchmarks
// all share it.
//
// Nothing survives the process that calls Start: Stop removes everything in order, and when it is never reached a
// watchdog process does (see watchdog.sh). It needs Linux, whose /proc tells which processes belong to a server.
package localpg

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// maxSocketPath is the longest path of a Unix socket, one below the 108 bytes of sockaddr_un.sun_path with its end mark.
const maxSocketPath = 107

// Cluster is a set of shards that were started together. Its fields are fixed after Start; methods are safe for
// concurrent use.
type Cluster struct {
	Shards       []*Shard
	Dir          string        // holds all data directories and logs
	SocketDir    string        // holds every server's Unix socket, open to the servers' user only
	Superuser    string        // may do everything, replication included
	Password     string        // the superuser's
	Certificates *Certificates // nil without Options.TLS

	options  Options
	binaries Binaries
	account  account
	watchdog *watchdog
	after    string // what happens to Dir: removeDir, emptyDir or keepDir

	stopOnce sync.Once
	stopErr  error // written by stopOnce
}

// Start starts a cluster and returns when every manager takes connections and every replica streams. ctx bounds the
// start only; the servers run until Stop. On error nothing is left behind.
func Start(ctx context.Context, options Options) (*Cluster, error) {
	options, err := options.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	c := &Cluster{options: options, Superuser: options.Superuser, Password: options.Password}
	if c.binaries, err = FindBinaries(); err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	if c.account, err = serverAccount(); err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	if err := c.makeDirectories(); err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	if c.watchdog, err = startWatchdog(c.Dir, c.after, c.SocketDir); err != nil {
		return nil, errors.Join(fmt.Errorf("start PostgreSQL: %w", err), c.removeDirectories())
	}
	if err := c.startShards(ctx); err != nil {
		if c.after == keepDir {
			options.Logf("the directory %s is kept, as asked for", c.Dir)
		}
		return nil, errors.Join(fmt.Errorf("start PostgreSQL: %w", err), c.Stop())
	}
	return c, nil
}

// Servers returns all servers, each shard's manager before its replicas.
func (c *Cluster) Servers() []*Server {
	var all []*Server
	for _, shard := range c.Shards {
		all = append(all, shard.Manager)
		all = append(all, shard.Replicas...)
	}
	return all
}

// Stop stops every server and removes the directory, unless it is to be kept. Further calls return the first's result.
func (c *Cluster) Stop() error {
	c.stopOnce.Do(func() {
		c.stopErr = errors.Join(c.stopServers(), c.removeDirectories(), c.watchdog.dismiss())
	})
	return c.stopErr
}

func (c *Cluster) stopServers() error {
	mode := Immediate // the data goes away, so nothing needs to reach the disk
	if c.after == keepDir {
		mode = Fast
	}
	return together(c.Servers(), func(s *Server) error {
		if s.PID() == 0 {
			return nil
		}
		return s.Stop(mode)
	})
}

// makeDirectories sets Dir, SocketDir and after.
func (c *Cluster) makeDirectories() error {
	if err := c.makeDir(); err != nil {
		return err
	}
	if c.options.Keep {
		c.after = keepDir
	}
	// The watchdog compares with what the kernel reports, which knows no symbolic links.
	resolved, err := filepath.EvalSymlinks(c.Dir)
	if err != nil {
		return fmt.Errorf("resolve directory: %w", err)
	}
	c.Dir = resolved
	if err := c.account.own(c.Dir); err != nil {
		return fmt.Errorf("give directory away: %w", err)
	}
	c.SocketDir = filepath.Join(c.Dir, "sockets")
	if len(filepath.Join(c.SocketDir, fmt.Sprintf(".s.PGSQL.%d.lock", highestPort))) > maxSocketPath {
		if c.SocketDir, err = os.MkdirTemp("/tmp", "pgtier-sockets-"); err != nil {
			return fmt.Errorf("make socket directory: %w", err)
		}
	}
	if err := c.account.makeDir(c.SocketDir); err != nil {
		return fmt.Errorf("make socket directory: %w", err)
	}
	return nil
}

// makeDir sets Dir to an empty directory, and after to what its earlier existence asks for.
func (c *Cluster) makeDir() (err error) {
	c.after = removeDir
	if c.options.Dir == "" {
		if c.Dir, err = os.MkdirTemp("", "pgtier-"); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
		return nil
	}
	if c.Dir, err = filepath.Abs(c.options.Dir); err != nil {
		return fmt.Errorf("resolve directory: %w", err)
	}
	entries, err := os.ReadDir(c.Dir)
	switch {
	case errors.Is(err, os.ErrNotExist):
		if err := os.MkdirAll(filepath.Dir(c.Dir), 0o755); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
		if err := os.Mkdir(c.Dir, 0o700); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	case err != nil:
		return fmt.Errorf("look into directory: %w", err)
	case len(entries) > 0:
		return fmt.Errorf("directory %s is not empty: name a new one", c.Dir)
	default:
		c.after = emptyDir
	}
	return nil
}

func (c *Cluster) removeDirectories() error {
	var errs []error
	switch c.after {
	case removeDir:
		errs = append(errs, os.RemoveAll(c.Dir))
	case emptyDir:
		entries, err := os.ReadDir(c.Dir)
		errs = append(errs, err)
		for _, e := range entries {
			errs = append(errs, os.RemoveAll(filepath.Join(c.Dir, e.Name())))
		}
	}
	errs = append(errs, os.RemoveAll(c.SocketDir))
	return errors.Join(errs...)
}

func (c *Cluster) startShards(ctx context.Context) error {
	if c.options.TLS {
		if err := c.makeCertificates(); err != nil {
			return err
		}
	}
	for i := range c.options.Shards {
		c.Shards = append(c.Shards, newShard(c, i, c.options.Replicas))
	}
	return together(c.Shards, func(s *Shard) error { return s.start(ctx) })
}

func (c *Cluster) makeCertificates() error {
	certificates, err := NewCertificates(filepath.Join(c.Dir, "tls"))
	if err != nil {
		return err
	}
	for _, path := range []string{certificates.Dir, certificates.CAFile, certificates.ServerCert, certificates.ServerKey} {
		if err := c.account.own(path); err != nil {
			return fmt.Errorf("give certificate away: %w", err)
		}
	}
	c.Certificates = certificates
	return nil
}

// together runs act on every item at once, waits for all of them and joins their errors in the items' order.
func together[T any](items []T, act func(T) error) error {
	errs := make([]error, len(items))
	var wg sync.WaitGroup
	for i, item := range items {
		wg.Go(func() { errs[i] = act(item) })
	}
	wg.Wait()
	return errors.Join(slices.DeleteFunc(errs, func(err error) bool { return err == nil })...)
}
