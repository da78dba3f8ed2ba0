package proxy_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
)

// Each client writes rows that nobody else writes, numbered from 1, and looks at once for what it has written: a read that a
// replica may serve. One that is not there ends the client with a division by zero. The pauses are there for the moment of
// the loss: who has nothing under way stays.
const (
	pgbenchSingle = `\set n :n + 1
\set pause random(0, 100)
\sleep :pause ms
INSERT INTO ledger VALUES (:client_id, :n);
SELECT count(*) AS found FROM ledger WHERE w = :client_id AND n = :n \gset
\if :found <> 1
SELECT 1 / 0;
\endif
`
	pgbenchBlock = `\set n :n + 1
\set pause random(0, 100)
\sleep :pause ms
BEGIN;
INSERT INTO ledger VALUES (:client_id, :n);
SELECT count(*) AS found FROM ledger WHERE w = :client_id AND n <= :n \gset
COMMIT;
`
)

var (
	pgbenchProcessed = regexp.MustCompile(`(?m)^number of transactions actually processed: (\d+)`)
	pgbenchAborted   = regexp.MustCompile(`(?m)client \d+ script \d+ aborted in command \d+ query \d+: *(.*)$`)
)

// TestFailoverUnderPgbench loses the manager under pgbench, whose clients leave at their first error. With a synchronous
// replica nothing acknowledged is lost and nothing is there twice; what is there beyond it is at most one write of each
// client that has left.
func TestFailoverUnderPgbench(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"simple", "prepared"} {
		t.Run(protocol, func(t *testing.T) { testPgbench(t, protocol) })
	}
}

func testPgbench(t *testing.T, protocol string) {
	// Rows, not time, say when the manager is lost and when it is enough: a busy machine may write five a second.
	const clients, rows = 8, 50
	c := newCrew(t, 2, nil)
	pgtest.Exec(t, c.manager, c.database, "CREATE TABLE ledger (w int, n int)") // no key: a row written twice shows
	first := c.shard.Replicas[0]
	for _, sql := range []string{"ALTER SYSTEM SET synchronous_standby_names = '" + first.Name + "'", "SELECT pg_reload_conf()"} {
		pgtest.Exec(t, c.manager, "postgres", sql)
	}
	eventually(t, "the replica is synchronous", func() bool {
		return pgtest.Value(t, c.manager, "postgres", "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1"
	})
	p := c.serve(t, func(d *proxy.Database) { d.Failover.Wait = limit })
	c.settle(t, p)

	binaries, err := localpg.FindBinaries()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"single": pgbenchSingle, "block": pgbenchBlock} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ctx, stop := context.WithTimeout(context.Background(), 5*limit)
	defer stop()
	cmd := exec.CommandContext(ctx, binaries.Path("pgbench"), "-n", "-M", protocol, "-c", strconv.Itoa(clients), "-T", strconv.Itoa(int(10*limit/time.Second)),
		"-D", "n=0", "-l", "--log-prefix", "log", "-f", "single@3", "-f", "block@1", p.dsn("postgres", ""))
	cmd.Dir = dir
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // ends with pgbench, which ctx ends
	written := func(server *localpg.Server) int {
		n, _ := strconv.Atoi(pgtest.Value(t, server, c.database, "SELECT count(*) FROM ledger"))
		return n
	}
	wrote := func(server *localpg.Server, n int) {
		t.Helper()
		eventually(t, fmt.Sprintf("pgbench has written %d rows", n), func() bool {
			select {
			case err := <-ended:
				t.Fatalf("pgbench ended: %v\n%s", err, out.String())
			default:
			}
			return written(server) >= n
		})
	}
	wrote(c.manager, rows)
	if err := c.manager.Kill(); err != nil {
		t.Fatal(err)
	}
	p.someWait(t)
	if err := first.Promote(ctx); err != nil {
		t.Fatal(err)
	}
	wrote(first, written(first)+rows)                           // or nobody went on, and the run would prove nothing
	if err := cmd.Process.Signal(syscall.SIGALRM); err != nil { // as if its time were over
		t.Fatal(err)
	}
	if err := <-ended; err != nil && ctx.Err() != nil {
		t.Fatalf("pgbench: %v\n%s", err, out.String())
	}

	processed := pgbenchProcessed.FindStringSubmatch(out.String())
	if processed == nil {
		t.Fatalf("pgbench says no number of transactions:\n%s", out.String())
	}
	acknowledged, _ := strconv.Atoi(processed[1])
	aborted := pgbenchAborted.FindAllStringSubmatch(out.String(), -1)
	there, _ := strconv.Atoi(pgtest.Value(t, first, c.database, "SELECT count(*) FROM ledger"))
	t.Logf("%d transactions acknowledged, %d rows, %d of %d clients left, longest wait %s", acknowledged, there, len(aborted), clients, longestLogged(t, dir))
	for _, a := range aborted {
		t.Logf("a client left: %s", a[1])
		if strings.Contains(a[1], "division by zero") {
			t.Error("a client did not find what it had written")
		}
		if strings.Contains(a[1], "does not exist") {
			t.Error("a statement was not prepared, which would have changed nothing")
		}
	}
	if there < acknowledged || there > acknowledged+len(aborted) {
		t.Errorf("%d rows are there, want %d, which were acknowledged, or up to %d more", there, acknowledged, len(aborted))
	}
	if got := pgtest.Value(t, first, c.database, "SELECT count(*) FROM (SELECT FROM ledger GROUP BY w, n HAVING count(*) > 1) x"); got != "0" {
		t.Errorf("%s rows were written more than once", got)
	}
	p.nothingLent(t)
}

// longestLogged is the longest of the transactions in pgbench's logs.
func longestLogged(t *testing.T, dir string) (longest time.Duration) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "log.*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("pgbench's logs: %v, %v", files, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			if fields := strings.Fields(line); len(fields) > 2 {
				if us, err := strconv.Atoi(fields[2]); err == nil {
					longest = max(longest, time.Duration(us)*time.Microsecond)
				}
			}
		}
	}
	return longest
}
