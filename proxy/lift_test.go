package proxy_test

import (
	"cmp"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy/wire"
	"pgtier/router/catalog"
)

// blind keeps the catalog from being read until see is called. A change comes before, so that it has to be.
func (r *rig) blind(t *testing.T, p *running, change string) (see func()) {
	t.Helper()
	lock, err := pgx.Connect(bounded(t), r.manager.URL(r.database, "postgres", r.cluster.Password))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = lock.Close(bounded(t)) })
	mustExec(t, lock, "BEGIN; LOCK TABLE pg_policy") // which Version reads
	mustExec(t, p.client(t), change)
	return func() { mustExec(t, lock, "ROLLBACK") }
}

// pin is the only session's that is pinned, "" if there is none.
func pin(t *testing.T, boss *pgx.Conn) string {
	t.Helper()
	_, rows := table(t, boss, "SHOW PINS")
	switch len(rows) {
	case 0:
		return ""
	case 1:
		return fmt.Sprint(rows[0])
	}
	return fmt.Sprint(rows)
}

const liftSQL = `CREATE TABLE kept (id int PRIMARY KEY, v int); INSERT INTO kept SELECT i, 0 FROM generate_series(1, 9) i; CREATE SEQUENCE numbers;
CREATE FUNCTION v_of(int) RETURNS int LANGUAGE sql STABLE AS 'SELECT v FROM kept WHERE id = $1';
CREATE FUNCTION locks(int) RETURNS int LANGUAGE plpgsql AS $$BEGIN PERFORM pg_advisory_lock($1); RETURN 1; END$$;
CREATE FUNCTION harmless() RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE FUNCTION later() RETURNS int LANGUAGE sql AS 'SELECT 1'`

