package pool

import "fmt"

// State is where a connection of the pool stands.
type State uint8

// The states of a slot. Everything but Closed counts against the size.
const (
	Dialling State = iota // being opened; no Server yet
	Idle                  // in the idle list
	Checking              // taken from the idle list, asked whether it still lives before it is lent
	Leased                // in the hands of a session
	Closing               // out of use, Close has not returned yet
	Closed                // gone
	states
)

// String is the state's name in SHOW SERVERS and in logs.
func (s State) String() string {
	return [states]string{"dialling", "idle", "checking", "leased", "closing", "closed"}[s]
}

// allows is the table of moves. Leased to Leased is the hand-over to a waiter.
func (s State) allows(to State) bool {
	switch s {
	case Dialling:
		return to == Idle || to == Leased || to == Closing || to == Closed
	case Idle:
		return to == Leased || to == Checking || to == Closing
	case Checking:
		return to == Leased || to == Idle || to == Closing
	case Leased:
		return to == Leased || to == Idle || to == Closing
	case Closing:
		return to == Closed
	default:
		return false
	}
}

// slot is the pool's record of one connection. All fields are guarded by Pool.mu, but server and idleSince may be read
// by whoever holds the slot in Checking, Leased or Closing.
type slot[S Server] struct {
	server      S
	state       State
	generation  uint64  // of the pool when the dial began; an older one than the pool's is closed at release
	fingerprint uint64  // Server.Fingerprint when it became idle
	idleSince   int64   // clock time when it was released
	changedAt   int64   // clock time of the last change of state
	expires     int64   // clock time of max_lifetime; 0 = never
	reason      Reason  // why it is Closing
	jitter      float64 // share of max_lifetime taken off

	newer, older *slot[S] // neighbours in the idle list
}

// move is the only place where a slot changes state. A move that the table forbids is a bug in this package: callers
// check what comes from outside first.
func (p *Pool[S]) move(sl *slot[S], to State) {
	if !sl.state.allows(to) {
		panic(fmt.Sprintf("pool %s: connection cannot go from %s to %s", p.key, sl.state, to))
	}
	p.count[sl.state]--
	p.count[to]++
	sl.state = to
	sl.changedAt = p.reg.clock.coarse.Load()
}

// idleList holds idle slots, the last released first.
type idleList[S Server] struct {
	newest, oldest *slot[S]
}

// searchDepth bounds the search for a connection in the wanted state, because it happens under the pool's lock: 64
// neighbours cost about 100 ns, less than one replay of settings by three orders of magnitude.
const searchDepth = 64

func (l *idleList[S]) push(sl *slot[S]) {
	sl.older, sl.newer = l.newest, nil
	if l.newest != nil {
		l.newest.newer = sl
	} else {
		l.oldest = sl
	}
	l.newest = sl
}

func (l *idleList[S]) remove(sl *slot[S]) {
	if sl.newer != nil {
		sl.newer.older = sl.older
	} else {
		l.newest = sl.older
	}
	if sl.older != nil {
		sl.older.newer = sl.newer
	} else {
		l.oldest = sl.newer
	}
	sl.newer, sl.older = nil, nil
}

// find returns the newest slot with the fingerprint, or else the newest; nil when the list is empty.
func (l *idleList[S]) find(fingerprint uint64) *slot[S] {
	for sl, n := l.newest, 0; sl != nil && n < searchDepth; sl, n = sl.older, n+1 {
		if sl.fingerprint == fingerprint {
			return sl
		}
	}
	return l.newest
}
