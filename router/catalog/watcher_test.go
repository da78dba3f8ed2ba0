package catalog

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/parser"
)

// watch runs a watcher until the test ends.
func watch(t *testing.T, q Querier, interval time.Duration, extras ...Extra) *Watcher {
	t.Helper()
	w := NewWatcher(q, interval, zap.NewNop(), extras...)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { // ends with ctx
		defer close(done)
		w.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return w
}

func wait(t *testing.T, w *Watcher) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), deadline)
	defer cancel()
	if err := w.Wait(ctx); err != nil {
		t.Fatal(err)
	}
}

const (
	harmlessFunction = "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'BEGIN RETURN 1; END'"
	riskyFunction    = "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE plpgsql AS 'BEGIN SET work_mem = 1000; RETURN 1; END'"
)

func TestTouchedWatcherSeesChange(t *testing.T) {
	server, name, q := database(t)
	pgtest.Exec(t, server, name, harmlessFunction)
	st := parser.NewCache(1 << 20).Statement([]byte("SELECT f()"))
	w := watch(t, q, time.Hour)
	wait(t, w)
	if got := w.Pins(st); got != "" {
		t.Fatalf("harmless function pinned: %s", got)
	}
	pgtest.Exec(t, server, name, riskyFunction)
	w.Touch()
	if got := w.Pins(st); got == "" {
		t.Error("not pinned while the change is read or after it")
	}
	wait(t, w)
	if got := w.Pins(st); got == "" || got == BeingRead || w.Pending() {
		t.Errorf("after the change: %q, pending %v", got, w.Pending())
	}
}

func TestPollingWatcherSeesChange(t *testing.T) {
	server, name, q := database(t)
	pgtest.Exec(t, server, name, harmlessFunction)
	st := parser.NewCache(1 << 20).Statement([]byte("SELECT f()"))
	w := watch(t, q, 10*time.Millisecond)
	wait(t, w)
	first := w.Snapshot()
	pgtest.Exec(t, server, name, riskyFunction)
	for end := time.Now().Add(deadline); w.Pins(st) == ""; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("the poll does not see the change")
		}
	}
	if w.Snapshot() == first {
		t.Error("the snapshot is the first one")
	}
}

// gate is a Querier that refuses while it is shut.
type gate struct {
	q Querier

	mu   sync.Mutex
	shut bool // guarded by mu
}

var errShut = errors.New("no connection")

func (g *gate) set(shut bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = shut
}

func (g *gate) Query(ctx context.Context, sql string, visit func(fields [][]byte) error) error {
	g.mu.Lock()
	shut := g.shut
	g.mu.Unlock()
	if shut {
		return errShut
	}
	return g.q.Query(ctx, sql, visit)
}

func TestUnreadableCatalogPinsUntilRead(t *testing.T) {
	server, name, q := database(t)
	pgtest.Exec(t, server, name, harmlessFunction)
	st := parser.NewCache(1 << 20).Statement([]byte("SELECT f()"))
	g := &gate{q: q, shut: true}
	w := watch(t, g, time.Hour)
	if got := w.Pins(st); got != NotRead || !w.Pending() {
		t.Errorf("before the first read: %q, pending %v", got, w.Pending())
	}
	g.set(false)
	wait(t, w)
	g.set(true)
	w.Touch()
	if got := w.Pins(st); got != BeingRead {
		t.Errorf("after a change that cannot be read: %q", got)
	}
	if got := w.Pins(parser.NewCache(1 << 20).Statement([]byte("SELECT 1 FROM t"))); got != "" {
		t.Errorf("a statement without functions is pinned: %s", got)
	}
	g.set(false)
	wait(t, w)
	if got := w.Pins(st); got != "" {
		t.Errorf("once read: %q", got)
	}
}

func TestNothingIsProvedWhileChangeIsPending(t *testing.T) {
	_, _, q := database(t)
	st := parser.NewCache(1 << 20).Statement([]byte("SELECT 1"))
	c := &st.Commands[0]
	g := &gate{q: q, shut: true}
	w := watch(t, g, time.Hour)
	if r := w.Reading(st); r.Verdict != Unproved || r.Reason != NotRead {
		t.Errorf("before the first read: %s (%s)", r.Verdict, r.Reason)
	}
	g.set(false)
	wait(t, w)
	if r := w.Reading(st); r.Verdict != Read || w.CommandReading(c).Verdict != Read {
		t.Errorf("once read: %s (%s)", r.Verdict, r.Reason)
	}
	if tables, all := w.Written(c); len(tables) != 0 || all {
		t.Errorf("once read: writes %v, all %v", tables, all)
	}
	g.set(true)
	w.Touch()
	if r := w.Reading(st); r.Verdict != Unproved || r.Reason != BeingRead || w.CommandReading(c) != r {
		t.Errorf("after a change that is not read: %s (%s)", r.Verdict, r.Reason)
	}
	if _, all := w.Written(c); !all {
		t.Error("after a change that is not read: what is written is known")
	}
	g.set(false)
	wait(t, w)
}
