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
// What no transaction block may have, and what a hint sends outside of one, asks for the session: that has the lock until the statement is over (holdsSchema).

// changesSchema reports whether st changes the schema or truncates: what copies and streams of rows do not carry.
func changesSchema(st *parser.Statement) bool {
	return st.Effects&parser.DDL != 0 || slices.ContainsFunc(st.Commands, func(c parser.Command) bool { return c.Kind == parser.Truncate })
}

// passesSchema reports whether st asks nobody although it changes the schema: it makes a temporary table that ends with the transaction.
func passesSchema(st *parser.Statement) bool {
	return len(st.Commands) == 1 && st.Effects&parser.TempOnCommitDrop != 0
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
	s.turnTime = 0
	asked := shardmap.SchemaPlannedSQL(s.planned.Motion.Number)
	if s.tx == wire.TxIdle || s.effects&parser.EndsTransaction != 0 { // the change may come behind that
		asked, c.HoldsSchema = shardmap.HoldSchemaSQL+", "+asked, true
	}
	if err = aside(c, "SELECT "+asked); err == nil {
		return true, false, false
	}
	var refusal *wire.Error
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

// freesSchema lets go of the lock that the session has for a change of the schema. A transaction that is under way keeps it instead; one that has failed cannot,
// and the session has it until that ends.
func (s *Session) freesSchema(c *backend.Conn) error {
	sql := "SELECT " + shardmap.FreeSchemaSQL
	switch {
	case !c.HoldsSchema, s.tx == wire.TxFailed:
		return nil
	case s.tx == wire.TxActive:
		sql = "SELECT " + shardmap.KeepSchemaSQL
	}
	err := aside(c, sql)
	if err == nil {
		c.HoldsSchema = false
	}
	return err
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
	err = b.query(x.s, "SELECT "+shardmap.HoldSchemaSQL+", "+shardmap.SchemaPlannedSQL(x.l.Motion.Number), func([][]byte) error { return nil })
	if errors.Is(err, errFenced) {
		refusal, err = schemaMoved(), nil
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
	if b == nil || b.busy || b.c.Spoiled() != "" {
		return
	}
	if err := b.exec(x.s, wire.AppendQuery(nil, "SELECT "+shardmap.FreeSchemaSQL)); err == nil {
		b.c.HoldsSchema = false
	}
}
