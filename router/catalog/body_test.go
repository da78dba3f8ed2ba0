package catalog

import "testing"

func TestScanBody(t *testing.T) {
	for _, c := range []struct {
		body       string
		procedural bool
		risky      bool
	}{
		{"BEGIN SET x = 1; END", true, true},
		{"<<l>> BEGIN set session authorization x; END", true, true},
		{"BEGIN UPDATE t SET x = 1; END", true, false},
		{"BEGIN set := 1; load = 2; reset.x := 3; END", true, false},
		{"SELECT 1; SET x = 1", false, true},
		{"SET LOCAL seed = 0.5", false, true},
		{"SELECT set_config('a', 'b', true)", false, false},
		{"SELECT set_config('a', f(1, 2), true::bool)", false, false},
		{"SELECT set_config('SEED', '0', true)", false, true},
		{"SELECT set_config('a', 'b', NOT true)", false, true},
		{"SELECT set_config('a', 'b', is_local => true)", false, true},
		{`SELECT "set_config"('a', 'b', 'f')`, false, true},
		{`SELECT U&"set\005fconfig"('a', 'b', false)`, false, true},
		{"SELECT set_/* */config", false, false},
		{"-- SELECT setseed(1)\nSELECT 1", false, false},
		{"/* a /* b */ setseed */ SELECT 1", false, false},
		{"SELECT 'no -- comment' , setseed(1)", false, true},
		{`SELECT 'a\', 1 --'`, false, true}, // a setting decides where the literal ends
		{`SELECT 'a\d', 1 --'`, false, false},
		{`SELECT 'it\''s'`, false, true},
		{"SELECT E'a\\'', setseed(1) --'", false, true},
		{"SELECT 1 AS temp, temporary FROM t", false, false},
		{"CREATE TABLE pg_temp.x ()", false, true},
		{"SELECT 1 INTO TEMP x", false, true},
		{"DECLARE c CURSOR WITH HOLD FOR SELECT 1", false, true},
		{"UPDATE ONLY pg_catalog.pg_settings SET setting = 1", false, true},
		{"SELECT * FROM pg_settings", false, false},
		{"BEGIN EXECUTE 'SELECT 1' INTO x; END", true, false},
		{"BEGIN EXECUTE 'SELECT 1' || x; END", true, true},
		{"BEGIN EXECUTE 'SEL'\n'ECT 1'; END", true, true},
		{"BEGIN EXECUTE 'DISCARD ALL'; END", true, true},
		{`BEGIN EXECUTE E'SELECT set\x5fconfig()'; END`, true, true},
		{"BEGIN EXECUTE 'DO $x$BEGIN EXECUTE y; END$x$'; END", true, true},
		{"BEGIN EXECUTE format('UPDATE t SET a = %L, b = %L', x, y) USING z; END", true, false},
		{"BEGIN EXECUTE format('UPDATE t SET a = %L', x) || y; END", true, true},
		{"BEGIN EXECUTE format('SELECT %s', x); END", true, true},
		{"BEGIN EXECUTE format('SELECT x%L', x); END", true, true},
		{"BEGIN GRANT EXECUTE ON FUNCTION f() TO x; CREATE TRIGGER t BEFORE INSERT ON t EXECUTE FUNCTION f(); END", true, false},
		{"BEGIN EXECUTE execute; END", true, true},
		{"BEGIN OPEN c FOR EXECUTE q USING 1; END", true, true},
		{"BEGIN RAISE NOTICE 'please set it, then reset'; END", true, false},
		{"BEGIN PERFORM run('SELECT pg_advisory_lock(1)'); END", true, true},
		{"SELECT 'unfinished", false, true},
		{"/* unfinished", false, true},
		{"SELECT dblink_connect('x')", false, true},
		{"SELECT pg_advisory_xact_lock(1), pg_try_advisory_xact_lock(2)", false, false},
	} {
		got := scanBody(newRisks(), c.body, c.procedural)
		if (got.why != "") != c.risky {
			t.Errorf("%s: got %q, want risky %v", c.body, got.why, c.risky)
		}
	}
}

func TestBodyWritesAndChangesSchema(t *testing.T) {
	for _, c := range []struct {
		body           string
		procedural     bool
		writes, schema bool
	}{
		{"BEGIN SELECT a INTO b FROM t; END", true, false, false},
		{"SELECT a INTO b FROM t", false, false, true},
		{"BEGIN DELETE FROM t; END", true, true, false},
		{"BEGIN EXECUTE 'DROP TABLE t'; END", true, true, true},
	} {
		got := scanBody(newRisks(), c.body, c.procedural)
		if got.writes != c.writes || got.schema != c.schema {
			t.Errorf("%s: got writes %v schema %v, want %v %v", c.body, got.writes, got.schema, c.writes, c.schema)
		}
	}
}

// FuzzBody holds the scanner to what must be true of any body: it ends, and a call of setseed() behind it is seen
// unless an open literal or comment swallows it, which is risky as well.
func FuzzBody(f *testing.F) {
	for _, body := range []string{"", "SELECT 'a''b' $$x$$ $1 -- c", "BEGIN EXECUTE format('%L', 1); END", `E'\'' U&"x" "a""b" /* /* */`, "é$a$b$a$", "set_config('a', b, true)"} {
		f.Add(body, true)
	}
	f.Fuzz(func(t *testing.T, body string, procedural bool) {
		scanBody(newRisks(), body, procedural)
		if got := scanBody(newRisks(), body+"\n; SELECT setseed(1)", procedural); got.why == "" {
			t.Errorf("setseed() behind %q is missed", body)
		}
		if got := scanBody(newRisks(), "setseed(1) "+body, procedural); got.why == "" {
			t.Errorf("setseed() before %q is missed", body)
		}
	})
}
