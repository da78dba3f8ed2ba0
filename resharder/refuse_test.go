package resharder

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgtier/router/shard"
)

// untilStopped waits until the job has stopped with an error that says want.
func (r *rig) untilStopped(want string) {
	r.t.Helper()
	journal, end := r.journal(), time.Now().Add(patience)
	for {
		job, err := journal.Latest(r.ctx())
		r.try(err)
		if job.Error != "" {
			if !strings.Contains(job.Error, want) {
				r.t.Fatalf("the job has stopped with %q, want an error that says %q", job.Error, want)
			}
			return
		}
		if time.Now().After(end) {
			r.t.Fatalf("the job has not stopped: %+v", job)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (r *rig) cancel() {
	r.t.Helper()
	r.ask(WishCancel)
	r.until("the job is cancelled", func(j *Job) bool { return j.Step == StepCancelled })
}

func TestWrongRowMakesTheCutRefuse(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 2)
	clients := r.write(2, 0)
	r.start(Goal{Drain: "s1"})
	r.carry()
	r.untilFollowing()
	account := 0
	for r.bucket(account) < 32 {
		account++
	}
	plant := "BEGIN; SELECT pg_logical_emit_message(true, 'pgtier', 'local'); SET LOCAL session_replication_role = replica; %s; COMMIT"
	r.exec("s0", fmt.Sprintf(plant, fmt.Sprintf("INSERT INTO entries (account, id) VALUES (%d, 'planted')", account)))
	r.ask(WishCutover)
	r.untilStopped("rows are not the same on both sides")
	job := r.job()
	if job.Progress.GroupsDone != 0 || !strings.Contains(job.Error, "public.entries") || !strings.Contains(job.Error, "planted") {
		t.Errorf("the job is %+v", job)
	}
	clients.more(20) // nobody is held
	r.exec("s0", fmt.Sprintf(plant, "DELETE FROM entries WHERE id = 'planted'"))
	r.ask(WishVerify)
	r.until("both sides are compared", func(j *Job) bool { return j.Wish == WishStart && j.Progress.Verified != nil })
	r.cutover()
	r.finish()
	clients.check(true)
	r.leftovers()
}

func TestWhatAStreamCannotCarryStopsTheJob(t *testing.T) {
	for name, tc := range map[string]struct{ sql, want, undo string }{
		"truncate past the guard": {"SET session_replication_role = replica; TRUNCATE entries", "truncated", ""},
		"a new column":            {"ALTER TABLE accounts ADD COLUMN more int; UPDATE accounts SET balance = balance", "schema", "ALTER TABLE accounts DROP COLUMN more"},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, servers.Cluster(t), 2)
			r.start(Goal{Drain: "s1"})
			r.carry()
			r.untilFollowing()
			r.exec("s1", tc.sql)
			r.untilStopped(tc.want)
			r.ask(WishCutover)
			r.untilStopped(tc.want)
			if done := r.job().Progress.GroupsDone; done != 0 {
				t.Errorf("%d groups are cut over", done)
			}
			if tc.undo != "" {
				r.exec("s1", tc.undo)
			}
			r.cancel()
			r.leftovers()
		})
	}
}

// A schema that is as it was again does not mend the stream, which has to read the log of meanwhile. The comparison must not wait for its markers, and rows that it has not brought are in its way.
func TestComparisonDoesNotWaitForAStreamThatCannotGoOn(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 2)
	r.start(Goal{Drain: "s1"})
	r.carry()
	r.untilFollowing()
	r.exec("s1", "ALTER TABLE accounts ADD COLUMN more int; UPDATE accounts SET balance = balance + 1")
	r.untilStopped("schema changed")
	r.exec("s1", "ALTER TABLE accounts DROP COLUMN more")
	for _, wish := range []Wish{WishVerify, WishCutover} {
		r.ask(wish)
		r.untilStopped("schema changed")
	}
	r.cancel()
	r.leftovers()
}

func TestCutWaitsForAWriterAndHoldsNobodyMeanwhile(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 2)
	clients := r.write(2, 0)
	r.start(Goal{Drain: "s1"})
	r.carry()
	r.untilFollowing()
	account := accounts // no client writes to it
	for r.bucket(account) < 32 {
		account++
	}
	r.exec("s1", fmt.Sprintf("INSERT INTO accounts (id) VALUES (%d)", account))
	conn, err := pgx.Connect(r.ctx(), r.server["s1"].URL(r.dbs["s1"], "", ""))
	r.try(err)
	t.Cleanup(func() { conn.Close(context.Background()) })
	_, err = conn.Exec(r.ctx(), fmt.Sprintf("SET application_name = 'the long one'; BEGIN; UPDATE accounts SET note = 'written' WHERE id = %d", account))
	r.try(err)
	r.ask(WishCutover)
	r.until("somebody is in the way", func(j *Job) bool {
		return j.Progress.Misses >= 3 && strings.Contains(j.Progress.Trouble, "the long one")
	})
	clients.more(20)
	_, err = conn.Exec(r.ctx(), "COMMIT")
	r.try(err)
	r.until("all is cut over", func(j *Job) bool { return j.Progress.GroupsDone == j.Progress.Groups })
	if note := r.value("s0", fmt.Sprintf("SELECT note FROM accounts WHERE id = %d", account)); note != "written" {
		t.Errorf("what the writer wrote is %q at the new owner", note)
	}
	r.finish()
	clients.check(true)
	r.leftovers()
}

