package merge

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"pgtier/proxy/wire"
)

// list is a Source of rows that it forgets as soon as the next is asked for.
type list struct {
	rows [][]byte
	at   int
	row  []byte
}

func (l *list) Next() ([]byte, error) {
	for i := range l.row {
		l.row[i] = 0xEE
	}
	if l.at == len(l.rows) {
		return nil, io.EOF
	}
	l.row = append(l.row[:0], l.rows[l.at]...)
	l.at++
	return l.row, nil
}

func lists(parts ...[][]byte) []Source {
	sources := make([]Source, 0, len(parts))
	for _, part := range parts {
		sources = append(sources, &list{rows: part})
	}
	return sources
}

// collect runs a merger and returns its rows.
func collect(m *Merger, sources []Source) ([][]byte, error) {
	var all [][]byte
	count, err := m.Run(sources, func(row []byte) error {
		all = append(all, append([]byte(nil), row...))
		return nil
	})
	if err == nil && count != int64(len(all)) {
		err = fmt.Errorf("%d rows told, %d emitted", count, len(all))
	}
	return all, err
}

// texts makes rows of text; "-" is NULL, and columns are apart by commas.
func texts(rows ...string) [][]byte {
	all := make([][]byte, 0, len(rows))
	for _, row := range rows {
		var values [][]byte
		for _, value := range strings.Split(row, ",") {
			if value == "-" {
				values = append(values, nil)
				continue
			}
			values = append(values, []byte(value))
		}
		all = append(all, body(values...))
	}
	return all
}

// plain are columns in text.
func plain(oids ...uint32) []Field {
	fields := make([]Field, 0, len(oids))
	for _, oid := range oids {
		fields = append(fields, Field{OID: oid})
	}
	return fields
}

