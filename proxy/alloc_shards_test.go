//go:build !race

package proxy_test

import "testing"

// TestQueriesOfOneShardAllocateNothing holds routing to a shard to what is held of queries without shards. What watches catalog
// and map in the background allocates now and then, so the best of many short runs counts.
func TestQueriesOfOneShardAllocateNothing(t *testing.T) {
	_, p := newSpread(t)
	allocateNothing(t, p, inEach("named", "SELECT balance FROM accounts WHERE id = ", "1"), nil)
}
