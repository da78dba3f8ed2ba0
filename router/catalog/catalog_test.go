package catalog

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/parser"
)

var servers = pgtest.Share(localpg.Options{Replicas: 1})

func TestMain(m *testing.M) { os.Exit(servers.Run(m)) }

// database makes a database and returns it with a connection to it.
func database(t testing.TB) (server *localpg.Server, name string, q *pgtest.Querier) {
	t.Helper()
	server = servers.Cluster(t).Shards[0].Manager
	name = pgtest.Database(t, server)
	conn, err := pgconn.Connect(t.Context(), server.URL(name, "", ""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return server, name, pgtest.NewQuerier(conn)
}

func load(t testing.TB, q Querier) *Snapshot {
	t.Helper()
	s, err := Load(t.Context(), q)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// schemaSnapshot loads testdata/schema.sql with more statements behind it.
func schemaSnapshot(t testing.TB, more string) *Snapshot {
	t.Helper()
	schema, err := os.ReadFile("testdata/schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	server, name, q := database(t)
	pgtest.Exec(t, server, name, string(schema)+more)
	return load(t, q)
}

func TestPins(t *testing.T) {
	s := schemaSnapshot(t, "")
	cache := parser.NewCache(1 << 20)
	pinned := []string{
		"SELECT app.set_tenant('a')", "SELECT set_tenant('a')", "SELECT local_maybe('a', true)", "SELECT does_set()",
		"SELECT does_reset()", "SELECT makes_temp()", "SELECT locks()", "SELECT listens()", "SELECT reads_seq()", "SELECT dynamic('x')",
		"SELECT dynamic_literal()", "SELECT dynamic_format()", "SELECT dynamic_glued()", "SELECT alias_of_set_config('a.b', 'c', false)",
		"SELECT atomic_builtin()", "SELECT default_argument()", "SELECT upper(ROW(1, 2)::pair)", "SELECT UPPER(x) FROM plain x", "CALL proc()",
		`SELECT "Quoted"()`, "SELECT calls()", "SELECT CALLS_calls()", "SELECT calls_quoted()", "SELECT atomic2()", "SELECT renamed()",
		"SELECT overload(1)", "SELECT risky_agg(v) FROM plain", "SELECT never_made()", "SELECT 1; SELECT calls()", "EXPLAIN ANALYZE SELECT calls()",
		"SELECT p.of_pair FROM (SELECT ROW(1, 2)::pair AS p) AS x", `SELECT p . "of_pair" FROM x`, "SELECT ('x'::text).set_tenant",
		"SELECT (v) .Set_Tenant FROM plain", "SELECT (p)./* */of_pair FROM x AS p",
		"INSERT INTO orders VALUES (1)", "WITH x AS (INSERT INTO orders VALUES (1) RETURNING id) SELECT * FROM x", "COPY orders FROM STDIN",
		"SELECT writes_orders()", "INSERT INTO trig_when VALUES (1)", "INSERT INTO writes_other VALUES (1)", "INSERT INTO v_orders VALUES (1)",
		"DELETE FROM parent", "DELETE FROM child", "TRUNCATE truncated_parent CASCADE", "INSERT INTO measures VALUES (1)", "UPDATE base SET id = 1",
		"SELECT * FROM v_calls", "SELECT * FROM v_over", "TABLE v_builtin", "COPY (SELECT * FROM v_over) TO STDOUT", "SELECT reads_view()",
		"REFRESH MATERIALIZED VIEW matview", "INSERT INTO ruled VALUES (1)", "INSERT INTO ruled_write VALUES (1)",
		"INSERT INTO t_default (id) VALUES (1)", "ALTER TABLE t_default ALTER id TYPE bigint", "INSERT INTO t_default_builtin (id) VALUES (1)",
		"INSERT INTO t_check VALUES ('a')", "INSERT INTO t_generated VALUES ('a')", "INSERT INTO t_index VALUES ('a')", "UPDATE t_partial SET v = 'a'",
		"INSERT INTO t_key VALUES ('a')", "SELECT * FROM t_policy", "SELECT * FROM t_policy_view", "DECLARE c CURSOR FOR SELECT * FROM v_over",
		"VACUUM", "ANALYZE", "SELECT table_to_xml('v_calls', true, true, '')", "REINDEX DATABASE x",
	}
	for _, sql := range pinned {
		if got := s.Pins(cache.Statement([]byte(sql))); got == "" {
			t.Errorf("%s: not pinned", sql)
		}
	}
	harmless := []string{
		"SELECT 1", "SELECT * FROM plain", "INSERT INTO plain VALUES (1, 'a')", "SELECT ok_local('a')", "SELECT ok_set_local()", "SELECT ok_update()",
		"SELECT ok_temp_drop()", "SELECT ok_xact_locks()", "SELECT ok_notifies()", "SELECT ok_dynamic_literal()", "SELECT ok_dynamic_format()",
		"SELECT ok_proconfig()", "SELECT ok_alias_of_upper('a')", "SELECT ok_atomic()", "CALL ok_proc()", "SELECT ok_quoted()", "SELECT lower('x'), now()",
		"SELECT ok_agg(v) FROM plain", "SELECT p.v, p.id FROM plain AS p", "SELECT p.set_tenant FROM plain AS p", "SELECT * FROM orders",
		"SELECT * FROM orders FOR UPDATE", "INSERT INTO ok_orders VALUES (1)", "INSERT INTO ok_disabled VALUES (1)", "SELECT ok_reads_orders()",
		"SELECT * FROM parent", "DELETE FROM ok_parent", "SELECT * FROM measures", "SELECT * FROM v_orders", "SELECT * FROM ok_view", "UPDATE ok_view SET v = 'a'",
		"SELECT * FROM matview", "SELECT * FROM ruled", "SELECT * FROM t_default", "INSERT INTO ok_default DEFAULT VALUES", "SELECT * FROM ok_policy",
		"CREATE TABLE fresh (id int)", "COPY orders TO STDOUT", `SELECT * FROM "Mixed"`, "BEGIN", "", "SHOW work_mem", "VACUUM plain",
		"SELECT information_schema._pg_truetypid(NULL, NULL)",
	}
	for _, sql := range harmless {
		if got := s.Pins(cache.Statement([]byte(sql))); got != "" {
			t.Errorf("%s: pinned: %s", sql, got)
		}
	}
}

func TestReasonNamesFunctionAndCause(t *testing.T) {
	s := schemaSnapshot(t, "")
	cache := parser.NewCache(1 << 20)
	for sql, want := range map[string]string{
		"SELECT set_tenant('a')":        "function app.set_tenant() may change session state (set_config)",
		"SELECT reads_view()":           "function public.reads_view() may change session state (uses public.v_over)",
		"INSERT INTO orders VALUES (1)": "writing public.orders may change session state (trigger t: calls public.trig())",
	} {
		if got := s.Pins(cache.Statement([]byte(sql))); got != want {
			t.Errorf("%s: got %q, want %q", sql, got, want)
		}
	}
	var found bool
	for _, o := range s.Risky() {
		found = found || o == Object{"function", "app.set_tenant()", "set_config"}
	}
	if !found {
		t.Errorf("Risky does not list app.set_tenant(): %v", s.Risky())
	}
}

// TestPinsEverything has objects that work without being named.
func TestPinsEverything(t *testing.T) {
	const risky = `CREATE FUNCTION f(a int, b int) RETURNS int IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('a.b', 'c', false); RETURN 1; END $$;
		CREATE FUNCTION g(a text) RETURNS bool IMMUTABLE LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_lock(1); RETURN true; END $$;
		CREATE TYPE pair AS (a int, b int);
		CREATE FUNCTION h(a pair) RETURNS bool LANGUAGE sql AS $$ SELECT g('x') $$; `
	cache := parser.NewCache(1 << 20)
	for _, ddl := range []string{
		"CREATE OPERATOR ### (LEFTARG = int, RIGHTARG = int, FUNCTION = f)",
		"CREATE OPERATOR ### (LEFTARG = int, RIGHTARG = int, FUNCTION = pg_try_advisory_lock)",
		"CREATE CAST (pair AS bool) WITH FUNCTION h(pair) AS IMPLICIT",
		"CREATE DOMAIN d AS text CHECK (g(VALUE))",
		"CREATE DOMAIN d AS text DEFAULT set_config('a.b', 'c', false)",
		"CREATE OPERATOR CLASS oc FOR TYPE pair USING btree AS FUNCTION 1 cmp(pair, pair)",
	} {
		server, name, q := database(t)
		pgtest.Exec(t, server, name, risky+"CREATE FUNCTION cmp(pair, pair) RETURNS int IMMUTABLE LANGUAGE sql AS 'SELECT f(1, 2)'")
		if got := load(t, q).Pins(cache.Statement([]byte("SELECT 1"))); got != "" {
			t.Fatalf("before %s: pinned: %s", ddl, got)
		}
		pgtest.Exec(t, server, name, ddl)
		if got := load(t, q).Pins(cache.Statement([]byte("SELECT 1"))); !strings.HasPrefix(got, "any statement") {
			t.Errorf("after %s: got %q", ddl, got)
		}
	}
}

func TestEventTriggerPinsSchemaChanges(t *testing.T) {
	s := schemaSnapshot(t, `
		CREATE FUNCTION ok_plain() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 1; END $$;
		CREATE FUNCTION makes_table() RETURNS void LANGUAGE plpgsql AS $$ BEGIN CREATE TABLE z (a int); END $$;
		CREATE FUNCTION ddl() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM app.set_tenant('x'); END $$;
		CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION ddl();`)
	cache := parser.NewCache(1 << 20)
	for sql, want := range map[string]bool{
		"CREATE TABLE z (a int)": true, "SELECT makes_table()": true, "SELECT 1 AS a INTO z": true,
		"SELECT ok_plain()": false, "SELECT 1": false, "INSERT INTO plain VALUES (1)": false,
	} {
		if got := s.Pins(cache.Statement([]byte(sql))); (got != "") != want {
			t.Errorf("%s: got %q, want pinned %v", sql, got, want)
		}
	}
}

func TestNilSnapshotPinsFunctionsOnly(t *testing.T) {
	cache := parser.NewCache(1 << 20)
	var s *Snapshot
	if got := s.Pins(cache.Statement([]byte("SELECT f(1)"))); got != NotRead {
		t.Errorf("got %q", got)
	}
	if got := s.Pins(cache.Statement([]byte("SELECT upper('a') FROM t"))); got != "" {
		t.Errorf("got %q", got)
	}
}

func TestVersionTellsEveryChange(t *testing.T) {
	server, name, q := database(t)
	pgtest.Exec(t, server, name, `CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int, a int); CREATE TABLE part (id int) PARTITION BY LIST (id);
		CREATE TABLE part_1 (id int); CREATE SEQUENCE s`)
	version := func() string {
		t.Helper()
		v, err := Version(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	last := version()
	for _, ddl := range []string{
		"CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
		"CREATE OR REPLACE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN SET work_mem = 1000; RETURN NEW; END'",
		"ALTER FUNCTION f() RENAME TO g",
		"CREATE TRIGGER t BEFORE INSERT ON a FOR EACH ROW EXECUTE FUNCTION g()",
		"ALTER TABLE a DISABLE TRIGGER t", "ALTER TABLE a ENABLE TRIGGER t",
		"ALTER TABLE a RENAME TO a2",
		"CREATE VIEW v AS SELECT 1 AS x", "CREATE OR REPLACE VIEW v AS SELECT 2 AS x", "DROP VIEW v",
		"CREATE RULE r AS ON INSERT TO b DO ALSO SELECT 1",
		"ALTER TABLE b ALTER id SET DEFAULT 1", "ALTER TABLE b ALTER id SET DEFAULT 2",
		"ALTER TABLE b ADD CONSTRAINT c CHECK (id > 0)",
		"ALTER TABLE b ADD FOREIGN KEY (a) REFERENCES a2 ON DELETE CASCADE",
		"CREATE POLICY p ON b USING (id > 1)", "ALTER POLICY p ON b USING (id > 2)",
		"CREATE INDEX i ON a2 (upper(v))", "CREATE INDEX ON a2 (v) WHERE id > 1", "DROP INDEX i",
		"ALTER TABLE part ATTACH PARTITION part_1 FOR VALUES IN (1)", "ALTER TABLE part DETACH PARTITION part_1",
		"CREATE DOMAIN d AS int", "ALTER DOMAIN d ADD CHECK (VALUE > 0)",
		"ALTER DOMAIN d SET DEFAULT 3",
		"CREATE FUNCTION h(int, int) RETURNS bool LANGUAGE sql AS 'SELECT true'",
		"CREATE OPERATOR ### (LEFTARG = int, RIGHTARG = int, FUNCTION = h)",
		"CREATE FUNCTION e() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
		"CREATE EVENT TRIGGER e ON ddl_command_end EXECUTE FUNCTION e()", "ALTER EVENT TRIGGER e DISABLE",
		"DROP FUNCTION h CASCADE", "DROP TRIGGER t ON a2",
		"ALTER TABLE b SET UNLOGGED", "ALTER TABLE b SET LOGGED",
		"CREATE FUNCTION k() RETURNS int LANGUAGE sql AS 'SELECT 1'", "ALTER FUNCTION k() STABLE",
		"CREATE SEQUENCE s2", "CREATE SCHEMA n", "ALTER TABLE b SET SCHEMA n", "ALTER SCHEMA n RENAME TO n2", "ALTER TABLE n2.b SET SCHEMA public",
		"CREATE MATERIALIZED VIEW m AS SELECT 1 AS x", "CREATE UNLOGGED TABLE u (id int)",
	} {
		pgtest.Exec(t, server, name, ddl)
		now := version()
		if now == last {
			t.Errorf("%s: version stays %s", ddl, now)
		}
		last = now
	}
	for _, sql := range []string{
		"SELECT 1", "INSERT INTO a2 VALUES (1, 'a')", "TRUNCATE a2 CASCADE", "VACUUM FULL a2", "VACUUM FREEZE", "ANALYZE", "CREATE INDEX ON b (id)", "SELECT nextval('s')",
		"CREATE TEMP TABLE x (id int)", "GRANT SELECT ON a2 TO PUBLIC",
	} {
		pgtest.Exec(t, server, name, sql)
		if now := version(); now != last {
			t.Errorf("%s: version changes", sql)
			last = now
		}
	}
}

func TestPinsDoesNotAllocate(t *testing.T) {
	s := schemaSnapshot(t, "")
	st := parser.NewCache(1 << 20).Statement([]byte("SELECT p.id, p.v, ok_local(p.v) FROM plain AS p JOIN orders AS o ON o.id = p.id WHERE p.id = 1"))
	if n := testing.AllocsPerRun(100, func() {
		if why := s.Pins(st); why != "" {
			t.Fatal(why)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkPins(b *testing.B) {
	st := parser.NewCache(1 << 20).Statement([]byte("SELECT p.id, p.v FROM plain AS p JOIN ok_orders AS o ON o.id = p.id WHERE p.id = 1"))
	_, _, q := database(b)
	for name, s := range map[string]*Snapshot{"nothing risky": load(b, q), "risky schema": schemaSnapshot(b, "")} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if why := s.Pins(st); why != "" {
					b.Fatal(why)
				}
			}
		})
	}
}

// BenchmarkCatalog reads a database of 3,000 functions and 500 tables.
func BenchmarkCatalog(b *testing.B) {
	server, name, q := database(b)
	var ddl strings.Builder
	for i := range 3000 {
		fmt.Fprintf(&ddl, "CREATE FUNCTION f%d(a int) RETURNS int LANGUAGE plpgsql AS $$ BEGIN /* %s */ UPDATE t1 SET id = a; RETURN 1; END $$;\n", i, strings.Repeat("x ", 500))
	}
	for i := range 500 {
		fmt.Fprintf(&ddl, "CREATE TABLE t%d (id serial PRIMARY KEY, v text CHECK (v <> ''));\n", i)
	}
	pgtest.Exec(b, server, name, ddl.String())
	pgtest.Exec(b, server, name, "VACUUM ANALYZE")
	b.Run("version", func(b *testing.B) {
		for b.Loop() {
			if _, err := Version(b.Context(), q); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("load", func(b *testing.B) {
		for b.Loop() {
			load(b, q)
		}
	})
}

// deadline bounds what a test waits for.
const deadline = time.Minute
