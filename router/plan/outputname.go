package plan

import (
	"slices"

	"pgtier/parser"
)

// outputNames is what the server calls an output (FigureColname in PostgreSQL's parse_target.c). Where that depends on what is not known here, maybe is
// the other name that it may have.
func outputNames(o *parser.Output) (name, maybe string) {
	if o.Name != "" {
		return o.Name, ""
	}
	name, maybe, _ = figure(o.Expr)
	if name == "" {
		name = "?column?"
	}
	return name, maybe
}

// figure finds the name of an expression. weak names give way to that of a cast's type.
func figure(e *parser.Expr) (name, maybe string, weak bool) {
	switch e.Kind {
	case parser.ExprColumn, parser.ExprCall, parser.ExprNow:
		return e.Name, "", false
	case parser.ExprCast:
		name, maybe, weak = figure(e.Args[0])
		if name == "" || weak {
			return e.Name, maybe, true
		}
		return name, maybe, false
	case parser.ExprCollate:
		return figure(e.Args[0])
	case parser.ExprCoalesce:
		return "coalesce", "", false
	case parser.ExprArray:
		return "array", "", false
	case parser.ExprRow:
		return "row", "", false
	case parser.ExprCase:
		maybe, _, _ = figure(e.Args[len(e.Args)-1]) // if that is its ELSE
		return "case", maybe, true
	case parser.ExprSubquery:
		return figureSub(e)
	case parser.ExprOther:
		return figureOther(e)
	}
	return "", "", false
}

func figureSub(e *parser.Expr) (name, maybe string, weak bool) {
	switch e.Sub {
	case parser.SubExists:
		return "exists", "", false
	case parser.SubArray:
		return "array", "", false
	case parser.SubScalar:
		q := e.Query
		for q.Left != nil {
			q = q.Left
		}
		if len(q.Outputs) == 1 && q.Outputs[0].Expr.Kind != parser.ExprStar {
			if q.Outputs[0].Name != "" {
				return q.Outputs[0].Name, "", false
			}
			return figure(q.Outputs[0].Expr)
		}
		return "", anyName, false
	}
	return "", "", false
}

// anyName stands for a name that is not known at all.
const anyName = "*"

// unnamed are expressions without words that have no name.
var unnamed = []string{"ALL (array)", "IS DISTINCT FROM", "IS NOT DISTINCT FROM", "LIKE", "ILIKE", "SIMILAR TO", "BETWEEN", "NOT BETWEEN",
	"BETWEEN SYMMETRIC", "NOT BETWEEN SYMMETRIC", "BooleanTest"}

func figureOther(e *parser.Expr) (name, maybe string, weak bool) {
	switch {
	case e.Name == "NULLIF":
		return "nullif", "", false
	case slices.Contains(unnamed, e.Name):
		return "", "", false
	}
	return "", anyName, false
}
