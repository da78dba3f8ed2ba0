package stream

import "sync"

// inboxMost is how many bytes of messages wait at most: the target lags behind by that before the source is read no further.
const inboxMost = 8 << 20

// inbox is what has come from the source and is not applied yet. One goroutine puts, another takes.
type inbox struct {
	ready chan struct{} // has a token when there may be something to take

	mu     sync.Mutex
	room   *sync.Cond // of mu: there is room, or the inbox is shut
	items  [][]byte
	bytes  int
	err    error // why nothing more comes
	closed bool  // nobody takes any more
}

func newInbox() *inbox {
	in := &inbox{ready: make(chan struct{}, 1)}
	in.room = sync.NewCond(&in.mu)
	return in
}

// put adds b, which is the inbox's from then on, once there is room. It reports whether anybody takes.
func (in *inbox) put(b []byte) bool {
	in.mu.Lock()
	defer in.mu.Unlock()
	for in.bytes > 0 && in.bytes+len(b) > inboxMost && !in.closed {
		in.room.Wait()
	}
	in.items = append(in.items, b)
	in.bytes += len(b)
	in.signal()
	return !in.closed
}

// end says why nothing more comes.
func (in *inbox) end(err error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.err = err
	in.signal()
}

func (in *inbox) signal() {
	select {
	case in.ready <- struct{}{}:
	default:
	}
}

// take returns all that is there; the error comes after the last of it.
func (in *inbox) take() ([][]byte, error) {
	in.mu.Lock()
	defer in.mu.Unlock()
	items := in.items
	if len(items) == 0 {
		return nil, in.err
	}
	in.items, in.bytes = nil, 0
	in.room.Signal()
	return items, nil
}

// close lets a put that waits go.
func (in *inbox) close() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.closed = true
	in.room.Signal()
}
