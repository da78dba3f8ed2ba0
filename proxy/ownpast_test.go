package proxy_test

import (
	"bytes"
	"context"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/cache"
	"pgtier/proxy/wire"
	"pgtier/router"
	"pgtier/router/balance"
)

// The database of these tests is of level eventual, and asks for another by a hint: SET would go to the manager, which shows
// the session what no replica does.
const (
	readStrong   = "/* pgtier: consistency=strong */ SELECT v FROM t"
	readSession  = "/* pgtier: consistency=session */ SELECT v FROM t"
	readEventual = "/* pgtier: consistency=eventual */ SELECT v FROM t"
)

// readsOnReplica makes a session that has read want at level strong from a replica, and has asked the manager nothing.
func (p *running) readsOnReplica(t *testing.T, want string) (c *pgx.Conn) {
	t.Helper()
	served := &p.SharedOf(p.database).Stats.Routes[router.ToReplica]
	eventually(t, "a replica serves a strong read", func() bool {
		c = p.client(t)
		before := served.Load()
		wantValue(t, c, readStrong, want)
		return served.Load() == before+1
	})
	return c
}

// loses kills a replica, which is host i of fleet.View, and waits until the proxy knows.
func (p *running) loses(t *testing.T, s *localpg.Server, i int) {
	t.Helper()
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the replica is known to be away", func() bool { return p.ViewOf(p.database).Hosts[i].State < balance.Lagging })
}

// replayedTo has the only replica replay all that there is, and begin there after a crash.
func (c *crew) replayedTo(t *testing.T) {
	t.Helper()
	pgtest.Exec(t, c.manager, c.database, "CHECKPOINT")
	if err := c.shard.CatchUp(bounded(t)); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, c.shard.Replicas[0], "postgres", "CHECKPOINT")
}

// fallsBack crashes the only replica, which comes back with what it had at replayedTo: t.v is 0 there.
func (c *crew) fallsBack(t *testing.T, p *running) {
	t.Helper()
	replica := c.shard.Replicas[0]
	// In force from its start on: it stops before the first commit.
	pgtest.Exec(t, replica, "postgres", "ALTER SYSTEM SET recovery_min_apply_delay = '1h'")
	p.loses(t, replica, 1)
	if err := replica.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if v := pgtest.Value(t, replica, c.database, "SELECT v FROM t"); v != "0" {
		t.Fatalf("the replica came back with %s, want the older 0", v)
	}
	p.usable(t, 1)
}

// TestAnEventualReadForgetsNothing: a session reads from one replica, then at level eventual from another that has not come as
// far. What it read first still binds what it reads next.
func TestAnEventualReadForgetsNothing(t *testing.T) {
	t.Parallel()
	c, p := settledCrew(t, 2, "CREATE TABLE t (v int); INSERT INTO t VALUES (0)", func(d *proxy.Database) {
		d.Reads.Consistency, d.Reads.MaxLag = "eventual", 0
	}, proxy.WithEagerPipelines())
	behind, ahead := c.shard.Replicas[0], c.shard.Replicas[1]
	writer := p.client(t)
	requests := func() uint64 { return p.Pipelines(p.database).Requests }
	for name, eventual := range map[string]struct {
		ask   ask
		piped bool
	}{
		"simple":                {simple(readEventual), false},
		"extended":              {extended(pgx.QueryExecModeExec, readEventual), false},
		"READ ONLY transaction": {simple("BEGIN READ ONLY", "SELECT v FROM t", "COMMIT"), false},
		"in a pipeline":         {simple("SELECT v FROM t"), true},
	} {
		t.Run(name, func(t *testing.T) {
			if err := c.shard.CatchUp(bounded(t)); err != nil {
				t.Fatal(err)
			}
			pgtest.Exec(t, behind, "postgres", "SELECT pg_wal_replay_pause()")
			defer pgtest.Exec(t, behind, "postgres", "SELECT pg_wal_replay_resume()")
			fresh := mustValue(t, writer, "UPDATE t SET v = v + 1 RETURNING v")
			readers := []*pgx.Conn{p.readsOnReplica(t, fresh)}
			for eventual.piped && len(readers) < 10 { // a pipeline may close before it is joined
				readers = append(readers, p.readsOnReplica(t, fresh))
			}
			p.loses(t, ahead, 2)
			defer func() {
				if err := ahead.Start(context.Background()); err != nil {
					t.Error(err)
				}
				p.usable(t, 2)
			}()
			for _, reader := range readers {
				if eventual.piped {
					warm := p.client(t)
					eventually(t, "a pipeline is open", func() bool {
						before := requests()
						mustValue(t, warm, "SELECT v FROM t")
						return requests() > before
					})
				}
				before := requests()
				stale, err := eventual.ask(bounded(t), reader, "")
				if err != nil {
					t.Fatal(err)
				}
				if piped := requests() > before; piped != eventual.piped {
					continue
				}
				if strings.HasPrefix(stale, fresh+";") {
					t.Fatalf("the eventual read shows %s, so the replica that is behind did not serve it", stale)
				}
				wantValue(t, reader, readSession, fresh)
				return
			}
			t.Fatal("no eventual read took the way that it should")
		})
	}
}

