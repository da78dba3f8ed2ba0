package proxy_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
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
