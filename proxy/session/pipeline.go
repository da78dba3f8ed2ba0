package session

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"pgtier/proxy/backend"
	"pgtier/proxy/cache"
	"pgtier/proxy/fleet"
	"pgtier/proxy/pool"
	"pgtier/proxy/wire"
	"pgtier/router"
)

// A pipeline is one server connection that reads of several clients share: their requests travel back to back, each with
// its own Sync, and the answers are dealt out as they come. The server finds its next request in its socket when it has
// answered one, and one system call of the proxy carries many requests.
//
// Only what cannot leave anything behind and is small and fast by its record travels so (piped.go). An error, a lost
// connection, a slow neighbour: whatever goes wrong sends a read the usual way, over a connection of its own.

// Pipelines are those of one database. The zero value has none. Safe for concurrent use.
type Pipelines struct {
	mu     sync.Mutex
	all    map[pipelineKey][]*pipeline
	count  map[*pool.Pool[*backend.Conn]]int // of them in each pool
	wg     sync.WaitGroup
	closed atomic.Bool

	records records
	// Totals since the start.
	Requests, Batches  atomic.Uint64
	Replays, Evictions atomic.Uint64
	Depth              atomic.Int64 // requests under way now
}

// pipelineKey says who may share a pipeline: sessions of one role on one server, whose settings are equal.
type pipelineKey struct {
	pool     *pool.Pool[*backend.Conn]
	settings uint64 // fingerprint; equality is checked as well
}

// pipeline is one of them.
type pipeline struct {
	owner    *Pipelines
	key      pipelineKey
	settings *backend.Settings
	env      *Env
	db       *Database
	log      *zap.Logger

	mu     sync.Mutex
	c      *backend.Conn   // nil before it is open and when it is given back; set by its goroutine, which reads it without mu
	params *backend.Params // what c reports
	orphan *entry          // the head when the sweeper saw last that nobody waits for it
	dealt  int64           // env clock when the last answers were dealt out: since then the head is being worked on; written by its goroutine
	quit   bool            // what the server does is of no use to anybody: leave it
	queue  []*entry        // sent, or in out; the head is being answered
	head   int
	sent   int    // entries of the queue whose bytes have left out
	bytes  int    // of the requests in the queue
	out    []byte // requests not yet sent
	spare  []byte // the other buffer for out
	open   bool   // takes newcomers
	idle   bool   // its goroutine waits for work
	wake   chan struct{}

	// Owned by its goroutine.
	in        wire.Input
	last      int64  // env clock when the last answer was given
	answering *entry // being answered now
	stale     bool   // the server's settings have changed: what it answers has to be read elsewhere
	err       error
	alarm     int64 // env clock when the connection's read deadline strikes; 0: none is set
}

// entry is one request in a pipeline.
type entry struct {
	s     *Session
	state atomic.Int32
	began int64 // env clock
	size  int   // bytes of the request
	rec   *record
	fill  *cache.Fill // nil: its answer is not kept
	// Written before it is submitted, read by the pipeline.
	fleet   *fleet.Fleet // nil: the database has no replicas
	replica string       // that answers; "" for the manager
	level   router.Level // that it was chosen for
	own     [8]bool      // which of the first ParseComplete and CloseComplete are ours to drop
	n       int          // of them
	// Owned by the pipeline until the entry is done.
	answered int64        // env clock when it was
	ticket   fleet.Ticket // of what its answer has shown
	shown    bool         // ticket is one
	acks     int          // seen so far
	bad      bool         // it has to go the usual way
	buf      []byte       // the answer so far, where it is not whole in the pipeline's buffer
	// Written by whoever answers the client, read by the session afterwards.
	rest   []byte // of the answer, for the session to write
	unsent bool   // there is some, if only within TLS
	// ready is sent one token once the state is final, if the session waits.
	ready   chan struct{}
	waiting atomic.Bool
}

