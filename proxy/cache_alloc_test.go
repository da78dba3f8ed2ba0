//go:build !race

package proxy_test

import (
	"testing"

	"pgtier/proxy/wire"
)

// TestHitsAllocateNothing reads what the cache knows in each protocol.
func TestHitsAllocateNothing(t *testing.T) {
	r := newRig(t)
	p, kept := r.keeps(t, nil)
	if err := p.rawDial(t, wire.Protocol30).round(wire.AppendQuery(nil, "SELECT name FROM items WHERE id = 1")); err != nil {
		t.Fatal(err)
	}
	allocateNothing(t, p, inEach("named", "SELECT name FROM items WHERE id = ", "1"), func(t *testing.T, queries int, run func()) {
		hits := kept.Hits.Load()
		run()
		hits = kept.Hits.Load() - hits
		t.Logf("%d hits of %d", hits, queries)
		if hits < uint64(queries)*9/10 {
			t.Error("the server answered too many: the test proves nothing")
		}
	})
}
