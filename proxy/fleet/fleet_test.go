package fleet

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy/wire"
	"pgtier/router/balance"
)

func TestCrashedReplicaIsLeftOutAndComesBackWarmingUp(t *testing.T) {
	r := start(t, localpg.Options{Replicas: 2}, quickConfig(), "")
	victim := r.shard.Replicas[0]
	if err := victim.Kill(); err != nil {
		t.Fatal(err)
	}
	r.Lost(victim.Name, errors.New("connection reset"))
	v := r.await("the replica is down", func(v *View) bool { return r.is(v, victim, balance.Down) })
	if h := r.host(v, victim); h.Reason != "refuses connections" || v.Manager != 0 || !r.is(v, r.shard.Replicas[1], balance.Up) {
		t.Errorf("after the crash:\n%s", show(v))
	}
	hosts := r.Hosts(v, nil, v.At)
	for random := range uint64(20) {
		if i, _ := balance.Choose(hosts, balance.Ask{Random: random << 59}); i != 2 {
			t.Fatalf("a read goes to %d, want 2, the one that is up", i)
		}
	}
	if err := victim.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	v = r.await("it is back", func(v *View) bool { return r.is(v, victim, balance.Up) })
	warm := r.host(v, victim).WarmSince
	if warm.IsZero() {
		t.Fatal("it came back at full share")
	}
	share := func(after time.Duration) float64 { return r.Hosts(v, nil, warm.Add(after))[1].Warmth }
	if a, b, c := share(0), share(r.cfg.SlowStart/2), share(r.cfg.SlowStart); a > .1 || b < .4 || b > .6 || c != 1 {
		t.Errorf("its share is %.2f, then %.2f, then %.2f, want it to grow from little to 1", a, b, c)
	}
	if other := r.Hosts(v, nil, v.At)[2].Warmth; other != 1 {
		t.Errorf("the replica that stayed has a share of %.2f", other)
	}
}

func TestLagIsTimeBehindTheManager(t *testing.T) {
	cfg := quickConfig()
	cfg.MaxLag = 2 * time.Second
	r := start(t, localpg.Options{Replicas: 2}, cfg, "")
	paused := r.shard.Replicas[0]
	pgtest.Exec(t, r.shard.Manager, "postgres", "CREATE TABLE t (id int)")
	catchUp(t, r.shard)
	caught := func(v *View) bool {
		return r.host(v, paused).Lag == 0 && r.is(v, paused, balance.Up) && r.host(v, paused).Replayed >= v.Hosts[0].Replayed
	}
	r.await("no lag", caught)

	pgtest.Exec(t, paused, "postgres", "SELECT pg_wal_replay_pause()")
	until(t, "replay is paused", func() bool {
		return pgtest.Value(t, paused, "postgres", "SELECT pg_get_wal_replay_pause_state()") == "paused"
	})
	// Paused with nothing to replay is not behind, however long.
	idle := time.Now()
	r.await("a second later", func(v *View) bool {
		// The manager writes now and then for itself.
		if h := r.host(v, paused); h.Replayed >= v.Hosts[0].Replayed && h.Lag != 0 || h.State != balance.Up {
			t.Fatalf("idle, and yet:\n%s", show(v))
		}
		return v.At.Sub(idle) > time.Second
	})
	written := time.Now()
	pgtest.Exec(t, r.shard.Manager, "postgres", "INSERT INTO t VALUES (1)")
	v := r.await("it lags", func(v *View) bool { return r.is(v, paused, balance.Lagging) })
	if lag, most := r.host(v, paused).Lag, v.At.Sub(written); lag <= cfg.MaxLag || lag > most {
		t.Errorf("the lag is %s, want more than %s and at most the %s since the write", lag, cfg.MaxLag, most)
	}
	if !r.is(v, r.shard.Replicas[1], balance.Up) {
		t.Errorf("the other one does not lag:\n%s", show(v))
	}
	if i, why := balance.Choose(r.Hosts(v, nil, v.At)[:2], balance.Ask{MaxLag: cfg.MaxLag}); i != -1 || why != balance.AllLagging {
		t.Errorf("with that replica alone a read goes to %d because %q, want the manager because every replica lags", i, why)
	}
	pgtest.Exec(t, paused, "postgres", "SELECT pg_wal_replay_resume()")
	v = r.await("it has caught up", caught)
	if !r.host(v, paused).WarmSince.IsZero() {
		t.Error("a replica that lagged begins cold, though its caches are warm")
	}
}