func TestMerges(t *testing.T) {
	byFirst := []Key{{Column: 0}}
	for _, tc := range []struct {
		name    string
		spec    Spec
		in, out []Field
		sources [][][]byte
		want    [][]byte
	}{
		{"no sources", Spec{}, plain(oidInt4), plain(oidInt4), nil, nil},
		{"union keeps the order of sources", Spec{}, plain(oidInt4), plain(oidInt4), [][][]byte{texts("2", "1"), nil, texts("3", "-")}, texts("2", "1", "3", "-")},
		{"limit ends in the second source", Spec{Limited: true, Limit: 2, Offset: 1}, plain(oidInt4), plain(oidInt4), [][][]byte{texts("2", "1"), texts("3", "4")}, texts("1", "3")},
		{"limit 0", Spec{Limited: true, Sort: byFirst}, plain(oidInt4), plain(oidInt4), [][][]byte{texts("2")}, nil},
		{"offset beyond the end", Spec{Offset: 9}, plain(oidInt4), plain(oidInt4), [][][]byte{texts("2")}, nil},
		{"equal rows in the order of sources", Spec{Sort: byFirst}, plain(oidInt4, oidText), plain(oidInt4, oidText),
			[][][]byte{texts("1,a", "2,a"), texts("1,b", "1,b2", "2,b"), texts("1,c", "-,c")}, texts("1,a", "1,b", "1,b2", "1,c", "2,a", "2,b", "-,c")},
		{"NULLs first, descending", Spec{Sort: []Key{{Desc: true, NullsFirst: true}}}, plain(oidInt4), plain(oidInt4), [][][]byte{texts("-", "3"), texts("-", "4", "2")}, texts("-", "-", "4", "3", "2")},
		{"hidden key", Spec{Hidden: 1, Sort: []Key{{Column: 1}}}, plain(oidText, oidInt4), plain(oidText), [][][]byte{texts("a,1", "c,3"), texts("b,2")}, texts("a", "b", "c")},
		{"count of nothing", Spec{Aggregate: true, Outputs: []Output{{Function: Count}, {Function: Sum}}}, plain(oidInt8), plain(oidInt8, oidInt8), nil, texts("0,-")},
		{"no group of nothing", Spec{Aggregate: true, Outputs: []Output{{Function: Count}}, Group: byFirst}, plain(oidInt8), plain(oidInt8), nil, nil},
		{"NULL is a group", Spec{Aggregate: true, Outputs: []Output{{}, {Function: Count, Column: 1}}, Group: byFirst}, plain(oidInt4, oidInt8), plain(oidInt4, oidInt8),
			[][][]byte{texts("-,1", "1,1"), texts("-,2")}, texts("-,3", "1,1")},
		{"first seen value of equal ones", Spec{Aggregate: true, Outputs: []Output{{}, {Function: Count, Column: 1}}, Group: byFirst}, plain(oidNumeric, oidInt8), plain(oidNumeric, oidInt8),
			[][][]byte{texts("1.0,1"), texts("1.00,2", "1,3")}, texts("1.0,6")},
		{"largest scale", Spec{Aggregate: true, Outputs: []Output{{Function: Sum}}}, plain(oidNumeric), plain(oidNumeric), [][][]byte{texts("1.5"), texts("-0.500"), texts("0")}, texts("1.000")},
		{"infinities of both signs", Spec{Aggregate: true, Outputs: []Output{{Function: Sum}}}, plain(oidNumeric), plain(oidNumeric), [][][]byte{texts("-Infinity"), texts("Infinity", "1")}, texts("NaN")},
		{"sum of -0", Spec{Aggregate: true, Outputs: []Output{{Function: Sum}, {Function: Avg, Column: 0, Second: 1}}}, plain(oidFloat8, oidInt8), plain(oidFloat8, oidFloat8),
			[][][]byte{texts("-0,1"), texts("-0,1")}, texts("-0,0")},
		{"blanks at the end of character", Spec{Distinct: []Key{{Collation: CollationDeterministic}}}, plain(oidBpchar), plain(oidBpchar), [][][]byte{texts("a "), texts("a", " a")}, texts("a ", " a")},
		{"distinct NULLs", Spec{Distinct: byFirst}, plain(oidInt4), plain(oidInt4), [][][]byte{texts("-", "1"), texts("1", "-")}, texts("-", "1")},
		{"distinct NaN and zeros", Spec{Distinct: byFirst}, plain(oidFloat8), plain(oidFloat8), [][][]byte{texts("NaN", "0"), texts("-0", "NaN")}, texts("NaN", "0")},
		{"empty text is no NULL", Spec{Distinct: []Key{{Collation: CollationDeterministic}}}, plain(oidText), plain(oidText), [][][]byte{texts("", "-"), texts("-", "")}, texts("", "-")},
	} {
		m, err := New(&tc.spec, tc.in, tc.out, Config{Settings: settings})
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		for range 2 { // a Merger can run again
			got, err := collect(m, lists(tc.sources...))
			if err != nil {
				t.Errorf("%s: %v", tc.name, err)
			}
			report(t, tc.name, got, tc.want)
		}
	}
}

// code returns the SQLSTATE of an error.
func code(err error) string {
	var e *wire.Error
	if !errors.As(err, &e) {
		return fmt.Sprint(err)
	}
	return e.Code
}

