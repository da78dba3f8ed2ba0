package proxy_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgtier/proxy"
)

// TestNobodyIsNotifiedBeforeAllShardsShowIt loses a shard between the decision and its part of the commit: who listens hears of it when that shard shows it, and then of what others
// have notified meanwhile.
func TestNobodyIsNotifiedBeforeAllShardsShowIt(t *testing.T) {
	t.Parallel()
	wire := &tripwire{word: "COMMIT PREPARED", shut: time.Second}
	s, p := newSpreadOf(t, spreadOptions, onDatabase(func(d *proxy.Database) {
		wire.to = fmt.Sprintf("127.0.0.1:%d", d.Shards[1].Manager.Port)
		d.Shards[1].Manager.Port = wire.port(t)
	}))
	_, b := s.apart(t)
	listener, c, other := p.client(t), p.client(t), p.client(t)
	mustExec(t, listener, "LISTEN news")
	for _, sql := range []string{"BEGIN", fmt.Sprintf("UPDATE accounts SET balance = 7 WHERE id = %d", b), "NOTIFY news, 'one'"} {
		mustExec(t, c, sql)
	}
	committed := later(c, "COMMIT")
	eventually(t, "the shard is lost", wire.tripped.Load)
	mustExec(t, other, "NOTIFY news, 'two'")
	for _, want := range []string{"one", "two"} {
		n, err := listener.WaitForNotification(bounded(t))
		if err != nil || n.Payload != want {
			t.Fatalf("heard %+v, %v; want %q", n, err, want)
		}
		if got := s.on(t, 1, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", b)); got != "7" {
			t.Errorf("heard %q while the shard showed %s", want, got)
		}
	}
	<-committed
}

// TestWhoIsNotifiedFindsItOnEveryShard has the replica of a shard stand still, at which the session that listens has never been.
func TestWhoIsNotifiedFindsItOnEveryShard(t *testing.T) {
	t.Parallel()
	s, p := newSpreadCrew(t, nil)
	_, b := s.apart(t)
	c := p.client(t)
	s.replays(t, 1, false)
	defer s.replays(t, 1, true)
	read := fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", b)
	for i, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeCacheStatement, pgx.QueryExecModeExec} {
		listener := p.client(t)
		mustExec(t, listener, "LISTEN news")
		for _, sql := range []string{"BEGIN", fmt.Sprintf("UPDATE accounts SET balance = %d WHERE id = %d", i, b), "NOTIFY news", "COMMIT"} {
			mustExec(t, c, sql)
		}
		if _, err := listener.WaitForNotification(bounded(t)); err != nil {
			t.Fatal(err)
		}
		var got int
		if err := listener.QueryRow(bounded(t), read, mode).Scan(&got); err != nil || got != i {
			t.Errorf("by %v: read %d, %v; want %d", mode, got, err, i)
		}
	}
}

// TestUnlistenOverShards stops listening in a transaction of several shards, if that commits and does not come back from it.
func TestUnlistenOverShards(t *testing.T) {
	t.Parallel()
	_, p := newSpread(t)
	c, other := p.client(t), p.client(t)
	for _, channel := range []string{"ended", "undone", "rolled_back", "last"} {
		mustExec(t, c, "LISTEN "+channel)
	}
	for _, sql := range []string{"BEGIN", "UPDATE accounts SET balance = 1", "UNLISTEN ended", "COMMIT", "BEGIN", "UPDATE accounts SET balance = 2", "SAVEPOINT a", "UNLISTEN undone", "ROLLBACK TO a", "COMMIT",
		"BEGIN", "UPDATE accounts SET balance = 3", "UNLISTEN rolled_back", "ROLLBACK"} {
		mustExec(t, c, sql)
	}
	for _, channel := range []string{"ended", "undone", "rolled_back", "last"} {
		mustExec(t, other, "NOTIFY "+channel)
	}
	for _, want := range []string{"undone", "rolled_back", "last"} {
		if n, err := c.WaitForNotification(bounded(t)); err != nil || n.Channel != want {
			t.Errorf("heard %+v, %v, want %s", n, err, want)
		}
	}
}
