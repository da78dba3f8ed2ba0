package parser

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"unicode/utf8"

	pg "github.com/pganalyze/pg_query_go/v5"
)

var (
	errSeveral         = errors.New("several statements in one text")
	errNoQuery         = errors.New("no query in the statement")
	errApart           = errors.New("two literals with a comment and a line break between them")
	errUnknownEncoding = errors.New("text with bytes that are no UTF-8")
)

// TreeOf parses sql, one statement, and returns its Tree. EXPLAIN, DECLARE, PREPARE and COPY (query) TO are looked through. An error says why
// there is none: the grammar rejects the text, it is several statements or none with a query, or too large. It may be called from several goroutines; it
// takes tens of microseconds, so that callers keep the Tree with the Statement. sql is not retained.
//
// The Tree reads the text as a session with standard_conforming_strings on does (Statement.Conforming tells when that matters).
func TreeOf(sql []byte) (*Tree, error) { return treeOf(sql, shortenAbove) }

// treeOf is TreeOf for a text whose rows are read from their tokens if it is longer than bulkAbove.
func treeOf(sql []byte, bulkAbove int) (*Tree, error) {
	text, err := readText(sql)
	if err != nil {
		return nil, err
	}
	tokens := newTokenText(text.src)
	var bulk bulkRows
	visible := text.src
	if len(sql) > bulkAbove {
		visible = bytes.Clone(text.src)
		bulk = findBulkRows(tokens, visible)
	}
	statement, err := parseOne(visible)
	if err != nil {
		return nil, err
	}
	node := queryOf(statement)
	if node == nil {
		return nil, errNoQuery
	}
	b := &treeBuilder{tree: &Tree{}, text: text}
	b.tree.Query = b.query(node)
	if !b.mergeRows(bulk, tokens) {
		return treeOf(sql, len(sql)) // rows of something else than the INSERT
	}
	for i, s := range b.tree.Sources {
		s.place = tokens.at(int(b.places[i])) + 1
	}
	if hasBad(text.src) {
		b.opaque("a literal that versions of PostgreSQL read differently")
	} else {
		b.findSpans(tokens, statement, node)
	}
	return b.tree, nil
}

// readText is a copy of sql without comments, with its literals.
func readText(sql []byte) (*wholeText, error) {
	if len(sql) > MaxText {
		return nil, errTextTooLarge
	}
	if !utf8.Valid(sql) || bytes.IndexByte(sql, 0) >= 0 {
		return nil, errUnknownEncoding
	}
	text := &wholeText{src: bytes.Clone(sql), taken: literalPlaces(sql)}
	blankComments(text.src)
	if !slices.Equal(Tokens(sql, nil), Tokens(text.src, nil)) {
		return nil, errApart
	}
	return text, nil
}

// parseOne parses a text of one statement.
func parseOne(src []byte) (*pg.Node, error) {
	result, err := parseGuarded(src)
	switch {
	case err != nil:
		return nil, fmt.Errorf("tree of statement: %w", err)
	case len(result.Stmts) == 0:
		return nil, errNoQuery
	case len(result.Stmts) > 1:
		return nil, errSeveral
	}
	return result.Stmts[0].Stmt, nil
}

// queryOf is the query that a statement is or holds, nil if there is none.
func queryOf(n *pg.Node) *pg.Node {
	switch s := n.GetNode().(type) {
	case *pg.Node_SelectStmt, *pg.Node_InsertStmt, *pg.Node_UpdateStmt, *pg.Node_DeleteStmt, *pg.Node_MergeStmt:
		return n
	case *pg.Node_ExplainStmt:
		return queryOf(s.ExplainStmt.Query)
	case *pg.Node_DeclareCursorStmt:
		return queryOf(s.DeclareCursorStmt.Query)
	case *pg.Node_PrepareStmt:
		return queryOf(s.PrepareStmt.Query)
	case *pg.Node_CopyStmt:
		return queryOf(s.CopyStmt.Query)
	}
	return nil
}

// hasBad says whether src has a token that PostgreSQL rejects, or that its versions read differently, such as 1_000.
func hasBad(src []byte) bool {
	l := lexer{src: src}
	for t := l.next(); t.kind != tokenEnd; t = l.next() {
		if t.kind == tokenBad {
			return true
		}
	}
	return false
}

// treeBuilder makes a Tree of PostgreSQL's parse tree.
type treeBuilder struct {
	tree *Tree
	text *wholeText
	// scope are the WITH queries in scope, the innermost last; building are those whose query is being read.
	scope    []scopedWith
	building []*With
	// named are the windows of the query being read that name another.
	named []*Window
	// calls are the nodes of Tree.Calls, row for row; places where the names of Tree.Sources begin, in bytes.
	calls  []*pg.FuncCall
	places []int32
	// refs are the ExprColumns, refPlaces where they begin.
	refs      []*Expr
	refPlaces []int32
}

// scopedWith is a WITH query in scope. A later one may be named in WITH RECURSIVE before it has been read.
type scopedWith struct {
	with *With
	read *bool
}

// opaque notes the first construct that the tree has no words for.
func (b *treeBuilder) opaque(construct string) {
	if b.tree.Opaque == "" {
		b.tree.Opaque = construct
	}
}

