package wiretest

import (
	"fmt"
	"sync"
	"testing"
	"time"
)

// neighbour is another client of the same pool. Each visit changes everything
// that a server connection remembers, as far as one transaction may.
type neighbour struct {
	connect func() *peer
	peer    *peer
	tasks   chan chan struct{}

	mu    sync.Mutex
	wrong error
}

// visitWait bounds a visit while the conversation holds the only connection; the
// visit then happens when the connection comes free.
const visitWait = 4 * time.Millisecond

func newNeighbour(t *testing.T, address string) *neighbour {
	n := &neighbour{connect: func() *peer { return connect(t, address, "application_name=neighbour") }, tasks: make(chan chan struct{}, 1)}
	n.peer = n.connect()
	ended := make(chan struct{})
	go func() { // ends with tasks
		n.serve()
		close(ended)
	}()
	t.Cleanup(func() {
		close(n.tasks)
		<-ended // a visit under way must not meet a proxy that is gone
	})
	return n
}

// visit has the neighbour work once, unless it still waits for its last turn.
func (n *neighbour) visit() {
	done := make(chan struct{})
	select {
	case n.tasks <- done:
	default:
		return
	}
	select {
	case <-done:
	case <-time.After(visitWait):
	}
}

func (n *neighbour) check(t *testing.T) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.wrong != nil {
		t.Error("neighbour:", n.wrong)
	}
	n.wrong = nil
}

func (n *neighbour) serve() {
	round := 0
	for done := range n.tasks {
		round++
		if err := n.work(round); err != nil {
			n.mu.Lock()
			n.wrong = err
			n.mu.Unlock()
			n.peer.close()
			n.peer = n.connect() // what it missed would come as the answer to its next question
		}
		close(done)
	}
}

// work leaves settings, an unnamed statement, a named one whose name the
// conversations use too, and tells when an answer is not its own.
func (n *neighbour) work(round int) error {
	zone := []string{"Asia/Tokyo", "America/New_York", "Europe/Berlin"}[round%3]
	if _, err := n.peer.ask(fmt.Sprintf("SET timezone = '%s'; SET search_path = other; SET work_mem = '%dkB'", zone, 1000+round%7)); err != nil {
		return err
	}
	out := append(frameOf('C', append([]byte{'S'}, cstring("s1")...)), frameOf('P', append(append(cstring("s1"), cstring("SELECT 'neighbour', wrong FROM items WHERE id = $1")...), 0, 0))...)
	out = append(out, frameOf('P', append(append(cstring(""), cstring("SELECT 'neighbour', $1::text")...), 0, 0))...)
	bind := []byte("\x00\x00\x00\x00\x00\x01\x00\x00\x00\x01x\x00\x00")
	out = append(append(out, frameOf('B', bind)...), frameOf('E', []byte{0, 0, 0, 0, 0})...)
	if err := n.peer.write(append(out, frameOf('S', nil)...)); err != nil {
		return err
	}
	frames, err := n.peer.readUntil("Z", 1)
	if err != nil {
		return fmt.Errorf("%w after\n%s", err, lines(frames))
	}
	got := ""
	for _, f := range frames {
		if f[0] == 'D' || f[0] == 'E' {
			got += render(f)
		}
	}
	if want := `DataRow "neighbour" "x"`; got != want {
		return fmt.Errorf("got %s, want %s", got, want)
	}
	shown, err := n.peer.value("SHOW timezone")
	if err == nil && shown != zone {
		err = fmt.Errorf("time zone is %s, want %s", shown, zone)
	}
	return err
}
