package parser

import (
	"slices"
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// exprs reads a list of expressions; places that hold none are left out.
func (b *treeBuilder) exprs(list []*pg.Node) (out []*Expr) {
	for _, n := range list {
		if e := b.expr(n); e != nil {
			out = append(out, e)
		}
	}
	return out
}

// expr reads an expression, nil for none. A node without a case keeps what is inside, found by reflection.
func (b *treeBuilder) expr(n *pg.Node) *Expr {
	if n.GetNode() == nil {
		return nil
	}
	switch v := n.Node.(type) {
	case *pg.Node_ColumnRef:
		return b.column(v.ColumnRef)
	case *pg.Node_AConst:
		return b.constant(v.AConst)
	case *pg.Node_ParamRef:
		return b.param(v.ParamRef)
	case *pg.Node_SetToDefault:
		b.known(v.SetToDefault)
		return &Expr{Kind: ExprDefault}
	case *pg.Node_FuncCall:
		return b.call(v.FuncCall)
	case *pg.Node_AExpr:
		return b.operation(v.AExpr)
	case *pg.Node_BoolExpr:
		return b.boolean(v.BoolExpr)
	case *pg.Node_NullTest:
		b.known(v.NullTest)
		not := v.NullTest.Nulltesttype == pg.NullTestType_IS_NOT_NULL
		return &Expr{Kind: ExprNull, Not: not, Args: b.exprs([]*pg.Node{v.NullTest.Arg})}
	case *pg.Node_RowExpr:
		b.known(v.RowExpr)
		return &Expr{Kind: ExprRow, Args: b.exprs(v.RowExpr.Args)}
	case *pg.Node_AArrayExpr:
		b.known(v.AArrayExpr)
		return &Expr{Kind: ExprArray, Args: b.exprs(v.AArrayExpr.Elements)}
	case *pg.Node_TypeCast:
		return b.cast(v.TypeCast)
	case *pg.Node_CaseExpr:
		return b.cases(v.CaseExpr)
	case *pg.Node_CoalesceExpr:
		b.known(v.CoalesceExpr)
		return &Expr{Kind: ExprCoalesce, Args: b.exprs(v.CoalesceExpr.Args)}
	case *pg.Node_CollateClause:
		b.known(v.CollateClause)
		e := &Expr{Kind: ExprCollate, Args: b.exprs([]*pg.Node{v.CollateClause.Arg})}
		e.Schema, e.Name = qualified(v.CollateClause.Collname)
		return e
	case *pg.Node_SubLink:
		return b.subLink(v.SubLink)
	case *pg.Node_SqlvalueFunction:
		return b.now(v.SqlvalueFunction)
	}
	return b.other(n)
}

// other is an expression that the tree has no words for, with what is inside.
func (b *treeBuilder) other(n *pg.Node) *Expr {
	e := &Expr{Kind: ExprOther, Name: constructs[nodeName(n)]}
	if e.Name == "" {
		e.Name = nodeName(n)
	}
	switch n.Node.(type) {
	case *pg.Node_CurrentOfExpr:
		b.opaque(e.Name)
	case *pg.Node_JsonObjectAgg, *pg.Node_JsonArrayAgg:
		b.opaque(e.Name) // an aggregate without a name
	case *pg.Node_RangeVar, *pg.Node_RangeSubselect, *pg.Node_RangeFunction, *pg.Node_JoinExpr, *pg.Node_RangeTableSample,
		*pg.Node_RangeTableFunc:
		b.opaque(e.Name + " among expressions")
	}
	e.Args = b.inside(n.ProtoReflect())
	return e
}

// constructs are what users call the nodes that become ExprOther.
var constructs = map[string]string{
	"A_Indirection":             "a field or element of an expression",
	"A_Indices":                 "a subscript",
	"BooleanTest":               "IS TRUE",
	"CurrentOfExpr":             "WHERE CURRENT OF",
	"GroupingFunc":              "GROUPING",
	"GroupingSet":               "GROUPING SETS",
	"JsonArrayAgg":              "JSON_ARRAYAGG",
	"JsonArrayConstructor":      "JSON_ARRAY",
	"JsonArrayQueryConstructor": "JSON_ARRAY",
	"JsonIsPredicate":           "IS JSON",
	"JsonObjectAgg":             "JSON_OBJECTAGG",
	"JsonObjectConstructor":     "JSON_OBJECT",
	"MinMaxExpr":                "GREATEST or LEAST",
	"NamedArgExpr":              "a named argument",
	"XmlExpr":                   "an XML expression",
	"XmlSerialize":              "XMLSERIALIZE",
}

// nodeName is what PostgreSQL calls the kind of a node.
func nodeName(n *pg.Node) string {
	m := n.ProtoReflect()
	f := m.WhichOneof(m.Descriptor().Oneofs().ByName("node"))
	if f == nil {
		return "nothing"
	}
	return string(f.Message().Name())
}

// inside reads the expressions in all fields of m.
func (b *treeBuilder) inside(m protoreflect.Message) (out []*Expr) {
	for _, f := range messageFields(m) {
		v := m.Get(f)
		if !f.IsList() {
			out = append(out, b.part(v.Message())...)
			continue
		}
		for i := range v.List().Len() {
			out = append(out, b.part(v.List().Get(i).Message())...)
		}
	}
	return out
}

// part reads the expressions in a field of a node that the tree has no words for.
func (b *treeBuilder) part(m protoreflect.Message) []*Expr {
	switch v := m.Interface().(type) {
	case *pg.Node:
		switch n := v.Node.(type) {
		case nil, *pg.Node_String_, *pg.Node_Integer, *pg.Node_Float, *pg.Node_Boolean, *pg.Node_BitString, *pg.Node_AStar:
			return nil
		case *pg.Node_List:
			return b.inside(n.List.ProtoReflect())
		case *pg.Node_TypeName:
			b.typmods(n.TypeName)
			return nil
		case *pg.Node_SelectStmt, *pg.Node_InsertStmt, *pg.Node_UpdateStmt, *pg.Node_DeleteStmt, *pg.Node_MergeStmt:
			return []*Expr{{Kind: ExprSubquery, Sub: SubOther, Query: b.query(v)}}
		}
		if e := b.expr(v); e.Kind != ExprOther || len(e.Args) > 0 {
			return []*Expr{e}
		}
		return nil
	case *pg.TypeName:
		b.typmods(v)
		return nil
	case *pg.SelectStmt:
		return []*Expr{{Kind: ExprSubquery, Sub: SubOther, Query: b.side(v)}}
	case *pg.RangeVar:
		b.opaque("a table among expressions")
		b.table(v)
		return nil
	case *pg.FuncCall:
		return []*Expr{b.call(v)}
	}
	return b.inside(m)
}

func (b *treeBuilder) column(c *pg.ColumnRef) *Expr {
	b.known(c)
	e := &Expr{Kind: ExprColumn}
	for i, f := range c.Fields {
		name := f.GetString_().GetSval()
		switch {
		case i < len(c.Fields)-1:
			e.Qualifier = append(e.Qualifier, name)
		case f.GetAStar() != nil:
			e.Kind = ExprStar
		default:
			e.Name = name
		}
	}
	if e.Kind == ExprColumn {
		b.refs, b.refPlaces = append(b.refs, e), append(b.refPlaces, c.Location)
	}
	return e
}

func (b *treeBuilder) param(p *pg.ParamRef) *Expr {
	b.known(p)
	if p.Number <= 0 {
		b.opaque("a parameter without a number")
	}
	return &Expr{Kind: ExprParam, Value: Value{Kind: ValueParam, Param: int(p.Number), Literal: -1}}
}

// constant reads a constant. One whose place among the literals is not known is not said to be one.
func (b *treeBuilder) constant(k *pg.A_Const) *Expr {
	b.known(k)
	v := Value{Kind: ValueConstant, Literal: -1}
	v.Text, v.Null = constantText(k)
	if _, keyword := k.Val.(*pg.A_Const_Boolval); keyword || v.Null || k.Location < 0 { // FETCH FIRST ROW has a constant that is not in the text
		return &Expr{Kind: ExprConstant, Value: v}
	}
	if !b.place(&v, k.Location) {
		return &Expr{Kind: ExprOther, Name: "a constant"}
	}
	return &Expr{Kind: ExprConstant, Value: v}
}

// place finds which literal of the text v is, that begins at an offset. A constant may be a word too, as in EXTRACT(year FROM …). ok is false if
// what stands there says something else.
func (b *treeBuilder) place(v *Value, offset int32) (ok bool) {
	if len(b.text.taken) == 0 {
		return true
	}
	t, negative := b.text.constant(offset)
	text := b.text.src[t.start:t.end]
	if t.kind == tokenIdent {
		return strings.EqualFold(string(text), v.Text)
	}
	if markOf(t.kind, text) == "" {
		return false
	}
	if index, found := slices.BinarySearch(b.text.taken, t.start); found { // else the template keeps it
		v.Literal, v.Negative = index, negative
	}
	return literalOf(b.text.src, t).text(negative) == v.Text
}

func (b *treeBuilder) call(f *pg.FuncCall) *Expr {
	b.known(f)
	e := &Expr{Kind: ExprCall, Star: f.AggStar, Distinct: f.AggDistinct, Variadic: f.FuncVariadic}
	e.Schema, e.Name = qualified(f.Funcname)
	e.Args = b.exprs(f.Args)
	e.Ordered = len(f.AggOrder) > 0 || f.AggWithinGroup
	e.Order = b.sorts(f.AggOrder)
	e.Filter = b.expr(f.AggFilter)
	if f.Over != nil {
		e.Over = b.over(f.Over)
	}
	b.tree.Calls = append(b.tree.Calls, e)
	b.calls = append(b.calls, f)
	return e
}

// operationNames are those of expressions that are kept as ExprOther.
var operationNames = map[pg.A_Expr_Kind]string{
	pg.A_Expr_Kind_AEXPR_OP_ALL:          "ALL (array)",
	pg.A_Expr_Kind_AEXPR_DISTINCT:        "IS DISTINCT FROM",
	pg.A_Expr_Kind_AEXPR_NOT_DISTINCT:    "IS NOT DISTINCT FROM",
	pg.A_Expr_Kind_AEXPR_NULLIF:          "NULLIF",
	pg.A_Expr_Kind_AEXPR_LIKE:            "LIKE",
	pg.A_Expr_Kind_AEXPR_ILIKE:           "ILIKE",
	pg.A_Expr_Kind_AEXPR_SIMILAR:         "SIMILAR TO",
	pg.A_Expr_Kind_AEXPR_BETWEEN:         "BETWEEN",
	pg.A_Expr_Kind_AEXPR_NOT_BETWEEN:     "NOT BETWEEN",
	pg.A_Expr_Kind_AEXPR_BETWEEN_SYM:     "BETWEEN SYMMETRIC",
	pg.A_Expr_Kind_AEXPR_NOT_BETWEEN_SYM: "NOT BETWEEN SYMMETRIC",
}

func (b *treeBuilder) operation(x *pg.A_Expr) *Expr {
	b.known(x)
	e := &Expr{Kind: ExprOther}
	e.Schema, e.Name = qualified(x.Name)
	switch x.Kind {
	case pg.A_Expr_Kind_AEXPR_OP:
		e.Kind = ExprOperator
	case pg.A_Expr_Kind_AEXPR_OP_ANY:
		e.Kind = ExprAny
	case pg.A_Expr_Kind_AEXPR_IN:
		e.Kind, e.Not = ExprIn, e.Name != "="
	default:
		e.Schema, e.Name = "", operationNames[x.Kind]
	}
	e.Args = b.exprs(append([]*pg.Node{x.Lexpr}, listed(x.Rexpr)...))
	return e
}

// listed are the items of a list, or the one node that is none.
func listed(n *pg.Node) []*pg.Node {
	if l := n.GetList(); l != nil {
		return l.Items
	}
	return []*pg.Node{n}
}

func (b *treeBuilder) boolean(x *pg.BoolExpr) *Expr {
	b.known(x)
	e := &Expr{Args: b.exprs(x.Args)}
	switch x.Boolop {
	case pg.BoolExprType_AND_EXPR:
		e.Kind = ExprAnd
	case pg.BoolExprType_OR_EXPR:
		e.Kind = ExprOr
	case pg.BoolExprType_NOT_EXPR:
		e.Kind = ExprNot
	default:
		e.Name = x.Boolop.String()
	}
	return e
}

func (b *treeBuilder) cast(c *pg.TypeCast) *Expr {
	b.known(c)
	t := c.TypeName
	e := &Expr{Kind: ExprCast, Args: b.exprs([]*pg.Node{c.Arg}), Array: len(t.GetArrayBounds()) > 0, Typmod: len(t.GetTypmods()) > 0}
	e.Schema, e.Name = qualified(t.GetNames())
	b.typmods(t)
	if t.GetSetof() || t.GetPctType() {
		e.Kind, e.Name = ExprOther, "a cast to the type of a column"
	}
	return e
}

// typmods looks at the modifiers of a type: constants and names, not expressions.
func (b *treeBuilder) typmods(t *pg.TypeName) {
	b.known(t)
	for _, n := range t.GetTypmods() {
		if n.GetAConst() == nil && n.GetColumnRef() == nil {
			b.opaque("a computed modifier of a type")
			b.expr(n)
		}
	}
}

// cases reads CASE: its operand, then each condition and result, then ELSE.
func (b *treeBuilder) cases(c *pg.CaseExpr) *Expr {
	b.known(c)
	e := &Expr{Kind: ExprCase, Args: b.exprs([]*pg.Node{c.Arg}), Operand: c.Arg != nil}
	for _, n := range c.Args {
		when := n.GetCaseWhen()
		b.known(when)
		e.Args = append(e.Args, b.exprs([]*pg.Node{when.GetExpr(), when.GetResult()})...)
	}
	e.Args = append(e.Args, b.exprs([]*pg.Node{c.Defresult})...)
	return e
}

var subKinds = map[pg.SubLinkType]SubKind{
	pg.SubLinkType_EXPR_SUBLINK:   SubScalar,
	pg.SubLinkType_EXISTS_SUBLINK: SubExists,
	pg.SubLinkType_ANY_SUBLINK:    SubAny,
	pg.SubLinkType_ALL_SUBLINK:    SubAll,
	pg.SubLinkType_ARRAY_SUBLINK:  SubArray,
}

func (b *treeBuilder) subLink(s *pg.SubLink) *Expr {
	b.known(s)
	kind, known := subKinds[s.SubLinkType]
	if !known {
		kind = SubOther
	}
	e := &Expr{Kind: ExprSubquery, Sub: kind, Args: b.exprs([]*pg.Node{s.Testexpr})}
	e.Schema, e.Name = qualified(s.OperName)
	if e.Name == "" && kind == SubAny {
		e.Name = "="
	}
	e.Query = b.query(s.Subselect)
	return e
}

// now reads CURRENT_TIMESTAMP, CURRENT_USER and their kind.
func (b *treeBuilder) now(f *pg.SQLValueFunction) *Expr {
	b.known(f)
	name, precise := strings.CutSuffix(strings.ToLower(strings.TrimPrefix(f.Op.String(), "SVFOP_")), "_n")
	return &Expr{Kind: ExprNow, Name: name, Typmod: precise}
}

// frameNonDefault is FRAMEOPTION_NONDEFAULT of PostgreSQL's src/include/nodes/parsenodes.h: the text has a frame clause.
const frameNonDefault = 0x1

// window reads OVER or an item of WINDOW.
func (b *treeBuilder) window(d *pg.WindowDef) *Window {
	b.known(d)
	w := &Window{
		Name: d.GetName(), Named: d.GetRefname(),
		Partition: b.exprs(d.GetPartitionClause()), Order: b.sorts(d.GetOrderClause()),
		Framed: d.GetFrameOptions()&frameNonDefault != 0, Args: b.exprs([]*pg.Node{d.GetStartOffset(), d.GetEndOffset()}),
	}
	if w.Named != "" {
		b.named = append(b.named, w)
	}
	return w
}

// over is the window of a call: a name alone is that of a window to use, not its own.
func (b *treeBuilder) over(d *pg.WindowDef) *Window {
	w := b.window(d)
	if w.Name != "" {
		w.Name, w.Named = "", w.Name
		b.named = append(b.named, w)
	}
	return w
}

// nameWindows completes the windows of a query that begin with one of its WINDOW clause. There a window names only those before it.
func (b *treeBuilder) nameWindows(defs []*Window) {
	ready := make(map[string]*Window, len(defs))
	for _, w := range defs {
		w.begin(ready[w.Named])
		ready[w.Name] = w
	}
	for _, w := range b.named {
		if w.Name == "" {
			w.begin(ready[w.Named])
		}
	}
}

// begin completes w with the window that it begins with, nil for none.
func (w *Window) begin(with *Window) {
	if with == nil {
		return
	}
	w.Partition = append(slices.Clip(with.Partition), w.Partition...)
	w.Order = append(slices.Clip(with.Order), w.Order...)
	w.Framed = w.Framed || with.Framed
	w.Args = append(slices.Clip(with.Args), w.Args...)
}
