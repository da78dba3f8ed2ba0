package proxy_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/cmd/localpg"
	"pgtier/proxy"
)

// TestWritesOverShardsDoNotDeadlock has many clients write the same rows of all shards, by single statements: each waits for
// those before it, as on one server.
func TestWritesOverShardsDoNotDeadlock(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	mustExec(t, p.client(t), "INSERT INTO rates VALUES ('one', 0)")
	ids := s.ids(t)
	for _, tc := range []struct {
		sql, sum string
		own      bool // rows of one shard may be locked in any order: the server itself finds deadlocks
	}{
		{"UPDATE accounts SET balance = balance + 10 WHERE id IN ({a}, {b}, {c})", "SELECT sum(balance) FROM accounts", false},
		{"UPDATE accounts SET balance = balance + 10 WHERE id IN ({a}, {b}, {c}) RETURNING id", "SELECT sum(balance) FROM accounts", false},
		{"INSERT INTO accounts VALUES ({a}, 'x', 0), ({b}, 'x', 0), ({c}, 'x', 0) ON CONFLICT (id) DO UPDATE SET balance = accounts.balance + 10", "SELECT sum(balance) FROM accounts", false},
		{"UPDATE rates SET rate = rate + 30", "SELECT sum(rate) + 3000 FROM rates", false},
		{"UPDATE accounts SET balance = balance + 1", "SELECT sum(balance) FROM accounts", true},
	} {
		mustExec(t, p.client(t), "UPDATE accounts SET balance = 100")
		sql := ids.Replace(tc.sql)
		var done, failed atomic.Int64
		var group sync.WaitGroup
		until := time.Now().Add(3 * time.Second)
		for range 6 {
			c := p.client(t)
			group.Go(func() {
				for time.Now().Before(until) {
					_, err := c.Exec(bounded(t), sql)
					var e *pgconn.PgError
					switch {
					case err == nil:
						done.Add(1)
					case tc.own && errors.As(err, &e) && e.Code == "40P01":
						failed.Add(1)
					default:
						t.Errorf("%s: %v", sql, err)
						return
					}
				}
			})
		}
		group.Wait()
		t.Logf("%s: %d, %d of them failed", sql, done.Load(), failed.Load())
		wantValue(t, p.client(t), tc.sum, fmt.Sprint(3000+30*done.Load()))
	}
	if n := s.prepared(t); n > 0 {
		t.Errorf("%d shards have prepared transactions", n)
	}
}

// knot runs a statement for each of some clients that wait for each other, and wants one of them to be told of a deadlock.
// Each gives back what it has when its statement has ended.
func knot(t *testing.T, clients []*pgx.Conn, statements []string) {
	t.Helper()
	var run []func() error
	for i, c := range clients {
		run = append(run, func() error { return <-later(c, statements[i]) })
	}
	knotOf(t, clients, run)
}

// knotOf is knot for what is more than a statement.
func knotOf(t *testing.T, clients []*pgx.Conn, run []func() error) {
	t.Helper()
	type ended struct {
		at  int
		err error
	}
	began, done := time.Now(), make(chan ended)
	for i := range clients {
		go func() { done <- ended{i, run[i]()} }() // ends within limit
	}
	var failed []error
	for range clients {
		e := <-done
		if e.err != nil {
			failed = append(failed, e.err)
		}
		mustExec(t, clients[e.at], "COMMIT") // others wait for that
	}
	if took := time.Since(began); len(failed) != 1 || took > 10*time.Second {
		t.Fatalf("after %s: %v", took, failed)
	}
	wantError(t, failed[0], "40P01", "deadlock detected")
}

// others returns rows of the shard of account a beside a.
func (s *spread) others(t testing.TB, shard, a int) (b int) {
	t.Helper()
	_, _ = fmt.Sscan(s.on(t, shard, fmt.Sprintf("SELECT min(id) FROM accounts WHERE id <> %d", a)), &b)
	return b
}

