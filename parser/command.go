package parser

import (
	"strings"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// cursorHold is CURSOR_OPT_HOLD of PostgreSQL's src/include/nodes/parsenodes.h.
const cursorHold = 0x20

// read fills c with the facts of one statement.
func (c *Command) read(n *pg.Node, src source) {
	c.statement(n, src)
	if c.Effects&RunsOpaqueCode != 0 {
		c.Incomplete = true
	}
}

func (c *Command) statement(n *pg.Node, src source) {
	if f := n.GetCreateFunctionStmt(); f != nil {
		c.namesTempFunction(f.Funcname)
	} else if f := n.GetAlterFunctionStmt(); f != nil { // its SET search_path TO …, pg_temp is not the session's
		c.namesTempFunction(f.Func.GetObjname())
	} else {
		c.namesTemp(src.text)
	}
	if c.transaction(n) || c.session(n) || c.prepared(n, src) {
		return
	}
	c.Kind = c.kindOf(n)
	if c.Kind == SchemaChange {
		c.Effects |= DDL
	}
	if n.GetCreateFunctionStmt() != nil {
		return // its body does not run now
	}
	c.Incomplete = hidesTables(n)
	w := walker{c: c, text: src.whole, access: accessOf(n)}
	w.node(n)
	if e := n.GetExplainStmt(); e != nil {
		c.Analyze = analyzes(e)
		c.Explained = &Command{}
		c.Explained.read(e.Query, src)
	}
	if c.Effects&SQLExecute != 0 { // EXPLAIN EXECUTE, CREATE TABLE AS EXECUTE
		c.pin("EXECUTE inside another statement")
		c.findExecute(src)
	}
}

// namesTemp pins for any mention of the schema of temporary objects.
func (c *Command) namesTemp(text []byte) {
	l := lexer{src: text}
	for t := l.nextCode(); t.kind != tokenEnd; t = l.nextCode() {
		word := text[t.start:t.end]
		if t.kind == tokenQuoted {
			word = word[1 : len(word)-1]
		}
		if (t.kind == tokenQuoted || t.kind == tokenIdent) && isTempSchema(word) {
			c.pin(pinTempSchema)
			return
		}
	}
}

func (c *Command) namesTempFunction(name []*pg.Node) {
	if len(name) > 1 && isTempSchema([]byte(name[len(name)-2].GetString_().GetSval())) {
		c.pin(pinTempSchema)
	}
}

// isTempSchema says whether word is pg_temp or pg_temp_3.
func isTempSchema(word []byte) bool {
	if !hasFoldPrefix(word, "pg_temp") {
		return false
	}
	rest := word[len("pg_temp"):]
	return len(rest) == 0 || len(rest) > 1 && rest[0] == '_' && classes[rest[1]]&classDigit != 0
}

// session reads statements whose purpose is session state.
func (c *Command) session(n *pg.Node) bool {
	switch s := n.Node.(type) {
	case *pg.Node_VariableSetStmt:
		c.variableSet(s.VariableSetStmt)
	case *pg.Node_VariableShowStmt:
		c.Kind, c.Name = Show, strings.ToLower(s.VariableShowStmt.Name)
	case *pg.Node_DiscardStmt:
		c.discard(s.DiscardStmt.Target)
	case *pg.Node_ListenStmt:
		c.Kind, c.Channel = Listen, s.ListenStmt.Conditionname
		c.Effects |= Listens
	case *pg.Node_UnlistenStmt:
		c.Kind, c.Channel = Unlisten, s.UnlistenStmt.Conditionname
		c.Effects |= Unlistens
		if c.Channel == "" {
			c.Kind = UnlistenAll
		}
	case *pg.Node_NotifyStmt:
		c.Kind, c.Channel = Notify, s.NotifyStmt.Conditionname
		c.Effects |= Notifies
	case *pg.Node_LoadStmt:
		c.Kind = Load
		c.pin("LOAD")
	case *pg.Node_FetchStmt:
		c.Kind, c.Name = Fetch, s.FetchStmt.Portalname
		c.Effects |= UsesCursor
		c.Incomplete = true // those of the cursor
	case *pg.Node_ClosePortalStmt:
		c.Kind, c.Name = Close, s.ClosePortalStmt.Portalname
		c.Effects |= UsesCursor
		if c.Name == "" {
			c.Kind = CloseAll
		}
	case *pg.Node_DoStmt:
		c.do(s.DoStmt)
	default:
		return false
	}
	return true
}

func (c *Command) discard(target pg.DiscardMode) {
	switch target {
	case pg.DiscardMode_DISCARD_PLANS:
		c.Kind = DiscardPlans
		c.Effects |= DiscardsPlans
	case pg.DiscardMode_DISCARD_SEQUENCES:
		c.Kind = DiscardSequences
		c.Effects |= DiscardsSequences
	case pg.DiscardMode_DISCARD_TEMP:
		c.Kind = DiscardTemp
		c.Effects |= DiscardsTemp
	default:
		c.Kind = DiscardAll
		c.Effects |= DiscardsAll
		c.RestoresAny = true
	}
}

// prepared reads PREPARE, EXECUTE and DEALLOCATE.
func (c *Command) prepared(n *pg.Node, src source) bool {
	switch s := n.Node.(type) {
	case *pg.Node_PrepareStmt:
		c.Kind, c.Name = Prepare, s.PrepareStmt.Name
		c.Effects |= SQLPrepare
		body := c.findPrepare(src)
		c.Prepared = &Command{}
		c.Prepared.read(s.PrepareStmt.Query, body)
		w := walker{c: c.Prepared, text: src.whole}
		w.nodes(s.PrepareStmt.Argtypes)
	case *pg.Node_ExecuteStmt:
		c.Kind, c.Name = Execute, s.ExecuteStmt.Name
		c.Effects |= SQLExecute | RunsOpaqueCode
		w := walker{c: c, text: src.whole, access: Reads}
		for _, p := range s.ExecuteStmt.Params {
			w.node(p)
		}
		c.findExecute(src)
	case *pg.Node_DeallocateStmt:
		c.Kind, c.Name = Deallocate, s.DeallocateStmt.Name
		c.Effects |= SQLDeallocate
		if c.Name == "" {
			c.Kind = DeallocateAll
			return true
		}
		c.findDeallocate(src)
	default:
		return false
	}
	return true
}

// kindOf classifies what is left, and notes effects that only the outermost statement has.
func (c *Command) kindOf(n *pg.Node) Kind {
	switch s := n.Node.(type) {
	case *pg.Node_SelectStmt:
		return Select // SELECT INTO becomes SchemaChange in the walk
	case *pg.Node_InsertStmt:
		return Insert
	case *pg.Node_UpdateStmt:
		return Update
	case *pg.Node_DeleteStmt:
		return Delete
	case *pg.Node_MergeStmt:
		return Merge
	case *pg.Node_ConstraintsSetStmt:
		return SetConstraints
	case *pg.Node_CopyStmt:
		c.copy(s.CopyStmt)
		return Copy
	case *pg.Node_DeclareCursorStmt:
		c.Name = s.DeclareCursorStmt.Portalname
		c.Effects |= UsesCursor
		if s.DeclareCursorStmt.Options&cursorHold != 0 {
			c.pin("DECLARE … WITH HOLD")
		}
		return Declare
	case *pg.Node_CallStmt:
		c.Effects |= RunsOpaqueCode
		return Call
	case *pg.Node_ExplainStmt:
		return Explain
	case *pg.Node_VacuumStmt:
		return Vacuum
	case *pg.Node_LockStmt:
		c.Effects |= LocksTable
		return Lock
	case *pg.Node_TruncateStmt:
		c.Effects |= Writes
		return Truncate
	case *pg.Node_CheckPointStmt:
		return Checkpoint
	case *pg.Node_RefreshMatViewStmt:
		c.Effects |= Writes
		return Refresh
	case *pg.Node_ReindexStmt, *pg.Node_ClusterStmt:
		return Reindex
	case *pg.Node_ImportForeignSchemaStmt:
		c.Effects |= DDL
		return Import
	}
	return SchemaChange
}

// analyzes says whether EXPLAIN carries its statement out: of an option given twice the last counts.
func analyzes(e *pg.ExplainStmt) (analyze bool) {
	for _, n := range e.Options {
		option := n.GetDefElem()
		if option.GetDefname() != "analyze" {
			continue
		}
		switch strings.ToLower(option.GetArg().GetString_().GetSval()) {
		case "false", "off":
			analyze = false
		default:
			i := option.GetArg().GetInteger()
			analyze = i == nil || i.Ival != 0
		}
	}
	return analyze
}

func (c *Command) copy(s *pg.CopyStmt) {
	if s.IsFrom {
		c.Effects |= Writes | AdvancesSequence
	}
	if s.Filename != "" || s.IsProgram {
		return
	}
	if s.IsFrom {
		c.Effects |= CopyIn
	} else {
		c.Effects |= CopyOut
	}
}
