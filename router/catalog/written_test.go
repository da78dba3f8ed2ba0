package catalog

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/parser"
)

// TestWrittenHoldsWhatChanges compares Written with what it should say, and with the tables whose rows a server really changes.
func TestWrittenHoldsWhatChanges(t *testing.T) {
	shard, database := readingShard(t)
	conn := connect(t, shard.Manager, database)
	s := load(t, pgtest.NewQuerier(conn))
	cache := parser.NewCache(1 << 20)
	for _, c := range []struct{ sql, want string }{
		{"SELECT * FROM users", ""},
		{"SELECT * FROM v_lock", ""},
		{"SELECT * FROM users FOR UPDATE", ""},
		{"INSERT INTO audit (what) VALUES ('x')", "public.audit"},
		{"INSERT INTO sales.invoices (user_id) VALUES (1)", "sales.invoices"},
		{"UPDATE archive.invoices SET total = 1", "archive.invoices"},
		{"DELETE FROM sales.invoices", "sales.invoices sales.items"},
		{"UPDATE sales.invoices SET id = id + 1000", "sales.invoices sales.items"},
		{"DELETE FROM users WHERE id = 20", "public.users sales.invoices sales.items"},
		{"INSERT INTO users (id, name) VALUES (99, 'x')", "public.users"},
		{"INSERT INTO users (id, name) VALUES (20, 'x') ON CONFLICT (id) DO UPDATE SET name = 'y'", "public.users"},
		{"WITH x AS (DELETE FROM users WHERE id = 20) UPDATE counters SET n = 1", "public.counters public.users sales.invoices sales.items"},
		{"WITH x AS (DELETE FROM users WHERE id > 18) INSERT INTO counters VALUES (1)", "public.counters public.users sales.invoices sales.items"},
		{"INSERT INTO settings_of VALUES ('c', '3')", "public.audit public.settings_of"},
		{"TRUNCATE settings_of", "public.audit public.counters public.settings_of"},
		{"TRUNCATE archive.invoices", "archive.invoices"},
		{"INSERT INTO ruled_both VALUES (2)", "public.audit public.ruled_both"},
		{"INSERT INTO v_instead VALUES (1)", "public.counters public.users sales.invoices sales.items"},
		{"UPDATE v_users SET name = 'x'", "public.users sales.invoices sales.items"},
		{"UPDATE events SET kind = 'z' WHERE id = 2", "public.events public.events_2023 public.events_2024 public.events_2024_a public.events_2024_rest"},
		{"DELETE FROM events_2024_a", "public.events_2024_a"},
		{"DELETE FROM cities", "public.capitals public.cities"},
		{"SELECT writes('x')", "public.audit"},
		{"SELECT writes_sql()", "public.counters"},
		{"SELECT sta_writes('x')", "public.audit"},
		{"SELECT nextval('seq')", ""},
		{"SELECT gen_random_uuid(), uuid_generate_v4()", ""},
		{"WITH x AS (INSERT INTO audit (what) VALUES ('x') RETURNING what), y AS (DELETE FROM counters RETURNING n) SELECT * FROM x, y", "public.audit public.counters"},
		{"MERGE INTO counters c USING users u ON c.n = u.id WHEN MATCHED THEN UPDATE SET n = 7", "public.counters"},
		{"REFRESH MATERIALIZED VIEW m_users", "public.m_users"},
		{"EXPLAIN ANALYZE INSERT INTO audit (what) VALUES ('x')", "public.audit"},
		{"EXPLAIN INSERT INTO audit (what) VALUES ('x')", ""},
		{"DECLARE c CURSOR FOR SELECT writes('x')", "public.audit"},
		{"COPY (INSERT INTO audit (what) VALUES ('x') RETURNING 1) TO STDOUT", "public.audit"},
		{"INSERT INTO indexed VALUES (5)", "public.indexed"},
		{"INSERT INTO people (name) VALUES ('x')", "public.people"},
		{"SET work_mem = '5MB'", ""},
		{"INSERT INTO invoices VALUES (5)", "archive.invoices sales.invoices"},
		{"UPDATE stamped SET id = 2", "public.stamped"},
		{"DELETE FROM with_large", "*"},
		{"INSERT INTO logs_1 VALUES (1, 1)", "public.audit public.logs_1"},
		{"INSERT INTO logs VALUES (1, 1)", "public.audit public.logs public.logs_1"},
		{"SELECT empties()", "public.audit public.counters public.settings_of"},
		{"SELECT makes()", "*"},
		{"SELECT sets_comment()", "public.counters"},
		{"SELECT atomic_writes()", "sales.invoices sales.items"},
		{"SELECT lo_create(0)", "*"},
		{"SELECT lo_from_bytea(0, '')", "*"},
		{"CALL proc_writes()", "*"},
		{"DO $$ BEGIN DELETE FROM counters; END $$", "*"},
		{"CREATE TABLE made (id int)", "*"},
		{"SELECT 1 AS a INTO made", "*"},
		{"TRUNCATE users CASCADE", "*"},
		{"ANALYZE users", "*"},
		{"SELECT dynamic('DELETE FROM counters')", "*"},
		{"SELECT never_made()", "*"},
		{"INSERT INTO nowhere VALUES (1)", "*"},
		{"INSERT INTO pg_temp.x VALUES (1)", "*"},
		{"UPDATE pg_class SET relname = relname WHERE false", "*"},
		{"EXECUTE p", "*"},
	} {
		st := cache.Statement([]byte(c.sql))
		tables, all := s.Written(&st.Commands[0])
		got := strings.Join(tables, " ")
		if all {
			got = "*"
		}
		if got != c.want {
			t.Errorf("%s: got %q, want %q", c.sql, got, c.want)
		}
		for _, table := range changed(t, conn, c.sql) {
			if !all && !slices.Contains(tables, table) {
				t.Errorf("%s: changes %s, but only %q was expected", c.sql, table, got)
			}
		}
	}
}

