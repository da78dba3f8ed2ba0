// Package backend is one connection to a PostgreSQL server: how it is opened and
// logged in, which settings and prepared statements are in force on it, and how
// it is cancelled, checked and closed.
package backend

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"pgtier/proxy/wire"
)

// Conn is one logged-in server connection. It belongs to whoever leased it;
// only Close, Kick, CancelKey and the identity methods may be called by others.
type Conn struct {
	*wire.Conn

	// Fixed after Dial.
	id      uint64
	target  Target
	created time.Time
	pid     uint32
	secret  []byte
	bufs    *wire.Buffers

	// Owned by the lease holder.
	params    *Params   // reported by the server, now
	settings  *Settings // in force, beyond the connection's own defaults
	prepared  preparedSet
	unnamed   *Statement // what the unnamed statement holds; nil: none, or not ours to know
	rest      []byte     // the beginning of a message behind the last answer
	bond      Bond       // nil: what the server says is believed
	breaks    int64      // of bond, when it was bound
	dirty     string     // why it must be closed rather than reused; "" if clean
	retired   string
	seqWriter uint64 // session that last may have advanced a sequence here; 0: none has
	seqMixed  bool   // another may have too
	// Replayed is what its server, a replica, has said over it that it has replayed, a WAL position; 0: it was not asked. While
	// the connection lives the server has at least that.
	Replayed uint64
	// Own: its defaults are one client's login settings, so it is closed rather than lent again.
	Own bool
	// Made are names that stand here for nothing, for the server to refuse a Parse that uses a name again.
	Made []string
	// Heard gets the notifications that come behind an answer; nil drops them.
	Heard func(wire.Frame)
	// Holds are locks of shardmap.GuardClass, by their second numbers, that its server session may have; with any it is closed rather than lent again.
	Holds []int
	// Isolation is its default isolation level, where no session has another; "" is not known.
	Isolation string

	preparedCount atomic.Int32
	fingerprint   atomic.Uint64
	closed        atomic.Bool
	cancels       cancelGate
}

// ID is unique within the process.
func (c *Conn) ID() uint64 { return c.id }

// PID is the server's process, as BackendKeyData told.
func (c *Conn) PID() uint32 { return c.pid }

// Secret is the server's cancel secret for this connection.
func (c *Conn) Secret() []byte { return c.secret }

// Target is the server and login it was dialled for.
func (c *Conn) Target() *Target { return &c.target }

// CreatedAt is when the login completed.
func (c *Conn) CreatedAt() time.Time { return c.created }

// Fingerprint identifies the settings in force. Safe for concurrent use.
func (c *Conn) Fingerprint() uint64 { return c.fingerprint.Load() }

// Settings are the settings in force beyond the connection's defaults.
func (c *Conn) Settings() *Settings { return c.settings }

// Params are the reported parameters, now.
func (c *Conn) Params() *Params { return c.params }

// SetParam records a ParameterStatus.
func (c *Conn) SetParam(p wire.Param) {
	if c.target.Together && p.Name == "in_hot_standby" {
		p.Value = "off"
	}
	c.params = c.params.With(p.Name, p.Value)
}

// ShareParams makes the connection use p, which must be Equal to its own, so that
// the next comparison is one of pointers.
func (c *Conn) ShareParams(p *Params) { c.params = p }

// Unnamed is the statement that the unnamed prepared statement holds.
func (c *Conn) Unnamed() *Statement { return c.unnamed }

// SetUnnamed records what the unnamed prepared statement will hold.
func (c *Conn) SetUnnamed(s *Statement) { c.unnamed = s }

// Spoil marks the connection as not reusable; the first reason is kept.
func (c *Conn) Spoil(reason string) {
	if c.dirty == "" {
		c.dirty = reason
	}
}

// Retire marks the connection as one to be closed when its session gives it back; until then it works on. The first
// reason is kept.
func (c *Conn) Retire(reason string) {
	if c.retired == "" {
		c.retired = reason
	}
}

// Retired returns why the connection is to be closed when it is given back, "" if it need not be.
func (c *Conn) Retired() string { return c.retired }

// Spoiled returns why the connection must not be reused, "" if it may be.
func (c *Conn) Spoiled() string { return c.dirty }

// Reset records that the server has executed DISCARD ALL.
func (c *Conn) Reset() {
	c.Adopted(nil)
	c.prepared.clear()
	c.preparedCount.Store(0)
	c.ForgetSequences()
}

