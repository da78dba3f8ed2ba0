package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// pgbenchResult is what pgbench says at its end.
type pgbenchResult struct {
	transactions int
	failed       int     // serialization failures and deadlocks; other errors end pgbench
	throughput   float64 // transactions a second; without the time to connect, unless each transaction connects
	latencies    []time.Duration
}

// The lines of pgbench's summary that we read (printResults in PostgreSQL's pgbench.c).
var (
	processedLine = regexp.MustCompile(`(?m)^number of transactions actually processed: (\d+)`)
	failedLine    = regexp.MustCompile(`(?m)^number of failed transactions: (\d+)`)
	tpsLine       = regexp.MustCompile(`(?m)^tps = ([0-9.]+) \((?:without initial connection time|including reconnection times)\)`)
)

// errNoTransaction says that not one transaction ended within a run, as when the disk stalls.
var errNoTransaction = errors.New("no transaction ended in time")

// parseSummary reads the text that pgbench prints at its end. It tells no tps when no transaction ended.
func parseSummary(text string) (pgbenchResult, error) {
	var result pgbenchResult
	processed := processedLine.FindStringSubmatch(text)
	tps := tpsLine.FindStringSubmatch(text)
	if processed != nil && processed[1] == "0" {
		return result, errNoTransaction
	}
	if processed == nil || tps == nil {
		return result, fmt.Errorf("read pgbench's summary: no count of transactions or no tps in %q", text)
	}
	var err error
	if result.transactions, err = strconv.Atoi(processed[1]); err != nil {
		return result, fmt.Errorf("read pgbench's count of transactions: %w", err)
	}
	if result.throughput, err = strconv.ParseFloat(tps[1], 64); err != nil {
		return result, fmt.Errorf("read pgbench's tps: %w", err)
	}
	if failed := failedLine.FindStringSubmatch(text); failed != nil { // absent before PostgreSQL 15
		if result.failed, err = strconv.Atoi(failed[1]); err != nil {
			return result, fmt.Errorf("read pgbench's count of failures: %w", err)
		}
	}
	return result, nil
}

// parseLog reads a log of single transactions, one a line: client, number, microseconds or "failed", script, when.
func parseLog(log io.Reader) ([]time.Duration, error) {
	const elapsedField = 2
	var all []time.Duration
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) <= elapsedField {
			return nil, fmt.Errorf("read pgbench's log: line %q", lines.Text())
		}
		if fields[elapsedField] == "failed" || fields[elapsedField] == "skipped" {
			continue
		}
		microseconds, err := strconv.ParseInt(fields[elapsedField], 10, 64)
		if err != nil {
			return nil, fmt.Errorf("read pgbench's log: %w", err)
		}
		all = append(all, time.Duration(microseconds)*time.Microsecond)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read pgbench's log: %w", err)
	}
	return all, nil
}

// pgbench runs programs of one PostgreSQL installation against targets.
type pgbench struct {
	program string // path
	scratch string // directory for scripts and logs
}

// threads is pgbench's own: with one it may be what limits, with more than there are processors it disturbs.
const threads = 2

// loginsPerSecond is how many logins pgbench's time, which runs while its clients connect, is prolonged for: few enough for
// a busy machine and a server that forks for each.
const loginsPerSecond = 64

// run runs a workload against a target for a number of seconds. When all clients are connected it calls connected; nil: nobody is told.
func (p pgbench) run(ctx context.Context, w workload, t *target, seconds int, connected func() error) (pgbenchResult, error) {
	seconds += w.clients / loginsPerSecond
	logs, err := os.MkdirTemp(p.scratch, "log-")
	if err != nil {
		return pgbenchResult{}, fmt.Errorf("make directory for pgbench's log: %w", err)
	}
	defer os.RemoveAll(logs)
	args := []string{
		"-h", loopback, "-p", strconv.Itoa(t.port), "-U", benchRole, "-n", "-M", w.mode,
		"-c", strconv.Itoa(w.clients), "-j", strconv.Itoa(min(threads, w.clients)), "-T", strconv.Itoa(seconds),
		"-l", "--log-prefix", filepath.Join(logs, "t"),
	}
	if w.sampling < 1 {
		args = append(args, fmt.Sprintf("--sampling-rate=%g", w.sampling))
	}
	args = append(args, w.args...)
	if script := w.scriptFor(t); script != "" {
		path := filepath.Join(logs, "script.sql")
		if err := os.WriteFile(path, []byte(script), 0o600); err != nil {
			return pgbenchResult{}, fmt.Errorf("write pgbench's script: %w", err)
		}
		args = append(args, "-f", path)
	}
	// A target that hangs must not hang the series.
	ctx, cancel := context.WithTimeout(ctx, time.Duration(seconds)*time.Second+time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, p.program, append(args, t.databaseFor(w))...)
	command.Env = clientEnv(w.tls, t.password)
	var out strings.Builder
	command.Stdout, command.Stderr = &out, &out
	if err := command.Start(); err != nil {
		return pgbenchResult{}, fmt.Errorf("run pgbench: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }() // ends with the process
	if connected != nil {
		err = awaitConnections(command.Process.Pid, w, ended, connected)
	}
	if failed := <-ended; failed != nil {
		return pgbenchResult{}, fmt.Errorf("run pgbench: %w: %s", failed, firstLines(out.String(), 3))
	}
	if err != nil {
		return pgbenchResult{}, err
	}
	result, err := parseSummary(out.String())
	if err != nil {
		return pgbenchResult{}, err
	}
	result.latencies, err = readLogs(logs)
	return result, err
}

// awaitConnections calls connected when pgbench has as many connections as clients; one or two of them may still log in. Where each
// transaction connects there is nothing to wait for. What ended brings is left in it.
func awaitConnections(pid int, w workload, ended chan error, connected func() error) error {
	const often = 5 * time.Millisecond // half the unit of processor times
	ticker := time.NewTicker(often)
	defer ticker.Stop()
	for !w.reconnects() && sockets(pid) < w.clients {
		select {
		case err := <-ended:
			ended <- err
			return errNoTransaction
		case <-ticker.C:
		}
	}
	return connected()
}

// readLogs reads the logs of all of pgbench's threads.
func readLogs(dir string) ([]time.Duration, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "t.*"))
	if err != nil {
		return nil, fmt.Errorf("list pgbench's logs: %w", err)
	}
	var all []time.Duration
	for _, path := range paths {
		log, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("open pgbench's log: %w", err)
		}
		part, err := parseLog(log)
		log.Close()
		if err != nil {
			return nil, err
		}
		all = append(all, part...)
	}
	return all, nil
}

// clientEnv is libpq's environment, without the caller's PG… variables.
func clientEnv(tls bool, password string) []string {
	mode := "disable"
	if tls {
		mode = "require"
	}
	return []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C", "PGPASSWORD=" + password, "PGSSLMODE=" + mode, "PGGSSENCMODE=disable"}
}

// firstLines shortens a program's complaint to one line of the report.
func firstLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[:min(n, len(lines))], " / ")
}
