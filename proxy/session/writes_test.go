package session

import (
	"pgtier/proxy/fleet"
	"strconv"
	"testing"

	"pgtier/router/catalog"
)

func TestWritesTellTheLatestOfWhatIsRead(t *testing.T) {
	users, orders := []*catalog.Reading{{Tables: []string{"public.users"}}}, []*catalog.Reading{{Tables: []string{"public.orders", "public.users"}}}
	var w Writes
	if got := w.latest(users); got != 0 {
		t.Errorf("before any write: %d, want 0", got)
	}
	w.note([]string{"public.orders"}, false, 5)
	if got := w.latest(users); got != 0 {
		t.Errorf("after a write of another table: %d, want 0", got)
	}
	if got := w.latest(orders); got != 5 {
		t.Errorf("after a write of one of the tables: %d, want 5", got)
	}
	w.note([]string{"public.orders"}, false, 4)
	if got := w.latest(orders); got != 5 {
		t.Errorf("after an older write was told late: %d, want 5", got)
	}
	w.note(nil, true, 7)
	if got := w.latest(users); got != 7 {
		t.Errorf("after a write of nobody knows what: %d, want 7", got)
	}
}

func TestWritesAreBounded(t *testing.T) {
	var w Writes
	for i := range 3 * maxWrites {
		w.note([]string{"public.t" + strconv.Itoa(i)}, false, fleet.Ticket(i+1))
		if len(w.tables) > maxWrites {
			t.Fatalf("%d tables are remembered, want at most %d", len(w.tables), maxWrites)
		}
		for _, back := range []int{0, 1, maxWrites, 2 * maxWrites} {
			if n := i - back; n >= 0 {
				name := "public.t" + strconv.Itoa(n)
				if got := w.latest([]*catalog.Reading{{Tables: []string{name}}}); got < fleet.Ticket(n+1) || got > fleet.Ticket(i+1) {
					t.Fatalf("%s, written at %d of %d: %d", name, n+1, i+1, got)
				}
			}
		}
	}
}