func TestWhatCannotBeExactIsRefused(t *testing.T) {
	key := func(c Collation) []Key { return []Key{{Collation: c}} }
	count := []Output{{Function: Count, Column: 1}}
	having := func(oid uint32, constant Constant, collation Collation, operator Operator) Spec {
		return Spec{Aggregate: true, Outputs: []Output{{Column: 0}}, Group: key(CollationDeterministic), Constants: []Constant{constant},
			Having: &Condition{Kind: Compare, Operator: operator, Collation: collation, Right: Operand{Constant: true}}}
	}
	binary := func(oid uint32) []Field { return []Field{{oid, formatBinary}} }
	german := Settings{DateStyle: "German, DMY", IntervalStyle: "iso_8601", ByteaOutput: "escape"}
	for _, tc := range []struct {
		name     string
		spec     Spec
		in, out  []Field
		settings Settings
		want     string
	}{
		{"order of jsonb", Spec{Sort: key(0)}, plain(3802), plain(3802), settings, "ORDER BY of type jsonb"},
		{"order of an enum", Spec{Sort: key(0)}, plain(123456), plain(123456), settings, "ORDER BY of type with OID 123456"},
		{"order of text of any collation", Spec{Sort: key(CollationDeterministic)}, plain(oidText), plain(oidText), settings, "ORDER BY of type text"},
		{"equality of text of unknown collation", Spec{Distinct: key(CollationUnknown)}, plain(oidText), plain(oidText), settings, "DISTINCT of type text"},
		{"groups of unknown collation", Spec{Aggregate: true, Outputs: count, Group: key(CollationUnknown)}, plain(oidText, oidInt8), plain(oidInt8), settings, "GROUP BY of type text"},
		{"order of moments in text", Spec{Sort: key(0)}, plain(oidTimestamptz), plain(oidTimestamptz), settings, "in text"},
		{"order of dates in German", Spec{Sort: key(0)}, plain(oidDate), plain(oidDate), german, "in text"},
		{"groups of rounded floats", Spec{Aggregate: true, Outputs: count, Group: key(0)}, plain(oidFloat8, oidInt8), plain(oidInt8), german, "in text"},
		{"sum of rounded floats", Spec{Aggregate: true, Outputs: []Output{{Function: Sum}}}, binary(oidFloat8), plain(oidFloat8), german, "in text"},
		{"sum of intervals in another style", Spec{Aggregate: true, Outputs: []Output{{Function: Sum}}}, binary(oidInterval), plain(oidInterval), german, "in text"},
		{"sum of money", Spec{Aggregate: true, Outputs: []Output{{Function: Sum}}}, plain(790), plain(790), settings, "sum of type money"},
		{"sum of bytea", Spec{Aggregate: true, Outputs: []Output{{Function: Sum}}}, plain(oidBytea), plain(oidBytea), settings, "sum of type bytea"},
		{"avg of sums of real", Spec{Aggregate: true, Outputs: []Output{{Function: Avg, Second: 1}}}, plain(oidFloat4, oidInt8), plain(oidFloat8), settings, "avg of type real"},
		{"max of text of any collation", Spec{Aggregate: true, Outputs: []Output{{Function: Max, Collation: CollationDeterministic}}}, plain(oidText), plain(oidText), settings, "max of type text"},
		{"bool_and of numbers", Spec{Aggregate: true, Outputs: []Output{{Function: BoolAnd}}}, plain(oidInt4), plain(oidInt4), settings, "bool_and of type integer"},
		{"another type than announced", Spec{}, plain(oidInt8), plain(oidNumeric), settings, "column 1 of type numeric"},
		{"conversion of jsonb", Spec{}, plain(3802), binary(3802), settings, "column 1 of type jsonb in binary"},
		{"date and timestamp", having(0, Constant{Value: []byte("2024-01-01 00:00:00"), Type: oidTimestamp}, 0, Less), plain(oidDate), plain(oidDate), settings, "comparison of date and timestamp"},
		{"date in words", having(0, Constant{Value: []byte("January 8, 1999")}, 0, Less), plain(oidDate), plain(oidDate), settings, "this constant of type date"},
		{"moment in text", having(0, Constant{Value: []byte("2024-01-01")}, 0, Less), binary(oidTimestamptz), binary(oidTimestamptz), settings, "timestamp with time zone"},
		{"number that is none", having(0, Constant{Value: []byte("abc")}, 0, Less), plain(oidInt4), plain(oidInt4), settings, "this constant of type integer"},
		{"text by an order that is not known", having(0, Constant{Value: []byte("b")}, CollationDeterministic, Less), plain(oidText), plain(oidText), settings, "HAVING of type text"},
		{"text and number", having(0, Constant{Value: []byte("1"), Type: oidInt4}, 0, Equal), plain(oidText), plain(oidText), settings, "comparison of text and integer"},
	} {
		_, err := New(&tc.spec, tc.in, tc.out, Config{Settings: tc.settings})
		if code(err) != wire.CodeFeatureNotSupported || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want 0A000 with %q", tc.name, err, tc.want)
			continue
		}
		var e *wire.Error
		if errors.As(err, &e); e.Hint == "" {
			t.Errorf("%s: no hint in %v", tc.name, err)
		}
	}
}

