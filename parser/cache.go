package parser

import (
	"bytes"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"unsafe"
)

const (
	// MaxCached is the longest template, in bytes, that is remembered. Longer ones are rare and would push out many others.
	MaxCached = 64 << 10
	// MaxText is the longest text, in bytes, that is analysed. A parse tree takes up to 100 times its text.
	MaxText = 1 << 20

	// minShard keeps a shard big enough for the longest template and its facts a few times over.
	minShard  = 256 << 10
	maxShards = 16

	// maxShort is the longest text, in bytes, whose template is made on the stack: most statements of an application that
	// sends simple queries are shorter. A template is at most shortFactor times its text: a token of one byte becomes a
	// mark of two and a space.
	maxShort    = 160
	shortFactor = 3

	// recentEntries is how many entries of a shard are found without its lock: a power of two, half a kilobyte a shard.
	recentEntries = 64
)

// Cache maps SQL text to Statements. It is safe for concurrent use. A hit takes no lock that a miss holds while it parses.
type Cache struct {
	seed   maphash.Seed
	shards []shard // fixed after NewCache; the length is a power of two

	// shapes holds entries whose shape has this place. Set while the entry's shard is locked, at least for reading, and
	// cleared under its lock when the entry goes. None is moved: its shard may not be the one that is locked.
	shapes [shapePlaces]shapePlaceEntries
	turn   atomic.Uint32 // whose way is next at a place that is full
}

// shapePlaceEntries are the entries of one place, in no order.
type shapePlaceEntries [shapeWays]atomic.Pointer[entry]

// CacheStats are counts since the cache was made, and what it holds now.
type CacheStats struct {
	Entries   int64
	Bytes     int64 // estimate
	Hits      uint64
	Misses    uint64 // each is one parse; texts too long to remember always miss
	Evictions uint64
}

// shard is a part of the cache with a clock for eviction.
type shard struct {
	hits, misses atomic.Uint64

	// recent holds entries of the map that were found last, by the upper half of their hash. Set under mu, at least for
	// reading, and cleared under mu when the entry goes, so that it holds nothing that the map does not.
	recent [recentEntries]atomic.Pointer[entry]

	mu        sync.RWMutex
	entries   map[uint64]*entry // guarded by mu
	clock     []*entry          // guarded by mu; nil where an entry was taken out
	free      []int             // guarded by mu; the places on the clock that are nil
	hand      int               // guarded by mu
	count     int64             // guarded by mu
	bytes     int64             // guarded by mu
	maxBytes  int64             // fixed
	evictions uint64            // guarded by mu
	_         [64]byte          // keeps neighbours off this cache line
}

type entry struct {
	hash      uint64
	key       string
	verbatim  bool
	shape     *shape // nil: it has none
	statement *Statement
	bytes     int64
	used      atomic.Bool
	next      *entry // same hash; guarded by the shard's mu
}

// NewCache makes a cache that holds at most about maxBytes of templates and facts. With maxBytes 0 or less nothing is remembered.
func NewCache(maxBytes int64) *Cache {
	n := 1
	for n < maxShards && maxBytes/int64(2*n) >= minShard {
		n *= 2
	}
	c := &Cache{seed: maphash.MakeSeed(), shards: make([]shard, n)}
	for i := range c.shards {
		c.shards[i].entries = make(map[uint64]*entry)
		c.shards[i].maxBytes = maxBytes / int64(n)
	}
	return c
}

// keyBuffer is scratch memory for one template.
type keyBuffer struct{ b []byte }

// keyBuffers holds scratch memory between calls; every buffer is MaxCached long, so none grows.
var keyBuffers = sync.Pool{New: func() any { return &keyBuffer{b: make([]byte, 0, MaxCached)} }}

// Statement returns the facts of sql: never nil, never an error. Text that the grammar rejects gives a Statement with
// Unparsed set. A hit does not allocate; sql is not retained.
func (c *Cache) Statement(sql []byte) *Statement {
	if len(sql) > MaxText {
		st := &Statement{Unparsed: true, Pin: pinTooLarge, Literals: true, Effects: glance(sql)}
		st.readHints(sql)
		return st
	}
	if st := c.byShape(sql); st != nil {
		return st
	}
	if len(sql) <= maxShort {
		var short [shortFactor * maxShort]byte
		return c.statement(short[:0], sql)
	}
	buf := keyBuffers.Get().(*keyBuffer)
	defer keyBuffers.Put(buf)
	return c.statement(buf.b[:0], sql)
}

