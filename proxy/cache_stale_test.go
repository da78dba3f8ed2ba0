package proxy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/session"
	"pgtier/proxy/wire"
)

// TestLastAnswersWaitForNobody stops servers. The proxy would wait for one for longer than the test lasts; a read that has been answered before is answered at once,
// and fresh when they are back, though nobody has waited for them.
func TestLastAnswersWaitForNobody(t *testing.T) {
	t.Parallel()
	patient := func(d *proxy.Database) {
		d.Cache.StaleOnError, d.Failover.Wait = 10*limit, 10*limit
		d.Pool.ServerDownWait, d.Pool.WaitTimeout = 10*limit, 10*limit
	}
	check := func(t *testing.T, p *running, stale func() uint64, manager *localpg.Server, sql, want string) {
		t.Helper()
		c := p.client(t)
		modes := cacheModes[:len(cacheModes)-1] // the last asks a server first what the columns are
		for _, mode := range modes {
			for range 2 {
				var got string
				if err := c.QueryRow(bounded(t), sql, mode).Scan(&got); err != nil || got != want {
					t.Fatalf("by %v: %s, %v", mode, got, err)
				}
			}
		}
		later := p.client(t)
		if err := manager.Kill(); err != nil {
			t.Fatal(err)
		}
		for _, who := range []struct {
			*pgx.Conn
			modes []pgx.QueryExecMode
		}{{c, modes}, {later, modes[:2]}} { // who finds out, and who comes later: what it would have to prepare first only a server can say
			for _, mode := range who.modes {
				var got string
				before := stale()
				eventually(t, "the answer is not proved any more", func() bool {
					p.flush()
					if err := who.QueryRow(bounded(t), sql, mode).Scan(&got); err != nil || got != want {
						t.Fatalf("by %v: %s, %v", mode, got, err)
					}
					return stale() > before
				})
			}
		}
		if err := manager.Start(bounded(t)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a server is asked again", func() bool {
			p.flush()
			before := stale()
			got, err := value(c, sql)
			return err == nil && got == want && stale() == before
		})
	}
	t.Run("one server", func(t *testing.T) {
		t.Parallel()
		cluster := pgtest.Start(t, localpg.Options{})
		r := &rig{cluster: cluster, manager: cluster.Shards[0].Manager}
		r.database = pgtest.Database(t, r.manager)
		p, kept := r.keeps(t, onDatabase(patient))
		check(t, p, kept.Stale.Load, r.manager, "SELECT name FROM items WHERE id = 1", "item 1")
	})
	t.Run("shards", func(t *testing.T) {
		t.Parallel()
		s := newKeptShards(t, &localpg.Options{Shards: 2, Settings: map[string]string{"max_prepared_transactions": "20"}}, 0, onDatabase(patient))
		stale := func() (n uint64) {
			for _, c := range s.p.CachesOf(s.database) {
				n += c.Stale.Load()
			}
			return n
		}
		check(t, s.p, stale, s.cluster.Shards[1].Manager, "SELECT count(*)::text FROM regs", fmt.Sprint(keptKeys))
		check(t, s.p, stale, s.cluster.Shards[1].Manager, fmt.Sprintf("SELECT v::text FROM regs WHERE id = %d", s.key(t, 1, 0)), "0")
	})
	t.Run("a manager whose replica is down", func(t *testing.T) {
		t.Parallel()
		c := newCrew(t, 1, nil)
		pgtest.Exec(t, c.manager, c.database, "CREATE TABLE items (id bigint PRIMARY KEY, name text); INSERT INTO items VALUES (1, 'item 1')")
		p := c.serve(t, func(d *proxy.Database) {
			patient(d)
			d.Cache.Enabled, d.Cache.MaxDelay, d.Reads.Consistency = true, 0, "strong"
		})
		p.client(t)
		if err := p.ReadCatalog(bounded(t), p.database); err != nil {
			t.Fatal(err)
		}
		if err := c.shard.Replicas[0].Stop(localpg.Immediate); err != nil { // it could be asked
			t.Fatal(err)
		}
		check(t, p, p.cache(t).Stale.Load, c.manager, "SELECT name FROM items WHERE id = 1", "item 1")
	})
}

