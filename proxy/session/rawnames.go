package session

import (
	"context"
	"slices"

	"pgtier/parser"
	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
	"pgtier/router/catalog"
	"pgtier/router/tags"
)

// On a connection that is the session's own, names of prepared statements are the server's: it may refuse a Parse, and SQL prepares and deallocates too. What a
// name means is known there as long as it has never meant anything else: one that is parsed a second time, closed, or prepared by SQL may mean anything.

// rawNames are the statements that were parsed by name on such a connection; nil: the name may mean anything.
type rawNames map[string]*parser.Statement

// maxRawNames bounds them. A session that has more is not followed further: names that are not there may mean anything.
const maxRawNames = 1000

// rawParsed notes that a name was parsed.
func (s *Session) rawParsed(name []byte, st *parser.Statement) {
	s.rawChanges = s.rawChanges || changesSchema(st)
	if len(name) == 0 {
		return
	}
	_, known := s.rawNames[string(name)]
	if known || s.names[string(name)] != nil {
		st = nil
	}
	s.rawNamed(string(name), st)
}

// rawForgotten notes that a name may mean anything from now on.
func (s *Session) rawForgotten(name string) { s.rawNamed(name, nil) }

func (s *Session) rawNamed(name string, st *parser.Statement) {
	if _, known := s.rawNames[name]; !known && len(s.rawNames) >= maxRawNames {
		if own := s.names[name]; own != nil {
			s.setName(name, nil)
			s.forget(own)
		}
		return
	}
	if s.rawNames == nil {
		s.rawNames = make(rawNames)
	}
	s.rawNames[name] = st
}

// followAnew begins where no name is known but those that the session gives the connection.
func (s *Session) followAnew() {
	s.rawNames, s.rawChanges = nil, false
	s.keep.named, s.keep.coded, s.keep.given, s.keep.rawIn = false, false, given{}, s.at.Keeper.Load()
}

// followRaw notes what requests that go to such a connection may do to names.
func (s *Session) followRaw(req []byte) {
	for i := range s.items {
		it := &s.items[i]
		frame := req[it.off : it.off+it.size]
		switch it.typ {
		case wire.MsgQuery:
			s.rawText(it.st)
		case wire.MsgParse:
			if p, ok := splitParse(frame); ok {
				st := s.facts(p.text)
				s.rawParsed(p.name, st)
				s.rawText(st)
			}
		case wire.MsgClose:
			s.rawClosed(frame)
		}
	}
}

// rawClosed notes a Close.
func (s *Session) rawClosed(frame []byte) {
	if kind, name, ok := splitTarget(frame); ok && kind == 'S' && len(name) > 0 {
		s.rawForgotten(string(name))
	}
}

// rawText notes what a text may do to names.
func (s *Session) rawText(st *parser.Statement) {
	for i := range st.Commands {
		if cmd := &st.Commands[i]; cmd.Effects&(parser.SQLPrepare|parser.SQLDeallocate) != 0 && cmd.Name != "" {
			s.rawForgotten(cmd.Name)
		}
	}
	s.keep.named = s.keep.named || st.Effects&parser.SQLPrepare != 0 || st.Unparsed
}

// ownNamed is the statement that the session has prepared by that name, and not on a connection of its own; nil if there is none, or the name may mean
// another there.
func (s *Session) ownNamed(name []byte) *backend.Statement {
	if _, other := s.rawNames[string(name)]; other || s.keep.coded {
		return nil
	}
	return s.names[string(name)]
}

// rawStatement is what a name means on a connection that is the session's own, nil if that is not certain.
func (s *Session) rawStatement(name []byte) *parser.Statement {
	if s.keep.coded {
		return nil
	}
	if st, known := s.rawNames[string(name)]; known {
		return st
	}
	if own := s.ownNamed(name); own != nil && !own.SQL {
		return own.Runs
	}
	return nil
}

// runsCode reports whether st calls something, DO included.
func runsCode(st *parser.Statement) bool {
	return slices.ContainsFunc(st.Commands, func(c parser.Command) bool {
		return c.Kind == parser.Do || c.Kind == parser.Call || len(c.Calls)+len(c.Functions) > 0
	})
}

// givenChanges reports whether one of the statements that the connection was given changes the schema.
func (s *Session) givenChanges() bool {
	if s.unnamed != nil && changesSchema(s.unnamed.Runs) {
		return true
	}
	for _, st := range s.names {
		if changesSchema(st.Runs) {
			return true
		}
	}
	return false
}

// given is what is known of the statements that a connection was given when it became the session's own.
type given struct {
	by      *catalog.Snapshot
	defines bool // one of them may change the catalog
}

// givenMaySchema reports whether one of the statements that the connection was given may change the catalog.
func (s *Session) givenMaySchema(judge *Judge) bool {
	g := &s.keep.given
	if g.by != judge.Snapshot {
		g.by, g.defines = judge.Snapshot, s.unnamed != nil && s.maySchema(judge, s.unnamed.Runs)
		for _, st := range s.names {
			g.defines = g.defines || s.maySchema(judge, st.Runs)
		}
	}
	return g.defines
}

// maySchema reports whether a statement may change the catalog.
func (s *Session) maySchema(judge *Judge, st *parser.Statement) bool {
	s.kept.tags = judge.Tags.Write(st).Append(s.kept.tags[:0], tags.Values{})
	return slices.Contains(s.kept.tags, tags.Everything)
}

// awaitCatalog waits for the catalog to be read again, and reports whether that takes too long.
func (s *Session) awaitCatalog() (pending bool) {
	if !s.db.Hazards.Pending() {
		return false
	}
	ctx, stop := context.WithTimeout(context.Background(), hazardWait)
	defer stop()
	return s.db.Hazards.Wait(ctx) != nil
}
