package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// The names of the targets that are always known.
const (
	directTarget    = "direct"
	pgtierTarget    = "pgtier"
	pgbouncerTarget = "pgbouncer"
)

// target is an address that pgbench connects to: the server itself or a proxy before it.
type target struct {
	name     string
	version  string
	port     int
	pid      int // the proxy's process; 0 for the server itself
	password string
	// preparedDatabase is what the prepared protocol asks for where the target has another database for it.
	preparedDatabase string
	sessions         int                                        // clients it takes at the same time; 0: as many as come
	noTLS            string                                     // why it has no TLS for clients; "": it has
	note             string                                     // what the reader of the report must know
	routes           func(context.Context) (string, error)      // tells where its requests went; nil: there is one server
	caches           func(context.Context) (cacheCounts, error) // tells what its cache did; nil: it has none
	learns           int                                        // seconds of each warm-up, where it takes more than one
	stop             func() error
}

// databaseFor is the database that a workload asks this target for.
func (t *target) databaseFor(w workload) string {
	if w.mode == "prepared" && t.preparedDatabase != "" {
		return t.preparedDatabase
	}
	return benchDatabase
}

// takes tells whether a workload is meant for this target: one that reads from replicas is another pgtier's twin in all
// but the workload for replicas.
func (t *target) takes(w workload) bool {
	if w.targets != nil {
		return slices.Contains(w.targets, t.name)
	}
	return t.routes == nil || w.split
}

// unable says why a target cannot run a workload; "" if it can.
func (t *target) unable(w workload) string {
	if w.mode == "prepared" && t.preparedDatabase != "" && w.clients > poolSize {
		return fmt.Sprintf("session pooling: %d clients do not fit into %d server connections", w.clients, poolSize)
	}
	if w.tls && t.noTLS != "" {
		return t.noTLS
	}
	return t.full(w.clients)
}

// full says why so many clients cannot be connected at the same time; "" if they can.
func (t *target) full(clients int) string {
	if t.sessions > 0 && clients > t.sessions {
		return fmt.Sprintf("%d clients do not fit into %d processes", clients, t.sessions)
	}
	return ""
}

// connect opens one connection as the clients of the workloads do.
func (t *target) connect(ctx context.Context) (*pgconn.PgConn, error) {
	return t.connectTo(ctx, benchDatabase)
}

// connectTo is connect to another database.
func (t *target) connectTo(ctx context.Context, database string) (*pgconn.PgConn, error) {
	return pgconn.Connect(ctx, fmt.Sprintf("host=%s port=%d user=%s password=%s dbname=%s sslmode=disable", loopback, t.port, benchRole, t.password, database))
}

// proxyProcess is what a proxy is started from.
type proxyProcess struct {
	name    string
	program string
	args    []string
	port    int
	dir     string              // its working directory, where its log goes
	account *syscall.Credential // nil: ours
	onDeath syscall.Signal      // it gets this when we die without a goodbye; 0: SIGKILL
}

// start starts the proxy and returns when it answers a query.
func (p proxyProcess) start(ctx context.Context, password string) (*target, error) {
	logPath := filepath.Join(p.dir, p.name+".log")
	log, err := os.OpenFile(logPath, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", p.name, err)
	}
	defer log.Close()
	command := exec.Command(p.program, p.args...)
	command.Dir = p.dir
	command.Stdout, command.Stderr = log, log
	// Its own process group keeps a terminal's Ctrl-C away: we decide when it stops. It must not outlive us either.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: cmp.Or(p.onDeath, syscall.SIGKILL), Credential: p.account}
	if err := command.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", p.name, err)
	}
	ended := make(chan struct{})
	go func() { // ends with the process
		// How it ended stands in its log; that it ended is what matters here.
		_ = command.Wait()
		close(ended)
	}()
	t := &target{name: p.name, port: p.port, pid: command.Process.Pid, password: password}
	t.stop = func() error { return stopProcess(p.name, command.Process, ended) }
	if err := t.awaitReady(ctx, ended); err != nil {
		text, _ := os.ReadFile(logPath) // without it the error still says what happened
		return nil, stopAfter(fmt.Errorf("start %s: %w: %s", p.name, err, firstLines(string(text), 10)), t.stop)
	}
	return t, nil
}

// startPatience is how long a proxy may take until it answers.
const startPatience = 20 * time.Second

func (t *target) awaitReady(ctx context.Context, ended <-chan struct{}) error {
	ctx, cancel := context.WithTimeout(ctx, startPatience)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		err := t.try(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-ended:
			return fmt.Errorf("it ended at once: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("no answer after %s: %w", startPatience, err)
		case <-ticker.C:
		}
	}
}

func (t *target) try(ctx context.Context) error {
	conn, err := t.connect(ctx)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "SELECT 1").ReadAll()
	return errors.Join(err, conn.Close(ctx))
}

// stopProcess asks a process to end and makes it end when it takes too long.
func stopProcess(name string, process *os.Process, ended <-chan struct{}) error {
	const patience = 5 * time.Second
	// What it started itself is in its process group, and may be left behind when it is killed.
	killGroup := func() error {
		if err := syscall.Kill(-process.Pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			return fmt.Errorf("stop what %s has started: %w", name, err)
		}
		return nil
	}
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGKILL} {
		if err := process.Signal(signal); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop %s: %w", name, err)
		}
		select {
		case <-ended:
			return killGroup()
		case <-time.After(patience):
		}
	}
	return fmt.Errorf("stop %s: process %d is still there", name, process.Pid)
}

// stopAfter adds what went wrong while stopping to the error that made us stop.
func stopAfter(err error, stop func() error) error { return errors.Join(err, stop()) }

// freePort finds a port that nobody uses now.
func freePort() (int, error) {
	listener, err := net.Listen("tcp", net.JoinHostPort(loopback, "0"))
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}

// versionLine is the first line that a program says about itself, such as "PgBouncer 1.18.0".
func versionLine(ctx context.Context, program string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput() // Pgpool-II says it on stderr
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", program, err)
	}
	return firstLines(string(out), 1), nil
}

// copyFor copies a file for another account to read.
func copyFor(from, to string, account *syscall.Credential) error {
	content, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("copy %s: %w", from, err)
	}
	return writeFor(to, string(content), account)
}

// writeFor writes a private file that belongs to an account.
func writeFor(path, content string, account *syscall.Credential) error {
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	if account == nil {
		return nil
	}
	if err := os.Chown(path, int(account.Uid), int(account.Gid)); err != nil {
		return fmt.Errorf("give %s away: %w", path, err)
	}
	return nil
}

// serverAddress is host and port of a server.
func serverAddress(port int) string { return net.JoinHostPort(loopback, strconv.Itoa(port)) }
