package session

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
)

// relay carries a server's answers to the client: it walks the frames by their
// headers, forwards them from the buffer they were read into, and stops when no
// ReadyForQuery is owed any more. In a turn it runs on the session's goroutine,
// in duplex on its own; expect is then guarded by duplex.mu.
type relay struct {
	s  *Session
	c  *backend.Conn
	in wire.Input

	ahead        int  // messages in front of the requests that are still to be completed; what comes until then is dropped
	unready      bool // one of them was refused, so that the server skips the requests; own says why
	adopts       bool // they bring the connection into the session's settings, of which the client knows
	owed         int  // ReadyForQuery still to come for the client
	watch        bool // look at command tags
	quiet        bool // a RESET is being mended: what the client hears of settings comes afterwards
	watchPrepare bool // a PREPARE runs under a shared name: its completion counts as a ParseComplete
	drain        bool // the client is gone: drop everything
	large        bool // a long answer: read with the larger buffer
	unended      bool // the client is in the middle of a request: an error alone would not answer it
	hold         bool // duplex: leave the last ReadyForQuery to the session
	expect       expectations
	wrote        bool // the client has heard something
	heard        bool // the server has said something
	farewell     bool // it said nothing but goodbye
	unbegun      bool // in the place of what was sent in front of the requests
	goodbye      []byte
	unsure       bool // duplex: something may have been committed that was not answered
	again        bool // a replica could not serve it
	fenced       bool // the servers' fence has refused it, and it may be sent again
	acknowledged bool // a ParseComplete or CloseComplete has come

	counts   bool // count completed messages: it matters which one fails
	total    int  // bytes of the answer
	done     int  // completed since the last ReadyForQuery
	failedAt int  // done when the error came

	rename rename // how the query's text differs from the client's
	shrunk int    // bytes by which inspect made the frame shorter

	tx           byte
	failed       bool // an ErrorResponse since the last ReadyForQuery
	errors       int  // ErrorResponses
	fatal        bool // the server said goodbye
	copyIn       bool // the server asks for COPY data that is not there yet
	copyExtended bool // the COPY was asked for in the extended protocol
	ignored      int  // Syncs taken for ignored by a COPY
	toSync       bool // the server skips to a Sync that the client has not sent yet
	discarded    bool // DISCARD ALL was executed last
	reset        bool // a RESET was executed
	clientGone   bool
	own          *wire.Error     // the error of a message of ours
	told         *backend.Params // what the client knew of settings when the turn was sent
	err          error
	remain       int // bytes to come of a frame that is being streamed
	need         int // size of a frame that must be whole before it is looked at
	withheld     int // where step goes on, behind what is kept and not forwarded yet: at a notice; 0 at the start
	out          int // end of what is kept of the buffer's unread part, after drops
}

// begin readies the relay for owed answers of the client's.
func (r *relay) begin(c *backend.Conn, owed int) {
	r.c, r.ahead, r.owed, r.told = c, 0, owed, r.s.params
	r.drain, r.large, r.hold, r.unended, r.quiet = false, false, false, false, false
	r.failed, r.fatal, r.copyIn, r.discarded, r.reset, r.clientGone = false, false, false, false, false, false
	r.rename, r.shrunk = rename{}, 0
	r.copyExtended, r.ignored, r.toSync = false, 0, false
	r.counts, r.done, r.failedAt, r.total, r.errors = false, 0, 0, 0, 0
	r.unbegun, r.unready, r.adopts = false, false, false
	r.wrote, r.heard, r.farewell, r.again, r.fenced, r.acknowledged, r.unsure, r.goodbye = false, false, false, false, false, false, false, nil
	c.Resume(&r.in)
	r.own, r.err, r.remain, r.need, r.out, r.withheld = nil, nil, 0, 0, 0, 0
}

// What to do with a frame.
const (
	frameBad     = iota
	framePass    // forward; its body is never looked at
	frameInspect // must be whole in the buffer
)

