package session

import (
	"errors"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"pgtier/parser"
	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
	"pgtier/router"
	"pgtier/router/plan"
	"pgtier/router/tags"
)

// duplex is the way to relay when a request cannot be sent whole before its
// answer is read: COPY FROM STDIN, Flush, very long messages. The session's
// goroutine carries client to server; the relay runs on a goroutine that ends
// when everything is answered, or with the connection.
type duplex struct {
	c        *backend.Conn
	finished chan struct{} // closed when the relay's goroutine has ended
	err      error         // how it ended; read after finished

	mu       sync.Mutex        // guards the session's relay.expect, names, and what follows
	open     bool              // messages were sent since the last Sync
	copying  bool              // a COPY takes data: the server ignores Sync
	skipping bool              // a message failed: the server ignores everything but Sync
	done     bool              // everything is answered and the relay stops
	ignored  int               // Syncs sent into the COPY
	resets   []item            // RESETs of what the login set, to be mended at the end
	began    bool              // a transaction block
	unsure   bool              // something was sent that may have been committed if no answer comes
	ended    bool              // what was sent ends the transaction that a replica serves
	waits    bool              // what comes next may be for another server, and waits for the answer
	coder    *parser.Statement // a statement that may run code; coders: there are several
	coders   bool
	locks    bool    // what was sent since the last Sync may lock rows that nobody was asked to have stay
	portal   []byte  // the one bound last
	portalBy *Layout // the layout in force before what it may lock was looked at; nil: none was
	bound    bool    // there is one
	ran      bool    // a statement was sent, or came before
}

// runs notes that the client has st run. mu is held.
func (d *duplex) runs(s *Session, st *parser.Statement) {
	switch {
	case d.coders || d.coder == st || !s.runsCode(st):
	case d.coder == nil:
		d.coder = st
	default:
		d.coders = true
	}
}

// answered handles a ReadyForQuery; mu is held.
func (d *duplex) answered(r *relay) (stop bool) {
	d.skipping = false
	if r.owed < 0 { // a Sync that a COPY should have ignored, see copyFailed
		r.owed, d.open = 0, false
	}
	d.done = r.owed <= 0 && !d.open
	return d.done
}

// startDuplex sends what the client wants sent before its request is complete.
func (s *Session) startDuplex() bool {
	s.keep.looked = false
	s.rebind()
	if cluster := s.db.Cluster.Load(); cluster != nil && s.server == nil && !s.raw {
		return s.serveAhead(cluster)
	}
	s.other(router.NotProved, "messages that come without Sync")
	s.unread = false
	if s.openingFailed {
		if err := s.failHere(); err != nil {
			return s.fatal(asError(err))
		}
	}
	c, replay, err := s.leaseLive()
	if err != nil {
		return s.fatal(asError(err))
	}
	s.txn.reads.begin()
	s.rawNames.quoting, s.effects = false, 0
	s.relay.begin(c, 0)
	err = s.replayNow(c, &replay)
	if err == nil {
		err = s.beginHeld(c, &replay)
	}
	if err == nil && s.usesSQLNames() {
		err = s.pinTo(c, pinSQLNames, &replay)
	}
	if err == nil {
		err = s.prepareBefore(c, s.in.Bytes(), &replay)
	}
	if err != nil {
		s.relay.unended = true
		return s.lost(c, err)
	}
	s.enter(StateActive)
	s.claimsAhead()
	s.tellsFrom()
	s.goDuplex(&duplex{c: c})
	s.pump()
	return !s.leaving
}

// duplexForCopy goes on in duplex after the server asked for COPY data.
func (s *Session) duplexForCopy(c *backend.Conn) bool {
	d := &duplex{c: c, ran: true}
	s.relay.copyIn = false
	d.copyStarts(s.relay.copyExtended)
	s.goDuplex(d)
	return true
}

// duplexToSync goes on in duplex after an error whose Sync is still to come.
func (s *Session) duplexToSync(c *backend.Conn) bool {
	s.relay.toSync = false
	s.goDuplex(&duplex{c: c, open: true, skipping: true, ran: true})
	return true
}

