package merge

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
)

// comparison is a query over the whole table and what a planner makes of it: the query for each part, where FROM t names the part.
type comparison struct {
	name           string
	whole, partial string
	spec           Spec
	unordered      bool // the query leaves the order of rows open
}

// describe returns the types of a query's columns.
func describe(t testing.TB, conn *pgconn.PgConn, sql string) []Field {
	t.Helper()
	described, err := conn.Prepare(t.Context(), "", sql, nil)
	if err != nil {
		t.Fatalf("%v in %s", err, sql)
	}
	fields := make([]Field, 0, len(described.Fields))
	for _, f := range described.Fields {
		fields = append(fields, Field{OID: f.DataTypeOID})
	}
	return fields
}

// sortRows brings rows into some order of their own.
func sortRows(rows [][]byte) { slices.SortFunc(rows, bytes.Compare) }

// check runs a comparison for a client that gets all columns in one format.
func check(t *testing.T, conn *pgconn.PgConn, c comparison, format int16) {
	t.Helper()
	out := describe(t, conn, c.whole)
	for i := range out {
		out[i].Format = format
	}
	in := describe(t, conn, strings.ReplaceAll(c.partial, "FROM t", "FROM t0"))
	formats, err := c.spec.Formats(in, out, settings)
	if err != nil {
		t.Fatalf("%s: %v", c.name, err)
	}
	for i := range in {
		in[i].Format = formats[i]
	}
	m, err := New(&c.spec, in, out, Config{Settings: settings})
	if err != nil {
		t.Errorf("%s, format %d: %v", c.name, format, err)
		return
	}
	want, err := rows(t, conn, c.whole, []int16{format})
	if err != nil {
		t.Fatalf("%s: %v", c.whole, err)
	}
	var sources [][][]byte
	for part := range parts {
		sql := strings.ReplaceAll(c.partial, "FROM t", fmt.Sprintf("FROM t%d", part))
		got, err := rows(t, conn, sql, formats)
		if err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
		sources = append(sources, got)
	}
	got, err := collect(m, lists(sources...))
	if err != nil {
		t.Errorf("%s, format %d: %v", c.name, format, err)
		return
	}
	if c.unordered {
		sortRows(want)
		sortRows(got)
	}
	report(t, fmt.Sprintf("%s, format %d: %s", c.name, format, c.whole), got, want)
}

// report tells the first row that differs.
func report(t *testing.T, what string, got, want [][]byte) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if !bytes.Equal(got[i], want[i]) {
			t.Errorf("%s:\nrow %d is\n got %s\nwant %s", what, i, show(got[i]), show(want[i]))
			return
		}
	}
	if len(got) != len(want) {
		t.Errorf("%s: got %d rows, want %d", what, len(got), len(want))
	}
}

// inText says whether a column that is shown and compared can come in text alone.
func inText(oid uint32, order bool) bool {
	k := kindOf(oid)
	return k.comparable(formatText, order, &settings) || k.convertible(formatBinary, &settings)
}

func TestOrderIsThatOfOneServer(t *testing.T) {
	conn := dial(t)
	fill(t, conn, 4000, 1)
	for _, c := range columns() {
		for _, direction := range []struct {
			sql string
			key Key
		}{
			{"", Key{}}, {" DESC", Key{Desc: true, NullsFirst: true}}, {" NULLS FIRST", Key{NullsFirst: true}}, {" DESC NULLS LAST", Key{Desc: true}},
		} {
			direction.key.Collation = CollationBytes
			for _, format := range []int16{formatText, formatBinary} {
				sql := "SELECT id, " + c.name + " FROM t ORDER BY " + c.name + direction.sql + ", id"
				one := comparison{name: c.name + direction.sql, whole: sql, partial: sql}
				direction.key.Column = 1
				if format == formatText && !inText(c.oid, true) {
					one.partial = strings.Replace(sql, " FROM", ", "+c.name+" AS copy FROM", 1)
					one.spec.Hidden, direction.key.Column = 1, 2
				}
				one.spec.Sort = []Key{direction.key, {Column: 0}}
				check(t, conn, one, format)
				one.spec.Limited, one.spec.Limit, one.spec.Offset = true, 700, 1500
				one.whole += " LIMIT 700 OFFSET 1500"
				one.partial += " LIMIT 2200"
				check(t, conn, one, format)
			}
		}
	}
}

