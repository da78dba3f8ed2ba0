package parser

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// anyColumn stands in Command.Derived for names that the text does not show.
const anyColumn = "*"

// cast notes a conversion to a type, unless it is one of a constant or a parameter.
func (w *walker) cast(to Named, value *pg.Node) {
	c := Cast{Type: to}
	if !c.of(value) {
		return
	}
	same := func(o Cast) bool {
		return o.Type == c.Type && o.Opaque == c.Opaque && slices.Equal(o.Columns, c.Columns) && slices.Equal(o.Calls, c.Calls) && slices.Equal(o.Operators, c.Operators)
	}
	if !slices.ContainsFunc(w.c.Casts, same) {
		w.c.Casts = append(w.c.Casts, c)
	}
}

// castCall notes a call such as date(x), which the server takes for a conversion.
func (w *walker) castCall(schema, name string, args []*pg.Node) {
	if len(args) != 1 {
		return
	}
	switch name {
	case "date", "time", "timestamp", "timestamptz":
		w.cast(Named{schema, name}, args[0])
	}
}

// of adds what decides whether n is a text, and says whether n is more than constants and parameters. Constants are texts, but each text of a template
// has its own.
func (c *Cast) of(n *pg.Node) (varies bool) {
	switch v := n.GetNode().(type) {
	case nil, *pg.Node_AConst, *pg.Node_ParamRef:
		return false
	case *pg.Node_ColumnRef:
		fields := v.ColumnRef.Fields
		name := fields[len(fields)-1].GetString_().GetSval()
		c.Opaque = c.Opaque || name == ""
		c.Columns = appendNew(c.Columns, name)
	case *pg.Node_TypeCast:
		inner, to := Cast{}, v.TypeCast.TypeName
		varies = inner.of(v.TypeCast.Arg)
		switch {
		case neverText(namedOf(to)) && len(to.GetArrayBounds()) == 0:
			return varies
		case !varies && keepsText(namedOf(to)) && len(to.GetTypmods()) == 0:
			return false
		}
		c.Opaque = true
	case *pg.Node_AArrayExpr:
		return c.ofAll(v.AArrayExpr.Elements)
	case *pg.Node_AExpr:
		return c.ofOperator(v.AExpr)
	case *pg.Node_CoalesceExpr:
		return c.ofAll(v.CoalesceExpr.Args)
	case *pg.Node_MinMaxExpr:
		return c.ofAll(v.MinMaxExpr.Args)
	case *pg.Node_CaseExpr:
		for _, when := range v.CaseExpr.Args {
			c.of(when.GetCaseWhen().GetResult())
		}
		c.of(v.CaseExpr.Defresult)
	case *pg.Node_FuncCall:
		c.ofCall(v.FuncCall)
	default:
		c.Opaque = true
	}
	return true
}

func (c *Cast) ofAll(list []*pg.Node) (varies bool) {
	for _, n := range list {
		varies = c.of(n) || varies
	}
	return varies
}

// ofOperator is of for an operator: the server's own arithmetic makes no text of what is none.
func (c *Cast) ofOperator(e *pg.A_Expr) (varies bool) {
	schema, name := qualified(e.Name)
	switch {
	case e.Kind == pg.A_Expr_Kind_AEXPR_NULLIF:
		return c.of(e.Lexpr)
	case e.Kind == pg.A_Expr_Kind_AEXPR_OP && schema == "" && (name == "+" || name == "-" || name == "*" || name == "/"):
		c.of(e.Lexpr)
		c.of(e.Rexpr)
		c.Operators = appendNew(c.Operators, name) // one of somebody else's may make a text of constants
	default:
		c.Opaque = true
	}
	return true
}

// ofCall is of for a call: of some of the server's own functions it is known that they return no text, or one only if they are given one.
func (c *Cast) ofCall(f *pg.FuncCall) {
	schema, name := qualified(f.Funcname)
	if schema != "" && schema != "pg_catalog" {
		c.Opaque = true
		return
	}
	switch name {
	case "date_trunc", "date_bin", "timezone", "to_timestamp", "to_date", "make_date", "make_timestamp", "make_timestamptz", "age", "extract", "date_part", "count", "now":
	case "min", "max", "lag", "lead", "first_value", "last_value", "nth_value":
		c.ofAll(f.Args)
	default:
		c.Opaque = true
		return
	}
	if schema == "" {
		c.Calls = appendNew(c.Calls, name)
	}
}

// neverText says whether a type of the server itself is no text and is made of none: conversions to it are judged by themselves.
func neverText(t Named) bool {
	if t.Schema != "pg_catalog" {
		return t.Schema == "" && (t.Name == "date" || t.Name == "timestamptz") // no keywords, so the grammar gives them no schema
	}
	switch t.Name {
	case "date", "timestamp", "timestamptz", "time", "interval", "int2", "int4", "int8", "float4", "float8", "numeric", "bool":
		return true
	}
	return false
}

