package proxy_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"pgtier/cmd/localpg/pgtest"
)

// wantNumbersApart checks that no two accounts have one number.
func (s *spread) wantNumbersApart(t *testing.T, want int) {
	t.Helper()
	seen := map[string]int{}
	for i := range s.cluster.Shards {
		for n := range strings.SplitSeq(s.on(t, i, "SELECT coalesce(string_agg(n::text, ','), '') FROM accounts WHERE n IS NOT NULL"), ",") {
			if other, ok := seen[n]; ok && n != "" {
				t.Errorf("shards %d and %d: both %s", other, i, n)
			}
			seen[n] = i
		}
	}
	if delete(seen, ""); len(seen) != want {
		t.Errorf("%d numbers, want %d", len(seen), want)
	}
}

// TestNumbersForRowsThatAreThere takes the way that is told where numbers in ADD COLUMN are refused.
func TestNumbersForRowsThatAreThere(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	c := p.client(t)
	for _, sql := range []string{"ALTER TABLE accounts ADD COLUMN n bigserial", "ALTER TABLE accounts ADD n bigint GENERATED ALWAYS AS IDENTITY",
		"TRUNCATE accounts RESTART IDENTITY CASCADE"} {
		_, err := c.Exec(bounded(t), sql)
		wantError(t, err, "0A000", "whose shards would give the same numbers")
	}
	mustExec(t, c, "ALTER TABLE accounts ADD COLUMN n bigint")
	mustExec(t, c, "CREATE SEQUENCE ns OWNED BY accounts.n")
	mustExec(t, c, "ALTER TABLE accounts ALTER COLUMN n SET DEFAULT nextval('ns')")
	for i := range s.cluster.Shards { // before anybody has asked
		if got := s.on(t, i, "SELECT seqincrement FROM pg_sequence WHERE seqrelid = 'ns'::regclass"); got != "1024" {
			t.Errorf("shard %d steps by %s", i, got)
		}
	}
	mustExec(t, c, "UPDATE accounts SET n = DEFAULT")
	s.wantNumbersApart(t, 30)
	for _, sql := range []string{"ALTER SEQUENCE ns RESTART", "ALTER SEQUENCE ns INCREMENT BY 1", "/* pgtier: shard=s0 */ SELECT setval('ns', 1)"} {
		_, err := c.Exec(bounded(t), sql)
		wantError(t, err, "0A000", "of a sequence that numbers the rows of a sharded table")
	}
	mustExec(t, c, "DELETE FROM cards")
	mustExec(t, c, "TRUNCATE accounts CONTINUE IDENTITY CASCADE")
	for id := range 30 {
		mustExec(t, c, fmt.Sprintf("INSERT INTO accounts VALUES (%d, 'b', 1)", id))
	}
	s.wantNumbersApart(t, 30)

	// Past pgtier, and the remedy that is told.
	s.everywhere(t, "ALTER SEQUENCE ns INCREMENT BY 1; SELECT setval('ns', 500000)")
	if err := p.Reload(s.config(t)); err != nil {
		t.Fatal(err)
	}
	for id := range 30 {
		mustExec(t, c, fmt.Sprintf("INSERT INTO accounts VALUES (%d, 'c', 1)", 100+id))
	}
	s.wantNumbersApart(t, 60)
	wantValue(t, c, "SELECT count(*) FROM accounts WHERE n > 500000", "30")
}

// TestNumbersOfASequenceWithAnOddName has dots and quotes in the names of a sequence and of its schema.
func TestNumbersOfASequenceWithAnOddName(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	c := p.client(t)
	const name = `"o.d""d"."n.s"`
	mustExec(t, c, "ALTER TABLE accounts ADD COLUMN n bigint")
	mustExec(t, c, `CREATE SCHEMA "o.d""d"`)
	mustExec(t, c, "CREATE SEQUENCE "+name)
	mustExec(t, c, "ALTER TABLE accounts ALTER COLUMN n SET DEFAULT nextval('"+name+"')")
	for id := range 12 {
		mustExec(t, c, fmt.Sprintf("INSERT INTO accounts VALUES (%d, 'n', 1)", 200+id))
	}
	s.wantNumbersApart(t, 12)
	for _, sql := range []string{"ALTER SEQUENCE " + name + " RESTART", "/* pgtier: shard=s0 */ SELECT setval('" + name + "', 1)"} {
		_, err := c.Exec(bounded(t), sql)
		wantError(t, err, "0A000", "of a sequence that numbers the rows of a sharded table")
	}
}

// TestNumbersAreApartFromTheCommitThatMakesThem has rows wait for the table while numbers are made for it: they were planned before.
func TestNumbersAreApartFromTheCommitThatMakesThem(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	c := p.client(t)
	mustExec(t, c, "ALTER TABLE accounts ADD COLUMN n bigint")
	mustExec(t, c, "BEGIN")
	mustExec(t, c, "CREATE SEQUENCE ns")
	mustExec(t, c, "ALTER TABLE accounts ALTER COLUMN n SET DEFAULT nextval('ns')")
	var wg sync.WaitGroup
	const rows = 12
	for id := range rows {
		other := p.client(t)
		wg.Go(func() {
			if _, err := other.Exec(bounded(t), fmt.Sprintf("INSERT INTO accounts VALUES (%d, 'n', 1)", 200+id)); err != nil {
				t.Error(err)
			}
		})
	}
	eventually(t, "all wait for the table", func() bool {
		n := 0
		for i := range s.cluster.Shards {
			waiting := 0
			_, _ = fmt.Sscan(pgtest.Value(t, s.cluster.Shards[i].Manager, s.database, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"), &waiting)
			n += waiting
		}
		return n == rows
	})
	mustExec(t, c, "COMMIT")
	wg.Wait()
	s.wantNumbersApart(t, rows)
}

// TestNumbersAreLookedAtAgainWhereAShardWasAway starts a proxy while a shard is away. Rows that need numbers are refused for as long as that lasts, and no longer.
func TestNumbersAreLookedAtAgainWhereAShardWasAway(t *testing.T) {
	t.Parallel()
	s, p := newSpreadOf(t, spreadOptions, nil)
	mustExec(t, p.client(t), "ALTER TABLE accounts ADD COLUMN n bigint")
	mustExec(t, p.client(t), "CREATE SEQUENCE ns OWNED BY accounts.n")
	mustExec(t, p.client(t), "ALTER TABLE accounts ALTER COLUMN n SET DEFAULT nextval('ns')")
	away := s.cluster.Shards[len(s.cluster.Shards)-1].Manager
	if err := away.Kill(); err != nil {
		t.Fatal(err)
	}
	c := s.start(t, s.config(t)).client(t)
	at := 1000
	for ; ; at++ { // of a shard that is there
		sql := fmt.Sprintf("INSERT INTO accounts VALUES (%d, 'n', 1)", at)
		_, err := c.Exec(bounded(t), sql)
		if err == nil {
			t.Fatalf("%s: nobody can know whether its number is given twice", sql)
		}
		wantError(t, err, "57P03", "sequences of table \"public.accounts\"")
		if at > 1003 {
			break
		}
	}
	if err := away.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "rows with numbers are taken", func() bool {
		at++
		_, err := c.Exec(bounded(t), fmt.Sprintf("INSERT INTO accounts VALUES (%d, 'n', 1)", at))
		return err == nil
	})
	s.wantNumbersApart(t, 1)
}
