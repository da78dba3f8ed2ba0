package fleet

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy/wire"
	"pgtier/router/balance"
	"pgtier/router/topology"

	"go.uber.org/zap"
)

func promoting() Config {
	cfg := quickConfig()
	cfg.Promote, cfg.PromoteAfter = true, 300*time.Millisecond
	return cfg
}

func TestQuorum(t *testing.T) {
	follower := func(received balance.LSN) known {
		return known{answered: true, status: status{role: Replica, timeline: 1, system: 7, received: received}}
	}
	streaming := follower(9)
	streaming.status.streaming = true
	gone := known{asked: true, status: status{role: Manager, timeline: 1, system: 7}}
	present := known{asked: true, answered: true, status: gone.status}
	fenced := present
	fenced.fenced = true
	closed := gone
	closed.failure.closed = true
	silent := follower(99)
	silent.answered = false
	older, strange := follower(99), follower(99)
	older.status.timeline, strange.status.system = 0, 8
	replaying := follower(0)
	replaying.status.position = 20
	for name, tc := range map[string]struct {
		hosts  []known
		target int // -1: no quorum
	}{
		"both replicas agree":                  {[]known{gone, follower(10), follower(11)}, 2},
		"one agrees, one is silent":            {[]known{gone, follower(10), silent}, 1},
		"the only replica":                     {[]known{gone, follower(10)}, 1},
		"nobody answers":                       {[]known{gone, silent, silent}, -1},
		"one of three replicas":                {[]known{gone, follower(10), silent, silent}, -1},
		"two of four replicas":                 {[]known{gone, follower(10), follower(9), silent, silent}, 1},
		"one still has a stream":               {[]known{gone, follower(10), streaming}, -1},
		"nobody has asked the manager":         {[]known{{}, follower(10), follower(11)}, -1},
		"the manager answers":                  {[]known{present, follower(10), follower(11)}, -1},
		"the manager refuses us only":          {[]known{closed, follower(10), follower(11)}, -1},
		"a fenced manager answers":             {[]known{fenced, follower(10), follower(11)}, 2},
		"replayed from the archive":            {[]known{gone, follower(10), replaying}, 2},
		"the furthest is on an older timeline": {[]known{gone, follower(10), older}, 1},
		"the furthest is of another system":    {[]known{gone, follower(10), strange}, 1},
		"no candidate":                         {[]known{gone, older}, -1},
	} {
		f := &Fleet{hosts: tc.hosts, roles: roles{manager: -1, last: 0, system: 7, highest: 1}}
		target, ok := f.quorum()
		if !ok {
			target = -1
		}
		if target != tc.target {
			t.Errorf("%s: target %d, want %d", name, target, tc.target)
		}
	}
}

func TestPromotionTakesTheMostAdvancedReplicaAndFencesTheOldManager(t *testing.T) {
	r := start(t, localpg.Options{Replicas: 2}, promoting(), "")
	old, behind, ahead := r.shard.Manager, r.shard.Replicas[0], r.shard.Replicas[1]
	for _, sql := range []string{"ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()"} {
		pgtest.Exec(t, behind, "postgres", sql)
	}
	until(t, "one replica hears no more", func() bool {
		return pgtest.Value(t, behind, "postgres", "SELECT count(*) FROM pg_stat_wal_receiver") == "0"
	})
	pgtest.Exec(t, old, "postgres", "CREATE TABLE late AS SELECT 1 AS id")
	at := pgtest.Value(t, old, "postgres", "SELECT pg_current_wal_lsn()")
	until(t, "the other has it all", func() bool {
		return pgtest.Value(t, ahead, "postgres", "SELECT pg_last_wal_replay_lsn() >= '"+at+"'") == "t"
	})
	if err := old.Kill(); err != nil {
		t.Fatal(err)
	}
	v := r.await("another manager", func(v *View) bool { return v.Manager > 0 })
	if v.Hosts[v.Manager].Name != ahead.Name {
		t.Fatalf("promoted %s, want %s\n%s", v.Hosts[v.Manager].Name, ahead.Name, show(v))
	}
	if got := pgtest.Value(t, ahead, "postgres", "SELECT count(*) FROM late"); got != "1" {
		t.Errorf("the new manager has %s rows of what was written last", got)
	}
	if err := old.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	v = r.await("the old one is reported", func(v *View) bool { return strings.Contains(v.Conflict, old.Name) })
	if v.Hosts[v.Manager].Name != ahead.Name || !r.is(v, old, balance.Down) {
		t.Errorf("the old manager is believed:\n%s", show(v))
	}
}