// AdvancedBy records that a session may have advanced a sequence here, so that currval and lastval may tell its values.
func (c *Conn) AdvancedBy(session uint64) {
	c.seqMixed = c.seqMixed || c.seqWriter != 0 && c.seqWriter != session
	c.seqWriter = session
}

// HasSequences reports whether currval or lastval may tell somebody's values.
func (c *Conn) HasSequences() bool { return c.seqWriter != 0 }

// AdvancedLastBy reports whether a session may have advanced a sequence here, and none has since.
func (c *Conn) AdvancedLastBy(session uint64) bool { return c.seqWriter == session }

// SequencesOf reports whether they tell a session's values, and nobody else's.
func (c *Conn) SequencesOf(session uint64) bool { return c.seqWriter == session && !c.seqMixed }

// ForgetSequences records that the server has executed DISCARD SEQUENCES.
func (c *Conn) ForgetSequences() { c.seqWriter, c.seqMixed = 0, false }

// Bond tells whether what a server has said until now may be believed, by how often it was broken when something was planned. Its methods are safe for concurrent use.
type Bond interface {
	Breaks() int64
	Unbroken(breaks int64) bool
}

// Bind has what the server says from here on believed only while b is not broken, and read in time; nil: always. Nothing is under way over the connection, and what will be
// has not been planned yet, or is planned again if that is outdated by now.
func (c *Conn) Bind(b Bond) {
	if c.bond = b; b != nil {
		c.breaks = b.Breaks()
	}
}

// BindLike binds c as another connection is, which it replaces.
func (c *Conn) BindLike(o *Conn) { c.bond, c.breaks = o.bond, o.breaks }

// ErrUnbelieved ends a connection whose server was read too late. It is no fault of the server.
var ErrUnbelieved = errors.New("this proxy has not heard of the control database in time, and buckets may have been moved before the server answered")

// Take is that of wire.Conn. What cannot be believed any more is an error, and the connection is lost.
func (c *Conn) Take(p []byte) (int, error) {
	n, err := c.Conn.Take(p)
	return c.weigh(n, err)
}

// Read is that of wire.Conn, as Take is.
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	return c.weigh(n, err)
}

func (c *Conn) weigh(n int, err error) (int, error) {
	if n > 0 && c.bond != nil && !c.bond.Unbroken(c.breaks) {
		return 0, ErrUnbelieved
	}
	return n, err
}

// Stale reports without blocking whether the peer has closed the connection or
// sent something unasked: an idle server connection has nothing to say.
func (c *Conn) Stale() bool {
	if c.closed.Load() {
		return true
	}
	sc, ok := c.socket().(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return true
	}
	stale := true
	err = raw.Control(func(fd uintptr) {
		var b [1]byte
		_, _, rerr := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		stale = !errors.Is(rerr, syscall.EAGAIN)
	})
	return err != nil || stale
}

func (c *Conn) socket() net.Conn {
	if t, ok := c.NetConn().(*tls.Conn); ok {
		return t.NetConn()
	}
	return c.NetConn()
}

// Check makes one round trip with an empty query.
func (c *Conn) Check(timeout time.Duration) error {
	return c.Exec(wire.AppendQuery(nil, ""), timeout, nil)
}

// Terminate says goodbye and closes the connection. Safe for concurrent use.
func (c *Conn) Terminate() {
	if c.closed.Swap(true) {
		return
	}
	_ = c.NetConn().SetWriteDeadline(time.Now().Add(time.Second))
	go func() { // ends within the write deadline
		_ = c.Conn.Write(wire.AppendTerminate(nil))
		_ = c.Conn.Close()
	}()
}

// Close closes the connection at once; reason is for the log of its owner.
// A server process in the middle of a statement may run on until it notices.
func (c *Conn) Close(string) { c.Terminate() }

// ExecTx is Exec that also returns the transaction state it ended in, 0 if lost.
func (c *Conn) ExecTx(msgs []byte, timeout time.Duration, visit func(wire.Frame)) (byte, error) {
	tx := byte(0)
	err := c.Exec(msgs, timeout, func(f wire.Frame) {
		if f.Type == wire.MsgReadyForQuery && len(f.Body()) == 1 {
			tx = f.Body()[0]
		}
		if visit != nil {
			visit(f)
		}
	})
	return tx, err
}