func TestCancelledJobLeavesNothing(t *testing.T) {
	for _, point := range []string{"announced", "guarded", "copying", "references copied", "admitted", "step follow"} {
		t.Run(point, func(t *testing.T) {
			r := newRig(t, servers.Cluster(t), 1)
			reached, goOn := make(chan struct{}), make(chan struct{})
			first := true
			r.setPoint(func(ctx context.Context, name string) error {
				r.mu.Lock()
				wait := name == point && first
				if wait {
					first = false
				}
				r.mu.Unlock()
				if wait {
					close(reached)
					select {
					case <-goOn:
					case <-ctx.Done():
					}
				}
				return nil
			})
			clients := r.write(2, 1)
			before := r.current().Map.String()
			r.start(Goal{Add: "s1"})
			r.carry()
			<-reached
			r.ask(WishCancel)
			close(goOn)
			r.until("the job is cancelled", func(j *Job) bool { return j.Step == StepCancelled })
			clients.more(20)
			clients.check(true)
			r.leftovers()
			cur := r.current()
			if cur.Map.String() != before || len(cur.Members) != 1 {
				t.Errorf("the map is %s with members %v", cur.Map, cur.Members)
			}
			if r.value("s1", "SELECT to_regclass('public.countries') IS NOT NULL") == "t" {
				for _, table := range []string{"countries", "accounts", "entries"} {
					if rows := r.value("s1", "SELECT count(*) FROM "+table); rows != "0" {
						t.Errorf("%s rows of %s are left", rows, table)
					}
				}
			}
		})
	}
}

// A step that ends because people have asked for cancel did not fail: status says nothing of another try.
func TestStepThatIsNotWantedAnyMoreIsNoTrouble(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 2)
	reached, trouble := make(chan struct{}), ""
	once := sync.OnceFunc(func() { close(reached) })
	r.setPoint(func(ctx context.Context, name string) error {
		switch name {
		case "copying":
			once()
			<-ctx.Done()
		case "step cancel":
			job, err := r.journal().Latest(ctx)
			if err != nil {
				return err
			}
			r.mu.Lock()
			trouble = job.Progress.Trouble
			r.mu.Unlock()
		}
		return nil
	})
	r.start(Goal{Drain: "s1"})
	r.carry()
	<-reached
	r.cancel()
	r.leftovers()
	r.mu.Lock()
	defer r.mu.Unlock()
	if trouble != "" {
		t.Errorf("status says: tries again after: %s", trouble)
	}
}

func TestAddedShardTakesItsShareAndMayBeAddedAgain(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 2)
	clients := r.write(3, 1)
	r.carry()
	for range 2 {
		r.start(Goal{Add: "s2"})
		r.untilFollowing()
		r.cutover()
		clients.more(20)
		r.finish()
		if got := len(r.current().Map.Buckets("s2")); got != buckets/3 {
			t.Errorf("s2 has %d buckets", got)
		}
		clients.check(true)
		r.leftovers()
		clients.again(3, 1)
		r.start(Goal{To: []shard.Name{"s0", "s1"}})
		r.untilFollowing()
		r.cutover()
		r.finish()
		clients.check(true)
		r.leftovers()
		if got := len(r.current().Members); got != 2 {
			t.Errorf("there are %d members", got)
		}
		clients.again(3, 1)
	}
}

func TestAutoGoesThroughToTheCut(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 2)
	clients := r.write(2, 0)
	if _, err := Start(r.ctx(), r.config, Goal{Drain: "s1"}, true); err != nil {
		t.Fatal(err)
	}
	r.carry()
	job := r.until("the new owners serve", func(j *Job) bool {
		return j.Progress.Groups > 0 && j.Progress.GroupsDone == j.Progress.Groups && j.Wish == WishStart
	})
	clients.more(20)
	if job.Step != StepFollow || r.value("s1", "SELECT count(*) FROM accounts") == "0" {
		t.Errorf("the way back is given up: step %s", job.Step)
	}
	r.finish()
	clients.check(true)
	r.leftovers()
	if _, err := r.journal().Ask(r.ctx(), WishCutover, false); err == nil {
		t.Error("a job that is over can be asked for something")
	}
}

func TestTooMuchLogEndsTheCopyAndIsGivenBack(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 2)
	r.config.Options.MaxWAL = 4 << 20
	reached := make(chan struct{})
	once := sync.OnceFunc(func() { close(reached) })
	r.setPoint(func(ctx context.Context, name string) error {
		if name == "copy ends" { // until it is ended
			once()
			<-ctx.Done()
		}
		return nil
	})
	stop := r.carry()
	r.start(Goal{Drain: "s1"})
	<-reached
	r.exec("s1", "CREATE TABLE filler AS SELECT repeat('x', 1000) FROM generate_series(1, 10000)")
	r.untilStopped("write-ahead log")
	for end := time.Now().Add(patience); r.value("s1", "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()") != "0"; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the slot is still there")
		}
	}
	stop()
	r.setPoint(nil)
	r.config.Options.MaxWAL = 1 << 30
	r.carry()
	r.ask(WishStart)
	r.untilFollowing()
	r.cancel()
	r.leftovers()
}

func TestHomeMayGiveAllItsBucketsAway(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 1)
	clients := r.write(2, 1)
	r.carry()
	r.start(Goal{To: []shard.Name{"s2", "s1"}})
	r.untilFollowing()
	r.cutover()
	clients.more(20)
	r.finish()
	clients.check(true)
	r.leftovers()
	if cur := r.current(); len(cur.Members) != 3 || len(cur.Map.Buckets("s0")) != 0 {
		t.Errorf("members are %v, and s0 has %d buckets", cur.Members, len(cur.Map.Buckets("s0")))
	}
}
