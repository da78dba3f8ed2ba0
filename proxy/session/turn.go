package session

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"go.uber.org/zap"

	"pgtier/parser"
	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
)

// serve answers the complete requests in req, whose messages are s.items.
// false ends the session.
func (s *Session) serve(req []byte) bool {
	if s.piped.entry != nil && !s.collect() {
		return false
	}
	s.keep.looked = false
	cluster := s.db.Cluster.Load()
	if s.planned != nil {
		s.planned, s.changing, s.staying = nil, false, nil
	}
	if cluster != nil || s.at != s.db || s.wide != nil {
		if done, ok := s.serveSharded(cluster, req); done {
			return ok
		}
	}
	if done, ok := s.hold(req); done {
		return ok
	}
	if st := s.items[0].st; len(s.items) == 1 && s.items[0].typ == wire.MsgQuery && !st.Plain && s.alone(st) {
		if done, ok := s.serveAlone(req, st); done {
			return ok
		}
	}
	ok := s.turn(req)
	if s.dx == nil {
		s.dropFill()
	}
	return ok
}

// turn sends requests to a server and relays the answers: the hot path.
func (s *Session) turn(req []byte) bool {
	began := s.env.now()
	s.turnTime = began
	pin, refusal := s.inspect(req)
	if refusal == nil && pin != "" {
		refusal = s.unkept(pin)
	}
	if refusal == nil && pin == "" && s.effects&parser.BeginsTransaction != 0 && s.opening == nil {
		if done, ok := s.holdMessages(req); done {
			return ok
		}
	}
	s.keep.looked = s.keep.looked && s.piped.only // before it was lost in a pipeline
	if refusal == nil && pin == "" && s.effects == 0 && s.at.Keeper.Load() != nil {
		if done, ok := s.fromCache(req); done {
			return ok
		}
	}
	if refusal == nil && s.aims() {
		refusal = s.aimTurn(pin)
	}
	if refusal == nil && !s.plain {
		refusal = s.learnToken()
	}
	if refusal != nil {
		return s.refuseHere(refusal)
	}
	if !s.plain || pin != "" {
		if early, sure := s.resetsEarly(pin); early && (s.server == nil || !s.server.Own) {
			if refusal := s.unkept(pinOwn); refusal != nil {
				return s.refuseHere(refusal)
			}
			switch err := s.ownConnection(); {
			case err == nil && pin == "":
				pin = pinOwn
			case err != nil && sure:
				return s.refuseHere(asError(err))
			}
		}
	}
	if pin == "" && !s.raw {
		pin = s.pin
	}
	if pin == "" && s.effects == 0 && s.server == nil && !s.moved() && s.pipe(req) { // it may have waited since it was planned, for an answer or the catalog
		return true
	}
	for tries := 1; ; tries++ {
		ok, again := s.try(req, pin, began, tries)
		if again && s.planned != nil && s.planned.outdated() { // rows may be elsewhere by now
			done, served := s.planAgain(req, pin)
			ok, again = served, !done
		}
		if !again {
			s.fencing.end()
			return ok
		}
		if refusal := s.pause(tries); refusal != nil {
			s.fencing.end()
			return s.refuseAll(refusal)
		}
	}
}

// try sends the requests once. again: their server failed, and they may be sent to another.
func (s *Session) try(req []byte, pin string, began int64, tries int) (ok, again bool) {
	c, replay, ok, again := s.connect(req, pin, tries)
	if c == nil {
		return ok, again
	}
	if s.at.Fleet.Load() != nil {
		s.routed()
	}
	if s.advances || s.notifies || s.raw {
		s.follows(c)
	}
	if s.turnTime == 0 {
		s.turnTime = s.env.now()
	}
	sent := s.turnTime
	s.enterAt(StateActive, sent)
	t := translator{s: s, c: c, req: req, plain: s.plain && pin == ""}
	out, owed := t.requests(replay)
	s.relay.begin(c, owed)
	s.relay.ahead, s.relay.adopts = t.ahead, replay != nil
	if s.opening != nil {
		s.opened, s.opening, s.begun = s.opening, nil, true
	}
	s.relay.watch, s.relay.counts = (!t.plain || s.watchesPlain()) && s.watching(), t.counts
	s.relay.quiet = s.relay.watch && !c.Own && s.mending()
	s.changes(req)
	s.savesAnswer()
	err := s.exchange(c, out)
	t.free()
	if s.replica != "" {
		s.observe(sent)
	}
	if s.relay.unready && err == nil && s.relay.err == nil {
		return s.unready(c), false
	}
	if s.relay.fenced && err == nil && s.relay.err == nil {
		if refusal := s.fenced(c); refusal != nil {
			return s.refuseAll(refusal), false
		}
		return false, true
	}
	if s.repeats(c, err, sent, tries) {
		return false, true
	}
	if s.lift != nil {
		s.lift.ran(s, req, err)
	}
	ok = s.settle(c, err)
	s.begun, s.opened = false, nil
	s.unread = ok && s.replica != "" && s.onlyBegan()
	s.account(began, owed)
	if ok && owed == 1 && s.server == nil && s.effects == 0 && s.db.Config().Pipeline.Enabled {
		s.learn(req, time.Duration(s.since.Load()-sent))
	}
	return ok, false
}

