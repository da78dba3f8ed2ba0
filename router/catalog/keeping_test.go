package catalog

import (
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/parser"
)

const keepingFile = "testdata/keeping.golden"

// keepingServer is a manager with a database of keeping.sql and what it needs.
func keepingServer(t testing.TB) (server *localpg.Server, database string) {
	t.Helper()
	shard, database := readingShard(t)
	schema, err := os.ReadFile("testdata/keeping.sql")
	if err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, shard.Manager, database, string(schema))
	return shard.Manager, database
}

func loadAnswers(t testing.TB, q Querier) *Snapshot {
	t.Helper()
	s, err := Load(t.Context(), q, Answers)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// keepingCase is one statement of keeping.golden.
type keepingCase struct {
	line   int // index into the lines of the file
	kept   bool
	sql    string
	reason string
}

func keepingCases(t *testing.T) (lines []string, cases []keepingCase) {
	t.Helper()
	text, err := os.ReadFile(keepingFile)
	if err != nil {
		t.Fatal(err)
	}
	lines = strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	for i, line := range lines {
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case strings.HasPrefix(line, "    ") && len(cases) > 0:
			cases[len(cases)-1].reason = strings.TrimSpace(line)
		case word == "kept", word == "not":
			cases = append(cases, keepingCase{line: i, kept: word == "kept", sql: rest})
		default:
			t.Fatalf("%s:%d: %q is no statement", keepingFile, i+1, line)
		}
	}
	return lines, cases
}

// TestKeepingGolden compares verdicts and reasons with the file.
func TestKeepingGolden(t *testing.T) {
	server, database := keepingServer(t)
	s := loadAnswers(t, pgtest.NewQuerier(connect(t, server, database)))
	cache := parser.NewCache(1 << 24)
	lines, cases := keepingCases(t)
	reasons := map[int]string{}
	for _, c := range cases {
		st := cache.Statement([]byte(c.sql))
		got := s.Keeping(st)
		if got.Kept != c.kept {
			t.Errorf("%s:%d: %s: got kept %v (%s)", keepingFile, c.line+1, c.sql, got.Kept, got.Reason)
		}
		if got.Reason != c.reason && !*update {
			t.Errorf("%s:%d: %s: got reason %q, want %q", keepingFile, c.line+1, c.sql, got.Reason, c.reason)
		}
		if want := s.Reading(st).Tables; got.Kept && !slices.Equal(got.Tables, want) {
			t.Errorf("%s: got tables %q, want %q", c.sql, got.Tables, want)
		}
		if stored := strings.Contains(c.sql, " m_users") || strings.Contains(c.sql, " k_stored"); stored != (len(got.Stored) > 0) {
			t.Errorf("%s: got stored %q", c.sql, got.Stored)
		}
		reasons[c.line] = got.Reason
	}
	if *update {
		writeGolden(t, keepingFile, lines, reasons)
	}
}

