package cache

import (
	"unsafe"

	"github.com/maypok86/otter/v2"
)

// Store keeps answers by key, and gives those up that are least worth keeping when they take too much memory. Safe for
// concurrent use.
type Store interface {
	// Find returns the answer kept for key, nil if there is none. It neither keeps nor changes key.
	Find(key []byte) *Answer
	// Keep keeps an answer in the place of the one before, or gives it up at once.
	Keep(key string, a *Answer)
	// Clear gives all answers up.
	Clear()
	// Size is about how many answers there are, and their bytes.
	Size() (answers int, bytes int64)
	// Each visits the answers until visit returns false, in no order.
	Each(visit func(key string, a *Answer) bool)
	// Drop gives up the answer kept for key.
	Drop(key string)
	// Resize bounds the bytes anew.
	Resize(memory int64)
	// Evicted is how many were given up for want of room.
	Evicted() uint64
}

// frequent is a Store that admits and evicts by how often a key is asked for (W-TinyLFU).
type frequent struct {
	of      *otter.Cache[string, *Answer]
	evicted counter
}

// newFrequent makes a Store of that many bytes.
func newFrequent(memory int64) *frequent {
	f := &frequent{}
	f.of = otter.Must(&otter.Options[string, *Answer]{
		MaximumWeight: uint64(memory),
		Weigher:       func(key string, a *Answer) uint32 { return uint32(min(a.cost(len(key)), 1<<32-1)) },
		OnDeletion: func(e otter.DeletionEvent[string, *Answer]) {
			if e.WasEvicted() {
				f.evicted.Add(1)
			}
		},
	})
	return f
}

func (f *frequent) Find(key []byte) *Answer {
	a, _ := f.of.GetIfPresent(unsafe.String(unsafe.SliceData(key), len(key))) // which is read, and not kept
	return a
}

func (f *frequent) Keep(key string, a *Answer) { f.of.Set(key, a) }
func (f *frequent) Drop(key string)            { f.of.Invalidate(key) }
func (f *frequent) Clear()                     { f.of.InvalidateAll() }
func (f *frequent) Resize(memory int64)        { f.of.SetMaximum(uint64(memory)) }
func (f *frequent) Evicted() uint64            { return f.evicted.Load() }

func (f *frequent) Size() (answers int, bytes int64) {
	return f.of.EstimatedSize(), int64(f.of.WeightedSize())
}

func (f *frequent) Each(visit func(key string, a *Answer) bool) {
	for key, a := range f.of.All() {
		if !visit(key, a) {
			return
		}
	}
}