// TestAnEventualReadOfACrashedReplicaForgetsNothing: the replica that the session has read from crashes and comes back with
// an older state. An eventual read of that does not make the session content with it.
func TestAnEventualReadOfACrashedReplicaForgetsNothing(t *testing.T) {
	t.Parallel()
	c, p := settledCrew(t, 1, "CREATE TABLE t (v int); INSERT INTO t VALUES (0)", func(d *proxy.Database) {
		d.Reads.Consistency, d.Reads.MaxLag = "eventual", 0
	})
	c.replayedTo(t)
	mustValue(t, p.client(t), "UPDATE t SET v = 1")
	reader := p.readsOnReplica(t, "1")
	c.fallsBack(t, p)
	wantValue(t, reader, readEventual, "0")
	wantValue(t, reader, readSession, "1")
}

// keeper is a TCP forwarder that keeps back what the server sends over the connection which brings a word, until it is let go:
// beyond the end of the server, too.
type keeper struct {
	to, word string
	answered chan struct{} // closed when there is something kept back
	letGo    chan struct{} // closed by the test
	once     sync.Once
}

// port starts it and returns the port to connect to.
func (k *keeper) port(t testing.TB) uint16 {
	t.Helper()
	return forward(t, k.to, func() bool { return true }, func(in, out net.Conn) {
		var keeps atomic.Bool
		go k.forth(in, out, &keeps) // ends with the client
		go k.back(in, out, &keeps)  // ends with the server
	})
}

func (k *keeper) forth(in, out net.Conn, keeps *atomic.Bool) {
	defer out.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := in.Read(buf)
		if bytes.Contains(buf[:n], []byte(k.word)) {
			keeps.Store(true)
		}
		if _, failed := out.Write(buf[:n]); err != nil || failed != nil {
			return
		}
	}
}

func (k *keeper) back(in, out net.Conn, keeps *atomic.Bool) {
	defer in.Close()
	buf := make([]byte, 64<<10)
	for {
		n, err := out.Read(buf)
		if keeps.Load() {
			k.once.Do(func() { close(k.answered) })
			<-k.letGo
		}
		if _, failed := in.Write(buf[:n]); err != nil || failed != nil {
			return
		}
	}
}

// lastRoute is where the client's last statement went.
func (c *rawClient) lastRoute(t testing.TB) string {
	t.Helper()
	return c.heard(t, wire.AppendQuery(nil, "SHOW pgtier.last_route"), 1)
}

// TestALateAnswerSaysNothingOfNow: a replica's answer comes to the proxy after the replica has crashed and come back with an
// older state. A connection that was made in between is to the older state, and must not be taken for the one before.
func TestALateAnswerSaysNothingOfNow(t *testing.T) {
	t.Parallel()
	for way, piped := range map[string]bool{"by itself": false, "in a pipeline": true} {
		t.Run(way, func(t *testing.T) {
			c := newCrew(t, 1, nil)
			pgtest.Exec(t, c.manager, c.database, "CREATE TABLE t (v int); INSERT INTO t VALUES (0)")
			k := &keeper{to: c.shard.Replicas[0].Address(), word: "kept back", answered: make(chan struct{}), letGo: make(chan struct{})}
			port := k.port(t)
			p := c.start(t, c.config(t, func(d *proxy.Database) {
				d.Shards[0].Replicas[0].URL.Port, d.Reads.MaxLag = port, 0
				d.Pool.Pipeline.Enabled, d.Pool.Pipeline.Slow = piped, time.Hour
			}), proxy.WithEagerPipelines())
			c.settle(t, p)
			c.replayedTo(t)
			var reader *rawClient
			eventually(t, "the session has read from the replica", func() bool {
				reader = p.rawDial(t, wire.Protocol30)
				return reader.heard(t, wire.AppendQuery(nil, "SELECT v FROM t"), 1) == "0 SELECT 1 I" && strings.HasPrefix(reader.lastRoute(t), "replica")
			})
			mustValue(t, p.client(t), "UPDATE t SET v = 1")
			if err := c.shard.CatchUp(bounded(t)); err != nil {
				t.Fatal(err)
			}
			ask := wire.AppendQuery(nil, "SELECT v FROM t /* kept back */")
			if piped {
				reader.travels(t, p)
				reader.pipes(t, p, ask)
			} else {
				reader.write(t, ask)
			}
			select {
			case <-k.answered:
			case <-time.After(limit):
				t.Fatal("the read did not go to the replica")
			}
			c.fallsBack(t, p)
			eventually(t, "there is a connection to the older state", func() bool { return mustValue(t, p.client(t), readEventual) == "0" })
			close(k.letGo)
			reader.wantTold(t, "T D:1 C Z")
			reader.write(t, wire.AppendQuery(nil, "SELECT v FROM t"))
			reader.wantTold(t, "T D:1 C Z")
			if route := reader.lastRoute(t); !strings.HasPrefix(route, "manager") {
				t.Errorf("the last route is %q", route)
			}
		})
	}
}

