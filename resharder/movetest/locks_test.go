package movetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"pgtier/cmd/localpg/pgtest"
)

// TestRowsThatAreLockedDoNotMove has transactions lock rows and tables without writing while a move comes to its cuts: what they have read stays as it is up to their
// end, as on one server.
func TestRowsThatAreLockedDoNotMove(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pgtest.Exec(t, r.cluster.Shards[0].Manager, r.names[0], `CREATE FUNCTION take(account int8) RETURNS int8 LANGUAGE plpgsql AS $$
DECLARE had int8;
BEGIN
	SELECT balance INTO had FROM accounts WHERE id = account FOR UPDATE;
	RETURN had;
END $$; CREATE VIEW taken AS SELECT * FROM accounts FOR UPDATE;
CREATE TABLE doors (account int8);
CREATE FUNCTION opens() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM take(NEW.account); RETURN NEW; END $$;
CREATE TRIGGER opens AFTER INSERT ON doors FOR EACH ROW EXECUTE FUNCTION opens();
CREATE FUNCTION declines() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE TRIGGER declines BEFORE UPDATE ON accounts FOR EACH ROW WHEN (NEW.balance = -1) EXECUTE FUNCTION declines();
CREATE TABLE passed (had int8);
CREATE FUNCTION passes(account int8) RETURNS int8 LANGUAGE plpgsql AS $$
DECLARE had int8 := take(account);
BEGIN
	PERFORM pg_advisory_xact_lock(7);
	INSERT INTO passed VALUES (had);
	RETURN had;
END $$`)
	r.widen()
	advisory := "SELECT pg_advisory_xact_lock(id) FROM accounts WHERE id = 1"
	type older struct {
		process int
		tx      pgx.Tx
	}
	var early []older // none of them has an id
	for _, sql := range []string{advisory, "DECLARE c CURSOR FOR SELECT balance FROM accounts WHERE id = 1 FOR UPDATE"} {
		tx, err := r.connect(r.proxies[0].url("app")).Begin(r.ctx())
		r.try(err)
		_, err = tx.Exec(r.ctx(), sql)
		r.try(err)
		process := 0
		r.try(tx.QueryRow(r.ctx(), "SELECT pg_backend_pid()").Scan(&process))
		early = append(early, older{process, tx})
	}
	joining := r.join("s1")
	for _, one := range early {
		r.untilSaid(joining, fmt.Sprintf("older than the move: process %d ", one.process))
		select {
		case out := <-joining:
			t.Fatalf("the move has not waited for the locks of an older transaction: %s", out)
		default:
		}
		r.try(one.tx.Commit(r.ctx()))
	}
	r.joined(joining)
	locks := []struct {
		name  string
		sql   []string // in one transaction
		other string   // what the other transaction does before it writes
	}{
		{"rows", []string{"BEGIN", "SELECT balance FROM accounts WHERE id = 1 FOR UPDATE"}, ""},
		{"rows in one text with BEGIN", []string{"BEGIN; SELECT balance FROM accounts WHERE id = 1 FOR UPDATE"}, ""},
		{"rows of several shards", []string{"BEGIN", "SELECT id FROM accounts WHERE balance = 0 FOR NO KEY UPDATE"}, ""},
		{"rows by an advisory lock", []string{"BEGIN", advisory}, advisory},
		{"rows in a function", []string{"BEGIN", "/* pgtier: shard=s0 */ SELECT take(1)"}, ""},
		{"a table", []string{"BEGIN", "LOCK TABLE accounts IN EXCLUSIVE MODE"}, ""},
		{"rows of a statement prepared by SQL", []string{"SET pgtier.shard = 's0'", "SELECT pg_advisory_lock(1)", "PREPARE taking AS SELECT FROM accounts WHERE id = 1 FOR UPDATE", "BEGIN", "EXECUTE taking"}, ""},
		{"rows in a function that a cursor calls", []string{"BEGIN", "/* pgtier: shard=s0 */ DECLARE c CURSOR FOR SELECT take(1)", "FETCH c"}, ""},
		{"rows in a function that a write calls", []string{"BEGIN", "/* pgtier: shard=s0 */ INSERT INTO notes (body) SELECT take(1)::text"}, ""},
		{"rows in a function called for another row", []string{"BEGIN", "/* pgtier: shard=s0 */ SELECT take(1) FROM accounts WHERE id = 2"}, ""},
		{"rows in a trigger of a table that does not move", []string{"BEGIN", "/* pgtier: shard=s0 */ INSERT INTO doors VALUES (1)"}, ""},
		{"rows of which a trigger turns the change down", []string{"BEGIN", "UPDATE accounts SET balance = -1 WHERE id = 1"}, ""},
		{"rows through a view", []string{"BEGIN", "/* pgtier: shard=s0 */ SELECT FROM taken WHERE id = 1"}, ""},
	}
	for _, lock := range locks {
		one, other := r.connect(r.proxies[0].url("app")), r.connect(r.proxies[1].url("app"))
		for _, sql := range lock.sql {
			_, err := one.Exec(r.ctx(), sql, pgx.QueryExecModeSimpleProtocol)
			r.try(err)
		}
		done := make(chan string, 1)
		go func() { // ends with the command
			defer close(done)
			if status, out := r.command(r.ctx(), "reshard", "cutover"); status != 0 {
				done <- out
			}
		}()
		r.untilSaid(done, "is still in its transaction")
		select {
		case <-done:
			t.Errorf("%s: they have moved while they were locked", lock.name)
		default:
		}
		written := make(chan error, 1)
		go func() { // ends with the statement
			ctx, stop := context.WithTimeout(context.Background(), patience)
			defer stop()
			tx, err := other.Begin(ctx)
			if err == nil && lock.other != "" {
				_, err = tx.Exec(ctx, lock.other)
			}
			if err == nil {
				_, err = tx.Exec(ctx, "UPDATE accounts SET balance = balance + 100 WHERE id = 1")
			}
			if err == nil {
				err = tx.Commit(ctx)
			}
			written <- err
		}()
		var balance int
		r.try(one.QueryRow(r.ctx(), "SELECT balance FROM accounts WHERE id = 1", pgx.QueryExecModeSimpleProtocol).Scan(&balance))
		select {
		case err := <-written:
			t.Errorf("%s: another transaction has written to what is locked, and heard %v", lock.name, err)
			written <- err
		default:
		}
		_, err := one.Exec(r.ctx(), fmt.Sprintf("UPDATE accounts SET balance = %d WHERE id = 1", balance+1))
		if err == nil {
			_, err = one.Exec(r.ctx(), "COMMIT")
		}
		if err != nil {
			t.Errorf("%s: the transaction that has the lock heard %v", lock.name, err)
		}
		r.try(<-written)
		r.joined(done)
		r.moved(1, 1)
		var now int
		r.try(other.QueryRow(r.ctx(), "SELECT balance FROM accounts WHERE id = 1").Scan(&now))
		if now != balance+101 {
			t.Errorf("%s: the balance was %d and is %d, want %d: an update is lost", lock.name, balance, now, balance+101)
		}
		_, err = other.Exec(r.ctx(), "UPDATE accounts SET balance = 0 WHERE id = 1")
		r.try(err)
		r.reshard("rollback")
	}
	r.codeLocksAlone()
	r.reshard("cancel")
	r.leftovers()
	r.sane()
}

