package parser

import (
	"slices"

	pg "github.com/pganalyze/pg_query_go/v5"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// walker collects facts from every place of a tree.
type walker struct {
	c        *Command
	text     *wholeText
	dropTemp bool     // inside CREATE TABLE … ON COMMIT DROP
	access   Access   // what a relation outside of any FROM is there for; 0 if it is no table
	inScope  []string // names of WITH queries
	depth    int      // queries around this place, this one included
	queries  int      // queries seen
}

// node visits n and all below it. The common nodes have a case; any other is walked by reflection, so that
// none is missed.
func (w *walker) node(n *pg.Node) {
	if n == nil {
		return
	}
	switch v := n.Node.(type) {
	case nil, *pg.Node_AConst, *pg.Node_ParamRef, *pg.Node_AStar, *pg.Node_String_,
		*pg.Node_Integer, *pg.Node_Float, *pg.Node_Boolean, *pg.Node_SetToDefault:
	case *pg.Node_ColumnRef:
		w.attribute(v.ColumnRef.Fields)
		w.systemColumn(v.ColumnRef.Fields)
	case *pg.Node_List:
		w.nodes(v.List.Items)
	case *pg.Node_ResTarget:
		w.nodes(v.ResTarget.Indirection)
		w.node(v.ResTarget.Val)
	case *pg.Node_AExpr:
		w.operators(v.AExpr)
		w.node(v.AExpr.Lexpr)
		w.node(v.AExpr.Rexpr)
	case *pg.Node_BoolExpr:
		w.nodes(v.BoolExpr.Args)
	case *pg.Node_AArrayExpr:
		w.nodes(v.AArrayExpr.Elements)
	case *pg.Node_TypeCast:
		w.cast(namedOf(v.TypeCast.TypeName), v.TypeCast.Arg)
		w.node(v.TypeCast.Arg)
		w.message(v.TypeCast.TypeName.ProtoReflect())
	default:
		w.message(n.ProtoReflect())
	}
}

func (w *walker) nodes(list []*pg.Node) {
	for _, n := range list {
		w.node(n)
	}
}

// message visits what is special about m, then its fields.
func (w *walker) message(m protoreflect.Message) {
	dropTemp, access := w.dropTemp, w.access
	defer func() { w.dropTemp, w.access = dropTemp, access }()
	if w.query(m) {
		return
	}
	w.expression(m)
	switch v := m.Interface().(type) {
	case *pg.RangeVar:
		w.relation(v, w.access)
		return
	case *pg.DropStmt:
		w.dropped(v)
	case *pg.MultiAssignRef:
		if v.Colno > 1 {
			return // (a, b) = …: each column has the same source
		}
	case *pg.CreateStmt:
		w.dropTemp = v.Oncommit == pg.OnCommitAction_ONCOMMIT_DROP
	case *pg.TableLikeClause:
		w.access = Reads
	case *pg.IntoClause:
		w.access = Alters
		w.dropTemp = v.OnCommit == pg.OnCommitAction_ONCOMMIT_DROP
		w.c.Effects |= DDL
		if w.c.Kind == Select {
			w.c.Kind = SchemaChange
		}
	case *pg.ExecuteStmt:
		w.c.Name = v.Name
		w.c.Effects |= SQLExecute | RunsOpaqueCode
	}
	w.fields(m)
}

// query reads a statement that has tables of its own, and says whether m is one.
func (w *walker) query(m protoreflect.Message) bool {
	switch v := m.Interface().(type) {
	case *pg.SelectStmt:
		w.selectStmt(v)
		return true
	case *pg.InsertStmt:
		w.insert(v)
	case *pg.DeleteStmt:
		w.delete(v)
	case *pg.MergeStmt:
		w.merge(v)
	case *pg.UpdateStmt:
		w.update(v)
		if v.Relation.GetRelname() == "pg_settings" {
			w.c.pin("UPDATE pg_settings") // a rule turns it into set_config()
			w.c.RestoresAny = true
		}
	default:
		return false
	}
	w.c.Effects |= Writes | AdvancesSequence
	return true
}

// expression notes the names that a part of an expression is resolved by.
func (w *walker) expression(m protoreflect.Message) {
	switch v := m.Interface().(type) {
	case *pg.FuncCall:
		w.call(v)
	case *pg.TypeCast:
		w.cast(namedOf(v.TypeName), v.Arg)
	case *pg.SQLValueFunction:
		w.keyword(v.Op)
	case *pg.RangeTableSample:
		w.c.Samples = true
	case *pg.RangeTableFunc:
		w.c.Extracts = true
	case *pg.CommonTableExpr:
		w.deriveNames(v.Aliascolnames)
		if v.SearchClause != nil || v.CycleClause != nil {
			w.deriveName(anyColumn)
		}
	case *pg.A_Expr:
		w.operators(v)
	case *pg.TypeName:
		w.typeName(v)
	case *pg.A_Indirection:
		w.attributeOf(v.Indirection)
	case *pg.SubLink:
		switch {
		case len(v.OperName) > 0:
			w.operator(qualified(v.OperName))
		case v.SubLinkType == pg.SubLinkType_ANY_SUBLINK: // IN
			w.operator("", "=")
		}
	case *pg.CaseExpr:
		if v.Arg != nil { // CASE a WHEN b
			w.operator("", "=")
		}
	case *pg.SortBy:
		if len(v.UseOp) > 0 {
			w.operator(qualified(v.UseOp))
		}
	}
}

// fields walks the fields of m but for those that were read already, so that one of a newer grammar is not missed.
func (w *walker) fields(m protoreflect.Message, read ...protoreflect.Name) {
	for _, f := range messageFields(m, read...) {
		w.field(f, m.Get(f))
	}
}

// messageFields are the fields of m that are set and hold messages, but for those that were read already, in the order of
// their numbers, because Range has another order in each build.
func messageFields(m protoreflect.Message, read ...protoreflect.Name) []protoreflect.FieldDescriptor {
	list := make([]protoreflect.FieldDescriptor, 0, 8)
	m.Range(func(f protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if f.Message() != nil && !slices.Contains(read, f.Name()) {
			list = append(list, f)
		}
		return true
	})
	slices.SortFunc(list, func(a, b protoreflect.FieldDescriptor) int { return int(a.Number() - b.Number()) })
	return list
}

func (w *walker) field(f protoreflect.FieldDescriptor, v protoreflect.Value) {
	if !f.IsList() {
		w.value(v.Message())
		return
	}
	list := v.List()
	for i := range list.Len() {
		w.value(list.Get(i).Message())
	}
}

func (w *walker) value(m protoreflect.Message) {
	if n, ok := m.Interface().(*pg.Node); ok {
		w.node(n)
		return
	}
	w.message(m)
}

// relation notes a relation, and a temporary one that is being made. It returns the index of the table, -1 if there is no access.
func (w *walker) relation(r *pg.RangeVar, access Access) int {
	if r == nil {
		return -1
	}
	w.c.Relations = appendNew(w.c.Relations, r.Relname)
	if isTempSchema([]byte(r.Schemaname)) { // U&"…" hides it from the lexer
		w.c.pin(pinTempSchema)
	}
	switch r.Relname {
	case "pg_prepared_statements", "pg_cursors":
		w.c.Effects |= ReadsSessionViews
	}
	switch {
	case r.Relpersistence != "t":
	case w.dropTemp:
		w.c.Effects |= TempOnCommitDrop
	default:
		w.c.pin("CREATE TEMP")
	}
	if access == 0 {
		return -1
	}
	w.c.Tables = append(w.c.Tables, Table{Schema: r.Schemaname, Name: r.Relname, Access: access})
	return len(w.c.Tables) - 1
}