var frameClass = func() (t [256]uint8) {
	for i := range t {
		if wire.BackendType(byte(i)) {
			t[i] = framePass
		}
	}
	for _, b := range []byte{wire.MsgReadyForQuery, wire.MsgErrorResponse, wire.MsgParameterStatus, wire.MsgCopyInResponse,
		wire.MsgParseComplete, wire.MsgCloseComplete, wire.MsgNotification} {
		t[b] = frameInspect
	}
	t[wire.MsgCopyBothResponse] = frameBad
	t[wire.MsgBackendKeyData] = frameBad
	return t
}()

// maxInspect bounds a frame that must be held whole; longer errors are streamed unseen.
const maxInspect = 1 << 20

// errGarbage is wrapped by errors about what no server should send.
var errGarbage = errors.New("the server sent an invalid message")

// Readable takes what the server sent. false ends the loop: all answered, COPY
// data wanted, the client gone, or an error in r.err.
func (r *relay) Readable() bool {
	want := wire.SmallBuffer
	if r.large {
		want = wire.LargeBuffer
	}
	room := r.in.Space(r.s.env.Bufs.Answers(), max(want, r.need, r.in.Len()+1))
	r.need = 0
	n, err := r.c.Take(room)
	r.in.Added(n)
	if n == 0 {
		if err == nil {
			return true
		}
		r.err = err
		if errors.Is(err, io.EOF) {
			r.err = io.ErrUnexpectedEOF
		}
		return false
	}
	r.large = n == len(room)
	return r.step()
}

// step walks the frames that are there and forwards them.
func (r *relay) step() bool {
	b := r.in.Bytes()
	longest := r.s.env.limit().MaxMessage
	pos := r.withheld
	if r.withheld = 0; pos == 0 {
		r.out = 0
	}
	for pos < len(b) {
		if r.remain > 0 {
			n := min(r.remain, len(b)-pos)
			r.keep(b, pos, n)
			pos += n
			r.remain -= n
			continue
		}
		size, ok := wire.FrameSize(b[pos:])
		class := frameClass[b[pos]]
		if class == frameBad || ok && (size == 0 || size > longest) {
			r.err = fmt.Errorf("%w: type %q, %d bytes", errGarbage, b[pos], size)
			return false
		}
		if !ok {
			break
		}
		whole := len(b)-pos >= size
		if r.ahead > 0 && completes[b[pos]] {
			if !whole && size <= maxInspect {
				r.need = size
				break
			}
			if !whole {
				r.err = fmt.Errorf("%w: type %q, %d bytes", errGarbage, b[pos], size)
				return false
			}
			r.ahead--
			pos += size
			continue
		}
		if b[pos] == wire.MsgNoticeResponse && size <= maxInspect && (!whole || pos+size == len(b) && parting(b[pos:])) {
			return r.withhold(b, pos, size+1)
		}
		if class == frameInspect || (r.watch || r.watchPrepare) && b[pos] == wire.MsgCommandComplete || r.rename.by != 0 && b[pos] == wire.MsgNoticeResponse {
			if !whole && size <= maxInspect {
				r.need = size
				break
			}
			if whole {
				stop := r.take(b, pos, size)
				if pos += size; stop {
					return r.finish(b, pos)
				}
				continue
			}
		}
		r.count(b[pos])
		switch b[pos] {
		case wire.MsgNoticeResponse:
			r.s.keep.saves = false
		case wire.MsgFunctionCallResponse:
			r.discarded = false
		}
		r.heard = r.heard || !r.ours()
		n := min(size, len(b)-pos)
		r.keep(b, pos, n)
		r.remain = size - n
		pos += n
	}
	return r.forward(b, pos)
}

// take looks at the frame of size bytes at pos, and keeps what the client is to have of it. stop ends the loop behind it.
func (r *relay) take(b []byte, pos, size int) (stop bool) {
	frame := b[pos : pos+size]
	r.count(frame[0])
	ours := r.ours()
	keep, stop := r.inspect(frame)
	r.heard = r.heard || !ours
	if stop && r.hold && frame[0] == wire.MsgReadyForQuery {
		keep = false
	}
	if keep {
		r.keep(b, pos, size-r.shrunk)
	}
	r.shrunk = 0
	return stop
}

