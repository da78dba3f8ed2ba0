package session

import (
	"sync"
	"sync/atomic"
	"time"

	"pgtier/parser"
)

// record is what a statement has taken so far. All of it is atomic, because every answer touches it.
type record struct {
	took  atomic.Int64 // nanoseconds, moving average
	size  atomic.Int64 // bytes, of the largest answer
	least atomic.Int64 // bytes, of the smallest; 0 before the first
	count atomic.Uint32
}

// note adds one answer.
func (r *record) note(took time.Duration, size int) {
	old := r.took.Load()
	if r.count.Load() == 0 {
		old = int64(took)
	}
	r.took.Store(old + (int64(took)-old)/recordSmoothing)
	if int64(size) > r.size.Load() {
		r.size.Store(int64(size))
	}
	if least := r.least.Load(); least == 0 || int64(size) < least {
		r.least.Store(int64(size))
	}
	if r.count.Load() < recordEnough {
		r.count.Add(1)
	}
}

const (
	// recordSmoothing is the weight of the past: a statement that has become slow is seen to be after about eight answers.
	recordSmoothing = 8
	// recordEnough is how many answers it takes to believe that a statement is small and fast.
	recordEnough = 3
	// maxRecords bounds the statements remembered, each of at most maxPiped bytes of text; those still in use begin anew.
	maxRecords = 2000
)

// records are the records of one database's statements. The zero value is empty. Safe for concurrent use.
type records struct {
	of    sync.Map // *parser.Statement → *record
	count atomic.Int64
}

func (r *records) find(st *parser.Statement) *record {
	if got, ok := r.of.Load(st); ok {
		return got.(*record)
	}
	if r.count.Add(1) > maxRecords {
		r.of.Clear()
		r.count.Store(1)
	}
	got, _ := r.of.LoadOrStore(st, &record{})
	return got.(*record)
}