// connect borrows the connection for the requests, or takes the one that the session has, and makes it ready for them but for a
// replay, which they take along. c is nil where they are not to be sent: they are answered, or to be tried again.
func (s *Session) connect(req []byte, pin string, tries int) (c *backend.Conn, replay []byte, ok, again bool) {
	kept := s.server != nil
	c, replay, err := s.lease()
	if err != nil {
		if e := asError(err); away(e) {
			if done, ok := s.giveStale(req); done {
				return nil, nil, ok, false
			}
		}
		return nil, nil, s.refuseAll(asError(err)), false
	}
	if !kept && s.moved() { // while it waited
		if err := s.replayNow(c, &replay); err != nil {
			s.dropServer()
			return nil, nil, s.refuseAll(asError(err)), false
		}
		s.release(c)
		return nil, nil, false, true
	}
	s.tells = false
	if !s.plain || pin != "" {
		if ok, again, done := s.readyFor(c, req, pin, &replay, tries); done {
			return nil, nil, ok, again
		}
	}
	if s.changing || len(s.staying) > 0 {
		if ok, again, done := s.asksFirst(c, &replay, tries); done {
			return nil, nil, ok, again
		}
	}
	if len(c.Holds) > 0 && s.preparesTransaction() {
		if err := s.keepsLocks(c); err != nil {
			ok, again = s.notPrepared(c, err, tries)
			return nil, nil, ok, again
		}
	}
	if (replay != nil || s.opening != nil) && s.ends() != 1 { // what comes behind a Sync would run
		err := s.replayNow(c, &replay)
		if err == nil {
			err = s.beginHeld(c, &replay)
		}
		if err != nil {
			ok, again = s.notReady(err, tries)
			return nil, nil, ok, again
		}
	}
	return c, replay, true, false
}

// readyFor makes on c what the requests need there, in round trips of its own. done tells that the client has been
// answered, or that the turn is to be tried again.
func (s *Session) readyFor(c *backend.Conn, req []byte, pin string, replay *[]byte, tries int) (ok, again, done bool) {
	if pin != "" {
		s.turnTime = 0
		if err := s.pinTo(c, pin, replay); err != nil {
			return s.pinFailed(c, err), false, true
		}
		if s.raw {
			s.followRaw(req)
		}
	}
	err := s.learnReading(c)
	if err == nil {
		err = s.tellOwn(c, replay)
	}
	switch {
	case err != nil && s.unused():
		ok, again = s.notReady(err, tries)
		return ok, again, true
	case err != nil:
		s.relay.begin(c, s.ends())
		return s.lost(c, err), false, true
	}
	if err := s.prepareBefore(c, req, replay); err != nil {
		ok, again = s.notPrepared(c, err, tries)
		return ok, again, true
	}
	return true, false, false
}

// follows notes on c what the requests may leave there.
func (s *Session) follows(c *backend.Conn) {
	if s.advances {
		s.advanced(c)
	}
	if s.notifies {
		s.at.notifier(c.PID(), s.key.PID)
	}
	if s.raw && s.rawListens && s.hasBind() {
		s.txn.listening = true
	}
}

