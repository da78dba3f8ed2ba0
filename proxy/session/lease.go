package session

import (
	"context"
	"errors"
	"fmt"
	"time"

	"pgtier/proxy/backend"
	"pgtier/proxy/pool"
	"pgtier/proxy/wire"
)

// lease returns the session's server connection, borrowing one if it has none.
// A new one is in the session's settings when lease returns, or will be before
// the first statement runs: replay then holds the messages for it.
func (s *Session) lease() (c *backend.Conn, replay []byte, err error) {
	if s.server != nil {
		return s.server, nil, nil
	}
	for tries := 1; ; tries++ {
		c, replay, err = s.leaseOnce()
		// Nothing of the client's has been sent, so another connection does as well.
		if err == nil || tries >= maxTries || !errors.Is(err, errGone) {
			return c, replay, err
		}
		s.db.Stats.Repeated.Add(1)
	}
}

// errGone is wrapped by the error of a connection that was lost before it was of use.
var errGone = errors.New("the connection was lost before it was in the session's settings")

// gone reports whether err, of an exchange of ours, means that the connection is no more.
func gone(err error) bool {
	var refusal *wire.Error
	return !errors.As(err, &refusal) || refusal.Severity == "FATAL" || refusal.Severity == "PANIC"
}

// leaseOnce borrows one connection.
func (s *Session) leaseOnce() (c *backend.Conn, replay []byte, err error) {
	want := pool.Want[*backend.Conn]{Fingerprint: s.settings.Fingerprint(), Hasty: s.lastKept() != nil}
	if s.seqOn != 0 {
		want.Prefer = s.last // currval and lastval may be asked there
	}
	var atHand bool
	if s.at.Fleet.Load() == nil {
		s.pool, s.replica = s.home, ""
		c, atHand = s.home.TryAcquire(s.waiter, want)
	}
	if !atHand {
		c, err = s.wait(want)
		if want.Hasty && tooHasty(err) && s.lastKept() == nil && s.stopped() == nil { // it was evicted, or has become too old
			want.Hasty = false
			c, err = s.wait(want)
		}
		if err != nil {
			return nil, nil, err
		}
	}
	s.db.Stats.ServerAssignments.Add(1)
	s.last = c
	if !s.rowless {
		c.Bind(s.at.Bond) // what was planned before is planned again if that is outdated
	}
	s.mu.Lock()
	s.server, s.lentBy = c, s.pool
	killed, skip := s.killed, s.canceled && !atHand
	s.mu.Unlock()
	if killed != nil { // before it could reach the connection
		s.returnUnused()
		return nil, nil, killed
	}
	if replay, err = s.adopt(c); err != nil && gone(err) && !s.killedNow() {
		if f := s.at.Fleet.Load(); f != nil {
			f.Lost(s.pool.Key().Server, err)
		}
		err = fmt.Errorf("%w: %w", errGone, err)
	}
	if err == nil && (skip || c.CancelBegan()) {
		// The client has cancelled a statement that no server has seen yet.
		if replay != nil {
			err = s.replayNow(c, &replay)
		}
		if err == nil {
			err = canceled()
		}
	}
	if err != nil {
		s.returnUnused()
		return nil, nil, err
	}
	return c, replay, nil
}

// tooHasty reports whether err ended a wait that would have gone on for who has nothing else to give.
func tooHasty(err error) bool {
	var refusal *pool.Error
	if errors.As(err, &refusal) {
		return refusal.Away()
	}
	return err != nil && asError(err).Code == wire.CodeCannotConnectNow
}

// leaseLive is lease for what cannot be sent again when the connection has ended while it rested: it looks first.
func (s *Session) leaseLive() (c *backend.Conn, replay []byte, err error) {
	fresh := s.server == nil
	c, replay, err = s.lease()
	for tries := 1; err == nil && fresh && tries < maxTries && c.PeerGone(); tries++ {
		c.Spoil("ended while it rested")
		s.release(c)
		c, replay, err = s.lease()
	}
	return c, replay, err
}

// wait borrows a connection when none is at hand. A cancel finds the session
// waiting from here until lease has noted the connection.
func (s *Session) wait(want pool.Want[*backend.Conn]) (*backend.Conn, error) {
	s.mu.Lock()
	s.canceled = false
	s.mu.Unlock()
	began := s.enter(StateWaiting)
	c, err := s.acquire(want)
	s.turnTime = s.env.now()
	s.db.Stats.WaitTime.Add(uint64(s.turnTime - began))
	if err != nil {
		s.rest()
	}
	return c, err
}

// adoptTimeout bounds a settings replay that must be answered first.
const adoptTimeout = 30 * time.Second

// adopt brings a fresh lease into the session's settings.
func (s *Session) adopt(c *backend.Conn) (replay []byte, err error) {
	msgs, needed := c.AppendAdopt(nil, s.settings)
	if !needed {
		s.tellParams(c, s.send)
		return nil, nil
	}
	if !c.NeedsRoundTrip(s.settings) {
		c.Adopted(s.settings)
		return msgs, nil
	}
	s.turnTime = 0
	for tries := 1; ; tries++ {
		err := c.Exec(msgs, adoptTimeout, nil)
		if err == nil {
			break
		}
		// The last session's statement_timeout still holds: one so short that it
		// strikes the replay will not do so again and again.
		var refusal *wire.Error
		if tries < maxAdoptTries && errors.As(err, &refusal) && refusal.Code == wire.CodeQueryCanceled {
			continue
		}
		c.Spoil("settings replay failed")
		return nil, err
	}
	c.Adopted(s.settings)
	s.tellParams(c, s.send)
	return nil, nil
}