func TestGroupsAreThoseOfOneServer(t *testing.T) {
	conn := dial(t)
	fill(t, conn, 4000, 2)
	for _, c := range columns() {
		group := []Key{{Column: 0, Collation: CollationBytes}}
		outputs := []Output{{Function: Count, Column: 1}, {Function: Sum, Column: 2}, {Function: First, Column: 0}}
		for _, format := range []int16{formatText, formatBinary} {
			whole := "SELECT count(*), sum(s_int4) FROM t GROUP BY " + c.name + " ORDER BY " + c.name
			partial := "SELECT " + c.name + ", count(*), sum(s_int4) FROM t GROUP BY " + c.name
			spec := Spec{Outputs: outputs, Hidden: 1, Aggregate: true, Group: group, Sort: []Key{{Column: 2, Collation: CollationBytes}}}
			check(t, conn, comparison{name: "hash " + c.name, whole: whole, partial: partial, spec: spec}, format)
			spec.GroupSorted = true
			check(t, conn, comparison{name: "stream " + c.name, whole: whole, partial: partial + " ORDER BY 1", spec: spec}, format)
			spec.Sort = []Key{{Column: 0, Desc: true}, {Column: 1}, {Column: 2, Collation: CollationBytes}}
			check(t, conn, comparison{name: "stream and sort " + c.name,
				whole: "SELECT count(*), sum(s_int4) FROM t GROUP BY " + c.name + " ORDER BY 1 DESC NULLS LAST, 2, " + c.name, partial: partial + " ORDER BY 1", spec: spec}, format)
		}
	}
}

func TestDistinctIsThatOfOneServer(t *testing.T) {
	conn := dial(t)
	fill(t, conn, 4000, 3)
	for _, c := range columns() {
		for _, format := range []int16{formatText, formatBinary} {
			want, err := rows(t, conn, "SELECT count(*) FROM (SELECT DISTINCT "+c.name+" FROM t) AS d", nil)
			if err != nil {
				t.Fatal(err)
			}
			// Which of equal values is given is open, so they are only counted.
			spec := Spec{Hidden: 1, Distinct: []Key{{Column: 1, Collation: CollationDeterministic}}}
			for _, order := range []string{"", " ORDER BY 2 DESC"} {
				if order != "" {
					spec.Sort = []Key{{Column: 1, Desc: true, NullsFirst: true, Collation: CollationBytes}}
				}
				got := merged(t, conn, "SELECT "+c.name+", "+c.name+" AS copy FROM t"+order, spec, []Field{{c.oid, format}})
				if text := fmt.Sprintf("%q", fmt.Sprint(len(got))); text != show(want[0]) {
					t.Errorf("DISTINCT %s%s, format %d: got %s rows, want %s", c.name, order, format, text, show(want[0]))
				}
			}
			key := Key{Column: 1, Collation: CollationBytes}
			sql := "SELECT DISTINCT ON (" + c.name + ") id, " + c.name + " FROM t ORDER BY " + c.name + ", id DESC"
			one := comparison{name: "distinct on " + c.name, whole: sql, partial: sql, spec: Spec{Sort: []Key{key, {Column: 0, Desc: true}}, Distinct: []Key{key}}}
			if format == formatBinary || inText(c.oid, true) {
				check(t, conn, one, format)
			}
		}
	}
	// Over two columns, in an order of one, and over groups.
	for _, format := range []int16{formatText, formatBinary} {
		check(t, conn, comparison{name: "two", unordered: true, whole: "SELECT DISTINCT few, c_bool FROM t", partial: "SELECT DISTINCT few, c_bool FROM t",
			spec: Spec{Distinct: []Key{{Column: 0}, {Column: 1}}}}, format)
		check(t, conn, comparison{name: "counts", whole: "SELECT DISTINCT count(*) FROM t GROUP BY many ORDER BY 1 OFFSET 3", partial: "SELECT many, count(*) FROM t GROUP BY many",
			spec: Spec{Outputs: []Output{{Function: Count, Column: 1}}, Aggregate: true, Group: []Key{{Column: 0}}, Sort: []Key{{Column: 0}}, Distinct: []Key{{Column: 0}}, Offset: 3}}, format)
	}
}

