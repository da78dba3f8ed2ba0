package session

import (
	"fmt"
	"slices"
	"time"

	"pgtier/proxy/backend"
	"pgtier/proxy/pool"
	"pgtier/proxy/wire"
	"pgtier/router"
	"pgtier/router/catalog"
)

// pinned returns why the session keeps its connection, "" if it does not.
// Safe for concurrent use.
func (s *Session) pinned() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pin
}

// pinTo makes c the session's own connection: its settings and prepared
// statements are put there under the client's own names, and from here on
// frames pass untouched. A pending replay is sent first.
func (s *Session) pinTo(c *backend.Conn, why string, replay *[]byte) error {
	if err := s.replayNow(c, replay); err != nil {
		return err
	}
	if err := s.keepSequences(c, why); err != nil {
		return err
	}
	s.mu.Lock()
	before := s.pin
	if s.pin == "" {
		s.pinTime = time.Now()
	}
	s.pin = why
	s.mu.Unlock()
	s.lift = nil
	if (why == catalog.BeingRead || why == catalog.NotRead) && before == "" && s.txn.empty() {
		s.lift = &lift{outlives: s.outlives}
	}
	s.outlives = s.outlives || router.Outlives(why)
	if s.tx == wire.TxFailed {
		return nil // nothing can be prepared now; the next statement pins fully
	}
	if c.PreparedCount() > 0 || c.Retired() != "" {
		// What other sessions share is not for this one's pg_prepared_statements, nor is a name that was made for a refusal (duplicate).
		if err := c.Exec(wire.AppendQuery(nil, "DEALLOCATE ALL"), adoptTimeout, nil); err != nil {
			return fmt.Errorf("clear a connection to be kept: %w", err)
		}
		c.ForgetPrepared()
	}
	if err := s.giveNames(c); err != nil {
		return fmt.Errorf("prepare statements on a kept connection: %w", err)
	}
	if s.tx == wire.TxIdle {
		if err := s.listenHere(c); err != nil {
			return err
		}
	}
	coded := s.rawNames.coded && !s.raw
	s.raw = true
	s.followAnew()
	s.rawChanges = s.givenChanges()
	s.rawNames.coded = coded
	s.logger().Debug("session pinned to its server connection")
	return nil
}

// losesOwn has a session that pinTo has given a connection go without it again, before anything of the client's has run there. It
// still keeps the next one, where pinTo makes again what it has made here.
func (s *Session) losesOwn() {
	if s.pinned() != "" {
		s.raw, s.rawNames, s.lift = false, rawNames{}, nil
	}
}

// listenHere makes pg_listening_channels() tell the truth on a connection that
// becomes the session's own. Notifications keep coming by the shared listener.
func (s *Session) listenHere(c *backend.Conn) error {
	for channel := range s.listens {
		if err := c.Exec(wire.AppendQuery(nil, "LISTEN "+quoteIdent(channel)), adoptTimeout, nil); err != nil {
			return fmt.Errorf("listen on a kept connection: %w", err)
		}
	}
	return nil
}

// giveNames makes the client's statements exist on c under the client's own names.
// One that the server no longer takes, say because its table is gone, will not
// exist there: using it fails, as it would have failed before.
func (s *Session) giveNames(c *backend.Conn) error {
	if len(s.names) == 0 && c.Unnamed() == s.unnamed && s.unnamed != nil {
		return nil
	}
	type making struct {
		st  *backend.Statement
		msg []byte
	}
	var messages []byte // all that can go at once
	var each []making
	for name, st := range s.names {
		if st.SQL {
			// The client's own text, which pg_prepared_statements shows: a shared one has its name in it.
			each = append(each, making{st, wire.AppendQuery(nil, string(st.Text))})
			continue
		}
		if s.readsAlike(st) {
			messages = wire.AppendParse(messages, name, st.Text, st.Types)
		}
		each = append(each, making{st, wire.AppendSync(wire.AppendParse(nil, name, st.Text, st.Types))})
	}
	if len(messages) > 0 {
		taken, err := s.attempt(c, wire.AppendSync(messages))
		if err != nil {
			return err
		}
		if taken {
			each = slices.DeleteFunc(each, func(m making) bool { return !m.st.SQL && s.readsAlike(m.st) })
		} else if err := c.Exec(wire.AppendQuery(nil, "DEALLOCATE ALL"), adoptTimeout, nil); err != nil { // some exist now
			return err
		}
	}
	for _, m := range each {
		if err := s.make(c, m.st, m.msg); err != nil {
			return err
		}
	}
	// Last, because every Query drops it.
	switch {
	case s.unnamed == nil:
		_, err := s.attempt(c, wire.AppendSync(wire.AppendCloseStatement(nil, "")))
		return err
	case len(s.names) > 0 || c.Unnamed() != s.unnamed:
		return s.make(c, s.unnamed, wire.AppendSync(wire.AppendParse(nil, "", s.unnamed.Text, s.unnamed.Types)))
	}
	return nil
}

