package plan

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/parser"
	"pgtier/router/shard"
)

var update = flag.Bool("update", false, "write the plans that are made now into testdata/plans.golden and testdata/motion.golden")

// goldenFile has the plans while nothing moves, motionFile those while buckets 341 to 500 move.
const (
	goldenFile = "testdata/plans.golden"
	motionFile = "testdata/motion.golden"
)

// goldenCase is one statement of plans.golden: comments begin with #, what the plan is made with with "given ", plans are indented.
type goldenCase struct {
	line   int // number of the statement's line, from 1
	sql    string
	values Values
	c      Circumstances
	want   []string
	loose  bool // the server is not asked whether it takes the text
	// changed: the transaction has changed the catalog.
	changed bool
}

func goldenCases(t *testing.T, lines []string) []goldenCase {
	t.Helper()
	var cases []goldenCase
	for i, line := range lines {
		given, isGiven := strings.CutPrefix(line, "given ")
		switch {
		case line == "", strings.HasPrefix(line, "#"):
		case isGiven:
			give(t, &cases[len(cases)-1], given)
		case strings.HasPrefix(line, "    "):
			c := &cases[len(cases)-1]
			c.want = append(c.want, strings.TrimPrefix(line, "    "))
		default:
			cases = append(cases, goldenCase{line: i + 1, sql: line})
		}
	}
	return cases
}

// give reads what a plan is made with: parameters, "int8:5 | null | text:x", or a circumstance.
func give(t *testing.T, c *goldenCase, given string) {
	t.Helper()
	word, rest, _ := strings.Cut(given, " ")
	switch word {
	case "params":
		c.values.Known = true
		for field := range strings.SplitSeq(rest, " | ") {
			c.values.Params = append(c.values.Params, goldenParam(t, field))
		}
	case "shard":
		c.c.Shard = rest
	case "key":
		c.c.ShardingKey = rest
	case "ascii":
		c.c.ASCII = true
	case "backslashes":
		c.c.Backslashes = true
	case "changed":
		c.changed = true
	case "loose":
		c.loose = true
	default:
		t.Fatalf("given %q is not known", given)
	}
}

var goldenTypes = map[string]uint32{"": 0, "int2": 21, "int4": 23, "int8": 20, "text": 25, "varchar": 1043, "uuid": 2950, "date": 1082, "numeric": 1700,
	"int4[]": 1007, "int8[]": 1016, "text[]": 1009, "float8": 701, "timestamptz": 1184}

// goldenParam reads type:value or null; binary values are type:\x0102.
func goldenParam(t *testing.T, field string) Param {
	t.Helper()
	if field == "null" {
		return Param{Null: true}
	}
	name, value, _ := strings.Cut(field, ":")
	oid, ok := goldenTypes[name]
	if !ok {
		t.Fatalf("type %q is not known", name)
	}
	if digits, binary := strings.CutPrefix(value, `\x`); binary {
		var data []byte
		if _, err := fmt.Sscanf(digits, "%x", &data); err != nil {
			t.Fatal(err)
		}
		return Param{OID: oid, Binary: true, Value: data}
	}
	return Param{OID: oid, Value: []byte(value)}
}

// TestPlansGolden compares plans with the files, and has the server parse every text that is sent.
func TestPlansGolden(t *testing.T) {
	conn := testDatabase(t)
	schema, _ := testSchema(t, conn)
	runGolden(t, conn, schema, goldenFile)
	at := Placement{Map: evenMap(t, schema.config.Shards...), Moving: []shard.Span{{First: 341, Last: 500}}, Frozen: true}
	moving, _, err := NewSchema(schema.config, schema.catalog, at)
	if err != nil {
		t.Fatal(err)
	}
	runGolden(t, conn, moving, motionFile)
}

func runGolden(t *testing.T, conn *pgconn.PgConn, schema *Schema, file string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimRight(string(text), "\n"), "\n")
	cache := newCache()
	got := map[int][]string{}
	cases := goldenCases(t, lines)
	for _, c := range cases {
		p, sent := goldenPlan(schema, cache, &c)
		got[c.line] = p
		if !*update && !slices.Equal(p, c.want) {
			t.Errorf("%s:%d: %s\n got:\n    %s\nwant:\n    %s", file, c.line, c.sql, strings.Join(p, "\n    "), strings.Join(c.want, "\n    "))
		}
		if !c.loose {
			takes(t, conn, &c, sent)
		}
	}
	if *update {
		writeGolden(t, file, lines, got)
	}
}

// takes has the server parse a statement and the texts made of it.
func takes(t *testing.T, conn *pgconn.PgConn, c *goldenCase, sent []string) {
	t.Helper()
	for _, sql := range append([]string{c.sql}, sent...) {
		if strings.Contains(sql, ";") {
			continue
		}
		if _, err := conn.Prepare(t.Context(), "", sql, nil); err != nil {
			t.Errorf("line %d: the server does not take it: %v\n%s", c.line, err, sql)
		}
	}
}

