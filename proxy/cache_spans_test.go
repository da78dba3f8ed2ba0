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
	"pgtier/proxy/cache"
	"pgtier/proxy/shardmap"
	"pgtier/router/shard"
)

// sumOfRegs is a read of all shards.
const sumOfRegs = "SELECT sum(v) FROM regs"

// TestAnswersOfSeveralShardsAreKept asks for what shards answer together, by each protocol.
func TestAnswersOfSeveralShardsAreKept(t *testing.T) {
	t.Parallel()
	s := newKeptShards(t, nil, 0, nil)
	c := s.p.client(t)
	for sql, want := range map[string]int64{
		"SELECT count(*) FROM regs":                              keptKeys,
		"SELECT max(id) FROM regs HAVING count(*) > 1":           keptKeys - 1,
		"SELECT id FROM regs ORDER BY id DESC LIMIT 1":           keptKeys - 1,
		"SELECT count(*) FROM regs r JOIN side s USING (id)":     keptKeys,
		"SELECT count(*) FROM regs r, copies c WHERE c.id = 1":   keptKeys,
		"SELECT count(*) FROM regs WHERE v > 1000":               0,
		"SELECT count(*) FROM regs WHERE id IN (1, 2, 3, 4)":     4,
		"SELECT (coalesce(sum(v), 0) * 0)::bigint + 7 FROM regs": 7,
	} {
		for _, mode := range cacheModes {
			eventually(t, fmt.Sprintf("hit by %v: %s", mode, sql), func() bool {
				hits := s.hits()
				var got int64
				if err := c.QueryRow(bounded(t), sql, mode).Scan(&got); err != nil || got != want {
					t.Fatalf("%s by %v: got %d, %v; want %d", sql, mode, got, err, want)
				}
				return s.hits() > hits
			})
		}
	}
	s.primed(t, c, sumOfRegs)
	if route := mustValue(t, c, "SHOW pgtier.last_route"); !strings.HasPrefix(route, "s0, s1, s2: ") || !strings.Contains(route, "cache: answered before") {
		t.Errorf("the route of a hit: %s", route)
	}
	rows, err := c.Query(bounded(t), "SELECT id FROM regs ORDER BY id", pgx.QueryExecModeCacheStatement)
	if err != nil {
		t.Fatal(err)
	}
	if ids, err := pgx.CollectRows(rows, pgx.RowTo[int64]); err != nil || len(ids) != keptKeys {
		t.Errorf("got %v, %v", ids, err)
	}
}

// TestWritesEndAnswersOfSeveralShards writes to one shard, to several and to another table.
func TestWritesEndAnswersOfSeveralShards(t *testing.T) {
	t.Parallel()
	s := newKeptShards(t, nil, 0, nil)
	c := s.p.client(t)
	one, other := s.key(t, 1, 0), s.key(t, 2, 0)
	for i, write := range []string{
		fmt.Sprintf("UPDATE regs SET v = v + 1 WHERE id = %d", one),
		fmt.Sprintf("UPDATE regs SET v = v + 1 WHERE id = %d", other),
		fmt.Sprintf("BEGIN; UPDATE regs SET v = 0 WHERE id = %d; UPDATE regs SET v = 3 WHERE id = %d; COMMIT", one, other),
		fmt.Sprintf("UPDATE regs SET v = 2 WHERE id IN (%d, %d)", one, other),
		fmt.Sprintf("DELETE FROM regs WHERE id = %d; INSERT INTO regs VALUES (%[1]d, 3)", other),
	} {
		if got := s.primed(t, c, sumOfRegs); got != fmt.Sprint(i) {
			t.Errorf("from memory: %s, want %d", got, i)
		}
		for _, sql := range strings.Split(write, "; ") {
			mustExec(t, c, sql)
		}
		wantValue(t, c, sumOfRegs, fmt.Sprint(i+1))
	}
	s.primed(t, c, sumOfRegs)
	hits := s.hits()
	mustExec(t, c, "UPDATE side SET v = v + 1 WHERE id = 1")
	wantValue(t, c, sumOfRegs, "5")
	if s.hits() != hits+1 {
		t.Error("a write to another table has ended the answer")
	}
}

