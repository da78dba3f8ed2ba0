package proxy_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/shardmap"
)

// TestLateWritesOfReferenceTablesArePlannedAgain has home say that a shard joins with the next motion, of which the proxy has not heard: what comes to home is too late, and
// is carried out once by that motion, or its transaction hears that it has to begin again.
func TestLateWritesOfReferenceTablesArePlannedAgain(t *testing.T) {
	t.Parallel()
	for name, edit := range map[string]func(*proxy.Config){
		"over shards": nil,
		"one shard":   onDatabase(func(d *proxy.Database) { d.Shards = d.Shards[:1] }),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			extra := func(d *proxy.Database) { d.Sharding.Reference = append(d.Sharding.Reference, "extras") }
			change := func(cfg *proxy.Config) {
				onDatabase(extra)(cfg)
				if edit != nil {
					edit(cfg)
				}
			}
			s, p := newSpreadWith(t, change)
			cfg := s.config(t)
			change(&cfg)
			m := s.moving(t, cfg, 0)
			setup := p.client(t)
			mustExec(t, setup, "CREATE TABLE extras (name text PRIMARY KEY)")
			mustExec(t, setup, "INSERT INTO extras VALUES ('x')")
			mustExec(t, setup, "INSERT INTO rates VALUES ('a', 0), ('b', 0)")
			begun, asked := p.client(t), p.client(t)
			mustExec(t, begun, "BEGIN")
			mustExec(t, begun, "UPDATE accounts SET balance = balance + 1 WHERE id = 1")
			mustExec(t, asked, "BEGIN")
			wantValue(t, asked, "SELECT balance FROM accounts WHERE id = 1", "100")

			pgtest.Exec(t, s.manager, s.database, fmt.Sprintf("SELECT pg_advisory_xact_lock(%d, 0); %s", shardmap.GuardClass, shardmap.OutdateSQL(m.now.Motion.Number+1)))
			mustExec(t, setup, "EXPLAIN DELETE FROM rates") // writes nothing
			_, err := begun.Exec(bounded(t), "UPDATE rates SET rate = rate + 100 WHERE name = 'a'")
			wantError(t, err, "40001", "another shard has a copy of the reference table now")
			mustExec(t, begun, "ROLLBACK")
			_, err = asked.Exec(bounded(t), "DELETE FROM rates")
			wantError(t, err, "40001", "another shard has a copy of the reference table now")
			mustExec(t, asked, "ROLLBACK")

			waiting := map[string]started{}
			for _, sql := range []string{
				"UPDATE rates SET rate = rate + 1 WHERE name = 'a'",
				"UPDATE rates SET rate = rate + 1 WHERE name = 'b'",
				"INSERT INTO taxes VALUES ('c', 1); INSERT INTO taxes VALUES ('d', 1)",
				"CREATE INDEX ON taxes (rate)",
				"TRUNCATE extras",
			} {
				waiting[sql] = p.starts(t, sql)
			}
			run := func(what string, run func() error) {
				done := make(started, 1)
				waiting[what] = done
				go func() { done <- run() }() // ends with the statement
			}
			extended, transaction, copies := p.client(t), p.client(t), p.client(t)
			run("extended", func() error {
				_, err := extended.Exec(bounded(t), "INSERT INTO rates VALUES ($1, $2)", "extended", 5)
				return err
			})
			run("a transaction's first", func() error {
				tx, err := transaction.Begin(bounded(t))
				if err != nil {
					return err
				}
				if _, err := tx.Exec(bounded(t), "INSERT INTO rates VALUES ('first', 6)"); err != nil {
					return err
				}
				return tx.Commit(bounded(t))
			})
			run("COPY", func() error {
				_, err := copies.PgConn().CopyFrom(bounded(t), strings.NewReader("copied\t7\n"), "COPY rates FROM STDIN")
				return err
			})
			p.held(t, int64(len(waiting)))
			m.change(shardmap.Motion{})
			for what, w := range waiting {
				w.ends(t, what)
			}
			const all = "SELECT string_agg(name || ' ' || rate, ', ' ORDER BY name) FROM (TABLE rates UNION ALL TABLE taxes) AS x"
			for i := range cfg.Databases[s.database].Shards {
				if got, want := s.on(t, i, all), "a 1, b 1, c 1, copied 7, d 1, extended 5, first 6"; got != want {
					t.Errorf("shard %d has %s, want %s", i, got, want)
				}
			}
			wantValue(t, setup, "SELECT count(*) FROM extras", "0")
			wantValue(t, setup, "SELECT balance FROM accounts WHERE id = 1", "100")
		})
	}
}