// codeLocksAlone has a function lock a row, and write elsewhere by it, in a transaction of its own.
func (r *rig) codeLocksAlone() {
	r.t.Helper()
	door, err := pgx.Connect(r.ctx(), r.direct(0))
	r.try(err)
	r.t.Cleanup(func() { _ = door.Close(r.ctx()) })
	_, err = door.Exec(r.ctx(), "SELECT pg_advisory_lock(7)")
	r.try(err)
	passed := make(chan error, 1)
	one := r.connect(r.proxies[0].url("app"))
	go func() { // ends with the statement
		ctx, stop := context.WithTimeout(context.Background(), patience)
		defer stop()
		_, err := one.Exec(ctx, "/* pgtier: shard=s0 */ SELECT passes(1)", pgx.QueryExecModeSimpleProtocol)
		passed <- err
	}()
	process := 0
	eventually(r.t, patience, func() string {
		r.try(door.QueryRow(r.ctx(), "SELECT coalesce(max(pid), 0) FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND NOT granted").Scan(&process))
		if process == 0 {
			return "the function does not wait with its row"
		}
		return ""
	})
	done := make(chan string, 1)
	go func() { // ends with the command
		defer close(done)
		if status, out := r.command(r.ctx(), "reshard", "cutover"); status != 0 {
			done <- out
		}
	}()
	r.untilSaid(done, fmt.Sprintf("process %d ", process))
	select {
	case <-done:
		r.t.Error("rows that a function has locked have moved before it wrote by them")
	default:
	}
	_, err = door.Exec(r.ctx(), "SELECT pg_advisory_unlock(7)")
	r.try(err)
	r.try(<-passed)
	r.joined(done)
	r.moved(1, 1)
	r.reshard("rollback")
}

