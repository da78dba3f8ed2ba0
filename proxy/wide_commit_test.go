package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/wire"
)

// TestWideCommitTalk is TestWideTalk for commits that fail.
func TestWideCommitTalk(t *testing.T) {
	t.Parallel()
	s, p, whole := newTalk(t, nil)
	before := []string{"Q BEGIN", "Q SET work_mem = '9MB'", "Q SELECT count(*) FROM accounts"}
	missing := []string{"Q INSERT INTO cards VALUES ({a}, 1)", "Q INSERT INTO cards VALUES (1000, 1), (1001, 1), (1002, 1)"}
	after := []string{"Q SELECT count(*) FROM cards", "Q SELECT current_setting('work_mem') FROM accounts WHERE id = {a}", "Q SELECT current_setting('work_mem') FROM accounts WHERE id = {b}",
		"Q SELECT current_setting('work_mem') FROM accounts WHERE id = {c}"}
	lines := func(parts ...[]string) (all []string) {
		for _, part := range parts {
			all = append(all, part...)
		}
		return all
	}
	s.same(t, p, whole, []talk{
		{name: "a block", lines: lines(before, missing, []string{"Q COMMIT"}, after)},
		{name: "a block by the extended protocol", lines: lines(before, missing, []string{"P |COMMIT ; B | ; D P| ; E |0 ; S"}, after)},
		{name: "a chain", lines: lines(before, missing, []string{"Q COMMIT AND CHAIN"}, after)},
		{name: "one writer", lines: lines(before, []string{"Q INSERT INTO cards VALUES (1000, 1)", "Q COMMIT"}, after)},
		{name: "a statement", lines: lines([]string{"Q INSERT INTO cards VALUES (1000, 1), (1001, 1), (1002, 1), (1003, 1), ({a}, 1)"}, after)},
		{name: "a pipeline", lines: lines([]string{"P |INSERT INTO cards VALUES (1000, 1), (1001, 1), (1002, 1), (1003, 1), ({a}, 1) ; B | ; D P| ; E |0 ; P |SELECT count(*) FROM accounts ; B | ; E |0 ; S"}, after)},
		{name: "COPY", lines: lines([]string{`Q COPY cards FROM STDIN ; d 1000\t1 ; d 1001\t1 ; d 1002\t1 ; d 1003\t1 ; c`}, after)},
		{name: "SET CONSTRAINTS", lines: lines(before, []string{"Q SET CONSTRAINTS ALL IMMEDIATE", "Q INSERT INTO cards VALUES ({a}, 1)", "Q INSERT INTO cards VALUES (1000, 1)", "Q ROLLBACK"}, after)},
		{name: "a READ ONLY transaction with functions", lines: []string{"Q BEGIN READ ONLY", "Q SELECT id FROM accounts WHERE id = {a} AND pg_sleep(0) IS NOT NULL",
			"Q SELECT id FROM accounts WHERE id = {b} AND pg_sleep(0) IS NOT NULL", "Q COMMIT"}},
	})
	if n := s.prepared(t); n > 0 {
		t.Errorf("%d shards have prepared transactions", n)
	}
}

// everywhere runs sql on all shards.
func (s *spread) everywhere(t testing.TB, sql string) {
	t.Helper()
	for _, shard := range s.cluster.Shards {
		pgtest.Exec(t, shard.Manager, s.database, sql)
	}
}