// The states of an entry. Whoever moves it out of entryWaiting answers the client.
const (
	entryWaiting  int32 = iota
	entryAnswered       // the pipeline writes the answer now
	entryTaken          // somebody else does: the answer is dropped
	entryDone           // the client has its answer
	entryCanceled       // the client has been told that it was cancelled
	entrySpilled        // the session writes the rest of it
	entryRepeat         // the session sends the request the usual way
)

const (
	// pipelineIdle is how long a pipeline keeps its connection from the pool while nobody uses it.
	pipelineIdle = 100 * time.Millisecond
	// eagerIdle is that for tests, whose next read may come late on a busy machine.
	eagerIdle = 2 * time.Second
	// maxUnderWay bounds the bytes of unanswered requests. It is below what a server's socket holds for it (tcp_rmem, 128 KiB),
	// so that sending never waits for a server that itself waits until we take its answers.
	maxUnderWay = 32 << 10
	// patience is how long an answer may lie in the socket while its neighbours are expected: about what a full pipeline takes.
	patience = 2 * time.Millisecond
	// fewUnderWay is the number of requests up to which a wake-up is shared by few: with 8 in a pipeline three quarters take
	// a tenth less processor time than half, with 32 half brings a fifth more throughput (16 and 64 clients on 2 cores).
	fewUnderWay = 16
	// maxWorth bounds the bytes that are waited for: beyond, taking them costs more than the wake-up.
	maxWorth = 16 << 10
	// maxAnswer bounds an answer that is held whole. A longer one comes from a statement whose record said otherwise, and
	// is sent for again.
	maxAnswer = 1 << 20
)

// claim moves the entry out of entryWaiting into state and reports whether the caller did: it answers the client.
func (e *entry) claim(state int32) bool {
	if !e.state.CompareAndSwap(entryWaiting, state) {
		return false
	}
	if e.replica != "" {
		e.fleet.End(e.replica)
	}
	return true
}

// finish puts the entry into its last state and wakes who waits for it.
func (e *entry) finish(state int32) {
	e.state.Store(state)
	if e.waiting.Load() {
		select {
		case e.ready <- struct{}{}:
		default:
		}
	}
}

// settled reports whether the session may go on.
func (e *entry) settled() bool { return e.state.Load() >= entryDone }

// await blocks until the entry is settled. Only the session's goroutine calls it.
func (e *entry) await() {
	if e.ready == nil {
		e.ready = make(chan struct{}, 1)
	}
	e.waiting.Store(true)
	for !e.settled() {
		<-e.ready
	}
	e.waiting.Store(false)
}

// find returns an open pipeline for s with room in it, opening one where that is worth it. p.mu of what it returns is held.
func (p *Pipelines) find(s *Session, to *pipedTo, depth, lanes int, slow time.Duration) *pipeline {
	key := pipelineKey{to.pool, s.settings.Fingerprint()}
	p.mu.Lock()
	defer p.mu.Unlock()
	var best *pipeline
	for _, l := range p.all[key] {
		l.mu.Lock()
		if l.takes(s, to, depth, slow) && (best == nil || l.len() < best.len()) {
			if best != nil {
				best.mu.Unlock()
			}
			best = l
			continue
		}
		l.mu.Unlock()
	}
	if (best == nil || best.len() >= depth/2) && p.count[key.pool] < lanes && !p.closed.Load() {
		p.start(key, s)
	}
	return best
}

// takes reports whether s may join now; mu is held.
func (l *pipeline) takes(s *Session, to *pipedTo, depth int, slow time.Duration) bool {
	if !l.open || l.c == nil || l.len() >= depth || l.bytes+maxPiped > maxUnderWay || !l.settings.Equal(s.settings) {
		return false
	}
	if to.replica != "" && !l.c.CreatedAt().Before(to.before) {
		return false
	}
	if l.params != s.params {
		if !l.params.Equal(s.params) {
			return false // a connection of its own tells the client first
		}
		s.params = l.params
	}
	return l.len() == 0 || l.atHead(s.turnTime) < int64(slow)
}

