package session

import (
	"time"

	"pgtier/proxy/backend"
	"pgtier/proxy/pool"
	"pgtier/proxy/wire"
)

// Transactions over several shards can wait for each other's server connections: each of some holds one of shard A and waits
// for one of B, others the other way round, and no connection is left in either pool. PostgreSQL knows nothing of that. As
// with its own deadlocks one of them has to give up, which is found out when somebody has waited for a while.

// standstillAfter is how long a session waits for a connection before it is asked whether it can ever have one: PostgreSQL's
// deadlock_timeout.
const standstillAfter = time.Second

// Waiting is a session that holds connections of some pools and waits for one of another.
type Waiting struct {
	Session *Session
	For     *pool.Pool[*backend.Conn]
	Holds   []*pool.Pool[*backend.Conn]
	Since   int64 // nanoseconds of env clock
}

// Waiting tells of the connections that the session holds while it waits for another. ok is false if it does not. Safe for
// concurrent use.
func (s *Session) Waiting() (w Waiting, ok bool) {
	if State(s.state.Load()) != StateWaiting {
		return w, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range s.branches {
		w.Holds = append(w.Holds, b.pool)
	}
	w.Session, w.For, w.Since = s, s.waiter.For(), s.since.Load()
	return w, len(w.Holds) > 0 && w.For != nil
}

// Standstill returns a session that has to give up so that others can go on: of those that wait for each other the one that
// has waited least. nil: none has to.
func Standstill(all []Waiting, now int64) *Session {
	stuck, late := map[*pool.Pool[*backend.Conn]]bool{}, false
	for _, w := range all {
		stuck[w.For] = true
		late = late || now-w.Since > int64(standstillAfter)
	}
	if !late {
		return nil
	}
	for changed := true; changed; { // take out what somebody will give back
		changed = false
		held := map[*pool.Pool[*backend.Conn]]int{}
		for _, w := range all {
			if !stuck[w.For] {
				continue
			}
			for _, p := range w.Holds {
				held[p]++
			}
		}
		for p := range stuck {
			if stuck[p] && held[p] < p.Most() {
				stuck[p], changed = false, true
			}
		}
	}
	var last *Waiting
	for i := range all {
		if w := &all[i]; stuck[w.For] && (last == nil || w.Since > last.Since) {
			last = w
		}
	}
	if last == nil {
		return nil
	}
	return last.Session
}

// GiveUp ends the session's wait for a server connection. Safe for concurrent use.
func (s *Session) GiveUp() {
	s.waiter.Cancel(&wire.Error{Code: "40P01", Message: "deadlock detected", Detail: "Transactions over several shards wait for each other's server connections.",
		Hint: "Try again. A larger pool.size makes this rarer, and so does writing to the shards in the same order."})
}