// TestPinsOfAnUnreadCatalogAreLifted has sessions call functions while the catalog cannot be read.
func TestPinsOfAnUnreadCatalogAreLifted(t *testing.T) {
	t.Parallel()
	var m msgs
	const reads, reading = "SELECT v FROM kept WHERE id = $1", "SELECT v_of(1)"
	for _, tc := range []struct {
		name   string
		change string // "": one that concerns nothing
		before []msgs // the catalog can be read
		blind  []msgs // it cannot; the first pins
		other  string // another session does that meanwhile
		see    []msgs // it can again
		stays  string // why, "" if the pin is lifted
		held   []msgs // goes on as if nothing had been
	}{
		{name: "a function", blind: []msgs{m.query(reading)}},
		{name: "names and the unnamed statement", before: []msgs{m.parse("a", reads).sync(), m.parse("b", reads).sync()},
			blind: []msgs{m.parse("", reading).run("").sync(), m.parse("c", reads).sync(), m.close("a").sync(), m.parse("a", "SELECT v + 1 FROM kept WHERE id = $1").sync(), m.parse("", "SELECT 5").sync()},
			held:  []msgs{m.run("").sync(), m.run("a", "1").sync(), m.run("b", "1").sync(), m.run("c", "1").sync()}},
		{name: "errors", before: []msgs{m.parse("a", reads).sync()},
			blind: []msgs{m.query(reading), m.query("SELECT 1 / 0"), m.parse("", "SELECT 1 / 0").run("").sync(), m.parse("", "SELECT nope").sync(), m.parse("a", reads).sync()},
			held:  []msgs{m.run("a", "1").sync()}},
		{name: "a transaction", blind: []msgs{m.query("BEGIN"), m.query(reading), m.query("UPDATE kept SET v = 1 WHERE id = 9"), m.query("COMMIT")}},
		{name: "what is run when the catalog has been read", blind: []msgs{m.query("BEGIN"), m.query(reading)}, see: []msgs{m.query("SELECT v_of(2)"), m.query("COMMIT")}},
		{name: "a channel", before: []msgs{m.query("LISTEN news")}, blind: []msgs{m.query(reading)}, held: []msgs{m.query("NOTIFY news")}},
		{name: "a change that concerns nothing in the catalog that is read", change: "CREATE TABLE other (id int)", blind: []msgs{m.query(reading)}},
		{name: "a change of the function", change: "CREATE OR REPLACE FUNCTION v_of(int) RETURNS int LANGUAGE plpgsql AS $$BEGIN PERFORM pg_advisory_lock_shared(3); RETURN 1; END$$",
			blind: []msgs{m.query(reading)}, stays: "pg_advisory_lock"},
		{name: "another change meanwhile", change: "CREATE TABLE other (id int)", blind: []msgs{m.query(reading)}, other: "CREATE TABLE another (id int)", stays: "changed meanwhile"},
		{name: "a function that locks", blind: []msgs{m.query(reading), m.query("SELECT locks(1)")}, stays: "pg_advisory_lock"},
		{name: "a name that locks", change: "CREATE OR REPLACE FUNCTION later() RETURNS int LANGUAGE plpgsql AS $$BEGIN PERFORM pg_advisory_lock(2); RETURN 1; END$$",
			before: []msgs{m.parse("a", "SELECT later()").sync()}, blind: []msgs{m.query(reading), m.run("a").sync()}, stays: "pg_advisory_lock"},
		{name: "a lock behind the end of a transaction that has failed", blind: []msgs{m.query(reading), m.query("BEGIN"), m.query("SELECT 1 / 0"), m.query("ROLLBACK").query("SELECT pg_advisory_lock(1)")}, stays: "pg_advisory_lock"},
		{name: "SET", blind: []msgs{m.query(reading), m.query("SET work_mem = '5MB'")}, stays: "not followed"},
		{name: "SET in the transaction", blind: []msgs{m.query("BEGIN"), m.query("SET work_mem = '5MB'"), m.query(reading), m.query("COMMIT")}, stays: catalog.BeingRead},
		{name: "PREPARE", blind: []msgs{m.query(reading), m.query("PREPARE a AS SELECT 1")}, stays: "not followed"},
		{name: "a temporary table", blind: []msgs{m.query(reading), m.query("CREATE TEMP TABLE own (id int)")}, stays: "not followed"},
		{name: "a function call", blind: []msgs{m.query(reading), m.call(1)}, stays: "function call"},
		{name: "names of which some have failed", blind: []msgs{m.query(reading), m.parse("x", reads).parse("y", "SELECT nope").parse("z", reads).sync()}, stays: "failed"},
		{name: "a portal that is closed before what fails", before: []msgs{m.parse("a", reads).sync()}, blind: []msgs{m.query(reading), m.closePortal("").parse("a", "SELECT nope").sync()}, stays: "failed"},
		{name: "Flush", blind: []msgs{m.query(reading), m.parse("", reads).run("", "1").flush().sync()}, stays: "without Sync"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			pgtest.Exec(t, r.manager, r.database, liftSQL)
			p := r.serve(t, withConsole)
			p.readsCatalog(t)
			boss, c := p.console(t, "boss"), p.rawDial(t, wire.Protocol30)
			rounds := func(list []msgs) {
				t.Helper()
				for _, m := range list {
					c.send(t, m)
				}
			}
			rounds(tc.before)
			see := r.blind(t, p, cmp.Or(tc.change, "COMMENT ON TABLE kept IS 'changed'"))
			rounds(tc.blind)
			if got := pin(t, boss); !strings.Contains(got, catalog.BeingRead) {
				t.Fatalf("pinned by %q", got)
			}
			if tc.other != "" {
				mustExec(t, p.client(t), tc.other)
				rounds([]msgs{m.query(reading)})
			}
			see()
			p.readsCatalog(t)
			rounds(tc.see)
			rounds([]msgs{m.sync()})
			switch got := pin(t, boss); {
			case tc.stays == "" && got != "":
				t.Errorf("pinned by %q", got)
			case !strings.Contains(got, tc.stays):
				t.Errorf("pinned by %q, want %q", got, tc.stays)
			}
			for _, m := range tc.held {
				if err := c.round(m); err != nil {
					t.Error(err)
				}
			}
			if left := pgtest.Value(t, r.manager, r.database, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"); (left != "0") != strings.Contains(tc.stays, "lock") {
				t.Errorf("%s locks are left", left)
			}
		})
	}
}

