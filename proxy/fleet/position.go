package fleet

import (
	"sync/atomic"

	"pgtier/router/balance"
)

// Ticket stands for an acknowledged write until its place in the log is known. Later tickets are not smaller. The zero
// value stands for no write.
type Ticket uint64

// ringSize is how many answers stay apart; older tickets get a later answer, which covers them too. At one every 3 ms
// it reaches back three quarters of a second.
const ringSize = 256

// positions turns tickets into positions. Questions to the manager are numbered as they are sent; a ticket is the number
// of the first question that is sent after it, whose answer therefore covers it.
type positions struct {
	// asked is the last question that was sent, or is about to be, by any of the fleets that continue each other: whoever still
	// draws a ticket of an earlier one must not get the number of a question that a later one has asked.
	asked    *atomic.Uint64
	sent     atomic.Uint64 // the last of our own
	wanted   atomic.Uint64 // the highest ticket that somebody wants answered
	answered atomic.Uint64 // the last question that was answered
	// slots holds, at a question's number modulo ringSize, the answer to it or to a later one. Any later answer covers what an
	// earlier one does, so a reader need not mind when a slot is overwritten under its eyes.
	slots [ringSize]atomic.Uint64
}

func newPositions() positions { return positions{asked: new(atomic.Uint64)} }

// continues makes the tickets of earlier, those it has given and those to come, tickets of p. For use before p is asked
// anything.
func (p *positions) continues(earlier *positions) { p.asked = earlier.asked }

// next is the ticket of a write acknowledged now.
func (p *positions) next() Ticket { return Ticket(p.asked.Load() + 1) }

// want asks for t to be answered and reports whether that is news.
func (p *positions) want(t Ticket) bool {
	for {
		old := p.wanted.Load()
		if old >= uint64(t) {
			return false
		}
		if p.wanted.CompareAndSwap(old, uint64(t)) {
			return true
		}
	}
}

// outstanding reports whether a ticket waits for a question that has not been sent.
func (p *positions) outstanding() bool { return p.wanted.Load() > p.sent.Load() }

// ask numbers a question that is about to be sent.
func (p *positions) ask() uint64 {
	q := p.asked.Add(1)
	raise(&p.sent, q)
	return q
}

// answer publishes the answer to question q. One goroutine at a time.
func (p *positions) answer(q uint64, lsn balance.LSN) {
	last := p.answered.Load()
	if q <= last {
		return
	}
	// Questions between that were never answered are answered by this one.
	for i := max(last+1, q-min(q, ringSize-1)); i <= q; i++ {
		p.slots[i%ringSize].Store(uint64(lsn))
	}
	p.answered.Store(q)
}

// position returns a position that covers every ticket up to t.
func (p *positions) position(t Ticket) (balance.LSN, bool) {
	if t == 0 {
		return 0, true
	}
	last := p.answered.Load()
	if uint64(t) > last {
		return 0, false
	}
	q := uint64(t)
	if last-q >= ringSize {
		q = last - ringSize + 1
	}
	return balance.LSN(p.slots[q%ringSize].Load()), true
}

// demand tells whether somebody has asked lately, without a clock in the asking.
type demand struct {
	marked atomic.Bool // since the last tick
	before atomic.Bool // between the two ticks before
}

// mark tells that somebody asks, and reports whether nobody had lately.
func (d *demand) mark() (fresh bool) {
	if d.marked.Load() {
		return false
	}
	return !d.marked.Swap(true) && !d.before.Load()
}

func (d *demand) tick()        { d.before.Store(d.marked.Swap(false)) }
func (d *demand) active() bool { return d.before.Load() || d.marked.Load() }

// Committed returns the ticket of a write that the manager has just acknowledged; call it before the client hears. It
// takes no lock. While nobody asks for positions it costs the manager nothing.
func (f *Fleet) Committed() Ticket {
	t := f.positions.next()
	if f.reads.active() && f.positions.want(t) {
		f.pokeManager()
	}
	return t
}

// Now returns the ticket of everything that any server of the shard shows now: a position that covers it is not below
// what a read that has just ended saw. It takes no lock and asks nothing.
func (f *Fleet) Now() Ticket { return f.positions.next() }

// Position returns a position that is not below the commit of any write whose ticket is t or lower, so that a replica that
// has replayed it shows them all. False: not known yet; the manager will be asked, and meanwhile only it shows them. It
// takes no lock.
func (f *Fleet) Position(t Ticket) (balance.LSN, bool) {
	fresh := f.reads.mark()
	lsn, ok := f.positions.position(t)
	if !ok && f.positions.want(t) || fresh {
		f.pokeAll()
	}
	return lsn, ok
}

// Visible returns a position such that every transaction whose commit record lies at or below it is visible on the
// manager: for one that waits for a synchronous standby that is not so, though replicas show it. It never goes back while
// the manager stays, and is 0 while nothing is known. It takes no lock.
func (f *Fleet) Visible() balance.LSN {
	if f.sights.mark() {
		f.pokeAll()
	}
	return balance.LSN(f.visible.Load())
}

// Seek tells that somebody waits until p is replayed and visible: the servers are asked quickly until it is, or until
// nobody has called Seek, Position or Visible for a second or two. It takes no lock.
func (f *Fleet) Seek(p balance.LSN) {
	freshReads, freshSights := f.reads.mark(), f.sights.mark()
	if raise(&f.sought, uint64(p)) || freshReads || freshSights {
		f.pokeAll()
	}
}

// raise makes a at least v and reports whether that changed it.
func raise(a *atomic.Uint64, v uint64) bool {
	for {
		old := a.Load()
		if old >= v {
			return false
		}
		if a.CompareAndSwap(old, v) {
			return true
		}
	}
}
