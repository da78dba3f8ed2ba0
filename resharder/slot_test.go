package resharder

import (
	"context"
	"fmt"
	"strings"
	"testing"
)

// TestSlotWaitsForWritersAndSaysForWhom has one transaction in the way that has written: once the job is cancelled meanwhile, once the transaction ends.
func TestSlotWaitsForWritersAndSaysForWhom(t *testing.T) {
	r := newRig(t, servers.Cluster(t), 2)
	holder := r.pgx("holder", 1)
	pid := holder.PgConn().PID()
	exec := func(sql string) {
		if _, err := holder.Exec(r.ctx(), sql); err != nil {
			t.Error(err)
		}
	}
	r.setPoint(func(_ context.Context, name string) error {
		if name == "step copy" {
			exec("BEGIN; SELECT pg_current_xact_id()")
		}
		return nil
	})
	r.carry()
	waits := func() {
		r.start(Goal{Drain: "s1"})
		r.until("status says who is waited for", func(j *Job) bool {
			return strings.Contains(j.Progress.Doing, "shard s1, which waits for transactions that write") && strings.Contains(j.Progress.Doing, fmt.Sprintf("process %d ", pid))
		})
	}
	waits()
	r.cancel()
	exec("ROLLBACK")
	r.leftovers()
	waits()
	exec("COMMIT")
	r.untilFollowing()
	r.cancel()
	r.leftovers()
}
