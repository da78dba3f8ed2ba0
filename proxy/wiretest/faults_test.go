package wiretest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgtier/proxy"
	"pgtier/proxy/pool"
)

// relay is a wire that can be cut or stall: it forwards bytes between its
// clients and a target, and does so at a byte of each connection, counted from
// when it was told to.
type relay struct {
	listener net.Listener
	target   string

	mu     sync.Mutex
	orders orders
	joined sync.WaitGroup
}

// orders is what a relay does to each of its connections from now on.
type orders struct {
	number   int // of the orders: connections begin to count anew with each
	up, down int // bytes towards the target, and from it, until it happens; negative: never
	stall    bool
	wait     time.Duration // of a stall; 0 splits what was sent in one piece
}

func newRelay(t *testing.T, target string) *relay {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{listener: l, target: target, orders: orders{up: -1, down: -1}}
	r.joined.Go(r.accept) // ends with the listener
	t.Cleanup(func() { _ = l.Close(); r.joined.Wait() })
	return r
}

func (r *relay) address() string { return r.listener.Addr().String() }

// cut sets where connections end from now on.
func (r *relay) cut(up, down int) { r.order(orders{up: up, down: down}) }

// stall sets where connections pause once from now on, in both directions.
func (r *relay) stall(at int, wait time.Duration) {
	r.order(orders{up: at, down: at, stall: true, wait: wait})
}

func (r *relay) order(o orders) {
	r.mu.Lock()
	o.number = r.orders.number + 1
	r.orders = o
	r.mu.Unlock()
}

func (r *relay) ordered() orders {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.orders
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
		r.joined.Go(func() { defer both(); r.carry(from, to, func(o orders) int { return o.up }) })   // ends with either socket
		r.joined.Go(func() { defer both(); r.carry(to, from, func(o orders) int { return o.down }) }) // ends with either socket
	}
}

