package session

import (
	"slices"
	"sync"

	"pgtier/parser"
	"pgtier/proxy/fleet"
	"pgtier/router/catalog"
)

// Writes remembers when each table of a database was last written through the proxy, for reads at level strong. The
// zero value remembers none. Safe for concurrent use.
type Writes struct {
	mu     sync.RWMutex
	of     *fleet.Fleet // whose tickets they are
	all    fleet.Ticket // of writes whose tables are not known
	tables map[string]fleet.Ticket
}

// note records an acknowledged write.
func (w *Writes) note(f *fleet.Fleet, tables []string, all bool, t fleet.Ticket) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.follow(f)
	if all {
		w.all = max(w.all, t)
		clear(w.tables) // all covers them
		return
	}
	if w.tables == nil {
		w.tables = make(map[string]fleet.Ticket)
	}
	for _, name := range tables {
		w.tables[name] = max(w.tables[name], t)
	}
}

// follow begins anew with another watch's tickets, the first of which covers all writes before.
func (w *Writes) follow(f *fleet.Fleet) {
	if w.of != f {
		w.of, w.all = f, f.Committed()
		clear(w.tables)
	}
}

// latest is the ticket of the last write that one of the readings may see.
func (w *Writes) latest(f *fleet.Fleet, readings []*catalog.Reading) fleet.Ticket {
	w.mu.RLock()
	defer w.mu.RUnlock()
	if w.of != f && w.of != nil {
		return f.Committed() // until the first write after a reload begins anew
	}
	t := w.all
	for _, r := range readings {
		for _, name := range r.Tables {
			t = max(t, w.tables[name])
		}
	}
	return t
}

// written is what the transaction under way may have changed.
type written struct {
	tables []string
	all    bool
	any    bool
}

// note adds what one statement may change.
func (w *written) note(h Hazards, st *parser.Statement) {
	if w.all || len(st.Commands) == 0 && !st.Unparsed {
		return
	}
	if st.Unparsed || st.Pin != "" && len(st.Commands) == 0 {
		w.all, w.any = true, true
		return
	}
	if h.Reading(st).Verdict == catalog.Read {
		return
	}
	for i := range st.Commands {
		tables, all := h.Written(&st.Commands[i])
		w.any = w.any || all || len(tables) > 0
		w.all = w.all || all
		for _, name := range tables {
			if !slices.Contains(w.tables, name) {
				w.tables = append(w.tables, name)
			}
		}
	}
}

// noteWrites follows what a statement may change.
func (s *Session) noteWrites(st *parser.Statement) {
	if s.db.Fleet.Load() != nil {
		s.txn.wrote.note(s.db.Hazards, st)
	}
}

// seeing raises what the session must see from now on, before the client hears of the transaction's end.
func (s *Session) seeing(w *written) {
	f := s.fleet()
	if f == nil {
		return
	}
	switch {
	case s.replica != "":
		s.seen, s.seenOn = f.Now(), s.replica
	case w.any:
		s.ticket = f.Committed()
		s.db.Writes.note(f, w.tables, w.all, s.ticket)
	default:
		s.ticket = f.Committed() // what it read may be as new as that
	}
	*w = written{}
}
