package parser

import pg "github.com/pganalyze/pg_query_go/v5"

// with reads the queries of WITH. A name is in scope for the queries behind it, with RECURSIVE for all.
func (b *treeBuilder) with(clause *pg.WithClause) (out []*With) {
	if clause == nil {
		return nil
	}
	b.known(clause)
	var scoped []scopedWith
	for _, n := range clause.Ctes {
		c := n.GetCommonTableExpr()
		w := &With{
			Name: c.GetCtename(), Columns: names(c.GetAliascolnames()),
			Materialized: c.GetCtematerialized() == pg.CTEMaterialize_CTEMaterializeAlways,
			Inlined:      c.GetCtematerialized() == pg.CTEMaterialize_CTEMaterializeNever,
		}
		out = append(out, w)
		scoped = append(scoped, scopedWith{with: w, read: new(bool)})
	}
	if clause.Recursive {
		b.scope = append(b.scope, scoped...)
	}
	for i, n := range clause.Ctes {
		b.withQuery(out[i], n.GetCommonTableExpr(), scoped[i].read)
		if !clause.Recursive {
			b.scope = append(b.scope, scoped[i])
		}
	}
	return out
}

func (b *treeBuilder) withQuery(w *With, c *pg.CommonTableExpr, read *bool) {
	b.known(c)
	switch {
	case c.GetSearchClause() != nil:
		b.opaque("SEARCH")
	case c.GetCycleClause() != nil:
		b.opaque("CYCLE")
	}
	b.building = append(b.building, w)
	*read = true
	w.Query = b.query(c.GetCtequery())
	b.building = b.building[:len(b.building)-1]
}

// from reads a FROM list.
func (b *treeBuilder) from(list []*pg.Node) (out []*Source) {
	for _, n := range list {
		out = append(out, b.source(n))
	}
	return out
}

// source reads one item of FROM.
func (b *treeBuilder) source(n *pg.Node) *Source {
	switch v := n.GetNode().(type) {
	case *pg.Node_RangeVar:
		return b.rangeVar(v.RangeVar)
	case *pg.Node_JoinExpr:
		return b.join(v.JoinExpr)
	case *pg.Node_RangeSubselect:
		b.known(v.RangeSubselect)
		s := &Source{Kind: SourceQuery, Lateral: v.RangeSubselect.Lateral, Query: b.query(v.RangeSubselect.Subquery)}
		return s.aliased(v.RangeSubselect.Alias)
	case *pg.Node_RangeFunction:
		return b.rangeFunction(v.RangeFunction)
	case *pg.Node_RangeTableSample:
		return b.sample(v.RangeTableSample)
	case *pg.Node_RangeTableFunc:
		b.opaque("XMLTABLE")
		s := &Source{Lateral: v.RangeTableFunc.Lateral, Args: b.inside(v.RangeTableFunc.ProtoReflect())}
		return s.aliased(v.RangeTableFunc.Alias)
	}
	b.opaque(nodeName(n))
	return &Source{Args: b.inside(n.ProtoReflect())}
}

// rangeVar reads a name in FROM: a WITH query's where one is in scope, else a table's.
func (b *treeBuilder) rangeVar(r *pg.RangeVar) *Source {
	for i := len(b.scope) - 1; i >= 0 && r.Schemaname == "" && r.Catalogname == ""; i-- {
		if s := b.scope[i]; s.with.Name == r.Relname {
			return b.withName(r, s)
		}
	}
	return b.table(r)
}

// withName is a WITH query by its name. It marks those that name themselves.
func (b *treeBuilder) withName(r *pg.RangeVar, s scopedWith) *Source {
	b.known(r)
	if !*s.read {
		b.opaque("WITH RECURSIVE that names a later query")
	}
	for _, w := range b.building {
		w.Recursive = w.Recursive || w == s.with
	}
	out := &Source{Kind: SourceWith, Name: r.Relname, Alias: r.Relname, With: s.with, Only: !r.Inh}
	return out.aliased(r.Alias)
}

// table is a table by its name.
func (b *treeBuilder) table(r *pg.RangeVar) *Source {
	b.known(r)
	s := &Source{Kind: SourceTable, Schema: r.GetSchemaname(), Name: r.GetRelname(), Alias: r.GetRelname(), Only: !r.GetInh()}
	s.aliased(r.GetAlias())
	b.tree.Sources = append(b.tree.Sources, s)
	b.places = append(b.places, r.GetLocation())
	return s
}

// aliased gives the source its alias, if it has one.
func (s *Source) aliased(a *pg.Alias) *Source {
	if a == nil {
		return s
	}
	s.Alias, s.Aliased = a.Aliasname, true
	if len(a.Colnames) > 0 {
		s.Columns = names(a.Colnames)
	}
	return s
}

var joinKinds = map[pg.JoinType]JoinKind{
	pg.JoinType_JOIN_INNER: JoinInner,
	pg.JoinType_JOIN_LEFT:  JoinLeft,
	pg.JoinType_JOIN_RIGHT: JoinRight,
	pg.JoinType_JOIN_FULL:  JoinFull,
}

func (b *treeBuilder) join(j *pg.JoinExpr) *Source {
	b.known(j)
	kind, known := joinKinds[j.Jointype]
	if !known {
		b.opaque(j.Jointype.String())
	}
	if j.JoinUsingAlias != nil {
		b.opaque("an alias of USING")
	}
	s := &Source{Kind: SourceJoin, Join: kind, Natural: j.IsNatural, Using: names(j.UsingClause)}
	s.Left, s.Right = b.source(j.Larg), b.source(j.Rarg)
	s.On = b.expr(j.Quals)
	return s.aliased(j.Alias)
}

// rangeFunction reads a function in FROM, or ROWS FROM several. Without an alias the first function's name is one.
func (b *treeBuilder) rangeFunction(f *pg.RangeFunction) *Source {
	b.known(f)
	s := &Source{Kind: SourceFunction, Lateral: f.Lateral, Ordinality: f.Ordinality}
	for _, n := range f.Functions {
		items := n.GetList().GetItems()
		if len(items) == 0 {
			b.opaque("a function in FROM")
			continue
		}
		s.Calls = append(s.Calls, b.expr(items[0]))
		for _, rest := range items[1:] { // column definitions of one function of ROWS FROM
			if len(rest.GetList().GetItems()) > 0 {
				b.opaque("column definitions in ROWS FROM")
			}
		}
	}
	if len(s.Calls) > 0 && s.Calls[0].Kind == ExprCall {
		s.Alias = s.Calls[0].Name
	}
	for _, n := range f.Coldeflist {
		s.Columns = append(s.Columns, n.GetColumnDef().GetColname())
	}
	return s.aliased(f.Alias)
}

func (b *treeBuilder) sample(t *pg.RangeTableSample) *Source {
	b.known(t)
	s := b.source(t.Relation)
	s.Sampled = true
	s.Args = append(b.exprs(t.Args), b.exprs([]*pg.Node{t.Repeatable})...)
	return s
}

// names are the strings of a list, nil for none.
func names(list []*pg.Node) (out []string) {
	for _, n := range list {
		out = append(out, n.GetString_().GetSval())
	}
	return out
}
