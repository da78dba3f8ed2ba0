package session

import (
	"sync/atomic"
	"time"

	"pgtier/parser"
	"pgtier/proxy/backend"
	"pgtier/proxy/fleet"
	"pgtier/proxy/wire"
	"pgtier/router/balance"
	"pgtier/router/plan"
	"pgtier/router/shard"
)

// While buckets change hands, statements that may touch them wait here until the motion no longer says so, and are then planned anew. Nothing waits
// that its server has begun. What must not wait is a transaction that may have the lock that the mover waits for: one that
// may have written to such a bucket.
//
//   - Requests up to a Sync wait before any of it is sent (surveyed), those over several shards before each statement (wide.plan).
//   - In a duplex the message waits, and what comes behind it (pumpHolds): its answers travel meanwhile.
//   - A COPY FROM STDIN that has begun goes on: it has been planned by the map before, and the fence in the servers refuses rows
//     of buckets that have gone since. So it is with all that was sent before the motion was known.
//   - What has been planned and has then waited, for a server connection, in a pipeline or to be sent again, is planned again (outdated).

// trail is what the transaction under way may have written. The zero value is nothing.
type trail struct {
	any        bool // rows of any bucket
	references bool
	buckets    []shard.Bucket
	cursors    bool // it has cursors or portals that may lock rows when they come to them
}

// trailMost bounds the buckets that are told apart; more count as any.
const trailMost = 256

func (t *trail) clear() { *t = trail{buckets: t.buckets[:0]} }

// wrote adds what a statement may write.
func (t *trail) wrote(touches *plan.Touches, references bool) {
	t.references = t.references || references
	switch touches.Reach {
	case plan.NoBucket:
	case plan.OneBucket:
		t.buckets = append(t.buckets, touches.Bucket)
	case plan.SomeBuckets:
		t.buckets = append(t.buckets, touches.Buckets...)
	default:
		t.any = true
	}
	if len(t.buckets) > trailMost {
		t.any, t.buckets = true, t.buckets[:0]
	}
}

// add adds another's.
func (t *trail) add(o *trail) {
	t.any, t.references, t.cursors = t.any || o.any, t.references || o.references, t.cursors || o.cursors
	t.buckets = append(t.buckets, o.buckets...)
	if len(t.buckets) > trailMost {
		t.any, t.buckets = true, t.buckets[:0]
	}
}

// meets reports whether the transaction may have written what is held.
func (t *trail) meets(l *Layout) bool {
	if t.any || t.references && l.Motion.HeldReferences {
		return true
	}
	for _, b := range t.buckets {
		if shard.InSpans(l.Motion.Held, b) {
			return true
		}
	}
	return false
}

// holds reports whether a statement that is planned so waits now. It costs a load where nothing does.
func (l *Layout) holds(p *plan.Plan) bool {
	return l.Holds && (p.Touches.In(l.Motion.Held) || p.References && l.Motion.HeldReferences)
}

// frozen refuses changes of the schema while a move copies it, and TRUNCATE, which streams of changes carry past the buckets.
func (l *Layout) frozen(st *parser.Statement) *wire.Error {
	if !changesSchema(st) {
		return nil
	}
	return l.frozenNow()
}

// frozenNow is frozen for what may be such a change.
func (l *Layout) frozenNow() *wire.Error {
	if !l.Motion.Frozen {
		return nil
	}
	return &wire.Error{Code: codeInUse, Message: "the schema cannot be changed now, nor tables be truncated: a move of buckets is under way",
		Hint: "Wait for it, or end it by `pgtier reshard cancel`; `pgtier reshard status` tells how far it is."}
}

// codeInUse is object_in_use.
const codeInUse = "55006"

// noteTrail adds to t what a statement may write, by itself or by what it calls. It is no proved read.
func (s *Session) noteTrail(t *trail, st *parser.Statement, p *plan.Plan) {
	t.wrote(&p.Touches, p.References)
	t.cursors = t.cursors || !controls(st)
	if p.Touches.Reach != plan.NoBucket && !p.Hinted || p.References { // by a hint it touches the rows that it is about, if any
		return
	}
	for i := range st.Commands {
		if _, all := s.db.Hazards.Written(&st.Commands[i]); all {
			t.any = true // nobody knows what it calls
		}
	}
}

// between reports whether no transaction is under way, as the client knows it.
func (s *Session) between() bool {
	return s.tx == wire.TxIdle && s.opening == nil && (s.wide == nil || !s.wide.explicit)
}