// TestDeadlockOverShardsIsEnded has transactions lock rows of several shards in opposite order.
func TestDeadlockOverShardsIsEnded(t *testing.T) {
	t.Parallel()
	s, p := newSpreadOf(t, localpg.Options{Shards: 3, Auth: "trust", Settings: map[string]string{"max_prepared_transactions": "20"}}, nil)
	a, b := s.apart(t)
	b2 := s.others(t, 1, b)
	update := func(id int) string { return fmt.Sprintf("UPDATE accounts SET owner = 'd' WHERE id = %d", id) }
	begin := func(id int) *pgx.Conn {
		c := p.client(t)
		mustExec(t, c, "BEGIN")
		mustExec(t, c, update(id))
		return c
	}
	t.Run("two", func(t *testing.T) {
		knot(t, []*pgx.Conn{begin(a), begin(b)}, []string{update(b), update(a)})
	})
	t.Run("over one that is on one shard", func(t *testing.T) {
		knot(t, []*pgx.Conn{begin(a), begin(b2), begin(b)}, []string{update(b2), update(b), update(a)})
	})
	t.Run("over a client that goes past the proxy", func(t *testing.T) {
		past, err := pgx.Connect(bounded(t), fmt.Sprintf("host=127.0.0.1 port=%d user=postgres dbname=%s", s.cluster.Shards[1].Manager.Port, s.database))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = past.Close(bounded(t)) })
		mustExec(t, past, "BEGIN")
		mustExec(t, past, update(b2))
		knot(t, []*pgx.Conn{begin(a), past, begin(b)}, []string{update(b2), update(b), update(a)})
	})
	t.Run("for a COPY", func(t *testing.T) {
		mustExec(t, p.client(t), fmt.Sprintf("DELETE FROM accounts WHERE id = %d", b))
		one, other := begin(a), begin(b)
		mustExec(t, other, fmt.Sprintf("INSERT INTO accounts VALUES (%d, 'x', 100)", b))
		knotOf(t, []*pgx.Conn{one, other}, []func() error{
			func() error {
				rows := strings.NewReader(fmt.Sprintf("%d\tx\t100\n", b))
				_, err := one.PgConn().CopyFrom(bounded(t), rows, "COPY accounts FROM STDIN")
				return err
			},
			func() error { return <-later(other, update(a)) },
		})
	})
	t.Run("in a transaction that goes back to a savepoint", func(t *testing.T) {
		one, other := begin(a), begin(b)
		mustExec(t, one, "SAVEPOINT s")
		mustExec(t, other, "SAVEPOINT s")
		first, second := later(one, update(b)), later(other, update(a))
		var err error
		select {
		case err = <-first:
			mustExec(t, one, "ROLLBACK TO s")
			wantValue(t, one, "SELECT count(*) FROM accounts", "30")
			mustExec(t, one, "COMMIT")
			err = errors.Join(err, <-second)
		case err = <-second:
			mustExec(t, other, "ROLLBACK TO s")
			wantValue(t, other, "SELECT count(*) FROM accounts", "30")
			mustExec(t, other, "COMMIT")
			err = errors.Join(err, <-first)
		}
		wantError(t, err, "40P01", "deadlock detected")
	})
	wantValue(t, p.client(t), "SELECT count(*) FROM accounts WHERE balance = 100", "30")
}

// TestDeadlockOverShardsAndPoolsIsEnded has a transaction wait for a server connection, another for its locks, and a third that
// has the other connection for the locks of that.
func TestDeadlockOverShardsAndPoolsIsEnded(t *testing.T) {
	t.Parallel()
	s, p := newSpreadWith(t, onDatabase(func(d *proxy.Database) {
		d.Pool.Size = 2
	}))
	a, b := s.apart(t)
	b2 := s.others(t, 1, b)
	update := func(id int) string { return fmt.Sprintf("UPDATE accounts SET owner = 'd' WHERE id = %d", id) }
	begin := func(id int) *pgx.Conn {
		c := p.client(t)
		mustExec(t, c, "BEGIN")
		mustExec(t, c, update(id))
		return c
	}
	one, two, three := begin(a), begin(b), begin(b2)
	knot(t, []*pgx.Conn{one, two, three}, []string{update(b2), update(a), update(b)})
}

// TestLongWaitsAreNoDeadlock has transactions over shards wait for a long time behind each other, and nobody for themselves.
func TestLongWaitsAreNoDeadlock(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	a, b := s.apart(t)
	b2 := s.others(t, 1, b)
	var c int
	_, _ = fmt.Sscan(s.on(t, 2, "SELECT min(id) FROM accounts"), &c)
	update := func(id int) string { return fmt.Sprintf("UPDATE accounts SET owner = 'w' WHERE id = %d", id) }
	begin := func(ids ...int) *pgx.Conn {
		conn := p.client(t)
		mustExec(t, conn, "BEGIN")
		for _, id := range ids {
			mustExec(t, conn, update(id))
		}
		return conn
	}
	first := begin(a, b)
	waiting := []*pgx.Conn{begin(b2, c), begin(b2 + 1000), p.client(t), p.client(t), p.client(t)}
	next := later(waiting[0], update(a))
	eventually(t, "it waits, before others that want the same row and then one of its own", func() bool {
		return s.on(t, 0, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == "1"
	})
	waits := []<-chan error{
		next,
		later(waiting[1], update(b2)),
		later(waiting[2], "UPDATE accounts SET balance = balance + 1"),
		later(waiting[3], "SELECT id FROM accounts FOR UPDATE"),
		later(waiting[4], update(c)),
	}
	for range 4 { // as often as somebody might have been taken for stuck
		time.Sleep(time.Second)
		for i, w := range waits {
			if len(w) > 0 {
				t.Fatalf("wait %d has ended: %v", i, <-w)
			}
		}
	}
	mustExec(t, first, "ROLLBACK")
	for i, w := range waits {
		if err := <-w; err != nil {
			t.Errorf("wait %d: %v", i, err)
		}
		mustExec(t, waiting[i], "ROLLBACK")
	}
}
