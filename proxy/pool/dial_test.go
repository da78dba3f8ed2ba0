package pool

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestAStampedeOpensNoMoreThanTheSizeAndFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		r.host.delay = 50 * time.Millisecond
		p := r.Attach(keyA, quiet(20))
		const clients = 1000
		done := make(chan error, clients)
		for range clients {
			go func() {
				l, err := p.Acquire(NewWaiter[*line](), Want[*line]{})
				if err == nil {
					hold(l)
					time.Sleep(time.Millisecond)
					giveBack(p, l)
				}
				done <- err
			}()
		}
		for range clients {
			if err := <-done; err != nil {
				t.Fatalf("Acquire: %v", err)
			}
		}
		if r.host.peak[keyA] > 20 || r.host.made > 20 || r.host.maxFly > maxDials {
			t.Errorf("%d connections made, %d at once, %d dialled at once; want at most 20, 20, %d",
				r.host.made, r.host.peak[keyA], r.host.maxFly, maxDials)
		}
	})
}

func TestFailedDialsAreRepeatedWithGrowingPausesAndWaitersKeepWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		r.host.err = errors.New("connection refused")
		cfg := quiet(5)
		cfg.ServerDownWait = time.Minute
		p := r.Attach(keyA, cfg)
		got := make(chan result, 1)
		go ask(p, NewWaiter[*line](), 0, got)
		time.Sleep(40 * time.Second)
		r.set(func() { r.host.err = nil })
		res := <-got
		if res.err != nil {
			t.Fatalf("Acquire: %v, want a connection once the server is back", res.err)
		}
		giveBack(p, res.line)
		want := firstRetry
		for i := 1; i < len(r.host.attempts); i++ {
			pause := r.host.attempts[i].Sub(r.host.attempts[i-1])
			if pause > want+2*janitorGap || pause < want*3/4 {
				t.Errorf("pause %d is %s, want between three quarters of %s and that", i, pause, want)
			}
			want = min(2*want, cfg.LoginRetry)
		}
		if n := len(r.host.attempts); n < 8 {
			t.Errorf("%d attempts in 40s, want at least 8", n)
		}
	})
}

func TestAServerThatStaysAwayEndsTheWaitEarlyWithTheLastError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		r.host.err = errors.New("connection refused")
		cfg := quiet(5)
		cfg.WaitTimeout, cfg.ServerDownWait = time.Minute, 10*time.Second
		p := r.Attach(keyA, cfg)
		got := make(chan result, 1)
		go ask(p, NewWaiter[*line](), 0, got)
		res := <-got
		var e *Error
		if !errors.As(res.err, &e) || e.SQLState() != "57P03" || !strings.Contains(e.Detail(), "connection refused") {
			t.Fatalf("error %v, want 57P03 with the last error in its detail", res.err)
		}
		if res.took < 10*time.Second || res.took > 10*time.Second+50*time.Millisecond {
			t.Errorf("waited %s, want server_down_wait of 10s", res.took)
		}
		if !p.Stats().Down {
			t.Error("Stats do not say that the pool is down")
		}
	})
}

func TestWhoIsHastyDoesNotWaitForAServerThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		r.host.err = errors.New("connection refused")
		cfg := quiet(5)
		cfg.ServerDownWait, cfg.ConnectTimeout, cfg.LoginRetry = time.Hour, 10*time.Second, time.Second
		p := r.Attach(keyA, cfg)
		patient, hasty := make(chan result, 1), NewWaiter[*line]()
		asks := func(within time.Duration) error {
			t.Helper()
			began := time.Now()
			l, err := p.Acquire(hasty, Want[*line]{Hasty: true})
			if took := time.Since(began); took > within {
				t.Errorf("waited %s, want %s at most", took, within)
			}
			if err == nil {
				hold(l)
				giveBack(p, l)
			}
			return err
		}
		refused := func(within time.Duration) {
			t.Helper()
			var e *Error
			if err := asks(within); !errors.As(err, &e) || !e.Away() {
				t.Fatalf("error %v, want that the server is away", err)
			}
		}
		for range 3 { // by the failed dial, and while the next one is not due
			refused(0)
		}
		go ask(p, NewWaiter[*line](), 0, patient)
		synctest.Wait()
		refused(0) // behind one who waits
		r.set(func() { r.host.err = nil })
		res := <-patient
		if res.err != nil {
			t.Fatalf("who waits got %v", res.err)
		}
		r.Reconnect(Scope{})
		giveBack(p, res.line)
		synctest.Wait()

		r.set(func() { r.host.err = errors.New("connection refused") })
		refused(0)
		time.Sleep(time.Minute)
		r.set(func() { r.host.err, r.host.delay = nil, 500*time.Millisecond })
		if err := asks(time.Second); err != nil { // the failure is an old one
			t.Errorf("the server is back: %v", err)
		}
		r.Reconnect(Scope{})
		synctest.Wait()

		r.set(func() { r.host.err, r.host.delay = errors.New("connection refused"), 0 })
		refused(0)
		time.Sleep(time.Minute)
		r.set(func() { r.host.delay = time.Hour }) // nobody refuses any more, nobody answers
		refused(3 * time.Second)                   // until the janitor looks
		refused(0)
	})
}

func TestWhoIsHastyHearsThatALoginIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		r.host.err = refusedLogin{"28P01"}
		p := r.Attach(keyA, quiet(5))
		for range 3 {
			_, err := p.Acquire(NewWaiter[*line](), Want[*line]{Hasty: true})
			if state := stateOf(t, err); state != "28P01" {
				t.Errorf("got SQLSTATE %s: %v", state, err)
			}
		}
	})
}

func TestARefusedLoginFailsEverybodyAtOnceButFullServersDoNot(t *testing.T) {
	for state, atOnce := range map[string]bool{"28P01": true, "28000": true, "3D000": true, "53300": false, "57P03": false} {
		t.Run(state, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				defer r.end()
				r.host.err = refusedLogin{state}
				cfg := quiet(5)
				cfg.ServerDownWait = 10 * time.Second
				p := r.Attach(keyA, cfg)
				got := make(chan result, 3)
				for n := range 3 {
					go ask(p, NewWaiter[*line](), n, got)
				}
				for range 3 {
					res := <-got
					want := "57P03"
					if atOnce {
						want = state
					}
					if s := stateOf(t, res.err); s != want {
						t.Errorf("SQLSTATE %s, want %s", s, want)
					}
					if atOnce != (res.took < time.Second) {
						t.Errorf("failed after %s, at once: %v", res.took, atOnce)
					}
				}
				if !atOnce {
					return
				}
				// Newcomers make attempts of their own while these are near; the pauses grow.
				var last result
				for range 8 {
					go ask(p, NewWaiter[*line](), 0, got)
					if last = <-got; last.err == nil || last.took > soon {
						t.Fatalf("a client within a short pause got %v after %s, want the refusal within %s", last.err, last.took, soon)
					}
				}
				if last.took != 0 {
					t.Errorf("a client within a long pause was refused after %s, want at once", last.took)
				}
				r.set(func() { r.host.err = nil })
				p.Retry()
				giveBack(p, lend(t, p, NewWaiter[*line]()))
			})
		})
	}
}

func TestARefusedLoginLeavesWaitersAloneWhileAConnectionWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		p := r.Attach(keyA, quiet(2))
		held := lend(t, p, NewWaiter[*line]())
		r.set(func() { r.host.err = refusedLogin{"28P01"} })
		got := make(chan result, 1)
		go ask(p, NewWaiter[*line](), 0, got)
		time.Sleep(20 * time.Second)
		giveBack(p, held)
		res := <-got
		if res.err != nil {
			t.Fatalf("Acquire: %v, want the connection that works", res.err)
		}
		giveBack(p, res.line)
	})
}

func TestConnectTimeoutEndsADial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		r.host.delay = time.Hour
		cfg := quiet(1)
		cfg.ConnectTimeout, cfg.ServerDownWait = 2*time.Second, 5*time.Second
		p := r.Attach(keyA, cfg)
		got := make(chan result, 1)
		go ask(p, NewWaiter[*line](), 0, got)
		res := <-got
		var e *Error
		if !errors.As(res.err, &e) || !strings.Contains(e.Detail(), "deadline exceeded") {
			t.Errorf("error %v, want one that tells of the time limit", res.err)
		}
	})
}

