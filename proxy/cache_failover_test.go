package proxy_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
)

// promote makes a shard's replica its manager and waits until the proxy has seen that.
func (s *spread) promote(t testing.TB, p *running, shard int) {
	t.Helper()
	if err := s.cluster.Shards[shard].Replicas[0].Promote(bounded(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the proxy sees the new manager", func() bool { return p.ShardsOf(s.database)[shard].Manager == fmt.Sprintf("s%d-r1", shard) })
}

// set changes a setting of a server.
func set(t testing.TB, server *localpg.Server, name, value string) {
	t.Helper()
	pgtest.Exec(t, server, "postgres", "ALTER SYSTEM SET "+name+" = '"+value+"'")
	pgtest.Exec(t, server, "postgres", "SELECT pg_reload_conf()")
}

func balanceOf(id int) string { return fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", id) }

// TestAnswersOfWritesThatAFailoverLosesAreGivenUp has a replica become the manager that does not have what was acknowledged last, on one shard after the other.
func TestAnswersOfWritesThatAFailoverLosesAreGivenUp(t *testing.T) {
	t.Parallel()
	s, p, hits := newKeptCrew(t)
	a, b := s.apart(t)
	c := p.client(t)
	mustExec(t, c, "SET pgtier.consistency = 'strong'")
	const all = "SELECT sum(balance) FROM accounts"
	for i, id := range []int{a, b} {
		at, one := s.cluster.Shards[i], balanceOf(id)
		set(t, at.Replicas[0], "primary_conninfo", "")
		eventually(t, "the replica hears nothing", func() bool {
			return pgtest.Value(t, at.Replicas[0], "postgres", "SELECT count(*) FROM pg_stat_wal_receiver") == "0"
		})
		mustExec(t, c, fmt.Sprintf("UPDATE accounts SET balance = 0 WHERE id = %d", id))
		for sql, want := range map[string]string{all: "2900", one: "0"} {
			eventually(t, "the answer is kept", func() bool {
				before := hits()
				return mustValue(t, c, sql) == want && hits() > before
			})
		}
		if err := at.Manager.Kill(); err != nil {
			t.Fatal(err)
		}
		s.promote(t, p, i)
		c = p.client(t)
		mustExec(t, c, "SET pgtier.consistency = 'strong'")
		for sql, want := range map[string]string{all: "3000", one: "100"} {
			eventually(t, "what was lost is not shown", func() bool {
				got, err := value(c, sql)
				return err == nil && got == want
			})
			wantValue(t, c, sql, want)
		}
	}
}

// TestAnswersOfWritesThatACrashLosesAreGivenUp lets a manager crash and come back without a commit that did not wait to be flushed, most often before the proxy has missed it.
func TestAnswersOfWritesThatACrashLosesAreGivenUp(t *testing.T) {
	t.Parallel()
	s, p, hits := newKeptCrew(t)
	_, id := s.apart(t)
	manager := s.cluster.Shards[1].Manager
	set(t, manager, "wal_writer_delay", "10s")
	for n := range 5 { // something else may flush it
		writer, reader := p.client(t), p.client(t)
		mustExec(t, reader, "SET pgtier.consistency = 'strong'")
		told := fmt.Sprint(1000 + n)
		for _, sql := range []string{"SET synchronous_commit = off", fmt.Sprintf("UPDATE accounts SET balance = %s WHERE id = %d", told, id)} {
			eventually(t, "it is done, once no connection is left that was killed", func() bool {
				_, err := writer.Exec(bounded(t), sql)
				return err == nil
			})
		}
		before := hits()
		for range 2 {
			wantValue(t, reader, balanceOf(id), told)
		}
		if hits() == before {
			t.Fatal("the answer is not kept, and the test proves nothing")
		}
		if err := manager.Kill(); err != nil {
			t.Fatal(err)
		}
		if err := manager.Start(bounded(t)); err != nil {
			t.Fatal(err)
		}
		left := s.on(t, 1, balanceOf(id))
		eventually(t, "what was lost is not shown", func() bool {
			got, err := value(reader, balanceOf(id))
			return err == nil && got == left
		})
		if left != told {
			return
		}
	}
	t.Error("nothing was lost, and the test proves nothing")
}

// raised is a row that one write at a time goes to.
type raised struct{ told, tried atomic.Int64 }

// TestAnswersAreNotOlderThanWritesThroughFailovers writes to two shards and reads them while their managers are killed, whose replicas have all that was acknowledged.
func TestAnswersAreNotOlderThanWritesThroughFailovers(t *testing.T) {
	t.Parallel()
	s, p := newSpreadCrew(t, func(d *proxy.Database) { d.Cache.Enabled, d.Cache.MaxDelay, d.Failover.Wait = true, 0, limit })
	var ids [2]int
	var regs [2]raised
	ids[0], ids[1] = s.apart(t)
	mustExec(t, p.client(t), fmt.Sprintf("UPDATE accounts SET balance = 0 WHERE id IN (%d, %d)", ids[0], ids[1]))
	for i, shard := range s.cluster.Shards {
		set(t, shard.Manager, "synchronous_standby_names", "*")
		eventually(t, "the replica is synchronous", func() bool {
			return s.on(t, i, "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1"
		})
	}
	stop := make(chan struct{})
	var load sync.WaitGroup
	end := sync.OnceFunc(func() { close(stop); load.Wait() })
	t.Cleanup(end)
	loop := func(do func(ctx context.Context, c *pgx.Conn)) (rounds *atomic.Int64) {
		rounds = new(atomic.Int64)
		load.Go(func() { // ended by stop
			var c *pgx.Conn
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Millisecond): // so that the machine's other work goes on too
				}
				ctx, done := context.WithTimeout(context.Background(), 2*limit)
				if c == nil || c.IsClosed() {
					if c, _ = pgx.Connect(ctx, p.dsn("postgres", "")); c == nil {
						done()
						continue
					}
					_, _ = c.Exec(ctx, "SET pgtier.consistency = 'strong'")
				}
				do(ctx, c)
				rounds.Add(1)
				done()
			}
		})
		return rounds
	}
	n := int64(0)
	all := []*atomic.Int64{loop(func(ctx context.Context, c *pgx.Conn) {
		n++
		to := regs[:]
		if i := n % 3; i < 2 {
			to = regs[i : i+1]
		}
		for i := range to {
			to[i].tried.Store(n)
		}
		sql := fmt.Sprintf("UPDATE accounts SET balance = %d WHERE id IN (%d, %d)", n, ids[0], ids[1])
		if len(to) == 1 {
			sql = fmt.Sprintf("UPDATE accounts SET balance = %d WHERE id = %d", n, ids[n%3])
		}
		if _, err := c.Exec(ctx, sql); err == nil {
			for i := range to {
				to[i].told.Store(n)
			}
		}
	})}
	for range 2 {
		for i := range ids {
			all = append(all, loop(func(ctx context.Context, c *pgx.Conn) {
				least, got := regs[i].told.Load(), int64(0)
				if err := c.QueryRow(ctx, balanceOf(ids[i])).Scan(&got); err == nil && (got < least || got > regs[i].tried.Load()) {
					t.Errorf("shard %d: read %d behind the write of %d", i, got, least)
				}
			}))
		}
		all = append(all, loop(func(ctx context.Context, c *pgx.Conn) {
			least, got := regs[0].told.Load()+regs[1].told.Load(), int64(0)
			if err := c.QueryRow(ctx, fmt.Sprintf("SELECT sum(balance) FROM accounts WHERE id IN (%d, %d)", ids[0], ids[1])).Scan(&got); err == nil && (got < least || got > regs[0].tried.Load()+regs[1].tried.Load()) {
				t.Errorf("both shards: read %d behind writes of %d", got, least)
			}
		}))
	}
	working := func() { // for a while
		for _, rounds := range all {
			before := rounds.Load()
			eventually(t, "the load goes on", func() bool { return rounds.Load() > before+12 })
		}
	}
	working()
	for i, shard := range s.cluster.Shards {
		if err := shard.Manager.Kill(); err != nil {
			t.Fatal(err)
		}
		s.promote(t, p, i)
		working()
	}
	end()
	sum := 0
	for i, shard := range s.cluster.Shards {
		eventually(t, "nothing is in doubt", func() bool {
			return pgtest.Value(t, shard.Replicas[0], s.database, "SELECT count(*) FROM pg_prepared_xacts") == "0" && p.CachesOf(s.database)[i].Unknown.Load() == 0
		})
	}
	c := p.client(t)
	for i, shard := range s.cluster.Shards {
		is := pgtest.Value(t, shard.Replicas[0], s.database, balanceOf(ids[i]))
		one := 0
		_, _ = fmt.Sscan(is, &one)
		sum += one
		for range 2 {
			wantValue(t, c, balanceOf(ids[i]), is)
		}
	}
	for range 2 {
		wantValue(t, c, fmt.Sprintf("SELECT sum(balance) FROM accounts WHERE id IN (%d, %d)", ids[0], ids[1]), fmt.Sprint(sum))
	}
}
