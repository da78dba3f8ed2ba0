package pool

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// staleAfter is the time unused after which Server.Stale is asked before lending: a peer that closes connections of a
// busy pool is noticed by their users, and asking every time would cost a system call a transaction.
const staleAfter = int64(time.Second)

// soon is how long a newcomer waits for the next attempt rather than be told of the last.
const soon = time.Second

// phase says what a pool does with requests.
type phase uint8

const (
	serving phase = iota
	paused        // nothing is lent and nothing kept; waiters wait
	shut          // for good
)

// Pool lends the server connections of one Key. It is made by a Registry. All methods may be called by any goroutine.
type Pool[S Server] struct {
	// Fixed after New.
	key  Key
	reg  *Registry[S]
	log  *zap.Logger
	dial Dial[S]
	ctx  context.Context // of dials; ended by stop
	stop context.CancelFunc

	cfg atomic.Pointer[Config] // written by Registry.Reconfigure

	mu         sync.Mutex // guards everything below, and the moves of all slots
	phase      phase
	shutErr    error          // what Acquire returns in phase shut
	slots      map[S]*slot[S] // every connection that has a Server
	count      [states]int    // slots by state; Closed stays 0 or below and is not read
	idle       idleList[S]    //
	queue      queue[S]       // of waiters
	tickets    uint64         // handed out
	clients    int            // attached
	kept       bool           // min_idle holds without clients, and the pool stays
	usedAt     int64          // clock time of the last sign of use
	generation uint64         // raised by Reconnect
	dialledAt  int64          // clock time when the last dial began
	distrust   int64          // clock time of the last suspect; 0 = never
	surrender  bool           // the next connection that comes back is closed for another pool
	emptied    chan struct{}  // closed when no slot is left; nil when nobody waits for that
	backoff    backoff        // of dials
	claim      claim          // on the shared limits
	counters   counters       //
}

// Key names the pool.
func (p *Pool[S]) Key() Key { return p.key }

// Config is the configuration in force, an immutable snapshot.
func (p *Pool[S]) Config() *Config { return p.cfg.Load() }

// Acquire lends a connection to the session that owns w, until Release or Discard. It waits its turn when none is free
// and returns an error with SQLState when wait_timeout passes, the server refuses the login, the server stays away
// for server_down_wait, or at all where want is Hasty, or the pool is closed; and the error given to Cancel or Close of w.
func (p *Pool[S]) Acquire(w *Waiter[S], want Want[S]) (S, error) {
	p.mu.Lock()
	if sl := p.atHand(w, want); sl != nil {
		p.mu.Unlock()
		return sl.server, nil
	}
	return p.acquireSlowly(w, want)
}

// TryAcquire is Acquire for a connection that is at hand: ok is false when w would have to wait, to look at the
// connection first, or to be told why it cannot have one. Acquire does all that.
func (p *Pool[S]) TryAcquire(w *Waiter[S], want Want[S]) (s S, ok bool) {
	p.mu.Lock()
	sl := p.atHand(w, want)
	p.mu.Unlock()
	if sl == nil {
		return s, false
	}
	return sl.server, true
}

// atHand lends the connection that w can have at once; nil when there is none. p.mu is held.
func (p *Pool[S]) atHand(w *Waiter[S], want Want[S]) *slot[S] {
	if p.phase != serving || p.queue.first != nil || w.closed.Load() != nil {
		return nil
	}
	sl := p.pick(want)
	if sl == nil || !p.fresh(sl) {
		return nil
	}
	p.idle.remove(sl)
	p.move(sl, Leased)
	p.counters.assigned++
	return sl
}

// pick returns the idle slot that suits want best and leaves it in the list; nil when none is idle.
func (p *Pool[S]) pick(want Want[S]) *slot[S] {
	var none S
	if want.Prefer != none {
		if sl := p.slots[want.Prefer]; sl != nil && sl.state == Idle {
			return sl
		}
	}
	return p.idle.find(want.Fingerprint)
}

// fresh reports whether sl may be lent without a look at it.
func (p *Pool[S]) fresh(sl *slot[S]) bool {
	return p.reg.clock.coarse.Load()-sl.idleSince < staleAfter && sl.idleSince > p.distrust
}

