package plan

import (
	"cmp"
	"slices"

	"pgtier/parser"
	"pgtier/router/catalog"
)

// checked is a row that is written to a sharded table with values of its own: none of the key may be NULL.
type checked struct {
	table *table
	row   []*value
}

// insertSelect plans INSERT … SELECT into a sharded table.
func (w *work) insertSelect() {
	q := w.root
	t := q.target.table
	source := q.source
	if source.open {
		w.forbid(refuse("INSERT … SELECT of columns that are not known", "Name the columns."))
		return
	}
	w.reason = "key " + t.relation.Name + "." + t.keyNames() + " of the rows selected"
	p := pin{table: t, columns: make([][]*values, len(t.columns))}
	at := make([]int, len(t.columns))
	pinned := true
	for i := range t.columns {
		c := t.keyColumn(i)
		at[i] = t.columns[i]
		if q.tree.Columns != nil {
			at[i] = slices.Index(q.tree.Columns, c.Name)
		}
		if at[i] < 0 || at[i] >= len(source.outputs) || q.tree.Overriding && c.Identity != 0 {
			w.forbid(refuse("INSERT … SELECT whose key "+t.relation.Name+"."+c.Name+" gets its default", "Select a value for the sharding key."))
			return
		}
		p.columns[i] = w.selected(source, at[i], c)
		pinned = pinned && len(p.columns[i]) > 0
	}
	w.narrow = refuse("INSERT … SELECT whose rows may belong to several shards", "Select the sharding key of the table that is read as that of the new rows, or insert the rows by their values.")
	if pinned {
		w.pins = mergePins(w.pins, []pin{p})
	} else {
		w.loose = t.name
	}
	w.spreadInsert(at)
}

// selected are the lists of values that the i-th output of a query must be in, for a column of the key.
func (w *work) selected(source *query, i int, c *catalog.Column) []*values {
	var k value
	constant := false
	if source.left == nil && len(source.tree.Outputs) == len(source.outputs) {
		k, constant = constantOf(source.tree.Outputs[i].Expr)
	}
	out := source.outputs[i].variable
	switch {
	case constant:
	case out == nil || !keeps(out, c):
		return nil
	default:
		return compared(source.facts.pinned(out))
	}
	k.inferred = c.Type
	w.checks = append(w.checks, checked{w.root.target.table, []*value{&k}})
	return []*values{{list: []value{k}}}
}

// compared are the lists that a variable is compared with, so that it is not NULL.
func compared(lists []*values) []*values {
	return slices.DeleteFunc(lists, func(l *values) bool { return l.given })
}

// spreadInsert has each shard insert what it selects, where the rows' key is that of the rows that they are made of.
func (w *work) spreadInsert(at []int) {
	l := layer{w}
	q, source := w.root, w.root.source
	if why := w.differs(false); why != "" {
		w.narrow = refuse(why+", in INSERT … SELECT over rows of several shards", "Send its value as a parameter.")
		return
	}
	for i := range q.target.table.relation.Columns {
		if c := &q.target.table.relation.Columns[i]; c.DefaultShared && !given(q.tree, i, c.Name) {
			w.narrow = refuse("INSERT … SELECT over rows of several shards whose column "+c.Name+" gets a default that is one value for all of them", "Select a value for it too, a parameter for example.")
			return
		}
	}
	if why := cmp.Or(w.defaulted(false), w.triggersTellTime()); why != "" {
		w.narrow = refuse("INSERT … SELECT over rows of several shards with "+why, hintKey)
		return
	}
	if w.has(placeHome) || w.homeBehind || len(q.with) > 0 {
		w.narrow = refuse("tables of the home shard, or WITH queries that write, in INSERT … SELECT over rows of several shards", hintKey)
		return
	}
	out, r := l.query(source)
	if r == nil {
		r = l.subs(q, layout{constant: true})
	}
	if r == nil && len(q.tree.Outputs) > 0 && source.comesSorted() {
		r = refuse("INSERT … SELECT … ORDER BY … RETURNING over rows of several shards", "Leave ORDER BY or RETURNING out.")
	}
	if r != nil {
		w.narrow = r
		return
	}
	t := q.target.table
	for _, key := range out.keys {
		fits := len(key) == len(at)
		for i := range at {
			v := source.outputs[at[i]].variable
			fits = fits && v != nil && keeps(v, t.keyColumn(i)) && source.facts.equates(v, key[i])
		}
		if fits {
			w.wide, w.narrow = &wide{kind: Spread, reason: "each shard its own rows", target: out.target, roots: out.roots}, nil
			return
		}
	}
}