func TestDelayedReplicaIsNeverAheadOfItself(t *testing.T) {
	r := start(t, localpg.Options{Replicas: 1, Settings: map[string]string{"recovery_min_apply_delay": "400ms"}}, quickConfig(), "")
	replica := r.shard.Replicas[0]
	manager := session(t, r.shard.Manager)
	run(t, manager, "CREATE TABLE t (id int)")
	catchUp(t, r.shard)
	reader := session(t, replica)
	for i := range 5 {
		began := time.Now()
		run(t, manager, "INSERT INTO t VALUES ($1)", i)
		ticket := r.Committed()
		var at balance.LSN
		until(t, "the ticket has a position", func() (ok bool) { at, ok = r.Position(ticket); return ok })
		v := r.await("the replica has reached it", func(v *View) bool { r.Seek(at); return r.host(v, replica).Replayed >= at })
		if took := time.Since(began); took < 400*time.Millisecond {
			t.Errorf("write %d is said to be replayed after %s, sooner than the replica's delay", i, took)
		}
		if got := value(t, reader, "SELECT count(*)::text FROM t WHERE id = $1", i); got != "1" {
			t.Errorf("the replica does not show write %d\n%s", i, show(v))
		}
	}
}

func TestCrashedManagerIsReplacedAndItsReturnIsAConflict(t *testing.T) {
	r := start(t, localpg.Options{Replicas: 2}, quickConfig(), "")
	old, next, other := r.shard.Manager, r.shard.Replicas[0], r.shard.Replicas[1]
	epoch := r.View().Epoch
	if err := old.Kill(); err != nil {
		t.Fatal(err)
	}
	crashed := time.Now()
	r.Lost(old.Name, errors.New("connection reset"))
	v := r.await("the manager is gone", func(v *View) bool { return v.Manager == -1 })
	t.Logf("loss noticed after %s", time.Since(crashed))
	if v.Epoch != epoch {
		t.Errorf("the loss raised the epoch from %d to %d; it is the next manager's", epoch, v.Epoch)
	}
	if !r.is(v, next, balance.Up) || !r.is(v, other, balance.Up) {
		t.Errorf("the replicas can still be read:\n%s", show(v))
	}
	waiting := make(chan *View, 1)
	go func() { // ended by the test's context
		got, err := r.AwaitManager(t.Context(), epoch)
		if err != nil {
			t.Errorf("AwaitManager: %v", err)
		}
		waiting <- got
	}()
	if err := next.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	promoted := time.Now()
	got := <-waiting
	t.Logf("new manager known %s after pg_promote returned", time.Since(promoted))
	if got.Manager != 1 || got.Epoch <= epoch || got.Hosts[1].Timeline != 2 {
		t.Fatalf("AwaitManager returned\n%s", show(got))
	}
	r.await("the replica of the old manager is out", func(v *View) bool {
		return r.is(v, other, balance.Down) && strings.Contains(r.host(v, other).Reason, "timeline 1")
	})
	if err := other.Follow(t.Context(), next); err != nil {
		t.Fatal(err)
	}
	r.await("it is back once it follows the new one", func(v *View) bool { return r.is(v, other, balance.Up) })

	if err := old.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	v = r.await("the old one's claim is reported", func(v *View) bool { return v.Conflict != "" })
	if v.Manager != 1 || !r.is(v, old, balance.Down) || !strings.Contains(v.Conflict, old.Name+" (timeline 1)") {
		t.Errorf("want %s to stay the manager, and %s reported:\n%s", next.Name, old.Name, show(v))
	}
	// Also when the new one goes away: what was committed there would be lost.
	if err := next.Kill(); err != nil {
		t.Fatal(err)
	}
	r.Lost(next.Name, errors.New("connection reset"))
	v = r.await("there is no manager", func(v *View) bool { return v.Manager == -1 })
	asked := v.At
	r.await("the old one has answered again", func(v *View) bool { return v.At.Sub(asked) > 5*r.cfg.Hunt && v.Manager == -1 })
	if err := next.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	again := r.await("the new one is back", func(v *View) bool { return v.Manager == 1 })
	if again.Epoch <= got.Epoch {
		t.Errorf("a manager that crashed and came back has epoch %d as before", again.Epoch)
	}
}

