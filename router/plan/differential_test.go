package plan

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/parser"
	"pgtier/proxy/merge"
)

// fleet is one database with all rows and the same rows on shards.
type fleet struct {
	t      *testing.T
	schema *Schema
	cache  *parser.Cache
	whole  *pgconn.PgConn
	shards []*pgconn.PgConn
	// clean are the shards with their own rows alone, where buckets move; foreign are the others, by shard and table.
	clean   []*pgconn.PgConn
	foreign []map[string][]string
}

// newFleet fills the databases: sharded tables row by row where their plans say.
func newFleet(t *testing.T) *fleet {
	f := &fleet{t: t, cache: newCache(), whole: testDatabase(t)}
	f.schema, _ = testSchema(t, f.whole)
	for range f.schema.config.Shards {
		f.shards = append(f.shards, testDatabase(t))
	}
	for _, sql := range testRows() {
		f.exec(f.whole, sql)
		p := f.plan(sql)
		switch p.Kind {
		case One:
			f.exec(f.shards[p.Shard], sql)
		case Everywhere:
			for _, conn := range f.shards {
				f.exec(conn, sql)
			}
		default:
			t.Fatalf("%s: got %s (%s)", sql, p.Kind, p.Reason)
		}
	}
	return f
}

// testRows are INSERTs of one row each.
func testRows() (list []string) {
	r := rand.New(rand.NewPCG(1, 2))
	add := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	maybe := func(value string) string {
		if r.IntN(5) == 0 {
			return "NULL"
		}
		return value
	}
	countries := []string{"DE", "FR", "US", "x-1", "acme"}
	for i, code := range countries {
		add("INSERT INTO countries VALUES ('%s', 'name %d', 'EUR', %d)", code, i%3, i)
	}
	add("INSERT INTO currencies VALUES ('EUR', 1.5, '2024-01-01')")
	for i := range 6 {
		add("INSERT INTO settings VALUES ('key %d', '%d')", i, i)
	}
	for id := 1; id <= 14; id++ {
		add("INSERT INTO users VALUES (%d, %s, %s, %s, %s, %d.%02d, '%s', %s, '2000-01-%02d', '2024-05-%02d')", id,
			maybe(fmt.Sprintf("'n%d'", r.IntN(4))), maybe(fmt.Sprintf("'e%d'", r.IntN(4))), maybe(fmt.Sprint(r.IntN(8))), maybe("1.5"), r.IntN(9), r.IntN(99),
			countries[r.IntN(len(countries))], maybe("true"), 1+r.IntN(3), 1+r.IntN(3))
		if id%3 != 0 {
			add("INSERT INTO profiles VALUES (%d, 'bio', '{a}')", id)
		}
		add("INSERT INTO posts VALUES (%d, 'title %d', 'body')", id, id%3)
		for n := range r.IntN(4) {
			add("INSERT INTO orders VALUES (%d, %d, %s, '%s', %s, '%s', '2024-01-0%d')", id, n+1, maybe(fmt.Sprintf("%d.5", r.IntN(20))),
				[]string{"open", "paid"}[r.IntN(2)], maybe(fmt.Sprintf("'n%d'", r.IntN(4))), countries[r.IntN(len(countries))], 1+n)
			for line := range r.IntN(3) {
				add("INSERT INTO items VALUES (%d, %d, %d, 'x-%d', %d, %d.5)", id, n+1, line+1, line, r.IntN(5), r.IntN(5))
			}
		}
	}
	for i, tenant := range []string{"acme", "n1", "n2", "größe", "a b", "ac\tme"} {
		for seq := range i {
			add("INSERT INTO events VALUES ('%s', %d, %s)", tenant, seq, maybe("'kind'"))
		}
	}
	for i, region := range []string{"eu", "us", "eu", "asia"} {
		for customer := 4; customer < 8; customer++ {
			add("INSERT INTO shipments VALUES ('%s', %d, %d, 1.5)", region, customer, i)
		}
	}
	for i := range 9 {
		add("INSERT INTO products VALUES ('x-%d', 'title', %d)", i, i)
		add("INSERT INTO days VALUES ('2024-02-%02d', %d)", 20+i-i%2, i)
		add("INSERT INTO metrics VALUES (%d, '2024-01-%02d', %d)", i%4, i+1, i)
		add("INSERT INTO public.docs VALUES ('0d2a1f04-3c2b-4c8e-9d61-0e6a3f7b9c2%d', 'title', %d)", i, i)
	}
	for i, k := range []string{"1.005", "1.015", "7", "2.50"} {
		add("INSERT INTO exact VALUES (%s, %d)", k, i)
		add("INSERT INTO rounded VALUES (%d.25, %d)", i, i)
		add("INSERT INTO short VALUES ('k%d', %d)", i, i)
		add("INSERT INTO long VALUES ('long%d  ', %d)", i, i)
	}
	for _, code := range []string{"FRA", "FR", "MUC"} {
		add("INSERT INTO airports VALUES ('%s', 'city')", code)
	}
	seen := map[string]bool{}
	return slices.DeleteFunc(list, func(sql string) bool { // days come twice
		key := sql
		if strings.Contains(sql, "INTO days") {
			key = sql[:len("INSERT INTO days VALUES ('2024-02-22'")]
		}
		old := seen[key]
		seen[key] = true
		return old
	})
}

