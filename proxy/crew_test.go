package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/router/balance"
)

// crew is a shard with replicas that one test has for itself, and a database on it.
type crew struct {
	*rig
	shard *localpg.Shard
}

// newCrew starts a manager with replicas.
func newCrew(t testing.TB, replicas int, settings map[string]string) *crew {
	t.Helper()
	cluster := pgtest.Start(t, localpg.Options{Replicas: replicas, Settings: settings})
	c := &crew{rig: &rig{cluster: cluster, manager: cluster.Shards[0].Manager, database: "crew"}, shard: cluster.Shards[0]}
	pgtest.Exec(t, c.manager, "postgres", "CREATE DATABASE crew")
	return c
}

// settledCrew starts a manager with replicas, runs sql there, and has a proxy serve it whose reads go to each replica; edit
// changes the database's part.
func settledCrew(t testing.TB, replicas int, sql string, edit func(*proxy.Database), options ...proxy.Option) (*crew, *running) {
	t.Helper()
	c := newCrew(t, replicas, nil)
	if sql != "" {
		pgtest.Exec(t, c.manager, c.database, sql)
	}
	p := c.start(t, c.config(t, edit), options...)
	c.settle(t, p)
	return c, p
}

// all are the servers in the order of fleet.View's hosts.
func (c *crew) all() []*localpg.Server {
	return append([]*localpg.Server{c.shard.Manager}, c.shard.Replicas...)
}

// serve starts a proxy over the manager and all replicas; edit changes the database's part.
func (c *crew) serve(t testing.TB, edit func(*proxy.Database)) *running {
	t.Helper()
	return c.start(t, c.config(t, edit))
}

func (c *crew) config(t testing.TB, edit func(*proxy.Database)) proxy.Config {
	t.Helper()
	cfg := c.rig.config(t, nil)
	d := cfg.Databases[c.database]
	for _, s := range c.shard.Replicas {
		at := d.Shards[0].Manager
		at.Port = uint16(s.Port)
		d.Shards[0].Replicas = append(d.Shards[0].Replicas, proxy.Replica{URL: at, Weight: 1})
	}
	if edit != nil {
		edit(&d)
	}
	cfg.Databases[c.database] = d
	return cfg
}

// awaitStandby makes commits on the manager wait for a standby of that name; "" for none.
func (c *crew) awaitStandby(t testing.TB, name string) {
	t.Helper()
	for _, sql := range []string{"ALTER SYSTEM SET synchronous_standby_names = '" + name + "'", "SELECT pg_reload_conf()"} {
		pgtest.Exec(t, c.manager, "postgres", sql)
	}
	eventually(t, "the manager has read its settings", func() bool {
		return pgtest.Value(t, c.manager, "postgres", "SHOW synchronous_standby_names") == name
	})
}

// commitWaits reports whether a commit on the manager waits for a standby.
func (c *crew) commitWaits(t testing.TB) (waits bool) {
	t.Helper()
	conn, err := pgx.Connect(bounded(t), c.manager.URL("postgres", "", ""))
	if err != nil {
		t.Fatal(err)
	}
	committed := later(conn, "SELECT pg_logical_emit_message(true, '', 'a commit')")
	eventually(t, "a commit is over or waits", func() bool {
		select {
		case <-committed:
			return true
		default:
		}
		waits = pgtest.Value(t, c.manager, "postgres", fmt.Sprintf("SELECT count(*) FROM pg_stat_activity WHERE pid = %d AND wait_event = 'SyncRep'", conn.PgConn().PID())) != "0"
		return waits
	})
	if waits {
		pgtest.Exec(t, c.manager, "postgres", fmt.Sprintf("SELECT pg_cancel_backend(%d)", conn.PgConn().PID()))
		<-committed
	}
	_ = conn.Close(context.Background())
	return waits
}

// settle waits until all replicas show what the manager does and the proxy sends reads to each of them.
func (c *crew) settle(t testing.TB, p *running) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), limit)
	defer stop()
	if err := c.shard.CatchUp(ctx); err != nil {
		t.Fatal(err)
	}
	p.client(t) // the first client begins the watch
	p.usable(t, len(c.shard.Replicas))
	probe := p.client(t)
	eventually(t, "a read goes to a replica", func() bool {
		mustValue(t, probe, "SELECT 1")
		return strings.HasPrefix(mustValue(t, probe, "SHOW pgtier.last_route"), "replica")
	})
}

// usable waits until n replicas are up in the proxy's view.
func (p *running) usable(t testing.TB, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d replicas are up", n), func() bool {
		v, up := p.ViewOf(p.database), 0
		for i := range v.Hosts {
			if i != v.Manager && v.Hosts[i].State == balance.Up {
				up++
			}
		}
		return v.Manager >= 0 && up == n
	})
}

// marks numbers statements, so that each is found in the log of the server that ran it.
var marks atomic.Int64

// ran lists the servers whose log (log_statement = all) holds mark.
func (c *crew) ran(t testing.TB, mark string) (names []string) {
	t.Helper()
	for _, s := range c.all() {
		log, err := os.ReadFile(s.LogFile)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(log, []byte(mark)) {
			role := "replica"
			if s == c.shard.Manager {
				role = "manager"
			}
			names = append(names, role)
		}
	}
	return names
}
