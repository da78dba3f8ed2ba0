package session

import (
	"errors"
	"slices"

	"pgtier/parser"
	"pgtier/proxy/backend"
	"pgtier/proxy/shardmap"
	"pgtier/proxy/wire"
)

// A change of the schema, or TRUNCATE, is refused while buckets move (frozen). Planned before the move began, and begun by its server only afterwards, it would
// miss the shard that joins by then, or change a table in the middle of its copy, however late it is: a network may stand still for as long as it likes. So the
// transaction asks before it (shardmap.SchemaPlannedSQL): home, for what goes to all shards, or the shard that a hint names. What is refused is planned again
// where it is the whole of its transaction.
//
// What no transaction block may have, and what a hint sends outside of one, asks for the session: that has the lock until the statement is over. So it is where
// the same request may leave the transaction, or a part of it that has the lock, before the change: the session has it until that transaction ends. One that was
// taken later would be lost with the savepoint behind which it was taken.

// changesSchema reports whether st changes the schema or truncates: what copies and streams of rows do not carry. A temporary table that ends with the
// transaction is nobody else's.
func changesSchema(st *parser.Statement) bool {
	if len(st.Commands) == 1 && st.Effects&parser.TempOnCommitDrop != 0 {
		return false
	}
	return st.Effects&parser.DDL != 0 || slices.ContainsFunc(st.Commands, func(c parser.Command) bool { return c.Kind == parser.Truncate })
}

// mayChangeSchema reports whether a name may mean a change of the schema on a connection that is the session's own: SQL prepares none.
func (s *Session) mayChangeSchema(name []byte) bool {
	if st := s.rawStatement(name); st != nil {
		return changesSchema(st)
	}
	return s.rawChanges
}

// unasked refuses requests for one shard of which it could not be known whether their change of the schema was planned too early.
func (s *Session) unasked(v *survey) *wire.Error {
	held := s.server != nil && s.server.HoldsSchema
	prepares := slices.ContainsFunc(v.ran, func(r ran) bool { return runs(r.st, parser.PrepareTransaction) })
	switch {
	case v.wide:
	case v.changes && s.tx == wire.TxFailed && !held: // where nothing can be asked
		return &wire.Error{Code: wire.CodeFeatureNotSupported, Message: "a change of the schema cannot follow the end of a transaction that has failed, in one request, where there are shards",
			Hint: "Send ROLLBACK by itself."}
	case prepares && (v.changes || held && (len(v.ran) > 1 || len(v.ran[0].st.Commands) > 1)): // it would not have the lock
		return &wire.Error{Code: wire.CodeFeatureNotSupported, Message: "PREPARE TRANSACTION of a change of the schema cannot share a request with other statements where there are shards",
			Hint: "Send it by itself."}
	}
	return nil
}

// runs reports whether one of st's commands is of the kind.
func runs(st *parser.Statement, kind parser.Kind) bool {
	return slices.ContainsFunc(st.Commands, func(c parser.Command) bool { return c.Kind == kind })
}

// schemaMoved is what a client is told of a change of the schema that was planned too early, where its transaction cannot be sent again.
func schemaMoved() *wire.Error {
	return &wire.Error{Code: "40001", Message: "could not serialize access: a move of buckets has begun since this change of the schema was planned",
		Detail: "It began behind the transaction's first statement, or the change was on its way for long.",
		Hint:   "The transaction might succeed if retried, when the move is over; `pgtier reshard status` tells how far it is.", Cause: errFenced}
}

