package session

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
)

// SharedListener is one server connection that listens for all sessions of a
// database and role. It connects when the first session listens and closes when the last
// one stops; when the connection is lost it comes back and listens again, and
// every listening session is ended, because PostgreSQL would have lost
// notifications with the connection too. Safe for concurrent use.
type SharedListener struct {
	env  *Env
	dial func(ctx context.Context) (*backend.Conn, error)
	log  *zap.Logger
	// notifiers is Database.Notifiers.
	notifiers *sync.Map

	mu       sync.Mutex
	channels map[string]map[*Session]bool
	sessions map[*Session]map[string]bool
	conn     *backend.Conn
	waiting  bool // conn is in Loop, or about to be: only then may it be kicked
	queue    []*listenRequest
	held     map[uint32]int // server processes whose transactions are committed at home and not yet on other shards
	late     []wire.Frame   // notifications that wait for those, and what has come behind them
	lateSize int
	running  bool
	stopped  bool
	wg       sync.WaitGroup
}

// listenRequest is one LISTEN or UNLISTEN for the connection's goroutine.
type listenRequest struct {
	sql  string
	done chan error // nil: nobody waits
}

// NewSharedListener returns the listener of db, which dials when it is needed.
func NewSharedListener(env *Env, db *Database, dial func(ctx context.Context) (*backend.Conn, error), log *zap.Logger) *SharedListener {
	return &SharedListener{env: env, dial: dial, log: log, notifiers: &db.Notifiers,
		channels: make(map[string]map[*Session]bool), sessions: make(map[*Session]map[string]bool)}
}