// copyStarts notes that the server takes data. The mutex is held, or the
// relay's goroutine does not run yet.
func (d *duplex) copyStarts(extended bool) {
	d.copying, d.ignored = true, 0
	d.open = d.open || extended
}

// copyFailed notes that the server takes no more data. Whether it came to the
// Syncs sent into the COPY before or after it gave up, nobody can know from here,
// so the connection is not used again. mu is held.
func (d *duplex) copyFailed() {
	if d.copying && d.ignored > 0 {
		d.c.Spoil("a COPY failed with a Sync before its end")
	}
	d.copying = false
}

func (s *Session) goDuplex(d *duplex) {
	d.finished = make(chan struct{})
	s.staysPinned("messages that come without Sync")
	r := &s.relay
	r.hold, r.watch, r.counts = true, true, true
	s.dx = d
	s.harmless = nil // of a turn
	s.dropFill()     // before the relay has a goroutine of its own
	s.client.WatchEnd(true)
	go func() { // ends with the last answer, or when the connection is closed
		d.err = s.relayDuplex(d)
		close(d.finished)
		s.client.Kick()
	}()
}

// relayDuplex carries the server's side until everything is answered.
func (s *Session) relayDuplex(d *duplex) (err error) {
	defer s.env.caught(&err)
	for s.relay.step() { // first what is there already
		err = d.c.Loop(nil, &s.relay)
		if !errors.Is(err, os.ErrDeadlineExceeded) || s.isKilled() {
			break
		}
		d.c.Unkick()
	}
	return err
}

// isKilled reports whether the session's work is to end: it was killed, or taken away from its server.
func (s *Session) isKilled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.killed != nil || s.left
}

// duplexReadable takes what the client sent and passes it on.
func (s *Session) duplexReadable() bool {
	n, err := s.client.Take(s.in.Space(s.env.Bufs, max(wire.SmallBuffer, s.in.Len()*2, s.needIn)))
	s.in.Added(n)
	if n == 0 {
		if err != nil {
			s.leaving = true
			return false
		}
		s.in.Release()
		return true
	}
	s.needIn = 0
	s.db.Stats.Received.Add(uint64(n))
	return s.pump() && s.dx != nil
}

// pump sends the client's messages on, as far as they are there. false ends the
// loop: the client leaves, or the duplex is over.
func (s *Session) pump() bool {
	for s.in.Len() > 0 {
		if s.skipLeft > 0 {
			n := min(s.skipLeft, s.in.Len())
			if !s.toServer(s.in.Bytes()[:n]) {
				return false
			}
			s.in.Skip(n)
			s.skipLeft -= n
			continue
		}
		n, out, next := s.pumpSome()
		if next == gatherFail {
			return false
		}
		if out != nil && !s.toServer(out.out) {
			out.free()
			return false
		}
		if out != nil {
			out.free()
		}
		s.in.Skip(n)
		if s.dx.waits {
			<-s.dx.finished
			return false
		}
		switch next {
		case gatherQuit:
			s.leaving = true
			return false
		case gatherMore:
			s.in.Release()
			return true
		case gatherDuplex: // over: the session goes on with requests
			return false
		case gatherHeld:
			if !s.pumpWaits() {
				return false
			}
		}
	}
	s.in.Release()
	return true
}

func (s *Session) toServer(b []byte) bool {
	if err := s.dx.c.Write(b); err != nil {
		// The relay sees the same failure and says what happened.
		<-s.dx.finished
		return false
	}
	return true
}

