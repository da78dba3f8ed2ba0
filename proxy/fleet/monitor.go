package fleet

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"pgtier/router/balance"
)

// monitor asks one server, over one connection, one question at a time.
type monitor struct {
	// Fixed after New.
	fleet *Fleet
	index int
	dial  Dial
	wake  chan struct{} // holds one: something may be due

	urgent  atomic.Bool // look at the server at once
	promote atomic.Bool // see whether Fleet.order is for it

	// Owned by run.
	probe    *probe // nil: not connected
	unkick   func() bool
	role     Role
	broken   bool // the connection before this one was broken, so the server may have crashed since
	at       balance.LSN
	lastAsk  time.Time // when the last question was sent, or the last attempt to connect began
	lastFull time.Time
	// When the running transactions were last listed, and how long that has taken.
	lastSight time.Time
	sights    int                       // listed so far
	sightCost [sightsKept]time.Duration // of the last of them, each at its number modulo sightsKept
	pause     time.Duration             // before the next attempt to connect; 0 when the last succeeded
	stalled   int                       // quick questions in a row that showed no progress towards target
	target    uint64                    // the highest position that somebody waited for
	slow      time.Duration             // Config.Slow, jittered
	flushes   flusher
}

func newMonitor(f *Fleet, index int, dial Dial) *monitor {
	return &monitor{fleet: f, index: index, dial: dial, wake: make(chan struct{}, 1), slow: f.cfg.Slow}
}

// poke makes the monitor look whether something is due.
func (m *monitor) poke() {
	select {
	case m.wake <- struct{}{}:
	default: // it will look anyhow
	}
}

// look makes the monitor ask the full question soon.
func (m *monitor) look() {
	m.urgent.Store(true)
	m.poke()
}

// run asks until ctx ends.
func (m *monitor) run(ctx context.Context) {
	defer m.disconnect()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil {
		if wait := m.due(time.Now()); wait > 0 {
			timer.Reset(wait)
			select {
			case <-ctx.Done():
				return
			case <-m.wake:
			case <-timer.C:
			}
			continue
		}
		m.act(ctx)
	}
}

// firstPause is the first pause between two attempts to connect, and the shortest time between two looks that sessions'
// losses bring about: a thousand sessions that lose one server must not ask it a thousand times.
const firstPause = 20 * time.Millisecond

// due is how long to wait for the next question; 0 or less is now.
func (m *monitor) due(now time.Time) time.Duration {
	var next time.Time
	switch {
	case m.probe == nil && m.urgent.Load():
		next = m.lastAsk.Add(firstPause)
	case m.probe == nil:
		next = m.lastAsk.Add(m.pause)
	case m.urgent.Load() || m.promote.Load():
		// At once, but then not more often than this.
		next = m.lastFull.Add(firstPause)
	default:
		next = sooner(m.lastFull.Add(m.slow), m.wanted())
	}
	return next.Sub(now)
}