// merged returns the merged rows of a partial query.
func merged(t *testing.T, conn *pgconn.PgConn, partial string, spec Spec, out []Field) [][]byte {
	t.Helper()
	in := describe(t, conn, strings.ReplaceAll(partial, "FROM t", "FROM t0"))
	formats, err := spec.Formats(in, out, settings)
	if err != nil {
		t.Fatal(err)
	}
	for i := range in {
		in[i].Format = formats[i]
	}
	m, err := New(&spec, in, out, Config{Settings: settings})
	if err != nil {
		t.Fatalf("%s: %v", partial, err)
	}
	var sources [][][]byte
	for part := range parts {
		got, err := rows(t, conn, strings.ReplaceAll(partial, "FROM t", fmt.Sprintf("FROM t%d", part)), formats)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, got)
	}
	got, err := collect(m, lists(sources...))
	if err != nil {
		t.Fatalf("%s: %v", partial, err)
	}
	return got
}

// aggregate is a call of an aggregate and the calls that the shards make for it.
type aggregate struct {
	whole    string
	partials []string
	function Function
	beside   bool // the shown value comes as a copy of its own
}

// aggregates leave out what depends on the order of rows on one server too: which of equal values that look different min and max give
// (hence no -0 among the floats), and the last digits of sums of floats.
func aggregates() []aggregate {
	all := []aggregate{
		{"count(*)", []string{"count(*)"}, Count, false},
		{"count(c_text)", []string{"count(c_text)"}, Count, false},
		{"bool_and(c_bool)", []string{"bool_and(c_bool)"}, BoolAnd, false},
		{"bool_or(c_bool)", []string{"bool_or(c_bool)"}, BoolOr, false},
		{"every(id < 9000)", []string{"every(id < 9000)"}, BoolAnd, false},
	}
	for _, c := range []string{"c_int2", "c_int4", "c_int8"} {
		all = append(all, aggregate{"bit_and(" + c + ")", []string{"bit_and(" + c + ")"}, BitAnd, false},
			aggregate{"bit_or(" + c + ")", []string{"bit_or(" + c + ")"}, BitOr, false},
			aggregate{"bit_xor(" + c + ")", []string{"bit_xor(" + c + ")"}, BitXor, false})
	}
	for _, c := range []string{"c_int2", "s_int4", "s_int8", "s_numeric", "c_numeric", "c_plain", "s_float4", "s_float8", "s_interval"} {
		cast := ""
		if c == "s_float4" {
			cast = "::double precision"
		}
		all = append(all, aggregate{"sum(" + c + ")", []string{"sum(" + c + ")"}, Sum, false},
			aggregate{"avg(" + c + ")", []string{"sum(" + c + cast + ")", "count(" + c + ")"}, Avg, false})
	}
	for _, c := range []string{"c_int2", "c_int4", "c_int8", "c_oid", "c_float4 + 0::real", "c_float8 + 0", "c_plain", "c_date", "c_time", "c_timestamp", "c_timestamptz", "c_short", "c_text", "c_varchar", "c_bpchar"} {
		all = append(all, aggregate{"min(" + c + ")", []string{"min(" + c + ")"}, Min, false}, aggregate{"max(" + c + ")", []string{"max(" + c + ")"}, Max, false},
			aggregate{"max(" + c + ")", []string{"max(" + c + ")"}, Max, true})
	}
	return all
}

