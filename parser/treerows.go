package parser

import (
	"slices"
	"strconv"
	"strings"
)

// bulkRows are the rows of a long INSERT that are nothing but constants, parameters and DEFAULT. They are read from their tokens and blanked
// before the grammar sees the text: it takes some 5 µs a constant, and few rows would have as many tokens as it may have at most.
type bulkRows struct {
	spans []Span // of all rows but the first
	plain []bool // row for row: it was blanked
}

// maxParamDigits is how many digits the number of a parameter has at most: the protocol counts them by 16 bits.
const maxParamDigits = 5

// findBulkRows finds the rows of INSERT … VALUES in a text, and blanks those that are plain but for the first, with the comma before them.
func findBulkRows(t *tokenText, src []byte) (rows bulkRows) {
	if t.word(0) != "insert" {
		return rows
	}
	i := t.valuesOf(Span{0, len(t.tokens)})
	for first := true; i >= 0 && t.is(i, '(') && t.closes[i] > 0; first = false {
		row := Span{i, t.closes[i] + 1}
		if !first {
			plain := t.isPlainRow(row)
			rows.spans, rows.plain = append(rows.spans, row), append(rows.plain, plain)
			if plain {
				blank(src[t.tokens[i-1].start:t.tokens[row.To-1].end])
			}
		}
		if !t.is(row.To, ',') {
			break
		}
		i = row.To + 1
	}
	return rows
}

// valuesOf is the first token behind the VALUES of an INSERT, -1 if there is none. A table may be called values.
func (t *tokenText) valuesOf(s Span) int {
	for {
		i := t.find(s, "values")
		if i < 0 {
			return -1
		}
		s.From = i + 1
		if t.word(i-1) != "into" && t.is(s.From, '(') {
			return s.From
		}
	}
}

// blank overwrites text with spaces, but for line breaks.
func blank(text []byte) {
	for i, c := range text {
		if c != '\n' && c != '\r' {
			text[i] = ' '
		}
	}
}

// isPlainRow says whether every value of a row is one that plainValue reads.
func (t *tokenText) isPlainRow(row Span) bool {
	for i := row.From + 1; ; i++ {
		n := t.plainValue(i)
		if n == 0 {
			return false
		}
		i += n
		if i == row.To-1 {
			return true
		}
		if !t.is(i, ',') {
			return false
		}
	}
}

// plainValue is how many tokens the plain value at token i has, 0 if none is there.
func (t *tokenText) plainValue(i int) int {
	k := t.tokens[i]
	switch k.kind {
	case tokenString, tokenDollar, tokenBits, tokenInteger, tokenNumber:
		return 1
	case tokenParam:
		if digits := k.end - k.start - len("$"); digits <= maxParamDigits && t.src[k.start+1] != '0' {
			return 1
		}
	case tokenIdent:
		switch t.word(i) {
		case "null", "true", "false", "default":
			return 1
		}
	case tokenSelf:
		if next := t.tokens[i+1].kind; t.is(i, '-') && (next == tokenInteger || next == tokenNumber) {
			return 2
		}
	}
	return 0
}

// mergeRows gives the INSERT the rows that were blanked, between those that the grammar saw. ok is false if they do not fit.
func (b *treeBuilder) mergeRows(bulk bulkRows, t *tokenText) (ok bool) {
	if !slices.Contains(bulk.plain, true) {
		return true
	}
	q := b.tree.Query
	kept := 1
	for _, plain := range bulk.plain {
		if !plain {
			kept++
		}
	}
	if q.Kind != Insert || len(q.Rows) != kept {
		return false
	}
	rows := make([]*Row, 0, len(bulk.plain)+1)
	rows, seen := append(rows, q.Rows[0]), q.Rows[1:]
	for i, span := range bulk.spans {
		if bulk.plain[i] {
			rows = append(rows, b.plainRow(t, span))
		} else {
			rows, seen = append(rows, seen[0]), seen[1:]
		}
	}
	q.Rows = rows
	return true
}

// plainRow reads a row of plain values, as the grammar would.
func (b *treeBuilder) plainRow(t *tokenText, span Span) *Row {
	var values []*Expr
	for i := span.From + 1; i < span.To; i++ {
		n := t.plainValue(i)
		values = append(values, b.plain(t, i+n-1, n > 1))
		i += n
	}
	return &Row{Values: values}
}

// plain reads the plain value that token i is, behind a minus sign if it is negative.
func (b *treeBuilder) plain(t *tokenText, i int, negative bool) *Expr {
	k := t.tokens[i]
	text := t.src[k.start:k.end]
	v := Value{Kind: ValueConstant, Literal: -1}
	switch k.kind {
	case tokenParam:
		n, _ := strconv.Atoi(string(text[1:]))
		return &Expr{Kind: ExprParam, Value: Value{Kind: ValueParam, Param: n, Literal: -1}}
	case tokenIdent:
		switch word := strings.ToLower(string(text)); word {
		case "default":
			return &Expr{Kind: ExprDefault}
		case "null":
			v.Null = true
		default:
			v.Text = word
		}
		return &Expr{Kind: ExprConstant, Value: v}
	}
	l := literalOf(t.src, k)
	v.Text = l.text(negative)
	if index, found := slices.BinarySearch(b.text.taken, k.start); found {
		v.Literal, v.Negative = index, negative
	}
	return &Expr{Kind: ExprConstant, Value: v}
}
