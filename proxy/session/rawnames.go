package session

import (
	"context"
	"slices"

	"pgtier/parser"
	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
	"pgtier/router"
	"pgtier/router/catalog"
	"pgtier/router/tags"
)

// On a connection that is the session's own, names of prepared statements are the server's: it may refuse a Parse, and SQL prepares and deallocates too, which
// code may do unseen. What a name means is known there as long as it has never meant anything else. That it may have been closed matters nothing: then it means
// nothing, and the server says so.

// rawNames is what is known of the names there. The zero value is that of a connection that has just become the session's own.
type rawNames struct {
	// known are the statements that were parsed by name; nil: the name may mean anything.
	known map[string]*parser.Statement
	size  int // of known, in bytes
	// unnamed is what the unnamed statement is, if there is one; nil: it may be anything. next is what it is behind the turn under way, if that does not
	// fail, and replaced that the turn does something to it.
	unnamed, next *parser.Statement
	replaced      bool
	// coded: what runs unseen may have prepared anything under any name.
	coded bool
	// doubts are statements that may have, for all that was known of the catalog when they ran.
	doubts doubts
	// by is the catalog when the connection became the session's own, givenJudged that what it was given then has been judged by it.
	by          *catalog.Snapshot
	givenJudged bool
	// quoting: what runs in the turn under way may change how backslashes in literals are read.
	quoting bool
}

// maxRawNames bounds them. A session that has more is not followed further: names that are not there may mean anything.
const maxRawNames = 1000

// maxRawName bounds the length of names that are followed, in bytes: the server cuts off what is longer (NAMEDATALEN), so that several are one.
const maxRawName = 62

// followsName reports whether a name can be followed: it is one name for the server too, in every encoding.
func followsName[T string | []byte](name T) bool {
	if len(name) > maxRawName {
		return false
	}
	for i := range len(name) {
		if name[i] >= 0x80 {
			return false
		}
	}
	return true
}

// rawParsed notes that a name was parsed, in a text of size bytes.
func (s *Session) rawParsed(name []byte, st *parser.Statement, size int) {
	s.rawChanges = s.rawChanges || changesSchema(st)
	n := &s.rawNames
	if len(name) == 0 {
		n.unnamedIs(st)
		return
	}
	if !followsName(name) {
		return
	}
	before, known := n.known[string(name)]
	switch own := s.names[string(name)]; {
	case known && before == st, !known && own != nil && !own.SQL && own.Runs == st:
		return
	case known || own != nil:
		st = nil
	}
	if size += len(name) + rawNameBytes; n.size+size > s.env.limit().SessionMemory {
		st = nil
	}
	if st != nil {
		n.size += size
	}
	s.rawNamed(string(name), st)
}

// rawNameBytes is a guess of what a statement takes beside its text.
const rawNameBytes = 1 << 10

// rawForgotten notes that a name may mean anything from now on.
func (s *Session) rawForgotten(name string) {
	if followsName(name) {
		s.rawNamed(name, nil)
	}
}

func (s *Session) rawNamed(name string, st *parser.Statement) {
	n := &s.rawNames
	if _, known := n.known[name]; !known && len(n.known) >= maxRawNames {
		n.coded = n.coded || s.names[name] != nil
		return
	}
	if n.known == nil {
		n.known = make(map[string]*parser.Statement)
	}
	n.known[name] = st
}

// unnamedIs notes what the turn makes of the unnamed statement, nil for nothing.
func (n *rawNames) unnamedIs(st *parser.Statement) { n.next, n.replaced = st, true }

// unnamedStands ends a turn, of which failed tells whether anything in it did: what it was to make of the unnamed statement may not have been made.
func (n *rawNames) unnamedStands(failed bool) {
	if n.replaced && failed {
		n.next = nil
	}
	if n.replaced {
		n.unnamed = n.next
	}
	n.next, n.replaced = nil, false
}

// followAnew begins where no name is known but those that the session gives the connection.
func (s *Session) followAnew() {
	s.rawChanges = false
	s.rawNames = rawNames{by: s.db.Hazards.Snapshot()}
	if s.unnamed != nil {
		s.rawNames.unnamed = s.unnamed.Runs
	}
	s.keep.named, s.keep.given, s.keep.rawIn = false, given{}, s.at.Keeper.Load()
}