// pumpSome translates the complete messages at the head of the input, and the
// head of a long one.
func (s *Session) pumpSome() (n int, t *translator, next gathered) {
	d := s.dx
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.done {
		return 0, nil, gatherDuplex
	}
	b := s.in.Bytes()
	t = &translator{s: s, c: d.c, req: b}
	next = gatherServe
	off := 0
	for off < len(b) && next == gatherServe {
		it, more := s.pumpNext(b[off:])
		if more != gatherServe {
			next = more
			break
		}
		it.off = off
		have := min(it.size, len(b)-off)
		if d.waits = s.pumpSQLNames(d, &it, b[off:off+have]); d.waits {
			break // it is a request's, or the session is ended
		}
		if s.pumpHolds(d, &it, b[off:off+have]) != nil {
			next = gatherHeld // what comes before it goes first
			break
		}
		s.pumpNote(d, &it, b[off:off+have])
		t.message(&it, b[off:off+have])
		s.skipLeft = it.size - have
		off += have
		if s.skipLeft > 0 || d.waits {
			break
		}
	}
	t.flushTo(off)
	return off, t, next
}

// pumpNext frames the next message. A long message may be sent before it is complete if what has come of it says all that
// must be known.
func (s *Session) pumpNext(b []byte) (item, gathered) {
	typ := b[0]
	if !wire.FrontendType(typ) {
		s.refuse("invalid frontend message type")
		return item{}, gatherFail
	}
	size, ok := wire.FrameSize(b)
	if !ok {
		return item{}, gatherMore
	}
	if size == 0 || size > s.env.limit().MaxMessage {
		s.refuse("invalid message length")
		return item{}, gatherFail
	}
	held := typ == wire.MsgQuery || typ == wire.MsgParse
	if held && size > s.env.limit().MaxQuery {
		return item{}, s.tooLong(size)
	}
	if typ == wire.MsgBind && len(b) < size {
		_, _, _, named := splitBind(b)
		if held = !named || s.db.Cluster.Load() != nil; held && size > s.env.limit().SessionMemory { // which shard it is for is known when it is whole
			return item{}, s.tooLong(size)
		}
	}
	if typ == wire.MsgTerminate {
		return item{}, gatherQuit
	}
	if len(b) < size && (held || size <= maxBatch || typ != wire.MsgCopyData && len(b) < wire.SmallBuffer/2) {
		s.needIn = min(size, max(s.env.limit().MaxQuery, wire.SmallBuffer))
		return item{}, gatherMore
	}
	return item{typ: typ, size: size}, gatherServe
}

// pumpNote follows what a message does to the request state and the session.
func (s *Session) pumpNote(d *duplex, it *item, frame []byte) {
	if d.skipping {
		if it.typ != wire.MsgSync {
			it.typ = wire.MsgFlush // nothing comes of it
			return
		}
		d.skipping = false
	}
	switch it.typ {
	case wire.MsgCopyDone, wire.MsgCopyFail:
		if d.copying {
			d.copying = false
			it.typ = wire.MsgFlush // its COPY is known to have begun: nothing to expect
		}
	case wire.MsgSync:
		if d.copying {
			it.typ = wire.MsgFlush // ignored by the server: nothing is owed for it
			d.ignored++
			return
		}
		d.open, d.waits, d.locks = false, d.ended, false
		s.relay.owed++
	case wire.MsgFunction:
		s.pumpHome()
		if s.raw {
			s.rawCalled(frame)
		}
		s.mayWriteAll()
		s.changesCalled(frame)
		d.unsure = true
		s.relay.owed++
	case wire.MsgQuery:
		s.pumpQuery(d, it, frame)
		d.locks = false // as a Sync
		s.relay.owed++
	case wire.MsgParse:
		d.open = true
		s.pumpParse(d, it, frame)
	case wire.MsgBind:
		d.open = true
		s.pumpBind(d, it, frame)
	case wire.MsgClose:
		d.open = true
		if s.raw {
			s.rawClosed(frame)
		}
	case wire.MsgExecute:
		s.claimsAhead()
		s.pumpResumes(d, frame)
		d.unsure = d.unsure || !d.bound || !executes(frame, d.portal) // it may have been bound before
		d.open = true
	case wire.MsgDescribe, wire.MsgFlush:
		d.open = true
	}
	if s.advances || s.notifies {
		s.follows(d.c)
		s.advances, s.notifies = false, false
	}
}

