package stream

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
)

// childVariable holds a childConfig for a process that applies and is killed.
const childVariable = "PGTIER_TEST_STREAM_CHILD"

type childConfig struct {
	Source, Target, Stream string // URLs, and the name of slot, publication and origin
	Layout                 Layout
}

// applyAsChild applies until the process is killed.
func applyAsChild() {
	var c childConfig
	if err := json.Unmarshal([]byte(os.Getenv(childVariable)), &c); err != nil {
		panic(err)
	}
	server := func(name, url string) Server {
		config, err := pgconn.ParseConfig(url)
		if err != nil {
			panic(err)
		}
		return Server{Name: name, Dial: func(ctx context.Context, params map[string]string) (*pgconn.PgConn, error) {
			return Connect(ctx, config, params)
		}}
	}
	a := NewApplier(ApplyConfig{Source: server("source", c.Source), Target: server("target", c.Target), Slot: c.Stream, Publication: c.Stream, Origin: c.Stream,
		Layout: c.Layout, Durable: 20 * time.Millisecond})
	for {
		fmt.Fprintln(os.Stderr, "child:", a.Run(context.Background()))
		time.Sleep(10 * time.Millisecond)
	}
}

// fault is something that breaks a stream at a random moment.
type fault struct {
	name string
	do   func(t *testing.T, p *pair)
}

func faults() []fault {
	terminate := func(s *side, where string) {
		s.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND " + where)
	}
	restart := func(t *testing.T, s *side) {
		must(t, s.server.Kill())
		must(t, s.server.Start(contextFor(t)))
	}
	return []fault{
		{"the target's process ends", func(_ *testing.T, p *pair) { terminate(p.target, "application_name = '"+applicationName+"'") }},
		{"the source's process ends", func(_ *testing.T, p *pair) { terminate(p.source, "backend_type = 'walsender'") }},
		{"the target is killed", func(t *testing.T, p *pair) { restart(t, p.target) }},
		{"the source is killed", func(t *testing.T, p *pair) { restart(t, p.source) }},
		{"all connections are cut", func(_ *testing.T, p *pair) {
			for _, s := range []*side{p.source, p.target} {
				s.mu.Lock()
				for _, conn := range s.conns {
					_ = conn.Conn().Close()
				}
				s.conns = nil
				s.mu.Unlock()
			}
		}},
		{"another process applies and is killed", func(t *testing.T, p *pair) {
			text, err := json.Marshal(childConfig{p.source.server.URL(p.source.database, "", ""), p.target.server.URL(p.target.database, "", ""), p.forward().Slot, p.layout})
			must(t, err)
			cmd := exec.Command(os.Args[0], "-test.run=^$")
			cmd.Env = append(os.Environ(), childVariable+"="+string(text))
			must(t, cmd.Start())
			terminate(p.target, "application_name = '"+applicationName+"'") // whoever is first has the origin
			time.Sleep(time.Duration(200+rand.IntN(400)) * time.Millisecond)
			must(t, cmd.Process.Kill())
			_ = cmd.Wait() // it was killed
		}},
	}
}

