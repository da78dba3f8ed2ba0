package plan

import (
	"cmp"
	"slices"

	"pgtier/parser"
	"pgtier/router/catalog"
)

// insert is an INSERT of rows into a sharded table.
type insert struct {
	table *table
	// rows are the values of each row's key, nil where the sequence gives it.
	rows [][]*value
	// tokens are those of the rows, with their parentheses.
	tokens []parser.Span
	// numbered: the one column of the key is taken from sequence where a row has no value for it.
	sequence string
	// stamps are columns that get one value for all rows.
	stamps stamps
	// fill says how the numbers come into the text.
	fill fill
	// whole: there is one row, and all else is pinned or of reference tables, so that the pins say it all.
	whole bool
}

// nullKey is why a row without a key is refused: as a server says it (ExecConstraints in src/backend/executor/execMain.c) where it would. A partition
// would give its own name.
func nullKey(t *table, column string) *Refusal {
	if c := t.relation.Column(column); c != nil && c.NotNull && !c.Domain && t.relation.Kind != 'p' {
		return &Refusal{Code: "23502", Message: "null value in column \"" + column + "\" of relation \"" + t.relation.Name + "\" violates not-null constraint",
			Hint: "Give every row a value for the sharding key."}
	}
	return &Refusal{Code: "23502", Message: "null value in key column \"" + column + "\" of sharded table \"" + t.name + "\"",
		Hint: "Give every row a value for the sharding key."}
}

// insertPlan plans an INSERT into a sharded table.
func (w *work) insertPlan() {
	q := w.root
	t := q.target.table
	if !t.sharded() { // it reads sharded tables
		w.widenInsert()
		return
	}
	if q.source != nil {
		w.insertSelect()
		return
	}
	if q.tree.Rows == nil {
		w.forbid(refuse("INSERT … DEFAULT VALUES into sharded table \""+t.name+"\"", "Name the key's columns and give them values."))
		return
	}
	in := &insert{table: t}
	for _, r := range q.tree.Rows {
		row, ok := w.keyOf(in, r)
		if !ok {
			return
		}
		in.rows = append(in.rows, row)
		in.tokens = append(in.tokens, r.Tokens)
	}
	w.insert = in
	w.reason = "key " + t.relation.Name + "." + t.keyNames() + " of the rows"
	if len(in.rows) == 1 && in.sequence == "" {
		p := pin{table: t}
		for _, v := range in.rows[0] {
			p.columns = append(p.columns, []*values{{list: []value{*v}}})
		}
		w.pins = append(w.pins, p)
		w.checks = append(w.checks, checked{t, in.rows[0]})
		in.whole = true
		w.narrow = refuse("INSERT whose key cannot be read for certain", "Send the key as a parameter or a constant of the column's type.")
		return
	}
	w.splitInsert(in)
}

// keyOf reads the key of one row; false if the statement is refused.
func (w *work) keyOf(in *insert, r *parser.Row) ([]*value, bool) {
	t, tree := in.table, w.root.tree
	var row []*value
	for i := range t.columns {
		c := t.keyColumn(i)
		at := t.columns[i]
		if tree.Columns != nil {
			at = slices.Index(tree.Columns, c.Name)
		}
		if at < 0 || at >= len(r.Values) || r.Values[at].Kind == parser.ExprDefault || tree.Overriding && c.Identity != 0 {
			if !w.numbered(in, c, at, r) {
				return nil, false
			}
			row = append(row, nil)
			continue
		}
		k, ok := constantOf(r.Values[at])
		if !ok {
			w.forbid(refuse("INSERT whose key "+t.relation.Name+"."+c.Name+" is computed", "Send the key as a parameter or a constant."))
			return nil, false
		}
		k.inferred = c.Type
		row = append(row, &k)
	}
	return row, true
}

// numbered notes that a row's key comes from a sequence.
func (w *work) numbered(in *insert, c *catalog.Column, at int, r *parser.Row) bool {
	t, tree := in.table, w.root.tree
	hint := "Give every row a value for the sharding key."
	if at >= len(r.Values) {
		at = len(r.Values)
	}
	switch {
	case c.Sequence == "" && !c.HasDefault:
		w.forbid(nullKey(t, c.Name))
		return false
	case c.Sequence == "" || len(t.columns) > 1 || tree.Overriding || at == len(r.Values) || len(w.bind.uses) > 0:
		w.forbid(refuse("INSERT whose key "+t.relation.Name+"."+c.Name+" gets its default", hint))
		return false
	case in.sequence == "" && !in.fill.prepare(w.sql, c, at, tree.Rows), r.Tokens == parser.Span{}:
		w.forbid(refuse("INSERT whose key "+t.relation.Name+"."+c.Name+" gets its default in a text that cannot be changed", hint))
		return false
	}
	in.sequence = sequenceName(c.Sequence)
	return true
}

// sequenceName is the name of a sequence, a catalog.QualifiedName, as nextval takes it.
func sequenceName(name string) string {
	schema, last := catalog.SplitName(name)
	return quoteName(schema) + "." + quoteName(last)
}

// splitInsert plans an INSERT whose rows may go to several shards, each with those of its own.
func (w *work) splitInsert(in *insert) {
	q := w.root
	always := in.fill.overriding && slices.ContainsFunc(in.rows, func(row []*value) bool { return row[0] != nil })
	switch {
	case always:
		w.narrow = refuse("INSERT of rows with and without a number of an identity column", "Send them in two statements.")
	case len(w.bind.uses) > 0 || len(q.with) > 0:
		w.narrow = refuse("INSERT of rows of several shards together with queries", "Read the rows first, or insert those of one shard at a time.")
	case slices.ContainsFunc(in.tokens, func(s parser.Span) bool { return s == parser.Span{} }):
		w.narrow = refuse("INSERT of rows of several shards whose text cannot be cut", "Insert the rows of one shard at a time.")
	case w.explain:
		w.narrow = refuse("EXPLAIN of an INSERT of rows of several shards", "Explain the rows of one shard at a time.")
	default:
		w.narrow = nil
		if why := cmp.Or(w.differsInsert(), w.defaulted(false), w.triggersTellTime()); why != "" {
			w.narrow = refuse("INSERT of rows of several shards with "+why, "Compute the values first, or insert the rows of one shard at a time.")
		} else {
			w.narrow = w.stamp(in)
		}
	}
	if w.narrow != nil && in.sequence != "" {
		w.forbid(w.narrow)
	}
}

// differsInsert says what in an INSERT should be one value for all rows and would be another on each shard.
func (w *work) differsInsert() string {
	for _, call := range w.tree.Calls {
		if slices.Contains(clocks, call.Name) && call.Name != "clock_timestamp" && call.Name != "timeofday" {
			return "function " + call.Name + "(), which each shard answers by its own clock"
		}
	}
	why := ""
	w.root.tree.Exprs(func(e *parser.Expr) {
		if e.Kind == parser.ExprNow {
			why = e.Name + ", of which each shard has its own"
		}
	})
	return why
}
