// Package cache keeps answers of reads and knows when they are no longer what the server would say. It does no I/O: sessions ask it
// before they ask a server, tell it what comes back, and tell it of every write before the server can commit it and after
// the server has. DESIGN.md has the argument why no client of the proxy is ever served an answer older than a write that anybody
// has been told of.
package cache

import (
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"time"

	"pgtier/router/tags"
)

type counter = atomic.Uint64

// Config says what is kept. It is a plain value.
type Config struct {
	Memory   int64         // bytes, of keys, answers and what is known of them
	MaxEntry int64         // bytes of the longest answer kept
	TTL      time.Duration // how long an answer is served
	// MaxDelay is how late it may be known that something was written past the proxy; 0: such writes are not followed, and TTL
	// alone bounds the age of what is served.
	MaxDelay time.Duration
	// StaleOnError is how old an answer may be that is given because no server is there to ask; 0 gives none.
	StaleOnError time.Duration
}

// Cache keeps the answers of one database, or of one shard of it. Its methods are safe for concurrent use, but for what belongs to a Write or a Fill.
type Cache struct {
	config  atomic.Pointer[Config]
	ledger  *ledger
	store   Store
	flights flights
	claims  claims
	order   counter // of changes of the catalog, and of all else that ends everything
	defined counter // of changes of the catalog alone
	faces   *faces
	records *records
	away    atomic.Uint32 // Aways: while there is one, nothing is served or kept
	fresh   atomic.Int64  // clock: what was written past the proxy until then is known

	// Totals since the start.
	Hits, Misses counter
	Shared       counter // hits that waited for somebody else's question
	Passed       counter // reads that went to a server because a write was under way
	Kept         counter
	Stale        counter      // answers given because no server was there to ask
	Writes       counter      // transactions that ended answers
	Flushes      counter      // of everything
	Unknown      atomic.Int64 // transactions now of which nobody knows what has become
}

// New makes a Cache.
func New(config Config) *Cache {
	return makeCache(config, &faces{}, &records{})
}

// Sibling makes a Cache for another shard of c's database. The two share what is known of faces and statements, and nothing else.
func (c *Cache) Sibling(config Config) *Cache { return makeCache(config, c.faces, c.records) }

func makeCache(config Config, faces *faces, records *records) *Cache {
	c := &Cache{ledger: newLedger(config.Memory), store: newFrequent(config.Memory), faces: faces, records: records}
	c.config.Store(&config)
	c.flights.init()
	return c
}

// Config is what is in force. It must not be changed.
func (c *Cache) Config() *Config { return c.config.Load() }

// Configure puts config in force. Answers that are kept keep their time.
func (c *Cache) Configure(config Config) {
	c.config.Store(&config)
	c.store.Resize(config.Memory)
}

// Answer is what a server said. It is immutable.
type Answer struct {
	// Bytes are the messages as the client gets them, ReadyForQuery included.
	Bytes []byte
	// Shown is where a session stands that has seen it; of an answer that several shards have made, Shards says that of each.
	Shown  Shown
	Shards []ShownBy
	// Tables are those that the statement may look at, of which only purges ask.
	Tables []string
	kept   int64 // clock when the server was asked
	until  int64 // clock up to which it is served
	stamps []stamp
	// defined is Cache.defined when the server was asked.
	defined uint64
	beside  []stamped // what it depends on in the Caches of other shards
}

// stamped are the stamps of one Cache.
type stamped struct {
	of     *Cache
	stamps []stamp
	found  []stamp // of a Fill: those that matter if the answer has rows
}

// Shown is what an answer has shown: a position that is known by a ticket, on a replica or, if that is "", the manager.
type Shown struct {
	Ticket  uint64
	Replica string
	At      int64 // clock, from which on the replica had not crashed when it answered
}

// ShownBy is what one shard has shown, by the caller's number for it.
type ShownBy struct {
	Shard int
	Shown
}

// answerOverhead is about what Go and the Store need for one answer beside its bytes and key, in bytes.
const answerOverhead = 300

func (a *Answer) cost(key int) int64 {
	n := int64(key + len(a.Bytes) + 16*len(a.stamps) + answerOverhead + 64*len(a.Shards))
	for i := range a.beside {
		n += 64 + 16*int64(len(a.beside[i].stamps))
	}
	return n
}

