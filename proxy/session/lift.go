package session

import (
	"slices"

	"pgtier/parser"
	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
	"pgtier/router"
	"pgtier/router/catalog"
)

// A session that runs code while the catalog is read again, and that takes long, keeps its connection: nobody knows what the code leaves there. Once the catalog has
// been read it can be known, if that is the one by which the code ran: then the pin is lifted where nothing that has run since leaves anything.

// doubts are statements that ran while the catalog was being read, to be judged by it when it has been. The zero value has none.
type doubts struct {
	list  []*parser.Statement // each once
	from  catalog.Mark        // before the first ran
	to    catalog.Mark        // behind the last
	under bool                // the last may be under way
}

// maxDoubts bounds them: a session runs few statements until the catalog has been read.
const maxDoubts = 64

// add notes a statement that is about to run; false: there are too many.
func (d *doubts) add(st *parser.Statement, now catalog.Mark) bool {
	if len(d.list) == 0 {
		d.from = now
	}
	d.under = true
	if slices.Contains(d.list, st) {
		return true
	}
	if len(d.list) == maxDoubts {
		return false
	}
	d.list = append(d.list, st)
	return true
}

// ran notes that what was sent is over.
func (d *doubts) ran(h Hazards) {
	if d.under {
		d.to, d.under = h.Mark(), false
	}
}

// mayBeCoded reports whether code may have prepared anything under any name on a connection that is the session's own. Of what was in doubt that is found out here, if it
// can be by now.
func (s *Session) mayBeCoded() bool {
	n := &s.rawNames
	d := &n.doubts
	if n.coded || len(d.list) == 0 {
		return n.coded
	}
	to := d.to
	if d.under {
		to = s.db.Hazards.Mark()
	}
	judge, known := s.db.Hazards.Judges(d.from, to)
	if !known {
		return true
	}
	for _, st := range d.list {
		if judge == nil {
			n.coded = true
			s.staysPinned("the catalog has changed meanwhile")
			break
		}
		f := s.rawFacts(st)
		n.coded = n.coded || router.MayPrepare(st, f, judge)
		if why := router.Route(st, f, judge).Pin; why != "" {
			s.staysPinned(why)
		}
	}
	if !d.under {
		*d = doubts{}
	}
	return n.coded
}

// lift is what is known of a session whose pin may be lifted.
type lift struct {
	outlives bool // as it was before the pin
	advances bool // a statement may have advanced a sequence
}

// staysPinned gives up to lift the pin, for a reason that is told.
func (s *Session) staysPinned(why string) {
	if s.lift == nil {
		return
	}
	s.lift = nil
	s.mu.Lock()
	s.pin += "; since then " + why
	s.mu.Unlock()
}

// liftable are the effects of statements that leave nothing behind their transaction, unless they run code that does.
const liftable = parser.BeginsTransaction | parser.EndsTransaction | parser.TransactionControl | parser.Writes | parser.AdvancesSequence |
	parser.LocksRows | parser.LocksTable | parser.LocksTransaction | parser.UsesCursor | parser.RunsOpaqueCode

// runs notes a statement that is about to run.
func (l *lift) runs(s *Session, st *parser.Statement) {
	switch {
	case st.Unparsed, st.Conforming, st.Effects&^liftable != 0, setsAnything(st):
		s.staysPinned("a statement whose effects are not followed")
	case s.db.Hazards.Pending() && router.MayRunCode(st): // judged later
		if why := router.Route(st, s.rawFacts(st), harmless{}).Pin; why != "" {
			s.staysPinned(why)
		}
	default:
		if why := router.Route(st, s.rawFacts(st), s.db.Hazards).Pin; why != "" {
			s.staysPinned(why)
		}
	}
	l.advances = l.advances || st.Effects&parser.AdvancesSequence != 0
}