// TestWritingTellsOfCode that somebody may make anew while it runs.
func TestWritingTellsOfCode(t *testing.T) {
	s := relations(t, `
		CREATE TABLE a (id int);
		CREATE TABLE watched (id int);
		CREATE FUNCTION one() RETURNS int LANGUAGE plpgsql STABLE AS 'BEGIN RETURN 1; END';
		CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
		CREATE VIEW v AS SELECT one() AS id FROM a;
		CREATE TRIGGER noted BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION noted();`)
	cache := parser.NewCache(1 << 20)
	for sql, want := range map[string]bool{
		"SELECT * FROM a": false, "SELECT lower('x')": false, "INSERT INTO a VALUES (1)": false, "SELECT * FROM watched": false,
		"SELECT one()": true, "SELECT * FROM v": true, "DECLARE c CURSOR FOR SELECT one()": true, "INSERT INTO watched VALUES (1)": true,
	} {
		if got := s.Writing(&cache.Statement([]byte(sql)).Commands[0]).Code; got != want {
			t.Errorf("%s: got %v", sql, got)
		}
	}
}

// changed runs a statement, rolls it back, and returns the tables whose rows it changed. What the server rejects changes none.
func changed(t *testing.T, conn *pgconn.PgConn, sql string) []string {
	t.Helper()
	var found []string
	for _, command := range []string{"BEGIN", "SAVEPOINT s"} {
		if _, err := text(t.Context(), conn, command); err != nil {
			t.Fatal(err)
		}
	}
	before := tableSums(t, conn)
	commands := []string{sql}
	if strings.HasPrefix(sql, "DECLARE") {
		commands = append(commands, "FETCH ALL FROM c")
	}
	for _, command := range commands {
		if _, err := text(t.Context(), conn, command); err != nil {
			commands = nil
		}
	}
	if commands != nil {
		for table, sum := range tableSums(t, conn) {
			if before[table] != sum {
				found = append(found, table)
			}
		}
	}
	if _, err := text(t.Context(), conn, "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	return found
}

// tableSums are the checksums of all tables' rows, by "schema.name".
func tableSums(t *testing.T, conn *pgconn.PgConn) map[string]string {
	t.Helper()
	rows, err := text(t.Context(), conn, `SELECT n.nspname || '.' || c.relname, xpath('//x/text()', query_to_xml(format(
		'SELECT md5(string_agg(r::text, '','' ORDER BY r::text)) AS x FROM ONLY %s AS r', c.oid::regclass), true, false, ''))
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE c.relkind IN ('r', 'm') AND c.relispopulated AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')`)
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]string{}
	for line := range strings.Lines(rows) {
		table, sum, _ := strings.Cut(line, "|")
		sums[table] = sum
	}
	return sums
}

