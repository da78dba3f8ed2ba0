package resharder

import (
	"context"
	"strings"
	"testing"
	"time"

	"pgtier/router/shard"
)

// kill ends a shard's server; the returned function starts it again, as the test's end does.

func (r *rig) kill(name shard.Name) (again func()) {
	r.t.Helper()
	r.try(r.server[name].Kill())
	there := false
	again = func() {
		if there {
			return
		}
		there = true
		ctx, stop := context.WithTimeout(context.Background(), patience)
		defer stop()
		if err := r.server[name].Start(ctx); err != nil {
			r.t.Error(err)
		}
	}
	r.t.Cleanup(again)
	return again
}

// nothingKept fails the test if a shard keeps log for a job, or anything that is made for one.
func (r *rig) nothingKept(name shard.Name) {
	r.t.Helper()
	for what, sql := range map[string]string{
		"slots":        "SELECT string_agg(slot_name, ', ') FROM pg_replication_slots WHERE database = current_database()",
		"publications": "SELECT string_agg(pubname, ', ') FROM pg_publication",
		"registers":    "SELECT string_agg(relname, ', ') FROM pg_class WHERE relname ~ '^register_'",
		"moves":        "SELECT string_agg(move::text, ', ') FROM pgtier.move",
	} {
		if left := r.value(name, sql); left != "" {
			r.t.Errorf("%s on %s are left: %s", what, name, left)
		}
	}
}

func TestCancelGoesOnWithoutANewShardThatIsGone(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 1)
	r.config.lost = 300 * time.Millisecond
	clients := r.write(2, 0)
	r.start(Goal{To: r.names[:3]})
	r.carry()
	r.untilFollowing()
	again := r.kill("s2")
	r.ask(WishCancel)
	job := r.until("the job is cancelled", func(j *Job) bool { return j.Step == StepCancelled })
	if left := job.Progress.Left; len(left) != 1 || left[0].Shard != "s2" || left[0].Why == "" {
		t.Errorf("left is %v", left)
	}
	r.nothingKept("s0")
	r.nothingKept("s1")
	clients.more(20)
	if m := r.current(); !m.Motion.Still() || len(m.Members) != 1 {
		t.Errorf("the motion is %+v, with members %v", m.Motion, m.Members)
	}
	r.start(Goal{Add: "s1"}) // other jobs are not in its way
	r.untilFollowing()
	again()
	journal := r.journal()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		unclean, err := journal.unclean(r.ctx())
		r.try(err)
		if len(unclean) == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("s2 is back and is not cleaned: %+v", unclean[0].Progress)
		}
	}
	r.cancel()
	clients.check(true)
	r.leftovers()
	for _, table := range []string{"accounts", "entries", "countries"} {
		if rows := r.value("s2", "SELECT count(*) FROM "+table); rows != "0" {
			t.Errorf("%s rows of %s are left on s2", rows, table)
		}
	}
}

func TestWhatAnotherJobHasLeftIsAnObstacle(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 1)
	r.config.lost = 300 * time.Millisecond
	r.start(Goal{Add: "s2"})
	stop := r.carry()
	r.untilFollowing()
	again := r.kill("s2")
	r.cancel()
	stop()
	again()
	p, err := MakePlan(r.ctx(), r.config, Goal{Add: "s2"})
	r.try(err)
	found(t, p, Obstacle, "shard s2", "has what job 1", "pgtier reshard cancel")
	r.try(CleanUp(r.ctx(), r.config))
	p, err = MakePlan(r.ctx(), r.config, Goal{Add: "s2"})
	r.try(err)
	if !p.Possible() {
		t.Errorf("got %v", p.Findings)
	}
	r.leftovers()
}

func TestCancelWaitsAtItsEndForAMemberThatIsGone(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 3)
	r.config.lost = 300 * time.Millisecond
	r.start(Goal{Drain: "s2"}) // s0 and s1 win buckets
	r.carry()
	r.untilFollowing()
	again := r.kill("s1")
	r.ask(WishCancel)
	r.until("all else is taken back", func(j *Job) bool {
		return j.Step == StepCancel && strings.Contains(j.Progress.Doing, "waits for shard s1, which cannot be reached")
	})
	r.nothingKept("s0")
	r.nothingKept("s2")
	if m := r.current().Motion; len(m.Moving) == 0 {
		t.Error("rows that s1 may show are not left out any more")
	}
	again()
	r.until("the job is cancelled", func(j *Job) bool { return j.Step == StepCancelled })
	r.leftovers()
	if left := r.job().Progress.Left; len(left) != 0 {
		t.Errorf("left is %v", left)
	}
}

// TestCancelDoesNotGuessWhoOwnsAGroup has a target die between fence and grant together with the mover: whether it has the grant only the target knows.
func TestCancelDoesNotGuessWhoOwnsAGroup(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 3)
	r.config.lost = 300 * time.Millisecond
	r.config.Options.Groups = 1
	clients := r.write(2, 0)
	r.start(Goal{To: []shard.Name{"s1", "s0"}}) // s1 wins first
	r.carry()
	r.untilFollowing()
	killed := make(chan struct{})
	var again func()
	r.setPoint(func(_ context.Context, name string) error {
		if name == "committed" && again == nil {
			again = r.kill("s1")
			close(killed)
			return errKilled
		}
		return nil
	})
	r.ask(WishCutover)
	<-killed
	r.setPoint(nil)
	r.ask(WishCancel)
	r.untilStopped("group 1 of buckets was being cut over to it")
	again()
	journal := r.journal()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) { // the job is stopped still
		job, err := journal.Latest(r.ctx())
		r.try(err)
		if job.Progress.GroupsDone == 1 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the grant is not found: %+v", job)
		}
	}
	if _, err := r.journal().Ask(r.ctx(), WishCancel, false); err == nil || !strings.Contains(err.Error(), "rollback first") {
		t.Errorf("cancel of what is granted: %v", err)
	}
	r.ask(WishRollback)
	r.until("all is rolled back", func(j *Job) bool { return j.Progress.GroupsDone == 0 && j.Wish == WishStart })
	r.cancel()
	clients.check(true)
	r.leftovers()
}
