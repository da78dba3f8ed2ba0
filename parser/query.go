package parser

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// fromItem is one item of a FROM: what its columns may be called by, and the tables behind it.
type fromItem struct {
	schema string // of a table without an alias
	name   string // alias, or name of the table; "" if nothing can be called by it
	table  int    // index into Command.Tables, -1 for what is no table
	// renamed: the alias has column names of its own.
	renamed bool
	// locked are the tables that FOR UPDATE of this item locks, those inside a sub-select included.
	locked []int
}

// selectStmt reads a SELECT or VALUES and returns the tables that a locking clause around it reaches.
func (w *walker) selectStmt(s *pg.SelectStmt) (locked []int) {
	defer w.scope()()
	w.with(s.WithClause)
	if s.Larg != nil {
		locked = slices.Concat(w.selectStmt(s.Larg), w.selectStmt(s.Rarg))
	}
	from := w.from(s.FromClause)
	w.compare(from, s.WhereClause)
	for _, n := range s.LockingClause {
		w.lock(from, n.GetLockingClause())
	}
	for _, item := range from {
		locked = append(locked, item.locked...)
	}
	w.derived(s)
	w.fields(s.ProtoReflect(), "with_clause", "larg", "rarg", "from_clause", "locking_clause")
	if w.depth == 1 && len(s.FromClause) == 1 && s.FromClause[0].GetRangeVar() != nil && len(s.GroupClause) == 0 && s.HavingClause == nil {
		w.c.Single = w.c.Kind == Select && w.queries == 1
	}
	return locked
}

// insert reads INSERT. ON CONFLICT looks at the rows that are there.
func (w *walker) insert(s *pg.InsertStmt) {
	defer w.scope()()
	w.with(s.WithClause)
	access := Alters
	if s.OnConflictClause != nil {
		access |= Reads
	}
	if w.depth == 1 && w.c.Kind == Insert {
		w.c.Inserted = w.insertion(s)
		w.c.Conflicts = s.OnConflictClause.GetAction() == pg.OnConflictAction_ONCONFLICT_UPDATE
		w.sets(s.OnConflictClause.GetTargetList())
	}
	w.relation(s.Relation, access)
	w.fields(s.ProtoReflect(), "with_clause", "relation")
}

// update reads UPDATE. A column that it sets is compared with nothing: the rows it leaves behind have another value there.
func (w *walker) update(s *pg.UpdateStmt) {
	defer w.scope()()
	w.with(s.WithClause)
	target := w.target(s.Relation)
	from := append([]fromItem{target}, w.from(s.FromClause)...)
	first := len(w.c.Compared)
	w.compare(from, s.WhereClause)
	for _, n := range s.TargetList {
		column := n.GetResTarget().GetName()
		kept := slices.DeleteFunc(w.c.Compared[first:], func(c Comparison) bool {
			return c.Column == column && (c.Table == target.table || c.Table < 0)
		})
		w.c.Compared = w.c.Compared[:first+len(kept)]
	}
	if w.depth == 1 && w.c.Kind == Update {
		w.sets(s.TargetList)
	}
	w.fields(s.ProtoReflect(), "with_clause", "relation", "from_clause")
}

// sets notes the columns of a SET.
func (w *walker) sets(list []*pg.Node) {
	for _, n := range list {
		w.c.Sets = appendNew(w.c.Sets, n.GetResTarget().GetName())
	}
}

func (w *walker) delete(s *pg.DeleteStmt) {
	defer w.scope()()
	w.with(s.WithClause)
	from := append([]fromItem{w.target(s.Relation)}, w.from(s.UsingClause)...)
	w.compare(from, s.WhereClause)
	w.fields(s.ProtoReflect(), "with_clause", "relation", "using_clause")
}

// merge reads MERGE. Its condition is an outer join's, which holds for no row by itself.
func (w *walker) merge(s *pg.MergeStmt) {
	defer w.scope()()
	w.with(s.WithClause)
	w.target(s.Relation)
	w.item(s.SourceRelation)
	w.fields(s.ProtoReflect(), "with_clause", "relation", "source_relation")
}

// target is the table that UPDATE, DELETE or MERGE changes: never a name of WITH.
func (w *walker) target(r *pg.RangeVar) fromItem {
	return tableItem(r, w.relation(r, Reads|Alters))
}

func tableItem(r *pg.RangeVar, table int) fromItem {
	item := fromItem{schema: r.GetSchemaname(), name: r.GetRelname(), table: table}
	if table >= 0 {
		item.locked = []int{table}
	}
	return item.aliased(r.GetAlias())
}

// aliased is the item under its alias, if it has one.
func (i fromItem) aliased(a *pg.Alias) fromItem {
	if a == nil {
		return i
	}
	i.schema, i.name, i.renamed = "", a.Aliasname, len(a.Colnames) > 0
	return i
}

