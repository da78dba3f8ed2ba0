package proxy_test

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/wire"
	"pgtier/router/balance"
)

// A read that was under way when a reload brought other replicas raises what its session must see, as one over a connection
// of its own does.
func TestAReloadDuringAReadTakesNothingBack(t *testing.T) {
	t.Parallel()
	for name, before := range map[string]func(*crew, *proxy.Database){
		"the first replica": func(_ *crew, d *proxy.Database) { d.Shards[0].Replicas = nil },
		"another fleet":     func(_ *crew, d *proxy.Database) { d.Reads.Consistency, d.Reads.MaxLag = "manager", time.Hour },
	} {
		for way, enabled := range map[string]bool{"by itself": false, "in a pipeline": true} {
			t.Run(name+" "+way, func(t *testing.T) {
				c := newCrew(t, 1, nil)
				pgtest.Exec(t, c.manager, c.database, "CREATE TABLE gate AS SELECT 1 AS n; CREATE TABLE t (v int)")
				edit := func(d *proxy.Database) {
					d.Pool.Pipeline.Enabled, d.Pool.Pipeline.Slow, d.Reads.MaxLag = enabled, time.Hour, 0
				}
				p := c.start(t, c.config(t, func(d *proxy.Database) { edit(d); before(c, d) }), proxy.WithEagerPipelines())
				p.readsCatalog(t)
				reader := p.rawDial(t, wire.Protocol30)
				ask := wire.AppendQuery(nil, "SELECT (SELECT count(*) FROM t) FROM gate") // of what is there when gate is free
				if enabled {
					reader.travels(t, p)
				}
				locker := c.direct(t)
				end := hold(t, locker)
				mustValue(t, locker, "LOCK TABLE gate IN ACCESS EXCLUSIVE MODE")
				if enabled {
					reader.pipes(t, p, ask)
				} else {
					reader.write(t, ask)
				}
				eventually(t, "the read waits", func() bool { return c.connections(t, "wait_event_type = 'Lock'") == "1" })
				if err := p.Reload(c.config(t, edit)); err != nil {
					t.Fatal(err)
				}
				replicaReads := func(sql string) {
					t.Helper()
					route := ""
					defer func() { t.Logf("%s: %s", sql, route) }()
					eventually(t, "a new session's read goes to the replica", func() bool {
						probe := p.client(t)
						defer probe.Close(context.Background())
						mustValue(t, probe, sql)
						route = mustValue(t, probe, "SHOW pgtier.last_route")
						return strings.HasPrefix(route, "replica")
					})
				}
				replicaReads("SELECT 1")
				pgtest.Exec(t, c.shard.Replicas[0], "postgres", "SELECT pg_wal_replay_pause()")
				defer pgtest.Exec(t, c.shard.Replicas[0], "postgres", "SELECT pg_wal_replay_resume()")
				eventually(t, "replay is paused", func() bool {
					return pgtest.Value(t, c.shard.Replicas[0], "postgres", "SELECT pg_get_wal_replay_pause_state()") == "paused"
				})
				pgtest.Exec(t, c.manager, c.database, "INSERT INTO t VALUES (1)")
				end()
				reader.wantTold(t, "T D:1 C Z")
				replicaReads("SELECT count(*) FROM t") // once the catalog is known again
				for i := range 5 {
					reader.write(t, wire.AppendQuery(nil, "SELECT count(*) FROM t"))
					if got, err := reader.told(limit); got != "T D:1 C Z" {
						t.Fatalf("read %d after the one that saw a row: %q, %v", i, got, err)
					}
				}
			})
		}
	}
}

// That a replica's pool is busy says nothing against the replica.
func TestABusyPoolEjectsNoReplica(t *testing.T) {
	t.Parallel()
	for way, enabled := range map[string]bool{"by itself": false, "in pipelines": true} {
		t.Run(way, func(t *testing.T) {
			c, p := settledCrew(t, 2, "CREATE TABLE t AS SELECT 1 AS v", func(d *proxy.Database) {
				d.Pool.Size, d.Pool.Pipeline.Enabled, d.Reads.Consistency = 4, enabled, "eventual"
			}, proxy.WithEagerPipelines())
			for i := 0; i < 8; { // both replicas' pools are full
				conn := p.client(t)
				mustValue(t, conn, "BEGIN READ ONLY")
				mustValue(t, conn, "SELECT v FROM t")
				i++
			}
			eventually(t, "transactions hold all connections of the replicas", func() bool { return p.Lent() >= 8 })
			ended := make(chan struct{})
			var readers sync.WaitGroup
			var reads atomic.Int64
			defer readers.Wait()
			defer close(ended)
			for range 6 {
				conn := p.client(t)
				readers.Go(func() { // ends with ended
					for {
						select {
						case <-ended:
							return
						default:
						}
						if _, err := value(conn, "SELECT v FROM t"); err != nil {
							t.Error(err)
							return
						}
						reads.Add(1)
					}
				})
			}
			eventually(t, "the manager has served 48 reads, each after waits for both replicas", func() bool {
				v := p.ViewOf(c.database)
				for i := range v.Hosts {
					if h := &v.Hosts[i]; h.State != balance.Up {
						t.Fatalf("a healthy replica is %s: %s", h.State, h.Reason)
					}
				}
				return reads.Load() >= 48 || t.Failed()
			})
		})
	}
}
