package session

import (
	"fmt"
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
const (
	ownPrefix          = "pgtier."
	settingConsistency = "pgtier.consistency"
	settingCache       = "pgtier.cache"
	settingLSN         = "pgtier.lsn"
	settingLastRoute   = "pgtier.last_route"
)

// checkOwn refuses values and names of the proxy's own settings that mean nothing.
func (s *Session) checkOwn(st *parser.Statement) *wire.Error {
	for i := range st.Commands {
		cmd := &st.Commands[i]
		if cmd.Kind == parser.Show && strings.HasPrefix(cmd.Name, ownPrefix) {
			switch cmd.Name {
			case settingConsistency, settingCache, settingLSN, settingLastRoute:
			default:
				return unknownOwn(cmd.Name)
			}
		}
		if a := &cmd.Assigned; strings.HasPrefix(a.Name, ownPrefix) {
			if e := checkAssignment(a); e != nil {
				return e
			}
		}
	}
	return nil
}

func unknownOwn(name string) *wire.Error {
	return &wire.Error{Code: wire.CodeInvalidParameter, Message: fmt.Sprintf("unknown setting %q", name),
		Hint: "The proxy's settings are pgtier.consistency, pgtier.cache, pgtier.lsn and, to SHOW, pgtier.last_route."}
}

func checkAssignment(a *parser.Assignment) *wire.Error {
	bad := func(hint string) *wire.Error {
		return &wire.Error{Code: wire.CodeInvalidParameter, Message: fmt.Sprintf("invalid value for setting %q: %q", a.Name, a.Value), Hint: hint}
	}
	switch {
	case a.Local:
		return &wire.Error{Code: wire.CodeFeatureNotSupported, Message: fmt.Sprintf("setting %q cannot be set for one transaction", a.Name),
			Hint: "Its server is chosen when it begins: SET it before BEGIN, or begin a statement with /* pgtier: … */."}
	case a.Name == settingLastRoute:
		return &wire.Error{Code: wire.CodeInvalidParameter, Message: fmt.Sprintf("setting %q can only be shown", a.Name)}
	case a.Default && (a.Name == settingConsistency || a.Name == settingCache || a.Name == settingLSN):
		return nil
	}
	switch a.Name {
	case settingConsistency:
		if _, err := router.ParseLevel(a.Value); err != nil {
			return bad("Use session, strong, eventual or manager.")
		}
	case settingCache:
		if a.Value != "on" && a.Value != "off" {
			return bad("Use on or off.")
		}
	case settingLSN:
		if _, err := balance.ParseLSN(a.Value); err != nil {
			return bad("Use a position as SHOW pgtier.lsn gives it, such as 0/16B3748.")
		}
	case "pgtier.shard", "pgtier.sharding_key":
		return &wire.Error{Code: wire.CodeFeatureNotSupported, Message: fmt.Sprintf("setting %q is not served by this version", a.Name)}
	default:
		return unknownOwn(a.Name)
	}
	return nil
}

// checkLogin is checkOwn for the settings of a login.
func checkLogin(settings []wire.Param) *wire.Error {
	for _, p := range settings {
		if strings.HasPrefix(p.Name, ownPrefix) {
			if e := checkAssignment(&parser.Assignment{Name: p.Name, Value: p.Value}); e != nil {
				e.Severity = "FATAL"
				return e
			}
		}
	}
	return nil
}

// takeLSN makes a position that the session was given the least it must see, and takes it out of what is carried: it is
// the session's own, so no two would share a connection's settings.
func (s *Session) takeLSN(now *backend.Settings) *backend.Settings {
	v, ok := now.Value(settingLSN)
	if !ok {
		return now
	}
	if at, err := balance.ParseLSN(v); err == nil {
		s.floorDue = s.floorDue || at > s.floor
		s.floor = max(s.floor, at)
	}
	return now.Without(settingLSN)
}

// lsnWait bounds how long SHOW pgtier.lsn waits for the position of the session's last write.
const lsnWait = 2 * time.Second

// position is the session's token: whoever has seen it has seen what the session wrote and read.
func (s *Session) position() balance.LSN {
	f := s.db.Fleet.Load()
	if f == nil {
		return s.floor
	}
	deadline := time.Now().Add(lsnWait)
	for {
		at, known := f.Position(max(s.ticket, s.seen))
		if known || time.Now().After(deadline) {
			return max(s.floor, at)
		}
		time.Sleep(visiblePoll)
	}
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
			if cmd.Kind != parser.Show || !strings.HasPrefix(cmd.Name, ownPrefix) {
				continue
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

func (s *Session) ownValue(name string) string {
	switch name {
	case settingConsistency:
		return s.level().String()
	case settingLSN:
		return s.position().String()
	case settingLastRoute:
		return s.route.String()
	}
	if v, _ := s.settings.Value(name); v != "" {
		return v
	}
	return "on"
}

// endWait ends a wait for a manager with e. mu is held.
func (s *Session) endWait(e *wire.Error) {
	if s.stopWait != nil {
		s.stopWait(e)
	}
}
