package fleet

import (
	"context"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/router/balance"
)

func TestGuard(t *testing.T) {
	type step func(*guard)
	observe := func(at balance.LSN, running ...uint64) step { return func(g *guard) { g.observe(at, running) } }
	deny := func(at balance.LSN, ids ...uint64) step { return func(g *guard) { g.deny(at, ids) } }
	for name, tc := range map[string]struct {
		steps []step
		want  balance.LSN
	}{
		"nothing runs":                            {[]step{observe(10)}, 10},
		"one runs":                                {[]step{observe(10), observe(20, 5)}, 10},
		"it runs on":                              {[]step{observe(10), observe(20, 5), observe(30, 5)}, 10},
		"it has ended":                            {[]step{observe(10), observe(20, 5), observe(30, 6)}, 20},
		"it has ended, the next too":              {[]step{observe(10), observe(20, 5), observe(30, 6), observe(40, 7)}, 30},
		"a later one of two runs on":              {[]step{observe(20, 5), observe(30, 5, 6), observe(40, 6)}, 20},
		"not committed up to there":               {[]step{observe(20, 5), deny(20, 5)}, 20},
		"not committed up to there, and further":  {[]step{observe(20, 5), observe(30, 5), deny(25, 5)}, 20},
		"not committed up to both":                {[]step{observe(20, 5), observe(30, 5), deny(30, 5)}, 30},
		"a replica that has not come there":       {[]step{observe(20, 5), deny(19, 5)}, 0},
		"one of two not committed":                {[]step{observe(20, 5, 6), deny(20, 5)}, 0},
		"one not committed, the other has ended":  {[]step{observe(20, 5, 6), deny(20, 5), observe(30, 5)}, 20},
		"denied once counts for that sample only": {[]step{observe(20, 5), deny(20, 5), observe(30, 5), observe(40, 5)}, 20},
		"it does not go back":                     {[]step{observe(20), observe(15)}, 20},
		"the log stands still":                    {[]step{observe(20, 5), observe(20, 5, 6), observe(20, 6)}, 20},
		"another manager":                         {[]step{observe(20), func(g *guard) { g.reset() }, observe(10)}, 10},
	} {
		var g guard
		for _, s := range tc.steps {
			s(&g)
		}
		if g.visible != tc.want {
			t.Errorf("%s: visible %d, want %d; pending %v", name, g.visible, tc.want, g.pending)
		}
	}
}

// TestGuardAgainstAModel plays a manager whose transactions begin, write a commit record, become visible later, and end,
// with samples and replicas' words in between, and holds the guard to its definition after each step.
func TestGuardAgainstAModel(t *testing.T) {
	type transaction struct {
		id      uint64
		commit  balance.LSN // 0: no record yet
		visible bool
	}
	promoted := 0
	for seed := range uint64(300) {
		random := rand.New(rand.NewPCG(seed, 1))
		var g guard
		var all []*transaction
		at, next := balance.LSN(100), uint64(3)
		var sampleAt balance.LSN // of a sample whose second half is still to come
		for step := range 400 {
			pick := func() *transaction {
				if len(all) == 0 {
					return nil
				}
				return all[random.IntN(len(all))]
			}
			switch random.IntN(8) {
			case 0, 1:
				next++
				all = append(all, &transaction{id: next})
			case 2, 3:
				at += balance.LSN(1 + random.IntN(50))
				if x := pick(); x != nil && x.commit == 0 {
					x.commit = at
				}
			case 4:
				if x := pick(); x != nil && x.commit != 0 {
					x.visible = true
				}
			case 5:
				sampleAt = at
			case 6:
				if sampleAt == 0 {
					break
				}
				var running []uint64
				for _, x := range all {
					if !x.visible {
						running = append(running, x.id)
					}
				}
				slices.Sort(running)
				g.observe(sampleAt, running)
				sampleAt = 0
			case 7: // a replica that has replayed a part answers after it has said so
				replayed := balance.LSN(random.Int64N(int64(at) + 1))
				later := replayed + balance.LSN(random.Int64N(int64(at-replayed)+1))
				var not []uint64
				for _, id := range g.doubtful() {
					for _, x := range all {
						if x.id == id && (x.commit == 0 || x.commit > later) {
							not = append(not, id)
						}
					}
				}
				g.deny(replayed, not)
			}
			for _, x := range all {
				if x.commit != 0 && x.commit <= g.visible && !x.visible {
					t.Fatalf("seed %d, step %d: visible %d passes the commit of %d at %d, which is not visible", seed, step, g.visible, x.id, x.commit)
				}
			}
		}
		if g.visible > 100 {
			promoted++
		}
	}
	if promoted < 150 {
		t.Errorf("only %d of 300 plays promoted anything: the model proves little", promoted)
	}
}

