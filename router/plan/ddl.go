package plan

import (
	"slices"
	"strings"

	"pgtier/parser"
)

// everywhere makes the plan the same on all shards.
func (w *work) everywhere(reason string) { w.kind, w.write, w.reason = Everywhere, true, reason }

// schemaChange plans DDL: all shards have the same tables, be there rows in them or not.
func (w *work) schemaChange() {
	text := wordsOf(w.sql)
	if w.command.Pin != "" || w.command.Effects&parser.TempOnCommitDrop != 0 {
		w.temporary(&text)
		return
	}
	if w.clean = true; w.schema.frozen {
		w.forbid(refuseFrozen("change of the schema"))
		return
	}
	if r := w.renumbers(&text); r != nil {
		w.forbid(r)
		return
	}
	if w.makesSpread(&text) {
		return
	}
	if r := w.forbiddenDDL(&text); r != nil {
		w.refuse(r)
		return
	}
	if r := w.uniqueOutside(&text); r != nil {
		w.forbid(r)
		return
	}
	w.outside = text.has("concurrently") || text.begins("create", "database") || text.begins("drop", "database") || text.begins("create", "tablespace") ||
		text.begins("drop", "tablespace") || text.begins("alter", "system")
	w.everywhere("all shards have the same schema")
	if w.empties {
		w.reason = "all shards have the same schema, and the home shard the rows"
	}
	w.lockNamed()
}

// makesSpread refuses DDL that makes a table which the configuration spreads together with its rows, all of them on every shard. Of other tables it notes that
// the home shard has the rows.
func (w *work) makesSpread(text *words) bool {
	if !text.makesRows() {
		return false
	}
	w.empties = true
	for _, t := range w.command.Tables {
		known := w.schema.lookup(t.Schema, t.Name, w.changed)
		if t.Access&parser.Alters != 0 && (known.sharded() || known.place == placeReference || known.why != nil || w.schema.declares(t.Schema, t.Name)) {
			w.forbid(refuse("table \""+known.name+"\" made with rows, which the configuration spreads over shards", "CREATE TABLE with its columns first, then insert the rows."))
			return true
		}
	}
	return false
}

// makesRows says whether DDL makes a table or a materialized view with the rows of a query.
func (w *words) makesRows() bool {
	return w.has("into") && w.is(0, "select", "with", "values", "(") ||
		w.is(0, "create") && (w.has("materialized") || w.has("table") && w.has("as") && w.has("select", "values", "with", "table", "execute"))
}

// rowsBehind refuses functions that see other rows on each shard, in DDL that makes rows.
func (w *work) rowsBehind() *Refusal {
	behind := w.schema.catalog.Behind(w.command)
	for _, name := range slices.Concat(behind.Reads, behind.Writes, behind.Related) {
		if t := w.schema.byName(name); t != nil && (t.sharded() || t.place == placeUnsure) {
			return refuse("table or materialized view made of rows of table \""+t.name+"\" of several shards", "Make the table first, and fill it shard by shard.")
		}
	}
	if behind.All {
		return refuse("table or materialized view made by functions whose tables cannot be seen: "+strings.Join(behind.Functions, ", "), "Make the table first, and insert the rows.")
	}
	return nil
}

// temporary plans what makes temporary tables: they are at the home shard.
func (w *work) temporary(text *words) {
	if !text.has("temp", "temporary") {
		w.refuse(refuse("DDL whose session state belongs to one shard: "+w.command.Pin, hintPin))
		return
	}
	for _, t := range w.command.Tables {
		known := w.schema.lookup(t.Schema, t.Name, w.changed)
		switch {
		case t.Access&parser.Alters != 0 && known.relation != nil:
			w.refuse(refuse("temporary table that hides table \""+known.name+"\"", "Choose another name."))
			return
		case t.Access&parser.Alters == 0 && (known.sharded() || known.place == placeUnsure):
			w.refuse(refuse("temporary table made of rows of table \""+known.name+"\" of several shards", hintPin))
			return
		}
	}
	w.write = true
	w.atHome("temporary tables are at the home shard")
}

// forbiddenDDL refuses changes of the schema after which rows would be where nobody looks for them.
func (w *work) forbiddenDDL(text *words) *Refusal {
	if text.is(0, "create", "alter") && clockValue(&Values{SQL: w.sql}) {
		return refuseClock()
	}
	if text.has("subscription") && text.is(1, "subscription") {
		return refuse("SUBSCRIPTION, of which every shard would have one", hintPin)
	}
	makes := text.makesRows()
	if makes {
		if r := w.rowsBehind(); r != nil {
			return r
		}
	}
	for _, t := range w.command.Tables {
		known := w.schema.lookup(t.Schema, t.Name, w.changed)
		spread := known.sharded() || known.place == placeReference
		switch {
		case makes && t.Access&parser.Alters != 0 && text.is(0, "select", "with", "values", "("):
			return refuse("SELECT INTO, which would leave rows on every shard", "Use CREATE TABLE … AS SELECT ….")
		case makes && t.Access&parser.Reads != 0 && (known.sharded() || known.place == placeUnsure):
			return refuse("table or materialized view made of rows of table \""+known.name+"\" of several shards", "Make the table first, and fill it shard by shard.")
		case !spread || t.Access&parser.Alters == 0:
		case text.is(0, "alter"):
			if r := w.alterTable(text, known); r != nil {
				return r
			}
		}
	}
	return nil
}