// carry forwards one direction of a connection; limit picks its limit from the orders.
func (r *relay) carry(from, to net.Conn, limit func(orders) int) {
	b := make([]byte, 4096)
	number, carried := 0, 0
	for {
		n, err := from.Read(b)
		o := r.ordered()
		if o.number != number {
			number, carried = o.number, 0
		}
		at := limit(o) - carried // in b
		carried += n
		here := limit(o) >= 0 && n >= at && at >= 0
		if here && !o.stall {
			_, _ = to.Write(b[:at])
			return
		}
		rest := b[:n]
		if here {
			if _, werr := to.Write(rest[:at]); werr != nil {
				return
			}
			time.Sleep(o.wait) // the stall
			rest = rest[at:]
		}
		if _, werr := to.Write(rest); err != nil || werr != nil {
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

// cutLanes is how many proxies are cut at the same time: most of it is waiting.
const cutLanes = 4

// everyByte calls try for each byte from 1 below end, in lanes, and fails the
// test at the first error of each lane.
func everyByte(t *testing.T, end int, lane func() (try func(at int) error)) {
	t.Helper()
	var all sync.WaitGroup
	for i := range cutLanes {
		try := lane()
		all.Go(func() {
			for at := 1 + i; at < end; at += cutLanes {
				if err := try(at); err != nil {
					t.Errorf("behind byte %d: %v", at, err)
					return
				}
			}
		})
	}
	all.Wait()
}

// checkUntouched fails if the tables show half a story, or another client's
// settings or statements can be seen.
func (r *rig) checkUntouched(t *testing.T, address, when string) {
	t.Helper()
	if err := untouched(address); err != nil {
		t.Fatalf("%s: %v", when, err)
	}
}

func untouched(address string) error {
	p, err := dialPeer(address)
	if err != nil {
		return err
	}
	defer p.close()
	if frames, err := p.login("user=postgres", "database="+database); err != nil || frames[len(frames)-1][0] != 'Z' {
		return fmt.Errorf("the next client cannot log in: %w\n%s", err, lines(frames))
	}
	got, err := p.value("SELECT count(*) || ' ' || current_setting('search_path') || ' ' || current_setting('timezone') FROM public.sink")
	if want := `0 "$user", public UTC`; err != nil || got != want {
		return fmt.Errorf("the next client sees %q, %w; want %q", got, err, want)
	}
	if frames, err := p.ask("EXECUTE s"); err != nil || frames[0][0] != 'E' {
		return fmt.Errorf("the next client finds a statement of the last: %w\n%s", err, lines(frames))
	}
	return nil
}

func TestClientsCutAtAnyByteLeaveNothingBehind(t *testing.T) {
	r := newRig(t)
	login := len(startupPacket([]string{"user=postgres", "database=" + database}))
	var proxies []*proxy.Proxy
	var before int
	everyByte(t, login+len(story()), func() func(int) error {
		p, address := start(t, r.config(r.manager.Address(), pool.ModeTransaction, 1))
		r.checkUntouched(t, address, "before")
		wire := newRelay(t, address)
		proxies, before = append(proxies, p), runtime.NumGoroutine()
		return func(at int) error {
			wire.cut(at, -1)
			_, _ = tell(wire.address())
			return untouched(address)
		}
	})
	r.atRest(t)
	eventually(t, "sessions and goroutines of cut clients are gone", func() bool {
		sessions := 0
		for _, p := range proxies {
			sessions += len(p.Sessions())
		}
		return sessions == 0 && runtime.NumGoroutine() <= before+2*cutLanes
	})
}

// wireEnd is beyond the last byte of the story in either direction of a server's
// connection, with the settings and names that the proxy adds.
const wireEnd = 520

// packetEnd is within the startup packet at a server or just behind it, loginEnd
// beyond the last byte of its answer.
const (
	packetEnd = 60
	loginEnd  = 460
)

// cuttable is a proxy behind a relay that gives a server up soon.
func (r *rig) cuttable(t *testing.T) (*relay, proxy.Config) {
	wire := newRelay(t, r.manager.Address())
	cfg := r.config(wire.address(), pool.ModeTransaction, 1)
	cfg.Pool.LoginRetry, cfg.Pool.ServerDownWait = 5*time.Millisecond, 30*time.Millisecond
	d := cfg.Databases[database]
	d.Pool = cfg.Pool
	cfg.Databases[database] = d
	return wire, cfg
}

// again waits until the proxy serves.
func again(address string) (err error) {
	for deadline := time.Now().Add(stepLimit); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) { // between two attempts
		if err = untouched(address); err == nil {
			return nil
		}
	}
	return fmt.Errorf("the proxy does not serve again: %w", err)
}

func TestServerConnectionsCutAtAnyByteGiveErrorsNotWrongAnswers(t *testing.T) {
	r := newRig(t)
	want, err := tell(r.manager.Address())
	if err != nil {
		t.Fatal(err)
	}
	wire, cfg := r.cuttable(t)
	_, address := start(t, cfg)
	r.checkUntouched(t, address, "before")
	wire.cut(wireEnd, wireEnd)
	if got, err := tell(address); err != nil || !slices.Equal(got, want) {
		t.Fatalf("the story is longer than wireEnd or goes wrong uncut: %v\n%s", err, strings.Join(got, "\n"))
	}
	for _, up := range []bool{true, false} {
		everyByte(t, wireEnd, func() func(int) error {
			wire, cfg := r.cuttable(t)
			_, address := start(t, cfg)
			r.checkUntouched(t, address, "before")
			return func(at int) error {
				if up {
					wire.cut(at, -1)
				} else {
					wire.cut(-1, at)
				}
				got, _ := tell(address)
				wire.cut(-1, -1)
				if err := truncated(want, got); err != nil {
					return err
				}
				return again(address)
			}
		})
	}
	r.atRest(t)
}

func TestServerLoginsCutAtAnyByteAreTriedAgain(t *testing.T) {
	r := newRig(t)
	everyByte(t, packetEnd+loginEnd, func() func(int) error {
		wire, cfg := r.cuttable(t)
		d := cfg.Databases[database]
		d.Pool.ServerDownWait = time.Millisecond
		cfg.Databases[database] = d
		p, address := start(t, cfg)
		return func(at int) error {
			up, down := at, -1
			if at >= packetEnd {
				up, down = -1, at-packetEnd
			}
			wire.cut(up, down)
			if err := p.Reconnect(database); err != nil {
				return err
			}
			if err := untouched(address); err == nil && at < packetEnd {
				return errors.New("a client was served over a server connection that was cut in its login")
			}
			wire.cut(-1, -1)
			return again(address)
		}
	})
	r.atRest(t)
}

// truncated says what is wrong with got: it must be want as far as it goes, then
// an error about the connection.
func truncated(want, got []string) error {
	for i, line := range got {
		if i < len(want) && line == want[i] {
			continue
		}
		if !strings.HasPrefix(line, "ErrorResponse") || !strings.Contains(line, `C="08`) && !strings.Contains(line, `C="57P`) {
			return fmt.Errorf("message %d is %s, want %s or an error about the connection", i, line, want[min(i, len(want)-1)])
		}
		return nil
	}
	return nil
}

// stallMost is the longest pause at a byte; every sixth splits without a pause.
const stallMost = 5

func TestStallsAndSplitsAtAnyByteChangeNoAnswer(t *testing.T) {
	r := newRig(t)
	want, err := tell(r.manager.Address())
	if err != nil {
		t.Fatal(err)
	}
	everyByte(t, wireEnd, func() func(int) error {
		behind, cfg := r.cuttable(t)
		cfg.Pool.ServerDownWait = stepLimit
		_, address := start(t, cfg)
		before := newRelay(t, address)
		return func(at int) error {
			wait := time.Duration(at/cutLanes%(stallMost+1)) * time.Millisecond
			before.stall(at, wait)
			behind.stall(at, wait)
			got, err := tell(before.address())
			if !slices.Equal(got, want) {
				return fmt.Errorf("%w\ngot:\n%s\nwant:\n%s", err, strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			return err
		}
	})
	r.atRest(t)
}

// tell runs the story on a new connection and returns the answers, without login.
func tell(address string) ([]string, error) {
	p, err := dialPeer(address)
	if err != nil {
		return nil, err
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
