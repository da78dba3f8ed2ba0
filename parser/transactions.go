package parser

import (
	pg "github.com/pganalyze/pg_query_go/v5"
)

// transaction reads transaction statements.
func (c *Command) transaction(n *pg.Node) bool {
	t := n.GetTransactionStmt()
	if t == nil {
		return false
	}
	c.Effects |= TransactionControl
	c.Chain = t.Chain
	c.Name = t.SavepointName + t.Gid // never both
	switch t.Kind {
	case pg.TransactionStmtKind_TRANS_STMT_BEGIN, pg.TransactionStmtKind_TRANS_STMT_START:
		c.Kind = Begin
		c.Effects |= BeginsTransaction
		c.Transaction.read(t.Options)
	case pg.TransactionStmtKind_TRANS_STMT_COMMIT:
		c.Kind = Commit
		c.Effects |= EndsTransaction
	case pg.TransactionStmtKind_TRANS_STMT_ROLLBACK:
		c.Kind = Rollback
		c.Effects |= EndsTransaction
	case pg.TransactionStmtKind_TRANS_STMT_PREPARE:
		c.Kind = PrepareTransaction
		c.Effects |= EndsTransaction
	case pg.TransactionStmtKind_TRANS_STMT_SAVEPOINT:
		c.Kind = Savepoint
	case pg.TransactionStmtKind_TRANS_STMT_ROLLBACK_TO:
		c.Kind = RollbackTo
	case pg.TransactionStmtKind_TRANS_STMT_RELEASE:
		c.Kind = Release
	case pg.TransactionStmtKind_TRANS_STMT_COMMIT_PREPARED:
		c.Kind = CommitPrepared
	case pg.TransactionStmtKind_TRANS_STMT_ROLLBACK_PREPARED:
		c.Kind = RollbackPrepared
	}
	return true
}

// read takes in transaction modes in order: of one given twice the server keeps the last.
func (t *Transaction) read(modes []*pg.Node) {
	for _, m := range modes {
		mode := m.GetDefElem()
		k := mode.GetArg().GetAConst()
		on := k.GetIval().GetIval() != 0
		switch mode.GetDefname() {
		case "transaction_isolation":
			t.Isolation = k.GetSval().GetSval()
		case "transaction_read_only":
			t.ReadOnly, t.ReadWrite = on, !on
		case "transaction_deferrable":
			t.Deferrable = on
		}
	}
}