// TestSilentManagerWithLiveStreamsIsNotReplaced: it is frozen or cut off from us, but for all the replicas know it lives.
func TestSilentManagerWithLiveStreamsIsNotReplaced(t *testing.T) {
	cfg := promoting()
	cfg.Silence = 300 * time.Millisecond
	r := start(t, localpg.Options{Replicas: 2}, cfg, "")
	if err := r.shard.Manager.Pause(); err != nil {
		t.Fatal(err)
	}
	lost := r.await("the manager is gone", func(v *View) bool { return v.Manager == -1 }).At
	r.await("five times the limit later", func(v *View) bool {
		if v.Manager >= 0 {
			t.Fatalf("promoted although the replicas still have their streams:\n%s", show(v))
		}
		return v.At.Sub(lost) > 5*cfg.PromoteAfter
	})
	if err := r.shard.Manager.Continue(); err != nil {
		t.Fatal(err)
	}
	r.await("it is back", func(v *View) bool { return v.Manager == 0 })
}

// TestRefusedPromotionLiftsTheFence: the role may not promote, so nothing has happened and the old manager may return.
func TestRefusedPromotionLiftsTheFence(t *testing.T) {
	r := start(t, localpg.Options{Replicas: 1}, promoting(), "weak")
	if err := r.shard.Manager.Kill(); err != nil {
		t.Fatal(err)
	}
	ordered := func() (at time.Time, fenced bool) {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.order.at, r.hosts[0].fenced
	}
	until(t, "a promotion is ordered, and refused", func() bool { at, fenced := ordered(); return !at.IsZero() && !fenced })
	if v := r.View(); v.Manager != -1 || v.Hosts[1].Role != Replica {
		t.Errorf("it was not refused:\n%s", show(v))
	}
	if err := r.shard.Manager.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	r.await("the old manager is back", func(v *View) bool { return v.Manager == 0 })
}

func TestUnknownOutcomeOfAPromotionLeavesTheFence(t *testing.T) {
	f := New(topology.Shard{Manager: topology.Server{Name: "a"}}, DefaultConfig(), nil, zap.NewNop())
	f.roles.last, f.hosts[0].fenced = 0, true
	f.promoted(0, errors.New("connection reset"))
	if !f.hosts[0].fenced {
		t.Error("the fence is lifted although the order may have been heard")
	}
}

// TestOrderIsNotCarriedOutLater: the replica that was ordered is lost before it is told, and another becomes the manager.
// When it is back it must stay a replica.
func TestOrderIsNotCarriedOutLater(t *testing.T) {
	cfg := promoting()
	cfg.PromoteAfter = time.Hour // until the stage is set
	r := start(t, localpg.Options{Replicas: 2}, cfg, "")
	if err := r.shard.Manager.Kill(); err != nil {
		t.Fatal(err)
	}
	until(t, "both replicas have lost their streams", func() bool {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.roles.manager < 0 && !r.hosts[1].status.streaming && !r.hosts[2].status.streaming
	})
	// It is lost with an order that its monitor will find, and the order has become too old.
	behind, other := r.shard.Replicas[0], r.shard.Replicas[1]
	if err := behind.Kill(); err != nil {
		t.Fatal(err)
	}
	r.await("the replica is lost", func(v *View) bool { return r.is(v, behind, balance.Down) })
	r.mu.Lock()
	r.order = promotion{at: time.Now().Add(-promoteAgain), target: 1, taken: true}
	r.monitors[1].promote.Store(true)
	r.cfg.PromoteAfter = 0
	r.mu.Unlock()
	r.await("the other is the manager", func(v *View) bool { return v.Manager == 2 })
	started := time.Now()
	if err := behind.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	back := r.await("it is back", func(v *View) bool { return !r.host(v, behind).Asked.Before(started) })
	r.await("it has been a replica for a while", func(v *View) bool {
		if r.host(v, behind).Role != Replica || v.Conflict != "" {
			t.Fatalf("it was promoted beside %s:\n%s", other.Name, show(v))
		}
		return v.At.Sub(back.At) > 2*time.Second
	})
}