// asksSchema asks the shard whether the requests' change of the schema was planned too early, in their transaction or else for the session. done tells that
// the client has been answered, or that the turn is to be planned again.
func (s *Session) asksSchema(c *backend.Conn, replay *[]byte, tries int) (ok, again, done bool) {
	err := s.replayNow(c, replay)
	if err == nil {
		err = s.beginHeld(c, replay)
	}
	if err != nil {
		ok, again = s.notReady(err, tries)
		return ok, again, true
	}
	if s.turnTime = 0; s.tx == wire.TxFailed { // the session has the lock, see unasked
		return true, false, false
	}
	asked := shardmap.SchemaPlannedSQL(s.planned.Motion.Number)
	holds := !c.HoldsSchema && (s.tx == wire.TxIdle || s.effects&parser.TransactionControl != 0 || s.raw && s.hasBind()) // the change may come behind that
	if holds {
		asked, c.HoldsSchema = asked+", "+shardmap.HoldSchemaSQL, true
	}
	if err = aside(c, "SELECT "+asked); err == nil {
		return true, false, false
	}
	var refusal *wire.Error
	if errors.As(err, &refusal) && refusal.Code == codeFenced && holds {
		c.HoldsSchema = false
	}
	switch {
	case !errors.As(err, &refusal) || c.Spoiled() != "":
		if s.unused() {
			ok, again = s.notReady(err, tries)
			return ok, again, true
		}
		s.relay.begin(c, s.ends())
		return s.lost(c, err), false, true
	case s.tx != wire.TxIdle:
		if refusal.Code == codeFenced {
			refusal = schemaMoved()
		}
		ok, again = s.notPrepared(c, refusal, tries)
		return ok, again, true
	}
	if err := s.freesSchema(c); err != nil {
		s.relay.begin(c, s.ends())
		return s.lost(c, err), false, true
	}
	if s.unused() {
		s.release(c)
	}
	if refusal.Code == codeFenced {
		if refusal = s.awaitNewer(schemaMoved()); refusal == nil {
			return false, true, true
		}
	}
	return s.refuseAll(refusal), false, true
}

// freesSchema lets go of the lock that the session has for a change of the schema, when no transaction is under way. Where a cancel or a time limit of the
// client's strikes it again and again, the next turn tries again, and the connection is closed instead of lent again.
func (s *Session) freesSchema(c *backend.Conn) error {
	if s.tx != wire.TxIdle {
		return nil
	}
	for tries := 0; c.HoldsSchema && tries < finishTries; tries++ {
		err := aside(c, "SELECT "+shardmap.FreeSchemaSQL)
		var refusal *wire.Error
		if err != nil && (!errors.As(err, &refusal) || c.Spoiled() != "") {
			return err
		}
		c.HoldsSchema = err != nil
	}
	return nil
}

// preparesTransaction reports whether the turn is to prepare a transaction.
func (s *Session) preparesTransaction() bool {
	return slices.ContainsFunc(s.items, func(it item) bool { st := it.facts(); return st != nil && runs(st, parser.PrepareTransaction) })
}

// keepsSchema hands the lock to a transaction that is about to be prepared.
func (s *Session) keepsSchema(c *backend.Conn) error {
	if !c.HoldsSchema || s.tx != wire.TxActive {
		return nil
	}
	if err := aside(c, "SELECT "+shardmap.KeepSchemaSQL); err != nil {
		return err
	}
	c.HoldsSchema = false
	return nil
}

// holdSchema asks as asksSchema does, for a statement that no transaction block may have, and returns the branch that has the lock. Home has it for all shards.
func (x *wide) holdSchema(j *job) (b *branch, refusal *wire.Error, err error) {
	at := x.shards(j)[0]
	if slices.Contains(x.shards(j), x.l.Home) {
		at = x.l.Home
	}
	if b, err = x.branch(at, false); err != nil {
		refusal, err = asRefusal(err)
		return nil, refusal, err
	}
	b.c.HoldsSchema = true
	err = b.query(x.s, "SELECT "+shardmap.SchemaPlannedSQL(x.l.Motion.Number)+", "+shardmap.HoldSchemaSQL, func([][]byte) error { return nil })
	if errors.Is(err, errFenced) {
		refusal, err, b.c.HoldsSchema = schemaMoved(), nil, false
	} else if err != nil {
		refusal, err = asRefusal(err)
	}
	if refusal != nil {
		x.freeSchema(b)
	}
	return b, refusal, err
}

// freeSchema lets the lock of holdSchema go. A connection that keeps it is closed instead of lent again.
func (x *wide) freeSchema(b *branch) {
	if b == nil || !b.c.HoldsSchema || b.busy || b.c.Spoiled() != "" {
		return
	}
	if err := b.exec(x.s, wire.AppendQuery(nil, "SELECT "+shardmap.FreeSchemaSQL)); err == nil {
		b.c.HoldsSchema = false
	}
}