// alterTable refuses changes of a table with rows on several shards that need more than each shard has.
func (w *work) alterTable(text *words, t *table) *Refusal {
	inexact := func(call parser.Called) bool {
		f, known := w.schema.catalog.Function(call.Schema, call.Name, call.Args)
		return !known || f.Volatility != 'i'
	}
	switch {
	case text.is(1, "table", "foreign") && (text.has("attach", "detach", "inherit")):
		return refuse("ATTACH, DETACH or INHERIT of table \""+t.name+"\" with rows on several shards", "Use CREATE TABLE … PARTITION OF.")
	case text.has("rename") && text.has("to") && !text.has("column", "constraint") && renamesTable(text), text.has("schema") && text.has("set"):
		return refuse("new name or schema of table \""+t.name+"\", by which the configuration knows it", "Change the configuration while the table is empty.")
	case t.sharded() && text.has("rename", "drop", "type") && namesKey(text, t):
		return refuse("change of a key column of table \""+t.name+"\"", "Make a new table and copy the rows.")
	case (slices.ContainsFunc(w.command.Calls, inexact) || text.has(clocks...) || text.has(whoami...)) && text.has("add", "type"):
		return refuse("ALTER TABLE of \""+t.name+"\" with a function that gives other values on each shard", "Add the column without a default, set the default, and fill the rows by UPDATE.")
	case t.place == placeReference && text.has("serial", "bigserial", "smallserial", "identity", "serial4", "serial8", "serial2"):
		return refuse("numbers for the rows of reference table \""+t.name+"\", whose order is another on each shard", "Add the column without numbers, and fill it by UPDATE.")
	}
	return nil
}

// renamesTable says whether ALTER TABLE … RENAME TO may be meant, which names no column: the word behind RENAME is TO.
func renamesTable(text *words) bool {
	for i := range text.text {
		if text.is(i, "rename") && text.is(i+1, "to") {
			return true
		}
	}
	return false
}

// namesKey says whether a column of the key is named.
func namesKey(text *words, t *table) bool {
	for i := range t.columns {
		if text.names(t.keyColumn(i).Name) {
			return true
		}
	}
	return false
}

// wholeTables plans TRUNCATE and LOCK.
func (w *work) wholeTables() {
	w.write = w.command.Kind == parser.Truncate
	home := true
	for _, t := range w.command.Tables {
		known := w.schema.lookup(t.Schema, t.Name, w.changed)
		if known.why != nil {
			w.refuse(known.why)
			return
		}
		if known.place == placeServer {
			w.forbid(refuse(upper(w.command.Kind)+" of the server's catalogs", hintPin))
			return
		}
		home = home && known.place == placeHome
	}
	if w.clean = true; w.schema.frozen && w.write && !home {
		w.forbid(refuseFrozen("TRUNCATE"))
		return
	}
	if r := w.restarts(); r != nil && w.write {
		w.forbid(r)
		return
	}
	if home && w.command.Kind == parser.Lock {
		w.atHome("tables of the home shard")
		return
	}
	w.kind, w.reason = Everywhere, "whole tables"
	w.copies = slices.ContainsFunc(w.command.Tables, func(t parser.Table) bool { return w.schema.place(t, w.changed) == placeReference }) && w.write
	w.lockNamed()
}

// upkeep plans VACUUM, ANALYZE, CLUSTER, REINDEX and CHECKPOINT.
func (w *work) upkeep() {
	text := wordsOf(w.sql)
	w.clean = true
	w.outside = text.is(0, "vacuum", "checkpoint") || text.has("concurrently", "database", "system") || text.is(0, "cluster", "reindex") && len(w.command.Tables) == 0
	w.apart = text.is(0, "analyze", "analyse") // what it locks of the catalogs that all databases of a server share, it would keep
	w.everywhere("upkeep of every shard")
	w.write = !text.is(0, "checkpoint")
}

// refresh plans REFRESH MATERIALIZED VIEW.
func (w *work) refresh() {
	for _, t := range w.command.Tables {
		if known := w.schema.lookup(t.Schema, t.Name, w.changed); known.why != nil {
			w.refuse(known.why)
			return
		}
	}
	if r := w.rowsBehind(); r != nil {
		w.refuse(r)
		return
	}
	w.write = true
	w.atHome("materialized views are at the home shard")
}

// selectInto plans SELECT … INTO.
func (w *work) selectInto() {
	if w.spread() {
		w.refuse(refuse("SELECT INTO from sharded tables", "Make the table first, and fill it by INSERT … SELECT."))
		return
	}
	text := wordsOf(w.sql)
	if w.command.Pin != "" || w.command.Effects&parser.TempOnCommitDrop != 0 {
		w.temporary(&text)
		return
	}
	if w.clean = true; w.schema.frozen {
		w.forbid(refuseFrozen("SELECT INTO"))
		return
	}
	if w.makesSpread(&text) {
		return
	}
	if r := w.forbiddenDDL(&text); r != nil {
		w.refuse(r)
		return
	}
	w.everywhere("all shards have the same schema")
}
