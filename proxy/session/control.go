package session

import (
	"context"
	"crypto/subtle"
	"time"

	"go.uber.org/zap"

	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
)

// AsError turns an error into what a client is told.
func AsError(err error) *wire.Error { return asError(err) }

// CancelBy cancels what the session runs if k is its key.
// Safe for concurrent use.
func (s *Session) CancelBy(k Key) {
	if k.PID == s.key.PID && subtle.ConstantTimeCompare([]byte(k.Secret), []byte(s.key.Secret)) == 1 {
		s.Cancel()
	}
}

// Cancel ends the statement under way: at the server, or in the queue for one.
// It never reaches a statement of another session, because the connection stays
// this session's until the cancel is through. Safe for concurrent use.
func (s *Session) Cancel() {
	if s.waiter.Cancel(canceled()) || s.cancelPiped() {
		return
	}
	s.mu.Lock()
	leased := s.leased()
	switch {
	case len(leased) > 0:
		s.canceled = true // it may wait for something else
		for _, c := range leased {
			c.BeginCancel()
		}
	case State(s.state.Load()) == StateWaiting:
		s.canceled = true // between the queue and the lease
		s.endWait(canceled())
	}
	s.mu.Unlock()
	ctx, stop := context.WithTimeout(context.Background(), s.cancelWait())
	defer stop()
	for _, c := range leased {
		if err := c.Cancel(ctx); err != nil {
			s.logger().Warn("cancel failed", zap.Error(err))
		}
	}
}

// leased are the server connections that the session has now. mu is held.
func (s *Session) leased() (out []*backend.Conn) {
	if s.server != nil {
		out = append(out, s.server)
	}
	for _, b := range s.branches {
		out = append(out, b.c)
	}
	return out
}

// canceled is what a client is told whose statement was cancelled before any server saw it.
func canceled() *wire.Error {
	return &wire.Error{Code: wire.CodeQueryCanceled, Message: "canceling statement due to user request"}
}

// Leave takes the session away from that server of database: what runs there now ends as if the connection had been lost,
// so that reads go on elsewhere. A session that keeps a connection there without using it just now is killed with e. Safe
// for concurrent use.
func (s *Session) Leave(database, server string, e *wire.Error) {
	if holds, active := s.loseServer(database, server); holds && !active {
		s.Kill(e)
	}
}

// LeaveSilent is Leave for statements alone that have run longer than patience, or are prepared for so long, at a server that does not answer.
func (s *Session) LeaveSilent(database, server string, patience time.Duration) {
	state := State(s.state.Load())
	if (state == StateActive || state == StateWaiting) && s.env.now()-s.since.Load() > int64(patience) {
		s.loseServer(database, server)
	}
}

// loseServer ends what runs on the session's connection if it is one of that server, and reports whether it is and
// something runs.
func (s *Session) loseServer(database, server string) (holds, active bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db.Name != database {
		return false, false
	}
	for _, c := range s.leased() {
		if c.Target().Name != server {
			continue
		}
		switch State(s.state.Load()) {
		case StateActive, StateWaiting: // the latter has its connection and is about to use it
		default:
			return true, false
		}
		s.left = true
		_ = c.SetDeadline(time.Unix(1, 0))
		return true, true
	}
	return false, false
}

// AtRest reports whether the session is between requests, outside a transaction.
// Safe for concurrent use.
func (s *Session) AtRest() bool { return State(s.state.Load()) == StateIdle }

