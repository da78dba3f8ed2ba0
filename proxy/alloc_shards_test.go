package proxy_test

import (
	"math"
	"runtime"
	"testing"

	"pgtier/proxy/wire"
)

// TestQueriesOfOneShardAllocateNothing holds routing to a shard to what is held of queries without shards. What watches catalog
// and map in the background allocates now and then, so the best of many short runs counts.
func TestQueriesOfOneShardAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Log("the race detector allocates by itself: nothing is counted")
	}
	_, p := newSpread(t)
	one := "1"
	const sql = "SELECT balance FROM accounts WHERE id = $1"
	run := wire.AppendSync(wire.AppendExecute(wire.AppendBindText(nil, "named", []*string{&one})))
	for name, tc := range map[string]struct{ before, msgs []byte }{
		"simple":   {nil, wire.AppendQuery(nil, "SELECT balance FROM accounts WHERE id = 1")},
		"extended": {nil, wire.AppendSync(wire.AppendExecute(wire.AppendBindText(wire.AppendParse(nil, "", []byte(sql), nil), "", []*string{&one})))},
		"prepared": {wire.AppendSync(wire.AppendParse(nil, "named", []byte(sql), nil)), run},
	} {
		t.Run(name, func(t *testing.T) {
			raw := p.rawDial(t, wire.Protocol30)
			if tc.before != nil {
				if err := raw.round(tc.before); err != nil {
					t.Fatal(err)
				}
			}
			work := func(queries int) {
				for range queries {
					if err := raw.round(tc.msgs); err != nil {
						t.Fatal(err)
					}
				}
			}
			work(500)
			const runs, queries = 300, 10
			least := uint64(math.MaxUint64)
			for range runs {
				var before, after runtime.MemStats
				runtime.ReadMemStats(&before)
				work(queries)
				runtime.ReadMemStats(&after)
				least = min(least, after.Mallocs-before.Mallocs)
			}
			t.Logf("%d allocations in the best run of %d queries", least, queries)
			if least >= queries && !raceEnabled {
				t.Errorf("%d allocations in the best run of %d queries, want none", least, queries)
			}
		})
	}
}
