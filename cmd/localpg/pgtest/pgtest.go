// Package pgtest gives tests real PostgreSQL servers. It is apart from localpg so that the pgtier binary does not carry
// the testing package.
//
// A test that breaks its servers starts its own with Start. Tests that only use them share one cluster a package:
//
//	var servers = pgtest.Share(localpg.Options{Replicas: 1})
//
//	func TestMain(m *testing.M) { os.Exit(servers.Run(m)) }
//
//	func TestSomething(t *testing.T) {
//		manager := servers.Cluster(t).Shards[0].Manager
//		url := manager.URL(pgtest.Database(t, manager), "", "")
//		…
//	}
package pgtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"time"

	"pgtier/cmd/localpg"
)

// startLimit bounds a start. It takes 1 to 3 seconds alone; the machine may be busy with other packages' tests.
const startLimit = 2 * time.Minute

// queryLimit bounds the statements of this package.
const queryLimit = time.Minute

// logLines is how much of each server's log a failed test shows.
const logLines = 30

// quick has logins of the superuser cost little: under the race detector each of the 4096 rounds that a password takes else is dear.
func quick(options localpg.Options) localpg.Options {
	if options.Iterations == 0 && options.Password == "" {
		options.Iterations = 1
	}
	return options
}

// Start starts a cluster for one test and stops it when the test ends. A test that fails shows the servers' logs.
func Start(t testing.TB, options localpg.Options) *localpg.Cluster {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startLimit)
	defer cancel()
	cluster, err := localpg.Start(ctx, quick(options))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			showLogs(t, cluster)
		}
		if err := cluster.Stop(); err != nil {
			t.Errorf("stop cluster: %v", err)
		}
	})
	return cluster
}

// Shared is a cluster that a package's tests share. It starts when the first test asks for it, so a run of tests that
// need no server costs nothing. Safe for concurrent use.
type Shared struct {
	options localpg.Options
	once    sync.Once
	cluster *localpg.Cluster // written by once
	err     error            // written by once
}

// Share describes a shared cluster; nothing starts yet.
func Share(options localpg.Options) *Shared { return &Shared{options: options} }

// Run runs the package's tests, stops the cluster, and others that the package shares, if they were started, and returns the exit status for
// os.Exit.
func (s *Shared) Run(m *testing.M, others ...*Shared) int {
	status := m.Run()
	for _, c := range append(others, s) {
		c.once.Do(func() {}) // from here on nothing starts
		if c.cluster == nil {
			continue
		}
		if err := c.cluster.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stop shared cluster:", err)
			status = max(status, 1)
		}
	}
	return status
}

// Cluster returns the running cluster. A test that fails shows the servers' logs.
func (s *Shared) Cluster(t testing.TB) *localpg.Cluster {
	t.Helper()
	s.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startLimit)
		defer cancel()
		s.cluster, s.err = localpg.Start(ctx, quick(s.options))
	})
	if s.err != nil {
		t.Fatal(s.err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			showLogs(t, s.cluster)
		}
	})
	return s.cluster
}

// Database makes an empty database, of one name on all the servers, and drops it, with whoever is still connected, when the test ends.
func Database(t testing.TB, servers ...*localpg.Server) string {
	t.Helper()
	name := fmt.Sprintf("test_%016x", rand.Uint64())
	for _, server := range servers {
		Exec(t, server, "postgres", "CREATE DATABASE "+name)
		t.Cleanup(func() {
			ctx, cancel := context.WithTimeout(context.Background(), queryLimit)
			defer cancel()
			if err := server.Exec(ctx, "postgres", "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
				t.Errorf("drop database: %v", err)
			}
		})
	}
	return name
}

// Exec runs SQL as the superuser, straight on the server, or fails the test.
func Exec(t testing.TB, server *localpg.Server, database, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), queryLimit)
	defer cancel()
	if err := server.Exec(ctx, database, sql); err != nil {
		t.Fatal(err)
	}
}

// Value runs SQL as the superuser, straight on the server, and returns the first value as text, or fails the test.
func Value(t testing.TB, server *localpg.Server, database, sql string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), queryLimit)
	defer cancel()
	value, err := server.Value(ctx, database, sql)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func showLogs(t testing.TB, cluster *localpg.Cluster) {
	for _, server := range cluster.Servers() {
		t.Logf("end of %s's log:\n%s", server.Name, server.LogTail(logLines))
	}
}
