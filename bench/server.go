package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"

	"pgtier/cmd/localpg"
)

// The server's side of every measurement.
const (
	loopback      = "127.0.0.1"
	benchRole     = "bench"
	benchDatabase = "app"
	// scale is pgbench's: as many branches as clients, or TPC-B measures locks on branches (pgbench's documentation).
	scale = 16
	// poolConnections are those of all targets that pool, of replicas, and of whoever looks at the server.
	poolConnections = 200
)

// server is the PostgreSQL server that all targets lead to.
type server struct {
	cluster  *localpg.Cluster
	manager  *localpg.Server
	password string // of benchRole
	verifier string // the SCRAM verifier of that password, as the server holds it
	version  string // as the server tells it
	pids     []int  // of the postmasters, the manager's first
}

// startServer starts a manager that makes commits durable and fills it with pgbench's tables and those of rowScript.
// replicas follow it. It takes clients that come directly, and as many through a proxy that has a connection for each.
func startServer(ctx context.Context, replicas, clients int, say progress) (*server, error) {
	s, err := startServers(ctx, localpg.Options{Replicas: replicas}, clients, say)
	if err != nil {
		return nil, err
	}
	say("loading pgbench's tables at scale %d", scale)
	if err := s.load(ctx); err != nil {
		return nil, stopAfter(err, s.cluster.Stop)
	}
	return s, nil
}

// startServers starts the servers of options, commits durable, each with an empty database. The first shard's manager is the
// one that all targets lead to.
func startServers(ctx context.Context, options localpg.Options, clients int, say progress) (_ *server, err error) {
	say("starting PostgreSQL, commits durable")
	options.Production, options.TLS = true, true
	if options.Settings == nil {
		options.Settings = map[string]string{}
	}
	options.Settings["max_connections"] = strconv.Itoa(2*clients + poolConnections)
	cluster, err := localpg.Start(ctx, options)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = stopAfter(err, cluster.Stop)
		}
	}()
	s := &server{cluster: cluster, manager: cluster.Shards[0].Manager, password: cluster.Password}
	for _, one := range cluster.Servers() {
		s.pids = append(s.pids, one.PID())
	}
	for _, one := range cluster.Shards {
		for _, step := range []struct{ database, sql string }{
			{"postgres", "CREATE ROLE " + benchRole + " LOGIN REPLICATION PASSWORD '" + s.password + "'"},
			{"postgres", "CREATE DATABASE " + benchDatabase + " OWNER " + benchRole},
		} {
			if err := one.Manager.Exec(ctx, step.database, step.sql); err != nil {
				return nil, err
			}
		}
	}
	if s.verifier, err = s.manager.Value(ctx, "postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = '"+benchRole+"'"); err != nil {
		return nil, err
	}
	if s.version, err = s.manager.Value(ctx, "postgres", "SHOW server_version"); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *server) load(ctx context.Context) error {
	binaries, err := localpg.FindBinaries()
	if err != nil {
		return err
	}
	command := exec.CommandContext(ctx, binaries.Path("pgbench"), "-i", "-I", "dtGvp", "-q", "-s", strconv.Itoa(scale),
		"-h", loopback, "-p", strconv.Itoa(s.manager.Port), "-U", benchRole, benchDatabase)
	command.Env = clientEnv(false, s.password)
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("load pgbench's tables: %w: %s", err, out)
	}
	for _, table := range []struct {
		name   string
		hashes int // of 32 characters each
	}{{"row_1kb", 32}, {"row_100kb", 3200}} {
		// External storage: decompressing would be the server's work and not what is measured here.
		sql := fmt.Sprintf(`SET ROLE %[1]s;
			CREATE TABLE %[2]s (id int PRIMARY KEY, body text);
			ALTER TABLE %[2]s ALTER body SET STORAGE external;
			INSERT INTO %[2]s SELECT i, repeat(md5(i::text), %[3]d) FROM generate_series(1, %[4]d) i`,
			benchRole, table.name, table.hashes, payloadRows)
		if err := s.manager.Exec(ctx, benchDatabase, sql); err != nil {
			return err
		}
	}
	// Or the first target would pay for writing out what was loaded.
	if err := s.manager.Exec(ctx, benchDatabase, "VACUUM ANALYZE"); err != nil {
		return err
	}
	if err := s.manager.Exec(ctx, benchDatabase, "CHECKPOINT"); err != nil {
		return err
	}
	return s.cluster.Shards[0].CatchUp(ctx)
}
