package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/router"
)

// scriptLimit bounds one run of psql while many run.
const scriptLimit = 60 * time.Second

// actor is one client of a differential run: its schema and role have names of one length, so that the tables that psql
// draws have one width.
type actor string

func actorOf(n int) actor { return actor(fmt.Sprintf("actor_%02d", n)) }

// run has psql run a script as the actor and returns all it printed, with the actor's own names taken out.
func (a actor) run(t testing.TB, psql, password, address, database, script string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(context.Background(), scriptLimit)
	defer stop()
	cmd := exec.CommandContext(ctx, psql, "-X", "-a", "-v", "schema="+string(a), "-v", "role=role_of_"+string(a))
	cmd.Env = append(os.Environ(), "PGHOST="+host, "PGPORT="+port, "PGDATABASE="+database, "PGUSER=postgres",
		"PGSSLMODE=disable", "PGAPPNAME=differential", "PGTZ=UTC", "PGCLIENTENCODING=UTF8",
		"PGOPTIONS=-c search_path="+string(a), "PGPASSWORD="+password)
	text, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	var printed bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(text), &printed, &printed
	if err := cmd.Run(); err != nil && ctx.Err() != nil {
		fmt.Fprintf(&printed, "\npsql did not end within %s\n", scriptLimit)
	}
	return a.anonymous(printed.String())
}

// processID is what a notification says of its sender, which no two runs share.
var processID = regexp.MustCompile(`PID \d+`)

func (a actor) anonymous(s string) string {
	return processID.ReplaceAllString(strings.ReplaceAll(s, string(a), "actor"), "PID")
}

// prepare makes the actor's schema anew.
func (a actor) prepare(t testing.TB, server *localpg.Server, database string) {
	t.Helper()
	pgtest.Exec(t, server, database, fmt.Sprintf("DROP SCHEMA IF EXISTS %s CASCADE; CREATE SCHEMA %s", a, a))
}

// psqlProgram is psql itself, without Debian's wrapper.
func psqlProgram(t testing.TB) string {
	t.Helper()
	binaries, err := localpg.FindBinaries()
	if err != nil {
		t.Fatal(err)
	}
	return binaries.Path("psql")
}

// firstDifference shows where two outputs part.
func firstDifference(want, got string) string {
	a, b := strings.Split(want, "\n"), strings.Split(got, "\n")
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	around := func(lines []string) string {
		const before, after = 6, 4 // enough to see the statement
		return strings.Join(lines[max(0, i-before):min(len(lines), i+after)], "\n")
	}
	return fmt.Sprintf("line %d\n--- direct\n%s\n--- through the proxy\n%s", i+1, around(a), around(b))
}

// TestScriptsPrintTheSameThroughTheProxy runs psql scripts directly, and through the proxy by several clients at once
// that share 1, 2 and 20 server connections: what they print must be equal byte for byte.
func TestScriptsPrintTheSameThroughTheProxy(t *testing.T) {
	t.Parallel()
	const actors = 4
	scripts, err := filepath.Glob("testdata/differential/*.sql")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	r, psql := newRig(t), psqlProgram(t)
	want := map[string]string{}
	for _, script := range scripts {
		a := actorOf(0)
		a.prepare(t, r.manager, r.database)
		want[script] = a.run(t, psql, r.cluster.Password, r.manager.Address(), r.database, script)
	}
	for _, tc := range []struct {
		name    string
		size    int
		options []proxy.Option
	}{
		{"pool of 1", 1, nil},
		{"pool of 2", 2, nil},
		{"pool of 20", 20, nil},
		{"pipelines for all that may", 20, []proxy.Option{proxy.WithEagerPipelines()}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := r.start(t, r.config(t, func(cfg *proxy.Config) { cfg.Pool.Size, cfg.HTTP = tc.size, "127.0.0.1:0" }), tc.options...)
			var all sync.WaitGroup
			for n := range actors {
				all.Go(func() {
					for i := range scripts {
						script := scripts[(i+n*len(scripts)/actors)%len(scripts)] // each begins elsewhere
						a := actorOf(n + 1)
						a.prepare(t, r.manager, r.database)
						if got := a.run(t, psql, r.cluster.Password, p.address, r.database, script); got != want[script] {
							t.Errorf("%s differs in %s", filepath.Base(script), firstDifference(want[script], got))
						}
					}
				})
			}
			all.Wait()
			if tc.options == nil {
				return
			}
			// Most scripts change the schema, and while a change is being read nothing is proved to read: the reads are repeated until they travel.
			const reads = "testdata/differential/reads.sql"
			eventually(t, "reads travel in pipelines", func() bool {
				for n := range actors {
					all.Go(func() {
						if got := actorOf(n+1).run(t, psql, r.cluster.Password, p.address, r.database, reads); got != want[reads] {
							t.Errorf("reads differ in %s", firstDifference(want[reads], got))
						}
					})
				}
				all.Wait()
				return t.Failed() || sample(t, scrape(t, p), "pgtier_pipeline_requests_total", "database", r.database) >= actors
			})
		})
	}
}

// TestScriptsPrintTheSameOverReplicas does so where reads may go to replicas and BEGIN is held back.
func TestScriptsPrintTheSameOverReplicas(t *testing.T) {
	t.Parallel()
	scripts, err := filepath.Glob("testdata/differential/*.sql")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	psql := psqlProgram(t)
	c, p := settledCrew(t, 2, "", nil)
	for _, script := range scripts {
		a := actorOf(0)
		a.prepare(t, c.manager, c.database)
		want := a.run(t, psql, c.cluster.Password, c.manager.Address(), c.database, script)
		a.prepare(t, c.manager, c.database)
		if got := a.run(t, psql, c.cluster.Password, p.address, c.database, script); got != want {
			t.Errorf("%s differs in %s", filepath.Base(script), firstDifference(want, got))
		}
	}
	stats := p.SharedOf(p.database).Stats
	for cause := router.Cause(0); cause < router.Causes; cause++ {
		t.Logf("turns by cause %-12s %d", cause, stats.Routes[cause].Load())
	}
	if stats.Routes[router.ToReplica].Load() == 0 {
		t.Error("no statement went to a replica: the run proves nothing")
	}
}
