package wiretest

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/pool"
)

// A server that fails does so below this many clients on so many connections.
const (
	faultClients     = 20
	faultConnections = 5
	faultLimit       = 600 * time.Millisecond // of queries, waits and cancels where a test sets them
	// frozenAnswer is the query's limit, the cancel's, the wait for its effect, a last
	// cancel of up to two seconds before the connection is given up, and a second to spare.
	frozenAnswer = 3*faultLimit + 3*time.Second
)

// newOwnRig is a rig whose server the test may break.
func newOwnRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{manager: pgtest.Start(t, localpg.Options{Auth: "trust"}).Shards[0].Manager}
	r.prepare(t)
	return r
}

// limited is a proxy whose clients do not wait long for a server.
func (r *rig) limited(size int, query time.Duration) proxy.Config {
	cfg := r.config(r.manager.Address(), pool.ModeTransaction, size)
	cfg.Pool.LoginRetry = 50 * time.Millisecond
	cfg.Pool.QueryTimeout, cfg.Pool.WaitTimeout, cfg.Pool.ServerDownWait = query, faultLimit, faultLimit
	cfg.Pool.CancelWaitTimeout = faultLimit
	d := cfg.Databases[database]
	d.Pool = cfg.Pool
	cfg.Databases[database] = d
	return cfg
}

// writer is a client that notes which of its rows were committed.
type writer struct {
	number   int
	peer     *peer
	tried    int
	accepted []int
}

// work writes rows and reads them back until something fails, and returns the
// last answer if that was an error message.
func (w *writer) work(progress *atomic.Int64) (told string, err error) {
	for {
		w.tried++
		row := fmt.Sprintf("%d, '%d'", w.number, w.tried)
		for _, step := range []struct {
			request []byte
			ends    int
			want    string
		}{
			{queryMessage("SELECT " + row + ", pg_sleep(0.002)"), 1, fmt.Sprintf("DataRow \"%d\" \"%d\" \"\"\n", w.number, w.tried)},
			{append(append(parseMessage("", "SELECT "+row), runMessage("")...), syncMessage()...), 1, fmt.Sprintf("DataRow \"%d\" \"%d\"\n", w.number, w.tried)},
			{append(append(queryMessage("BEGIN"), queryMessage("INSERT INTO sink VALUES ("+row+") RETURNING id, name")...), queryMessage("COMMIT")...), 3,
				fmt.Sprintf("DataRow \"%d\" \"%d\"\n", w.number, w.tried)},
		} {
			if err := w.peer.write(step.request); err != nil {
				return "", err
			}
			frames, err := w.peer.readUntil("Z", step.ends)
			for _, f := range frames {
				if f[0] == 'D' && render(f)+"\n" != step.want {
					return "", fmt.Errorf("wrong answer %s to client %d", render(f), w.number)
				}
				if f[0] == 'E' {
					told = render(f)
				}
			}
			if told != "" || err != nil {
				return told, err
			}
			if !strings.Contains(lines(frames), step.want) {
				return "", fmt.Errorf("an answer without its row: %s", lines(frames))
			}
		}
		w.accepted = append(w.accepted, w.tried)
		progress.Add(1)
	}
}

// isLoss tells whether a client may hear this when its server is gone.
func isLoss(told string, err error) bool {
	if told == "" {
		return err != nil && !isTimeout(err) && !strings.Contains(err.Error(), "answer")
	}
	return strings.Contains(told, `C="08`) || strings.Contains(told, `C="57P`)
}

func TestAKilledServerGivesErrorsAndLosesNothingThatWasAcknowledged(t *testing.T) {
	r := newOwnRig(t)
	_, address := start(t, r.limited(faultConnections, 0))
	writers := make([]*writer, faultClients)
	var all sync.WaitGroup
	var progress atomic.Int64
	for i := range writers {
		w := &writer{number: i, peer: connect(t, address)}
		writers[i] = w
		all.Go(func() { // ends when the server is gone
			told, err := w.work(&progress)
			if !isLoss(told, err) {
				t.Errorf("client %d heard %q, %v; want an error of class 08 or 57P", i, told, err)
			}
		})
	}
	eventually(t, "all clients are at work", func() bool { return progress.Load() > 3*faultClients })
	if err := r.manager.Kill(); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	r.restart(t)
	late := connect(t, address)
	eventually(t, "the proxy serves again", func() bool {
		got, err := late.value("SELECT 'again'")
		return err == nil && got == "again"
	})
	for _, w := range writers {
		if got, err := w.value(address, t); err != nil || got != fmt.Sprint(w.number) {
			t.Errorf("after the restart client %d got %q, %v", w.number, got, err)
		}
		for _, row := range w.accepted {
			if got := pgtest.Value(t, r.manager, database, fmt.Sprintf("SELECT count(*) FROM sink WHERE id = %d AND name = '%d'", w.number, row)); got != "1" {
				t.Errorf("client %d was told that row %d is committed, the server has it %s times", w.number, row, got)
			}
		}
	}
	r.atRest(t)
}

// value asks for the writer's number, on a new connection if the old one was ended.
func (w *writer) value(address string, t *testing.T) (string, error) {
	ask := func() (string, error) { return w.peer.value(fmt.Sprint("SELECT ", w.number)) }
	got, err := ask()
	if err != nil && !strings.HasPrefix(err.Error(), "ErrorResponse") {
		w.peer = connect(t, address)
		return ask()
	}
	return got, err
}

// restart brings a killed server back.
func (r *rig) restart(t *testing.T) {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), 5*stepLimit)
	defer stop()
	if err := r.manager.Start(ctx); err != nil {
		t.Fatal(err)
	}
}

