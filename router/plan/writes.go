package plan

import (
	"slices"
	"strings"

	"pgtier/parser"
)

// upper is the kind as SQL spells it.
func upper(k parser.Kind) string { return strings.ToUpper(k.String()) }

// writable judges a table that the statement writes; false if it is refused.
func (w *work) writable(n *node) bool {
	t := n.table
	switch t.place {
	case placeServer:
		w.forbid(refuse("write to the catalogs of the server", "Use the statements that are there for it."))
		return false
	case placeReference:
		w.refuse(refuse("write to reference table \""+t.name+"\" together with sharded tables", "Read the rows first, and write them by a statement of their own."))
		return false
	case placeSharded:
	default:
		return true
	}
	return w.constrained(n)
}

// constrained refuses what would break a constraint that no server can see.
func (w *work) constrained(n *node) bool {
	t, q := n.table, w.queryOf(n)
	if t.unwritable != nil && q.tree.Kind != parser.Delete {
		w.refuse(t.unwritable)
		return false
	}
	for _, r := range t.referenced {
		assigned := func(a *parser.Assign) bool { return slices.Contains(r.key.RefColumns, a.Column) }
		if q.tree.Kind == parser.Delete || q.tree.Kind == parser.Merge || slices.ContainsFunc(q.tree.Assigns, assigned) {
			w.refuse(refuse("change of table \""+t.name+"\", which foreign key \""+r.key.Name+"\" of \""+r.from.name+"\" refers to from other shards", hintPin))
			return false
		}
	}
	return w.keepsKey(n, q)
}

// queryOf finds the query that writes to a target.
func (w *work) queryOf(n *node) (found *query) {
	w.root.walk(func(q *query) {
		if q.target == n {
			found = q
		}
	})
	return found
}

// keepsKey refuses assignments to columns of the key, but of the value that it has.
func (w *work) keepsKey(n *node, q *query) bool {
	assigns := q.tree.Assigns
	if c := q.tree.Conflict; c != nil {
		assigns = append(slices.Clone(assigns), c.Assigns...)
	}
	for _, a := range q.tree.Actions {
		assigns = append(slices.Clone(assigns), a.Assigns...)
	}
	for _, a := range assigns {
		i := n.table.isKey(a.Column)
		if i < 0 || w.sameValue(n, q, i, a) {
			continue
		}
		w.forbid(refuse("UPDATE of key column "+n.table.relation.Name+"."+a.Column, "Delete the row and insert it anew, in one transaction."))
		return false
	}
	return true
}

// sameValue says whether an assignment gives the i-th column of the key the value that it has.
func (w *work) sameValue(n *node, q *query, i int, a *parser.Assign) bool {
	if a.Path || a.Value == nil {
		return false
	}
	v := n.columns[n.table.columns[i]].variable
	if a.Value.Kind == parser.ExprColumn {
		if q.tree.Kind == parser.Insert { // of a row in conflict, whose unique columns have the key
			return len(a.Value.Qualifier) == 1 && a.Value.Qualifier[0] == "excluded" && a.Value.Name == a.Column || q.scope.resolve(a.Value) == v
		}
		other := q.scope.resolve(a.Value)
		return other != nil && n.facts.equates(v, other) && other.column.Type == v.column.Type && other.column.Typmod == v.column.Typmod
	}
	k, ok := constantOf(a.Value)
	if !ok || k.Kind != parser.ValueParam {
		return false
	}
	for _, l := range n.facts.pinned(v) {
		if !l.array && len(l.list) == 1 && l.list[0].Kind == parser.ValueParam && l.list[0].Param == k.Param && l.list[0].cast == k.cast {
			return true
		}
	}
	return false
}

// reference plans a write to reference tables: the same everywhere.
func (w *work) reference() {
	for _, t := range w.tables() {
		if t.place != placeReference {
			w.forbid(refuse("write to a reference table together with table \""+t.name+"\", which has other rows on each shard",
				"Read the rows first, and write them by a statement of their own."))
			return
		}
		if t.unwritable != nil {
			w.forbid(t.unwritable)
			return
		}
	}
	if len(w.functions) > 0 {
		w.forbid(refuse("write to a reference table that calls "+strings.Join(w.functions, ", "), "Its copies might differ. Compute the values first."))
		return
	}
	if why := w.differs(true); why != "" {
		w.forbid(refuse("write to a reference table with "+why, "Its copies would differ. Compute the values first."))
		return
	}
	if why := w.defaulted(true); why != "" {
		w.forbid(refuse("write to a reference table with "+why, "Its copies might differ. Give the column a value."))
		return
	}
	if r := w.steadily(); r != nil {
		w.forbid(r)
		return
	}
	if why := w.defaults(); why != "" {
		w.forbid(refuse(why, "Its copies might differ. Give the column a value."))
		return
	}
	w.kind, w.copies, w.onlyCopies, w.reason = Everywhere, true, true, "writes every copy of a reference table"
	w.lockCopies()
}

// defaults says which column of a reference table an INSERT leaves to a default that may differ between shards, "" for none.
func (w *work) defaults() string {
	why := ""
	w.root.walk(func(q *query) {
		if q.tree.Kind != parser.Insert && q.tree.Kind != parser.Merge {
			return
		}
		r := q.target.table.relation
		for i := range r.Columns {
			c := &r.Columns[i]
			if c.HasDefault && !c.DefaultConstant && (q.tree.Kind == parser.Merge || !given(q.tree, i, c.Name)) {
				why = "INSERT into reference table \"" + q.target.table.name + "\" whose column " + c.Name + " gets its default"
			}
		}
	})
	return why
}

// given says whether every row of an INSERT has a value of its own for a column, the i-th of the table.
func given(q *parser.Query, i int, name string) bool {
	at := i
	if q.Columns != nil {
		at = slices.Index(q.Columns, name)
	}
	if at < 0 || q.Rows == nil && q.Source == nil {
		return false
	}
	if q.Source != nil {
		return q.Columns != nil
	}
	return !slices.ContainsFunc(q.Rows, func(r *parser.Row) bool {
		return at >= len(r.Values) || r.Values[at].Kind == parser.ExprDefault
	})
}

// walk visits q and all queries inside it.
func (q *query) walk(visit func(*query)) {
	visit(q)
	for _, inner := range q.inner() {
		inner.walk(visit)
	}
}

// inner are the queries that stand directly in q.
func (q *query) inner() (list []*query) {
	list = append(list, q.with...)
	for _, side := range []*query{q.left, q.right, q.source} {
		if side != nil {
			list = append(list, side)
		}
	}
	var add func(n *node)
	add = func(n *node) {
		if n == nil {
			return
		}
		if n.inner != nil {
			list = append(list, n.inner)
		}
		add(n.left)
		add(n.right)
	}
	for _, n := range q.from {
		add(n)
	}
	for _, s := range q.subs {
		list = append(list, s.query)
	}
	return list
}