// awaitRows waits until the stream has applied something since it was called.
func awaitRows(t *testing.T, a *Applier) {
	before, ctx := a.Status().Rows, contextFor(t)
	for a.Status().Rows < before+10 {
		if ctx.Err() != nil {
			t.Fatalf("the stream stands still: %+v", a.Status())
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestNothingIsLostOrDoubledWhateverBreaks(t *testing.T) {
	cluster := pgtest.Start(t, localpg.Options{Shards: 2})
	p := newPairOn(t, cluster, schemaSQL, testLayout())
	p.fill(300)
	slot := p.prepare(p.forward())
	stop := p.load(p.source, 3, 1, 300)
	p.copy(slot)
	slot.Close()
	a, _, hopeless := run(t, p.forward())
	rounds := 3
	if testing.Short() {
		rounds = 1
	}
	for range rounds {
		for _, i := range rand.Perm(len(faults())) {
			f := faults()[i]
			// Mostly in the midst of work, at times while it attaches.
			if rand.IntN(4) > 0 {
				awaitRows(t, a)
			}
			time.Sleep(time.Duration(rand.IntN(200)) * time.Millisecond)
			t.Logf("%s, at %s", f.name, a.Status().Applied)
			f.do(t, p)
			select {
			case h := <-hopeless:
				t.Fatalf("after %s: %v", f.name, h)
			default:
			}
		}
		settled(t, a, hopeless)
	}
	if n := stop(); n < 100 {
		t.Errorf("only %d transactions were committed meanwhile", n)
	}
	settled(t, a, hopeless)
	p.same()
	v := p.verify(a.Barrier)
	if found, err := v.Run(contextFor(t)); err != nil || len(found) > 0 {
		t.Errorf("verify: %v, %v", found, err)
	}
}

// TestMarkerIsToldWhenRowsAreOnTheDisk kills the target as soon as a marker has come, and looks at it before the stream is attached again.
func TestMarkerIsToldWhenRowsAreOnTheDisk(t *testing.T) {
	// The server writes its log on its own account only every ten seconds.
	cluster := pgtest.Start(t, localpg.Options{Shards: 2, Settings: map[string]string{"wal_writer_delay": "10s", "wal_writer_flush_after": "1GB"}})
	p := newPairOn(t, cluster, schemaSQL, testLayout())
	p.copy(p.prepare(p.forward()))
	config := p.forward()
	config.Durable = time.Hour
	for i := range 3 {
		a, stop, _ := run(t, config)
		must(t, a.Barrier(contextFor(t)))
		p.source.exec(fmt.Sprintf("INSERT INTO countries SELECT 'round %d, ' || i FROM generate_series(1, 50) i", i))
		for ctx := contextFor(t); a.Status().Rows < 50; {
			if ctx.Err() != nil {
				t.Fatalf("nothing comes: %+v", a.Status())
			}
		}
		must(t, a.Barrier(contextFor(t)))
		if i > 0 { // with rows in its own transaction
			marker := NewMarker()
			p.source.exec(fmt.Sprintf("BEGIN; INSERT INTO countries VALUES ('with marker %d'); %s; COMMIT", i, EmitSQL(marker)))
			must(t, a.Await(contextFor(t), marker))
		}
		must(t, p.target.server.Kill())
		stop()
		must(t, p.target.server.Start(contextFor(t)))
		p.same()
	}
}

// TestServersThatDoNotAnswerAreLeft has servers that are frozen in the midst of work: who wants to stop can stop, and goes on when they are there again.
func TestServersThatDoNotAnswerAreLeft(t *testing.T) {
	cluster := pgtest.Start(t, localpg.Options{Shards: 2})
	p := newPairOn(t, cluster, schemaSQL, testLayout())
	p.fill(3000)
	slot := p.prepare(p.forward())
	tables := p.tables(p.source)
	for _, frozen := range []*side{p.source, p.target} {
		ctx, cancel := context.WithCancel(contextFor(t))
		freeze := sync.OnceFunc(func() {
			if err := frozen.server.Pause(); err != nil {
				t.Error(err)
			}
			time.AfterFunc(100*time.Millisecond, cancel)
		})
		c := &Copy{Source: p.source.Server, Target: p.target.Server, Tables: tables, Spans: p.spans, Snapshot: slot.Snapshot, Streams: 2,
			Throttle: func(context.Context, int) error { freeze(); return nil }}
		if err := c.Run(ctx); err == nil {
			t.Errorf("the copy has not noticed that %s is frozen", frozen.Name)
		}
		cancel()
		must(t, frozen.server.Continue())
		_, err := DeleteBuckets(contextFor(t), p.target.Server, tables, p.spans, nil)
		must(t, err)
	}
	p.copy(slot)
	for _, frozen := range []*side{p.source, p.target} {
		a, stop, _ := run(t, p.forward())
		must(t, a.Barrier(contextFor(t)))
		p.source.exec("UPDATE users SET name = name || '.'")
		must(t, frozen.server.Pause())
		time.Sleep(100 * time.Millisecond)
		stop() // returns
		must(t, frozen.server.Continue())
	}
	a, _, hopeless := run(t, p.forward())
	settled(t, a, hopeless)
	p.same()
}