func TestVisibleDoesNotPassACommitThatWaits(t *testing.T) {
	for _, user := range []string{"", "weak"} {
		t.Run("as "+map[bool]string{true: "superuser", false: "ordinary role"}[user == ""], func(t *testing.T) { visibleStops(t, user) })
	}
}

func visibleStops(t *testing.T, user string) {
	r := start(t, localpg.Options{Replicas: 1}, quickConfig(), user)
	manager, replica := session(t, r.shard.Manager), session(t, r.shard.Replicas[0])
	run(t, manager, "CREATE TABLE t (id int)")
	behind := lsn(t, manager, "SELECT pg_current_wal_insert_lsn()::text")
	until(t, "an idle manager's whole log is visible", func() bool { r.Seek(behind); return r.Visible() >= behind-longHeader })

	// A standby that does not exist must confirm, so a commit is in the log and streamed, and not visible.
	for _, sql := range []string{"ALTER SYSTEM SET synchronous_standby_names = 'missing'", "SELECT pg_reload_conf()"} {
		run(t, manager, sql)
	}
	until(t, "the manager waits for the standby", func() bool { return value(t, manager, "SHOW synchronous_standby_names") == "missing" })
	waiting := session(t, r.shard.Manager)
	pid := waiting.PgConn().PID()
	returned := make(chan error, 1)
	go func() { // ends when the standby is no longer asked for, or with the connection
		_, err := waiting.Exec(context.Background(), "INSERT INTO t VALUES (1)")
		returned <- err
	}()
	until(t, "the commit waits", func() bool {
		return value(t, manager, "SELECT coalesce(wait_event, '') FROM pg_stat_activity WHERE pid = $1", pid) == "SyncRep"
	})
	until(t, "the replica shows the row", func() bool { return value(t, replica, "SELECT count(*)::text FROM t") == "1" })
	shown := lsn(t, replica, "SELECT pg_last_wal_replay_lsn()::text")
	if got := value(t, manager, "SELECT count(*)::text FROM t"); got != "0" {
		t.Fatalf("the manager shows %s rows: the test proves nothing", got)
	}
	// Writes that do not wait move the log on; each of them gives the fleet a reason to think that all is visible.
	other := session(t, r.shard.Manager)
	run(t, other, "SET synchronous_commit = local")
	for i := range 20 {
		run(t, other, "INSERT INTO t VALUES ($1)", 100+i)
		r.Seek(lsn(t, other, "SELECT pg_current_wal_insert_lsn()::text"))
		sampled := r.positions.answered.Load() + 3
		until(t, "the manager was sampled again", func() bool { r.Seek(shown); return r.positions.answered.Load() >= sampled })
		if got := r.Visible(); got >= shown {
			t.Fatalf("Visible() = %s passes %s, where the replica shows a row that the manager does not", got, shown)
		}
	}
	for _, sql := range []string{"ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()"} {
		run(t, other, sql)
	}
	if err := <-returned; err != nil {
		t.Fatal(err)
	}
	until(t, "Visible goes on once the commit has returned", func() bool { r.Seek(shown); return r.Visible() >= shown })
}

// TestVisiblePassesTransactionsThatDoNotCommit: one that is open for hours, prepared, or busy must not hold Visible up.
func TestVisiblePassesTransactionsThatDoNotCommit(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Slow = 10 * time.Minute // so that demand alone brings it about
	r := start(t, localpg.Options{Replicas: 1}, cfg, "weak")
	pgtest.Exec(t, r.shard.Manager, "postgres", "CREATE TABLE t (id int)")
	idle, prepared, busy := session(t, r.shard.Manager), session(t, r.shard.Manager), session(t, r.shard.Manager)
	run(t, idle, "BEGIN")
	run(t, idle, "INSERT INTO t VALUES (1)")
	run(t, prepared, "BEGIN")
	run(t, prepared, "INSERT INTO t VALUES (2)")
	run(t, prepared, "PREPARE TRANSACTION 'p'")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ended := make(chan struct{})
	go func() { // ended by the cancel below
		defer close(ended)
		_, _ = busy.Exec(ctx, "DO $$ BEGIN INSERT INTO t VALUES (3); LOOP END LOOP; END $$")
	}()
	writer := session(t, r.shard.Manager)
	until(t, "the busy one has its id", func() bool {
		return value(t, writer, "SELECT count(*)::text FROM pg_locks WHERE locktype = 'transactionid' AND granted") >= "3"
	})
	for i := range 20 {
		run(t, writer, "INSERT INTO t VALUES ($1)", 10+i)
		at := lsn(t, writer, "SELECT pg_current_wal_insert_lsn()::text") - longHeader
		began := time.Now()
		until(t, "Visible reaches "+at.String(), func() bool { r.Seek(at); return r.Visible() >= at })
		if i == 19 {
			t.Logf("the last took %s", time.Since(began))
		}
	}
	cancel()
	<-ended
	run(t, prepared, "ROLLBACK PREPARED 'p'")
}