func (f *fleet) plan(sql string) Plan {
	text := []byte(sql)
	return f.schema.Statement(f.cache.Statement(text), text).Route(&Values{SQL: text, Known: true}, nil)
}

func (f *fleet) exec(conn *pgconn.PgConn, sql string) {
	f.t.Helper()
	if _, err := conn.Exec(f.t.Context(), sql).ReadAll(); err != nil {
		f.t.Fatalf("%s: %v", sql, err)
	}
}

// answer is what a statement gives.
type answer struct {
	rows  []string
	count int64
}

// ask runs a statement that the server may refuse.
func (f *fleet) ask(conn *pgconn.PgConn, sql string, formats []int16) (bodies [][]byte, a answer, err error) {
	result := conn.ExecParams(f.t.Context(), sql, nil, nil, nil, formats)
	for result.NextRow() {
		bodies = append(bodies, dataRow(result.Values()))
		a.rows = append(a.rows, string(bodies[len(bodies)-1]))
	}
	tag, err := result.Close()
	a.count = tag.RowsAffected()
	return bodies, a, err
}

// dataRow is the body of a DataRow.
func dataRow(values [][]byte) []byte {
	row := binary.BigEndian.AppendUint16(nil, uint16(len(values)))
	for _, v := range values {
		if v == nil {
			row = binary.BigEndian.AppendUint32(row, 0xFFFFFFFF)
			continue
		}
		row = append(binary.BigEndian.AppendUint32(row, uint32(len(v))), v...)
	}
	return row
}

var errRefusedLate = errors.New("refused by the merge")

// run carries out a plan.
func (f *fleet) run(sql string, p Plan) (a answer, err error) {
	if p.Kind == One || p.Kind == Any {
		_, a, err = f.ask(f.shards[p.Shard], sql, nil)
		return a, err
	}
	if stamps := p.Parts.Stamps(); len(stamps) > 0 {
		results, err := f.shards[0].Exec(context.Background(), "SELECT "+strings.Join(stamps, ", ")).ReadAll()
		if err != nil {
			return a, err
		}
		var values []string
		for _, v := range results[0].Rows[0] {
			values = append(values, string(v))
		}
		p.Parts = p.Parts.Stamped(values)
	}
	var parts [][][]byte
	var merger *merge.Merger
	for i, s := range p.Shards {
		text := sql
		if p.Parts != nil {
			made, err := p.Parts.Text(i, []byte(sql))
			if err != nil {
				return a, err
			}
			text = string(made)
		}
		var formats []int16
		if p.Merge != nil {
			if merger, formats, err = f.merger(f.shards[s], sql, text, p); err != nil {
				return a, err
			}
		}
		rows, one, err := f.ask(f.shards[s], text, formats)
		if err != nil {
			return a, err
		}
		if p.Kind == Everywhere && s != p.Shard {
			continue
		}
		a.rows = append(a.rows, one.rows...)
		a.count += one.count
		parts = append(parts, rows)
	}
	if merger == nil {
		return a, nil
	}
	var sources []merge.Source
	for _, rows := range parts {
		sources = append(sources, &rowSource{rows})
	}
	a = answer{}
	emit := func(row []byte) error {
		a.rows = append(a.rows, string(row))
		return nil
	}
	if p.Final != nil {
		return f.finish(sql, p, merger, sources)
	}
	_, err = merger.Run(sources, emit)
	a.count = int64(len(a.rows))
	return a, err
}

