package proxy_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/shardmap"
	"pgtier/router/shard"
)

// TestCopiesOfReferenceTablesStayEqual has clients write reference tables from what stands in them: each shard must compute that from the same rows.
func TestCopiesOfReferenceTablesStayEqual(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	setup := p.client(t)
	mustExec(t, setup, "INSERT INTO rates VALUES ('a', 0), ('b', 0), ('c', 0)")
	mustExec(t, setup, "INSERT INTO taxes SELECT 'tax of ' || name, 0 FROM rates")
	writes := []string{
		"UPDATE rates SET rate = rate + 1 WHERE name = 'a'",
		"UPDATE rates SET rate = (SELECT rate FROM rates WHERE name = 'a') WHERE name = 'b'",
		"UPDATE taxes SET rate = (SELECT sum(rate) FROM rates) WHERE name = 'tax of a'",
		"UPDATE rates SET rate = rate + (SELECT max(rate) FROM taxes) % 7 WHERE name = 'c'",
		"BEGIN; DELETE FROM taxes WHERE name = 'n'; UPDATE taxes SET rate = rate + (SELECT count(*) FROM taxes) WHERE name = 'tax of b'; COMMIT",
		"INSERT INTO taxes SELECT 'n', rate FROM rates WHERE name = 'a' ON CONFLICT (name) DO UPDATE SET rate = excluded.rate",
	}
	s.writeAtOnce(t, p, writes[:2], 2) // no row is another's: nothing but the locks keeps them apart
	s.wantCopies(t)
	s.writeAtOnce(t, p, writes, 2*len(writes))
	s.wantCopies(t)
}

// writeAtOnce has clients run transactions for a while, of which each runs one.
func (s *spread) writeAtOnce(t *testing.T, p *running, writes []string, clients int) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Second)
	done := make([]atomic.Int64, len(writes))
	var wg sync.WaitGroup
	for client := range clients {
		c := p.client(t)
		wg.Go(func() {
			for time.Now().Before(deadline) {
				at := client % len(writes)
				for sql := range strings.SplitSeq(writes[at], "; ") {
					if _, err := c.Exec(bounded(t), sql); err != nil {
						t.Errorf("%s: %v", sql, err)
						return
					}
				}
				done[at].Add(1)
			}
		})
	}
	wg.Wait()
	for at := range done {
		if n := done[at].Load(); n < 3 {
			t.Errorf("%d times in 2 s: %s", n, writes[at])
		}
	}
}

// wantCopies compares the copies of reference tables.
func (s *spread) wantCopies(t *testing.T) {
	t.Helper()
	eventually(t, "all is committed", func() bool { return s.prepared(t) == 0 })
	const all = "SELECT string_agg(name || ' ' || rate::text, ', ' ORDER BY name COLLATE \"C\") FROM (SELECT name, rate FROM rates UNION ALL SELECT name, rate FROM taxes) x"
	want := s.on(t, 0, all)
	for i := range s.cluster.Shards {
		if got := s.on(t, i, all); got != want {
			t.Errorf("shard %d has %s, shard 0 has %s", i, got, want)
		}
	}
}

// TestReferenceTablesAreWrittenAtReadCommitted: a snapshot from before the lock is another on each shard.
func TestReferenceTablesAreWrittenAtReadCommitted(t *testing.T) {
	t.Parallel()
	_, p := newSpread(t)
	c := p.client(t)
	for _, level := range []string{"REPEATABLE READ", "SERIALIZABLE"} {
		mustExec(t, c, "SET default_transaction_isolation = '"+strings.ToLower(level)+"'")
		_, err := c.Exec(bounded(t), "INSERT INTO rates VALUES ('x', 1)")
		wantError(t, err, "0A000", "isolation level "+level+" is not supported across shards")
		mustExec(t, c, "BEGIN ISOLATION LEVEL READ COMMITTED")
		mustExec(t, c, fmt.Sprintf("INSERT INTO rates VALUES ('%s', 1)", level))
		mustExec(t, c, "COMMIT")
		mustExec(t, c, "RESET default_transaction_isolation")
	}
	wantValue(t, c, "SELECT count(*) FROM rates", "2")
}

