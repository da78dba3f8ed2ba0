package wiretest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"pgtier/proxy/pool"
)

// relay is a wire that can be cut: it forwards bytes between its clients and a
// target, and hangs up on both after so many bytes in one direction.
type relay struct {
	listener net.Listener
	target   string

	mu     sync.Mutex
	up     int // bytes towards the target until the cut; negative: never
	down   int // bytes from the target
	joined sync.WaitGroup
}

func newRelay(t *testing.T, target string) *relay {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: l, target: target, up: -1, down: -1}
	r.joined.Go(r.accept) // ends with the listener
	t.Cleanup(func() { _ = l.Close(); r.joined.Wait() })
	return r
}

func (r *relay) address() string { return r.listener.Addr().String() }

// cut sets where connections end from now on.
func (r *relay) cut(up, down int) {
	r.mu.Lock()
	r.up, r.down = up, down
	r.mu.Unlock()
}

func (r *relay) accept() {
	for {
		from, err := r.listener.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", r.target)
		if err != nil {
			_ = from.Close()
			continue
		}
		both := func() { _ = from.Close(); _ = to.Close() }
		r.joined.Go(func() { defer both(); r.carry(from, to, &r.up) })   // ends with either socket
		r.joined.Go(func() { defer both(); r.carry(to, from, &r.down) }) // ends with either socket
	}
}

func (r *relay) carry(from, to net.Conn, left *int) {
	b := make([]byte, 4096)
	for {
		n, err := from.Read(b)
		r.mu.Lock()
		over := *left >= 0 && n >= *left
		if over {
			n = *left
		}
		if *left >= 0 {
			*left -= n
		}
		r.mu.Unlock()
		if _, werr := to.Write(b[:n]); err != nil || werr != nil || over {
			return
		}
	}
}

// story is what is cut at every byte: settings, a statement, a transaction with
// a write that is never committed, COPY.
func story() []byte {
	var out []byte
	out = append(out, queryMessage("SET search_path = other; SET timezone = 'Asia/Tokyo'")...)
	out = append(append(append(out, parseMessage("s", "SELECT 'told'")...), runMessage("s")...), syncMessage()...)
	out = append(out, queryMessage("BEGIN; INSERT INTO public.sink VALUES (1, 'half')")...)
	out = append(out, queryMessage("COPY public.sink FROM STDIN")...)
	out = append(out, frameOf('d', []byte("2\thalf\n"))...)
	out = append(out, frameOf('c', nil)...)
	return append(out, queryMessage("ROLLBACK")...)
}

// storyAnswers is the number of ReadyForQuery in the answer to story.
const storyAnswers = 5

// cutStep is every how many bytes the story is cut. It shares no factor with
// message sizes, and the two directions begin at different bytes.
const cutStep = 5

// checkUntouched fails if the tables show half a story, or another client's
// settings or statements can be seen.
func (r *rig) checkUntouched(t *testing.T, address, when string) {
	t.Helper()
	p := connect(t, address)
	defer p.close()
	got, err := p.value("SELECT count(*) || ' ' || current_setting('search_path') || ' ' || current_setting('timezone') FROM public.sink")
	if want := `0 "$user", public UTC`; err != nil || got != want {
		t.Fatalf("%s: the next client sees %q, %v; want %q", when, got, err, want)
	}
	if frames, err := p.ask("EXECUTE s"); err != nil || frames[0][0] != 'E' {
		t.Fatalf("%s: the next client finds a statement of the last: %v\n%s", when, err, lines(frames))
	}
}

