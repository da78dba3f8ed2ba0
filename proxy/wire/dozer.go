package wire

import (
	"sync"
	"sync/atomic"
)

// Dozer waits for the sockets of many quiet connections in one goroutine, so that none of them needs one of its own. All
// methods are safe for concurrent use, also of a nil Dozer, for which nothing dozes.
type Dozer struct {
	poll dozePoll

	mu    sync.Mutex        // also orders what is armed
	last  uint64            // guarded by mu
	quiet map[uint64]*quiet // guarded by mu; those that doze, by the number that the poll knows them by
}

// quiet is one connection that dozes.
type quiet struct {
	d    *Dozer
	conn *Conn
	id   uint64
	wake func()
}

// NewDozer makes one that dozes connections once Run runs. nil: this platform has none.
func NewDozer() *Dozer {
	d := &Dozer{quiet: map[uint64]*quiet{}}
	if !d.poll.open() {
		return nil
	}
	return d
}

// Doze has wake called once, in a goroutine of its own, when c can be read, its peer has hung up or c is kicked. It returns
// false, and calls nothing, for connections that have to be read to know that: under TLS, and where Conn uses no raw calls.
//
// wake may run before Doze has returned: whoever calls it for a goroutine that ends has to do so as the last thing, but for
// Kick, by which it makes sure that no message has come between.
func (d *Dozer) Doze(c *Conn, wake func()) bool {
	if d == nil || c.raw == nil {
		return false
	}
	q := &quiet{d: d, conn: c, wake: wake}
	if d.begin(q) == nil {
		return true
	}
	// Closed, or without room in the kernel. Unless somebody has woken it up meanwhile, it did not doze.
	return !q.take()
}

// begin arms q's socket. Whoever ends the doze waits for that in take: the next doze of the same connection must not be armed first.
func (d *Dozer) begin(q *quiet) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.last++
	q.id = d.last
	d.quiet[q.id] = q
	q.conn.quiet.Store(q)
	return d.poll.add(q.conn, q.id)
}

// Dozing is how many connections doze now.
func (d *Dozer) Dozing() int {
	if d == nil {
		return 0
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.quiet)
}

// Run wakes up those whose sockets have something to say, until Close.
func (d *Dozer) Run() {
	if d != nil {
		d.poll.run(d.ready)
	}
}

// Close ends Run. What dozes then is woken up by kicks only.
func (d *Dozer) Close() {
	if d != nil {
		d.poll.close()
	}
}

// ready wakes up the connection of that number, unless something else has.
func (d *Dozer) ready(id uint64) {
	d.mu.Lock()
	q := d.quiet[id]
	d.mu.Unlock()
	if q != nil {
		q.rouse()
	}
}

// take makes the caller the one who ends the doze, if nobody else is.
func (q *quiet) take() bool {
	if !q.conn.quiet.CompareAndSwap(q, nil) {
		return false
	}
	q.d.mu.Lock()
	defer q.d.mu.Unlock()
	delete(q.d.quiet, q.id)
	return true
}

func (q *quiet) rouse() {
	if q.take() {
		go q.wake() // what wakes up says when it ends
	}
}

// dozes is the part of a Conn that a Dozer has.
type dozes struct {
	quiet atomic.Pointer[quiet]
	known bool // to the poll; guarded by the Dozer's mu
}

// rouse ends a doze, if there is one.
func (c *dozes) rouse() {
	if q := c.quiet.Load(); q != nil {
		q.rouse()
	}
}
