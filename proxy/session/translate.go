package session

import (
	"encoding/binary"
	"slices"

	"pgtier/parser"
	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
)

// translator turns the client's messages into those for one server connection.
// Only what differs is copied: without a rename the client's own bytes go out.
type translator struct {
	s      *Session
	c      *backend.Conn
	req    []byte
	from   int // bytes of req already in out
	buf    *wire.Buffer
	out    []byte
	simple bool // a Query came last that may start a COPY, not an Execute
	counts bool // the relay must tell which message of several failed
	plain  bool // the requests are a plain turn as it was inspected: what their names mean is known
	ahead  int  // messages in front of the requests
}

// absent is a prepared statement name that no session and no server has; closing
// it is answered in the place of a Parse that is not needed.
const absent = "pgtier_absent"

// isShared reports whether a name is like those under which servers have what sessions share. It is no client's but where a client has prepared it.
func isShared[T string | []byte](name T) bool {
	return len(name) > len(sharedPrefix) && string(name[:len(sharedPrefix)]) == sharedPrefix
}

const sharedPrefix = "pgtier_"

// requests returns the bytes to send for s.items, replay first, and how many
// ReadyForQuery they will bring.
func (t *translator) requests(replay []byte) (out []byte, owed int) {
	if replay != nil || t.s.opening != nil {
		t.open(len(replay) + len(t.s.opening) + aheadBytes + len(t.req))
		t.goAhead(replay)
	}
	for i := range t.s.items {
		it := &t.s.items[i]
		if it.end {
			owed++
		}
		t.message(it, t.req[it.off:it.off+it.size])
	}
	if t.out == nil {
		return t.req, owed
	}
	return append(t.out, t.req[t.from:]...), owed
}

// aheadBytes is how much longer what goes ahead of the requests gets, at most, but for a statement that appendOpening makes.
const aheadBytes = 256

// goAhead adds what the requests need in front of them, a pending replay and the held BEGIN, as messages of the extended
// protocol without Sync: where one fails, and be it by a cancel or a statement_timeout that was meant for the requests, the
// server skips those too. Behind a Query or a Sync they would run: by themselves, or under somebody else's settings. The replay
// is a transaction of its own, so that it outlasts the requests' failure.
func (t *translator) goAhead(replay []byte) {
	if replay != nil {
		t.out = appendUnsynced(t.out, []byte("BEGIN ISOLATION LEVEL READ COMMITTED"))
		t.out = append(t.out, replay[:len(replay)-wire.HeaderBytes]...) // without its Sync
		t.out = appendUnsynced(t.out, []byte("COMMIT"))
	}
	if t.s.opening != nil {
		t.out = t.s.appendOpening(t.out, t.s.items[0].typ == wire.MsgQuery)
		t.c.SetUnnamed(nil)
	}
	for rest := t.out; len(rest) > 0; t.ahead++ { // each is completed by a message of its own
		size, _ := wire.FrameSize(rest)
		rest = rest[size:]
	}
}

// appendOpening adds the held BEGIN as such messages. Unless a Query follows, which drops both, the unnamed portal and statement
// are behind it what they are for the client.
func (s *Session) appendOpening(dst []byte, query bool) []byte {
	text, _ := queryText(s.opening)
	dst = appendUnsynced(dst, text)
	switch {
	case query:
		return dst
	case s.raw && s.unnamed != nil: // nobody makes it later
		return wire.AppendParse(wire.AppendClosePortal(dst, ""), "", s.unnamed.Text, s.unnamed.Types)
	}
	return wire.AppendCloseStatement(wire.AppendClosePortal(dst, ""), "")
}

// appendUnsynced adds messages that run sql, which returns no rows.
func appendUnsynced(dst, sql []byte) []byte {
	dst = wire.AppendParse(dst, "", sql, nil)
	return wire.AppendExecute(wire.AppendBindText(dst, "", nil))
}

// open starts copying.
func (t *translator) open(size int) {
	if t.buf == nil {
		t.buf = t.s.env.Bufs.Get(size)
		t.out = t.buf.B[:0]
	}
}

func (t *translator) free() {
	if t.buf != nil {
		t.buf.Free()
	}
}

