package session

import (
	"testing"

	"go.uber.org/zap"

	"pgtier/proxy/fleet"
	"pgtier/router/catalog"
	"pgtier/router/topology"
)

func TestWritesTellTheLatestOfWhatIsRead(t *testing.T) {
	f := fleet.New(topology.Shard{Manager: topology.Server{Name: "s0"}}, fleet.DefaultConfig(), nil, zap.NewNop())
	users, orders := []*catalog.Reading{{Tables: []string{"public.users"}}}, []*catalog.Reading{{Tables: []string{"public.orders", "public.users"}}}
	var w Writes
	if got := w.latest(f, users); got != 0 {
		t.Errorf("before any write: %d, want 0", got)
	}
	first := f.Committed() // covers what the proxy wrote before it began to remember
	w.note(f, []string{"public.orders"}, false, first+5)
	if got := w.latest(f, users); got != first {
		t.Errorf("after a write of another table: %d, want %d", got, first)
	}
	if got := w.latest(f, orders); got != first+5 {
		t.Errorf("after a write of one of the tables: %d, want %d", got, first+5)
	}
	w.note(f, nil, true, first+7)
	if got := w.latest(f, users); got != first+7 {
		t.Errorf("after a write of nobody knows what: %d, want %d", got, first+7)
	}
	next := fleet.New(topology.Shard{Manager: topology.Server{Name: "s0"}}, fleet.DefaultConfig(), nil, zap.NewNop())
	if got := w.latest(next, users); got != next.Committed() {
		t.Errorf("with another watch: %d, want the ticket of now", got)
	}
	w.note(next, nil, false, next.Committed())
	if got := w.latest(next, users); got != next.Committed() {
		t.Errorf("after a write with another watch: %d, want its first ticket, which covers the old writes", got)
	}
}
