package plan

import (
	"slices"

	"pgtier/parser"
)

// alike says whether two expressions are written alike but for their constants. Where the server takes both as one, it is because they are equal.
func alike(a, b *parser.Expr) bool {
	if a == nil || b == nil {
		return a == b
	}
	if a.Kind != b.Kind || a.Schema != b.Schema || a.Name != b.Name || !slices.Equal(a.Qualifier, b.Qualifier) || a.Query != nil || b.Query != nil ||
		a.Kind == parser.ExprOther || a.Star != b.Star || a.Distinct != b.Distinct || a.Ordered || b.Ordered || a.Variadic != b.Variadic || a.Not != b.Not ||
		a.Array != b.Array || a.Typmod || b.Typmod || a.Over != nil || b.Over != nil || len(a.Args) != len(b.Args) || !alike(a.Filter, b.Filter) {
		return false
	}
	if a.Value.Kind != b.Value.Kind || a.Value.Null != b.Value.Null || a.Value.Negative != b.Value.Negative {
		return false
	}
	for i := range a.Args {
		if !alike(a.Args[i], b.Args[i]) {
			return false
		}
	}
	return true
}

// same says whether two expressions are equal in every text of the template: alike, and without literals but those that stay in it.
func same(a, b *parser.Expr) bool {
	if !alike(a, b) {
		return false
	}
	steady := true
	a.Walk(func(e *parser.Expr) bool {
		steady = steady && e.Value.Literal < 0 || e.Kind != parser.ExprConstant && steady
		return steady
	})
	return steady && sameParams(a, b)
}

func sameParams(a, b *parser.Expr) bool {
	if a == nil {
		return b == nil
	}
	if a.Value.Param != b.Value.Param || a.Kind == parser.ExprConstant && a.Value.Text != b.Value.Text {
		return false
	}
	for i := range a.Args {
		if !sameParams(a.Args[i], b.Args[i]) {
			return false
		}
	}
	return sameParams(a.Filter, b.Filter)
}
