package cache

import "sync"

// Face numbers what answers depend on beside the statement and its values: who asks, under which settings. 0 is none.
type Face uint64

// maxFaces bounds the faces that are known; then all are numbered anew, and what was kept for them is not found again. Each is
// about 500 bytes.
const maxFaces = 10_000

// Related reports whether the two have the same numbers for faces.
func (c *Cache) Related(o *Cache) bool { return o != nil && c.faces == o.faces }

// faces are numbered by what they are made of. The zero value knows none.
type faces struct {
	mu   sync.Mutex
	of   map[string]Face
	last Face
}

// Face returns the number of what is spelled. Equal spellings have equal numbers, others different ones.
func (c *Cache) Face(spelled []byte) Face {
	f := c.faces
	f.mu.Lock()
	defer f.mu.Unlock()
	if n, ok := f.of[string(spelled)]; ok {
		return n
	}
	if f.of == nil || len(f.of) >= maxFaces {
		f.of = make(map[string]Face)
	}
	f.last++
	f.of[string(spelled)] = f.last
	return f.last
}
