package pool

import (
	"context"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"
)

const (
	// maxDials bounds the logins of one pool in flight: PostgreSQL forks a process for each, and a cold pool fills as
	// fast with 4 at a time as with more on the machines measured; PgBouncer opens one at a time.
	maxDials = 4
	// firstRetry is the pause after the first failed attempt; it doubles up to login_retry.
	firstRetry = 100 * time.Millisecond
	// warnEvery keeps a server that stays away from filling the log; the count of attempts is in the line.
	warnEvery = int64(10 * time.Second)
)

// backoff remembers failed dials; the zero value is the state after a success.
type backoff struct {
	failures  int   // rounds in a row
	lastErr   error // of the last attempt
	refusal   error // what clients get when the server declined the login; nil otherwise
	retryAt   int64 // clock time before which nothing is dialled
	downSince int64 // clock time when there was first neither a connection nor a way to open one; 0 = not down
	warnedAt  int64
}

// down reports whether the pool has no connection and the last attempt to open one failed.
func (p *Pool[S]) down() bool {
	return p.backoff.failures > 0 && p.open() == p.count[Dialling]
}

// startDials opens connections for waiters without one on its way, and for min_idle, as far as limits allow. It is
// called with p.mu held whenever one of these may have changed.
func (p *Pool[S]) startDials() {
	cfg := p.cfg.Load()
	refused := false
	for !refused && p.mayDial(cfg) {
		forWaiter := p.queue.len > p.count[Dialling]
		if refused = !p.reg.limits.take(&p.claim, cfg, forWaiter); refused && forWaiter {
			return // the claim stands; the janitor comes back when it is granted
		}
		if !refused {
			p.startDial()
		}
	}
	if p.reg.limits.contended() {
		p.reg.limits.withdraw(&p.claim)
	}
}

// mayDial reports whether the pool itself wants and allows one more dial now.
func (p *Pool[S]) mayDial(cfg *Config) bool {
	if p.phase != serving {
		return false
	}
	dialling, size := p.count[Dialling], cfg.Size
	forWaiters := p.queue.len > dialling
	if !forWaiters && p.count[Idle]+dialling-p.queue.len >= p.minIdle(cfg) {
		return false
	}
	if forWaiters && cfg.Reserve > 0 && p.reg.clock.now() >= p.queue.first.since+int64(cfg.ReserveTimeout) {
		size += cfg.Reserve
	}
	if p.open() >= size || dialling >= maxDials {
		return false
	}
	if p.backoff.failures > 0 {
		return dialling == 0 && p.reg.clock.now() >= p.backoff.retryAt // one probe at a time
	}
	return true
}

// minIdle is min_idle while the pool is in use: pools of roles that left must be able to empty themselves.
func (p *Pool[S]) minIdle(cfg *Config) int {
	if p.kept || p.clients > 0 || p.reg.clock.coarse.Load() < p.usedAt+retireAfter {
		return cfg.MinIdle
	}
	return 0
}

// startDial begins one dial. The place in the shared limits has been taken.
func (p *Pool[S]) startDial() {
	sl := &slot[S]{state: Dialling, generation: p.generation, changedAt: p.reg.clock.coarse.Load(), jitter: rand.Float64() / 10}
	p.count[Dialling]++
	p.counters.dials++
	p.dialledAt = p.reg.clock.now()
	// Ends with the dial, which ConnectTimeout and p.stop limit; Registry.Close waits for it.
	p.reg.running.Go(func() { p.dialOne(sl) })
}

func (p *Pool[S]) dialOne(sl *slot[S]) {
	ctx, cancel := context.WithTimeout(p.ctx, p.cfg.Load().ConnectTimeout)
	s, err := p.dial(ctx, p.key)
	cancel()
	if err != nil {
		p.dialFailed(sl, err)
		return
	}

	p.mu.Lock()
	sl.server, sl.fingerprint = s, s.Fingerprint()
	sl.expire(&p.reg.clock, p.cfg.Load().MaxLifetime)
	p.slots[s] = sl
	if p.backoff.failures > 0 {
		p.log.Info("server connections open again", zap.Int("attempts", p.backoff.failures))
	}
	p.backoff = backoff{}
	doomed := p.settle(sl, nil)
	p.startDials()
	p.mu.Unlock()
	p.close(doomed)
}

// expire sets when the connection's life ends.
func (sl *slot[S]) expire(c *clock, lifetime time.Duration) {
	sl.expires = 0
	if lifetime > 0 {
		sl.expires = c.at(sl.server.CreatedAt()) + int64(float64(lifetime)*(1-sl.jitter))
	}
}

// dialFailed gives the slot up, sets the time of the next attempt, and ends the waits that cannot succeed.
func (p *Pool[S]) dialFailed(sl *slot[S], err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.move(sl, Closed)
	p.gone()
	if p.phase == shut {
		return
	}
	now := p.reg.clock.now()
	b := &p.backoff
	p.counters.dialErrors++
	p.suspect()
	b.lastErr, b.refusal = err, nil
	if now >= b.retryAt { // dials that failed together are one round
		b.failures++
		b.retryAt = now + int64(retryDelay(b.failures, p.cfg.Load().LoginRetry))
	}
	if state, refused := refusal(err); refused {
		b.refusal = errRefused(p.key, state, err)
	}
	if p.open() == p.count[Dialling] {
		if b.downSince == 0 {
			b.downSince = now
		}
		for b.refusal != nil && p.queue.first != nil {
			p.fail(p.queue.first, b.refusal)
		}
		p.failHasty()
	}
	if b.warnedAt == 0 || now >= b.warnedAt+warnEvery {
		b.warnedAt = now
		p.log.Warn("server connection not opened", zap.Error(err), zap.Int("attempts", b.failures))
	}
	p.reg.kick() // to learn of retryAt
}

// retryDelay doubles with each failed round up to limit, less up to a quarter at random so that the pools of a server
// that came back do not all knock at once.
func retryDelay(failures int, limit time.Duration) time.Duration {
	delay := limit
	if shift := failures - 1; shift < 16 {
		delay = min(limit, firstRetry<<shift)
	}
	return delay - rand.N(delay/4+1)
}

// timeoutError says why w waited in vain for wait_timeout.
func (p *Pool[S]) timeoutError(w *Waiter[S]) error {
	if p.phase == paused {
		return errPaused(p.key)
	}
	if p.down() {
		return errDown(p.key, p.backoff.lastErr)
	}
	waited := time.Duration(p.reg.clock.now() - w.since).Round(time.Millisecond)
	return errSaturated(p.key, waited, p.occupancy(), p.backoff.lastErr)
}