// atHead is how long the head has been worked on at the time now, in nanoseconds; mu is held.
func (l *pipeline) atHead(now int64) int64 { return now - max(l.queue[l.head].began, l.dealt) }

// len is the number of requests under way; mu is held.
func (l *pipeline) len() int { return len(l.queue) - l.head }

// start opens a pipeline like s's connections would be. p.mu is held.
func (p *Pipelines) start(key pipelineKey, s *Session) {
	l := &pipeline{owner: p, key: key, settings: s.settings, env: s.env, db: s.at, log: s.env.Log, wake: make(chan struct{}, 1)}
	if p.all == nil {
		p.all, p.count = make(map[pipelineKey][]*pipeline), make(map[*pool.Pool[*backend.Conn]]int)
	}
	p.count[key.pool]++
	p.all[key] = append(p.all[key], l)
	key.pool.Attach()
	p.wg.Go(l.run) // ends when nobody uses it, or with its connection; Close waits
}

// Close ends all pipelines and waits for them. What they run is cancelled, and sent elsewhere where somebody waits for it.
func (p *Pipelines) Close() {
	p.mu.Lock()
	p.closed.Store(true)
	for _, of := range p.all {
		for _, l := range of {
			l.mu.Lock()
			if l.open = false; l.c != nil && l.len() > 0 {
				l.abandon()
			}
			l.signal()
			l.mu.Unlock()
		}
	}
	p.mu.Unlock()
	p.wg.Wait()
}

// Leave ends the pipelines to that server, those alone that have waited for an answer longer than patience; 0 means all.
// What is under way there goes the usual way. Safe for concurrent use.
func (p *Pipelines) Leave(server string, now int64, patience time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, of := range p.all {
		if key.pool.Key().Server != server {
			continue
		}
		for _, l := range of {
			l.mu.Lock()
			if waits := l.c != nil && l.len() > 0; waits && (patience == 0 || l.atHead(now) >= int64(patience)) {
				l.open, l.quit = false, true
				l.c.Kick()
			} else if patience == 0 {
				l.open = false
				l.signal()
			}
			l.mu.Unlock()
		}
	}
}

// Open is the number of pipelines there are.
func (p *Pipelines) Open() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, of := range p.all {
		n += len(of)
	}
	return n
}

// signal has the goroutine look at the queue; mu is held.
func (l *pipeline) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// run owns the connection.
func (l *pipeline) run() {
	defer l.key.pool.Detach()
	c, err := l.borrow()
	if err == nil {
		l.mu.Lock()
		l.c, l.params, l.open = c, c.Params(), !l.owner.closed.Load()
		l.mu.Unlock()
		err = l.serve(c)
	}
	l.owner.remove(l)
	l.mu.Lock()
	l.open, l.c = false, nil // from here on nobody else touches the connection
	left, quit := l.queue[l.head:], l.quit
	l.queue, l.head, l.out = nil, 0, nil
	l.mu.Unlock()
	l.owner.Depth.Add(-int64(len(left)))
	l.in.Drop()
	for _, e := range left {
		l.repeat(e)
	}
	if c != nil {
		l.giveBack(c, err != nil || len(left) > 0, quit)
	}
	if e := l.answering; e != nil && !l.repeat(e) { // a panic struck while it was answered: its client may have heard a part
		e.s.Kill(wire.Fatal(wire.CodeInternal, errPanicked.Error()))
		e.finish(entryCanceled)
	}
	if f := l.db.Fleet.Load(); f != nil {
		if cause := lossOf(err); cause != nil {
			f.Lost(l.key.pool.Key().Server, cause)
		}
	}
	if err != nil {
		l.log.Debug("pipeline ended", zap.Error(err), zap.Int("replayed", len(left)))
	}
}

