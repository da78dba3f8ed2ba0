package catalog

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/parser"
)

// lines runs a query and returns its rows as text, sorted.
func lines(t *testing.T, conn *pgconn.PgConn, sql string) []string {
	t.Helper()
	rows, err := text(t.Context(), conn, sql)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(rows, "\n"), "\n")
}

// TestListedBuiltinsExist holds the lists to a real server, so that none has a name that was misspelt.
func TestListedBuiltinsExist(t *testing.T) {
	conn := connect(t, servers.Cluster(t).Shards[0].Manager, "postgres")
	names := lines(t, conn, "SELECT DISTINCT proname FROM pg_proc WHERE oid < 16384")
	var lists strings.Builder
	for _, list := range localBuiltins {
		lists.WriteString(list.names + " ")
	}
	for _, pattern := range strings.Fields(lists.String() + advancingBuiltins + " " + harmlessBuiltins + " " + writingBuiltins) {
		if !slices.ContainsFunc(names, func(name string) bool { return matches(pattern, name) }) {
			t.Errorf("no function is called %s", pattern)
		}
	}
}

// TestViewsOfLocalFunctionsAreLocal finds the server's views that call a listed function, by themselves or through another view, with a search of
// its own, and some that must be among them.
func TestViewsOfLocalFunctionsAreLocal(t *testing.T) {
	shard, database := readingShard(t)
	conn := connect(t, shard.Manager, database)
	s := load(t, pgtest.NewQuerier(conn))
	cache := parser.NewCache(1 << 20)
	local := map[string]bool{}
	rows := lines(t, conn, `SELECT c.oid::regclass, string_agg(COALESCE('(' || p.proname || ')', f.oid::regclass::text), ' ') FROM pg_class c
		JOIN pg_rewrite r ON r.ev_class = c.oid AND r.ev_type = '1', regexp_matches(ev_action::text, ':(funcid|relid) (\d+)', 'g') AS m
		LEFT JOIN pg_proc p ON m[1] = 'funcid' AND p.oid = m[2]::oid
		LEFT JOIN pg_class f ON m[1] = 'relid' AND f.oid = m[2]::oid AND f.relkind = 'v'
		WHERE c.relkind = 'v' AND c.oid < 16384 GROUP BY 1`)
	for range rows { // as deep as views may nest
		for _, row := range rows {
			view, uses, _ := strings.Cut(row, "|")
			for _, used := range strings.Fields(uses) {
				b := builtin{name: strings.Trim(used, "()"), first: xidType}
				local[view] = local[view] || used[0] == '(' && b.local() != "" || local[used]
			}
		}
	}
	for _, view := range []string{"pg_locks", "pg_settings", "pg_stat_activity", "pg_stat_replication", "pg_stat_user_tables", "pg_statio_user_sequences",
		"pg_replication_slots", "pg_prepared_xacts", "pg_cursors", "pg_sequences"} {
		if !local[view] {
			t.Errorf("the search does not find %s", view)
		}
	}
	if local["pg_tables"] || local["information_schema.columns"] {
		t.Error("the search finds everything")
	}
	for view, want := range local {
		r := s.Reading(cache.Statement([]byte("SELECT * FROM " + view)))
		if want != (r.Verdict == Local) || !want && r.Verdict != Read {
			t.Errorf("%s: got %s (%s), want local %v", view, r.Verdict, r.Reason, want)
		}
	}
}

// sampleCalls yields a call of every function that a statement can call, with an argument for each common type and NULL for others.
const sampleCalls = `SELECT format('SELECT * FROM %s.%I(%s) AS x%s', pronamespace::regnamespace, proname,
	COALESCE((SELECT string_agg(CASE
		WHEN a::regtype IN ('oid', 'regclass') THEN '''users''::regclass::oid' WHEN a::regtype IN ('int2', 'int4', 'int8') THEN '1::' || a::regtype
		WHEN a::regtype IN ('text', 'name') THEN '''users''::' || a::regtype WHEN a::regtype IN ('xid', 'xid8') THEN '''3''::' || a::regtype
		WHEN a::regtype IN ('timestamp', 'timestamptz', 'date') THEN '''2024-01-01''::' || a::regtype WHEN a::regtype = 'interval'::regtype THEN '''0 day''::interval'
		WHEN a::regtype = 'bytea'::regtype THEN '''\x01''::bytea' WHEN a::regtype = 'bool'::regtype THEN 'true'
		WHEN a::regtype IN ('float4', 'float8', 'numeric') THEN '1.5::' || a::regtype WHEN a::regtype IN ('anyelement', 'anynonarray') THEN '1'
		WHEN a::regtype = 'anyarray'::regtype THEN 'ARRAY[1]' WHEN a::regtype IN ('json', 'jsonb') THEN '''[1]''::' || a::regtype
		WHEN a::regtype = 'pg_lsn'::regtype THEN '''0/1''::pg_lsn' WHEN a::regtype = 'regprocedure'::regtype THEN '''imm(int)''::regprocedure'
		ELSE 'NULL::' || a::regtype END, ', ' ORDER BY n) FROM unnest(proargtypes) WITH ORDINALITY AS x (a, n)), ''),
	CASE WHEN prorettype = 'record'::regtype AND proallargtypes IS NULL THEN ' (a int)' END)
	FROM pg_proc p WHERE prokind = 'f' AND NOT ` + hiddenColumn + ` AND prolang IN (12, 13, 14)
	AND (oid < 16384 OR EXISTS (SELECT FROM pg_depend d WHERE d.classid = 1255 AND d.objid = p.oid AND d.deptype = 'e'))`

