package proxy_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/proxy"
)

// tripwire is a TCP forwarder that cuts the connection which brings a word, before the server has it, and lets nobody through for a while then.
type tripwire struct {
	to, word string
	instead  string // if not empty, as long as word: the connection is not cut, the server gets this in word's place
	shut     time.Duration
	lasts    atomic.Int64 // nanoseconds: for so long after the first it cuts others that bring the word
	cuts     atomic.Int64 // until then, in nanoseconds since 1970
	tripped  atomic.Bool
	opens    atomic.Int64 // when, in nanoseconds since 1970
}

// forward accepts connections until the test ends, opens one to a server for each and gives both to pass. It returns the port to
// connect to. A connection that admits refuses, or whose server is away, is closed.
func forward(t testing.TB, to string, admits func() bool, pass func(in, out net.Conn)) uint16 {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() { // ends with the listener
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			switch {
			case err != nil:
				_ = in.Close()
			case !admits():
				_ = in.Close()
				_ = out.Close()
			default:
				pass(in, out)
			}
		}
	}()
	return uint16(l.Addr().(*net.TCPAddr).Port)
}

// port starts it and returns the port to connect to.
func (w *tripwire) port(t testing.TB) uint16 {
	t.Helper()
	return forward(t, w.to, func() bool { return time.Now().UnixNano() >= w.opens.Load() }, func(in, out net.Conn) {
		go func() { // ends with either side
			_, _ = io.Copy(in, out)
			_ = in.Close()
		}()
		go w.watch(in, out) // ends with either side
	})
}

// watch passes on what the client sends.
func (w *tripwire) watch(in, out net.Conn) {
	defer func() {
		_ = in.Close()
		_ = out.Close()
	}()
	buf := make([]byte, 64<<10)
	for {
		n, err := in.Read(buf)
		brings := bytes.Contains(buf[:n], []byte(w.word))
		if brings && time.Now().UnixNano() < w.cuts.Load() {
			return
		}
		if brings && w.tripped.CompareAndSwap(false, true) {
			w.cuts.Store(time.Now().UnixNano() + w.lasts.Load())
			if w.instead == "" {
				w.opens.Store(time.Now().Add(w.shut).UnixNano())
				return
			}
			copy(buf, bytes.Replace(buf[:n], []byte(w.word), []byte(w.instead), 1))
		}
		if _, failed := out.Write(buf[:n]); err != nil || failed != nil {
			return
		}
	}
}

// TestCommitIsToldWhenAllShardsShowIt loses a shard between the decision and its part of the commit.
func TestCommitIsToldWhenAllShardsShowIt(t *testing.T) {
	for name, tc := range map[string]struct {
		shut, wait time.Duration
		late       bool // the shard is not back when the client hears
	}{
		"the connection": {0, 30 * time.Second, false},
		"for a while":    {time.Second, 30 * time.Second, false},
		"for longer":     {10 * time.Second, 500 * time.Millisecond, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wire := &tripwire{word: "COMMIT PREPARED", shut: tc.shut}
			s, p := newSpreadOf(t, spreadOptions, onDatabase(func(d *proxy.Database) {
				wire.to = fmt.Sprintf("127.0.0.1:%d", d.Shards[1].Manager.Port)
				d.Shards[1].Manager.Port = wire.port(t)
				d.Failover.Wait = tc.wait
			}))
			a, b := s.apart(t)
			config, err := pgx.ParseConfig(p.dsn("postgres", ""))
			if err != nil {
				t.Fatal(err)
			}
			var notices []string
			config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notices = append(notices, n.Code+" "+n.Message) }
			c, err := pgx.ConnectConfig(bounded(t), config)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close(bounded(t)) }()
			if tag, err := c.Exec(bounded(t), "UPDATE accounts SET balance = 7 WHERE id IN ($1, $2)", a, b); err != nil || tag.RowsAffected() != 2 {
				t.Fatalf("%s, %v", tag, err)
			}
			if !wire.tripped.Load() {
				t.Fatal("no shard was lost")
			}
			got := s.on(t, 1, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", b))
			warned := strings.Contains(strings.Join(notices, "\n"), "01000 the transaction is committed, but is not visible yet on s1")
			if tc.late != warned || tc.late != (got != "7") {
				t.Errorf("the shard shows %s when the client has heard, and it heard %q", got, notices)
			}
			if !tc.late && s.prepared(t) > 0 {
				t.Error("a part is left")
			}
		})
	}
}