func TestTablesHoldWhatIsRead(t *testing.T) {
	shard, database := readingShard(t)
	s := load(t, pgtest.NewQuerier(connect(t, shard.Manager, database)))
	cache := parser.NewCache(1 << 20)
	for sql, want := range map[string]string{
		"SELECT 1":                                                       "",
		"SELECT * FROM v_three":                                          "public.users sales.invoices",
		"SELECT * FROM events":                                           "public.events public.events_2023 public.events_2024 public.events_2024_a public.events_2024_rest",
		"SELECT * FROM cities":                                           "public.capitals public.cities",
		"SELECT * FROM invoices":                                         "archive.invoices sales.invoices",
		"SELECT * FROM sales.invoices":                                   "sales.invoices",
		"SELECT sta_view(), sta_atomic(1), definer()":                    "public.users sales.invoices sales.items",
		"SELECT * FROM rls_lookup":                                       "public.rls_lookup public.settings_of",
		"SELECT u.of_user FROM v_users u":                                "public.settings_of public.users",
		"SELECT 1 <#!> 2":                                                "public.settings_of",
		"SELECT * FROM m_of_view":                                        "public.m_of_view",
		"COPY (SELECT * FROM v_both) TO STDOUT":                          "public.users sales.invoices",
		"SELECT 1 FROM counters; SELECT 2 FROM users, counters":          "public.counters public.users",
		"SELECT * FROM pg_tables":                                        "pg_catalog.pg_class pg_catalog.pg_namespace pg_catalog.pg_tablespace",
		"SELECT sta_dynamic_literal() FROM (VALUES (1)) AS counters":     "public.users",
		"WITH users AS (SELECT 1) SELECT * FROM users, archive.invoices": "archive.invoices",
	} {
		r := s.Reading(cache.Statement([]byte(sql)))
		if got := strings.Join(r.Tables, " "); got != want || r.Verdict != Read {
			t.Errorf("%s: got %s of %q (%s), want a read of %q", sql, r.Verdict, got, r.Reason, want)
		}
	}
}

// TestEvidenceIsTheSameEachTime guards the golden reasons: they must not depend on the order of a map.
func TestEvidenceIsTheSameEachTime(t *testing.T) {
	shard, database := readingShard(t)
	q := pgtest.NewQuerier(connect(t, shard.Manager, database))
	first, second := load(t, q).evidence, load(t, q).evidence
	if !maps.Equal(first.local, second.local) || !maps.Equal(first.unproved, second.unproved) {
		t.Error("two loads of one catalog give different reasons")
	}
}

