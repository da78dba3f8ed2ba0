package plan

import (
	"slices"

	"pgtier/parser"
)

// work is the planning of one statement.
type work struct {
	*Statement
	schema  *Schema
	st      *parser.Statement
	sql     []byte // of this statement alone
	command *parser.Command
	changed bool

	// functions are those behind the text that are not the server's own; homeBehind: something behind it touches tables of the home shard.
	functions  []string
	homeBehind bool

	tree *parser.Tree
	bind *binder
	root *query
}

// plan decides by the kind of statement.
func (w *work) plan() {
	c := w.command
	if c.Kind == parser.Explain {
		w.explain = true
		defer func() { w.write = w.write && c.Analyze }()
		if c.Explained == nil {
			w.refuse(refuse("EXPLAIN of a statement that is not known", hintPin))
			return
		}
		w.command = c.Explained
	}
	w.byKind(w.command)
	w.homely()
}

// byKind decides by the kind of statement.
func (w *work) byKind(c *parser.Command) {
	switch c.Kind {
	case parser.Select, parser.Insert, parser.Update, parser.Delete, parser.Merge, parser.Declare:
		w.query()
	case parser.Copy:
		w.copyPlan()
	case parser.Truncate, parser.Lock:
		w.wholeTables()
	case parser.Begin, parser.Commit, parser.Rollback, parser.Savepoint, parser.RollbackTo, parser.Release, parser.SetTransaction,
		parser.PrepareTransaction, parser.CommitPrepared, parser.RollbackPrepared, parser.SetConstraints:
		w.kind, w.reason = Session, "transaction control"
	case parser.Set, parser.Reset, parser.ResetAll, parser.Show, parser.DiscardAll, parser.DiscardPlans, parser.DiscardSequences, parser.DiscardTemp:
		w.kind, w.reason = Session, "settings of the session"
	case parser.Prepare, parser.Execute, parser.Deallocate, parser.DeallocateAll:
		w.kind, w.reason = Session, "prepared statements are planned when they are carried out"
	case parser.Fetch, parser.Close, parser.CloseAll:
		w.kind, w.reason = Session, "goes where its cursor is"
	case parser.Listen, parser.Unlisten, parser.UnlistenAll, parser.Load:
		w.kind, w.reason = Session, "state of the session"
	case parser.Notify:
		w.atHome("those who listen do so at the home shard")
	case parser.Vacuum, parser.Checkpoint, parser.Reindex:
		w.upkeep()
	case parser.SchemaChange:
		w.schemaChange()
	case parser.Refresh:
		w.refresh()
	case parser.Do, parser.Call:
		w.refuse(refuse(upper(c.Kind)+", whose code may touch any table", hintPin))
	default:
		w.refuse(refuse(upper(c.Kind)+" across shards", hintPin))
	}
}

// atHome makes the plan One at the home shard.
func (w *work) atHome(reason string) { w.kind, w.home, w.reason = One, true, reason }

// query plans what has a Tree.
func (w *work) query() {
	w.write = w.command.Effects&parser.Writes != 0 || w.command.Kind == parser.Insert || w.command.Kind == parser.Update ||
		w.command.Kind == parser.Delete || w.command.Kind == parser.Merge
	if !w.readTree() {
		return
	}
	if w.command.Effects&parser.DDL != 0 { // SELECT INTO
		w.selectInto()
		return
	}
	if w.hidden() {
		return
	}
	if !w.spread() {
		w.clean = true
		w.unsharded()
		return
	}
	w.sharded()
	w.restrict()
}

// readTree binds the statement's tree; false if it is refused.
func (w *work) readTree() bool {
	tree, err := parser.TreeOf(w.sql)
	if err != nil {
		w.refuse(refuse("statement that cannot be looked into: "+err.Error(), hintPin))
		return false
	}
	w.tree, w.params = tree, paramsIn(tree)
	w.bind = newBinder(w.schema, w.sql, w.changed)
	w.root = w.bind.query(tree.Query, nil)
	for e := range w.params {
		w.params[e] = w.bind.slotOf[e]
	}
	if w.bind.refusal != nil {
		w.refuse(w.bind.refusal)
		return false
	}
	w.root.flow(nil)
	for _, n := range w.bind.targets { // no hint narrows that, whatever else the statement may be refused for
		w.copies = w.copies || n.table.place == placeReference
	}
	for n := range w.bind.inserted {
		w.inserts = w.inserts || n.table.sharded()
	}
	w.root.walk(func(q *query) {
		w.inserts = w.inserts || q.tree.Kind == parser.Merge && q.target.table.sharded()
	})
	for _, t := range w.tables() {
		if t.why != nil {
			w.refuse(t.why)
			return false
		}
	}
	return true
}

