package plan

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/router/catalog"
	"pgtier/router/shard"
)

// moves are those of the tests: which buckets of the owner's stand on another shard too. s1 to s0 and s2 to s1 are being filled; what s0 has won of s2 is still there.
var moves = []struct {
	shard.Span
	owner, other int
}{
	{shard.Span{First: 341, Last: 560}, 1, 0},
	{shard.Span{First: 700, Last: 900}, 2, 1},
	{shard.Span{First: 0, Last: 120}, 0, 2},
	{shard.Span{First: 130, Last: 131}, 0, 2},
	{shard.Span{First: 140, Last: 260}, 0, 2},
}

// newMovingFleet is newFleet while buckets move: their rows stand on two shards, some of them not yet or no more.
func newMovingFleet(t *testing.T) *fleet {
	f := newFleet(t)
	f.clean = f.shards
	f.shards = nil
	snapshot, err := catalog.Load(t.Context(), pgtest.NewQuerier(f.whole), catalog.Relations)
	if err != nil {
		t.Fatal(err)
	}
	at := Placement{Map: evenMap(t, f.schema.config.Shards...), Frozen: true}
	for _, m := range moves {
		at.Moving = append(at.Moving, m.Span)
	}
	if f.schema, _, err = NewSchema(f.schema.config, snapshot, at); err != nil {
		t.Fatal(err)
	}
	for range f.clean {
		f.shards = append(f.shards, testDatabase(t))
	}
	for i, conn := range f.shards {
		f.exec(conn, "SET session_replication_role = replica")
		for _, table := range f.plainTables() {
			f.copyRows(f.clean[i], conn, table, "")
		}
	}
	for i, m := range moves {
		for _, table := range f.plainTables() {
			if !table.sharded() {
				continue
			}
			bucket := table.key.Expression("")
			f.copyRows(f.clean[m.owner], f.shards[m.other], table,
				fmt.Sprintf(" WHERE %s BETWEEN %d AND %d AND pg_catalog.hashtext(x::text || '%d') %% 5 <> 0", bucket, m.First, m.Last, i))
		}
	}
	for i, conn := range f.shards {
		f.exec(conn, "RESET session_replication_role")
		f.foreign = append(f.foreign, map[string][]string{})
		for _, table := range f.plainTables() {
			if _, rows := f.rowsOf(conn, i, table); len(rows) > 0 {
				f.foreign[i][table.name] = rows
			}
		}
		if len(f.foreign[i]) < 5 {
			t.Fatalf("shard %d has rows of others in %v alone", i, slices.Collect(maps.Keys(f.foreign[i])))
		}
	}
	return f
}

// plainTables are those that have rows of their own.
func (f *fleet) plainTables() (list []*table) {
	for _, tables := range f.schema.tables {
		for _, t := range tables {
			if t.relation.Kind == 'r' {
				list = append(list, t)
			}
		}
	}
	return list
}

func (f *fleet) copyRows(from, to *pgconn.PgConn, t *table, where string) {
	f.t.Helper()
	var columns []string
	for i := range t.relation.Columns {
		if !t.relation.Columns[i].Generated {
			columns = append(columns, quoteName(t.relation.Columns[i].Name))
		}
	}
	list := strings.Join(columns, ", ")
	var rows bytes.Buffer
	if _, err := from.CopyTo(f.t.Context(), &rows, "COPY (SELECT "+list+" FROM ONLY "+t.relation.String()+" AS x"+where+") TO STDOUT"); err != nil {
		f.t.Fatal(err)
	}
	if _, err := to.CopyFrom(f.t.Context(), &rows, "COPY "+t.relation.String()+" ("+list+") FROM STDIN"); err != nil {
		f.t.Fatal(err)
	}
}

// keptForeign says that rows are as they were on shards that do not own them.
func (f *fleet) keptForeign(sql string) {
	f.t.Helper()
	for i := range f.foreign {
		for _, table := range f.plainTables() {
			if _, rows := f.rowsOf(f.shards[i], i, table); !slices.Equal(rows, f.foreign[i][table.name]) {
				f.t.Errorf("%s\nchanges rows of %s on shard %d, which does not own them: got %q\nwant %q", sql, table.name, i, rows, f.foreign[i][table.name])
			}
		}
	}
}

// inMotionOnly says whether a plan refuses only because buckets move.
func inMotionOnly(p Plan) bool { return p.Kind == Refused && p.Refusal.Code == inMotion }

