package plan

import (
	"slices"
	"strings"

	"pgtier/parser"
)

// copyPlan plans COPY.
func (w *work) copyPlan() {
	c, ok := readCopy(w.sql)
	switch {
	case !ok && !w.touchesSpread():
		w.copyUnknown()
	case !ok:
		w.refuse(refuse("COPY with options that are not known", "Write COPY table (columns) FROM STDIN WITH (FORMAT …)."))
	case c.query:
		w.copyQuery(c)
	case c.from:
		w.copyFrom(c)
	default:
		w.copyTo(c)
	}
}

// touchesSpread says whether COPY names a table with rows on several shards.
func (w *work) touchesSpread() bool {
	return slices.ContainsFunc(w.command.Tables, func(t parser.Table) bool { return w.schema.place(t, w.changed) != placeHome })
}

// copyUnknown plans a COPY of tables of the home shard alone.
func (w *work) copyUnknown() {
	w.clean = true
	w.write = w.command.Effects&parser.Writes != 0
	w.atHome("tables of the home shard")
}

// copyQuery plans COPY (query) TO.
func (w *work) copyQuery(c *copyText) {
	switch {
	case !w.readTree():
		return
	case w.tree.Query.Kind != parser.Select:
		w.refuse(refuse("COPY of rows that a statement returns which writes", hintPin))
		return
	case w.hidden():
		return
	case !w.spread():
		w.clean = true
		w.unsharded()
		return
	}
	w.sharded()
	w.copy = &Copy{Format: c.format, query: w.tree.Query.Tokens}
	if w.restrict(); !c.stdio && w.own != nil {
		w.own, w.whole = nil, "COPY of rows of several buckets into a file"
	}
	if w.refusal != nil || w.narrow != nil {
		return
	}
	switch {
	case w.wide == nil:
		w.narrow = refuse("COPY of rows of several shards", hintKey)
	case !c.stdio:
		w.narrow = refuse("COPY of rows of several shards into a file", "Use STDOUT.")
	case w.wide.spec != nil || w.wide.limit != nil:
		w.narrow = refuse("COPY of rows of several shards that are sorted, limited or made of parts", "Leave ORDER BY, LIMIT, DISTINCT and aggregates out, or send the query by itself.")
	case c.format.Header:
		w.narrow = refuse("COPY of rows of several shards with a header", "Leave the header out.")
	default:
		w.wide.kind = CopyOut
	}
}

// copyTo plans COPY table TO.
func (w *work) copyTo(c *copyText) {
	t := w.copied(c)
	if t == nil {
		return
	}
	w.clean = !t.sharded()
	switch {
	case t.place == placeReference && !t.view:
		w.kind, w.reason = Any, "only reference tables"
		if !c.stdio {
			w.atHome("files are at the home shard")
		}
	case !t.sharded():
		w.atHome("tables of the home shard")
	case !c.stdio:
		w.refuse(refuse("COPY of sharded table \""+t.name+"\" into a file", "Use STDOUT."))
	case c.format.Header:
		w.refuse(refuse("COPY of sharded table \""+t.name+"\" with a header", "Leave the header out."))
	default:
		w.kind, w.reason, w.copy = CopyOut, "rows of all shards", &Copy{Format: c.format, rows: rowsOf(t, c.columns)}
		w.restrictCopy(c, t)
	}
}

// restrictCopy has COPY of a table become one of a query where buckets move. What it copies are the rows of the table itself, not those of its parts.
func (w *work) restrictCopy(c *copyText, t *table) {
	w.byItself, w.own = CopyOut, &own{schema: w.schema}
	if len(w.schema.moving) == 0 || t.relation.Kind == 'p' { // which the server does not copy
		return
	}
	var list, key []string
	for _, name := range c.columnsOf(t) {
		list = append(list, quoteName(name))
	}
	for i := range t.columns {
		key = append(key, t.keyColumn(i).Name)
	}
	words := []parser.Word{{Text: "(SELECT " + strings.Join(list, ", ") + " FROM ONLY " + quoteName(t.relation.Schema) + "." + quoteName(t.relation.Name) + " WHERE (", Site: -1},
		{Site: 0}, {Text: "))", Site: -1}}
	w.own = &own{schema: w.schema, edits: []ownEdit{{c.target, words}}, sites: []ownSite{t.site(key, "")}}
}

// copied is the table of a COPY; nil if the statement is refused.
func (w *work) copied(c *copyText) *table {
	t := w.schema.lookup(c.schema, c.table, w.changed)
	if t.why != nil {
		w.refuse(t.why)
		return nil
	}
	w.tree = &parser.Tree{}
	w.bind = newBinder(w.schema, w.sql, w.changed)
	if w.hiddenCopy(t) {
		return nil
	}
	if t.sharded() {
		w.keyed = t
	}
	return t
}