// suspect has every connection that is idle now looked at before it is lent: something happened that may be a restart
// of the server, and their next users need not find out by an error.
func (p *Pool[S]) suspect() { p.distrust = p.reg.clock.coarse.Load() }

// acquireSlowly is Acquire when the connection must wait for its turn or be looked at first. It is called with p.mu
// held and gives it back.
func (p *Pool[S]) acquireSlowly(w *Waiter[S], want Want[S]) (S, error) {
	p.tickets++
	w.ticket, w.want, w.since = p.tickets, want, p.reg.clock.now()
	w.slot, w.err = nil, nil
	w.pool.Store(p)
	if closed := w.closed.Load(); closed != nil { // after the Store, so that Close sees the one or we the other
		w.err = *closed
	}
	err := p.enqueue(w)
	p.mu.Unlock()
	for err == nil {
		var sl *slot[S]
		if sl, err = p.await(w); err != nil {
			break
		}
		if sl.state == Leased {
			return sl.server, nil
		}
		var good bool
		if good, err = p.verify(w, sl); good {
			return sl.server, nil
		}
	}
	var none S
	return none, err
}

// enqueue queues w and starts its clock, unless it is refused. p.mu is held.
func (p *Pool[S]) enqueue(w *Waiter[S]) error {
	if err := p.refuses(w); err != nil {
		w.pool.Store(nil)
		return err
	}
	limit := p.cfg.Load().WaitTimeout
	if own := w.want.Limit; own > 0 && (limit == 0 || own < limit) {
		limit = own
	}
	w.arm(limit, limit-time.Duration(p.reg.clock.now()-w.since))
	p.queue.insert(w)
	p.serve()
	if w.want.Hasty && w.queued {
		p.failHasty()
	}
	return nil
}

