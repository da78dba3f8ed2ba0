package session

import (
	"errors"

	"pgtier/parser"
	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
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
	cmd := &st.Commands[0]
	switch cmd.Kind {
	case parser.Prepare:
		return s.sqlPrepare(req, st, cmd)
	case parser.Execute:
		return s.sqlExecute(req, cmd)
	case parser.Deallocate:
		return s.sqlDeallocate(cmd)
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
	return s.send(wire.AppendReady(wire.AppendCommandComplete(nil, tag), s.tx))
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
	text, _ := queryText(req)
	shared := s.db.Statements.Acquire(backend.StatementKey{Text: text, Under: s.settings.Reading(), SQL: true}, st)
	if s.server != nil && s.server.HasPrepared(shared) {
		s.setName(cmd.Name, shared)
		return true, s.answer("PREPARE")
	}
	c, replay, err := s.lease()
	if err != nil {
		s.forget(shared)
		return true, s.refuseAll(asError(err))
	}
	if c.HasPrepared(shared) {
		if err := s.replayNow(c, &replay); err != nil {
			s.forget(shared)
			return true, s.lost(c, err)
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
	if err := s.makeRoom(c, shared, &replay); err != nil {
		s.forget(shared)
		return true, s.lost(c, err)
	}
	s.setName(cmd.Name, shared)
	s.relay.begin(c, replay != nil, 1)
	s.relay.rename = renamed(text, cmd.NameStart, cmd.NameEnd, shared.Name)
	s.relay.expect.add(expectation{kind: expectParse, st: shared, name: cmd.Name})
	s.relay.expect.add(expectation{kind: expectQueryEnd})
	s.relay.watchPrepare = true
	began := s.since.Load()
	err = s.exchange(c, backend.AppendSQLPrepare(replay, shared, shared.Name))
	s.relay.watchPrepare = false
	ok = s.settle(c, err)
	s.account(began, 1)
	return true, ok
}

// sqlExecute runs EXECUTE under the shared name.
func (s *Session) sqlExecute(req []byte, cmd *parser.Command) (done, ok bool) {
	st := s.names[cmd.Name]
	if st == nil {
		return false, true // the server says that it does not exist
	}
	inner := st.Facts
	if st.SQL {
		if p := st.Facts.Commands[0].Prepared; p != nil {
			inner = &parser.Statement{Commands: []parser.Command{*p}, Effects: p.Effects, Pin: p.Pin}
		}
	}
	if why := s.note(inner); why != "" {
		return true, s.pinnedTurn(req, why)
	}
	c, replay, err := s.lease()
	if err != nil {
		return true, s.refuseAll(asError(err))
	}
	if !c.HasPrepared(st) {
		st = s.reread(cmd.Name, st)
	}
	if !c.HasPrepared(st) {
		if err := s.prepareNow(c, st, &replay); err != nil {
			return true, s.notPrepared(c, err)
		}
	}
	s.enter(StateActive)
	s.setUnnamed(nil)
	c.SetUnnamed(nil)
	out, at := wire.Begin(replay, wire.MsgQuery)
	text, _ := queryText(req)
	out = append(append(append(out, text[:cmd.NameStart]...), st.Name...), text[cmd.NameEnd:]...)
	out = wire.End(append(out, 0), at)
	s.relay.begin(c, replay != nil, 1)
	s.relay.rename = renamed(text, cmd.NameStart, cmd.NameEnd, st.Name)
	s.relay.watch = s.watching()
	s.relay.expect.add(expectation{kind: expectQueryEnd})
	began := s.since.Load()
	err = s.exchange(c, out)
	ok = s.settle(c, err)
	s.account(began, 1)
	return true, ok
}

// prepareNow makes st exist on c in a round trip of its own.
func (s *Session) prepareNow(c *backend.Conn, st *backend.Statement, replay *[]byte) error {
	if err := s.replayNow(c, replay); err != nil {
		return err
	}
	if err := s.makeRoom(c, st, replay); err != nil {
		return err
	}
	msgs := backend.AppendSQLPrepare(nil, st, st.Name)
	if !st.SQL {
		msgs = wire.AppendSync(backend.AppendPrepare(nil, st))
	}
	err := c.Exec(msgs, adoptTimeout, nil)
	if err != nil {
		c.DropPrepared(st)
	}
	return err
}

// notPrepared answers a request whose statement could not be made to exist on c:
// where the server refused it, as it would have refused to run it.
func (s *Session) notPrepared(c *backend.Conn, err error) bool {
	var refusal *wire.Error
	if !errors.As(err, &refusal) || c.Spoiled() != "" || s.tx != wire.TxIdle && s.ends() > 1 {
		s.relay.begin(c, false, s.ends())
		return s.lost(c, err)
	}
	if s.tx == wire.TxIdle {
		s.txn.clear()
		s.release(c)
		return s.refuseAll(refusal)
	}
	s.tx = wire.TxFailed
	s.rest()
	return s.send(wire.AppendReady(refusal.Append(nil), s.tx))
}

// ends is the number of ReadyForQuery that the requests under way bring.
func (s *Session) ends() (n int) {
	for i := range s.items {
		if s.items[i].end {
			n++
		}
	}
	return n
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
		return err
	}
	*replay = nil
	s.tellParams(c, s.send)
	return nil
}

// prepareSQL makes the statements exist on c that were made by PREPARE and that
// requests of the extended protocol name: no message can do it among theirs.
func (s *Session) prepareSQL(c *backend.Conn, req []byte, replay *[]byte) error {
	if s.raw || s.tx == wire.TxFailed || len(s.names) == 0 {
		return nil
	}
	for i := range s.items {
		it := &s.items[i]
		var name []byte
		switch frame := req[it.off : it.off+it.size]; it.typ {
		case wire.MsgBind:
			if it.own != nil && it.own.SQL { // as inspect found it
				_, name, _, _ = splitBind(frame)
			}
		case wire.MsgDescribe:
			if kind, target, ok := splitTarget(frame); ok && kind == 'S' {
				name = target
			}
		}
		if len(name) == 0 {
			continue
		}
		st := s.names[string(name)]
		if st == nil || !st.SQL || c.HasPrepared(st) {
			continue
		}
		if st = s.reread(string(name), st); c.HasPrepared(st) {
			continue
		}
		s.turnTime = 0
		if err := s.prepareNow(c, st, replay); err != nil {
			return err
		}
	}
	return nil
}

// sqlDeallocate forgets a name; the shared statement stays on the servers.
func (s *Session) sqlDeallocate(cmd *parser.Command) (done, ok bool) {
	st := s.names[cmd.Name]
	if st == nil {
		return false, true // the server says that it does not exist
	}
	s.setName(cmd.Name, nil)
	s.forget(st)
	return true, s.answer("DEALLOCATE")
}

// pinnedTurn keeps the connection for good and runs the request there untouched.
func (s *Session) pinnedTurn(req []byte, why string) bool {
	c, replay, err := s.lease()
	if err != nil {
		return s.refuseAll(asError(err))
	}
	if err := s.pinTo(c, why, &replay); err != nil {
		return s.pinFailed(c, err)
	}
	return s.turn(req)
}
