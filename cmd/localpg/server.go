package localpg

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// StopMode is one of PostgreSQL's shutdown modes.
type StopMode string

// The shutdown modes, as pg_ctl names them.
const (
	Smart     StopMode = "smart"     // waits until every client has gone
	Fast      StopMode = "fast"      // breaks transactions off and writes a checkpoint
	Immediate StopMode = "immediate" // as a crash: the next start recovers
)

// stopSignals are from PostgreSQL's postmaster.c, pmdie.
var stopSignals = map[StopMode]syscall.Signal{Smart: syscall.SIGTERM, Fast: syscall.SIGINT, Immediate: syscall.SIGQUIT}

// stopPatience is how long a server may take to stop before it is killed.
const stopPatience = 30 * time.Second

// errPortTaken says that somebody else listens on the server's port.
var errPortTaken = errors.New("port is taken")

// Server is one PostgreSQL server. Its fields are fixed once the cluster has started. Queries and PID are safe for
// concurrent use; of the methods that start, stop or freeze it only one may run at a time.
type Server struct {
	Name      string // "s0_manager", "s0_replica1": also its cluster_name, application_name and slot
	Host      string // always an address of loopback
	Port      int    // the same for the server's whole life, over restarts
	DataDir   string
	SocketDir string // for connections as the superuser without a password
	LogFile   string

	cluster *Cluster

	mu      sync.Mutex
	process *process // guarded by mu; nil before the first start
}

// process is one run of a server.
type process struct {
	pid  int
	done chan struct{} // closed when the postmaster has ended
}

func (p *process) running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func newServer(c *Cluster, shard, role string) *Server {
	dataDir := filepath.Join(c.Dir, shard, role)
	return &Server{
		Name: shard + "_" + role, Host: loopback, DataDir: dataDir, SocketDir: c.SocketDir, LogFile: dataDir + ".log", cluster: c,
	}
}

// Address is host and port, as for net.Dial.
func (s *Server) Address() string { return net.JoinHostPort(s.Host, strconv.Itoa(s.Port)) }

// URL is a connection URL over TCP. An empty user means the superuser with its password, an empty database "postgres".
// It asks for sslmode require with TLS and disable without, because drivers disagree about what to do when it is missing.
func (s *Server) URL(database, user, password string) string {
	if database == "" {
		database = "postgres"
	}
	if user == "" {
		user, password = s.cluster.Superuser, s.cluster.Password
	}
	login := url.User(user)
	if password != "" {
		login = url.UserPassword(user, password)
	}
	mode := "disable"
	if s.cluster.Certificates != nil {
		mode = "require"
	}
	u := url.URL{Scheme: "postgres", User: login, Host: s.Address(), Path: "/" + database, RawQuery: "sslmode=" + mode}
	return u.String()
}

// PID is the process id of the postmaster; 0 when the server does not run.
func (s *Server) PID() int {
	if p := s.current(); p != nil && p.running() {
		return p.pid
	}
	return 0
}

func (s *Server) current() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.process
}

// Start starts a server that was stopped or killed, on the port it had, and returns when it takes connections.
func (s *Server) Start(ctx context.Context) error {
	for {
		err := s.startOnce(ctx)
		if !errors.Is(err, errPortTaken) || ctx.Err() != nil {
			return err
		}
		// Others know the port, so wait for it instead of moving. Somebody's probe of it goes away at once.
		select {
		case <-ctx.Done():
			return err
		case <-time.After(10 * pollInterval):
		}
	}
}

// startOnFreePort is the first start: it chooses the port.
func (s *Server) startOnFreePort(ctx context.Context) error {
	var err error
	for range portAttempts {
		if s.Port, err = freePort(); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
		if err = s.startOnce(ctx); !errors.Is(err, errPortTaken) {
			return err
		}
	}
	return err
}

