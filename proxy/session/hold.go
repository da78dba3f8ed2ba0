package session

import (
	"bytes"
	"errors"
	"slices"

	"pgtier/parser"
	"pgtier/proxy/backend"
	"pgtier/proxy/pool"
	"pgtier/proxy/wire"
	"pgtier/router"
)

// With transaction pooling a BEGIN is held back until the first statement behind it shows where the transaction goes. The client hears of
// it at once; the server gets it in front of that statement, in the same write. So a transaction takes a round trip less than without a
// proxy, and a connection only when it has something to do there.

// hold keeps back a BEGIN by itself, or ends a transaction that no server has seen, and answers. done is false when the query should go the
// usual way.
func (s *Session) hold(req []byte) (done, ok bool) {
	if s.openingFailed {
		return s.inFailed()
	}
	if len(s.items) != 1 || s.items[0].typ != wire.MsgQuery {
		return false, true
	}
	st := s.items[0].st
	if s.opening != nil {
		if s.raw || s.pinned() != "" {
			return false, true
		}
		return s.endHeld(st)
	}
	if !s.begins(st) {
		return false, true
	}
	text, _ := queryText(req)
	tag := beginTag(text)
	if tag == "" {
		return false, true
	}
	s.setUnnamed(nil)
	return true, s.heldBack(st, text, func(dst []byte) []byte { return wire.AppendCommandComplete(dst, tag) })
}

// begins reports whether st is a BEGIN and may be held back.
//
// Where there is one server only, it may be one in recovery, which refuses at BEGIN what asks for more.
func (s *Session) begins(st *parser.Statement) bool {
	if s.at.Fleet.Load() == nil && s.db.Cluster.Load() == nil && len(st.Commands) == 1 && asksManager(&st.Commands[0].Transaction) {
		return false
	}
	return len(st.Commands) == 1 && st.Commands[0].Kind == parser.Begin && s.tx == wire.TxIdle && s.server == nil && !s.raw && len(st.Hints) == 0 && st.HintError == "" &&
		s.db.Config().Mode == pool.ModeTransaction && s.pinned() == ""
}

// heldBack holds the BEGIN that st and text are. answer adds what the client hears before ReadyForQuery.
func (s *Session) heldBack(st *parser.Statement, text []byte, answer func(dst []byte) []byte) bool {
	dst, at := wire.Begin(s.openingBuf[:0], wire.MsgQuery)
	s.opening = wire.End(append(append(dst, text...), 0), at)
	if s.openingBuf = s.opening; cap(s.openingBuf) > keptRequest {
		s.openingBuf = nil
	}
	s.openingAs = st.Commands[0].Transaction
	s.openingReadOnly = s.readOnly(&s.openingAs)
	s.rest()
	s.account(s.since.Load(), 1)
	buf := s.env.Bufs.Get(wire.TinyBuffer)
	defer buf.Free()
	return s.send(wire.AppendReady(answer(buf.B[:0]), wire.TxActive))
}

