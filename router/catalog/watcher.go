package catalog

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"pgtier/parser"
)

const (
	// BeingRead is the reason while a change that the proxy saw is not read yet.
	BeingRead = "catalog is being read again"
	// retryFirst and retryMost bound the pause after a read that ended in an error, which doubles.
	retryFirst = 100 * time.Millisecond
	retryMost  = 10 * time.Second
)

// Watcher keeps one database's Snapshot current. All methods are safe for concurrent use.
type Watcher struct {
	// fixed after NewWatcher
	q        Querier
	interval time.Duration
	log      *zap.Logger
	wake     chan struct{}

	extras   atomic.Pointer[[]Extra]
	snapshot atomic.Pointer[Snapshot]
	touched  atomic.Uint64 // changes announced
	seen     atomic.Uint64 // of those, how many had been announced before the last successful read began

	mu      sync.Mutex
	settled chan struct{} // guarded by mu; closed and replaced after each successful read
}

// NewWatcher makes a watcher that polls every interval once it runs; the interval must be positive. Until the first read its Snapshot is nil; those it
// reads have the extras.
func NewWatcher(q Querier, interval time.Duration, log *zap.Logger, extras ...Extra) *Watcher {
	w := &Watcher{q: q, interval: interval, log: log, wake: make(chan struct{}, 1), settled: make(chan struct{})}
	w.extras.Store(&extras)
	return w
}

// Want has the snapshots from now on have these extras. Wait returns when one is there that does.
func (w *Watcher) Want(extras ...Extra) {
	if !slices.Equal(*w.extras.Swap(&extras), extras) {
		w.Touch()
	}
}

// Run reads at once, then whenever a poll or Touch finds that the database changed, until ctx ends. Call it once. A read that fails keeps
// the last snapshot and is repeated soon.
func (w *Watcher) Run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	retry := retryFirst
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-w.wake:
		}
		err := w.refresh(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			if retry == retryFirst {
				w.log.Warn("catalog not read, the last known one stays in force", zap.Error(err))
			}
			timer.Reset(retry)
			retry = min(2*retry, retryMost)
			continue
		}
		retry = retryFirst
		timer.Reset(w.interval)
	}
}

// refresh loads a snapshot unless the one in force is current.
func (w *Watcher) refresh(ctx context.Context) error {
	touched := w.touched.Load()
	old := w.snapshot.Load()
	current := false
	if old != nil {
		version, err := Version(ctx, w.q, *w.extras.Load()...)
		if err != nil {
			return err
		}
		current = version == old.version
	}
	if !current {
		start := time.Now()
		s, err := Load(ctx, w.q, *w.extras.Load()...)
		if err != nil {
			return err
		}
		w.snapshot.Store(s)
		w.log.Debug("catalog read", zap.Int("risky", len(s.objects)), zap.Duration("took", time.Since(start)))
	}
	w.seen.Store(touched)
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.settled)
	w.settled = make(chan struct{})
	return nil
}

// Touch says that the catalog has changed: DDL was committed through the proxy. It does not block. Call it after the commit, before the client hears of it.
func (w *Watcher) Touch() {
	w.touched.Add(1)
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Pending says whether no snapshot is there yet, or a Touch is not answered.
func (w *Watcher) Pending() bool {
	return w.snapshot.Load() == nil || w.seen.Load() != w.touched.Load()
}

// Wait returns nil once a snapshot read after the last Touch before the call is in force, or ctx's error. Sessions that wait here instead
// of asking Pins at once are not pinned for a change that does not concern them.
func (w *Watcher) Wait(ctx context.Context) error {
	target := w.touched.Load()
	for {
		w.mu.Lock()
		settled := w.settled
		w.mu.Unlock()
		if w.snapshot.Load() != nil && w.seen.Load() >= target {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-settled:
		}
	}
}

// Snapshot returns the one in force, nil before the first read.
func (w *Watcher) Snapshot() *Snapshot { return w.snapshot.Load() }

// Mark is where a Watcher stands at a time.
type Mark struct {
	snapshot *Snapshot
	touched  uint64
}

// Mark returns where w stands.
func (w *Watcher) Mark() Mark {
	touched := w.touched.Load() // first: the snapshot is not older
	return Mark{w.snapshot.Load(), touched}
}

// Judges returns the Snapshot by which what ran between two Marks can be judged: the catalog was the same all the time, and is that. known is false as long as the
// changes announced before the second have not been read. The Snapshot is nil where the catalog may have been another in between.
func (w *Watcher) Judges(from, to Mark) (s *Snapshot, known bool) {
	if w.seen.Load() < to.touched {
		return nil, false
	}
	s = w.snapshot.Load() // after the counter: refresh stores that last
	if s != nil && s != from.snapshot && w.touched.Load() != from.touched {
		return nil, true
	}
	return s, s != nil
}

// Pins is Snapshot.Pins; while a change is pending, a statement that calls a function which is no harmless built-in pins.
func (w *Watcher) Pins(st *parser.Statement) string {
	unsettled := w.seen.Load() != w.touched.Load()
	s := w.snapshot.Load() // after the counters: refresh stores them last
	if unsettled && s != nil {
		for i := range st.Commands {
			if len(st.Commands[i].Functions) > 0 {
				return BeingRead
			}
		}
	}
	return s.Pins(st)
}

// Defines is Snapshot.Defines of the catalog as it was last read.
func (w *Watcher) Defines(st *parser.Statement) bool { return w.snapshot.Load().Defines(st) }

// Reading is Snapshot.Reading; while a change is pending nothing is proved.
func (w *Watcher) Reading(st *parser.Statement) *Reading {
	s, settled := w.current()
	if !settled {
		return readingPending
	}
	return s.Reading(st)
}

// Keeping is Snapshot.Keeping. While a change that was announced has not been read, nothing is kept.
func (w *Watcher) Keeping(st *parser.Statement) *Keeping {
	s, settled := w.current()
	if !settled {
		return keepingPending
	}
	return s.Keeping(st)
}

// CommandReading is Snapshot.CommandReading; while a change is pending nothing is proved.
func (w *Watcher) CommandReading(c *parser.Command) *Reading {
	s, settled := w.current()
	if !settled {
		return readingPending
	}
	return s.CommandReading(c)
}

// Written is Snapshot.Written; while a change is pending nothing is known.
func (w *Watcher) Written(c *parser.Command) (tables []string, all bool) {
	s, settled := w.current()
	if !settled {
		return nil, true
	}
	return s.Written(c)
}

// current is the snapshot in force, and whether it has all changes announced. Before the first read it is nil and counts as settled: the nil
// Snapshot knows its answer.
func (w *Watcher) current() (s *Snapshot, settled bool) {
	settled = w.seen.Load() == w.touched.Load()
	s = w.snapshot.Load() // after the counters: refresh stores them last
	return s, settled || s == nil
}