// TestReplicasAreAskedBeforeLastAnswersAreGiven stops the manager. A read that its replica may serve is served there.
func TestReplicasAreAskedBeforeLastAnswersAreGiven(t *testing.T) {
	t.Parallel()
	c := newCrew(t, 1, nil)
	pgtest.Exec(t, c.manager, c.database, "CREATE TABLE items (id bigint PRIMARY KEY, name text); INSERT INTO items VALUES (1, 'item 1')")
	if err := c.shard.CatchUp(t.Context()); err != nil {
		t.Fatal(err)
	}
	p := c.serve(t, func(d *proxy.Database) {
		d.Cache.Enabled, d.Cache.MaxDelay, d.Cache.StaleOnError, d.Reads.Consistency = true, 0, time.Hour, "eventual"
	})
	reader := p.client(t)
	if err := p.ReadCatalog(bounded(t), p.database); err != nil {
		t.Fatal(err)
	}
	const sql = "SELECT name FROM items WHERE id = 1"
	kept := p.cache(t)
	eventually(t, "it is answered from memory, and by the replica", func() bool {
		hits := kept.Hits.Load()
		wantValue(t, reader, sql, "item 1")
		if kept.Hits.Load() == hits {
			return false
		}
		p.flush()
		wantValue(t, reader, sql, "item 1")
		return strings.Contains(mustValue(t, reader, "SHOW pgtier.last_route"), "replica")
	})
	if err := c.manager.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the manager is lost", func() bool { return p.ViewOf(p.database).Manager < 0 })
	for range 20 {
		p.flush()
		wantValue(t, reader, sql, "item 1")
	}
	if n := kept.Stale.Load(); n > 0 {
		t.Errorf("%d answers of before while the replica is there", n)
	}
}

// TestOnlyReadsOfTheCacheDoNotWait has a session that was answered from memory ask for something else while the server is away for a moment: that waits for it.
func TestOnlyReadsOfTheCacheDoNotWait(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t, localpg.Options{})
	r := &rig{cluster: cluster, manager: cluster.Shards[0].Manager}
	r.database = pgtest.Database(t, r.manager)
	p, kept := r.keeps(t, onDatabase(func(d *proxy.Database) { d.Cache.StaleOnError = time.Hour }))
	const read = "SELECT name FROM items WHERE id = 1"
	flush := wire.AppendEmpty(wire.AppendExecute(wire.AppendBindText(wire.AppendParse(nil, "", []byte("SELECT 5"), nil), "", nil)), wire.MsgFlush)
	asks := map[string]func(*rawClient){
		"a write":          func(c *rawClient) { c.write(t, wire.AppendQuery(nil, "UPDATE items SET price = 1 WHERE id = 2")) },
		"a read":           func(c *rawClient) { c.write(t, wire.AppendQuery(nil, "SELECT name FROM items WHERE id = 2")) },
		"SQL PREPARE":      func(c *rawClient) { c.write(t, wire.AppendQuery(nil, "PREPARE p AS SELECT 5")) },
		"SQL EXECUTE":      func(c *rawClient) { c.write(t, wire.AppendQuery(nil, "EXECUTE made")) },
		"SET":              func(c *rawClient) { c.write(t, wire.AppendQuery(nil, "SET work_mem = '5MB'; SELECT 1")) },
		"BEGIN":            func(c *rawClient) { c.write(t, wire.AppendQuery(nil, "BEGIN; "+read+"; COMMIT")) },
		"messages ahead":   func(c *rawClient) { c.write(t, flush) },
		"pinned from here": func(c *rawClient) { c.write(t, wire.AppendQuery(nil, "CREATE TEMP TABLE own (id int)")) },
	}
	clients := map[string]*rawClient{}
	for name := range asks {
		c := p.rawDial(t, wire.Protocol30)
		if err := c.round(wire.AppendQuery(nil, "PREPARE made AS SELECT 5")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "hit", func() bool {
			hits := kept.Hits.Load()
			if err := c.round(wire.AppendQuery(nil, read)); err != nil {
				t.Fatal(err)
			}
			return kept.Hits.Load() > hits
		})
		clients[name] = c
	}
	later := p.client(t)
	if err := r.manager.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no connection can be opened", func() bool {
		p.flush()
		wantValue(t, later, read, "item 1")
		return kept.Stale.Load() > 0
	})
	for name, ask := range asks {
		ask(clients[name])
	}
	eventually(t, "all wait", func() bool {
		waiting := 0
		for _, s := range p.Sessions() {
			if s.Info().State == session.StateWaiting {
				waiting++
			}
		}
		return waiting == len(asks)
	})
	if err := r.manager.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	for name, c := range clients {
		if name == "messages ahead" { // what was waited for stands in front of the Sync
			c.write(t, wire.AppendSync(nil))
		}
		if got, err := c.told(limit); err != nil || strings.Contains(got, "E:") {
			t.Errorf("%s: %s, %v", name, got, err)
		}
	}
}

// flush ends all answers: the next read of each asks a server.
func (p *running) flush() {
	for _, c := range p.CachesOf(p.database) {
		c.Flush()
	}
}