// TestCopiesAreNotFilledByTheClock: each shard would read such a word as another time.
func TestCopiesAreNotFilledByTheClock(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	c := p.client(t)
	mustExec(t, c, "ALTER TABLE rates ADD COLUMN at timestamptz, ADD COLUMN days date[]")
	mustExec(t, c, "ALTER TABLE accounts ADD COLUMN at timestamptz")
	copyIn := func(sql, rows string) error {
		_, err := c.PgConn().CopyFrom(bounded(t), strings.NewReader(rows), sql)
		return err
	}
	for sql, rows := range map[string]string{
		"COPY rates FROM STDIN":                                   "a\t1\tnow\t\\N\n",
		"COPY rates (name, at) FROM STDIN (FORMAT csv)":           "a,2024-01-01\nb,\"10:00 today\"\n",
		"COPY rates (name, days) FROM STDIN":                      "a\t{2024-01-01,tomorrow}\n",
		"COPY accounts (id, balance, at) FROM STDIN":              "1001\t1\t2024-01-01\n1002\t1\tyesterday\n",
		"COPY accounts (at, id, balance) FROM STDIN (FORMAT csv)": "now,1003,1\n",
	} {
		wantError(t, copyIn(sql, rows), "0A000", "which each shard reads by its own clock")
	}
	if err := copyIn("COPY rates (name, rate, at) FROM STDIN (FORMAT csv, HEADER)", "name,rate,at\nnow,1,2024-01-01 10:00+00\ntoday,2,\n"); err != nil {
		t.Error(err)
	}
	if err := copyIn("COPY accounts (id, owner, balance, at) FROM STDIN", "1001\tnow\t1\t2024-01-01\n1002\tnow\t1\t\\N"); err != nil {
		t.Error(err)
	}
	wantValue(t, c, "SELECT count(*) FROM accounts WHERE owner LIKE 'no_'", "2")
	s.wantCopies(t)
	wantValue(t, c, "SELECT count(*) FROM rates", "2")
}

// TestAWriteThatWaitsForAnotherIsForAllMembers has a shard join while a write of a reference table waits for another one: it is planned again, for the new
// shard too.
func TestAWriteThatWaitsForAnotherIsForAllMembers(t *testing.T) {
	t.Parallel()
	var whole proxy.Config
	s, p := newSpreadOf(t, localpg.Options{Shards: 3, Settings: map[string]string{"max_prepared_transactions": "20"}}, func(cfg *proxy.Config) {
		whole = *cfg
		cfg.Databases = map[string]proxy.Database{}
		for name, d := range whole.Databases {
			d.Shards = d.Shards[:2]
			cfg.Databases[name] = d
		}
	})
	first := p.client(t)
	mustExec(t, first, "INSERT INTO rates VALUES ('eur', 1)")
	if err := p.Reload(whole); err != nil {
		t.Fatal(err)
	}
	m := s.moving(t, whole, 0)
	pgtest.Exec(t, s.cluster.Shards[2].Manager, s.database, "INSERT INTO rates VALUES ('eur', 1)")
	mustExec(t, first, "BEGIN")
	mustExec(t, first, "UPDATE rates SET rate = rate WHERE name = 'eur'")
	second := p.starts(t, "UPDATE rates SET rate = 2 WHERE name = 'eur'")
	eventually(t, "the second waits", func() bool {
		return s.on(t, 0, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == "1"
	})
	same, err := m.now.Map.Moved(m.now.Map.Version()+1, "s0")
	if err != nil {
		t.Fatal(err)
	}
	m.put(&shardmap.Current{Map: same, Members: []shard.Name{"s0", "s1", "s2"}})
	mustExec(t, first, "COMMIT")
	second.ends(t, "the second")
	for i := range s.cluster.Shards {
		if got := s.on(t, i, "SELECT rate FROM rates"); got != "2" {
			t.Errorf("shard %d has rate %s", i, got)
		}
	}
}