// maxAdoptTries bounds the attempts at a settings replay.
const maxAdoptTries = 5

// tellParams sends the client what its server connection reports differently
// from what the client was told last.
func (s *Session) tellParams(c *backend.Conn, write func([]byte) bool) {
	if s.toldParams(c) {
		return
	}
	now := c.Params()
	write(now.AppendChanges(nil, s.params))
	s.params = now
}

// toldParams reports whether the client knows all that c reports.
func (s *Session) toldParams(c *backend.Conn) bool {
	now := c.Params()
	if now != s.params && now.Equal(s.params) {
		c.ShareParams(s.params)
		return true
	}
	return now == s.params
}

// release gives the server connection back for the next session.
func (s *Session) release(c *backend.Conn) {
	s.unlease(c)
	if s.replica != "" {
		s.fleet.End(s.replica)
		s.replica = ""
	}
	s.giveBack(c)
}

// giveBack returns c to s.pool.
func (s *Session) giveBack(c *backend.Conn) {
	c.Bind(nil)
	if c.Own {
		c.Spoil("was opened with one session's own settings")
	}
	if why := c.Retired(); why != "" {
		c.Spoil(why)
	}
	if len(c.Holds) > 0 {
		c.Spoil("has locks that moves of buckets wait for")
	}
	if c.Spoiled() == "" && c.Unsettled() {
		if err := c.SettleCancels(s.cancelWait()); err != nil {
			c.Spoil("after cancel: " + err.Error())
		}
	}
	if reason := c.Spoiled(); reason != "" {
		s.pool.Discard(c, reason)
		return
	}
	s.pool.Release(c)
}

// unlease makes c nobody's: a kill of this session no longer reaches it.
func (s *Session) unlease(c *backend.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.server = nil
	if s.killed != nil || s.left {
		_ = c.SetDeadline(time.Time{})
	}
	s.left = false
}

// cleanupTimeout bounds rolling back and resetting a connection whose client left.
const cleanupTimeout = 10 * time.Second

// returnUnused gives back a server connection on which nothing of the client's has run. What was noted of the turn, or of a
// transaction that has branches elsewhere, still holds: it may run on another connection.
func (s *Session) returnUnused() {
	c := s.server
	_ = c.SetDeadline(time.Time{}) // a kill may have set one
	s.release(c)
}

// dropServer gives the server connection back when the client is gone or the
// request cannot be served: rolled back and reset where that works.
func (s *Session) dropServer() {
	c := s.server
	if c == nil {
		return
	}
	_ = c.SetDeadline(time.Time{}) // a kill may have set one
	if c.Spoiled() == "" && s.tx != wire.TxIdle {
		tx, err := c.ExecTx(wire.AppendQuery(nil, "ROLLBACK"), cleanupTimeout, nil)
		if err != nil || tx != wire.TxIdle {
			c.Spoil("rollback for a client that left failed")
		}
		s.tx = wire.TxIdle
	}
	if s.outlives {
		c.Spoil("was a session's own, whose state may outlive DISCARD ALL")
	}
	if c.Spoiled() == "" && (s.raw || s.pinned() != "" || !s.txn.empty()) {
		// Its own, or something may have changed settings and nobody read them back.
		if err := c.Exec(wire.AppendQuery(nil, "DISCARD ALL"), cleanupTimeout, nil); err != nil {
			c.Spoil("DISCARD ALL for a client that left failed")
		}
		c.Reset()
	}
	if s.keep.write.Claimed() {
		s.at.Wrote(nil, true) // what it wrote is known to those who choose replicas before it is let go
	}
	s.drops()
	s.changedFor(c)
	s.release(c)
}

// abandon ends what the server is doing for a client that is gone: the
// statement is cancelled and its answer drained, so that the connection can be
// rolled back and reused; failing that it is closed.
func (s *Session) abandon(c *backend.Conn) {
	r := &s.relay
	r.drain, r.clientGone = true, false
	c.BeginCancel()
	ctx, stop := context.WithTimeout(context.Background(), s.cancelWait())
	err := c.Cancel(ctx)
	stop()
	if err == nil && !r.toSync {
		c.SetReadDeadline(time.Now().Add(s.cancelWait()))
		if r.step() {
			err = c.Loop(nil, r)
		}
		c.Unkick()
	}
	if err != nil || r.err != nil || r.copyIn || r.toSync || r.owed > 0 || r.discarded {
		c.Spoil("client left in the middle of a statement")
	}
	s.tx = r.tx
	r.free()
}

func (s *Session) cancelWait() time.Duration {
	if d := s.db.Config().CancelWaitTimeout; d > 0 {
		return d
	}
	return cleanupTimeout
}

// asError turns what went wrong into what the client is told: the words of the
// outermost error that has an SQLSTATE, so that a server's refusal of the
// proxy's own login is not mistaken for an answer to the client.
func asError(err error) *wire.Error {
	var stated interface {
		error
		SQLState() string
	}
	if !errors.As(err, &stated) {
		return &wire.Error{Code: wire.CodeConnectionFailure, Message: "server connection failed", Cause: err}
	}
	if we, ok := stated.(*wire.Error); ok {
		return we
	}
	e := &wire.Error{Code: stated.SQLState(), Message: stated.Error()}
	var detailed interface{ Detail() string }
	if errors.As(err, &detailed) {
		e.Detail = detailed.Detail()
	}
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		e.Hint = hinted.Hint()
	}
	return e
}