// withhold waits at pos, where a notice stands, until need bytes from there tell what it is. What is kept before it waits too if the client has been sent nothing yet: it
// would have heard something.
func (r *relay) withhold(b []byte, pos, need int) bool {
	r.need = need
	if r.wrote {
		return r.forward(b, pos)
	}
	r.need += pos
	r.withheld = pos
	return true
}

// parting reports whether a notice may be the last that a server says: the WARNING before it ends all its sessions at once, because one of its processes has crashed
// or it is shut down immediately. Who has heard nothing else has heard nothing.
func parting(notice []byte) bool {
	if !bytes.Contains(notice, partingStop) && !bytes.Contains(notice, partingCrash) {
		return false
	}
	return wire.ParseError(notice[wire.HeaderBytes:]).Severity == "WARNING"
}

// parted is a notice that was held back as the last that the server may say.
func (r *relay) parted() []byte {
	b := r.in.Bytes()[r.withheld:]
	if size, ok := wire.FrameSize(b); r.ours() || !ok || size != len(b) || b[0] != wire.MsgNoticeResponse || !parting(b) {
		return nil
	}
	return b
}

// The fields of its SQLSTATE.
var (
	partingStop  = []byte("C" + wire.CodeAdminShutdown + "\x00")
	partingCrash = []byte("C" + wire.CodeCrashShutdown + "\x00")
)

// ours reports whether what comes answers what the proxy put in front of the requests.
func (r *relay) ours() bool { return r.ahead > 0 }

// count follows which message the server has come to.
func (r *relay) count(typ byte) {
	if r.counts && completes[typ] {
		r.done++
	}
}

// keep leaves n bytes at pos in what will be forwarded, moving them down over
// what was dropped before them.
func (r *relay) keep(b []byte, pos, n int) {
	if r.ours() || r.drain {
		return
	}
	r.total += n
	if r.out != pos {
		copy(b[r.out:], b[pos:pos+n])
	}
	r.out += n
}

// forward writes what is kept of b[:pos] to the client.
func (r *relay) forward(b []byte, pos int) bool {
	kept := b[:r.out]
	r.out = 0
	if r.s.keep.saves {
		r.s.saveAnswer(kept)
	}
	ok := len(kept) == 0 || r.write(kept)
	r.in.Skip(pos)
	if !ok {
		return false
	}
	r.in.Release()
	return true
}

// finish stops the loop at pos. In a turn the kept bytes stay in the buffer for
// Tail; in duplex they are written.
func (r *relay) finish(b []byte, pos int) bool {
	if r.owed == 0 && !r.copyIn && !r.toSync && !r.hold {
		r.c.Afterwards(b[pos:])
		return false
	}
	r.forward(b, pos)
	return false
}

// unheard takes back what the client was to be told of settings by a turn of which it has heard nothing.
func (r *relay) unheard() { r.s.params = r.told }

// Tail is what is still to be sent to the client after the loop ended.
func (r *relay) Tail() []byte { return r.in.Bytes()[:min(r.out, r.in.Len())] }

// free drops the buffer, or keeps it for the transaction's next answer.
func (r *relay) free() {
	r.out, r.withheld = 0, 0
	if r.s.tx == wire.TxIdle || r.s.server == nil {
		r.in.Drop()
		return
	}
	r.in.Skip(r.in.Len())
	r.in.Keep()
}

func (r *relay) write(b []byte) bool {
	r.wrote = true
	r.s.db.Stats.Sent.Add(uint64(len(b)))
	var err error
	if r.hold { // on a goroutine of its own
		err = r.s.client.Write(b)
	} else {
		err = r.s.client.Send(b)
	}
	r.clientGone = r.clientGone || err != nil
	return err == nil
}