// flushTo copies the client's bytes up to off.
func (t *translator) flushTo(off int) {
	t.open(len(t.req) + 256)
	t.out = append(t.out, t.req[t.from:off]...)
	t.from = off
}

func (t *translator) message(it *item, frame []byte) {
	s, c := t.s, t.c
	expect := &s.relay.expect
	if it.typ == wire.MsgCopyDone || it.typ == wire.MsgCopyFail {
		expect.add(expectation{kind: expectCopyEnd, simple: t.simple})
	}
	t.simple = it.typ == wire.MsgQuery || t.simple && it.typ != wire.MsgExecute
	if s.raw {
		switch it.typ {
		case wire.MsgQuery, wire.MsgFunction:
			t.queryEnd(it.typ)
		case wire.MsgSync:
			expect.add(expectation{kind: expectEnd})
		case wire.MsgParse, wire.MsgBind, wire.MsgDescribe, wire.MsgExecute, wire.MsgClose:
			expect.sent++
		}
		return
	}
	if len(c.Made) > 0 {
		t.unmake(it)
	}
	switch it.typ {
	case wire.MsgQuery:
		t.queryEnd(it.typ)
		// A simple query destroys the unnamed statement.
		s.setUnnamed(nil)
		c.SetUnnamed(nil)
	case wire.MsgFunction:
		t.queryEnd(it.typ)
	case wire.MsgSync:
		expect.add(expectation{kind: expectEnd})
	case wire.MsgParse:
		t.parse(it, frame)
	case wire.MsgBind:
		t.bind(it, frame)
		expect.sent++
	case wire.MsgExecute:
		expect.sent++
	case wire.MsgDescribe:
		defer func() { expect.sent++ }()
		if len(frame) > wire.HeaderBytes && frame[wire.HeaderBytes] == 'P' {
			return // portals keep their names
		}
		if kind, name, ok := splitTarget(frame); ok && kind == 'S' {
			if st := t.need(it, name); st != nil {
				t.rename(it, wire.MsgDescribe, st.Name)
			} else if isShared(name) {
				t.rename(it, wire.MsgDescribe, absent)
			}
		}
	case wire.MsgClose:
		t.close(it, frame)
	}
}

// queryEnd expects the end of a Query or FunctionCall, which does not come if a message before it fails.
func (t *translator) queryEnd(typ byte) {
	s, expect := t.s, &t.s.relay.expect
	x := expectation{kind: expectQueryEnd, place: expect.sent}
	if x.place > 0 {
		t.counts = true
		if typ == wire.MsgQuery && !s.raw && s.unnamed != nil {
			x.held, x.old, s.unnamed = t.c.Unnamed(), s.unnamed, nil // it holds the reference
		}
	}
	expect.add(x)
}

// parse prepares a statement, or lets a Close of nothing stand for a Parse that
// this connection does not need.
func (t *translator) parse(it *item, frame []byte) {
	s, c := t.s, t.c
	if it.own != nil && s.db.Statements.Fresh(it.own, s.readingOf(it.st)) {
		switch x := s.unnamedParse(c); {
		case it.own == s.unnamed:
			s.db.Stats.ClientParses.Add(1)
			t.unnamedSent(x)
			return
		case s.takeRecent(it.own):
			s.db.Stats.ClientParses.Add(1)
			x.old, s.unnamed = s.unnamed, it.own
			t.unnamedSent(x)
			return
		}
	}
	p, ok := splitParse(frame)
	expect := &s.relay.expect
	if !ok {
		expect.sent++
		return // the server says what is wrong
	}
	s.db.Stats.ClientParses.Add(1)
	if len(p.name) == 0 {
		t.parseUnnamed(p, it.st)
		return
	}
	st := s.db.Statements.Acquire(backend.StatementKey{Text: p.text, Types: p.types, Under: s.readingOf(it.st)}, it.st)
	name := string(p.name)
	old := s.names[name]
	t.flushTo(it.off)
	if old != nil {
		t.duplicate(name, st)
		return
	}
	s.setName(name, st)
	if s.nameSize > int64(s.env.limit().SessionMemory) {
		s.Kill(&wire.Error{Code: wire.CodeOutOfMemory, Message: "too many prepared statements in this session",
			Detail: "Their texts and names take more than limits.session_memory.", Hint: "Close prepared statements that are no longer used."})
	}
	t.from = it.off + it.size
	if c.HasPrepared(st) {
		if s.tx == wire.TxFailed { // where a Close succeeds and most Parses do not
			t.out = wire.AppendParse(t.out, absent, st.Text, st.Types)
			expect.add(expectation{kind: expectParseKnown, st: st, name: name, old: old})
			t.out = wire.AppendCloseStatement(t.out, absent)
			expect.add(expectation{kind: expectCloseOwn})
			return
		}
		t.out = wire.AppendCloseStatement(t.out, absent)
		expect.add(expectation{kind: expectParseKnown, st: st, name: name, old: old})
		return
	}
	t.prepare(st)
	expect.add(expectation{kind: expectParse, st: st, name: name, old: old})
}

