package wire

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// dozer runs one until the test ends.
func dozer(t *testing.T) *Dozer {
	t.Helper()
	d := NewDozer()
	if d == nil {
		t.Skip("connections do not doze on this platform")
	}
	var running sync.WaitGroup
	running.Go(d.Run)
	t.Cleanup(func() {
		d.Close()
		running.Wait()
	})
	return d
}

func TestDozeEndsOnceWhateverEndsIt(t *testing.T) {
	d := dozer(t)
	peer, c := connected(t)
	for round := range 500 {
		var woken atomic.Int32
		awake := make(chan struct{}, 2)
		if round%5 == 0 { // it is there already
			if _, err := peer.Write([]byte{1}); err != nil {
				t.Fatal(err)
			}
		}
		if !d.Doze(c, func() { woken.Add(1); awake <- struct{}{} }) {
			t.Fatal("it does not doze")
		}
		var ending sync.WaitGroup
		if round%2 == 0 {
			ending.Go(c.Kick)
		}
		if round%3 == 0 || round%2 == 1 {
			ending.Go(func() { _, _ = peer.Write([]byte{1}) })
		}
		ending.Wait()
		select {
		case <-awake:
		case <-time.After(10 * time.Second):
			t.Fatalf("round %d: nobody woke it up", round)
		}
		if n := woken.Load(); n != 1 || d.Dozing() != 0 {
			t.Fatalf("round %d: woken %d times, %d doze", round, n, d.Dozing())
		}
		c.Unkick()
		_ = c.SetDeadline(time.Now().Add(time.Millisecond))
		var buf [8]byte
		for {
			if n, err := c.nc.Read(buf[:]); n == 0 || err != nil {
				break
			}
		}
		_ = c.SetDeadline(time.Time{})
		if n := woken.Load(); n != 1 {
			t.Fatalf("round %d: woken %d times", round, n)
		}
	}
}

func TestDozeEndsWithThePeer(t *testing.T) {
	d := dozer(t)
	peer, c := connected(t)
	awake := make(chan struct{})
	if !d.Doze(c, func() { close(awake) }) {
		t.Fatal("it does not doze")
	}
	_ = peer.Close()
	select {
	case <-awake:
	case <-time.After(10 * time.Second):
		t.Fatal("nobody woke it up")
	}
}

func TestClosedConnectionsDoNotDoze(t *testing.T) {
	d := dozer(t)
	_, c := connected(t)
	_ = c.Close()
	if d.Doze(c, func() { t.Error("woken up") }) || d.Dozing() != 0 {
		t.Error("it dozes")
	}
}

// TestDozeAgainWhileTheLastIsBeingArmed kicks a doze while its socket is still being armed, and has who wakes up doze at
// once again: what is armed in the end has to be the doze that lasts.
func TestDozeAgainWhileTheLastIsBeingArmed(t *testing.T) {
	d := dozer(t)
	peer, c := connected(t)
	var b [1]byte
	for round := range 3000 {
		awake, again := make(chan struct{}), make(chan bool, 1)
		var kicking sync.WaitGroup
		kicking.Go(func() {
			for c.dozes.quiet.Load() == nil {
				runtime.Gosched()
			}
			c.rouse()
		})
		if !d.Doze(c, func() { again <- d.Doze(c, func() { close(awake) }) }) {
			t.Fatal("it does not doze")
		}
		kicking.Wait()
		if !<-again {
			t.Fatal("it does not doze again")
		}
		if _, err := peer.Write([]byte{1}); err != nil {
			t.Fatal(err)
		}
		select {
		case <-awake:
		case <-time.After(10 * time.Second):
			t.Fatalf("round %d: nobody woke it up", round)
		}
		if _, err := c.Read(b[:]); err != nil {
			t.Fatal(err)
		}
	}
}
