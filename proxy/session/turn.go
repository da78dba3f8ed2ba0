package session

import (
	"context"
	"errors"
	"os"

	"go.uber.org/zap"

	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
)

// serve answers the complete requests in req, whose messages are s.items.
// false ends the session.
func (s *Session) serve(req []byte) bool {
	if st := s.items[0].st; len(s.items) == 1 && s.items[0].typ == wire.MsgQuery && s.alone(st) {
		if done, ok := s.serveAlone(req, st); done {
			return ok
		}
	}
	return s.turn(req)
}

// turn sends requests to a server and relays the answers: the hot path.
func (s *Session) turn(req []byte) bool {
	began := s.env.now()
	s.turnTime = began
	pin, refusal := s.inspect(req)
	if refusal != nil {
		return s.refuseAll(refusal)
	}
	c, replay, err := s.lease()
	if err != nil {
		return s.refuseAll(asError(err))
	}
	if pin == "" && !s.raw {
		pin = s.pin
	}
	if pin != "" {
		s.turnTime = 0
		if err := s.pinTo(c, pin, &replay); err != nil {
			return s.pinFailed(c, err)
		}
	}
	if err := s.prepareSQL(c, req, &replay); err != nil {
		return s.notPrepared(c, err)
	}
	if s.advances {
		c.SeqWriter, c.Sequences, s.seqOn, s.advances = s.id, true, c.ID(), false
	}
	if s.notifies {
		s.db.notifier(c.PID(), s.key.PID)
		s.notifies = false
	}
	if s.raw && s.rawListens && s.hasBind() {
		s.txn.listening = true
	}
	if s.turnTime == 0 {
		s.turnTime = s.env.now()
	}
	s.enterAt(StateActive, s.turnTime)
	t := translator{s: s, c: c, req: req}
	out, owed := t.requests(replay)
	s.relay.begin(c, replay != nil, owed)
	s.relay.watch = s.watching()
	err = s.exchange(c, out)
	t.free()
	ok := s.settle(c, err)
	s.account(began, owed)
	return ok
}

// pinFailed answers requests whose connection could not be kept as it must be.
func (s *Session) pinFailed(c *backend.Conn, err error) bool {
	var refusal *wire.Error
	if !errors.As(err, &refusal) || s.tx != wire.TxIdle {
		s.relay.begin(c, false, s.ends())
		return s.lost(c, err)
	}
	s.txn.clear()
	s.release(c)
	return s.refuseAll(refusal)
}

// exchange runs the relay over c, riding out wake-ups that are not for us.
func (s *Session) exchange(c *backend.Conn, out []byte) error {
	for {
		err := c.Loop(out, &s.relay)
		if err == nil || !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		c.Unkick()
		s.mu.Lock()
		killed := s.killed != nil
		s.mu.Unlock()
		if killed {
			return err
		}
		if c.Sent() {
			out = nil
		}
	}
}

// settle brings the session to rest after a turn, releases the connection where
// the transaction is over, and only then sends the last of the answer.
func (s *Session) settle(c *backend.Conn, err error) bool {
	r := &s.relay
	if r.copyIn && err == nil && r.err == nil {
		return s.duplexForCopy(c) // what came behind the CopyInResponse is still in the relay
	}
	defer r.free()
	switch {
	case r.clientGone:
		s.leaving = true
		s.abandon(c)
		return false
	case err != nil || r.err != nil:
		return s.lost(c, errors.Join(err, r.err))
	case r.own != nil:
		c.Spoil("settings replay failed")
		return s.fatal(&wire.Error{Code: wire.CodeConnectionFailure, Message: "session settings could not be restored on another server connection",
			Detail: r.own.Message})
	}
	s.tx = r.tx
	if r.fatal {
		c.Spoil("the server ended the session")
		s.send(r.Tail())
		s.leaving = true
		return false
	}
	if err := s.restoreStartup(c); err != nil {
		return s.unfinished(c, err)
	}
	if s.tx == wire.TxIdle {
		if err := s.finish(c); err != nil {
			return s.unfinished(c, err)
		}
	}
	s.rest()
	return s.send(r.Tail())
}

// finish runs when the server is outside a transaction: what its statements may
// have done to the session is read back, and the connection goes home.
func (s *Session) finish(c *backend.Conn) error {
	s.db.Stats.Transactions.Add(1)
	r := &s.relay
	if r.discarded {
		if err := s.discarded(c); err != nil {
			return err
		}
	}
	notified := s.txn.notified
	if !s.txn.empty() {
		if err := s.readBack(c); err != nil {
			return err
		}
	}
	if !s.raw && s.pin == "" {
		s.release(c)
	}
	if notified && len(s.listens) > 0 {
		s.ownNotifications()
	}
	return nil
}

