package parser

import (
	pg "github.com/pganalyze/pg_query_go/v5"
)

// accessOf is what a statement does with the relations that it names outside of any FROM, 0 if they are no tables.
func accessOf(n *pg.Node) Access {
	switch s := n.Node.(type) {
	case *pg.Node_ConstraintsSetStmt:
		return 0 // names of constraints
	case *pg.Node_CopyStmt:
		if s.CopyStmt.IsFrom {
			return Alters
		}
		return Reads
	case *pg.Node_LockStmt:
		return Locks
	case *pg.Node_VacuumStmt, *pg.Node_ClusterStmt, *pg.Node_ReindexStmt:
		return Reads | Locks
	case *pg.Node_SelectStmt, *pg.Node_InsertStmt, *pg.Node_UpdateStmt, *pg.Node_DeleteStmt, *pg.Node_MergeStmt,
		*pg.Node_DeclareCursorStmt, *pg.Node_ExplainStmt, *pg.Node_CallStmt, *pg.Node_ExecuteStmt:
		return Reads
	}
	return Alters // TRUNCATE, REFRESH, and whatever changes the catalog
}

// hidesTables says whether a statement may touch tables that its text does not name: by a cascade, by leaving names out, or by the names
// of indexes, schemas and types.
func hidesTables(n *pg.Node) bool {
	switch s := n.Node.(type) {
	case *pg.Node_SelectStmt, *pg.Node_InsertStmt, *pg.Node_UpdateStmt, *pg.Node_DeleteStmt, *pg.Node_MergeStmt,
		*pg.Node_DeclareCursorStmt, *pg.Node_ExplainStmt, *pg.Node_CopyStmt, *pg.Node_LockStmt, *pg.Node_RefreshMatViewStmt,
		*pg.Node_CheckPointStmt, *pg.Node_CreateStmt, *pg.Node_CreateTableAsStmt, *pg.Node_ViewStmt, *pg.Node_IndexStmt,
		*pg.Node_CreateSeqStmt:
		return false
	case *pg.Node_TruncateStmt:
		return s.TruncateStmt.Behavior == pg.DropBehavior_DROP_CASCADE
	case *pg.Node_VacuumStmt:
		return len(s.VacuumStmt.Rels) == 0
	case *pg.Node_ClusterStmt:
		return s.ClusterStmt.Relation == nil
	case *pg.Node_ReindexStmt:
		return s.ReindexStmt.Kind != pg.ReindexObjectType_REINDEX_OBJECT_TABLE
	}
	return true
}

// dropped notes the relations of DROP TABLE and its kind, and those whose trigger, rule or policy is dropped.
func (w *walker) dropped(s *pg.DropStmt) {
	behind := 0 // names behind the relation's
	switch s.RemoveType {
	case pg.ObjectType_OBJECT_TABLE, pg.ObjectType_OBJECT_FOREIGN_TABLE, pg.ObjectType_OBJECT_VIEW,
		pg.ObjectType_OBJECT_MATVIEW, pg.ObjectType_OBJECT_SEQUENCE:
	case pg.ObjectType_OBJECT_TRIGGER, pg.ObjectType_OBJECT_RULE, pg.ObjectType_OBJECT_POLICY:
		behind = 1
	default:
		return
	}
	for _, object := range s.Objects {
		parts := object.GetList().GetItems()
		schema, name := qualified(parts[:max(len(parts)-behind, 0)])
		w.c.Tables = append(w.c.Tables, Table{Schema: schema, Name: name, Access: Alters})
	}
}
