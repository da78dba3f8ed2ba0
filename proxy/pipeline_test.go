package proxy_test

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/pool"
	"pgtier/proxy/wire"
	"pgtier/router"
)

// eager starts a proxy in which every read that may share a pipeline does.
func (r *rig) eager(t testing.TB, edit func(*pool.Config)) *running {
	t.Helper()
	cfg := r.config(t, pools(edit))
	cfg.TLS.Client = r.clientTLS("prefer")
	started := r.startLogged(t, cfg, zaptest.NewLogger(t, zaptest.Level(zap.InfoLevel)), proxy.WithEagerPipelines())
	started.readsCatalog(t) // which proves the reads
	return started
}

// asker is a client that knows what each of its questions must be answered.
type asker struct {
	c    *pgx.Conn
	mode pgx.QueryExecMode
	rng  *rand.Rand
	asks atomic.Int64
	// failed is set where the last question was one that ends with an error.
	failed bool
}

// ask puts one question whose answer nobody else gets.
func (a *asker) ask(ctx context.Context, n int) error {
	defer a.asks.Add(1)
	which := a.rng.IntN(20)
	a.failed = which == 0
	switch which {
	case 0: // an error of its own
		var got int
		err := a.c.QueryRow(ctx, "SELECT 1000 / ($1::int - $1::int)", a.mode, n).Scan(&got)
		var pgErr *pgconn.PgError
		if !errors.As(err, &pgErr) || pgErr.Code != "22012" {
			return fmt.Errorf("a division by zero ends with %d, %w", got, err)
		}
		return nil
	case 1: // a long answer
		var got string
		if err := a.c.QueryRow(ctx, "SELECT repeat($1::text, 3000)", a.mode, strconv.Itoa(n)).Scan(&got); err != nil || got != strings.Repeat(strconv.Itoa(n), 3000) {
			return fmt.Errorf("repeat of %d: %d bytes, %w", n, len(got), err)
		}
		return nil
	case 2: // many rows
		rows, err := a.c.Query(ctx, "SELECT g + $1::int FROM generate_series(1, 50) g", a.mode, n)
		if err != nil {
			return err
		}
		got, err := pgx.CollectRows(rows, pgx.RowTo[int])
		if err != nil || len(got) != 50 || got[0] != n+1 || got[49] != n+50 {
			return fmt.Errorf("50 rows from %d: %v, %w", n+1, got, err)
		}
		return nil
	}
	var got int
	if err := a.c.QueryRow(ctx, "SELECT $1::int", a.mode, n).Scan(&got); err != nil || got != n {
		return fmt.Errorf("asked for %d, got %d, %w", n, got, err)
	}
	return nil
}

// lostItsServer reports whether err is what a client hears whose server connection was ended while it worked.
func lostItsServer(err error) bool {
	var pgErr *pgconn.PgError
	return errors.As(err, &pgErr) && (pgErr.Code == "57P01" || pgErr.Code == "08006")
}

// untilTravels asks c a question until it has travelled in a pipeline.
func (p *running) untilTravels(t testing.TB, c *pgx.Conn) {
	t.Helper()
	before := p.piped()
	eventually(t, "a request travels in a pipeline", func() bool {
		mustValue(t, c, "SELECT 1")
		return p.piped() > before
	})
}

