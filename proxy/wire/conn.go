package wire

import (
	"crypto/tls"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
)

// Handler is told that its connection can be read. It takes what is there with
// Conn.Take, once a call is enough, and returns false when the loop shall end.
type Handler interface {
	Readable() bool
}

// Conn is one socket, plain or TLS. Reading belongs to one goroutine; Write may
// be called by one goroutine at a time; Close, Kick and the address methods by any.
//
// A plain socket is read and written by raw system calls on its non-blocking
// descriptor. The runtime's poller is edge-triggered and every RawConn.Read
// forgets the edge that came before it, so Loop keeps one RawConn.Read open for
// as long as it runs and never misses input.
type Conn struct {
	nc      net.Conn
	raw     syscall.RawConn // nil: TLS, or a platform without raw calls
	beneath *beneath        // the socket under AcceptTLS

	watchEnd bool // WatchEnd was called
	dozes         // of a Dozer

	// Owned by the goroutine in Loop.
	fd      int // valid inside the RawConn callback, -1 outside
	handler Handler
	low     int  // bytes that have to be there before the socket is readable; 0 is 1
	nextLow int  // low from the next Loop on; 0: as it is
	full    bool // the last Take left no room in its buffer: more may be there
	took    bool // the last Readable read something
	peek    [1]byte
	first   []byte // to be written inside the next RawConn.Read
	sent    bool   // first was sent, at least in part
	rest    chan error
	err     error
	onRead  func(uintptr) bool

	wmu     sync.Mutex
	pending []byte
	werr    error
	onWrite func(uintptr) bool
	tries   tries
}

// WatchEnd makes Loop look for the peer's end after every read that it waits
// behind. Without it, an end that came together with data is noticed by the next
// Loop or failing write. It belongs to the goroutine that runs Loop.
func (c *Conn) WatchEnd(on bool) { c.watchEnd = on }

// largeWrite is the size from which a write may fill the socket while the peer
// waits for us to read; it then runs beside the reading.
const largeWrite = 64 << 10

// NewConn wraps an open socket.
func NewConn(nc net.Conn) *Conn {
	c := &Conn{nc: nc, fd: -1}
	if rawCalls {
		if sc, ok := nc.(syscall.Conn); ok {
			if raw, err := sc.SyscallConn(); err == nil {
				c.raw = raw
			}
		}
	}
	c.onRead, c.onWrite = c.readCallback, c.writeCallback
	return c
}

// StartTLS continues the connection under TLS. Nothing may be buffered.
func (c *Conn) StartTLS(t *tls.Conn) { c.nc, c.raw = t, nil }

// NetConn returns the socket, or the TLS connection over it.
func (c *Conn) NetConn() net.Conn { return c.nc }

// TLS returns the TLS state; ok is false on a plain connection.
func (c *Conn) TLS() (state tls.ConnectionState, ok bool) {
	t, ok := c.nc.(*tls.Conn)
	if !ok {
		return tls.ConnectionState{}, false
	}
	return t.ConnectionState(), true
}

// RemoteAddr is the peer's address.
func (c *Conn) RemoteAddr() net.Addr { return c.nc.RemoteAddr() }

// LocalAddr is our own address.
func (c *Conn) LocalAddr() net.Addr { return c.nc.LocalAddr() }

// Read reads what is there, blocking for at least one byte. For the login phase.
func (c *Conn) Read(p []byte) (int, error) { return c.nc.Read(p) }

// Close closes the socket; a blocked Loop, Read or Write returns.
func (c *Conn) Close() error { return c.nc.Close() }

// SetDeadline bounds reads and writes outside Loop; the zero time lifts it.
func (c *Conn) SetDeadline(t time.Time) error { return c.nc.SetDeadline(t) }

// Kick makes a Loop that waits return os.ErrDeadlineExceeded, now or as soon as
// it waits; Unkick must come before the next Loop. It ends a doze. Any goroutine may call it.
func (c *Conn) Kick() {
	_ = c.nc.SetReadDeadline(time.Unix(1, 0))
	c.rouse()
}

// Unkick takes a Kick back.
func (c *Conn) Unkick() { _ = c.nc.SetReadDeadline(time.Time{}) }

// SetReadDeadline bounds waiting in Loop and Read; zero lifts it.
func (c *Conn) SetReadDeadline(t time.Time) { _ = c.nc.SetReadDeadline(t) }

// IdleRead is how much room a read that may wait long should have. Under TLS the
// buffer is held while waiting, so it is small; what did not fit is read from
// TLS's own memory.
func (c *Conn) IdleRead() int {
	if c.raw == nil {
		return TinyBuffer
	}
	return SmallBuffer
}

// Loop sends first (if any), then calls h each time the connection can be read
// until h returns false, the peer closes (h sees io.EOF from Take), the
// connection fails or is kicked. It returns nil only when h ended it.
func (c *Conn) Loop(first []byte, h Handler) error {
	if c.raw == nil {
		return c.loopBlocking(first, h)
	}
	c.handler, c.first, c.err, c.sent = h, first, nil, false
	err := c.raw.Read(c.onRead)
	c.fd, c.handler, c.first = -1, nil, nil
	if c.rest != nil {
		if werr := <-c.rest; werr != nil && c.err == nil {
			c.err = werr
		}
		c.rest = nil
	}
	if c.err != nil {
		return c.err
	}
	return err
}

