package shardtest

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// rowsOf is an answer with columns of one type; values are cut at blanks, "-" is NULL.
func rowsOf(oid uint32, rows ...string) outcome {
	r := result{tag: "SELECT " + string(rune('0'+len(rows)))}
	for _, row := range rows {
		var values [][]byte
		for _, v := range strings.Fields(row) {
			if v == "-" {
				values = append(values, nil)
			} else {
				values = append(values, []byte(v))
			}
		}
		r.rows = append(r.rows, values)
		for len(r.fields) < len(values) {
			r.fields = append(r.fields, pgconn.FieldDescription{Name: string(rune('a' + len(r.fields))), DataTypeOID: oid})
		}
	}
	return outcome{results: []result{r}, status: 'I'}
}

func failed(code, message string) outcome {
	return outcome{err: &pgconn.PgError{Severity: "ERROR", Code: code, Message: message}, status: 'I'}
}

// TestDifferCatchesWrongAnswers holds the comparison to pairs of answers that PostgreSQL could both give, and to others.
func TestDifferCatchesWrongAnswers(t *testing.T) {
	const ints, numerics, floats = pgtype.Int8OID, pgtype.NumericOID, pgtype.Float8OID
	total, byFirst := order{total: true}, order{keys: []int{0}}
	renamed := rowsOf(ints, "1")
	renamed.results[0].fields[0].Name = "b"
	tagged := rowsOf(ints, "1")
	tagged.results[0].tag = "SELECT 2"
	within := rowsOf(ints, "1")
	within.status = 'T'
	noticed := rowsOf(ints, "1")
	noticed.notices = []string{"NOTICE 00000 hello"}
	for name, tc := range map[string]struct {
		statement statement
		want, got outcome
		says      string
	}{
		"equal":                                {statement{}, rowsOf(ints, "1 2", "3 -"), rowsOf(ints, "1 2", "3 -"), ""},
		"another order without an order":       {statement{}, rowsOf(ints, "1", "2"), rowsOf(ints, "2", "1"), ""},
		"another order with one":               {statement{order: total}, rowsOf(ints, "1", "2"), rowsOf(ints, "2", "1"), "row 0"},
		"a row twice instead of another":       {statement{}, rowsOf(ints, "1", "2"), rowsOf(ints, "1", "1"), "1 missing"},
		"a row too many":                       {statement{}, rowsOf(ints, "1"), rowsOf(ints, "1", "1"), "command tag"},
		"NULL and nothing":                     {statement{}, rowsOf(ints, "1 -"), rowsOf(ints, "1 0"), "missing"},
		"another type":                         {statement{}, rowsOf(ints, "1"), rowsOf(numerics, "1"), "columns"},
		"users' types have other numbers":      {statement{}, rowsOf(firstUserOID, "1"), rowsOf(firstUserOID+9, "1"), ""},
		"another scale":                        {statement{}, rowsOf(numerics, "1.0"), rowsOf(numerics, "1.00"), "missing"},
		"another name":                         {statement{}, rowsOf(ints, "1"), renamed, "columns"},
		"another tag":                          {statement{}, rowsOf(ints, "1"), tagged, "command tag"},
		"another status":                       {statement{}, rowsOf(ints, "1"), within, "status"},
		"a notice":                             {statement{}, rowsOf(ints, "1"), noticed, "notices"},
		"ties in another order":                {statement{order: byFirst}, rowsOf(ints, "1 1", "1 2", "2 3"), rowsOf(ints, "1 2", "1 1", "2 3"), ""},
		"ties with another row":                {statement{order: byFirst}, rowsOf(ints, "1 1", "1 2", "2 3"), rowsOf(ints, "1 2", "1 2", "2 3"), "missing"},
		"keys out of order":                    {statement{order: byFirst}, rowsOf(ints, "1 1", "1 2", "2 3"), rowsOf(ints, "1 1", "2 3", "1 2"), "order"},
		"ties that are written differently":    {statement{order: byFirst}, rowsOf(numerics, "1.0 1", "1.00 2"), rowsOf(numerics, "1.00 2", "1.0 1"), ""},
		"no key and a key":                     {statement{order: byFirst}, rowsOf(ints, "- 1", "1 2"), rowsOf(ints, "1 2", "- 1"), "order"},
		"last digits":                          {statement{}, rowsOf(floats, "0.30000000000000004"), rowsOf(floats, "0.3"), "missing"},
		"last digits of an approximate":        {statement{approximate: true}, rowsOf(floats, "0.30000000000000004"), rowsOf(floats, "0.3"), ""},
		"more than last digits":                {statement{approximate: true}, rowsOf(floats, "0.3001"), rowsOf(floats, "0.3"), "missing"},
		"last digits of a numeric":             {statement{approximate: true}, rowsOf(numerics, "0.30000000000000004"), rowsOf(numerics, "0.3"), "missing"},
		"an error instead":                     {statement{}, rowsOf(ints, "1"), failed("22012", "division by zero"), "want success"},
		"success instead":                      {statement{}, failed("22012", "division by zero"), rowsOf(ints, "1"), "got success"},
		"another error":                        {statement{}, failed("22012", "division by zero"), failed("22003", "out of range"), "22003"},
		"other words":                          {statement{}, failed("23505", "duplicate key"), failed("23505", "a key twice"), "a key twice"},
		"other words of a vague error":         {statement{vague: true}, failed("23505", "duplicate key"), failed("23505", "a key twice"), ""},
		"another of several errors":            {statement{anyError: true}, failed("23505", "duplicate key"), failed("23514", "check"), ""},
		"none of several errors":               {statement{anyError: true}, failed("23505", "duplicate key"), rowsOf(ints, "1"), "got success"},
		"other rows that nobody compares":      {statement{loose: true}, rowsOf(ints, "1"), rowsOf(ints, "2", "3"), ""},
		"other columns though nobody compares": {statement{loose: true}, rowsOf(ints, "1"), rowsOf(floats, "1"), "columns"},
	} {
		if got := differ(&tc.statement, &tc.want, &tc.got); !strings.Contains(got, tc.says) || (got == "") != (tc.says == "") {
			t.Errorf("%s: got %q, want words %q", name, got, tc.says)
		}
	}
}

// TestCorpusIsReadAsWritten holds the reader of the corpus to its own rules.
func TestCorpusIsReadAsWritten(t *testing.T) {
	file, err := parseCorpus("k", "-- about no statement\n--\n-- must\n-- a trap\n-- params: 7, 'it''s', NULL, -1\nSELECT $1, $2,\n -- not a directive\n $3, $4;\n\n-- ordered: 2 1\nSELECT 1 ORDER BY 1;\n")
	if err != nil || len(file) != 2 {
		t.Fatalf("got %d statements and %v", len(file), err)
	}
	one := file[0]
	if got, want := one.literal(), "SELECT 7, 'it''s',\n -- not a directive\n NULL, (-1)"; got != want || !one.must || one.note != "a trap" || one.place != "k.sql:6" {
		t.Errorf("got %q, want %q, in %+v", got, want, one)
	}
	if keys := file[1].order.keys; len(keys) != 2 || keys[0] != 1 || keys[1] != 0 {
		t.Errorf("got keys %v", keys)
	}
	for _, bad := range []string{
		"SELECT 1 ORDER BY 1;\n", "SELECT $1;\n", "SELECT 1; SELECT 2;\n", "SELECT 1\n", "-- ordered: x\nSELECT 1;\n", "-- params: 'open\nSELECT 1;\n",
	} {
		if _, err := parseCorpus("k", bad); err == nil {
			t.Errorf("no error for %q", bad)
		}
	}
}
