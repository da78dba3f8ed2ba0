package session

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"time"

	"pgtier/parser"
	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
	"pgtier/router"
	"pgtier/router/catalog"
)

// A turn whose server was lost, or could not serve it, is sent again where that changes nothing: reads outside
// transactions of which the client has heard nothing, and statements that a server did not begin.

// maxTries bounds how often a turn is sent.
const maxTries = 4

// pauses are before the third try and the fourth: the processes of a server that was killed outlive it for a moment, and
// each would lose the statement once more.
var pauses = [maxTries + 1]time.Duration{2: 50 * time.Millisecond, 3: 200 * time.Millisecond}

// pause waits before a turn that was tried so often is tried again. A refusal ends the turn instead.
func (s *Session) pause(tries int) (refusal *wire.Error) {
	if tries >= len(pauses) || pauses[tries] == 0 {
		return nil
	}
	ctx, done := s.stoppable(time.Now().Add(pauses[tries]))
	defer done()
	s.enter(StateWaiting)
	s.turnTime = 0
	if !s.killedNow() {
		<-ctx.Done()
	}
	errors.As(context.Cause(ctx), &refusal)
	return refusal
}

// repeatable reports whether the turn may be sent again if its server fails: all of it is proved to read only or is only
// prepared, and nothing in it names what an answer has made true.
func (s *Session) repeatable() bool {
	if s.tx != wire.TxIdle || s.begun || s.raw || s.pin != "" {
		return false
	}
	executes := s.executes()
	for i := range s.items {
		it := &s.items[i]
		switch it.typ {
		case wire.MsgFunction:
			return false
		case wire.MsgClose:
			if s.relay.acknowledged {
				return false // the name is free already
			}
			continue
		case wire.MsgDescribe, wire.MsgExecute, wire.MsgSync, wire.MsgFlush:
			continue
		}
		st := it.facts()
		if st == nil && it.typ == wire.MsgBind {
			continue // of what a Parse of this turn makes, or of nothing
		}
		if st == nil || executes && !s.reads(st) {
			return false
		}
	}
	return true
}

// executes reports whether the turn runs anything. One of Parse and Describe alone does not: it leaves a statement behind on
// a connection that is lost.
func (s *Session) executes() bool {
	return slices.ContainsFunc(s.items, func(it item) bool {
		switch it.typ {
		case wire.MsgQuery, wire.MsgFunction, wire.MsgBind, wire.MsgExecute:
			return true
		}
		return false
	})
}

// reads reports whether a statement of the turn is proved to read only, or was when the turn was aimed: the proof is good
// until the turn is over, though the catalog is being read again by now.
func (s *Session) reads(st *parser.Statement) bool {
	return s.aim.proved || s.db.Hazards.Reading(st).Verdict == catalog.Read && !s.at.distrusted(st)
}

// startable reports whether the turn may be sent again if its server ended the session before it began: one statement,
// whose transaction a server rolls back as a whole.
func (s *Session) startable() bool {
	if s.tx != wire.TxIdle || s.begun && !s.relay.unbegun || s.raw || s.pin != "" {
		return false
	}
	return s.onlyRuns(parser.RunsOpaqueCode, parser.Select, parser.Insert, parser.Update, parser.Delete, parser.Merge, parser.Begin, parser.Set, parser.Show) && s.ends() == 1
}

// onlyRuns reports whether all that the turn runs are single statements of these kinds without any of these effects, and nothing of it frees a name.
func (s *Session) onlyRuns(without parser.Effects, kinds ...parser.Kind) bool {
	for i := range s.items {
		it := &s.items[i]
		if it.typ == wire.MsgClose || it.typ == wire.MsgFunction {
			return false
		}
		st := it.facts()
		if st != nil && (len(st.Commands) != 1 || st.Effects&without != 0 || !slices.Contains(kinds, st.Commands[0].Kind)) {
			return false
		}
	}
	return true
}

// restartable reports whether the turn is the first of a transaction that ends with its server: the BEGIN that was held
// back, and statements that leave nothing behind where the transaction does not commit. A function may, if it is not proved
// to read only: it may write a file, to the log, or over a connection of its own; so may a trigger that nobody knows.
func (s *Session) restartable() bool {
	if !s.begun || s.tx != wire.TxIdle || s.raw || s.pin != "" || s.txn.wrote.all {
		return false
	}
	for i := range s.items {
		it := &s.items[i]
		if it.typ == wire.MsgClose || it.typ == wire.MsgFunction {
			return false
		}
		st := it.facts()
		switch {
		case st == nil:
		case st.Unparsed || st.Effects&(parser.EndsTransaction|parser.RunsOpaqueCode) != 0:
			return false
		case callsFunctions(st) && s.db.Hazards.Reading(st).Verdict != catalog.Read:
			return false
		}
	}
	return true
}

// callsFunctions reports whether st calls functions by name.
func callsFunctions(st *parser.Statement) bool {
	return slices.ContainsFunc(st.Commands, func(c parser.Command) bool { return len(c.Calls)+len(c.Functions) > 0 })
}

