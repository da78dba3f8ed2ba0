package session

import (
	"fmt"

	"pgtier/parser"
	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
)

// A server reads a prepared statement's literals once, under the settings of that moment. A statement that the session
// prepared under other settings than it has now is therefore made on a further connection under the old ones, in a
// round trip of its own.

// reading follows, inside one transaction, whether it has changed how texts are read. The zero value is no change.
type reading struct {
	changed bool // something before the turn under way changed how literals are read
	names   bool // and how texts without any are
	known   bool // now is what was in force when the turn began
	now     *backend.Settings

	turn      bool // a statement of the turn changes how literals are read
	turnNames bool // and texts without any
}

// begin makes what the turn before changed the past.
func (r *reading) begin() {
	if r.turn {
		*r = reading{changed: true, names: r.names || r.turnNames}
	}
}

// note follows one statement of a session that had settings when the transaction began.
func (r *reading) note(st *parser.Statement, settings *backend.Settings) {
	for i := range st.Commands {
		cmd := &st.Commands[i]
		switch literals, names := changesReading(cmd, settings); {
		case literals:
			r.turn, r.turnNames = true, r.turnNames || names
		case (r.changed || r.turn) && cmd.Effects&parser.TransactionControl != 0: // may undo it
			r.turn, r.turnNames = true, r.turnNames || r.names
		}
	}
}

// matters reports whether what changed before the turn decides how a text with these facts is read.
func (r *reading) matters(facts *parser.Statement) bool {
	return r.changed && (r.names || early(facts))
}

// mattersNow reports whether what the turn changes does.
func (r *reading) mattersNow(facts *parser.Statement) bool {
	return r.turn && (r.turnNames || early(facts))
}

// changesReading reports whether cmd may change how literals are read, and texts without any.
func changesReading(cmd *parser.Command, settings *backend.Settings) (literals, names bool) {
	for _, of := range [...][]string{cmd.Settings, cmd.Locals, cmd.Restores} {
		for _, name := range of {
			literals = literals || backend.ReadsLiterals(name)
			names = names || backend.ReadsLiterals(name) && backend.ReadsNames(name)
		}
	}
	if cmd.RestoresAny || cmd.LocalsAny || cmd.Effects&(parser.ResetsAll|parser.DiscardsAll) != 0 {
		literals = true
		for _, p := range settings.All() {
			names = names || backend.ReadsLiterals(p.Name) && backend.ReadsNames(p.Name)
		}
	}
	return literals, names
}

// early reports whether the server reads literals of the text when it prepares it. It does not for those of commands
// that are carried out as they stand.
func early(st *parser.Statement) bool {
	if !st.Literals {
		return false
	}
	for i := range st.Commands {
		switch st.Commands[i].Kind {
		case parser.Set, parser.Reset, parser.SetTransaction, parser.Listen, parser.Unlisten, parser.Notify, parser.Do, parser.Vacuum:
		default:
			return true
		}
	}
	return false
}

// readingOf is the Reading under which a text with these facts is read before the turn changes anything.
func (s *Session) readingOf(facts *parser.Statement) string {
	now := s.settings
	if s.txn.reads.matters(facts) {
		now = s.txn.reads.now
	}
	return now.Reading(early(facts))
}

// readsAlike reports whether st, prepared before the turn changes anything, would mean what it meant to the session.
func (s *Session) readsAlike(st *backend.Statement) bool {
	if r := &s.txn.reads; r.matters(st.Facts) && !r.known {
		return false
	}
	return st.Under == s.readingOf(st.Facts)
}

// own returns what name means, a shared statement or one of the session's own. A server reads a statement again when
// its tables have changed, under the settings of that moment: where those are others than it was first read under, the
// session runs a statement of its own, so that nobody who shares the first one gets this reading.
func (s *Session) own(name []byte, st *backend.Statement) *backend.Statement {
	if s.raw || s.tx == wire.TxFailed || st.Owner != 0 || !s.rereads(st) {
		return st
	}
	own := s.db.Statements.Acquire(backend.StatementKey{Text: st.Text, Types: st.OIDs(), Under: st.Under, SQL: st.SQL, Owner: s.id}, st.Facts)
	if len(name) == 0 {
		s.setUnnamed(own)
		return own
	}
	s.setName(string(name), own)
	s.forget(st)
	return own
}

// rereads reports whether st, read again now, may mean something else. A server keeps readings for search paths apart
// by itself.
func (s *Session) rereads(st *backend.Statement) bool {
	r := &s.txn.reads
	return r.mattersNow(st.Facts) || r.matters(st.Facts) && !r.known || !backend.SameLiterals(st.Under, s.readingOf(st.Facts))
}

// learnReading asks the server how texts are read in a transaction that has changed it, if a message of the turn
// prepares one to which that matters.
func (s *Session) learnReading(c *backend.Conn) error {
	r := &s.txn.reads
	if !r.changed || r.known || s.raw || s.tx != wire.TxActive || !s.preparesChanged() {
		return nil
	}
	s.turnTime = 0
	err := c.Exec(backend.AppendLiteralSettings(nil), readBackTimeout, func(f wire.Frame) {
		if f.Type != wire.MsgDataRow {
			return
		}
		if fields, err := wire.RowFields(f.Body()); err == nil {
			r.known, r.now = true, s.settings.Literals(fields)
		}
	})
	c.SetUnnamed(nil)
	if err != nil {
		return fmt.Errorf("ask how literals are read: %w", err)
	}
	return nil
}

