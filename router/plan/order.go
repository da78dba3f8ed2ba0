package plan

import (
	"slices"

	"pgtier/parser"
)

// SQL says of a sub-select's ORDER BY nothing, but who writes SELECT … FROM (SELECT … ORDER BY …) LIMIT 3 gets the first rows from one server. Shards
// know no order that is not at the end of the statement.

// comesSorted says whether q's rows come in an order that its text gives them, be it by a sub-select whose rows q only passes on.
func (q *query) comesSorted() bool {
	switch {
	case len(q.tree.Order) > 0:
		return true
	case q.left != nil:
		return q.tree.Set == parser.SetUnion && q.tree.All && (q.left.comesSorted() || q.right.comesSorted())
	}
	return q.passesOrder() && slices.ContainsFunc(q.from, (*node).comesSorted)
}

// passesOrder says whether q's rows come in the order of what stands in FROM.
func (q *query) passesOrder() bool {
	t := q.tree
	return t.Kind == parser.Select && !q.aggregates && len(t.Group) == 0 && (!t.Distinct || t.DistinctOn != nil)
}

func (n *node) comesSorted() bool {
	switch {
	case n.inner != nil:
		return n.inner.comesSorted()
	case n.left != nil:
		return n.left.comesSorted() || n.right.comesSorted()
	}
	return false
}

// unsorted refuses a statement whose rows come in the order of a sub-select.
func (q *query) unsorted() *Refusal {
	if len(q.tree.Order) == 0 && q.comesSorted() {
		return refuse("ORDER BY in a sub-select whose order the rows of several shards would have", "Move ORDER BY to the end of the statement.")
	}
	return nil
}
