package proxy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/router"
)

// newSpreadCrew is newSpread with two shards that have a replica each.
func newSpreadCrew(t testing.TB, edit func(*proxy.Database)) (*spread, *running) {
	t.Helper()
	cluster := pgtest.Start(t, localpg.Options{Shards: 2, Replicas: 1, Settings: map[string]string{"max_prepared_transactions": "20"}})
	s := &spread{&rig{cluster: cluster, manager: cluster.Shards[0].Manager, database: "bank"}}
	for _, shard := range cluster.Shards {
		pgtest.Exec(t, shard.Manager, "postgres", "CREATE DATABASE bank")
		pgtest.Exec(t, shard.Manager, "bank", spreadSQL)
	}
	cfg := s.config(t)
	d := cfg.Databases[s.database]
	for i, shard := range cluster.Shards {
		at := d.Shards[i].Manager
		at.Port = uint16(shard.Replicas[0].Port)
		d.Shards[i].Replicas = []proxy.Replica{{URL: at, Weight: 1}}
	}
	if edit != nil {
		edit(&d)
	}
	cfg.Databases[s.database] = d
	p := s.start(t, cfg)
	c := p.client(t)
	for id := range 30 {
		mustExec(t, c, fmt.Sprintf("INSERT INTO accounts VALUES (%d, 'a%d', 100)", id, id%7))
	}
	for _, shard := range cluster.Shards {
		if err := shard.CatchUp(bounded(t)); err != nil {
			t.Fatal(err)
		}
	}
	return s, p
}

func TestReadsOfEachShardGoToItsReplicas(t *testing.T) {
	t.Parallel()
	s, p := newSpreadCrew(t, nil)
	c := p.client(t)
	for i := range s.cluster.Shards {
		id := s.on(t, i, "SELECT min(id) FROM accounts")
		eventually(t, "a read of the shard goes to its replica", func() bool {
			mustValue(t, c, "SELECT owner FROM accounts WHERE id = "+id)
			return strings.Contains(mustValue(t, c, "SHOW pgtier.last_route"), fmt.Sprintf("replica s%d-r1", i))
		})
		mustValue(t, c, "/* pgtier: consistency=manager */ SELECT owner FROM accounts WHERE id = "+id)
		if got, want := mustValue(t, c, "SHOW pgtier.last_route"), fmt.Sprintf("s%d: key accounts.id (one); manager s%d: consistency level manager", i, i); got != want {
			t.Errorf("a read of the manager went by %q, want %q", got, want)
		}
	}
	eventually(t, "a read of all shards goes to replicas", func() bool {
		before := p.SharedOf(p.database).Stats.Routes[router.ToReplica].Load()
		wantValue(t, c, "SELECT count(*) FROM accounts", "30")
		route := mustValue(t, c, "SHOW pgtier.last_route")
		return p.SharedOf(p.database).Stats.Routes[router.ToReplica].Load() == before+2 && strings.Contains(route, "s0-r1") && strings.Contains(route, "s1-r1")
	})
}

// TestReadsThatReplicasCancelGoToManagers has replicas replay what reads of all shards are in the way of.
func TestReadsThatReplicasCancelGoToManagers(t *testing.T) {
	t.Parallel()
	s, p := newSpreadCrew(t, nil)
	for _, shard := range s.cluster.Shards {
		pgtest.Exec(t, shard.Replicas[0], "postgres", "ALTER SYSTEM SET max_standby_streaming_delay = 0")
		pgtest.Exec(t, shard.Replicas[0], "postgres", "SELECT pg_reload_conf()")
	}
	repeated := &p.SharedOf(p.database).Stats.Repeated
	shard := s.cluster.Shards[1]
	const sql, more = "SELECT count(*) FROM accounts, generate_series(1, 1000000)", 1000000
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeCacheStatement} {
		c := p.client(t)
		before := repeated.Load()
		type answer struct {
			n   int
			err error
		}
		answered := make(chan answer, 1)
		go func() { // ends with the answer
			var a answer
			a.err = c.QueryRow(bounded(t), sql, mode).Scan(&a.n)
			answered <- a
		}()
		eventually(t, "the replica reads", func() bool {
			return pgtest.Value(t, shard.Replicas[0], "postgres", "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() AND query LIKE '%generate_series(1, 1%'") == "1"
		})
		pgtest.Exec(t, shard.Manager, s.database, "ALTER TABLE accounts ALTER COLUMN owner SET DEFAULT ''")
		if a := <-answered; a.err != nil || a.n != 30*more {
			t.Errorf("by %v: %d, %v", mode, a.n, a.err)
		}
		if got := repeated.Load() - before; got != 1 {
			t.Errorf("by %v: asked again %d times, want 1", mode, got)
		}
	}
}

func TestASessionSeesItsWritesOnEveryShard(t *testing.T) {
	t.Parallel()
	s, p := newSpreadCrew(t, nil)
	a, b := s.apart(t)
	c := p.client(t)
	for i := range 60 {
		mustExec(t, c, fmt.Sprintf("UPDATE accounts SET balance = %d WHERE id = %d", i, a))
		mustExec(t, c, fmt.Sprintf("UPDATE accounts SET balance = %d WHERE id = %d", 2*i, b))
		for _, id := range []int{a, b} {
			want := fmt.Sprint(i)
			if id == b {
				want = fmt.Sprint(2 * i)
			}
			wantValue(t, c, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", id), want)
		}
		mustExec(t, c, "BEGIN")
		mustExec(t, c, fmt.Sprintf("UPDATE accounts SET balance = balance + 1 WHERE id = %d", a))
		mustExec(t, c, fmt.Sprintf("UPDATE accounts SET balance = balance + 1 WHERE id = %d", b))
		mustExec(t, c, "COMMIT")
		wantValue(t, c, fmt.Sprintf("SELECT sum(balance) FROM accounts WHERE id IN (%d, %d)", a, b), fmt.Sprint(3*i+2))
	}
}

func TestAShardWhoseManagerIsLostGoesOnWithItsReplica(t *testing.T) {
	t.Parallel()
	s, p := newSpreadCrew(t, nil)
	a, b := s.apart(t)
	c := p.client(t)
	shard := s.cluster.Shards[1]
	if err := shard.Manager.Stop(localpg.Immediate); err != nil {
		t.Fatal(err)
	}
	mustExec(t, c, fmt.Sprintf("UPDATE accounts SET balance = 1 WHERE id = %d", a)) // the other shard does not wait
	pgtest.Exec(t, shard.Replicas[0], "postgres", "SELECT pg_promote()")
	wantValue(t, c, fmt.Sprintf("SELECT count(*) FROM accounts WHERE id = %d", b), "1") // a read is sent again, whatever was lost
	if tag := mustExec(t, c, fmt.Sprintf("UPDATE accounts SET balance = 2 WHERE id = %d", b)); tag != "UPDATE 1" {
		t.Errorf("tag %q", tag)
	}
	wantValue(t, c, fmt.Sprintf("SELECT sum(balance) FROM accounts WHERE id IN (%d, %d)", a, b), "3")
}

func TestNextIDIsNeverGivenTwice(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	c := p.client(t)
	seen := map[string]bool{}
	for range 5 {
		seen[mustValue(t, c, "SELECT pgtier.next_id()")] = true
		for i := range s.cluster.Shards {
			seen[s.on(t, i, "SELECT pgtier.next_id()")] = true
		}
	}
	if want := 5 * (1 + len(s.cluster.Shards)); len(seen) != want {
		t.Errorf("%d different numbers, want %d", len(seen), want)
	}
}
