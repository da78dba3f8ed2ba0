package pool

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"
)

// line is a connection without a server: the pool only schedules, so nothing of PostgreSQL is needed to test it.
type line struct {
	host        *host
	id          int
	fingerprint uint64
	created     time.Time
	stale       atomic.Bool
	mute        atomic.Bool  // does not answer Check
	thinks      atomic.Int64 // nanoseconds before it answers Check
	users       atomic.Int32 // sessions that hold it; never above 1
	closed      atomic.Pointer[string]
}

func (l *line) Fingerprint() uint64  { return l.fingerprint }
func (l *line) Stale() bool          { return l.stale.Load() }
func (l *line) CreatedAt() time.Time { return l.created }

func (l *line) Check(timeout time.Duration) error {
	if think := time.Duration(l.thinks.Load()); think > 0 {
		time.Sleep(think)
	}
	if l.mute.Load() {
		time.Sleep(timeout)
		return errors.New("no answer")
	}
	return nil
}

func (l *line) Close(reason string) {
	if !l.closed.CompareAndSwap(nil, &reason) {
		panic("closed twice: " + reason)
	}
	if l.users.Load() != 0 {
		panic("closed in use: " + reason)
	}
	l.host.mu.Lock()
	defer l.host.mu.Unlock()
	l.host.open[Key{}]--
	l.host.open[l.host.keys[l]]--
	delete(l.host.keys, l)
}

// host makes lines.
type host struct {
	mu       sync.Mutex
	delay    time.Duration
	err      error
	made     int
	attempts []time.Time
	inFlight int
	maxFly   int
	open     map[Key]int // by pool; the zero Key counts all
	peak     map[Key]int
	keys     map[*line]Key
}

func newHost() *host {
	return &host{open: map[Key]int{}, peak: map[Key]int{}, keys: map[*line]Key{}}
}

func (h *host) set(change func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	change()
}

func (h *host) dial(ctx context.Context, key Key) (*line, error) {
	h.mu.Lock()
	h.attempts = append(h.attempts, time.Now())
	h.inFlight++
	h.maxFly = max(h.maxFly, h.inFlight)
	delay := h.delay
	h.mu.Unlock()
	var err error
	if delay > 0 {
		select {
		case <-time.After(delay):
		case <-ctx.Done():
			err = ctx.Err()
		}
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.inFlight--
	if err == nil {
		err = h.err
	}
	if err != nil {
		return nil, err
	}
	h.made++
	l := &line{host: h, id: h.made, created: time.Now()}
	h.keys[l] = key
	for _, k := range []Key{{}, key} {
		h.open[k]++
		h.peak[k] = max(h.peak[k], h.open[k])
	}
	return l, nil
}

var keyA = Key{Database: "app", Role: "ann", Server: "s0"}

// quiet is a configuration in which nothing happens by itself.
func quiet(size int) *Config {
	c := DefaultConfig()
	c.Size, c.WaitTimeout, c.IdleTimeout, c.MaxLifetime, c.CheckDelay = size, 0, 0, 0, 0
	return &c
}

// rig is a registry over a host.
type rig struct {
	t *testing.T
	*host
	*Registry[*line]
}

func newRig(t *testing.T) *rig {
	h := newHost()
	return &rig{t: t, host: h, Registry: New(h.dial, NewLimits(), zap.NewNop())}
}

// end closes the registry and checks that no connection and no count is left.
func (r *rig) end() {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := r.Registry.Close(ctx); err != nil {
		r.t.Errorf("Close: %v", err)
	}
	r.mu().Lock()
	defer r.mu().Unlock()
	if n := r.host.open[Key{}]; n != 0 {
		r.t.Errorf("%d connections open after Close, want 0", n)
	}
	l := r.Registry.limits
	if len(l.servers.database) != 0 || len(l.servers.role) != 0 || l.servers.total != 0 || len(l.refused) != 0 {
		r.t.Errorf("shared totals after Close: %+v, refused %d, want nothing", l.servers, len(l.refused))
	}
}

func (r *rig) mu() *sync.Mutex { return &r.host.mu }

// lend acquires and fails the test on an error.
func lend(t *testing.T, p *Pool[*line], w *Waiter[*line]) *line {
	t.Helper()
	l, err := p.Acquire(w, Want[*line]{})
	if err != nil {
		t.Fatalf("Acquire: %v", err)
	}
	hold(l)
	return l
}

func hold(l *line) {
	if n := l.users.Add(1); n != 1 {
		panic(fmt.Sprintf("connection %d has %d users", l.id, n))
	}
	if reason := l.closed.Load(); reason != nil {
		panic(fmt.Sprintf("connection %d was lent after it was closed: %s", l.id, *reason))
	}
}

func giveBack(p *Pool[*line], l *line) {
	l.users.Add(-1)
	p.Release(l)
}

func discard(p *Pool[*line], l *line) {
	l.users.Add(-1)
	p.Discard(l, "broken")
}

// result of an Acquire in a goroutine of its own.
type result struct {
	n    int
	line *line
	err  error
	took time.Duration
}

// ask acquires in the background and sends the outcome.
func ask(p *Pool[*line], w *Waiter[*line], n int, to chan<- result) {
	start := time.Now()
	l, err := p.Acquire(w, Want[*line]{})
	if err == nil {
		hold(l)
	}
	to <- result{n, l, err, time.Since(start)}
}

func stateOf(t *testing.T, err error) string {
	t.Helper()
	var coded interface{ SQLState() string }
	if !errors.As(err, &coded) {
		t.Fatalf("error %v has no SQLSTATE", err)
	}
	return coded.SQLState()
}

// refusedLogin is what a server answers to a wrong password.
type refusedLogin struct{ state string }

func (e refusedLogin) Error() string    { return "refused with " + e.state }
func (e refusedLogin) SQLState() string { return e.state }