func (s *Server) startOnce(ctx context.Context) error {
	if s.PID() != 0 {
		return fmt.Errorf("%s: start: it runs already", s.Name)
	}
	// No process of ours is left, so a lock file is that of a killed one. PostgreSQL would refuse to start if the
	// process id in it has gone to another process meanwhile.
	if err := os.Remove(s.lockFile()); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("%s: remove stale lock file: %w", s.Name, err)
	}
	log, err := os.OpenFile(s.LogFile, os.O_CREATE|os.O_APPEND|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("%s: open log: %w", s.Name, err)
	}
	defer log.Close()
	logStart, err := log.Stat()
	if err != nil {
		return fmt.Errorf("%s: look at log: %w", s.Name, err)
	}
	cmd := exec.Command(s.cluster.binaries.Path("postgres"), "-D", s.DataDir, "-p", strconv.Itoa(s.Port), "-c", "cluster_name="+s.Name)
	s.cluster.account.prepare(cmd, s.DataDir)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("%s: start: %w", s.Name, err)
	}
	p := &process{pid: cmd.Process.Pid, done: make(chan struct{})}
	go func() { // ends with the postmaster
		// How it ended stands in its log; that it ended is what matters here.
		_ = cmd.Wait()
		close(p.done)
	}()
	s.mu.Lock()
	s.process = p
	s.mu.Unlock()
	if err := s.awaitReady(ctx, p, logStart.Size()); err != nil {
		return fmt.Errorf("%s: start: %w", s.Name, err)
	}
	s.cluster.options.Logf("%s: ready on %s, process %d", s.Name, s.Address(), p.pid)
	return nil
}

// awaitReady waits until the server takes connections, or fails with the end of its log.
func (s *Server) awaitReady(ctx context.Context, p *process, logStart int64) error {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		select {
		case <-p.done:
			tail := s.logFrom(logStart)
			if strings.Contains(tail, "Address already in use") {
				return fmt.Errorf("%w: %d", errPortTaken, s.Port)
			}
			return fmt.Errorf("it ended at once: %s", tail)
		case <-ctx.Done():
			return errors.Join(fmt.Errorf("wait until it is ready: %w: %s", context.Cause(ctx), s.logFrom(logStart)), s.Kill())
		case <-ticker.C:
			if s.ready(p.pid) {
				return nil
			}
		}
	}
}

func (s *Server) lockFile() string { return filepath.Join(s.DataDir, "postmaster.pid") }

// ready reads what the postmaster says about itself in its lock file; pidfile.h names the lines.
func (s *Server) ready(pid int) bool {
	const pidLine, statusLine = 0, 7
	content, err := os.ReadFile(s.lockFile())
	if err != nil {
		return false
	}
	lines := strings.Split(string(content), "\n")
	return len(lines) > statusLine && lines[pidLine] == strconv.Itoa(pid) && strings.TrimSpace(lines[statusLine]) == "ready"
}

// Stop stops the server, paused or not, and returns when all its processes have ended. One that takes longer than 30
// seconds is killed, which is an error.
func (s *Server) Stop(mode StopMode) error {
	signal, known := stopSignals[mode]
	if !known {
		return fmt.Errorf("%s: stop: unknown mode %q", s.Name, mode)
	}
	p := s.current()
	if p == nil || !p.running() {
		return fmt.Errorf("%s: stop: it does not run", s.Name)
	}
	if err := errors.Join(syscall.Kill(p.pid, signal), s.Continue()); err != nil && p.running() {
		return fmt.Errorf("%s: stop: %w", s.Name, err)
	}
	select {
	case <-p.done:
		return nil
	case <-time.After(stopPatience):
		return errors.Join(fmt.Errorf("%s: stop: still running after %s", s.Name, stopPatience), s.Kill())
	}
}

// Promote makes a replica a manager and returns when it takes writes.
func (s *Server) Promote(ctx context.Context) error {
	promoted, err := s.Value(ctx, "postgres", "SELECT pg_promote(true, 60)")
	if err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	if promoted != "t" {
		return fmt.Errorf("%s: promote: still in recovery after 60s", s.Name)
	}
	return nil
}

// Follow makes a running replica follow another manager of its shard, as after that one's promotion, and returns when
// it streams from there.
func (s *Server) Follow(ctx context.Context, manager *Server) error {
	if err := manager.ensureSlot(ctx, s.Name); err != nil {
		return fmt.Errorf("%s: follow: %w", s.Name, err)
	}
	// ALTER SYSTEM refuses to share a query string with other statements.
	for _, statement := range []string{
		"ALTER SYSTEM SET primary_conninfo = '" + strings.ReplaceAll(s.conninfo(manager), "'", "''") + "'",
		"SELECT pg_reload_conf()",
	} {
		if err := s.Exec(ctx, "postgres", statement); err != nil {
			return fmt.Errorf("follow: %w", err)
		}
	}
	return manager.awaitStreamingTo(ctx, s)
}

// LogTail returns the last lines of the server's log, or why it cannot be read.
func (s *Server) LogTail(lines int) string {
	all := strings.Split(strings.TrimRight(s.logFrom(0), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

func (s *Server) logFrom(offset int64) string {
	content, err := os.ReadFile(s.LogFile)
	if err != nil {
		return err.Error()
	}
	return string(bytes.TrimSpace(content[min(offset, int64(len(content))):]))
}