// await returns the slot that w, which was queued, is handed, in state Leased or Checking.
func (p *Pool[S]) await(w *Waiter[S]) (*slot[S], error) {
	select {
	case <-w.ready:
	case <-w.timeout:
		p.mu.Lock()
		if w.queued {
			p.fail(w, p.timeoutError(w))
			p.startDials()
		}
		p.mu.Unlock()
		<-w.ready
	}
	if w.timeout != nil {
		w.timer.Stop()
	}
	if sl := w.slot; sl != nil {
		w.slot = nil
		return sl, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	w.pool.Store(nil)
	return nil, w.err
}

// refuses returns why w need not queue at all; nil when it may.
//
// A refusal is remembered only while the next attempt is more than soon away: a
// database or role that has just been made is found by whoever asks for it next.
func (p *Pool[S]) refuses(w *Waiter[S]) error {
	switch {
	case w.err != nil:
		return w.err
	case p.phase == shut:
		return p.shutErr
	case p.phase == serving && p.down() && p.reg.clock.now() < p.backoff.retryAt-int64(soon):
		return p.backoff.refusal // nil when the server is away rather than unwilling
	}
	return nil
}

// serve hands idle connections to waiters and dials for those that are left.
func (p *Pool[S]) serve() {
	for p.phase == serving && p.queue.first != nil && p.idle.newest != nil {
		sl := p.pick(p.queue.first.want)
		p.idle.remove(sl)
		p.hand(sl)
	}
	p.startDials()
}

// hand gives sl to the oldest waiter. One that is not fresh is only Checking until the waiter has had a look at it; until
// then the waiter can still be cancelled.
func (p *Pool[S]) hand(sl *slot[S]) {
	w := p.queue.first
	p.queue.remove(w)
	if sl.state == Idle && !p.fresh(sl) {
		p.move(sl, Checking)
	} else {
		p.move(sl, Leased)
		p.assigned(w)
	}
	w.slot = sl
	w.wake()
}

// assigned books that w has got its connection, and takes it out of Cancel's reach.
func (p *Pool[S]) assigned(w *Waiter[S]) {
	waited := p.reg.clock.now() - w.since
	p.counters.assigned++
	p.counters.waited++
	p.counters.waitTime += time.Duration(waited)
	w.pool.Store(nil)
}

// verify looks at a connection that is not fresh, outside the lock, and reports whether w may have it. When not, w is
// queued again, ahead of those who came after it, unless it is refused.
func (p *Pool[S]) verify(w *Waiter[S], sl *slot[S]) (good bool, err error) {
	cfg := p.cfg.Load()
	var reason Reason
	if sl.server.Stale() {
		reason = reasonStale
	} else if rested := time.Duration(p.reg.clock.now() - sl.idleSince); cfg.CheckDelay > 0 && rested >= cfg.CheckDelay {
		if err := sl.server.Check(cfg.CheckTimeout); err != nil {
			p.log.Debug("idle connection did not answer", zap.Error(err))
			reason = reasonCheck
		}
	}

	p.mu.Lock()
	if p.phase == shut && w.err == nil {
		w.err = p.shutErr
	}
	if reason == reasonNone && w.err == nil {
		p.move(sl, Leased)
		p.assigned(w)
		p.mu.Unlock()
		return true, nil
	}
	var doomed []*slot[S]
	if reason == reasonNone {
		doomed = p.settle(sl, doomed)
	} else {
		p.suspect()
		doomed = p.condemn(sl, reason, doomed)
	}
	if reason == reasonCheck {
		// The host is likely gone: its other rested connections would each cost a waiter check_timeout.
		doomed = p.condemnRested(cfg.CheckDelay, doomed)
	}
	err = p.enqueue(w) // before the place of what is closed is given to those who came after it
	p.mu.Unlock()
	p.close(doomed)
	return false, err
}

// Release takes a connection back. The session must have left it outside a transaction and must not touch it again.
// It goes to the oldest waiter or becomes idle; it is closed when its time is over or the pool no longer wants it.
func (p *Pool[S]) Release(s S) {
	fingerprint := s.Fingerprint()
	p.mu.Lock()
	sl := p.slots[s]
	if sl == nil || sl.state != Leased {
		p.mu.Unlock()
		p.log.Error("a connection was released that is not lent", zap.Stack("stack"))
		return
	}
	sl.fingerprint = fingerprint
	if reason := p.unwanted(sl); reason != reasonNone {
		doomed := p.condemn(sl, reason, nil)
		p.mu.Unlock()
		p.close(doomed)
		return
	}
	if p.queue.first != nil {
		p.hand(sl)
	} else {
		p.rest(sl)
	}
	p.mu.Unlock()
}

// Discard takes back a connection that cannot be used again and closes it. The reason goes to Server.Close.
func (p *Pool[S]) Discard(s S, reason string) {
	p.mu.Lock()
	sl := p.slots[s]
	if sl == nil || sl.state != Leased {
		p.mu.Unlock()
		p.log.Error("a connection was discarded that is not lent", zap.Stack("stack"))
		return
	}
	p.suspect()
	p.condemn(sl, reasonDiscarded, nil)
	p.mu.Unlock()
	p.bury(sl, reason)
}

// Replace puts fresh in the place of old, which the caller was lent, and closes old. From now on the caller holds fresh.
func (p *Pool[S]) Replace(old, fresh S) {
	p.mu.Lock()
	sl := p.slots[old]
	if sl == nil || sl.state != Leased {
		p.mu.Unlock()
		p.log.Error("a connection was replaced that is not lent", zap.Stack("stack"))
		return
	}
	delete(p.slots, old)
	sl.server = fresh
	p.slots[fresh] = sl
	p.mu.Unlock()
	old.Close("replaced")
}

// settle decides what becomes of a connection that nobody holds: closed, handed to a waiter, or idle. The slot is
// appended to doomed when the caller must close it after giving p.mu back.
func (p *Pool[S]) settle(sl *slot[S], doomed []*slot[S]) []*slot[S] {
	if reason := p.unwanted(sl); reason != reasonNone {
		return p.condemn(sl, reason, doomed)
	}
	if p.queue.first != nil {
		p.hand(sl)
	} else {
		p.rest(sl)
	}
	return doomed
}

// rest makes sl idle.
func (p *Pool[S]) rest(sl *slot[S]) {
	sl.idleSince = p.reg.clock.coarse.Load()
	p.move(sl, Idle)
	p.idle.push(sl)
	if p.reg.limits.contended() {
		p.reg.kick() // another pool may be starving for what rests here
	}
}

// unwanted returns why a connection that nobody holds must be closed; reasonNone when it is to be kept.
func (p *Pool[S]) unwanted(sl *slot[S]) Reason {
	cfg := p.cfg.Load()
	switch {
	case p.phase == shut:
		return reasonShutdown
	case p.phase == paused:
		return reasonPaused
	case sl.generation != p.generation:
		return reasonReconnect
	case sl.expires != 0 && p.reg.clock.coarse.Load() >= sl.expires:
		return reasonLifetime
	case p.surplus(cfg):
		return reasonSurplus
	case p.surrender:
		p.surrender = false
		return reasonEvicted
	}
	return reasonNone
}

// surplus reports whether there are more connections than the pool may keep: above size they stay only while somebody
// waits, above size and reserve not even then.
func (p *Pool[S]) surplus(cfg *Config) bool {
	kept := p.open() - p.count[Closing]
	return kept > cfg.Size && (p.queue.first == nil || kept > cfg.Size+cfg.Reserve)
}

// open is the number of connections that exist or are about to, which is what the size limits.
func (p *Pool[S]) open() int {
	return p.count[Dialling] + p.count[Idle] + p.count[Checking] + p.count[Leased] + p.count[Closing]
}

// condemn takes sl out of use and appends it to doomed; the caller closes it with close or bury after giving p.mu back.
func (p *Pool[S]) condemn(sl *slot[S], reason Reason, doomed []*slot[S]) []*slot[S] {
	if sl.state == Idle {
		p.idle.remove(sl)
	}
	p.move(sl, Closing)
	sl.reason = reason
	p.counters.closed[reason]++
	return append(doomed, sl)
}

// condemnRested takes out every connection that has been idle for at least rested.
func (p *Pool[S]) condemnRested(rested time.Duration, doomed []*slot[S]) []*slot[S] {
	now := p.reg.clock.now()
	for sl := p.idle.oldest; sl != nil && now-sl.idleSince >= int64(rested); sl = p.idle.oldest {
		doomed = p.condemn(sl, reasonCheck, doomed)
	}
	return doomed
}

// condemnIdle takes out every idle connection.
func (p *Pool[S]) condemnIdle(reason Reason, doomed []*slot[S]) []*slot[S] {
	for p.idle.oldest != nil {
		doomed = p.condemn(p.idle.oldest, reason, doomed)
	}
	return doomed
}

// close ends condemned connections. p.mu is not held.
func (p *Pool[S]) close(doomed []*slot[S]) {
	for _, sl := range doomed {
		p.bury(sl, sl.reason.String())
	}
}

// bury closes one condemned connection and gives its place free. p.mu is not held.
func (p *Pool[S]) bury(sl *slot[S], reason string) {
	sl.server.Close(reason)
	p.log.Debug("server connection closed", zap.String("reason", reason))
	p.mu.Lock()
	delete(p.slots, sl.server)
	p.move(sl, Closed)
	p.gone()
	p.startDials()
	p.mu.Unlock()
}

// gone follows the move of a slot to Closed.
func (p *Pool[S]) gone() {
	p.reg.limits.free(p.key)
	if p.open() == 0 && p.emptied != nil {
		close(p.emptied)
		p.emptied = nil
	}
}

// Attach counts a session in that uses the pool; a pool with sessions is never retired. Detach counts it out.
func (p *Pool[S]) Attach() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clients++
	p.startDials()
}

// Detach counts out a session that Attach counted in.
func (p *Pool[S]) Detach() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.clients--
	p.usedAt = p.reg.clock.coarse.Load()
}

// Wants reports whether the pool wants s, which is lent, back as soon as can be: it is paused, closed or short of
// connections, or the connection's time is over.
func (p *Pool[S]) Wants(s S) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	sl := p.slots[s]
	return sl == nil || p.phase != serving || sl.generation != p.generation || p.surrender ||
		sl.expires != 0 && p.reg.clock.coarse.Load() >= sl.expires
}
