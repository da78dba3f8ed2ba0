package plan

import (
	"slices"

	"pgtier/parser"
)

// query finds how the rows of a query lie that stands inside another: each shard's must be those that one server would give of its own rows.
func (l *layer) query(q *query) (layout, *Refusal) {
	if !l.spread1(q) {
		out := layout{constant: true}
		for _, n := range q.uses() {
			if _, r := l.table(n); r != nil {
				return out, r
			}
		}
		return out, l.steady(q)
	}
	switch {
	case q.recursive:
		return layout{}, refuse("recursive WITH query over sharded table "+q.sharded(), hintKey)
	case q.tree.Kind != parser.Select:
		return layout{}, refuse("WITH query that writes, across shards", "Send it as a statement of its own.")
	case q.left != nil:
		return l.set(q)
	}
	out, r := l.rows(q)
	if r != nil {
		return out, r
	}
	return out, l.local(q, out)
}

// rows finds how the rows of q's FROM and WHERE lie, with the sub-selects in all its expressions.
func (l *layer) rows(q *query) (layout, *Refusal) {
	for _, w := range q.with {
		if w.tree.Kind != parser.Select {
			return layout{}, refuse("WITH query that writes, across shards", "Send it as a statement of its own.")
		}
	}
	out, r := l.items(q)
	if r != nil {
		return out, r
	}
	return out, l.subs(q, out)
}

// local refuses what makes a query's answer of the rows of several shards.
func (l *layer) local(q *query, out layout) *Refusal {
	t := q.tree
	switch {
	case bounded(t):
		return refuse("LIMIT or OFFSET in a sub-select over rows of several shards", "Move it to the end of the statement.")
	case t.Locks:
		return refuse("FOR UPDATE in a sub-select over rows of several shards", hintKey)
	case (q.aggregates || len(t.Group) > 0) && !q.grouped(out):
		return refuse("aggregates in a sub-select over rows of several shards that are not grouped by the key", "Group by all columns of the sharding key.")
	case t.DistinctOn != nil && !q.distinctOnBy(out):
		return refuse("DISTINCT ON without the key in a sub-select over rows of several shards", "Add the sharding key to DISTINCT ON.")
	case t.Distinct && t.DistinctOn == nil && !q.returns(out):
		return refuse("DISTINCT without the key in a sub-select over rows of several shards", "Add the sharding key to the select list.")
	}
	return l.windows(q, out)
}

// windows refuses window functions over rows of several shards.
func (l *layer) windows(q *query, out layout) *Refusal {
	by := func(w *parser.Window) bool {
		return slices.ContainsFunc(out.keys, func(key []*variable) bool { return q.covers(key, w.Partition) })
	}
	if !q.windowsBy(by) {
		return refuse("window function without PARTITION BY the key", "Partition by all columns of the sharding key.")
	}
	return nil
}

// grouped says whether q's groups are of rows of one shard each.
func (q *query) grouped(out layout) bool { return q.groupedBy(out, q.tree.Group) }

// groupedBy is grouped for the expressions that GROUP BY means.
func (q *query) groupedBy(out layout, groups []*parser.Expr) bool {
	return !q.tree.GroupingSets && slices.ContainsFunc(out.keys, func(key []*variable) bool { return q.covers(key, groups) })
}

// covers says whether all variables of a key are among the expressions.
func (q *query) covers(key []*variable, list []*parser.Expr) bool {
	for _, v := range key {
		if !slices.ContainsFunc(list, func(e *parser.Expr) bool { return q.facts.equates(q.scope.resolve(e), v) }) {
			return false
		}
	}
	return len(key) > 0
}

// distinctOnBy says whether rows that are one to DISTINCT ON are on one shard.
func (q *query) distinctOnBy(out layout) bool {
	return slices.ContainsFunc(out.keys, func(key []*variable) bool {
		for _, v := range key {
			if !slices.ContainsFunc(q.tree.DistinctOn, func(e *parser.Expr) bool { return q.facts.equates(q.ordered(e), v) }) {
				return false
			}
		}
		return len(key) > 0
	})
}

// returns says whether the key is among q's outputs, so that rows that are equal are on one shard.
func (q *query) returns(out layout) bool {
	return slices.ContainsFunc(out.keys, func(key []*variable) bool { return q.exposes(key) != nil })
}

// set finds how the rows of a set operation lie.
func (l *layer) set(q *query) (layout, *Refusal) {
	left, right, r := l.sides(q)
	if r != nil {
		return left, r
	}
	out := layout{target: target{any: true, parts: []target{left.target, right.target}}, roots: append(slices.Clone(left.roots), right.roots...)}
	for _, a := range left.keys {
		at := q.left.exposes(a)
		if at == nil {
			continue
		}
		for _, b := range right.keys {
			if !slices.Equal(q.right.exposes(b), at) {
				continue
			}
			key := make([]*variable, len(at))
			for i, column := range at {
				key[i] = q.outputs[column].variable
			}
			if !slices.Contains(key, nil) {
				out.keys = append(out.keys, key)
			}
		}
	}
	switch {
	case bounded(q.tree):
		return out, refuse("LIMIT or OFFSET in a sub-select over rows of several shards", "Move it to the end of the statement.")
	case q.tree.Set == parser.SetUnion && q.tree.All, len(out.keys) > 0:
		return out, nil
	}
	return out, refuse(setWord(q.tree)+" of rows of several shards whose sides have no key at the same place", "Have both sides return their sharding key at the same place.")
}

// sides finds how both sides of a set operation lie: both spread.
func (l *layer) sides(q *query) (left, right layout, r *Refusal) {
	if left, r = l.query(q.left); r != nil {
		return left, right, r
	}
	if right, r = l.query(q.right); r != nil {
		return left, right, r
	}
	if left.constant != right.constant {
		r = refuse(setWord(q.tree)+" of rows of several shards with rows that every shard has", "Send them as two statements.")
	}
	return left, right, r
}

func setWord(q *parser.Query) string {
	word := [...]string{"", "UNION", "INTERSECT", "EXCEPT"}[q.Set]
	if q.All {
		word += " ALL"
	}
	return word
}