// statement is Statement with empty scratch memory for the template.
func (c *Cache) statement(scratch, sql []byte) *Statement {
	key, verbatim, ok := template(scratch, sql)
	if verbatim {
		key, ok = sql, len(sql) <= MaxCached
	}
	if !ok {
		c.shards[0].misses.Add(1)
		return analyse(string(sql))
	}
	hash := maphash.Bytes(c.seed, key)
	s := &c.shards[hash&uint64(len(c.shards)-1)]
	if st := s.find(c, hash, key, verbatim); st != nil {
		s.hits.Add(1)
		return st
	}
	s.misses.Add(1)
	text := string(sql)
	e := &entry{hash: hash, verbatim: verbatim, statement: analyse(text)}
	e.statement.Template = string(key)
	e.key = e.statement.Template
	if !verbatim {
		e.shape = shapeOf(text)
	}
	return s.add(c, e)
}

// byShape finds the statement of a text that differs from an earlier one in integers only; nil when there is none.
func (c *Cache) byShape(sql []byte) *Statement {
	place := &c.shapes[shapePlace(sql)]
	for i := range place {
		if e := place[i].Load(); e != nil && e.shape.matches(sql) {
			c.shards[e.hash&uint64(len(c.shards)-1)].hits.Add(1)
			return e.use()
		}
	}
	return nil
}

// showShape lets byShape find e, whose shard is locked.
func (c *Cache) showShape(e *entry) {
	place := &c.shapes[e.shape.place]
	free := -1
	for i := range place {
		switch place[i].Load() {
		case e:
			return
		case nil:
			free = i
		}
	}
	if free < 0 {
		free = int(c.turn.Add(1) % shapeWays)
	}
	place[free].Store(e)
}

// hideShape undoes showShape.
func (c *Cache) hideShape(e *entry) {
	place := &c.shapes[e.shape.place]
	for i := range place {
		place[i].CompareAndSwap(e, nil)
	}
}

// Stats sums the shards. The figures of different shards are not from one instant.
func (c *Cache) Stats() CacheStats {
	var t CacheStats
	for i := range c.shards {
		s := &c.shards[i]
		t.Hits += s.hits.Load()
		t.Misses += s.misses.Load()
		s.mu.RLock()
		t.Bytes += s.bytes
		t.Evictions += s.evictions
		t.Entries += s.count
		s.mu.RUnlock()
	}
	return t
}

