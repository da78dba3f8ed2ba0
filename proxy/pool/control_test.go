package pool

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestPauseAwaitsLentConnectionsAndResumeServesWhoWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		p, other := r.Attach(keyA, quiet(3)), r.Attach(keyC, quiet(3))
		held, free := lend(t, p, NewWaiter[*line]()), lend(t, p, NewWaiter[*line]())
		giveBack(p, free)
		scope := Scope{Database: "app"}
		done := make(chan error, 1)
		go func() { done <- r.Pause(t.Context(), scope) }()
		synctest.Wait()
		got := make(chan result, 2)
		go ask(p, NewWaiter[*line](), 0, got)
		late := r.Attach(keyB, quiet(3)) // made during the pause
		go ask(late, NewWaiter[*line](), 1, got)
		giveBack(other, lend(t, other, NewWaiter[*line]())) // not in scope
		time.Sleep(time.Minute)
		select {
		case err := <-done:
			t.Fatalf("Pause returned %v with a connection lent", err)
		case res := <-got:
			t.Fatalf("Acquire returned (%v, %v) during the pause", res.line, res.err)
		default:
		}
		giveBack(p, held)
		if err := <-done; err != nil {
			t.Errorf("Pause: %v", err)
		}
		if n := r.host.open[keyA]; n != 0 {
			t.Errorf("%d connections open after Pause, want 0", n)
		}
		if !r.Resume(scope) || r.Resume(scope) {
			t.Error("Resume must report the pause once")
		}
		for range 2 {
			res := <-got
			if res.err != nil {
				t.Errorf("Acquire after Resume: %v", res.err)
			}
			map[int]*Pool[*line]{0: p, 1: late}[res.n].releaseHeld(res.line)
		}
	})
}

func (p *Pool[S]) releaseHeld(l S) {
	any(l).(*line).users.Add(-1)
	p.Release(l)
}

func TestPauseThatIsInterrupted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		p := r.Attach(keyA, quiet(1))
		held := lend(t, p, NewWaiter[*line]())
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Pause(ctx, Scope{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Pause returned %v, want the end of its ctx", err)
		}
		if !r.Paused(Scope{}) || !p.Stats().Paused {
			t.Error("the pause is over, want it in force until Resume")
		}
		done := make(chan error, 1)
		go func() { done <- r.Pause(t.Context(), Scope{}) }()
		synctest.Wait()
		r.Resume(Scope{})
		if err := <-done; err == nil {
			t.Error("Pause succeeded although it was resumed with a connection lent")
		}
		giveBack(p, held)
		giveBack(p, lend(t, p, NewWaiter[*line]()))
	})
}

func TestPausesOfTwoScopesOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		p := r.Attach(keyA, quiet(1))
		for _, scope := range []Scope{{}, {Database: "app"}} {
			if err := r.Pause(t.Context(), scope); err != nil {
				t.Fatalf("Pause: %v", err)
			}
		}
		r.Resume(Scope{})
		if !p.Stats().Paused {
			t.Error("the pool of a paused database was resumed with all")
		}
		r.Resume(Scope{Database: "app"})
		giveBack(p, lend(t, p, NewWaiter[*line]()))
	})
}

func TestKillFailsWaitersAtOnceAndClosesWhatIsLentAtItsReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		p := r.Attach(keyA, quiet(1))
		held := lend(t, p, NewWaiter[*line]())
		got := make(chan result, 1)
		go ask(p, NewWaiter[*line](), 0, got)
		synctest.Wait()
		r.Kill(Scope{Database: "app"})
		if res := <-got; res.took != 0 || stateOf(t, res.err) != "57P01" {
			t.Errorf("waiter got %v after %s, want 57P01 at once", res.err, res.took)
		}
		giveBack(p, held)
		if held.closed.Load() == nil {
			t.Error("the lent connection survived its return")
		}
		r.Resume(Scope{Database: "app"})
	})
}

func TestReconnectReplacesIdleLentAndDialledConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		p := r.Attach(keyA, quiet(3))
		held, free := lend(t, p, NewWaiter[*line]()), lend(t, p, NewWaiter[*line]())
		giveBack(p, free)
		r.Reconnect(Scope{})
		if free.closed.Load() == nil || held.closed.Load() != nil {
			t.Error("want the idle connection closed and the lent one not")
		}
		r.set(func() { r.host.delay = time.Second })
		got := make(chan result, 1)
		go ask(p, NewWaiter[*line](), 0, got)
		synctest.Wait()
		r.Reconnect(Scope{}) // the dial under way began before
		res := <-got
		if res.took != 2*time.Second {
			t.Errorf("got a connection after %s, want the second dial's after 2s", res.took)
		}
		giveBack(p, held)
		if held.closed.Load() == nil {
			t.Error("the lent connection survived its return")
		}
		giveBack(p, res.line)
		if res.line.closed.Load() != nil {
			t.Error("the new connection did not survive its return")
		}
	})
}

