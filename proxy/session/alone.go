package session

import (
	"errors"

	"pgtier/parser"
	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
	"pgtier/router"
)

// serveAlone serves a simple query with PREPARE, EXECUTE or DEALLOCATE under
// shared names. done is false when the query should go the usual way.
func (s *Session) serveAlone(req []byte, st *parser.Statement) (done, ok bool) {
	if st.Effects&(parser.SQLPrepare|parser.SQLExecute|parser.SQLDeallocate) == 0 {
		return false, true
	}
	if len(st.Commands) != 1 || st.Pin != "" || s.tx == wire.TxFailed {
		return false, true
	}
	if e := refused(router.CheckOwn(st)); e != nil {
		return true, s.refuseHere(e)
	}
	s.unread = false
	s.txn.reads.begin()
	cmd := &st.Commands[0]
	s.other(router.NotProved, cmd.Kind.String())
	if s.opening != nil && (cmd.Kind == parser.Prepare || cmd.Kind == parser.Execute) {
		c, replay, err := s.leaseLive()
		if err == nil {
			err = s.beginHeld(c, &replay)
		}
		if err != nil {
			if s.server != nil {
				s.dropServer() // it has not begun
			}
			return true, s.refuseAll(asError(err))
		}
	}
	switch cmd.Kind {
	case parser.Prepare:
		return s.sqlPrepare(req, st, cmd)
	case parser.Execute:
		return s.sqlExecute(req, st, cmd)
	case parser.Deallocate:
		return s.sqlDeallocate(req, cmd)
	case parser.DeallocateAll:
		s.forgetNames()
		return true, s.answer("DEALLOCATE ALL")
	}
	return false, true
}

// answer completes a simple query without a server.
func (s *Session) answer(tag string) bool {
	s.setUnnamed(nil)
	s.rest()
	return s.send(wire.AppendReady(wire.AppendCommandComplete(nil, tag), s.told()))
}

// sqlPrepare prepares under the shared name. Whatever is unusual about it pins,
// and then the server judges the client's own text.
func (s *Session) sqlPrepare(req []byte, st *parser.Statement, cmd *parser.Command) (done, ok bool) {
	if s.names[cmd.Name] != nil {
		return true, s.pinnedTurn(req, "PREPARE of a name in use")
	}
	if readsClock(req) {
		return true, s.pinnedTurn(req, "prepared statement with a literal like 'now'")
	}
	if s.server != nil {
		if err := s.learnReading(s.server); err != nil {
			s.relay.begin(s.server, 1)
			return true, s.lost(s.server, err)
		}
	}
	text, _ := queryText(req)
	shared := s.db.Statements.Acquire(backend.StatementKey{Text: text, Under: s.readingOf(st), SQL: true}, st)
	if s.server != nil && s.server.HasPrepared(shared) {
		s.setName(cmd.Name, shared)
		return true, s.answer("PREPARE")
	}
	c, replay, err := s.leaseLive()
	if err != nil {
		s.forget(shared)
		return true, s.refuseAll(asError(err))
	}
	s.tells = false
	s.routed()
	if c.HasPrepared(shared) {
		if err := s.replayNow(c, &replay); err != nil {
			s.forget(shared)
			s.dropServer()
			return true, s.refuseAll(asError(err))
		}
		s.setName(cmd.Name, shared)
		ok := s.answer("PREPARE")
		if s.tx == wire.TxIdle {
			s.release(c)
		}
		return true, ok
	}
	s.enter(StateActive)
	c.SetUnnamed(nil)
	s.setUnnamed(nil)
	if err := s.replayNow(c, &replay); err != nil {
		s.forget(shared)
		s.dropServer()
		return true, s.refuseAll(asError(err))
	}
	if err := s.makeRoom(c, shared, &replay); err != nil {
		s.forget(shared)
		return true, s.lost(c, err)
	}
	s.setName(cmd.Name, shared)
	s.relay.begin(c, 1)
	s.relay.rename = renamed(text, cmd.NameStart, cmd.NameEnd, shared.Name)
	s.relay.expect.add(expectation{kind: expectParse, st: shared, name: cmd.Name})
	s.relay.expect.add(expectation{kind: expectQueryEnd})
	s.relay.watchPrepare = true
	began := s.since.Load()
	err = s.exchange(c, backend.AppendSQLPrepare(nil, shared, shared.Name))
	s.relay.watchPrepare = false
	ok = s.settle(c, err)
	s.account(began, 1)
	return true, ok
}

// sqlExecute runs EXECUTE under the shared name.
func (s *Session) sqlExecute(req []byte, text *parser.Statement, cmd *parser.Command) (done, ok bool) {
	st := s.names[cmd.Name]
	if st == nil {
		return s.notPreparedHere(req, cmd.Name)
	}
	st = s.own([]byte(cmd.Name), st)
	inner := st.Runs
	reading := s.db.Hazards.Reading(inner)
	s.harmless = nil // of a turn before
	why := s.note(inner)
	if why == "" && len(cmd.Calls)+len(cmd.Functions) > 0 { // in what is passed
		why = s.note(text)
	}
	if why != "" {
		return true, s.pinnedTurn(req, why)
	}
	if e := s.aimExecute(text, st, reading); e != nil {
		return true, s.refuseHere(e)
	}
	for tries := 1; ; tries++ {
		ok, again := s.tryExecute(req, cmd, st, tries)
		if !again {
			return true, ok
		}
		if refusal := s.pause(tries); refusal != nil {
			return true, s.refuseAll(refusal)
		}
	}
}