// beganWithin is how soon a server that was told to end while it waited says so: one that says it later was working.
const beganWithin = 100 * time.Millisecond

// repeats reports whether a turn that has failed is to be sent again. It has then given the connection up.
func (s *Session) repeats(c *backend.Conn, err error, sent int64, tries int) bool {
	r := &s.relay
	lost := err != nil || r.err != nil
	if !lost && !r.again {
		return false
	}
	if r.wrote || r.clientGone || r.remain > 0 || tries >= maxTries || s.killedNow() || s.namesMade() {
		return false
	}
	switch {
	case !lost && r.again:
	case lost && s.repeatable():
	case lost && s.restartable():
	case lost && r.farewell && s.startable() && s.env.now()-sent < int64(beganWithin):
	default:
		return false
	}
	if f := s.at.Fleet.Load(); f != nil {
		if lost {
			f.Lost(s.pool.Key().Server, firstError(err, r.err))
		} else {
			s.aim.manager(router.SentAgain, "a replica could not serve it")
		}
	}
	s.db.Stats.Repeated.Add(1)
	r.takeBack()
	r.unheard()
	if lost {
		c.Spoil("lost")
	}
	if s.begun {
		s.opening, s.opened, s.begun = s.opened, nil, false
	}
	r.free()
	s.release(c)
	return true
}

// killedNow reports whether the session is to end.
func (s *Session) killedNow() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.killed != nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// namesMade reports whether a prepared statement of the turn's own has been acknowledged: made again it would be a
// duplicate.
func (s *Session) namesMade() bool {
	for i := range s.items {
		if it := &s.items[i]; it.typ == wire.MsgParse && it.named && s.relay.acknowledged {
			return true
		}
	}
	return false
}

// refusedByReplica reports whether an error is one that the manager would not make: a write, or what needs more than
// recovery gives, or a conflict of the read with what is being replayed.
func refusedByReplica(code string, frame []byte) (again, distrust bool) {
	switch code {
	case codeReadOnly:
		return true, true
	case wire.CodeFeatureNotSupported, wire.CodeNotInState:
		// Its words depend on lc_messages, the name of the C function does not.
		return bytes.Contains(frame, []byte("recovery")) || bytes.Contains(frame, []byte(refusesSerializable)), true
	case "40001", "40P01":
		return true, false // a statement that only reads fails so through a conflict with the replay alone
	case wire.CodeCannotConnectNow:
		return true, false
	}
	return false, false
}

// refusedByReplica is refusedByReplica, and remembers which transactions no replica serves. distrust: the statement is taken for a write from now on.
func (d *Database) refusedByReplica(code string, frame []byte) (again, distrust bool) {
	again, distrust = refusedByReplica(code, frame)
	if again && distrust && bytes.Contains(frame, []byte(refusesSerializable)) {
		d.serializable.Store(true) // of the server's own configuration: ours would have been seen
		distrust = false
	}
	return again, distrust
}

// refusesSerializable is the function of PostgreSQL's predicate.c by which a server in recovery refuses a serializable
// transaction; errors carry it.
const refusesSerializable = "GetSerializableTransactionSnapshot"

// maxDistrusted bounds the statements remembered; forgetting them costs one more refusal each.
const maxDistrusted = 1000

// distrusted reports whether a replica has refused st as a write although it was proved to read.
func (d *Database) distrusted(st *parser.Statement) bool {
	if d.distrust.Load() == 0 {
		return false
	}
	_, found := d.distrustOf.Load(st)
	return found
}

// distrusts remembers that.
func (d *Database) distrusts(st *parser.Statement) {
	if d.distrust.Add(1) > maxDistrusted {
		d.distrustOf.Clear()
		d.distrust.Store(1)
	}
	d.distrustOf.Store(st, struct{}{})
}

// codeFateUnknown is transaction_resolution_unknown.
const codeFateUnknown = "08007"

// fate is the SQLSTATE for a turn whose server was lost: whether something it did may have been committed.
func (s *Session) fate() string {
	if s.relay.unsure {
		return codeFateUnknown
	}
	bound := false
	for i := range s.items {
		it := &s.items[i]
		st := it.facts()
		bound = bound || it.typ == wire.MsgBind
		switch {
		case it.typ == wire.MsgFunction, it.typ == wire.MsgExecute && !bound: // of a portal that was bound before
			return codeFateUnknown
		case st == nil && it.typ == wire.MsgBind && s.raw && !s.parsesBefore(i): // whose name may mean anything
			return codeFateUnknown
		case st == nil:
		case st.Effects&parser.EndsTransaction != 0:
			return codeFateUnknown
		case s.tx == wire.TxIdle && !s.begun && !s.reads(st):
			return codeFateUnknown
		}
	}
	return wire.CodeConnectionFailure
}

// observe reports how long a replica took for what was sent to it at the time sent.
func (s *Session) observe(sent int64) {
	if s.replica != "" && s.relay.err == nil {
		s.fleet.Observe(s.replica, time.Duration(s.env.now()-sent))
	}
}