// outdated reports whether another layout may be in force by now.
func (l *Layout) outdated() bool {
	select {
	case <-l.Replaced:
		return true
	default:
		return false
	}
}

// HeldTimes counts the statements that have waited for moves, by how long. Safe for concurrent use.
type HeldTimes struct {
	buckets [len(HeldBounds) + 1]atomic.Int64
	nanos   atomic.Int64
	now     atomic.Int64
}

// HeldBounds are the upper ends of the times that are told apart, in seconds.
var HeldBounds = [...]float64{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}

// add counts one that has waited so long.
func (h *HeldTimes) add(took time.Duration) {
	i := 0
	for i < len(HeldBounds) && took.Seconds() > HeldBounds[i] {
		i++
	}
	h.buckets[i].Add(1)
	h.nanos.Add(int64(took))
}

// Now is how many wait.
func (h *HeldTimes) Now() int64 { return h.now.Load() }

// Read returns how many have waited up to each of HeldBounds, how many in all, and for how many seconds together.
func (h *HeldTimes) Read() (upTo map[float64]uint64, count uint64, seconds float64) {
	upTo = make(map[float64]uint64, len(HeldBounds))
	for i := range h.buckets {
		count += uint64(h.buckets[i].Load())
		if i < len(HeldBounds) {
			upTo[HeldBounds[i]] = count
		}
	}
	return upTo, count, time.Duration(h.nanos.Load()).Seconds()
}

// holding is a wait of a session for a move. The zero value has not begun.
type holding struct {
	s       *Session
	cluster *Cluster
	began   int64 // nanoseconds of env clock; 0: nothing was waited for yet
	until   time.Time
	fence   *wire.Error // it waits for a newer map, and not for a release: what the client hears where none comes
}

// wait returns nil once another layout than l is in force, at once if one is already; else an error for the client.
func (h *holding) wait(l *Layout) *wire.Error {
	s := h.s
	h.begin()
	ctx, done := s.stoppable(time.Time{})
	defer done()
	for {
		if e := s.stopped(); e != nil {
			return e
		}
		now, err := h.cluster.Layout()
		limit := s.db.Config().QueryTimeout
		switch {
		case err != nil:
			return asError(err)
		case now != l:
			return nil
		case time.Now().After(h.until):
			return h.late()
		case limit > 0 && s.env.now()-h.began > int64(limit):
			return &wire.Error{Code: wire.CodeQueryCanceled, Message: "canceling statement due to query timeout", Detail: "It waited for a move of buckets."}
		}
		select {
		case <-l.Replaced:
		case <-ctx.Done():
		case <-time.After(holdPoll): // inside a transaction a cancel goes to its server, and nobody tells of it here
		}
	}
}

// holdPoll is how late a wait may notice what nobody tells it of.
const holdPoll = 20 * time.Millisecond

// begin has the session wait, be it for the first time or after the statement was sent in between.
func (h *holding) begin() {
	s := h.s
	if State(s.state.Load()) != StateWaiting || h.began == 0 {
		s.mu.Lock()
		s.canceled = false
		s.mu.Unlock()
		s.enter(StateWaiting)
	}
	if h.began != 0 {
		return
	}
	h.began = s.env.now()
	h.until = time.Now().Add(s.db.Reads().Failover)
	s.db.Stats.Held.now.Add(1)
}

// end accounts for the wait, if there was one.
func (h *holding) end() {
	if h.began == 0 {
		return
	}
	s := h.s
	s.db.Stats.Held.now.Add(-1)
	s.db.Stats.Held.add(time.Duration(s.env.now() - h.began))
	s.turnTime, h.began = 0, 0
	s.rest()
}

// late is what the client is told when the wait was long enough.
func (h *holding) late() *wire.Error {
	if h.fence != nil {
		return h.fence
	}
	return &wire.Error{Code: wire.CodeCannotConnectNow, Message: "the rows of this statement are being moved to another shard, which takes longer than expected",
		Hint: "Try again; `pgtier reshard status` and SHOW SHARDS in the admin database tell how far it is. Statements wait for failover.wait."}
}

// codeFenced is what the servers' fence raises: a row's bucket is another shard's now, or about to be.
const codeFenced = "PT001"

// movedAway is what a client is told in the place of that where its transaction cannot be sent again.
func movedAway() *wire.Error {
	return &wire.Error{Code: "40001", Message: "could not serialize access: rows of this transaction have moved to another shard",
		Detail: "A move of buckets began to change their owner behind the transaction's first statement.", Hint: "The transaction might succeed if retried.",
		Cause: errFenced}
}

