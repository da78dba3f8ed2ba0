package shardmap

import (
	"sync/atomic"
	"time"

	"pgtier/router/shard"
)

// A proxy that has lost its lease is waited for no longer, so what servers answer to it may come from behind a deletion of rows that have moved. It has to know
// that by itself, also when it has only slept, and has its lease again: so each shard has a bond, which counts the gaps between proofs of the lease.

// bond is how a shard's lease has held. Safe for concurrent use.
type bond struct{ state atomic.Pointer[bonded] }

// bonded is a bond at one time. Immutable.
type bonded struct {
	proved time.Time // when what proves the lease was asked
	breaks int64
}

// believed is how long a proof is good for answers: statements are sent for a lease, and proxies are waited for twice as long, from a word on that is at
// most a fifth older than the proof.
func (c *Config) believed() time.Duration { return c.lease() * 3 / 2 }

// bond is the shard's.
func (w *Watcher) bond(name shard.Name) *bond {
	if b, ok := w.bonds.Load(name); ok {
		return b.(*bond)
	}
	b, _ := w.bonds.LoadOrStore(name, &bond{})
	return b.(*bond)
}

// prove adds a proof of the lease that was asked for at the time, and is good for limit.
func (b *bond) prove(asked time.Time, limit time.Duration) {
	for {
		old, next := b.state.Load(), &bonded{proved: asked}
		switch {
		case old == nil:
		case !asked.After(old.proved):
			return
		case within(old.proved, asked, limit):
			next.breaks = old.breaks
		default:
			next.breaks = old.breaks + 1
		}
		if b.state.CompareAndSwap(old, next) {
			return
		}
	}
}

// Breaks counts how often the lease of a shard has been lost. What goes over a connection may be believed as long as it is Unbroken since the connection was opened.
func (w *Watcher) Breaks(name shard.Name) int64 {
	if b := w.bond(name).state.Load(); b != nil {
		return b.breaks
	}
	return 0
}

// Unbroken reports whether the lease of a shard has held since Breaks said so many, and holds: no proxy or mover has taken this one for stopped meanwhile, so that
// what the shard has answered until now comes from before rows were deleted that have moved since the statement was planned. It allocates nothing.
func (w *Watcher) Unbroken(name shard.Name, breaks int64) bool {
	b := w.bond(name).state.Load()
	if b == nil {
		return true // nothing was planned for shards yet
	}
	return within(b.proved, w.now(), w.setup.Load().config.believed()) && b.breaks == breaks
}