// inspect looks at one whole frame and may change it in place.
func (r *relay) inspect(frame []byte) (keep, stop bool) {
	if d := r.s.dx; d != nil {
		d.mu.Lock()
		defer d.mu.Unlock()
	}
	switch frame[0] {
	case wire.MsgReadyForQuery:
		return r.ready(frame)
	case wire.MsgErrorResponse:
		return r.failure(frame), r.toSync || r.unready
	case wire.MsgParameterStatus:
		return r.parameter(frame), false
	case wire.MsgParseComplete, wire.MsgCloseComplete:
		r.discarded, r.acknowledged = false, true
		return r.expect.acknowledge(r, frame), false
	case wire.MsgNotification:
		// The shared listener delivers it, unless it does not listen yet.
		return r.s.txn.listening, false
	case wire.MsgCommandComplete:
		r.command(frame)
	case wire.MsgNoticeResponse:
		r.shrunk = r.rename.position(frame)
	case wire.MsgCopyInResponse:
		return true, !r.ours() && r.copyStarts()
	}
	return true, false
}

// copyStarts accounts for the Syncs that a server in COPY FROM STDIN ignores.
// stop tells that a turn must go on in duplex, because the data is still to come.
func (r *relay) copyStarts() (stop bool) {
	extended, ended, dropped := r.expect.copyStarts()
	r.owed = max(0, r.owed-dropped)
	r.ignored += dropped
	switch d := r.s.dx; {
	case ended:
	case d != nil:
		d.copyStarts(extended)
	default:
		r.copyIn, r.copyExtended = true, extended
	}
	return r.copyIn
}

func (r *relay) ready(frame []byte) (keep, stop bool) {
	if len(frame) != 6 {
		r.err = fmt.Errorf("%w: ReadyForQuery", errGarbage)
		return false, true
	}
	if r.ours() {
		r.err = fmt.Errorf("%w: ReadyForQuery that nothing asked for", errGarbage)
		return false, true
	}
	r.tx = frame[5]
	r.failed = false
	r.done = 0
	r.expect.synced(r)
	r.owed--
	if r.s.txn.wrote.any {
		switch {
		case r.tx == wire.TxIdle && (r.owed > 0 || r.s.dx != nil), r.tx == wire.TxActive && r.s.dx == nil && r.s.chains():
			r.s.acknowledged() // for what is idle at the end of its turn, finish does
		}
	}
	if t := &r.s.txn; t.unlistened && r.tx == wire.TxIdle {
		t.unlistened, t.silenced = false, true
	}
	if r.s.dx != nil {
		return true, r.s.dx.answered(r)
	}
	return true, r.owed <= 0
}

