package session

import (
	"fmt"
	"time"

	"pgtier/proxy/wire"
)

// deal walks the answers that are there, hands each whole one to its session and returns how many there were.
func (l *pipeline) deal() (answered int, err error) {
	b := l.in.Bytes()
	pos, start := 0, 0 // start: of the part of the head's answer that is not in its buf
	e := l.current()
	for {
		size, ok := wire.FrameSize(b[pos:])
		if !ok || len(b)-pos < size && size > 0 {
			break
		}
		typ := b[pos]
		if size == 0 || size > maxInspect || frameClass[typ] == frameBad {
			return answered, fmt.Errorf("%w: type %q in a pipeline", errGarbage, typ)
		}
		if e == nil {
			return answered, fmt.Errorf("%w: an answer that nobody waits for", errGarbage)
		}
		end := pos + size
		switch typ {
		case wire.MsgParseComplete, wire.MsgCloseComplete:
			if e.acks < e.n && e.own[e.acks] {
				e.keep(b[start:pos])
				start = end
			}
			e.acks++
		case wire.MsgNotification, wire.MsgParameterStatus:
			e.keep(b[start:pos])
			start = end
			if typ == wire.MsgParameterStatus { // whose news is for every client
				l.stale = true
				l.spoil("a setting changed in a pipeline")
			}
		case wire.MsgNoticeResponse:
			if e.fill != nil {
				e.fill.Drop() // what the server notices is for this client
			}
		case wire.MsgErrorResponse:
			e.bad = true
			switch wire.ParseError(b[pos+wire.HeaderBytes : end]).Code {
			case wire.CodeFeatureNotSupported, wire.CodeInvalidStatement: // a plan that is out of date, a statement that is not there
				l.spoil("a prepared statement cannot be run in a pipeline any more")
			}
		case wire.MsgCopyInResponse:
			e.bad = true
		case wire.MsgReadyForQuery:
			if size != readyBytes || b[end-1] != wire.TxIdle {
				return answered, fmt.Errorf("%w: a transaction in a pipeline", errGarbage)
			}
			next := l.next() // first: its session may use e again as soon as it is done
			l.answering = e
			l.answered(e, b[start:end])
			l.answering = nil
			start, e = end, next
			answered++
		}
		pos = end
	}
	if size, ok := wire.FrameSize(b[pos:]); ok && size > maxInspect {
		return answered, fmt.Errorf("%w: a message of %d bytes in a pipeline", errGarbage, size)
	}
	if e != nil && pos > start {
		e.keep(b[start:pos])
	}
	l.in.Skip(pos)
	if e != nil && len(e.buf) > maxAnswer {
		e.bad, e.buf = true, e.buf[:0]
	}
	return answered, nil
}

// keep sets a part of the answer aside.
func (e *entry) keep(part []byte) {
	if !e.bad && len(part) > 0 {
		e.buf = append(e.buf, part...)
	}
}

// current is the entry that is being answered, nil if none.
func (l *pipeline) current() *entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.head >= l.sent {
		return nil
	}
	return l.queue[l.head]
}

// next moves to the next entry and returns it.
func (l *pipeline) next() *entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.bytes -= l.queue[l.head].size
	l.queue[l.head] = nil
	l.head++
	l.owner.Depth.Add(-1)
	if l.head == len(l.queue) {
		l.queue, l.head, l.sent = l.queue[:0], 0, 0
		return nil
	}
	if l.head > 256 && l.head*2 > len(l.queue) { // long in use without a pause
		n := copy(l.queue, l.queue[l.head:])
		clear(l.queue[n:])
		l.queue, l.sent, l.head = l.queue[:n], l.sent-l.head, 0
	}
	if l.head >= l.sent {
		return nil
	}
	return l.queue[l.head]
}

// spoil lets nobody in any more, and has the connection closed in the end.
func (l *pipeline) spoil(reason string) {
	l.c.Spoil(reason)
	l.mu.Lock()
	l.open = false
	l.mu.Unlock()
}

// answered gives the session its answer: tail, behind what was set aside.
func (l *pipeline) answered(e *entry, tail []byte) {
	if e.bad && e.acks < e.n { // a statement of ours may not be there
		l.spoil("a statement could not be prepared in a pipeline")
	}
	if e.bad || l.stale {
		l.repeat(e)
		return
	}
	if len(e.buf) > 0 {
		e.buf = append(e.buf, tail...)
		tail = e.buf
	}
	if !e.claim(entryAnswered) {
		return
	}
	s := e.s
	now := l.env.now()
	took := now - e.began
	e.rec.note(time.Duration(now-max(e.began, l.last)), len(tail)) // what waited for others before it was not its own time
	l.last = now
	s.answeredPiped(e, took, len(tail))
	if e.fill != nil {
		e.fill.Keep(tail, e.shows())
	}
	n, whole, err := s.client.TryWrite(tail)
	if err == nil && whole {
		e.finish(entryDone)
		if s.interrupted() { // by what has to wait for the answer
			s.client.Kick()
		}
		return
	}
	// Slow, or gone: its own goroutine finds out.
	e.rest, e.unsent = append([]byte(nil), tail[n:]...), true
	e.finish(entrySpilled)
	s.client.Kick()
}

// repeat has the session send its request the usual way, and reports whether it waited for an answer.
func (l *pipeline) repeat(e *entry) bool {
	if !e.claim(entryAnswered) {
		return false
	}
	l.owner.Replays.Add(1)
	e.finish(entryRepeat)
	e.s.client.Kick()
	return true
}

// Tend looks after pipelines whose head takes long: newcomers go elsewhere, and so do those who wait behind it.
func (p *Pipelines) Tend(now int64, slow time.Duration) {
	p.mu.Lock()
	var all []*pipeline
	for _, of := range p.all {
		all = append(all, of...)
	}
	p.mu.Unlock()
	for _, l := range all {
		l.evict(now, slow)
	}
}

// evict sends those behind a slow head elsewhere. What they asked is sent all the same, because the connection is known to
// hold the statements that it prepares, and answered to nobody. A head that nobody waits for is not waited for.
func (l *pipeline) evict(now int64, slow time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.c == nil || l.len() == 0 {
		l.orphan = nil
		return
	}
	head := l.queue[l.head]
	if l.atHead(now) >= evictAfter*int64(slow) {
		l.sendElsewhere()
	}
	if l.head >= l.sent || head.state.Load() == entryWaiting {
		l.orphan = nil
		return
	}
	if l.orphan == head { // as it was a sweep ago
		l.sendElsewhere()
		l.abandon()
	}
	l.orphan = head
}

// sendElsewhere has everybody behind the head go the usual way; mu is held.
func (l *pipeline) sendElsewhere() {
	behind := l.head + 1
	if l.head >= l.sent { // not even the head has been sent
		behind = l.head
	}
	for _, e := range l.queue[behind:] {
		if l.repeat(e) {
			l.owner.Evictions.Add(1)
		}
	}
}

// evictAfter is how many times slow a head may take before those behind it are sent elsewhere, who would have to start anew.
const evictAfter = 4
