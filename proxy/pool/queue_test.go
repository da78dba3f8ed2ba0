package pool

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestWaitersAreServedInTheOrderTheyAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		p := r.Attach(keyA, quiet(1))
		held := lend(t, p, NewWaiter[*line]())
		got := make(chan result, 10)
		for n := range 10 {
			go ask(p, NewWaiter[*line](), n, got)
			synctest.Wait()
		}
		for want := range 10 {
			giveBack(p, held)
			res := <-got
			if res.n != want {
				t.Fatalf("waiter %d was served, want %d", res.n, want)
			}
			held = res.line
		}
		giveBack(p, held)
	})
}

func TestANewcomerDoesNotOvertakeAWaiterWhoseConnectionWasDead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		cfg := quiet(1)
		cfg.CheckDelay, cfg.CheckTimeout = time.Minute, 5*time.Second
		p := r.Attach(keyA, cfg)
		l := lend(t, p, NewWaiter[*line]())
		l.mute.Store(true)
		giveBack(p, l)
		time.Sleep(2 * time.Minute)
		got := make(chan result, 2)
		go ask(p, NewWaiter[*line](), 0, got)
		synctest.Wait() // it checks
		go ask(p, NewWaiter[*line](), 1, got)
		for want := range 2 {
			res := <-got
			if res.err != nil || res.n != want {
				t.Fatalf("served %d (%v), want %d", res.n, res.err, want)
			}
			if res.line == l {
				t.Fatal("the dead connection was lent")
			}
			giveBack(p, res.line)
		}
	})
}

func TestAWaitEndsAtTheTimeLimitAndSaysWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		cfg := quiet(1)
		cfg.WaitTimeout = 3 * time.Second
		p := r.Attach(keyA, cfg)
		held := lend(t, p, NewWaiter[*line]())
		start := time.Now()
		w := NewWaiter[*line]()
		for range 2 { // the second time with a used timer
			_, err := p.Acquire(w, Want[*line]{})
			if err == nil {
				t.Fatal("got a connection, want an error")
			}
			if state := stateOf(t, err); state != "57P03" {
				t.Errorf("SQLSTATE %s, want 57P03", state)
			}
			var e *Error
			if !errors.As(err, &e) || !strings.Contains(e.Detail(), "1 of 1 connections in use") || e.Hint() == "" {
				t.Errorf("error %#v does not say how full the pool is and what to do", err)
			}
		}
		if took := time.Since(start); took != 6*time.Second {
			t.Errorf("two waits took %s, want 6s", took)
		}
		giveBack(p, held)
		giveBack(p, lend(t, p, w))
	})
}

func TestCancelEndsOnlyTheAcquireInProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		p := r.Attach(keyA, quiet(1))
		held := lend(t, p, NewWaiter[*line]())
		w, stop := NewWaiter[*line](), errors.New("stop")
		if w.Cancel(stop) {
			t.Error("Cancel found an Acquire before there was one")
		}
		got := make(chan result, 1)
		go ask(p, w, 0, got)
		synctest.Wait()
		if !w.Cancel(stop) {
			t.Error("Cancel found no Acquire")
		}
		if res := <-got; !errors.Is(res.err, stop) {
			t.Errorf("Acquire returned %v, want %v", res.err, stop)
		}
		giveBack(p, held)
		giveBack(p, lend(t, p, w)) // Cancel does not last

		w.Close(stop)
		if _, err := p.Acquire(w, Want[*line]{}); !errors.Is(err, stop) {
			t.Errorf("Acquire after Close returned %v, want %v", err, stop)
		}
	})
}

func TestCancelDuringTheCheckKeepsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		cfg := quiet(1)
		cfg.CheckDelay, cfg.CheckTimeout = time.Minute, 5*time.Second
		p := r.Attach(keyA, cfg)
		l := lend(t, p, NewWaiter[*line]())
		l.thinks.Store(int64(time.Second))
		giveBack(p, l)
		time.Sleep(2 * time.Minute)
		w, stop := NewWaiter[*line](), errors.New("stop")
		got := make(chan result, 1)
		go ask(p, w, 0, got)
		synctest.Wait()
		if st := p.Stats(); st.Tested != 1 {
			t.Fatalf("stats %+v, want one connection tested", st)
		}
		if !w.Cancel(stop) {
			t.Error("Cancel found no Acquire")
		}
		if res := <-got; !errors.Is(res.err, stop) {
			t.Errorf("Acquire returned %v, want %v", res.err, stop)
		}
		if again := lend(t, p, w); again != l {
			t.Error("the connection that answered its check was not kept")
		}
		giveBack(p, l)
	})
}

