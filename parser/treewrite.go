package parser

import pg "github.com/pganalyze/pg_query_go/v5"

// insert reads INSERT. Rows of plain VALUES are its own; any other query is its Source.
func (b *treeBuilder) insert(s *pg.InsertStmt) *Query {
	b.known(s)
	q := &Query{Kind: Insert, With: b.with(s.WithClause), Target: b.table(s.Relation), Columns: b.columns(s.Cols)}
	q.Overriding = overrides(s.Override)
	switch values := s.SelectStmt.GetSelectStmt(); {
	case s.SelectStmt == nil:
	case values != nil && isPlainValues(values):
		b.known(values)
		for _, n := range values.ValuesLists {
			q.Rows = append(q.Rows, b.row(n))
		}
	default:
		q.Source = b.query(s.SelectStmt)
	}
	q.Conflict = b.conflict(s.OnConflictClause)
	q.Outputs = b.outputs(s.ReturningList)
	return q
}

// isPlainValues says whether a query is VALUES and nothing else.
func isPlainValues(s *pg.SelectStmt) bool {
	return len(s.ValuesLists) > 0 && s.WithClause == nil && len(s.SortClause) == 0 && s.LimitCount == nil && s.LimitOffset == nil &&
		len(s.LockingClause) == 0
}

func overrides(kind pg.OverridingKind) bool {
	return kind == pg.OverridingKind_OVERRIDING_USER_VALUE || kind == pg.OverridingKind_OVERRIDING_SYSTEM_VALUE
}

// columns are the names of INSERT's columns, nil for none.
func (b *treeBuilder) columns(list []*pg.Node) (out []string) {
	for _, n := range list {
		t := n.GetResTarget()
		b.known(t)
		if len(t.GetIndirection()) > 0 {
			b.opaque("INSERT into a part of a column")
			b.subscripts(t.Indirection)
		}
		out = append(out, t.GetName())
	}
	return out
}

func (b *treeBuilder) update(s *pg.UpdateStmt) *Query {
	b.known(s)
	q := &Query{Kind: Update, With: b.with(s.WithClause), Target: b.table(s.Relation)}
	q.From = append([]*Source{q.Target}, b.from(s.FromClause)...)
	q.Assigns = b.assigns(s.TargetList)
	q.Where = b.expr(s.WhereClause)
	q.Outputs = b.outputs(s.ReturningList)
	return q
}

func (b *treeBuilder) delete(s *pg.DeleteStmt) *Query {
	b.known(s)
	q := &Query{Kind: Delete, With: b.with(s.WithClause), Target: b.table(s.Relation)}
	q.From = append([]*Source{q.Target}, b.from(s.UsingClause)...)
	q.Where = b.expr(s.WhereClause)
	q.Outputs = b.outputs(s.ReturningList)
	return q
}

func (b *treeBuilder) merge(s *pg.MergeStmt) *Query {
	b.known(s)
	q := &Query{Kind: Merge, With: b.with(s.WithClause), Target: b.table(s.Relation)}
	q.From = []*Source{q.Target, b.source(s.SourceRelation)}
	q.On = b.expr(s.JoinCondition)
	for _, n := range s.MergeWhenClauses {
		q.Actions = append(q.Actions, b.action(n.GetMergeWhenClause()))
	}
	return q
}

var actionKinds = map[pg.CmdType]Kind{
	pg.CmdType_CMD_UPDATE:  Update,
	pg.CmdType_CMD_INSERT:  Insert,
	pg.CmdType_CMD_DELETE:  Delete,
	pg.CmdType_CMD_NOTHING: Other,
}

func (b *treeBuilder) action(c *pg.MergeWhenClause) *Action {
	b.known(c)
	kind, known := actionKinds[c.GetCommandType()]
	if !known {
		b.opaque("MERGE with " + c.GetCommandType().String())
	}
	a := &Action{Matched: c.GetMatched(), Kind: kind, Condition: b.expr(c.GetCondition()), Overriding: overrides(c.GetOverride())}
	if kind == Insert {
		a.Columns, a.Values = b.columns(c.GetTargetList()), b.exprs(c.GetValues())
	} else {
		a.Assigns = b.assigns(c.GetTargetList())
	}
	return a
}

// assigns reads the list of SET.
func (b *treeBuilder) assigns(list []*pg.Node) (out []*Assign) {
	var multi *Expr // of (a, b) = …
	for _, n := range list {
		t := n.GetResTarget()
		b.known(t)
		a := &Assign{Column: t.GetName(), Path: len(t.GetIndirection()) > 0, Subscripts: b.subscripts(t.GetIndirection())}
		if ref := t.GetVal().GetMultiAssignRef(); ref != nil {
			b.known(ref)
			if ref.Colno == 1 {
				multi = b.expr(ref.Source)
			}
			a.Value = assigned(multi, ref)
		} else {
			a.Value = b.expr(t.GetVal())
		}
		out = append(out, a)
	}
	return out
}

// subscripts reads the expressions behind a column that part of it is assigned to; names of fields are none.
func (b *treeBuilder) subscripts(list []*pg.Node) (out []*Expr) {
	for _, n := range list {
		out = append(out, b.part(n.ProtoReflect())...)
	}
	return out
}

// assigned is what one column of (a, b) = source gets.
func assigned(source *Expr, ref *pg.MultiAssignRef) *Expr {
	if source != nil && source.Kind == ExprRow && len(source.Args) == int(ref.Ncolumns) && ref.Colno > 0 && ref.Colno <= ref.Ncolumns {
		return source.Args[ref.Colno-1]
	}
	return &Expr{Kind: ExprOther, Name: "(columns) = (…)", Args: []*Expr{source}}
}

func (b *treeBuilder) conflict(c *pg.OnConflictClause) *Conflict {
	if c == nil {
		return nil
	}
	b.known(c)
	out := &Conflict{Update: c.Action == pg.OnConflictAction_ONCONFLICT_UPDATE}
	if infer := c.Infer; infer != nil {
		b.known(infer)
		out.Constraint = infer.Conname
		for _, n := range infer.IndexElems {
			b.inferred(out, n.GetIndexElem())
		}
		if infer.WhereClause != nil {
			out.Other = true
			out.Args = append(out.Args, b.expr(infer.WhereClause))
		}
	}
	out.Assigns = b.assigns(c.TargetList)
	out.Where = b.expr(c.WhereClause)
	return out
}

// inferred reads one item of ON CONFLICT (…).
func (b *treeBuilder) inferred(c *Conflict, e *pg.IndexElem) {
	b.known(e)
	if e.GetExpr() != nil {
		c.Other = true
		c.Args = append(c.Args, b.expr(e.Expr))
		return
	}
	if len(e.GetCollation()) > 0 || len(e.GetOpclass()) > 0 || len(e.GetOpclassopts()) > 0 {
		c.Other = true
	}
	c.Columns = append(c.Columns, e.GetName())
}
