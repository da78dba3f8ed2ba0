package pool

import (
	"sync/atomic"
	"time"
)

// Waiter is a session's place in the queue of a pool. A session makes one with NewWaiter and uses it for all its
// Acquires, on any pool, one at a time.
type Waiter[S Server] struct {
	ready chan struct{} // capacity 1; made at the first wait
	timer *time.Timer   // made at the first wait with a limit
	// timeout is the timer's channel while a wait has a limit. The waiting goroutine's.
	timeout <-chan time.Time

	closed atomic.Pointer[error]   // set by Close for good
	pool   atomic.Pointer[Pool[S]] // where Cancel can end an Acquire; changed only under that pool's mu

	// Guarded by the mu of pool.
	want       Want[S]
	ticket     uint64   // place in the order of service
	since      int64    // clock time when the wait began
	queued     bool     // in the queue
	slot       *slot[S] // handed over; the session owns it
	err        error    // why the wait ended without a slot, or must end
	prev, next *Waiter[S]
}

// NewWaiter returns a Waiter that waits nowhere.
func NewWaiter[S Server]() *Waiter[S] { return new(Waiter[S]) }

// For is the pool that an Acquire in progress waits for, nil without one. Any goroutine may call it.
func (w *Waiter[S]) For() *Pool[S] { return w.pool.Load() }

// Cancel ends the Acquire in progress, which then returns err, and reports whether there was one to end. When it
// reports false, Acquire had its connection already or none was running: like PostgreSQL's cancel request, it has no
// effect on what comes later. Any goroutine may call it.
func (w *Waiter[S]) Cancel(err error) bool {
	for {
		p := w.pool.Load()
		if p == nil {
			return false
		}
		p.mu.Lock()
		if w.pool.Load() == p {
			p.fail(w, err)
			p.mu.Unlock()
			return true
		}
		p.mu.Unlock()
	}
}

// Close is Cancel for good: every Acquire from now on returns err. The first call wins. Any goroutine may call it. An
// Acquire that has its connection already still returns it.
func (w *Waiter[S]) Close(err error) {
	w.closed.CompareAndSwap(nil, &err)
	w.Cancel(err)
}

// fail makes the Acquire of w return err. p.mu is held and w.pool is p.
func (p *Pool[S]) fail(w *Waiter[S], err error) {
	if w.err == nil {
		w.err = err
	}
	if w.queued {
		p.queue.remove(w)
		w.wake()
	}
}

// wake lets the waiting goroutine go on. It is called once a wait, by whoever took w out of the queue.
func (w *Waiter[S]) wake() { w.ready <- struct{}{} }

// arm prepares the channel and the timer for a wait of which left is left; limit 0 is none.
func (w *Waiter[S]) arm(limit, left time.Duration) {
	if w.ready == nil {
		w.ready = make(chan struct{}, 1)
	}
	switch {
	case limit == 0:
		w.timeout = nil
		return
	case w.timer == nil:
		w.timer = time.NewTimer(left)
	default:
		w.timer.Reset(left)
	}
	w.timeout = w.timer.C
}

// queue holds waiters in the order of their tickets.
type queue[S Server] struct {
	first, last *Waiter[S]
	len         int
}

// insert puts w where its ticket belongs: at the end, or ahead of others when it had its turn already and the
// connection it was given turned out to be dead.
func (q *queue[S]) insert(w *Waiter[S]) {
	after := q.last
	for after != nil && after.ticket > w.ticket {
		after = after.prev
	}
	w.prev = after
	if after == nil {
		w.next = q.first
		q.first = w
	} else {
		w.next = after.next
		after.next = w
	}
	if w.next == nil {
		q.last = w
	} else {
		w.next.prev = w
	}
	w.queued = true
	q.len++
}

func (q *queue[S]) remove(w *Waiter[S]) {
	if w.prev == nil {
		q.first = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		q.last = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.prev, w.next = nil, nil
	w.queued = false
	q.len--
}