// Sent reports whether the last Loop began to send its first bytes; a kick may
// have come before.
func (c *Conn) Sent() bool { return c.sent || c.raw == nil }

// Behind reports whether first has not been sent whole yet. Only the handler in Loop may ask, and must not send while it is.
func (c *Conn) Behind() bool {
	if c.rest == nil {
		return false
	}
	select {
	case err := <-c.rest:
		c.rest = nil
		if err != nil && c.err == nil {
			c.err = err
		}
		return false
	default:
		return true
	}
}

// AwaitSent waits until first has been sent whole; see Behind.
func (c *Conn) AwaitSent() error {
	if c.rest == nil {
		return nil
	}
	err := <-c.rest
	c.rest = nil
	return err
}

// readCallback runs inside RawConn.Read: true ends the wait. The poller tells of
// new input only, so it must not wait while some may be left unread.
func (c *Conn) readCallback(fd uintptr) bool {
	c.fd = int(fd)
	if c.nextLow != 0 {
		c.LowWater(c.nextLow)
		c.nextLow = 0
	}
	if c.first != nil {
		if err := c.sendFirst(); err != nil {
			c.err = err
			return true
		}
		return false
	}
	for {
		c.full, c.took = false, false
		if !c.handler.Readable() {
			return true
		}
		// The peer's end may have come with the data, in one edge: nothing would
		// wake us for it again. Looking costs a system call, so only those pay who
		// seldom wait twice for one answer.
		if !c.full && !(c.took && c.watchEnd && rawPending(c.fd, &c.peek)) {
			return false
		}
	}
}

// sendFirst writes the request inside the callback that will wait for its
// answer, so that no edge is lost. What the socket does not take at once is
// written by a goroutine that ends with the write; Loop waits for it.
func (c *Conn) sendFirst() error {
	out := c.first
	c.first, c.sent = nil, true
	n, err := rawWrite(c.fd, out)
	if err == nil && n == len(out) {
		return nil
	}
	if err != nil && !errors.Is(err, syscall.EAGAIN) {
		return err
	}
	rest, done := out[max(n, 0):], make(chan error, 1)
	c.rest = done
	go func() { done <- c.Write(rest) }() // ends with the write; Close ends it early
	return nil
}

// loopBlocking is Loop over a net.Conn that blocks in Read.
func (c *Conn) loopBlocking(first []byte, h Handler) (err error) {
	if len(first) >= largeWrite {
		done := make(chan error, 1)
		go func() { done <- c.Write(first) }() // ends with the write; Close ends it early
		defer func() {
			if werr := <-done; err == nil {
				err = werr
			}
		}()
	} else if len(first) > 0 {
		if err := c.Write(first); err != nil {
			return err
		}
	}
	c.err = nil
	for h.Readable() {
		if c.err != nil {
			return c.err
		}
	}
	return nil
}

// Take reads what is there into p. Inside Loop on a plain socket it returns
// 0, nil when nothing is there yet; elsewhere it blocks. io.EOF is the peer's end.
// A timeout or kick is reported by Loop, not here: Take then returns 0, nil.
func (c *Conn) Take(p []byte) (int, error) {
	if c.fd >= 0 {
		n, err := rawRead(c.fd, p)
		switch {
		case n > 0:
			c.full, c.took = n == len(p), true
			return n, nil
		case err == nil:
			return 0, io.EOF
		case errors.Is(err, syscall.EAGAIN):
			return 0, nil
		}
		return 0, err
	}
	n, err := c.nc.Read(p)
	if n > 0 {
		return n, nil
	}
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() {
		c.err = err
		return 0, nil
	}
	return 0, err
}

// Write writes all of p, waiting for a slow peer.
func (c *Conn) Write(p []byte) error {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.raw == nil {
		return c.writeTLS(p)
	}
	c.pending, c.werr = p, nil
	err := c.raw.Write(c.onWrite)
	c.pending = nil
	if c.werr != nil {
		return c.werr
	}
	return err
}

// Send is Write for the goroutine that runs Loop, from inside its handler: the
// descriptor is held open there, so a write that fits costs nothing but itself.
func (c *Conn) Send(p []byte) error {
	if c.fd < 0 {
		return c.Write(p)
	}
	n, err := rawWrite(c.fd, p)
	if n == len(p) {
		return nil
	}
	if err != nil && !errors.Is(err, syscall.EAGAIN) {
		return err
	}
	return c.Write(p[max(n, 0):])
}

// writeCallback runs inside RawConn.Write: true ends the wait for room.
func (c *Conn) writeCallback(fd uintptr) bool {
	for len(c.pending) > 0 {
		n, err := rawWrite(int(fd), c.pending)
		if n > 0 {
			c.pending = c.pending[n:]
			continue
		}
		if errors.Is(err, syscall.EAGAIN) {
			return false
		}
		c.werr = err
		return true
	}
	return true
}

// LowWater has Loop call its handler only when n bytes are there, or the peer's end, from now on or from the beginning of
// the next Loop on. Only the goroutine that runs Loop may call it. It does nothing under TLS.
func (c *Conn) LowWater(n int) {
	if n = max(n, 1); c.fd < 0 {
		c.nextLow = n
	} else if n != max(c.low, 1) && rawLowWater(c.fd, n) == nil {
		c.low = n
	}
}