func TestReconfigureShrinksAndGrowsALivePool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		p := r.Attach(keyA, quiet(6))
		var held []*line
		for range 6 {
			held = append(held, lend(t, p, NewWaiter[*line]()))
		}
		giveBack(p, held[5])
		giveBack(p, held[4])
		r.Reconfigure(func(Key) *Config { return quiet(3) })
		if st := p.Stats(); st.Idle != 0 || st.Active != 4 {
			t.Errorf("stats %+v, want the idle ones closed and 4 lent", st)
		}
		for _, l := range held[:4] {
			giveBack(p, l)
		}
		if st := p.Stats(); st.Idle != 3 {
			t.Errorf("stats %+v, want 3 left", st)
		}

		held = held[:0]
		for range 3 {
			held = append(held, lend(t, p, NewWaiter[*line]()))
		}
		got := make(chan result, 1)
		go ask(p, NewWaiter[*line](), 0, got)
		synctest.Wait()
		r.Reconfigure(func(Key) *Config { return quiet(4) })
		res := <-got
		if res.err != nil || res.took != 0 {
			t.Errorf("got %v after %s, want a fourth connection at once", res.err, res.took)
		}
		for _, l := range append(held, res.line) {
			giveBack(p, l)
		}
	})
}

func TestConnectionsEndByAgeAndRestButNotInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		cfg := quiet(10)
		cfg.MaxLifetime, cfg.IdleTimeout = time.Hour, 20*time.Minute
		p := r.Attach(keyA, cfg)
		var held []*line
		for range 3 {
			held = append(held, lend(t, p, NewWaiter[*line]()))
		}
		giveBack(p, held[0])
		time.Sleep(19 * time.Minute)
		if held[0].closed.Load() != nil {
			t.Error("closed before idle_timeout")
		}
		time.Sleep(time.Minute + 2*time.Second)
		if reason := held[0].closed.Load(); reason == nil || *reason != "idle_timeout" {
			t.Errorf("idle connection closed with %v, want idle_timeout", reason)
		}
		time.Sleep(32 * time.Minute)
		giveBack(p, held[1]) // 53 minutes old: below nine tenths of an hour
		if held[1].closed.Load() != nil {
			t.Error("closed before nine tenths of max_lifetime")
		}
		time.Sleep(8 * time.Minute)
		if reason := held[1].closed.Load(); reason == nil || *reason != "max_lifetime" {
			t.Errorf("old idle connection closed with %v, want max_lifetime", reason)
		}
		giveBack(p, held[2])
		if reason := held[2].closed.Load(); reason == nil || *reason != "max_lifetime" {
			t.Errorf("old lent connection closed with %v at its return, want max_lifetime", reason)
		}
	})
}

func TestUnusedPoolsAreForgottenAndKeptOnesStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		cfg := quiet(2)
		cfg.MinIdle, cfg.IdleTimeout = 1, time.Minute
		r.Keep(keyA, cfg)
		p := r.Attach(keyB, cfg)
		giveBack(p, lend(t, p, NewWaiter[*line]()))
		time.Sleep(time.Hour)
		if n := len(r.snapshot()); n != 2 {
			t.Fatalf("%d pools, want 2 while a session is attached", n)
		}
		p.Detach()
		time.Sleep(time.Hour)
		pools := r.snapshot()
		if len(pools) != 1 || pools[0].Key() != keyA || pools[0].Stats().Idle != 1 {
			t.Errorf("%d pools left, want the kept one with its min_idle", len(pools))
		}
		if _, err := p.Acquire(NewWaiter[*line](), Want[*line]{}); stateOf(t, err) != "57P03" {
			t.Errorf("Acquire on a retired pool: %v", err)
		}
	})
}

func TestRetireEndsThePoolsOfAServerThatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		p := r.Attach(keyA, quiet(1))
		held := lend(t, p, NewWaiter[*line]())
		r.Retire(func(k Key) bool { return k.Server == "s0" })
		if _, err := p.Acquire(NewWaiter[*line](), Want[*line]{}); stateOf(t, err) != "57P03" {
			t.Errorf("Acquire on a retired pool: %v", err)
		}
		if again := r.Attach(keyA, quiet(1)); again == p {
			t.Error("the retired pool was found again")
		}
		giveBack(p, held)
		if held.closed.Load() == nil {
			t.Error("the lent connection survived its return")
		}
	})
}

func TestCloseEndsWaitersAndAwaitsLentConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		p := r.Attach(keyA, quiet(1))
		held := lend(t, p, NewWaiter[*line]())
		got := make(chan result, 1)
		go ask(p, NewWaiter[*line](), 0, got)
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.Registry.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close returned %v, want an error about the connection still lent", err)
		}
		if res := <-got; stateOf(t, res.err) != "57P01" {
			t.Errorf("waiter got %v, want 57P01", res.err)
		}
		late := r.Attach(keyB, quiet(1))
		if _, err := late.Acquire(NewWaiter[*line](), Want[*line]{}); stateOf(t, err) != "57P01" {
			t.Errorf("Acquire after Close: %v, want 57P01", err)
		}
		giveBack(p, held)
		r.end()
	})
}

func TestAWaitThatAPauseOutlastsSaysSo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		cfg := quiet(1)
		cfg.WaitTimeout = time.Second
		p := r.Attach(keyA, cfg)
		if err := r.Pause(t.Context(), Scope{}); err != nil {
			t.Fatalf("Pause: %v", err)
		}
		_, err := p.Acquire(NewWaiter[*line](), Want[*line]{})
		if stateOf(t, err) != "57P03" || !strings.Contains(err.Error(), "paused") {
			t.Errorf("Acquire returned %v, want 57P03 that names the pause", err)
		}
	})
}
