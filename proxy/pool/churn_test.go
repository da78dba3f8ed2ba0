package pool

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

var errCancelled = errors.New("cancelled")

// keyD is of a server that comes and goes: its pools are retired with connections lent, so its total has no bound.
var keyD = Key{Database: "app", Role: "dan", Server: "s1"}

// churn is a crowd of sessions over four pools that share limits, while an operator does everything that can be done.
// line and host panic when a connection is lent twice, closed in use, or closed twice.
type churn struct {
	t     *testing.T
	rig   *rig
	keys  []Key
	cfg   *Config
	rests func(time.Duration) // sleeps
	until time.Time

	mu      sync.Mutex
	waiters []*Waiter[*line]
	served  int
	ended   map[string]int
}

func newChurn(t *testing.T, rests func(time.Duration), length time.Duration) *churn {
	h := newHost()
	h.delay = 2 * time.Millisecond
	cfg := quiet(5)
	cfg.MinIdle, cfg.Reserve, cfg.ReserveTimeout = 1, 1, 20*time.Millisecond
	cfg.WaitTimeout, cfg.ServerDownWait = 200*time.Millisecond, 100*time.Millisecond
	cfg.LoginRetry, cfg.MaxLifetime, cfg.IdleTimeout = 50*time.Millisecond, 300*time.Millisecond, 100*time.Millisecond
	cfg.CheckDelay, cfg.CheckTimeout = 5*time.Millisecond, 5*time.Millisecond
	cfg.MaxDatabaseConnections = 8
	return &churn{
		t: t, rig: &rig{t: t, host: h, Registry: New(h.dial, NewLimits(), zap.NewNop())},
		keys: []Key{keyA, keyB, keyC, keyD}, cfg: cfg, rests: rests, until: time.Now().Add(length), ended: map[string]int{},
	}
}

func (c *churn) run(sessions int) {
	var wg sync.WaitGroup
	for n := range sessions {
		w := NewWaiter[*line]()
		c.waiters = append(c.waiters, w)
		wg.Go(func() { c.session(w, c.keys[n%len(c.keys)], rand.New(rand.NewPCG(1, uint64(n)))) })
	}
	wg.Go(func() { c.canceller(rand.New(rand.NewPCG(2, 0))) })
	wg.Go(func() { c.operator(rand.New(rand.NewPCG(3, 0))) })
	wg.Wait()
	c.rig.end()
	for _, key := range c.keys {
		if peak := c.rig.host.peak[key]; key != keyD && peak > c.cfg.Size+c.cfg.Reserve {
			c.t.Errorf("pool %s had %d connections, want at most %d", key, peak, c.cfg.Size+c.cfg.Reserve)
		}
	}
	if c.served < 1000 {
		c.t.Errorf("only %d transactions were served: %v", c.served, c.ended)
	}
}

// session lives for many short lives of clients; every Acquire must end, or run never returns.
func (c *churn) session(w *Waiter[*line], key Key, rnd *rand.Rand) {
	var last *line
	for time.Now().Before(c.until) {
		p := c.rig.Attach(key, c.cfg)
		for range rnd.IntN(20) {
			l, err := p.Acquire(w, Want[*line]{Prefer: last, Fingerprint: rnd.Uint64N(3)})
			if err != nil {
				c.note(err)
				continue
			}
			hold(l)
			last = l
			l.fingerprint = rnd.Uint64N(3)
			if rnd.IntN(4) == 0 {
				c.rests(time.Duration(rnd.IntN(3000)) * time.Microsecond)
			}
			switch rnd.IntN(60) {
			case 0:
				discard(p, l)
			case 1:
				l.stale.Store(true)
				giveBack(p, l)
			case 2:
				l.mute.Store(true)
				giveBack(p, l)
			default:
				giveBack(p, l)
			}
			c.note(nil)
		}
		p.Detach()
		if rnd.IntN(5) == 0 {
			c.rests(time.Duration(rnd.IntN(30)) * time.Millisecond)
		}
	}
}

// note counts how an Acquire ended; anything but the known ways is a fault.
func (c *churn) note(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		c.served++
		return
	}
	c.ended[err.Error()]++
	var own *Error
	if !errors.Is(err, errCancelled) && !errors.As(err, &own) {
		c.t.Errorf("Acquire: %v", err)
	}
}