// pinFailed answers requests whose connection could not be kept as it must be.
func (s *Session) pinFailed(c *backend.Conn, err error) bool {
	var refusal *wire.Error
	if !errors.As(err, &refusal) || s.tx != wire.TxIdle {
		s.relay.begin(c, s.ends())
		return s.lost(c, err)
	}
	if s.pinned() != "" { // it may have some of the session's names, or listen
		c.Spoil("could not be made a session's own")
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
		if s.isKilled() {
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
	if s.begun && err == nil && r.err == nil && (r.copyIn || r.toSync) {
		s.tx = wire.TxActive // the rest of the turn is one within the transaction
	}
	if r.copyIn && err == nil && r.err == nil {
		return s.duplexForCopy(c) // what came behind the CopyInResponse is still in the relay
	}
	if r.toSync && err == nil && r.err == nil && !r.clientGone {
		return s.duplexToSync(c)
	}
	defer r.free()
	switch {
	case r.clientGone:
		s.leaving = true
		s.abandon(c)
		return false
	case err != nil || r.err != nil:
		return s.lost(c, errors.Join(err, r.err))
	}
	rolledBack := s.keep.write.Any() && s.rollsBack()
	s.tx = r.tx
	if r.errors > 0 {
		s.story.unsure()
	}
	s.rawNames.unnamedStands(r.errors > 0)
	s.rawNames.doubts.ran(s.db.Hazards)
	if r.fatal {
		c.Spoil("the server ended the session")
		s.send(r.Tail())
		s.leaving = true
		return false
	}
	if err := s.restoreStartup(c); err != nil {
		return s.unfinished(c, err)
	}
	switch alone := s.tx == wire.TxIdle && !s.raw && s.resetAlone(); {
	case r.quiet && alone, r.discarded && !c.Own:
		s.tellReset(c, s.beforeReady)
	case r.quiet || r.reset || r.adopts && !s.toldParams(c): // a changed value is reported behind the answer's complete frames
		s.beforeReady(func() { s.tellParams(c, s.send) })
	}
	if err := s.freesLocks(c); err != nil {
		return s.unfinished(c, err)
	}
	if s.tx == wire.TxIdle {
		if err := s.finish(c); err != nil {
			return s.unfinished(c, err)
		}
	}
	s.ended(!s.failedWhole(), rolledBack)
	s.keepAnswer(r.Tail())
	s.rest()
	return s.send(r.Tail())
}

// finish runs when the server is outside a transaction: what its statements may
// have done to the session is read back, and the connection goes home.
func (s *Session) finish(c *backend.Conn) error {
	s.db.Stats.Transactions.Add(1)
	r := &s.relay
	notified, wrote := s.txn.notified, s.txn.wrote
	s.txn.wrote = written{} // what follows is another transaction's
	s.seeing(&wrote)        // first: it is committed, whatever comes of the rest
	if r.discarded {
		if err := s.discarded(c); err != nil {
			return err
		}
	}
	if !s.txn.empty() {
		if err := s.readBack(c); err != nil {
			return err
		}
	}
	s.txn.reads = reading{}
	if s.lift != nil {
		s.lifts()
	} else if !s.raw && s.pin == "" {
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
		if s.keep.saves {
			s.saveAnswer(r.Tail()[:rest])
		}
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
	e := asError(err)
	if s.fate() == codeFateUnknown && !(errors.Is(err, errListen) && s.onlyListens()) { // the answer was that it is committed
		e = fateUnknown()
	}
	c.Spoil("after a transaction: " + err.Error())
	s.release(c)
	s.ended(true, false)
	s.logLost(err)
	if s.checkKilled() != nil {
		return false
	}
	if tail := s.relay.Tail(); len(tail) > readyBytes && !s.relay.hold && !s.send(tail[:len(tail)-readyBytes]) {
		return false
	}
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
	if s.opening != nil && s.ends() > 1 && s.endsTransaction() {
		return s.fatal(e) // what comes behind the transaction's end is not to be refused with it
	}
	s.txn.clear()
	s.changed(true)       // what was sent before, and could not be sent again
	if s.opening != nil { // the transaction fails without a server having seen it
		s.opening, s.openingFailed = nil, true
	}
	s.rest()
	plain := *e
	plain.Severity, e = "", &plain
	var out []byte
	answered, skipping := false, false
	for _, it := range s.items {
		if !answered {
			out, answered = e.Append(out), true
		}
		skipping = it.typ != wire.MsgSync && (skipping || !it.end) // to Sync, as a server on which the first message failed
		if !skipping {
			out, answered = wire.AppendReady(out, s.told()), false
		}
	}
	if skipping {
		return s.fatal(e) // whose Sync is not there
	}
	return s.send(out)
}

// endsTransaction reports whether one of the statements under way ends a transaction.
func (s *Session) endsTransaction() bool {
	return slices.ContainsFunc(s.items, func(it item) bool {
		st := it.facts()
		return st != nil && st.Effects&parser.EndsTransaction != 0
	})
}

// stop has the server end what it does for a session that was killed: closing
// the connection alone would let the statement run on, and commit.
func (s *Session) stop(c *backend.Conn) {
	ctx, done := context.WithTimeout(context.Background(), killWriteTimeout)
	defer done()
	c.BeginCancel()
	if err := c.Cancel(ctx); err != nil {
		s.logger().Warn("cancel for a session that was ended failed", zap.Error(err))
	}
}

const lostMessage = "server connection lost while it ran a statement"

// fateUnknown tells of a statement that may have been committed.
func fateUnknown() *wire.Error {
	return &wire.Error{Code: codeFateUnknown, Message: lostMessage, Hint: "The statement may or may not have taken effect."}
}

// changesMore reports whether the turn may have changed the session, and more than that: a client that finds the rest done would believe in this too.
func (s *Session) changesMore() bool {
	if !s.txn.ofSession() || s.relay.unsure {
		return s.txn.ofSession()
	}
	ran := 0
	for i := range s.items {
		st := s.items[i].facts()
		if st == nil {
			continue
		}
		if ran++; ran > 1 || len(st.Commands) != 1 {
			return true
		}
		switch st.Commands[0].Kind {
		case parser.Set, parser.Reset, parser.ResetAll, parser.Listen, parser.Unlisten, parser.UnlistenAll:
		default:
			return true
		}
	}
	return false
}

// onlyListens reports whether all that the turn does is to listen, or to stop that.
func (s *Session) onlyListens() bool {
	for i := range s.items {
		st := s.items[i].facts()
		if st == nil {
			continue
		}
		for j := range st.Commands {
			switch st.Commands[j].Kind {
			case parser.Listen, parser.Unlisten, parser.UnlistenAll:
			default:
				return false
			}
		}
	}
	return !s.relay.unsure
}

// drops forgets what was noted of statements whose end nobody has heard: they may have changed the catalog.
func (s *Session) drops() {
	if s.txn.ddl || s.keep.defines {
		s.db.Statements.Expire()
		s.db.OnDDL()
	}
	s.txn.clear()
}

// lost ends what was running when the server connection failed. Outside a
// transaction the session goes on: its state does not live on the connection.
func (s *Session) lost(c *backend.Conn, err error) bool {
	r := &s.relay
	clean := r.remain == 0 && !r.clientGone
	tail, owed := slices.Concat(r.Tail(), r.parted(), r.goodbye), r.owed
	c.Spoil("lost")
	wasIdle := s.tx == wire.TxIdle && s.pin == "" && !s.raw && !s.begun && s.opening == nil // else the client believes itself in a transaction
	code := s.fate()
	s.begun = false
	r.takeBack()
	s.seeing(&s.txn.wrote)
	wasIdle = wasIdle && (code != codeFateUnknown || !s.changesMore())
	s.drops()
	s.doubts(c)
	s.mu.Lock()
	s.server, s.left = nil, false
	killed := s.killed
	s.mu.Unlock()
	if killed != nil && !r.fatal {
		s.stop(c)
	}
	if killed != nil && killed.Code == wire.CodeConnectionFailure && code == codeFateUnknown {
		killed = fateUnknown() // nobody knows whether it was committed
	}
	if f := s.at.Fleet.Load(); f != nil {
		f.Lost(s.pool.Key().Server, err)
	}
	if s.replica != "" {
		s.fleet.End(s.replica)
	}
	s.pool.Discard(c, "lost: "+err.Error())
	s.replica = ""
	if killed != nil {
		if r.remain > 0 { // the client would read it as the rest of a message
			s.leaving, r.err = true, killed
			return false
		}
		return s.fatal(killed)
	}
	e := &wire.Error{Code: code, Message: lostMessage}
	if code == codeFateUnknown {
		e = fateUnknown()
	}
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
	if !clean || !wasIdle || r.unended || s.mixed() || r.tx == wire.TxActive || r.tx == wire.TxFailed {
		if clean {
			s.send(tail)
		}
		return s.fatal(e)
	}
	for range max(owed, 1) { // each request that has no answer is told
		tail = wire.AppendReady(e.Append(tail), wire.TxIdle)
	}
	s.rest()
	return s.send(tail)
}
