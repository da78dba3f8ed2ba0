package session

import (
	"time"

	"pgtier/parser"
	"pgtier/proxy/pool"
	"pgtier/proxy/wire"
	"pgtier/router/catalog"
)

// piped is a session's part in pipelines.
type piped struct {
	entry *entry // under way, or to be collected; nil: none
	spare *entry // for the next request
	req   []byte // its request, to be sent again if need be
	old   expectation
	only  bool // the next turn goes the usual way
}

// maxPiped is the longest request that travels in a pipeline, in bytes.
const maxPiped = 4 << 10

// pipe submits the requests in req to a pipeline if they may travel in one. It reports whether it did: the answer then
// comes to the client without this goroutine.
func (s *Session) pipe(req []byte) bool {
	cfg := s.db.Config()
	if !cfg.Pipeline.Enabled || s.piped.only || len(req) > maxPiped || s.raw || s.tx != wire.TxIdle || s.server != nil || s.pin != "" ||
		s.opening != nil || s.openingFailed || cfg.Mode != pool.ModeTransaction || !s.client.CanTry() {
		return false
	}
	if s.in.Len() != len(req) {
		return false // the client has asked ahead: what follows must not overtake the answer
	}
	rec := s.pipeable(&cfg.Pipeline, req)
	if rec == nil {
		return false
	}
	if s.turnTime == 0 {
		s.turnTime = s.env.now()
	}
	to, ok := s.pipedTarget()
	if !ok {
		return false
	}
	if s.keep.fill != nil && !s.provesFill(to.replica, to.replayed) {
		s.dropFill()
	}
	l := s.at.Pipelines.find(s, &to, cfg.Pipeline.Depth, min(cfg.Pipeline.Lanes, cfg.Size/4), cfg.Pipeline.Slow)
	if l == nil {
		return false
	}
	if s.planned != nil && s.planned.outdated() { // its connection may have been bound meanwhile
		l.mu.Unlock()
		return false
	}
	s.submit(l, &to, req, rec)
	s.at.Pipelines.Requests.Add(1)
	return true
}

// submit puts the requests into the queue of l, whose mu is held, and lets go of it.
func (s *Session) submit(l *pipeline, to *pipedTo, req []byte, rec *record) {
	defer l.mu.Unlock()
	e := s.newEntry(rec)
	s.pipedGoes(to, e)
	e.fill = s.takeFill(true)
	t := translator{s: s, c: l.c, req: req}
	out, _ := t.requests(nil)
	s.expectPiped(e)
	s.piped.req = append(s.piped.req[:0], req...)
	s.enterAt(StateActive, s.turnTime)
	s.piped.entry = e
	s.pipedNow.Store(e)
	l.out = append(l.out, out...)
	e.size = len(out)
	l.bytes += e.size
	t.free()
	l.queue = append(l.queue, e)
	l.owner.Depth.Add(1)
	if l.idle {
		l.idle = false
		l.signal()
	}
}

// newEntry makes the entry of the next request.
func (s *Session) newEntry(rec *record) *entry {
	e := s.piped.spare
	if e == nil {
		e = &entry{s: s}
	}
	s.piped.spare = nil
	e.state.Store(entryWaiting)
	e.began, e.rec = s.turnTime, rec
	e.own, e.n, e.acks, e.bad = [8]bool{}, 0, 0, false
	e.buf, e.rest, e.unsent, e.shown = e.buf[:0], nil, false, false
	return e
}

// expectPiped hands what the translator expects over to the entry.
func (s *Session) expectPiped(e *entry) {
	for _, x := range s.relay.expect.list {
		switch x.kind {
		case expectParseOwn, expectCloseOwn:
			e.own[e.n] = true
			e.n++
		case expectUnnamed:
			s.piped.old = x
			e.n++
		}
	}
	s.relay.expect.clear()
	s.relay.expect.sent = 0
}

// pipeable returns the record of the one statement in s.items if it may travel in a pipeline: proved to read only, with
// nothing that outlives it, small and fast so far.
func (s *Session) pipeable(cfg *pool.Pipeline, req []byte) *record {
	st, messages := s.pipedStatement(req, false)
	if st == nil || messages > 8 || !selects(st) || st.Conforming || len(st.Hints) > 0 {
		return nil
	}
	if s.db.Hazards.Reading(st).Verdict != catalog.Read {
		return nil
	}
	if k := s.at.Keeper.Load(); k != nil && k.Judge().Tags.Write(st).Code() {
		return nil // code that is made anew meanwhile may write, and nobody claims that here
	}
	rec := s.at.Pipelines.records.find(st)
	if rec.count.Load() < recordEnough && !s.env.EagerPipelines || rec.took.Load() >= int64(cfg.Slow) || rec.size.Load() > int64(cfg.MaxResult) {
		return nil
	}
	return rec
}

// pipedStatement is the only statement of the requests, nil if their messages do anything but run it to its end. before: it
// may be the unnamed one of a request before.
func (s *Session) pipedStatement(req []byte, before bool) (st *parser.Statement, messages int) {
	last, bound := len(s.items)-1, false
	if !s.items[last].end {
		return nil, 0
	}
	if last == 0 {
		if s.items[0].typ == wire.MsgQuery {
			return s.items[0].st, 1
		}
		return nil, 0
	}
	for i := range s.items {
		it := &s.items[i]
		frame := req[it.off : it.off+it.size]
		switch it.typ {
		case wire.MsgParse:
			if it.named || st != nil || i != 0 {
				return nil, 0
			}
			st = it.st
		case wire.MsgBind:
			portal, name, _, ok := splitBind(frame)
			if !ok || bound || len(portal) > 0 || len(name) > 0 && st != nil || len(name) == 0 && st == nil && !before {
				return nil, 0
			}
			if st == nil {
				if it.own == nil || it.own.SQL || !s.readsAlike(it.own) {
					return nil, 0
				}
				st = it.own.Facts
			}
			bound = true
		case wire.MsgDescribe:
			if kind, name, ok := splitTarget(frame); !ok || kind != 'P' || len(name) > 0 {
				return nil, 0
			}
		case wire.MsgExecute:
			if body := frame[wire.HeaderBytes:]; len(body) != 5 || string(body) != "\x00\x00\x00\x00\x00" {
				return nil, 0
			}
		case wire.MsgSync:
			if i != last {
				return nil, 0
			}
		default:
			return nil, 0
		}
	}
	return st, len(s.items)
}

