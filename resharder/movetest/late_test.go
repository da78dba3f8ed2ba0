package movetest

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
)

// gate is the network between a proxy and a server: it passes everything on, but for a message that it was told to hold, and all when it is shut.
type gate struct {
	// fixed
	to      string
	refuses string // connections that begin with this are closed

	mu     sync.Mutex
	word   string        // guarded by mu; what brings this is held; "" for nothing
	shut   bool          // guarded by mu
	caught chan struct{} // guarded by mu; closed when word has come
	opened chan struct{} // guarded by mu; closed when what is held goes on
}

// newGate starts one to a server and returns it with the address to connect to.
func newGate(t testing.TB, to *localpg.Server, refuses string) (g *gate, address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g = &gate{to: to.Address(), refuses: refuses, opened: make(chan struct{})}
	t.Cleanup(func() {
		_ = l.Close()
		g.open()
	})
	go func() { // ends with the listener
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", g.to)
			if err != nil {
				_ = in.Close()
				continue
			}
			go g.pass(in, out, true)  // ends with either side
			go g.pass(out, in, false) // ends with either side
		}
	}()
	return g, l.Addr().String()
}

// hold has the next message that has the word wait for open. caught tells that it has come.
func (g *gate) hold(word string) (caught <-chan struct{}) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.word, g.caught, g.opened = word, make(chan struct{}), make(chan struct{})
	return g.caught
}

// close lets nothing through until open.
func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut, g.opened = true, make(chan struct{})
}

// open lets everything through again.
func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.word, g.shut = "", false
	select {
	case <-g.opened:
	default:
		close(g.opened)
	}
}

// waits returns what a message has to wait for, nil for nothing.
func (g *gate) waits(message []byte, asks bool) <-chan struct{} {
	g.mu.Lock()
	defer g.mu.Unlock()
	if asks && g.word != "" && bytes.Contains(message, []byte(g.word)) {
		g.word = ""
		close(g.caught)
		return g.opened
	}
	if g.shut {
		return g.opened
	}
	return nil
}

// pass passes on what comes from one side; asks: from the proxy.
func (g *gate) pass(from, to net.Conn, asks bool) {
	defer func() {
		_ = from.Close()
		_ = to.Close()
	}()
	buf := make([]byte, 64<<10)
	for first := asks; ; first = false {
		n, err := from.Read(buf)
		if first && g.refuses != "" && bytes.Contains(buf[:n], []byte(g.refuses)) {
			return
		}
		if wait := g.waits(buf[:n], asks); wait != nil {
			<-wait
		}
		if _, failed := to.Write(buf[:n]); err != nil || failed != nil {
			return
		}
	}
}

// TestWritesOfReferenceTablesThatComeLateAreOnEveryShard has the network stand still in the middle of writes of a reference table while shards join: whatever their
// home server begins only then is on the new shard too.
func TestWritesOfReferenceTablesThatComeLateAreOnEveryShard(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	home, homeAt := newGate(t, r.cluster.Shards[0].Manager, "")
	control, controlAt := newGate(t, r.cluster.Shards[3].Manager, "pgtier mover") // whose moves would stand still as well
	far := newDaemon(t, "the proxy behind the gates", pgtest.FreeAddress(t), r.file+".far")
	configure := func() {
		text, err := os.ReadFile(r.file)
		r.try(err)
		behind := strings.NewReplacer(home.to, homeAt, control.to, controlAt).Replace(string(text))
		r.try(os.WriteFile(far.config, []byte(behind), 0o600))
	}
	configure()
	r.try(far.start(r.ctx()))
	r.widen()
	configure()
	r.try(far.reload())
	client := r.connect(far.url("app"))
	_, err := client.Exec(r.ctx(), "INSERT INTO countries VALUES ('soon', '')") // by the extended protocol, prepared
	r.try(err)

	// late begins a write, and returns what it hears when it is through.
	late := func(sql string) <-chan error {
		heard := make(chan error, 1)
		go func() { // ends with the statement
			ctx, stop := context.WithTimeout(context.Background(), patience)
			defer stop()
			_, err := client.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
			heard <- err
		}()
		return heard
	}
	// join adds a shard, beside what is held. The step is over with what it returns.
	join := func(name string) <-chan string {
		r.untilPossible("--add", name)
		done := make(chan string, 1)
		go func() { // ends with the command
			if status, out := r.command(r.ctx(), "reshard", "start", "--add", name); status != 0 {
				done <- fmt.Sprintf("status %d: %s", status, out)
			}
			close(done)
		}()
		return done
	}
	joined := func(done <-chan string) {
		t.Helper()
		if why := <-done; why != "" {
			t.Fatal(why)
		}
	}
	// copies fails the test unless a row is on all of these shards where its client has heard no error, and on none where it has heard one that says so.
	copies := func(code string, heard error, shards ...int) {
		t.Helper()
		want := "late"
		if heard != nil {
			want = ""
			if state := stateOf(heard); state != "40001" && state != "57P03" {
				t.Errorf("the write of row %s heard %v", code, heard)
			}
		}
		for _, i := range shards {
			if got := r.value(i, "SELECT name FROM countries WHERE code = '"+code+"'"); got != want {
				t.Errorf("shard s%d has %q of the row %s that came late, want %q", i, got, code, want)
			}
		}
	}
	next := func(name string) {
		t.Helper()
		r.reshard("cutover")
		r.reshard("finish")
	}

	// The write itself is on its way. Its transaction has begun, and the shard joins behind it.
	caught := home.hold("'on its way'")
	heard := late("INSERT INTO countries VALUES ('on its way', 'late')")
	<-caught
	done := join("s1")
	over := func() bool {
		select {
		case <-done:
			return true
		default:
			return strings.Contains(r.said(), "has written to reference tables and is still in its transaction")
		}
	}
	eventually(t, patience, func() string {
		if over() {
			return ""
		}
		return "the job says " + r.said()
	})
	home.open()
	err = <-heard
	r.try(err)
	joined(done)
	copies("on its way", err, 0, 1)
	next("s1")

	// The proxy is cut off when it has just asked to write, and the others go on without it when its lease is over.
	caught = home.hold("current_setting('transaction_isolation'), pg_catalog.pg_advisory_xact_lock")
	heard = late("INSERT INTO countries VALUES ('cut off', 'late')")
	<-caught
	control.close()
	joined(join("s2"))
	home.open()
	eventually(t, patience, func() string { // the proxy has not heard of the new shard yet
		if r.value(0, "SELECT count(*) FROM countries WHERE code = 'cut off'") != "0" {
			return ""
		}
		clients := r.rows(far.url("pgtier"), "SHOW CLIENTS")
		if slices.ContainsFunc(clients, func(row []string) bool { return slices.Contains(row, "app") && slices.Contains(row, "waiting") }) {
			return ""
		}
		return fmt.Sprintf("the write neither is through nor waits: %q", clients)
	})
	control.open()
	copies("cut off", <-heard, 0, 1, 2) // the proxy may hear of the new shard before it has its lease again
	next("s2")
	r.leftovers()
	r.sane()
}

// said is what the job says of itself.
func (r *rig) said() string {
	_, out := r.command(r.ctx(), "reshard", "status")
	return out
}
