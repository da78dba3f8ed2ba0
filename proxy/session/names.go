package session

import (
	"bytes"

	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
)

// setName makes the client's prepared statement name mean st; nil removes it.
// It moves no reference: the caller owns st's.
func (s *Session) setName(name string, st *backend.Statement) {
	if old := s.names[name]; old != nil {
		s.nameSize -= nameCost(name, old)
	}
	if st == nil {
		delete(s.names, name)
		s.held.Store(int32(len(s.names)))
		return
	}
	if s.names == nil {
		s.names = make(map[string]*backend.Statement)
	}
	s.names[name] = st
	s.held.Store(int32(len(s.names)))
	s.nameSize += nameCost(name, st)
}

func nameCost(name string, st *backend.Statement) int64 {
	return int64(len(name)+len(st.Text)) + 128
}

// forget gives back a reference that a name held.
func (s *Session) forget(st *backend.Statement) {
	if st != nil {
		s.db.Statements.Release(st)
	}
}

// setUnnamed makes st the client's unnamed statement, taking over its reference.
func (s *Session) setUnnamed(st *backend.Statement) {
	if s.unnamed != nil {
		s.db.Statements.Release(s.unnamed)
	}
	s.unnamed = st
}

// recent are statements that were the session's unnamed one and may soon be again: applications that send the text with
// every execution send the same few in turns. Each holds a reference, so that neither a look at the shared store nor its
// lock is needed to make one the unnamed statement again.
type recent [8]*backend.Statement

// maxRecent bounds the texts among them, in bytes: with the rest of a statement 6 kB a session, where nobody shares them.
const maxRecent = 512

// parsedAs returns the statement of which frame is a Parse without a name; nil if none is at hand.
func (s *Session) parsedAs(frame []byte) *backend.Statement {
	if u := s.unnamed; u != nil && u.IsParse(frame) {
		return u
	}
	for _, st := range s.recent {
		if st != nil && st.IsParse(frame) {
			return st
		}
	}
	return nil
}

// takeRecent takes st out of the recent ones, with its reference; false if it is not there.
func (s *Session) takeRecent(st *backend.Statement) bool {
	for i := range s.recent {
		if s.recent[i] == st {
			s.recent[i] = nil
			return true
		}
	}
	return false
}

// retire makes st, which may be nil, a recent statement, with its reference. The oldest place is given up if none is free.
func (s *Session) retire(st *backend.Statement) {
	if st == nil || st.Owner != 0 || len(st.Text) > maxRecent || s.dx != nil { // a duplex relay has a goroutine of its own
		s.forget(st)
		return
	}
	for i := range s.recent {
		switch s.recent[i] {
		case nil:
			s.recent[i] = st
			return
		case st:
			s.forget(st)
			return
		}
	}
	s.oldest = (s.oldest + 1) % uint8(len(s.recent))
	s.forget(s.recent[s.oldest])
	s.recent[s.oldest] = st
}

// forgetRecent gives their references back.
func (s *Session) forgetRecent() {
	for i, st := range s.recent {
		s.forget(st)
		s.recent[i] = nil
	}
}

// forgetNames drops every prepared statement of the client.
func (s *Session) forgetNames() {
	s.forgetRecent()
	for name, st := range s.names {
		s.setName(name, nil)
		s.forget(st)
	}
	s.setUnnamed(nil)
}

// clientNames returns a copy of an error that calls shared statements by the
// client's own names; ok is false when the error names none.
func (s *Session) clientNames(frame []byte) (out []byte, ok bool) {
	if !bytes.Contains(frame, []byte(`"pgtier_`)) {
		return nil, false
	}
	out = append(out, frame...)
	for name, st := range s.names {
		out = bytes.ReplaceAll(out, []byte(`"`+st.Name+`"`), []byte(`"`+name+`"`))
	}
	return wire.End(out, 0), true
}
