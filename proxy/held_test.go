package proxy_test

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/pool"
)

// heldSQL makes what heldTexts speak of.
const heldSQL = "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)"

// heldTexts compares what clients see of transactions whose BEGIN is held back with what they see of manager itself.
func heldTexts(t *testing.T, manager *localpg.Server, database string, p *running) {
	t.Helper()
	for name, texts := range map[string][]string{
		"empty":                             {"BEGIN", "COMMIT", "BEGIN", "ROLLBACK", "BEGIN", "END", "START TRANSACTION", "ABORT"},
		"empty, extended":                   {"BEGIN", "x:COMMIT", "BEGIN", "x:ROLLBACK"},
		"empty, chained":                    {"BEGIN", "COMMIT AND CHAIN", "SELECT 1", "COMMIT"},
		"empty query inside":                {"BEGIN", "", "SELECT 1", "COMMIT"},
		"BEGIN twice":                       {"BEGIN", "BEGIN", "SELECT 1", "COMMIT"},
		"COMMIT twice":                      {"BEGIN", "COMMIT", "COMMIT"},
		"several in one query":              {"BEGIN; SELECT 1", "SELECT 2; COMMIT", "BEGIN; COMMIT"},
		"spaces and comments":               {"  \n begin", "commit", "/* a */ BEGIN", "COMMIT", "-- start\nBEGIN", "COMMIT", "BEGIN;", "COMMIT;"},
		"START TRANSACTION":                 {"start transaction", "SELECT 1", "commit work"},
		"BEGIN WORK":                        {"BEGIN WORK", "SELECT 1", "END TRANSACTION", "BEGIN TRANSACTION ISOLATION LEVEL READ COMMITTED", "ROLLBACK WORK"},
		"syntax error":                      {"BEGIN", "SELEC 1", "SELECT 1", "COMMIT"},
		"error first":                       {"BEGIN", "SELECT 1/(id-id) FROM t", "SELECT 1", "COMMIT", "SELECT 1"},
		"error first, extended":             {"BEGIN", "x:SELECT 1/(id-id) FROM t", "x:SELECT 1", "x:COMMIT", "SELECT 1"},
		"error in READ ONLY":                {"BEGIN READ ONLY", "SELECT 1/(id-id) FROM t", "SELECT 1", "COMMIT", "SELECT 1"},
		"savepoint first":                   {"BEGIN", "SAVEPOINT a", "SELECT nothing", "ROLLBACK TO a", "SELECT 1", "RELEASE a", "COMMIT"},
		"savepoint first, READ ONLY":        {"BEGIN READ ONLY", "SAVEPOINT a", "SELECT nothing", "ROLLBACK TO a", "SELECT 1", "RELEASE a", "COMMIT"},
		"ROLLBACK TO first":                 {"BEGIN", "ROLLBACK TO a", "SELECT 1", "ROLLBACK"},
		"SET LOCAL first":                   {"BEGIN", "SET LOCAL work_mem = '2MB'", "SELECT current_setting('work_mem')", "COMMIT", "SELECT current_setting('work_mem')"},
		"SET first, rolled back":            {"BEGIN", "SET work_mem = '2MB'", "ROLLBACK", "SELECT current_setting('work_mem')"},
		"SET TRANSACTION":                   {"BEGIN", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SHOW transaction_isolation", "COMMIT"},
		"SET TRANSACTION, too late":         {"BEGIN", "SELECT 1", "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "COMMIT"},
		"READ ONLY is shown":                {"BEGIN READ ONLY", "SHOW transaction_read_only", "COMMIT", "SHOW transaction_read_only"},
		"PREPARE in it":                     {"BEGIN", "PREPARE p AS SELECT 1", "EXECUTE p", "COMMIT", "EXECUTE p", "DEALLOCATE p"},
		"PREPARE, rolled back":              {"BEGIN", "PREPARE p AS SELECT 1", "ROLLBACK", "EXECUTE p", "DEALLOCATE ALL"},
		"EXECUTE of nothing":                {"BEGIN", "EXECUTE nothing", "SELECT 1", "COMMIT"},
		"DEALLOCATE ALL in it":              {"BEGIN", "DEALLOCATE ALL", "COMMIT"},
		"DISCARD ALL in it":                 {"BEGIN", "DISCARD ALL", "COMMIT"},
		"VACUUM in it":                      {"BEGIN", "VACUUM t", "COMMIT"},
		"LISTEN in it":                      {"BEGIN", "LISTEN c", "COMMIT", "UNLISTEN *"},
		"write and read":                    {"BEGIN", "INSERT INTO t VALUES (2)", "SELECT count(*) FROM t", "ROLLBACK", "SELECT count(*) FROM t"},
		"own settings, failed":              {"BEGIN", "SELECT nothing", "SHOW transaction_isolation", "ROLLBACK"},
		"write in READ ONLY":                {"BEGIN READ ONLY", "INSERT INTO t VALUES (2)", "SELECT 1", "COMMIT"},
		"cursor":                            {"BEGIN", "DECLARE k CURSOR FOR SELECT id FROM t", "FETCH ALL FROM k", "COMMIT"},
		"READ ONLY, chained":                {"BEGIN READ ONLY", "SELECT 1", "COMMIT AND CHAIN", "SHOW transaction_read_only", "ROLLBACK AND CHAIN", "SELECT 2", "COMMIT"},
		"READ WRITE after all":              {"BEGIN READ ONLY", "SET TRANSACTION READ WRITE", "INSERT INTO t VALUES (7)", "SHOW transaction_read_only", "ROLLBACK"},
		"READ WRITE, extended":              {"x:BEGIN READ ONLY", "x:SET TRANSACTION READ WRITE", "x:INSERT INTO t VALUES (7)", "ROLLBACK"},
		"READ WRITE, extended BEGIN":        {"x:BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "SET TRANSACTION READ WRITE", "INSERT INTO t VALUES (7)", "SHOW transaction_isolation", "ROLLBACK"},
		"READ WRITE, extended SET":          {"BEGIN READ ONLY", "x:SET TRANSACTION READ WRITE", "INSERT INTO t VALUES (7)", "ROLLBACK"},
		"READ WRITE, extended, in one text": {"x:BEGIN READ ONLY", "SET TRANSACTION READ WRITE; INSERT INTO t VALUES (7)", "ROLLBACK"},
		"READ WRITE in one text":            {"BEGIN READ ONLY", "SET TRANSACTION READ WRITE; INSERT INTO t VALUES (7)", "ROLLBACK"},
		"READ WRITE, too late":              {"x:BEGIN READ ONLY", "x:SELECT id FROM t", "x:SET TRANSACTION READ WRITE", "ROLLBACK"},
		"READ WRITE behind a savepoint":     {"x:BEGIN READ ONLY", "x:SAVEPOINT a", "x:SET TRANSACTION READ WRITE", "ROLLBACK"},
		"READ ONLY again":                   {"x:BEGIN READ ONLY", "x:SET TRANSACTION READ ONLY", "x:INSERT INTO t VALUES (7)", "ROLLBACK"},
		"SERIALIZABLE after all":            {"x:BEGIN READ ONLY", "x:SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "x:SELECT id FROM t", "SHOW transaction_isolation", "COMMIT"},
		"SERIALIZABLE, extended SET":        {"BEGIN READ ONLY", "x:SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "x:SELECT id FROM t", "COMMIT"},
		"two-phase":                         {"BEGIN", "INSERT INTO t VALUES (9)", "PREPARE TRANSACTION 'held'", "ROLLBACK PREPARED 'held'"},
		"advisory lock in READ WRITE":       {"BEGIN", "SELECT pg_try_advisory_xact_lock(5)", "COMMIT"},
	} {
		t.Run(name, func(t *testing.T) {
			direct, err := pgx.Connect(bounded(t), manager.URL(database, "", ""))
			if err != nil {
				t.Fatal(err)
			}
			defer direct.Close(context.Background())
			want, err := steps(bounded(t), direct, texts)
			if err != nil {
				t.Fatal(err)
			}
			conn := p.client(t)
			got, err := steps(bounded(t), conn, texts)
			if err != nil {
				t.Fatalf("%v after\n%s", err, got)
			}
			if got != want {
				t.Errorf("%q\ngot\n%swant\n%s", texts, got, want)
			}
			wantValue(t, conn, "SELECT count(*) FROM t", "1")
		})
	}
}

// TestHeldBeginBehavesAsOne: a BEGIN that waits for its first statement looks to the client as if it had been sent.
func TestHeldBeginBehavesAsOne(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, heldSQL)
	heldTexts(t, r.manager, r.database, r.serve(t, nil))
}

// TestHeldBeginTakesNoConnection: transactions that have only begun leave the one connection to others.
func TestHeldBeginTakesNoConnection(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, pools(func(c *pool.Config) { c.Size = 1 }))
	begun := map[string]*pgx.Conn{}
	for name, begin := range map[string]ask{"simple": simple("BEGIN"), "extended": extended(pgx.QueryExecModeExec, "BEGIN"), "prepared": extended(pgx.QueryExecModeCacheStatement, "BEGIN")} {
		begun[name] = p.client(t)
		if got, err := begin(bounded(t), begun[name], ""); err != nil || got != "BEGIN;" {
			t.Fatalf("%s: %q %v", name, got, err)
		}
	}
	mustValue(t, p.client(t), "SELECT 1")
	for name, c := range begun {
		if got := c.PgConn().TxStatus(); got != 'T' {
			t.Errorf("%s: the transaction is in state %c", name, got)
		}
		wantValue(t, c, "SELECT 2", "2")
		mustValue(t, c, "COMMIT")
	}
}

// TestHeldBeginGoesWhereItsStatementsGo: by whatever protocol it began, a transaction on one shard is nothing to the others.
func TestHeldBeginGoesWhereItsStatementsGo(t *testing.T) {
	s, p := newSpread(t)
	a, b := s.apart(t)
	for _, text := range []string{"BEGIN", "x:BEGIN"} {
		for _, id := range []int{a, b} {
			c := p.client(t)
			if _, err := steps(bounded(t), c, []string{text, fmt.Sprintf("UPDATE accounts SET balance = balance + 1 WHERE id = %d", id)}); err != nil {
				t.Fatal(err)
			}
			open := 0
			for shard := range s.cluster.Shards {
				n, err := strconv.Atoi(s.on(t, shard, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"))
				if err != nil {
					t.Fatal(err)
				}
				open += n
			}
			if open != 1 {
				t.Errorf("%s: %d shards have a transaction, want 1", text, open)
			}
			mustValue(t, c, "COMMIT")
		}
	}
}

// TestHeldBeginOverReplicas is TestHeldBeginBehavesAsOne where the first statement decides between servers.
func TestHeldBeginOverReplicas(t *testing.T) {
	t.Parallel()
	c, p := settledCrew(t, 1, heldSQL, nil)
	heldTexts(t, c.manager, c.database, p)
	t.Run("own setting in a failed transaction", func(t *testing.T) {
		conn := p.client(t)
		mustValue(t, conn, "BEGIN")
		_, err := value(conn, "SELECT nothing")
		wantError(t, err, "42703", "nothing")
		_, err = value(conn, "SHOW pgtier.last_route")
		wantError(t, err, "25P02", "")
		mustValue(t, conn, "ROLLBACK")
		mustValue(t, conn, "SHOW pgtier.last_route")
	})
	t.Run("what is true of one server alone, in READ ONLY on a replica", func(t *testing.T) {
		for _, sql := range []string{"SELECT pg_advisory_xact_lock(1)", "SELECT pg_is_in_recovery()", "SELECT count(*) FROM pg_stat_activity",
			"CREATE TEMP TABLE x (i int)", "DECLARE k CURSOR WITH HOLD FOR SELECT 1"} {
			conn := p.client(t)
			p.insideReplica(t, conn, "BEGIN READ ONLY", "SELECT 1")
			_, err := value(conn, sql)
			wantError(t, err, "25006", "READ ONLY transaction that a replica serves")
			if got := conn.PgConn().TxStatus(); got != 'E' {
				t.Errorf("%s: the transaction is in state %c, want E", sql, got)
			}
			_, err = value(conn, "SELECT 2")
			wantError(t, err, "25P02", "")
			if got := mustValue(t, conn, "ROLLBACK; SELECT 3"); got != "3" {
				t.Errorf("%s: after ROLLBACK got %q", sql, got)
			}
		}
	})
	t.Run("client leaves with a held BEGIN", func(t *testing.T) {
		conn := p.client(t)
		mustValue(t, conn, "BEGIN")
		if err := conn.Close(bounded(t)); err != nil {
			t.Fatal(err)
		}
	})
}

// TestHeldBeginWithoutAServer: the first statement finds no connection. The transaction has failed then, whatever protocol
// the client goes on in, and nothing of it may be carried out.
func TestHeldBeginWithoutAServer(t *testing.T) {
	t.Parallel()
	waits := func(limit time.Duration) func(*proxy.Database) {
		return func(d *proxy.Database) { d.Pool.Size, d.Pool.WaitTimeout = 1, limit }
	}
	c, p := settledCrew(t, 1, "CREATE TABLE t (id int)", waits(limit))
	reload := func(t *testing.T, limit time.Duration) {
		t.Helper()
		if err := p.Reload(c.config(t, waits(limit))); err != nil {
			t.Fatal(err)
		}
	}
	const refused, failed = "ERROR 57P03", "ERROR 25P02"
	for name, tc := range map[string]struct {
		while []string // while there is no connection
		want  []string // how their answers begin, and the state behind them
		then  []string // when there is
		after []string
	}{
		"simple":                 {[]string{"BEGIN", "INSERT INTO t VALUES (1)", "INSERT INTO t VALUES (2)", "SELECT 1"}, []string{"BEGINT", refused + "E", failed + "E", failed + "E"}, []string{"INSERT INTO t VALUES (3)", "COMMIT"}, []string{failed + "E", "ROLLBACKI"}},
		"extended":               {[]string{"BEGIN", "x:INSERT INTO t VALUES (1)", "x:INSERT INTO t VALUES (2)"}, []string{"BEGINT", refused + "E", failed + "E"}, []string{"x:INSERT INTO t VALUES (3)", "x:COMMIT"}, []string{failed + "E", "ROLLBACKI"}},
		"extended, savepoint":    {[]string{"BEGIN", "INSERT INTO t VALUES (1)", "x:SAVEPOINT a"}, []string{"BEGINT", refused + "E", refused + "E"}, []string{"x:ROLLBACK TO a", "x:ROLLBACK"}, []string{"ERROR 3B001E", "ROLLBACKI"}},
		"ended without a server": {[]string{"BEGIN", "INSERT INTO t VALUES (1)", "COMMIT"}, []string{"BEGINT", refused + "E", "ROLLBACKI"}, []string{"SELECT 5"}, []string{"5I"}},
		"BEGIN again":            {[]string{"BEGIN", "INSERT INTO t VALUES (1)"}, []string{"BEGINT", refused + "E"}, []string{"BEGIN", "x:INSERT INTO t VALUES (3)", "ROLLBACK AND CHAIN", "COMMIT"}, []string{failed + "E", failed + "E", "ROLLBACKT", "COMMITI"}},
		"several in one query":   {[]string{"BEGIN", "INSERT INTO t VALUES (1)"}, []string{"BEGINT", refused + "E"}, []string{"INSERT INTO t VALUES (3); COMMIT; SELECT 1", "COMMIT"}, []string{failed + "E", "ROLLBACKI"}},
		"EXECUTE":                {[]string{"BEGIN", "INSERT INTO t VALUES (1)"}, []string{"BEGINT", refused + "E"}, []string{"PREPARE p AS SELECT 1", "EXECUTE p", "DEALLOCATE ALL", "ROLLBACK", "SELECT 6"}, []string{failed + "E", failed + "E", failed + "E", "ROLLBACKI", "6I"}},
	} {
		t.Run(name, func(t *testing.T) {
			end := hold(t, p.client(t))
			conn := p.client(t)
			check := func(texts, want []string) {
				t.Helper()
				for i, text := range texts {
					got, err := steps(bounded(t), conn, []string{text})
					if err != nil {
						t.Fatalf("%s: %v", text, err)
					}
					got = strings.Trim(got, ";\n") // an error behind no tag
					head, state := want[i][:len(want[i])-1], want[i][len(want[i])-1:]
					if !strings.HasPrefix(got, head) || !strings.HasSuffix(got, state) {
						t.Errorf("%s: got %q, want %s…%s", text, got, head, state)
					}
				}
			}
			reload(t, 100*time.Millisecond)
			check(tc.while, tc.want)
			reload(t, limit)
			end()
			check(tc.then, tc.after)
			if got := pgtest.Value(t, c.manager, c.database, "SELECT count(*) FROM t"); got != "0" {
				t.Errorf("%s rows were written by a transaction that failed", got)
			}
		})
	}
}
