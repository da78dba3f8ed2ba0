package resharder

import (
	"fmt"
	"slices"
	"testing"
)

func TestOneShardBecomesThreeWhileClientsWrite(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 1)
	clients := r.write(3, 1)
	clients.writing.Go(func() { clients.refer("referring") })
	clients.more(50)
	r.start(Goal{To: r.names[:3]})
	r.carry()
	r.untilFollowing()
	clients.more(50)
	job := r.cutover()
	if len(job.Progress.Cuts) != job.Progress.Groups {
		t.Errorf("%d cuts of %d groups are written down", len(job.Progress.Cuts), job.Progress.Groups)
	}
	clients.more(100)
	clients.check(false)
	clients.again(3, 1)
	clients.more(50)
	r.finish()
	clients.more(50)
	clients.check(true)
	r.leftovers()
	if clients.refused == 0 {
		t.Error("no stale client met the fence")
	}
	if cur := r.current(); !slices.Equal(cur.Members, r.names[:3]) {
		t.Errorf("members are %v", cur.Members)
	}
	for _, name := range r.names[:3] {
		if got, want := r.value(name, "SELECT count(*) FROM countries"), fmt.Sprint(50+len(clients.references)); got != want {
			t.Errorf("%s has %s rows of the reference table, want %s", name, got, want)
		}
		if next := r.value(name, "SELECT nextval('serials_n_seq')"); next != "78" {
			t.Errorf("the next number on %s is %s, want 78", name, next)
		}
	}
	for _, cut := range job.Progress.Cuts {
		t.Logf("group %d: held %s, fence %s, drain %s, grant %s, %d attempts", cut.Group, cut.Held, cut.Fence, cut.Drain, cut.Grant, cut.Attempts)
	}
}

func TestDrainedShardIsNoMemberAnyMore(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 2)
	clients := r.write(3, 1)
	clients.more(50)
	r.start(Goal{Drain: "s1"})
	r.carry()
	r.untilFollowing()
	clients.more(50)
	job := r.cutover()
	clients.more(50)
	r.finish()
	clients.more(50)
	clients.check(true)
	r.leftovers()
	if cur := r.current(); len(cur.Members) != 1 || cur.Members[0] != "s0" {
		t.Errorf("members are %v", cur.Members)
	}
	if clients.refused == 0 {
		t.Error("no stale client met the fence")
	}
	for _, cut := range job.Progress.Cuts {
		t.Logf("group %d: held %s, fence %s, drain %s, grant %s, %d attempts", cut.Group, cut.Held, cut.Fence, cut.Drain, cut.Grant, cut.Attempts)
	}
}

func TestRollbackGivesEverythingBack(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 2)
	clients := r.write(3, 0)
	clients.more(50)
	before := r.current().Map.String()
	r.start(Goal{Drain: "s1"})
	r.carry()
	r.untilFollowing()
	r.cutover()
	clients.more(100)
	r.ask(WishRollback)
	r.until("all is rolled back", func(j *Job) bool { return j.Step == StepFollow && j.Wish == WishStart && j.Progress.GroupsDone == 0 })
	clients.more(100)
	clients.check(false)
	clients.again(3, 1)
	if after := r.current().Map.String(); after != before {
		t.Errorf("the map is %s, was %s", after, before)
	}
	// The way forth is open again, and back.
	r.cutover()
	clients.more(50)
	r.ask(WishRollback)
	r.until("all is rolled back", func(j *Job) bool { return j.Step == StepFollow && j.Wish == WishStart && j.Progress.GroupsDone == 0 })
	r.ask(WishCancel)
	r.until("the job is cancelled", func(j *Job) bool { return j.Step == StepCancelled })
	clients.more(50)
	clients.check(true)
	r.leftovers()
}
