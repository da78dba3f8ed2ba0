package cache

import (
	"slices"
	"sync"

	"pgtier/router/tags"
)

// Write is what one transaction may change: the tags that are noted while it runs, and those claimed because its end is on its
// way. The zero value is that of a transaction that has changed nothing. It belongs to one goroutine.
type Write struct {
	noted   []uint32 // slots, each once
	claimed int      // so many of noted are under way in the ledger
	all     bool     // it may change any rows
	defines bool     // it may change the catalog
	judged  bool     // order is when what its first statement may change was judged
	order   Order
	turn    uint64 // of its claim among all; 0: it has none
}

// maxNoted bounds the slots of one transaction; one that touches more counts as changing anything. A transaction that inserts
// more rows one by one is a load.
const maxNoted = 512

// Any reports whether the transaction may have changed something, or may come to do so by code that is made anew.
func (w *Write) Any() bool { return w.judged }

// Claimed reports whether what it may have changed is under way: no answer that depends on it is served or kept, and a change of the catalog is not over before.
func (w *Write) Claimed() bool { return w.turn != 0 }

// All reports whether the transaction may have changed anything.
func (w *Write) All() bool { return w.all }

// Order is a point in the order of changes of the catalog. What was judged by the catalog after it, and is used while it still
// stands, was judged by the catalog in force. A transaction that counts as changing everything because the catalog has changed
// is none of them: else, under load, each such made the next one.
type Order uint64

// Order is the point now.
func (c *Cache) Order() Order { return Order(c.order.Load()) }

// Note adds what a statement of the transaction may change, as judged by the catalog since order. It makes no difference to
// others yet.
func (c *Cache) Note(w *Write, list []tags.Tag, order Order) {
	if len(list) == 0 {
		return
	}
	w.Runs(order)
	everything := c.ledger.slot(tags.Everything)
	for _, tag := range list {
		slot := c.ledger.slot(tag)
		w.all, w.defines = w.all || slot == everything, w.defines || tag == tags.Everything
		if !slices.Contains(w.noted, slot) {
			w.noted = append(w.noted, slot)
		}
	}
	if len(w.noted) > maxNoted && !w.all {
		w.all, w.noted = true, append(w.noted[:w.claimed], everything)
	}
}

// Runs notes that the transaction runs code which changes nothing, as judged by the catalog since order. If that changes before the end, it may change anything.
func (w *Write) Runs(order Order) {
	if !w.judged {
		w.judged, w.order = true, order
	}
}

// NoteAll notes that the transaction may change anything.
func (c *Cache) NoteAll(w *Write) { c.Note(w, []tags.Tag{tags.Everything}, c.Order()) }

// Claim makes what was noted unfit to be served and kept, before the server is told to commit it. What the transaction may
// change was judged by the catalog: if that has changed since, it may change anything.
func (c *Cache) Claim(w *Write) {
	if !w.judged {
		return
	}
	if w.turn == 0 {
		w.turn = c.claims.join() // first: a change of the catalog has either been noted by now, or waits for us
	}
	everything := c.ledger.slot(tags.Everything)
	if !w.all && c.Order() != w.order && !GuardOrder.Off() {
		w.all, w.noted = true, append(w.noted, everything)
	}
	for _, slot := range w.noted[w.claimed:] {
		if !GuardClaim.Off() {
			c.ledger.begin(slot)
		}
	}
	w.claimed = len(w.noted)
}

// End lets go of what was claimed, and forgets what was noted: the transaction is over, and everybody who asks the server
// sees what it did. changed is false only where it is certain that it did nothing. The client must not hear of it before.
func (c *Cache) End(w *Write, changed bool) {
	c.letGo(w, changed)
	*w = Write{noted: w.noted[:0]}
}

// letGo ends the claim.
func (c *Cache) letGo(w *Write, changed bool) {
	if w.turn == 0 {
		return
	}
	everything := c.ledger.slot(tags.Everything)
	claimed := w.noted[:w.claimed]
	if GuardClaim.Off() {
		for _, slot := range claimed {
			c.ledger.begin(slot)
		}
	}
	defined := w.defines && changed && slices.Contains(claimed, everything)
	if defined {
		c.order.Add(1) // before leave: who claims from now on sees it
		c.defined.Add(1)
	}
	for _, slot := range claimed {
		if slot != everything || !defined {
			c.ledger.end(slot, changed)
		}
	}
	if changed && len(claimed) > 0 {
		c.Writes.Add(1)
	}
	for range c.claims.leave(w.turn, defined) {
		c.ledger.end(everything, true)
	}
	w.claimed, w.turn = 0, 0
}

// Release lets go of what was claimed and keeps it noted: something may have been committed, and the transaction goes on.
func (c *Cache) Release(w *Write) {
	c.letGo(w, true)
}

// Take moves what w has noted and claimed to another Write, for somebody who finds out what has become of the transaction.
func (w *Write) Take() *Write {
	taken := *w
	*w = Write{}
	return &taken
}

// Flush ends every answer: anything may have changed.
func (c *Cache) Flush() {
	slot := c.ledger.slot(tags.Everything)
	c.order.Add(1)
	c.ledger.begin(slot)
	c.ledger.end(slot, true)
	c.Flushes.Add(1)
}

// Redefine is Flush because the catalog has been found to be another.
func (c *Cache) Redefine() {
	c.defined.Add(1)
	c.Flush()
}

// claims orders the transactions whose end is on its way. What changes the catalog may change what the others write, which
// was judged before: a trigger that an INSERT fires once it gets the lock. So Everything stays under way until all are over
// that claimed what they write before its change was made.
type claims struct {
	mu   sync.Mutex
	last uint64
	// open are the turns of those under way, in order. They are no more than server connections.
	open []uint64
	// held are the turns that must be over before a change of the catalog is.
	held []uint64
}

// join takes a turn.
func (c *claims) join() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last++
	c.open = append(c.open, c.last)
	return c.last
}

// leave gives a turn back and returns for how many changes of the catalog nobody has to be waited for any more. defined: this
// is another one.
func (c *claims) leave(turn uint64, defined bool) (over int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i, found := slices.BinarySearch(c.open, turn); found {
		c.open = slices.Delete(c.open, i, i+1)
	}
	if defined {
		c.held = append(c.held, c.last)
	}
	for len(c.held) > 0 && (GuardGrace.Off() || len(c.open) == 0 || c.open[0] > c.held[0]) {
		c.held = c.held[1:]
		over++
	}
	if len(c.held) == 0 {
		c.held = nil
	}
	return over
}
