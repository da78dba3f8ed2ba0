package cache

import (
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"pgtier/proxy/wire"
	"pgtier/router/tags"
)

// Fill is a question under way whose answer may be kept. Whoever made it ends it, with Keep or Drop; others may wait for it.
type Fill struct {
	c      *Cache
	key    string
	stamps []stamp
	found  []stamp // those that matter if it has rows
	beside []stamped
	began  int64
	// defined is Cache.defined when it began.
	defined uint64
	// Tables are those that the statement may look at, Record what is known of it, Shards is what the shards have shown that have made the
	// answer together. All may be set before Keep.
	Tables []string
	Record *Record
	Shards []ShownBy

	ended  atomic.Bool
	answer *Answer // set before over is closed
	over   chan struct{}
}

// flights are the questions under way, by key. Safe for concurrent use.
type flights struct {
	seed   maphash.Seed
	shards [64]struct {
		sync.Mutex
		of map[string]*Fill
	}
}

func (f *flights) init() {
	f.seed = maphash.MakeSeed()
	for i := range f.shards {
		f.shards[i].of = make(map[string]*Fill)
	}
}

// Depends are the tags that an answer depends on.
type Depends struct {
	On    []tags.Tag // Everything among them
	Found []tags.Tag // those of On that it depends on if it has rows
	// Beside is what it depends on in the Caches of other shards.
	Beside []Part
}

// Part is what an answer depends on in the Cache of one more shard.
type Part struct {
	Of    *Cache
	Order Order // by which it was judged
	On    []tags.Tag
	Found []tags.Tag
}

// Ask begins a question to a server whose answer depends on the tags, as judged by the catalog since order. It must be called before the question is sent. nil: a
// write is under way, and the answer must not be kept. waits: somebody has asked the same since the last write, whose answer Wait
// returns; the Fill is then not the caller's to end.
func (c *Cache) Ask(key []byte, of Depends, order Order, now int64) (f *Fill, waits bool) {
	if c.away.Load() != 0 || c.Order() != order {
		return nil, false
	}
	f = &Fill{c: c, began: now, defined: c.defined.Load()}
	var quiet, beside bool
	f.stamps, quiet = c.ledger.stamps(make([]stamp, 0, len(of.On)), of.On)
	if f.beside, beside = stampedOf(of.Beside); !quiet || !beside {
		c.Passed.Add(1)
		return nil, false
	}
	f.found = c.ledger.among(f.stamps, of.Found)
	shard := &c.flights.shards[maphash.Bytes(c.flights.seed, key)%uint64(len(c.flights.shards))]
	shard.Lock()
	defer shard.Unlock()
	if other := shard.of[string(key)]; other != nil && (c.knows(now) && c.ledger.hold(other.stamps) && held(other.beside, now) || GuardFlight.Off()) {
		return other, true // asked before us, but after the last write: it sees what we must
	}
	f.key, f.over = string(key), make(chan struct{})
	shard.of[f.key] = f
	return f, false
}

// stampedOf are the parts' stamps. quiet is false if a write to one of them is under way, or its Cache stands aside.
func stampedOf(parts []Part) (list []stamped, quiet bool) {
	if len(parts) == 0 {
		return nil, true
	}
	list = make([]stamped, len(parts))
	for i := range parts {
		p, s := &parts[i], &list[i]
		if p.Of.away.Load() != 0 || p.Of.Order() != p.Order {
			return nil, false
		}
		s.of = p.Of
		if s.stamps, quiet = p.Of.ledger.stamps(make([]stamp, 0, len(p.On)), p.On); !quiet && !GuardBeside.Off() {
			return nil, false
		}
		s.found = p.Of.ledger.among(s.stamps, p.Found)
	}
	return list, true
}

// Keep ends the question with the server's answer, which is copied: the messages as the client gets them. An answer that is
// too long, or that something was written to meanwhile, is not kept. Only the first Keep or Drop counts.
func (f *Fill) Keep(answer []byte, shown Shown) {
	if f.ended.Swap(true) {
		return
	}
	c := f.c
	stamps := f.stamps
	if GuardKeep.Off() {
		stamps = slices.Clone(stamps) // others look at those of the question
		for i := range stamps {
			stamps[i].ended = c.ledger.slots[stamps[i].slot].Load()
		}
	}
	if !f.TooLong(len(answer)) && c.away.Load() == 0 && c.ledger.hold(stamps) && held(f.beside, f.began) {
		beside := f.beside
		if hasRows(answer) && !GuardKeep.Off() {
			stamps, beside = f.found, make([]stamped, len(f.beside)) // others look at those of the question
			for i := range f.beside {
				beside[i] = stamped{of: f.beside[i].of, stamps: f.beside[i].found}
			}
		}
		f.answer = &Answer{Bytes: append(make([]byte, 0, len(answer)), answer...), Shown: shown, Shards: f.Shards, Tables: f.Tables,
			kept: f.began, until: c.until(f.began), stamps: stamps, beside: beside, defined: f.defined}
		c.store.Keep(f.key, f.answer)
		c.Kept.Add(1)
		if f.Record != nil {
			f.Record.Kept.Add(1)
		}
	}
	f.leave()
}

// TooLong reports whether an answer of so many bytes is not kept because of that, and notes it if so.
func (f *Fill) TooLong(size int) bool {
	if int64(size) <= f.c.Config().MaxEntry {
		return false
	}
	if f.Record != nil {
		f.Record.Long.Add(1)
	}
	return true
}

// hasRows reports whether there is a row among the messages.
func hasRows(answer []byte) bool {
	for len(answer) > 0 {
		size, ok := wire.FrameSize(answer)
		if !ok || size == 0 || size > len(answer) {
			return false
		}
		if answer[0] == wire.MsgDataRow {
			return true
		}
		answer = answer[size:]
	}
	return false
}

// Drop ends the question without an answer that can be kept.
func (f *Fill) Drop() {
	if f.ended.Swap(true) {
		return
	}
	f.leave()
}

// leave lets those go on who wait, and later ones ask anew.
func (f *Fill) leave() {
	shard := &f.c.flights.shards[maphash.String(f.c.flights.seed, f.key)%uint64(len(f.c.flights.shards))]
	shard.Lock()
	if shard.of[f.key] == f {
		delete(shard.of, f.key)
	}
	shard.Unlock()
	close(f.over)
}

// Wait waits for somebody else's question and returns its answer, nil if there is none, limit has passed or stop is closed.
// The answer saw every write that anybody was told of before Ask.
func (f *Fill) Wait(stop <-chan struct{}, limit time.Duration) *Answer {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	select {
	case <-f.over:
	case <-stop:
		return nil
	case <-timer.C:
		return nil
	}
	return f.answer
}
