package session

import (
	"fmt"
	"slices"

	"pgtier/parser"
	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
)

// readyBytes is the size of a ReadyForQuery.
const readyBytes = wire.HeaderBytes + 1

// restoreStartup runs at the end of a turn with a RESET. It brought the server's
// own defaults, but the client's session began with what it asked for at login.
// That is set again before the client can run its next statement, in the
// transaction under way if there is one, so that both are undone together.
func (s *Session) restoreStartup(c *backend.Conn) error {
	if !s.relay.reset || s.tx == wire.TxFailed || !s.raw && s.tx == wire.TxIdle && s.resetAlone() {
		return nil // the last: readBack sets nothing, the next lease does
	}
	names := s.resetNames()
	if len(names) == 0 {
		return nil
	}
	if err := c.Exec(backend.AppendRestore(nil, names), readBackTimeout, nil); err != nil {
		return fmt.Errorf("restore the settings of the login: %w", err)
	}
	c.SetUnnamed(nil)
	// A changed value is reported behind the answer's complete frames.
	s.beforeReady(func() { s.tellParams(c, s.send) })
	return nil
}

// resetNames are the login's settings that the turn's statements reset.
func (s *Session) resetNames() []wire.Param {
	var out []wire.Param
	add := func(p wire.Param) {
		if !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	for i := range s.items {
		st := s.items[i].facts()
		if st == nil {
			continue
		}
		for j := range st.Commands {
			cmd := &st.Commands[j]
			for _, p := range s.startup.All() {
				if cmd.Kind == parser.ResetAll || cmd.Kind == parser.Reset && slices.Contains(cmd.Settings, p.Name) {
					add(p)
				}
			}
		}
	}
	return out
}