func TestAFrozenServerIsWaitedForNoLongerThanTheLimits(t *testing.T) {
	r := newOwnRig(t)
	_, address := start(t, r.limited(2, faultLimit))
	peers := make([]*peer, 6)
	for i := range peers {
		peers[i] = connect(t, address)
		if _, err := peers[i].value("SELECT 1"); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.manager.Pause(); err != nil {
		t.Fatal(err)
	}
	frozen := time.Now()
	var all sync.WaitGroup
	var heard [6]string
	for i, p := range peers {
		all.Go(func() {
			_ = p.write(queryMessage("SELECT 'thawed'"))
			frames, err := p.readUntil("E", 1)
			heard[i] = fmt.Sprint(lines(frames), err)
		})
	}
	all.Wait()
	if took := time.Since(frozen); took > frozenAnswer {
		t.Errorf("clients of a frozen server were answered after %s", took)
	}
	time.Sleep(time.Until(frozen.Add(2 * time.Second))) // how long the server is frozen at least
	if err := r.manager.Continue(); err != nil {
		t.Fatal(err)
	}
	for i, h := range heard {
		if !strings.Contains(h, `C="57014"`) && !strings.Contains(h, `C="57P03"`) {
			t.Errorf("client %d of the frozen server heard %s; want 57014 or 57P03", i, h)
		}
	}
	eventually(t, "the proxy serves again", func() bool {
		p := connect(t, address)
		defer p.close()
		got, err := p.value("SELECT 'thawed again'")
		return err == nil && got == "thawed again"
	})
	r.checkUntouched(t, address, "after the server was frozen")
	r.atRest(t)
}

// restedEnough is longer than a connection may rest without being looked at.
const restedEnough = 1300 * time.Millisecond

func TestATerminatedBackendEndsItsTransactionAndNothingElse(t *testing.T) {
	r := newRig(t)
	p, address := start(t, r.config(r.manager.Address(), pool.ModeTransaction, 2))
	victim, other := connect(t, address), connect(t, address)
	if _, err := other.ask("BEGIN; INSERT INTO sink VALUES (2, 'kept')"); err != nil {
		t.Fatal(err)
	}
	if _, err := victim.ask("BEGIN; INSERT INTO sink VALUES (1, 'lost')"); err != nil {
		t.Fatal(err)
	}
	pid, err := victim.value("SELECT pg_backend_pid()")
	if err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, r.manager, "postgres", "SELECT pg_terminate_backend("+pid+")")
	_ = victim.write(queryMessage("SELECT 'still there'"))
	frames, err := victim.readUntil("close", 1)
	if got := lines(frames); err != nil || !strings.HasPrefix(got, `ErrorResponse V="FATAL" C="57P01"`) || len(frames) != 1 {
		t.Errorf("the client whose backend was terminated in a transaction got %v\n%s, want FATAL and the end", err, got)
	}
	if got, err := other.value("COMMIT; SELECT string_agg(name, ',') FROM sink"); err != nil || got != "kept" {
		t.Errorf("another client finds %q, %v; want its own row alone", got, err)
	}
	eventually(t, "the session is over", func() bool { return len(p.Sessions()) == 1 })
	rested := time.Now()
	pgtest.Exec(t, r.manager, "postgres", "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = 'app'")
	time.Sleep(time.Until(rested.Add(restedEnough))) // only connections at rest for so long are looked at before they are lent
	if got, err := other.value("SELECT 'on another'"); err != nil || got != "on another" {
		t.Fatalf("a client whose idle server connection was terminated got %q, %v", got, err)
	}
	if err := other.write(queryMessage("SELECT pg_terminate_backend(pg_backend_pid())")); err != nil {
		t.Fatal(err)
	}
	if frames, err = other.readUntil("close", 1); err != nil || strings.Count(lines(frames), "ErrorResponse") != 1 || !strings.Contains(lines(frames), `C="57P01"`) {
		t.Errorf("a client that terminated its own backend got %v\n%s, want 57P01", err, lines(frames))
	}
	pgtest.Exec(t, r.manager, database, "TRUNCATE sink")
	r.checkUntouched(t, address, "after terminated backends")
	r.atRest(t)
}

// TestAConnectionThatEndedWhileItRestedIsReplacedForWhatCannotBeSentAgain: messages that come with Flush, and PREPARE
// and EXECUTE.
func TestAConnectionThatEndedWhileItRestedIsReplacedForWhatCannotBeSentAgain(t *testing.T) {
	r := newRig(t)
	_, address := start(t, r.config(r.manager.Address(), pool.ModeTransaction, 1))
	p := connect(t, address)
	run := func(what string, request []byte, end string) {
		t.Helper()
		if err := p.write(request); err != nil {
			t.Fatal(what, err)
		}
		frames, err := p.readUntil(end, 1)
		if err != nil || strings.Contains(lines(frames), "ErrorResponse") {
			t.Fatalf("%s: %v\n%s", what, err, lines(frames))
		}
	}
	for _, what := range []string{"PREPARE p AS SELECT 1", "EXECUTE p", "flush"} {
		run("a pool that is in use", queryMessage("SELECT 1"), "Z")
		pgtest.Exec(t, r.manager, "postgres", "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = 'app' AND application_name NOT LIKE 'pgtier%'")
		if what == "flush" {
			run(what, append(parseMessage("", "SELECT 1"), frameOf('H', nil)...), "1")
			run(what, append(runMessage(""), syncMessage()...), "Z")
			continue
		}
		run(what, queryMessage(what), "Z")
	}
}