// Listen returns when channel is being listened to for s.
func (l *SharedListener) Listen(ctx context.Context, s *Session, channel string) error {
	l.mu.Lock()
	if l.stopped {
		l.mu.Unlock()
		return errors.New("the proxy is shutting down")
	}
	before := l.sessions[s][channel]
	l.add(s, channel)
	// A channel that is being listened to may still be on its way: the request
	// goes through the queue all the same, so that it is confirmed in order.
	req := &listenRequest{sql: "LISTEN " + quoteIdent(channel), done: make(chan error, 1)}
	l.submit(req)
	l.mu.Unlock()
	var err error
	select {
	case err = <-req.done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	if err != nil && !before { // else it goes on as it was
		l.Unlisten(s, channel)
	}
	return err
}

// Barrier returns when every notification of transactions that have ended
// before the call is with its sessions: one round trip on the connection.
func (l *SharedListener) Barrier(ctx context.Context) error {
	l.mu.Lock()
	if l.stopped || !l.running {
		l.mu.Unlock()
		return errors.New("nobody listens")
	}
	req := &listenRequest{done: make(chan error, 1)}
	l.submit(req)
	l.mu.Unlock()
	select {
	case err := <-req.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *SharedListener) add(s *Session, channel string) {
	if l.channels[channel] == nil {
		l.channels[channel] = make(map[*Session]bool)
	}
	l.channels[channel][s] = true
	if l.sessions[s] == nil {
		l.sessions[s] = make(map[string]bool)
	}
	l.sessions[s][channel] = true
}

// submit hands req to the connection's goroutine, starting it if needed. mu is held.
func (l *SharedListener) submit(req *listenRequest) {
	l.queue = append(l.queue, req)
	if !l.running {
		l.running = true
		l.wg.Add(1)
		go l.run() // ends when no session listens any more, or with the connection
		return
	}
	l.wake()
}

// wake has the goroutine look at the queue again. A kick while it talks to the
// server would break that off. mu is held.
func (l *SharedListener) wake() {
	if l.waiting {
		l.conn.Kick()
	}
}

// Unlisten ends one channel of s.
func (l *SharedListener) Unlisten(s *Session, channel string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.remove(s, channel)
}

func (l *SharedListener) remove(s *Session, channel string) {
	if l.sessions[s] == nil || !l.sessions[s][channel] {
		return
	}
	delete(l.sessions[s], channel)
	if len(l.sessions[s]) == 0 {
		delete(l.sessions, s)
	}
	delete(l.channels[channel], s)
	if len(l.channels[channel]) == 0 {
		delete(l.channels, channel)
		if l.running {
			l.submit(&listenRequest{sql: "UNLISTEN " + quoteIdent(channel)})
		}
	}
}

// Forget ends all channels of s.
func (l *SharedListener) Forget(s *Session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for channel := range l.sessions[s] {
		l.remove(s, channel)
	}
}

// Close ends the connection and waits for its goroutine.
func (l *SharedListener) Close() {
	l.mu.Lock()
	l.stopped = true
	l.wake()
	l.mu.Unlock()
	l.wg.Wait()
}

// Leave gives up the connection as if it had been lost: its server is not the manager any more, and may never say so.
func (l *SharedListener) Leave() {
	l.mu.Lock()
	c := l.conn
	l.mu.Unlock()
	if c != nil {
		c.Terminate()
	}
}

// listenDialTimeout bounds opening the listening connection.
const listenDialTimeout = 15 * time.Second

// run owns the listening connection.
func (l *SharedListener) run() {
	defer l.wg.Done()
	ctx, stop := context.WithTimeout(context.Background(), listenDialTimeout)
	c, err := l.dial(ctx)
	stop()
	if err == nil {
		l.mu.Lock()
		l.conn = c
		l.mu.Unlock()
		err = l.serve(c)
		c.Terminate()
	}
	if err == nil {
		return // serve has handed over
	}
	l.mu.Lock()
	l.running, l.conn = false, nil
	queue := l.queue
	l.queue, l.late, l.lateSize = nil, nil, 0
	var orphans []*Session
	if c != nil { // without a connection nobody has listened yet: who asks gets the error
		orphans = slices.Collect(maps.Keys(l.sessions))
	}
	l.mu.Unlock()
	l.log.Warn("listening connection lost", zap.Error(err), zap.Int("sessions", len(orphans)))
	for _, req := range queue {
		if req.done != nil {
			req.done <- err
		}
	}
	for _, s := range orphans {
		s.Kill(&wire.Error{Severity: "FATAL", Code: wire.CodeConnectionFailure,
			Message: "listening server connection lost", Hint: "Notifications may have been missed; connect and LISTEN again."})
	}
}

// serve answers requests and delivers notifications until nobody listens. nil: nobody does.
func (l *SharedListener) serve(c *backend.Conn) error {
	w := &listenWait{l: l, c: c}
	defer w.in.Drop()
	c.Heard = l.deliver // also what comes in one read with the answer to a LISTEN
	for {
		l.mu.Lock()
		queue := l.queue
		l.queue = nil
		idle := len(queue) == 0 && len(l.sessions) == 0 || l.stopped
		l.waiting = !idle && len(queue) == 0
		if idle {
			l.running, l.conn = false, nil
			l.late, l.lateSize = nil, 0
			l.mu.Unlock()
			return nil
		}
		l.mu.Unlock()
		for i, req := range queue {
			err := c.Exec(wire.AppendQuery(nil, req.sql), listenDialTimeout, l.deliver)
			if req.done != nil {
				req.done <- err
			}
			if c.Spoiled() != "" {
				l.mu.Lock()
				l.queue = append(queue[i+1:], l.queue...)
				l.mu.Unlock()
				return err
			}
		}
		if len(queue) > 0 {
			continue
		}
		c.Resume(&w.in)
		err := c.Loop(nil, w)
		c.Afterwards(w.in.Bytes()) // the beginning of a message, if it was kicked in the middle
		w.in.Skip(w.in.Len())
		l.mu.Lock()
		l.waiting = false
		c.Unkick()
		l.mu.Unlock()
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if err == nil {
			err = w.err
		}
		if err == nil {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
}

// Hold has what the server process pid notifies of wait until free is called: it is about to commit at home what other shards commit later. Nobody is told of that
// and finds what was before it there.
func (l *SharedListener) Hold(pid uint32) (free func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held == nil {
		l.held = make(map[uint32]int)
	}
	l.held[pid]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.held[pid]--; l.held[pid] == 0 {
			delete(l.held, pid)
		}
		l.catchUp()
	}
}

// deliver hands a NotificationResponse to its listeners, in the order in which they come.
func (l *SharedListener) deliver(f wire.Frame) {
	if f.Type != wire.MsgNotification || len(f.Body()) < 6 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.late) == 0 && l.held[notifier(f)] == 0 {
		l.hand(f)
		return
	}
	l.late, l.lateSize = append(l.late, wire.Frame{Type: f.Type, Raw: bytes.Clone(f.Raw)}), l.lateSize+len(f.Raw)
	l.catchUp()
}

// notifier is the server process that a NotificationResponse comes from.
func notifier(f wire.Frame) uint32 { return binary.BigEndian.Uint32(f.Body()) }

// catchUp hands over what has waited and need not any more, and all of it where it is more than a client may leave unread. mu is held.
func (l *SharedListener) catchUp() {
	for len(l.late) > 0 && (l.held[notifier(l.late[0])] == 0 || l.lateSize > maxMailbox) {
		f := l.late[0]
		l.late, l.lateSize = l.late[1:], l.lateSize-len(f.Raw)
		l.hand(f)
	}
	if len(l.late) == 0 {
		l.late = nil
	}
}

// hand gives a NotificationResponse to its listeners. mu is held.
func (l *SharedListener) hand(f wire.Frame) {
	channel, _, ok := cutZero(f.Body()[4:])
	if !ok {
		return
	}
	raw := bytes.Clone(f.Raw)
	if pid, ok := l.notifiers.Load(notifier(f)); ok {
		binary.BigEndian.PutUint32(raw[wire.HeaderBytes:], pid.(uint32))
	}
	for s := range l.channels[string(channel)] {
		s.Notify(raw)
	}
}

// listenWait reads notifications while nothing else is asked.
type listenWait struct {
	l   *SharedListener
	c   *backend.Conn
	in  wire.Input
	err error
}

// Readable takes what the server sent.
func (w *listenWait) Readable() bool {
	n, err := w.c.Take(w.in.Space(w.l.env.Bufs, wire.SmallBuffer))
	w.in.Added(n)
	if n == 0 {
		w.in.Release()
		w.err = err
		return err == nil
	}
	for {
		size, ok := wire.FrameSize(w.in.Bytes())
		if !ok {
			return true
		}
		if size == 0 || size > maxInspect {
			w.err = errGarbage
			return false
		}
		if w.in.Len() < size {
			w.in.Space(w.l.env.Bufs, size)
			return true
		}
		raw := w.in.Bytes()[:size]
		w.in.Skip(size)
		w.l.deliver(wire.Frame{Type: raw[0], Raw: raw})
	}
}
