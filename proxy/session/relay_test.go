package session

import (
	"bytes"
	"net"
	"testing"

	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
)

// sink is a client that takes everything and remembers it.
type sink struct {
	net.Conn
	got bytes.Buffer
}

func (s *sink) Write(b []byte) (int, error) { return s.got.Write(b) }

// relayAll feeds answer to a relay in pieces of at most step bytes and returns
// what the client was sent, the rest included.
func relayAll(answer []byte, step int) (sent []byte, err error) { return relayBehind(0, answer, step) }

// relayBehind is relayAll where so many messages of the proxy's are completed first.
func relayBehind(ahead int, answer []byte, step int) (sent []byte, err error) {
	client := &sink{}
	env := &Env{Bufs: wire.NewBuffers()}
	env.Limits.Store(&Limits{MaxMessage: 1 << 30, MaxQuery: 1 << 20, SessionMemory: 1 << 20})
	db := &Database{Statements: backend.NewStatements(1 << 20), Stats: &Stats{}}
	s := &Session{env: env, client: wire.NewConn(client), db: db, at: db, tx: wire.TxIdle, work: &work{}}
	r := &s.relay
	r.s = s
	r.begin(&backend.Conn{}, 1)
	r.ahead, r.adopts = ahead, ahead > 0
	for len(answer) > 0 {
		n := min(step, len(answer))
		room := r.in.Space(env.Bufs, max(wire.SmallBuffer, r.need, r.in.Len()+n))
		r.in.Added(copy(room, answer[:n]))
		answer = answer[n:]
		if !r.step() {
			break
		}
	}
	sent = append(client.got.Bytes(), r.Tail()...)
	return sent, r.err
}

// answer is one of each kind of message that a query may bring.
func answer() []byte {
	row, at := wire.Begin(nil, wire.MsgDataRow)
	row = wire.End(append(row, 0, 1, 0, 0, 0, 3, 'a', 'b', 'c'), at)
	b := wire.AppendEmpty(nil, wire.MsgParseComplete)
	b = wire.AppendEmpty(b, wire.MsgBindComplete)
	for _, code := range []string{wire.CodeAdminShutdown, wire.CodeCrashShutdown} { // as a function may say
		b = (&wire.Error{Severity: "WARNING", Code: code, Message: "terminating connection"}).AppendNotice(b)
	}
	b = append(append(b, row...), row...)
	b = wire.AppendCommandComplete(b, "SELECT 2")
	b = (&wire.Error{Code: "22012", Message: "division by zero"}).Append(b)
	return wire.AppendReady(b, wire.TxIdle)
}

func TestRelayForwardsTheSameHoweverItIsCut(t *testing.T) {
	want := answer()
	for step := 1; step <= len(want); step++ {
		got, err := relayAll(want, step)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("in pieces of %d: got %q, %v; want %q", step, got, err, want)
		}
	}
}

// TestRelayHoldsAPartingWordHoweverItIsCut ends the answer behind each message of it.
func TestRelayHoldsAPartingWordHoweverItIsCut(t *testing.T) {
	all := answer()
	for end := 0; end < len(all); {
		last := end
		size, _ := wire.FrameSize(all[end:])
		end += size
		want := all[:end]
		if all[last] == wire.MsgNoticeResponse {
			want = all[:last]
		}
		for step := 1; step <= end; step++ {
			got, err := relayAll(all[:end], step)
			if err != nil || !bytes.Equal(got, want) {
				t.Fatalf("%d bytes in pieces of %d: got %q, %v; want %q", end, step, got, err, want)
			}
		}
	}
}

// ahead is what a server answers to the n messages of a settings replay, a value reported and notices among it.
func ahead() (b []byte, n int) {
	row, at := wire.Begin(nil, wire.MsgDataRow)
	row = wire.End(append(row, 0, 1, 0, 0, 0, 3, 'a', 'b', 'c'), at)
	for _, tag := range []string{"BEGIN", "SELECT 1", "COMMIT"} {
		b = wire.AppendEmpty(wire.AppendEmpty(b, wire.MsgParseComplete), wire.MsgBindComplete)
		if tag == "SELECT 1" {
			b = wire.AppendParameterStatus(append(b, row...), "TimeZone", "UTC") // as servers before 14 do
		}
		b = (&wire.Error{Severity: "NOTICE", Code: "00000", Message: "ours"}).AppendNotice(b)
		b = wire.AppendCommandComplete(b, tag)
	}
	return b, 9
}

func TestRelayDropsWhatAnswersTheProxyHoweverItIsCut(t *testing.T) {
	before, n := ahead()
	want := answer()
	for step := 1; step <= len(before)+len(want); step++ {
		got, err := relayBehind(n, append(before[:len(before):len(before)], want...), step)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatalf("in pieces of %d: got %q, %v; want %q", step, got, err, want)
		}
	}
}

// FuzzRelay: whatever a server sends, in whatever pieces, the relay neither
// panics nor sends the client anything that depends on how it was cut.
func FuzzRelay(f *testing.F) {
	f.Add(answer(), 3)
	f.Add([]byte{'Z', 0, 0, 0, 5, 'I', 'A', 0, 0}, 1)
	f.Add([]byte{'D', 0xff, 0xff, 0xff, 0xff}, 2)
	f.Add([]byte{'E', 0, 0, 0, 4}, 1)
	f.Add([]byte{'S', 0, 0, 0, 6, 'a', 0}, 4)
	f.Fuzz(func(t *testing.T, b []byte, step int) {
		whole, err := relayAll(b, len(b)+1)
		cut, errCut := relayAll(b, 1+(step&0xff))
		if err == nil && errCut == nil && !bytes.Equal(whole, cut) {
			t.Errorf("%q: whole %q, cut %q", b, whole, cut)
		}
	})
}
