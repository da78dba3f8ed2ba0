package localpg

import (
	"context"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// pollInterval is how often we look whether a server has got where it should be. Starts take some 100 ms, so this
// adds little and costs next to nothing.
const pollInterval = 10 * time.Millisecond

// Shard is a manager and the replicas that were started with it. Its fields are fixed after Start: a promotion changes
// what the servers are, not where they stand here.
type Shard struct {
	Name     string // "s0", "s1", …
	Manager  *Server
	Replicas []*Server
}

func newShard(c *Cluster, index, replicas int) *Shard {
	shard := &Shard{Name: fmt.Sprintf("s%d", index)}
	shard.Manager = newServer(c, shard.Name, "manager")
	for i := range replicas {
		shard.Replicas = append(shard.Replicas, newServer(c, shard.Name, fmt.Sprintf("replica%d", i)))
	}
	return shard
}

// start makes the manager's data, copies it to the replicas while nothing runs, and starts all. Copying before the
// first start is several times quicker than pg_basebackup.
func (s *Shard) start(ctx context.Context) error {
	if err := s.Manager.initialise(ctx); err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	err := together(s.Replicas, func(r *Server) error { return r.copyFrom(ctx, s.Manager) })
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	if err := s.Manager.startOnFreePort(ctx); err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	err = together(s.Replicas, func(r *Server) error { return r.startAsReplica(ctx, s.Manager) })
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, err)
	}
	return s.AwaitStreaming(ctx)
}

