package movetest

import (
	"testing"
	"time"
)

// TestRegistersHaveAnOrderThereAndBack has groups cut over and rolled back again and again while registers are written and read through both proxies, and takes
// everything back in the end.
func TestRegistersHaveAnOrderThereAndBack(t *testing.T) {
	long := time.Duration(number(t, "PGTIER_MOVES_SECONDS", 0)) * time.Second
	if long == 0 {
		t.Skip("PGTIER_MOVES_SECONDS is not set: the other tests go there and back once")
	}
	r := newRandomRig(t)
	l := newLoad(r, false)
	l.start(r.randomly(), 2, 8)
	l.more(100)
	r.widen()
	r.untilPossible("--to", "s1,s2")
	r.reshard("start", "--to", "s1,s2")
	rounds := 0
	for end := time.Now().Add(long); (rounds == 0 || time.Now().Before(end)) && !t.Failed(); rounds++ {
		r.reshard("cutover")
		l.more(30)
		r.reshard("rollback")
		l.more(30)
	}
	r.reshard("cancel")
	l.more(30)
	r.owns(map[string]string{"s0": "64"})
	t.Logf("%d times there and back", rounds)
	l.check()
	l.linearizable()
	r.leftovers()
	r.sane()
}
