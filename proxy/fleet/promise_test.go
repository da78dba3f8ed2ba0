package fleet

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/router/balance"
)

// TestPositionCoversItsWrites is the promise that reads of one's own writes rest on: a ticket's position is not below the
// commit, and a replica whose known position has reached it shows the row.
func TestPositionCoversItsWrites(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Slow = 10 * time.Minute // so that demand alone brings it about
	r := start(t, localpg.Options{Replicas: 2}, cfg, "")
	pgtest.Exec(t, r.shard.Manager, "postgres", "CREATE TABLE written (id int PRIMARY KEY)")
	const writers, writes = 4, 150
	var wg sync.WaitGroup
	var covered, shown [writers]int
	for w := range writers {
		manager := session(t, r.shard.Manager)
		readers := map[string]func(id int) bool{}
		for _, s := range r.shard.Replicas {
			conn := session(t, s)
			readers[s.Name] = func(id int) bool {
				return value(t, conn, "SELECT count(*)::text FROM written WHERE id = $1", id) == "1"
			}
		}
		random := rand.New(rand.NewPCG(uint64(w), 1))
		wg.Go(func() {
			tick := time.NewTicker(time.Millisecond)
			defer tick.Stop()
			for i := range writes {
				id := w*writes + i
				if _, err := manager.Exec(t.Context(), "INSERT INTO written VALUES ($1)", id); err != nil {
					t.Errorf("insert %d: %v", id, err)
					return
				}
				ticket := r.Committed()
				var at balance.LSN
				deadline := time.Now().Add(patience)
				for ; ; <-tick.C {
					lsn, ok := r.Position(ticket)
					if ok {
						at = lsn
						covered[w]++
						break
					}
					if time.Now().After(deadline) {
						t.Errorf("ticket %d has no position", ticket)
						return
					}
				}
				for random.IntN(2) == 0 || i == writes-1 { // half of them read at once, none forever
					<-tick.C
					v := r.View()
					reached := 0
					for h := range v.Hosts {
						host := &v.Hosts[h]
						read := readers[host.Name]
						if read == nil || host.State != balance.Up || host.Replayed < at {
							continue
						}
						reached++
						if !read(id) {
							t.Errorf("%s has replayed %s, ticket %d has position %s, but row %d is not there", host.Name, host.Replayed, ticket, at, id)
							return
						}
						shown[w]++
					}
					if reached == len(readers) {
						break
					}
					if time.Now().After(deadline) {
						t.Errorf("the replicas do not reach %s\n%s", at, show(v))
						return
					}
				}
			}
		})
	}
	wg.Wait()
	for w := range writers {
		if !t.Failed() && (covered[w] != writes || shown[w] == 0) {
			t.Errorf("writer %d: %d positions and %d reads, want %d and some", w, covered[w], shown[w], writes)
		}
	}
	t.Logf("reads by replicas: %v", shown)
}

// TestPositionIsNotBelowTheCommit compares positions with what the log has reached right after a lone session's commit.
func TestPositionIsNotBelowTheCommit(t *testing.T) {
	r := start(t, localpg.Options{Replicas: 1}, quickConfig(), "")
	pgtest.Exec(t, r.shard.Manager, "postgres", "CREATE TABLE written (id int PRIMARY KEY)")
	conn := session(t, r.shard.Manager)
	for i := range 300 {
		run(t, conn, "INSERT INTO written VALUES ($1)", i)
		ticket := r.Committed()
		// Nobody else writes, so this is the end of the commit record, or of what autovacuum and checkpoints added.
		after := pages{block: 8192, segment: 16 << 20}.end(lsn(t, conn, "SELECT pg_current_wal_insert_lsn()::text"))
		var got balance.LSN
		until(t, "the ticket has a position", func() bool {
			at, ok := r.Position(ticket)
			got = at
			return ok
		})
		if got < after {
			t.Fatalf("write %d: position %s, but the log had reached %s right after the commit", i, got, after)
		}
	}
}

// TestCaughtUpReplicaIsNotBehindAtAPageBoundary: the manager's position steps over the header of a page that nobody has
// written to, the replica's does not.
func TestCaughtUpReplicaIsNotBehindAtAPageBoundary(t *testing.T) {
	r := start(t, localpg.Options{Replicas: 1, Settings: map[string]string{"autovacuum": "off"}}, quickConfig(), "")
	conn := session(t, r.shard.Manager)
	boundary := func() bool { return lsn(t, conn, "SELECT pg_current_wal_insert_lsn()::text")%(16<<20) == longHeader }
	for range 10 {
		run(t, conn, "SELECT txid_current()")
		run(t, conn, "SELECT pg_switch_wal()")
		ticket := r.Committed()
		var at balance.LSN
		until(t, "the ticket has a position", func() (ok bool) { at, ok = r.Position(ticket); return ok })
		r.await("the replica has reached "+at.String(), func(v *View) bool { return v.Hosts[1].Replayed >= at && v.Hosts[1].Lag == 0 })
		if boundary() {
			return // nobody has written meanwhile, not even the server for itself
		}
	}
	t.Error("the log never stood still behind a segment's first header: the test proves nothing")
}

// TestNobodyAsksForNothing: without demand the servers are left alone but for the slow question.
func TestNobodyAsksForNothing(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Slow = 10 * time.Minute
	r := start(t, localpg.Options{Replicas: 1}, cfg, "")
	conn := session(t, r.shard.Manager)
	run(t, conn, "CREATE TABLE t (id int)")
	asked := r.positions.asked.Load()
	began := time.Now()
	for i := 0; time.Since(began) < 300*time.Millisecond; i++ {
		run(t, conn, "INSERT INTO t VALUES ($1)", i)
		r.Committed()
	}
	if got := r.positions.asked.Load(); got != asked {
		t.Errorf("%d questions for tickets that nobody wants", got-asked)
	}
	ticket := r.Committed()
	until(t, "the first that is wanted has a position", func() bool { _, ok := r.Position(ticket); return ok })
	for range 50 {
		r.Position(r.Committed())
	}
	// While there is demand, questions keep their distance.
	asked, began = r.positions.asked.Load(), time.Now()
	for time.Since(began) < 300*time.Millisecond {
		run(t, conn, "INSERT INTO t VALUES (0)")
		r.Position(r.Committed())
	}
	got, most := r.positions.asked.Load()-asked, uint64(time.Since(began)/cfg.Sample)+1
	if got < 1 || got > most {
		t.Errorf("%d questions in %s, want some, and at most %d", got, time.Since(began), most)
	}
}