// pipeline is a client that sends no Sync.
func (r *rig) pipeline(of *pgx.Conn) *pgconn.HijackedConn {
	r.t.Helper()
	c, err := of.PgConn().Hijack()
	r.try(err)
	r.t.Cleanup(func() { _ = c.Conn.Close() })
	return c
}

// flushed sends a statement with Flush, and returns the error that it ends in, nil for none.
func (r *rig) flushed(c *pgconn.HijackedConn, sql string) *pgproto3.ErrorResponse {
	r.t.Helper()
	c.Frontend.Send(&pgproto3.Parse{Query: sql})
	c.Frontend.Send(&pgproto3.Bind{})
	c.Frontend.Send(&pgproto3.Execute{})
	c.Frontend.Send(&pgproto3.Flush{})
	r.try(c.Frontend.Flush())
	for {
		msg, err := c.Frontend.Receive()
		r.try(err)
		switch msg := msg.(type) {
		case *pgproto3.ErrorResponse:
			return &pgproto3.ErrorResponse{Severity: msg.Severity, Code: msg.Code, Message: msg.Message}
		case *pgproto3.CommandComplete:
			return nil
		}
	}
}

// TestPipelinesWithoutSyncDuringMoves has clients rest in the middle of pipelines: who has all answers holds up no move, and what is locked is not relied upon where
// nobody could be asked to have it stay.
func TestPipelinesWithoutSyncDuringMoves(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.widen()
	failed := r.pipeline(r.connect(r.proxies[0].url("app")))
	if e := r.flushed(failed, "SELECT FROM nothing"); e == nil {
		t.Fatal("a table that is not there was read")
	}
	r.joined(r.join("s1"))
	own := r.connect(r.proxies[0].url("app"))
	for _, sql := range []string{"SET pgtier.shard = 's0'", "SELECT pg_advisory_lock(1)"} {
		_, err := own.Exec(r.ctx(), sql, pgx.QueryExecModeSimpleProtocol)
		r.try(err)
	}
	c := r.pipeline(own)
	for _, sql := range []string{"SELECT FROM accounts WHERE id = 1", "SELECT FROM accounts WHERE id = 1 FOR UPDATE"} {
		if e := r.flushed(c, sql); e != nil {
			t.Fatalf("%s: %s: %s", sql, e.Code, e.Message)
		}
	}
	if e := r.flushed(c, "UPDATE accounts SET balance = 1 WHERE id = 1"); e == nil || e.Severity != "FATAL" || e.Code != "0A000" {
		t.Fatalf("a write behind a lock that nobody was asked for, in one transaction with it, heard %+v", e)
	}
	r.reshard("cancel")
	r.leftovers()
	r.sane()
}
