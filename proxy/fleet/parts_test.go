package fleet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"

	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
	"pgtier/router/balance"
	"pgtier/router/topology"
)

func TestHistoryTurnsPositionsIntoLag(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(seconds float64) time.Time { return start.Add(time.Duration(seconds * float64(time.Second))) }
	const fresh = 5 * time.Second
	var h history
	if got := h.lag(0, at(0), fresh); got != 0 {
		t.Errorf("without a sample: lag %s, want 0", got)
	}
	h.add(at(0), 100)
	h.add(at(1), 200)
	h.add(at(2), 200)
	h.add(at(3), 300)
	for _, tc := range []struct {
		replayed balance.LSN
		now      float64
		want     time.Duration
	}{
		{300, 3, 0}, {400, 3, 0}, {300, 8, 0}, {300, 9, 6 * time.Second}, // nobody knows what came after the sample at 3
		{299, 3.5, 500 * time.Millisecond}, {200, 4, time.Second}, {199, 4, 3 * time.Second}, {100, 4, 3 * time.Second},
		{99, 4, 4 * time.Second}, {0, 4, 4 * time.Second},
		{200, 3, 1}, // behind is never 0
	} {
		if got := h.lag(tc.replayed, at(tc.now), fresh); got != tc.want {
			t.Errorf("replayed %d at %v: lag %s, want %s", tc.replayed, tc.now, got, tc.want)
		}
	}
	h.add(at(10), 50) // a crash that lost the end of the log
	if got := h.lag(50, at(10), fresh); got != 0 {
		t.Errorf("after the log went back: lag %s, want 0", got)
	}
}

func TestHistoryStaysBoundedAndRoughlyRight(t *testing.T) {
	var h history
	start := time.Unix(1000, 0)
	const step = 3 * time.Millisecond
	now := start
	for i := range 100_000 {
		now = start.Add(time.Duration(i) * step)
		h.add(now, balance.LSN(i))
	}
	if len(h.points) > historyMost {
		t.Fatalf("%d points, want at most %d", len(h.points), historyMost)
	}
	random := rand.New(rand.NewPCG(1, 1))
	for range 1000 {
		i := random.IntN(99_998)
		truth := now.Sub(start.Add(time.Duration(i+1) * step))
		got := h.lag(balance.LSN(i), now, time.Minute)
		// Thinning may only make the first point beyond a later one, and at a distance only.
		if got > truth || truth-got > truth/historyGrain+step {
			t.Fatalf("position %d: lag %s, want about %s", i, got, truth)
		}
	}
}

func TestPagesEndIsWhereTheLastRecordEnds(t *testing.T) {
	p := pages{block: 8192, segment: 16 << 20}
	for at, want := range map[balance.LSN]balance.LSN{
		0x4000028: 0x4000000, // behind the first header of a segment
		0x4002018: 0x4002000, // behind that of another page
		0x4002028: 0x4002028, // 16 bytes of a record that began on the page before
		0x4000018: 0x4000018, // inside a header: no server says that
		0x4000000: 0x4000000, 0x4000100: 0x4000100, 0: 0,
	} {
		if got := p.end(at); got != want {
			t.Errorf("end(%s) = %s, want %s", at, got, want)
		}
	}
	if got := (pages{}).end(0x4000028); got != 0x4000028 {
		t.Errorf("with an unknown layout end changed the position to %s", got)
	}
}

func TestRunningIDsAreWidenedByTheNearestEpoch(t *testing.T) {
	for _, tc := range []struct {
		short, near string
		want        uint64
	}{
		{"700", "705", 700}, {"705", "705", 705}, {"710", "705", 710},
		{"5", "8589934592", 8589934597}, {"4294967290", "8589934600", 8589934586}, {"3", "4294967290", 4294967299},
	} {
		if got, err := parseRunning([][]byte{[]byte(tc.short), []byte(tc.near)}); got != tc.want || err != nil {
			t.Errorf("%s near %s: got %d, %v, want %d", tc.short, tc.near, got, err, tc.want)
		}
	}
}

