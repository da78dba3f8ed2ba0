package pool

import (
	"testing"
	"testing/synctest"
	"time"
)

var (
	keyB = Key{Database: "app", Role: "bob", Server: "s0"}
	keyC = Key{Database: "other", Role: "ann", Server: "s0"}
)

func TestAFullDatabaseEvictsAnIdleConnectionOfTheLargestPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		cfg := quiet(10)
		cfg.MaxDatabaseConnections = 3
		a, b, c := r.Attach(keyA, cfg), r.Attach(keyB, cfg), r.Attach(keyC, cfg)
		w := NewWaiter[*line]()
		held := []*line{lend(t, a, w), lend(t, a, w), lend(t, a, w)}
		for _, l := range held {
			giveBack(a, l)
		}
		elsewhere := lend(t, c, w) // another database is not concerned
		start := time.Now()
		l := lend(t, b, w)
		if took := time.Since(start); took > 50*time.Millisecond {
			t.Errorf("the evicted place came after %s, want at once", took)
		}
		if n, _ := r.limits.Servers("app", ""); n != 3 {
			t.Errorf("%d connections of the database, want 3", n)
		}
		if st := a.Stats(); st.Idle != 2 || st.Closed["evicted"] != 1 {
			t.Errorf("stats %+v, want 2 idle and 1 evicted", st)
		}
		giveBack(b, l)
		giveBack(c, elsewhere)
	})
}

func TestAPoolWithoutConnectionsGetsOneFromABusyPool(t *testing.T) {
	for name, limit := range map[string]func(*Config){
		"database": func(c *Config) { c.MaxDatabaseConnections = 2 },
		"role":     func(c *Config) { c.MaxUserConnections = 2 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRig(t)
				defer r.end()
				cfg := quiet(10)
				limit(cfg)
				other := keyB
				if name == "role" {
					other = keyC
				}
				a, b := r.Attach(keyA, cfg), r.Attach(other, cfg)
				stop := make(chan struct{})
				workers := make(chan int, 4)
				for range 4 { // a is never idle
					go func() {
						w := NewWaiter[*line]()
						turns := 0
						for {
							select {
							case <-stop:
								workers <- turns
								return
							default:
							}
							l := lend(t, a, w)
							time.Sleep(10 * time.Millisecond)
							giveBack(a, l)
							turns++
						}
					}()
				}
				time.Sleep(time.Second)
				start := time.Now()
				l := lend(t, b, NewWaiter[*line]())
				if took := time.Since(start); took > 3*time.Second {
					t.Errorf("waited %s for a busy pool to give way, want 2s at most", took)
				}
				giveBack(b, l)
				time.Sleep(time.Second)
				close(stop)
				for range 4 {
					if turns := <-workers; turns < 50 {
						t.Errorf("a worker of the busy pool had %d turns, want at least 50", turns)
					}
				}
			})
		})
	}
}

func TestAConnectionThatBecomesIdleGoesToThePoolThatStarves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		cfg := quiet(10)
		cfg.MaxDatabaseConnections = 1
		a, b := r.Attach(keyA, cfg), r.Attach(keyB, cfg)
		held := lend(t, a, NewWaiter[*line]())
		got := make(chan result, 1)
		go ask(b, NewWaiter[*line](), 0, got)
		time.Sleep(300 * time.Millisecond)
		giveBack(a, held)
		res := <-got
		if res.err != nil || res.took > 320*time.Millisecond {
			t.Errorf("got %v after %s, want a connection within 20ms of the release", res.err, res.took)
		}
		giveBack(b, res.line)
	})
}

func TestAClaimWhoseWaiterLeftDoesNotBlockOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		cfg := quiet(10)
		cfg.MaxDatabaseConnections = 1
		short := *cfg
		short.WaitTimeout = 100 * time.Millisecond
		a, b := r.Attach(keyA, cfg), r.Attach(keyB, &short)
		held := lend(t, a, NewWaiter[*line]())
		if _, err := b.Acquire(NewWaiter[*line](), Want[*line]{}); err == nil {
			t.Fatal("got a connection above the limit")
		}
		if r.limits.contended() {
			t.Error("the claim outlived its waiter")
		}
		got := make(chan result, 1)
		go ask(a, NewWaiter[*line](), 0, got)
		synctest.Wait()
		discard(a, held)
		res := <-got
		if res.err != nil {
			t.Errorf("Acquire: %v", res.err)
		}
		giveBack(a, res.line)
	})
}

func TestAFailedDialGivesItsPlaceInTheTotalsBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t)
		defer r.end()
		r.host.err = refusedLogin{"28P01"}
		cfg := quiet(10)
		cfg.MaxDatabaseConnections = 1
		a, b := r.Attach(keyA, cfg), r.Attach(keyB, cfg)
		if _, err := a.Acquire(NewWaiter[*line](), Want[*line]{}); stateOf(t, err) != "28P01" {
			t.Errorf("error %v, want the refusal", err)
		}
		r.set(func() { r.host.err = nil })
		giveBack(b, lend(t, b, NewWaiter[*line]()))
	})
}

func TestClientLimits(t *testing.T) {
	l, cfg := NewLimits(), DefaultConfig()
	cfg.MaxClients, cfg.MaxDatabaseClients, cfg.MaxUserClients = 4, 3, 2
	for _, c := range []struct {
		database, role string
		admitted       bool
	}{
		{"app", "ann", true},
		{"app", "ann", true},
		{"app", "ann", false}, // two of a role
		{"app", "bob", true},
		{"app", "cid", false}, // three of a database
		{"other", "bob", true},
		{"third", "dan", false}, // four in all
	} {
		err := l.Admit(c.database, c.role, &cfg)
		if (err == nil) != c.admitted {
			t.Errorf("Admit(%s, %s) = %v, want admitted %v", c.database, c.role, err, c.admitted)
		}
		if err != nil && stateOf(t, err) != "53300" {
			t.Errorf("SQLSTATE of %v is not 53300", err)
		}
	}
	l.Leave("app", "ann")
	if err := l.Admit("app", "ann", &cfg); err != nil {
		t.Errorf("Admit after Leave: %v", err)
	}
}