// keeps says whether a column stores every value of v as it is, or takes none: a numeric or a time of fewer digits rounds, and a shorter varchar cuts.
func keeps(v *variable, c *catalog.Column) bool {
	f := columnFamily(c)
	switch {
	case f == familyNone || v.family != f || v.column == nil:
		return false
	case c.Typmod == noTypmod || f == familyInteger || f == familyBPChar: // too large a number and too long a char are errors
		return true
	}
	if v.column.Type == c.Type && v.column.Typmod != noTypmod && f != familyNumeric {
		return v.column.Typmod <= c.Typmod
	}
	return v.column.Type == c.Type && v.column.Typmod == c.Typmod
}

// noTypmod is the modifier of a column without a length or precision (pg_attribute.atttypmod).
const noTypmod = -1

// widenInsert plans an INSERT into a table of the home shard that reads sharded tables.
func (w *work) widenInsert() {
	w.narrow = refuse("INSERT into table \""+w.root.target.table.name+"\" of the home shard from rows of several shards", "Read the rows first, and insert them by their values.")
}

// nestedInserts pins the rows that WITH queries and MERGE insert; it says whether the statement is refused.
func (w *work) nestedInserts() bool {
	refused := false
	w.root.walk(func(q *query) {
		if q == w.root && q.tree.Kind == parser.Insert || q.target == nil || !q.target.table.sharded() || refused {
			return
		}
		switch q.tree.Kind {
		case parser.Insert:
			refused = !w.nestedRows(q)
		case parser.Merge:
			refused = !w.mergeRows(q)
		}
	})
	return refused
}

// nestedRows pins the rows of an INSERT in WITH.
func (w *work) nestedRows(q *query) bool {
	t := q.target.table
	if q.tree.Rows == nil {
		w.forbid(refuse("INSERT … SELECT into sharded table \""+t.name+"\" in WITH", "Send it as a statement of its own."))
		return false
	}
	for _, r := range q.tree.Rows {
		if !w.pinRow(q, t, q.tree.Columns, r.Values, q.tree.Overriding) {
			return false
		}
	}
	return true
}

// mergeRows pins the rows that MERGE inserts.
func (w *work) mergeRows(q *query) bool {
	for _, a := range q.tree.Actions {
		if a.Kind == parser.Insert && !w.pinRow(q, q.target.table, a.Columns, a.Values, a.Overriding) {
			return false
		}
	}
	return true
}

// pinRow pins a row by its values: constants, or columns that are known to be some.
func (w *work) pinRow(q *query, t *table, columns []string, list []*parser.Expr, overriding bool) bool {
	p := pin{table: t, columns: make([][]*values, len(t.columns))}
	row := make([]*value, 0, len(t.columns))
	for i := range t.columns {
		c := t.keyColumn(i)
		at := t.columns[i]
		if columns != nil {
			at = slices.Index(columns, c.Name)
		}
		if at < 0 || at >= len(list) || overriding && c.Identity != 0 {
			w.forbid(nullKey(t, c.Name))
			return false
		}
		if k, ok := constantOf(list[at]); ok {
			k.inferred = c.Type
			row = append(row, &k)
			p.columns[i] = []*values{{list: []value{k}}}
			continue
		}
		v := q.scope.resolve(list[at])
		if v != nil && keeps(v, c) && len(q.from) == 2 {
			p.columns[i] = compared(q.from[1].facts.pinned(v))
		}
		if len(p.columns[i]) == 0 {
			w.forbid(refuse("INSERT whose key "+t.relation.Name+"."+c.Name+" is computed", "Send the key as a parameter or a constant."))
			return false
		}
	}
	w.pins = mergePins(w.pins, []pin{p})
	w.checks = append(w.checks, checked{t, row})
	return true
}