// pumpQuery follows what a Query does.
func (s *Session) pumpQuery(d *duplex, it *item, frame []byte) {
	text, ok := queryText(frame)
	if !ok {
		return
	}
	it.st = s.facts(text)
	s.pumpOwn(refused(router.CheckOwn(it.st)))
	s.pumpShards(it.st, plan.Values{SQL: text, Known: true})
	s.pumpInside(d, it.st, true)
	d.waits = d.ended
	why := s.note(it.st)
	s.keepFor(why)
	if s.raw {
		s.rawText(it.st)
		s.rawNames.unnamedIs(nil)
	}
	s.changesAhead(it.st, tags.Values{SQL: text, ASCII: s.circumstances().ASCII})
	s.pumpRuns(d, item{typ: it.typ, st: it.st}, why)
	s.pumpDeallocate(d, it.st)
}

// pumpParse follows what a Parse may come to do.
func (s *Session) pumpParse(d *duplex, it *item, frame []byte) {
	p, ok := splitParse(frame)
	if !ok {
		return
	}
	it.st = s.facts(p.text)
	s.pumpOwn(refused(router.CheckOwn(it.st)))
	s.pumpReading(it.st)
	s.pumpInside(d, it.st, false)
	why := s.note(it.st)
	s.keepFor(why)
	if s.raw { // whose Binds may not tell
		s.rawParsed(p.name, it.st, len(p.text))
		s.rawText(it.st)
		s.changesAhead(it.st, tags.Values{})
		s.pumpRuns(d, item{typ: it.typ, st: it.st}, why)
	}
	s.pumpDeallocate(d, it.st)
}

// pumpBind follows what the statement of a Bind does.
func (s *Session) pumpBind(d *duplex, it *item, frame []byte) {
	portal, name, _, ok := splitBind(frame)
	if !ok {
		return
	}
	d.portal, d.portalBy, d.bound = append(d.portal[:0], portal...), s.layoutNow(), true
	st := s.ownNamed(name)
	if s.raw && s.keep.rawIn != s.at.Keeper.Load() { // code may have run there that no cache has seen
		st = nil
	}
	if st == nil {
		if s.raw {
			d.unsure = d.unsure || len(name) > 0 || !s.rawNames.replaced // nobody knows what that runs
			if len(name) > 0 {
				s.rawBound(s.rawMeaning(name))
			} else {
				s.rawBound(nil)
			}
			s.mayWriteAll()
			s.changesNamed()
			s.trail.any, s.trail.cursors = true, true
			s.pumpUnknown(name)
		}
		return
	}
	if s.raw {
		s.rawBound(st.Runs)
	}
	s.pumpOwn(checkBound(st.Runs, frame))
	if b, whole := splitBound(frame, st.Types, nil); whole {
		s.pumpShards(st.Runs, plan.Values{SQL: st.Text, Params: b.params, Known: true})
	}
	s.pumpInside(d, st.Runs, true)
	why := s.note(st.Runs)
	s.keepFor(why)
	s.changesAhead(st.Runs, tags.Values{})
	if !s.raw || len(name) > 0 {
		s.pumpRuns(d, item{typ: it.typ, own: st}, why)
	}
}

// pumpOwn ends a session that gives one of the proxy's own settings what means nothing: within a pipeline no answer can be
// put in the place of the server's.
func (s *Session) pumpOwn(e *wire.Error) {
	if e != nil {
		e.Severity = "FATAL"
		s.Kill(e)
	}
}