// answeredPiped books an answer; the pipeline calls it before the client can know of it, while the session's goroutine
// waits for what the client does next.
func (s *Session) answeredPiped(e *entry, took int64, size int) {
	s.db.Stats.Sent.Add(uint64(size))
	s.db.Stats.Queries.Add(1)
	s.db.Stats.QueryTime.Add(uint64(took))
	s.db.Stats.Transactions.Add(1)
	s.queries.Add(1)
	e.answered = e.began + took
	if f := s.at.Fleet.Load(); f != nil { // a reload may have brought it meanwhile, or another
		e.ticket, e.shown = f.Now(), true
	}
	if e.replica != "" {
		e.fleet.Observe(e.replica, time.Duration(took))
	}
	if slow := s.env.SlowQuery.Load(); slow > 0 && took >= slow {
		s.logSlow(took)
	}
	s.enterAt(StateIdle, e.answered)
	s.underway.since.Store(0)
	if began := s.txSince.Swap(0); began > 0 {
		s.db.Stats.TxTime.Add(uint64(took))
	}
}

// collect takes the session's entry back once it is settled, waiting for that, and does what is left of its request.
// false ends the session.
func (s *Session) collect() bool {
	e := s.piped.entry
	if e == nil {
		return true
	}
	switch s.takeBack(e) {
	case entrySpilled:
		return s.sendRest(e)
	case entryCanceled:
		return s.sendRest(e) && s.checkKilled() == nil
	case entryRepeat:
		s.piped.only = true
		defer func() { s.piped.only = false }()
		if s.planned != nil && s.planned.outdated() {
			if done, ok := s.planAgain(s.piped.req, ""); done {
				return ok
			}
		}
		return s.turn(s.piped.req)
	}
	return true
}

// takeBack waits until e is settled and returns its state. It is used again where the pipeline is through with it.
func (s *Session) takeBack(e *entry) int32 {
	if !e.settled() {
		e.await()
	}
	s.piped.entry = nil
	s.pipedNow.Store(nil)
	s.busy() // who has answered has said that nothing is under way
	if e.fill != nil {
		e.fill.Drop() // unless it was kept
		e.fill = nil
	}
	if s.piped.old.kind == expectUnnamed {
		s.retire(s.piped.old.old)
		s.piped.old = expectation{}
	}
	state := e.state.Load()
	if state != entryRepeat && cap(s.piped.req) > keptRequest {
		s.piped.req = nil
	}
	if state == entryDone || state == entrySpilled {
		s.pipedSaw(e)
		if cap(e.buf) > wire.TinyBuffer {
			e.buf = nil
		}
		s.piped.spare = e
	}
	return state
}

// keptRequest bounds the memory for its requests that an idle session keeps, in bytes.
const keptRequest = 1 << 10

// cancelPiped ends the session's request in a pipeline and reports whether there was one. The statement runs on, until the
// sweeper sees that nobody waits for it: a cancel now could hit a neighbour. Safe for concurrent use.
func (s *Session) cancelPiped() bool {
	e := s.pipedNow.Load()
	if e == nil || !e.claim(entryTaken) {
		return false
	}
	s.enter(StateIdle)
	s.txSince.Store(0)
	s.underway.since.Store(0) // nobody hears the answer
	msg := wire.AppendReady(canceled().Append(nil), wire.TxIdle)
	n, whole, err := s.client.TryWrite(msg)
	if e.unsent = err != nil || !whole; e.unsent {
		e.rest = msg[n:]
	}
	e.finish(entryCanceled)
	if e.unsent {
		s.client.Kick()
	}
	return true
}

// killPiped makes the session's request in a pipeline nobody's. Safe for concurrent use.
func (s *Session) killPiped() {
	if e := s.pipedNow.Load(); e != nil && e.claim(entryTaken) {
		e.finish(entryCanceled)
	}
}

// dropPiped makes the session's request in a pipeline nobody's, before something else is said to the client or it is
// left. An answer that the client has begun to hear is ended first.
func (s *Session) dropPiped() {
	e := s.piped.entry
	if e == nil {
		return
	}
	s.killPiped()
	s.takeBack(e)
	s.sendRest(e)
}

// sendRest writes what could not be written at once of the answer to e, if anything. false: the client is gone.
func (s *Session) sendRest(e *entry) bool {
	if !e.unsent {
		return true
	}
	rest := e.rest
	e.rest, e.unsent = nil, false
	if s.client.Send(rest) == nil { // empty where TLS alone holds some of it
		return true
	}
	s.leaving = true
	return false
}

// learn adds what a turn over a connection of its own took to its statement's record.
func (s *Session) learn(req []byte, took time.Duration) {
	if len(req) > maxPiped || s.relay.failed {
		return
	}
	if st, _ := s.pipedStatement(req, false); st != nil && selects(st) {
		s.at.Pipelines.records.find(st).note(took, s.relay.total)
	}
}

// selects reports whether st is one SELECT that changes nothing of the session.
func selects(st *parser.Statement) bool {
	return len(st.Commands) == 1 && st.Commands[0].Kind == parser.Select && st.Effects == 0
}
