package fleet

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"pgtier/proxy/backend"
	"pgtier/router/balance"
	"pgtier/router/topology"
)

// Dial opens a connection to a server for the fleet's own questions, within ctx's deadline. Any role will do; one with
// pg_monitor sees a replica's change of timeline at once, and Promote needs EXECUTE on pg_promote.
type Dial func(ctx context.Context, server topology.Server) (*backend.Conn, error)

// Fleet watches the servers of one shard. All methods are safe for concurrent use; those that sessions call for each
// statement take no lock.
type Fleet struct {
	// Fixed after New.
	shard    string
	servers  []topology.Server // the configured manager first
	index    map[string]int    // by name
	cfg      Config
	log      *zap.Logger
	monitors []*monitor
	loads    []load

	view      atomic.Pointer[View]
	positions positions
	visible   atomic.Uint64 // guard.visible
	goal      atomic.Uint64 // the manager's last position, for replicas to reach
	sought    atomic.Uint64 // the highest position that Seek was told
	replayed  atomic.Uint64 // the highest position seen on a replica
	reads     demand        // somebody wants positions
	sights    demand        // somebody wants Visible

	mu      sync.Mutex
	hosts   []known // by index
	roles   roles
	history history
	guard   guard
	waiters map[chan struct{}]struct{}
	ended   chan struct{} // closed when Run is told to end
	lostAt  time.Time     // when the manager was lost; zero while there is one, and before the first
	window  time.Time     // when the counters of failures began
	order   promotion
}

// known is what the fleet knows of one server. Guarded by Fleet.mu.
type known struct {
	status   status    // its last answer
	sent     time.Time // when the question was sent that has status.position for an answer
	told     time.Time // when the question was sent that has the rest of status for an answer
	answered bool      // it answers now
	asked    bool      // it has answered or failed to
	failure  failure
	fenced   bool
	fence    uint32 // the timeline it was fenced on

	state     balance.State
	reason    string
	since     time.Time
	wasDown   bool      // it has been out, so it comes back warming up
	warmSince time.Time // zero: warm
	restUntil time.Time // ejected until then
}

// NotAsked is Host.Reason of a server that has neither answered nor failed to.
const NotAsked = "not asked yet"

// New returns a fleet of shard's servers, whose names must differ. It knows nothing before Run.
func New(shard topology.Shard, cfg Config, dial Dial, log *zap.Logger) *Fleet {
	servers := append([]topology.Server{shard.Manager}, shard.Replicas...)
	f := &Fleet{
		shard: shard.Name, servers: servers, index: make(map[string]int, len(servers)), cfg: cfg,
		log: log.With(zap.String("shard", shard.Name)), loads: make([]load, len(servers)),
		positions: newPositions(), hosts: make([]known, len(servers)), roles: roles{manager: -1, last: -1}, waiters: make(map[chan struct{}]struct{}),
		ended: make(chan struct{}),
	}
	for i, s := range servers {
		f.index[s.Name] = i
		f.hosts[i].failure = failure{state: balance.Down, reason: NotAsked}
		f.monitors = append(f.monitors, newMonitor(f, i, dial))
	}
	f.mu.Lock()
	f.publish(time.Now())
	f.mu.Unlock()
	return f
}

// tickEvery is how often the fleet looks at what time alone changes: lags without news, rests and counters that run out,
// demand that has ceased.
const tickEvery = time.Second

// Run watches the servers until ctx ends, and returns when its goroutines have ended: at once, or within Config.Silence
// when a server is silent just then. It may run once.
func (f *Fleet) Run(ctx context.Context) {
	context.AfterFunc(ctx, func() { close(f.ended) })
	var wg sync.WaitGroup
	for _, m := range f.monitors {
		wg.Go(func() { m.run(ctx) }) // ended by ctx
	}
	ticker := time.NewTicker(tickEvery)
	defer ticker.Stop()
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case now := <-ticker.C:
			f.reads.tick()
			f.sights.tick()
			f.mu.Lock()
			f.publish(now)
			f.mu.Unlock()
		}
	}
	wg.Wait()
}

// View returns what the fleet knows now. It is never nil, and one atomic load.
func (f *Fleet) View() *View { return f.view.Load() }

// ErrEnded is returned to those who wait when Run has been told to end.
var ErrEnded = errors.New("the watch of the servers has ended")

