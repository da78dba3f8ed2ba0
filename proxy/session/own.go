package session

import (
	"bytes"
	"context"
	"encoding/binary"
	"strings"
	"time"

	"pgtier/parser"
	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
	"pgtier/router"
	"pgtier/router/balance"
)

// The proxy's own settings are custom settings of the server connection, so that SET, RESET, set_config, DISCARD and
// transactions do with them what they do with any other. Only their values are checked here, and those that tell
// something are put on the connection before the client's SHOW runs there.

// refused is what the client is told of r, nil if that is nil.
func refused(r *router.Refusal) *wire.Error {
	if r == nil {
		return nil
	}
	return &wire.Error{Code: r.Code, Message: r.Message, Hint: r.Hint}
}

// checkOwn refuses names and values of the proxy's own settings that mean nothing, in the i-th message of the requests.
func (s *Session) checkOwn(i int, req []byte) *wire.Error {
	it := &s.items[i]
	switch it.typ {
	case wire.MsgQuery, wire.MsgParse:
		if it.st != nil {
			return refused(router.CheckOwn(it.st))
		}
	case wire.MsgBind:
		if st := s.bound(i, req); st != nil {
			return checkBound(st, req[it.off:it.off+it.size])
		}
	}
	return nil
}

// bound is the statement of a Bind, which may be made by the requests themselves; nil if it is not known.
func (s *Session) bound(i int, req []byte) *parser.Statement {
	it := &s.items[i]
	if it.own != nil {
		return it.own.Runs
	}
	_, name, _, ok := splitBind(req[it.off : it.off+it.size])
	for i--; ok && i >= 0; i-- {
		parse := &s.items[i]
		if parse.typ != wire.MsgParse || parse.named != (len(name) > 0) {
			continue
		}
		if p, ok := splitParse(req[parse.off : parse.off+parse.size]); ok && bytes.Equal(p.name, name) {
			return parse.st
		}
	}
	return nil
}

// checkBound refuses parameters of set_config that give one of the proxy's own settings what means nothing.
func checkBound(st *parser.Statement, frame []byte) *wire.Error {
	for i := range st.Commands {
		for _, c := range st.Commands[i].Configured {
			if c.NameParam == 0 && (c.ValueParam == 0 || !strings.HasPrefix(c.Name, router.OwnPrefix)) {
				continue
			}
			if c.NameParam > 0 {
				name, _ := boundText(frame, c.NameParam)
				c.Name = strings.ToLower(string(name))
			}
			if c.ValueParam > 0 {
				value, given := boundText(frame, c.ValueParam)
				c.Value, c.Default, c.ValueParam = string(value), !given, 0
			}
			if e := refused(router.CheckConfiguration(&c)); e != nil {
				return e
			}
		}
	}
	return nil
}

// boundText is the n-th parameter of a Bind, of type text, which is the same in both formats; false if it is NULL or there
// is none.
func boundText(frame []byte, n int) ([]byte, bool) {
	_, _, rest, ok := splitBind(frame)
	if !ok || len(frame) < rest+2 {
		return nil, false
	}
	b := frame[rest:]
	formats := 2 * int(binary.BigEndian.Uint16(b))
	if len(b) < 2+formats+2 {
		return nil, false
	}
	count := int(binary.BigEndian.Uint16(b[2+formats:]))
	for b = b[2+formats+2:]; count > 0 && len(b) >= 4; count-- {
		size := int(int32(binary.BigEndian.Uint32(b)))
		b = b[4:]
		null := size < 0
		size = max(size, 0)
		if len(b) < size {
			return nil, false
		}
		if n--; n == 0 {
			return b[:size], !null
		}
		b = b[size:]
	}
	return nil, false
}

// checkLogin refuses names and values that mean nothing in the settings of a login.
func checkLogin(settings []wire.Param) *wire.Error {
	for _, p := range settings {
		if strings.HasPrefix(p.Name, router.OwnPrefix) {
			if e := refused(router.CheckAssignment(&parser.Assignment{Name: p.Name, Value: p.Value})); e != nil {
				e.Severity = "FATAL"
				return e
			}
		}
	}
	return nil
}