// TestAnswersOfReferenceTablesAreKept reads a table of which each shard has a copy, by itself and joined, and writes it.
func TestAnswersOfReferenceTablesAreKept(t *testing.T) {
	t.Parallel()
	s := newKeptShards(t, nil, 0, nil)
	c := s.p.client(t)
	mustExec(t, c, "INSERT INTO copies VALUES (2, 0)")
	alone := "SELECT v FROM copies WHERE id = 1"
	joined := fmt.Sprintf("SELECT c.v FROM regs r, copies c WHERE r.id = %d AND c.id = 1", s.key(t, 1, 0))
	spread := "SELECT max(c.v) FROM regs r, copies c WHERE c.id = 1"
	for v := range 3 {
		for _, sql := range []string{alone, joined, spread} {
			wantValue(t, c, sql, fmt.Sprint(v))
			if got := s.primed(t, c, sql); got != fmt.Sprint(v) {
				t.Errorf("%s: got %s from memory, want %d", sql, got, v)
			}
		}
		mustExec(t, c, fmt.Sprintf("UPDATE copies SET v = %d WHERE id = 1", v+1))
	}
	s.primed(t, c, alone)
	hits := s.hits()
	mustExec(t, c, "UPDATE copies SET v = 9 WHERE id = 2")
	wantValue(t, c, alone, "3")
	if s.hits() != hits+1 {
		t.Error("a write to another row has ended the answer")
	}
	s.primed(t, c, joined)
	hits = s.hits()
	mustExec(t, c, fmt.Sprintf("UPDATE regs SET v = v + 1 WHERE id = %d", s.key(t, 2, 0)))
	wantValue(t, c, joined, "3")
	if s.hits() != hits+1 {
		t.Error("a write to a row of another shard has ended the answer")
	}
}

// TestSpansAreNotOneShards asks the same text as one that goes to all shards and, by a setting, to one.
func TestSpansAreNotOneShards(t *testing.T) {
	t.Parallel()
	s := newKeptShards(t, nil, 0, nil)
	const sql = "SELECT count(*) FROM regs"
	all := s.p.client(t)
	for range 6 { // wherever the answer of all is kept
		s.primed(t, all, sql)
		for at := range 3 {
			c := s.p.client(t)
			mustExec(t, c, fmt.Sprintf("SET pgtier.shard = 's%d'", at))
			wantValue(t, c, sql, s.on(t, at, sql))
		}
		wantValue(t, all, sql, fmt.Sprint(keptKeys))
	}
}

// TestSpansAreGivenWhileAShardIsAway serves the last answer of several shards while one of them is lost.
func TestSpansAreGivenWhileAShardIsAway(t *testing.T) {
	t.Parallel()
	s := newKeptShards(t, &localpg.Options{Shards: 2, Settings: map[string]string{"max_prepared_transactions": "20", "wal_level": "logical"}}, time.Second,
		onDatabase(func(d *proxy.Database) {
			d.Cache.StaleOnError = time.Hour
			d.Failover.Wait, d.Pool.ServerDownWait = 50*time.Millisecond, 50*time.Millisecond
		}))
	c := s.p.client(t)
	const sql = "SELECT count(*) FROM regs"
	for _, mode := range cacheModes {
		eventually(t, "hit", func() bool {
			hits := s.hits()
			var n int
			return c.QueryRow(bounded(t), sql, mode).Scan(&n) == nil && s.hits() > hits
		})
	}
	caches := s.p.CachesOf(s.database)
	stale := func() uint64 { return caches[0].Stale.Load() + caches[1].Stale.Load() }
	if err := s.cluster.Shards[1].Manager.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the shard that is lost stands aside", func() bool { return caches[1].Away()&cache.Unfollowed != 0 })
	for _, mode := range cacheModes {
		if mode == pgx.QueryExecModeDescribeExec {
			continue // it asks a server first what the columns are
		}
		before, got := stale(), 0
		if err := c.QueryRow(bounded(t), sql, mode).Scan(&got); err != nil || got != keptKeys || stale() == before {
			t.Errorf("by %v: %d, %v, %d stale answers", mode, got, err, stale()-before)
		}
	}
	if _, err := value(c, "SELECT sum(id) FROM regs"); !strings.HasPrefix(codeOf(err), "08") && codeOf(err) != "57P03" {
		t.Errorf("what was never asked before: %v", err)
	}
	if err := s.cluster.Shards[1].Manager.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it serves again", func() bool {
		hits := s.hits()
		got, err := value(c, sql)
		return err == nil && got == fmt.Sprint(keptKeys) && s.hits() > hits
	})
}