// holdMessages is hold of messages of the extended protocol that run a BEGIN to its end and do nothing else. They have been inspected, and
// what they do is all noted.
func (s *Session) holdMessages(req []byte) (done, ok bool) {
	var run *parser.Statement
	var text []byte
	var before byte // the type of the message before
	for i := range s.items {
		it := &s.items[i]
		frame := req[it.off : it.off+it.size]
		fits := false
		switch it.typ {
		case wire.MsgParse:
			p, ok := splitParse(frame)
			fits = ok && i == 0 && !it.named && len(p.types) == 0
			run, text = it.st, p.text
		case wire.MsgBind:
			portal, name, rest, ok := splitBind(frame)
			fits = ok && len(portal) == 0 && bindsNothing(frame[rest:]) && (i == 0 || before == wire.MsgParse && len(name) == 0)
			if fits && i == 0 {
				// An unnamed statement of before must outlive the Query that the BEGIN becomes, also where the session is pinned by then.
				if fits = it.own != nil && !it.own.SQL && (s.unnamed == nil || s.unnamed == it.own); fits {
					run, text = it.own.Facts, it.own.Text
				}
			}
		case wire.MsgDescribe:
			kind, name, ok := splitTarget(frame)
			fits = ok && kind == 'P' && len(name) == 0 && before == wire.MsgBind
		case wire.MsgExecute:
			body := frame[wire.HeaderBytes:]
			fits = len(body) == 5 && body[0] == 0 && (before == wire.MsgBind || before == wire.MsgDescribe)
		case wire.MsgSync:
			fits = i == len(s.items)-1 && before == wire.MsgExecute
		}
		if !fits {
			return false, true
		}
		before = it.typ
	}
	if before != wire.MsgSync || !s.begins(run) {
		return false, true
	}
	tag := beginTag(text)
	if tag == "" {
		return false, true
	}
	if s.items[0].typ == wire.MsgParse {
		s.parsedHere(&s.items[0], text)
	}
	s.db.Stats.Binds.Add(1)
	return true, s.heldBack(run, text, func(dst []byte) []byte { return s.appendRun(dst, tag) })
}

// bindsNothing reports whether rest, a Bind behind its names, has no parameters and no more formats for results than a statement
// without any takes.
func bindsNothing(rest []byte) bool {
	switch {
	case len(rest) < 6 || rest[0]|rest[1]|rest[2]|rest[3]|rest[4] != 0:
		return false
	case rest[5] == 0:
		return len(rest) == 6
	}
	return rest[5] == 1 && len(rest) == 8 && rest[6] == 0 && rest[7] <= 1
}

// parsedHere makes what a Parse without a name says the session's unnamed statement, which no server has.
func (s *Session) parsedHere(it *item, text []byte) {
	s.db.Stats.ClientParses.Add(1)
	if it.own != nil && it.own == s.unnamed {
		return
	}
	old := s.unnamed
	if it.own == nil || !s.takeRecent(it.own) {
		it.own = s.db.Statements.Acquire(backend.StatementKey{Text: text, Under: s.readingOf(it.st)}, it.st)
	}
	s.unnamed = it.own
	s.retire(old)
}

// appendRun answers messages that run a statement without rows, all but Sync.
func (s *Session) appendRun(dst []byte, tag string) []byte {
	for i := range s.items {
		switch s.items[i].typ {
		case wire.MsgParse:
			dst = wire.AppendEmpty(dst, wire.MsgParseComplete)
		case wire.MsgBind:
			dst = wire.AppendEmpty(dst, wire.MsgBindComplete)
		case wire.MsgDescribe:
			dst = wire.AppendEmpty(dst, wire.MsgNoData)
		case wire.MsgExecute:
			dst = wire.AppendCommandComplete(dst, tag)
		}
	}
	return dst
}

// beginTag is what completes the text that begins a transaction, by its first word; "" if something comes before that.
func beginTag(text []byte) string {
	word := bytes.TrimLeft(text, " \t\r\n")
	switch word = word[:min(len(word), len("BEGIN"))]; { // as long as START
	case bytes.EqualFold(word, []byte("BEGIN")):
		return "BEGIN"
	case bytes.EqualFold(word, []byte("START")):
		return "START TRANSACTION"
	}
	return ""
}

// endHeld answers the end of a transaction that no server has seen, and takes what a SET TRANSACTION says of it.
func (s *Session) endHeld(st *parser.Statement) (done, ok bool) {
	if len(st.Commands) != 1 {
		return false, true
	}
	cmd := &st.Commands[0]
	switch {
	case cmd.Kind == parser.SetTransaction:
		s.openingSet(&cmd.Transaction)
	case (cmd.Kind == parser.Commit || cmd.Kind == parser.Rollback) && !cmd.Chain:
		tag := "COMMIT"
		if cmd.Kind == parser.Rollback {
			tag = "ROLLBACK"
		}
		s.opening = nil
		s.setUnnamed(nil)
		s.rest()
		s.endedHere()
		s.deliver()
		return true, s.send(wire.AppendReady(wire.AppendCommandComplete(nil, tag), wire.TxIdle))
	}
	return false, true
}

