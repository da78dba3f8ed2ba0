package pool

import (
	"slices"
	"time"
)

const (
	// janitorEvery is how exact idle_timeout, max_lifetime and the coarse clock are.
	janitorEvery = time.Second
	// janitorGap bounds the janitor's work when connections change hands thousands of times a second while a pool
	// waits for a shared limit.
	janitorGap = 5 * time.Millisecond
	// retireAfter is the time without clients and connections after which a pool is forgotten. It also is how long
	// min_idle outlives the last client: an application that reconnects finds its pool warm.
	retireAfter = int64(5 * time.Minute)
	// yieldAfter is how long a pool without any connection waits for a shared limit before the largest pool must give
	// up one that is in use, as soon as it comes back.
	yieldAfter = int64(time.Second)
)

// kick makes the janitor look now. It never blocks.
func (r *Registry[S]) kick() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// janitor does for all pools what no request does: it ends when r.ctx does.
func (r *Registry[S]) janitor() {
	timer := time.NewTimer(janitorEvery)
	defer timer.Stop()
	for {
		next := r.tend()
		timer.Reset(max(janitorGap, min(janitorEvery, next)))
		select {
		case <-r.ctx.Done():
			return
		case <-timer.C:
			continue
		case <-r.wake:
		}
		timer.Reset(janitorGap)
		select {
		case <-r.ctx.Done():
			return
		case <-timer.C:
		}
	}
}

// tend looks after every pool once and returns the time until the next that has something to do.
func (r *Registry[S]) tend() time.Duration {
	now := r.clock.now()
	next := now + int64(janitorEvery)
	pools := r.snapshot()
	for _, p := range pools {
		next = min(next, p.tend(now))
	}
	if r.limits.contended() {
		r.balance(pools)
	}
	r.retireUnused(pools, now)
	return time.Duration(next - now)
}

// tend closes what has been idle or alive for too long, ends hopeless waits, opens what is missing, and returns the
// clock time of its next known task.
func (p *Pool[S]) tend(now int64) int64 {
	p.mu.Lock()
	cfg := p.cfg.Load()
	doomed := p.condemnOld(now, cfg)
	p.failHasty()
	next := min(p.failHopeless(now, cfg), now+int64(janitorEvery))
	p.startDials()
	if p.backoff.retryAt > now {
		next = min(next, p.backoff.retryAt)
	}
	if first := p.queue.first; first != nil && cfg.Reserve > 0 {
		if due := first.since + int64(cfg.ReserveTimeout); due > now {
			next = min(next, due)
		}
	}
	p.mu.Unlock()
	if len(doomed) > 0 {
		// Ends when the connections are closed; Registry.Close waits for it.
		p.reg.running.Go(func() { p.close(doomed) })
	}
	return next
}

// condemnOld takes out idle connections past max_lifetime or idle_timeout, and those above the size.
func (p *Pool[S]) condemnOld(now int64, cfg *Config) (doomed []*slot[S]) {
	for sl := p.idle.newest; sl != nil; {
		older := sl.older
		if sl.expires != 0 && now >= sl.expires {
			doomed = p.condemn(sl, reasonLifetime, doomed)
		}
		sl = older
	}
	for p.idle.oldest != nil && p.surplus(cfg) {
		doomed = p.condemn(p.idle.oldest, reasonSurplus, doomed)
	}
	if cfg.IdleTimeout == 0 {
		return doomed
	}
	kept := p.minIdle(cfg)
	for sl := p.idle.oldest; sl != nil && p.count[Idle] > kept; sl = p.idle.oldest {
		if now-sl.idleSince < int64(cfg.IdleTimeout) {
			break
		}
		doomed = p.condemn(sl, reasonIdle, doomed)
	}
	return doomed
}

// hastyWait is how long a dial may take until it counts as failed for who does not wait for a server that is away.
const hastyWait = int64(time.Second)

