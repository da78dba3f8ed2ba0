package proxy_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
)

// waitForNobody makes commits on the manager wait for a standby that is not there. The returned function ends that.
func (c *crew) waitForNobody(t *testing.T) (end func()) {
	t.Helper()
	c.awaitStandby(t, "missing")
	eventually(t, "commits wait", func() bool { return c.commitWaits(t) }) // the checkpointer has read it, too
	return func() { c.awaitStandby(t, "") }
}

// commitThatWaits updates t on the manager and returns when a session of the proxy has read the new value on the replica,
// which the manager does not show.
func (c *crew) commitThatWaits(t *testing.T, p *running) (reader *pgx.Conn, committed <-chan error) {
	t.Helper()
	writer, err := pgx.Connect(bounded(t), c.manager.URL(c.database, "", ""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = writer.Close(context.Background()) })
	done := later(writer, "UPDATE t SET v = 1")
	reader = p.client(t)
	eventually(t, "the replica shows the commit that waits", func() bool { return mustValue(t, reader, "SELECT v FROM t") == "1" })
	if got := pgtest.Value(t, c.manager, c.database, "SELECT v FROM t"); got != "0" {
		t.Fatalf("the manager shows %s: the commit does not wait, and the test proves nothing", got)
	}
	return reader, done
}

// TestCommitThatWaitsForAStandby: the replica shows a commit that the manager does not show yet. Who has seen it there must
// not be given an older answer by the manager.
func TestCommitThatWaitsForAStandby(t *testing.T) {
	t.Parallel()
	c, p := settledCrew(t, 1, "CREATE TABLE t (v int); INSERT INTO t VALUES (0)", func(d *proxy.Database) { d.Failover.Wait = 3 * time.Second })
	onManager := map[string]string{
		"write transaction": "BEGIN; SELECT v FROM t; COMMIT",
		"level manager":     "/* pgtier: consistency=manager */ SELECT v FROM t",
		"locking read":      "SELECT v FROM t FOR SHARE",
	}
	t.Run("the manager's answer waits for it", func(t *testing.T) {
		end := c.waitForNobody(t)
		reader, committed := c.commitThatWaits(t, p)
		others := map[string]*pgx.Conn{}
		answers := map[string]<-chan string{}
		for name := range onManager {
			others[name] = p.client(t)
			eventually(t, "the replica shows it to others", func() bool { return mustValue(t, others[name], "SELECT v FROM t") == "1" })
		}
		for name, sql := range onManager {
			answers[name] = answer(others[name], sql)
		}
		p.waiting(t, len(onManager))
		// The replica goes on, longer than the wait without synchronous standbys, so that whoever gives up has done so.
		for began := time.Now(); time.Since(began) < 2700*time.Millisecond; {
			wantValue(t, reader, "SELECT v FROM t", "1")
		}
		end()
		if err := <-committed; err != nil {
			t.Fatal(err)
		}
		for name, heard := range answers {
			if got := <-heard; got != "1" {
				t.Errorf("%s: got %q, want 1, which the session had read before", name, got)
			}
		}
		pgtest.Exec(t, c.manager, c.database, "UPDATE t SET v = 0")
		c.settle(t, p)
	})
	t.Run("and fails when it does not come", func(t *testing.T) {
		end := c.waitForNobody(t)
		reader, committed := c.commitThatWaits(t, p)
		_, err := value(reader, "SELECT v FROM t FOR SHARE")
		wantError(t, err, "57P03", "the manager does not show yet")
		wantValue(t, reader, "SELECT v FROM t", "1")
		wantValue(t, p.client(t), "/* pgtier: consistency=manager */ SELECT v FROM t", "0") // who has not seen it
		waits := later(reader, "SELECT v FROM t FOR SHARE")
		p.waiting(t, 1)
		if err := reader.PgConn().CancelRequest(bounded(t)); err != nil {
			t.Fatal(err)
		}
		wantError(t, <-waits, "57014", "")
		end()
		if err := <-committed; err != nil {
			t.Fatal(err)
		}
		wantValue(t, reader, "SELECT v FROM t FOR SHARE", "1")
	})
}