// TestKeptAnswersStayTheSame runs every statement that is kept, of both golden files and a call of each function of the server with a
// table beside it, in two sessions, with all between that a server does without a write of rows that they read: time passes, transactions begin and end,
// rows are locked and move. It does the same with statements that are not kept, many of which must then answer otherwise, or it would prove nothing.
func TestKeptAnswersStayTheSame(t *testing.T) {
	server, database := keepingServer(t)
	first := connect(t, server, database)
	pgtest.Exec(t, server, database, `CREATE TABLE beside (id int); INSERT INTO beside SELECT generate_series(1, 1000);
		INSERT INTO orders_kept SELECT 99, made, due, opens, 'now', '{"d": "now"}', 'now', '{now}', body, price, feels FROM orders_kept WHERE id = 1;
		CREATE FUNCTION said(a text) RETURNS timestamptz STABLE LANGUAGE plpgsql AS $$ DECLARE d timestamptz; BEGIN d := a; RETURN d; END $$;
		CREATE VIEW said AS SELECT made_text::timestamptz AS d FROM orders_kept`)
	s := loadAnswers(t, pgtest.NewQuerier(first))
	cache := parser.NewCache(1 << 24)
	var statements []string
	_, cases := keepingCases(t)
	for _, c := range cases {
		if c.kept && !strings.Contains(c.sql, "$1") && !strings.Contains(c.sql, "k_imm_date") { // whose author says what is not so
			statements = append(statements, c.sql)
		}
	}
	for _, c := range goldenCases(t, goldenLines(t)) {
		statements = append(statements, c.sql)
		if c.varies && s.Keeping(cache.Statement([]byte(c.sql))).Kept {
			t.Errorf("%s: is kept, and answers otherwise each time", c.sql)
		}
	}
	for _, call := range lines(t, first, sampleCalls) {
		statements = append(statements, strings.Replace(call, "SELECT * FROM ", "SELECT x.* FROM users AS one, ", 1)+" WHERE one.id = 1")
	}
	statements = slices.DeleteFunc(statements, func(sql string) bool { return !s.Keeping(cache.Statement([]byte(sql))).Kept })
	if len(statements) < 1500 {
		t.Errorf("only %d statements are kept", len(statements))
	}
	controls := []string{"SELECT now() FROM users", "SELECT random()", "SELECT current_timestamp", "SELECT pg_backend_pid()", "SELECT ctid FROM beside",
		"SELECT count(*) FROM beside WHERE xmax <> 0", "SELECT txid_current_snapshot()", "SELECT count(*) FROM beside TABLESAMPLE bernoulli (50)",
		"SELECT 'now'::timestamptz", "SELECT k_now_sql()", "SELECT * FROM k_now",
		"SELECT clock_timestamp()", "SELECT 'now'::time", "SELECT * FROM said", "SELECT said(made_text) FROM orders_kept", "SELECT made_text::timestamptz FROM orders_kept",
		"SELECT (doc->>'d')::timestamptz FROM orders_kept", "SELECT tag::timestamptz[] FROM orders_kept", "SELECT x.* FROM orders_kept, jsonb_to_record(doc) AS x(d timestamptz)",
		`SELECT "timestamp"(made_text) FROM orders_kept`,
		"SELECT date_trunc('second', now()) FROM users"}
	before := answersOf(t, first, append(slices.Clone(statements), controls...))
	disturb(t, server, database)
	after := answersOf(t, connect(t, server, database), append(slices.Clone(statements), controls...))
	for i, sql := range statements {
		if before[i] != after[i] {
			t.Errorf("%s: is kept (%s), and answers\n%.300s\nthen\n%.300s", sql, s.Keeping(cache.Statement([]byte(sql))).Reason, before[i], after[i])
		}
	}
	changed := 0
	for i, sql := range controls {
		if k := s.Keeping(cache.Statement([]byte(sql))); k.Kept {
			t.Errorf("%s: is kept", sql)
		}
		if before[len(statements)+i] != after[len(statements)+i] {
			changed++
		}
	}
	if changed < len(controls) {
		t.Errorf("only %d of %d statements that are not kept answer otherwise", changed, len(controls))
	}
}

// answersOf runs statements and returns their rows, or errors, as text.
func answersOf(t *testing.T, conn *pgconn.PgConn, statements []string) (answers []string) {
	t.Helper()
	for _, sql := range statements {
		rows, err := text(t.Context(), conn, sql)
		if err != nil {
			rows = "error " + err.Error()
		}
		answers = append(answers, rows)
	}
	return answers
}

