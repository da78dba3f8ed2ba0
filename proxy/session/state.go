package session

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"pgtier/parser"
	"pgtier/proxy/backend"
	"pgtier/proxy/pool"
	"pgtier/proxy/wire"
	"pgtier/router"
)

// hazardWait bounds how long a statement waits for the catalog to be read after
// a change of it; unread, the statement pins.
const hazardWait = 2 * time.Second

// note records what st may do to the session and returns why the session must
// keep its connection from here on, "" if it need not.
func (s *Session) note(st *parser.Statement) (pin string) {
	if s.raw {
		s.noteRaw(st)
		return ""
	}
	if s.db.Hazards.Pending() && router.MayRunCode(st) {
		ctx, stop := context.WithTimeout(context.Background(), hazardWait)
		_ = s.db.Hazards.Wait(ctx) // unread, it pins
		stop()
	}
	plan := router.Route(st, s.routeFacts(), s.db.Hazards)
	if plan.Effects != 0 {
		s.follow(&plan)
	}
	return plan.Pin
}

// routeFacts is what the router asks about the session.
func (s *Session) routeFacts() router.Facts {
	return router.Facts{
		TxFailed:      s.tx == wire.TxFailed,
		Backslashes:   s.params.Value("standard_conforming_strings") == "off",
		SequencesRead: s.db.SequencesRead.Load(),
		NewCode:       s.txn.code,
	}
}

// follow remembers what must be done about a statement's effects.
func (s *Session) follow(plan *router.Plan) {
	t := &s.txn
	for i := range plan.Commands {
		for _, name := range plan.Commands[i].Settings {
			if !slices.Contains(t.capture, name) {
				t.capture = append(t.capture, name)
			}
		}
	}
	e := plan.Effects
	if e&parser.Unlistens != 0 {
		s.noteUnlisten(plan.Commands)
	}
	if e&parser.ReadsSequenceState != 0 {
		s.db.SequencesRead.Store(true)
	}
	t.captureAll = t.captureAll || e&parser.ResetsAll != 0
	t.ddl = t.ddl || e&parser.DDL != 0
	t.code = t.code || plan.MakesCode
	t.listening = t.listening || e&parser.Listens != 0
	s.notifies = s.notifies || e&parser.Notifies != 0
	t.notified = t.notified || e&parser.Notifies != 0
	s.advances = s.advances || e&parser.AdvancesSequence != 0
}

// noteRaw keeps what still matters on a connection that is the client's own.
func (s *Session) noteRaw(st *parser.Statement) {
	if st.Effects&parser.DDL != 0 {
		s.txn.ddl = true
	}
	if router.Outlives(st.Pin) && s.db.Config().Mode != pool.ModeSession {
		s.outlives = true
	}
	s.txn.notified = s.txn.notified || st.Effects&parser.Notifies != 0
	if st.Effects&parser.Listens != 0 {
		s.rawListens, s.txn.listening = true, true
	}
	if st.Effects&parser.Unlistens != 0 {
		s.noteUnlisten(st.Commands)
	}
}

// noteUnlisten remembers the channels of UNLISTEN; "" is all of them.
func (s *Session) noteUnlisten(commands []parser.Command) {
	for i := range commands {
		if cmd := &commands[i]; cmd.Kind == parser.Unlisten || cmd.Kind == parser.UnlistenAll {
			s.txn.unlisten = append(s.txn.unlisten, cmd.Channel)
		}
	}
}

// watching reports whether command tags matter in this turn.
func (s *Session) watching() bool {
	if len(s.txn.unlisten) > 0 {
		return true
	}
	for i := range s.items {
		st := s.items[i].st
		if st == nil && s.items[i].own != nil {
			st = s.items[i].own.Facts
		}
		if st != nil && st.Effects&(parser.DiscardsAll|parser.ResetsAll|parser.ChangesSettings|parser.Unlistens) != 0 {
			return true
		}
	}
	return s.raw && s.unnamed == nil && s.hasBind()
}