// scope begins a query, and returns what ends it: the names of its WITH go out of scope.
func (w *walker) scope() (end func()) {
	mark, access := len(w.inScope), w.access
	w.depth++
	w.queries++
	w.access = Reads
	return func() {
		w.inScope, w.access = w.inScope[:mark], access
		w.depth--
	}
}

// with reads the queries of WITH. A name is in scope for the queries behind it, with RECURSIVE for all.
func (w *walker) with(clause *pg.WithClause) {
	if clause.GetRecursive() {
		for _, n := range clause.Ctes {
			w.inScope = append(w.inScope, n.GetCommonTableExpr().GetCtename())
		}
	}
	for _, n := range clause.GetCtes() {
		w.node(n)
		if !clause.Recursive {
			w.inScope = append(w.inScope, n.GetCommonTableExpr().GetCtename())
		}
	}
}

// from reads a FROM list.
func (w *walker) from(list []*pg.Node) (items []fromItem) {
	for _, n := range list {
		items = append(items, w.item(n)...)
	}
	return items
}

// item reads one item of FROM. A kind that is not known is walked, and stands for something that is no table.
func (w *walker) item(n *pg.Node) []fromItem {
	switch v := n.GetNode().(type) {
	case *pg.Node_RangeVar:
		return []fromItem{w.rangeVar(v.RangeVar)}
	case *pg.Node_JoinExpr:
		return w.join(v.JoinExpr)
	case *pg.Node_RangeSubselect:
		item := fromItem{table: -1}
		if s := v.RangeSubselect.Subquery.GetSelectStmt(); s != nil {
			item.locked = w.selectStmt(s)
		} else {
			w.node(v.RangeSubselect.Subquery)
		}
		w.deriveAlias(v.RangeSubselect.Alias)
		w.fields(v.RangeSubselect.ProtoReflect(), "subquery")
		return []fromItem{item.aliased(v.RangeSubselect.Alias)}
	case *pg.Node_RangeTableSample:
		w.c.Samples = true
		items := w.item(v.RangeTableSample.Relation)
		w.sample(v.RangeTableSample)
		w.fields(v.RangeTableSample.ProtoReflect(), "relation")
		return items
	case *pg.Node_RangeFunction:
		w.deriveName(anyColumn)
		w.node(n)
		return []fromItem{fromItem{table: -1}.aliased(v.RangeFunction.Alias)}
	case *pg.Node_RangeTableFunc:
		w.deriveName(anyColumn)
		w.c.Extracts = true
		w.node(n)
		return []fromItem{fromItem{table: -1}.aliased(v.RangeTableFunc.Alias)}
	}
	w.deriveName(anyColumn)
	w.node(n)
	return []fromItem{{table: -1}}
}

// rangeVar reads a name in FROM: a WITH query's where one is in scope, else a table's.
func (w *walker) rangeVar(r *pg.RangeVar) fromItem {
	access := Reads
	w.deriveAlias(r.Alias)
	if r.Schemaname == "" && slices.Contains(w.inScope, r.Relname) {
		access = 0
	}
	return tableItem(r, w.relation(r, access))
}

// join reads a JOIN. Its alias hides the names inside.
func (w *walker) join(j *pg.JoinExpr) []fromItem {
	items := slices.Concat(w.item(j.Larg), w.item(j.Rarg))
	if j.Jointype == pg.JoinType_JOIN_INNER {
		w.compare(items, j.Quals)
	}
	if j.IsNatural || len(j.UsingClause) > 0 {
		w.operator("", "=")
	}
	w.fields(j.ProtoReflect(), "larg", "rarg")
	if j.Alias == nil {
		return items
	}
	w.deriveAlias(j.Alias)
	joined := fromItem{table: -1}.aliased(j.Alias)
	for _, item := range items {
		joined.locked = append(joined.locked, item.locked...)
	}
	return []fromItem{joined}
}

// lock notes the tables that FOR UPDATE and its kind lock: those of the names given, or all. A name that fits nothing may be any.
func (w *walker) lock(from []fromItem, clause *pg.LockingClause) {
	w.c.Effects |= LocksRows
	var names []string
	for _, n := range clause.GetLockedRels() {
		names = append(names, n.GetRangeVar().GetRelname())
	}
	for _, name := range names {
		if !slices.ContainsFunc(from, func(i fromItem) bool { return i.name == name }) {
			names = nil
			break
		}
	}
	for _, item := range from {
		if len(names) > 0 && !slices.Contains(names, item.name) {
			continue
		}
		for _, table := range item.locked {
			w.c.Tables[table].Access |= Locks
		}
	}
}

// sample notes the function behind a method of TABLESAMPLE.
func (w *walker) sample(s *pg.RangeTableSample) {
	schema, name := qualified(s.Method)
	w.calls(Called{Schema: schema, Name: name, Args: 1})
}
