package proxy_test

import (
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
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
		if err := manager.Kill(); err != nil {
			t.Fatal(err)
		}
		for _, c := range []*pgx.Conn{c, c} { // who finds out, and who comes later
			for _, mode := range modes {
				var got string
				before := stale()
				eventually(t, "the answer is not proved any more", func() bool {
					p.flush()
					if err := c.QueryRow(bounded(t), sql, mode).Scan(&got); err != nil || got != want {
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
			wantValue(t, c, sql, want)
			return stale() == before
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
	t.Run("a manager without its replica", func(t *testing.T) {
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
		check(t, p, p.cache(t).Stale.Load, c.manager, "SELECT name FROM items WHERE id = 1", "item 1")
	})
}

// flush ends all answers: the next read of each asks a server.
func (p *running) flush() {
	for _, c := range p.CachesOf(p.database) {
		c.Flush()
	}
}
