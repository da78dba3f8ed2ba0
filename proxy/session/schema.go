package session

import (
	"errors"
	"slices"
	"strings"

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
	if st := s.rawStatement(name); len(name) > 0 && st != nil {
		return changesSchema(st)
	}
	return s.rawChanges
}

// unasked refuses requests for one shard of which it could not be known whether their change of the schema was planned too early, or whether the rows that they lock stay.
func (s *Session) unasked(v *survey) *wire.Error {
	what, held := "a change of the schema", s.server != nil && len(s.server.Holds) > 0
	needs := slices.Clone(v.stays)
	if v.changes {
		needs = append(needs, shardmap.SchemaGroup)
	} else if len(needs) > 0 {
		what = "a lock of rows that are being moved to another shard"
	}
	lacking := len(needs) > 0 && (s.server == nil || len(lacks(s.server, needs)) > 0)
	prepares := slices.ContainsFunc(v.ran, func(r ran) bool { return runs(r.st, parser.PrepareTransaction) })
	switch {
	case v.wide:
	case lacking && s.tx == wire.TxFailed: // where nothing can be asked
		return &wire.Error{Code: wire.CodeFeatureNotSupported, Message: what + " cannot follow the end of a transaction that has failed, in one request, where there are shards",
			Hint: "Send ROLLBACK by itself."}
	case len(needs) > 0 && (s.tx == wire.TxActive || s.opening != nil) && slices.ContainsFunc(v.ran, func(r ran) bool { return runs(r.st, parser.SetTransaction) }):
		return &wire.Error{Code: wire.CodeFeatureNotSupported, Message: what + " cannot share a request with SET TRANSACTION where there are shards", // the question is a query before it
			Hint: "Send SET TRANSACTION by itself, or with BEGIN."}
	case prepares && (len(needs) > 0 || held && (len(v.ran) > 1 || len(v.ran[0].st.Commands) > 1)): // it would not have the lock
		return &wire.Error{Code: wire.CodeFeatureNotSupported, Message: "PREPARE TRANSACTION of " + what + " cannot share a request with other statements where there are shards",
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

// asksFirst asks the shard whether the requests' change of the schema was planned too early, and has the rows stay that they may lock, in their transaction or else for the
// session. done tells that the client has been answered, or that the turn is to be planned again.
func (s *Session) asksFirst(c *backend.Conn, replay *[]byte, tries int) (ok, again, done bool) {
	opening := s.opening
	err := s.replayNow(c, replay)
	if err == nil {
		err = s.beginHeld(c, replay)
	}
	if err != nil {
		ok, again = s.notReady(err, tries)
		return ok, again, true
	}
	if s.turnTime = 0; s.tx == wire.TxFailed { // the session has the locks, see unasked
		return true, false, false
	}
	asked, moved := s.asked()
	var holds []int
	if s.tx == wire.TxIdle || s.effects&parser.TransactionControl != 0 || s.raw && s.hasBind() { // what they are for may come behind that
		holds = lacks(c, s.locks())
	}
	before := c.Holds
	if len(holds) > 0 {
		asked += ", " + shardmap.HoldSQL(holds...)
		c.Holds = append(slices.Clip(before), holds...)
	}
	if err = aside(c, "SELECT "+asked); err == nil {
		return true, false, false
	}
	var refusal *wire.Error
	if errors.As(err, &refusal) && refusal.Code == codeFenced {
		c.Holds = before
	}
	switch {
	case !errors.As(err, &refusal) || c.Spoiled() != "":
		if s.unused() {
			ok, again = s.notReady(err, tries)
			return ok, again, true
		}
		s.relay.begin(c, s.ends())
		return s.lost(c, err), false, true
	case s.tx != wire.TxIdle && refusal.Code == codeFenced && opening != nil && !s.raw && s.pin == "": // nothing has run in the transaction
		if tx, err := c.ExecTx(wire.AppendQuery(nil, "ROLLBACK"), adoptTimeout, nil); err != nil || tx != wire.TxIdle {
			c.Spoil("rollback of a transaction that the fence has refused failed")
		}
		s.opening, s.tx = opening, wire.TxIdle
		s.changedFor(c)
		s.release(c)
		if refusal = s.awaitNewer(moved); refusal == nil {
			return false, true, true
		}
		return s.refuseAll(refusal), false, true
	case s.tx != wire.TxIdle:
		if refusal.Code == codeFenced {
			refusal = moved
		}
		ok, again = s.notPrepared(c, refusal, tries)
		return ok, again, true
	}
	if err := s.freesLocks(c); err != nil {
		s.relay.begin(c, s.ends())
		return s.lost(c, err), false, true
	}
	if s.unused() {
		s.release(c)
	}
	if refusal.Code == codeFenced {
		if refusal = s.awaitNewer(moved); refusal == nil {
			return false, true, true
		}
	}
	return s.refuseAll(refusal), false, true
}

// asked is what the requests ask, and what their client is told where the server refuses.
func (s *Session) asked() (sql string, moved *wire.Error) {
	var all []string
	if len(s.staying) > 0 {
		all, moved = append(all, shardmap.StaySQL(s.staying...)), movedAway()
	}
	if s.changing {
		all, moved = append(all, shardmap.SchemaPlannedSQL(s.planned.Motion.Number)), schemaMoved()
	}
	return strings.Join(all, ", "), moved
}

// locks are those that the requests need.
func (s *Session) locks() (all []int) {
	if s.changing {
		all = append(all, shardmap.SchemaGroup)
	}
	return append(all, s.staying...)
}

// lacks are those of locks that c is not known to have.
func lacks(c *backend.Conn, locks []int) []int {
	return slices.DeleteFunc(slices.Clone(locks), func(n int) bool { return slices.Contains(c.Holds, n) })
}

// freesLocks lets go of the locks that the session has, when no transaction is under way. Where a cancel or a time limit of the client's strikes it again and
// again, the next turn tries again, and the connection is closed instead of lent again.
func (s *Session) freesLocks(c *backend.Conn) error {
	if s.tx != wire.TxIdle {
		return nil
	}
	for tries := 0; len(c.Holds) > 0 && tries < finishTries; tries++ {
		err := aside(c, "SELECT "+shardmap.FreeSQL(c.Holds...))
		var refusal *wire.Error
		if err != nil && (!errors.As(err, &refusal) || c.Spoiled() != "") {
			return err
		}
		if err == nil {
			c.Holds = nil
		}
	}
	return nil
}

// preparesTransaction reports whether the turn is to prepare a transaction.
func (s *Session) preparesTransaction() bool {
	return slices.ContainsFunc(s.items, func(it item) bool { st := it.facts(); return st != nil && runs(st, parser.PrepareTransaction) })
}

// keepsLocks hands the locks to a transaction that is about to be prepared.
func (s *Session) keepsLocks(c *backend.Conn) error {
	if len(c.Holds) == 0 || s.tx != wire.TxActive {
		return nil
	}
	if err := aside(c, "SELECT "+shardmap.KeepSQL(c.Holds...)); err != nil {
		return err
	}
	c.Holds = nil
	return nil
}

// holdSchema asks as asksFirst does, for a statement that no transaction block may have, and returns the branch that has the lock. Home has it for all shards.
func (x *wide) holdSchema(j *job) (b *branch, refusal *wire.Error, err error) {
	at := x.shards(j)[0]
	if slices.Contains(x.shards(j), x.l.Home) {
		at = x.l.Home
	}
	if b, err = x.branch(at, false); err != nil {
		refusal, err = asRefusal(err)
		return nil, refusal, err
	}
	b.c.Holds = append(b.c.Holds, shardmap.SchemaGroup)
	err = b.query(x.s, "SELECT "+shardmap.SchemaPlannedSQL(x.l.Motion.Number)+", "+shardmap.HoldSQL(shardmap.SchemaGroup), func([][]byte) error { return nil })
	if errors.Is(err, errFenced) {
		refusal, err, b.c.Holds = schemaMoved(), nil, nil
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
	if b == nil || len(b.c.Holds) == 0 || b.busy || b.c.Spoiled() != "" {
		return
	}
	if err := b.exec(x.s, wire.AppendQuery(nil, "SELECT "+shardmap.FreeSQL(b.c.Holds...))); err == nil {
		b.c.Holds = nil
	}
}