// find compares whole keys, so that no collision of hashes ever mixes two texts.
func (s *shard) find(c *Cache, hash uint64, key []byte, verbatim bool) *Statement {
	recent := s.recentOf(hash)
	if e := recent.Load(); e != nil && e.hash == hash && e.matches(key, verbatim) {
		return e.use()
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	for e := s.entries[hash]; e != nil; e = e.next {
		if e.matches(key, verbatim) {
			recent.Store(e)
			if e.shape != nil {
				c.showShape(e)
			}
			return e.use()
		}
	}
	return nil
}

func (s *shard) recentOf(hash uint64) *atomic.Pointer[entry] {
	return &s.recent[hash>>32%recentEntries]
}

func (e *entry) matches(key []byte, verbatim bool) bool {
	return e.verbatim == verbatim && bytes.Equal(unsafe.Slice(unsafe.StringData(e.key), len(e.key)), key)
}

// use spares the entry the next time the hand of the clock passes.
func (e *entry) use() *Statement {
	if !e.used.Load() {
		e.used.Store(true)
	}
	return e.statement
}

// add remembers e and returns its statement, or the equal one that another goroutine added first.
func (s *shard) add(c *Cache, e *entry) *Statement {
	e.bytes = int64(unsafe.Sizeof(*e)) + e.shape.bytes() + e.statement.bytes() + entryOverhead
	s.mu.Lock()
	defer s.mu.Unlock()
	for o := s.entries[e.hash]; o != nil; o = o.next {
		if o.verbatim == e.verbatim && o.key == e.key {
			return o.statement
		}
	}
	if e.bytes > s.maxBytes {
		return e.statement
	}
	s.makeRoom(c, e.bytes)
	e.next = s.entries[e.hash]
	s.entries[e.hash] = e
	s.bytes += e.bytes
	s.count++
	if last := len(s.free) - 1; last >= 0 {
		s.clock[s.free[last]] = e
		s.free = s.free[:last]
	} else {
		s.clock = append(s.clock, e)
	}
	return e.statement
}

// makeRoom evicts until n bytes fit. An entry used since the hand last passed is spared once. The caller holds mu.
func (s *shard) makeRoom(c *Cache, n int64) {
	for s.bytes+n > s.maxBytes {
		if e := s.clock[s.hand]; e != nil && !e.used.Swap(false) {
			s.remove(c, e)
			s.clock[s.hand] = nil
			s.free = append(s.free, s.hand)
			s.evictions++
		}
		s.hand = (s.hand + 1) % len(s.clock)
	}
}

func (s *shard) remove(c *Cache, e *entry) {
	s.bytes -= e.bytes
	s.count--
	s.recentOf(e.hash).CompareAndSwap(e, nil)
	if e.shape != nil {
		c.hideShape(e)
	}
	if s.entries[e.hash] == e {
		if e.next == nil {
			delete(s.entries, e.hash)
		} else {
			s.entries[e.hash] = e.next
		}
		return
	}
	for o := s.entries[e.hash]; o != nil; o = o.next {
		if o.next == e {
			o.next = e.next
			return
		}
	}
}

// entryOverhead is the map slot and the clock slot of an entry, with the room that growing leaves unused.
const entryOverhead = 64

// bytes estimates the memory of s with all its strings.
func (s *Statement) bytes() int64 {
	n := int64(unsafe.Sizeof(*s)) + int64(len(s.Template))
	n += int64(len(s.HintError) + len(s.Pin))
	for _, h := range s.Hints {
		n += int64(unsafe.Sizeof(h)) + int64(len(h.Name)+len(h.Value))
	}
	for i := range s.Commands {
		n += s.Commands[i].bytes()
	}
	return n
}

func (c *Command) bytes() int64 {
	n := int64(unsafe.Sizeof(*c)) + int64(len(c.Channel)+len(c.Name)+len(c.Pin))
	for _, list := range [][]string{c.Settings, c.Functions, c.Builtins, c.Relations, c.Locals, c.Restores, c.Attributes, c.Sets, c.Keywords, c.SystemColumns,
		c.Derived} {
		for _, s := range list {
			n += int64(unsafe.Sizeof(s)) + int64(len(s))
		}
	}
	for _, inner := range []*Command{c.Prepared, c.Explained} {
		if inner != nil {
			n += inner.bytes()
		}
	}
	return n + c.factBytes()
}

// factBytes estimates the memory of the lists of facts.
func (c *Command) factBytes() int64 {
	n := int64(len(c.Transaction.Isolation) + len(c.Assigned.Name) + len(c.Assigned.Value))
	for i := range c.Configured {
		n += int64(unsafe.Sizeof(c.Configured[i])) + int64(len(c.Configured[i].Name)+len(c.Configured[i].Value))
	}
	for _, t := range c.Tables {
		n += int64(unsafe.Sizeof(t)) + int64(len(t.Schema)+len(t.Name))
	}
	for _, f := range c.Calls {
		n += int64(unsafe.Sizeof(f)) + int64(len(f.Schema)+len(f.Name)+len(f.First))
	}
	for _, list := range [][]Named{c.Operators, c.Types} {
		for _, name := range list {
			n += int64(unsafe.Sizeof(name)) + int64(len(name.Schema)+len(name.Name))
		}
	}
	for _, cast := range c.Casts {
		n += int64(unsafe.Sizeof(cast)) + int64(len(cast.Type.Schema)+len(cast.Type.Name))
		for _, list := range [][]string{cast.Columns, cast.Calls, cast.Operators} {
			for _, s := range list {
				n += int64(unsafe.Sizeof(s)) + int64(len(s))
			}
		}
	}
	for _, cmp := range c.Compared {
		n += int64(unsafe.Sizeof(cmp)) + int64(len(cmp.Column))
		for _, v := range cmp.Values {
			n += v.bytes()
		}
	}
	return n + c.Inserted.bytes()
}

// bytes estimates the memory of v.
func (v Value) bytes() int64 {
	return int64(unsafe.Sizeof(v)) + int64(len(v.Text)+len(v.Cast.Schema)+len(v.Cast.Name))
}