func goldenOf(t *testing.T) (cases []goldenCase) {
	t.Helper()
	for _, file := range []string{goldenFile, motionFile} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		cases = append(cases, goldenCases(t, strings.Split(string(text), "\n"))...)
	}
	return cases
}

// randomOf are random queries, as goldenCases.
func randomOf(n int) (cases []goldenCase) {
	g := &generator{Rand: rand.New(rand.NewPCG(5, uint64(n)))}
	for i := range n {
		sql := g.query()
		if at := strings.Index(sql, " AS x, count(*)"); at > 0 {
			sql += " GROUP BY 1"
		}
		cases = append(cases, goldenCase{line: i, sql: sql})
	}
	return cases
}

// TestPlansInMotionGiveTheAnswerOfOneServer is TestPlansGiveTheAnswerOfOneServer, and that for random queries, while buckets move. What is planned without motion is
// planned in it.
func TestPlansInMotionGiveTheAnswerOfOneServer(t *testing.T) {
	f := newMovingFleet(t)
	still, _ := testSchema(t, f.whole)
	calm := &fleet{t: t, schema: still, cache: newCache()}
	ran, restricted, refused := map[Kind]int{}, 0, 0
	for _, c := range append(goldenOf(t), randomOf(*randomQueries/2)...) {
		if !comparableCase(&c) {
			continue
		}
		p := f.plan(c.sql)
		before := calm.plan(c.sql)
		if inMotionOnly(p) {
			if p.Refusal.Hint != hintFrozen && !slices.ContainsFunc(c.want, func(line string) bool { return strings.HasPrefix(line, "refused "+inMotion) }) {
				t.Logf("refused: %s: %s", c.sql, p.Refusal.Message)
				refused++
			}
			continue
		}
		if p.Kind != before.Kind || p.Shard != before.Shard || !slices.Equal(p.Shards, before.Shards) {
			t.Errorf("%s: got %s on %d %v (%s), without motion %s on %d %v", c.sql, p.Kind, p.Shard, p.Shards, p.Reason, before.Kind, before.Shard, before.Shards)
		}
		if p.Kind == Refused || p.Kind == Session || p.Needs != nil {
			continue
		}
		if f.compare(&c, p) {
			ran[p.Kind]++
			if p.Parts != nil && p.Parts.own != nil {
				restricted++
			}
		}
	}
	t.Logf("%v, %d restricted, %d refused because buckets move", ran, restricted, refused)
	if ran[One] < 100 || ran[Scatter] < 250 || ran[Spread] < 10 || restricted < 300 {
		t.Errorf("compared %v, %d restricted, want more", ran, restricted)
	}
	if refused > 0 {
		t.Errorf("%d refused because buckets move, want none", refused)
	}
}

// TestHintsInMotionReadTheRowsOfTheirShard carries out statements with a hint on each shard while buckets move, and on the same shard with nothing but its own rows.
func TestHintsInMotionReadTheRowsOfTheirShard(t *testing.T) {
	f := newMovingFleet(t)
	ran, restricted, refused := 0, 0, map[string]int{}
	for _, c := range append(goldenOf(t), randomOf(*randomQueries/10)...) {
		if !comparableCase(&c) || strings.Contains(c.sql, "RECURSIVE t AS (SELECT user_id, id FROM orders UNION ALL") { // which does not end
			continue
		}
		for i, name := range f.schema.config.Shards {
			text := []byte(c.sql)
			p := f.schema.Statement(f.cache.Statement(text), text).Route(&Values{SQL: text, Known: true}, &Circumstances{Shard: string(name)})
			switch {
			case inMotionOnly(p):
				refused[p.Refusal.Message]++
				continue
			case p.Kind == Refused, p.Kind == Session, p.Needs != nil, p.Kind != One && len(p.Shards) != 1:
				continue
			case p.Kind != One && p.Shards[0] != i, p.Kind == One && p.Shard != i:
				t.Errorf("%s on %s: got %s on %d, %v", c.sql, name, p.Kind, p.Shard, p.Shards)
			}
			if f.compareHint(&c, p, i) {
				ran++
				if p.Parts != nil {
					restricted++
				}
			}
		}
	}
	t.Logf("%d, %d restricted, refused because buckets move: %v", ran, restricted, refused)
	if ran < 1000 || restricted < 500 {
		t.Errorf("compared %d, %d restricted, want more", ran, restricted)
	}
}