// surveyed plans the requests, when none of their statements has to wait.
func (s *Session) surveyed(cluster *Cluster, req []byte) (*Layout, survey, *wire.Error) {
	h := holding{s: s, cluster: cluster}
	defer h.end()
	for {
		l, err := cluster.Layout()
		if err != nil {
			return nil, survey{}, asError(err)
		}
		v := s.survey(l, req)
		if !v.held || v.refusal != nil || s.trail.meets(l) {
			return l, v, nil
		}
		if e := h.wait(l); e != nil {
			return l, v, e
		}
	}
}

// moved reports whether what the requests under way were planned by, for the one shard that they go to, is no longer so: they
// have waited since.
func (s *Session) moved() bool {
	l := s.planned
	if l == nil || !l.outdated() {
		return false
	}
	cluster := s.db.Cluster.Load()
	if cluster == nil {
		return true
	}
	now, err := cluster.Layout()
	return err != nil || now.Schema != l.Schema || now.Holds
}

// planAgain decides anew where requests go that no server has begun. done is false where they go to one shard, which the session has moved to.
func (s *Session) planAgain(req []byte, pin string) (done, ok bool) {
	cluster := s.db.Cluster.Load()
	if cluster == nil && s.at == s.db {
		return false, true
	}
	if s.server == nil {
		s.story.clear() // what it tells is of these requests
		s.keep.forget() // of the shard that they were sent to in vain
	}
	s.dropFill() // of the shard that they were planned for
	s.keep.looked = false
	if done, ok = s.serveSharded(cluster, req); done {
		return true, ok
	}
	if s.aims() {
		if refusal := s.aimTurn(pin); refusal != nil {
			return true, s.refuseHere(refusal)
		}
	}
	return false, true
}

// fenceable reports whether the turn, which the servers' fence has refused, may be sent again: it is the whole of its transaction so far.
// The server has undone it.
func (s *Session) fenceable() bool {
	if s.planned == nil || s.tx != wire.TxIdle || s.raw || s.pin != "" || s.ends() != 1 || s.namesMade() || s.killedNow() {
		return false
	}
	return s.onlyRuns(parser.RunsOpaqueCode|parser.EndsTransaction, parser.Select, parser.Insert, parser.Update, parser.Delete, parser.Merge, parser.Begin)
}

// fenced takes back a turn that the servers' fence has refused, and waits for a layout by which it may be planned again. An error is for the
// client.
func (s *Session) fenced(c *backend.Conn) *wire.Error {
	r := &s.relay
	s.db.Stats.Fenced.Add(1)
	r.takeBack()
	r.unheard()
	if r.tx != wire.TxIdle {
		if tx, err := c.ExecTx(wire.AppendQuery(nil, "ROLLBACK"), adoptTimeout, nil); err != nil || tx != wire.TxIdle {
			c.Spoil("rollback of a transaction that the fence has refused failed")
		}
	}
	if s.begun {
		s.opening, s.opened, s.begun = s.opened, nil, false
	}
	r.free()
	s.changedFor(c) // it may go to another shard
	s.release(c)
	return s.awaitNewer(movedAway())
}

// awaitNewer waits for another layout than the one that the turn was planned by, and could not be carried out by. An error is for the client.
func (s *Session) awaitNewer(refusal *wire.Error) *wire.Error {
	if s.fencing.began == 0 {
		s.fencing = holding{s: s, cluster: s.db.Cluster.Load(), fence: refusal}
	}
	if s.fencing.cluster == nil {
		return refusal
	}
	return s.fencing.newer(s.planned)
}

// newer has the map asked for, and waits for another layout than l.
func (h *holding) newer(l *Layout) *wire.Error {
	if !l.outdated() {
		h.cluster.Touch()
	}
	return h.wait(l)
}

// Floor is a position below which no replica of a shard is asked: from the moment on when the shard won buckets, whose rows a replica may not
// have yet. Safe for concurrent use.
type Floor struct {
	ticket fleet.Ticket
	at     atomic.Uint64 // the position; 0: not known yet
}

// NewFloor is the floor of all that f's manager has now.
func NewFloor(f *fleet.Fleet) *Floor { return &Floor{ticket: f.Now()} }

// position is the floor's, once it is known. A fleet goes on with the tickets of the one before.
func (l *Floor) position(f *fleet.Fleet) (balance.LSN, bool) {
	if l == nil {
		return 0, true
	}
	if at := l.at.Load(); at > 0 {
		return balance.LSN(at), true
	}
	at, known := f.Position(l.ticket)
	if known {
		l.at.Store(uint64(at))
	}
	return at, known
}