// endedHere counts the end of a transaction that no server has seen.
func (s *Session) endedHere() {
	s.account(s.since.Load(), 1)
	s.db.Stats.Transactions.Add(1)
}

// openingSet adds what SET TRANSACTION says to what the held BEGIN does.
func (s *Session) openingSet(t *parser.Transaction) {
	as := &s.openingAs
	if t.Isolation != "" {
		as.Isolation = t.Isolation
	}
	if t.ReadOnly || t.ReadWrite {
		as.ReadOnly, as.ReadWrite = t.ReadOnly, t.ReadWrite
	}
	as.Snapshot = as.Snapshot || t.Snapshot
	s.openingReadOnly = s.readOnly(as)
}

// asksManager reports whether SET TRANSACTION asks for what no replica serves.
func asksManager(t *parser.Transaction) bool {
	return t.ReadWrite || t.Snapshot || t.Isolation == "serializable"
}

// onlyBegan reports whether the turn was nothing but a BEGIN of the extended protocol that was not held, as one with Flush, and notes what that says.
func (s *Session) onlyBegan() (only bool) {
	if s.replica == "" || s.server == nil || s.raw || s.tx != wire.TxActive {
		return false
	}
	for i := range s.items {
		st := s.items[i].facts()
		if st == nil {
			continue
		}
		if len(st.Commands) != 1 || st.Commands[0].Kind != parser.Begin {
			return false
		}
		only, s.openingAs = true, st.Commands[0].Transaction
	}
	return only
}

// comesBack gives up a transaction on a replica that has done nothing but begin, where SET TRANSACTION asks for what no
// replica serves. Its BEGIN is then as one that was held.
func (s *Session) comesBack() bool {
	if !s.unread || !slices.ContainsFunc(s.items, func(it item) bool {
		st := it.facts()
		return st != nil && len(st.Commands) > 0 && st.Commands[0].Kind == parser.SetTransaction && asksManager(&st.Commands[0].Transaction)
	}) {
		return false
	}
	c := s.server
	if tx, err := c.ExecTx(wire.AppendQuery(nil, "ROLLBACK"), adoptTimeout, nil); err != nil || tx != wire.TxIdle {
		c.Spoil("rollback of a transaction that had only begun failed")
	}
	s.tx, s.unread = wire.TxIdle, false
	s.release(c)
	s.opening = wire.AppendQuery(nil, beginText(&s.openingAs))
	s.openingReadOnly = s.readOnly(&s.openingAs)
	return true
}

// beginText is a BEGIN that asks for t.
func beginText(t *parser.Transaction) string {
	text := "BEGIN"
	if t.Isolation != "" {
		text += " ISOLATION LEVEL " + t.Isolation
	}
	switch {
	case t.ReadOnly:
		text += " READ ONLY"
	case t.ReadWrite:
		text += " READ WRITE"
	}
	if t.Deferrable {
		text += " DEFERRABLE"
	}
	return text
}

// inFailed serves requests in a transaction whose BEGIN never came to a server. Only what may end it, in another way than
// by a Query of its own, needs one.
func (s *Session) inFailed() (done, ok bool) {
	if st := s.items[0].st; len(s.items) == 1 && s.items[0].typ == wire.MsgQuery && len(st.Commands) == 1 {
		cmd := &st.Commands[0]
		if (cmd.Kind == parser.Commit || cmd.Kind == parser.Rollback) && !cmd.Chain {
			s.openingFailed = false
			s.setUnnamed(nil)
			s.rest()
			s.endedHere()
			s.deliver()
			return true, s.send(wire.AppendReady(wire.AppendCommandComplete(nil, "ROLLBACK"), wire.TxIdle))
		}
	}
	if s.onlyFails() {
		return true, s.refuseAll(&wire.Error{Code: codeFailedTransaction, Message: "current transaction is aborted, commands ignored until end of transaction block"})
	}
	if err := s.failHere(); err != nil {
		return true, s.refuseAll(asError(err))
	}
	return false, true
}

