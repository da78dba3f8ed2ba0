package shardtest

import (
	"bytes"
	"context"
	"testing"

	"pgtier/cmd/localpg/pgtest"
)

// TestCopySplitsRowsByKey fills the emptied shards through pgtier with what one server's COPY gives, in every format, and
// reads all of it back.
func TestCopySplitsRowsByKey(t *testing.T) {
	r := newRig(t)
	sharded, err := connect(r.serve(t))
	if err != nil {
		t.Fatal(err)
	}
	defer sharded.close()
	for _, format := range []string{"text", "csv", "binary"} {
		t.Run(format, func(t *testing.T) {
			r.restore(t, false)
			for _, s := range r.shards {
				for _, table := range tables() {
					pgtest.Exec(t, s, database, "SET client_min_messages = error; TRUNCATE "+table.name+" CASCADE")
				}
			}
			for _, table := range tables() {
				r.copyThrough(t, sharded, table.name, format)
			}
			if d := r.differences(false, tables()); d != "" {
				t.Error(d)
			}
		})
	}
}

// copyThrough copies a table from the plain server through pgtier to the shards.
func (r *rig) copyThrough(t *testing.T, sharded *client, table, format string) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), stepLimit)
	defer stop()
	var rows bytes.Buffer
	want, err := r.loads[shardCount].conn.CopyTo(ctx, &rows, "COPY (SELECT * FROM "+table+") TO STDOUT (FORMAT "+format+")")
	if err != nil {
		t.Fatal(err)
	}
	got, err := sharded.conn.CopyFrom(ctx, &rows, "COPY "+table+" FROM STDIN (FORMAT "+format+")")
	if err != nil {
		t.Errorf("%s: %v", table, err)
		if err := sharded.again(); err != nil {
			t.Fatal(err)
		}
		return
	}
	if got != want {
		t.Errorf("%s: got tag %q, want %q", table, got, want)
	}
}
