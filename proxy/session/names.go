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

// forgetNames drops every prepared statement of the client.
func (s *Session) forgetNames() {
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