// finish has a server make the answer of merged groups.
func (f *fleet) finish(sql string, p Plan, merger *merge.Merger, sources []merge.Source) (a answer, err error) {
	in, err := f.values(sql, p)
	if err != nil {
		return a, err
	}
	arrays, err := merge.NewArrays(in, mergeConfig)
	if err != nil {
		return a, fmt.Errorf("%w: %w", errRefusedLate, err)
	}
	if _, err := merger.Run(sources, arrays.Add); err != nil {
		return a, err
	}
	text, err := p.finalText([]byte(sql))
	if err != nil {
		return a, err
	}
	result := f.shards[p.Shards[0]].ExecParams(f.t.Context(), string(text), arrays.Values(), arrays.Types(), slices.Repeat([]int16{1}, len(in)), nil)
	for result.NextRow() {
		a.rows = append(a.rows, string(dataRow(result.Values())))
	}
	types := result.FieldDescriptions()
	if _, err = result.Close(); err != nil {
		return a, err
	}
	want, err := f.fields(f.whole, sql)
	for i := range want {
		if types[i].DataTypeOID != want[i].OID {
			f.t.Errorf("%s\ncolumn %d is of type %d, want %d", sql, i+1, types[i].DataTypeOID, want[i].OID)
		}
	}
	a.count = int64(len(a.rows))
	return a, err
}

// values are what the merge makes for a Final.
func (f *fleet) values(sql string, p Plan) (fields []merge.Field, err error) {
	part, err := p.Parts.Text(0, []byte(sql))
	if err != nil {
		return nil, err
	}
	in, err := f.fields(f.shards[p.Shards[0]], string(part))
	for _, at := range p.Final.Columns() {
		fields = append(fields, merge.Field{OID: in[at].OID, Format: 1})
	}
	return fields, err
}

// mergeConfig is that of sessions with the servers' own settings.
var mergeConfig = merge.Config{Settings: merge.Settings{DateStyle: "ISO, MDY", IntervalStyle: "postgres", ByteaOutput: "hex", ExtraFloatDigits: 1}}

// merger makes the merge of a plan, and says in which formats the shards' columns are asked for.
func (f *fleet) merger(conn *pgconn.PgConn, sql, text string, p Plan) (*merge.Merger, []int16, error) {
	out, err := f.fields(conn, sql)
	if err != nil {
		return nil, nil, err
	}
	in, err := f.fields(conn, text)
	if err != nil {
		return nil, nil, err
	}
	if p.Columns > 0 && len(in) != p.Columns {
		return nil, nil, fmt.Errorf("%d columns, want %d", len(in), p.Columns)
	}
	if p.Final != nil {
		if out, err = f.values(sql, p); err != nil {
			return nil, nil, err
		}
	}
	formats, err := p.Merge.Formats(in, out, mergeConfig.Settings)
	if err != nil {
		return nil, nil, err
	}
	for i := range formats {
		in[i].Format = formats[i]
	}
	m, err := merge.New(p.Merge, in, out, mergeConfig)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", errRefusedLate, err)
	}
	return m, formats, nil
}

func (f *fleet) fields(conn *pgconn.PgConn, sql string) (fields []merge.Field, err error) {
	d, err := conn.Prepare(f.t.Context(), "", sql, nil)
	if err != nil {
		return nil, err
	}
	for _, field := range d.Fields {
		fields = append(fields, merge.Field{OID: field.DataTypeOID})
	}
	return fields, nil
}

// rowSource gives rows.
type rowSource struct{ rows [][]byte }

func (s *rowSource) Next() ([]byte, error) {
	if len(s.rows) == 0 {
		return nil, io.EOF
	}
	row := s.rows[0]
	s.rows = s.rows[1:]
	return row, nil
}

// comparable says whether a statement of the golden file gives the same wherever it runs.
func comparableCase(c *goldenCase) bool {
	if c.loose || c.changed || len(c.values.Params) > 0 || strings.Contains(c.sql, ";") || strings.Contains(c.sql, "$1") || c.c != (Circumstances{}) {
		return false
	}
	lower := strings.ToLower(c.sql)
	for _, word := range []string{"random", "now(", "current_", "'now'", "yesterday", "tablesample", "pg_", "version", "nextval", "ctid", "explain", "copy", "pgtier",
		"create", "alter", "vacuum", "reindex", "analyze", "begin", "listen", "notify", "lock table", "setval", "information_schema", "into copied", "prepare", "drop "} {
		if strings.Contains(lower, word) {
			return false
		}
	}
	return true
}