// hiddenCopy is hidden for a COPY of a table.
func (w *work) hiddenCopy(t *table) bool {
	w.tree.Sources = []*parser.Source{{Kind: parser.SourceTable, Name: t.name}}
	if t.relation != nil {
		w.tree.Sources[0].Schema, w.tree.Sources[0].Name = t.relation.Schema, t.relation.Name
	}
	return w.hidden()
}

// copyFrom plans COPY table FROM.
func (w *work) copyFrom(c *copyText) {
	t := w.copied(c)
	if t == nil {
		return
	}
	w.write = true
	w.copies = t.place == placeReference
	if !t.sharded() && t.place != placeReference {
		w.atHome("tables of the home shard")
		return
	}
	switch {
	case t.view:
		w.refuse(refuse("COPY into view \""+t.name+"\"", "Copy into its table."))
	case t.unwritable != nil:
		w.refuse(t.unwritable)
	case w.homeBehind:
		w.refuse(refuse("COPY into table \""+t.name+"\" whose triggers touch tables of the home shard", hintPin))
	case !c.stdio:
		w.refuse(refuse("COPY from a file into table \""+t.name+"\" with rows on several shards", "Use STDIN."))
	case c.where && len(w.command.Calls) > 0:
		w.refuse(refuse("COPY … WHERE with functions, into table \""+t.name+"\" with rows on several shards", "Leave WHERE out."))
	case t.sharded():
		w.copySharded(c, t)
	default:
		w.copyReference(c, t)
	}
}

// copySharded sends each row to the shard of its key.
func (w *work) copySharded(c *copyText, t *table) {
	columns := c.columnsOf(t)
	out := &Copy{Columns: len(columns), Format: c.format, table: t, schema: w.schema, rows: rowsOf(t, c.columns)}
	for i := range t.columns {
		name := t.keyColumn(i).Name
		at := slices.Index(columns, name)
		if at < 0 {
			w.refuse(refuse("COPY into sharded table \""+t.name+"\" without its key column "+name, "Copy the sharding key too."))
			return
		}
		out.Key = append(out.Key, at)
	}
	if r := out.stamp(c); r != nil {
		w.refuse(r)
		return
	}
	if why := w.triggersTellTime(); why != "" {
		w.refuse(refuse("COPY into sharded table \""+t.name+"\" with "+why, "Drop the trigger meanwhile, or insert the rows of one shard at a time."))
		return
	}
	if c.format.Name != "binary" {
		out.Clocks = clocksOf(t, columns, out.Key)
	}
	out.Format.ForceNull = marks(columns, c.forceNull)
	out.Format.ForceNotNull = marks(columns, c.forceNotNull)
	w.kind, w.copy, w.reason = CopyIn, out, "each row to the shard of its key "+t.relation.Name+"."+t.keyNames()
}

// copyReference sends all rows to all shards.
func (w *work) copyReference(c *copyText, t *table) {
	columns := c.columnsOf(t)
	for i := range t.relation.Columns {
		column := &t.relation.Columns[i]
		if column.HasDefault && !column.DefaultConstant && !slices.Contains(columns, column.Name) {
			w.forbid(refuse("COPY into reference table \""+t.name+"\" whose column "+column.Name+" gets its default", "Its copies might differ. Copy the column too."))
			return
		}
	}
	if len(w.functions) > 0 {
		w.forbid(refuse("COPY into reference table \""+t.name+"\" whose triggers call functions", "Its copies might differ."))
		return
	}
	w.kind, w.copies, w.reason = CopyIn, true, "every row to every copy of a reference table"
	w.copy = &Copy{Columns: len(columns), Format: c.format, table: t, schema: w.schema, rows: rowsOf(t, c.columns)}
	if c.format.Name != "binary" {
		w.copy.Clocks = clocksOf(t, columns, nil)
	}
	w.lockCopies()
}

// columnsOf are the columns that a row has, by name.
func (c *copyText) columnsOf(t *table) []string {
	if c.columns != nil {
		return c.columns
	}
	var names []string
	for i := range t.relation.Columns {
		if !t.relation.Columns[i].Generated {
			names = append(names, t.relation.Columns[i].Name)
		}
	}
	return names
}

// marks tells of each column whether it is in a list; nil if none is.
func marks(columns, list []string) (out []bool) {
	if len(list) == 0 {
		return nil
	}
	for _, name := range columns {
		out = append(out, slices.Contains(list, name) || slices.Contains(list, "*"))
	}
	return out
}