// disturb does what changes no row that the statements read.
func disturb(t *testing.T, server *localpg.Server, database string) {
	t.Helper()
	conn := connect(t, server, database)
	start := lines(t, conn, "SELECT extract(epoch FROM clock_timestamp())::numeric(20, 3)")[0]
	for _, sql := range []string{
		"DELETE FROM beside WHERE id % 2 = 0", "VACUUM FULL users", "VACUUM FULL sales.invoices", "VACUUM FULL beside",
		"VACUUM FREEZE users, sales.invoices, orders_kept", "ANALYZE users, sales.invoices, orders_kept, beside",
		"BEGIN; SELECT * FROM users FOR UPDATE; SELECT * FROM sales.invoices FOR UPDATE; SELECT * FROM orders_kept FOR UPDATE; SELECT * FROM beside FOR UPDATE; COMMIT",
		"BEGIN; SELECT pg_current_xact_id(); COMMIT", "CHECKPOINT", "INSERT INTO beside VALUES (0)", "SELECT pg_stat_reset()",
	} {
		for _, one := range strings.Split(sql, "; ") {
			if _, err := text(t.Context(), conn, one); err != nil {
				t.Fatalf("%s: %v", one, err)
			}
		}
	}
	for end := time.Now().Add(deadline); time.Now().Before(end); {
		if lines(t, conn, "SELECT extract(epoch FROM clock_timestamp()) > "+start+" + 1.1")[0] == "t" {
			return
		}
	}
	t.Fatal("time stands still")
}

// TestEveryStableBuiltinIsJudged holds the lists to a real server: every name exists, and a call of every function that is not immutable is kept if it is
// listed, and else not.
func TestEveryStableBuiltinIsJudged(t *testing.T) {
	server, database := keepingServer(t)
	conn := connect(t, server, database)
	s := loadAnswers(t, pgtest.NewQuerier(conn))
	cache := parser.NewCache(1 << 24)
	names := lines(t, conn, "SELECT DISTINCT proname FROM pg_proc WHERE oid < 16384 AND provolatile = 's'")
	every := lines(t, conn, "SELECT DISTINCT proname FROM pg_proc WHERE oid < 16384")
	patterns := func(lists []group) (all []string) {
		for _, list := range lists {
			all = append(all, strings.Fields(list.names)...)
		}
		return all
	}
	for _, pattern := range patterns(keptBuiltins[:]) {
		if !slices.ContainsFunc(names, func(name string) bool { return matches(pattern, name) }) {
			t.Errorf("no stable function is called %s", pattern)
		}
	}
	for _, pattern := range append(patterns(changingBuiltins[:]), strings.Fields(looksElsewhere)...) {
		if !slices.ContainsFunc(every, func(name string) bool { return matches(pattern, name) }) {
			t.Errorf("no function is called %s", pattern)
		}
	}
	kept, refused := 0, 0
	for _, row := range lines(t, conn, `SELECT proname, provolatile, oid::regprocedure, format('SELECT pg_catalog.%I(%s)%s FROM users', proname,
			(SELECT string_agg('NULL', ', ') FROM unnest(proargtypes)), CASE prokind WHEN 'w' THEN ' OVER ()' END)
		FROM pg_proc p WHERE oid < 16384 AND provolatile <> 'i' AND pronamespace = 'pg_catalog'::regnamespace AND prokind <> 'p' AND NOT `+hiddenColumn) {
		f := strings.Split(row, "|")
		want := f[1] == "s" && clockless(f[0])
		k := s.Keeping(cache.Statement([]byte(f[3])))
		if f[2] == "timezone(text,time with time zone)" {
			want = true // judged by the types of columns
		}
		if k.Kept != want {
			t.Errorf("%s: %s: got kept %v (%s)", f[2], f[3], k.Kept, k.Reason)
		}
		if k.Kept {
			kept++
		} else {
			refused++
		}
	}
	t.Logf("%d kept, %d refused", kept, refused)
	if kept < 100 || refused < 300 {
		t.Errorf("%d kept, %d refused", kept, refused)
	}
}

