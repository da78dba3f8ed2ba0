package proxy_test

import (
	"bytes"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"testing"
)

// lines is a TCP forwarder whose connections can be cut, and held up: those by which the log is followed apart from all others.
type lines struct {
	listener net.Listener
	to       string
	work     sync.WaitGroup

	mu   sync.Mutex
	open []*wired
}

// wired is a connection.
type wired struct {
	in, out net.Conn
	follows bool // pgtier follows the log by it
	streams bool // and gets it there

	mu   sync.Mutex
	held chan struct{} // closed when what the server says goes on; nil: it does
	shut bool
}

func newLines(t testing.TB, to string) *lines {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &lines{listener: l, to: to}
	s.work.Go(s.serve) // ends with the listener
	t.Cleanup(func() {
		_ = l.Close()
		s.cut(1, nil)
		s.work.Wait()
	})
	return s
}

func (s *lines) serve() {
	for {
		in, err := s.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", s.to)
		if err != nil {
			_ = in.Close()
			continue
		}
		l := &wired{in: in, out: out}
		s.mu.Lock()
		s.open = append(s.open, l)
		s.mu.Unlock()
		s.work.Go(func() { // ends with either side
			defer s.end(l)
			s.forth(l)
		})
		s.work.Go(func() { // ends with either side
			defer s.end(l)
			l.back()
		})
	}
}

// forth passes on what the proxy says. It begins with who it is.
func (s *lines) forth(l *wired) {
	buf := make([]byte, 64<<10)
	for first := true; ; first = false {
		n, err := l.in.Read(buf)
		if first {
			s.mu.Lock()
			l.follows, l.streams = bytes.Contains(buf[:n], []byte("pgtier cache")), bytes.Contains(buf[:n], []byte("\x00replication\x00"))
			s.mu.Unlock()
		}
		if _, failed := l.out.Write(buf[:n]); err != nil || failed != nil {
			return
		}
	}
}

// back passes on what the server says, unless it is held up.
func (l *wired) back() {
	buf := make([]byte, 64<<10)
	for {
		n, err := l.out.Read(buf)
		l.mu.Lock()
		held := l.held
		l.mu.Unlock()
		if held != nil {
			<-held
		}
		if _, failed := l.in.Write(buf[:n]); err != nil || failed != nil {
			return
		}
	}
}

func (s *lines) end(l *wired) {
	l.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.open = slices.DeleteFunc(s.open, func(other *wired) bool { return other == l })
}

func (l *wired) close() {
	_ = l.in.Close()
	_ = l.out.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.shut = true
	l.letGo()
}

// letGo has what is held up go on. l.mu is held.
func (l *wired) letGo() {
	if l.held != nil {
		close(l.held)
		l.held = nil
	}
}

// pick are the lines that of holds for (nil: all), each with that probability.
func (s *lines) pick(share float64, of func(*wired) bool) (some []*wired) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.open {
		if (of == nil || of(l)) && rand.Float64() < share {
			some = append(some, l)
		}
	}
	return some
}

// Of which lines.
func following(l *wired) bool { return l.follows }
func streaming(l *wired) bool { return l.streams }
func serving(l *wired) bool   { return !l.follows }

// cut ends lines.
func (s *lines) cut(share float64, of func(*wired) bool) {
	for _, l := range s.pick(share, of) {
		l.close()
	}
}

// hold holds lines up until letGo is called.
func (s *lines) hold(share float64, of func(*wired) bool) (letGo func()) {
	some := s.pick(share, of)
	for _, l := range some {
		l.mu.Lock()
		if l.held == nil && !l.shut {
			l.held = make(chan struct{})
		}
		l.mu.Unlock()
	}
	return func() {
		for _, l := range some {
			l.mu.Lock()
			l.letGo()
			l.mu.Unlock()
		}
	}
}
