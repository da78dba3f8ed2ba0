package plan

import (
	"slices"

	"pgtier/parser"
	"pgtier/router/catalog"
)

// bytewise says whether an expression is COLLATE "C" or "POSIX" of another, so that its texts compare by their bytes.
func bytewise(e *parser.Expr) bool {
	return e.Kind == parser.ExprCollate && (e.Schema == "" || e.Schema == "pg_catalog") && slices.Contains([]string{"C", "POSIX"}, e.Name)
}

// collated is the variable of an expression that says how its texts compare, nil for others. It is a new one each time: nothing makes it equal to another.
func (q *query) collated(e *parser.Expr) *variable {
	if e.Kind != parser.ExprCollate || !bytewise(e) {
		return nil
	}
	v := &variable{number: -1, name: "text", column: &catalog.Column{Name: "text", Typmod: noTypmod}}
	if of := q.scope.resolve(e.Args[0]); of != nil && of.column != nil {
		c := *of.column
		v.name, v.column = of.name, &c
	}
	v.column.Collation = catalog.CollationBytes
	return v
}

// variable is what is known of an expression's values: those of a column, or how its texts compare.
func (q *query) variable(e *parser.Expr) *variable {
	if v := q.scope.resolve(e); v != nil {
		return v
	}
	return q.collated(e)
}