// AwaitManager waits until there is a manager and returns the View that has it. notEpoch is the View.Epoch whose manager
// was lost, 0 for none: that manager satisfies only once it has answered a question that was sent after the call. The
// error is ctx's, or ErrEnded.
func (f *Fleet) AwaitManager(ctx context.Context, notEpoch uint64) (*View, error) {
	wake := make(chan struct{}, 1)
	f.mu.Lock()
	f.waiters[wake] = struct{}{}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		delete(f.waiters, wake)
		f.mu.Unlock()
	}()
	proof := f.positions.next()
	for {
		v := f.View()
		if v.Manager >= 0 && (v.Epoch != notEpoch || f.positions.answered.Load() >= uint64(proof)) {
			return v, nil
		}
		if v.Manager >= 0 && f.positions.want(proof) {
			f.monitors[v.Manager].look()
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-f.ended:
			return nil, ErrEnded
		case <-wake:
		}
	}
}

// heard takes a full answer of server i to question q, sent at sent. broken: the connection before the one that it came by was broken.
func (f *Fleet) heard(i int, q uint64, sent time.Time, s status, broken bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := &f.hosts[i]
	if i == f.roles.manager && (broken || s.position < h.status.position) {
		// It may have crashed, or has for certain, and lost the end of its log, too quickly for us to see it away. What follows is another log.
		f.roles.manager = -1
	}
	h.status, h.sent, h.told, h.answered, h.asked, h.failure = s, sent, sent, true, true, failure{}
	f.publish(time.Now())
	f.took(i, q, sent, s.role, s.position)
}

// moved takes a quick answer of server i to question q: its role is the one known, its position another.
func (f *Fleet) moved(i int, q uint64, sent time.Time, at balance.LSN) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := &f.hosts[i]
	h.status.position, h.sent = at, sent
	f.took(i, q, sent, h.status.role, at)
	f.publish(time.Now())
}

// took puts a position to its uses. f.mu is held.
func (f *Fleet) took(i int, q uint64, sent time.Time, role Role, at balance.LSN) {
	if i != f.roles.manager {
		if role == Replica && f.hosts[i].state >= balance.Lagging {
			raise(&f.replayed, uint64(at))
		}
		return
	}
	f.history.add(sent, at)
	f.positions.answer(q, at)
	if raise(&f.goal, uint64(at)) && f.reads.active() {
		f.pokeOthers(i)
	}
	f.wakeWaiters()
}

// sampled takes the transactions that ran on the manager after it was at the position at.
func (f *Fleet) sampled(i int, at balance.LSN, running []uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if i != f.roles.manager {
		return
	}
	f.guard.observe(at, running)
	f.visible.Store(uint64(f.guard.visible))
	if len(f.guard.doubtful()) > 0 {
		f.pokeOthers(i)
	}
}

// denied takes a replica's word that it knew none of ids as committed after it had replayed up to at.
func (f *Fleet) denied(i int, epoch uint64, at balance.LSN, ids []uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	// The word of a replica that does not follow the manager, or about ids of another manager, is worth nothing.
	if epoch != f.roles.epoch || f.hosts[i].state < balance.Lagging || i == f.roles.manager {
		return
	}
	f.guard.deny(at, ids)
	f.visible.Store(uint64(f.guard.visible))
}

// doubtful lists the transactions that replica i should be asked about, and the epoch they are of.
func (f *Fleet) doubtful() (ids []uint64, epoch uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.guard.doubtful(), f.roles.epoch
}

// failed takes that server i did not answer, or not as it should.
func (f *Fleet) failed(i int, why failure) {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := &f.hosts[i]
	h.answered, h.asked, h.failure = false, true, why
	f.publish(time.Now())
}

// wakeWaiters lets AwaitManager look again. f.mu is held.
func (f *Fleet) wakeWaiters() {
	for wake := range f.waiters {
		select {
		case wake <- struct{}{}:
		default: // it will look anyhow
		}
	}
}

// pokeManager makes the manager's monitor look whether a question is due.
func (f *Fleet) pokeManager() {
	if i := f.View().Manager; i >= 0 {
		f.monitors[i].poke()
	}
}

func (f *Fleet) pokeAll() { f.pokeOthers(-1) }

// pokeOthers makes all monitors but i's look whether a question is due.
func (f *Fleet) pokeOthers(i int) {
	for j, m := range f.monitors {
		if j != i {
			m.poke()
		}
	}
}