// binds notes a Bind of what the session has prepared by that name, or without one.
func (l *lift) binds(s *Session, name []byte) {
	own := s.unnamed
	if len(name) > 0 {
		own = s.names[string(name)]
	}
	if own != nil {
		l.runs(s, own.Runs)
		if s.db.Hazards.Pending() && router.MayRunCode(own.Runs) && !s.rawNames.doubts.add(own.Runs, s.db.Hazards.Mark()) {
			s.staysPinned("more than can be followed")
		}
	}
}

// ran follows what the turn has made of names, so that they are there when the pin is lifted.
func (l *lift) ran(s *Session, req []byte, err error) {
	r := &s.relay
	made := 0
	for i := range s.items {
		switch it := &s.items[i]; it.typ {
		case wire.MsgParse, wire.MsgQuery, wire.MsgClose: // that of a portal too, which is acknowledged like others
			made++
		case wire.MsgFunction:
			s.staysPinned("a function call by the protocol")
			return
		case wire.MsgCopyData, wire.MsgCopyDone, wire.MsgCopyFail:
			s.staysPinned("COPY")
			return
		}
	}
	switch {
	case err != nil || r.err != nil || r.copyIn || r.toSync || r.fatal:
		s.staysPinned("messages without their answer") // where it matters still
	case r.errors == 0:
		l.follow(s, req)
	case made == 1 && (r.acknowledged || s.items[0].typ == wire.MsgQuery):
		l.follow(s, req)
	case made == 1 && s.items[0].typ == wire.MsgParse:
		if !s.items[0].named {
			s.setUnnamed(nil)
		}
	case made > 0:
		s.staysPinned("messages of which some have failed")
	}
}

// follow makes the names what the turn says.
func (l *lift) follow(s *Session, req []byte) {
	for i := range s.items {
		it := &s.items[i]
		frame := req[it.off : it.off+it.size]
		switch it.typ {
		case wire.MsgQuery:
			s.setUnnamed(nil)
		case wire.MsgParse:
			p, ok := splitParse(frame)
			if !ok {
				continue
			}
			st := s.facts(p.text)
			l.name(s, p.name, s.db.Statements.Acquire(backend.StatementKey{Text: p.text, Types: p.types, Under: s.readingOf(st)}, st))
		case wire.MsgClose:
			if kind, name, ok := splitTarget(frame); ok && kind == 'S' {
				l.name(s, name, nil)
			}
		}
	}
}

// name gives a name a meaning, nil for none.
func (l *lift) name(s *Session, name []byte, st *backend.Statement) {
	if len(name) == 0 {
		s.setUnnamed(st)
		return
	}
	old := s.names[string(name)]
	s.setName(string(name), st)
	s.forget(old)
	if s.nameSize > int64(s.env.limit().SessionMemory) {
		s.staysPinned("more prepared statements than limits.session_memory has room for")
	}
}

// lifts ends the pin if nothing that has run since leaves anything on the connection, and gives that back. The session is outside a transaction.
func (s *Session) lifts() {
	if s.mayBeCoded() || len(s.rawNames.doubts.list) > 0 || s.lift == nil || s.server == nil || !s.raw {
		if s.rawNames.coded {
			s.staysPinned("code that may have prepared statements")
		}
		return
	}
	l, c := s.lift, s.server
	clean := "DEALLOCATE ALL"
	if len(s.listens) > 0 {
		clean += "; UNLISTEN *" // of pinTo's
	}
	if err := c.Exec(wire.AppendQuery(nil, clean), adoptTimeout, nil); err != nil {
		c.Spoil("could not be cleared of a session's names")
	}
	c.ForgetPrepared()
	c.SetUnnamed(nil)
	if l.advances {
		s.advanced(c)
	}
	s.raw, s.outlives, s.rawNames, s.rawChanges, s.lift = false, l.outlives, rawNames{}, false, nil
	s.mu.Lock()
	s.pin = ""
	s.mu.Unlock()
	s.logger().Debug("session pinned no more")
	s.release(c)
}
