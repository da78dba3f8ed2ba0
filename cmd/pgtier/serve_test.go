package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg/pgtest"
)

// logBuffer is a log that a test reads while it is written.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// await waits until the log says want.
func (b *logBuffer) await(t *testing.T, want string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !strings.Contains(b.String(), want); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("no %q in the log:\n%s", want, b)
		}
	}
}

// served is a proxy that the serve command runs inside the test.
type served struct {
	url     string
	signals chan os.Signal
	ended   chan error
	log     *logBuffer
}

func startServe(t *testing.T, flags serveFlags, database string) *served {
	t.Helper()
	load, err := flags.loader(nil)
	if err != nil {
		t.Fatal(err)
	}
	s := &served{signals: make(chan os.Signal, 2), ended: make(chan error, 1), log: &logBuffer{}}
	ready := make(chan net.Addr, 1)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { // ends with a signal, or by cancel
		s.ended <- serve(ctx, load, s.log, s.signals, func(d *daemon) error {
			ready <- d.proxy.Addrs()[0]
			return nil
		})
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	select {
	case address := <-ready:
		s.url = fmt.Sprintf("postgres://app:secret@%s/%s?sslmode=disable", address, database)
	case err := <-s.ended:
		t.Fatalf("serve: %v\n%s", err, s.log)
	}
	return s
}

// end waits for serve to return.
func (s *served) end(t *testing.T) {
	t.Helper()
	select {
	case err := <-s.ended:
		if err != nil {
			t.Errorf("serve: %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatalf("serve goes on:\n%s", s.log)
	}
}

func connect(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// appURL makes the role app on the shared manager and returns a URL with its password.
func appURL(t *testing.T) (url, database string) {
	t.Helper()
	manager := servers.Cluster(t).Shards[0].Manager
	database = pgtest.Database(t, manager)
	pgtest.Exec(t, manager, database, "DROP ROLE IF EXISTS app; CREATE ROLE app LOGIN PASSWORD 'secret'")
	return manager.URL(database, "app", "secret"), database
}

func TestServeByURLDrainsOnTheFirstSignal(t *testing.T) {
	url, database := appURL(t)
	s := startServe(t, serveFlags{manager: url, listen: "127.0.0.1:0", http: "off"}, database)
	conn := connect(t, s.url)
	tx, err := conn.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.signals <- syscall.SIGTERM
	s.log.await(t, "draining")
	var one int
	if err := tx.QueryRow(t.Context(), "SELECT 1").Scan(&one); err != nil || one != 1 {
		t.Errorf("a transaction while draining: got %d, %v", one, err)
	}
	if err := tx.Commit(t.Context()); err != nil {
		t.Errorf("commit while draining: %v", err)
	}
	s.end(t)
	if strings.Contains(s.log.String(), "secret") {
		t.Error("the log shows the password")
	}
}

func TestServeByURLsReadsFromReplicas(t *testing.T) {
	url, database := appURL(t)
	shard := servers.Cluster(t).Shards[0]
	pgtest.Exec(t, shard.Manager, database, "CREATE TABLE orders (id int); INSERT INTO orders VALUES (1); GRANT ALL ON orders TO app")
	if err := shard.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	replica := "postgres://" + shard.Replicas[0].Address() // role and database are the manager's
	s := startServe(t, serveFlags{manager: url, replicas: []string{replica}, listen: "127.0.0.1:0", http: "off"}, database)
	conn := connect(t, s.url)
	console := connect(t, strings.Replace(s.url, "/"+database, "/pgtier", 1)+"&default_query_exec_mode=simple_protocol")
	awaitReads(t, console, conn, database, "orders")
	tag, err := conn.Exec(t.Context(), "INSERT INTO orders VALUES (2)")
	if err != nil || tag.RowsAffected() != 1 {
		t.Errorf("a write: got %s, %v", tag, err)
	}
	var orders int
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM orders").Scan(&orders); err != nil || orders != 2 {
		t.Errorf("a read of the session's own write: got %d, %v", orders, err)
	}
}

func TestServeStopsOnTheSecondSignal(t *testing.T) {
	url, database := appURL(t)
	s := startServe(t, serveFlags{manager: url, listen: "127.0.0.1:0", http: "off"}, database)
	if _, err := connect(t, s.url).Begin(t.Context()); err != nil {
		t.Fatal(err)
	}
	s.signals <- syscall.SIGINT
	s.log.await(t, "draining")
	s.signals <- syscall.SIGTERM
	s.end(t)
}

func TestServeReloadsOnSIGHUPAndKeepsTheOldOnABadFile(t *testing.T) {
	url, database := appURL(t)
	text := fmt.Sprintf("listen: ['127.0.0.1:0']\nhttp: ''\nauth: {users: [{name: app, password: secret}]}\ndatabases: {%s: {shards: [{manager: %q}]}}\n", database, url)
	file := writeFile(t, "pgtier.yaml", text)
	s := startServe(t, serveFlags{config: file}, database)
	rewrite := func(text string) {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s.signals <- syscall.SIGHUP
	}
	rewrite(text + "pool: {sise: 3}\n")
	s.log.await(t, "unknown key; did you mean size?")
	if err := connect(t, s.url).Ping(t.Context()); err != nil {
		t.Errorf("after a bad file: %v", err)
	}
	rewrite(strings.Replace(text, "password: secret", "password: other", 1) + "pool: {size: 3}\n")
	s.log.await(t, "pool.size: 20 -> 3")
	s.log.await(t, "auth.users[app].password: **** -> **** (changed)")
	if conn, err := pgx.Connect(t.Context(), s.url); err == nil {
		conn.Close(t.Context())
		t.Error("the old password still opens the door")
	}
	if err := connect(t, strings.Replace(s.url, ":secret@", ":other@", 1)).Ping(t.Context()); err != nil {
		t.Errorf("the new password: %v", err)
	}
}

func TestServeUsage(t *testing.T) {
	for _, tc := range []struct {
		args   []string
		status int
		says   string
	}{
		{[]string{"serve"}, 2, "--config FILE or --manager URL is missing"},
		{[]string{"serve", "--listen", "h:1"}, 2, "--manager is missing"},
		{[]string{"serve", "--config", "x", "--manager", "y"}, 2, "--config does not go with --manager"},
		{[]string{"serve", "--config", "/nonexistent"}, 1, "open configuration"},
		{[]string{"serve", "--manager", "x"}, 1, "--manager: not a PostgreSQL URL"},
		{[]string{"serve", "--manager", "postgres://u@h/d", "--replica", "h"}, 1, "--replica: not a PostgreSQL URL"},
		{[]string{"serve", "--manager", "postgres://u@127.0.0.1:1/d", "--listen", "192.0.2.1:1", "--http", "off"}, 1, "start the proxy"},
	} {
		status, stdout, stderr := command(t, tc.args...)
		if status != tc.status || !strings.Contains(stderr, tc.says) {
			t.Errorf("%q: got status %d, %s%s; want %d and %q", tc.args, status, stdout, stderr, tc.status, tc.says)
		}
	}
}
