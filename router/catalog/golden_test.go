package catalog

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/parser"
)

var update = flag.Bool("update", false, "write the reasons that the catalog gives now into the golden files of testdata")

const goldenFile = "testdata/reading.golden"

// goldenCase is one statement of reading.golden.
type goldenCase struct {
	line    int // index into the lines of the file
	verdict string
	varies  bool // the answer differs from one run to the next
	sql     string
	given   []string
	reason  string
}

// goldenCases reads the file. Its lines are comments, statements, and what belongs to the statement above.
func goldenCases(t *testing.T, lines []string) []goldenCase {
	t.Helper()
	var cases []goldenCase
	for i, line := range lines {
		word, rest, _ := strings.Cut(line, " ")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case word == "given" && len(cases) > 0:
			c := &cases[len(cases)-1]
			c.given = append(c.given, rest)
		case strings.HasPrefix(line, "    ") && len(cases) > 0:
			cases[len(cases)-1].reason = strings.TrimSpace(line)
		case slices.Contains([]string{"read", "read~", "local", "unproved"}, word):
			verdict, varies := strings.CutSuffix(word, "~")
			cases = append(cases, goldenCase{line: i, verdict: verdict, varies: varies, sql: rest})
		default:
			t.Fatalf("%s:%d: %q is no statement with its verdict", goldenFile, i+1, line)
		}
	}
	return cases
}

func goldenLines(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimRight(string(text), "\n"), "\n")
}

// readingShard is a manager with a replica, and a database of schema.sql and reading.sql.
func readingShard(t testing.TB) (shard *localpg.Shard, database string) {
	t.Helper()
	shard = servers.Cluster(t).Shards[0]
	database = pgtest.Database(t, shard.Manager)
	for _, file := range []string{"testdata/schema.sql", "testdata/reading.sql"} {
		schema, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pgtest.Exec(t, shard.Manager, database, string(schema))
	}
	return shard, database
}

func connect(t testing.TB, server *localpg.Server, database string) *pgconn.PgConn {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), server.URL(database, "", ""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// TestReadingGolden compares verdicts and reasons with the file.
func TestReadingGolden(t *testing.T) {
	shard, database := readingShard(t)
	s := load(t, pgtest.NewQuerier(connect(t, shard.Manager, database)))
	cache := parser.NewCache(1 << 24)
	lines := goldenLines(t)
	cases := goldenCases(t, lines)
	if len(cases) < 400 {
		t.Errorf("%d statements, want 400", len(cases))
	}
	reasons := map[int]string{}
	for _, c := range cases {
		got := s.Reading(cache.Statement([]byte(c.sql)))
		if got.Verdict.String() != c.verdict {
			t.Errorf("%s:%d: %s: got %s (%s), want %s", goldenFile, c.line+1, c.sql, got.Verdict, got.Reason, c.verdict)
		}
		if got.Reason != c.reason && !*update {
			t.Errorf("%s:%d: %s: got reason %q, want %q", goldenFile, c.line+1, c.sql, got.Reason, c.reason)
		}
		reasons[c.line] = got.Reason
	}
	if *update {
		writeGolden(t, goldenFile, lines, reasons)
	}
}

// writeGolden puts the reasons under their statements.
func writeGolden(t *testing.T, file string, lines []string, reasons map[int]string) {
	t.Helper()
	var out []string
	for i, line := range lines {
		if strings.HasPrefix(line, "    ") {
			continue
		}
		out = append(out, line)
		if reason, ok := reasons[i]; ok {
			out = append(out, "    "+reason)
		}
	}
	if err := os.WriteFile(file, []byte(strings.Join(out, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestReadsRunOnReplica holds every read of the file to its promise: it runs on a replica without error, twice, in a transaction that is READ ONLY,
// answers what the manager answers, and on the manager, in a transaction that may write, takes no transaction number and no advisory lock and leaves
// the contents as they were.
func TestReadsRunOnReplica(t *testing.T) {
	shard, database := readingShard(t)
	manager := connect(t, shard.Manager, database)
	if err := shard.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	replica := connect(t, shard.Replicas[0], database)
	before := contents(t, manager)
	for _, c := range goldenCases(t, goldenLines(t)) {
		if c.verdict != "read" {
			continue
		}
		want, err := transaction(t, manager, "BEGIN", c, `SELECT pg_current_xact_id_if_assigned() IS NULL AND
			NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid())`)
		if err != nil {
			t.Errorf("%s:%d: %s: on the manager: %v", goldenFile, c.line+1, c.sql, err)
			continue
		}
		for range 2 {
			got, err := transaction(t, replica, "BEGIN READ ONLY", c, "SELECT pg_is_in_recovery()")
			if err != nil {
				t.Errorf("%s:%d: %s: on the replica: %v", goldenFile, c.line+1, c.sql, err)
			} else if !c.varies && got != want {
				t.Errorf("%s:%d: %s: the replica answers\n%s\nand the manager\n%s", goldenFile, c.line+1, c.sql, got, want)
			}
		}
		if after := contents(t, manager); after != before {
			t.Fatalf("%s:%d: %s: changed the contents from\n%s\nto\n%s", goldenFile, c.line+1, c.sql, before, after)
		}
	}
}

// transaction runs a case in a transaction and returns its answer. holds is a question that must be answered with true behind it.
func transaction(t *testing.T, conn *pgconn.PgConn, begin string, c goldenCase, holds string) (answer string, err error) {
	t.Helper()
	defer func() {
		if _, rollback := text(t.Context(), conn, "ROLLBACK"); rollback != nil && err == nil {
			err = rollback
		}
	}()
	for _, sql := range append([]string{begin}, c.given...) {
		if _, err := text(t.Context(), conn, sql); err != nil {
			return "", fmt.Errorf("%s: %w", sql, err)
		}
	}
	if answer, err = text(t.Context(), conn, c.sql); err != nil {
		return "", err
	}
	if held, err := text(t.Context(), conn, holds); err != nil || held != "t\n" {
		return "", fmt.Errorf("%s: got %q, %w", holds, held, err)
	}
	return answer, nil
}

// text runs a statement and returns its rows, sorted.
func text(ctx context.Context, conn *pgconn.PgConn, sql string) (string, error) {
	if strings.HasPrefix(sql, "COPY") {
		var out bytes.Buffer
		_, err := conn.CopyTo(ctx, &out, sql)
		return out.String(), err
	}
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return "", err
	}
	var rows []string
	for _, r := range results {
		if r.Err != nil {
			return "", r.Err
		}
		for _, row := range r.Rows {
			rows = append(rows, string(bytes.Join(row, []byte("|")))+"\n")
		}
	}
	slices.Sort(rows)
	return strings.Join(rows, ""), nil
}

// contents sums up the rows of all tables and the state of all sequences.
func contents(t *testing.T, conn *pgconn.PgConn) string {
	t.Helper()
	sums, err := text(t.Context(), conn, `SELECT c.oid::regclass, xpath('//x/text()', query_to_xml(CASE c.relkind
		WHEN 'S' THEN format('SELECT last_value || is_called::text AS x FROM %s', c.oid::regclass)
		ELSE format('SELECT md5(string_agg(r::text, '','' ORDER BY r::text)) AS x FROM ONLY %s AS r', c.oid::regclass) END, true, false, ''))
		FROM pg_class c WHERE c.relkind IN ('r', 'S') AND c.relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
		AND c.relnamespace <> 'pg_toast'::regnamespace`)
	if err != nil {
		t.Fatal(err)
	}
	return sums
}