// followRaw notes what requests that go to such a connection may do to names.
func (s *Session) followRaw(req []byte) {
	s.rawNames.quoting = false
	s.rawNames.unnamedStands(true) // of a turn that was not sent
	parsed := false                // the unnamed statement, by the same request
	for i := range s.items {
		it := &s.items[i]
		frame := req[it.off : it.off+it.size]
		switch it.typ {
		case wire.MsgQuery:
			s.rawText(it.st)
			s.rawNames.unnamedIs(nil)
		case wire.MsgParse:
			if p, ok := splitParse(frame); ok {
				st := s.facts(p.text)
				s.rawParsed(p.name, st, len(p.text))
				s.rawText(st)
				parsed = parsed || len(p.name) == 0
			}
		case wire.MsgBind:
			_, name, _, ok := splitBind(frame)
			if ok && s.lift != nil {
				s.lift.binds(s, name)
			}
			switch {
			case ok && len(name) > 0:
				s.rawBound(s.rawMeaning(name))
			case ok && !s.rawNames.replaced:
				s.rawBound(s.rawNames.unnamed)
			case ok && !parsed:
				s.rawBound(nil)
			}
		case wire.MsgClose:
			s.rawClosed(frame)
		case wire.MsgFunction:
			s.rawCalled(frame)
		}
		parsed = parsed && !it.end
	}
}

// rawClosed notes a Close.
func (s *Session) rawClosed(frame []byte) {
	if kind, name, ok := splitTarget(frame); ok && kind == 'S' && len(name) == 0 {
		s.rawNames.unnamedIs(nil)
	}
}

// rawCalled notes a function call by the protocol.
func (s *Session) rawCalled(frame []byte) {
	s.rawNames.coded = s.rawNames.coded || !largeObjectCall(frame)
	s.rawNames.quoting = true
}

// rawText notes what a text may do to names.
func (s *Session) rawText(st *parser.Statement) {
	for i := range st.Commands {
		if cmd := &st.Commands[i]; cmd.Effects&parser.SQLPrepare != 0 {
			s.rawForgotten(cmd.Name)
			if p := cmd.Prepared; p != nil { // EXECUTE does not tell what it runs
				s.rawJudged(&parser.Statement{Template: st.Template, Conforming: st.Conforming, Commands: []parser.Command{*p}, Effects: p.Effects, Pin: p.Pin})
			}
		}
	}
	s.keep.named = s.keep.named || st.Effects&parser.SQLPrepare != 0 || st.Unparsed
	s.rawRuns(st)
	if st.Effects&parser.SQLExecute != 0 {
		s.rawBound(nil)
	}
}

// rawBound notes that st is run by its name; nil: what nobody knows. All that was prepared on the connection has been judged then, but it may run other code by now,
// and what the connection was given has not been judged by this catalog.
func (s *Session) rawBound(st *parser.Statement) {
	n := &s.rawNames
	switch {
	case st != nil:
		s.rawRuns(st)
	case !n.coded:
		n.coded = s.awaitCatalog() || s.txn.code || s.db.Hazards.Snapshot() != n.by || s.givenMayPrepare()
		s.turnTime = 0
	}
	n.quoting = n.quoting || st == nil || !st.Conforming && s.runsCode(st) // which the turn's messages do not show
}

// givenMayPrepare reports whether one of the statements that the connection was given may prepare others. That is not asked before what nobody knows runs, because
// few sessions come to that.
func (s *Session) givenMayPrepare() bool {
	n := &s.rawNames
	if n.givenJudged {
		return false // else all names are unknown by now
	}
	n.givenJudged = true
	may := func(st *parser.Statement) bool { return router.MayPrepare(st, s.rawFacts(st), s.db.Hazards) }
	for _, st := range s.names {
		if may(st.Runs) {
			return true
		}
	}
	return s.unnamed != nil && may(s.unnamed.Runs)
}

// rawRuns notes what st may do to names by code.
func (s *Session) rawRuns(st *parser.Statement) {
	n := &s.rawNames
	n.quoting = n.quoting || st.Unparsed || setsAnything(st)
	if s.lift != nil {
		s.lift.runs(s, st)
	}
	s.rawJudged(st)
}

// setsAnything reports whether the text of st shows that it may change settings, be it for the transaction.
func setsAnything(st *parser.Statement) bool {
	return st.Effects&(parser.ChangesSettings|parser.ResetsAll|parser.DiscardsAll) != 0 || slices.ContainsFunc(st.Commands, func(c parser.Command) bool {
		return len(c.Settings)+len(c.Locals)+len(c.Restores) > 0 || c.LocalsAny || c.RestoresAny
	})
}