// failHasty ends the waits of those who do not wait for a server that is away, if it is: no attempt is under way that may tell soon. p.mu is held.
func (p *Pool[S]) failHasty() {
	if p.phase != serving || !p.down() || p.backoff.refusal != nil || p.count[Dialling] > 0 && p.reg.clock.now() < p.dialledAt+hastyWait {
		return
	}
	for w := p.queue.first; w != nil; {
		next := w.next
		if w.want.Hasty {
			p.fail(w, errDown(p.key, p.backoff.lastErr))
		}
		w = next
	}
}

// failHopeless ends the waits that outlasted server_down_wait and returns when the next one will.
func (p *Pool[S]) failHopeless(now int64, cfg *Config) int64 {
	never := now + int64(time.Hour)
	if p.phase != serving || !p.down() || cfg.ServerDownWait == 0 {
		return never
	}
	if p.backoff.downSince == 0 {
		p.backoff.downSince = now // the last connection went after the dials had begun to fail
	}
	for w := p.queue.first; w != nil; w = p.queue.first {
		due := max(w.since, p.backoff.downSince) + int64(cfg.ServerDownWait)
		if due > now {
			return due
		}
		p.fail(w, errDown(p.key, p.backoff.lastErr))
	}
	return never
}

// balance takes connections from rich pools for those that a shared limit keeps from opening one: an idle connection
// of the pool that has most; and for a pool that has none and has waited for yieldAfter, the next that comes back.
func (r *Registry[S]) balance(pools []*Pool[S]) {
	for _, c := range r.limits.claims() {
		i := slices.IndexFunc(pools, func(p *Pool[S]) bool { return p.key == c.key })
		if i < 0 {
			continue
		}
		hungry, starving := pools[i].hunger()
		if !hungry {
			continue
		}
		rivals := slices.DeleteFunc(slices.Clone(pools), func(p *Pool[S]) bool {
			return p == pools[i] || !c.competes(p.key)
		})
		if !evictIdle(rivals) && starving {
			surrenderBusy(rivals)
		}
		pools[i].redial()
	}
}

// hunger reports whether the pool has waiters with no dial for them, and whether it has no connection at all and its
// oldest waiter has waited long.
func (p *Pool[S]) hunger() (hungry, starving bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	hungry = p.queue.len > p.count[Dialling]
	return hungry, hungry && p.open() == 0 && p.reg.clock.now() >= p.queue.first.since+yieldAfter
}

func (p *Pool[S]) redial() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.startDials()
}

// evictIdle closes the connection idle for longest of the pool with most connections. It closes here, not in another
// goroutine, so that the next look at the limits sees the place free.
func evictIdle[S Server](rivals []*Pool[S]) bool {
	rich := richest(rivals, func(p *Pool[S]) bool { return p.count[Idle] > 0 })
	if rich == nil {
		return false
	}
	rich.mu.Lock()
	if rich.idle.oldest == nil {
		rich.mu.Unlock()
		return false
	}
	doomed := rich.condemn(rich.idle.oldest, reasonEvicted, nil)
	rich.mu.Unlock()
	rich.close(doomed)
	return true
}

// surrenderBusy has the pool with most connections close the next one that comes back, unless one does already.
func surrenderBusy[S Server](rivals []*Pool[S]) {
	if richest(rivals, func(p *Pool[S]) bool { return p.surrender }) != nil {
		return
	}
	if rich := richest(rivals, func(p *Pool[S]) bool { return p.count[Leased] > 0 }); rich != nil {
		rich.mu.Lock()
		rich.surrender = true
		rich.mu.Unlock()
	}
}

// richest returns the pool with most connections among those that qualify; nil when none does. qualifies is called
// with the pool locked.
func richest[S Server](pools []*Pool[S], qualifies func(*Pool[S]) bool) *Pool[S] {
	var best *Pool[S]
	most := 0
	for _, p := range pools {
		p.mu.Lock()
		n, ok := p.open(), qualifies(p)
		p.mu.Unlock()
		if ok && n > most {
			best, most = p, n
		}
	}
	return best
}