// lossOf is what an error that ended a pipeline says against its server: nil for what is the proxy's own, as a pool that
// had no connection to lend.
func lossOf(err error) error {
	var lent *pool.Error
	var refusal *wire.Error
	switch {
	case errors.As(err, &lent):
		return lent.Unwrap()
	case errors.As(err, &refusal), errors.Is(err, errQuit), errors.Is(err, errPanicked):
		return nil
	}
	return err
}

// giveBack returns the connection to its pool, or closes it where a lost answer or a cancel may still come over it.
func (l *pipeline) giveBack(c *backend.Conn, lost, quit bool) {
	c.Unkick()
	c.Bind(nil)
	switch {
	case quit:
		c.Spoil("what a pipeline ran was cancelled")
	case lost:
		c.Spoil("lost")
	case c.Retired() != "":
		c.Spoil(c.Retired())
	}
	if reason := c.Spoiled(); reason != "" {
		l.key.pool.Discard(c, reason)
		return
	}
	l.key.pool.Release(c)
}

func (p *Pipelines) remove(l *pipeline) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.count[l.key.pool]--; p.count[l.key.pool] == 0 {
		delete(p.count, l.key.pool)
	}
	of := p.all[l.key]
	for i, o := range of {
		if o == l {
			of = append(of[:i:i], of[i+1:]...)
			break
		}
	}
	if len(of) == 0 {
		delete(p.all, l.key)
	} else {
		p.all[l.key] = of
	}
}

// borrow leases a connection and brings it into the settings of those who share it.
func (l *pipeline) borrow() (*backend.Conn, error) {
	w := pool.NewWaiter[*backend.Conn]()
	c, err := l.key.pool.Acquire(w, pool.Want[*backend.Conn]{Fingerprint: l.key.settings, Limit: replicaWait})
	if err != nil {
		return nil, err
	}
	c.Bind(l.db.Bond) // once it is broken, another is opened
	if msgs, needed := c.AppendAdopt(nil, l.settings); needed {
		if err := c.Exec(msgs, adoptTimeout, nil); err != nil {
			l.key.pool.Discard(c, "settings replay failed")
			return nil, err
		}
		c.Adopted(l.settings)
	}
	return c, nil
}

// serve sends what sessions submit and deals out the answers, until nobody has anything to send for a while.
func (l *pipeline) serve(c *backend.Conn) (err error) {
	defer l.env.caught(&err)
	idle := pipelineIdle
	if l.env.EagerPipelines {
		idle = eagerIdle
	}
	timer := time.NewTimer(idle)
	defer timer.Stop()
	c.WatchEnd(true)
	for {
		wanted := l.key.pool.Wants(c)
		l.mu.Lock()
		l.open = l.open && !wanted
		out := l.take()
		low := l.worth()
		if out != nil {
			l.dealt = l.env.now()
		}
		if l.idle = out == nil; l.idle && !l.open {
			l.mu.Unlock()
			return nil
		}
		l.mu.Unlock()
		if out != nil {
			l.await(low)
			if err := l.exchange(c, out); err != nil {
				return err
			}
			continue
		}
		timer.Reset(idle)
		select {
		case <-l.wake:
		case <-timer.C:
			l.mu.Lock()
			if l.len() == 0 {
				l.open = false
			}
			l.mu.Unlock()
		}
	}
}

// take returns what is to be sent, nil if nothing; mu is held.
func (l *pipeline) take() []byte {
	if len(l.out) == 0 {
		return nil
	}
	out := l.out
	l.out, l.spare = l.spare[:0], out
	l.sent = len(l.queue)
	l.owner.Batches.Add(1)
	return out
}

// worth is how many bytes of answers are worth waking up for: those of half the requests that the server has, or of three
// quarters where they are few; mu is held. Each wake-up costs as much as dealing out several answers, and the server goes
// on with the others meanwhile.
func (l *pipeline) worth() int {
	n := l.sent - l.head
	if n <= fewUnderWay {
		n -= (n + 3) / 4
	} else {
		n /= 2
	}
	if n < 2 {
		return 1
	}
	bytes := -l.in.Len()
	for _, e := range l.queue[l.head : l.head+n] {
		bytes += int(e.rec.least.Load()) - len(e.buf)
	}
	return min(bytes, maxWorth)
}

