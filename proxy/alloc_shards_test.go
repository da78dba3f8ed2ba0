package proxy_test

import "testing"

// TestQueriesOfOneShardAllocateNothing holds routing to a shard to what is held of queries without shards. What watches catalog
// and map in the background allocates now and then, so the best of many short runs counts.
func TestQueriesOfOneShardAllocateNothing(t *testing.T) {
	if raceEnabled {
		t.Log("the race detector allocates by itself: nothing is counted")
	}
	_, p := newSpread(t)
	allocateNothing(t, p, "SELECT balance FROM accounts WHERE id = ", nil)
}