func sooner(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// wanted is when the demand there is now asks for the next question.
func (m *monitor) wanted() time.Time {
	f := m.fleet
	v := f.View()
	switch {
	case v.Manager < 0:
		return m.lastAsk.Add(f.cfg.Hunt)
	case v.Manager != m.index:
		return m.lastAsk.Add(m.replicaInterval())
	}
	next := m.lastAsk.Add(m.slow)
	if f.positions.outstanding() {
		next = m.lastAsk.Add(f.cfg.Sample)
	}
	if m.sighting() {
		sight := m.lastSight.Add(m.sightPause())
		if soonest := m.lastAsk.Add(f.cfg.Sample); sight.Before(soonest) {
			sight = soonest
		}
		next = sooner(next, sight)
	}
	if flush, due := m.flushDue(time.Now()); due {
		next = sooner(next, flush)
	}
	return next
}

// sightRest is the part of the time that may go by between two lists of the running transactions, in terms of what one
// took. The list is read from all locks, which takes 0.08 ms of a server with few and 2 ms of one with 5,000, so it is the
// server that says how often: a twentieth of a core at most.
const sightRest = 20

// sightsKept is how many lists tell what one costs: the quickest of them, for a busy machine only makes them slower, and then
// a pause of twenty times what it made of one would be added to what sessions wait anyhow.
const sightsKept = 8

// sightPause is the shortest time between two lists; 0 until there are enough to tell.
func (m *monitor) sightPause() time.Duration {
	return min(sightRest*slices.Min(m.sightCost[:]), m.fleet.cfg.Slow)
}

// sighting reports whether somebody waits for the manager's running transactions.
func (m *monitor) sighting() bool {
	f := m.fleet
	seen := f.visible.Load()
	return f.sights.active() && (f.replayed.Load() > seen || f.sought.Load() > seen)
}

// replicaInterval is interval for a server that is not the manager.
func (m *monitor) replicaInterval() time.Duration {
	f := m.fleet
	target := max(f.goal.Load(), f.sought.Load())
	if target > m.target {
		m.stalled = 0
	}
	m.target = target
	if f.reads.active() && uint64(m.at) < target || f.sights.active() && m.inDoubt() {
		// A replica that does not move is asked less and less often, down to a twentieth.
		return f.cfg.Quick * time.Duration(min(1+m.stalled/4, 20))
	}
	return m.slow
}

// inDoubt reports whether the guard waits for a replica's word.
func (m *monitor) inDoubt() bool {
	ids, _ := m.fleet.doubtful()
	return len(ids) > 0
}

// act asks the question that is due.
func (m *monitor) act(ctx context.Context) {
	now := time.Now()
	f := m.fleet
	switch {
	case m.probe == nil:
		m.urgent.Store(false)
		m.connect(ctx)
	case m.promote.Swap(false):
		if f.takeOrder(m.index, now) {
			m.lastAsk, m.lastFull = now, now
			f.promoted(m.index, m.probe.promote())
		}
	case m.urgent.Swap(false), f.View().Manager < 0, now.Sub(m.lastFull) >= m.slow:
		m.full(ctx)
	default:
		if flush, due := m.flushDue(now); due && !now.Before(flush) {
			m.flush(ctx)
			return
		}
		m.quick(ctx)
	}
}

// connect dials, prepares and asks the full question.
func (m *monitor) connect(ctx context.Context) {
	f := m.fleet
	m.lastAsk = time.Now()
	dialCtx, cancel := context.WithTimeout(ctx, f.cfg.Silence)
	defer cancel()
	conn, err := m.dial(dialCtx, f.servers[m.index])
	if err == nil {
		m.probe = &probe{conn: conn, limit: f.cfg.Silence}
		m.unkick = context.AfterFunc(ctx, conn.Kick)
		if err = m.probe.prepare(); err == nil {
			m.pause = max(m.pause, firstPause) // a first question that fails is a failure, however it fails
			m.full(ctx)
			return
		}
		m.disconnect()
	}
	m.fail(ctx, err)
}

// fail reports that the server did not answer and sets the pause before the next attempt.
func (m *monitor) fail(ctx context.Context, err error) {
	if ctx.Err() != nil {
		return // it was us who hung up
	}
	m.role = Unknown
	m.pause = min(max(2*m.pause, firstPause), m.fleet.cfg.RetryMost)
	m.pause -= rand.N(m.pause/4 + 1) // not all proxies at the same moment
	m.fleet.failed(m.index, classify(err, m.fleet.cfg.Silence))
}

// lost ends a connection over which a question failed. One that broke proves nothing yet: the server may have been told to
// end it. So the next attempt comes at once, and its failure counts. Silence counts by itself. But it may have crashed, and be
// back by then.
func (m *monitor) lost(ctx context.Context, err error) {
	m.disconnect()
	m.broken = true
	if silent(err) || m.pause > 0 {
		m.fail(ctx, err)
		return
	}
	m.lastAsk = time.Time{}
}

func (m *monitor) disconnect() {
	if m.probe == nil {
		return
	}
	m.unkick()
	m.probe.conn.Close("monitor")
	m.probe = nil
}

// number gives a question a number if the server may be the manager.
func (m *monitor) number() uint64 {
	if m.role == Replica {
		return 0
	}
	return m.fleet.positions.ask()
}

// full asks everything.
func (m *monitor) full(ctx context.Context) {
	f := m.fleet
	sent, q := time.Now(), m.number()
	m.lastAsk, m.lastFull = sent, sent
	s, err := m.probe.status()
	if err != nil {
		m.lost(ctx, err)
		return
	}
	m.role, m.pause, m.stalled = s.role, 0, 0
	m.at = s.position
	// A tenth around the interval, so that the monitors of many shards do not march in step.
	m.slow = f.cfg.Slow*9/10 + rand.N(f.cfg.Slow/5+1)
	f.heard(m.index, q, sent, s, m.broken)
	m.broken = false
	f.loads[m.index].settle(time.Since(sent))
}

// quick asks for the position and, if they are wanted, for the transactions that stand between it and what is visible.
func (m *monitor) quick(ctx context.Context) {
	f := m.fleet
	var role Role
	var at balance.LSN
	var err error
	var report func()
	sent, q := time.Now(), m.number()
	m.lastAsk = sent
	switch {
	case m.role == Manager && m.sighting() && sent.Sub(m.lastSight) >= m.sightPause():
		var running []uint64
		role, at, running, err = m.probe.sample()
		m.lastSight, m.sightCost[m.sights%sightsKept] = sent, time.Since(sent)
		m.sights++
		report = func() { f.sampled(m.index, at, running) }
	case m.role == Replica && f.sights.active():
		ids, epoch := f.doubtful()
		if len(ids) == 0 {
			role, at, err = m.probe.quick()
			break
		}
		var not []uint64
		role, at, not, err = m.probe.known(ids)
		report = func() { f.denied(m.index, epoch, at, not) }
	default:
		role, at, err = m.probe.quick()
	}
	switch {
	case err != nil:
		m.lost(ctx, err)
		return
	case role != m.role:
		m.urgent.Store(true) // ask everything before anybody hears of it
		return
	case at == m.at:
		m.stalled++
	default:
		m.stalled = 0
	}
	m.at = at
	f.moved(m.index, q, sent, at)
	if report != nil {
		report()
	}
}