// TestServersOwnReadsAgree asks manager and replica for every catalog, every view, and a call of every function of the server and of some
// extensions that counts as a Read. A function that answers from its server, and stands in no list, is found here.
func TestServersOwnReadsAgree(t *testing.T) {
	shard, database := readingShard(t)
	manager := connect(t, shard.Manager, database)
	s := load(t, pgtest.NewQuerier(manager))
	cache := parser.NewCache(1 << 20)
	if err := shard.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	replica := connect(t, shard.Replicas[0], database)
	statements := lines(t, manager, "SELECT 'SELECT * FROM ' || oid::regclass FROM pg_class WHERE oid < 16384 AND relkind IN ('r', 'v') UNION ALL "+sampleCalls)
	varies := []string{"_timestamp()", "now()", "timeofday()", "random", "uuid", "normal_rand", "gen_salt", "pgp_",
		"generate_series"} // of timestamps, with a step of nothing
	compared := 0
	for _, sql := range statements {
		if r := s.Reading(cache.Statement([]byte(sql))); r.Verdict != Read || slices.ContainsFunc(varies, func(part string) bool { return strings.Contains(sql, part) }) {
			continue
		}
		compared++
		want, wantErr := text(t.Context(), manager, sql)
		got, gotErr := text(t.Context(), replica, sql)
		if got != want || fmt.Sprint(gotErr) != fmt.Sprint(wantErr) {
			t.Errorf("%s: the replica answers\n%.300s (%v)\nand the manager\n%.300s (%v)", sql, got, gotErr, want, wantErr)
		}
	}
	if compared < 2400 {
		t.Errorf("only %d of %d statements count as reads", compared, len(statements))
	}
}

// TestServersOwnSQLFunctionsAreListed finds functions of the server in SQL that call a listed one: the graph does not look into them, so they need an
// entry of their own.
func TestServersOwnSQLFunctionsAreListed(t *testing.T) {
	conn := connect(t, servers.Cluster(t).Shards[0].Manager, "postgres")
	bad := map[string]bool{}
	for _, row := range lines(t, conn, `SELECT proname, provolatile, pronargs, COALESCE(proargtypes[0], 0) FROM pg_proc WHERE oid < 16384`) {
		f := strings.Split(row, "|")
		b := builtin{name: f[0], volatility: f[1][0]}
		if b.local() != "" || b.unproved() != "" {
			bad[f[0]] = true
		}
	}
	if !bad["pg_is_in_recovery"] || !bad["nextval"] || bad["lower"] {
		t.Fatal("the lists are not read")
	}
	rows := lines(t, conn, `SELECT p.proname, string_agg(f.proname, ' ') FROM pg_proc p, regexp_matches(p.prosqlbody::text, ':funcid (\d+)', 'g') AS m
		JOIN pg_proc f ON f.oid = m[1]::oid WHERE p.oid < 16384 GROUP BY 1
		UNION ALL SELECT p.proname, regexp_replace(p.prosrc, '\W+', ' ', 'g') FROM pg_proc p WHERE p.oid < 16384 AND p.prolang = 14 AND p.prosqlbody IS NULL`)
	if len(rows) < 20 {
		t.Errorf("only %d functions in SQL", len(rows))
	}
	for _, row := range rows {
		name, uses, _ := strings.Cut(row, "|")
		for _, used := range strings.Fields(uses) {
			if bad[used] && !bad[name] && !matches(harmlessBuiltins, name) {
				t.Errorf("%s() calls %s()", name, used)
			}
		}
	}
}

func TestMatches(t *testing.T) {
	for name, want := range map[string]bool{"a": true, "b_x": true, "b_": true, "c_x_d": true, "c_d": false, "c__d": true, "b": false, "": false, "x": false} {
		if got := matches("a b_* c_*_d", name); got != want {
			t.Errorf("%q: got %v", name, got)
		}
	}
}

// TestUnprovedBuiltinsFailOnReplica calls the server's functions that count as Unproved: one that a replica would carry out must be Local. Functions
// that need other arguments are only tried with NULLs.
func TestUnprovedBuiltinsFailOnReplica(t *testing.T) {
	shard, database := readingShard(t)
	s := load(t, pgtest.NewQuerier(connect(t, shard.Manager, database)))
	cache := parser.NewCache(1 << 20)
	if err := shard.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	replica := connect(t, shard.Replicas[0], database)
	tried := 0
	for _, sql := range lines(t, replica, `SELECT format('SELECT %s.%I(%s)', pronamespace::regnamespace, proname,
			(SELECT string_agg(CASE WHEN a IN (26, 2205) THEN '''users''::regclass::oid' WHEN a = 25 THEN '''x''' ELSE 'NULL::' || a::regtype END, ', ' ORDER BY n)
			FROM unnest(proargtypes) WITH ORDINALITY AS x (a, n)))
		FROM pg_proc WHERE oid < 16384 AND prokind = 'f' AND provolatile = 'v' AND NOT proisstrict
		UNION ALL SELECT format('SELECT %s.%I()', pronamespace::regnamespace, proname) FROM pg_proc
		WHERE oid < 16384 AND prokind = 'f' AND provolatile = 'v' AND pronargs = 0`) {
		if s.Reading(cache.Statement([]byte(sql))).Verdict != Unproved {
			continue
		}
		tried++
		if got, err := text(t.Context(), replica, sql); err == nil {
			t.Errorf("%s: a replica answers %.100q", sql, got)
		}
	}
	if tried == 0 {
		t.Error("no function was tried")
	}
}