// KeepLimits ends what has run longer than its limit. The sweeper calls it.
func (s *Session) KeepLimits() {
	now, cfg := s.env.now(), s.db.Config()
	state := State(s.state.Load()) // before since, see enter
	since := s.since.Load()
	in := time.Duration(now - since)
	over := func(limit, took time.Duration) bool { return limit > 0 && took > limit }
	s.probe(in)
	if u := s.unended.Load(); u > 0 && now-u > int64(hastyAfter) && s.hasty.CompareAndSwap(false, true) {
		s.client.Kick()
	}
	switch state {
	case StateIdle:
		if over(cfg.ClientIdleTimeout, in) {
			s.Kill(wire.Fatal(wire.CodeIdleSession, "terminating connection due to idle-session timeout"))
		}
	case StateIdleTx:
		if over(cfg.IdleTransactionTimeout, in) {
			s.Kill(wire.Fatal(wire.CodeIdleInTransaction, "terminating connection due to idle-in-transaction timeout"))
		}
	case StateWaiting, StateActive:
		late := state == StateActive && over(cfg.QueryTimeout, in)
		if (late || in > goneAfter && s.client.PeerGone()) && s.overdue.CompareAndSwap(false, true) {
			go s.timeOut(since, cfg.CancelWaitTimeout) // ends within twice the cancel's own limit
		}
		if in > goneAfter {
			s.nudgeServer()
		}
	}
	if began := s.txSince.Load(); began > 0 && over(cfg.TransactionTimeout, time.Duration(now-began)) {
		s.Kill(wire.Fatal(wire.CodeQueryCanceled, "terminating connection due to transaction timeout"))
	}
}

// goneAfter is how long a statement runs before the sweeper looks whether its
// client is still there: rarely enough to cost nothing, soon enough that nobody
// who hangs up and comes again fills the pool.
const goneAfter = time.Second

// DefaultRest is how long a session rests before it is looked after once.
const DefaultRest = time.Second

// probe has a resting session read once more: the end of a client that hung up
// behind its last request may have come in the same wake-up as the request. One that has
// nothing to do then dozes.
func (s *Session) probe(rested time.Duration) {
	st, since := State(s.state.Load()), s.since.Load()
	if rested < s.env.RestFor || st != StateIdle && st != StateIdleTx || s.probed.Swap(since) == since {
		return
	}
	s.client.Kick()
}

// nudgeServer has the session read once more from a server that has hung up: no
// wake-up may be left to tell it.
func (s *Session) nudgeServer() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.leased() {
		if c.PeerGone() {
			c.Kick()
		}
	}
}

// timeOut cancels the statement that began at since, because it ran too long or
// its client is gone; a server that does not react is given up.
func (s *Session) timeOut(since int64, wait time.Duration) {
	defer s.overdue.Store(false)
	if s.since.Load() != since {
		return
	}
	s.Cancel()
	if wait <= 0 {
		wait = cleanupTimeout
	}
	deadline := time.Now().Add(wait)
	for time.Now().Before(deadline) {
		if s.since.Load() != since {
			return
		}
		time.Sleep(wait / 100)
	}
	s.Kill(wire.Fatal(wire.CodeQueryCanceled, "terminating connection due to query timeout"))
}

// Info is a copy of what the console shows of a session.
type Info struct {
	ID        uint64
	Database  string
	Role      string
	Addr      string
	Local     string // our end of the connection
	AppName   string // application_name at login
	Prepared  int    // statements the client has prepared
	State     State
	Since     time.Time
	Connected time.Time
	Pin       string
	Pinned    time.Time // when Pin was set
	ServerPID uint32    // 0: no server connection
	ServerID  uint64
	TLS       string
	Protocol  uint32
	Queries   uint64
	PID       uint32
}

// Info describes the session now. Safe for concurrent use.
func (s *Session) Info() Info {
	i := Info{ID: s.id, Database: s.db.Name, Role: s.role, Addr: peer(s.client), State: State(s.state.Load()),
		Since: s.env.Epoch.Add(time.Duration(s.since.Load())), Connected: s.began, Protocol: s.protocol,
		Queries: s.queries.Load(), PID: s.key.PID, TLS: s.tls,
		Local: s.client.LocalAddr().String(), AppName: s.appName, Prepared: int(s.held.Load())}
	s.mu.Lock()
	i.Pin, i.Pinned = s.pin, s.pinTime
	if s.server != nil {
		i.ServerPID, i.ServerID = s.server.PID(), s.server.ID()
	}
	s.mu.Unlock()
	return i
}