// TestEveryClientOfAPipelineGetsItsOwnAnswers runs clients of all protocols over few server connections, with errors, long
// answers and slow statements among them, while server connections are terminated and statements cancelled.
func TestEveryClientOfAPipelineGetsItsOwnAnswers(t *testing.T) {
	r := newRig(t)
	p := r.eager(t, func(c *pool.Config) { c.Size = 8 })
	const clients, questions = 24, 150
	modes := []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe}
	var all sync.WaitGroup
	for i := range clients {
		tls := "sslmode=" + []string{"disable", "require"}[i/len(modes)%2]
		a := &asker{c: p.client(t, tls), mode: modes[i%len(modes)], rng: rand.New(rand.NewPCG(1, uint64(i)))}
		all.Go(func() {
			for q := range questions {
				ctx, stop := context.WithTimeout(context.Background(), limit)
				err := a.ask(ctx, i*1_000_000+q)
				stop()
				// Terminated in the middle of an answer. The driver tells of the first error only, which may be the expected one.
				if lostItsServer(err) || err == nil && a.failed && a.c.IsClosed() {
					a.c = p.client(t, tls)
					continue
				}
				if err != nil {
					t.Errorf("client %d, question %d, seed (1, %d): %v", i, q, i, err)
					return
				}
			}
		})
	}
	ended := make(chan struct{})
	var disturbers sync.WaitGroup
	disturbers.Go(func() { // ends with ended
		for {
			select {
			case <-ended:
				return
			case <-time.After(30 * time.Millisecond):
				pgtest.Exec(t, r.manager, r.database, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND state = 'idle' ORDER BY random() LIMIT 1")
			}
		}
	})
	all.Wait()
	close(ended)
	disturbers.Wait()
	st := p.Pipelines(r.database)
	t.Logf("%d requests in %d batches, %d sent again, %d evicted", st.Requests, st.Batches, st.SentAgain, st.Evicted)
	if st.Requests < clients*questions/4 {
		t.Errorf("%d of %d questions travelled in pipelines", st.Requests, clients*questions)
	}
	if st.SentAgain == 0 {
		t.Error("no error was sent again over a connection of its own")
	}
}

func TestACancelInAPipelineReachesItsOwnStatementOnly(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE locked (n int); CREATE TABLE free AS SELECT 7 AS n")
	p := r.eager(t, func(c *pool.Config) { c.Size, c.Pipeline.Lanes, c.Pipeline.Slow = 4, 1, time.Hour })
	// A statement that is proved to read only and yet waits: for a lock that nobody else's reads want.
	locker := p.client(t)
	victim, neighbour := p.client(t), p.client(t)
	p.untilTravels(t, victim)
	mustValue(t, locker, "BEGIN; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE; SELECT 1")
	before := p.Pipelines(r.database).Requests
	ctx, cancel := context.WithCancel(context.Background())
	stuck := make(chan error, 1)
	go func() { // ends with the cancel
		_, err := victim.Exec(ctx, "SELECT n FROM locked", pgx.QueryExecModeSimpleProtocol)
		stuck <- err
	}()
	eventually(t, "the statement waits in a pipeline", func() bool { return p.Pipelines(r.database).Requests > before })
	got := later(neighbour, "SELECT n FROM free")
	if err := victim.PgConn().CancelRequest(context.Background()); err != nil {
		t.Fatal(err)
	}
	var pgErr *pgconn.PgError
	select {
	case err := <-stuck:
		if !errors.As(err, &pgErr) || pgErr.Code != "57014" {
			t.Errorf("the cancelled statement ends with %v", err)
		}
	case <-time.After(limit):
		t.Fatal("the cancel does nothing")
	}
	cancel()
	mustValue(t, locker, "ROLLBACK")
	if got := mustValue(t, victim, "SELECT 5"); got != "5" {
		t.Errorf("after its cancel the client is answered %q", got)
	}
	if err := <-got; err != nil {
		t.Errorf("the neighbour of a cancelled statement: %v", err)
	}
}

func TestASlowHeadDoesNotHoldUpThoseBehindIt(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE locked (n int); CREATE TABLE free AS SELECT 7 AS n")
	p := r.eager(t, func(c *pool.Config) { c.Size, c.Pipeline.Lanes = 4, 1 })
	locker, head := p.client(t), p.client(t)
	p.untilTravels(t, head)
	mustValue(t, locker, "BEGIN; LOCK TABLE locked IN ACCESS EXCLUSIVE MODE; SELECT 1")
	before := p.Pipelines(r.database).Requests
	stuck := later(head, "SELECT n FROM locked")
	eventually(t, "the statement waits in a pipeline", func() bool { return p.Pipelines(r.database).Requests > before })
	for range 3 {
		c := p.client(t)
		if got := mustValue(t, c, "SELECT n FROM free"); got != "7" {
			t.Errorf("behind a slow statement: %s", got)
		}
	}
	mustValue(t, locker, "ROLLBACK")
	if err := <-stuck; err != nil {
		t.Errorf("the slow statement: %v", err)
	}
}

