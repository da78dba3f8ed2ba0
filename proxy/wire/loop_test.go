package wire

import (
	"bytes"
	"errors"
	"net"
	"os"
	"testing"
	"time"
)

// slowTaker takes little at a time, and only after everything has arrived.
type slowTaker struct {
	conn  *Conn
	want  int
	taken []byte
	room  []byte
}

func (h *slowTaker) Readable() bool {
	n, err := h.conn.Take(h.room)
	h.taken = append(h.taken, h.room[:n]...)
	return err == nil && len(h.taken) < h.want
}

// connected returns both ends of a connection, the second as ours.
func connected(t *testing.T) (net.Conn, *Conn) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { accepted.Close() })
	return client, NewConn(accepted)
}

// The poller speaks once for all that arrived: a loop that then waits with input unread waits for ever.
func TestLoopReadsWhatDidNotFitWithoutNewInput(t *testing.T) {
	client, c := connected(t)
	sent := bytes.Repeat([]byte("0123456789"), 100)
	if _, err := client.Write(sent); err != nil {
		t.Fatal(err)
	}
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	h := &slowTaker{conn: c, want: len(sent), room: make([]byte, 7)}
	if err := c.Loop(nil, h); err != nil {
		t.Fatalf("got %d of %d bytes: %v", len(h.taken), len(sent), err)
	}
	if !bytes.Equal(h.taken, sent) {
		t.Errorf("got %q, want %q", h.taken, sent)
	}
}

// countingTaker counts how often it was called with something to take, after a first call.
type countingTaker struct {
	conn  *Conn
	low   int
	begun chan struct{} // closed by the first call
	calls int
	taken int
	err   error
}

func (h *countingTaker) Readable() bool {
	n, err := h.conn.Take(make([]byte, 1000))
	if h.begun != nil {
		h.conn.LowWater(h.low)
		close(h.begun)
		h.begun = nil
		return true
	}
	h.calls++
	h.taken, h.err = h.taken+n, err
	return false
}

func TestLoopWaitsForTheLowWaterMark(t *testing.T) {
	client, c := connected(t)
	if c.raw == nil {
		t.Log("no raw calls on this platform: Loop may call sooner")
		return
	}
	begun := make(chan struct{})
	h := &countingTaker{conn: c, low: 200, begun: begun}
	done := make(chan error, 1)
	go func() { done <- c.Loop(nil, h) }()
	<-begun
	for range 200 { // each of which would wake it
		if _, err := client.Write([]byte{'x'}); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-done; err != nil || h.calls != 1 || h.taken != 200 {
		t.Errorf("called %d times for %d bytes, %v; want once for 200", h.calls, h.taken, err)
	}
}

func TestLowWaterMarkDoesNotHideTheEnd(t *testing.T) {
	client, c := connected(t)
	begun := make(chan struct{})
	h := &countingTaker{conn: c, low: 200, begun: begun}
	done := make(chan error, 1)
	go func() { done <- c.Loop(nil, h) }()
	if c.raw != nil {
		<-begun
	}
	if _, err := client.Write([]byte("rest")); err != nil {
		t.Fatal(err)
	}
	client.Close()
	if err := <-done; err != nil || h.taken != 4 {
		t.Errorf("took %d bytes, %v; want the 4 before the end", h.taken, err)
	}
}

func TestLowWaterMarkEndsWithTheDeadline(t *testing.T) {
	client, c := connected(t)
	if c.raw == nil {
		return
	}
	begun := make(chan struct{})
	h := &countingTaker{conn: c, low: 200, begun: begun}
	done := make(chan error, 1)
	go func() { done <- c.Loop(nil, h) }()
	<-begun
	if _, err := client.Write([]byte("few")); err != nil {
		t.Fatal(err)
	}
	c.Kick()
	if err := <-done; !errors.Is(err, os.ErrDeadlineExceeded) || h.calls != 0 {
		t.Fatalf("called %d times, %v; want a deadline that has passed", h.calls, err)
	}
	c.Unkick()
	if err := c.Loop(nil, h); err != nil || h.taken != 3 {
		t.Errorf("took %d bytes, %v; want the 3 that were there", h.taken, err)
	}
}