// compareHint carries out a plan for one shard there and on the clean one.
func (f *fleet) compareHint(c *goldenCase, p Plan, i int) bool {
	f.t.Helper()
	for _, conn := range []*pgconn.PgConn{f.clean[i], f.shards[i]} {
		f.exec(conn, "BEGIN")
		defer f.exec(conn, "ROLLBACK")
	}
	_, want, wantErr := f.ask(f.clean[i], c.sql, nil)
	got, err := f.run(c.sql, p)
	if err != nil || wantErr != nil {
		var e *pgconn.PgError
		if (err == nil) != (wantErr == nil) && !(errors.As(err, &e) && e.Code == "23505") { // a row that another shard owns is in the way of one that does not belong here
			f.t.Errorf("%s:%d: %s\non shard %d: got error %v, want %v", goldenFile, c.line, c.sql, i, err, wantErr)
		}
		return false
	}
	some := slices.ContainsFunc([]string{"LIMIT", "FETCH", "OFFSET", "DISTINCT ON"}, func(word string) bool { return strings.Contains(c.sql, word) })
	slices.Sort(want.rows)
	slices.Sort(got.rows)
	if got.count != want.count || !some && !slices.Equal(got.rows, want.rows) {
		f.t.Errorf("%s:%d: %s\non shard %d, %s: got %d rows %q\nwant %d rows %q", goldenFile, c.line, c.sql, i, p.Kind, got.count, got.rows, want.count, want.rows)
	}
	if p.Write {
		for _, table := range f.plainTables() {
			if slices.Contains([]string{"audit", "notes"}, table.relation.Name) { // they have times
				continue
			}
			own, foreign := f.rowsOf(f.shards[i], i, table)
			all, _ := f.rowsOf(f.clean[i], i, table)
			if !slices.Equal(own, all) || !slices.Equal(foreign, f.foreign[i][table.name]) {
				f.t.Errorf("%s\nrows of %s on shard %d: got %q and %q\nwant %q and %q", c.sql, table.name, i, own, foreign, all, f.foreign[i][table.name])
			}
		}
	}
	return true
}

// TestCopyInMotionCopiesEachRowOnce copies tables out of all shards while buckets move, and out of each by hints.
func TestCopyInMotionCopiesEachRowOnce(t *testing.T) {
	f := newMovingFleet(t)
	for _, sql := range []string{
		"COPY users TO STDOUT", "COPY public.orders (id, user_id) TO STDOUT WITH (FORMAT csv, FORCE_QUOTE (id))", "COPY \"items\" TO STDOUT (FORMAT binary)", "COPY shipments TO STDOUT",
		"COPY (SELECT u.id, o.id FROM users u LEFT JOIN orders o ON o.user_id = u.id WHERE u.age > 1 OR u.age IS NULL) TO STDOUT", "COPY public.docs TO STDOUT", "COPY events TO STDOUT",
	} {
		var whole bytes.Buffer
		if _, err := f.whole.CopyTo(t.Context(), &whole, sql); err != nil {
			t.Fatal(err)
		}
		text := []byte(sql)
		st := f.schema.Statement(f.cache.Statement(text), text)
		plans := []Plan{st.Route(&Values{SQL: text, Known: true}, nil)}
		for i, name := range f.schema.config.Shards {
			p := st.Route(&Values{SQL: text, Known: true}, &Circumstances{Shard: string(name)})
			if p.Kind != CopyOut || !slices.Equal(p.Shards, []int{i}) || p.Copy == nil {
				t.Errorf("%s on %s: got %s (%s) on %v", sql, name, p.Kind, p.Reason, p.Shards)
				continue
			}
			plans = append(plans, p)
		}
		var got [2][]byte
		for i, p := range plans {
			if p.Kind != CopyOut {
				t.Fatalf("%s: got %s (%s)", sql, p.Kind, p.Reason)
			}
			for at, s := range p.Shards {
				sent, err := p.Parts.Text(at, text)
				if err != nil {
					t.Fatal(err)
				}
				var out bytes.Buffer
				if _, err := f.shards[s].CopyTo(context.Background(), &out, string(sent)); err != nil {
					t.Fatalf("%s: %v", sent, err)
				}
				got[min(i, 1)] = append(got[min(i, 1)], out.Bytes()...)
			}
		}
		for _, g := range got {
			if strings.Contains(sql, "binary") { // the headers of the others
				if len(g)-2*21 != whole.Len() && len(g)-2*(19+2) != whole.Len() {
					t.Errorf("%s: %d bytes, want %d", sql, len(g), whole.Len())
				}
				continue
			}
			if want, rows := sortedLines(whole.Bytes()), sortedLines(g); !slices.Equal(rows, want) {
				t.Errorf("%s: got %q\nwant %q", sql, rows, want)
			}
		}
	}
}