// parseUnnamed notes what the unnamed statement will be, for connections to come.
func (t *translator) parseUnnamed(p parseFields, facts *parser.Statement) {
	s := t.s
	x := s.unnamedParse(t.c)
	x.old, s.unnamed = s.unnamed, s.db.Statements.Acquire(backend.StatementKey{Text: p.text, Types: p.types, Under: s.readingOf(facts)}, facts)
	t.unnamedSent(x) // which holds the old one's reference
}

// unnamedParse is what to expect of a Parse of the unnamed statement.
func (s *Session) unnamedParse(c *backend.Conn) expectation {
	return expectation{kind: expectUnnamed, st: s.unnamed, held: c.Unnamed()}
}

// unnamedSent notes that the client's own Parse makes its unnamed statement on the server connection.
func (t *translator) unnamedSent(x expectation) {
	s := t.s
	t.c.SetUnnamed(s.unnamed)
	s.db.Stats.ServerParses.Add(1)
	expect := &s.relay.expect
	t.counts = t.counts || expect.sent > 0
	expect.add(x)
}

// duplicate lets the server itself refuse a name that the client uses already:
// the name is made to exist there, under the client's own spelling, and the
// connection is not used again afterwards.
func (t *translator) duplicate(name string, st *backend.Statement) {
	t.s.forget(st)
	// An earlier refusal in the same transaction may have made it already.
	t.out = wire.AppendCloseStatement(t.out, name)
	t.s.relay.expect.add(expectation{kind: expectCloseOwn})
	t.out = wire.AppendParse(t.out, name, nil, nil)
	t.s.relay.expect.add(expectation{kind: expectCloseOwn})
	if !slices.Contains(t.c.Made, name) {
		t.c.Made = append(t.c.Made, name)
	}
	t.c.Retire("a client used a prepared statement name twice")
}

// unmake removes what duplicate has made before a message that may mean one of those names: the client may have closed its own since. The server may skip that
// behind an error, so it is done each time.
func (t *translator) unmake(it *item) {
	switch it.typ {
	case wire.MsgQuery, wire.MsgParse, wire.MsgBind, wire.MsgDescribe:
	default:
		return
	}
	t.flushTo(it.off)
	for _, name := range t.c.Made {
		t.out = wire.AppendCloseStatement(t.out, name)
		t.s.relay.expect.add(expectation{kind: expectCloseOwn})
	}
}

// prepare adds the Parse of a shared statement; a full connection closes its oldest.
func (t *translator) prepare(st *backend.Statement) {
	if evicted := t.c.AddPrepared(st); evicted != nil {
		t.out = wire.AppendCloseStatement(t.out, evicted.Name)
		t.s.relay.expect.add(expectation{kind: expectCloseOwn, st: evicted})
	}
	t.s.db.Stats.ServerParses.Add(1)
	t.out = backend.AppendPrepare(t.out, st)
}

// need returns the statement that name means, after making sure that the server
// connection has it; nil when the client's own frame must go out unchanged.
func (t *translator) need(it *item, name []byte) *backend.Statement {
	s, c := t.s, t.c
	if len(name) == 0 {
		t.needUnnamed(it)
		return nil
	}
	st := s.names[string(name)]
	if st == nil {
		return nil // the server says that it does not exist
	}
	t.keep(st)
	if !st.SQL {
		t.provide(it, st)
	}
	if st.SQL && s.tx == wire.TxFailed && !c.HasPrepared(st) {
		// Nothing can be prepared in a failed transaction, and trying says what PostgreSQL would.
		t.flushTo(it.off)
		t.out = wire.AppendParse(t.out, st.Name, []byte("SELECT 1"), nil)
		s.relay.expect.add(expectation{kind: expectParseOwn, st: st})
	}
	return st
}

