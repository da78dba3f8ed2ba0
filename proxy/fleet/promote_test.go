package fleet

import (
	"errors"
	"strings"
	"testing"
	"time"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
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
	gone := known{status: status{role: Manager, timeline: 1, system: 7}}
	present := known{answered: true, status: gone.status}
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