func TestClassify(t *testing.T) {
	refused := func(code string) error {
		return fmt.Errorf("dial: %w", &backend.LoginError{Refusal: wire.Fatal(code, "the server's words")})
	}
	for name, tc := range map[string]struct {
		err    error
		state  balance.State
		reason string
		closed bool
	}{
		"starting up":     {refused("57P03"), balance.Starting, "the server's words", false},
		"shutting down":   {refused("57P01"), balance.Starting, "the server's words", false},
		"no slot":         {refused("53300"), balance.Full, "the server's words", false},
		"wrong password":  {refused("28P01"), balance.Down, "does not let pgtier in: the server's words", true},
		"no database":     {refused("3D000"), balance.Down, "does not let pgtier in", true},
		"nobody listens":  {fmt.Errorf("connect: %w", syscall.ECONNREFUSED), balance.Down, "refuses connections", false},
		"no answer":       {fmt.Errorf("read: %w", os.ErrDeadlineExceeded), balance.Down, "no answer within 2s", false},
		"no login":        {fmt.Errorf("log in: %w", context.DeadlineExceeded), balance.Down, "no answer within 2s", false},
		"something else":  {errors.New("no route to host"), balance.Down, "no route to host", false},
		"an error of SQL": {wire.NewError("42883", "function does not exist", ""), balance.Down, "function does not exist", false},
	} {
		got := classify(tc.err, 2*time.Second)
		if got.state != tc.state || !strings.Contains(got.reason, tc.reason) || got.closed != tc.closed {
			t.Errorf("%s: got %+v, want %s, %q, closed %v", name, got, tc.state, tc.reason, tc.closed)
		}
	}
}

func TestLatencyIsAMovingAverageThatForgetsOldTrouble(t *testing.T) {
	var l load
	l.observe(8 * time.Millisecond)
	if got := l.average(); got != 8*time.Millisecond {
		t.Errorf("after the first answer %s, want it", got)
	}
	l.observe(16 * time.Millisecond)
	if got := l.average(); got != 9*time.Millisecond {
		t.Errorf("after a slower one %s, want an eighth of the way", got)
	}
	l.settle(time.Millisecond)
	if got := l.average(); got != 9*time.Millisecond {
		t.Errorf("settled to %s although sessions measure it", got)
	}
	for range 10 {
		l.settle(time.Millisecond)
	}
	if got := l.average(); got > 1100*time.Microsecond || got < time.Millisecond {
		t.Errorf("ten rounds without a session: %s, want about our own round trip, 1ms", got)
	}
	var fresh load
	fresh.settle(time.Millisecond)
	if got := fresh.average(); got != time.Millisecond {
		t.Errorf("never measured: %s, want our own round trip", got)
	}
	l.streak.Store(4)
	if l.observe(0); l.streak.Load() != 0 {
		t.Error("an answer does not end a streak of failures")
	}
}

// idle is a fleet that nobody runs, for what can be decided without servers.
func idle(replicas int) *Fleet {
	shard := topology.Shard{Name: "s0", Manager: topology.Server{Name: "m", Host: "m"}}
	for i := range replicas {
		name := fmt.Sprintf("r%d", i)
		shard.Replicas = append(shard.Replicas, topology.Server{Name: name, Host: name, Zone: "z", Weight: 2})
	}
	return New(shard, DefaultConfig(), nil, zap.NewNop())
}

func TestBeforeTheFirstAnswer(t *testing.T) {
	f := idle(1)
	v := f.View()
	if v.Manager != -1 || v.Epoch != 0 || v.Hosts[0].State != balance.Down || v.Hosts[1].Reason != "not asked yet" {
		t.Errorf("got\n%s", show(v))
	}
	if _, ok := f.Position(f.Committed()); ok {
		t.Error("a position is known before anybody was asked")
	}
	if got := f.Visible(); got != 0 {
		t.Errorf("Visible() = %s, want nothing", got)
	}
	f.Observe("nobody", 1)
	f.Begin("nobody")
	f.End("nobody")
	f.Lost("nobody", nil)
}

func TestWhatAProxyDoesNotBelieveSaysNothingOfItsServer(t *testing.T) {
	f := idle(1)
	f.Lost("r0", fmt.Errorf("read: %w", backend.ErrUnbelieved))
	if n := f.loads[1].failures.Load(); n != 0 {
		t.Errorf("%d failures of a server that has answered", n)
	}
}

func TestManagerWhoseLogWentBackIsAnotherEpoch(t *testing.T) {
	f := idle(1)
	answer := func(at balance.LSN) *View {
		f.heard(0, f.positions.ask(), time.Now(), status{role: Manager, timeline: 1, system: 7, position: at}, false)
		f.sampled(0, at, nil)
		return f.View()
	}
	if v := answer(100); v.Epoch != 1 || f.Visible() != 100 {
		t.Fatalf("epoch %d, visible %s", v.Epoch, f.Visible())
	}
	if v := answer(200); v.Epoch != 1 || f.Visible() != 200 {
		t.Errorf("it went on, and has epoch %d, visible %s", v.Epoch, f.Visible())
	}
	if v := answer(150); v.Manager != 0 || v.Epoch != 2 || f.Visible() != 150 {
		t.Errorf("it went back, and has epoch %d, visible %s, want 2 and 150", v.Epoch, f.Visible())
	}
}

