package plan

import (
	"slices"

	"pgtier/parser"
	"pgtier/router/catalog"
)

// numeral is what is known of the type of a number's expression.
type numeral uint8

// What an expression may be. Intervals count as exact.
const (
	unclear  numeral = iota
	exact            // an integer or numeric, or an error
	floating         // double precision, or exact
	single           // real
)

// OIDs of types (pg_type.dat).
const (
	float4Type   = 700
	float8Type   = 701
	intervalType = 1186
)

// arithmetic tells the type of an expression of columns, constants and + - * /.
func (q *query) arithmetic(e *parser.Expr) numeral {
	switch e.Kind {
	case parser.ExprConstant:
		return exact
	case parser.ExprColumn:
		v := q.scope.resolve(e)
		if v == nil || v.column == nil {
			return unclear
		}
		return columnNumeral(v.column)
	case parser.ExprOperator:
		if e.Schema != "" && e.Schema != "pg_catalog" || !slices.Contains([]string{"+", "-", "*", "/", "%"}, e.Name) {
			return unclear
		}
		worst := exact
		for _, arg := range e.Args {
			n := q.arithmetic(arg)
			if n == unclear || n == single { // of real alone it is real, beside others double precision
				return unclear
			}
			worst = max(worst, n)
		}
		return worst
	}
	return unclear
}

func columnNumeral(c *catalog.Column) numeral {
	switch c.Type {
	case float4Type:
		return single
	case float8Type:
		return floating
	}
	switch familyOf(c.Type) {
	case familyInteger, familyNumeric:
		return exact
	}
	if c.Type == intervalType {
		return exact
	}
	return unclear
}
