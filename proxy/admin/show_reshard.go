package admin

import (
	"strings"
	"time"

	"pgtier/proxy/wire"
)

// Move is what goes from one shard to another in a job that moves buckets.
type Move struct {
	Database         string
	Job              int64
	Goal, Step, Wish string
	// Error is why the job has stopped, Doing what it does or waits for, Mover which process carries it on; "" is nothing.
	Error, Doing, Mover string
	Number              int
	Source, Target      string
	State               string // "new" while rows are copied, then "stream"; "" before
	Groups, GroupsDone  int    // of buckets, that are cut over one after another
	Rows, Bytes         int64  // copied
	ExpectedRows        int64
	ExpectedBytes       int64
	Lag, ReverseLag     int64 // in bytes of log
	Retained            int64 // log that source and target keep for the move, in bytes
	Deleted             int64 // rows, by finish or cancel
	Misses              int   // cuts of the job that did not come through in time
	Held50, Held99      time.Duration
	HeldMost            time.Duration // of all cuts of the job: how long statements that touch a group waited
}

func moveColumns() []Column {
	return []Column{
		{"database", Text}, {"job", Int8}, {"goal", Text}, {"step", Text}, {"wish", Text}, {"source", Text}, {"target", Text}, {"state", Text},
		{"groups", Int4}, {"groups_done", Int4}, {"rows", Int8}, {"bytes", Int8}, {"expected_rows", Int8}, {"expected_bytes", Int8},
		{"lag_bytes", Int8}, {"reverse_lag_bytes", Int8}, {"retained_bytes", Int8}, {"deleted_rows", Int8}, {"misses", Int4},
		{"held_p50_us", Int8}, {"held_p99_us", Int8}, {"held_max_us", Int8}, {"mover", Text}, {"doing", Text}, {"error", Text},
	}
}

// showReshard lists the moves of each database's job under way, or of the last one.
func showReshard(k *call) error {
	for _, m := range k.view.Moves() {
		k.row(m.Database, m.Job, m.Goal, m.Step, m.Wish, m.Source, m.Target, known(m.State), m.Groups, m.GroupsDone, m.Rows, m.Bytes, m.ExpectedRows, m.ExpectedBytes,
			m.Lag, m.ReverseLag, m.Retained, m.Deleted, m.Misses, m.Held50.Microseconds(), m.Held99.Microseconds(), m.HeldMost.Microseconds(),
			known(m.Mover), known(m.Doing), known(m.Error))
	}
	return nil
}

// reshard says what is wanted of a database's job that moves buckets.
func reshard(k *call) error {
	words := strings.Fields(strings.TrimSuffix(strings.TrimSpace(behind(k.arg, 1)), ";"))
	if len(words) != 2 {
		return wire.NewError(wire.CodeInvalidParameter, "RESHARD takes a wish and a database",
			"RESHARD verify|cutover|rollback|finish|cancel <db>. A job is begun by pgtier reshard start, and SHOW RESHARD has how far it is.")
	}
	return k.actions.Reshard(k.ctx, strings.ToLower(words[0]), words[1])
}
