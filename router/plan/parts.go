package plan

import (
	"cmp"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"

	"pgtier/parser"
)

var (
	errPlaces = errors.New("text that is not the one that was planned")
	errStamps = errors.New("text of rows whose defaults are not known")
)

// Parts are what the shards of a plan are sent: the client's text with some of its tokens replaced. Immutable.
type Parts struct {
	// edits are those of every part.
	edits []edit
	// limit is the LIMIT that each shard is given, nil for the client's own.
	limit *limit
	// rows are those of an INSERT, nil for others.
	rows *rowParts
	// empties: the shards but the full one make a table without the rows of its query.
	empties bool
	full    int
	// own has each of shards leave out rows that it does not own; nil: they do not.
	own    *own
	shards []int
}

// limit is LIMIT n OFFSET m, of which a shard must give the first n + m rows.
type limit struct {
	span          parser.Span // of both clauses
	count, offset *value      // count may be nil: all rows
}

// rowParts are the rows of an INSERT by part.
type rowParts struct {
	insert  *insert
	rows    [][]int  // of each part, indexes of the client's rows
	numbers []int64  // by row, of the sequence
	values  []string // of insert.stamps
}

// Text is the SQL for the i-th of Plan.Shards, made of the text that the plan was asked for. The parameters keep their numbers.
func (p *Parts) Text(i int, sql []byte) ([]byte, error) {
	if p.empties {
		return p.emptied(i, sql), nil
	}
	var edits []parser.Edit
	if p.own != nil {
		edits = p.own.texts(p.shards[i]) // first of those at one token: WHERE stands before ORDER BY
	}
	tokens := parser.Tokens(sql, nil)
	for _, e := range p.edits {
		text, err := e.text(sql, tokens)
		if err != nil {
			return nil, err
		}
		edits = append(edits, parser.Edit{Span: e.span, Text: text})
	}
	if p.limit != nil {
		edits = append(edits, parser.Edit{Span: p.limit.span, Text: p.limit.text(sql)})
	}
	if p.rows != nil {
		more, err := p.rows.edits(i, sql)
		if err != nil {
			return nil, err
		}
		edits = append(edits, more...)
	}
	slices.SortStableFunc(edits, func(a, b parser.Edit) int { return cmp.Compare(a.From, b.From) })
	return parser.Splice(sql, edits)
}

// emptied is the text of CREATE TABLE … AS for the i-th shard.
func (p *Parts) emptied(i int, sql []byte) []byte {
	if i == p.full {
		return sql
	}
	text := wordsOf(sql)
	tokens := parser.Tokens(sql, nil)
	n := len(tokens)
	for n > 0 && text.is(n-1, ";") {
		n--
	}
	switch {
	case text.is(n-3, "with") && text.is(n-2, "no") && text.is(n-1, "data"):
		return sql
	case text.is(n-2, "with") && text.is(n-1, "data"):
		n -= 2
	}
	return append(slices.Clone(sql[:tokens[n-1].End]), " WITH NO DATA"...)
}

// text is what an edit puts in the place of its tokens.
func (e *edit) text(sql []byte, tokens []parser.Token) (string, error) {
	var text strings.Builder
	for _, p := range e.parts {
		if text.Len() > 0 {
			text.WriteByte(' ')
		}
		text.WriteString(p.text)
		if p.span == (parser.Span{}) {
			continue
		}
		if p.span.To > len(tokens) || p.span.To <= p.span.From {
			return "", errPlaces
		}
		text.Write(sql[tokens[p.span.From].Start:tokens[p.span.To-1].End])
	}
	return text.String(), nil
}

// Rows are the indexes of the client's rows that the i-th part of an INSERT has, ascending; nil for other statements.
func (p *Parts) Rows(i int) []int {
	if p.rows == nil {
		return nil
	}
	return p.rows.rows[i]
}

// Unused are the numbers of parameters that the i-th part no longer names: its Parse must declare a type for them, text, and its Bind give NULL.
func (p *Parts) Unused(i int, sql []byte) ([]int, error) {
	text, err := p.Text(i, sql)
	if err != nil {
		return nil, err
	}
	before, after := paramsOf(sql), paramsOf(text)
	var list []int
	for n := range before {
		if before[n] && (n >= len(after) || !after[n]) {
			list = append(list, n)
		}
	}
	return list, nil
}

// paramsOf tells which parameters a text names, by their numbers.
func paramsOf(sql []byte) (named []bool) {
	for _, t := range parser.Tokens(sql, nil) {
		if sql[t.Start] != '$' || t.End-t.Start < 2 {
			continue
		}
		n, err := strconv.Atoi(string(sql[t.Start+1 : t.End]))
		if err != nil || n < 1 || n > maxParams {
			continue
		}
		for len(named) <= n {
			named = append(named, false)
		}
		named[n] = true
	}
	return named
}

// maxParams is the most parameters that a Bind has.
const maxParams = 65535

// text is the clause that a shard is given.
func (l *limit) text(sql []byte) string {
	if l.count == nil {
		return ""
	}
	literals, _ := parser.Literals(sql, nil)
	count := "(" + valueText(l.count, literals) + ")::bigint"
	if l.offset == nil {
		return "LIMIT " + count
	}
	// The sum of two bigint may be none. NULL, which is no limit, counts for nothing in least.
	return "LIMIT least(" + count + "::numeric + (" + valueText(l.offset, literals) + ")::bigint::numeric, " + strconv.FormatInt(math.MaxInt64, 10) + ")::bigint"
}

// valueText is a number or a parameter as SQL.
func valueText(v *value, literals []parser.Literal) string {
	if v.Kind == parser.ValueParam {
		return "$" + strconv.Itoa(v.Param)
	}
	if v.Null {
		return "NULL"
	}
	text := v.Text
	if v.Literal >= 0 && v.Literal < len(literals) {
		text = string(literals[v.Literal].Value)
		if v.Negative {
			text = "-" + text
		}
	}
	return "'" + strings.ReplaceAll(text, "'", "''") + "'"
}

// edits replace all rows by those of the i-th part.
func (r *rowParts) edits(i int, sql []byte) ([]parser.Edit, error) {
	tokens := parser.Tokens(sql, nil)
	in := r.insert
	if len(r.values) != len(in.stamps.columns) {
		return nil, errStamps
	}
	var text strings.Builder
	for _, row := range r.rows[i] {
		span := in.tokens[row]
		if span.To > len(tokens) || span.To <= span.From {
			return nil, errPlaces
		}
		if text.Len() > 0 {
			text.WriteString(", ")
		}
		own := string(sql[tokens[span.From].Start:tokens[span.To-1].End])
		switch {
		case in.sequence == "":
		case in.rows[row][0] == nil:
			filled, ok := in.fill.row(sql, tokens, span, r.numbers[row])
			if !ok {
				return nil, errPlaces
			}
			own = filled
		case in.fill.at < 0:
			return nil, errPlaces
		}
		if len(r.values) > 0 {
			own = in.stamps.row(own, r.values)
		}
		text.WriteString(own)
	}
	var edits []parser.Edit
	if len(r.values) > 0 {
		edits = append(edits, in.stamps.edit())
	}
	if in.sequence != "" {
		edits = append(edits, in.fill.edits()...)
	}
	all := parser.Span{From: in.tokens[0].From, To: in.tokens[len(in.tokens)-1].To}
	return append(edits, parser.Edit{Span: all, Text: text.String()}), nil
}