// TestServersOwnObjectsAreKept: what calls functions of the server without a name in the text, its operators, casts, and input and output of its
// types, calls only functions that are kept, or has a type that is not.
func TestServersOwnObjectsAreKept(t *testing.T) {
	conn := connect(t, servers.Cluster(t).Shards[0].Manager, "postgres")
	checked := 0
	for _, row := range lines(t, conn, `SELECT 'operator', replace(o.oid::regoperator::text, '|', '/'), p.proname, p.provolatile FROM pg_operator o JOIN pg_proc p ON p.oid = o.oprcode
			WHERE o.oid < 16384 AND p.provolatile <> 'i'
		UNION ALL SELECT 'cast', castsource::regtype || ' AS ' || casttarget::regtype, p.proname, p.provolatile FROM pg_cast c JOIN pg_proc p ON p.oid = c.castfunc
			WHERE c.oid < 16384 AND p.provolatile <> 'i' AND casttarget NOT IN (`+namedTypes+`) AND castsource NOT IN (`+namedTypes+`)
		UNION ALL SELECT 'support', amproc::text, p.proname, p.provolatile FROM pg_amproc a JOIN pg_proc p ON p.oid = a.amproc
			WHERE a.oid < 16384 AND p.provolatile <> 'i'
		UNION ALL SELECT 'aggregate', a.aggfnoid::text, p.proname, p.provolatile FROM pg_aggregate a
			JOIN pg_proc p ON p.oid IN (a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggmtransfn, a.aggmfinalfn) AND NOT `+hiddenColumn+`
			WHERE a.aggfnoid < 16384 AND p.provolatile <> 'i'`) {
		checked++
		if f := strings.Split(row, "|"); f[3] != "s" || !clockless(f[2]) {
			t.Errorf("%s %s calls %s()", f[0], f[1], f[2])
		}
	}
	if checked < 40 {
		t.Errorf("only %d objects call a function that is not immutable", checked)
	}
	known := `money interval xml text bpchar varchar name refcursor regconfig regdictionary pg_*` // see keptBuiltins; send and receive depend on client_encoding
	rows := lines(t, conn, `SELECT t.typname, string_agg(p.proname, ' ') FROM pg_type t JOIN pg_proc p ON p.oid IN (t.typinput, t.typoutput, t.typreceive, t.typsend)
		WHERE t.typtype = 'b' AND t.typcategory <> 'A' AND p.provolatile <> 'i' AND t.oid < 16384 AND t.oid NOT IN (`+namedTypes+`, `+datedTypes+`) GROUP BY 1`)
	for _, row := range rows {
		if name, uses, _ := strings.Cut(row, "|"); !matches(known, name) {
			t.Errorf("values of type %s are read and printed by %s", name, uses)
		}
	}
	if len(rows) < 5 {
		t.Errorf("only %d types have functions that are not immutable", len(rows))
	}
}