func TestContradictingSpecsAreErrors(t *testing.T) {
	two := plain(oidInt8, oidInt8)
	for name, spec := range map[string]Spec{
		"hidden":        {Hidden: 1},
		"all hidden":    {Hidden: -1},
		"column":        {Outputs: []Output{{Column: 2}, {}}},
		"negative":      {Outputs: []Output{{Column: -1}, {}}},
		"no groups":     {Outputs: []Output{{Function: Count}, {}}},
		"nothing":       {Aggregate: true},
		"count of avg":  {Aggregate: true, Outputs: []Output{{Function: Avg, Second: 2}, {}}},
		"beside":        {Aggregate: true, Outputs: []Output{{Function: Beside, Second: 1}, {}}},
		"function":      {Aggregate: true, Outputs: []Output{{Function: BitXor + 1}, {}}},
		"group":         {Group: []Key{{}}},
		"sort":          {Sort: []Key{{Column: 2}}},
		"distinct":      {Distinct: []Key{{Column: -1}}},
		"condition":     {Aggregate: true, Outputs: []Output{{}, {}}, Having: &Condition{}},
		"operand":       {Aggregate: true, Outputs: []Output{{}, {}}, Having: &Condition{Kind: IsNull, Left: Operand{Index: 2}}},
		"constant":      {Aggregate: true, Outputs: []Output{{}, {}}, Having: &Condition{Kind: IsNull, Left: Operand{Constant: true}}},
		"operator":      {Aggregate: true, Outputs: []Output{{}, {}}, Having: &Condition{Kind: Compare}},
		"not of two":    {Aggregate: true, Outputs: []Output{{}, {}}, Having: &Condition{Kind: Not, Args: []*Condition{nil, nil}}},
		"missing parts": {Aggregate: true, Outputs: []Output{{}, {}}, Having: &Condition{Kind: And, Args: []*Condition{nil}}},
	} {
		if _, err := New(&spec, two, two, Config{}); code(err) != wire.CodeInternal {
			t.Errorf("%s: got %v, want an internal error", name, err)
		}
	}
	if _, err := New(&Spec{Limited: true, Limit: -1}, two, two, Config{}); code(err) != codeInvalidLimit {
		t.Errorf("LIMIT -1: %v", err)
	}
	if _, err := New(&Spec{Offset: -1}, two, two, Config{}); code(err) != codeInvalidOffset {
		t.Errorf("OFFSET -1: %v", err)
	}
}

func TestRunsThatFail(t *testing.T) {
	sum := func(f Function) Spec { return Spec{Aggregate: true, Outputs: []Output{{Function: f}}} }
	for _, tc := range []struct {
		name    string
		spec    Spec
		in, out []Field
		rows    [][]byte
		want    string
	}{
		{"bigint overflows", sum(Sum), plain(oidInt8), plain(oidInt8), texts("9223372036854775807", "1"), codeNumericOutOfRange},
		{"count overflows", sum(Count), plain(oidInt8), plain(oidInt8), texts("9223372036854775807", "1"), codeNumericOutOfRange},
		{"float overflows", sum(Sum), plain(oidFloat8), plain(oidFloat8), texts("1.7e+308", "1.7e+308"), codeNumericOutOfRange},
		{"squares overflow", Spec{Aggregate: true, Outputs: []Output{{Function: Avg, Second: 1}}}, plain(oidFloat8, oidInt8), plain(oidFloat8), texts("1e+200,1", "-1e+200,1"), codeNumericOutOfRange},
		{"real overflows", sum(Sum), plain(oidFloat4), plain(oidFloat4), texts("3e+38", "3e+38"), codeNumericOutOfRange},
		{"interval overflows", sum(Sum), []Field{{oidInterval, 1}}, []Field{{oidInterval, 1}},
			[][]byte{body(interval{0, 1 << 30, 0}.appendBinary(nil)), body(interval{0, 1 << 30, 0}.appendBinary(nil))}, codeIntervalOutOfRange},
		{"infinite interval", sum(Sum), []Field{{oidInterval, 1}}, []Field{{oidInterval, 1}},
			[][]byte{body(interval{1<<63 - 1, 1<<31 - 1, 1<<31 - 1}.appendBinary(nil)), body(interval{}.appendBinary(nil))}, wire.CodeFeatureNotSupported},
		{"malformed value", sum(Sum), plain(oidInt8), plain(oidInt8), texts("x"), wire.CodeProtocolViolation},
		{"sum without count", Spec{Aggregate: true, Outputs: []Output{{Function: Avg, Second: 1}}}, plain(oidInt8, oidInt8), plain(oidNumeric), texts("1,0"), wire.CodeInternal},
		{"too few columns", Spec{Sort: []Key{{}}}, plain(oidInt8, oidInt8), plain(oidInt8, oidInt8), texts("1"), wire.CodeProtocolViolation},
		{"row cut short", Spec{Distinct: []Key{{}}}, plain(oidInt8), plain(oidInt8), [][]byte{{0, 1, 0, 0}}, wire.CodeProtocolViolation},
		{"out of order", Spec{Sort: []Key{{}}}, plain(oidInt8), plain(oidInt8), texts("2", "1"), wire.CodeInternal},
		{"groups out of order", Spec{Aggregate: true, Outputs: []Output{{}}, Group: []Key{{}}, GroupSorted: true}, plain(oidInt8), plain(oidInt8), texts("2", "1"), wire.CodeInternal},
		{"bytea in escape format", Spec{Distinct: []Key{{}}}, plain(oidBytea), plain(oidBytea), texts(`\\xab`), wire.CodeFeatureNotSupported},
	} {
		m, err := New(&tc.spec, tc.in, tc.out, Config{Settings: settings})
		if err != nil {
			t.Errorf("%s: %v", tc.name, err)
			continue
		}
		if got, err := collect(m, lists(tc.rows)); code(err) != tc.want {
			t.Errorf("%s: got %v and %d rows, want %s", tc.name, err, len(got), tc.want)
		}
	}
}