// await has the pipeline sleep until that many bytes are there. Answers that are smaller than ever before, and one that
// takes long, do not keep those before them waiting for more than patience.
func (l *pipeline) await(bytes int) {
	l.c.LowWater(bytes)
	if bytes <= 1 {
		return
	}
	if now := l.env.now(); now > l.alarm {
		l.alarm = now + int64(patience)
		l.c.SetReadDeadline(time.Now().Add(patience))
	}
}

// exchange sends a batch and reads until every request under way is answered.
func (l *pipeline) exchange(c *backend.Conn, out []byte) error {
	c.Resume(&l.in)
	for {
		err := c.Loop(out, l)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			if err == nil {
				err = l.err
			}
			return err
		}
		c.Unkick()
		l.alarm = 0
		c.LowWater(1) // what is there has waited long enough, and so will what comes next
		if l.quits() {
			return errQuit
		}
		if c.Sent() {
			out = nil
		}
	}
}

// errQuit ends a pipeline that was abandoned.
var errQuit = errors.New("nobody waits for what the server does")

// quits reports whether the pipeline was abandoned.
func (l *pipeline) quits() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.quit
}

// abandon cancels what the server does for nobody, and ends the pipeline: its connection is not used again, so that a late
// cancel hits nobody else. mu is held.
func (l *pipeline) abandon() {
	l.open = false
	if l.quit {
		return
	}
	l.quit = true
	c := l.c
	c.BeginCancel()
	l.owner.wg.Go(func() { // ends within abandonWait
		ctx, stop := context.WithTimeout(context.Background(), abandonWait)
		defer stop()
		if err := c.Cancel(ctx); err != nil {
			l.log.Debug("cancel in a pipeline failed", zap.Error(err))
		}
		l.mu.Lock()
		if l.c != nil {
			l.c.Kick()
		}
		l.mu.Unlock()
	})
}

// abandonWait bounds a cancel.
const abandonWait = 2 * time.Second

// Readable takes answers, deals them out and sends what has come in meanwhile. false ends the exchange.
func (l *pipeline) Readable() bool {
	c := l.c
	n, err := c.Take(l.in.Space(l.env.Bufs, l.room()))
	l.in.Added(n)
	if n == 0 {
		if err == nil {
			return true
		}
		l.err = err
		if errors.Is(err, io.EOF) {
			l.err = io.ErrUnexpectedEOF
		}
		return false
	}
	answered, err := l.deal()
	if l.err = err; err != nil {
		return false
	}
	wanted := l.key.pool.Wants(c)
	if c.Behind() && l.drained() {
		// The server has answered all of it, so the rest is off already: nothing else would wake us for what came meanwhile.
		if l.err = c.AwaitSent(); l.err != nil {
			return false
		}
	}
	l.mu.Lock()
	l.open = l.open && !wanted && !l.stale
	if answered > 0 {
		l.dealt = l.env.now()
	}
	var out []byte
	if !c.Behind() { // else with the next answer
		out = l.take()
	}
	more := l.len() > 0
	low := l.worth()
	l.mu.Unlock()
	l.await(low)
	if out != nil {
		if l.err = c.Send(out); l.err != nil {
			return false
		}
	}
	if !more && l.in.Len() == 0 {
		l.in.Release()
	}
	return more
}

// drained reports whether the server owes nothing.
func (l *pipeline) drained() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head >= l.sent
}

// room is how large the buffer should be: the message that is not whole yet has to fit.
func (l *pipeline) room() int {
	size, ok := wire.FrameSize(l.in.Bytes())
	if !ok || size > maxInspect {
		size = 0
	}
	return max(wire.LargeBuffer, size)
}
