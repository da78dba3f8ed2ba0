package pool

import (
	"fmt"
	"time"
)

// Reason is why the pool closed a connection; one of a fixed set, fit for a metric's label.
type Reason uint8

const (
	reasonNone      Reason = iota
	reasonIdle             // idle_timeout
	reasonLifetime         // max_lifetime
	reasonReconnect        // RECONNECT
	reasonSurplus          // above the size after a change, or a reserve connection no longer needed
	reasonStale            // the peer had closed it
	reasonCheck            // it did not answer before it was lent, or rested beside one that did not
	reasonPaused           // PAUSE or KILL
	reasonEvicted          // given up for another pool under a shared limit
	reasonShutdown         // the pool is closed or retired
	reasonDiscarded        // by the session
	reasons
)

// String is the reason's label and what Server.Close is told.
func (r Reason) String() string {
	return [reasons]string{
		"none", "idle_timeout", "max_lifetime", "reconnect", "surplus", "stale", "check", "paused", "evicted",
		"shutdown", "discarded",
	}[r]
}

// counters only grow. They are guarded by Pool.mu.
type counters struct {
	assigned   uint64
	waited     uint64
	waitTime   time.Duration
	dials      uint64
	dialErrors uint64
	closed     [reasons]uint64
}

// Stats is a copy of a pool's numbers at one moment.
type Stats struct {
	Active  int // lent
	Idle    int // free and lent without a look
	Used    int // free, but due for a round trip before they are lent
	Tested  int // being looked at
	Login   int // being opened
	Closing int // being closed
	Waiting int // sessions in the queue
	Clients int // sessions attached

	MaxWait time.Duration // of the session that has waited longest
	Paused  bool
	Down    bool  // no connection, and the last attempt to open one failed
	LastErr error // of the last dial; nil after one that succeeded

	Assigned   uint64        // connections lent
	Waited     uint64        // of these, after a wait or a check
	WaitTime   time.Duration // sum over Waited
	Dials      uint64        // begun
	DialErrors uint64
	Closed     map[string]uint64 // by Reason, those that happened
}

// Stats returns the pool's numbers.
func (p *Pool[S]) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.reg.clock.now()
	st := Stats{
		Active: p.count[Leased], Tested: p.count[Checking], Login: p.count[Dialling], Closing: p.count[Closing],
		Used: p.rested(now), Waiting: p.queue.len, Clients: p.clients,
		Paused: p.phase == paused, Down: p.down(), LastErr: p.backoff.lastErr,
		Assigned: p.counters.assigned, Waited: p.counters.waited, WaitTime: p.counters.waitTime,
		Dials: p.counters.dials, DialErrors: p.counters.dialErrors,
		Closed: map[string]uint64{},
	}
	st.Idle = p.count[Idle] - st.Used
	if p.queue.first != nil {
		st.MaxWait = time.Duration(now - p.queue.first.since)
	}
	for r, n := range p.counters.closed {
		if n > 0 {
			st.Closed[Reason(r).String()] = n
		}
	}
	return st
}

// Most is how many connections the pool would have to get back before it could not lend one: all that it may open, and all that
// it has while it is paused.
func (p *Pool[S]) Most() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.phase != serving {
		return p.open()
	}
	return max(p.open(), p.cfg.Load().Size)
}

// rested counts the idle connections that are due for a round trip.
func (p *Pool[S]) rested(now int64) int {
	delay := int64(p.cfg.Load().CheckDelay)
	n := 0
	for sl := p.idle.oldest; delay > 0 && sl != nil && now-sl.idleSince >= delay; sl = sl.newer {
		n++
	}
	return n
}

// occupancy says in a client's DETAIL where the connections are.
func (p *Pool[S]) occupancy() string {
	return fmt.Sprintf("Pool %s: %d of %d connections in use, %d being opened, %d sessions waiting.",
		p.key, p.count[Leased]+p.count[Checking], p.cfg.Load().Size, p.count[Dialling], p.queue.len)
}

// Connection is one line of SHOW SERVERS.
type Connection[S Server] struct {
	Server S // only for its identity and what it says without I/O; it may be lent or closed at any moment
	State  State
	Since  time.Time // of the state, exact to a second
	Doomed bool      // closed as soon as it comes back, after a Reconnect
}

// Connections lists the pool's connections that are open, in no order. Dials in flight are not among them.
func (p *Pool[S]) Connections() []Connection[S] {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]Connection[S], 0, len(p.slots))
	for s, sl := range p.slots {
		out = append(out, Connection[S]{Server: s, State: sl.state, Since: p.reg.clock.time(sl.changedAt),
			Doomed: sl.generation != p.generation || p.phase != serving && sl.state == Leased || sl.state == Closing})
	}
	return out
}