func TestTheConnectionAskedForComesFirstThenTheRightStateThenTheLastUsed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		p, w := r.Attach(keyA, quiet(4)), NewWaiter[*line]()
		var lines []*line
		for n := range 4 {
			l := lend(t, p, w)
			l.fingerprint = uint64(n)
			lines = append(lines, l)
		}
		for _, l := range lines {
			giveBack(p, l)
		}
		for _, c := range []struct {
			name string
			want Want[*line]
			got  *line
		}{
			{"preferred", Want[*line]{Prefer: lines[1], Fingerprint: 2}, lines[1]},
			{"fingerprint", Want[*line]{Fingerprint: 2}, lines[2]},
			{"preferred is taken", Want[*line]{Prefer: lines[1], Fingerprint: 0}, lines[0]},
			{"last used", Want[*line]{Fingerprint: 99}, lines[3]},
		} {
			l, err := p.Acquire(w, c.want)
			if err != nil || l != c.got {
				t.Fatalf("%s: got connection %v (%v), want %d", c.name, l, err, c.got.id)
			}
			hold(l)
		}
		for _, l := range lines {
			giveBack(p, l)
		}
	})
}

func TestAConnectionClosedByItsPeerIsNotLent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		p, w := r.Attach(keyA, quiet(3)), NewWaiter[*line]()
		a, b := lend(t, p, w), lend(t, p, w)
		giveBack(p, a)
		giveBack(p, b)
		a.stale.Store(true)
		b.stale.Store(true)
		time.Sleep(5 * time.Second)
		l := lend(t, p, w)
		if l == a || l == b {
			t.Error("a closed connection was lent")
		}
		if n := p.Stats().Closed["stale"]; n != 2 {
			t.Errorf("%d closed as stale, want 2", n)
		}
		giveBack(p, l)
	})
}

func TestOneConnectionThatDoesNotAnswerCondemnsTheOthersThatRestedAsLong(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		cfg := quiet(10)
		cfg.CheckDelay, cfg.CheckTimeout = 30*time.Second, 5*time.Second
		p, w := r.Attach(keyA, cfg), NewWaiter[*line]()
		var lines []*line
		for range 10 {
			lines = append(lines, lend(t, p, w))
		}
		for _, l := range lines {
			l.mute.Store(true)
			giveBack(p, l)
		}
		time.Sleep(time.Minute)
		if st := p.Stats(); st.Used != 10 || st.Idle != 0 {
			t.Errorf("stats %+v, want 10 used and none idle", st)
		}
		start := time.Now()
		giveBack(p, lend(t, p, w))
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("Acquire took %s, want one check_timeout of 5s", took)
		}
	})
}

func TestReleasingWhatIsNotLentChangesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		p, w := r.Attach(keyA, quiet(1)), NewWaiter[*line]()
		l := lend(t, p, w)
		giveBack(p, l)
		p.Release(l)
		p.Discard(l, "twice")
		p.Release(&line{host: r.host})
		if st := p.Stats(); st.Idle != 1 || st.Active != 0 {
			t.Errorf("stats %+v, want one idle", st)
		}
		giveBack(p, lend(t, p, w))
	})
}

func TestAfterALossEveryIdleConnectionIsLookedAtBeforeItIsLent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		p, w := r.Attach(keyA, quiet(3)), NewWaiter[*line]()
		lost, idle, busy := lend(t, p, w), lend(t, p, w), lend(t, p, w)
		giveBack(p, idle)
		for _, l := range []*line{lost, idle, busy} {
			l.stale.Store(true) // the server restarts
		}
		discard(p, lost)
		l := lend(t, p, w)
		if l == idle {
			t.Error("a connection was lent that died beside one that was lost")
		}
		giveBack(p, l)
		discard(p, busy)
	})
}