func TestAggregatesAreThoseOfOneServer(t *testing.T) {
	conn := dial(t)
	fill(t, conn, 4000, 4)
	// A group without values, and one that only one shard has.
	exec(t, conn, "INSERT INTO t (id, few) SELECT n, 7 FROM generate_series(10000, 10020) AS n; INSERT INTO t SELECT id + 20000, 8, many, c_bool FROM t WHERE id < 1")
	for _, a := range aggregates() {
		for _, format := range []int16{formatText, formatBinary} {
			for _, where := range []string{"", " WHERE id < 300", " WHERE few = 7", " WHERE false"} {
				checkAggregate(t, conn, a, where, format)
			}
		}
	}
}

// checkAggregate checks an aggregate over all rows and over groups.
func checkAggregate(t *testing.T, conn *pgconn.PgConn, a aggregate, where string, format int16) {
	t.Helper()
	list := strings.Join(a.partials, ", ")
	output := Output{Function: a.function, Column: 0, Second: 1, Collation: CollationBytes}
	spec := Spec{Outputs: []Output{output}, Aggregate: true}
	if a.beside {
		list += ", " + a.partials[0] + " AS copy"
		spec = Spec{Outputs: []Output{{Function: Beside, Column: 1, Second: 1}, output}, Hidden: 1, Aggregate: true}
	} else if format == formatText && (a.function == Min || a.function == Max) && strings.Contains(a.whole, "timestamptz") || strings.Contains(a.whole, "c_short") && a.function >= Min {
		return // needs Beside
	}
	check(t, conn, comparison{name: a.whole, whole: "SELECT " + a.whole + " FROM t" + where, partial: "SELECT " + list + " FROM t" + where, spec: spec}, format)
	for i := range spec.Outputs {
		spec.Outputs[i].Column++
		if a.function == Avg {
			spec.Outputs[i].Second++
		}
	}
	spec.Outputs = append(spec.Outputs, Output{Column: 0})
	spec.Hidden++
	spec.Group, spec.Sort = []Key{{Column: 0}}, []Key{{Column: len(spec.Outputs) - 1}}
	check(t, conn, comparison{name: a.whole + " by group", whole: "SELECT " + a.whole + " FROM t" + where + " GROUP BY few ORDER BY few",
		partial: "SELECT few, " + list + " FROM t" + where + " GROUP BY few", spec: spec}, format)
	spec.GroupSorted = true
	check(t, conn, comparison{name: a.whole + " by streamed group", whole: "SELECT " + a.whole + " FROM t" + where + " GROUP BY many, few ORDER BY many, few",
		partial: "SELECT many, few, " + list + " FROM t" + where + " GROUP BY many, few ORDER BY many, few", spec: twoKeys(spec)}, format)
}

// twoKeys shifts a Spec by one more column in front and groups by both.
func twoKeys(spec Spec) Spec {
	outputs := slices.Clone(spec.Outputs)
	for i := range outputs {
		outputs[i].Column++
		if outputs[i].Function == Avg {
			outputs[i].Second++
		}
	}
	outputs = append(outputs, Output{Column: 0})
	few, many := len(outputs)-2, len(outputs)-1
	spec.Outputs, spec.Hidden = outputs, spec.Hidden+1
	spec.Group, spec.Sort = []Key{{Column: 0}, {Column: 1}}, []Key{{Column: many}, {Column: few}}
	return spec
}