// rawJudged finds out whether st may prepare anything by code, of which its text tells nothing.
func (s *Session) rawJudged(st *parser.Statement) {
	n := &s.rawNames
	if n.coded {
		return
	}
	f := s.rawFacts(st)
	if st.Effects&parser.DDL != 0 {
		s.txn.code = s.txn.code || router.Route(st, f, s.db.Hazards).MakesCode
	}
	if s.db.Hazards.Pending() && router.MayRunCode(st) && !router.MayPrepare(st, f, harmless{}) {
		n.coded = !n.doubts.add(st, s.db.Hazards.Mark())
		return
	}
	n.coded = router.MayPrepare(st, f, s.db.Hazards)
}

// rawFacts are routeFacts of a statement that a name may bring behind what nobody has seen: whether its transaction has failed is not certain.
func (s *Session) rawFacts(st *parser.Statement) router.Facts {
	f := s.routeFacts(st)
	f.TxFailed = false
	return f
}

// harmless takes every function for harmless.
type harmless struct{}

func (harmless) Pins(*parser.Statement) string  { return "" }
func (harmless) Defines(*parser.Statement) bool { return false }

// misread reports whether st may be another text for the server, which reads backslashes in its literals otherwise.
func (s *Session) misread(st *parser.Statement) bool {
	return st.Conforming && (s.rawNames.quoting || s.txn.reads.turn || s.codeBesides(st) || readsBackslashes(s.params) || s.branchMisreads())
}

// branchMisreads reports whether a shard that takes part reads backslashes in literals otherwise than the parser: code may have switched that there for the transaction,
// and the client is told of one shard's parameters, behind its request.
func (s *Session) branchMisreads() bool {
	return s.wide != nil && slices.ContainsFunc(s.wide.branches, func(b *branch) bool { return readsBackslashes(b.c.Params()) })
}

// codeBesides reports whether the turn runs another statement than st whose code may change settings, for its transaction if not for the session: of that nobody
// hears before the turn is over.
func (s *Session) codeBesides(st *parser.Statement) bool {
	if d := s.dx; d != nil {
		return d.coders || d.coder != nil && d.coder != st
	}
	return slices.ContainsFunc(s.items, func(it item) bool {
		other := it.facts()
		return other != nil && other != st && s.runsCode(other)
	})
}

// runsCode reports whether st may run functions that are not the server's own, be they triggers'.
func (s *Session) runsCode(st *parser.Statement) bool {
	return router.MayRunCode(st) && (s.db.Hazards.Pending() || st.Effects&parser.RunsOpaqueCode != 0 || s.db.Hazards.Snapshot().RunsFunctions(st))
}

// readsBackslashes reports whether a server that reports now reads backslashes in literals otherwise than the parser.
func readsBackslashes(now *backend.Params) bool {
	return now.Value("standard_conforming_strings") == "off" || embedsASCII[now.Value("client_encoding")]
}

// ownNamed is the statement that the session has prepared by that name, or without one, and not on a connection of its own; nil if there is none, or the name may
// mean another there.
func (s *Session) ownNamed(name []byte) *backend.Statement {
	n := &s.rawNames
	switch {
	case len(name) == 0 && s.raw && (n.replaced || s.unnamed != nil && s.unnamed.Runs != n.unnamed):
		return nil
	case len(name) == 0:
		return s.unnamed
	case !s.raw:
		return s.names[string(name)]
	}
	if _, other := n.known[string(name)]; other || s.mayBeCoded() || !followsName(name) {
		return nil
	}
	return s.names[string(name)]
}

// rawStatement is what a name means on a connection that is the session's own, nil if that is not certain.
func (s *Session) rawStatement(name []byte) *parser.Statement {
	if s.mayBeCoded() {
		return nil
	}
	return s.rawMeaning(name)
}

// rawMeaning is rawStatement, but for what is in doubt.
func (s *Session) rawMeaning(name []byte) *parser.Statement {
	if s.rawNames.coded || !followsName(name) {
		return nil
	}
	if st, known := s.rawNames.known[string(name)]; known {
		return st
	}
	if own := s.names[string(name)]; own != nil && !own.SQL {
		return own.Runs
	}
	return nil
}

// rawUnnamed is what the unnamed statement is for the i-th message, a Bind, if that is certain and no Parse stands before it in its request.
func (s *Session) rawUnnamed(i int) *parser.Statement {
	replaces := func(it item) bool {
		return it.typ == wire.MsgQuery || it.typ == wire.MsgClose || it.typ == wire.MsgParse && !it.named
	}
	if slices.ContainsFunc(s.items[:i], replaces) {
		return nil
	}
	return s.rawNames.unnamed
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
	if s.misread(st) {
		return true
	}
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