// TestPinsBeforeTheCatalogIsReadAreLifted calls a function before the catalog can be read for the first time.
func TestPinsBeforeTheCatalogIsReadAreLifted(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, liftSQL)
	lock, err := pgx.Connect(bounded(t), r.manager.URL(r.database, "postgres", r.cluster.Password))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Close(bounded(t)) }()
	mustExec(t, lock, "BEGIN; LOCK TABLE pg_policy")
	p := r.serve(t, withConsole)
	boss, c := p.console(t, "boss"), p.client(t)
	mustValue(t, c, "SELECT v_of(1)")
	if got := pin(t, boss); !strings.Contains(got, catalog.NotRead) {
		t.Fatalf("pinned by %q", got)
	}
	mustExec(t, lock, "ROLLBACK")
	p.readsCatalog(t)
	mustValue(t, c, "SELECT 1")
	if got := pin(t, boss); got != "" {
		t.Errorf("pinned by %q", got)
	}
}

// TestPinsBehindAFailedTransaction makes state of the session behind what ends a transaction that has failed, before the server has answered that.
func TestPinsBehindAFailedTransaction(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	p := r.serve(t, withConsole)
	boss := p.console(t, "boss")
	var m msgs
	const lock = "SELECT pg_advisory_lock_shared(1)"
	for name, send := range map[string]msgs{
		"in one text":             m.query("ROLLBACK; " + lock),
		"in one write":            m.query("ROLLBACK").query(lock),
		"in one pipeline":         m.parse("", "ROLLBACK").run("").parse("", lock).run("").sync(),
		"by names":                m.run("r").run("l").sync(),
		"behind a Flush":          m.run("r").run("l").flush().sync(),
		"back to a savepoint":     m.query("ROLLBACK TO a; " + lock),
		"at the end of a COMMIT":  m.query("COMMIT").query(lock),
		"in the next transaction": m.query("ROLLBACK AND CHAIN; " + lock).query("COMMIT"),
	} {
		t.Run(name, func(t *testing.T) {
			c := p.rawDial(t, wire.Protocol30)
			defer func() { _ = c.nc.Close() }()
			if name == "by names" || name == "behind a Flush" {
				c.send(t, m.parse("r", "ROLLBACK").sync())
				c.send(t, m.query("PREPARE l AS "+lock))
			}
			for _, m := range []msgs{m.query("BEGIN"), m.query("SAVEPOINT a"), m.query("SELECT 1 / 0"), send} {
				c.send(t, m)
			}
			if got := pin(t, boss); !strings.Contains(got, "pg_advisory_lock") {
				t.Errorf("pinned by %q", got)
			}
			_ = c.nc.Close()
			eventually(t, "gone", func() bool { return pin(t, boss) == "" })
		})
	}
}

// TestCodeThatMakesCodePins has code make a function anew that is then run before the catalog is read: the lock that it takes is the session's.
func TestCodeThatMakesCodePins(t *testing.T) {
	t.Parallel()
	const anew = "CREATE OR REPLACE FUNCTION later() RETURNS int LANGUAGE plpgsql AS 'BEGIN PERFORM pg_advisory_lock(4); RETURN 1; END'"
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, liftSQL+"; CREATE FUNCTION makes() RETURNS int LANGUAGE plpgsql AS $$BEGIN "+anew+"; RETURN 1; END$$")
	p := r.serve(t, withConsole)
	boss := p.console(t, "boss")
	for _, texts := range [][]string{
		{"BEGIN", "SELECT makes()", "SELECT later()", "COMMIT"},
		{"SELECT makes() + later()"},
		{anew + "; SELECT later()"},
		{"DO $$BEGIN " + anew + "; PERFORM later(); END$$"},
	} {
		pgtest.Exec(t, r.manager, r.database, "CREATE OR REPLACE FUNCTION later() RETURNS int LANGUAGE sql AS 'SELECT 1'")
		mustExec(t, p.client(t), "COMMENT ON TABLE kept IS 'has the catalog read'")
		p.readsCatalog(t)
		c := p.client(t)
		for _, sql := range texts {
			mustExec(t, c, sql)
		}
		if got := pin(t, boss); got == "" {
			t.Errorf("%q: not pinned", texts)
		}
		if err := c.Close(bounded(t)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the lock goes with the session", func() bool {
			return pin(t, boss) == "" && pgtest.Value(t, r.manager, r.database, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 4") == "0"
		})
	}
}
