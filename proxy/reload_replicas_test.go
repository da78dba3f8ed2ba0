package proxy_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
)

// TestLostWriteAfterAReloadWithoutReplicas: that the session's last read was proved, when there were replicas, does not make
// a write one that may be sent again.
func TestLostWriteAfterAReloadWithoutReplicas(t *testing.T) {
	t.Parallel()
	c := newCrew(t, 1, nil)
	pgtest.Exec(t, c.manager, c.database, "CREATE TABLE t (v int)")
	p := c.serve(t, nil)
	c.settle(t, p)
	conn := p.client(t)
	if err := untilReplica(context.WithValue(bounded(t), throughProxy{}, p), conn); err != nil {
		t.Fatal(err)
	}
	replicas := c.shard.Replicas
	c.shard.Replicas = nil
	defer func() { c.shard.Replicas = replicas }()
	if err := p.Reload(c.config(t, nil)); err != nil {
		t.Fatal(err)
	}
	direct, err := pgx.Connect(bounded(t), c.manager.URL(c.database, "", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close(context.Background())
	end := hold(t, direct)
	mustValue(t, direct, "LOCK TABLE t")
	done := later(conn, "INSERT INTO t VALUES (9) /* lost_write */")
	// So late that it has certainly begun.
	c.endBackend(t, "lost_write", "wait_event_type = 'Lock' AND query_start < clock_timestamp() - interval '300 ms'", c.manager)
	end()
	wantError(t, <-done, "57P01", "terminating connection")
	wantValue(t, p.client(t), "SELECT count(*) FROM t", "0")
}

// TestReloadWithoutReplicas: a reload takes the last replica away. Sessions with a token, with a held BEGIN and inside a
// transaction there go on; one whose transaction has failed without a server stays in it.
func TestReloadWithoutReplicas(t *testing.T) {
	t.Parallel()
	c := newCrew(t, 1, nil)
	pgtest.Exec(t, c.manager, c.database, "CREATE TABLE t (v int)")
	edit := func(d *proxy.Database) { d.Pool.Size, d.Pool.WaitTimeout = 2, time.Second }
	p := c.serve(t, edit)
	c.settle(t, p)
	through := context.WithValue(bounded(t), throughProxy{}, p)
	token, reads, writes, inside, failed := p.client(t), p.client(t), p.client(t), p.client(t), p.client(t)
	p.insideReplica(t, inside, "BEGIN READ ONLY", "SELECT count(*) FROM t")
	first, second := hold(t, p.client(t)), hold(t, p.client(t))
	mustValue(t, failed, "BEGIN")
	_, err := value(failed, "INSERT INTO t VALUES (1)")
	wantError(t, err, "57P03", "")
	first()
	second()
	mustValue(t, token, "INSERT INTO t VALUES (2)")
	if err := untilReplica(through, token); err != nil { // it has seen that on the replica
		t.Fatal(err)
	}
	mustValue(t, token, "SET pgtier.lsn = '0/1'")
	mustValue(t, reads, "BEGIN READ ONLY")
	mustValue(t, writes, "BEGIN")

	replicas := c.shard.Replicas
	c.shard.Replicas = nil
	defer func() { c.shard.Replicas = replicas }()
	if err := p.Reload(c.config(t, edit)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	_, err = value(failed, "INSERT INTO t VALUES (1)")
	wantError(t, err, "25P02", "")
	mustValue(t, failed, "ROLLBACK")
	wantValue(t, token, "SELECT count(*) FROM t WHERE v = 2", "1")
	wantValue(t, inside, "SELECT 7", "7")
	mustValue(t, inside, "COMMIT")
	wantValue(t, reads, "SELECT count(*) FROM t", "1")
	wantValue(t, reads, "SHOW transaction_read_only", "on")
	mustValue(t, reads, "COMMIT")
	mustValue(t, writes, "INSERT INTO t VALUES (3)")
	mustValue(t, writes, "ROLLBACK")
	for _, conn := range []*pgx.Conn{failed, token, inside, reads, writes} {
		wantValue(t, conn, "SELECT string_agg(v::text, ' ' ORDER BY v) FROM t", "2")
		if got := conn.PgConn().TxStatus(); got != 'I' {
			t.Errorf("a session is in state %c", got)
		}
	}
	if took := time.Since(began); took > limit/2 {
		t.Errorf("something was waited for: %s", took)
	}
	eventually(t, "all connections are back", func() bool { return p.Lent() == 0 })
}