// query reads a statement that has tables of its own.
func (b *treeBuilder) query(n *pg.Node) *Query {
	mark, named := len(b.scope), b.named
	b.named = nil
	defer func() { b.scope, b.named = b.scope[:mark], named }()
	switch s := n.GetNode().(type) {
	case *pg.Node_SelectStmt:
		return b.selectStmt(s.SelectStmt)
	case *pg.Node_InsertStmt:
		return b.insert(s.InsertStmt)
	case *pg.Node_UpdateStmt:
		return b.update(s.UpdateStmt)
	case *pg.Node_DeleteStmt:
		return b.delete(s.DeleteStmt)
	case *pg.Node_MergeStmt:
		return b.merge(s.MergeStmt)
	}
	b.opaque(nodeName(n))
	b.inside(n.ProtoReflect())
	return &Query{Kind: Other}
}

// selectStmt reads a SELECT, VALUES or set operation.
func (b *treeBuilder) selectStmt(s *pg.SelectStmt) *Query {
	b.known(s)
	q := &Query{Kind: Select, With: b.with(s.WithClause), All: s.All, Set: setOps[s.Op]}
	if s.Larg != nil {
		q.Left, q.Right = b.side(s.Larg), b.side(s.Rarg)
		if q.Set == SetNone {
			b.opaque("set operation " + s.Op.String())
		}
	}
	q.From = b.from(s.FromClause)
	q.Where = b.expr(s.WhereClause)
	q.Outputs = b.outputs(s.TargetList)
	q.Distinct = len(s.DistinctClause) > 0
	q.DistinctOn = b.exprs(s.DistinctClause)
	q.Group = b.group(q, s.GroupClause)
	q.GroupDistinct = s.GroupDistinct
	q.Having = b.expr(s.HavingClause)
	q.Order = b.sorts(s.SortClause)
	b.limits(q, s)
	q.Locks = len(s.LockingClause) > 0
	q.Into = s.IntoClause != nil
	for _, n := range s.ValuesLists {
		q.Rows = append(q.Rows, b.row(n))
	}
	q.Windows = len(s.WindowClause) > 0
	for _, n := range s.WindowClause {
		q.WindowDefs = append(q.WindowDefs, b.window(n.GetWindowDef()))
	}
	b.nameWindows(q.WindowDefs)
	q.Aggregates = aggregates(q)
	return q
}

// side is one side of a set operation.
func (b *treeBuilder) side(s *pg.SelectStmt) *Query {
	return b.query(&pg.Node{Node: &pg.Node_SelectStmt{SelectStmt: s}})
}

var setOps = map[pg.SetOperation]SetOp{
	pg.SetOperation_SETOP_UNION:     SetUnion,
	pg.SetOperation_SETOP_INTERSECT: SetIntersect,
	pg.SetOperation_SETOP_EXCEPT:    SetExcept,
}

// limits reads LIMIT, FETCH and OFFSET. Those of NULL bound nothing.
func (b *treeBuilder) limits(q *Query, s *pg.SelectStmt) {
	if !s.LimitCount.GetAConst().GetIsnull() {
		q.Limit = b.expr(s.LimitCount)
	}
	if !s.LimitOffset.GetAConst().GetIsnull() {
		q.Offset = b.expr(s.LimitOffset)
	}
	q.WithTies = s.LimitOption == pg.LimitOption_LIMIT_OPTION_WITH_TIES
}

// outputs reads a select list or RETURNING.
func (b *treeBuilder) outputs(list []*pg.Node) (out []*Output) {
	for _, n := range list {
		t := n.GetResTarget()
		b.known(t)
		if len(t.GetIndirection()) > 0 {
			b.opaque("a part of an output")
			b.subscripts(t.Indirection)
		}
		if i := t.GetVal().GetAIndirection(); i != nil && i.Indirection[len(i.Indirection)-1].GetAStar() != nil {
			b.opaque("(row).*")
		}
		out = append(out, &Output{Name: t.GetName(), Expr: b.expr(t.GetVal())})
	}
	return out
}

// group reads GROUP BY. (a, b) without ROW is a list.
func (b *treeBuilder) group(q *Query, list []*pg.Node) (out []*Expr) {
	for _, n := range list {
		if row := n.GetRowExpr(); row != nil && row.RowFormat == pg.CoercionForm_COERCE_IMPLICIT_CAST {
			out = append(out, b.group(q, row.Args)...)
			continue
		}
		q.GroupingSets = q.GroupingSets || n.GetGroupingSet() != nil
		out = append(out, b.expr(n))
	}
	return out
}

// row reads one row of VALUES.
func (b *treeBuilder) row(n *pg.Node) *Row {
	return &Row{Values: b.exprs(n.GetList().GetItems())}
}

// sorts reads ORDER BY.
func (b *treeBuilder) sorts(list []*pg.Node) (out []*Sort) {
	for _, n := range list {
		s := n.GetSortBy()
		b.known(s)
		desc := s.GetSortbyDir() == pg.SortByDir_SORTBY_DESC
		first := s.GetSortbyNulls() == pg.SortByNulls_SORTBY_NULLS_FIRST
		if s.GetSortbyNulls() == pg.SortByNulls_SORTBY_NULLS_DEFAULT {
			first = desc
		}
		out = append(out, &Sort{
			Expr: b.expr(s.GetNode()), Desc: desc, NullsFirst: first,
			Using: s.GetSortbyDir() == pg.SortByDir_SORTBY_USING,
		})
	}
	return out
}