// provide makes sure that the server connection has st, which no PREPARE made.
func (t *translator) provide(it *item, st *backend.Statement) {
	if t.c.HasPrepared(st) {
		return
	}
	if !t.plain {
		t.alike(st)
	}
	t.flushTo(it.off)
	t.prepare(st)
	t.s.relay.expect.add(expectation{kind: expectParseOwn, st: st})
}

// needUnnamed gives the server connection the client's unnamed statement.
func (t *translator) needUnnamed(it *item) {
	s, c := t.s, t.c
	if s.unnamed != nil {
		if !t.plain {
			t.keep(s.unnamed)
		}
		if c.Unnamed() == s.unnamed {
			return
		}
	}
	t.flushTo(it.off)
	if s.unnamed == nil { // what the connection holds then is a question of ours, or a neighbour's
		t.out = wire.AppendCloseStatement(t.out, "")
		s.relay.expect.add(expectation{kind: expectCloseOwn})
		c.SetUnnamed(nil)
		return
	}
	t.alike(s.unnamed)
	t.out = wire.AppendParse(t.out, "", s.unnamed.Text, s.unnamed.Types)
	c.SetUnnamed(s.unnamed)
	s.relay.expect.add(expectation{kind: expectParseOwn, st: s.unnamed})
}

// keep makes sure that nobody who shares st gets what the server may make of it in this pipeline. Where the pipeline
// has not prepared st or changed the settings itself, the session runs one of its own (own).
func (t *translator) keep(st *backend.Statement) {
	if st.Owner == 0 && t.s.tx != wire.TxFailed && t.s.rereads(st) {
		t.c.Retire("a statement was run under other settings than it was read")
	}
}

// alike makes sure that st means here what it meant to the session. prepareBefore has seen to that, but for messages
// that came into a pipeline behind others: those cannot be held back until it is made.
func (t *translator) alike(st *backend.Statement) {
	if t.s.tx == wire.TxFailed || t.s.readsAlike(st) && !t.s.txn.reads.mattersNow(st.Facts) {
		return
	}
	t.s.Kill(&wire.Error{Severity: "FATAL", Code: wire.CodeFeatureNotSupported,
		Message: "a prepared statement was read under other settings and cannot be made within this pipeline",
		Hint:    "Send Sync before it, or prepare it again."})
}

// bind renames the statement of a Bind.
func (t *translator) bind(it *item, frame []byte) {
	if t.plain && it.name > 0 {
		t.s.db.Stats.Binds.Add(1)
		t.provide(it, it.own)
		t.renameBind(it, frame, it.names, it.name, it.own.Name)
		return
	}
	_, name, rest, ok := splitBind(frame)
	if !ok {
		return
	}
	t.s.db.Stats.Binds.Add(1)
	if len(name) == 0 {
		t.needUnnamed(it)
		return
	}
	switch st := t.need(it, name); {
	case st != nil:
		t.renameBind(it, frame, rest, len(name), st.Name)
	case isShared(name):
		t.renameBind(it, frame, rest, len(name), absent)
	}
}

// renameBind replaces the head of a Bind, in which names end at rest and the statement's has length old.
func (t *translator) renameBind(it *item, frame []byte, rest, old int, name string) {
	t.flushTo(it.off)
	t.out = appendBindHead(t.out, frame[:rest], it.size, old, name)
	t.from = it.off + rest
}

// appendBindHead adds type, length and names of a Bind of size bytes that begins with head, whose statement's name of
// length old becomes name.
func appendBindHead(out, head []byte, size, old int, name string) []byte {
	out = append(out, wire.MsgBind)
	out = binary.BigEndian.AppendUint32(out, uint32(size-1+len(name)-old))
	out = append(out, head[wire.HeaderBytes:len(head)-old-1]...)
	return wire.AppendString(out, name)
}

