package plan

import (
	"slices"

	"pgtier/parser"
)

// always are facts true of every row that the query returns, whatever stands around it.
func (q *query) always() []fact {
	if q.givenDone {
		return q.given
	}
	q.givenDone = true
	// A query with aggregates and no groups has a row even where no row fulfils its WHERE; so has the group of nothing among GROUPING SETS.
	if q.left != nil || q.tree.Kind != parser.Select || q.tree.GroupingSets || q.aggregates && len(q.tree.Group) == 0 {
		return nil
	}
	q.given = append(q.given, q.constants...)
	for _, n := range q.from {
		q.given = append(q.given, n.always(q)...)
	}
	q.given = append(q.given, q.holds(q.tree.Where, q.scope)...)
	return q.given
}

// always are facts true of every row that an item of q's FROM gives.
func (n *node) always(q *query) []fact {
	switch {
	case n.inner != nil:
		return n.exposed()
	case n.left == nil:
		return nil
	}
	switch n.source.Join {
	case parser.JoinInner:
		list := append(slices.Clone(n.left.always(q)), n.right.always(q)...)
		return append(list, n.on(q)...)
	case parser.JoinLeft:
		return n.left.always(q)
	case parser.JoinRight:
		return n.right.always(q)
	}
	return nil
}

// on are the facts of a join's ON or USING.
func (n *node) on(q *query) []fact {
	return append(slices.Clone(n.equal), q.holds(n.source.On, n.scope)...)
}

// exposed is what the rows of a sub-select in FROM always are, in terms of its columns and of outer ones.
func (n *node) exposed() []fact {
	list := slices.Clone(n.inner.always())
	for i, o := range n.inner.outputs {
		if c := n.columns[i].variable; c != nil && o.variable != nil {
			list = append(list, fact{a: c, b: o.variable, link: true})
		}
	}
	return project(list, func(v *variable) bool { return !n.inner.inside(v) })
}

// flow notes what holds for the rows that matter in q and in all that is inside it. around holds in the place where q stands.
func (q *query) flow(around *facts) {
	for _, w := range q.with {
		w.flow(nil)
	}
	if q.left != nil {
		q.left.flow(around.with(q.side(q.left)))
		q.right.flow(around.with(q.side(q.right)))
		q.facts = around
		return
	}
	q.facts = around.with(q.constants)
	for _, n := range q.from {
		q.facts = q.facts.with(n.always(q))
	}
	q.facts = q.facts.with(q.holds(q.tree.Where, q.scope))
	if q.tree.Kind == parser.Merge {
		q.flowMerge(around)
	} else {
		for _, n := range q.from {
			n.flow(q, q.facts)
		}
	}
	if q.source != nil {
		q.source.flow(around)
	}
	q.flowSubs()
}

// side links the columns of a set operation to those of one of its sides.
func (q *query) side(side *query) (list []fact) {
	if q.open || bounded(q.tree) {
		return nil
	}
	for i, c := range q.outputs {
		if c.variable != nil && side.outputs[i].variable != nil {
			list = append(list, fact{a: c.variable, b: side.outputs[i].variable, link: true})
		}
	}
	return list
}

// bounded says whether the answer depends on how many rows there are before some are chosen.
func bounded(q *parser.Query) bool {
	return q.Limit != nil || q.Offset != nil || q.WithTies
}

// flowMerge is flow for MERGE: all rows of the source matter, and those of the target that ON holds for.
func (q *query) flowMerge(around *facts) {
	on := q.holds(q.tree.On, q.scope)
	q.facts = around
	if len(q.from) != 2 {
		return
	}
	q.from[1].flow(q, around.with(q.from[1].always(q)))
	q.facts = around.with(q.from[1].always(q)).with(on)
	q.from[0].flow(q, q.facts)
}

// flowSubs is flow for the sub-selects in q's expressions.
func (q *query) flowSubs() {
	for _, s := range q.subs {
		around := q.facts
		if s.on != nil {
			around = s.on.matched
		}
		if s.positive {
			around = around.with(s.query.linkable(q.links(s)))
		}
		s.query.flow(around)
	}
}

