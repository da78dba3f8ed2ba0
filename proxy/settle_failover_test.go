package proxy_test

import (
	"fmt"
	"testing"
	"time"

	"pgtier/cmd/localpg/pgtest"
)

// TestAManagerThatWasReplacedDecidesNothing has a shard's new manager be lost while the one before is back, which knows nothing of what was decided since.
func TestAManagerThatWasReplacedDecidesNothing(t *testing.T) {
	t.Parallel()
	s, p := newSpreadCrew(t, nil)
	id, _ := s.apart(t)
	old, now := s.cluster.Shards[1].Manager, s.cluster.Shards[1].Replicas[0]
	if err := old.Kill(); err != nil {
		t.Fatal(err)
	}
	s.promote(t, p, 1)
	pgtest.Exec(t, now, s.database, "INSERT INTO pgtier.xact VALUES ('pgtier:bank:s1:decided', 'commit')")
	if err := old.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if err := now.Kill(); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, s.cluster.Shards[0].Manager, s.database, fmt.Sprintf("BEGIN; UPDATE accounts SET balance = 7 WHERE id = %d; PREPARE TRANSACTION 'pgtier:bank:s1:decided:s0'", id))
	const settled = "SELECT count(*) = 0 FROM pg_prepared_xacts"
	eventually(t, "it is old enough to be settled", func() bool {
		return s.on(t, 0, settled) == "t" || p.ShardsOf(s.database)[0].OldestInDoubt >= 3*time.Second
	})
	if got := p.ShardsOf(s.database)[1].Manager; got != "s1-r1" {
		t.Errorf("%s is asked while s1-r1 is away, which had taken its place", got)
	}
	if err := now.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is settled", func() bool { return s.on(t, 0, settled) == "t" })
	if got := s.on(t, 0, balanceOf(id)); got != "7" {
		t.Errorf("what was decided to commit was undone: got %s", got)
	}
}