// tables are all tables that the statement names, at any depth.
func (w *work) tables() (list []*table) {
	for _, s := range w.tree.Sources {
		list = append(list, w.schema.lookup(s.Schema, s.Name, w.changed))
	}
	return list
}

// has says whether a table of that place is named.
func (w *work) has(p place) bool {
	for _, t := range w.tables() {
		if t.place == p {
			return true
		}
	}
	return false
}

// spread says whether a sharded table is named, and notes it.
func (w *work) spread() bool {
	for _, t := range w.tables() {
		if t.sharded() {
			w.keyed = t
			return true
		}
	}
	return false
}

// unsharded plans what names no sharded table.
func (w *work) unsharded() {
	written := false
	for _, n := range w.bind.targets {
		written = written || n.table.place == placeReference
		if n.table.place == placeServer {
			w.forbid(refuse("write to the catalogs of the server", "Use the statements that are there for it."))
			return
		}
	}
	switch {
	case written:
		w.reference()
	case w.has(placeHome) || w.home:
		w.atHome("tables of the home shard")
	case w.has(placeServer):
		w.atHome("catalogs of the server")
	case w.command.Effects&(parser.LocksRows|parser.ReadsSequenceState|parser.AdvancesSequence) != 0:
		w.atHome("locks and sequences are at the home shard")
	case !w.proved(w.command):
		w.atHome("depends on its server")
	case len(w.tree.Sources) == 0:
		w.kind, w.reason = Any, "no tables"
	default:
		w.kind, w.reason = Any, "only reference tables"
	}
	w.sequences()
}

// sequences refuses what asks for or sets the state of a sequence: every shard has its own.
func (w *work) sequences() {
	for _, call := range w.tree.Calls {
		switch call.Name {
		case "currval", "lastval":
			w.refuse(refuse(call.Name+"(), which answers from one shard's connection", "Use INSERT … RETURNING."))
		case "setval":
			if r := w.sets(call); r != nil {
				w.forbid(r)
				return
			}
			w.refuse(refuse("setval() of a sequence that every shard has", "Send it to each shard with /* pgtier: shard=… */."))
		}
	}
}

// sharded plans what names a sharded table.
func (w *work) sharded() {
	if w.tree.Opaque != "" {
		w.refuse(refuse(w.tree.Opaque+" with sharded tables", hintPin))
		return
	}
	for _, t := range w.command.Tables {
		if t.Access&parser.Locks != 0 && w.schema.place(t, w.changed) == placeReference {
			w.refuse(refuse("FOR UPDATE of reference table \""+t.Name+"\" together with sharded tables", "Lock its rows by a statement of their own, or name the others with FOR UPDATE OF."))
			return
		}
	}
	for _, n := range w.bind.targets {
		if !w.writable(n) {
			return
		}
	}
	if !w.allFound() {
		return
	}
	w.kind = One
	w.home = w.home || w.has(placeHome)
	for _, n := range append(slices.Clone(w.bind.uses), w.updated()...) {
		w.pin(n)
	}
	w.reason = w.pinReason()
	if w.sequences(); w.refusal != nil {
		return
	}
	if w.command.Kind == parser.Insert {
		w.insertPlan()
		return
	}
	if w.nestedInserts() {
		return
	}
	w.widen()
}

// allFound refuses statements with a table in a place that nobody has looked into.
func (w *work) allFound() bool {
	found := map[*parser.Source]bool{}
	for _, n := range append(slices.Clone(w.bind.uses), w.bind.targets...) {
		found[n.source] = true
	}
	for _, s := range w.tree.Sources {
		if !found[s] {
			w.refuse(refuse("table \""+s.Name+"\" in a place that is not looked into", hintPin))
			return false
		}
	}
	return true
}

// updated are the targets whose rows must be found.
func (w *work) updated() (list []*node) {
	for _, n := range w.bind.targets {
		if !w.bind.inserted[n] {
			list = append(list, n)
		}
	}
	return list
}

// pin notes where the rows are that matter in one use of a table.
func (w *work) pin(n *node) {
	if n.table == nil || !n.table.sharded() {
		return
	}
	p, ok := pinOf(n)
	if !ok {
		w.loose = n.table.name
		return
	}
	w.pins = mergePins(w.pins, []pin{p})
}

// pinReason says by which keys the shard is found.
func (w *work) pinReason() string {
	if len(w.pins) == 0 {
		return ""
	}
	t := w.pins[0].table
	return "key " + t.relation.Name + "." + t.keyNames()
}