func TestAClientThatDoesNotReadStopsNobody(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE wide AS SELECT repeat('x', 200000) AS body")
	for _, name := range []string{"plain", "TLS"} {
		t.Run(name, func(t *testing.T) {
			p := r.eager(t, func(c *pool.Config) {
				c.Size, c.Pipeline.Lanes, c.Pipeline.MaxResult, c.Pipeline.Slow = 4, 1, 1<<20, time.Hour
			})
			warm := p.client(t)
			p.untilTravels(t, warm)
			nc, err := dialTCP(p.address)
			if err != nil {
				t.Fatal(err)
			}
			defer nc.Close()
			if name == "TLS" {
				nc = mustTLS(t, nc)
			}
			deaf, err := rawLogin(nc, wire.Protocol30, []wire.Param{{Name: "user", Value: "postgres"}, {Name: "database", Value: p.database}})
			if err != nil {
				t.Fatal(err)
			}
			before := p.Pipelines(p.database).Requests
			asked := 0
			for range 60 { // 12 MB that nobody takes, one at a time as a client that waits for each would
				if _, err := deaf.nc.Write(wire.AppendQuery(nil, "SELECT body FROM wide")); err != nil {
					t.Fatal(err)
				}
				asked++
				if got := mustValue(t, warm, fmt.Sprintf("SELECT %d", asked)); got != strconv.Itoa(asked) {
					t.Errorf("beside a client that does not read: %s", got)
				}
			}
			if travelled := p.Pipelines(p.database).Requests - before; travelled <= uint64(asked) {
				t.Errorf("%d requests travelled in pipelines, none of the client's that does not read", travelled)
			}
			for range asked {
				if err := deaf.ready(); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestReadsOnReplicasSharePipelines has clients read over pipelines to two replicas, behind writes of their own.
func TestReadsOnReplicasSharePipelines(t *testing.T) {
	t.Parallel()
	c, p := settledCrew(t, 2, "CREATE TABLE counters AS SELECT k, 0 AS n FROM generate_series(0, 7) k", func(d *proxy.Database) {
		d.Pool.Pipeline.Slow = time.Minute // of a busy machine's
	}, proxy.WithEagerPipelines())
	var all sync.WaitGroup
	for i := range 8 {
		client := p.client(t)
		all.Go(func() {
			for n := 1; n <= 30; n++ {
				if _, err := client.Exec(bounded(t), "UPDATE counters SET n = $1 WHERE k = $2", n, i); err != nil {
					t.Error(err)
					return
				}
				for range 20 {
					var got int
					if err := client.QueryRow(bounded(t), "SELECT n FROM counters WHERE k = $1", i).Scan(&got); err != nil || got != n {
						t.Errorf("client %d wrote %d and reads %d, %v", i, n, got, err)
						return
					}
				}
			}
		})
	}
	all.Wait()
	st := p.Pipelines(c.database)
	routes := &p.SharedOf(c.database).Stats.Routes
	t.Logf("%d requests in %d batches; %d turns by replicas", st.Requests, st.Batches, routes[router.ToReplica].Load())
	if st.Requests < 100 || routes[router.ToReplica].Load() < 100 {
		t.Error("few reads shared pipelines, or few went to replicas")
	}
	if n := p.InFlight(c.database); n != 0 {
		t.Errorf("%d requests are under way when all are answered", n)
	}
}

// mustTLS asks for TLS and begins it, believing any certificate.
func mustTLS(t testing.TB, nc net.Conn) net.Conn {
	t.Helper()
	_ = nc.SetDeadline(time.Now().Add(limit))
	if _, err := nc.Write(wire.AppendSSLRequest(nil)); err != nil {
		t.Fatal(err)
	}
	var answer [1]byte
	if _, err := nc.Read(answer[:]); err != nil || answer[0] != 'S' {
		t.Fatalf("answer to SSLRequest: %q, %v", answer, err)
	}
	c := tls.Client(nc, &tls.Config{InsecureSkipVerify: true})
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	return c
}