// changing is what asks a shard before a change of the schema. An error comes before anything of the change.
type changing struct {
	sql    string
	pinned bool   // by a session that keeps its connection to s1
	binds  bool   // by the extended protocol
	done   string // asked of s1: whether it is done
}

// changes are all ways in which the schema is changed, in transactions of their own.
var changes = []changing{
	{sql: "CREATE TABLE others (id int)", done: "to_regclass('others') IS NOT NULL"},
	{sql: "CREATE TABLE bound (id int)", binds: true, done: "to_regclass('bound') IS NOT NULL"},
	{sql: "CREATE TABLE these (id int); CREATE TABLE those (id int)", done: "to_regclass('those') IS NOT NULL"},
	{sql: "TRUNCATE cards", done: "NOT EXISTS (SELECT FROM cards)"},
	{sql: "CREATE INDEX CONCURRENTLY built ON accounts (owner)", done: "to_regclass('built') IS NOT NULL"},
	{sql: "CREATE INDEX CONCURRENTLY bound_built ON notes (body)", binds: true, done: "to_regclass('bound_built') IS NOT NULL"},
	{sql: "/* pgtier: shard=s1 */ CREATE TABLE hinted (id int)", done: "to_regclass('hinted') IS NOT NULL"},
	{sql: "/* pgtier: shard=s1 */ CREATE TABLE hinted_bound (id int)", binds: true, done: "to_regclass('hinted_bound') IS NOT NULL"},
	{sql: "/* pgtier: shard=s1 */ CREATE INDEX CONCURRENTLY hinted_built ON rates (rate)", done: "to_regclass('hinted_built') IS NOT NULL"},
	{sql: "/* pgtier: shard=s1 */ TRUNCATE cards", done: "NOT EXISTS (SELECT FROM cards)"},
	{sql: "CREATE TABLE kept (id int)", pinned: true, done: "to_regclass('kept') IS NOT NULL"},
	{sql: "CREATE TABLE kept_bound (id int)", pinned: true, binds: true, done: "to_regclass('kept_bound') IS NOT NULL"},
	{sql: "CREATE INDEX CONCURRENTLY kept_built ON taxes (rate)", pinned: true, done: "to_regclass('kept_built') IS NOT NULL"},
}

// client is a connection for the change.
func (c changing) client(t testing.TB, p *running) *pgx.Conn {
	t.Helper()
	conn := p.client(t)
	if c.pinned {
		mustExec(t, conn, "SET pgtier.shard = 's1'")
		mustExec(t, conn, "CREATE TEMP TABLE mine (id int)")
	}
	return conn
}

// starts begins the change.
func (c changing) starts(conn *pgx.Conn) started {
	done, mode := make(started, 1), pgx.QueryExecModeSimpleProtocol
	if c.binds {
		mode = pgx.QueryExecModeExec
	}
	go func() { // ends with the statement
		ctx, stop := context.WithTimeout(context.Background(), limit)
		defer stop()
		_, err := conn.Exec(ctx, c.sql, mode)
		if err == nil && c.pinned {
			_, err = conn.Exec(ctx, "TABLE mine", mode)
		}
		done <- err
	}()
	return done
}

// outdates has all shards say that buckets have begun to move with the next motion, of which the proxy has not heard.
func (m *moving) outdates() {
	m.t.Helper()
	for _, at := range m.cluster.Shards {
		pgtest.Exec(m.t, at.Manager, m.database, shardmap.OutdateSchemaSQL(m.now.Motion.Number+1))
	}
}

// nobodyChanges waits until nobody has the lock of changes on any shard.
func (s *spread) nobodyChanges(t testing.TB) {
	t.Helper()
	for i := range s.cluster.Shards {
		eventually(t, "nobody has the lock of changes", func() bool {
			return s.on(t, i, fmt.Sprintf("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = %d AND objid = %d AND database = (SELECT oid FROM pg_database WHERE datname = current_database())",
				shardmap.GuardClass, uint32(1<<32+shardmap.SchemaGroup))) == "0"
		})
	}
}

