package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/wire"
	"pgtier/router"
)

// run is an ask whose answer does not matter.
func run(a ask) func(ctx context.Context, c *pgx.Conn) error {
	return func(ctx context.Context, c *pgx.Conn) error {
		out, err := a(ctx, c, "")
		if err == nil && strings.Contains(out, "ERROR") {
			err = fmt.Errorf("%s", out)
		}
		return err
	}
}

// acknowledgedEarly sends statements with a Sync each and returns when the first has been acknowledged; the last sleeps.
func acknowledgedEarly(texts ...string) func(ctx context.Context, c *pgx.Conn) error {
	return func(ctx context.Context, c *pgx.Conn) error {
		p := c.PgConn().StartPipeline(ctx)
		for _, text := range texts {
			p.SendQueryParams(text, nil, nil, nil, nil)
			p.SendPipelineSync()
		}
		if err := p.Flush(); err != nil {
			return err
		}
		for {
			results, err := p.GetResults()
			switch r := results.(type) {
			case *pgconn.ResultReader:
				err = r.Read().Err
			case *pgconn.PipelineSync:
				return err // the rest is read when the connection is closed
			}
			if err != nil {
				return err
			}
		}
	}
}

// TestStrongReadsSeeEveryKindOfWrite: another session's strong read finds what was acknowledged, however it was written,
// although a replica that has not replayed it is there and serves strong reads of what was not written.
func TestStrongReadsSeeEveryKindOfWrite(t *testing.T) {
	t.Parallel()
	c, p := settledCrew(t, 1, "CREATE TABLE beside (id int); INSERT INTO beside VALUES (1)", nil)
	replica := c.shard.Replicas[0]
	const table = "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 0)"
	const sum, one = "SELECT sum(v) FROM t", "1"
	update := run(simple("UPDATE t SET v = 1"))
	for name, tc := range map[string]struct {
		setup  string
		before func(ctx context.Context, c *pgx.Conn) error // while the replica follows
		write  func(ctx context.Context, c *pgx.Conn) error
		read   string
		want   string
	}{
		"UPDATE":                  {table, nil, update, sum, one},
		"UPDATE, extended":        {table, nil, run(extended(pgx.QueryExecModeCacheStatement, "UPDATE t SET v = $1")), sum, one},
		"DELETE":                  {table, nil, run(simple("DELETE FROM t")), "SELECT count(*) FROM t", "0"},
		"TRUNCATE":                {table, nil, run(simple("TRUNCATE t")), "SELECT count(*) FROM t", "0"},
		"MERGE":                   {table, nil, run(simple("MERGE INTO t USING (VALUES (1)) x (i) ON t.id = x.i WHEN MATCHED THEN UPDATE SET v = 1")), sum, one},
		"WITH":                    {table, nil, run(simple("WITH x AS (UPDATE t SET v = 1 RETURNING 1) SELECT * FROM x")), sum, one},
		"EXPLAIN ANALYZE":         {table, nil, run(simple("EXPLAIN ANALYZE UPDATE t SET v = 1")), sum, one},
		"DO":                      {table, nil, run(simple("DO 'BEGIN UPDATE t SET v = 1; END'")), sum, one},
		"DO of hidden SQL":        {table, nil, run(simple("DO $$BEGIN EXECUTE 'UP' || 'DATE t SET v = 1'; END$$")), sum, one},
		"function":                {table + "; CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS 'BEGIN UPDATE t SET v = 1; END'", nil, run(simple("SELECT f()")), sum, one},
		"procedure that commits":  {table + "; CREATE PROCEDURE f() LANGUAGE plpgsql AS 'BEGIN UPDATE t SET v = 1; COMMIT; END'", nil, run(simple("CALL f()")), sum, one},
		"trigger":                 {table + "; CREATE TABLE u (id int); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE t SET v = 1; RETURN NEW; END'; CREATE TRIGGER x AFTER INSERT ON u FOR EACH ROW EXECUTE FUNCTION f()", nil, run(simple("INSERT INTO u VALUES (1)")), sum, one},
		"deferred trigger":        {table + "; CREATE TABLE u (id int); CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE t SET v = 1; RETURN NEW; END'; CREATE CONSTRAINT TRIGGER x AFTER INSERT ON u DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION f()", nil, run(simple("BEGIN", "INSERT INTO u VALUES (1)", "COMMIT")), sum, one},
		"foreign key":             {table + "; CREATE TABLE u (id int REFERENCES t ON DELETE CASCADE); INSERT INTO u VALUES (1)", nil, run(simple("DELETE FROM t")), "SELECT count(*) FROM u", "0"},
		"foreign key, on update":  {table + "; CREATE TABLE u (id int REFERENCES t ON UPDATE CASCADE); INSERT INTO u VALUES (1)", nil, run(simple("UPDATE t SET id = 7")), "SELECT sum(id) FROM u", "7"},
		"TRUNCATE CASCADE":        {table + "; CREATE TABLE u (id int REFERENCES t); INSERT INTO u VALUES (1)", nil, run(simple("TRUNCATE t CASCADE")), "SELECT count(*) FROM u", "0"},
		"view":                    {table + "; CREATE VIEW w AS SELECT * FROM t", nil, run(simple("UPDATE w SET v = 1")), sum, one},
		"view with a trigger":     {table + "; CREATE VIEW w AS SELECT 1 AS a; CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN UPDATE t SET v = 1; RETURN NEW; END'; CREATE TRIGGER x INSTEAD OF UPDATE ON w FOR EACH ROW EXECUTE FUNCTION f()", nil, run(simple("UPDATE w SET a = 2")), sum, one},
		"read by a view":          {table + "; CREATE VIEW w AS SELECT * FROM t", nil, update, "SELECT sum(v) FROM w", one},
		"read by a function":      {table + "; CREATE FUNCTION g() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT sum(v) FROM t'", nil, update, "SELECT g()", one},
		"rule":                    {table + "; CREATE TABLE u (id int); CREATE RULE r AS ON INSERT TO u DO ALSO UPDATE t SET v = 1", nil, run(simple("INSERT INTO u VALUES (1)")), sum, one},
		"partition by its parent": {"CREATE TABLE t (id int, v int) PARTITION BY LIST (id); CREATE TABLE u PARTITION OF t FOR VALUES IN (1); INSERT INTO t VALUES (1, 0)", nil, update, "SELECT sum(v) FROM u", one},
		"parent by its partition": {"CREATE TABLE t (id int, v int) PARTITION BY LIST (id); CREATE TABLE u PARTITION OF t FOR VALUES IN (1); INSERT INTO t VALUES (1, 0)", nil, run(simple("UPDATE u SET v = 1")), sum, one},
		"child by its parent":     {table + "; CREATE TABLE u () INHERITS (t); INSERT INTO u VALUES (2, 0)", nil, run(simple("UPDATE t SET v = 1 WHERE id = 2")), "SELECT sum(v) FROM u", one},
		"parent by its child":     {table + "; CREATE TABLE u () INHERITS (t); INSERT INTO u VALUES (2, 0)", nil, run(simple("UPDATE u SET v = 1")), sum, one},
		"materialized view":       {table + "; CREATE MATERIALIZED VIEW m AS SELECT sum(v) FROM t; UPDATE t SET v = 1", nil, run(simple("REFRESH MATERIALIZED VIEW m")), "TABLE m", one},
		"COPY FROM": {table, nil, func(ctx context.Context, c *pgx.Conn) error {
			_, err := c.PgConn().CopyFrom(ctx, strings.NewReader("2\t1\n"), "COPY t FROM STDIN")
			return err
		}, sum, one},
		"SQL EXECUTE":                {table, run(simple("PREPARE p AS UPDATE t SET v = 1")), run(simple("EXECUTE p")), sum, one},
		"search_path":                {table + "; CREATE SCHEMA s; CREATE TABLE s.t (id int, v int); INSERT INTO s.t VALUES (1, 0)", run(simple("SET search_path = s")), update, "SELECT sum(v) FROM s.t", one},
		"quoted name":                {`CREATE TABLE "T""x" (v int); INSERT INTO "T""x" VALUES (0)`, nil, run(simple(`UPDATE "T""x" SET v = 1`)), `SELECT sum(v) FROM "T""x"`, one},
		"in a transaction":           {table, nil, run(simple("BEGIN", "UPDATE t SET v = 1", "COMMIT")), sum, one},
		"in a savepoint":             {table, nil, run(simple("BEGIN", "SAVEPOINT a", "UPDATE t SET v = 1", "RELEASE a", "COMMIT")), sum, one},
		"COMMIT AND CHAIN":           {table, nil, run(simple("BEGIN", "UPDATE t SET v = 1", "COMMIT AND CHAIN")), sum, one},
		"two-phase":                  {table, run(simple("BEGIN", "UPDATE t SET v = 1", "PREPARE TRANSACTION 'x'")), run(simple("COMMIT PREPARED 'x'")), sum, one},
		"acknowledged in a pipeline": {table, nil, acknowledgedEarly("UPDATE t SET v = 1", "SELECT pg_sleep(2)"), sum, one},
		"by a cursor":                {table, nil, run(simple("BEGIN", "DECLARE k CURSOR FOR SELECT * FROM t FOR UPDATE", "FETCH 1 FROM k", "UPDATE t SET v = 1 WHERE CURRENT OF k", "COMMIT")), sum, one},
		"kept connection":            {table, run(simple("CREATE TEMP TABLE x ()")), update, sum, one},
		"kept connection, prepared earlier": {table,
			func(ctx context.Context, c *pgx.Conn) error {
				if err := run(simple("CREATE TEMP TABLE x ()"))(ctx, c); err != nil {
					return err
				}
				_, err := c.Prepare(ctx, "late", "UPDATE t SET v = $1")
				return err
			},
			func(ctx context.Context, c *pgx.Conn) error { _, err := c.Exec(ctx, "late", 1); return err }, sum, one},
		"kept connection, SQL EXECUTE": {table, run(simple("CREATE TEMP TABLE x ()", "PREPARE p AS UPDATE t SET v = 1")), run(simple("EXECUTE p")), sum, one},
		"ALTER TABLE":                  {table, nil, run(simple("ALTER TABLE t ALTER v TYPE int USING 1")), sum, one},
		"RENAME":                       {table + "; CREATE TABLE u (id int, v int)", nil, run(simple("BEGIN; ALTER TABLE u RENAME TO old; ALTER TABLE t RENAME TO u; COMMIT")), "SELECT count(*) FROM u", one},
		"DROP of a partition":          {"CREATE TABLE t (id int, v int) PARTITION BY LIST (id); CREATE TABLE u PARTITION OF t FOR VALUES IN (1); INSERT INTO t VALUES (1, 0)", nil, run(simple("DROP TABLE u")), "SELECT count(*) FROM t", "0"},
		"CREATE TABLE AS":              {table, nil, run(simple("CREATE TABLE u AS SELECT 1 AS v")), "SELECT count(*) FROM pg_class WHERE relname = 'u'", one},
		"COMMENT":                      {table, nil, run(simple("COMMENT ON TABLE t IS 'x'")), "SELECT count(*) FROM pg_description WHERE objoid = 't'::regclass", one},
		"ALTER ROLE":                   {"", nil, run(simple("CREATE ROLE strong_role")), "SELECT count(*) FROM pg_roles WHERE rolname = 'strong_role'", one},
		"large object":                 {table, nil, run(simple("SELECT lo_from_bytea(4711, 'x')")), "SELECT count(*) FROM pg_largeobject_metadata WHERE oid = 4711", one},
	} {
		t.Run(name, func(t *testing.T) {
			pgtest.Exec(t, c.manager, c.database, "DROP SCHEMA IF EXISTS s CASCADE; DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE TABLE beside (id int); "+tc.setup)
			p.SharedOf(p.database).OnDDL() // made behind the proxy's back
			writer, reader := p.client(t), p.client(t)
			if tc.before != nil {
				if err := tc.before(bounded(t), writer); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.shard.CatchUp(bounded(t)); err != nil {
				t.Fatal(err)
			}
			mustValue(t, reader, "SET pgtier.consistency = 'strong'")
			served := &p.SharedOf(p.database).Stats.Routes[router.ToReplica]
			before := served.Load()
			eventually(t, "a replica serves the read before the write", func() bool {
				mustValue(t, reader, tc.read)
				return served.Load() > before
			})
			pgtest.Exec(t, replica, "postgres", "SELECT pg_wal_replay_pause()")
			defer pgtest.Exec(t, replica, "postgres", "SELECT pg_wal_replay_resume()")
			old := pgtest.Value(t, replica, c.database, tc.read)
			if old == tc.want {
				t.Fatalf("%s is %s before the write already: the test proves nothing", tc.read, old)
			}
			if err := tc.write(bounded(t), writer); err != nil {
				t.Fatal(err)
			}
			wantValue(t, reader, tc.read, tc.want)
			if got := pgtest.Value(t, replica, c.database, tc.read); got != old {
				t.Fatalf("the replica replays although it is paused: %s is %s", tc.read, got)
			}
		})
	}
}

// TestReadingIsNotWriting: a session that has written does not count as writing the same tables with all it does afterwards.
func TestReadingIsNotWriting(t *testing.T) {
	t.Parallel()
	c, p := settledCrew(t, 1, "CREATE TABLE t (v int); CREATE TABLE u (v int)", nil)
	writer := p.client(t)
	mustValue(t, writer, "INSERT INTO t VALUES (1)")
	mustValue(t, writer, "BEGIN; INSERT INTO t VALUES (1); COMMIT")
	const strongly = "/* pgtier: consistency=strong */ "
	eventually(t, "the proxy knows that the replica has what was written", func() bool {
		probe := p.client(t)
		defer probe.Close(context.Background())
		wantValue(t, probe, strongly+"SELECT count(*) FROM t", "2")
		return strings.HasPrefix(mustValue(t, probe, "SHOW pgtier.last_route"), "replica")
	})
	pgtest.Exec(t, c.shard.Replicas[0], "postgres", "SELECT pg_wal_replay_pause()")
	mustValue(t, writer, "INSERT INTO u VALUES (1)") // what the replica does not have
	mustValue(t, writer, "/* pgtier: consistency=manager */ SELECT count(*) FROM t")
	reader := p.client(t)
	wantValue(t, reader, strongly+"SELECT count(*) FROM t", "2")
	if got := mustValue(t, reader, "SHOW pgtier.last_route"); !strings.HasPrefix(got, "replica") {
		t.Errorf("a strong read of a table that is not written any more went to %q", got)
	}
	wantValue(t, reader, strongly+"SELECT count(*) FROM u", "1")
}

// TestStrongTransactionsOnAReplica: what a transaction of level strong sees is settled by its first read. It is not older
// than any write acknowledged before that, however it begins.
func TestStrongTransactionsOnAReplica(t *testing.T) {
	t.Parallel()
	c, p := settledCrew(t, 1, "CREATE TABLE t (v int); INSERT INTO t VALUES (0)", func(d *proxy.Database) { d.Reads.Consistency = "strong" })
	writer := p.client(t)
	const begin = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
	extended := func(conn *pgx.Conn, sql string) error {
		return conn.PgConn().ExecParams(bounded(t), sql, nil, nil, nil, nil).Read().Err
	}
	for name, tc := range map[string]struct {
		before func(*pgx.Conn) error // the write; runs while the replica shows all
		after  string                // the write; its last value is the answer
		want   string                // part of a refusal, "" for the new value
	}{
		"BEGIN of the extended protocol": {func(conn *pgx.Conn) error { return extended(conn, begin) }, "SELECT v FROM t", ""},
		"BEGIN with a hint": {func(conn *pgx.Conn) error {
			_, err := steps(bounded(t), conn, []string{"/* pgtier: consistency=strong */ " + begin})
			return err
		}, "SELECT v FROM t", ""},
		"a savepoint first": {func(conn *pgx.Conn) error {
			_, err := steps(bounded(t), conn, []string{begin, "SAVEPOINT a"})
			return err
		}, "SELECT v FROM t", ""},
		"AND CHAIN in the first turn": {func(conn *pgx.Conn) error {
			_, err := steps(bounded(t), conn, []string{begin, "SELECT v FROM t; COMMIT AND CHAIN"})
			return err
		}, "SELECT v FROM t", ""},
		"AND CHAIN":             {nil, "COMMIT AND CHAIN; SELECT v FROM t", "25006"},
		"another behind COMMIT": {nil, "COMMIT; SELECT v FROM t", "25006"},
		"the manager by a hint": {nil, "/* pgtier: consistency=manager */ SELECT v FROM t", "25006"},
		"a hint of nothing":     {nil, "/* pgtier: speed=warp */ SELECT v FROM t", "22023"},
		"COMMIT last":           {nil, "SELECT 5; COMMIT", ""},
	} {
		t.Run(name, func(t *testing.T) {
			conn := p.client(t)
			if tc.before == nil {
				p.insideReplica(t, conn, begin, "SELECT v FROM t")
			} else if err := errors.Join(untilReplica(p.through(t), conn), tc.before(conn)); err != nil {
				t.Fatal(err)
			}
			pgtest.Exec(t, c.shard.Replicas[0], "postgres", "SELECT pg_wal_replay_pause()")
			defer func() {
				pgtest.Exec(t, c.shard.Replicas[0], "postgres", "SELECT pg_wal_replay_resume()")
				mustValue(t, writer, "UPDATE t SET v = 0")
				c.settle(t, p)
			}()
			mustValue(t, writer, "UPDATE t SET v = 5")
			switch got, err := value(conn, tc.after); {
			case tc.want != "":
				wantError(t, err, tc.want, "")
			case err != nil || got != "5":
				t.Errorf("got %q (%v), want 5, which was acknowledged before", got, err)
			}
		})
	}
}

// TestPipelineBehindAReplicasTransaction: the statements behind its COMMIT go where they must.
func TestPipelineBehindAReplicasTransaction(t *testing.T) {
	t.Parallel()
	_, p := settledCrew(t, 1, "CREATE TABLE t (v int); INSERT INTO t VALUES (0)", nil)
	conn := p.client(t)
	p.insideReplica(t, conn, "BEGIN READ ONLY", "SELECT v FROM t")
	pipeline := conn.PgConn().StartPipeline(bounded(t))
	for _, sql := range []string{"COMMIT", "UPDATE t SET v = 1", "SELECT v FROM t"} {
		pipeline.SendQueryParams(sql, nil, nil, nil, nil)
		if err := pipeline.Sync(); err != nil {
			t.Fatal(err)
		}
	}
	if err := pipeline.Close(); err != nil {
		t.Error(err)
	}
	wantValue(t, conn, "SELECT v FROM t", "1")
}

// TestNotifiedSessionFindsWhatItWasToldOf: a notification tells of a commit, so the session's reads are not older than that.
func TestNotifiedSessionFindsWhatItWasToldOf(t *testing.T) {
	t.Parallel()
	c, p := settledCrew(t, 1, "CREATE TABLE t (v int); INSERT INTO t VALUES (0)", nil)
	reader, writer := p.client(t), p.client(t)
	mustValue(t, reader, "LISTEN news")
	if err := untilReplica(p.through(t), reader); err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, c.shard.Replicas[0], "postgres", "SELECT pg_wal_replay_pause()")
	defer pgtest.Exec(t, c.shard.Replicas[0], "postgres", "SELECT pg_wal_replay_resume()")
	mustValue(t, writer, "UPDATE t SET v = 1; NOTIFY news")
	if _, err := reader.WaitForNotification(bounded(t)); err != nil {
		t.Fatal(err)
	}
	wantValue(t, reader, "SELECT v FROM t", "1")
}

