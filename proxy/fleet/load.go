package fleet

import (
	"errors"
	"sync/atomic"
	"time"

	"pgtier/proxy/backend"
)

// load is what sessions report of one server. All of it is atomic, because every statement touches it.
type load struct {
	inFlight atomic.Int64
	latency  atomic.Int64  // nanoseconds, moving average; 0: none yet
	calls    atomic.Uint32 // since the window began
	failures atomic.Uint32
	streak   atomic.Uint32
	seen     atomic.Bool   // somebody has observed it since the last settle
	full     atomic.Int64  // unix nanoseconds until which it has no connection to spare
	answered atomic.Uint64 // by the server, for sessions
	_        [64]byte      // keeps two servers' counters off one cache line
}

// smoothing is the weight of the past in the moving average: a change shows after about eight answers, and one slow
// statement among them does not chase all readers away.
const smoothing = 8

func (l *load) observe(d time.Duration) {
	l.calls.Add(1)
	l.answered.Add(1)
	if l.streak.Load() != 0 {
		l.streak.Store(0)
	}
	if !l.seen.Load() {
		l.seen.Store(true)
	}
	old := l.latency.Load()
	next := old + (int64(d)-old)/smoothing
	if old == 0 {
		next = int64(d)
	}
	// One of two answers at the same moment may be lost to the average; that is cheaper than both retrying.
	l.latency.CompareAndSwap(old, max(next, 1))
}

func (l *load) average() time.Duration { return time.Duration(l.latency.Load()) }

// settle brings the average of a server that nobody was sent to halfway to our own round trip. Without it a server that
// was slow once would never be tried again.
func (l *load) settle(roundTrip time.Duration) {
	if l.seen.Swap(false) {
		return
	}
	old := l.latency.Load()
	next := (old + int64(roundTrip)) / 2
	if old == 0 {
		next = int64(roundTrip)
	}
	l.latency.CompareAndSwap(old, max(next, 1))
}

// Observe adds a statement's time at the server to its moving average and counts it as answered. Unknown names are
// ignored. Safe for concurrent use, without a lock.
func (f *Fleet) Observe(server string, latency time.Duration) {
	if i, ok := f.index[server]; ok {
		f.loads[i].observe(latency)
	}
}

// Load is what sessions have reported of one server.
type Load struct {
	InFlight int
	// Latency is the moving average of its answers, 0 before the first.
	Latency time.Duration
	// Answered counts the requests it has answered since New. Only those to replicas are reported.
	Answered uint64
}

// Load returns that of the server at index i of View.Hosts. Safe for concurrent use, without a lock.
func (f *Fleet) Load(i int) Load {
	l := &f.loads[i]
	return Load{InFlight: int(l.inFlight.Load()), Latency: l.average(), Answered: l.answered.Load()}
}

// Begin counts a statement that was sent to the server; End takes it back. Safe for concurrent use, without a lock.
func (f *Fleet) Begin(server string) {
	if i, ok := f.index[server]; ok {
		f.loads[i].inFlight.Add(1)
	}
}

// End is the counterpart of Begin.
func (f *Fleet) End(server string) {
	if i, ok := f.index[server]; ok {
		f.loads[i].inFlight.Add(-1)
	}
}

// fullFor is how long a server that refused a connection for want of slots is left alone. A pool's own retry takes longer.
const fullFor = time.Second

// Lost tells that a session lost its connection to the server, or could not get one. The server is looked at at once, and
// the failure counts towards its ejection; a refusal because all slots are taken (53300) rests it for a second instead.
// Either shows in the View when Lost returns; what the look brings, later. What this proxy has lost by its own fault (backend.ErrUnbelieved) says nothing
// of the server. Safe for concurrent use.
func (f *Fleet) Lost(server string, err error) {
	i, ok := f.index[server]
	if !ok || errors.Is(err, backend.ErrUnbelieved) {
		return
	}
	l := &f.loads[i]
	if sqlState(err) == tooManyConnections {
		l.full.Store(time.Now().Add(fullFor).UnixNano())
	} else {
		l.calls.Add(1)
		l.failures.Add(1)
		l.streak.Add(1)
	}
	f.mu.Lock()
	f.publish(time.Now())
	f.mu.Unlock()
	f.monitors[i].look()
}