// pumpShards ends a session whose pipeline comes to a statement for another shard than it is at: within a pipeline no
// answer can be put in the place of the server's.
func (s *Session) pumpShards(st *parser.Statement, values plan.Values) {
	cluster := s.db.Cluster.Load()
	if cluster == nil || s.fails(st) {
		return
	}
	l, err := cluster.Layout()
	if err != nil {
		s.pumpOwn(asError(err))
		return
	}
	v := survey{at: -1}
	s.surveyStatement(l, &v, st, values.SQL, values)
	s.keep.hinted = s.keep.hinted || v.hinted
	s.trail.add(&v.trail)
	s.tellMore(&v, s.dx.ran)
	s.dx.ran = true
	unasked := s.dx.locks // by a statement that this one is in one transaction with
	s.pumpLocks(l, &v)
	if at := l.index(s.at); at >= 0 && v.refusal == nil && v.why.Reason != "" {
		if err := l.Fault(at); err != nil {
			s.pumpOwn(asError(err))
			return
		}
	}
	switch {
	case v.refusal != nil:
		s.pumpOwn(v.refusal)
	case v.aged: // nobody can be asked for the level now
		s.pumpOwn(movedAway())
	case unasked, s.dx.locks && len(st.Commands) > 1:
		s.pumpOwn(lockedUnasked())
	case v.wide || v.at >= 0 && l.Shards[v.at] != s.at:
		s.pumpOwn(notWide("a statement for another shard behind one that is still under way", "Send Sync, and wait for its answer."))
	}
}

// pumpHome ends a session whose pipeline comes to a function call at another shard than that where functions are called.
func (s *Session) pumpHome() {
	cluster := s.db.Cluster.Load()
	if cluster == nil || s.tx == wire.TxFailed {
		return
	}
	l, err := cluster.Layout()
	switch {
	case err != nil:
		s.pumpOwn(asError(err))
	case l.index(s.at) != l.Home:
		s.pumpOwn(notWide("a function call by the protocol", "Use SELECT."))
	}
}

// pumpUnknown ends a session whose pipeline comes to a name that may mean a change of the schema, while that is refused, or a lock of rows that move.
func (s *Session) pumpUnknown(name []byte) {
	l := s.layoutNow()
	if l == nil || s.tx == wire.TxFailed {
		return
	}
	if s.mayChangeSchema(name) {
		s.pumpOwn(l.frozenNow())
	}
	if s.dx.locks {
		s.pumpOwn(lockedUnasked())
	}
	meant := s.rawStatement(name)
	if n := &s.rawNames; len(name) == 0 && n.replaced {
		meant = n.next
	} else if len(name) == 0 {
		meant = n.unnamed
	}
	var v survey
	s.lockedNamed(l, &v, meant)
	s.pumpLocks(l, &v)
}

// pumpResumes ends a session whose pipeline goes on with a portal that was bound before buckets began to move, and may lock rows of them now.
func (s *Session) pumpResumes(d *duplex, frame []byte) {
	l := s.layoutNow()
	if l == nil || s.tx == wire.TxFailed || l == d.portalBy && executes(frame, d.portal) {
		return
	}
	var v survey
	s.resumed(l, &v)
	s.pumpLocks(l, &v)
}

// layoutNow is the layout in force, nil where there is none.
func (s *Session) layoutNow() *Layout {
	cluster := s.db.Cluster.Load()
	if cluster == nil {
		return nil
	}
	l, err := cluster.Layout()
	if err != nil {
		return nil
	}
	return l
}

// pumpLocks ends a session whose pipeline locks rows that move, in a transaction that does more than that: the shard cannot be asked to have them stay. Where the next
// Sync ends the transaction of a statement that only locks, it is the one behind it that is refused.
func (s *Session) pumpLocks(l *Layout, v *survey) {
	if len(l.owned(v.stays, l.index(s.at))) == 0 {
		return
	}
	if s.dx.locks = true; v.relies || s.tx == wire.TxActive || s.dx.began {
		s.pumpOwn(lockedUnasked())
	}
}

// lockedUnasked is what a client is told whose pipeline relies on rows that move.
func lockedUnasked() *wire.Error {
	return notWide("a lock of rows that are being moved, behind a statement that is still under way", "Send Sync, and wait for its answer.")
}

