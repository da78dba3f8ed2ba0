package session

import (
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