// TestTwoManagersAtTheStart: a fleet that has seen nothing before chooses by timeline, not by configuration.
func TestTwoManagersAtTheStart(t *testing.T) {
	cluster := pgtest.Start(t, localpg.Options{Replicas: 1})
	shard := cluster.Shards[0]
	if err := shard.Replicas[0].Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := watch(t, shard, quickConfig(), "")
	v := r.await("both have answered", func(v *View) bool { return v.Manager >= 0 && v.Conflict != "" })
	if v.Manager != 1 || !strings.Contains(v.Conflict, shard.Manager.Name) {
		t.Errorf("want the replica that was promoted:\n%s", show(v))
	}
}

func TestSilenceIsLossAfterItsLimit(t *testing.T) {
	cfg := quickConfig()
	cfg.Silence = 2 * time.Second
	r := start(t, localpg.Options{Replicas: 1}, cfg, "")
	epoch := r.View().Epoch
	if err := r.shard.Manager.Pause(); err != nil {
		t.Fatal(err)
	}
	frozen := time.Now()
	v := r.await("the manager is gone", func(v *View) bool { return v.Manager == -1 })
	if took := time.Since(frozen); took < cfg.Silence/2 {
		t.Errorf("lost after %s, before the limit of %s", took, cfg.Silence)
	}
	if h := r.host(v, r.shard.Manager); h.State != balance.Down || !strings.Contains(h.Reason, "no answer within 2s") {
		t.Errorf("after silence:\n%s", show(v))
	}
	if !r.is(v, r.shard.Replicas[0], balance.Up) {
		t.Errorf("the replica answers and yet:\n%s", show(v))
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*cfg.Silence)
	defer cancel()
	if got, err := r.AwaitManager(ctx, epoch); err == nil {
		t.Errorf("AwaitManager returned while the manager is frozen\n%s", show(got))
	}
	if err := r.shard.Manager.Continue(); err != nil {
		t.Fatal(err)
	}
	if got, err := r.AwaitManager(t.Context(), epoch); err != nil || got.Manager != 0 || got.Epoch <= epoch {
		t.Errorf("after the silence: %v\n%s", err, show(got))
	}
}

// TestServerThatIsSilentFromTheStart takes connections, by its listening socket, and never answers one.
func TestServerThatIsSilentFromTheStart(t *testing.T) {
	shard := pgtest.Start(t, localpg.Options{Replicas: 1}).Shards[0]
	if err := shard.Replicas[0].Pause(); err != nil {
		t.Fatal(err)
	}
	cfg := quickConfig()
	cfg.Silence = time.Second
	r := watch(t, shard, cfg, "")
	v := r.await("the silence is noticed", func(v *View) bool { return strings.Contains(v.Hosts[1].Reason, "no answer within 1s") })
	if v.Manager != 0 {
		t.Errorf("the manager answers and yet:\n%s", show(v))
	}
}