// ownNotifications delivers what the session has just notified itself of, where
// PostgreSQL does: before ReadyForQuery.
func (s *Session) ownNotifications() {
	ctx, stop := context.WithTimeout(context.Background(), readBackTimeout)
	defer stop()
	if err := s.db.Listener.Barrier(ctx); err != nil {
		return // the listener ends the session, or delivers later
	}
	s.beforeReady(s.deliver)
}

// beforeReady sends the answer but for its ReadyForQuery, and then what send sends.
func (s *Session) beforeReady(send func()) {
	r := &s.relay
	if rest := len(r.Tail()) - readyBytes; rest > 0 {
		s.send(r.Tail()[:rest])
		r.in.Skip(rest)
		r.out -= rest
	}
	send()
}

// unfinished tells the client that its transaction has ended but what it left
// behind could not be followed. The error comes in the answer's last place,
// before its ReadyForQuery, as that of a commit does. Only where the session is
// known not to have changed does it go on.
func (s *Session) unfinished(c *backend.Conn, err error) bool {
	kept := s.raw || s.pin != ""
	c.Spoil("after a transaction: " + err.Error())
	s.release(c)
	s.logLost(err)
	if e := s.checkKilled(); e != nil {
		return false
	}
	if tail := s.relay.Tail(); len(tail) > readyBytes && !s.relay.hold && !s.send(tail[:len(tail)-readyBytes]) {
		return false
	}
	e := asError(err)
	if kept || !errors.Is(err, errListen) {
		return s.fatal(e)
	}
	plain := *e
	plain.Severity = ""
	s.rest()
	return s.send(wire.AppendReady(plain.Append(nil), wire.TxIdle))
}

// account counts a turn and logs it if it was slow.
func (s *Session) account(began int64, queries int) {
	took := s.since.Load() - began // the session came to rest just now
	s.db.Stats.Queries.Add(uint64(queries))
	s.db.Stats.QueryTime.Add(uint64(took))
	s.queries.Add(uint64(queries))
	if slow := s.env.SlowQuery.Load(); slow > 0 && took >= slow {
		s.logSlow(took)
	}
}

// refuseAll answers every request in s.items with e, without a server. It is an
// ERROR even where a server that ended its own connection said FATAL: the
// session goes on.
func (s *Session) refuseAll(e *wire.Error) bool {
	if s.checkKilled() != nil {
		return false
	}
	if s.tx != wire.TxIdle {
		return s.fatal(e)
	}
	s.txn.clear()
	plain := *e
	plain.Severity, e = "", &plain
	var out []byte
	answered := false
	for _, it := range s.items {
		if !answered {
			out, answered = e.Append(out), true
		}
		if it.end {
			out, answered = wire.AppendReady(out, wire.TxIdle), false
		}
	}
	return s.send(out)
}

// stop has the server end what it does for a session that was killed: closing
// the connection alone would let the statement run on, and commit.
func (s *Session) stop(c *backend.Conn) {
	ctx, done := context.WithTimeout(context.Background(), killWriteTimeout)
	defer done()
	c.BeginCancel()
	if err := c.Cancel(ctx); err != nil {
		s.log.Warn("cancel for a session that was ended failed", zap.Error(err))
	}
}

// lost ends what was running when the server connection failed. Outside a
// transaction the session goes on: its state does not live on the connection.
func (s *Session) lost(c *backend.Conn, err error) bool {
	r := &s.relay
	clean := r.remain == 0 && !r.clientGone
	tail, owed := append([]byte(nil), r.Tail()...), r.owed
	c.Spoil("lost")
	wasIdle := s.tx == wire.TxIdle && s.pin == "" && !s.raw
	r.takeBack()
	s.txn.clear()
	s.mu.Lock()
	s.server = nil
	killed := s.killed
	s.mu.Unlock()
	if killed != nil && !r.fatal {
		s.stop(c)
	}
	s.pool.Discard(c, "lost: "+err.Error())
	if killed != nil {
		if r.remain > 0 { // the client would read it as the rest of a message
			s.leaving, r.err = true, killed
			return false
		}
		return s.fatal(killed)
	}
	e := &wire.Error{Code: wire.CodeConnectionFailure, Message: "server connection lost while it ran a statement",
		Hint: "The statement may or may not have taken effect."}
	if errors.Is(err, errGarbage) {
		e.Message = "server sent an invalid message"
	}
	s.logLost(err)
	if r.remain > 0 {
		// The client waits for the rest of a message: whatever came now would be read as that.
		s.leaving, r.err = true, e
		return false
	}
	if r.fatal {
		// The server's own farewell is what the client hears: a session ends only once.
		if clean && len(tail) > 0 {
			s.send(tail)
		}
		s.leaving, r.err = true, e
		return false
	}
	if !clean || !wasIdle || r.unended || r.tx == wire.TxActive || r.tx == wire.TxFailed {
		if clean {
			s.send(tail)
		}
		return s.fatal(e)
	}
	tail = e.Append(tail)
	for range max(owed, 1) {
		tail = wire.AppendReady(tail, wire.TxIdle)
	}
	s.rest()
	return s.send(tail)
}
