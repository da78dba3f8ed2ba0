package parser

import (
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// walker collects facts from every place of a tree.
type walker struct {
	c        *Command
	dropTemp bool // inside CREATE TABLE … ON COMMIT DROP
}

// node visits n and all below it. The common nodes have a case; any other is walked by reflection, so that
// none is missed.
func (w *walker) node(n *pg.Node) {
	if n == nil {
		return
	}
	switch v := n.Node.(type) {
	case nil, *pg.Node_AConst, *pg.Node_ParamRef, *pg.Node_ColumnRef, *pg.Node_AStar, *pg.Node_String_,
		*pg.Node_Integer, *pg.Node_Float, *pg.Node_Boolean, *pg.Node_SetToDefault:
	case *pg.Node_List:
		w.nodes(v.List.Items)
	case *pg.Node_ResTarget:
		w.nodes(v.ResTarget.Indirection)
		w.node(v.ResTarget.Val)
	case *pg.Node_AExpr:
		w.node(v.AExpr.Lexpr)
		w.node(v.AExpr.Rexpr)
	case *pg.Node_BoolExpr:
		w.nodes(v.BoolExpr.Args)
	case *pg.Node_AArrayExpr:
		w.nodes(v.AArrayExpr.Elements)
	case *pg.Node_TypeCast:
		w.node(v.TypeCast.Arg)
	case *pg.Node_RangeVar:
		w.rangeVar(v.RangeVar)
	default:
		w.message(n.ProtoReflect())
	}
}

func (w *walker) nodes(list []*pg.Node) {
	for _, n := range list {
		w.node(n)
	}
}

// message visits m's fields after what is special about m itself.
func (w *walker) message(m protoreflect.Message) {
	outer := w.dropTemp
	defer func() { w.dropTemp = outer }()
	switch v := m.Interface().(type) {
	case *pg.RangeVar:
		w.rangeVar(v)
		return
	case *pg.FuncCall:
		w.call(v)
	case *pg.CreateStmt:
		w.dropTemp = v.Oncommit == pg.OnCommitAction_ONCOMMIT_DROP
	case *pg.IntoClause:
		w.dropTemp = v.OnCommit == pg.OnCommitAction_ONCOMMIT_DROP
		w.c.Effects |= DDL
		if w.c.Kind == Select {
			w.c.Kind = SchemaChange
		}
	case *pg.InsertStmt, *pg.DeleteStmt, *pg.MergeStmt:
		w.c.Effects |= Writes | AdvancesSequence
	case *pg.UpdateStmt:
		w.c.Effects |= Writes | AdvancesSequence
		if v.Relation.GetRelname() == "pg_settings" {
			w.c.pin("UPDATE pg_settings") // a rule turns it into set_config()
			w.c.RestoresAny = true
		}
	case *pg.LockingClause:
		w.c.Effects |= LocksRows
	case *pg.ExecuteStmt:
		w.c.Name = v.Name
		w.c.Effects |= SQLExecute | RunsOpaqueCode
	}
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		w.field(f, v)
		return true
	})
}

func (w *walker) field(f protoreflect.FieldDescriptor, v protoreflect.Value) {
	if f.Message() == nil {
		return
	}
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

// rangeVar notes a relation, and a temporary one that is being made.
func (w *walker) rangeVar(r *pg.RangeVar) {
	w.c.Relations = appendNew(w.c.Relations, r.Relname)
	if isTempSchema([]byte(r.Schemaname)) { // U&"…" hides it from the lexer
		w.c.pin(pinTempSchema)
	}
	switch r.Relname {
	case "pg_prepared_statements", "pg_cursors":
		w.c.Effects |= ReadsSessionViews
	}
	if r.Relpersistence != "t" {
		return
	}
	if w.dropTemp {
		w.c.Effects |= TempOnCommitDrop
		return
	}
	w.c.pin("CREATE TEMP")
}

// call judges one function call.
func (w *walker) call(f *pg.FuncCall) {
	if len(f.Funcname) == 0 {
		return
	}
	name := f.Funcname[len(f.Funcname)-1].GetString_().GetSval()
	schema := ""
	if len(f.Funcname) > 1 {
		schema = f.Funcname[len(f.Funcname)-2].GetString_().GetSval()
	}
	w.c.called(schema, name)
	if isTempSchema([]byte(schema)) {
		w.c.pin(pinTempSchema)
	}
	if schema != "" && schema != "pg_catalog" {
		return
	}
	if name == "set_config" {
		w.c.setConfig(f.Args)
	}
	if temporary, ok := makesSlot(name); ok && makesTemporarySlot(f.Args, temporary) {
		w.c.pin(callPin(name) + " of a temporary slot")
	}
}

// makesTemporarySlot says whether the argument at position i, or the one named temporary, is anything but false.
func makesTemporarySlot(args []*pg.Node, i int) bool {
	for at, arg := range args {
		if na := arg.GetNamedArgExpr(); na != nil {
			if na.Name == "temporary" {
				return !isFalse(na.Arg)
			}
		} else if at == i {
			return !isFalse(arg)
		}
	}
	return false
}

// called notes a call of schema.name; schema is empty if the text has none.
func (c *Command) called(schema, name string) {
	lower := strings.ToLower(name)
	if s, ok := lookupSpecial(lower); ok {
		c.Effects |= s.effects
		if s.pin {
			c.pin(callPin(lower))
		}
	}
	switch {
	case schema == "pg_catalog" && isBuiltin(name):
	case schema == "" && isBuiltin(name):
		c.Builtins = appendNew(c.Builtins, name)
	default:
		c.Functions = appendNew(c.Functions, name)
	}
}
