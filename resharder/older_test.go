package resharder

import (
	"strings"
	"testing"
	"time"
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