// AwaitStreaming waits until the manager streams to every replica.
func (s *Shard) AwaitStreaming(ctx context.Context) error {
	for _, replica := range s.Replicas {
		if err := s.Manager.awaitStreamingTo(ctx, replica); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	return nil
}

// CatchUp waits until every replica shows what the manager had committed when CatchUp was called.
func (s *Shard) CatchUp(ctx context.Context) error {
	position, err := s.Manager.Value(ctx, "postgres", "SELECT pg_current_wal_insert_lsn()")
	if err != nil {
		return fmt.Errorf("%s: ask manager for its position: %w", s.Name, err)
	}
	for _, replica := range s.Replicas {
		err := replica.awaitTrue(ctx, fmt.Sprintf("SELECT pg_last_wal_replay_lsn() >= '%s'", position))
		if err != nil {
			return fmt.Errorf("%s: wait until %s has replayed %s: %w", s.Name, replica.Name, position, err)
		}
	}
	return nil
}

// verifier is what PostgreSQL keeps of a password for SCRAM-SHA-256 (RFC 5803), as it takes it in the password's place.
func verifier(password string, iterations int) (string, error) {
	var salt [16]byte
	rand.Read(salt[:])
	salted, err := pbkdf2.Key(sha256.New, password, salt[:], iterations, sha256.Size)
	if err != nil {
		return "", err
	}
	key := func(name string) []byte {
		mac := hmac.New(sha256.New, salted)
		mac.Write([]byte(name))
		return mac.Sum(nil)
	}
	stored := sha256.Sum256(key("Client Key"))
	encode := base64.StdEncoding.EncodeToString
	return fmt.Sprintf("SCRAM-SHA-256$%d:%s$%s:%s", iterations, encode(salt[:]), encode(stored[:]), encode(key("Server Key"))), nil
}

// initialise makes an empty database cluster in the server's directory.
func (s *Server) initialise(ctx context.Context) error {
	c := s.cluster
	s.cluster.options.Logf("%s: initdb in %s", s.Name, s.DataDir)
	if err := c.account.makeDir(filepath.Dir(s.DataDir)); err != nil {
		return fmt.Errorf("make shard directory: %w", err)
	}
	passwordFile := s.DataDir + ".password"
	password := c.Password
	if n := c.options.Iterations; n > 0 && c.options.Auth != "md5" {
		var err error
		if password, err = verifier(password, n); err != nil {
			return fmt.Errorf("make the superuser's verifier: %w", err)
		}
	}
	if err := c.account.writeFile(passwordFile, password+"\n"); err != nil {
		return fmt.Errorf("write password file: %w", err)
	}
	defer os.Remove(passwordFile)
	method := "scram-sha-256"
	if c.options.Auth == "md5" {
		method = "md5"
	}
	// Locale C sorts and formats the same on every machine.
	err := c.account.run(ctx, c.Dir, c.binaries.Path("initdb"), "--no-sync", "-D", s.DataDir, "-U", c.Superuser,
		"--pwfile="+passwordFile, "-A", method, "-E", "UTF8", "--locale=C")
	if err != nil {
		return err
	}
	conf := filepath.Join(s.DataDir, "postgresql.conf")
	initial, err := os.ReadFile(conf)
	if err != nil {
		return fmt.Errorf("read settings: %w", err)
	}
	settings := c.options.settings(c.SocketDir, c.Certificates)
	if err := c.account.writeFile(conf, string(initial)+configuration(settings)); err != nil {
		return fmt.Errorf("write settings: %w", err)
	}
	if err := c.account.writeFile(filepath.Join(s.DataDir, "pg_hba.conf"), c.options.hba()); err != nil {
		return fmt.Errorf("write access rules: %w", err)
	}
	return nil
}

// copyFrom copies the data directory of a server that is cleanly shut down.
func (s *Server) copyFrom(ctx context.Context, source *Server) error {
	return s.cluster.account.run(ctx, s.cluster.Dir, "cp", "-a", source.DataDir, s.DataDir)
}

// startAsReplica starts a copy of the manager's data as a streaming replica with a slot of its own.
func (s *Server) startAsReplica(ctx context.Context, manager *Server) error {
	if err := manager.ensureSlot(ctx, s.Name); err != nil {
		return err
	}
	following := configuration(map[string]string{
		"primary_conninfo":  s.conninfo(manager),
		"primary_slot_name": s.Name,
	})
	// ALTER SYSTEM writes this file too, so Follow can point the replica elsewhere.
	if err := s.cluster.account.writeFile(filepath.Join(s.DataDir, "postgresql.auto.conf"), following); err != nil {
		return fmt.Errorf("%s: write replication settings: %w", s.Name, err)
	}
	if err := s.cluster.account.writeFile(filepath.Join(s.DataDir, "standby.signal"), ""); err != nil {
		return fmt.Errorf("%s: mark as standby: %w", s.Name, err)
	}
	return s.startOnFreePort(ctx)
}

// conninfo is how the server reaches the one it follows: over the Unix socket, so that changed passwords and access
// rules do not break replication.
func (s *Server) conninfo(manager *Server) string {
	pairs := []string{
		"host=" + quoteConninfo(manager.SocketDir),
		fmt.Sprintf("port=%d", manager.Port),
		"user=" + quoteConninfo(s.cluster.Superuser),
		"application_name=" + s.Name,
	}
	return strings.Join(pairs, " ")
}

// quoteConninfo quotes a value of a libpq connection string.
func quoteConninfo(value string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value) + "'"
}

func (s *Server) ensureSlot(ctx context.Context, name string) error {
	_, err := s.Value(ctx, "postgres", fmt.Sprintf("SELECT pg_create_physical_replication_slot('%[1]s', true)"+
		" WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '%[1]s')", name))
	if err != nil {
		return fmt.Errorf("make replication slot on %s: %w", s.Name, err)
	}
	return nil
}

func (s *Server) awaitStreamingTo(ctx context.Context, replica *Server) error {
	err := s.awaitTrue(ctx, fmt.Sprintf("SELECT count(*) > 0 FROM pg_stat_replication"+
		" WHERE state = 'streaming' AND application_name = '%s'", replica.Name))
	if err != nil {
		return fmt.Errorf("wait until %s streams to %s: %w: %s", s.Name, replica.Name, err, replica.LogTail(10))
	}
	return nil
}