// TestDateInputKnowsTimeWords holds TimeWord to the server: texts made of its words and of what stands around them are read as values of several types, and
// what comes near today must have a word. Many must, or it would prove nothing.
func TestDateInputKnowsTimeWords(t *testing.T) {
	server, database := keepingServer(t)
	conn := connect(t, server, database)
	pgtest.Exec(t, server, database, `CREATE FUNCTION near_today(kind text, v text) RETURNS bool LANGUAGE plpgsql AS $$ DECLARE d timestamptz; BEGIN
		CASE kind WHEN 'timestamptz' THEN d := v::timestamptz; WHEN 'date' THEN d := v::date; WHEN 'array' THEN d := (v::date[])[1];
			WHEN 'range' THEN d := coalesce(lower(v::tstzrange), upper(v::tstzrange)); WHEN 'row' THEN d := (v::tenses).d; END CASE;
		RETURN isfinite(d) AND d BETWEEN now() - interval '3 days' AND now() + interval '3 days'; EXCEPTION WHEN others THEN RETURN false; END $$`)
	random := rand.New(rand.NewPCG(1, 2))
	pick := func(list ...string) string { return list[random.IntN(len(list))] }
	shapes := map[string][]string{"timestamptz": {"%"}, "date": {"%"}, "array": {"{%}", "{%,2024-01-01}"}, "range": {"[%,)", "(,%]"}, "row": {"(%,x)"}}
	near, total := 0, 0
	for kind, patterns := range shapes {
		var rows []string
		for range 2000 {
			word := pick("now", "today", "tomorrow", "yesterday", "epoch", "allballs", "infinity", "nov", "2024-01-01")
			if random.IntN(2) == 0 {
				at := random.IntN(len(word) + 1)
				word = word[:at] + pick("", " ", "\\", `"`, `\"`, `""`, "x", "W", "_", ".", "-", "0", "\t") + word[at:]
			}
			if random.IntN(3) == 0 {
				word = strings.ToUpper(word)
			}
			word = pick("", " ", "x", "04:05", "_", "@", "0", `"`, "J", "T", "#") + word + pick("", " ", "x", "04:05", " 04:05", "z", " utc", ".", "0", `"`, ",", "s")
			rows = append(rows, "('"+strings.ReplaceAll(pick(patterns...), "%", word)+"')")
		}
		for _, row := range lines(t, conn, "SELECT DISTINCT encode(convert_to(v, 'UTF8'), 'hex') FROM (VALUES "+strings.Join(rows, ", ")+") AS x (v) WHERE near_today('"+kind+"', v)") {
			value, err := hex.DecodeString(row)
			if err != nil {
				t.Fatal(err)
			}
			if near++; !parser.TimeWord(value) {
				t.Errorf("%q is read near today as %s", value, kind)
			}
		}
		total += len(rows)
	}
	t.Logf("%d of %d texts are read near today", near, total)
	if near < 200 {
		t.Errorf("only %d of %d texts are read near today", near, total)
	}
}

func TestNilSnapshotKeepsNothing(t *testing.T) {
	st := parser.NewCache(1 << 20).Statement([]byte("SELECT 1"))
	var s *Snapshot
	if k := s.Keeping(st); k.Kept || k.Reason != NotRead || s.KeepsParameter(0) {
		t.Errorf("got kept %v (%s)", k.Kept, k.Reason)
	}
}

func TestSnapshotWithoutAnswersKeepsNothing(t *testing.T) {
	_, _, q := database(t)
	s := load(t, q)
	if k := s.Keeping(parser.NewCache(1 << 20).Statement([]byte("SELECT 1"))); k.Kept || s.KeepsParameter(0) {
		t.Errorf("got kept %v (%s)", k.Kept, k.Reason)
	}
}