func TestClientsCutAtAnyByteLeaveNothingBehind(t *testing.T) {
	r := newRig(t)
	p, address := start(t, r.config(r.manager.Address(), pool.ModeTransaction, 1))
	wire := newRelay(t, address)
	login := len(startupPacket([]string{"user=postgres", "database=" + database}))
	r.checkUntouched(t, address, "before")
	before := runtime.NumGoroutine()
	for at := 1; at < login+len(story()); at += cutStep {
		wire.cut(at, -1)
		c, err := dialPeer(wire.address())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.login("user=postgres", "database="+database); err == nil {
			_ = c.write(story())
			_, _ = c.readUntil("Z", storyAnswers)
		}
		_ = c.nc.Close()
		r.checkUntouched(t, address, fmt.Sprint("client cut behind byte ", at))
	}
	r.atRest(t)
	eventually(t, "sessions and goroutines of cut clients are gone", func() bool {
		return len(p.Sessions()) == 0 && runtime.NumGoroutine() <= before+2
	})
}

func TestServerConnectionsCutAtAnyByteGiveErrorsNotWrongAnswers(t *testing.T) {
	r := newRig(t)
	wire := newRelay(t, r.manager.Address())
	cfg := r.config(wire.address(), pool.ModeTransaction, 1)
	cfg.Pool.LoginRetry = 10 * time.Millisecond
	_, address := start(t, cfg)
	want, err := tell(t, r.manager.Address())
	if err != nil {
		t.Fatal(err)
	}
	for at := 2; at < 700; at += 3 * cutStep {
		if at%2 == 0 {
			wire.cut(at, -1)
		} else {
			wire.cut(-1, at)
		}
		got, _ := tell(t, address)
		wire.cut(-1, -1)
		for i, line := range got {
			if i < len(want) && line == want[i] {
				continue
			}
			if !strings.HasPrefix(line, "ErrorResponse") || !strings.Contains(line, `C="08`) && !strings.Contains(line, `C="57P`) {
				t.Fatalf("cut behind byte %d: message %d is %s, want %s or an error about the connection", at, i, line, want[min(i, len(want)-1)])
			}
			break
		}
		eventually(t, "the proxy serves again", func() bool {
			p := connect(t, address)
			defer p.close()
			got, err := p.value("SELECT 'again'")
			return err == nil && got == "again"
		})
		r.checkUntouched(t, address, fmt.Sprint("server cut behind byte ", at))
	}
	r.atRest(t)
}

// tell runs the story on a new connection and returns the answers, without login.
func tell(t *testing.T, address string) ([]string, error) {
	t.Helper()
	p, err := dialPeer(address)
	if err != nil {
		t.Fatal(err)
	}
	defer p.close()
	frames, err := p.login("user=postgres", "database="+database)
	if err != nil || len(frames) == 0 || frames[len(frames)-1][0] != 'Z' {
		return nil, err
	}
	if err := p.write(story()); err != nil {
		return nil, err
	}
	frames, err = p.readUntil("Z", storyAnswers)
	var out []string
	for _, f := range frames {
		out = append(out, render(f))
	}
	return out, err
}

// cancelRounds is how often a cancel races against a short query.
const cancelRounds = 200

func TestACancelNeverHitsANeighbour(t *testing.T) {
	r := newRig(t)
	_, address := start(t, r.config(r.manager.Address(), pool.ModeTransaction, 1))
	canceller, neighbour := connect(t, address), connect(t, address)
	stop := make(chan struct{})
	hurt := make(chan error, 1)
	go func() { // ends with stop
		for {
			select {
			case <-stop:
				hurt <- nil
				return
			default:
			}
			if _, err := neighbour.value("SELECT pg_sleep(0.001)"); err != nil {
				hurt <- err
				return
			}
		}
	}()
	var all sync.WaitGroup
	for range cancelRounds {
		all.Go(func() {
			if err := sendCancel(address, canceller.key); err != nil && !errors.Is(err, io.EOF) {
				t.Error("send cancel:", err)
			}
		})
		if _, err := canceller.ask("SELECT pg_sleep(0.0005)"); err != nil {
			t.Fatal(err)
		}
		all.Wait()
	}
	close(stop)
	if err := <-hurt; err != nil {
		t.Error("the neighbour's statement ended with:", err)
	}
}