// onlyFails reports whether each request begins with a statement, and no statement ends a transaction.
func (s *Session) onlyFails() bool {
	first := true
	for i := range s.items {
		it := &s.items[i]
		st := it.st
		switch it.typ {
		case wire.MsgParse:
			if p, ok := splitParse(s.in.Bytes()[it.off : it.off+it.size]); ok {
				st = s.facts(p.text)
			}
		case wire.MsgBind:
			if _, name, _, ok := splitBind(s.in.Bytes()[it.off : it.off+it.size]); ok {
				if own := s.statement(name); own != nil {
					st = own.Runs
				}
			}
		}
		if first && st == nil || st != nil && (st.Effects&parser.TransactionControl != 0 || len(st.Commands) == 0) {
			return false
		}
		first = it.end
	}
	return true
}

// failHere makes the transaction that failed without a server having seen it fail on one.
func (s *Session) failHere() error {
	s.other(router.InTransaction, "in a failed transaction")
	c, replay, err := s.lease()
	if err != nil {
		return err
	}
	if err = s.replayNow(c, &replay); err == nil {
		var refusal *wire.Error
		tx, failed := c.ExecTx(wire.AppendQuery(nil, "BEGIN; ROLLBACK TO SAVEPOINT pgtier_none"), adoptTimeout, nil)
		if errors.As(failed, &refusal) && tx == wire.TxFailed {
			s.tx, s.openingFailed = tx, false
			return nil
		}
		c.Spoil("a transaction could not be made to fail")
		err = failed
	}
	s.dropServer()
	return err
}

// codeFailedTransaction is in_failed_sql_transaction.
const codeFailedTransaction = "25P02"

// beginHeld sends a held BEGIN in a round trip of its own, behind a pending replay.
func (s *Session) beginHeld(c *backend.Conn, replay *[]byte) error {
	if s.opening == nil {
		return nil
	}
	if err := s.replayNow(c, replay); err != nil {
		return err
	}
	c.SetUnnamed(nil)
	tx, err := c.ExecTx(wire.AppendSync(s.appendOpening(nil, false)), adoptTimeout, nil)
	if err == nil {
		s.opening, s.tx = nil, tx
	}
	return err
}

// notReady gives up the connection, on which what has to be done before the requests has failed. again: it was lost with nothing of the client's, which may go to
// another.
func (s *Session) notReady(err error, tries int) (ok, again bool) {
	again = gone(err) && tries < maxTries && !s.killedNow()
	if f := s.at.Fleet.Load(); f != nil && again {
		f.Lost(s.pool.Key().Server, err)
	}
	s.server.Spoil("could not be made ready")
	s.returnUnused()
	s.losesOwn()
	if again {
		s.db.Stats.Repeated.Add(1)
		return false, true
	}
	return s.refuseAll(asError(err)), false
}

// unready answers a turn whose server has refused what was in front of it, the session's settings or BEGIN, and so has skipped
// the turn. As the client knows it, BEGIN was done, and the transaction has failed now.
func (s *Session) unready(c *backend.Conn) bool {
	r := &s.relay
	r.takeBack()
	c.Spoil("what was sent in front of the requests was refused") // the server may skip to a Sync
	s.opening, s.opened, s.begun = s.opened, nil, false
	r.free()
	s.release(c)
	s.losesOwn()
	return s.refuseAll(r.own)
}

// told is the transaction state that the client knows of.
func (s *Session) told() byte {
	switch {
	case s.opening != nil:
		return wire.TxActive
	case s.openingFailed:
		return wire.TxFailed
	}
	return s.tx
}