func TestOrdersThatAreNotCarriedOut(t *testing.T) {
	now := time.Now()
	following := known{answered: true, status: status{role: Replica, timeline: 1, system: 7, received: 10}}
	streaming := following
	streaming.status.streaming = true
	further := following
	further.status.received = 11
	for name, tc := range map[string]struct {
		order   promotion
		manager int
		host    known
		other   known
		want    bool
		fenced  bool // afterwards
	}{
		"fresh":                         {promotion{at: now, target: 1, fences: true}, -1, following, following, true, true},
		"there is a manager":            {promotion{at: now, target: 1, fences: true}, 2, following, following, false, true},
		"for another":                   {promotion{at: now, target: 2, fences: true}, -1, following, following, false, true},
		"none":                          {promotion{}, -1, following, following, false, true},
		"old":                           {promotion{at: now.Add(-promoteAgain), target: 1, fences: true}, -1, following, following, false, true},
		"taken":                         {promotion{at: now, target: 1, fences: true, taken: true}, -1, following, following, false, true},
		"somebody has a stream":         {promotion{at: now, target: 1, fences: true}, -1, following, streaming, false, false},
		"another is further":            {promotion{at: now, target: 1, fences: true}, -1, following, further, false, false},
		"another is further, old fence": {promotion{at: now, target: 1}, -1, following, further, false, true},
	} {
		f := New(topology.Shard{Manager: topology.Server{Name: "a"}, Replicas: []topology.Server{{Name: "b"}, {Name: "c"}}}, DefaultConfig(), nil, zap.NewNop())
		f.roles = roles{manager: tc.manager, last: 0, system: 7, highest: 1}
		f.hosts = []known{{asked: true, fenced: true, fence: 1}, tc.host, tc.other}
		f.order = tc.order
		if got := f.takeOrder(1, now); got != tc.want || f.hosts[0].fenced != tc.fenced {
			t.Errorf("%s: taken %t, want %t; fenced %t, want %t", name, got, tc.want, f.hosts[0].fenced, tc.fenced)
		}
	}
}

// TestRefusalOfALaterOrderLeavesTheFenceOfAnEarlierOne: nobody knows whether the earlier one was heard.
func TestRefusalOfALaterOrderLeavesTheFenceOfAnEarlierOne(t *testing.T) {
	f := New(topology.Shard{Manager: topology.Server{Name: "a"}, Replicas: []topology.Server{{Name: "b"}, {Name: "c"}}}, DefaultConfig(), nil, zap.NewNop())
	f.roles.last, f.hosts[0].fenced = 0, true
	f.order = promotion{at: time.Now(), target: 2, taken: true}
	f.promoted(2, &wire.Error{Code: insufficientRight, Message: "permission denied"})
	if !f.hosts[0].fenced {
		t.Error("the fence is lifted although an earlier order may have been heard")
	}
}

// TestOrderToALostReplicaIsWithdrawn: it was not told, so the old manager may return.
func TestOrderToALostReplicaIsWithdrawn(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Promote = true
	f := New(topology.Shard{Manager: topology.Server{Name: "a"}, Replicas: []topology.Server{{Name: "b"}}}, cfg, nil, zap.NewNop())
	now := time.Now()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lostAt = now.Add(-cfg.PromoteAfter)
	f.roles = roles{manager: -1, last: 0, system: 7, highest: 1}
	f.hosts[1] = known{answered: true, status: status{role: Replica, timeline: 1, system: 7, received: 10}}
	f.considerPromotion(now)
	if !f.order.at.IsZero() {
		t.Fatalf("a promotion was ordered before anybody has asked the old manager: %+v", f.order)
	}
	f.hosts[0].asked = true
	f.considerPromotion(now)
	if f.order.target != 1 || !f.hosts[0].fenced || !f.monitors[1].promote.Load() {
		t.Fatalf("no promotion was ordered: %+v", f.order)
	}
	f.hosts[1].answered = false
	f.considerPromotion(now)
	if !f.order.at.IsZero() || f.hosts[0].fenced || f.monitors[1].promote.Load() {
		t.Errorf("order %+v, fenced %t, flag %t; want none", f.order, f.hosts[0].fenced, f.monitors[1].promote.Load())
	}
}
