package session

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"pgtier/parser"
	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
)

// RESET brings back what the client asked for at login, but the defaults of a shared connection are the server's. A
// RESET that nothing follows is mended before the client can run its next statement (restoreStartup). Where something
// runs between the two, the session gets a connection of its own that was opened with its login's settings.

// readyBytes is the size of a ReadyForQuery.
const readyBytes = wire.HeaderBytes + 1

// restored are the login's settings that cmd may bring back.
func (s *Session) restored(cmd *parser.Command) (out []wire.Param) {
	if cmd.Kind == parser.DiscardAll { // followed as a whole, see discarded and discardsEarly
		return nil
	}
	if cmd.Kind != parser.ResetAll && !cmd.RestoresAny && len(cmd.Restores) == 0 {
		return nil
	}
	for _, p := range s.startup.All() {
		if cmd.Kind == parser.ResetAll && p.Name != roleSetting || cmd.RestoresAny || slices.Contains(cmd.Restores, p.Name) {
			out = append(out, p)
		}
	}
	return out
}

// mends reports whether restoreStartup sees to what cmd brings back: it is nothing but a RESET, or a SET … TO DEFAULT.
func mends(cmd *parser.Command) bool {
	switch cmd.Kind {
	case parser.Reset, parser.ResetAll, parser.Set:
		return true
	}
	return false
}

// leavesMending reports whether a RESET before cmd can still be mended behind it: nothing in cmd sees a setting, and
// what becomes of the RESET becomes of the mending too. Where cmd begins another transaction or a savepoint, that may
// be rolled back alone.
func leavesMending(cmd *parser.Command) bool {
	switch cmd.Kind {
	case parser.Begin, parser.Release, parser.RollbackTo:
		return true
	case parser.Commit, parser.Rollback:
		return !cmd.Chain
	}
	return false
}

// certain reports whether cmd brings settings back that its text names, or code in it does: not only perhaps, by a
// NULL that set_config is given.
func certain(cmd *parser.Command) bool { return !cmd.RestoresAny || !cmd.LocalsAny }

// resetsEarly reports whether something in the turn may see a setting that was reset before restoreStartup has mended
// it, and whether that is sure enough to refuse the turn where it cannot be served.
func (s *Session) resetsEarly(pin string) (early, sure bool) {
	if len(s.startup.All()) == 0 || !s.restores && s.effects&(parser.ResetsAll|parser.DiscardsAll) == 0 && pin == "" {
		return false, false
	}
	if s.discardsEarly() {
		return true, true
	}
	if strings.Contains(pin, "RESET") { // a function of the catalog's
		return true, true
	}
	pending, parsed := false, false
	for i := range s.items {
		it := &s.items[i]
		st := s.runs(it, &parsed)
		if st == nil {
			continue
		}
		if early, sure := s.seesReset(st, &pending); early {
			return true, sure
		}
	}
	return false, false
}

// seesReset is resetsEarly for one statement. pending: a RESET before it waits for its mending.
func (s *Session) seesReset(st *parser.Statement, pending *bool) (early, sure bool) {
	for i := range st.Commands {
		cmd := &st.Commands[i]
		switch {
		case *pending && !leavesMending(cmd):
			return true, true
		case len(s.restored(cmd)) == 0:
		case !mends(cmd):
			return true, certain(cmd)
		default:
			*pending = true
		}
	}
	return false, false
}

// roleSetting is the one that RESET ALL leaves alone.
const roleSetting = "role"

// pinOwn is the pin of a session whose connection was opened with its login's settings.
const pinOwn = "RESET before other statements"

// sharedReset refuses what would see the server's default in the place of the login's value.
func sharedReset() *wire.Error {
	return &wire.Error{Code: wire.CodeFeatureNotSupported,
		Message: "a setting given at login is reset where the transaction or session holds a shared server connection",
		Detail:  "Statements behind the RESET would see the server's default instead of the login's value.",
		Hint:    "Send RESET by itself, or outside a transaction block, or SET the value."}
}

// ownConnection gives the session a connection whose defaults are the login's settings. A refusal has not been told.
func (s *Session) ownConnection() error {
	if s.tx != wire.TxIdle || s.server != nil {
		return sharedReset()
	}
	shared, replay, err := s.lease()
	if err != nil {
		return err
	}
	if err := s.replayNow(shared, &replay); err != nil {
		s.returnUnused()
		return err
	}
	ctx, stop := context.WithTimeout(context.Background(), s.db.Config().ConnectTimeout)
	defer stop()
	own, err := s.db.Redial(ctx, shared, s.startup.All())
	if err != nil {
		s.returnUnused()
		return fmt.Errorf("open a connection with the login's settings: %w", err)
	}
	own.Own = true
	own.SettingsAre(s.startup)
	own.BindLike(shared) // what was planned when that was borrowed is not planned again
	s.pool.Replace(shared, own)
	s.mu.Lock()
	s.server, s.last = own, own
	killed := s.killed
	s.mu.Unlock()
	if killed != nil { // before it could reach this connection
		s.returnUnused()
		return killed
	}
	if msgs, needed := own.AppendAdopt(nil, s.settings); needed {
		if err := own.Exec(msgs, adoptTimeout, nil); err != nil {
			s.returnUnused()
			return err
		}
		own.Adopted(s.settings)
	}
	s.tellParams(own, s.send)
	return nil
}

