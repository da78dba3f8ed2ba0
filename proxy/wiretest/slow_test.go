package wiretest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgtier/proxy/pool"
)

// How much goes past somebody who does not take it, and how much of it the
// proxy may hold: socket buffers are the kernel's, the proxy has its relay's.
const (
	slowRows    = 200_000
	slowRow     = 1000 // bytes a row
	fastRows    = 100_000
	heapAllowed = 32 << 20
)

// heap is a bound for the memory of the process, which proxy and test share.
type heap struct{ start uint64 }

func newHeap() heap {
	runtime.GC()
	return heap{start: heapInUse()}
}

func heapInUse() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse
}

func (h heap) check(t *testing.T, when string) {
	t.Helper()
	if now := heapInUse(); now > h.start+heapAllowed {
		t.Errorf("%s the heap has grown from %d to %d MB, want at most %d MB more", when, h.start>>20, now>>20, heapAllowed>>20)
	}
}

// skim reads to ReadyForQuery without keeping anything and returns how many
// messages of each type came. each is called at every message. Rows must be of
// the bytes that slowStatements ask for.
func (p *peer) skim(each func()) (count [256]int, err error) {
	want := bytes.Repeat([]byte("x"), slowRow)
	for {
		_ = p.nc.SetReadDeadline(time.Now().Add(stepLimit))
		head, err := p.in.Peek(5)
		if err != nil {
			return count, err
		}
		typ, size := head[0], 1+int(binary.BigEndian.Uint32(head[1:]))
		frame, err := p.in.Peek(size)
		if err != nil {
			return count, err
		}
		if (typ == 'D' || typ == 'd') && !bytes.Contains(frame, want) {
			return count, fmt.Errorf("row %d is %q", count[typ]+1, frame)
		}
		count[typ]++
		each()
		_, _ = p.in.Discard(size)
		if typ == 'Z' {
			return count, nil
		}
	}
}

// slowStatements ask for 200 MB, by the type of the messages it comes in.
func slowStatements() map[byte]string {
	rows := fmt.Sprintf("SELECT repeat('x', %d) FROM generate_series(1, %d)", slowRow, slowRows)
	return map[byte]string{'D': rows, 'd': "COPY (" + rows + ") TO STDOUT"}
}

func TestASlowClientCostsNoMemoryAndHoldsNobodyUp(t *testing.T) {
	r := newRig(t)
	_, address := start(t, r.config(r.manager.Address(), pool.ModeTransaction, 2))
	for typ, sql := range slowStatements() {
		t.Run(string(typ), func(t *testing.T) {
			slow, other := connect(t, address), connect(t, address)
			before := newHeap()
			if err := slow.write(queryMessage(sql)); err != nil {
				t.Fatal(err)
			}
			if _, err := slow.in.Peek(5); err != nil { // the answer has begun, and then nobody reads
				t.Fatal(err)
			}
			eventually(t, "the server waits for the client", func() bool {
				got, err := r.direct("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'ClientWrite'")
				return err == nil && got == "1"
			})
			for i := range 50 {
				if got, err := other.value(fmt.Sprint("SELECT ", i)); err != nil || got != fmt.Sprint(i) {
					t.Fatalf("another client asked for %d and got %q, %v", i, got, err)
				}
				before.check(t, "while the client does not read")
			}
			read := 0
			count, err := slow.skim(func() {
				if read++; read%(slowRows/10) == 0 {
					before.check(t, "while the client reads")
				}
			})
			if err != nil || count[typ] != slowRows || count['E'] != 0 {
				t.Errorf("the client got %d rows and %d errors, %v; want %d rows", count[typ], count['E'], err, slowRows)
			}
			if got, err := slow.value("SELECT 'next'"); err != nil || got != "next" {
				t.Errorf("the client's next statement gave %q, %v", got, err)
			}
		})
	}
	r.atRest(t)
}

// copyIn sends rows of COPY data to sink and adds what the socket took to sent.
func (p *peer) copyIn(rows int, sent *atomic.Int64) error {
	const perMessage = 50
	frame := frameOf('d', []byte(strings.Repeat("1\t"+strings.Repeat("x", slowRow-3)+"\n", perMessage)))
	for range rows / perMessage {
		if err := p.write(frame); err != nil {
			return fmt.Errorf("send COPY data: %w", err)
		}
		sent.Add(int64(len(frame)))
	}
	return p.write(frameOf('c', nil))
}

func TestCopyIntoAStalledServerCostsNoMemory(t *testing.T) {
	r := newRig(t)
	if _, err := r.direct("ALTER TABLE sink SET UNLOGGED"); err != nil {
		t.Fatal(err)
	}
	_, address := start(t, r.config(r.manager.Address(), pool.ModeTransaction, 2))
	p := connect(t, address)
	before := newHeap()
	if err := p.write(queryMessage("COPY sink FROM STDIN")); err != nil {
		t.Fatal(err)
	}
	if _, err := p.readUntil("G", 1); err != nil {
		t.Fatal(err)
	}
	var sent atomic.Int64
	copied := make(chan error, 1)
	go func() { copied <- p.copyIn(fastRows, &sent) }() // ends with the data or a deadline of the socket
	eventually(t, "the COPY is under way", func() bool { return sent.Load() > fastRows*slowRow/20 })
	if err := r.manager.Pause(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) { // how long the server stalls
		before.check(t, "while the server stalls")
	}
	stalled := sent.Load()
	if err := r.manager.Continue(); err != nil {
		t.Fatal(err)
	}
	if stalled >= fastRows*slowRow {
		t.Errorf("the proxy took all of %d bytes that the server did not read", stalled)
	}
	eventually(t, "the data is sent", func() bool {
		before.check(t, "while the server goes on")
		return len(copied) > 0
	})
	if err := <-copied; err != nil {
		t.Fatal(err)
	}
	frames, err := p.readUntil("Z", 1)
	if want := fmt.Sprintf("CommandComplete \"COPY %d\"\n", fastRows); err != nil || !strings.HasPrefix(lines(frames), want) {
		t.Errorf("the COPY ended with %v\n%s, want %s", err, lines(frames), want)
	}
	if got, err := p.value("SELECT count(*) FROM sink WHERE length(name) = 997"); err != nil || got != fmt.Sprint(fastRows) {
		t.Errorf("the table has %s whole rows, %v; want %d", got, err, fastRows)
	}
	r.atRest(t)
}