// goldenPlan prints the plan of a case, and returns the texts that were made for shards.
func goldenPlan(schema *Schema, cache *parser.Cache, c *goldenCase) (lines, sent []string) {
	sql := []byte(c.sql)
	values := c.values
	values.SQL = sql
	st := cache.Statement(sql)
	statement := schema.Statement(st, sql)
	if c.changed {
		statement = schema.Changed(st, sql)
	}
	p := statement.Route(&values, &c.c)
	lines = printPlan(schema, p)
	if p.Needs != nil {
		numbers := make([]int64, p.Needs.Count)
		for i := range numbers {
			numbers[i] = int64(101 + i)
		}
		p = statement.Numbered(&values, &c.c, numbers)
		lines = append(lines, printPlan(schema, p)...)
	}
	if len(p.Copy.Stamps()) > 0 {
		text, err := p.Copy.Text(sql)
		if err != nil {
			return append(lines, err.Error()), nil
		}
		return append(lines, "all: "+string(text)), nil
	}
	if p.Parts == nil {
		return lines, nil
	}
	if stamps := p.Parts.Stamps(); len(stamps) > 0 {
		lines = append(lines, "  stamps: "+strings.Join(stamps, ", "))
		p.Parts = p.Parts.Stamped(slices.Repeat([]string{"2024-01-01T10:00:00+00:00"}, len(stamps)))
	}
	for i := range p.Shards {
		text, err := p.Parts.Text(i, sql)
		if err != nil {
			return append(lines, "error: "+err.Error()), sent
		}
		if len(sent) == 0 || sent[len(sent)-1] != string(text) {
			lines = append(lines, fmt.Sprintf("%s: %s", schema.config.Shards[p.Shards[i]], shortBuckets(string(bytes.TrimSpace(text)), p.Parts.own)))
			sent = append(sent, string(text))
		}
		if unused, _ := p.Parts.Unused(i, sql); len(unused) > 0 {
			lines = append(lines, fmt.Sprintf("  without parameters %v", unused))
			sent = sent[:len(sent)-1]
		}
	}
	if p.Final == nil {
		return lines, sent
	}
	text, err := p.finalText(sql)
	if err != nil {
		return append(lines, "error: "+err.Error()), sent
	}
	return append(lines, "final: "+shortBuckets(string(text), p.Parts.own)), sent
}

// shortBuckets is a text with what computes buckets cut short.
func shortBuckets(text string, o *own) string {
	if o == nil {
		return text
	}
	for _, s := range o.sites {
		var columns []string
		for _, m := range quotedColumn.FindAllString(s.bucket, -1) {
			if !slices.Contains(columns, m) {
				columns = append(columns, m)
			}
		}
		text = strings.ReplaceAll(text, s.bucket, "bucket("+strings.Join(columns, ", ")+")")
	}
	return text
}

var quotedColumn = regexp.MustCompile(`("\w+"\.)?"\w+"`)

// printPlan prints a plan without its texts.
func printPlan(schema *Schema, p Plan) []string {
	line := p.Kind.String()
	if p.Kind == One || p.Kind == Any {
		line += " " + string(schema.config.Shards[p.Shard])
	}
	for _, i := range p.Shards {
		line += " " + string(schema.config.Shards[i])
	}
	for _, flag := range []struct {
		set  bool
		word string
	}{{p.Write, "write"}, {p.Open, "open"}, {p.Explain, "explain"}, {p.Mixed, "mixed"}, {p.Outside, "outside"}, {p.Apart, "apart"}} {
		if flag.set {
			line += " " + flag.word
		}
	}
	if p.Needs != nil {
		line += fmt.Sprintf(" needs %d of %s", p.Needs.Count, p.Needs.Sequence)
	}
	if p.Refusal != nil {
		line += " " + p.Refusal.Code + ": " + p.Refusal.Message
		lines := []string{line}
		if p.Refusal.Detail != "" {
			lines = append(lines, "  detail: "+p.Refusal.Detail)
		}
		return append(lines, "  hint: "+p.Refusal.Hint)
	}
	lines := []string{line + " (" + p.Reason + ")"}
	if len(p.Locks) > 0 {
		lines = append(lines, "  locks:"+printLocks(schema, p.Locks))
	}
	if p.Copy != nil {
		lines = append(lines, fmt.Sprintf("  copy: %d columns, key %v, %+v", p.Copy.Columns, p.Copy.Key, p.Copy.Format))
		for _, s := range p.Copy.Stamps() {
			lines = append(lines, "  stamps "+s.Name+": "+s.Value)
		}
	}
	if p.Merge != nil {
		lines = append(lines, "  merge:"+printMerge(p))
	}
	return lines
}

// printLocks names the tables of locks, in order of their names.
func printLocks(schema *Schema, locks []Lock) (text string) {
	for _, t := range slices.SortedFunc(maps.Values(schema.byOID), func(a, b *table) int { return cmp.Compare(a.name, b.name) }) {
		for _, l := range locks {
			if l.Key == lockKey(t) && l.Shared {
				text += " shared"
			}
			if l.Key == lockKey(t) {
				text += " " + t.name
			}
		}
	}
	return text
}

// writeGolden puts the plans under their statements.
func writeGolden(t *testing.T, file string, lines []string, got map[int][]string) {
	t.Helper()
	var out []string
	var pending []string
	flush := func() {
		for _, line := range pending {
			out = append(out, "    "+line)
		}
		pending = nil
	}
	for i, line := range lines {
		switch {
		case strings.HasPrefix(line, "    "):
			continue
		case strings.HasPrefix(line, "given "):
		default:
			flush()
		}
		out = append(out, line)
		if p, ok := got[i+1]; ok {
			pending = p
		}
	}
	flush()
	if err := os.WriteFile(file, []byte(strings.Join(out, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}
