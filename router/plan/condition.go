package plan

import (
	"slices"

	"pgtier/parser"
)

// condition gathers the facts that hold wherever an expression is true.
type condition struct {
	query *query
	scope *scope
	facts []fact
}

// holds gathers the facts of a condition whose names are those of s.
func (q *query) holds(e *parser.Expr, s *scope) []fact {
	c := condition{query: q, scope: s}
	c.true(e)
	return c.facts
}

// true adds what follows from e being true.
func (c *condition) true(e *parser.Expr) {
	if e == nil {
		return
	}
	switch e.Kind {
	case parser.ExprAnd:
		for _, arg := range e.Args {
			c.true(arg)
		}
	case parser.ExprOr:
		c.oneOf(e.Args)
	case parser.ExprOperator:
		if len(e.Args) == 2 && c.isEqual(e) {
			c.equal(e.Args[0], e.Args[1])
		}
	case parser.ExprIn:
		if !e.Not && c.isEqual(e) && len(e.Args) > 1 {
			c.in(e.Args[0], e.Args[1:])
		}
	case parser.ExprAny:
		if c.isEqual(e) && len(e.Args) == 2 {
			c.any(e.Args[0], e.Args[1])
		}
	case parser.ExprSubquery:
		c.exists(e)
	}
}

// isEqual says whether an expression's operator is the server's own =.
func (c *condition) isEqual(e *parser.Expr) bool {
	return e.Name == "=" && (e.Schema == "" && !c.query.shadowed || e.Schema == "pg_catalog")
}

// equal adds left = right.
func (c *condition) equal(left, right *parser.Expr) {
	if left.Kind == parser.ExprRow && right.Kind == parser.ExprRow {
		if len(left.Args) != len(right.Args) || hasStar(left.Args) || hasStar(right.Args) {
			return
		}
		for i := range left.Args {
			c.equal(left.Args[i], right.Args[i])
		}
		return
	}
	l, r := c.scope.resolve(left), c.scope.resolve(right)
	if f, ok := equal(l, r); ok {
		c.facts = append(c.facts, f)
		return
	}
	if l == nil {
		l, right = r, left
	}
	c.in1(l, []*parser.Expr{right})
}

func hasStar(list []*parser.Expr) bool {
	return slices.ContainsFunc(list, func(e *parser.Expr) bool { return e.Kind == parser.ExprStar })
}

// in adds left IN (list), by columns where it is a list of rows.
func (c *condition) in(left *parser.Expr, list []*parser.Expr) {
	if left.Kind != parser.ExprRow {
		if len(list) == 1 {
			c.equal(left, list[0])
			return
		}
		c.in1(c.scope.resolve(left), list)
		return
	}
	if hasStar(left.Args) {
		return
	}
	for i, column := range left.Args {
		var at []*parser.Expr
		for _, row := range list {
			if row.Kind != parser.ExprRow || len(row.Args) != len(left.Args) || hasStar(row.Args) {
				return
			}
			at = append(at, row.Args[i])
		}
		c.in1(c.scope.resolve(column), at)
	}
}

// in1 adds that v is one of the constants of a list.
func (c *condition) in1(v *variable, list []*parser.Expr) {
	if v == nil || v.family == familyNone {
		return
	}
	found := &values{}
	for _, e := range list {
		k, ok := constantOf(e)
		if !ok {
			return
		}
		k.inferred = v.column.Type
		found.list = append(found.list, k)
	}
	c.facts = append(c.facts, fact{a: v, values: found})
}

// any adds left = ANY (array).
func (c *condition) any(left, array *parser.Expr) {
	v := c.scope.resolve(left)
	if v == nil || v.family == familyNone {
		return
	}
	element := uint32(0)
	if array.Kind == parser.ExprCast {
		element = uint32(castType(array.Schema, array.Name))
		if !array.Array || array.Typmod || element == 0 {
			return
		}
		array = array.Args[0]
	}
	switch array.Kind {
	case parser.ExprArray:
		if element == 0 && len(array.Args) > 0 {
			c.in1(v, array.Args)
		}
	case parser.ExprConstant, parser.ExprParam:
		c.facts = append(c.facts, fact{a: v, values: &values{array: true, list: []value{{Value: array.Value, cast: element, inferred: v.column.Type, expr: array, array: true}}}})
	}
}

// constantOf reads a constant or a parameter, perhaps with a cast to a type that keys have.
func constantOf(e *parser.Expr) (value, bool) {
	cast := uint32(0)
	if e.Kind == parser.ExprCast {
		cast = uint32(castType(e.Schema, e.Name))
		if e.Array || e.Typmod || cast == 0 {
			return value{}, false
		}
		e = e.Args[0]
	}
	if e.Kind != parser.ExprConstant && e.Kind != parser.ExprParam {
		return value{}, false
	}
	return value{Value: e.Value, cast: cast, expr: e}, true
}

// oneOf adds what follows from one of the branches being true: the values of a variable that each of them gives values to.
func (c *condition) oneOf(branches []*parser.Expr) {
	var common []fact
	for i, branch := range branches {
		found := &facts{own: c.query.holds(branch, c.scope)}
		if i == 0 {
			for _, f := range found.own {
				if f.values != nil && !f.values.array {
					common = append(common, f)
				}
			}
			continue
		}
		var kept []fact
		for _, f := range common {
			for _, l := range found.pinned(f.a) {
				if !l.array {
					list := append(slices.Clone(f.values.list), l.list...)
					kept = append(kept, fact{a: f.a, values: &values{list: list}})
					break
				}
			}
		}
		common = kept
	}
	c.facts = append(c.facts, common...)
}

// exists adds what follows from a row of a sub-select being there: for EXISTS, and for left IN (SELECT …) equal to left.
func (c *condition) exists(e *parser.Expr) {
	s := c.query.subOf(e)
	if s == nil || e.Sub != parser.SubExists && e.Sub != parser.SubAny {
		return
	}
	inner := slices.Clone(s.query.always())
	if e.Sub == parser.SubAny {
		if !c.isEqual(e) {
			return
		}
		s.positive = true
		inner = append(inner, c.query.links(s)...)
	}
	c.facts = append(c.facts, project(inner, func(v *variable) bool { return !s.query.inside(v) })...)
}

// links are the equalities of left IN (SELECT …) between what stands left and the outputs of the sub-select.
func (q *query) links(s *sub) (list []fact) {
	if len(s.expr.Args) != 1 || s.query.open {
		return nil
	}
	left := s.expr.Args
	if left[0].Kind == parser.ExprRow {
		left = left[0].Args
	}
	if len(left) != len(s.query.outputs) || hasStar(left) {
		return nil
	}
	for i, e := range left {
		if f, ok := equal(s.scope.resolve(e), s.query.outputs[i].variable); ok {
			list = append(list, f)
		}
	}
	return list
}