// TestWaitForTheManagerOutlivesIt: the manager is lost while a session waits until it shows what the session has read from a
// replica. The new one shows it, and is the one to be asked: connections of the old one are waited for in vain.
func TestWaitForTheManagerOutlivesIt(t *testing.T) {
	c, p := settledCrew(t, 1, "CREATE TABLE t (v int); INSERT INTO t VALUES (0)", func(d *proxy.Database) { d.Failover.Wait = limit })
	c.waitForNobody(t)
	reader, _ := c.commitThatWaits(t, p)
	heard := answer(reader, "SELECT v FROM t FOR SHARE")
	p.waiting(t, 1)
	if err := c.manager.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.shard.Replicas[0].Promote(bounded(t)); err != nil {
		t.Fatal(err)
	}
	promoted := time.Now()
	if got := <-heard; got != "1" {
		t.Errorf("got %q, want 1, which the session had read before", got)
	}
	// pool.server_down_wait is 15 s: no other wait is as long.
	if took := time.Since(promoted); took > 12*time.Second {
		t.Errorf("the new manager was not asked for %s", took)
	}
}

// TestTokenIsCarriedToAnotherProxy: a session that is given another's position through pgtier.lsn sees what that one had
// written, or had read from a replica ahead of the manager.
func TestTokenIsCarriedToAnotherProxy(t *testing.T) {
	t.Parallel()
	c, p := settledCrew(t, 1, "CREATE TABLE t (v int); INSERT INTO t VALUES (0)", nil)
	other := c.serve(t, nil)
	c.settle(t, other)
	t.Run("of a write", func(t *testing.T) {
		pgtest.Exec(t, c.shard.Replicas[0], "postgres", "SELECT pg_wal_replay_pause()")
		writer, reader := p.client(t), other.client(t)
		wantValue(t, reader, "SELECT v FROM t", "0")
		mustValue(t, writer, "UPDATE t SET v = 7")
		wantValue(t, reader, "SELECT v FROM t", "0") // the replica's answer, as level session allows
		mustValue(t, reader, "SET pgtier.lsn = '"+mustValue(t, writer, "SHOW pgtier.lsn")+"'")
		wantValue(t, reader, "SELECT v FROM t", "7")
		pgtest.Exec(t, c.shard.Replicas[0], "postgres", "SELECT pg_wal_replay_resume()")
		mustValue(t, writer, "UPDATE t SET v = 0")
		c.settle(t, p)
		c.settle(t, other)
	})
	t.Run("of a read", func(t *testing.T) {
		end := c.waitForNobody(t)
		reader, committed := c.commitThatWaits(t, p)
		another := other.client(t)
		wantValue(t, another, "BEGIN; SELECT v FROM t; COMMIT", "0")
		mustValue(t, another, "SET pgtier.lsn = '"+mustValue(t, reader, "SHOW pgtier.lsn")+"'")
		heard := answer(another, "BEGIN; SELECT v FROM t; COMMIT")
		other.waiting(t, 1)
		end()
		if err := <-committed; err != nil {
			t.Fatal(err)
		}
		if got := <-heard; got != "1" {
			t.Errorf("got %q, want 1, which the token stands for", got)
		}
	})
}

// TestOpenWriteHoldsUpNobody: what an open transaction has written is in the manager's log and, while nobody commits, not
// flushed, so no replica gets it. Who has read from a replica and comes to the manager has not seen it, and need not wait.
func TestOpenWriteHoldsUpNobody(t *testing.T) {
	t.Parallel()
	c, p := settledCrew(t, 1, "CREATE TABLE t (v int); INSERT INTO t VALUES (0)", func(d *proxy.Database) { d.Failover.Wait = limit })
	c.awaitStandby(t, c.shard.Replicas[0].Name)
	c.settle(t, p)
	writer, reader := p.client(t), p.client(t)
	mustValue(t, writer, "BEGIN; INSERT INTO t VALUES (1)")
	wantValue(t, reader, "SELECT v FROM t", "0")
	t.Log(mustValue(t, reader, "SHOW pgtier.last_route"))
	began := time.Now()
	wantValue(t, reader, "SELECT v FROM t FOR SHARE", "0")
	if took := time.Since(began); took > limit/4 {
		t.Errorf("it waited %s", took)
	}
	mustValue(t, writer, "COMMIT")
}