func TestReserveOpensOnlyAfterSomebodyWaitedAndClosesWhenCalm(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		cfg := quiet(2)
		cfg.Reserve, cfg.ReserveTimeout = 1, 5*time.Second
		p := r.Attach(keyA, cfg)
		held := []*line{lend(t, p, NewWaiter[*line]()), lend(t, p, NewWaiter[*line]())}
		got := make(chan result, 2)
		go ask(p, NewWaiter[*line](), 0, got)
		synctest.Wait()
		go ask(p, NewWaiter[*line](), 1, got)
		res := <-got
		if res.n != 0 || res.took < 5*time.Second || res.took > 5*time.Second+50*time.Millisecond {
			t.Errorf("waiter %d got the reserve after %s, want waiter 0 after 5s", res.n, res.took)
		}
		time.Sleep(time.Minute)
		if n := r.host.made; n != 3 {
			t.Errorf("%d connections made, want size and reserve: 3", n)
		}
		giveBack(p, res.line)
		second := <-got
		giveBack(p, second.line)
		for _, l := range held {
			giveBack(p, l)
		}
		if st := p.Stats(); st.Idle != 2 || st.Closed["surplus"] != 1 {
			t.Errorf("stats %+v, want 2 idle and 1 closed as surplus", st)
		}
	})
}

func TestMinIdleIsWarmAtOnceAndToppedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		cfg := quiet(6)
		cfg.MinIdle, cfg.IdleTimeout = 3, time.Minute
		p := r.Keep(keyA, cfg)
		synctest.Wait()
		if st := p.Stats(); st.Idle != 3 {
			t.Fatalf("stats %+v, want 3 idle from the start", st)
		}
		a, b := lend(t, p, NewWaiter[*line]()), lend(t, p, NewWaiter[*line]())
		time.Sleep(2 * time.Second)
		if st := p.Stats(); st.Active != 2 || st.Idle != 3 {
			t.Errorf("stats %+v, want 2 active and 3 idle", st)
		}
		discard(p, a)
		giveBack(p, b)
		time.Sleep(time.Hour)
		if st := p.Stats(); st.Idle != 3 {
			t.Errorf("stats %+v, want 3 idle left by idle_timeout", st)
		}
	})
}

func TestDiscardOpensAnotherForWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		p := r.Attach(keyA, quiet(1))
		held := lend(t, p, NewWaiter[*line]())
		got := make(chan result, 1)
		go ask(p, NewWaiter[*line](), 0, got)
		synctest.Wait()
		discard(p, held)
		res := <-got
		if res.err != nil || res.line == held {
			t.Fatalf("got %v (%v), want a new connection", res.line, res.err)
		}
		if reason := *held.closed.Load(); reason != "broken" {
			t.Errorf("closed with reason %q, want the session's", reason)
		}
		giveBack(p, res.line)
	})
}

func TestWhoWaitedLongBeforeTheServerWentIsNotFailedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		cfg := quiet(2)
		cfg.ServerDownWait = 10 * time.Second
		p := r.Attach(keyA, cfg)
		held := lend(t, p, NewWaiter[*line]())
		r.set(func() { r.host.err = errors.New("connection refused") })
		got := make(chan result, 1)
		go ask(p, NewWaiter[*line](), 0, got)
		time.Sleep(time.Minute)
		discard(p, held) // from here on the pool is down
		res := <-got
		if least := time.Minute + 10*time.Second; res.err == nil || res.took < least || res.took > least+2*time.Second {
			t.Errorf("got %v after %s, want an error server_down_wait after the last connection went", res.err, res.took)
		}
	})
}

func TestReplaceKeepsThePlaceAndClosesTheOldConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		p := r.Attach(keyA, quiet(1))
		old := lend(t, p, NewWaiter[*line]())
		fresh, err := r.host.dial(t.Context(), keyA)
		if err != nil {
			t.Fatal(err)
		}
		old.users.Add(-1)
		hold(fresh)
		p.Replace(old, fresh)
		if reason := *old.closed.Load(); reason != "replaced" {
			t.Errorf("the old connection was closed with reason %q", reason)
		}
		got := make(chan result, 1)
		go ask(p, NewWaiter[*line](), 0, got)
		synctest.Wait()
		giveBack(p, fresh)
		if res := <-got; res.err != nil || res.line != fresh {
			t.Errorf("got %v (%v), want the fresh connection, the only one the size allows", res.line, res.err)
		} else {
			giveBack(p, fresh)
		}
	})
}
