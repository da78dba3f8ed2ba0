package proxy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/wire"
)

// TestTokenThatIsNotKnown: the manager does not answer, so nobody knows what position the session's last read stands for.
// SHOW pgtier.lsn must not tell a lower one.
func TestTokenThatIsNotKnown(t *testing.T) {
	t.Parallel()
	c := newCrew(t, 1, nil)
	serve := func(wait time.Duration) *running {
		waits := func(wait time.Duration) func(*proxy.Database) {
			return func(d *proxy.Database) { d.Failover.Wait, d.Reads.Consistency, d.Reads.MaxLag = wait, "eventual", 0 }
		}
		p := c.serve(t, waits(limit)) // the first client may come before the manager has been found
		c.settle(t, p)
		if err := p.Reload(c.config(t, waits(wait))); err != nil {
			t.Fatal(err)
		}
		return p
	}
	brief, patient := serve(0), serve(limit)
	clients := map[*running][]*pgx.Conn{}
	for p, n := range map[*running]int{brief: 1, patient: 3} {
		for range n {
			conn := p.client(t)
			mustValue(t, conn, "SELECT 1")
			clients[p] = append(clients[p], conn)
		}
	}
	if err := c.manager.Pause(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.manager.Continue() })
	inside := func(conn *pgx.Conn) {
		t.Helper()
		mustValue(t, conn, "SELECT 1") // on the replica, as of a question that nobody answers
		mustValue(t, conn, "BEGIN READ ONLY")
		mustValue(t, conn, "SELECT 1")
	}
	t.Run("in a transaction on a replica", func(t *testing.T) {
		conn := clients[brief][0]
		inside(conn)
		got, err := value(conn, "SHOW pgtier.lsn")
		wantError(t, err, "57P03", "the position of what this session has written and read")
		if state := conn.PgConn().TxStatus(); got != "" || state != 'E' {
			t.Errorf("got %q in state %c, want nothing in state E", got, state)
		}
		mustValue(t, conn, "ROLLBACK")
	})
	t.Run("by itself", func(t *testing.T) {
		conn := clients[brief][0]
		mustValue(t, conn, "SELECT 1")
		_, err := value(conn, "SHOW pgtier.lsn")
		wantError(t, err, "57P03", "the position of what this session has written and read")
		mustValue(t, conn, "SELECT 1")
	})
	t.Run("a cancel ends the wait", func(t *testing.T) {
		for i, conn := range clients[patient][:2] {
			last := "SELECT 1"
			if i == 0 {
				inside(conn)
				last = "ROLLBACK"
			} else {
				mustValue(t, conn, "SELECT 1")
			}
			heard := later(conn, "SHOW pgtier.lsn")
			patient.waiting(t, 1)
			if err := conn.PgConn().CancelRequest(bounded(t)); err != nil {
				t.Fatal(err)
			}
			wantError(t, <-heard, "57014", "")
			mustValue(t, conn, last)
		}
	})
	t.Run("a kill ends the wait", func(t *testing.T) {
		conn := clients[patient][2]
		inside(conn)
		heard := later(conn, "SHOW pgtier.lsn")
		patient.waiting(t, 1)
		for _, s := range patient.Sessions() {
			if s.Info().State.String() == "waiting" {
				s.Kill(&wire.Error{Severity: "FATAL", Code: "57P01", Message: "ended by the test"})
			}
		}
		wantError(t, <-heard, "57P01", "ended by the test")
	})
	t.Run("and comes when the manager answers", func(t *testing.T) {
		conn := clients[patient][0]
		mustValue(t, conn, "SELECT 1")
		heard := answer(conn, "SHOW pgtier.lsn")
		patient.waiting(t, 1)
		if err := c.manager.Continue(); err != nil {
			t.Fatal(err)
		}
		if got := <-heard; got == "" || got == "0/0" {
			t.Errorf("got %q, want a position", got)
		}
	})
}

// TestATokenIsToldWithoutReplicas: a proxy that has one server and keeps nothing gives a session's token, too. Another one, whose cache knows
// nothing of what the session has written, has to ask the server then.
func TestATokenIsToldWithoutReplicas(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 0)")
	p := r.serve(t, nil)
	other, hits := r.keepsTables(t, nil)
	writer := p.client(t)
	for name, show := range map[string]string{"by itself": "SHOW pgtier.lsn", "in a transaction": "BEGIN; SHOW pgtier.lsn; COMMIT"} {
		t.Run(name, func(t *testing.T) {
			reader := other.client(t)
			old := ""
			eventually(t, "the answer is kept", func() bool {
				before := hits()
				old = mustValue(t, reader, "SELECT v FROM t")
				return hits() > before
			})
			fresh := mustValue(t, writer, "UPDATE t SET v = v + 1 RETURNING v")
			wantValue(t, reader, "SELECT v FROM t", old)
			mustValue(t, reader, "SET pgtier.lsn = '"+mustValue(t, writer, show)+"'")
			wantValue(t, reader, "SELECT v FROM t", fresh)
			mustValue(t, other.client(t), "UPDATE t SET v = v") // has the other know
		})
	}
}

// TestATokenIsNotOfOneShard: a token is a position in the log of one shard, which says nothing of another's. The session reads from managers then.
func TestATokenIsNotOfOneShard(t *testing.T) {
	t.Parallel()
	options := spreadOptions
	options.Shards, options.Replicas = 2, 1
	s := newKeptShards(t, &options, time.Second, nil)
	other := s.start(t, s.cfg)
	a, b := s.key(t, 1, 0), s.key(t, 0, 0)
	// The log of the shard is longer than home's.
	pgtest.Exec(t, s.cluster.Shards[1].Manager, "postgres", "CREATE TABLE filler AS SELECT g FROM generate_series(1, 100000) g")
	if err := s.cluster.Shards[1].CatchUp(bounded(t)); err != nil {
		t.Fatal(err)
	}
	writer := s.p.client(t)
	read := "/* pgtier: cache=off */ " + readReg(a)
	eventually(t, "a replica serves", func() bool {
		c := other.client(t)
		mustValue(t, c, read)
		return strings.Contains(mustValue(t, c, "SHOW pgtier.last_route"), "replica s1-r1")
	})
	pgtest.Exec(t, s.cluster.Shards[1].Replicas[0], "postgres", "SELECT pg_wal_replay_pause()")
	defer pgtest.Exec(t, s.cluster.Shards[1].Replicas[0], "postgres", "SELECT pg_wal_replay_resume()")
	mustValue(t, writer, fmt.Sprintf("UPDATE regs SET v = 7 WHERE id = %d", a))
	mustValue(t, writer, fmt.Sprintf("UPDATE regs SET v = 7 WHERE id = %d", b))
	token := mustValue(t, writer, "SHOW pgtier.lsn")
	for range 5 {
		reader := other.client(t)
		mustValue(t, reader, "SET pgtier.lsn = '"+token+"'")
		if got := mustValue(t, reader, read); got != "7" {
			t.Errorf("with token %s: got %s by way of %s, want 7", token, got, mustValue(t, reader, "SHOW pgtier.last_route"))
		}
	}
	wantValue(t, other.client(t), read, "0") // by the replica
}