// raceBeside writes to each shard what an answer of all depends on.
func raceBeside(t *testing.T) string {
	s := newKeptShards(t, nil, 0, nil)
	c, reader := s.p.client(t), s.p.client(t)
	for at := range 3 {
		s.primed(t, reader, sumOfRegs)
		mustExec(t, c, fmt.Sprintf("UPDATE regs SET v = 1 WHERE id = %d", s.key(t, at, 0)))
		if wrong := differs(mustValue(t, reader, sumOfRegs), fmt.Sprint(at+1), "the sum behind a write"); wrong != "" {
			return wrong
		}
	}
	return ""
}

// raceCopies has a write of a reference table committed on the shard that decides, and lost on its way to another: what one copy says is given to nobody
// from memory as long as the other may say something else.
func raceCopies(t *testing.T) (wrong string) {
	s := newKeptShards(t, &spreadOptions, 0, onDatabase(func(d *proxy.Database) { d.Failover.Wait = 50 * time.Millisecond }))
	c, reader := s.p.client(t), s.p.client(t)
	anchor, lost := s.cluster.Shards[0].Manager, s.cluster.Shards[2].Manager
	sql := fmt.Sprintf("SELECT c.v FROM regs r, copies c WHERE r.id = %d AND c.id = 1", s.key(t, 0, 0))
	s.primed(t, reader, sql)
	mustExec(t, c, "BEGIN")
	mustExec(t, c, "UPDATE copies SET v = 1 WHERE id = 1")
	synchronous := func(names string) {
		pgtest.Exec(t, anchor, "postgres", "ALTER SYSTEM SET synchronous_standby_names = '"+names+"'")
		pgtest.Exec(t, anchor, "postgres", "SELECT pg_reload_conf()")
	}
	synchronous("nobody")
	eventually(t, "commits wait", func() bool { return pgtest.Value(t, anchor, "postgres", "SHOW synchronous_standby_names") == "nobody" })
	committed := later(c, "COMMIT")
	eventually(t, "the decision waits for a standby", func() bool {
		return pgtest.Value(t, anchor, "postgres", "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = 'bank'") != "0"
	})
	if err := lost.Kill(); err != nil {
		t.Fatal(err)
	}
	synchronous("")
	<-committed // with a warning that the shard has not heard of it
	hits := s.hits()
	for range 5 {
		if got := mustValue(t, reader, sql); got != "1" {
			t.Fatalf("the shard that decides has %s, and the test proves nothing", got)
		}
	}
	if s.hits() != hits {
		wrong = "an answer from memory while a copy was not written"
	}
	if err := lost.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if wrong == "" {
		s.primed(t, reader, sql)
		wantValue(t, reader, fmt.Sprintf("SELECT c.v FROM regs r, copies c WHERE r.id = %d AND c.id = 1", s.key(t, 2, 0)), "1")
	}
	return wrong
}

// TestSpansOfAnotherLayout moves a bucket of those that an answer of all shards was made of, and writes there.
func TestSpansOfAnotherLayout(t *testing.T) {
	t.Parallel()
	s := newKeptShards(t, nil, 0, nil)
	m := s.moving(t, s.cfg, 0)
	c := s.p.client(t)
	id := s.key(t, 1, 0)
	bucket := m.bucket(id)
	spans := shard.SpansOf(bucket)
	for i, way := range [][2]int{{1, 2}, {2, 1}} {
		s.primed(t, c, sumOfRegs)
		m.change(shardmap.Motion{Moving: spans, Frozen: true})
		wantValue(t, c, sumOfRegs, fmt.Sprint(i))
		m.change(shardmap.Motion{Moving: spans, Held: spans, Frozen: true, Near: true})
		m.carry(way[0], way[1], "regs", []shard.Bucket{bucket})
		m.give(shard.Name(fmt.Sprintf("s%d", way[1])), shardmap.Motion{}, bucket)
		wantValue(t, c, sumOfRegs, fmt.Sprint(i))
		mustExec(t, c, fmt.Sprintf("UPDATE regs SET v = v + 1 WHERE id = %d", id))
		wantValue(t, c, sumOfRegs, fmt.Sprint(i+1))
	}
}
