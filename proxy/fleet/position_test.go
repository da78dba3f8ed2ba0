package fleet

import (
	"sync"
	"testing"

	"pgtier/router/balance"
)

func TestTicketsAreCoveredByLaterQuestionsOnly(t *testing.T) {
	p := newPositions()
	if lsn, ok := p.position(0); lsn != 0 || !ok {
		t.Errorf("no write: position %v, %v, want 0 at once", lsn, ok)
	}
	before := p.next()
	q1 := p.ask()
	during := p.next()
	p.answer(q1, 100)
	after := p.next()
	for name, tc := range map[string]struct {
		ticket Ticket
		want   balance.LSN
		known  bool
	}{"issued before the question": {before, 100, true}, "issued while it was under way": {during, 0, false}, "issued after": {after, 0, false}} {
		if got, known := p.position(tc.ticket); got != tc.want || known != tc.known {
			t.Errorf("%s: got %v, %v, want %v, %v", name, got, known, tc.want, tc.known)
		}
	}
	p.ask() // never answered
	q3 := p.ask()
	p.answer(q3, 300)
	if got, known := p.position(during); got != 300 || !known {
		t.Errorf("a question that was lost: got %v, %v, want the next one's answer, 300", got, known)
	}
	p.answer(q1, 50) // late
	if got, _ := p.position(before); got != 100 {
		t.Errorf("an answer that is overtaken changed the position to %v", got)
	}
	if !p.want(p.next()) || p.want(p.next()) || !p.outstanding() {
		t.Error("a ticket is not wanted once and then outstanding")
	}
	if p.ask(); p.outstanding() {
		t.Error("still outstanding although the question was sent")
	}
}

func TestOldTicketsGetAPositionThatCoversThem(t *testing.T) {
	p := newPositions()
	for i := range uint64(3 * ringSize) {
		q := p.ask()
		if i%7 != 3 { // some are never answered
			p.answer(q, balance.LSN(1000+q))
		}
		for _, back := range []uint64{0, 1, 5, ringSize - 1, ringSize, ringSize + 1, 2 * ringSize} {
			last := p.answered.Load()
			if back >= last {
				continue
			}
			ticket := last - back
			got, ok := p.position(Ticket(ticket))
			if !ok || uint64(got) < 1000+ticket || uint64(got) > 1000+last {
				t.Fatalf("ticket %d, last answer %d: got %v, %v, want from %d to %d", ticket, last, got, ok, 1000+ticket, 1000+last)
			}
			if back < ringSize-7 && uint64(got) > 1000+ticket+1 {
				t.Fatalf("ticket %d: got %v although the answer to it or the next is in the ring", ticket, got)
			}
		}
	}
}

func TestPositionsUnderConcurrency(t *testing.T) {
	p := newPositions()
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		wg.Go(func() { // ended by done
			for {
				select {
				case <-done:
					return
				default:
				}
				ticket := p.next()
				for {
					got, ok := p.position(ticket)
					if ok && uint64(got) < uint64(ticket) {
						t.Errorf("ticket %d: got %v", ticket, got)
						return
					}
					if ok {
						break
					}
					select {
					case <-done:
						return
					default:
					}
				}
			}
		})
	}
	for range 200_000 {
		q := p.ask()
		p.answer(q, balance.LSN(q))
	}
	close(done)
	wg.Wait()
}

func TestHotPathDoesNotAllocate(t *testing.T) {
	r := watch(t, shared.Cluster(t).Shards[0], DefaultConfig(), "")
	v := r.await("a manager", func(v *View) bool { return v.Manager == 0 })
	name := v.Hosts[1].Name
	hosts := r.Hosts(v, nil, v.At)
	for what, call := range map[string]func(){
		"Committed": func() { r.Committed() }, "Position": func() { r.Position(1) }, "Visible": func() { r.Visible() },
		"View": func() { r.View() }, "Observe": func() { r.Observe(name, 1) }, "Begin": func() { r.Begin(name); r.End(name) },
		"Hosts": func() { hosts = r.Hosts(r.View(), hosts, v.At) },
	} {
		// The monitors allocate meanwhile, and AllocsPerRun counts everybody; its result is rounded down.
		if n := testing.AllocsPerRun(200_000, call); n != 0 {
			t.Errorf("%s: %v allocations, want none", what, n)
		}
	}
}

// TestTicketsOfAFleetThatIsReplaced: who still draws from the old one gets what only later answers to the new one cover.
func TestTicketsOfAFleetThatIsReplaced(t *testing.T) {
	old, p := newPositions(), newPositions()
	old.answer(old.ask(), 100)
	before := old.next()
	p.continues(&old)
	for range 3 {
		p.answer(p.ask(), 200)
	}
	if got, known := p.position(before); got != 200 || !known {
		t.Errorf("a ticket from before: got %v, %v, want 200", got, known)
	}
	late := old.next() // of a write that is acknowledged now
	if got, known := p.position(late); known {
		t.Errorf("a ticket that the old one gives late is covered by an answer from before: %v", got)
	}
	p.want(late)
	old.ask()
	if !p.outstanding() {
		t.Error("a question of the old one's counts as asked")
	}
	p.answer(p.ask(), 300)
	if got, known := p.position(late); got != 300 || !known {
		t.Errorf("the ticket given late: got %v, %v, want 300", got, known)
	}
}
