package fleet

import (
	"slices"

	"pgtier/router/balance"
)

// guard derives the position up to which every commit is visible on the manager. DESIGN.md has the argument. It is not
// safe for concurrent use.
//
// A sample of the manager is a position, and then, read after it, the ids of all transactions that hold the lock on their
// own id. A transaction takes that lock before its commit record is written and releases it after it has become visible.
// So whoever has a commit record up to the position and is not visible yet is among the ids; when all of them are known
// to have ended, or not to have committed up to the position, the position is visible.
type guard struct {
	visible balance.LSN
	pending []sample // by position, oldest first
}

type sample struct {
	at   balance.LSN
	open []uint64 // ids that may yet have a commit record up to at; sorted
	seen int      // later samples of the manager it has outlived
}

// pendingMost bounds the samples that wait. While one transaction holds all of them up, the newest gives way to the next.
const pendingMost = 16

// observe takes a sample of the manager; running is sorted, and kept.
func (g *guard) observe(at balance.LSN, running []uint64) {
	for i := range g.pending {
		p := &g.pending[i]
		p.seen++
		p.open = slices.DeleteFunc(p.open, func(id uint64) bool {
			_, found := slices.BinarySearch(running, id)
			return !found
		})
	}
	last := len(g.pending) - 1
	switch {
	case len(running) == 0:
		g.pending, g.visible = g.pending[:0], max(g.visible, at)
	case at <= g.visible || last >= 0 && at <= g.pending[last].at:
		// An older sample says as much, and may know more.
	case len(g.pending) == pendingMost:
		g.pending[last] = sample{at: at, open: running}
	default:
		g.pending = append(g.pending, sample{at: at, open: running})
	}
	g.settle()
}

// deny takes the word of a replica that had replayed up to replayed and then did not know ids as committed. Their commit
// records, if there will be any, lie beyond.
func (g *guard) deny(replayed balance.LSN, ids []uint64) {
	for i := range g.pending {
		p := &g.pending[i]
		if p.at > replayed {
			break
		}
		p.open = slices.DeleteFunc(p.open, func(id uint64) bool { return slices.Contains(ids, id) })
	}
	g.settle()
}

// doubtful lists the ids that a replica should be asked about: those that short transactions' own end does not settle.
func (g *guard) doubtful() []uint64 {
	var ids []uint64
	for _, p := range g.pending {
		if p.seen == 0 {
			continue
		}
		for _, id := range p.open {
			if i, found := slices.BinarySearch(ids, id); !found && len(ids) < doubtfulMost {
				ids = slices.Insert(ids, i, id)
			}
		}
	}
	return ids
}

// doubtfulMost bounds one question. The lowest samples are asked about first, and each frees those above it.
const doubtfulMost = 256

// settle promotes the highest sample that nothing holds up.
func (g *guard) settle() {
	for i := len(g.pending) - 1; i >= 0; i-- {
		if len(g.pending[i].open) == 0 {
			g.visible = max(g.visible, g.pending[i].at)
			g.pending = slices.Delete(g.pending, 0, i+1)
			return
		}
	}
}

// reset forgets everything: there is another manager.
func (g *guard) reset() { *g = guard{} }
