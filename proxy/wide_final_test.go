package proxy_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
)

// TestExpressionsOverAggregatesInTransactions asks for them where the transaction has written, where one fails, and by every protocol.
func TestExpressionsOverAggregatesInTransactions(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	c := p.client(t)
	const sql = "SELECT sum(balance) / nullif(count(*), 0) || ' of ' || count(*) FROM accounts"
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeDescribeExec, pgx.QueryExecModeCacheStatement} {
		mustExec(t, c, "BEGIN")
		mustExec(t, c, "UPDATE accounts SET balance = 7")
		for range 2 {
			var got string
			if err := c.QueryRow(bounded(t), sql, mode).Scan(&got); err != nil || got != "7.0000000000000000 of 30" {
				t.Errorf("%v: got %q, %v", mode, got, err)
			}
		}
		_, err := c.Exec(bounded(t), "SELECT 1 / (count(*) - 30) FROM accounts", mode)
		wantError(t, err, "22012", "division by zero")
		_, err = c.Exec(bounded(t), "SELECT count(*) + 1 FROM accounts", mode)
		wantError(t, err, "25P02", "current transaction is aborted")
		mustExec(t, c, "ROLLBACK")
		var n int64
		if err := c.QueryRow(bounded(t), "SELECT count(*) + $1 FROM accounts WHERE balance = $2", mode, 5, 100).Scan(&n); err != nil || n != 35 {
			t.Errorf("%v: got %d, %v", mode, n, err)
		}
	}
	if n := s.prepared(t); n != 0 {
		t.Errorf("%d transactions are left prepared", n)
	}
	if route := mustValue(t, c, "SHOW pgtier.last_route"); route == "" {
		t.Error("no route")
	}
}

// slowly computes something for a second or more out of the 30 accounts.
const slowly = "SELECT length(factorial(count(*) * 1000)::text) FROM accounts"

// TestFinalServerIsLostOrCancelled: where the server that makes the answer is lost a read is asked again; where it is cancelled the client hears so.
func TestFinalServerIsLostOrCancelled(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	c := p.client(t)
	const last = "FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' AND query LIKE '%factorial%pg_catalog.unnest%' AND pid <> pg_backend_pid()"
	running := func() bool {
		n := 0
		for i := range s.cluster.Shards {
			if s.on(t, i, "SELECT count(*) "+last) != "0" {
				n++
			}
		}
		return n > 0
	}
	want := mustValue(t, c, slowly)
	type answer struct {
		value string
		err   error
	}
	ask := func() chan answer {
		got := make(chan answer, 1)
		go func() {
			v, err := value(c, slowly)
			got <- answer{v, err}
		}()
		eventually(t, "a server makes the answer", running)
		return got
	}
	got := ask()
	for _, m := range managers(s.cluster) {
		pgtest.Exec(t, m, s.database, "SELECT pg_terminate_backend(pid) "+last)
	}
	if a := <-got; a.err != nil || a.value != want {
		t.Errorf("got %s, %v; want %s", a.value, a.err, want)
	}
	got = ask()
	ctx, stop := context.WithTimeout(bounded(t), limit)
	defer stop()
	if err := c.PgConn().CancelRequest(ctx); err != nil {
		t.Fatal(err)
	}
	wantError(t, (<-got).err, "57014", "canceling statement due to user request")
	wantValue(t, c, "SELECT count(*) + 1 FROM accounts", "31")
}

// TestGroupsForTheFinalServerAreBounded: groups that are handed back to a server stand in memory several times.
func TestGroupsForTheFinalServerAreBounded(t *testing.T) {
	t.Parallel()
	_, p := newSpreadWith(t, func(cfg *proxy.Config) { cfg.Limits.MaxQuery, cfg.Limits.SessionMemory = 64<<10, 64<<10 })
	c := p.client(t)
	mustExec(t, c, "INSERT INTO accounts SELECT 1000, 'x', 1")
	wantValue(t, c, "SELECT id + count(*) FROM accounts WHERE id < 1 GROUP BY id", "1")
	for range 2 {
		_, err := c.Exec(bounded(t), "SELECT repeat('x', 700) || id, count(*) + 1 FROM accounts GROUP BY 1") // for which the merge itself has room
		wantError(t, err, "53400", "groups need more memory")
	}
	wantValue(t, c, "SELECT count(*) + 1 FROM accounts", "32")
}

// TestTextForTheFinalServerInAnotherEncoding: a server may not get back what it has sent.
func TestTextForTheFinalServerInAnotherEncoding(t *testing.T) {
	t.Parallel()
	_, p := newSpread(t)
	c := p.client(t, "client_encoding=LATIN1")
	wantValue(t, c, "SELECT count(*) + 1 || 'é' FROM accounts", "31é")
	_, err := c.Exec(bounded(t), "SELECT 'é', count(*) + 1 FROM accounts")
	wantError(t, err, "0A000", "in another encoding than the database's")
}