// takeOwn takes what a finished transaction has left of the proxy's own settings. The position that the session was given
// is the least it must see; it is taken out of what is carried: it is the session's own, so no two would share a
// connection's settings. A value that the server itself has computed may mean nothing, and cannot be refused any more: then
// the manager serves until there is a better one.
func (s *Session) takeOwn(now *backend.Settings) *backend.Settings {
	for _, name := range [...]string{router.SettingConsistency, router.SettingLSN} {
		v, ok := now.Value(name)
		if !ok {
			continue
		}
		r := router.CheckValue(name, v)
		if v == "" { // RESET leaves it empty
			r = nil
		}
		if before, _ := s.settings.Value(name); r != nil && v != before {
			s.warnOwn(r)
		}
		if name == router.SettingLSN {
			s.floorUnknown = r != nil
			if at, err := balance.ParseLSN(v); err == nil {
				s.floorDue = s.floorDue || at > s.floor
				s.floor = max(s.floor, at)
			}
			now = now.Without(name)
		}
	}
	return now
}

// warnOwn tells the client, before its ReadyForQuery, of a value that means nothing.
func (s *Session) warnOwn(r *router.Refusal) {
	e := refused(r)
	e.Severity, e.Detail = "WARNING", "The statement that computed it has been carried out; reads go to the manager until the setting has another value."
	s.beforeReady(func() { s.send(e.AppendNotice(nil)) })
}

// lsnWait bounds how long SHOW pgtier.lsn waits for the position of the session's last write.
const lsnWait = 2 * time.Second

// learnToken finds the session's token, if the turn shows it: whoever has seen that position has seen what the session wrote
// and read. The question is the manager's, so it may stay without an answer; a lower position would promise too little. Where
// nobody watches the servers, the one that the turn goes to is asked (askToken).
func (s *Session) learnToken() *wire.Error {
	s.token = s.floor
	if s.at.Fleet.Load() == nil || s.tx == wire.TxFailed || !s.showsToken() {
		return nil
	}
	began := time.Now()
	until, waits := began.Add(lsnWait), false
	for {
		f := s.at.Fleet.Load()
		if f == nil {
			return nil
		}
		at, known := f.Position(max(s.past(), s.seen))
		now := time.Now()
		var e *wire.Error
		switch {
		case known:
			s.token = max(s.floor, at)
			return nil
		case !waits:
			s.mu.Lock()
			s.canceled = false
			s.mu.Unlock()
			s.enter(StateWaiting)
			s.turnTime, waits = 0, true
		case f.View().Manager < 0 && now.Sub(began) < s.db.Reads().Failover:
			until = now.Add(lsnWait) // its successor will tell
		case now.After(until):
			e = &wire.Error{Code: wire.CodeCannotConnectNow, Message: "the position of what this session has written and read is not known yet",
				Detail: "The manager has not answered.", Hint: "Try again; SHOW REPLICAS in the admin database tells how the servers are."}
		}
		if stopped := s.stopped(); stopped != nil {
			e = stopped
		}
		if e != nil {
			s.rest()
			return e
		}
		time.Sleep(visiblePoll)
	}
}

// showsToken reports whether the turn shows the session's position.
func (s *Session) showsToken() bool {
	for i := range s.items {
		st := s.items[i].facts()
		if st == nil {
			continue
		}
		for j := range st.Commands {
			if cmd := &st.Commands[j]; cmd.Kind == parser.Show && cmd.Name == router.SettingLSN {
				return true
			}
		}
	}
	return false
}