// TestAveragesFailWhereTheServersDoes: PostgreSQL's avg squares deviations.
func TestAveragesFailWhereTheServersDoes(t *testing.T) {
	conn := dial(t)
	for values, fails := range map[string]bool{"(1e200), (-1e200)": true, "(1e150), (-1e150)": false, "(1e308), (0)": true, "(1e200), (1e200)": false, "('Infinity'::float8), (1)": false} {
		if _, err := rows(t, conn, "SELECT avg(x::float8) FROM (VALUES "+values+") AS v (x)", nil); (err != nil) != fails {
			t.Errorf("the server's avg of %s: %v", values, err)
		}
		m, err := New(&Spec{Aggregate: true, Outputs: []Output{{Function: Avg, Second: 1}}}, plain(oidFloat8, oidInt8), plain(oidFloat8), Config{Settings: settings})
		if err != nil {
			t.Fatal(err)
		}
		parts, err := rows(t, conn, "SELECT x::float8, 1::bigint FROM (VALUES "+values+") AS v (x)", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := collect(m, lists(parts[:1], parts[1:])); (err != nil) != fails {
			t.Errorf("avg of %s: %v", values, err)
		}
	}
}

func TestHavingIsThatOfOneServer(t *testing.T) {
	conn := dial(t)
	fill(t, conn, 4000, 5)
	partial := "SELECT many, count(*), sum(s_int4), sum(s_int8), sum(s_numeric), count(s_numeric), sum(s_float8), max(c_date), max(c_text), bool_or(c_bool), sum(s_float4)," +
		" min(c_timestamp), max(c_bpchar), (SELECT '2030-01-01'::timestamptz), max(c_timestamptz), sum(s_interval) FROM t GROUP BY many"
	outputs := []Output{{Column: 0}, {Function: Count, Column: 1}, {Function: Sum, Column: 2}, {Function: Sum, Column: 3}, {Function: Avg, Column: 4, Second: 5}, {Function: Sum, Column: 6},
		{Function: Max, Column: 7}, {Function: Max, Column: 8, Collation: CollationBytes}, {Function: BoolOr, Column: 9}, {Function: Sum, Column: 10}, {Function: Min, Column: 11},
		{Function: Max, Column: 12, Collation: CollationBytes}, {Column: 13}, {Function: Max, Column: 14}, {Function: Sum, Column: 15}}
	names := []string{"many", "count(*)", "sum(s_int4)", "sum(s_int8)", "avg(s_numeric)", "sum(s_float8)", "max(c_date)", "max(c_text)", "bool_or(c_bool)", "sum(s_float4)", "min(c_timestamp)",
		"max(c_bpchar)", "'2030-01-01'::timestamptz", "max(c_timestamptz)", "sum(s_interval)"}
	operators := map[string]Operator{"=": Equal, "<>": NotEqual, "<": Less, "<=": LessOrEqual, ">": Greater, ">=": GreaterOrEqual}
	constant := func(text string, oid uint32) Constant { return Constant{Value: []byte(text), Type: oid} }
	for _, c := range []struct {
		output   int
		sql      string
		constant Constant
	}{
		{0, "150", constant("150", oidInt4)}, {0, "'150'", constant("150", 0)}, {0, "150.5", constant("150.5", oidNumeric)}, {0, "1.5e2", constant("1.5e2", oidNumeric)},
		{0, "150::float8", constant("150", oidFloat8)}, {1, "13", constant("13", oidInt4)}, {1, "13.0", constant("13.0", oidNumeric)}, {2, "-5000", constant("-5000", oidInt4)},
		{2, "'0'", constant("0", 0)}, {3, "0", constant("0", oidInt4)}, {3, "'-12345678901234567890'", constant("-12345678901234567890", 0)}, {4, ".5", constant(".5", oidNumeric)},
		{4, "'NaN'", constant("NaN", 0)}, {4, "1e15::float8", constant("1e+15", oidFloat8)}, {5, "0.1", constant("0.1", oidNumeric)}, {5, "'-1000.5'", constant("-1000.5", 0)}, {5, "0", constant("0", oidInt4)},
		{6, "'2024-01-31'", constant("2024-01-31", 0)}, {6, "'0044-03-15 BC'::date", constant("0044-03-15 BC", oidDate)}, {7, "'b'", constant("b", 0)}, {7, "'b'::varchar", constant("b", oidVarchar)},
		{8, "true", constant("TRUE", oidBool)}, {8, "'f'", constant("f", 0)}, {9, "0.1", constant("0.1", oidNumeric)}, {9, "12.25", constant("12.25", oidNumeric)}, {9, "'0.1'", constant("0.1", 0)},
		{10, "'1990-01-01 00:00:00'", constant("1990-01-01 00:00:00", 0)}, {11, "'b   '", constant("b   ", 0)}, {1, "NULL", Constant{Null: true}},
	} {
		for operator, code := range operators {
			condition := &Condition{Kind: Compare, Operator: code, Collation: CollationBytes, Left: Operand{Index: c.output}, Right: Operand{Constant: true}}
			spec := Spec{Outputs: outputs, Hidden: len(outputs) - 1, Aggregate: true, Group: []Key{{Column: 0}}, Having: condition, Sort: []Key{{Column: 0}}, Constants: []Constant{c.constant}}
			sql := names[c.output] + " " + operator + " " + c.sql
			for _, format := range []int16{formatText, formatBinary} {
				check(t, conn, comparison{name: sql, whole: "SELECT many FROM t GROUP BY many HAVING " + sql + " ORDER BY many", partial: partial, spec: spec}, format)
			}
		}
	}
	compare := func(left int, operator Operator, right int) *Condition {
		return &Condition{Kind: Compare, Operator: operator, Left: Operand{Index: left}, Right: Operand{Index: right}}
	}
	for sql, condition := range map[string]*Condition{
		"sum(s_int4) > many AND NOT count(*) < many":                            {Kind: And, Args: []*Condition{compare(2, Greater, 0), {Kind: Not, Args: []*Condition{compare(1, Less, 0)}}}},
		"sum(s_float8) > sum(s_float4) OR bool_or(c_bool) IS NULL":              {Kind: Or, Args: []*Condition{compare(5, Greater, 9), {Kind: IsNull, Left: Operand{Index: 8}}}},
		"NOT (sum(s_int8) > avg(s_numeric))":                                    {Kind: Not, Args: []*Condition{compare(3, Greater, 4)}},
		"bool_or(c_bool)":                                                       {Kind: IsTrue, Left: Operand{Index: 8}},
		"max(c_timestamptz) < '2030-01-01'":                                     compare(13, Less, 12),
		"sum(s_interval) <= sum(s_interval)":                                    compare(14, LessOrEqual, 14),
		"sum(s_int4) = 1 OR NOT (sum(s_int4) = 1) OR max(c_date) < max(c_date)": {Kind: Or, Args: []*Condition{compare(2, Equal, 2), compare(6, Less, 6)}},
	} {
		spec := Spec{Outputs: outputs, Hidden: len(outputs) - 1, Aggregate: true, Group: []Key{{Column: 0}}, Having: condition, Sort: []Key{{Column: 0}}}
		check(t, conn, comparison{name: sql, whole: "SELECT many FROM t GROUP BY many HAVING " + sql + " ORDER BY many", partial: partial, spec: spec}, formatText)
	}
}

func TestPlainUnionIsWhole(t *testing.T) {
	conn := dial(t)
	fill(t, conn, 1000, 6)
	for _, format := range []int16{formatText, formatBinary} {
		check(t, conn, comparison{name: "all", unordered: true, whole: "SELECT * FROM t", partial: "SELECT * FROM t"}, format)
		check(t, conn, comparison{name: "turned", unordered: true, whole: "SELECT few, id FROM t", partial: "SELECT id, c_text, few FROM t", spec: Spec{Outputs: []Output{{Column: 2}, {Column: 0}}}}, format)
		check(t, conn, comparison{name: "hidden", unordered: true, whole: "SELECT few, c_text FROM t", partial: "SELECT few, c_text, id FROM t", spec: Spec{Hidden: 1}}, format)
	}
}