// keepsText says whether a type of the server itself takes a text as it is. Those with a length cut it, and bytea has escapes.
func keepsText(t Named) bool {
	return t.Schema == "" && t.Name == "text" || t.Schema == "pg_catalog" && (t.Name == "text" || t.Name == "varchar")
}

// derived notes the columns that a select makes for the query around it. The outermost has none.
func (w *walker) derived(s *pg.SelectStmt) {
	if w.depth <= 1 {
		return
	}
	if len(s.ValuesLists) > 0 {
		w.deriveName(anyColumn)
	}
	for _, n := range s.TargetList {
		t := n.GetResTarget()
		name := t.GetName()
		if name == "" && t.GetVal().GetColumnRef() == nil { // a column keeps its name, and what it is
			name = columnName(t.GetVal())
		}
		w.deriveName(name)
	}
}

func (w *walker) deriveName(name string) {
	if name != "" {
		w.c.Derived = appendNew(w.c.Derived, name)
	}
}

// deriveAlias notes the names that an alias gives to columns.
func (w *walker) deriveAlias(a *pg.Alias) {
	w.deriveNames(a.GetColnames())
}

func (w *walker) deriveNames(names []*pg.Node) {
	for _, n := range names {
		w.deriveName(n.GetString_().GetSval())
	}
}

// columnName is what the server calls a column that has no name in the text (FigureColname in src/backend/parser/parse_target.c), "" if
// nothing can refer to it, and anyColumn if that is not known here.
func columnName(n *pg.Node) string {
	switch v := n.GetNode().(type) {
	case *pg.Node_AConst, *pg.Node_ParamRef, *pg.Node_BoolExpr, *pg.Node_NullTest:
		return ""
	case *pg.Node_AExpr:
		if v.AExpr.Kind == pg.A_Expr_Kind_AEXPR_NULLIF {
			return "nullif"
		}
		return ""
	case *pg.Node_FuncCall:
		_, name := qualified(v.FuncCall.Funcname)
		return name
	case *pg.Node_TypeCast:
		if fields := v.TypeCast.Arg.GetColumnRef().GetFields(); len(fields) > 0 {
			return fields[len(fields)-1].GetString_().GetSval()
		}
		if name := columnName(v.TypeCast.Arg); name != "" {
			return name
		}
		_, name := qualified(v.TypeCast.TypeName.GetNames())
		return name
	case *pg.Node_CoalesceExpr:
		return "coalesce"
	}
	return anyColumn
}

// keyword notes CURRENT_DATE and its kind.
func (w *walker) keyword(op pg.SQLValueFunctionOp) {
	var name string
	switch op {
	case pg.SQLValueFunctionOp_SVFOP_CURRENT_DATE:
		name = "current_date"
	case pg.SQLValueFunctionOp_SVFOP_CURRENT_TIME, pg.SQLValueFunctionOp_SVFOP_CURRENT_TIME_N:
		name = "current_time"
	case pg.SQLValueFunctionOp_SVFOP_CURRENT_TIMESTAMP, pg.SQLValueFunctionOp_SVFOP_CURRENT_TIMESTAMP_N:
		name = "current_timestamp"
	case pg.SQLValueFunctionOp_SVFOP_LOCALTIME, pg.SQLValueFunctionOp_SVFOP_LOCALTIME_N:
		name = "localtime"
	case pg.SQLValueFunctionOp_SVFOP_LOCALTIMESTAMP, pg.SQLValueFunctionOp_SVFOP_LOCALTIMESTAMP_N:
		name = "localtimestamp"
	case pg.SQLValueFunctionOp_SVFOP_CURRENT_ROLE:
		name = "current_role"
	case pg.SQLValueFunctionOp_SVFOP_CURRENT_USER:
		name = "current_user"
	case pg.SQLValueFunctionOp_SVFOP_USER:
		name = "user"
	case pg.SQLValueFunctionOp_SVFOP_SESSION_USER:
		name = "session_user"
	case pg.SQLValueFunctionOp_SVFOP_CURRENT_CATALOG:
		name = "current_catalog"
	case pg.SQLValueFunctionOp_SVFOP_CURRENT_SCHEMA:
		name = "current_schema"
	default:
		name = op.String() // a newer grammar's
	}
	w.c.Keywords = appendNew(w.c.Keywords, name)
}

// systemColumn notes a column that rows have beside those of their table.
func (w *walker) systemColumn(fields []*pg.Node) {
	switch name := fields[len(fields)-1].GetString_().GetSval(); name {
	case "ctid", "xmin", "cmin", "xmax", "cmax", "tableoid":
		w.c.SystemColumns = appendNew(w.c.SystemColumns, name)
	}
}