// flow notes what holds for the rows of n that matter, where around holds.
func (n *node) flow(q *query, around *facts) {
	n.facts = around.with(n.always(q))
	n.matched = n.facts
	switch {
	case n.inner != nil:
		n.flowInner()
	case n.left != nil:
		n.matched = n.facts.with(n.on(q))
		left, right := n.facts, n.facts
		switch n.source.Join {
		case parser.JoinInner:
			left, right = n.matched, n.matched
		case parser.JoinLeft:
			right = n.matched
			if n.right.needed(around) {
				left = n.matched
			}
		case parser.JoinRight:
			left = n.matched
			if n.left.needed(around) {
				right = n.matched
			}
		}
		n.left.flow(q, left)
		n.right.flow(q, right)
	}
}

// needed says whether rows do not matter in which n's columns are NULL, because an equality of one must hold: the join is an inner one then.
func (n *node) needed(f *facts) bool {
	mine := func(v *variable) bool {
		return v != nil && slices.ContainsFunc(n.items, func(i *item) bool {
			return !i.joined && slices.ContainsFunc(i.columns, func(c column) bool { return c.variable == v })
		})
	}
	return f.refuses(mine)
}

// flowInner is flow for a sub-select in FROM: what is true of its columns is so of those inside, where that changes none of its rows.
func (n *node) flowInner() {
	var links []fact
	for i, o := range n.inner.outputs {
		if c := n.columns[i].variable; c != nil && o.variable != nil {
			links = append(links, fact{a: c, b: o.variable, link: true})
		}
	}
	n.inner.flow(n.facts.with(n.inner.linkable(links)))
}

// linkable keeps those of links, from outside to q's outputs, by which q's rows may be chosen before it has made its answer of them.
func (q *query) linkable(links []fact) (list []fact) {
	if bounded(q.tree) || q.tree.Locks || q.tree.GroupingSets || q.recursive {
		return nil
	}
	for _, f := range links {
		if q.left != nil || q.filterable(f.b) {
			list = append(list, f)
		}
	}
	return list
}

// filterable says whether leaving out all rows of q's FROM with other values in v leaves out the rows of the answer with such, and changes no other.
func (q *query) filterable(v *variable) bool {
	t := q.tree
	if (q.aggregates || len(t.Group) > 0) && !q.among(v, t.Group) {
		return false
	}
	if t.DistinctOn != nil && !slices.ContainsFunc(t.DistinctOn, func(e *parser.Expr) bool { return q.ordered(e) == v }) {
		return false
	}
	return q.windowsBy(func(w *parser.Window) bool { return q.among(v, w.Partition) })
}

// among says whether one of the expressions is the variable.
func (q *query) among(v *variable, list []*parser.Expr) bool {
	return slices.ContainsFunc(list, func(e *parser.Expr) bool { return q.scope.resolve(e) == v })
}

// ordered is the variable that an item of ORDER BY or DISTINCT ON means: a name alone is an output's first of all.
func (q *query) ordered(e *parser.Expr) *variable {
	if e.Kind == parser.ExprColumn && len(e.Qualifier) == 0 {
		if q.open {
			return nil
		}
		for _, o := range q.outputs {
			if o.vague(e.Name) {
				return nil
			}
		}
		for _, o := range q.outputs {
			if o.name == e.Name {
				return o.variable
			}
		}
	}
	return q.scope.resolve(e)
}

// windowsBy says whether ok is true of all windows that q's outputs and order are computed over.
func (q *query) windowsBy(ok func(*parser.Window) bool) bool {
	fine := true
	visit := func(e *parser.Expr) bool {
		fine = fine && (e.Over == nil || ok(e.Over))
		return fine
	}
	for _, o := range q.tree.Outputs {
		o.Expr.Walk(visit)
	}
	for _, o := range q.tree.Order {
		o.Expr.Walk(visit)
	}
	return fine
}
