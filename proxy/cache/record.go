package cache

import (
	"sync"
	"sync/atomic"
	"time"

	"pgtier/parser"
)

// Record is what keeping the answers of one statement has brought. Safe for concurrent use.
type Record struct {
	Text string // the template
	// Asked are the executions that could have been served, Hits those that were, Kept the answers that were kept, Long those that were longer than any that is.
	Asked, Hits, Kept, Long counter

	refused atomic.Pointer[string] // why its answers are not kept
	window  atomic.Uint64          // asked in the high half and hits in the low half since it was judged last
	rests   atomic.Int64           // clock until which it is not asked for
	failed  atomic.Int32           // how often in a row it did not pay
}

const (
	// judgeAfter is how many executions it takes to say whether a statement pays.
	judgeAfter = 1000
	// paysFrom is the share of hits, in hundredths, from which it does: a hit saves about 25 µs of processor time of proxy and server,
	// and one that is none costs about 4 µs (bench, cache-rare).
	paysFrom = 15
	// restFirst and restMost bound how long it is left alone then; the time doubles.
	restFirst = 10 * time.Second
	restMost  = 10 * time.Minute
)

// Rests reports whether the statement goes to the server unasked, because it did not pay.
func (r *Record) Rests(now int64) bool { return now < r.rests.Load() }

// Refused is why its answers are not kept, "" if they may be.
func (r *Record) Refused() string {
	if why := r.refused.Load(); why != nil {
		return *why
	}
	return ""
}

// Refuse notes why its answers are not kept; "" takes that back. The string is kept.
func (r *Record) Refuse(why *string) {
	if r.refused.Load() != why {
		r.refused.Store(why)
	}
}

// note counts an execution.
func (r *Record) note(hit bool, now int64) {
	r.Asked.Add(1)
	n := uint64(1 << 32)
	if hit {
		r.Hits.Add(1)
		n++
	}
	w := r.window.Add(n)
	if w>>32 < judgeAfter {
		return
	}
	if !r.window.CompareAndSwap(w, 0) {
		return // somebody else judges
	}
	if (w&(1<<32-1))*100 >= (w>>32)*paysFrom {
		r.failed.Store(0)
		return
	}
	rest := restFirst << min(r.failed.Add(1)-1, 10)
	r.rests.Store(now + int64(min(rest, restMost)))
}

// maxRecords bounds the statements remembered; those still in use begin anew.
const maxRecords = 2000

// records are those of a database's statements. The zero value is empty.
type records struct {
	of    sync.Map // *parser.Statement → *Record
	count atomic.Int64
}

// Record returns what is known of a statement.
func (c *Cache) Record(st *parser.Statement) *Record {
	if got, ok := c.records.of.Load(st); ok {
		return got.(*Record)
	}
	if c.records.count.Add(1) > maxRecords {
		c.records.of.Clear()
		c.records.count.Store(1)
	}
	got, _ := c.records.of.LoadOrStore(st, &Record{Text: st.Template})
	return got.(*Record)
}

// Records visits what is known of all statements.
func (c *Cache) Records(visit func(*Record)) {
	c.records.of.Range(func(_, r any) bool {
		visit(r.(*Record))
		return true
	})
}

// Hit counts an answer that was served.
func (c *Cache) Hit(r *Record, now int64) {
	c.Hits.Add(1)
	r.note(true, now)
}

// Miss counts an execution that goes to a server.
func (c *Cache) Miss(r *Record, now int64) {
	c.Misses.Add(1)
	r.note(false, now)
}
