package pool

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"go.uber.org/zap"
)

// Registry owns all pools of the proxy and their janitor. Make one with New, end it with Close. All methods may be
// called by any goroutine.
type Registry[S Server] struct {
	// Fixed after New.
	dial   Dial[S]
	limits *Limits
	log    *zap.Logger
	clock  clock
	wake   chan struct{} // capacity 1: the janitor has something to do
	ctx    context.Context
	stop   context.CancelFunc

	running sync.WaitGroup // the janitor, dials, closers; added to by the janitor or under the mu of a pool not shut

	mu     sync.Mutex
	pools  map[Key]*Pool[S]
	paused map[Scope]struct{} // in force, for pools yet to be made too
	closed bool
}

// New returns a Registry without pools and starts its janitor. limits belongs to this Registry from now on.
func New[S Server](dial Dial[S], limits *Limits, log *zap.Logger) *Registry[S] {
	r := &Registry[S]{
		dial: dial, limits: limits, log: log,
		clock:  newClock(),
		wake:   make(chan struct{}, 1),
		pools:  map[Key]*Pool[S]{},
		paused: map[Scope]struct{}{},
	}
	r.ctx, r.stop = context.WithCancel(context.Background())
	limits.onChange = r.kick
	r.running.Go(r.janitor) // ends with r.ctx; Close waits for it
	return r
}

// Pool returns the pool of key, made with cfg if there is none; min_idle is opened at once. An existing pool keeps its
// configuration: Reconfigure changes it. A caller that is going to Acquire uses Attach instead, because a pool without
// sessions and connections is retired after some minutes; an Acquire on such a pool returns an error.
func (r *Registry[S]) Pool(key Key, cfg *Config) *Pool[S] {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pool(key, cfg, func(*Pool[S]) {})
}

// Attach is Pool and Pool.Attach in one step. The session calls Pool.Detach when it is done with the pool.
func (r *Registry[S]) Attach(key Key, cfg *Config) *Pool[S] {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pool(key, cfg, func(p *Pool[S]) { p.clients++ })
}

// Keep is Pool for a pool that stays, with its min_idle, even when nobody uses it: those that the configuration names.
func (r *Registry[S]) Keep(key Key, cfg *Config) *Pool[S] {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pool(key, cfg, func(p *Pool[S]) { p.kept = true })
}

// pool finds or makes a pool and lets use mark it, with r.mu held. After Close it returns a pool that lends nothing.
func (r *Registry[S]) pool(key Key, cfg *Config, use func(*Pool[S])) *Pool[S] {
	p := r.pools[key]
	if p == nil {
		p = &Pool[S]{key: key, reg: r, dial: r.dial, slots: map[S]*slot[S]{}, claim: claim{key: key}}
		p.log = r.log.With(zap.String("database", key.Database), zap.String("role", key.Role), zap.String("server", key.Server))
		p.ctx, p.stop = context.WithCancel(r.ctx)
		p.cfg.Store(cfg)
		switch {
		case r.closed:
			p.phase, p.shutErr = shut, errShutdown()
		case r.pausedLocked(key):
			p.phase = paused
		}
		if !r.closed {
			r.pools[key] = p
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	use(p)
	p.usedAt = r.clock.now()
	p.startDials()
	return p
}

func (r *Registry[S]) pausedLocked(key Key) bool {
	for scope := range r.paused {
		if scope.Match(key) {
			return true
		}
	}
	return false
}

// snapshot copies the list of pools, so that they can be visited without r.mu.
func (r *Registry[S]) snapshot() []*Pool[S] {
	r.mu.Lock()
	defer r.mu.Unlock()
	pools := make([]*Pool[S], 0, len(r.pools))
	for _, p := range r.pools {
		pools = append(pools, p)
	}
	return pools
}

// within is snapshot for the pools in scope.
func (r *Registry[S]) within(scope Scope) []*Pool[S] {
	return slices.DeleteFunc(r.snapshot(), func(p *Pool[S]) bool { return !scope.Match(p.key) })
}

// Each calls visit for every pool, in no order and without a lock held.
func (r *Registry[S]) Each(visit func(*Pool[S])) {
	for _, p := range r.snapshot() {
		visit(p)
	}
}

// retireUnused forgets pools that have had neither sessions nor connections for retireAfter.
func (r *Registry[S]) retireUnused(pools []*Pool[S], now int64) {
	for _, p := range pools {
		if p.unused(now) {
			r.retireIfUnused(p, now)
		}
	}
}

// retireIfUnused asks again under r.mu, so that nobody can be given the pool meanwhile.
func (r *Registry[S]) retireIfUnused(p *Pool[S], now int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p.unused(now) && r.pools[p.key] == p {
		delete(r.pools, p.key)
		p.shut(errRetired(p.key))
	}
}

func (p *Pool[S]) unused(now int64) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.kept && p.clients == 0 && p.queue.first == nil && p.open() == 0 && now >= p.usedAt+retireAfter
}

// shut ends the pool for good: waiters get err, idle connections are returned to be closed, dials are cut short, and
// lent connections are closed when they come back.
func (p *Pool[S]) shut(err error) (doomed []*slot[S]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.phase == shut {
		return nil
	}
	p.phase, p.shutErr = shut, err
	for p.queue.first != nil {
		p.fail(p.queue.first, err)
	}
	doomed = p.condemnIdle(reasonShutdown, nil)
	p.startDials() // withdraws a claim on the shared limits
	p.stop()
	return doomed
}

// Retire ends the pools whose keys match: those of servers or databases that the configuration no longer has. It does
// not wait for lent connections, which are closed when they come back.
func (r *Registry[S]) Retire(match func(Key) bool) {
	r.mu.Lock()
	var retired []*Pool[S]
	for key, p := range r.pools {
		if match(key) {
			delete(r.pools, key)
			retired = append(retired, p)
		}
	}
	r.mu.Unlock()
	for _, p := range retired {
		p.close(p.shut(errRetired(p.key)))
	}
}

// Close ends every pool: waiters get 57P01, idle connections are closed at once, lent ones when they come back, which
// Close awaits until ctx ends; then it returns an error that counts them. It returns when the Registry's goroutines
// have ended. A second call waits as well.
func (r *Registry[S]) Close(ctx context.Context) error {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	pools := r.snapshot()
	for _, p := range pools {
		p.close(p.shut(errShutdown()))
	}
	left := 0
	for _, p := range pools {
		if err := p.awaitEmpty(ctx); err != nil {
			left += p.Stats().Active
		}
	}
	r.stop()
	r.running.Wait()
	if left > 0 {
		return fmt.Errorf("closing pools: %d connections still lent: %w", left, context.Cause(ctx))
	}
	return nil
}
