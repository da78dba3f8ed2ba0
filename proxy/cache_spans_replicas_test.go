package proxy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/wire"
	"pgtier/router"
)

// replayed pauses or resumes what a replica replays.
func (s *spread) replays(t testing.TB, shard int, on bool) {
	t.Helper()
	replica, act := s.cluster.Shards[shard].Replicas[0], map[bool]string{false: "pause", true: "resume"}[on]
	pgtest.Exec(t, replica, "postgres", "SELECT pg_wal_replay_"+act+"()")
	if !on {
		eventually(t, "the replica stands still", func() bool {
			return pgtest.Value(t, replica, "postgres", "SELECT pg_get_wal_replay_pause_state()") == "paused"
		})
	}
}

// newKeptCrew is newSpreadCrew whose answers are kept.
func newKeptCrew(t *testing.T) (s *spread, p *running, hits func() uint64) {
	s, p = newSpreadCrew(t, func(d *proxy.Database) { d.Cache.Enabled, d.Cache.MaxDelay = true, 0 })
	for _, kept := range p.CachesOf(s.database) {
		eventually(t, "the cache serves", func() bool { return kept.Away() == 0 })
	}
	return s, p, func() (n uint64) {
		for _, c := range p.CachesOf(s.database) {
			n += c.Hits.Load()
		}
		return n
	}
}

// TestSpansOfAReplicaThatIsBehindAreNotKept has one of the replicas that answer a read of all shards stand still.
func TestSpansOfAReplicaThatIsBehindAreNotKept(t *testing.T) {
	t.Parallel()
	s, p, hits := newKeptCrew(t)
	_, b := s.apart(t)
	const sql = "SELECT sum(balance) FROM accounts"
	writer, late, fresh := p.client(t), p.client(t), p.client(t)
	mustExec(t, late, "SET pgtier.consistency = 'eventual'")
	mustExec(t, fresh, "SET pgtier.consistency = 'strong'")
	for i := range s.cluster.Shards {
		if s.on(t, i, fmt.Sprintf("SELECT count(*) FROM accounts WHERE id = %d", b)) == "1" {
			s.replays(t, i, false)
			defer s.replays(t, i, true)
		}
	}
	mustExec(t, writer, fmt.Sprintf("UPDATE accounts SET balance = 0 WHERE id = %d", b))
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec} {
		behind := false
		for range 20 {
			var got int
			if err := late.QueryRow(bounded(t), sql, mode).Scan(&got); err != nil {
				t.Fatal(err)
			}
			behind = behind || got == 3000
			if err := fresh.QueryRow(bounded(t), sql, mode).Scan(&got); err != nil || got != 2900 {
				t.Fatalf("by %v: got %d, %v behind the write", mode, got, err)
			}
			mustExec(t, writer, fmt.Sprintf("UPDATE accounts SET balance = 0 WHERE id = %d", b)) // ends what strong readers have left
		}
		t.Logf("by %v: read behind: %v, hits %d, by replicas %d", mode, behind, hits(), p.SharedOf(p.database).Stats.Routes[router.ToReplica].Load())
		if !behind && mode == pgx.QueryExecModeSimpleProtocol {
			t.Error("no replica that is behind was asked, and the test proves nothing")
		}
	}
}

// TestSpansOfAReplicaAndAManagerAreKept has one shard answer by its replica and the other by its manager: that is nothing a client has to be told of in each answer.
func TestSpansOfAReplicaAndAManagerAreKept(t *testing.T) {
	t.Parallel()
	s, p, hits := newKeptCrew(t)
	if err := s.cluster.Shards[0].Replicas[0].Stop(localpg.Immediate); err != nil {
		t.Fatal(err)
	}
	c := p.rawDial(t, wire.Protocol30)
	c.wantQuery(t, "SET pgtier.consistency = 'eventual'", "SET I")
	byReplicas := &p.SharedOf(p.database).Stats.Routes[router.ToReplica]
	asked, mixed := 0, 0
	eventually(t, "one shard answers by its replica, the other by its manager", func() bool {
		before := byReplicas.Load()
		asked++
		c.write(t, wire.AppendQuery(nil, fmt.Sprintf("SELECT sum(balance) + %d FROM accounts", asked)))
		c.wantTold(t, fmt.Sprintf("T D:%d C Z", 3000+asked))
		if byReplicas.Load() == before+1 {
			mixed++
			if route := c.lastRoute(t); !strings.Contains(route, "replica s1-r1") {
				t.Errorf("the last route is %q", route)
			}
		}
		return t.Failed() || mixed == 20
	})
	before := hits()
	eventually(t, "the answer is kept", func() bool {
		c.write(t, wire.AppendQuery(nil, "SELECT sum(balance) FROM accounts"))
		c.wantTold(t, "T D:3000 C Z")
		return t.Failed() || hits() > before
	})
	t.Logf("%d of %d reads were mixed", mixed, asked)
}

// TestWhoIsGivenASpanHasSeenEachShard gives an answer of all shards to a session, which must not read from replicas that are behind it then.
func TestWhoIsGivenASpanHasSeenEachShard(t *testing.T) {
	t.Parallel()
	s, p, hits := newKeptCrew(t)
	a, b := s.apart(t)
	const sql = "SELECT sum(balance) FROM accounts"
	for i := range s.cluster.Shards {
		s.replays(t, i, false)
		defer s.replays(t, i, true)
	}
	writer, given := p.client(t), p.client(t)
	mustExec(t, given, "SET pgtier.consistency = 'session'")
	read := func(c *pgx.Conn, id int) string {
		return mustValue(t, c, fmt.Sprintf("/* pgtier: cache=off */ SELECT balance FROM accounts WHERE id = %d", id))
	}
	mustExec(t, writer, fmt.Sprintf("UPDATE accounts SET balance = 0 WHERE id IN (%d, %d)", a, b))
	for _, id := range []int{a, b} {
		c := p.client(t)
		if got := read(c, id); got != "100" {
			t.Fatalf("a session that has seen nothing reads %s by %s, and the test proves nothing", got, mustValue(t, c, "SHOW pgtier.last_route"))
		}
	}
	eventually(t, "the writer's answer is kept", func() bool {
		before := hits()
		return mustValue(t, writer, sql) == "2800" && hits() > before
	})
	before := hits()
	if got := mustValue(t, given, sql); got != "2800" || hits() == before {
		t.Fatalf("got %s with %d hits: the test proves nothing", got, hits()-before)
	}
	if route := mustValue(t, given, "SHOW pgtier.last_route"); !strings.Contains(route, "s0, s1") {
		t.Errorf("last route %q", route)
	}
	for _, id := range []int{a, b} {
		if got := read(given, id); got != "0" {
			t.Errorf("it has seen the write to %d, and then reads %s by %s", id, got, mustValue(t, given, "SHOW pgtier.last_route"))
		}
	}
}