// TestReplicasThatAReloadBringsHaveTheirManagersPast: sessions have written and read while the database had no replica. One
// that a reload brings, and that has not come as far, shows them nothing older.
func TestReplicasThatAReloadBringsHaveTheirManagersPast(t *testing.T) {
	t.Parallel()
	c := newCrew(t, 1, nil)
	pgtest.Exec(t, c.manager, c.database, "CREATE TABLE t (v int); INSERT INTO t VALUES (0)")
	lags := func(d *proxy.Database) { d.Reads.MaxLag = 0 }
	alone := func(d *proxy.Database) { lags(d); d.Shards[0].Replicas = nil }
	replica := c.shard.Replicas[0]
	for name, had := range map[string]bool{"the first": false, "one once more": true} {
		t.Run(name, func(t *testing.T) {
			p := c.start(t, c.config(t, alone))
			reload := func(edit func(*proxy.Database)) {
				t.Helper()
				if err := p.Reload(c.config(t, edit)); err != nil {
					t.Fatal(err)
				}
			}
			if had {
				reload(lags)
				c.settle(t, p)
				reload(alone)
			}
			if err := c.shard.CatchUp(bounded(t)); err != nil {
				t.Fatal(err)
			}
			pgtest.Exec(t, replica, "postgres", "SELECT pg_wal_replay_pause()")
			defer pgtest.Exec(t, replica, "postgres", "SELECT pg_wal_replay_resume()")
			writer, reader, later := p.client(t), p.client(t), p.client(t)
			fresh := mustValue(t, writer, "UPDATE t SET v = v + 1 RETURNING v")
			wantValue(t, reader, "SELECT v FROM t", fresh)
			reload(lags)
			eventually(t, "the replica serves an eventual read", func() bool { return mustValue(t, p.client(t), readEventual) != fresh })
			wantValue(t, writer, readSession, fresh)
			wantValue(t, reader, readSession, fresh)
			wantValue(t, later, readStrong, fresh)
		})
	}
}

// TestATransactionThatAReloadFindsOpenIsNoted: it wrote while the database had no replica, and commits when it has one.
func TestATransactionThatAReloadFindsOpenIsNoted(t *testing.T) {
	t.Parallel()
	c := newCrew(t, 1, nil)
	pgtest.Exec(t, c.manager, c.database, "CREATE TABLE t (v int); INSERT INTO t VALUES (0)")
	lags := func(d *proxy.Database) { d.Reads.MaxLag = 0 }
	p := c.start(t, c.config(t, func(d *proxy.Database) { lags(d); d.Shards[0].Replicas = nil }))
	p.readsCatalog(t) // until it is, reads count as writes
	open := p.client(t)
	mustValue(t, open, "BEGIN")
	mustValue(t, open, "UPDATE t SET v = 1")
	if err := p.Reload(c.config(t, lags)); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, c.manager, c.database, "CREATE TABLE beside ()") // flushes what the open transaction has written
	c.settle(t, p)
	p.readsOnReplica(t, "0")
	pgtest.Exec(t, c.shard.Replicas[0], "postgres", "SELECT pg_wal_replay_pause()")
	mustValue(t, open, "COMMIT")
	wantValue(t, p.client(t), readStrong, "1")
}

// TestAnAnswerKeptFromAReplicaHasWhatNobodyTold: a write past the proxy while it does not follow the log is told by nobody. The
// answer of a replica that does not have it is not kept for sessions that have seen it on the manager.
func TestAnAnswerKeptFromAReplicaHasWhatNobodyTold(t *testing.T) {
	t.Parallel()
	c, p := settledCrew(t, 1, "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 0)", func(d *proxy.Database) {
		d.Cache.Enabled, d.Reads.MaxLag = true, 0
	})
	kept := p.cache(t)
	writer := c.direct(t)
	mustValue(t, writer, "BEGIN")
	mustValue(t, writer, "UPDATE t SET v = 1") // the next slot waits for its end, and does not decode it
	if err := c.shard.CatchUp(bounded(t)); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, c.shard.Replicas[0], "postgres", "SELECT pg_wal_replay_pause()")
	pgtest.Exec(t, c.manager, c.database, "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_type = 'logical'")
	eventually(t, "the log is not followed", func() bool { return kept.Away()&cache.Unfollowed != 0 })
	mustValue(t, writer, "COMMIT")
	p.cache(t) // once it is again
	for stale := 0; stale < 10; stale++ {
		wantValue(t, p.client(t), "SELECT v FROM t", "0")
	}
	reader := p.client(t)
	wantValue(t, reader, "/* pgtier: consistency=manager */ SELECT v FROM t", "1")
	wantValue(t, reader, "SELECT v FROM t", "1")
	t.Logf("%d answers were kept, %d served", kept.Kept.Load(), kept.Hits.Load())
}