// pumpInside ends a session that asks a replica, in a READ ONLY transaction there, for what must not be served there: within
// a pipeline no answer can be put in the place of the server's. runs: st is not only prepared. mu is held.
func (s *Session) pumpInside(d *duplex, st *parser.Statement, runs bool) {
	if s.replica == "" || s.raw {
		return
	}
	e, reason := s.hintedInside(st), s.localTo(st)
	if reason == "" {
		reason = s.newInside(st, d.ended)
	}
	if reason == "" && runs {
		reason = s.behindEnd(st, d.ended)
	}
	if e == nil && reason != "" {
		e = notHere(reason)
	}
	if e != nil {
		e.Severity = "FATAL"
		s.Kill(e)
	}
	d.ended = d.ended || runs && st.Effects&parser.EndsTransaction != 0
}

// pumpRuns follows a statement that is about to run: what it resets, and whether it may commit something. A session is
// ended whose pipeline would see the server's value of a setting that its login gave. mu is held.
func (s *Session) pumpRuns(d *duplex, it item, pin string) {
	st := it.facts()
	d.began = d.began || st.Effects&parser.BeginsTransaction != 0
	d.unsure = d.unsure || st.Effects&parser.EndsTransaction != 0 || s.tx == wire.TxIdle && !d.began && !s.reads(st)
	if d.c.Own || len(s.startup.All()) == 0 || s.tx == wire.TxFailed {
		return
	}
	pending := len(d.resets) > 0
	early, sure := s.seesReset(st, &pending)
	if early && sure || strings.Contains(pin, "RESET") {
		e := sharedReset()
		e.Severity = "FATAL"
		s.Kill(e)
		return
	}
	if pending && len(d.resets) == 0 || st.Effects&parser.DiscardsAll != 0 {
		d.resets = append(d.resets, it)
	}
}

// pumpReading ends a session that prepares a text whose reading nobody can know: the pipeline itself has changed it.
func (s *Session) pumpReading(st *parser.Statement) {
	if r := &s.txn.reads; (r.mattersNow(st) || r.matters(st) && !r.known) && !s.raw && s.tx != wire.TxFailed {
		s.Kill(&wire.Error{Severity: "FATAL", Code: wire.CodeFeatureNotSupported,
			Message: "literals cannot be prepared in a pipeline that changes how they are read",
			Hint:    "Send Sync after SET, before the statement."})
	}
}

// usesSQLNames reports whether one of the messages at the head of the input is PREPARE, EXECUTE or DEALLOCATE, whose names are the server's in a duplex.
func (s *Session) usesSQLNames() bool {
	if s.raw || s.db.Cluster.Load() != nil { // which refuses them
		return false
	}
	for b := s.in.Bytes(); len(b) > 0; {
		size, ok := wire.FrameSize(b)
		if !ok || size == 0 || size > len(b) {
			return false
		}
		if s.sqlNamesIn(b[0], b[:size]) {
			return true
		}
		b = b[size:]
	}
	return false
}

// sqlNamesIn reports whether a message is PREPARE, EXECUTE or DEALLOCATE of a name of the client's, or prepares it.
func (s *Session) sqlNamesIn(typ byte, frame []byte) bool {
	var text []byte
	switch typ {
	case wire.MsgQuery:
		text, _ = queryText(frame)
	case wire.MsgParse:
		p, _ := splitParse(frame)
		text = p.text
	default:
		return false
	}
	return slices.ContainsFunc(s.facts(text).Commands, func(c parser.Command) bool {
		return c.Effects&(parser.SQLPrepare|parser.SQLExecute) != 0 || c.Kind == parser.Deallocate && !isShared(c.Name)
	})
}

// pumpSQLNames reports whether a message must not go out because the names of SQL are not the session's on this connection. Where nothing is open it waits until
// all is answered; within a pipeline the connection cannot be given the names, and the session is ended. mu is held.
func (s *Session) pumpSQLNames(d *duplex, it *item, frame []byte) (stays bool) {
	if s.raw || d.copying || d.skipping || s.tx == wire.TxFailed && !d.unsure || !s.sqlNamesIn(it.typ, frame) {
		return false
	}
	if d.open {
		s.pumpOwn(&wire.Error{Code: wire.CodeFeatureNotSupported, Message: "PREPARE, EXECUTE and DEALLOCATE cannot come behind messages that are still without their Sync",
			Hint: "Send Sync before."})
	}
	return true
}