// TestBehindHoldsWhatTextsDoNotShow has tables that a text names, and those that it reaches in another way.
func TestBehindHoldsWhatTextsDoNotShow(t *testing.T) {
	server, name, q := database(t)
	pgtest.Exec(t, server, name, `
		CREATE TABLE a (id int PRIMARY KEY, up int REFERENCES a ON DELETE CASCADE);
		CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a ON DELETE SET NULL);
		CREATE TABLE log (what text);
		CREATE VIEW v AS SELECT * FROM b;
		CREATE FUNCTION of_b() RETURNS bigint STABLE LANGUAGE sql AS 'SELECT count(*) FROM b';
		CREATE FUNCTION logs() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO log VALUES (TG_OP); RETURN NULL; END';
		CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE twice SET id = id; RETURN NULL; END';
		CREATE TABLE twice (id int);
		CREATE TRIGGER t AFTER INSERT OR DELETE ON b FOR EACH ROW EXECUTE FUNCTION logs();
		CREATE TRIGGER t AFTER INSERT ON twice FOR EACH ROW EXECUTE FUNCTION again();
		CREATE TABLE k (id int PRIMARY KEY, other int);
		CREATE TABLE l (k int UNIQUE REFERENCES k ON UPDATE CASCADE);
		CREATE TABLE m (l int REFERENCES l (k) ON UPDATE SET NULL);
		CREATE TABLE sets_keys (id int PRIMARY KEY, v int);
		CREATE TABLE of_keys (id int REFERENCES sets_keys ON UPDATE CASCADE);
		CREATE FUNCTION sets() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.id := 7; RETURN NEW; END';
		CREATE TRIGGER t BEFORE UPDATE ON sets_keys FOR EACH ROW EXECUTE FUNCTION sets();
		CREATE TABLE parent (id int);
		CREATE TABLE child () INHERITS (parent);
		CREATE TABLE own (id int, owner text);
		ALTER TABLE own ENABLE ROW LEVEL SECURITY;
		CREATE POLICY p ON own USING (owner = current_user);
		CREATE TABLE around (id int);
		CREATE VIEW v_around AS SELECT * FROM around;
		ALTER TABLE around ENABLE ROW LEVEL SECURITY;
		CREATE POLICY p ON around USING (id IN (SELECT id FROM v_around));`)
	s := load(t, q)
	cache := parser.NewCache(1 << 20)
	for sql, want := range map[string]string{
		"SELECT * FROM a, b":                "",
		"SELECT * FROM v":                   "public.b",
		"SELECT * FROM v, b":                "public.b",
		"SELECT of_b() FROM a":              "public.b",
		"SELECT of_b() FROM b":              "public.b",
		"SELECT * FROM a; SELECT * FROM v":  "public.b",
		"SELECT * FROM parent":              "public.child",
		"SELECT * FROM parent, child":       "public.child",
		"SELECT * FROM child":               "",
		"SELECT * FROM own":                 "",
		"SELECT * FROM around":              "public.around",
		"INSERT INTO a VALUES (1)":          "",
		"DELETE FROM a":                     "public.a public.b public.log",
		"UPDATE a SET id = 2, up = 1":       "",
		"UPDATE k SET id = 2":               "public.l public.m",
		"UPDATE k SET other = 2":            "",
		"UPDATE k SET (other, id) = (2, 3)": "public.l public.m",
		"INSERT INTO k VALUES (1) ON CONFLICT (id) DO UPDATE SET id = 2":             "public.l public.m",
		"INSERT INTO k VALUES (1) ON CONFLICT (id) DO UPDATE SET other = 2":          "",
		"INSERT INTO k VALUES (1) ON CONFLICT DO NOTHING":                            "",
		"MERGE INTO k USING a ON k.id = a.id WHEN MATCHED THEN UPDATE SET other = 1": "public.l public.m",
		"UPDATE sets_keys SET v = 2":                                                 "public.of_keys",
		"DELETE FROM b":                                                              "public.log",
		"INSERT INTO b VALUES (1)":                                                   "public.log",
		"INSERT INTO twice VALUES (1)":                                               "public.twice",
		"INSERT INTO log VALUES ('x')":                                               "",
		"INSERT INTO v VALUES (1)":                                                   "public.b public.log",
		"UPDATE parent SET id = 1":                                                   "public.child",
		"UPDATE own SET id = 1":                                                      "",
		"WITH x AS (DELETE FROM log) DELETE FROM own":                                "",
		"WITH x AS (DELETE FROM log) INSERT INTO b SELECT":                           "public.log",
	} {
		st := cache.Statement([]byte(sql))
		got := s.Writing(&st.Commands[0]).Behind
		if r := s.Reading(st); r.Verdict == Read {
			got = r.Behind
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %q, want %q", sql, got, want)
		}
	}
}
