package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"pgtier/proxy/wire"
)

// cancelGate keeps a connection from changing hands while a cancel for it is
// under way, so that the cancel can never hit the next session's statement.
type cancelGate struct {
	used    atomic.Bool // a cancel was announced and settle has not seen it; written under mu
	mu      sync.Mutex
	running int
	sent    bool
	doubted bool // a request was sent, and whether the server has acted on it is not known
	idle    *sync.Cond
}

func (g *cancelGate) enter() {
	g.mu.Lock()
	g.used.Store(true)
	g.running++
	g.mu.Unlock()
}

func (g *cancelGate) leave(doubted bool) {
	g.mu.Lock()
	g.running--
	g.doubted = g.doubted || doubted
	g.sent = true
	if g.idle != nil && g.running == 0 {
		g.idle.Broadcast()
	}
	g.mu.Unlock()
}

// settle waits until no cancel is under way and reports whether there was one,
// and whether one may still strike. Nobody can announce one meanwhile, so that
// without one it takes no lock.
func (g *cancelGate) settle() (sent, doubted bool) {
	if !g.used.Load() {
		return false, false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.running > 0 {
		if g.idle == nil {
			g.idle = sync.NewCond(&g.mu)
		}
		g.idle.Wait()
	}
	sent = g.sent
	g.sent = false
	g.used.Store(g.doubted)
	return sent, g.doubted
}

// await waits until no cancel is under way.
func (g *cancelGate) await() {
	g.mu.Lock()
	defer g.mu.Unlock()
	for g.running > 0 {
		if g.idle == nil {
			g.idle = sync.NewCond(&g.mu)
		}
		g.idle.Wait()
	}
}

// AwaitCancels waits until no cancel is under way. A server that has nothing to do takes no notice of one (ProcessInterrupts in
// src/backend/tcop/postgres.c), so that what is sent afterwards is not cancelled. Called by the lease holder between
// statements.
func (c *Conn) AwaitCancels() { c.cancels.await() }

// CancelBegan reports whether a cancel was announced since the connection was lent.
func (c *Conn) CancelBegan() bool {
	if !c.cancels.used.Load() {
		return false
	}
	c.cancels.mu.Lock()
	defer c.cancels.mu.Unlock()
	return c.cancels.running > 0 || c.cancels.sent
}

// Unsettled reports whether SettleCancels has anything to do.
func (c *Conn) Unsettled() bool { return c.cancels.used.Load() }

// BeginCancel announces a cancel. The caller holds a lock that proves that the
// session still has this connection; it then calls Cancel without that lock.
func (c *Conn) BeginCancel() { c.cancels.enter() }

// Cancel asks the server, over a connection of its own (with TLS if this one
// has it), to cancel what this connection runs. BeginCancel comes first. It
// returns when the server has closed that connection: the signal is then sent.
func (c *Conn) Cancel(ctx context.Context) error {
	doubted := false
	defer func() { c.cancels.leave(doubted) }()
	nc, err := c.target.dialSocket(ctx)
	if err != nil {
		return fmt.Errorf("dial for cancel: %w", err)
	}
	defer func() { _ = nc.Close() }()
	if deadline, ok := ctx.Deadline(); ok {
		_ = nc.SetDeadline(deadline)
	}
	conn := wire.NewConn(nc)
	if _, usesTLS := c.TLS(); usesTLS {
		if _, err := c.target.startTLS(ctx, conn, true); err != nil {
			return fmt.Errorf("start TLS for cancel: %w", err)
		}
	}
	doubted = true
	if err := conn.Write(wire.AppendCancelRequest(nil, c.pid, c.secret)); err != nil {
		return fmt.Errorf("send cancel: %w", err)
	}
	var b [1]byte
	if _, err := conn.Read(b[:]); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("wait for cancel: %w", err)
	}
	doubted = false
	return nil
}

// SettleCancels waits for cancels under way. If one was sent, a round trip makes
// sure that its signal has been consumed: it must not hit the next statement. One
// that the server may yet act on is an error: the connection must be closed.
// Called by the lease holder before the connection is given back.
func (c *Conn) SettleCancels(timeout time.Duration) error {
	sent, doubted := c.cancels.settle()
	switch {
	case doubted:
		return errors.New("the server has not answered a cancel request")
	case !sent:
		return nil
	}
	err := c.Check(timeout)
	if e, ok := err.(*wire.Error); ok && e.Code == wire.CodeQueryCanceled {
		err = c.Check(timeout)
	}
	return err
}
