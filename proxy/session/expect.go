package session

import (
	"slices"

	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
)

// expectation is what must become of a ParseComplete or CloseComplete to come,
// and how to take back what was assumed if the server skips its message.
type expectation struct {
	kind   expectKind
	st     *backend.Statement // the statement sent for preparation, or closed
	name   string             // the client's name for it
	old    *backend.Statement // what name meant before; expectQueryEnd: the unnamed statement that the query destroys
	simple bool               // expectCopyEnd: it follows a Query rather than an Execute
	held   *backend.Statement // expectUnnamed, expectQueryEnd: what the connection's unnamed statement was before
	place  int                // expectUnnamed, expectQueryEnd: messages of the extended protocol since the last end before it
}

type expectKind uint8

const (
	expectEnd        expectKind = iota // ReadyForQuery of a Sync
	expectQueryEnd                     // ReadyForQuery of a Query or FunctionCall
	expectParse                        // the client's Parse was sent
	expectParseKnown                   // a Close stands for the client's Parse
	expectParseOwn                     // a Parse of ours: drop its answer
	expectClose                        // the client's Close
	expectCloseOwn                     // a Close of ours: drop its answer
	expectUnnamed                      // the client's Parse of the unnamed statement
	expectCopyEnd                      // CopyDone or CopyFail; nothing answers it by itself
)

// expectations is a queue in the order of the messages sent. The zero value is empty.
type expectations struct {
	list []expectation
	head int
	sent int // messages since the last Sync, of those that one message completes
}

func (e *expectations) add(x expectation) {
	switch x.kind {
	case expectEnd, expectQueryEnd:
		e.sent = 0
	case expectCopyEnd:
	default:
		x.place = e.sent
		e.sent++
	}
	e.list = append(e.list, x)
}

func (e *expectations) clear() {
	clear(e.list)
	e.list, e.head = e.list[:0], 0
}

// completes marks the frames that complete one message of the extended protocol each.
var completes = func() (t [256]bool) {
	for _, b := range []byte{wire.MsgParseComplete, wire.MsgBindComplete, wire.MsgCloseComplete, wire.MsgRowDescription, wire.MsgNoData,
		wire.MsgCommandComplete, wire.MsgEmptyQueryResponse, wire.MsgPortalSuspended} {
		t[b] = true
	}
	return t
}()

// acknowledge handles a ParseComplete or CloseComplete and reports whether the
// client gets it.
func (e *expectations) acknowledge(r *relay, frame []byte) (keep bool) {
	for e.head < len(e.list) && e.list[e.head].kind == expectCopyEnd {
		e.head++ // a stray one: the server ignored it
	}
	if e.head >= len(e.list) {
		return true // raw mode keeps ends only
	}
	x := &e.list[e.head]
	if x.kind == expectEnd || x.kind == expectQueryEnd {
		return true
	}
	e.head++
	switch x.kind {
	case expectParseKnown:
		frame[0] = wire.MsgParseComplete
		r.s.forget(x.old)
	case expectUnnamed:
		r.s.retire(x.old)
	case expectParse, expectClose:
		r.s.forget(x.old)
	case expectParseOwn, expectCloseOwn:
		return false
	}
	return true
}

// synced handles a ReadyForQuery: what the server skipped did not happen.
func (e *expectations) synced(r *relay) {
	end := e.head
	for end < len(e.list) && e.list[end].kind != expectEnd && e.list[end].kind != expectQueryEnd {
		end++
	}
	for i := end - 1; i >= e.head; i-- {
		r.undo(&e.list[i], e.list[end:])
	}
	if end < len(e.list) {
		r.s.forget(e.list[end].old)
	}
	e.head = min(end+1, len(e.list))
	for e.head < len(e.list) && e.list[e.head].kind == expectCopyEnd && e.list[e.head].simple {
		e.head++ // the query did not take data after all
	}
	if e.head == len(e.list) {
		e.clear()
	}
}

// takeBack handles the loss of the connection: what it has not acknowledged did
// not happen.
func (r *relay) takeBack() {
	e := &r.expect
	for i := len(e.list) - 1; i >= e.head; i-- {
		r.undo(&e.list[i], nil)
	}
	e.clear()
}