// rename replaces a Describe or Close by one of the shared name.
func (t *translator) rename(it *item, typ byte, name string) {
	t.flushTo(it.off)
	var at int
	t.out, at = wire.Begin(t.out, typ)
	t.out = wire.End(wire.AppendString(append(t.out, 'S'), name), at)
	t.from = it.off + it.size
}

// close ends a client's name; the shared statement stays on the server.
func (t *translator) close(it *item, frame []byte) {
	s := t.s
	kind, name, ok := splitTarget(frame)
	if !ok || kind != 'S' && kind != 'P' {
		s.relay.expect.sent++
		return // the server says what is wrong
	}
	x := expectation{kind: expectClose}
	if kind == 'S' {
		if len(name) == 0 {
			s.setUnnamed(nil)
			t.c.SetUnnamed(nil)
		} else if st := s.names[string(name)]; st != nil {
			x.name, x.old = string(name), st
			s.setName(x.name, nil)
			t.rename(it, wire.MsgClose, absent)
		} else if isShared(name) {
			t.rename(it, wire.MsgClose, absent)
		}
	}
	s.relay.expect.add(x)
}

// discardsEarly reports whether other statements follow a DISCARD ALL among the requests.
func (s *Session) discardsEarly() bool {
	found, parsed := false, false
	for i := range s.items {
		it := &s.items[i]
		st := s.runs(it, &parsed)
		discards := st != nil && st.Effects&parser.DiscardsAll != 0
		if found && !discards && (st != nil || it.typ == wire.MsgFunction) {
			return true
		}
		found = found || discards
	}
	return false
}

// runs is what a message of the turn may run: a Parse's text too, because its Bind need not be there to be known. parsed
// follows whether one came before, which may have replaced the unnamed statement.
func (s *Session) runs(it *item, parsed *bool) *parser.Statement {
	*parsed = *parsed || it.typ == wire.MsgParse
	if it.typ == wire.MsgBind && it.own != nil && !(*parsed && it.own == s.unnamed) {
		return it.own.Runs
	}
	return it.st
}

// largeObjectCall reports whether a FunctionCall is one of those that libpq's
// large object interface makes: their descriptors end with the transaction.
func largeObjectCall(frame []byte) bool {
	if len(frame) < wire.HeaderBytes+4 {
		return true // the server says what is wrong
	}
	switch binary.BigEndian.Uint32(frame[wire.HeaderBytes:]) {
	case 952, 953, 954, 955, 956, 957, 958, 964, // lo_open, lo_close, loread, lowrite, lo_lseek, lo_creat, lo_tell, lo_unlink
		715, 1004, 3170, 3171, 3172: // lo_create, lo_truncate, lo_lseek64, lo_tell64, lo_truncate64
		return true
	}
	return false
}

// inspect notes what the requests may do to the session, and returns why the
// session must keep its connection from now on, or why they are refused.
//
// A turn is plain, as nearly all are, if all its statements are (parser.Statement) and what they name is known and read
// as it was: no name changes in it, no setting, nothing is prepared by SQL, and nothing before it in the transaction
// changed how texts are read. Then most of what else has to be asked of a turn needs no asking.
func (s *Session) inspect(req []byte) (pin string, refusal *wire.Error) {
	s.harmless, s.effects, s.restores = nil, 0, false
	s.advances, s.notifies = false, false
	s.txn.reads.begin()
	s.reparsed = false
	s.plain = !s.raw && !s.txn.reads.changed && !s.txn.code
	if s.raw {
		s.followRaw(req)
	}
	for i := range s.items {
		it := &s.items[i]
		why := s.inspectItem(it, req[it.off:it.off+it.size])
		if pin == "" {
			pin = why
		}
		if !s.plain { // none of those is the proxy's own
			if e := s.checkOwn(i, req); e != nil {
				return "", e
			}
		}
		if it.st != nil && it.st.Effects&parser.BeginsTransaction != 0 && s.statementMode() {
			return "", &wire.Error{Code: wire.CodeFeatureNotSupported, Message: "transaction blocks are not allowed in statement pooling mode",
				Hint: "Set pool.mode to transaction for this database."}
		}
	}
	if s.raw {
		return "", nil
	}
	if pin == "" && s.effects&parser.DiscardsAll != 0 && s.discardsEarly() {
		pin = "DISCARD ALL within a pipeline"
	}
	return pin, nil
}