func sortedLines(text []byte) []string {
	return slices.Sorted(strings.Lines(string(text)))
}

func TestChangesOfTheSchemaWaitWhileBucketsMove(t *testing.T) {
	m := evenMap(t, "s0", "s1", "s2")
	f := placed(t, Placement{Map: m, Moving: []shard.Span{{First: 1, Last: 9}}, Frozen: true}, "s0", "s1", "s2")
	for sql, want := range map[string]bool{
		"CREATE TABLE more (a int)": true, "ALTER TABLE users ADD COLUMN b int": true, "TRUNCATE users": true, "TRUNCATE countries": true, "DROP TABLE users": true,
		"CREATE INDEX ON users (name)": true, "SELECT 1 AS a INTO more": true, "/* pgtier: shard=s1 */ ALTER TABLE users ADD COLUMN b int": true,
		"/* pgtier: shard=s1 */ TRUNCATE users": true, "CREATE TABLE more AS SELECT 1 AS a": true, "CREATE TEMP TABLE more (a int)": false,
		"TRUNCATE settings": false, "VACUUM users": false, "ANALYZE": false, "LOCK TABLE users": false, "INSERT INTO countries VALUES ('xx', 'x')": false,
	} {
		p := f.plan(sql)
		if got := inMotionOnly(p); got != want || got && p.Refusal.Hint != hintFrozen {
			t.Errorf("%s: got %s (%s)", sql, p.Kind, p.Reason)
		}
	}
}

func TestExplainSaysWhatEachShardLeavesOut(t *testing.T) {
	f := placed(t, Placement{Map: evenMap(t, "s0", "s1", "s2"), Moving: []shard.Span{{First: 341, Last: 500}}}, "s0", "s1", "s2")
	sql := []byte("SELECT id FROM users")
	facts := f.schema.Explain(f.cache.Statement(sql), sql, nil)
	if !strings.HasSuffix(facts[0].Reason, reasonMoving) {
		t.Errorf("got %q, want the move among the reasons", facts[0].Reason)
	}
	sends := map[string]string{}
	for _, fact := range facts {
		if fact.Item == "sends" {
			sends[fact.Reason] = fact.Value
		}
	}
	if len(sends) != 3 || sends["to s1"] != string(sql) || !strings.Contains(sends["to s0"], " 500)") || sends["to s2"] != sends["to s0"] {
		t.Errorf("got %q", sends)
	}
}

// One shard that owns all buckets is sent what several could not do.
func TestOneOwnerIsAsOneServer(t *testing.T) {
	for owner, home := range map[shard.Name]bool{"s0": true, "s1": false} {
		f := placed(t, Placement{Map: evenMap(t, owner), Moving: []shard.Span{{First: 0, Last: 99}}}, "s0", "s1")
		at := slices.Index(f.schema.config.Shards, owner)
		for _, sql := range []string{"SELECT count(*), avg(age) FROM users", "SELECT rank() OVER (ORDER BY age) FROM users", "DELETE FROM users WHERE age = 1", "DECLARE c CURSOR FOR SELECT * FROM users",
			"SELECT * FROM users u JOIN orders o ON o.id = u.age", "SELECT now(), id FROM users", "SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY age) FROM users"} {
			if p := f.plan(sql); p.Kind != One || p.Shard != at || p.Parts != nil || p.Touches.Reach != AnyBucket {
				t.Errorf("%s on %s: got %s on %d (%s), want its own text on one", sql, owner, p.Kind, p.Shard, p.Reason)
			}
		}
		if p := f.plan("SELECT * FROM users, settings"); (p.Kind == One) != home || p.Kind != One && p.Kind != Refused {
			t.Errorf("with a table of s0 on %s: got %s (%s)", owner, p.Kind, p.Reason)
		}
	}
}
