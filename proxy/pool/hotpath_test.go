package pool

import (
	"runtime"
	"testing"

	"go.uber.org/zap"
)

func TestAcquireAndReleaseDoNotAllocate(t *testing.T) {
	h := newHost()
	r := New(h.dial, NewLimits(), zap.NewNop())
	defer func() { _ = r.Close(t.Context()) }()
	p, w := r.Attach(keyA, quiet(4)), NewWaiter[*line]()
	p.Release(lendPlain(t, p, w))
	got := testing.AllocsPerRun(1000, func() {
		l, err := p.Acquire(w, Want[*line]{Fingerprint: 1})
		if err != nil {
			t.Fatal(err)
		}
		p.Release(l)
	})
	if got != 0 {
		t.Errorf("Acquire and Release allocate %v times, want 0", got)
	}
}

func TestAcquireThatWaitsDoesNotAllocate(t *testing.T) {
	h := newHost()
	r := New(h.dial, NewLimits(), zap.NewNop())
	defer func() { _ = r.Close(t.Context()) }()
	cfg := quiet(1)
	cfg.WaitTimeout = DefaultConfig().WaitTimeout
	p := r.Attach(keyA, cfg)
	w, other := NewWaiter[*line](), NewWaiter[*line]()
	held := lendPlain(t, p, w)
	asked, got := make(chan struct{}), make(chan *line)
	go func() { // ends when asked is closed
		for range asked {
			l, _ := p.Acquire(other, Want[*line]{})
			got <- l
		}
		close(got)
	}()
	allocs := testing.AllocsPerRun(500, func() {
		asked <- struct{}{}
		for !p.hasWaiter() {
			runtime.Gosched()
		}
		p.Release(held)
		held = <-got
	})
	close(asked)
	<-got
	p.Release(held)
	if allocs != 0 {
		t.Errorf("an Acquire that waits allocates %v times, want 0", allocs)
	}
}

func TestTryAcquireNeverJumpsTheQueueNorWaits(t *testing.T) {
	h := newHost()
	r := New(h.dial, NewLimits(), zap.NewNop())
	defer func() { _ = r.Close(t.Context()) }()
	p, w, other := r.Attach(keyA, quiet(1)), NewWaiter[*line](), NewWaiter[*line]()
	if _, ok := p.TryAcquire(w, Want[*line]{}); ok {
		t.Error("a connection came out of an empty pool")
	}
	held := lendPlain(t, p, w)
	if _, ok := p.TryAcquire(w, Want[*line]{}); ok {
		t.Error("the only connection was lent twice")
	}
	got := make(chan *line)
	go func() { // ends when it was served
		l, _ := p.Acquire(other, Want[*line]{})
		got <- l
	}()
	for !p.hasWaiter() {
		runtime.Gosched()
	}
	p.Release(held)
	if _, ok := p.TryAcquire(w, Want[*line]{}); ok {
		t.Error("TryAcquire was served before the waiter")
	}
	p.Release(<-got)
	l, ok := p.TryAcquire(w, Want[*line]{})
	if !ok {
		t.Fatal("an idle connection was not lent")
	}
	p.Release(l)
}

func (p *Pool[S]) hasWaiter() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.queue.first != nil
}

func lendPlain(tb testing.TB, p *Pool[*line], w *Waiter[*line]) *line {
	tb.Helper()
	l, err := p.Acquire(w, Want[*line]{})
	if err != nil {
		tb.Fatalf("Acquire: %v", err)
	}
	return l
}

func BenchmarkAcquireRelease(b *testing.B) {
	h := newHost()
	r := New(h.dial, NewLimits(), zap.NewNop())
	defer func() { _ = r.Close(b.Context()) }()
	p, w := r.Attach(keyA, quiet(20)), NewWaiter[*line]()
	var held []*line
	for range 20 {
		held = append(held, lendPlain(b, p, w))
	}
	for _, l := range held {
		p.Release(l)
	}
	b.ReportAllocs()
	want := Want[*line]{}
	for b.Loop() {
		l, err := p.Acquire(w, want)
		if err != nil {
			b.Fatal(err)
		}
		p.Release(l)
		want.Prefer = l
	}
}
