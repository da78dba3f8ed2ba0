package movetest

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5"

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
END $$`)
	r.widen()
	r.joined(r.join("s1"))
	locks := []struct {
		name string
		sql  []string // in one transaction
	}{
		{"rows", []string{"BEGIN", "SELECT balance FROM accounts WHERE id = 1 FOR UPDATE"}},
		{"rows in one text with BEGIN", []string{"BEGIN; SELECT balance FROM accounts WHERE id = 1 FOR UPDATE"}},
		{"rows of several shards", []string{"BEGIN", "SELECT id FROM accounts WHERE balance = 0 FOR NO KEY UPDATE"}},
		{"rows in a function", []string{"BEGIN", "/* pgtier: shard=s0 */ SELECT take(1)"}},
		{"a table", []string{"BEGIN", "LOCK TABLE accounts IN EXCLUSIVE MODE"}},
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
			_, err := other.Exec(ctx, "UPDATE accounts SET balance = balance + 100 WHERE id = 1")
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
	r.reshard("cancel")
	r.leftovers()
	r.sane()
}