// asRead reports whether st needs nothing but its Parse to mean what it meant to the session, in a turn that is plain so far.
func (s *Session) asRead(st *backend.Statement) bool {
	return !st.SQL && st.Under == s.settings.Reading(st.Facts.Literals && early(st.Facts))
}

// sqlNames are the effects of PREPARE, EXECUTE and DEALLOCATE.
const sqlNames = parser.SQLPrepare | parser.SQLExecute | parser.SQLDeallocate

// pinSQLNames is the pin of these where their answer is not that of a Query by itself.
const pinSQLNames = "PREPARE or EXECUTE through the extended protocol"

// statement is what a name means before the turn; nil if nothing, or if the turn itself has made it.
func (s *Session) statement(name []byte) *backend.Statement {
	if len(name) == 0 && s.reparsed {
		return nil
	}
	return s.ownNamed(name)
}

// identifyParse finds out what a Parse makes. The fields are left out of one that parses what the session's unnamed statement is.
func (s *Session) identifyParse(it *item, frame []byte) (p parseFields, ok bool) {
	if it.own = s.parsedAs(frame); it.own != nil {
		it.st = it.own.Facts // one comparison, where a client parses the same texts again and again
	} else {
		if p, ok = splitParse(frame); !ok {
			return p, false
		}
		it.st = s.facts(p.text)
	}
	it.named = len(p.name) > 0
	s.reparsed = s.reparsed || !it.named
	return p, true
}

// identifyBind finds out what a Bind binds.
func (s *Session) identifyBind(it *item, frame []byte) bool {
	_, name, names, ok := splitBind(frame)
	if !ok {
		return false
	}
	it.names, it.name, it.own = names, len(name), s.statement(name)
	return true
}

// identify finds out what the messages make and bind, without noting anything of it. It reports whether all can be read.
func (s *Session) identify(req []byte) (ok bool) {
	s.reparsed, ok = false, true
	for i := range s.items {
		it := &s.items[i]
		frame := req[it.off : it.off+it.size]
		switch it.typ {
		case wire.MsgParse:
			if _, readable := s.identifyParse(it, frame); !readable {
				ok = false
			}
		case wire.MsgBind:
			if !s.identifyBind(it, frame) {
				ok = false
			}
		}
	}
	return ok
}

// inspectItem is inspect for one message.
func (s *Session) inspectItem(it *item, frame []byte) (pin string) {
	switch it.typ {
	case wire.MsgParse:
		p, ok := s.identifyParse(it, frame)
		if !ok {
			s.plain = false
			return ""
		}
		s.plain = s.plain && !it.named
		late := s.txn.reads.mattersNow(it.st)
		switch pin = s.noteTurn(it.st); {
		case pin != "":
		case it.st.Effects&sqlNames != 0:
			pin = pinSQLNames
		case len(p.name) > 0 && readsClock(p.text):
			pin = "prepared statement with a literal like 'now'"
		case late:
			pin = "literals read under settings of the same pipeline"
		}
	case wire.MsgQuery:
		pin = s.noteTurn(it.st)
		if pin == "" && len(s.items) > 1 && it.st.Effects&sqlNames != 0 {
			pin = "PREPARE or EXECUTE behind an open request"
		}
	case wire.MsgFunction:
		s.plain = false
		s.mayWriteAll()
		if !largeObjectCall(frame) {
			pin = "function call by the protocol"
		}
	case wire.MsgBind:
		if !s.identifyBind(it, frame) {
			s.plain = false
			return ""
		}
		if it.own != nil {
			s.plain = s.plain && s.asRead(it.own)
			pin = s.noteTurn(it.own.Runs)
		} else if s.raw {
			s.mayWriteAll() // names are the server's there
		} else {
			s.plain = s.plain && it.name == 0 && s.reparsed
		}
	case wire.MsgDescribe:
		if kind, name, ok := splitTarget(frame); ok && kind == 'S' {
			it.own = s.statement(name)
			s.plain = s.plain && it.own != nil && s.asRead(it.own)
		}
	case wire.MsgExecute, wire.MsgSync:
	default:
		s.plain = false
	}
	return pin
}