func TestMemoryIsBounded(t *testing.T) {
	var rows [][]byte
	for i := range 10000 {
		rows = append(rows, texts(strconv.Itoa(i)+",1")...)
	}
	in := plain(oidInt4, oidInt8)
	group := Spec{Aggregate: true, Outputs: []Output{{}, {Function: Count, Column: 1}}, Group: []Key{{}}}
	sorted := group
	sorted.GroupSorted, sorted.Sort = true, []Key{{Column: 1}}
	streamed := group
	streamed.GroupSorted, streamed.Sort = true, []Key{{Column: 0}}
	for _, tc := range []struct {
		name string
		spec Spec
		fits bool
	}{
		{"groups", group, false}, {"sorted groups", sorted, false}, {"streamed groups", streamed, true},
		{"distinct", Spec{Distinct: []Key{{}}}, false}, {"distinct in order", Spec{Distinct: []Key{{}}, Sort: []Key{{}}}, true}, {"union", Spec{}, true},
	} {
		for _, memory := range []int64{100_000, 100_000_000} {
			m, err := New(&tc.spec, in, in, Config{Memory: memory, Settings: settings})
			if err != nil {
				t.Fatal(err)
			}
			// In order of their numbers rather than of their texts.
			if _, err := collect(m, lists(rows)); (err == nil) != (tc.fits || memory > 1e6) || err != nil && code(err) != codeConfigurationLimit {
				t.Errorf("%s in %d bytes: %v", tc.name, memory, err)
			}
		}
	}
	long := Spec{Aggregate: true, Outputs: []Output{{Function: Max, Collation: CollationBytes}}, Group: []Key{{Column: 1}}}
	m, err := New(&long, plain(oidText, oidInt8), plain(oidText), Config{Memory: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	value := bytes.Repeat([]byte("x"), 1<<19)
	if _, err := collect(m, lists([][]byte{body(value, []byte("1")), body(value, []byte("2")), body(value, []byte("3"))})); code(err) != codeConfigurationLimit {
		t.Errorf("long values: %v", err)
	}
}

// failing is a Source that fails behind its rows.
type failing struct {
	list
	err error
}

func (f *failing) Next() ([]byte, error) {
	row, err := f.list.Next()
	if errors.Is(err, io.EOF) {
		return nil, f.err
	}
	return row, err
}

func TestErrorsOfSourcesAndEmitComeBackAsTheyAre(t *testing.T) {
	lost := errors.New("lost")
	for name, spec := range map[string]Spec{"union": {}, "order": {Sort: []Key{{}}}, "distinct": {Distinct: []Key{{}}}} {
		m, err := New(&spec, plain(oidInt4), plain(oidInt4), Config{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := collect(m, []Source{&failing{list{rows: texts("1")}, lost}}); !errors.Is(err, lost) {
			t.Errorf("%s: got %v of a source", name, err)
		}
		if rows, err := m.Run(lists(texts("1")), func([]byte) error { return lost }); !errors.Is(err, lost) || rows != 0 {
			t.Errorf("%s: got %v of emit, %d rows", name, err, rows)
		}
	}
}

func TestLimitStopsReading(t *testing.T) {
	for name, spec := range map[string]Spec{"union": {}, "order": {Sort: []Key{{}}}, "hidden": {Outputs: []Output{{}, {}}, Hidden: 1}} {
		spec.Limited, spec.Limit = true, 2
		m, err := New(&spec, plain(oidInt4), plain(oidInt4), Config{})
		if err != nil {
			t.Fatal(err)
		}
		source := &list{rows: texts("1", "2", "3")}
		if got, err := collect(m, []Source{source}); err != nil || len(got) != 2 || source.at != 2 {
			t.Errorf("%s: %d rows of %d read, %v", name, len(got), source.at, err)
		}
	}
}

// numbers is a Source of rows with a rising integer and a text, that allocates nothing.
type numbers struct {
	next, step, end int64
	row             []byte
}

func newNumbers(first, step, end int64) *numbers {
	return &numbers{first, step, end, body(make([]byte, 8), []byte("some text of a row"))}
}

func (n *numbers) Next() ([]byte, error) {
	if n.next >= n.end {
		return nil, io.EOF
	}
	binary.BigEndian.PutUint64(n.row[6:], uint64(n.next))
	n.next += n.step
	return n.row, nil
}

// counts makes the Merger of rows of numbers.
func counts(t testing.TB, spec Spec, out []Field) *Merger {
	m, err := New(&spec, []Field{{oidInt8, formatBinary}, {oidText, formatText}}, out, Config{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// mergers are those whose rows cost no allocation.
func mergers(t testing.TB) map[string]*Merger {
	both, key := []Field{{oidInt8, formatBinary}, {OID: oidText}}, []Key{{Column: 0}}
	return map[string]*Merger{
		"union":    counts(t, Spec{}, both),
		"order":    counts(t, Spec{Sort: key}, both),
		"hidden":   counts(t, Spec{Outputs: []Output{{Column: 1}, {Column: 0}}, Hidden: 1, Sort: []Key{{Column: 1}}}, plain(oidText)),
		"distinct": counts(t, Spec{Sort: key, Distinct: key}, both),
		"groups": counts(t, Spec{Aggregate: true, Outputs: []Output{{}, {Function: Sum}}, Group: key, GroupSorted: true, Sort: key},
			[]Field{{oidInt8, formatBinary}, {oidInt8, formatText}}),
	}
}

func TestRowsCostNoAllocation(t *testing.T) {
	for name, m := range mergers(t) {
		allocations := func(end int64) float64 {
			sources := []*numbers{newNumbers(0, 3, end), newNumbers(1, 3, end), newNumbers(2, 3, end)}
			list := []Source{sources[0], sources[1], sources[2]}
			emit := func([]byte) error { return nil }
			return testing.AllocsPerRun(10, func() {
				for i, source := range sources {
					source.next = int64(i)
				}
				if rows, err := m.Run(list, emit); err != nil || rows != end {
					t.Fatalf("%s: %d rows, %v", name, rows, err)
				}
			})
		}
		if few, many := allocations(30), allocations(3000); few != many {
			t.Errorf("%s: %v allocations for 30 rows, %v for 3000", name, few, many)
		}
	}
}

func BenchmarkMerge(b *testing.B) {
	for name, m := range mergers(b) {
		b.Run(name, func(b *testing.B) {
			end := int64(b.N)
			b.ReportAllocs()
			if _, err := m.Run([]Source{newNumbers(0, 3, end), newNumbers(1, 3, end), newNumbers(2, 3, end)}, func([]byte) error { return nil }); err != nil {
				b.Fatal(err)
			}
		})
	}
}

func BenchmarkHashGroups(b *testing.B) {
	m := counts(b, Spec{Aggregate: true, Outputs: []Output{{}, {Function: Sum}}, Group: []Key{{Column: 0}}}, []Field{{oidInt8, formatBinary}, {oidInt8, formatText}})
	b.ReportAllocs()
	for range b.N {
		if _, err := m.Run([]Source{newNumbers(0, 1, 1000), newNumbers(0, 1, 1000), newNumbers(0, 1, 1000)}, func([]byte) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNumericAverage(b *testing.B) {
	sum, _ := numericToBinary(nil, []byte("123456789012.3456"), nil)
	count := binary.BigEndian.AppendUint64(nil, 12345)
	m, err := New(&Spec{Aggregate: true, Outputs: []Output{{Function: Avg, Second: 1}}}, []Field{{oidNumeric, 1}, {oidInt8, 1}}, plain(oidNumeric), Config{})
	if err != nil {
		b.Fatal(err)
	}
	row := body(sum, count)
	b.ReportAllocs()
	for range b.N {
		if _, err := m.Run(lists([][]byte{row}, [][]byte{row}, [][]byte{row}), func([]byte) error { return nil }); err != nil {
			b.Fatal(err)
		}
	}
}

// specs are one merge of each shape over three columns of one type, for rows of arbitrary bytes.
func specs() []Spec {
	key := []Key{{Column: 0, Collation: CollationBytes}}
	three := func(f Function) []Output {
		return []Output{{Column: 0}, {Function: f, Column: 1, Second: 2, Collation: CollationBytes}, {Function: First, Column: 2}}
	}
	all := []Spec{{}, {Outputs: []Output{{Column: 2}, {Column: 1}, {Column: 0}}}, {Sort: key}, {Distinct: key}, {Sort: key, Distinct: key, Limited: true, Limit: 2, Offset: 1}}
	for f := Count; f <= BitXor; f++ {
		if f == Beside {
			continue
		}
		having := &Condition{Kind: Compare, Operator: LessOrEqual, Collation: CollationBytes, Left: Operand{Index: 0}, Right: Operand{Index: 0}}
		all = append(all, Spec{Aggregate: true, Outputs: three(f), Group: key, Sort: key, Having: having},
			Spec{Aggregate: true, Outputs: three(f), Group: key, GroupSorted: true}, Spec{Aggregate: true, Outputs: three(f)})
	}
	return all
}

// FuzzRows merges rows of arbitrary bytes: it may fail, but neither panic nor emit rows of another number of columns. choice is the
// type, the formats and the Spec.
func FuzzRows(f *testing.F) {
	for i, row := range append(texts("1,2,3", "-,-,-", "1.50,NaN,2"), body(make([]byte, 8), make([]byte, 4), make([]byte, 16)), body(nil, []byte("\x00\x01\x00\x00\x40\x00\x00\x02\x00\x05"), nil), nil) {
		for choice := range uint32(200) {
			f.Add(choice*41+uint32(i), row, row)
		}
	}
	types, all := columns(), specs()
	f.Fuzz(func(t *testing.T, choice uint32, first, second []byte) {
		oid := types[choice%uint32(len(types))].oid
		choice /= uint32(len(types))
		from, to := int16(choice&1), int16(choice>>1&1)
		spec := all[choice>>2%uint32(len(all))]
		fuzzOne(t, spec, []Field{{oid, from}, {oid, from}, {oid, from}}, []Field{{oid, to}, {oid, to}, {oid, to}}, first, second)
	})
}

func fuzzOne(t *testing.T, spec Spec, in, out []Field, first, second []byte) {
	if spec.Aggregate {
		switch spec.Outputs[1].Function {
		case Count:
			in[1].OID, out[1].OID = oidInt8, oidInt8
		case Avg:
			in[2].OID, out[2].OID = oidInt8, oidInt8
			if integerSize(in[1].OID) > 0 {
				out[1].OID = oidNumeric
			}
		}
	}
	m, err := New(&spec, in, out, Config{Memory: 1 << 20, Settings: settings})
	if err != nil {
		return
	}
	plainUnion := m.whole && !m.aggregate && m.distinct == nil && m.merge == nil
	_, err = m.Run(lists([][]byte{first, second}, [][]byte{second, first}), func(row []byte) error {
		if !plainUnion && (len(row) < 2 || binary.BigEndian.Uint16(row) != 3) {
			return fmt.Errorf("emitted %q", row)
		}
		return nil
	})
	if err != nil && code(err) == fmt.Sprint(err) {
		t.Errorf("not an error for a client: %v", err)
	}
}
