package stream

import (
	"context"
	"sync"
	"time"
)

// defaultDurable is how often positions are made durable: one wait for the disk each.
const defaultDurable = time.Second

// marksMost is how many markers are remembered that nobody has asked for yet.
const marksMost = 1024

// ApplyConfig says what an Applier does.
type ApplyConfig struct {
	Source, Target Server
	// Slot and Publication are the source's, Origin the target's. All must be there.
	Slot, Publication, Origin string
	// Ignore are the origins whose transactions are passed over: that of the stream in the other direction.
	Ignore []string
	// Layout has the tables of the publication.
	Layout Layout
	// Durable is how often positions are made durable and confirmed to the source; 0 is a second.
	Durable time.Duration
}

func (c *ApplyConfig) durable() time.Duration {
	if c.Durable <= 0 {
		return defaultDurable
	}
	return c.Durable
}

// Applier carries one stream: what was committed at the source since the slot was made is committed at the target, each row exactly once, several of the source's
// transactions in one. Its methods are safe for concurrent use, Run by one goroutine at a time.
type Applier struct {
	config ApplyConfig

	mu         sync.Mutex
	changed    chan struct{} // closed, and another put in its place, with each change of what follows
	status     ApplyStatus
	generation int // of the attachment; odd while attached
	marks      map[string]bool
	order      []string // of marks
}

// NewApplier makes an Applier that is not attached.
func NewApplier(config ApplyConfig) *Applier {
	return &Applier{config: config, changed: make(chan struct{}), marks: map[string]bool{}}
}

// ApplyStatus is how far a stream is.
type ApplyStatus struct {
	Attached bool
	// Applied and Durable are positions in the source's log: all that was committed before is at the target, and on its disk. SourceEnd is
	// the newest that the source has told.
	Applied, Durable, SourceEnd LSN
	// LagBytes is how much log there is between SourceEnd and Applied. It need not become 0: wait for a marker instead.
	LagBytes int64
	// LastCommit is when the source committed what was applied last.
	LastCommit time.Time
	// Transactions, their Rows, and how many transactions were passed over, since NewApplier.
	Transactions, Rows, Ignored uint64
}

// Status may be asked from any goroutine.
func (a *Applier) Status() ApplyStatus {
	a.mu.Lock()
	defer a.mu.Unlock()
	s := a.status
	s.Attached = a.generation%2 == 1
	s.LagBytes = max(0, int64(s.SourceEnd)-int64(s.Applied))
	return s
}

// Await returns nil when the marker and all before it are committed at the target, and on its disk. It waits for the stream to be attached, and fails with ErrDetached when the stream
// breaks while it waits. A marker can be waited for once.
func (a *Applier) Await(ctx context.Context, marker string) error {
	attached := 0
	for {
		a.mu.Lock()
		seen, generation, changed := a.marks[marker], a.generation, a.changed
		delete(a.marks, marker)
		a.mu.Unlock()
		switch {
		case seen:
			return nil
		case attached != 0 && generation != attached:
			return ErrDetached
		case generation%2 == 1:
			attached = generation
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-changed:
		}
	}
}

// Barrier returns nil when all that was committed at the source before the call is committed at the target. It emits markers until one arrives.
func (a *Applier) Barrier(ctx context.Context) error {
	_, err := a.Lag(ctx)
	return err
}

// Lag is Barrier, and returns how long the marker that arrived was under way: from before it was written at the source until it was on the target's disk. What it takes to log in to the
// source for that is no lag.
func (a *Applier) Lag(ctx context.Context) (time.Duration, error) {
	for {
		took, err := a.lag(ctx)
		if err != ErrDetached { //nolint:errorlint // Await returns it as it is
			return took, err
		}
	}
}

func (a *Applier) lag(ctx context.Context) (time.Duration, error) {
	conn, err := a.config.Source.connect(ctx)
	if err != nil {
		return 0, err
	}
	defer hangUp(conn)
	marker, began := NewMarker(), time.Now()
	if err := Emit(ctx, conn, marker); err != nil {
		return 0, err
	}
	if err := a.Await(ctx, marker); err != nil {
		return 0, err
	}
	return time.Since(began), nil
}

// wake tells all who wait that something has changed. mu must be held.
func (a *Applier) wake() {
	close(a.changed)
	a.changed = make(chan struct{})
}

// turn notes that the stream has come to run, or runs no more.
func (a *Applier) turn() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.generation++
	a.wake()
}

// heard notes how far the source is.
func (a *Applier) heard(end LSN) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status.SourceEnd = max(a.status.SourceEnd, end)
}

// count notes a transaction.
func (a *Applier) count(rows int, ignored bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if ignored {
		a.status.Ignored++
		return
	}
	a.status.Transactions++
	a.status.Rows += uint64(rows)
}

// advance notes how far the target is, and the markers on the way.
func (a *Applier) advance(applied, durable LSN, when time.Time, marks []string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.status.Applied, a.status.Durable, a.status.LastCommit = applied, durable, when
	a.status.SourceEnd = max(a.status.SourceEnd, applied)
	for _, m := range marks {
		if len(a.order) >= marksMost {
			delete(a.marks, a.order[0])
			a.order = a.order[1:]
		}
		a.marks[m] = true
		a.order = append(a.order, m)
	}
	if len(marks) > 0 {
		a.wake()
	}
}