func (r *relay) failure(frame []byte) (keep bool) {
	r.failed = true
	r.errors++
	r.s.keep.saves = false
	r.failedAt = r.done
	if r.ours() {
		r.own = wire.ParseError(frame[wire.HeaderBytes:])
		r.unready = r.own.Severity != "FATAL" && r.own.Severity != "PANIC"
		r.unbegun = r.own.Code == wire.CodeAdminShutdown && !r.heard && r.s.dx == nil
		r.farewell = r.unbegun
		return false
	}
	var code, severity string
	wire.ErrorFields(frame[wire.HeaderBytes:], func(field byte, v string) {
		switch field {
		case 'C':
			code = v
		case 'V':
			severity = v
		}
	})
	r.s.txn.unlistened = false
	if severity != "FATAL" && severity != "PANIC" {
		r.skipToSync()
	}
	if d := r.s.dx; d != nil {
		d.copyFailed()
	}
	if r.ignored > 0 {
		// The COPY may have failed before it came to them; then each is answered after all.
		r.c.Spoil("a COPY failed with a Sync before its end")
	}
	if !r.wrote && r.s.replica != "" && r.s.dx == nil && r.s.repeatable() && r.refusedByReplica(code, frame) {
		if r.toSync {
			r.c.Spoil("was left to skip to a Sync")
		}
		r.again, r.drain, r.out = true, true, 0
		return false
	}
	if code == codeFenced && r.s.db.Cluster.Load() != nil {
		if r.s.dx == nil && !r.wrote && r.s.fenceable() {
			r.fenced, r.drain, r.out = true, true, 0
			return false
		}
		r.replace(movedAway().Append(nil))
		return false
	}
	switch {
	case severity == "FATAL" || severity == "PANIC":
		r.fatal = true
		r.farewell = code == wire.CodeAdminShutdown && !r.heard && r.s.dx == nil
		if r.farewell {
			r.goodbye = bytes.Clone(frame) // the client hears it only if the turn cannot be sent again
			return false
		}
	case code == wire.CodeFeatureNotSupported && bytes.Contains(frame, []byte("RevalidateCachedQuery")):
		// "cached plan must not change result type": the next Parse gets a new statement.
		r.s.db.Statements.Expire()
	case code == wire.CodeInvalidStatement && bytes.Contains(frame, []byte(sharedPrefix)) && !bytes.Contains(frame, []byte(absent)):
		r.c.Spoil("prepared statements differ from what is known")
	}
	if r.rename.by != 0 {
		r.shrunk = r.rename.position(frame)
	}
	if own, named := r.s.clientNames(frame[:len(frame)-r.shrunk]); named {
		r.replace(own)
		return false
	}
	return true
}

// skipToSync owes the client nothing for what the server skips behind an error. A turn that has no Sync left goes on in
// duplex, where the server can be sent the one to come.
func (r *relay) skipToSync() {
	skipped, toSync := r.expect.failed(r)
	r.owed -= skipped
	if d := r.s.dx; d != nil {
		d.skipping = d.skipping || toSync
		d.open = d.open || toSync
		return
	}
	r.toSync = toSync && skipped > 0
}

// refusedByReplica reports whether the manager is to be asked instead.
func (r *relay) refusedByReplica(code string, frame []byte) bool {
	again, distrust := r.s.at.refusedByReplica(code, frame)
	for i := range r.s.items {
		if st := r.s.items[i].facts(); again && distrust && st != nil {
			r.s.at.distrusts(st)
		}
	}
	return again
}

// replace sends frame in the place of the one being looked at, behind what is kept so far.
func (r *relay) replace(frame []byte) {
	if r.drain {
		return
	}
	r.s.keep.saves = false
	if r.out > 0 {
		r.write(r.in.Bytes()[:r.out])
		r.out = 0
	}
	r.write(frame)
}

func (r *relay) parameter(frame []byte) (keep bool) {
	p, err := wire.ParseParameterStatus(frame[wire.HeaderBytes:])
	if err != nil {
		return true
	}
	r.c.SetParam(p)
	switch {
	case r.ours() || r.quiet || r.drain || r.adopts && r.s.dx == nil: // what the client does not know it is told at the end
		return false
	case !r.adopts:
		r.s.params = r.c.Params()
	case r.s.params.Value(p.Name) == p.Value:
		return false
	default: // the others may not have come yet
		r.s.params = r.s.params.With(p.Name, p.Value)
	}
	r.s.keep.saves = false
	return true
}

func (r *relay) command(frame []byte) {
	if r.watchPrepare {
		r.expect.acknowledge(r, []byte{wire.MsgParseComplete})
	}
	r.discarded = false // what came after it is the session's again
	if tag := frame[wire.HeaderBytes : len(frame)-1]; bytes.HasPrefix(tag, []byte("COMMIT")) {
		r.s.acknowledged()
	}
	switch tag := frame[wire.HeaderBytes : len(frame)-1]; string(tag) {
	case "DISCARD ALL":
		r.discarded = true
	case "RESET", "SET": // SET … TO DEFAULT is a RESET
		r.reset = true
	case "UNLISTEN":
		r.s.txn.unlistened = true
	case "ROLLBACK": // or back to a savepoint; a notification too many harms less than one missed
		r.s.txn.unlistened = false
	}
}