// refuseHere answers the turn with e where the transaction under way must fail with it.
func (s *Session) refuseHere(e *wire.Error) bool {
	if s.tx == wire.TxFailed && s.ends() == 1 && !s.mixed() && s.server != nil { // and stays so
		s.rest()
		return s.send(wire.AppendReady(e.Append(nil), s.tx))
	}
	if s.tx != wire.TxActive || s.ends() != 1 || s.mixed() || s.server == nil {
		return s.refuseAll(e)
	}
	s.rowless = true
	s.server.Bind(nil)
	return s.failsWith(s.server, e)
}

// failsWith answers the turn with e, and has the transaction under way on c fail, if it has not yet.
func (s *Session) failsWith(c *backend.Conn, e *wire.Error) bool {
	c.SetUnnamed(nil)
	tx, _ := c.ExecTx(wire.AppendQuery(nil, "this statement fails its transaction"), readBackTimeout, nil)
	if tx != wire.TxFailed {
		return s.fatal(e)
	}
	s.tx = tx
	s.rest()
	return s.send(wire.AppendReady(e.Append(nil), tx))
}

// restoreStartup runs at the end of a turn with a RESET. It brought the server's
// own defaults, but the client's session began with what it asked for at login.
// That is set again before the client can run its next statement, in the
// transaction under way if there is one, so that both are undone together.
func (s *Session) restoreStartup(c *backend.Conn) error {
	if !s.relay.reset || c.Own || s.tx == wire.TxFailed || !s.raw && s.tx == wire.TxIdle && s.resetAlone() {
		return nil // the last: readBack sets nothing, the next lease does
	}
	session, local := s.resetNames()
	if s.tx == wire.TxIdle {
		local = nil // over already
	}
	if len(session)+len(local) == 0 && s.runsUnknown() {
		session = s.startup.All() // those that are still set stay
	}
	for i, names := range [...][]wire.Param{session, local} {
		if len(names) == 0 {
			continue
		}
		if err := c.Exec(backend.AppendRestore(nil, names, i == 1), readBackTimeout, nil); err != nil {
			return fmt.Errorf("restore the settings of the login: %w", err)
		}
	}
	return nil
}

// runsUnknown reports whether the turn may run a statement that is not among its messages and whose name is not
// followed, because the connection is the session's own.
func (s *Session) runsUnknown() bool {
	return s.raw && s.hasBind() && !slices.ContainsFunc(s.items, func(it item) bool { return it.typ == wire.MsgParse })
}

// mending reports whether the turn resets something that the login set, so that what the server reports of settings is
// not yet what the client shall hear.
func (s *Session) mending() bool {
	if s.ends() != 1 {
		return false
	}
	for i := range s.items {
		if st := s.items[i].facts(); st != nil && st.Effects&parser.DiscardsAll != 0 {
			return len(s.startup.All()) > 0
		}
	}
	session, local := s.resetNames()
	return len(session)+len(local) > 0
}

// tellReset tells the client, behind a RESET by itself or DISCARD ALL, what its settings will be on the next connection.
func (s *Session) tellReset(c *backend.Conn, send func(func())) {
	now := c.Params()
	if _, has := s.startup.Value(roleSetting); has { // who is none yet
		now = now.With("is_superuser", s.params.Value("is_superuser"))
	}
	back, _ := s.resetNames()
	if s.relay.discarded {
		back = s.startup.All()
	}
	for _, reported := range now.All() {
		for _, p := range back {
			if strings.EqualFold(p.Name, reported.Name) {
				now = now.With(reported.Name, p.Value)
			}
		}
	}
	send(func() { s.send(now.AppendChanges(nil, s.params)) })
	s.params = now
}

// resetNames are the login's settings that the turn's statements reset, for the session or the transaction.
func (s *Session) resetNames() (session, local []wire.Param) {
	for i := range s.items {
		st := s.items[i].facts()
		if st == nil {
			continue
		}
		for j := range st.Commands {
			cmd := &st.Commands[j]
			to := &session
			if cmd.Kind == parser.Set {
				to = &local
			}
			for _, p := range s.restored(cmd) {
				if mends(cmd) && !slices.Contains(*to, p) {
					*to = append(*to, p)
				}
			}
		}
	}
	return session, local
}