// TestBrokenConnectionAloneIsNoLoss: somebody ended the monitor's server process. The manager stays, but it may have crashed and be back, so an epoch begins.
func TestBrokenConnectionAloneIsNoLoss(t *testing.T) {
	r := start(t, localpg.Options{}, quickConfig(), "")
	for range 5 {
		before := r.View()
		pgtest.Exec(t, r.shard.Manager, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgtier monitor'")
		v := r.await("the manager has been asked over another connection", func(v *View) bool { return v.Manager < 0 || v.Epoch != before.Epoch })
		if v.Manager != 0 || v.Epoch != before.Epoch+1 {
			t.Fatalf("epoch %d instead of %d\n%s", v.Epoch, before.Epoch+1, show(v))
		}
	}
}

func TestAwaitManagerOfAnEpochWantsANewProof(t *testing.T) {
	r := start(t, localpg.Options{}, quickConfig(), "")
	epoch := r.View().Epoch
	if _, err := r.AwaitManager(t.Context(), 0); err != nil {
		t.Fatal(err)
	}
	asked := r.positions.asked.Load()
	v, err := r.AwaitManager(t.Context(), epoch)
	if err != nil || v.Epoch != epoch {
		t.Fatalf("got %v, %v", v, err)
	}
	if answered := r.positions.answered.Load(); answered <= asked {
		t.Errorf("it returned on question %d, asked before the call (%d)", answered, asked)
	}
}

// TestOrdinaryRoleSeesEnough: no grants at all.
func TestOrdinaryRoleSeesEnough(t *testing.T) {
	r := start(t, localpg.Options{Replicas: 1}, quickConfig(), "weak")
	v := r.View()
	for _, h := range v.Hosts {
		if h.Timeline != 1 || h.System == 0 || h.System != v.Hosts[0].System || h.Replayed == 0 {
			t.Errorf("%s: timeline %d, system %d, replayed %s", h.Name, h.Timeline, h.System, h.Replayed)
		}
	}
	if err := r.shard.Manager.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := r.shard.Replicas[0].Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	v = r.await("the promoted one", func(v *View) bool { return v.Manager == 1 })
	if v.Hosts[1].Timeline != 2 {
		t.Errorf("its timeline is %d, want 2 at once, before its next checkpoint", v.Hosts[1].Timeline)
	}
}

// TestRoleWithoutControlFunctions: some services revoke them.
func TestRoleWithoutControlFunctions(t *testing.T) {
	cluster := pgtest.Start(t, localpg.Options{Replicas: 1})
	shard := cluster.Shards[0]
	for _, f := range []string{"pg_control_checkpoint", "pg_control_recovery", "pg_control_system"} {
		pgtest.Exec(t, shard.Manager, "postgres", "REVOKE EXECUTE ON FUNCTION "+f+" FROM public")
	}
	pgtest.Exec(t, shard.Manager, "postgres", "CREATE ROLE weak LOGIN PASSWORD 'weak'")
	catchUp(t, shard)
	r := watch(t, shard, quickConfig(), "weak")
	v := r.await("both are up", func(v *View) bool { return v.Manager == 0 && v.Hosts[1].State == balance.Up })
	if v.Hosts[0].Timeline != 1 || v.Hosts[1].Timeline != 0 || v.Hosts[0].System != 0 {
		t.Errorf("want the manager's timeline only:\n%s", show(v))
	}
}

func TestRefusedLoginLeavesTheConfiguredManager(t *testing.T) {
	cluster := pgtest.Start(t, localpg.Options{Replicas: 1})
	r := watch(t, cluster.Shards[0], quickConfig(), "nobody_known")
	v := r.await("the refusal", func(v *View) bool { return strings.Contains(v.Hosts[0].Reason, "does not let pgtier in") })
	if v.Manager != 0 {
		t.Errorf("the configured manager is not taken at its word:\n%s", show(v))
	}
	if v.Hosts[1].State != balance.Down {
		t.Errorf("a replica that nobody could ask is read from:\n%s", show(v))
	}
}

func TestReplicaThatSessionsKeepLosingRests(t *testing.T) {
	cfg := quickConfig()
	cfg.EjectFor = time.Second
	r := start(t, localpg.Options{Replicas: 2}, cfg, "")
	first, second := r.shard.Replicas[0], r.shard.Replicas[1]
	for range cfg.Ejection.Streak {
		r.Lost(first.Name, errors.New("connection reset"))
		r.Lost(second.Name, errors.New("connection reset"))
	}
	v := r.View()
	if !r.is(v, first, balance.Failing) || !r.is(v, second, balance.Up) {
		t.Errorf("want the first to rest, and the last that is left to serve on:\n%s", show(v))
	}
	r.Observe(first.Name, time.Millisecond)
	r.Observe(second.Name, time.Millisecond)
	v = r.await("both are back", func(v *View) bool { return r.is(v, first, balance.Up) && r.is(v, second, balance.Up) })
	if r.host(v, first).WarmSince.IsZero() {
		t.Error("the one that rested came back at full share")
	}
}

func TestFullReplicaIsLeftOutForAMoment(t *testing.T) {
	r := start(t, localpg.Options{Replicas: 1}, quickConfig(), "")
	replica := r.shard.Replicas[0]
	r.Lost(replica.Name, wire.Fatal("53300", "sorry, too many clients already"))
	v := r.View()
	if _, why := balance.Choose(r.Hosts(v, nil, v.At), balance.Ask{}); why != balance.AllFull {
		t.Errorf("no replica is chosen because %q", why)
	}
	r.await("it is back", func(v *View) bool { return r.is(v, replica, balance.Up) })
}
