package proxy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
)

// retaken has two shards with a replica each, whose managers have one connection for both clients. The settings of one are replayed in a round trip of their own, which can
// be made to lose the connection.
type retaken struct {
	*spread
	p        *running
	wires    [2]*tripwire
	c, other *pgx.Conn
	ids      [2]int // of an account of each shard
}

func newRetaken(t *testing.T) *retaken {
	t.Helper()
	r := &retaken{}
	cluster := pgtest.Start(t, localpg.Options{Shards: 2, Replicas: 1, Settings: map[string]string{"max_prepared_transactions": "20"}})
	for _, m := range managers(cluster) {
		pgtest.Exec(t, m, "postgres", "CREATE DATABASE bank")
	}
	r.spread, r.p = spreadOver(t, cluster, "bank", func(cfg *proxy.Config) {
		onDatabase(func(d *proxy.Database) {
			d.Pool.Size = 1
			for i, shard := range cluster.Shards {
				at := d.Shards[i].Manager
				at.Port = uint16(shard.Replicas[0].Port)
				d.Shards[i].Replicas = []proxy.Replica{{URL: at, Weight: 1}}
				r.wires[i] = &tripwire{to: shard.Manager.Address(), word: "vacuum_cost_limit"}
				r.wires[i].tripped.Store(true)
				d.Shards[i].Manager.Port = r.wires[i].port(t)
			}
		})(cfg)
	})
	r.ids[0], r.ids[1] = r.apart(t)
	r.c, r.other = r.p.client(t), r.p.client(t)
	mustExec(t, r.c, "SET vacuum_cost_limit = 77")
	mustExec(t, r.other, "SET pgtier.consistency = 'manager'")
	return r
}

// takes has the other client use the connection to a shard's manager, which is lost when c is next given it.
func (r *retaken) takes(t *testing.T, shard int) {
	t.Helper()
	mustValue(t, r.other, balanceOf(r.ids[shard]))
	r.wires[shard].tripped.Store(false)
}

// retakes has c run sql, at first over a connection that is lost.
func (r *retaken) retakes(t *testing.T, shard int, sql string) {
	t.Helper()
	mustExec(t, r.c, sql)
	if !r.wires[shard].tripped.Load() {
		t.Fatalf("%s: no connection was lost, and the test proves nothing", sql)
	}
}

// TestTurnsThatTakeAnotherConnectionAreNotForgotten loses the connection that a turn was given before it ran there: what it does on the next one is followed all the same.
func TestTurnsThatTakeAnotherConnectionAreNotForgotten(t *testing.T) {
	t.Parallel()
	r := newRetaken(t)
	c, other := r.c, r.other
	shows := func(t *testing.T, want string) {
		t.Helper()
		wantValue(t, c, "SHOW work_mem", want)
		for _, id := range r.ids {
			wantValue(t, other, fmt.Sprintf("SELECT current_setting('work_mem') FROM accounts WHERE id = %d", id), "4MB")
		}
	}
	t.Run("settings", func(t *testing.T) {
		r.takes(t, 0)
		r.retakes(t, 0, "SET work_mem = '7MB'")
		shows(t, "7MB")
	})
	t.Run("settings of a transaction that goes to another shard", func(t *testing.T) {
		r.takes(t, 1)
		mustExec(t, c, "BEGIN")
		mustExec(t, c, "SET work_mem = '8MB'")
		mustExec(t, c, fmt.Sprintf("UPDATE accounts SET balance = 1 WHERE id = %d", r.ids[0]))
		r.retakes(t, 1, fmt.Sprintf("UPDATE accounts SET balance = 1 WHERE id = %d", r.ids[1]))
		mustExec(t, c, "COMMIT")
		shows(t, "8MB")
	})
	t.Run("writes", func(t *testing.T) {
		reader := r.p.client(t)
		mustExec(t, reader, "SET pgtier.consistency = 'strong'")
		if err := r.cluster.Shards[1].CatchUp(bounded(t)); err != nil {
			t.Fatal(err)
		}
		r.replays(t, 1, false)
		defer r.replays(t, 1, true)
		eventually(t, "strong reads go to the replica", func() bool {
			mustValue(t, reader, balanceOf(r.ids[1]))
			return strings.Contains(mustValue(t, reader, "SHOW pgtier.last_route"), "replica s1-r1")
		})
		r.takes(t, 1)
		r.retakes(t, 1, fmt.Sprintf("UPDATE accounts SET balance = 5 WHERE id = %d", r.ids[1]))
		wantValue(t, reader, balanceOf(r.ids[1]), "5")
	})
	t.Run("LISTEN", func(t *testing.T) {
		r.takes(t, 0)
		r.retakes(t, 0, "LISTEN news")
		mustExec(t, other, "NOTIFY news, 'one'")
		if n, err := c.WaitForNotification(bounded(t)); err != nil || n.Payload != "one" {
			t.Errorf("heard %+v, %v", n, err)
		}
	})
	t.Run("functions", func(t *testing.T) {
		mustExec(t, c, "CREATE FUNCTION later() RETURNS int LANGUAGE sql AS 'SELECT 1'")
		if err := r.p.SharedOf(r.p.database).Hazards.Wait(bounded(t)); err != nil {
			t.Fatal(err)
		}
		mustExec(t, other, "SELECT later()")
		r.takes(t, 0)
		r.retakes(t, 0, "CREATE OR REPLACE FUNCTION later() RETURNS int LANGUAGE sql AS 'SELECT 1 FROM pg_advisory_lock(4)'")
		if _, err := value(other, "SELECT later()"); sqlstate(err) != "0A000" {
			t.Errorf("the lock that it takes is on a connection that others are given: %v", err)
		}
	})
}
