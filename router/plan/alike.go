package plan

import (
	"bytes"
	"slices"

	"pgtier/parser"
)

// alike says whether two expressions are written alike but for their constants and parameters. pair is told of those that stand at one place.
func alike(a, b *parser.Expr, pair func(a, b *parser.Expr)) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a.Kind != b.Kind || a.Schema != b.Schema || a.Name != b.Name || !slices.Equal(a.Qualifier, b.Qualifier) || a.Query != nil || b.Query != nil ||
		a.Kind == parser.ExprOther || a.Star != b.Star || a.Distinct != b.Distinct || a.Ordered || b.Ordered || a.Variadic != b.Variadic || a.Not != b.Not ||
		a.Array != b.Array || a.Operand != b.Operand || a.Typmod || b.Typmod || a.Over != nil || b.Over != nil || len(a.Args) != len(b.Args) ||
		!alike(a.Filter, b.Filter, pair) {
		return false
	}
	if a.Value.Kind != b.Value.Kind || a.Value.Null != b.Value.Null || a.Value.Negative != b.Value.Negative {
		return false
	}
	if a.Kind == parser.ExprConstant || a.Kind == parser.ExprParam {
		pair(a, b)
	}
	for i := range a.Args {
		if !alike(a.Args[i], b.Args[i], pair) {
			return false
		}
	}
	return true
}

// same says whether two expressions are one to the server: alike, with the same constants and parameters. Where that depends on what literals say, the
// plan rests on them from here on.
func (m *mingler) same(a, b *parser.Expr) bool {
	var pairs [][2]*parser.Expr
	if !alike(a, b, func(a, b *parser.Expr) { pairs = append(pairs, [2]*parser.Expr{a, b}) }) {
		return false
	}
	equal := true
	for _, p := range pairs {
		x, y := p[0].Value, p[1].Value
		switch {
		case x.Literal < 0 && y.Literal < 0:
			equal = equal && x.Param == y.Param && x.Text == y.Text
		case x.Literal < 0 || y.Literal < 0:
			equal = false
		case x.Literal != y.Literal:
			m.rests(x.Literal)
			m.rests(y.Literal)
			equal = equal && m.bind.sameLiteral(x.Literal, y.Literal)
		}
	}
	return equal
}

// sameLiteral says whether two literals of the text are written alike.
func (b *binder) sameLiteral(x, y int) bool {
	if x >= len(b.literals) || y >= len(b.literals) {
		return false
	}
	return b.literals[x].Kind == b.literals[y].Kind && bytes.Equal(b.literals[x].Value, b.literals[y].Value)
}

// rests notes a literal that the plan rests on.
func (m *mingler) rests(literal int) {
	if !slices.Contains(m.places, literal) {
		m.places = append(m.places, literal)
	}
}
