package session

import (
	"slices"
	"sync"
	"time"

	"pgtier/parser"
	"pgtier/proxy/fleet"
	"pgtier/router"
	"pgtier/router/catalog"
)

// Writes remembers when each table of a database was last written through the proxy, for reads at level strong. The
// zero value remembers none. Safe for concurrent use.
type Writes struct {
	mu     sync.RWMutex
	all    fleet.Ticket // of writes whose tables are not known
	tables map[string]fleet.Ticket
}

// maxWrites bounds the tables that are remembered one by one, at about 100 bytes each. Applications have fewer, unless they
// make and drop them; then reads of other tables too wait for the last write until now, once.
const maxWrites = 4096

// note records an acknowledged write.
func (w *Writes) note(tables []string, all bool, t fleet.Ticket) {
	w.mu.Lock()
	defer w.mu.Unlock()
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
	if len(w.tables) > maxWrites {
		for _, of := range w.tables {
			w.all = max(w.all, of)
		}
		clear(w.tables)
	}
}

// last is the ticket of the last write of all.
func (w *Writes) last() fleet.Ticket {
	w.mu.RLock()
	defer w.mu.RUnlock()
	t := w.all
	for _, of := range w.tables {
		t = max(t, of)
	}
	return t
}

// latest is the ticket of the last write that one of the readings may see.
func (w *Writes) latest(readings []*catalog.Reading) fleet.Ticket {
	w.mu.RLock()
	defer w.mu.RUnlock()
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
	// unnoted: something ran while there was no Fleet, so the rest does not tell of it. There may be one when it commits.
	unnoted bool
}

// note adds what one statement may change.
func (w *written) note(h Hazards, st *parser.Statement) {
	unknown := st.Unparsed || st.Pin != "" && len(st.Commands) == 0
	if w.all || len(st.Commands) == 0 && !unknown {
		return
	}
	if unknown {
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

// Wrote makes known that the tables may have been written just now, or anything. Safe for concurrent use.
func (d *Database) Wrote(tables []string, all bool) {
	if f := d.Fleet.Load(); f != nil {
		d.Writes.note(tables, all, f.Committed())
	}
}

// Inherit makes what sessions wrote and read until now bind their reads: there was no Fleet, so nobody has drawn tickets for it.
// f is the Fleet by now and does not run yet. Whoever has found none had the server's answer by then.
func (d *Database) Inherit(f *fleet.Fleet) {
	t := f.Now()
	d.unwatched.Store(uint64(t))
	d.Writes.note(nil, true, t)
}

// past is the ticket of what the manager has shown the session or taken from it.
func (s *Session) past() fleet.Ticket { return max(s.ticket, fleet.Ticket(s.at.unwatched.Load())) }

// noteWrites follows what a statement may change.
func (s *Session) noteWrites(st *parser.Statement) {
	if s.at.Fleet.Load() == nil && s.wide == nil {
		s.txn.wrote.unnoted = true
		return
	}
	s.txn.wrote.note(s.db.Hazards, st)
}

// mayWriteAll notes that what runs is not known.
func (s *Session) mayWriteAll() {
	if s.at.Fleet.Load() == nil {
		s.txn.wrote.unnoted = true
		return
	}
	s.txn.wrote.all, s.txn.wrote.any = true, true
}

// acknowledged makes known to others what the client hears is committed before the turn is over. It may also do so for
// what has not been committed yet: that is noted again when it is.
func (s *Session) acknowledged() {
	w := &s.txn.wrote
	if f := s.at.Fleet.Load(); f != nil && w.any && s.replica == "" {
		s.at.Writes.note(w.tables, w.all, f.Committed())
	}
}

// commitsEarly reports whether a statement of the turn may end a transaction and others follow, whose answers can come
// long after the client has heard of the end.
func (s *Session) commitsEarly() bool {
	if !s.txn.wrote.any {
		return false
	}
	ends, statements := false, 0
	for i := range s.items {
		if st := s.items[i].facts(); st != nil {
			ends = ends || st.Effects&parser.EndsTransaction != 0
			statements += len(st.Commands)
		}
	}
	return ends && statements > 1
}

// chains reports whether a statement of the turn may have ended a transaction.
func (s *Session) chains() bool {
	for i := range s.items {
		if st := s.items[i].facts(); st != nil && st.Effects&parser.EndsTransaction != 0 {
			return true
		}
	}
	return false
}

// seeing raises what the session must see from now on, before the client hears of the transaction's end.
func (s *Session) seeing(w *written) {
	f := s.at.Fleet.Load()
	if f == nil {
		return
	}
	switch {
	case s.replica != "":
		alive := s.lentAt
		if s.server == nil || s.server.Spoiled() != "" {
			alive = time.Time{} // it may have crashed before it answered anything
		}
		s.saw(s.replica, s.inside, f.Now(), alive)
	case w.any || w.unnoted:
		s.ticket = f.Committed()
		s.at.Writes.note(w.tables, w.all || w.unnoted, s.ticket)
	default:
		s.ticket = f.Now()
	}
	*w = written{}
}

// saw raises what the session must see from now on to what a replica has shown by the time of t. The replica was chosen for
// level, and has not crashed between alive and its answer; zero: nothing is known of that.
func (s *Session) saw(replica string, level router.Level, t fleet.Ticket, alive time.Time) {
	if level == router.Eventual {
		// It may be behind what the session has seen before, on another replica or, before a crash, on the same one. So whoever is
		// asked next has to have that, this replica too.
		s.ticket = max(s.ticket, s.seen)
	}
	s.seen, s.seenOn, s.seenAt = t, replica, alive
}
