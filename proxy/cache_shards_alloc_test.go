//go:build !race

package proxy_test

import (
	"fmt"
	"testing"

	"pgtier/proxy/wire"
)

// TestHitsOfOneShardAllocateNothing holds hits of a shard to what is held of hits without shards.
func TestHitsOfOneShardAllocateNothing(t *testing.T) {
	s := newKeptShards(t, nil, 0, nil)
	id := fmt.Sprint(s.key(t, 1, 0))
	if err := s.p.rawDial(t, wire.Protocol30).round(wire.AppendQuery(nil, "SELECT v FROM regs WHERE id = "+id)); err != nil {
		t.Fatal(err)
	}
	allocateNothing(t, s.p, inEach("named", "SELECT v FROM regs WHERE id = ", id), func(t *testing.T, queries int, run func()) {
		hits := s.hits()
		run()
		hits = s.hits() - hits
		t.Logf("%d hits of %d", hits, queries)
		if hits < uint64(queries)*9/10 {
			t.Error("the server answered too many: the test proves nothing")
		}
	})
}

// TestHitsOfSeveralShardsAllocateNothing holds hits of several shards, and of a reference table, to the same.
func TestHitsOfSeveralShardsAllocateNothing(t *testing.T) {
	s := newKeptShards(t, nil, 0, nil)
	all := map[string]exchange{}
	for name, sql := range map[string]string{"all": "SELECT id FROM regs WHERE v >= ", "a copy": "SELECT v FROM copies WHERE id >= "} {
		if err := s.p.rawDial(t, wire.Protocol30).round(wire.AppendQuery(nil, sql+"0")); err != nil {
			t.Fatal(err)
		}
		for way, x := range inEach("named", sql, "0") {
			all[name+" "+way] = x
		}
	}
	allocateNothing(t, s.p, all, func(t *testing.T, queries int, run func()) {
		hits := s.hits()
		run()
		hits = s.hits() - hits
		t.Logf("%d hits of %d", hits, queries)
		if hits < uint64(queries)*9/10 {
			t.Error("the server answered too many: the test proves nothing")
		}
	})
}
