package wire

import (
	"bytes"
	"net"
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

// The poller speaks once for all that arrived: a loop that then waits with input unread waits for ever.
func TestLoopReadsWhatDidNotFitWithoutNewInput(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	client, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	accepted, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	sent := bytes.Repeat([]byte("0123456789"), 100)
	if _, err := client.Write(sent); err != nil {
		t.Fatal(err)
	}
	c := NewConn(accepted)
	c.SetReadDeadline(time.Now().Add(5 * time.Second))
	h := &slowTaker{conn: c, want: len(sent), room: make([]byte, 7)}
	if err := c.Loop(nil, h); err != nil {
		t.Fatalf("got %d of %d bytes: %v", len(h.taken), len(sent), err)
	}
	if !bytes.Equal(h.taken, sent) {
		t.Errorf("got %q, want %q", h.taken, sent)
	}
}
