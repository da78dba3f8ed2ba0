package resharder

import (
	"strings"
	"testing"
	"time"

	"pgtier/proxy/shardmap"
	"pgtier/router/shard"
)

// TestMoverWaitsForOlderTransactions leaves a reader on the target, which could see both copies of a row, and a change of the schema on the source.
func TestMoverWaitsForOlderTransactions(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 2)
	reader, changer := r.link("s1"), r.link("s0")
	r.try(reader.run(r.ctx(), "BEGIN; SELECT 1"))
	r.try(changer.run(r.ctx(), "BEGIN; CREATE TABLE public.other (id int)"))
	r.start(Goal{Drain: "s0"})
	r.carry()
	waits := func(shard string) func(j *Job) bool {
		return func(j *Job) bool {
			return strings.Contains(j.Progress.Doing, "transactions of shard "+shard+" that are older")
		}
	}
	r.until("the mover waits for the change of the schema", waits("s0"))
	time.Sleep(300 * time.Millisecond)
	if j := r.job(); j.Step != StepAnnounce {
		t.Fatalf("the job is at step %s", j.Step)
	}
	r.try(changer.run(r.ctx(), "ROLLBACK"))
	r.until("the mover waits for the reader", waits("s1"))
	r.try(reader.run(r.ctx(), "COMMIT"))
	r.untilFollowing()
	r.cutover()
	r.try(changer.run(r.ctx(), "BEGIN; SELECT 1"))
	r.ask(WishFinish)
	r.until("the mover waits for the reader of the source", waits("s0"))
	if n := r.value("s0", "SELECT count(*) FROM accounts"); n == "0" {
		t.Error("rows are deleted that an older transaction may ask for")
	}
	r.try(changer.run(r.ctx(), "COMMIT"))
	r.until("the job is over", func(j *Job) bool { return j.Step == StepDone })
}

// TestMovesBeginBehindChangesOfTheSchema has transactions on home and target that have asked to change the schema, and others that ask later although they were planned before.
func TestMovesBeginBehindChangesOfTheSchema(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 3)
	asks := func(l *link, number int64) error { return l.run(r.ctx(), "SELECT "+shardmap.SchemaPlannedSQL(number)) }
	r.carry()
	r.start(Goal{To: []shard.Name{"s1", "s2"}})
	r.untilFollowing()
	r.cutover()
	r.finish()
	before := r.current().Motion.Number
	changers := map[shard.Name]*link{"s0": r.link("s0"), "s1": r.link("s1")}
	for _, l := range changers {
		r.try(l.run(r.ctx(), "BEGIN"))
		r.try(asks(l, before))
	}
	r.start(Goal{To: []shard.Name{"s1"}}) // home has no part in it
	for _, name := range []shard.Name{"s1", "s0"} {
		r.until("the mover waits for a change of "+string(name), func(j *Job) bool {
			return strings.HasPrefix(j.Progress.Doing, "begins behind changes of the schema of shard "+string(name)+", and waits for process ")
		})
		if j := r.job(); j.Step != StepAnnounce {
			t.Errorf("the job is at step %s", j.Step)
		}
		r.try(changers[name].run(r.ctx(), "CREATE TABLE public.other (id int); COMMIT"))
	}
	r.exec("s2", "CREATE TABLE public.other (id int)")
	r.untilFollowing()
	refuse := func(number int64) {
		t.Helper()
		for _, name := range r.names[:3] {
			if err := asks(r.link(name), number); sqlState(err) != CodeFenced {
				t.Errorf("%s lets a change pass that was planned by motion %d: %v", name, number, err)
			}
		}
	}
	refuse(before)
	r.cancel()
	refuse(before)
	for _, name := range r.names[:3] {
		r.try(asks(r.link(name), r.current().Motion.Number))
	}
	r.leftovers()
}