// pumpDeallocate follows a DEALLOCATE ALL, or of a shared statement, into a pipeline: the shared statements
// of the connection go with the client's own, so what follows prepares anew. If it
// fails they stay, so the connection is not used again. mu is held.
func (s *Session) pumpDeallocate(d *duplex, st *parser.Statement) {
	if s.raw {
		return
	}
	if slices.ContainsFunc(st.Commands, func(c parser.Command) bool { return c.Kind == parser.DeallocateAll }) {
		for name, st := range s.names {
			s.setName(name, nil)
			s.forget(st)
		}
	} else if !slices.ContainsFunc(st.Commands, func(c parser.Command) bool { return c.Kind == parser.Deallocate && isShared(c.Name) }) {
		return
	}
	d.c.ForgetPrepared()
	d.c.Retire("DEALLOCATE of what sessions share in a pipeline")
}

// keepFor pins the session from the middle of a pipeline. Names keep being
// translated until the next turn can put them on the connection.
func (s *Session) keepFor(why string) {
	if why == "" {
		return
	}
	s.rawNames.coded = true // what makes the connection its own runs before that is
	s.pumpOwn(s.unkept(why))
	s.mu.Lock()
	if s.pin == "" {
		s.pin, s.pinTime = why, time.Now()
	}
	s.mu.Unlock()
}

// joinDuplex goes back to turns once the relay's goroutine has ended.
func (s *Session) joinDuplex() error {
	d := s.dx
	if d == nil {
		return nil
	}
	select {
	case <-d.finished:
	default:
		return nil
	}
	s.dx = nil
	s.rawNames.unnamedStands(true) // which of the messages failed is not followed
	s.rawNames.doubts.ran(s.db.Hazards)
	s.client.WatchEnd(false)
	c, r := d.c, &s.relay
	defer r.free()
	switch {
	case r.clientGone:
		c.Spoil("client left in the middle of a statement")
		return io.ErrUnexpectedEOF
	case d.err != nil || r.err != nil:
		err := errors.Join(d.err, r.err)
		r.unended, r.unsure = d.open || s.skipLeft > 0, d.unsure
		if !s.lost(c, err) {
			return err
		}
		return nil
	}
	s.tx = r.tx
	r.unsure = d.unsure
	if r.errors > 0 {
		s.story.unsure()
	}
	if r.fatal {
		c.Spoil("the server ended the session")
		s.doubts(c)
		return errors.New("the server ended the session")
	}
	s.items = append(s.items[:0], d.resets...)
	err := s.mendDuplex(c)
	if err == nil {
		err = s.freesLocks(c)
	}
	if err != nil {
		if !s.unfinished(c, err) {
			return err
		}
		return nil
	}
	if s.tx == wire.TxIdle {
		if err := s.finish(c); err != nil {
			if !s.unfinished(c, err) {
				return err
			}
			return nil
		}
	}
	s.ended(true, false)
	s.rest()
	if !s.send(wire.AppendReady(nil, s.tx)) {
		return io.ErrUnexpectedEOF
	}
	return nil
}

// mendDuplex puts back what RESETs have taken of the login's settings, and tells the client of it, and of what the server has
// not reported because the session before had the same.
func (s *Session) mendDuplex(c *backend.Conn) error {
	if len(s.items) == 0 {
		if s.relay.adopts {
			s.tellParams(c, s.send)
		}
		return nil
	}
	if err := s.restoreStartup(c); err != nil {
		return err
	}
	now := func(send func()) { send() }
	if s.relay.discarded {
		s.tellReset(c, now)
	} else {
		s.tellParams(c, s.send)
	}
	return nil
}

// abortDuplex ends the relay's goroutine when the client is gone.
func (s *Session) abortDuplex() {
	if s.dx == nil {
		return
	}
	s.dx.c.Spoil("client left in the middle of a statement")
	_ = s.dx.c.Conn.Close()
	<-s.dx.finished
	s.relay.free()
	s.dx = nil
}