// tryExecute sends EXECUTE of st once. again: its server failed, and it may be sent to another.
func (s *Session) tryExecute(req []byte, cmd *parser.Command, st *backend.Statement, tries int) (ok, again bool) {
	c, replay, err := s.leaseLive()
	if err != nil {
		return s.refuseAll(asError(err)), false
	}
	s.tells = false
	s.routed()
	if err := s.replayNow(c, &replay); err != nil {
		return s.notReady(err, tries)
	}
	if !c.HasPrepared(st) {
		if err := s.prepareNow(c, st, false, &replay); err != nil {
			return s.notPrepared(c, err, tries)
		}
	}
	sent := s.enter(StateActive)
	s.setUnnamed(nil)
	c.SetUnnamed(nil)
	out, at := wire.Begin(nil, wire.MsgQuery)
	query, _ := queryText(req)
	out = append(append(append(out, query[:cmd.NameStart]...), st.Name...), query[cmd.NameEnd:]...)
	out = wire.End(append(out, 0), at)
	s.follows(c)
	s.relay.begin(c, 1)
	s.relay.rename = renamed(query, cmd.NameStart, cmd.NameEnd, st.Name)
	s.effects, s.restores = s.items[0].st.Effects, s.items[0].st.Restores()
	s.relay.watch = s.watching()
	s.relay.expect.add(expectation{kind: expectQueryEnd})
	s.changesExecuted(cmd, st.Runs)
	err = s.exchange(c, out)
	if s.repeats(c, err, sent, tries) {
		return false, true
	}
	ok = s.settle(c, err)
	s.account(sent, 1)
	return ok, false
}

// notPrepared answers a request whose statement could not be made to exist on c:
// where the server refused it, as it would have refused to run it.
func (s *Session) notPrepared(c *backend.Conn, err error, tries int) (ok, again bool) {
	if s.unused() && (gone(err) || c.Spoiled() != "") {
		return s.notReady(err, tries)
	}
	var refusal *wire.Error
	if !errors.As(err, &refusal) || c.Spoiled() != "" || s.tx != wire.TxIdle && s.ends() > 1 {
		s.relay.begin(c, s.ends())
		return s.lost(c, err), false
	}
	if s.tx == wire.TxIdle {
		s.txn.clear()
		s.release(c)
		return s.refuseAll(refusal), false
	}
	return s.failsWith(c, refusal), false
}

// unused reports whether nothing of the client's has been sent on the session's connection: it is outside a transaction, and
// the connection not its own.
func (s *Session) unused() bool { return s.tx == wire.TxIdle && !s.raw && s.pin == "" }

// ends is the number of ReadyForQuery that the requests under way bring.
func (s *Session) ends() (n int) {
	for i := range s.items {
		if s.items[i].end {
			n++
		}
	}
	return n
}

// mixed reports whether a Query or FunctionCall follows other messages without a Sync between. Whether a server answers
// it depends on those.
func (s *Session) mixed() bool {
	for i := 1; i < len(s.items); i++ {
		if s.items[i].end && s.items[i].typ != wire.MsgSync && !s.items[i-1].end {
			return true
		}
	}
	return false
}

// makeRoom notes st as prepared on c and closes what has to go for it, in a round
// trip of its own. A pending replay goes before it, to be in the transaction first.
func (s *Session) makeRoom(c *backend.Conn, st *backend.Statement, replay *[]byte) error {
	evicted := c.AddPrepared(st)
	if evicted == nil {
		return nil
	}
	if err := s.replayNow(c, replay); err != nil {
		return err
	}
	return c.Exec(wire.AppendSync(wire.AppendCloseStatement(nil, evicted.Name)), adoptTimeout, nil)
}

// replayNow sends a pending settings replay in a round trip of its own.
func (s *Session) replayNow(c *backend.Conn, replay *[]byte) error {
	if *replay == nil {
		return nil
	}
	s.turnTime = 0
	if err := c.Exec(*replay, adoptTimeout, nil); err != nil {
		c.Spoil("settings replay failed") // it is noted as done
		return err
	}
	*replay = nil
	s.tellParams(c, s.send)
	return nil
}

// sqlDeallocate forgets a name; the shared statement stays on the servers.
func (s *Session) sqlDeallocate(req []byte, cmd *parser.Command) (done, ok bool) {
	st := s.names[cmd.Name]
	if st == nil {
		return s.notPreparedHere(req, cmd.Name)
	}
	s.setName(cmd.Name, nil)
	s.forget(st)
	return true, s.answer("DEALLOCATE")
}

// notPreparedHere has the server say that a name does not exist: one that has nothing of other sessions, if the name is like theirs.
func (s *Session) notPreparedHere(req []byte, name string) (done, ok bool) {
	if isShared(name) {
		return true, s.pinnedTurn(req, "a prepared statement with a name of the proxy's own")
	}
	return false, true
}

// pinnedTurn keeps the connection for good and runs the request there untouched.
func (s *Session) pinnedTurn(req []byte, why string) bool {
	if e := s.unkept(why); e != nil {
		return s.refuseHere(e)
	}
	c, replay, err := s.leaseLive()
	if err != nil {
		return s.refuseAll(asError(err))
	}
	if err := s.pinTo(c, why, &replay); err != nil {
		return s.pinFailed(c, err)
	}
	return s.turn(req)
}