// outdates reports whether a mover gets the lock of changes on a shard at once.
func (s *spread) outdates(t testing.TB, shard int) bool {
	t.Helper()
	c, err := pgx.Connect(bounded(t), s.cluster.Shards[shard].Manager.URL(s.database, "", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(bounded(t))
	_, err = c.Exec(bounded(t), "SET lock_timeout = 50; "+shardmap.OutdateSchemaSQL(0), pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		wantError(t, err, "55P03", "")
	}
	return err == nil
}

// TestLateChangesOfTheSchemaArePlannedAgain has all shards say that a move has begun with a motion of which the proxy has not heard: what comes to them is too late. It is
// refused once that is known, or carried out once where the move is over by then.
func TestLateChangesOfTheSchemaArePlannedAgain(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	m := s.moving(t, s.config(t), 0)
	free := func() { t.Helper(); s.nobodyChanges(t) }
	mustExec(t, p.client(t), "INSERT INTO cards VALUES (1, 1), (2, 2), (3, 3), (4, 4), (5, 5)")

	// In a transaction that has begun, over shards and on one.
	over, on, kept := p.client(t), p.client(t), p.client(t)
	mustExec(t, over, "BEGIN")
	mustExec(t, over, "UPDATE accounts SET balance = balance + 1")
	mustExec(t, on, "SET pgtier.shard = 's1'")
	mustExec(t, on, "BEGIN")
	mustExec(t, on, "SELECT 1")
	mustExec(t, kept, "SET pgtier.shard = 's1'")
	mustExec(t, kept, "CREATE TEMP TABLE mine (id int)")
	mustExec(t, kept, "BEGIN")
	m.outdates()
	for _, c := range []*pgx.Conn{over, on, kept} {
		for _, sql := range []string{"CREATE TABLE others (id int)", "TRUNCATE cards"} {
			_, err := c.Exec(bounded(t), sql)
			wantError(t, err, "40001", "a move of buckets has begun")
			mustExec(t, c, "ROLLBACK")
			mustExec(t, c, "BEGIN")
			mustExec(t, c, "SELECT 1 FROM accounts")
		}
		mustExec(t, c, "CREATE TEMP TABLE passing (id int) ON COMMIT DROP")
		mustExec(t, c, "ROLLBACK")
	}
	free()
	m.change(shardmap.Motion{})

	run := func(until shardmap.Motion) map[string]started {
		t.Helper()
		conns, all := make([]*pgx.Conn, len(changes)), map[string]started{}
		for i, c := range changes {
			conns[i] = c.client(t, p)
		}
		m.outdates()
		for i, c := range changes {
			all[fmt.Sprintf("%+v", c)] = c.starts(conns[i])
		}
		p.held(t, int64(len(changes)))
		free()
		m.change(until)
		return all
	}
	for what, w := range run(shardmap.Motion{Frozen: true}) {
		if err := <-w; err == nil || !strings.Contains(err.Error(), "55006") {
			t.Errorf("%s: got %v while buckets move", what, err)
		}
	}
	for _, c := range changes {
		if done := s.on(t, 1, "SELECT "+c.done); done != "f" {
			t.Errorf("%+v is done", c)
		}
	}
	m.change(shardmap.Motion{})
	for what, w := range run(shardmap.Motion{}) {
		w.ends(t, what)
	}
	for _, c := range changes {
		if done := s.on(t, 1, "SELECT "+c.done); done != "t" {
			t.Errorf("%+v is not done", c)
		}
	}
	for i := range s.cluster.Shards {
		if got := s.on(t, i, "SELECT count(*) FROM cards") + s.on(t, i, "SELECT to_regclass('others') IS NOT NULL AND to_regclass('those') IS NOT NULL AND to_regclass('built') IS NOT NULL"); got != "0t" {
			t.Errorf("shard %d: %s", i, got)
		}
	}
	free()
}

// TestMovesWaitForChangesOfTheSchema: who has asked holds the outdating up to the end of the transaction, or of the statement where there is none, and not longer.
func TestMovesWaitForChangesOfTheSchema(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	want := func(what string, shard int, can bool) {
		t.Helper()
		if got := s.outdates(t, shard); got != can {
			t.Errorf("%s: outdating on shard %d: %t", what, shard, got)
		}
	}
	// Each line leaves a transaction open, and the shard that is asked.
	for i, c := range []struct {
		before, sql string
		shard       int
	}{
		{"", "BEGIN|CREATE TABLE t (id int)|SELECT 1", 0},
		{"", "BEGIN|TRUNCATE cards", 0},
		{"", "BEGIN|/* pgtier: shard=s1 */ CREATE TABLE t (id int)|SELECT 1", 1},
		{"SET pgtier.shard = 's1'", "BEGIN; CREATE TABLE t (id int)|SELECT 1", 1},
		{"SET pgtier.shard = 's1'", "BEGIN; SAVEPOINT a; CREATE TABLE t (id int); SAVEPOINT b; SELECT 1/0|ROLLBACK TO b", 1},
		{"SET pgtier.shard = 's1'", "BEGIN; SAVEPOINT a; CREATE TABLE t (id int); SAVEPOINT b|ROLLBACK TO b", 1},
		{"SET pgtier.shard = 's1'", "BEGIN; SAVEPOINT a; SELECT 1|ROLLBACK TO a; CREATE TABLE t (id int)", 1},
		{"SET pgtier.shard = 's1'", "BEGIN; SAVEPOINT a; CREATE TABLE t (id int)|SELECT 1/0|ROLLBACK TO a; CREATE TABLE t (id int)", 1},
		{"SET pgtier.shard = 's1'", "BEGIN; CREATE TABLE t (id int)|/* pgtier: shard=s2 */ SELECT 1", 1},
		{"SET pgtier.shard = 's1'|CREATE TEMP TABLE mine (id int)", "BEGIN|CREATE TABLE t (id int)", 1},
		{"SET pgtier.shard = 's1'|CREATE TEMP TABLE mine (id int)", "BEGIN; SAVEPOINT a|SELECT 1|ROLLBACK TO a; CREATE TABLE t (id int)", 1},
		{"SET pgtier.shard = 's1'|CREATE TEMP TABLE mine (id int)", "BEGIN|SELECT 1|COMMIT; BEGIN; CREATE TABLE t (id int)", 1},
	} {
		conn := p.client(t)
		exec := func(list string) {
			t.Helper()
			for sql := range strings.SplitSeq(list, "|") {
				if _, err := conn.Exec(bounded(t), sql, pgx.QueryExecModeSimpleProtocol); err != nil && !strings.Contains(sql, "/0") {
					t.Fatalf("%s: %v", sql, err)
				}
			}
		}
		if c.before != "" {
			exec(c.before)
		}
		exec(c.sql)
		want(c.sql, c.shard, false)
		exec("ROLLBACK")
		want(c.sql+", and it is over", c.shard, true)
		for _, sql := range []string{"CREATE TABLE t%d (id int)", "CREATE INDEX CONCURRENTLY ON t%d (id)", "DROP TABLE t%d"} {
			exec(fmt.Sprintf(sql, i))
		}
		want("outside of a transaction", c.shard, true)
		exec("SELECT 1")
	}
}

// TestMovesWaitForIndexesThatAreBuiltConcurrently has one wait for a transaction.
func TestMovesWaitForIndexesThatAreBuiltConcurrently(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	m := s.moving(t, s.config(t), 0)
	for name, sql := range map[string]string{"all": "CREATE INDEX CONCURRENTLY built ON accounts (owner)", "s1": "/* pgtier: shard=s1 */ CREATE INDEX CONCURRENTLY hinted ON accounts (owner)"} {
		holder := p.client(t)
		mustExec(t, holder, "BEGIN")
		mustExec(t, holder, "UPDATE accounts SET balance = balance + 1")
		w := p.starts(t, sql)
		shard := 0
		if name == "s1" {
			shard = 1
		}
		eventually(t, "the index waits", func() bool {
			return s.on(t, shard, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%CREATE INDEX CONCURRENTLY%' AND wait_event_type = 'Lock' AND pid <> pg_backend_pid()") == "1"
		})
		c, err := pgx.Connect(bounded(t), s.cluster.Shards[shard].Manager.URL(s.database, "", ""))
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Exec(bounded(t), "SET lock_timeout = 50; "+shardmap.OutdateSchemaSQL(m.now.Motion.Number+1), pgx.QueryExecModeSimpleProtocol)
		wantError(t, err, "55P03", "")
		mustExec(t, holder, "COMMIT")
		w.ends(t, sql)
		if _, err = c.Exec(bounded(t), shardmap.OutdateSchemaSQL(0), pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Error(err)
		}
		_ = c.Close(bounded(t))
	}
}