// Exec sends msgs, which must end in exactly one Query or Sync, and reads up to
// its ReadyForQuery. visit (may be nil) sees every frame. A server error is
// returned as *wire.Error after ReadyForQuery, and leaves the connection usable
// unless it is FATAL; any other error means that the connection is lost.
func (c *Conn) Exec(msgs []byte, timeout time.Duration, visit func(wire.Frame)) error {
	x := &exchange{conn: c, visit: visit}
	c.Resume(&x.in)
	if timeout > 0 {
		c.SetReadDeadline(time.Now().Add(timeout))
	}
	err := c.Loop(msgs, x)
	if timeout > 0 {
		c.SetReadDeadline(time.Time{})
	}
	c.Afterwards(x.in.Bytes())
	x.in.Skip(x.in.Len())
	x.in.Release()
	switch {
	case err != nil:
		c.Spoil("lost: " + err.Error())
		return fmt.Errorf("talk to server: %w", err)
	case x.err != nil:
		c.Spoil("lost: " + x.err.Error())
		return fmt.Errorf("talk to server: %w", x.err)
	case x.serverErr != nil:
		return x.serverErr
	}
	return nil
}

// Afterwards takes what came behind the last ReadyForQuery: messages that a
// server may send unasked. Notices are dropped, and notifications unless somebody
// hears them; the beginning of a message waits for Resume. Anything else spoils
// the connection.
func (c *Conn) Afterwards(b []byte) {
	for len(b) > 0 {
		size, ok := wire.FrameSize(b)
		switch {
		case b[0] != wire.MsgNotification && b[0] != wire.MsgNoticeResponse && b[0] != wire.MsgParameterStatus,
			ok && (size == 0 || size > maxInternalFrame):
			c.Spoil("the server spoke after its last answer") // most likely its farewell
			return
		case !ok || size > len(b):
			c.rest = append(c.rest[:0], b...)
			return
		}
		switch b[0] {
		case wire.MsgParameterStatus:
			if p, err := wire.ParseParameterStatus(b[wire.HeaderBytes:size]); err == nil {
				c.SetParam(p)
			}
		case wire.MsgNotification:
			if c.Heard != nil {
				c.Heard(wire.Frame{Type: b[0], Raw: b[:size]})
			}
		}
		b = b[size:]
	}
}

// Resume puts the beginning of a message that Afterwards kept in front of what
// in will read.
func (c *Conn) Resume(in *wire.Input) {
	if len(c.rest) == 0 {
		return
	}
	n := copy(in.Space(c.bufs, max(wire.SmallBuffer, 2*len(c.rest))), c.rest)
	in.Added(n)
	c.rest = c.rest[:0]
}

// maxInternalFrame bounds the answers to our own statements.
const maxInternalFrame = 1 << 20

// exchange reads frames up to one ReadyForQuery.
type exchange struct {
	conn      *Conn
	in        wire.Input
	visit     func(wire.Frame)
	serverErr *wire.Error
	err       error
}

// Readable takes what is there; it returns false at ReadyForQuery or on error.
func (x *exchange) Readable() bool {
	n, err := x.conn.Take(x.in.Space(x.conn.bufs, wire.SmallBuffer))
	x.in.Added(n)
	if err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		x.err = err
		return false
	}
	for {
		size, ok := wire.FrameSize(x.in.Bytes())
		if !ok {
			return true
		}
		if size == 0 || size > maxInternalFrame {
			x.err = fmt.Errorf("read answer: %w", wire.ErrBroken)
			return false
		}
		if x.in.Len() < size {
			x.in.Space(x.conn.bufs, size)
			return true
		}
		raw := x.in.Bytes()[:size]
		x.in.Skip(size)
		if x.frame(wire.Frame{Type: raw[0], Raw: raw}) {
			return false
		}
	}
}

func (x *exchange) frame(f wire.Frame) (done bool) {
	switch f.Type {
	case wire.MsgErrorResponse:
		if x.serverErr == nil {
			x.serverErr = wire.ParseError(f.Body())
		}
	case wire.MsgParameterStatus:
		if p, err := wire.ParseParameterStatus(f.Body()); err == nil {
			x.conn.SetParam(p)
		}
	}
	if x.visit != nil {
		x.visit(f)
	}
	return f.Type == wire.MsgReadyForQuery
}
