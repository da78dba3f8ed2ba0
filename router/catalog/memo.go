package catalog

import (
	"sync"
	"sync/atomic"
)

const (
	// memoBytes bounds one generation of a memo: a few thousand statements of the usual length. Old ones are judged again in some 10 µs.
	memoBytes = 4 << 20
	// memoOverhead is what an entry takes beside its statement, in bytes.
	memoOverhead = 256
)

// Memo remembers judgements by the address of what was judged. It keeps two generations: when the young one is full it becomes the old one, and what is
// still asked for moves up. The zero value is ready; all methods are safe for concurrent use.
type Memo struct {
	young, old atomic.Pointer[generation]
	mu         sync.Mutex // held to change generations
}

type generation struct {
	entries sync.Map
	bytes   atomic.Int64
}

// weighed is an entry with its weight, to move it up.
type weighed struct {
	value any
	bytes int64
}

// Find returns what was remembered for key, or nil. It does not allocate unless it moves an entry up.
func (m *Memo) Find(key any) any {
	young := m.young.Load()
	if young == nil {
		return nil
	}
	if v, ok := young.entries.Load(key); ok {
		return v.(*weighed).value
	}
	old := m.old.Load()
	if old == nil {
		return nil
	}
	v, ok := old.entries.Load(key)
	if !ok {
		return nil
	}
	w := v.(*weighed)
	m.put(key, w)
	return w.value
}

// Add remembers value, of about this many bytes.
func (m *Memo) Add(key, value any, bytes int) {
	m.put(key, &weighed{value, int64(bytes + memoOverhead)})
}

func (m *Memo) put(key any, w *weighed) {
	young := m.young.Load()
	if young == nil || young.bytes.Load() >= memoBytes {
		young = m.turn(young)
	}
	if _, loaded := young.entries.LoadOrStore(key, w); !loaded {
		young.bytes.Add(w.bytes)
	}
}

// turn begins a new generation unless somebody else did.
func (m *Memo) turn(full *generation) *generation {
	m.mu.Lock()
	defer m.mu.Unlock()
	if young := m.young.Load(); young != full {
		return young
	}
	next := &generation{}
	m.old.Store(full)
	m.young.Store(next)
	return next
}