// Age is how long ago the server was asked.
func (a *Answer) Age(now int64) time.Duration { return time.Duration(now - a.kept) }

// Lookup returns the answer to key that the manager would give now, nil if it is not known. now is the sessions' clock, in
// nanoseconds. It does not allocate and takes no lock.
func (c *Cache) Lookup(key []byte, now int64) *Answer {
	if !c.knows(now) {
		return nil
	}
	a := c.store.Find(key)
	if a == nil || now >= a.until || !c.ledger.hold(a.stamps) || !held(a.beside, now) {
		return nil
	}
	return a
}

// held reports whether nothing was written to what is stamped, nor is under way, in any of the Caches, as far as they know by now.
func held(list []stamped, now int64) bool {
	for i := range list {
		if s := &list[i]; !s.of.knows(now) || !s.of.ledger.hold(s.stamps) {
			return GuardBeside.Off()
		}
	}
	return true
}

// Last returns the last answer to key, which may have become another since, if it is young enough to be given where no
// server can be asked. One from before a change of the catalog is none: who asks may have lost the right to it.
func (c *Cache) Last(key []byte, now int64) *Answer {
	a := c.store.Find(key)
	if a == nil || a.Age(now) > c.Config().StaleOnError || a.defined != c.defined.Load() {
		return nil
	}
	return a
}

// Away is a reason why nothing is served and kept.
type Away uint32

// The reasons.
const (
	Starting    Away = 1 << iota // transactions are under way that began before there was a cache
	Unfollowed                   // writes past the proxy are not followed
	SwitchedOff                  // the configuration has no cache any more
	Apart                        // a statement for one shard may have changed its schema, which is then not the one that statements are judged by
)

// StandAside has nothing served and kept as long as there is a reason. What was kept is given up when it comes: nobody knows what is
// written meanwhile.
func (c *Cache) StandAside(why Away, on bool) {
	if !on {
		c.away.And(^uint32(why))
		return
	}
	if c.away.Or(uint32(why)) == 0 {
		c.Flush()
	}
}

// Away are the reasons why nothing is served now; 0 if there are none.
func (c *Cache) Away() Away { return Away(c.away.Load()) }

// Fresh says that everything is known that was written past the proxy until then, in the sessions' clock: it was noted and claimed.
func (c *Cache) Fresh(at int64) { c.fresh.Store(at) }

// Silent reports whether what was written past the proxy is known too late for anything to be served.
func (c *Cache) Silent(now int64) bool {
	most := c.Config().MaxDelay
	return most > 0 && now-c.fresh.Load() > int64(most)
}

// knows reports whether what is kept may be served.
func (c *Cache) knows(now int64) bool {
	return c.away.Load() == 0 && (!c.Silent(now) || GuardSilent.Off())
}

// Size is about how many answers are kept, and the bytes that they take.
func (c *Cache) Size() (answers int, bytes int64) { return c.store.Size() }

// Evicted is how many answers were given up for want of room.
func (c *Cache) Evicted() uint64 { return c.store.Evicted() }

// Purge gives up all answers, and those on their way. It returns how many there were.
func (c *Cache) Purge() (n int) {
	n, _ = c.store.Size()
	c.store.Clear()
	c.Flush() // for those on their way
	return n
}

// PurgeOf gives up the answers that depend on one of the tags or may look at the table, as "schema.name", and those on their way. "" is no table. It
// returns how many there were.
func (c *Cache) PurgeOf(list []tags.Tag, table string) int {
	var w Write
	c.Note(&w, list, c.Order())
	c.Claim(&w) // first: what is on its way is not kept
	slots := slices.Clone(w.noted)
	var keys []string
	c.store.Each(func(key string, a *Answer) bool {
		if table != "" && slices.Contains(a.Tables, table) || slices.ContainsFunc(a.stamps, func(s stamp) bool { return slices.Contains(slots, s.slot) }) {
			keys = append(keys, key)
		}
		return true
	})
	for _, key := range keys {
		c.store.Drop(key)
	}
	c.End(&w, true)
	return len(keys)
}

// until is the end of an answer's time that was asked for now: answers that came together do not all go together.
func (c *Cache) until(now int64) int64 {
	ttl := int64(c.Config().TTL)
	return now + ttl - rand.Int64N(ttl/ttlJitter+1)
}

// ttlJitter is the part of its time by which an answer may be given up earlier.
const ttlJitter = 10
