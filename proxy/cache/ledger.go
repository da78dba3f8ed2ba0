package cache

import (
	"slices"
	"sync/atomic"

	"pgtier/router/tags"
)

// ledger counts the changes of what answers depend on. Tags share its slots by chance: then a write ends answers that do not
// depend on it, and none survives one that it depends on. It takes no memory as tags come. Safe for concurrent use.
type ledger struct {
	// slots hold the writes under way in the low bits, and above them how many have ended: one word, so that no reader
	// sees one without the other.
	slots []atomic.Uint64
}

const (
	// underWayBits leave room for 16 million writes at a time, and for 10^12 ended ones: thousands a second for ten years.
	underWayBits = 24
	oneEnded     = 1 << underWayBits
	underWayMask = oneEnded - 1
	// Bounds of the number of slots, 8 bytes each. With the most, 1,000 writes a second end one answer in 1,000 by chance
	// each second.
	minSlots, maxSlots = 1 << 12, 1 << 20
	// bytesPerSlot gives the ledger a thirtieth of the memory for answers.
	bytesPerSlot = 256
)

func newLedger(memory int64) *ledger {
	n := minSlots
	for n < maxSlots && int64(n)*bytesPerSlot < memory {
		n *= 2
	}
	return &ledger{slots: make([]atomic.Uint64, n)}
}

// slot is where tag is counted.
func (l *ledger) slot(tag tags.Tag) uint32 { return uint32(uint64(tag) & uint64(len(l.slots)-1)) }

// stamp is the state of a slot between writes.
type stamp struct {
	slot  uint32
	ended uint64 // the whole word; nothing is under way
}

// stamps appends the states of the tags' slots to dst. quiet is false if a write to one of them is under way.
func (l *ledger) stamps(dst []stamp, of []tags.Tag) (_ []stamp, quiet bool) {
	for _, tag := range of {
		slot := l.slot(tag)
		word := l.slots[slot].Load()
		if word&underWayMask != 0 {
			return dst, false
		}
		dst = append(dst, stamp{slot, word})
	}
	return dst, true
}

// among are those of the stamps that are the tags'.
func (l *ledger) among(list []stamp, of []tags.Tag) []stamp {
	if len(of) >= len(list) {
		return list
	}
	found := make([]stamp, 0, len(of))
	for _, s := range list {
		if slices.ContainsFunc(of, func(tag tags.Tag) bool { return l.slot(tag) == s.slot }) {
			found = append(found, s)
		}
	}
	return found
}

// hold reports whether nothing has been written to the slots since they were stamped, nor is under way. If so, that was true
// of all of them at once when the first was looked at.
func (l *ledger) hold(list []stamp) bool {
	for i := range list {
		if l.slots[list[i].slot].Load() != list[i].ended {
			return false
		}
	}
	return true
}

// begin notes that a write to the slot is under way.
func (l *ledger) begin(slot uint32) { l.slots[slot].Add(1) }

// end notes that it is over; changed: it may have taken effect.
func (l *ledger) end(slot uint32, changed bool) {
	if changed {
		l.slots[slot].Add(oneEnded - 1)
		return
	}
	l.slots[slot].Add(^uint64(0))
}