func (c *churn) canceller(rnd *rand.Rand) {
	for time.Now().Before(c.until) {
		c.waiters[rnd.IntN(len(c.waiters))].Cancel(errCancelled)
		c.rests(time.Duration(rnd.IntN(500)) * time.Microsecond)
	}
}

// operator changes everything there is, and looks on.
func (c *churn) operator(rnd *rand.Rand) {
	scopes := []Scope{{}, {Database: "app"}, {Role: "ann"}}
	r := c.rig
	for time.Now().Before(c.until) {
		scope := scopes[rnd.IntN(len(scopes))]
		switch rnd.IntN(8) {
		case 0:
			ctx, cancel := context.WithTimeout(c.t.Context(), time.Duration(1+rnd.IntN(20))*time.Millisecond)
			_ = r.Pause(ctx, scope) // may well not get there in time
			cancel()
			r.Resume(scope)
		case 1:
			r.Kill(scope)
			r.Resume(scope)
		case 2:
			r.Reconnect(scope)
		case 3:
			smaller := *c.cfg
			smaller.Size, smaller.MinIdle = 1+rnd.IntN(c.cfg.Size), rnd.IntN(2)
			r.Reconfigure(func(Key) *Config { return &smaller })
		case 4:
			r.Reconfigure(func(Key) *Config { return c.cfg })
		case 5:
			faults := []error{errors.New("connection refused"), refusedLogin{"28P01"}, refusedLogin{"53300"}}
			r.set(func() { r.host.err = faults[rnd.IntN(len(faults))] })
			c.rests(time.Duration(rnd.IntN(100)) * time.Millisecond)
			r.set(func() { r.host.err = nil })
		case 6:
			r.Retire(func(k Key) bool { return k == keyD })
		}
		c.look()
		c.rests(time.Duration(rnd.IntN(20)) * time.Millisecond)
	}
}

// look checks what must hold at every moment.
func (c *churn) look() {
	c.rig.Each(func(p *Pool[*line]) {
		p.Stats()
		p.Connections()
		if err := p.consistent(); err != nil {
			c.t.Errorf("pool %s: %v", p.Key(), err)
		}
	})
	if n, _ := c.rig.limits.Servers("app", ""); n > c.cfg.MaxDatabaseConnections {
		c.t.Errorf("%d connections of the database, want at most %d", n, c.cfg.MaxDatabaseConnections)
	}
}

// consistent recounts the pool's slots and waiters.
func (p *Pool[S]) consistent() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var count [states]int
	for s, sl := range p.slots {
		if sl.server != s {
			return errors.New("a slot stands under another connection")
		}
		if sl.state == Closed || sl.state == Dialling {
			return fmt.Errorf("a %s connection is listed", sl.state)
		}
		count[sl.state]++
	}
	for _, state := range []State{Idle, Checking, Leased, Closing} {
		if count[state] != p.count[state] {
			return fmt.Errorf("%d connections are %s, counted %d", count[state], state, p.count[state])
		}
	}
	listed := 0
	for sl := p.idle.newest; sl != nil; sl = sl.older {
		listed++
	}
	if listed != p.count[Idle] {
		return fmt.Errorf("%d connections in the idle list, counted %d", listed, p.count[Idle])
	}
	queued, ticket := 0, uint64(0)
	for w := p.queue.first; w != nil; w = w.next {
		if w.ticket <= ticket {
			return errors.New("the queue is out of order")
		}
		queued, ticket = queued+1, w.ticket
	}
	if queued != p.queue.len {
		return fmt.Errorf("%d waiters in the queue, counted %d", queued, p.queue.len)
	}
	if p.phase == serving && queued > 0 && p.count[Idle] > 0 {
		return fmt.Errorf("%d sessions wait beside %d idle connections", queued, p.count[Idle])
	}
	return nil
}

func TestChurnKeepsEveryPromiseInRealTime(t *testing.T) {
	newChurn(t, time.Sleep, 3*time.Second).run(60)
}

func TestChurnKeepsEveryPromiseInFakeTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// Where nothing sleeps fake time stands still, so that every session must rest now and then.
		newChurn(t, time.Sleep, 20*time.Second).run(40)
	})
}