// preparesChanged reports whether the turn prepares a text that the transaction's changes matter to.
func (s *Session) preparesChanged() bool {
	for i := range s.items {
		st := s.items[i].st
		if st != nil && s.txn.reads.matters(st) && (s.items[i].typ == wire.MsgParse || st.Effects&parser.SQLPrepare != 0) {
			return true
		}
	}
	return false
}

// prepareBefore makes the statements exist on c that the requests name and that no message among theirs can prepare:
// those made by PREPARE, and those that were read under other settings.
func (s *Session) prepareBefore(c *backend.Conn, req []byte, replay *[]byte) error {
	if s.raw || s.tx == wire.TxFailed || len(s.names) == 0 && s.unnamed == nil {
		return nil
	}
	replaced := false // the unnamed statement, by the requests themselves
	for i := range s.items {
		it := &s.items[i]
		if it.typ == wire.MsgSync || it.typ == wire.MsgExecute {
			continue
		}
		st, unnamed := s.named(it, req[it.off:it.off+it.size], &replaced)
		if st == nil || !unnamed && c.HasPrepared(st) || !st.SQL && s.readsAlike(st) && !s.txn.reads.mattersNow(st.Facts) {
			continue
		}
		if err := s.prepareNow(c, st, unnamed, replay); err != nil {
			return err
		}
	}
	return nil
}

// named is the statement that a Bind or Describe asks for, nil if the connection will have it by itself.
func (s *Session) named(it *item, frame []byte, replaced *bool) (st *backend.Statement, unnamed bool) {
	var name []byte
	ok := false
	switch it.typ {
	case wire.MsgQuery:
		*replaced = true
	case wire.MsgParse:
		if p, whole := splitParse(frame); whole && len(p.name) == 0 {
			*replaced = true
		}
	case wire.MsgBind:
		_, name, _, ok = splitBind(frame)
	case wire.MsgDescribe:
		var kind byte
		kind, name, ok = splitTarget(frame)
		ok = ok && kind == 'S'
	}
	switch {
	case !ok:
		return nil, false
	case len(name) > 0:
		if st = s.names[string(name)]; st != nil {
			st = s.own(name, st)
		}
		return st, false
	case *replaced || s.unnamed == nil:
		return nil, true
	}
	if st = s.own(nil, s.unnamed); st == s.server.Unnamed() {
		return nil, true
	}
	return st, true
}

// prepareNow makes st exist on c, read as it was first, in round trips of its own.
func (s *Session) prepareNow(c *backend.Conn, st *backend.Statement, unnamed bool, replay *[]byte) error {
	s.turnTime = 0
	if err := s.replayNow(c, replay); err != nil {
		return err
	}
	var msgs []byte
	switch {
	case unnamed:
		msgs = wire.AppendSync(wire.AppendParse(nil, "", st.Text, st.Types))
	case st.SQL:
		msgs = backend.AppendSQLPrepare(nil, st, st.Name)
	default:
		msgs = wire.AppendSync(backend.AppendPrepare(nil, st))
	}
	if !unnamed {
		if err := s.makeRoom(c, st, replay); err != nil {
			return err
		}
	}
	err := s.readAs(c, st, msgs)
	switch {
	case unnamed && err == nil:
		c.SetUnnamed(st)
	case unnamed:
		c.SetUnnamed(nil)
	default:
		c.SetUnnamed(nil)
		if err != nil {
			c.DropPrepared(st)
		}
	}
	return err
}

// readAs sends msgs, which prepare st, while the settings are in force that it was first read under. A refusal does not
// touch the transaction under way unless those are in force anyway.
func (s *Session) readAs(c *backend.Conn, st *backend.Statement, msgs []byte) error {
	if s.readsAlike(st) {
		return c.Exec(msgs, adoptTimeout, nil)
	}
	// PREPARE outlives a rollback, settings do not.
	begin, undo := "BEGIN", []string{"ROLLBACK"}
	if s.tx == wire.TxActive {
		begin, undo = "SAVEPOINT pgtier_reading", []string{"ROLLBACK TO SAVEPOINT pgtier_reading", "RELEASE SAVEPOINT pgtier_reading"}
	}
	if err := aside(c, begin); err != nil {
		return err
	}
	refusal := c.Exec(wire.AppendSync(backend.AppendReadUnder(nil, st.Under, s.settings, s.txn.reads.changed)), adoptTimeout, nil)
	if refusal == nil {
		refusal = c.Exec(msgs, adoptTimeout, nil)
	}
	if refusal != nil && c.Spoiled() != "" {
		return refusal
	}
	for _, sql := range undo {
		if err := aside(c, sql); err != nil {
			return err
		}
	}
	return refusal
}

// aside runs one statement of ours that leaves the unnamed prepared statement alone.
func aside(c *backend.Conn, sql string) error {
	const name = "pgtier_aside"
	msgs := wire.AppendBindText(wire.AppendParse(nil, name, []byte(sql), nil), name, nil)
	err := c.Exec(wire.AppendSync(wire.AppendCloseStatement(wire.AppendExecute(msgs), name)), adoptTimeout, nil)
	if err != nil && c.Spoiled() == "" { // the server has not come to the Close
		if lost := c.Exec(wire.AppendSync(wire.AppendCloseStatement(nil, name)), adoptTimeout, nil); lost != nil {
			return lost
		}
	}
	return err
}
