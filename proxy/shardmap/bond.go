package shardmap

import (
	"sync/atomic"
	"time"

	"pgtier/router/shard"
)

// A proxy that has lost its lease is waited for no longer, so what servers answer to it may come from behind a deletion of rows that have moved. It has to know
// that by itself, also when it has only slept, and has its lease again: so each shard has a bond, which counts the gaps between proofs of the lease.

// Bond is how the lease of one shard has held: see Breaks and Unbroken. All methods are safe for concurrent use, and allocate nothing.
type Bond struct {
	of    *Watcher
	state atomic.Pointer[bonded] // nil before the first proof
}

// bonded is a bond at one time. Immutable.
type bonded struct {
	proved time.Time // when what proves the lease was asked
	breaks int64
}

// believed is how long a proof is good for answers: statements are sent for a lease, and proxies are waited for twice as long, from a word on that is at
// most a fifth older than the proof.
func (c *Config) believed() time.Duration { return c.lease() * 3 / 2 }

// Bond is that of a shard. It is the same for each call.
func (w *Watcher) Bond(name shard.Name) *Bond {
	if b, ok := w.bonds.Load(name); ok {
		return b.(*Bond)
	}
	b, _ := w.bonds.LoadOrStore(name, &Bond{of: w})
	return b.(*Bond)
}

// prove adds a proof of the lease that was asked for at the time.
func (b *Bond) prove(asked time.Time) {
	limit := b.of.setup.Load().config.believed()
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

// Breaks counts how often the lease has been lost. A State that is in force behind that was read with the proof of the newest lease, or later.
func (b *Bond) Breaks() int64 {
	if now := b.state.Load(); now != nil {
		return now.breaks
	}
	return 0
}

// Unbroken reports whether the lease has held since Breaks said so many, and holds: no mover has taken this proxy for stopped meanwhile, so that
// what the shard has answered until now comes from before rows were deleted that have moved since the statement was planned.
func (b *Bond) Unbroken(breaks int64) bool {
	now := b.state.Load()
	if now == nil {
		return true // nothing was planned for shards yet
	}
	return within(now.proved, b.of.now(), b.of.setup.Load().config.believed()) && now.breaks == breaks
}
