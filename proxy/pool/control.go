package pool

import (
	"context"
	"errors"
	"fmt"
)

// Pause stops lending in scope, for pools yet to be made too, and returns when every connection there came back and is
// closed. When ctx ends first it returns an error and the pause stays in force until Resume, as it does after success.
// It also returns an error when Resume comes meanwhile.
func (r *Registry[S]) Pause(ctx context.Context, scope Scope) error {
	r.pause(scope, func(*Pool[S]) {})
	for _, p := range r.within(scope) {
		if err := p.awaitEmpty(ctx); err != nil {
			return fmt.Errorf("pausing: %d connections of pool %s still lent: %w", p.Stats().Active, p.key, err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.paused[scope]; !ok {
		return errors.New("pausing: resumed meanwhile")
	}
	return nil
}

// Kill is a Pause that does not wait: waiters get 57P01, idle connections are closed now and lent ones when they come
// back. Ending the sessions is the caller's part.
func (r *Registry[S]) Kill(scope Scope) {
	r.pause(scope, func(p *Pool[S]) { p.failWaiters(errKilled(p.key)) })
}

// pause records the scope, pauses the pools in it after calling also for each, and closes what they had idle. Record
// and pools change under one hold of r.mu, so that a Resume comes before or after both.
func (r *Registry[S]) pause(scope Scope, also func(*Pool[S])) {
	r.mu.Lock()
	r.paused[scope] = struct{}{}
	doomed := map[*Pool[S]][]*slot[S]{}
	for key, p := range r.pools {
		if scope.Match(key) {
			also(p)
			doomed[p] = p.pause()
		}
	}
	r.mu.Unlock()
	for p, slots := range doomed {
		p.close(slots)
	}
}

// Resume ends the Pause or Kill of exactly this scope and reports whether there was one. A pool that another scope
// still pauses stays paused.
func (r *Registry[S]) Resume(scope Scope) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, ok := r.paused[scope]; !ok {
		return false
	}
	delete(r.paused, scope)
	for key, p := range r.pools {
		if scope.Match(key) && !r.pausedLocked(key) {
			p.resume()
		}
	}
	return true
}

// Paused reports whether exactly this scope is paused or killed.
func (r *Registry[S]) Paused(scope Scope) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, ok := r.paused[scope]
	return ok
}

// Abandon is Reconnect for servers that lost their part: who waits for one gets an error that is Away.
func (r *Registry[S]) Abandon(scope Scope) {
	for _, p := range r.within(scope) {
		p.failWaiters(errMoved(p.key))
	}
	r.Reconnect(scope)
}

// Reconnect replaces every connection in scope: idle ones are closed now, lent ones and those being opened when they
// come back. It also ends the pause after failed attempts.
func (r *Registry[S]) Reconnect(scope Scope) {
	for _, p := range r.within(scope) {
		p.close(p.reconnect())
	}
}

// Reconfigure gives every pool the configuration that config returns for it, at once: idle connections above a smaller
// size are closed now, lent ones when they come back.
func (r *Registry[S]) Reconfigure(config func(Key) *Config) {
	for _, p := range r.snapshot() {
		p.close(p.reconfigure(config(p.key)))
	}
}

func (p *Pool[S]) pause() (doomed []*slot[S]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.phase != serving {
		return nil
	}
	p.phase = paused
	doomed = p.condemnIdle(reasonPaused, nil)
	p.startDials() // withdraws a claim on the shared limits
	return doomed
}

func (p *Pool[S]) resume() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.phase != paused {
		return
	}
	p.phase = serving
	if p.emptied != nil {
		close(p.emptied) // Pause finds that it was overtaken
		p.emptied = nil
	}
	p.serve()
}

func (p *Pool[S]) failWaiters(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for p.queue.first != nil {
		p.fail(p.queue.first, err)
	}
}

func (p *Pool[S]) reconnect() (doomed []*slot[S]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.generation++
	p.backoff = backoff{}
	doomed = p.condemnIdle(reasonReconnect, nil)
	p.startDials()
	return doomed
}

// Retry forgets failed attempts, so that the next Acquire dials at once: for when credentials or addresses changed.
func (p *Pool[S]) Retry() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.backoff = backoff{}
	p.startDials()
}

func (p *Pool[S]) reconfigure(cfg *Config) (doomed []*slot[S]) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cfg.Store(cfg)
	p.backoff.retryAt = 0
	for _, sl := range p.slots {
		sl.expire(&p.reg.clock, cfg.MaxLifetime)
	}
	doomed = p.condemnOld(p.reg.clock.now(), cfg)
	p.startDials()
	return doomed
}

// awaitEmpty returns when the pool has no connection, lent or not, and none on its way; or the cause when ctx ended
// first. It returns early when the pool is resumed.
func (p *Pool[S]) awaitEmpty(ctx context.Context) error {
	p.mu.Lock()
	if p.open() == 0 {
		p.mu.Unlock()
		return nil
	}
	if p.emptied == nil {
		p.emptied = make(chan struct{})
	}
	emptied := p.emptied
	p.mu.Unlock()
	select {
	case <-emptied:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