func TestAWordOfAnotherEpochOrAStrangerIsWorthNothing(t *testing.T) {
	f := idle(2)
	f.heard(0, f.positions.ask(), time.Now(), status{role: Manager, timeline: 2, system: 7, position: 100}, false)
	f.heard(1, 0, time.Now(), status{role: Replica, timeline: 2, system: 7, position: 100}, false)
	f.heard(2, 0, time.Now(), status{role: Replica, timeline: 1, system: 7, position: 100}, false)
	f.sampled(0, 100, []uint64{5})
	f.denied(1, f.View().Epoch-1, 100, []uint64{5})
	f.denied(2, f.View().Epoch, 100, []uint64{5})
	f.denied(0, f.View().Epoch, 100, []uint64{5})
	if got := f.Visible(); got != 0 {
		t.Errorf("Visible() = %s, want nothing", got)
	}
	f.denied(1, f.View().Epoch, 100, []uint64{5})
	if got := f.Visible(); got != 100 {
		t.Errorf("Visible() = %s after a replica's word, want 100", got)
	}
}

// TestAFleetThatContinuesKnowsWhoWasReplaced has a new manager be away while a fleet takes the place of another: of two that name it, and of one that does not.
func TestAFleetThatContinuesKnowsWhoWasReplaced(t *testing.T) {
	old := idle(1)
	answer := func(f *Fleet, i int, timeline uint32) *View {
		f.heard(i, f.positions.ask(), time.Now(), status{role: Manager, timeline: timeline, system: 7, position: 100}, false)
		return f.View()
	}
	answer(old, 0, 1)
	if v := answer(old, 1, 2); v.Manager != 1 {
		t.Fatalf("the promoted one is not the manager\n%s", show(v))
	}
	swapped := New(topology.Shard{Name: "s0", Manager: old.servers[1], Replicas: old.servers[:1]}, DefaultConfig(), nil, zap.NewNop())
	for name, tc := range map[string]struct {
		f       *Fleet
		was, is int // places of who was replaced, and of who has
	}{"the same servers": {idle(1), 0, 1}, "in another order": {swapped, 1, 0}} {
		tc.f.Continue(old)
		if v := tc.f.View(); v.Manager != -1 || v.Last != tc.is {
			t.Errorf("%s: before any answer the manager is %d, the last was %d", name, v.Manager, v.Last)
		}
		if v := answer(tc.f, tc.was, 1); v.Manager != -1 {
			t.Errorf("%s: one that was replaced is the manager\n%s", name, show(v))
		}
		if v := answer(tc.f, tc.is, 2); v.Manager != tc.is {
			t.Errorf("%s: the manager is %d, want %d\n%s", name, v.Manager, tc.is, show(v))
		}
	}
	alone := idle(0)
	alone.Continue(old)
	if v := answer(alone, 0, 1); v.Manager != 0 {
		t.Errorf("the configuration names the last manager no more, and yet:\n%s", show(v))
	}
}

func TestHostsForTheBalancer(t *testing.T) {
	f := idle(2)
	f.heard(0, f.positions.ask(), time.Now(), status{role: Manager, timeline: 1, system: 7, position: 100}, false)
	f.heard(1, 0, time.Now(), status{role: Replica, timeline: 1, system: 7, position: 90}, false)
	f.Begin("r0")
	f.Begin("r0")
	f.End("r0")
	f.Observe("r0", 3*time.Millisecond)
	v := f.View()
	hosts := f.Hosts(v, nil, v.At)
	if hosts[0].State != balance.Down || hosts[2].State != balance.Down {
		t.Errorf("the manager and a replica that was never there take reads: %+v", hosts)
	}
	want := balance.Host{Name: "r0", Zone: "z", Weight: 2, State: balance.Up, Replayed: 90, Lag: v.Hosts[1].Lag, Latency: 3 * time.Millisecond, InFlight: 1, Warmth: 1}
	if hosts[1] != want {
		t.Errorf("got %+v, want %+v", hosts[1], want)
	}
}

func TestConfigIsChecked(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
	err := Config{MaxLag: -1, Silence: time.Millisecond}.Validate()
	for _, key := range []string{"max_lag", "silence", "poll", "sample", "retry", "eject_window"} {
		if err == nil || !strings.Contains(err.Error(), key+": ") {
			t.Errorf("%v does not name %s", err, key)
		}
	}
}

func TestServersTooOldAreDownAndSaySo(t *testing.T) {
	for version, want := range map[uint64]string{90624: "is PostgreSQL 9,", 120022: "is PostgreSQL 12, and a database with replicas needs version 13 or newer on every server", 130000: "", 150003: ""} {
		err := checkVersion(version)
		if want == "" {
			if err != nil {
				t.Errorf("%d: %v", version, err)
			}
			continue
		}
		if err == nil {
			t.Errorf("%d is not refused", version)
			continue
		}
		if got := classify(err, time.Second); got.state != balance.Down || got.closed || got.silent || !strings.HasPrefix(got.reason, want) {
			t.Errorf("%d: got %+v, want down, %q", version, got, want)
		}
	}
}