// TestCommitAsAnotherRole has a transaction become a role that nobody can log in as: what it prepares must be carried out
// all the same.
func TestCommitAsAnotherRole(t *testing.T) {
	t.Parallel()
	s, p, _ := newTalk(t, nil)
	s.everywhere(t, "CREATE ROLE app LOGIN; CREATE ROLE clerk; GRANT clerk TO app; GRANT ALL ON accounts TO clerk; GRANT SELECT ON accounts TO app")
	a, b := s.apart(t)
	for i, set := range []string{"SET LOCAL ROLE clerk", "SET ROLE clerk", "SELECT set_config('role', 'clerk', true)"} {
		c, err := p.dial(t, p.dsn("app", ""))
		if err != nil {
			t.Fatal(err)
		}
		for _, sql := range []string{"BEGIN", set, fmt.Sprintf("UPDATE accounts SET balance = balance - 1 WHERE id = %d", a), fmt.Sprintf("UPDATE accounts SET balance = balance + 1 WHERE id = %d", b), "COMMIT"} {
			mustExec(t, c, sql)
		}
		wantValue(t, c, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", b), fmt.Sprint(101+i))
		if n := s.prepared(t); n > 0 {
			t.Errorf("%s: %d shards have prepared transactions", set, n)
		}
	}
}

// TestCancelNeverHitsANeighbour moves money while statements are cancelled at any moment: nobody who has not asked for it is
// cancelled, and the sum holds.
func TestCancelNeverHitsANeighbour(t *testing.T) {
	t.Parallel()
	s, p := newSpreadWith(t, onDatabase(func(d *proxy.Database) {
		d.Pool.Size = 6
	}))
	until := time.Now().Add(6 * time.Second)
	var moves, cancels atomic.Int64
	var group sync.WaitGroup
	work := func(cancelled bool, seed uint64) {
		random := rand.New(rand.NewPCG(seed, 1))
		c := p.rawDial(t, wire.Protocol30)
		stop := make(chan struct{})
		if cancelled {
			group.Go(func() {
				random := rand.New(rand.NewPCG(seed, 2))
				for {
					select {
					case <-stop:
						return
					case <-time.After(time.Duration(random.IntN(20)) * time.Millisecond):
						if p.cancelWith(c.pid, c.key) == nil {
							cancels.Add(1)
						}
					}
				}
			})
		}
		defer close(stop)
		for time.Now().Before(until) {
			from, to := random.IntN(30), random.IntN(30)
			for _, sql := range []string{"BEGIN", "SELECT count(*) FROM accounts", fmt.Sprintf("UPDATE accounts SET balance = balance - 1 WHERE id = %d", min(from, to)),
				fmt.Sprintf("UPDATE accounts SET balance = balance + 1 WHERE id = %d", max(from, to)), "COMMIT"} {
				_ = c.nc.SetReadDeadline(time.Now().Add(limit))
				err := c.round(wire.AppendQuery(nil, sql))
				var e *wire.Error
				switch {
				case err == nil:
				case !errors.As(err, &e):
					t.Errorf("%s: %v", sql, err)
					return
				case cancelled || e.Code == "23514" || e.Code == "25P02":
				default:
					t.Errorf("%s, of which nobody has cancelled anything: %v", sql, err)
				}
			}
			moves.Add(1)
		}
	}
	for i := range 8 {
		group.Go(func() { work(i%2 == 0, uint64(i)) })
	}
	group.Wait()
	t.Logf("%d transactions, %d cancels", moves.Load(), cancels.Load())
	eventually(t, "nothing stays prepared", func() bool { return s.prepared(t) == 0 })
	wantValue(t, p.client(t), "SELECT sum(balance) FROM accounts", "3000")
}

// TestSessionsThatEndLeaveNothing ends sessions in all states.
func TestSessionsThatEndLeaveNothing(t *testing.T) {
	t.Parallel()
	s, p := newSpreadWith(t, onDatabase(func(d *proxy.Database) {
		d.Pool.Size = 2
	}))
	ids := s.ids(t)
	for _, line := range []string{
		"Q BEGIN ; Q UPDATE accounts SET owner = 'x' WHERE id = {a} ; Q UPDATE accounts SET owner = 'x' WHERE id = {b}",
		"Q BEGIN ; Q UPDATE accounts SET owner = 'x' WHERE id = {a} ; Q UPDATE accounts SET balance = -1 WHERE id = {b}",
		"Q COPY accounts FROM STDIN", `Q COPY accounts FROM STDIN ; d 90\tx\t1`,
		"P |UPDATE accounts SET owner = 'x' ; B | ; E |0 ; H", "P |SELECT nothing FROM accounts ; D S| ; H", "P |SELECT count(*) FROM accounts ; B p| ; H",
		"Q SELECT pg_sleep(5) FROM accounts", "Q SELECT a.* FROM accounts a, generate_series(1, 100000) g",
	} {
		for range 3 {
			c := p.rawDial(t, wire.Protocol30)
			c.write(t, messages(t, ids.Replace(line)))
			_, _ = c.hear(4, 100*time.Millisecond)
			_ = c.nc.Close()
		}
		began := time.Now()
		c := p.client(t)
		wantValue(t, c, "SELECT count(*) FROM accounts WHERE owner <> 'x'", "30")
		mustExec(t, c, ids.Replace("UPDATE accounts SET owner = 'z' WHERE id IN ({a}, {b}, {c})"))
		if took := time.Since(began); took > 10*time.Second {
			t.Errorf("%s: the next client took %s", line, took)
		}
		_ = c.Close(context.Background())
	}
	eventually(t, "no transaction is open on the servers", func() bool {
		for i := range s.cluster.Shards {
			if s.on(t, i, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND (state LIKE 'idle in%' OR wait_event = 'PgSleep')") != "0" {
				return false
			}
		}
		return true
	})
}

// TestReloadDuringTransactionsOverShards reloads the configuration again and again.
func TestReloadDuringTransactionsOverShards(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	until := time.Now().Add(4 * time.Second)
	var group sync.WaitGroup
	group.Go(func() {
		for i := 0; time.Now().Before(until); i++ {
			cfg := s.config(t)
			d := cfg.Databases[s.database]
			d.Pool.Size = 10 + i%3
			cfg.Databases[s.database] = d
			if err := p.Reload(cfg); err != nil {
				t.Error(err)
			}
			time.Sleep(10 * time.Millisecond) // between two reloads
		}
	})
	for i := range 4 {
		group.Go(func() {
			c := p.client(t)
			for n := 0; time.Now().Before(until); n++ {
				tx, err := c.Begin(bounded(t))
				if err == nil {
					_, err = tx.Exec(bounded(t), "UPDATE accounts SET balance = balance + 1 WHERE id = $1", (n+i)%30)
				}
				if err == nil {
					_, err = tx.Exec(bounded(t), "UPDATE accounts SET balance = balance - 1 WHERE id = $1", (n+i*7+1)%30)
				}
				if err == nil {
					err = tx.Commit(bounded(t))
				}
				var e *pgconn.PgError
				if err != nil && (!errors.As(err, &e) || e.Code != "40P01" && e.Code != "23514") {
					t.Errorf("while the configuration is reloaded: %v", err)
					return
				}
				if err != nil {
					_ = tx.Rollback(bounded(t))
				}
			}
		})
	}
	group.Wait()
	wantValue(t, p.client(t), "SELECT sum(balance) FROM accounts", "3000")
}

// TestListenersHearOfTransactionsOverShards has LISTEN and NOTIFY come behind writes to other shards than the home shard.
func TestListenersHearOfTransactionsOverShards(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	ids := s.ids(t)
	listener, c := p.client(t), p.client(t)
	run := func(c *pgx.Conn, lines ...string) {
		for _, sql := range lines {
			mustExec(t, c, ids.Replace(sql))
		}
	}
	run(listener, "BEGIN", "UPDATE accounts SET owner = 'l' WHERE id = {c}", "UPDATE accounts SET owner = 'l' WHERE id = {b}", "LISTEN news", "COMMIT")
	run(c, "BEGIN", "UPDATE accounts SET owner = 'n' WHERE id = {c}", "UPDATE accounts SET owner = 'n' WHERE id = {b}", "NOTIFY news, 'one'", "COMMIT")
	run(c, "BEGIN", "UPDATE accounts SET owner = 'n' WHERE id = {c}", "UPDATE accounts SET owner = 'n' WHERE id = {b}", "SELECT pg_notify('news', 'two')", "COMMIT")
	for _, want := range []string{"one", "two"} {
		n, err := listener.WaitForNotification(bounded(t))
		if err != nil || n.Payload != want {
			t.Fatalf("heard %+v, %v; want %q", n, err, want)
		}
	}
	if n := s.prepared(t); n > 0 {
		t.Errorf("%d shards have prepared transactions", n)
	}
}

// TestCommitWithoutPreparedTransactions has servers that take none.
func TestCommitWithoutPreparedTransactions(t *testing.T) {
	t.Parallel()
	s, p := newSpreadOf(t, localpg.Options{Shards: 3, Settings: map[string]string{"max_prepared_transactions": "0"}}, nil)
	a, b := s.apart(t)
	c := p.client(t)
	for _, sql := range []string{"BEGIN", "SET work_mem = '9MB'", fmt.Sprintf("UPDATE accounts SET balance = balance - 10 WHERE id = %d", a), fmt.Sprintf("UPDATE accounts SET balance = balance + 10 WHERE id = %d", b)} {
		mustExec(t, c, sql)
	}
	_, err := c.Exec(bounded(t), "COMMIT")
	wantError(t, err, "55000", "prepared transactions are disabled")
	wantValue(t, c, "SELECT count(*) FROM accounts WHERE balance = 100", "30")
	for _, id := range []int{a, b} {
		wantValue(t, c, fmt.Sprintf("SELECT current_setting('work_mem') FROM accounts WHERE id = %d", id), "4MB")
	}
	if tag := mustExec(t, c, fmt.Sprintf("UPDATE accounts SET balance = 7 WHERE id = %d", a)); tag != "UPDATE 1" {
		t.Error(tag)
	}
}

// TestParametersAreReportedOverShards wants what a client needs to read answers, in a transaction over shards too.
func TestParametersAreReportedOverShards(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	ids := s.ids(t)
	c := p.rawDial(t, wire.Protocol30)
	for _, sql := range []string{"BEGIN", "UPDATE accounts SET owner = 'x' WHERE id = {a}", "UPDATE accounts SET owner = 'x' WHERE id = {b}"} {
		if err := c.round(wire.AppendQuery(nil, ids.Replace(sql))); err != nil {
			t.Fatal(err)
		}
	}
	for sql, want := range map[string]string{"SET client_encoding = 'LATIN1'": "C S:client_encoding=LATIN1 Z"} {
		c.write(t, wire.AppendQuery(nil, sql))
		c.wantTold(t, want)
	}
	c.write(t, wire.AppendQuery(nil, "ROLLBACK"))
	if got, err := c.told(limit); !strings.Contains(got, "S:client_encoding=UTF8") || err != nil {
		t.Errorf("heard %q, %v", got, err)
	}
}

// TestStandstillOfPoolsIsEnded has two transactions wait for each other's server connections.
func TestStandstillOfPoolsIsEnded(t *testing.T) {
	t.Parallel()
	s, p := newSpreadWith(t, onDatabase(func(d *proxy.Database) {
		d.Pool.Size = 1
	}))
	a, b := s.apart(t)
	one, other := p.client(t), p.client(t)
	update := func(id int) string { return fmt.Sprintf("UPDATE accounts SET owner = 'd' WHERE id = %d", id) }
	mustExec(t, one, "BEGIN")
	mustExec(t, other, "BEGIN")
	mustExec(t, one, update(a))
	mustExec(t, other, update(b))
	began := time.Now()
	first, second := later(one, update(b)), later(other, update(a))
	var failed []error
	for range 2 {
		var err error
		c := one
		select {
		case err = <-first:
		case err = <-second:
			c = other
		}
		if err != nil {
			failed = append(failed, err)
			mustExec(t, c, "ROLLBACK") // the other one waits for that
		}
	}
	if len(failed) != 1 || time.Since(began) > 10*time.Second {
		t.Fatalf("after %s: %v", time.Since(began), failed)
	}
	wantError(t, failed[0], "40P01", "deadlock detected")
}

// TestSettlingWithoutASuperuser has the proxy's own role carry out what others have prepared.
func TestSettlingWithoutASuperuser(t *testing.T) {
	t.Parallel()
	s, first, _ := newTalk(t, nil)
	_, b := s.apart(t)
	first.Close()
	s.everywhere(t, `CREATE ROLE keeper LOGIN; CREATE ROLE app LOGIN; CREATE ROLE "Odd ""one"; GRANT "Odd ""one" TO keeper; GRANT ALL ON accounts TO app, "Odd ""one";
		ALTER SCHEMA pgtier OWNER TO keeper; ALTER TABLE pgtier.shard OWNER TO keeper; ALTER TABLE pgtier.xact OWNER TO keeper;
		ALTER FUNCTION pgtier.decide OWNER TO keeper; ALTER FUNCTION pgtier.settle OWNER TO keeper; GRANT ALL ON ALL TABLES IN SCHEMA pgtier TO keeper`)
	cfg := s.config(t)
	d := cfg.Databases[s.database]
	for i := range d.Shards {
		d.Shards[i].Manager.User = "keeper"
	}
	cfg.Databases[s.database] = d
	p := s.start(t, cfg)
	c := p.client(t)
	for _, role := range []string{"app", `"Odd ""one"`} {
		pgtest.Exec(t, s.cluster.Shards[1].Manager, s.database, fmt.Sprintf("SET SESSION AUTHORIZATION %s; BEGIN; UPDATE accounts SET balance = 1 WHERE id = %d; PREPARE TRANSACTION 'pgtier:bank:s0:%d:s1'", role, b, len(role)))
		eventually(t, "what "+role+" has prepared is rolled back", func() bool { return s.prepared(t) == 0 })
	}
	wantValue(t, c, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", b), "100")
}

// terminate ends the server processes of one shard that fit the condition, once there are some.
func (s *spread) terminate(t testing.TB, shard int, condition string) {
	t.Helper()
	eventually(t, "a server process to end", func() bool {
		return s.on(t, shard, "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND "+condition) != "0"
	})
}

// TestLostShardAnswersEachRequestOnce loses a server under requests of all kinds.
func TestLostShardAnswersEachRequestOnce(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	ids := s.ids(t)
	for _, tc := range []struct{ line, kill, first, rest, want string }{ // rest is sent when first has been heard
		{"Q SELECT count(*) FROM accounts ; Q UPDATE accounts SET owner = concat('k', pg_sleep(5)) WHERE id = {b} ; Q SELECT count(*) FROM accounts", "wait_event = 'PgSleep'", "", "",
			"T:1 D:30 C:SELECT 1 Z:I E:08006 Z:I E:08006 Z:I"},
		{"P |SELECT count(*) FROM accounts ; B | ; E |0 ; P |UPDATE accounts SET owner = concat('k', pg_sleep(5)) WHERE id = {b} ; B | ; E |0 ; S ; P |SELECT 1 ; B | ; E |0 ; S", "wait_event = 'PgSleep'", "", "",
			"1 2 D:30 C:SELECT 1 1 2 E:08006 Z:I 1 2 D:1 C:SELECT 1 Z:I"},
		{"P |UPDATE accounts SET owner = 'k' WHERE id = {a} ; B | ; E |0 ; P |UPDATE accounts SET owner = concat('k', pg_sleep(5)) WHERE id = {b} ; B | ; E |0 ; H", "wait_event = 'PgSleep'", "E:", "S",
			"1 2 C:UPDATE 1 1 2 E:08006 Z:I"},
		{"Q COPY accounts FROM STDIN", "query LIKE 'COPY%'", "G", `d 200\tx\t1 ; d 201\tx\t1 ; d 202\tx\t1 ; c`, "G E:08006 Z:I"},
	} {
		c := p.rawDial(t, wire.Protocol30)
		c.write(t, messages(t, ids.Replace(tc.line)))
		s.terminate(t, 1, tc.kill)
		var heard []string
		if tc.rest != "" {
			for len(heard) == 0 || !strings.HasPrefix(heard[len(heard)-1], tc.first) {
				one, err := c.hear(1, limit)
				if err != nil || len(one) == 0 {
					t.Fatalf("%s: heard %q, %v", tc.line, heard, err)
				}
				heard = append(heard, one...)
			}
			c.write(t, messages(t, tc.rest))
		}
		more, err := c.hear(100, 2*time.Second)
		heard = append(heard, more...)
		got := strings.NewReplacer("E:57P01", "E:08006").Replace(strings.Join(heard, " "))
		if got != tc.want || err != nil {
			t.Errorf("%s:\n got %q, %v\nwant %q", tc.line, got, err, tc.want)
		}
		c.write(t, messages(t, "Q SELECT count(*) FROM accounts WHERE owner LIKE 'k%' OR owner = 'x'"))
		if heard, err := c.hear(4, limit); strings.Join(heard, " ") != "T:1 D:0 C:SELECT 1 Z:I" {
			t.Errorf("behind %s: heard %q, %v", tc.line, heard, err)
		}
	}
}

// TestNoticesDoNotStopACopy has the servers say more during a COPY than fits into their sockets.
func TestNoticesDoNotStopACopy(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	s.everywhere(t, `CREATE FUNCTION speak() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE '%', repeat('x', 1000); RETURN NEW; END $$;
		CREATE TRIGGER speaks BEFORE INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION speak()`)
	if err := p.ReadCatalog(bounded(t), p.database); err != nil {
		t.Fatal(err)
	}
	c := p.rawDial(t, wire.Protocol30)
	msgs := wire.AppendQuery(nil, "COPY accounts FROM STDIN")
	long := strings.Repeat("x", 1000)
	for id := range 45000 {
		msgs = append(msgs, messages(t, fmt.Sprintf(`d %d\t%s\t1`, 1000+id, long))...)
	}
	msgs = append(msgs, messages(t, "c")...)
	go func() { _, _ = c.nc.Write(msgs) }() // ends with the connection
	notices, last := 0, ""
	for last != "Z:I" {
		heard, err := c.hear(1, limit)
		if err != nil || len(heard) == 0 {
			t.Fatalf("after %d notices: %v", notices, err)
		}
		last = heard[0]
		if strings.HasPrefix(last, "N:") {
			notices++
		}
		if strings.HasPrefix(last, "E:") {
			t.Fatalf("heard %s", last)
		}
	}
	if notices != 45000 {
		t.Errorf("%d notices", notices)
	}
	wantValue(t, p.client(t), "SELECT count(*) FROM accounts WHERE owner LIKE 'xx%'", "45000")
}

// TestDecisionsAreForgotten has decisions grow old: those to commit go when no part is prepared any more, those to abort stay.
func TestDecisionsAreForgotten(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	c := p.client(t)
	for range 3 {
		mustExec(t, c, "UPDATE accounts SET balance = balance + 1")
	}
	rows := func(condition string) int {
		n := 0
		for i := range s.cluster.Shards {
			of := 0
			_, _ = fmt.Sscan(s.on(t, i, "SELECT count(*) FROM pgtier.xact WHERE "+condition), &of)
			n += of
		}
		return n
	}
	if n := rows("decision = 'commit'"); n != 3 {
		t.Fatalf("%d decisions, want 3", n)
	}
	s.everywhere(t, "UPDATE pgtier.xact SET at = at - interval '6 minutes'")
	of := "pgtier:" + s.database + ":"
	pgtest.Exec(t, s.cluster.Shards[1].Manager, s.database, "BEGIN; UPDATE notes SET body = ''; PREPARE TRANSACTION '"+of+"gone:x:s1'") // which nobody can settle
	pgtest.Exec(t, s.cluster.Shards[0].Manager, s.database, `INSERT INTO pgtier.xact VALUES ('`+of+`gone:x', 'commit', now() - interval '6 minutes'), ('`+of+`gone:xx', 'commit', now() - interval '6 minutes'),
		('`+of+`s0:undone', 'abort', now() - interval '6 days'), ('`+of+`s0:long ago', 'abort', now() - interval '8 days'), ('pgtier:other:s0:x', 'commit', now() - interval '1 day')`)
	mustExec(t, c, "UPDATE accounts SET balance = balance - 1")
	eventually(t, "old decisions are gone", func() bool { return rows("true") == 4 })
	if n := rows("gid IN ('" + of + "gone:x', '" + of + "s0:undone', 'pgtier:other:s0:x') OR at > now() - interval '5 minutes'"); n != 4 {
		t.Errorf("%d of the decisions are there that must be, want 4", n)
	}
	pgtest.Exec(t, s.cluster.Shards[1].Manager, s.database, "ROLLBACK PREPARED '"+of+"gone:x:s1'")
	eventually(t, "the decision of what was prepared is gone", func() bool { return rows("gid = '"+of+"gone:x'") == 0 })
}

// TestDecisionsTellWhenTheyWereMade has a transaction begin long before it is decided.
func TestDecisionsTellWhenTheyWereMade(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	a, b := s.apart(t)
	c := p.client(t)
	mustExec(t, c, "BEGIN")
	mustExec(t, c, fmt.Sprintf("UPDATE accounts SET owner = 'x' WHERE id = %d", a))
	began := s.on(t, 0, "SELECT clock_timestamp()")
	mustExec(t, c, fmt.Sprintf("UPDATE accounts SET owner = 'x' WHERE id = %d", b))
	mustExec(t, c, "COMMIT")
	if got := s.on(t, 0, "SELECT count(*) FROM pgtier.xact WHERE at > '"+began+"'"); got != "1" {
		t.Errorf("%s decisions were made since the second statement, want 1", got)
	}
}

// TestOlderObjectsAreMadeWhole has shards with the objects of a version that lacked some.
func TestOlderObjectsAreMadeWhole(t *testing.T) {
	t.Parallel()
	s, first := newSpread(t)
	first.Close()
	s.everywhere(t, "DROP INDEX pgtier.xact_at")
	p := s.start(t, s.config(t))
	wantValue(t, p.client(t), "SELECT count(*) FROM accounts", "30")
	for i := range s.cluster.Shards {
		if s.on(t, i, "SELECT to_regclass('pgtier.xact_at')") != "pgtier.xact_at" {
			t.Errorf("shard %d has no index of old decisions", i)
		}
	}
}
