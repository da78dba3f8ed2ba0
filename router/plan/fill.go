package plan

import (
	"bytes"
	"strconv"

	"pgtier/parser"
	"pgtier/router/catalog"
)

// fill is how numbers come into the rows of an INSERT: in the place of DEFAULT, or in front of the row with the column in front of the list of columns.
type fill struct {
	column string
	// at is the place in the row, -1 for in front.
	at int
	// list is the token behind the parenthesis that opens the list of columns; values that of VALUES.
	list, values int
	// overriding: OVERRIDING SYSTEM VALUE must be said, because the column takes no other values.
	overriding bool
}

// prepare finds the places of a text that numbers go to; ok is false if they are not there.
func (f *fill) prepare(sql []byte, c *catalog.Column, at int, rows []*parser.Row) (ok bool) {
	f.column, f.at, f.overriding = quoteName(c.Name), at, c.Identity == 'a'
	tokens := parser.Tokens(sql, nil)
	f.values = rows[0].Tokens.From - 1
	if f.values < 1 || f.values >= len(tokens) {
		return false
	}
	if at >= 0 {
		return true
	}
	is := func(i int, text string) bool { return bytes.Equal(sql[tokens[i].Start:tokens[i].End], []byte(text)) }
	if !is(f.values-1, ")") {
		return false
	}
	for i := f.values - 2; i > 0; i-- {
		if is(i, ")") {
			return false
		}
		if is(i, "(") {
			f.list = i + 1
			return true
		}
	}
	return false
}

// edits are those of the text that stand before its rows.
func (f *fill) edits() (list []parser.Edit) {
	if f.at < 0 {
		list = append(list, parser.Edit{Span: parser.Span{From: f.list, To: f.list}, Text: f.column + ","})
	}
	if f.overriding {
		list = append(list, parser.Edit{Span: parser.Span{From: f.values, To: f.values}, Text: "OVERRIDING SYSTEM VALUE"})
	}
	return list
}

// row is a row's text with the number in it; ok is false if its place is not there.
func (f *fill) row(sql []byte, tokens []parser.Token, row parser.Span, number int64) (text string, ok bool) {
	from, to := tokens[row.From].End, tokens[row.To-1].Start
	digits := strconv.FormatInt(number, 10)
	if f.at < 0 {
		return "(" + digits + ", " + string(sql[from:to]) + ")", true
	}
	item, depth := 0, 0
	start := row.From + 1
	for i := row.From + 1; i < row.To; i++ {
		word := sql[tokens[i].Start:tokens[i].End]
		last := i == row.To-1
		switch {
		case !last && (word[0] == '(' || word[0] == '['):
			depth++
		case !last && (word[0] == ')' || word[0] == ']'):
			depth--
		case last || depth == 0 && len(word) == 1 && word[0] == ',':
			if item == f.at {
				if i-start != 1 || !bytes.EqualFold(sql[tokens[start].Start:tokens[start].End], []byte("default")) {
					return "", false
				}
				return string(sql[tokens[row.From].Start:tokens[start].Start]) + digits + string(sql[tokens[start].End:tokens[row.To-1].End]), true
			}
			item++
			start = i + 1
		}
	}
	return "", false
}

// quoteName quotes a name so that it is no keyword and is not folded.
func quoteName(name string) string {
	return `"` + string(bytes.ReplaceAll([]byte(name), []byte(`"`), []byte(`""`))) + `"`
}