// TestPlansGiveTheAnswerOfOneServer carries out the golden file's statements on one database with all rows, and as their plans say on shards: the rows, the
// counts and what is in the tables afterwards must be the same.
func TestPlansGiveTheAnswerOfOneServer(t *testing.T) {
	f := newFleet(t)
	text, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	ran := map[Kind]int{}
	for _, c := range goldenCases(t, strings.Split(string(text), "\n")) {
		if !comparableCase(&c) {
			continue
		}
		p := f.plan(c.sql)
		switch p.Kind {
		case One, Any, Scatter, Spread, Everywhere:
			if p.Needs == nil && f.compare(&c, p) {
				ran[p.Kind]++
			}
		}
	}
	t.Log(ran)
	if ran[One] < 100 || ran[Scatter] < 100 || ran[Spread] < 10 {
		t.Errorf("compared %v, want more", ran)
	}
}

// compare carries out one statement on both sides, and undoes it. It says whether both gave an answer.
func (f *fleet) compare(c *goldenCase, p Plan) bool {
	f.t.Helper()
	all := append([]*pgconn.PgConn{f.whole}, f.shards...)
	for _, conn := range all {
		f.exec(conn, "BEGIN")
		defer f.exec(conn, "ROLLBACK")
	}
	_, want, wantErr := f.ask(f.whole, c.sql, nil)
	got, err := f.run(c.sql, p)
	switch {
	case errors.Is(err, errRefusedLate):
		return false
	case err != nil || wantErr != nil:
		if (err == nil) != (wantErr == nil) {
			f.t.Errorf("%s:%d: %s\ngot error %v, want %v", goldenFile, c.line, c.sql, err, wantErr)
		}
		return false
	}
	some := slices.ContainsFunc([]string{"LIMIT", "FETCH", "OFFSET", "DISTINCT ON"}, func(word string) bool { return strings.Contains(c.sql, word) })
	slices.Sort(want.rows)
	slices.Sort(got.rows)
	if got.count != want.count || !some && !slices.Equal(got.rows, want.rows) {
		f.t.Errorf("%s:%d: %s\n%s: got %d rows %q\nwant %d rows %q", goldenFile, c.line, c.sql, p.Kind, got.count, got.rows, want.count, want.rows)
	}
	if p.Write {
		f.compareTables(c)
		f.keptForeign(c.sql)
	}
	return true
}

// rowsOf are the rows of a table that a shard owns, and the others, sorted.
func (f *fleet) rowsOf(conn *pgconn.PgConn, i int, table *table) (own, foreign []string) {
	f.t.Helper()
	sql := "SELECT * FROM " + table.relation.String()
	list := func(where string) []string {
		_, rows, err := f.ask(conn, sql+where, nil)
		if err != nil {
			f.t.Fatal(err)
		}
		slices.Sort(rows.rows)
		return rows.rows
	}
	if !table.sharded() || len(f.schema.foreign[i]) == 0 {
		return list(""), nil
	}
	condition := table.key.Outside(table.key.Expression(""), f.schema.foreign[i])
	return list(" WHERE " + condition), list(" WHERE NOT (" + condition + ")")
}

// compareTables compares what is in all tables.
func (f *fleet) compareTables(c *goldenCase) {
	f.t.Helper()
	for _, list := range f.schema.tables {
		for _, table := range list {
			if strings.IndexByte("rp", table.relation.Kind) < 0 || slices.Contains([]string{"audit", "notes"}, table.relation.Name) { // they have times
				continue
			}
			sql := "SELECT * FROM " + table.relation.String()
			_, want, err := f.ask(f.whole, sql, nil)
			if err != nil {
				f.t.Fatal(err)
			}
			var got []string
			for i, conn := range f.shards {
				if table.place == placeReference && i > 0 || table.place == placeHome && i != f.schema.config.Home {
					continue
				}
				own, _ := f.rowsOf(conn, i, table)
				got = append(got, own...)
			}
			slices.Sort(want.rows)
			slices.Sort(got)
			if !slices.Equal(got, want.rows) {
				f.t.Errorf("%s:%d: %s\nrows of %s: got %q\nwant %q", goldenFile, c.line, c.sql, table.name, got, want.rows)
			}
		}
	}
}
