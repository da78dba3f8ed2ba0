package session

import (
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
	s.noteWrites(st)
	if s.dx != nil {
		s.dx.runs(s, st)
	}
	if s.misread(st) {
		s.mayWriteAll()
	}
	s.effects |= st.Effects
	s.restores = s.restores || st.Restores()
	if s.raw {
		s.noteRaw(st)
		return ""
	}
	if st == s.harmless {
		return ""
	}
	if s.db.Hazards.Pending() && router.MayRunCode(st) {
		s.awaitCatalog() // unread, it pins
		s.turnTime = 0
	}
	s.txn.reads.note(st, s.settings)
	plan := router.Route(st, s.routeFacts(st), s.db.Hazards)
	switch {
	case plan.Effects != 0:
		s.harmless = nil // it may make the others another matter
		s.follow(&plan)
	case plan.Pin == "":
		s.harmless = st
	}
	return plan.Pin
}

// noteTurn is note within inspect. Of a plain statement in a turn that is plain so far, only the catalog can say more.
func (s *Session) noteTurn(st *parser.Statement) (pin string) {
	advances := st.Effects&parser.AdvancesSequence != 0
	if !s.plain || !st.Plain || s.db.Hazards.Pending() || advances && s.db.SequencesRead.Load() {
		s.plain = false
		return s.note(st)
	}
	s.noteWrites(st)
	s.effects |= st.Effects
	s.advances = s.advances || advances
	if s.fails(st) || st == s.harmless {
		return ""
	}
	if pin = s.db.Hazards.Pins(st); pin == "" {
		s.harmless = st
	}
	return pin
}

// routeFacts is what the router asks about the session for st.
func (s *Session) routeFacts(st *parser.Statement) router.Facts {
	return router.Facts{
		TxFailed:      s.fails(st),
		Backslashes:   s.misread(st),
		SequencesRead: s.db.SequencesRead.Load(),
		NewCode:       s.txn.code,
	}
}

// fails reports whether st only fails, as a statement in a transaction that has failed does: nothing in the turn up to it can have ended that.
func (s *Session) fails(st *parser.Statement) bool {
	return s.tx == wire.TxFailed && (s.effects|st.Effects)&parser.TransactionControl == 0
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

// watching reports whether command tags matter in this turn, by what its statements were noted to do.
func (s *Session) watching() bool {
	if len(s.txn.unlisten) > 0 || s.commitsEarly() {
		return true
	}
	if s.restores || s.effects&(parser.DiscardsAll|parser.ResetsAll|parser.ChangesSettings|parser.Unlistens) != 0 {
		return true
	}
	return s.raw && s.hasBind()
}

// watchesPlain reports whether watching has to be asked of a turn that is plain.
func (s *Session) watchesPlain() bool { return len(s.txn.unlisten) > 0 || s.txn.wrote.any }

// hasBind: in raw mode names are not followed, so any Bind may run a DISCARD ALL.
func (s *Session) hasBind() bool {
	return slices.ContainsFunc(s.items, func(it item) bool { return it.typ == wire.MsgBind })
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
			if v == nil || names[i] == roleSetting && string(v) == "none" {
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
	s.floorUnknown = s.floorUnknown && !slices.Contains(names, router.SettingLSN)
	now = s.takeOwn(now)
	s.settings = now
	c.SettingsAre(now)
	c.SetUnnamed(nil)
	return nil
}

// resetAlone reports whether the turn was one RESET by itself, outside a
// transaction block, and succeeded.
func (s *Session) resetAlone() bool {
	return s.relay.reset && len(s.items) == 1 && s.items[0].end && s.items[0].st != nil && len(s.items[0].st.Commands) == 1 &&
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
			if p.Name != roleSetting {
				names = append(names, p.Name)
			}
		}
		for _, p := range s.startup.All() {
			if p.Name != roleSetting {
				names = append(names, p.Name)
			}
		}
	}
	if cmd.Kind == parser.ResetAll || slices.Contains(names, router.SettingLSN) {
		s.floorUnknown = false
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
