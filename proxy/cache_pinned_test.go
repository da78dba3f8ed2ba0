package proxy_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
)

// TestSessionsThatKeepTheirConnectionLeaveAnswers reads by prepared statements on a connection that a session keeps: that ends no answers of others, and its
// writes do, whatever name they go by.
func TestSessionsThatKeepTheirConnectionLeaveAnswers(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE kept (id int PRIMARY KEY, v int); INSERT INTO kept VALUES (1, 0), (2, 0)")
	p, hits := r.keepsTables(t, nil)
	reader, c := p.client(t), p.client(t)
	const read = "SELECT v FROM kept WHERE id = 1"
	prime := func() string {
		t.Helper()
		var got string
		eventually(t, "hit", func() bool {
			before := hits()
			got = mustValue(t, reader, read)
			return hits() > before
		})
		return got
	}
	prepare := func(name, sql string) {
		t.Helper()
		if _, err := c.Prepare(bounded(t), name, sql); err != nil {
			t.Fatal(err)
		}
	}
	exec := func(name string, args ...any) {
		t.Helper()
		if _, err := c.Exec(bounded(t), name, args...); err != nil {
			t.Fatal(err)
		}
	}
	prepare("before", "SELECT v FROM kept WHERE id = $1")
	prepare("written", "UPDATE kept SET v = v + 1 WHERE id = $1")
	mustExec(t, c, "SELECT pg_advisory_lock(1)") // the connection is its own
	prepare("behind", "SELECT v + 0 FROM kept WHERE id = $1")
	prime()
	order, before := p.cache(t).Order(), hits()
	for range 5 {
		exec("before", 2)
		exec("behind", 2)
	}
	if got := mustValue(t, reader, read); got != "0" || hits() != before+1 || p.cache(t).Order() != order {
		t.Errorf("reads of a session that keeps its connection have ended answers: %s", got)
	}
	want := 0
	changed := func(how string) {
		t.Helper()
		if want++; mustValue(t, reader, read) != fmt.Sprint(want) {
			t.Errorf("%s has not ended the answer", how)
		}
		prime()
	}
	exec("written", 1)
	changed("what was prepared before")
	// The name of a read comes to mean a write, in each way.
	deallocate := func(name string) {
		t.Helper()
		if err := c.Deallocate(bounded(t), name); err != nil { // by Close
			t.Fatal(err)
		}
	}
	deallocate("before")
	prepare("before", "UPDATE kept SET v = v + 1 WHERE id = $1")
	exec("before", 1)
	changed("what was closed and prepared anew")
	run := func(name string) {
		t.Helper()
		if _, err := c.PgConn().ExecPrepared(bounded(t), name, [][]byte{[]byte("1")}, nil, nil).Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := c.PgConn().Prepare(bounded(t), "written", "SELECT $1::int", nil); codeOf(err) != "42P05" {
		t.Fatalf("a second statement of one name: %v", err)
	}
	run("written")
	changed("what was not prepared anew")
	mustExec(t, c, "DEALLOCATE behind")
	mustExec(t, c, "PREPARE behind(int) AS UPDATE kept SET v = v + 1 WHERE id = $1")
	run("behind")
	changed("what SQL prepared anew")
	mustExec(t, c, "DEALLOCATE ALL")
	mustExec(t, c, "PREPARE written(int) AS UPDATE kept SET v = v + 1 WHERE id = $1")
	run("written")
	changed("what SQL prepared anew behind DEALLOCATE ALL")
	prepare("coded", "SELECT v FROM kept WHERE id = $1")
	mustExec(t, c, "DO $$BEGIN EXECUTE 'DEALLOCATE coded'; EXECUTE 'PREPARE coded(int) AS UPDATE kept SET v = v + 1 WHERE id = $1'; END$$")
	prime()
	run("coded")
	changed("what code prepared anew")
	// And that which makes the connection its own.
	other := p.client(t)
	if _, err := other.Prepare(bounded(t), "mixed", "SELECT v FROM kept WHERE id = $1"); err != nil {
		t.Fatal(err)
	}
	batch := &pgx.Batch{}
	batch.Queue("SELECT pg_advisory_lock(2)")
	batch.Queue("UPDATE kept SET v = v + 1 WHERE id = $1", 1)
	if err := other.SendBatch(bounded(t), batch).Close(); err != nil {
		t.Fatal(err)
	}
	changed("a write in the request that the session is pinned by")
}

// TestNamesOfBeforeTheCacheMayMeanAnything has code prepare a name anew on a connection that a session keeps, and switches the cache on behind that.
func TestNamesOfBeforeTheCacheMayMeanAnything(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE kept (id int PRIMARY KEY, v int); INSERT INTO kept VALUES (1, 0)")
	cfg := r.config(t, nil)
	p := r.start(t, cfg)
	c := p.client(t)
	mustExec(t, c, "SELECT pg_advisory_lock(1)") // the connection is its own
	if _, err := c.Prepare(bounded(t), "coded", "SELECT v FROM kept WHERE id = $1"); err != nil {
		t.Fatal(err)
	}
	mustExec(t, c, "DO $$BEGIN EXECUTE 'DEALLOCATE coded'; EXECUTE 'PREPARE coded(int) AS UPDATE kept SET v = v + 1 WHERE id = $1'; END$$")
	d := cfg.Databases[r.database]
	d.Cache.Enabled, d.Cache.MaxDelay = true, 0
	cfg.Databases = map[string]proxy.Database{r.database: d}
	if err := p.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	reader := p.client(t)
	eventually(t, "hit", func() bool {
		before := p.cache(t).Hits.Load()
		wantValue(t, reader, "SELECT v FROM kept WHERE id = 1", "0")
		return p.cache(t).Hits.Load() > before
	})
	if _, err := c.PgConn().ExecPrepared(bounded(t), "coded", [][]byte{[]byte("1")}, nil, nil).Close(); err != nil {
		t.Fatal(err)
	}
	wantValue(t, reader, "SELECT v FROM kept WHERE id = 1", "1")
}