// failed handles an error. A server on which a message of the extended protocol fails skips everything up to the next
// Sync, Query and FunctionCall too: skipped is how many of them. That is taken back at once, because the error may name it
// and what comes behind the Sync may be on its way already. toSync tells that no Sync has been sent so far.
func (e *expectations) failed(r *relay) (skipped int, toSync bool) {
	end := e.head
	for end < len(e.list) && e.list[end].kind != expectEnd {
		x := &e.list[end]
		if x.kind == expectQueryEnd {
			if skipped == 0 && r.done >= x.place {
				return 0, false // it is the query itself that failed
			}
			skipped++
		}
		if skipped > 0 {
			x.place = -1 // nothing from here on is what failed
		}
		end++
	}
	for i := end - 1; i >= e.head; i-- {
		r.undo(&e.list[i], e.list[end:])
	}
	e.head = end
	return skipped, end == len(e.list)
}

// copyStarts follows a CopyInResponse. A server that takes data ignores Syncs
// until CopyDone or CopyFail, so those sent before it are dropped from the queue.
// extended tells that no Query asked for the COPY, ended that its end has been sent.
func (e *expectations) copyStarts() (extended, ended bool, dropped int) {
	i := e.head
	for i < len(e.list) && e.list[i].kind != expectEnd && e.list[i].kind != expectQueryEnd && e.list[i].kind != expectCopyEnd {
		i++
	}
	extended = i == len(e.list) || e.list[i].kind != expectQueryEnd
	if !extended {
		i++
	}
	kept := e.list[:i]
	for ; i < len(e.list) && !ended; i++ {
		switch e.list[i].kind {
		case expectEnd:
			dropped++
		case expectCopyEnd:
			ended = true
		default:
			kept = append(kept, e.list[i])
		}
	}
	e.list = append(kept, e.list[i:]...)
	return extended, ended, dropped
}

// undo takes x back. later is what was sent behind the end of its request, and is still to come.
func (r *relay) undo(x *expectation, later []expectation) {
	s := r.s
	switch x.kind {
	case expectParse, expectParseKnown:
		if x.kind == expectParse {
			r.c.DropPrepared(x.st)
		}
		s.setName(x.name, x.old)
		s.forget(x.st)
	case expectParseOwn:
		r.c.DropPrepared(x.st)
		if r.c.Unnamed() == x.st {
			r.c.SetUnnamed(nil)
		}
	case expectCloseOwn:
		if x.st != nil {
			r.c.AddPrepared(x.st) // it is still there
		}
	case expectUnnamed:
		r.undoUnnamed(x, later)
	case expectQueryEnd:
		if x.old != nil {
			r.c.SetUnnamed(x.held)
			s.setUnnamed(x.old)
		}
	case expectClose:
		if x.old != nil {
			s.setName(x.name, x.old)
		}
	}
}

// undoUnnamed takes back a Parse of the unnamed statement. One that was skipped left things as they were; one that
// failed has dropped the statement before it (PostgreSQL's exec_parse_message does so first).
func (r *relay) undoUnnamed(x *expectation, later []expectation) {
	s := r.s
	failed := x.place == r.failedAt || !r.counts
	if i := slices.IndexFunc(later, func(y expectation) bool { return y.kind == expectUnnamed || y.kind == expectQueryEnd }); i >= 0 {
		s.undoBehind(x, &later[i], failed)
		return
	}
	if failed {
		s.forget(x.old)
		r.c.SetUnnamed(nil)
		s.setUnnamed(nil)
		return
	}
	r.c.SetUnnamed(x.held)
	if x.old != nil {
		s.setUnnamed(x.old)
	} else if x.st == nil {
		s.setUnnamed(nil) // there was none
	}
}

// undoBehind is undoUnnamed where a later request has replaced the unnamed statement again: what it will have replaced changes, and not what the session has by now.
func (s *Session) undoBehind(x, later *expectation, failed bool) {
	switch {
	case later.kind == expectQueryEnd && later.place == 0: // which nothing takes back
		s.forget(x.old)
	case failed:
		s.forget(x.old)
		s.forget(later.old)
		later.old, later.st, later.held = nil, nil, nil
	default:
		later.held = x.held
		if x.old != nil || x.st == nil {
			s.forget(later.old)
			later.old, later.st = x.old, x.st
		}
	}
}
