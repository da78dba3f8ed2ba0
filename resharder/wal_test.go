package resharder

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"pgtier/router/shard"
)

// littleLog is a bound that a few rows exceed (fill), and a job without them does not.
const littleLog = 6 << 20

func (r *rig) fill(name shard.Name) {
	r.t.Helper()
	r.exec(name, "CREATE TABLE filler AS SELECT repeat('x', 1000) FROM generate_series(1, 12000); DROP TABLE filler")
}

func (r *rig) untilNoSlot(name shard.Name) {
	r.t.Helper()
	for end := time.Now().Add(patience); r.value(name, "SELECT count(*) FROM pg_replication_slots WHERE database = current_database()") != "0"; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("a slot of %s is still there: %+v", name, r.job())
		}
	}
}

// untilCopiedAnew waits until the job says that its rows have to be copied anew; it may have stopped for another reason before.
func (r *rig) untilCopiedAnew() {
	r.t.Helper()
	journal := r.journal()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		job, err := journal.Latest(r.ctx())
		r.try(err)
		if strings.Contains(job.Error, "have to be copied anew") {
			return
		}
		if time.Now().After(end) {
			r.t.Fatalf("the log is not given back: %+v", job)
		}
	}
}

// hold has the job wait at a point, the first time that it is reached.
func (r *rig) hold(point string) (reached <-chan struct{}) {
	at := make(chan struct{})
	once := sync.OnceFunc(func() { close(at) })
	r.setPoint(func(ctx context.Context, name string) error {
		if name == point {
			once()
			<-ctx.Done() // until the step is ended; an error would end the mover
		}
		return nil
	})
	return at
}

func TestLogIsBoundedWhileANewShardIsMade(t *testing.T) {
	for _, point := range []string{"indexed", "references copied"} {
		t.Run(point, func(t *testing.T) {
			r := newRig(t, servers.Cluster(t), 1)
			r.config.Options.MaxWAL = littleLog
			reached := r.hold(point)
			r.carry()
			r.start(Goal{Add: "s1"})
			<-reached
			r.setPoint(nil)
			r.fill("s0")
			r.untilStopped("more than reshard.max_wal")
			r.untilNoSlot("s0")
			r.ask(WishStart)
			r.untilFollowing()
			r.cancel()
			r.leftovers()
		})
	}
}

// TestLogIsBoundedWhileAJobHasStopped has the stream come upon what it cannot carry, so that it does not get on any more.
func TestLogIsBoundedWhileAJobHasStopped(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 2)
	r.config.Options.MaxWAL = littleLog
	r.carry()
	r.start(Goal{Drain: "s1"})
	r.untilFollowing()
	r.exec("s1", "SET session_replication_role = replica; TRUNCATE entries")
	r.untilStopped("truncated")
	r.fill("s1")
	r.untilCopiedAnew()
	r.untilNoSlot("s1")
	r.ask(WishStart)
	r.untilFollowing()
	r.cancel()
	r.leftovers()
}

// TestLogIsBoundedWhileRowsAreCompared has the comparison take long, and the stream end meanwhile.
func TestLogIsBoundedWhileRowsAreCompared(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 2)
	r.config.Options.MaxWAL = littleLog
	r.carry()
	r.start(Goal{Drain: "s1"})
	r.untilFollowing()
	reached := r.hold("verified")
	r.ask(WishVerify)
	<-reached
	r.setPoint(nil)
	r.exec("s1", "SET session_replication_role = replica; TRUNCATE entries")
	r.fill("s1")
	r.untilCopiedAnew()
	r.cancel()
	r.leftovers()
}

func TestLogIsBoundedWhileATargetIsAway(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 3)
	r.config.Options.MaxWAL = littleLog
	r.carry()
	r.start(Goal{Drain: "s2"})
	r.untilFollowing()
	again := r.kill("s1")
	r.fill("s2")
	r.untilStopped("more than reshard.max_wal")
	again()
	journal := r.journal()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		job, err := journal.Latest(r.ctx())
		r.try(err)
		if job.Step == StepCopy {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the job is %+v", job)
		}
	}
	r.ask(WishStart)
	r.untilFollowing()
	r.cancel()
	r.leftovers()
}
