package plan

import (
	"slices"

	"pgtier/parser"
	"pgtier/router/catalog"
)

// steadily refuses a write to reference tables whose outcome depends on the order in which a server finds rows: each shard has another, and the copies
// would differ.
func (w *work) steadily() (r *Refusal) {
	const hint = "Its copies might differ. Compute the values first, and write them by a statement of their own."
	w.root.walk(func(q *query) {
		t := q.tree
		t.Exprs(func(e *parser.Expr) {
			switch {
			case e.Kind == parser.ExprCall && e.Over != nil:
				r = refuse("write to a reference table with window function "+e.Name+"()", hint)
			case w.bind.aggregate(e) && !slices.Contains(firmAggregates, e.Name) && !q.orderedBy(e) || w.bind.aggregate(e) && !q.exactSum(e):
				r = refuse("write to a reference table with aggregate "+e.Name+"(), which depends on the order of rows", hint)
			case e.Kind == parser.ExprSubquery && e.Sub == parser.SubArray:
				r = refuse("write to a reference table with ARRAY(SELECT …), which depends on the order of rows", hint)
			}
		})
		switch {
		case t.Kind == parser.Update && q.namesOthers() && !q.matchesOnce():
			r = refuse("UPDATE … FROM of a reference table whose rows may match several",
				"Its copies might differ. Join by a unique key of the table in FROM, or use INSERT … ON CONFLICT DO UPDATE, which takes one new row for each.")
		case t.Kind == parser.Insert && t.Conflict != nil && !t.Conflict.Update && q.source != nil && len(q.source.uses()) > 0:
			r = refuse("INSERT … SELECT … ON CONFLICT DO NOTHING into a reference table, where the first of several rows counts", hint)
		}
	})
	return r
}

// orderedBy says whether an aggregate sorts its rows by all that it takes, so that equal ones are the same.
func (q *query) orderedBy(call *parser.Expr) bool {
	return len(call.Order) > 0 && !slices.ContainsFunc(call.Args, func(arg *parser.Expr) bool {
		if arg.Kind == parser.ExprConstant || arg.Kind == parser.ExprParam {
			return false
		}
		v := q.scope.resolve(arg)
		if v == nil || v.family == familyNone || v.family == familyNumeric || v.family == familyBPChar { // of which equal ones may be written otherwise
			return true
		}
		return !slices.ContainsFunc(call.Order, func(s *parser.Sort) bool { return !s.Using && q.scope.resolve(s.Expr) == v })
	})
}

// namesOthers says whether an UPDATE assigns what it computes from rows of its FROM, as far as is known.
func (q *query) namesOthers() bool {
	if len(q.from) < 2 {
		return false
	}
	for _, a := range q.tree.Assigns {
		others := a.Value == nil
		for _, e := range append(slices.Clone(a.Subscripts), a.Value) {
			e.Walk(func(e *parser.Expr) bool {
				switch e.Kind {
				case parser.ExprColumn, parser.ExprStar:
					others = others || !q.target.has(q.scope.resolve(e))
				case parser.ExprSubquery:
					others = true
				}
				return !others
			})
		}
		if others {
			return true
		}
	}
	return false
}

// has says whether a variable is a column of the node.
func (n *node) has(v *variable) bool {
	return v != nil && slices.ContainsFunc(n.columns, func(c column) bool { return c.variable == v })
}

// matchesOnce says whether an UPDATE finds at most one row of its FROM for each of its target's.
func (q *query) matchesOnce() bool {
	found := []*node{q.target}
	var left []*node
	var add func(n *node)
	add = func(n *node) {
		if n.left == nil {
			left = append(left, n)
			return
		}
		add(n.left)
		add(n.right)
	}
	for _, n := range q.from {
		if n != q.target {
			add(n)
		}
	}
	for len(left) > 0 {
		i := slices.IndexFunc(left, func(n *node) bool { return q.single(n, found) })
		if i < 0 {
			return false
		}
		found = append(found, left[i])
		left = slices.Delete(left, i, i+1)
	}
	return true
}

// single says whether an item of FROM has at most one row for each row of others.
func (q *query) single(n *node, others []*node) bool {
	given := func(v *variable) bool {
		if v == nil {
			return false
		}
		if slices.ContainsFunc(q.facts.pinned(v), func(l *values) bool { return !l.array && len(l.list) == 1 }) {
			return true
		}
		return slices.ContainsFunc(q.facts.same(v), func(same *variable) bool {
			return slices.ContainsFunc(others, func(o *node) bool { return o.has(same) })
		})
	}
	switch {
	case n.table != nil && n.table.relation != nil:
		r := n.table.relation
		for i := range r.Unique {
			u := &r.Unique[i]
			if u.Proves() && !slices.ContainsFunc(u.Columns, func(name string) bool {
				at := slices.IndexFunc(r.Columns, func(c catalog.Column) bool { return c.Name == name })
				return at < 0 || !given(n.columns[at].variable)
			}) {
				return true
			}
		}
	case n.inner != nil && n.inner.left == nil && n.inner.tree.Kind == parser.Select && !n.inner.tree.GroupingSets:
		t := n.inner.tree
		if len(t.Rows) == 1 || n.inner.aggregates && len(t.Group) == 0 && !n.inner.borrowed {
			return true
		}
		return len(t.Group) > 0 && !slices.ContainsFunc(t.Group, func(e *parser.Expr) bool {
			v := n.inner.scope.resolve(e)
			at := slices.IndexFunc(n.inner.outputs, func(c column) bool { return v != nil && c.variable == v })
			return at < 0 || !given(n.columns[at].variable)
		})
	}
	return false
}