// flushed are messages that end in Flush.
func flushed(texts ...string) (out []byte) {
	for _, text := range texts {
		out = append(out, unsynced("", text)...)
	}
	return append(out, wire.MsgFlush, 0, 0, 0, 4)
}

// TestBehindTheEndOfAReplicasTransaction: what the client sends in one request with the end of a READ ONLY transaction that a
// replica serves goes there too. What would be answered otherwise than on the manager is refused, and what a Sync parts from
// the transaction goes where it must.
func TestBehindTheEndOfAReplicasTransaction(t *testing.T) {
	t.Parallel()
	c := newCrew(t, 1, nil)
	pgtest.Exec(t, c.manager, c.database, "CREATE TABLE t (v int)")
	p := c.serve(t, nil)
	c.settle(t, p)
	served := &p.SharedOf(p.database).Stats.Routes[router.ToReplica]
	inside := func(t *testing.T, level string) *rawClient {
		t.Helper()
		raw := p.rawDial(t, wire.Protocol30)
		if err := raw.round(wire.AppendQuery(nil, "SET pgtier.consistency = '"+level+"'")); err != nil {
			t.Fatal(err)
		}
		eventually(t, "a replica serves the transaction", func() bool {
			before := served.Load()
			for _, sql := range []string{"COMMIT", "BEGIN READ ONLY ISOLATION LEVEL REPEATABLE READ", "SELECT count(*) FROM t"} {
				if err := raw.round(wire.AppendQuery(nil, sql)); err != nil {
					t.Fatal(err)
				}
			}
			return served.Load() > before
		})
		return raw
	}
	sync := func(msgs []byte) []byte { return wire.AppendSync(msgs) }
	behind := func(text string) []byte { return append(unsynced("", "COMMIT"), unsynced("", text)...) }
	for name, tc := range map[string]struct {
		level string
		sent  []byte
		state string // "" if it is carried out
	}{
		"a write":                    {"session", sync(behind("INSERT INTO t VALUES (1)")), "25006"},
		"a write in one text":        {"session", wire.AppendQuery(nil, "COMMIT; INSERT INTO t VALUES (1)"), "25006"},
		"a transaction that writes":  {"session", wire.AppendQuery(nil, "COMMIT; BEGIN"), "25006"},
		"one that only reads":        {"session", wire.AppendQuery(nil, "COMMIT; BEGIN READ ONLY; SELECT 1; COMMIT"), ""},
		"a read":                     {"session", sync(behind("SELECT count(*) FROM t")), ""},
		"a read, strong":             {"strong", sync(behind("SELECT count(*) FROM t")), "25006"},
		"a setting":                  {"session", wire.AppendQuery(nil, "COMMIT; SET work_mem = '1MB'"), ""},
		"the level":                  {"session", sync(append(behind("SET pgtier.consistency = 'manager'"), unsynced("", "SELECT count(*) FROM t")...)), "25006"},
		"a write that is not run":    {"session", sync(append(unsynced("", "COMMIT"), wire.AppendParse(nil, "later", []byte("INSERT INTO t VALUES (1)"), nil)...)), ""},
		"a hint":                     {"session", sync(unsynced("", "/* pgtier: consistency=manager */ SELECT count(*) FROM t")), "25006"},
		"behind Flush, Sync between": {"session", append(sync(flushed("COMMIT")), sync(unsynced("", "INSERT INTO t VALUES (2)"))...), ""},
		"behind Flush, a Query":      {"session", append(sync(flushed("SELECT 1")), wire.AppendQuery(wire.AppendQuery(nil, "COMMIT"), "INSERT INTO t VALUES (2)")...), ""},
		"behind Flush, a read":       {"session", sync(flushed("COMMIT", "SELECT count(*) FROM t")), ""},
	} {
		t.Run(name, func(t *testing.T) {
			raw := inside(t, tc.level)
			ends := 0
			for rest := tc.sent; len(rest) > 0; {
				if rest[0] == wire.MsgSync || rest[0] == wire.MsgQuery {
					ends++
				}
				size, _ := wire.FrameSize(rest)
				rest = rest[size:]
			}
			if _, err := raw.nc.Write(tc.sent); err != nil {
				t.Fatal(err)
			}
			var failed error
			for range ends {
				_ = raw.nc.SetReadDeadline(time.Now().Add(limit))
				failed = errors.Join(failed, raw.ready())
			}
			var refusal *wire.Error
			if errors.As(failed, &refusal) && refusal.Code != tc.state || (failed == nil) != (tc.state == "") {
				t.Errorf("got %v, want state %q", failed, tc.state)
			}
			for _, sql := range []string{"ROLLBACK", "SELECT 1"} {
				if err := raw.round(wire.AppendQuery(nil, sql)); err != nil {
					t.Errorf("the session cannot go on: %s: %v", sql, err)
				}
			}
		})
	}
	for name, tc := range map[string]struct{ level, sql string }{
		"a write, behind Flush":      {"session", "INSERT INTO t VALUES (1)"},
		"a read, strong, Flush":      {"strong", "SELECT count(*) FROM t"},
		"a hint, behind Flush":       {"session", "/* pgtier: consistency=manager */ SELECT count(*) FROM t"},
		"a transaction behind Flush": {"session", "BEGIN"},
	} {
		t.Run(name, func(t *testing.T) {
			raw := inside(t, tc.level)
			if _, err := raw.nc.Write(flushed("COMMIT", tc.sql)); err != nil {
				t.Fatal(err)
			}
			raw.wantFarewell(t, "25006")
		})
	}
	if got := pgtest.Value(t, c.manager, c.database, "SELECT count(*) FROM t WHERE v = 1"); got != "0" {
		t.Errorf("%s rows were written by what was refused", got)
	}
	if got := pgtest.Value(t, c.manager, c.database, "SELECT count(*) FROM t WHERE v = 2"); got != "2" {
		t.Errorf("got %s rows of the two that were written", got)
	}
}
