package shardtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"
)

// firstUserOID is where the numbers of types and tables that users make begin (FirstNormalObjectId in access/transam.h).
// They differ from server to server.
const firstUserOID = 16384

// shownRows is how many rows of a difference are shown.
const shownRows = 6

// typeName is a type's number, or that users made it.
func typeName(oid uint32) string {
	if oid >= firstUserOID {
		return "a user's type"
	}
	return "type " + strconv.FormatUint(uint64(oid), 10)
}

// fieldText is what of a column's description must be equal.
func fieldText(f pgconn.FieldDescription) string {
	// Tables have other numbers on another server, and columns too, where some were dropped before.
	return fmt.Sprintf("%q %s size %d modifier %d format %d of a table: %t %t",
		f.Name, typeName(f.DataTypeOID), f.DataTypeSize, f.TypeModifier, f.Format, f.TableOID != 0, f.TableAttributeNumber != 0)
}

// differ says how got is another answer than want, or "" if PostgreSQL could have given it too.
func differ(s *statement, want, got *outcome) string {
	if got.lost != nil {
		return fmt.Sprintf("connection: %v", got.lost)
	}
	if s.anyError && want.err != nil && got.err != nil && want.status == got.status {
		return ""
	}
	if want.state() != got.state() {
		return fmt.Sprintf("want %s, got %s", errorText(want.err), errorText(got.err))
	}
	if want.err != nil && !s.vague && errorText(want.err) != errorText(got.err) {
		return fmt.Sprintf("want %s, got %s", errorText(want.err), errorText(got.err))
	}
	if want.status != got.status {
		return fmt.Sprintf("want transaction status %c, got %c", want.status, got.status)
	}
	if !slices.Equal(want.describes, got.describes) && !s.loose {
		return fmt.Sprintf("Describe: want %q, got %q", want.describes, got.describes)
	}
	if !slices.Equal(want.notices, got.notices) {
		return fmt.Sprintf("want notices %q, got %q", want.notices, got.notices)
	}
	if len(want.results) != len(got.results) {
		return fmt.Sprintf("want %d results, got %d", len(want.results), len(got.results))
	}
	for i := range want.results {
		if d := differResult(s, &want.results[i], &got.results[i]); d != "" {
			return d
		}
	}
	return ""
}

// errorText is what of an error must be equal.
func errorText(e *pgconn.PgError) string {
	if e == nil {
		return "success"
	}
	text := e.Severity + " " + e.Code + " " + e.Message
	if e.Detail != "" {
		text += " (" + e.Detail + ")"
	}
	if e.ConstraintName != "" {
		text += " constraint " + e.ConstraintName
	}
	return text
}

func differResult(s *statement, want, got *result) string {
	columns := func(r *result) (all []string) {
		for _, f := range r.fields {
			all = append(all, fieldText(f))
		}
		return all
	}
	if w, g := columns(want), columns(got); !slices.Equal(w, g) {
		return fmt.Sprintf("columns: want %q, got %q", w, g)
	}
	if s.loose {
		return ""
	}
	if want.tag != got.tag {
		return fmt.Sprintf("want command tag %q, got %q%s", want.tag, got.tag, missing(want, got))
	}
	if len(want.rows) != len(got.rows) {
		return fmt.Sprintf("want %d rows, got %d%s", len(want.rows), len(got.rows), missing(want, got))
	}
	switch {
	case s.order.total:
		for i := range want.rows {
			if !equalRows(s, want, want.rows[i], got.rows[i]) {
				return fmt.Sprintf("row %d: want %s, got %s%s", i, rowText(want, want.rows[i]), rowText(got, got.rows[i]), missing(want, got))
			}
		}
	case s.order.keys != nil:
		return differInGroups(s, want, got)
	default:
		if d := missing(want, got); d != "" && !(s.approximate && approximatelySame(s, want, got)) {
			return "rows" + d
		}
	}
	return ""
}

// differInGroups compares rows in the order of keys, those equal in all keys as multisets.
func differInGroups(s *statement, want, got *result) string {
	for _, key := range s.order.keys {
		if len(want.rows) > 0 && key >= len(want.rows[0]) {
			return fmt.Sprintf("the statement is said to be ordered by column %d, and has %d", key+1, len(want.rows[0]))
		}
	}
	same := func(a, b [][]byte) bool {
		for _, key := range s.order.keys {
			if !bytes.Equal(canonical(want.fields[key], a[key]), canonical(want.fields[key], b[key])) || (a[key] == nil) != (b[key] == nil) {
				return false
			}
		}
		return true
	}
	for first := 0; first < len(want.rows); {
		end := first + 1
		for end < len(want.rows) && same(want.rows[first], want.rows[end]) {
			end++
		}
		for i := first; i < end; i++ {
			if !same(want.rows[first], got.rows[i]) {
				return fmt.Sprintf("order: want keys of row %d as in %s, got %s", i, rowText(want, want.rows[i]), rowText(got, got.rows[i]))
			}
		}
		w, g := &result{fields: want.fields, rows: want.rows[first:end]}, &result{fields: want.fields, rows: got.rows[first:end]}
		if d := missing(w, g); d != "" && !(s.approximate && approximatelySame(s, w, g)) {
			return "rows" + d
		}
		first = end
	}
	return ""
}