// hasBind: in raw mode names are not followed, so any Bind may run a DISCARD ALL.
func (s *Session) hasBind() bool {
	return slices.ContainsFunc(s.items, func(it item) bool { return it.typ == wire.MsgBind })
}

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
	if *replay != nil {
		if err := c.Exec(*replay, adoptTimeout, nil); err != nil {
			return err
		}
		*replay = nil
		s.tellParams(c, s.send)
	}
	if why == router.PinSequences {
		if err := s.keepSequences(c); err != nil {
			return err
		}
	}
	s.mu.Lock()
	if s.pin == "" {
		s.pinTime = time.Now()
	}
	s.pin = why
	s.mu.Unlock()
	s.outlives = s.outlives || router.Outlives(why)
	if s.tx == wire.TxFailed {
		return nil // nothing can be prepared now; the next statement pins fully
	}
	if c.PreparedCount() > 0 {
		// What other sessions share is not for this one's pg_prepared_statements.
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
	s.raw = true
	s.log.Debug("session pinned to its server connection")
	return nil
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
	var messages []byte // all of the protocol's own in one go
	var each [][]byte
	for name, st := range s.names {
		if st.SQL {
			// The client's own text, which pg_prepared_statements shows: a shared one has its name in it.
			each = append(each, wire.AppendQuery(nil, string(st.Text)))
			continue
		}
		messages = wire.AppendParse(messages, name, st.Text, st.Types)
		each = append(each, wire.AppendSync(wire.AppendParse(nil, name, st.Text, st.Types)))
	}
	if len(messages) > 0 {
		taken, err := s.attempt(c, wire.AppendSync(messages))
		if err != nil {
			return err
		}
		if taken {
			each = slices.DeleteFunc(each, func(msg []byte) bool { return msg[0] != wire.MsgQuery })
		} else if err := c.Exec(wire.AppendQuery(nil, "DEALLOCATE ALL"), adoptTimeout, nil); err != nil { // some exist now
			return err
		}
	}
	// Last, because every Query drops it.
	if s.unnamed != nil && (len(s.names) > 0 || c.Unnamed() != s.unnamed) {
		each = append(each, wire.AppendSync(wire.AppendParse(nil, "", s.unnamed.Text, s.unnamed.Types)))
	} else if s.unnamed == nil {
		each = append(each, wire.AppendSync(wire.AppendCloseStatement(nil, "")))
	}
	for _, msg := range each {
		if _, err := s.attempt(c, msg); err != nil {
			return err
		}
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
		const name = "pgtier_names" // a Query would drop the unnamed statement
		msgs := wire.AppendBindText(wire.AppendParse(nil, name, []byte(sql), nil), name, nil)
		return c.Exec(wire.AppendSync(wire.AppendCloseStatement(wire.AppendExecute(msgs), name)), adoptTimeout, nil)
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

// keepSequences makes sure that currval and lastval answer from this session's
// own past: the connection where it advanced a sequence last, or none at all.
func (s *Session) keepSequences(c *backend.Conn) error {
	switch {
	case c.SeqWriter == s.id:
		return nil
	case s.seqOn != 0:
		return &wire.Error{Code: wire.CodeNotInState, Message: "currval() or lastval() asked on another server connection than the one that advanced the sequence",
			Hint: "Use INSERT … RETURNING. Sessions of this database keep their connection after a write from now on."}
	case c.Sequences && s.tx == wire.TxIdle:
		if err := c.Exec(wire.AppendQuery(nil, "DISCARD SEQUENCES"), adoptTimeout, nil); err != nil {
			return err
		}
		c.Sequences, c.SeqWriter = false, 0
	}
	return nil
}

// discarded runs after a successful DISCARD ALL: nothing of the session is left.
func (s *Session) discarded(c *backend.Conn) error {
	c.Reset()
	s.forgetNames()
	s.settings = s.startup
	s.txn.clear()
	if s.listens != nil {
		s.db.Listener.Forget(s)
		s.listens = nil
	}
	s.seqOn = 0
	if s.db.Config().Mode == pool.ModeSession {
		return s.beginAgain(c)
	}
	if s.outlives {
		c.Spoil("was a session's own, whose state may outlive DISCARD ALL")
	}
	s.raw, s.outlives, s.rawListens = false, false, false
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
	c.Adopted(s.startup)
	s.beforeReady(func() { s.tellParams(c, s.send) })
	return nil
}

// readBackTimeout bounds our own questions to a server that just answered.
const readBackTimeout = 30 * time.Second

// readBack asks the server what a finished transaction left behind.
func (s *Session) readBack(c *backend.Conn) error {
	defer s.txn.clear()
	t := &s.txn
	if t.ddl {
		s.db.Statements.Expire()
		s.db.OnDDL()
	}
	if s.raw {
		return s.readBackListens(c)
	}
	if s.resetAlone() {
		s.wasReset(c)
		return nil
	}
	if t.captureAll {
		for _, p := range append(slices.Clone(s.settings.All()), s.startup.All()...) {
			if !slices.Contains(t.capture, p.Name) {
				t.capture = append(t.capture, p.Name)
			}
		}
	}
	if len(t.capture) > 0 {
		if err := s.capture(c, t.capture); err != nil {
			return err
		}
	}
	return s.readBackListens(c)
}

// readBackListens keeps the shared listener to what LISTEN and UNLISTEN left:
// what the transaction has not taken back of its own LISTENs stays.
func (s *Session) readBackListens(c *backend.Conn) error {
	var heard []string
	if s.txn.listening {
		var err error
		if heard, err = s.moveListens(c); err != nil {
			return err
		}
	}
	if !s.txn.silenced {
		return nil
	}
	for channel := range s.listens {
		if !slices.Contains(heard, channel) && (slices.Contains(s.txn.unlisten, channel) || slices.Contains(s.txn.unlisten, "")) {
			s.unlisten(channel)
		}
	}
	return nil
}

// capture reads the values of names back from c and makes them the session's.
func (s *Session) capture(c *backend.Conn, names []string) error {
	now := s.settings
	err := c.Exec(backend.AppendCapture(nil, names), readBackTimeout, func(f wire.Frame) {
		if f.Type != wire.MsgDataRow {
			return
		}
		fields, err := wire.RowFields(f.Body())
		if err != nil || len(fields) != len(names) {
			c.Spoil("settings could not be read back")
			return
		}
		for i, v := range fields {
			if v == nil || names[i] == "role" && string(v) == "none" {
				now = now.Without(names[i])
			} else {
				now = now.With(names[i], string(v))
			}
		}
	})
	if err != nil {
		return err
	}
	if path, _ := now.Value("search_path"); strings.Contains(path, "pg_temp") {
		s.keepFor("search_path names pg_temp")
	}
	s.settings = now
	c.SettingsAre(now)
	c.SetUnnamed(nil)
	return nil
}

// resetAlone reports whether the turn was one RESET by itself, outside a
// transaction block, and succeeded.
func (s *Session) resetAlone() bool {
	return s.relay.reset && len(s.items) == 1 && s.items[0].st != nil && len(s.items[0].st.Commands) == 1 &&
		(s.items[0].st.Commands[0].Kind == parser.ResetAll || s.items[0].st.Commands[0].Kind == parser.Reset)
}

// wasReset follows a RESET: the session goes back to what the client asked for
// at login, the server connection to its own defaults.
func (s *Session) wasReset(c *backend.Conn) {
	cmd := &s.items[0].st.Commands[0]
	names := cmd.Settings
	if cmd.Kind == parser.ResetAll {
		names = nil
		for _, p := range s.settings.All() {
			if p.Name != "role" {
				names = append(names, p.Name)
			}
		}
		for _, p := range s.startup.All() {
			names = append(names, p.Name)
		}
	}
	on := c.Settings()
	for _, name := range names {
		on = on.Without(name)
		if v, ok := s.startup.Value(name); ok {
			s.settings = s.settings.With(name, v)
		} else if strings.Contains(name, ".") {
			s.settings = s.settings.With(name, "") // a name that no module owns stays known, and empty
		} else {
			s.settings = s.settings.Without(name)
		}
	}
	c.SettingsAre(on)
}

// errListen is wrapped by errors of the shared listener.
var errListen = errors.New("listen")

// moveListens moves what the finished transaction listens to from the pooled
// connection to the shared listener, before the client hears of it.
func (s *Session) moveListens(c *backend.Conn) (channels []string, err error) {
	err = c.Exec(wire.AppendQuery(nil, "SELECT pg_catalog.pg_listening_channels()"), readBackTimeout, func(f wire.Frame) {
		if f.Type == wire.MsgDataRow {
			if fields, err := wire.RowFields(f.Body()); err == nil && len(fields) == 1 {
				channels = append(channels, string(fields[0]))
			}
		}
	})
	if err != nil || len(channels) == 0 {
		return nil, err
	}
	ctx, stop := context.WithTimeout(context.Background(), readBackTimeout)
	defer stop()
	for _, channel := range channels {
		if err := s.listen(ctx, channel); err != nil {
			return nil, err
		}
	}
	if s.raw {
		return channels, nil // a connection of the session's own goes on listening, unheard
	}
	return channels, c.Exec(wire.AppendQuery(nil, "UNLISTEN *"), readBackTimeout, nil)
}

func (s *Session) listen(ctx context.Context, channel string) error {
	if err := s.db.Listener.Listen(ctx, s, channel); err != nil {
		return fmt.Errorf("%w: %w", errListen, err)
	}
	if s.listens == nil {
		s.listens = make(map[string]bool)
	}
	s.listens[channel] = true
	return nil
}

// unlisten ends one channel.
func (s *Session) unlisten(channel string) {
	s.db.Listener.Unlisten(s, channel)
	delete(s.listens, channel)
}

func (s *Session) statementMode() bool { return s.db.Config().Mode == pool.ModeStatement }

// quoteIdent writes name as a quoted identifier.
func quoteIdent(name string) string {
	out := []byte{'"'}
	for i := 0; i < len(name); i++ {
		if name[i] == '"' {
			out = append(out, '"')
		}
		out = append(out, name[i])
	}
	return string(append(out, '"'))
}