// tellOwn puts the values that the turn's SHOW asks for on the connection, behind a pending replay, which may reset them.
func (s *Session) tellOwn(c *backend.Conn, replay *[]byte) error {
	var params []wire.Param
	s.tells = false
	if s.tx == wire.TxFailed {
		return nil // the server says what it says of any statement then
	}
	for i := range s.items {
		st := s.items[i].facts()
		if st == nil {
			continue
		}
		for j := range st.Commands {
			cmd := &st.Commands[j]
			if cmd.Kind != parser.Show || !strings.HasPrefix(cmd.Name, router.OwnPrefix) {
				continue
			}
			if cmd.Name == router.SettingLSN && s.token == s.floor {
				if err := s.askToken(c); err != nil {
					return err
				}
			}
			if s.raw && cmd.Name != router.SettingLSN && cmd.Name != router.SettingLastRoute {
				set, err := s.setOn(c, cmd.Name, replay)
				if err != nil {
					return err
				}
				if set {
					continue // nobody reads back what a session sets that keeps its connection; it stands there
				}
			}
			params = append(params, wire.Param{Name: cmd.Name, Value: s.ownValue(cmd.Name)})
		}
	}
	if len(params) == 0 {
		return nil
	}
	if err := s.replayNow(c, replay); err != nil {
		return err
	}
	s.tells = true
	c.SetUnnamed(nil)
	s.turnTime = 0
	return c.Exec(backend.AppendSet(nil, params), readBackTimeout, nil)
}

// positionQuery asks a server for a position behind all that it has shown.
const positionQuery = "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn() ELSE pg_catalog.pg_current_wal_insert_lsn() END"

// askToken asks the only server that there is for the session's token: all that the session has seen comes from there.
func (s *Session) askToken(c *backend.Conn) error {
	c.SetUnnamed(nil)
	s.turnTime = 0
	return c.Exec(wire.AppendQuery(nil, positionQuery), readBackTimeout, func(f wire.Frame) {
		if f.Type != wire.MsgDataRow {
			return
		}
		if fields, err := wire.RowFields(f.Body()); err == nil && len(fields) == 1 {
			if at, err := balance.ParseLSN(string(fields[0])); err == nil {
				s.token = max(s.token, at)
			}
		}
	})
}

// setOn reports whether the setting has a value on c, behind a pending replay.
func (s *Session) setOn(c *backend.Conn, name string, replay *[]byte) (set bool, err error) {
	if err := s.replayNow(c, replay); err != nil {
		return false, err
	}
	c.SetUnnamed(nil)
	s.turnTime = 0
	err = c.Exec(backend.AppendCapture(nil, []string{name}), readBackTimeout, func(f wire.Frame) {
		if f.Type == wire.MsgDataRow {
			fields, err := wire.RowFields(f.Body())
			set = err == nil && len(fields) == 1 && len(fields[0]) > 0
		}
	})
	return set, err
}

func (s *Session) ownValue(name string) string {
	switch name {
	case router.SettingConsistency:
		return s.level().String()
	case router.SettingLSN:
		return s.token.String()
	case router.SettingLastRoute:
		return s.route.String()
	}
	if v, _ := s.settings.Value(name); v != "" {
		return v
	}
	return "on"
}

// stoppable is a context that a wait of the session ends with: at until unless that is zero, or with the reason why the session is told to stop.
// done must be called when the wait is over.
func (s *Session) stoppable(until time.Time) (ctx context.Context, done func()) {
	ctx, stop := context.WithCancelCause(context.Background())
	stopTimer := context.CancelFunc(func() {})
	if !until.IsZero() {
		ctx, stopTimer = context.WithDeadline(ctx, until)
	}
	s.mu.Lock()
	s.stopWait = func(err error) { stop(err) }
	s.mu.Unlock()
	return ctx, func() {
		s.mu.Lock()
		s.stopWait = nil
		s.mu.Unlock()
		stopTimer()
		stop(nil)
	}
}

// endWait ends a wait with e. mu is held.
func (s *Session) endWait(e *wire.Error) {
	if s.stopWait != nil {
		s.stopWait(e)
	}
}