// canonical makes values that sort as equal and are written differently equal bytes: 1.0 and 1.00, 0 and -0.
func canonical(f pgconn.FieldDescription, v []byte) []byte {
	switch {
	case v == nil:
	case f.DataTypeOID == pgtype.NumericOID && f.Format == 0 && bytes.Contains(v, []byte(".")):
		return bytes.TrimSuffix(bytes.TrimRight(v, "0"), []byte("."))
	case f.DataTypeOID == pgtype.NumericOID && f.Format == 1 && len(v) >= 8:
		v = slices.Clone(v)
		v[6], v[7] = 0, 0 // the display scale (numeric.c, numeric_send)
	case f.Format == 0 && (f.DataTypeOID == pgtype.Float8OID || f.DataTypeOID == pgtype.Float4OID) && string(v) == "-0":
		return []byte("0")
	case f.Format == 1 && (f.DataTypeOID == pgtype.Float8OID || f.DataTypeOID == pgtype.Float4OID):
		if v[0] == 0x80 && len(bytes.Trim(v[1:], "\x00")) == 0 {
			return make([]byte, len(v))
		}
	}
	return v
}

// missing says which rows one of both has more often than the other; "" if none.
func missing(want, got *result) string {
	counts := map[string]int{}
	for _, row := range want.rows {
		counts[rowText(want, row)]++
	}
	for _, row := range got.rows {
		counts[rowText(want, row)]--
	}
	var lost, extra []string
	for row, n := range counts {
		for ; n > 0; n-- {
			lost = append(lost, row)
		}
		for ; n < 0; n++ {
			extra = append(extra, row)
		}
	}
	if lost == nil && extra == nil {
		return ""
	}
	return fmt.Sprintf(" (%d rows): %d missing:%s\n%d too many:%s", len(want.rows), len(lost), first(lost), len(extra), first(extra))
}

// first joins the first few rows, sorted so that a failure looks the same again.
func first(rows []string) string {
	slices.Sort(rows)
	text := ""
	for i, row := range rows {
		if i == shownRows {
			return text + "\n  …"
		}
		text += "\n  " + row
	}
	return text
}

// rowText shows a row; rows are equal if their texts are.
func rowText(r *result, row [][]byte) string {
	var text strings.Builder
	for i, v := range row {
		if i > 0 {
			text.WriteString(" | ")
		}
		switch {
		case v == nil:
			text.WriteString("NULL")
		case i < len(r.fields) && r.fields[i].Format == 1:
			fmt.Fprintf(&text, "%x", v)
		default:
			text.WriteString(strconv.QuoteToGraphic(string(v)))
		}
	}
	return text.String()
}

func equalRows(s *statement, r *result, a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		equal := (a[i] == nil) == (b[i] == nil) && bytes.Equal(a[i], b[i])
		if !equal && !(s.approximate && i < len(r.fields) && closeFloats(r.fields[i], a[i], b[i])) {
			return false
		}
	}
	return true
}

// closeFloats reports whether two floating-point values differ in their last digits only.
func closeFloats(f pgconn.FieldDescription, a, b []byte) bool {
	const tolerance = 1e-12 // of 1e-16 a step, after some hundreds of additions
	if f.DataTypeOID != pgtype.Float8OID || a == nil || b == nil {
		return false
	}
	number := func(v []byte) float64 {
		if f.Format == 1 {
			return math.Float64frombits(binary.BigEndian.Uint64(v))
		}
		n, err := strconv.ParseFloat(string(v), 64)
		if err != nil {
			return math.NaN()
		}
		return n
	}
	x, y := number(a), number(b)
	return math.Abs(x-y) <= tolerance*math.Max(math.Abs(x), math.Abs(y))
}

// approximatelySame finds for each row one of the others that is equal but for last digits.
func approximatelySame(s *statement, want, got *result) bool {
	left := slices.Clone(got.rows)
	for _, row := range want.rows {
		at := slices.IndexFunc(left, func(other [][]byte) bool { return equalRows(s, want, row, other) })
		if at < 0 {
			return false
		}
		left = slices.Delete(left, at, at+1)
	}
	return len(left) == 0
}
