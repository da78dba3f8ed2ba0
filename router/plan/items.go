package plan

import (
	"slices"
	"strings"

	"pgtier/parser"
)

// item finds the tokens of an expression that is a whole item of GROUP BY or ORDER BY; ok is false for others.
func (m *mingler) item(e *parser.Expr) (span parser.Span, ok bool) {
	t := m.q.tree
	if i := slices.Index(t.Group, e); i >= 0 {
		return m.itemOf(t.GroupTokens, i, len(t.Group))
	}
	if i := slices.IndexFunc(t.Order, func(s *parser.Sort) bool { return s.Expr == e }); i >= 0 {
		return m.itemOf(t.OrderTokens, i, len(t.Order))
	}
	return span, false
}

// itemOf finds the i-th of n items of a clause, without the words that say how it is sorted.
func (m *mingler) itemOf(clause parser.Span, i, n int) (span parser.Span, ok bool) {
	tokens := parser.Tokens(m.sql, nil)
	if clause == (parser.Span{}) || clause.To > len(tokens) {
		return span, false
	}
	word := func(at int) string { return strings.ToUpper(string(m.sql[tokens[at].Start:tokens[at].End])) }
	var items []parser.Span
	depth, from := 0, clause.From+2 // behind GROUP BY or ORDER BY
	if from < clause.To && (word(from) == "ALL" || word(from) == "DISTINCT") {
		from++
	}
	for at := from; at <= clause.To; at++ {
		switch {
		case at == clause.To || depth == 0 && word(at) == ",":
			items = append(items, parser.Span{From: from, To: at})
			from = at + 1
		case word(at) == "(", word(at) == "[":
			depth++
		case word(at) == ")", word(at) == "]":
			depth--
		}
	}
	if len(items) != n {
		return span, false
	}
	span = items[i]
	last := func(words ...string) bool { return span.To-span.From > 1 && slices.Contains(words, word(span.To-1)) }
	if last("FIRST", "LAST") && word(span.To-2) == "NULLS" {
		span.To -= 2
	}
	if last("ASC", "DESC") {
		span.To--
	}
	return span, span.To > span.From
}
