package wire

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
)

// AcceptTLS continues the connection under TLS, as its server. head are the first bytes of the client's handshake if they
// were read too early; nothing else may be buffered.
func (c *Conn) AcceptTLS(conf *tls.Config, head []byte) error {
	b := &beneath{Conn: c.nc, raw: c.raw, head: head, patient: true}
	t := tls.Server(b, conf)
	if err := t.Handshake(); err != nil {
		return fmt.Errorf("TLS handshake: %w", err)
	}
	b.patient = b.raw == nil
	c.StartTLS(t)
	c.beneath = b
	return nil
}

// CanTry reports whether TryWrite may be used.
func (c *Conn) CanTry() bool { return c.raw != nil || c.beneath != nil && c.beneath.raw != nil }

// TryWrite writes p as far as the socket takes it at once. n bytes of it need not be written again, and whole says that the
// socket has all of p; where it has not, Write must be called next, with the rest even if that is empty. Any goroutine may
// call it while no other writes.
func (c *Conn) TryWrite(p []byte) (n int, whole bool, err error) {
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if c.raw == nil {
		return c.tryTLS(p)
	}
	n, err = c.tries.try(c.raw, p)
	return n, n == len(p), err
}

// tries writes what a socket takes at once; Conn and beneath keep one each, so that a call allocates nothing.
type tries struct {
	p   []byte
	n   int
	err error
	on  func(uintptr)
}

// try returns how much of p raw has taken. The caller sees to it that it runs once at a time.
func (t *tries) try(raw syscall.RawConn, p []byte) (int, error) {
	if t.on == nil {
		t.on = t.callback
	}
	t.p, t.n, t.err = p, 0, nil
	err := raw.Control(t.on)
	t.p = nil
	if err == nil {
		err = t.err
	}
	return t.n, err
}

// callback runs inside RawConn.Control.
func (t *tries) callback(fd uintptr) {
	n, err := rawWrite(int(fd), t.p)
	t.n = max(n, 0)
	if err != nil && !errors.Is(err, syscall.EAGAIN) {
		t.err = err
	}
}

// tryTLS is TryWrite under TLS, in pieces of about a record: what the socket does not take of one is kept.
func (c *Conn) tryTLS(p []byte) (n int, whole bool, err error) {
	for n < len(p) {
		w, err := c.nc.Write(p[n:min(n+tryPiece, len(p))])
		if n += w; err != nil {
			return n, false, err
		}
		if c.beneath.behind() {
			return n, false, nil
		}
	}
	return n, true, nil
}

// writeTLS is Write without raw calls.
func (c *Conn) writeTLS(p []byte) error {
	if c.beneath != nil {
		if err := c.beneath.wait(); err != nil {
			return err
		}
		defer c.beneath.hurry()
	}
	_, err := c.nc.Write(p)
	return err
}

const (
	// tryPiece is the plaintext of a TLS record.
	tryPiece = 16 << 10
	// maxLeft bounds what is kept of records that a socket did not take: one of ours and a few that TLS itself answers with.
	maxLeft = 4 * tryPiece
)

// beneath is the socket under a client's TLS. Its writes do not wait unless it is patient, so that who deals out answers is
// not held up by one client. Reading belongs to one goroutine; Write may be called by any.
type beneath struct {
	net.Conn
	raw  syscall.RawConn // nil: this platform has no raw calls, and it is always patient
	head []byte          // to be read first

	mu      sync.Mutex
	patient bool
	left    []byte // what the socket has not taken yet
	tries   tries
}

func (b *beneath) Read(p []byte) (int, error) {
	if len(b.head) > 0 {
		n := copy(p, b.head)
		b.head = b.head[n:]
		return n, nil
	}
	return b.Conn.Read(p)
}

// SyscallConn is the socket's own.
func (b *beneath) SyscallConn() (syscall.RawConn, error) {
	sc, ok := b.Conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return sc.SyscallConn()
}

// Write takes all of p, and keeps what the socket does not take at once.
func (b *beneath) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.patient {
		return b.Conn.Write(p)
	}
	rest := p
	if len(b.left) == 0 {
		n, err := b.tries.try(b.raw, p)
		if err != nil {
			return n, err
		}
		rest = p[n:]
	}
	if len(b.left)+len(rest) > maxLeft {
		return len(p) - len(rest), errBehind
	}
	b.left = append(b.left, rest...)
	return len(p), nil
}

// errBehind ends a connection whose client provokes answers of TLS itself and reads none.
var errBehind = errors.New("the client does not read")

// behind reports whether the socket has not taken everything.
func (b *beneath) behind() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.left) > 0
}

// wait makes Write wait for the socket, from what is left on.
func (b *beneath) wait() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.patient = true
	left := b.left
	b.left = nil
	if len(left) == 0 {
		return nil
	}
	_, err := b.Conn.Write(left)
	return err
}

// hurry ends wait.
func (b *beneath) hurry() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.patient = b.raw == nil
}