// make sends msg, which prepares st. The server may refuse it; the error is a connection's that is lost.
func (s *Session) make(c *backend.Conn, st *backend.Statement, msg []byte) error {
	if s.readsAlike(st) {
		_, err := s.attempt(c, msg)
		return err
	}
	if err := s.readAs(c, st, msg); err != nil && c.Spoiled() != "" {
		return err
	}
	return nil
}

// attempt sends msgs, and reports whether the server took them; a refusal does
// not touch the transaction under way. The error is a connection's that is lost.
func (s *Session) attempt(c *backend.Conn, msgs []byte) (taken bool, err error) {
	plain := func(sql string) error {
		if s.tx != wire.TxActive {
			return nil
		}
		return aside(c, sql)
	}
	if err := plain("SAVEPOINT pgtier_names"); err != nil {
		return false, err
	}
	err = c.Exec(msgs, adoptTimeout, nil)
	taken = err == nil
	if !taken {
		if c.Spoiled() != "" {
			return false, err
		}
		if err := plain("ROLLBACK TO SAVEPOINT pgtier_names"); err != nil {
			return false, err
		}
	}
	return taken, plain("RELEASE SAVEPOINT pgtier_names")
}

// keepSequences makes sure that currval and lastval, which nobody judges any more on a connection that is the session's own,
// answer from this session's own past: the connection where it advanced a sequence last, or none at all. That a write has
// advanced one is believed where it is asked at once, though another session may have before it.
func (s *Session) keepSequences(c *backend.Conn, why string) error {
	switch {
	case c.SequencesOf(s.id) || why == router.PinSequences && c.AdvancedLastBy(s.id) || s.tx == wire.TxFailed:
		return nil
	case s.seqOn != 0 && why == router.PinSequences:
		return &wire.Error{Code: wire.CodeNotInState, Message: "currval() or lastval() asked where another session's sequences may answer",
			Hint: "Use INSERT … RETURNING. Sessions of this database keep their connection after a write from now on."}
	case c.HasSequences():
		if err := c.Exec(wire.AppendQuery(nil, "DISCARD SEQUENCES"), adoptTimeout, nil); err != nil {
			return err
		}
		c.ForgetSequences()
	}
	return nil
}

// advanced notes that the session may have advanced a sequence on c.
func (s *Session) advanced(c *backend.Conn) {
	c.AdvancedBy(s.id)
	s.seqOn = c.ID()
}

// discarded runs after a successful DISCARD ALL: nothing of the session is left.
func (s *Session) discarded(c *backend.Conn) error {
	c.Reset()
	s.forgetNames()
	s.followAnew()
	s.settings = s.startup
	s.txn.clear()
	if s.listens != nil {
		s.db.Listener.Forget(s)
		s.listens = nil
	}
	s.seqOn = 0
	s.floorUnknown = false
	if s.db.Config().Mode == pool.ModeSession {
		return s.beginAgain(c)
	}
	if s.outlives {
		c.Spoil("was a session's own, whose state may outlive DISCARD ALL")
	}
	s.raw, s.outlives, s.rawListens, s.lift = false, false, false, nil
	s.mu.Lock()
	s.pin = ""
	s.mu.Unlock()
	return nil
}

// beginAgain puts the settings of the login back on a connection that is the
// session's own.
func (s *Session) beginAgain(c *backend.Conn) error {
	msgs, needed := c.AppendAdopt(nil, s.startup)
	if !needed {
		return nil
	}
	if err := c.Exec(msgs, readBackTimeout, nil); err != nil {
		return fmt.Errorf("restore the settings of the login: %w", err)
	}
	// That has used the unnamed statement.
	if err := c.Exec(wire.AppendSync(wire.AppendCloseStatement(nil, "")), readBackTimeout, nil); err != nil {
		return fmt.Errorf("restore the settings of the login: %w", err)
	}
	c.Adopted(s.startup)
	s.beforeReady(func() { s.tellParams(c, s.send) })
	return nil
}
