package wire

import "sync"

// Size classes of pooled buffers: startup packets fit the first, so that clients
// who say nothing cost little; most turns fit the second; a busy result stream
// reads through the third, so that a 100 KB answer costs two reads.
const (
	TinyBuffer  = 1 << 10
	SmallBuffer = 16 << 10
	LargeBuffer = 128 << 10
)

// Buffers hands out read and write buffers by size class. Safe for concurrent
// use. An idle connection holds none.
type Buffers struct {
	tiny, small, large sync.Pool

	answers *Buffers // fixed after NewBuffers
}

// Buffer is memory on loan from Buffers.
type Buffer struct {
	B    []byte // full capacity of its class
	home *sync.Pool
}

// NewBuffers returns an empty store.
func NewBuffers() *Buffers {
	b := newBuffers()
	b.answers = newBuffers()
	return b
}

// Answers is the store that answers of servers are read into. A turn holds a buffer of the client's and one of the
// server's, and a sync.Pool has one item of each processor at hand; the second costs several times as much.
func (b *Buffers) Answers() *Buffers { return b.answers }

func newBuffers() *Buffers {
	b := &Buffers{}
	b.tiny.New = func() any { return &Buffer{B: make([]byte, TinyBuffer), home: &b.tiny} }
	b.small.New = func() any { return &Buffer{B: make([]byte, SmallBuffer), home: &b.small} }
	b.large.New = func() any { return &Buffer{B: make([]byte, LargeBuffer), home: &b.large} }
	return b
}

// Get returns a buffer of at least n bytes. Above the largest class the
// buffer is made for this call and not kept afterwards.
func (b *Buffers) Get(n int) *Buffer {
	switch {
	case n <= TinyBuffer:
		return b.tiny.Get().(*Buffer)
	case n <= SmallBuffer:
		return b.small.Get().(*Buffer)
	case n <= LargeBuffer:
		return b.large.Get().(*Buffer)
	}
	return &Buffer{B: make([]byte, n)}
}

// Free gives the buffer back. The caller must not touch B afterwards.
func (b *Buffer) Free() {
	if b.home != nil {
		b.home.Put(b)
	}
}
