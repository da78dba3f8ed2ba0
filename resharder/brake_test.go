package resharder

import (
	"strings"
	"testing"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
)

func TestCopyWaitsForReplicasThatAreBehind(t *testing.T) {
	cluster := pgtest.Start(t, localpg.Options{Shards: 2, Replicas: 1})
	r := newRig(t, cluster, 2)
	r.config.Options.MaxReplicaLag = 4 << 20
	replica := cluster.Shards[0].Replicas[0]
	pgtest.Exec(t, replica, "postgres", "SELECT pg_wal_replay_pause()")
	r.fill("s0")
	r.start(Goal{Drain: "s1"})
	r.carry()
	job := r.until("the copy waits", func(j *Job) bool {
		return j.Step == StepFollow || len(j.Progress.Moves) > 0 && strings.Contains(j.Progress.Moves[0].Throttled, "of shard s0 is")
	})
	if job.Step != StepCopy {
		t.Fatalf("the job has gone on to step %s", job.Step)
	}
	pgtest.Exec(t, replica, "postgres", "SELECT pg_wal_replay_resume()")
	r.untilFollowing()
	r.cutover()
	pgtest.Exec(t, replica, "postgres", "SELECT pg_wal_replay_pause()") // of the server on which nothing is deleted
	r.fill("s0")
	r.finish()
	pgtest.Exec(t, replica, "postgres", "SELECT pg_wal_replay_resume()")
	r.leftovers()
	if why := r.job().Progress.Moves[0].Throttled; why != "" {
		t.Errorf("it says still that it waits: %s", why)
	}
}
