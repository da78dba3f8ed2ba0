package follow

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Follower follows one manager's writes in one database. All methods are safe for concurrent use.
type Follower struct {
	// Fixed after New.
	cfg  Config
	dial Dial
	sink Sink
	log  *zap.Logger
	base time.Time // fresh counts from here

	fresh    atomic.Int64 // nanoseconds from base, of the latest proof; 0 none yet
	used     atomic.Bool  // Fresh was read since the last proof was asked for
	tables   atomic.Pointer[Tables]
	trouble  atomic.Pointer[trouble] // nil while writes are followed
	counters counters
	wanted   atomic.Uint64 // calls of Refresh
	looked   atomic.Uint64 // those that the last survey came behind

	wake    chan struct{} // holds one: somebody reads Fresh again
	refresh chan struct{} // holds one: tables may have come or gone
	reset   chan string   // holds one: why the stream must begin anew

	repeats repeats // owned by Run
}

// trouble is why nothing is followed.
type trouble struct{ err error }

// counters are what Stats shows.
type counters struct {
	transactions, rows, bytes, losses, nudges atomic.Uint64
	retained                                  atomic.Int64
	waiting                                   atomic.Int64
}

// Stats are a Follower's counters and its state.
type Stats struct {
	// Transactions and Rows were changed in published tables, in Bytes of messages. They only grow, over losses too.
	Transactions, Rows, Bytes uint64
	// Losses counts the calls of Sink.Lost.
	Losses uint64
	// Nudges counts the commits of our own that made the manager flush its log.
	Nudges uint64
	// Waiting commits are told and not yet visible.
	Waiting int
	// Retained is the write-ahead log that the slot retains on the manager, in bytes, as of the last Config.Survey.
	Retained int64
	// Fresh is what Follower.Fresh returns, without making it anew. Delay is how long ago that was, negative if it never was.
	Fresh time.Time
	Delay time.Duration
	// Tables is how many tables are followed; 0 while nothing is.
	Tables int
	// Trouble is why nothing is followed, nil while writes are. It is an *Unfit where somebody has to change something.
	Trouble error
}

// errNotYet is the trouble before Run.
var errNotYet = errors.New("following has not begun")

// New makes a Follower that tells sink of the writes to the server that dial leads to, once it runs. cfg must be valid.
func New(cfg Config, dial Dial, sink Sink, log *zap.Logger) *Follower {
	f := &Follower{cfg: cfg, dial: dial, sink: sink, log: log, base: time.Now(),
		wake: make(chan struct{}, 1), refresh: make(chan struct{}, 1), reset: make(chan string, 1)}
	f.tables.Store(&Tables{})
	f.trouble.Store(&trouble{errNotYet})
	return f
}

// Fresh is a moment for which this holds: of every transaction that was visible or acknowledged at it and changed a table in the
// last call of Resumed, the sink was told by Changing, or it was visible before that call. It never goes back, and stands still
// while nothing is followed. It is the zero time until something was proved. Reading it makes the Follower prove it anew every
// Config.Ask instead of every Config.Idle. It allocates nothing.
func (f *Follower) Fresh() time.Time {
	if !f.used.Load() {
		f.used.Store(true)
		poke(f.wake)
	}
	return f.lastFresh()
}

func (f *Follower) lastFresh() time.Time {
	at := f.fresh.Load()
	if at == 0 {
		return time.Time{}
	}
	return f.base.Add(time.Duration(at))
}

// Tables are those of the last call of Resumed, and why others are left out; those of before while nothing is followed.
func (f *Follower) Tables() *Tables { return f.tables.Load() }

// Refresh makes the Follower look for new tables at once. It does not block.
func (f *Follower) Refresh() {
	f.wanted.Add(1)
	poke(f.refresh)
}

// Looked reports whether Tables and the last call of Resumed have what there was at the last call of Refresh.
func (f *Follower) Looked() bool { return f.looked.Load() == f.wanted.Load() }

// Reset makes the Follower begin anew, with another manager for example: the sink is told Lost, and dial is called again. It
// does not block.
func (f *Follower) Reset(why string) {
	select {
	case f.reset <- why:
	default: // it will do so anyhow
	}
}

// Stats reads the counters.
func (f *Follower) Stats() Stats {
	c := &f.counters
	s := Stats{Transactions: c.transactions.Load(), Rows: c.rows.Load(), Bytes: c.bytes.Load(), Losses: c.losses.Load(),
		Nudges: c.nudges.Load(), Waiting: int(c.waiting.Load()), Retained: c.retained.Load(), Delay: -1}
	if s.Fresh = f.lastFresh(); !s.Fresh.IsZero() {
		s.Delay = time.Since(s.Fresh)
	}
	if t := f.trouble.Load(); t != nil {
		s.Trouble = t.err
	} else {
		s.Tables = f.tables.Load().Len()
	}
	return s
}

// poke leaves word in a channel that holds one.
func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// firstPause is the first pause between two attempts.
const firstPause = 50 * time.Millisecond

// Run follows until ctx ends, and leaves nothing behind on the server but the publication. Call it once.
func (f *Follower) Run(ctx context.Context) {
	pause := time.Duration(0)
	for {
		resumed, err := f.follow(ctx)
		if ctx.Err() != nil {
			return
		}
		if resumed {
			pause = 0
		}
		f.trouble.Store(&trouble{err})
		f.repeats.warn(f.log, "writes that go past pgtier are not followed", err, resumed)
		pause = min(max(2*pause, firstPause), f.cfg.RetryMost)
		rest := pause - rand.N(pause/4+1) // not all proxies at the same moment
		if errors.As(err, new(*Unfit)) {
			rest = max(rest, f.cfg.UnfitRest)
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(rest):
		case <-f.reset:
			pause = 0
		}
	}
}

// follow is one life of the stream. It returns whether the sink was told Resumed, and why it ended.
func (f *Follower) follow(ctx context.Context) (resumed bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer f.counters.retained.Store(0)
	a, err := openAsker(ctx, f.dial, &f.cfg)
	if err != nil {
		return false, fmt.Errorf("log in: %w", err)
	}
	defer a.close()
	near, err := f.prepare(ctx, a)
	if err != nil {
		return false, err
	}
	s, err := f.openStream(ctx, a)
	if err != nil {
		return false, err
	}
	defer s.close()
	c := newCourse(f, a, s, near)
	err = c.run(ctx)
	return c.resumed, err
}

// prepare checks the server, makes the publication, which must be there before the slot's first snapshot, and returns a
// transaction id of the present.
func (f *Follower) prepare(ctx context.Context, a *asker) (near uint64, err error) {
	defer context.AfterFunc(ctx, a.close)()
	if err := a.checkFitness(); err != nil {
		return 0, err
	}
	if err := a.ensurePublication(); err != nil {
		return 0, err
	}
	p, err := a.pulse()
	return p.seen.xmax, err
}

// repeatEvery is how often an error that stays the same is logged.
const repeatEvery = time.Minute

// repeats logs an error that comes again and again once an interval. It belongs to one goroutine.
type repeats struct {
	text  string
	at    time.Time
	count int
}

// warn logs err, unless the same was logged a short time ago and always is false.
func (r *repeats) warn(log *zap.Logger, message string, err error, always bool) {
	r.count++
	if text := err.Error(); !always && text == r.text && time.Since(r.at) < repeatEvery {
		return
	}
	log.Warn(message, zap.Error(err), zap.Int("attempts", r.count))
	r.text, r.at, r.count = err.Error(), time.Now(), 0
}