func TestKeepsParameter(t *testing.T) {
	server, database := keepingServer(t)
	conn := connect(t, server, database)
	s := loadAnswers(t, pgtest.NewQuerier(conn))
	for name, want := range map[string]bool{"int": true, "text": true, "timestamptz": true, "regclass": false, "regclass[]": false, "timetz": false, "table_name": false,
		"table_name[]": false, "with_name": false, "has_regclass": false, "time": false, "time[]": false, "hour": false, "users": true, "mood": true, "aclitem[]": false, "tenses": true} {
		oid, err := oids(lines(t, conn, "SELECT '"+name+"'::regtype::oid")[0])
		if err != nil {
			t.Fatal(err)
		}
		if got := s.KeepsParameter(oid[0]); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	if !s.KeepsParameter(0) {
		t.Error("a parameter of no declared type is refused")
	}
}

// TestVersionTellsWhatAnswersDependOn runs DDL of which queryVersion alone does not tell.
func TestVersionTellsWhatAnswersDependOn(t *testing.T) {
	server, name, q := database(t)
	pgtest.Exec(t, server, name, `CREATE TABLE a (id int, v text); CREATE TYPE mood AS ENUM ('a'); CREATE TYPE pair AS (a int);
		CREATE TEXT SEARCH CONFIGURATION c (COPY = english)`)
	version := func() string {
		t.Helper()
		v, err := Version(t.Context(), q, Answers)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	last := version()
	for _, ddl := range []string{
		"ALTER TABLE a ADD n int", "ALTER TABLE a RENAME n TO m", "ALTER TABLE a ALTER m TYPE bigint", "ALTER TABLE a DROP m", "ALTER TABLE a ALTER v TYPE varchar",
		"ALTER TYPE mood ADD VALUE 'b'", "ALTER TYPE mood RENAME VALUE 'a' TO 'c'", "ALTER TYPE pair ADD ATTRIBUTE b regclass",
		"ALTER TEXT SEARCH CONFIGURATION c ALTER MAPPING FOR asciiword WITH simple", "ALTER TEXT SEARCH CONFIGURATION c DROP MAPPING FOR asciiword",
		"CREATE TEXT SEARCH DICTIONARY d (TEMPLATE = simple)", "ALTER TEXT SEARCH DICTIONARY d (accept = false)", "ALTER TEXT SEARCH CONFIGURATION c RENAME TO e",
		"CREATE COLLATION k (provider = libc, locale = 'C')", "CREATE DEFAULT CONVERSION v FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8",
	} {
		pgtest.Exec(t, server, name, ddl)
		now := version()
		if now == last {
			t.Errorf("%s: version stays %s", ddl, now)
		}
		last = now
	}
	for _, sql := range []string{"INSERT INTO a VALUES (1, 'a')", "TRUNCATE a", "VACUUM FULL a", "VACUUM FREEZE", "ANALYZE", "CREATE INDEX ON a (id)", "CREATE TEMP TABLE x (id regclass)"} {
		pgtest.Exec(t, server, name, sql)
		if now := version(); now != last {
			t.Errorf("%s: version changes", sql)
			last = now
		}
	}
}

// TestUnnamedObjectsKeepNothing has what works without being named.
func TestUnnamedObjectsKeepNothing(t *testing.T) {
	const functions = `CREATE TABLE seen (id int); CREATE TYPE pair AS (a int, b int);
		CREATE FUNCTION clock(pair) RETURNS text STABLE LANGUAGE sql AS $$ SELECT now()::text $$;
		CREATE FUNCTION calm(pair) RETURNS text STABLE LANGUAGE sql AS $$ SELECT 'x' $$;
		CREATE FUNCTION clock_same(pair, pair) RETURNS bool STABLE LANGUAGE sql AS $$ SELECT now() > '2000-01-01' $$;
		CREATE TYPE label AS ENUM ('a');`
	cache := parser.NewCache(1 << 20)
	_, _, q := database(t)
	for ddl, want := range map[string]bool{
		"CREATE CAST (pair AS text) WITH FUNCTION clock(pair)":                                                         false,
		"CREATE CAST (pair AS text) WITH FUNCTION calm(pair)":                                                          true,
		"CREATE CAST (pair AS date) WITH INOUT":                                                                        false,
		"CREATE CAST (label AS pair) WITH INOUT":                                                                       true,
		"CREATE DOMAIN d AS date CHECK (VALUE < now())":                                                                false,
		"CREATE DOMAIN d AS date CHECK (VALUE < CURRENT_DATE)":                                                         false,
		"CREATE DOMAIN d AS date CHECK (VALUE > '2000-01-01')":                                                         true,
		"CREATE DOMAIN d AS timestamptz DEFAULT now()":                                                                 true,
		"CREATE OPERATOR = (LEFTARG = pair, RIGHTARG = pair, FUNCTION = clock_same)":                                   false,
		"CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE EXTENSION ltree; CREATE EXTENSION cube":              true,
		"CREATE EXTENSION btree_gist; CREATE EXTENSION btree_gin; CREATE EXTENSION intarray; CREATE EXTENSION pg_trgm": true,
		"CREATE EXTENSION postgres_fdw; CREATE EXTENSION unaccent; CREATE EXTENSION isn; CREATE EXTENSION seg":         true,
	} {
		for _, sql := range []string{"BEGIN", functions} {
			if _, err := text(t.Context(), q.Conn, sql); err != nil {
				t.Fatal(err)
			}
		}
		st := cache.Statement([]byte("SELECT * FROM seen"))
		if k := loadAnswers(t, q).Keeping(st); !k.Kept {
			t.Fatalf("before %s: not kept (%s)", ddl, k.Reason)
		}
		if _, err := text(t.Context(), q.Conn, ddl); err != nil {
			t.Fatalf("%s: %v", ddl, err)
		}
		if k := loadAnswers(t, q).Keeping(st); k.Kept != want {
			t.Errorf("after %s: got kept %v (%s)", ddl, k.Kept, k.Reason)
		}
		if _, err := text(t.Context(), q.Conn, "ROLLBACK"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestAnswersChangeNoReading: what is read for Keeping leaves the other answers as they were.
func TestAnswersChangeNoReading(t *testing.T) {
	server, database := keepingServer(t)
	q := pgtest.NewQuerier(connect(t, server, database))
	plain, answers := load(t, q), loadAnswers(t, q)
	cache := parser.NewCache(1 << 24)
	for _, c := range goldenCases(t, goldenLines(t)) {
		st := cache.Statement([]byte(c.sql))
		a, b := plain.Reading(st), answers.Reading(st)
		if a.Verdict != b.Verdict || a.Reason != b.Reason || !slices.Equal(a.Tables, b.Tables) || (plain.Pins(st) == "") != (answers.Pins(st) == "") {
			t.Errorf("%s: with Answers %s (%s), without %s (%s)", c.sql, b.Verdict, b.Reason, a.Verdict, a.Reason)
		}
	}
}

// kept is a snapshot with a statement that is kept, of the common kind.
func kept(t testing.TB) (*Snapshot, *parser.Statement) {
	t.Helper()
	server, database := keepingServer(t)
	return loadAnswers(t, pgtest.NewQuerier(connect(t, server, database))),
		parser.NewCache(1 << 20).Statement([]byte("SELECT u.id, sta(u.id), i.made::date FROM users u JOIN sales.invoices i ON i.user_id = u.id WHERE u.id = 1"))
}

func TestKeepingDoesNotAllocate(t *testing.T) {
	s, st := kept(t)
	first := s.Keeping(st)
	if !first.Kept {
		t.Fatal(first.Reason)
	}
	if n := testing.AllocsPerRun(100, func() {
		if s.Keeping(st) != first {
			t.Fatal("judged again")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// BenchmarkAnswers reads a database of 1,000 tables of 20 columns, 1,000 functions and 200 views, with and without Answers.
func BenchmarkAnswers(b *testing.B) {
	server, name, q := database(b)
	var ddl strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&ddl, "CREATE TABLE t%d (id int PRIMARY KEY, made timestamptz", i)
		for c := range 18 {
			fmt.Fprintf(&ddl, ", c%d text", c)
		}
		ddl.WriteString(");\n")
		fmt.Fprintf(&ddl, "CREATE FUNCTION f%d(a int) RETURNS text STABLE LANGUAGE sql AS $$ SELECT c1 /* %s */ FROM t%d WHERE id = a $$;\n", i, strings.Repeat("x ", 500), i)
		if i < 200 {
			fmt.Fprintf(&ddl, "CREATE VIEW v%d AS SELECT id, c1, made::date AS day FROM t%d WHERE c2 <> 'x';\n", i, i)
		}
	}
	pgtest.Exec(b, server, name, ddl.String())
	pgtest.Exec(b, server, name, "VACUUM ANALYZE")
	for extra, extras := range map[string][]Extra{"plain": nil, "answers": {Answers}} {
		b.Run("version/"+extra, func(b *testing.B) {
			for b.Loop() {
				if _, err := Version(b.Context(), q, extras...); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run("load/"+extra, func(b *testing.B) {
			for b.Loop() {
				if _, err := Load(b.Context(), q, extras...); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkKeeping(b *testing.B) {
	s, st := kept(b)
	b.Run("known", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !s.Keeping(st).Kept {
				b.Fatal("not kept")
			}
		}
	})
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if !s.keeping(st).Kept {
				b.Fatal("not kept")
			}
		}
	})
}
