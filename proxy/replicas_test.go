package proxy_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/wire"
	"pgtier/router"
	"pgtier/router/balance"
)

// TestClientsAreNotToldOfStandbys: to a client pgtier is one server, which can be written to, whichever of them has answered. Drivers that look for such a server
// would leave one that says that it is in_hot_standby. What they are told does not keep sessions that write now and then from reading in pipelines.
func TestClientsAreNotToldOfStandbys(t *testing.T) {
	t.Parallel()
	c, p := settledCrew(t, 1, "CREATE TABLE t (v int); INSERT INTO t VALUES (0)", func(d *proxy.Database) { d.Pool.Pipeline.Slow = time.Hour }, proxy.WithEagerPipelines())
	const standby = "in_hot_standby"
	client := p.rawDial(t, wire.Protocol30)
	client.wantQuery(t, "SET pgtier.consistency = 'eventual'", "SET I")
	byReplicas := &p.SharedOf(p.database).Stats.Routes[router.ToReplica]
	client.travels(t, p)
	travelled, replied := p.piped(), byReplicas.Load()
	for range 20 {
		client.write(t, wire.AppendQuery(nil, "UPDATE t SET v = 0"))
		client.wantTold(t, "C Z")
		client.write(t, wire.AppendQuery(nil, "SELECT v FROM t"))
		client.wantTold(t, "T D:0 C Z")
	}
	if n := byReplicas.Load() - replied; n < 10 {
		t.Errorf("%d of 20 reads went to the replica", n)
	}
	if n := p.piped() - travelled; n < 10 {
		t.Errorf("%d of 20 reads travelled in a pipeline", n)
	}
	if err := c.manager.Stop(localpg.Immediate); err != nil {
		t.Fatal(err)
	}
	for _, told := range []*rawClient{client, p.rawDial(t, wire.Protocol30)} {
		if got := told.params[standby]; got != "off" {
			t.Errorf("%s is %q", standby, got)
		}
	}
	alone := c.start(t, c.config(t, func(d *proxy.Database) {
		d.Shards[0].Manager, d.Shards[0].Replicas = d.Shards[0].Replicas[0].URL, nil
	}))
	if got := alone.rawDial(t, wire.Protocol30).params[standby]; got != "on" {
		t.Errorf("in front of a standby alone %s is %q", standby, got)
	}
}

// TestEachStatementLandsWhereItMust runs every kind of statement through a proxy with two replicas, finds the server that
// ran it by that server's own log, and compares the answer with the manager's own.
func TestEachStatementLandsWhereItMust(t *testing.T) {
	t.Parallel()
	c := newCrew(t, 2, map[string]string{"log_statement": "all"})
	pgtest.Exec(t, c.manager, c.database, `CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 5) i;
		CREATE SEQUENCE s; CREATE VIEW v AS SELECT id, v FROM t WHERE id < 4; CREATE MATERIALIZED VIEW m AS SELECT count(*) FROM t;
		CREATE FUNCTION doubled(i int) RETURNS int LANGUAGE sql STABLE AS 'SELECT max(id) * i FROM t';
		CREATE FUNCTION writes() RETURNS int LANGUAGE sql VOLATILE AS 'INSERT INTO t VALUES (100, ''w'') ON CONFLICT (id) DO UPDATE SET v = ''w'' RETURNING 1';
		CREATE FUNCTION lying() RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN nextval(''s'') * 0; END';
		CREATE PROCEDURE calls() LANGUAGE sql AS 'UPDATE t SET v = v'`)
	p := c.serve(t, nil)
	c.settle(t, p)
	const replica, manager = "replica", "manager"
	for name, tc := range map[string]struct {
		want string
		ask  ask
	}{
		"simple":                        {replica, simple("SELECT v FROM t WHERE id = 1 @")},
		"several in one query":          {replica, simple("SELECT 1 @; SELECT v FROM t WHERE id = 2")},
		"several, one writes":           {manager, simple("SELECT 1 @; UPDATE t SET v = v WHERE id = 1")},
		"extended unnamed":              {replica, extended(pgx.QueryExecModeExec, "SELECT v FROM t WHERE id = $1 @")},
		"extended described":            {replica, extended(pgx.QueryExecModeDescribeExec, "SELECT v FROM t WHERE id = $1 @")},
		"extended named":                {replica, extended(pgx.QueryExecModeCacheStatement, "SELECT v FROM t WHERE id = $1 @")},
		"extended write":                {manager, extended(pgx.QueryExecModeCacheStatement, "UPDATE t SET v = v WHERE id = $1 @")},
		"pipeline, a Sync each":         {replica, piped(true, "SELECT 1 @", "SELECT v FROM t WHERE id = 1")},
		"pipeline, one Sync":            {replica, piped(false, "SELECT 1 @", "SELECT v FROM t WHERE id = 1", "SELECT 3")},
		"pipeline with a write":         {manager, piped(false, "SELECT 1 @", "UPDATE t SET v = v WHERE id = 1", "SELECT 3")},
		"pipeline with a write after":   {manager, piped(true, "SELECT 1 @", "UPDATE t SET v = v WHERE id = 1")},
		"pipeline with an error":        {replica, piped(true, "SELECT 1 @", "SELECT 1/(id-id) FROM t", "SELECT 4")},
		"COPY (SELECT) TO":              {replica, copyOut("COPY (SELECT * FROM t ORDER BY id @) TO STDOUT")},
		"COPY table TO":                 {replica, copyOut("COPY t TO STDOUT @")},
		"view":                          {replica, simple("SELECT count(*) FROM v @")},
		"materialized view":             {replica, simple("TABLE m @")},
		"SQL function looked through":   {replica, simple("SELECT doubled(2) @")},
		"an error of the statement":     {replica, simple("SELECT 1/(id-id) FROM t @")},
		"function that writes":          {manager, simple("SELECT writes() @")},
		"function that lies":            {manager, simple("SELECT lying() @")},
		"nextval":                       {manager, simple("SELECT nextval('s') * 0 @")},
		"FOR UPDATE":                    {manager, simple("SELECT v FROM t WHERE id = 1 FOR UPDATE @")},
		"FOR KEY SHARE inside":          {manager, simple("WITH x AS (SELECT * FROM t FOR KEY SHARE) SELECT count(*) FROM x @")},
		"WITH that writes":              {manager, simple("WITH x AS (DELETE FROM t WHERE id = 77 RETURNING 1) SELECT count(*) FROM x @")},
		"SELECT INTO":                   {manager, simple("BEGIN", "SELECT 1 AS a INTO made @", "ROLLBACK")},
		"advisory lock":                 {manager, simple("SELECT pg_advisory_xact_lock(7) @")},
		"set_config":                    {manager, simple("SELECT set_config('work_mem', '1MB', true) @")},
		"notify":                        {manager, simple("SELECT pg_notify('c', 'x') @")},
		"random is harmless":            {replica, simple("SELECT count(random()) @")},
		"temporary table":               {manager, simple("CREATE TEMP TABLE temp_t (a int)", "INSERT INTO temp_t VALUES (1)", "SELECT * FROM temp_t @")},
		"SHOW":                          {manager, simple("SHOW work_mem @")},
		"EXPLAIN":                       {manager, simple("EXPLAIN (COSTS off) SELECT 1 @")},
		"EXPLAIN ANALYZE of a write":    {manager, simple("EXPLAIN (ANALYZE, COSTS off, TIMING off, SUMMARY off) UPDATE t SET v = v WHERE id = 1 @")},
		"pg_stat view":                  {manager, simple("SELECT count(*) * 0 FROM pg_stat_activity @")},
		"pg_settings":                   {manager, simple("SELECT count(*) * 0 FROM pg_settings @")},
		"pg_is_in_recovery":             {manager, simple("SELECT pg_is_in_recovery() @")},
		"position of the log":           {manager, simple("SELECT pg_current_wal_lsn() IS NULL @")},
		"DO":                            {manager, simple("DO $$BEGIN PERFORM 1; END$$ @")},
		"CALL":                          {manager, simple("CALL calls() @")},
		"SET then read":                 {replica, simple("SET extra_float_digits = 0", settled, "SELECT 0.1::float8 + 0.2::float8 @")},
		"BEGIN READ ONLY":               {replica, simple("BEGIN READ ONLY", "SELECT v FROM t WHERE id = 1 @", "SELECT 2", "COMMIT")},
		"READ ONLY, extended":           {replica, extended(pgx.QueryExecModeExec, "BEGIN READ ONLY", "SELECT v FROM t WHERE id = $1 @", "COMMIT")},
		"READ ONLY, REPEATABLE READ":    {replica, simple("START TRANSACTION READ ONLY, ISOLATION LEVEL REPEATABLE READ", "SELECT v FROM t WHERE id = 1 @", "COMMIT")},
		"READ ONLY, SERIALIZABLE":       {manager, simple("BEGIN ISOLATION LEVEL SERIALIZABLE, READ ONLY", "SELECT v FROM t WHERE id = 1 @", "COMMIT")},
		"SET TRANSACTION READ ONLY":     {replica, simple("BEGIN", "SET TRANSACTION READ ONLY", "SELECT v FROM t WHERE id = 1 @", "COMMIT")},
		"SERIALIZABLE made READ ONLY":   {manager, simple("BEGIN ISOLATION LEVEL SERIALIZABLE", "SET TRANSACTION READ ONLY", "SELECT v FROM t WHERE id = 1 @", "COMMIT")},
		"READ ONLY made SERIALIZABLE":   {manager, simple("BEGIN READ ONLY", "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SELECT v FROM t WHERE id = 1 @", "COMMIT")},
		"READ ONLY made READ WRITE":     {manager, simple("BEGIN READ ONLY", "SET TRANSACTION READ WRITE", "UPDATE t SET v = v WHERE id = 1 @", "COMMIT")},
		"default_transaction_read_only": {replica, simple("SET default_transaction_read_only = on", settled, "BEGIN", "SELECT v FROM t WHERE id = 1 @", "COMMIT")},
		"READ ONLY as default, undone":  {manager, simple("SET default_transaction_read_only = on", settled, "BEGIN READ WRITE", "UPDATE t SET v = v WHERE id = 1 @", "COMMIT")},
		"serializable as default":       {manager, simple("SET default_transaction_isolation = serializable", "SELECT v FROM t WHERE id = 1 @")},
		"serializable, BEGIN READ ONLY": {manager, simple("SET default_transaction_isolation = serializable", "BEGIN READ ONLY", "SELECT v FROM t WHERE id = 1 @", "COMMIT")},
		"serializable by SET SESSION":   {manager, simple("SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SELECT v FROM t WHERE id = 1 @")},
		"READ ONLY by SET SESSION":      {replica, simple("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", settled, "BEGIN", "SELECT v FROM t WHERE id = 1 @", "COMMIT")},
		"read-write transaction":        {manager, simple("BEGIN", "SELECT v FROM t WHERE id = 1 @", "COMMIT")},
		"cursor":                        {replica, simple("BEGIN READ ONLY", "DECLARE k CURSOR FOR SELECT id FROM t ORDER BY id @", "FETCH 2 FROM k", "MOVE 1 IN k", "FETCH ALL FROM k", "CLOSE k", "COMMIT")},
		"cursor that scrolls":           {replica, simple("BEGIN READ ONLY", "DECLARE k SCROLL CURSOR FOR SELECT id FROM t ORDER BY id @", "FETCH LAST FROM k", "FETCH PRIOR FROM k", "ROLLBACK")},
		"cursor WITH HOLD":              {manager, simple("DECLARE k CURSOR WITH HOLD FOR SELECT id FROM t ORDER BY id @", "FETCH 2 FROM k")},
		"savepoints":                    {replica, simple("BEGIN READ ONLY", "SAVEPOINT a", "SELECT 1/(id-id) FROM t @", "ROLLBACK TO a", "SELECT 2", "RELEASE a", "COMMIT")},
		"write in READ ONLY":            {replica, simple("BEGIN READ ONLY", "SELECT 1 @", "UPDATE t SET v = v", "SELECT 2", "COMMIT")},
		"write first in READ ONLY":      {manager, simple("BEGIN READ ONLY", "UPDATE t SET v = v @", "SELECT 2", "COMMIT")},
		"nextval in READ ONLY":          {replica, simple("BEGIN READ ONLY", "SELECT 1 @", "SELECT nextval('s')", "COMMIT")},
		"PREPARE and EXECUTE":           {replica, simple("PREPARE q (int) AS SELECT v FROM t WHERE id = $1", settled, "EXECUTE q (1) @")},
		"EXECUTE of a write":            {manager, simple("PREPARE q (int) AS UPDATE t SET v = v WHERE id = $1", "EXECUTE q (1) @")},
		"EXECUTE in READ ONLY":          {replica, simple("PREPARE q (int) AS SELECT v FROM t WHERE id = $1", settled, "BEGIN READ ONLY", "SELECT 1 @", "EXECUTE q (1)", "COMMIT")},
		"EXECUTE with a hint":           {manager, simple("PREPARE q (int) AS SELECT v FROM t WHERE id = $1", settled, "/* pgtier: consistency=manager */ EXECUTE q (1) @")},
		"hint":                          {manager, simple("/* pgtier: consistency=manager */ SELECT v FROM t WHERE id = 1 @")},
		"hint by a named statement":     {manager, extended(pgx.QueryExecModeCacheStatement, "/* pgtier: consistency=manager */ SELECT v FROM t WHERE id = $1 @")},
		"the empty query":               {"", simple(";")},
		"catalog":                       {replica, simple("SELECT relname FROM pg_class WHERE relname = 't' @")},
		"current_setting":               {manager, simple("SELECT current_setting('work_mem') @")},
		"version":                       {manager, simple("SELECT length(version()) > 0 @")},
	} {
		t.Run(name, func(t *testing.T) {
			direct, err := pgx.Connect(bounded(t), c.manager.URL(c.database, "", ""))
			if err != nil {
				t.Fatal(err)
			}
			defer direct.Close(context.Background())
			want, err := tc.ask(bounded(t), direct, "direct")
			if err != nil {
				t.Fatal(err)
			}
			var route string
			eventually(t, "the session's own past is on a replica", func() bool {
				conn := p.client(t)
				mark := fmt.Sprintf("mark%d.", marks.Add(1))
				got, err := tc.ask(p.through(t), conn, mark)
				if err != nil {
					t.Fatal(err)
				}
				route = mustValue(t, conn, "SHOW pgtier.last_route")
				ran := c.ran(t, mark)
				if got != want {
					t.Errorf("got  %s\nwant %s\nroute: %s", got, want, route)
					return true
				}
				for _, why := range []balance.Why{balance.AllBehind, balance.NoneUp, balance.AllLagging, balance.AllFull} {
					if tc.want == replica && strings.Contains(route, why.String()) {
						return false // what it has just read is not known to have been replayed yet, or a probe was late
					}
				}
				if got := strings.Join(ran, " and "); got != tc.want {
					t.Errorf("it ran on %q, want %q; the proxy says %q", got, tc.want, route)
				}
				if tc.want != "" && !strings.HasPrefix(route, tc.want) {
					t.Errorf("SHOW pgtier.last_route says %q, want %q", route, tc.want)
				}
				return true
			})
		})
	}
}

// TestLastRouteTellsOfPreparedText: PREPARE and EXECUTE in SQL are statements too, also right behind a SHOW of the proxy's own.
func TestLastRouteTellsOfPreparedText(t *testing.T) {
	t.Parallel()
	_, p := settledCrew(t, 1, "CREATE TABLE t (v int)", nil)
	conn := p.client(t)
	mustValue(t, conn, "SELECT 1")
	for _, step := range []struct{ sql, want string }{
		{"PREPARE w AS INSERT INTO t VALUES (1)", "prepare"},
		{"EXECUTE w", "insert is no query"},
		{"PREPARE r AS SELECT count(*) FROM t", "prepare"},
		{"/* pgtier: consistency=manager */ EXECUTE r", "consistency level manager"},
	} {
		mustValue(t, conn, "SHOW pgtier.lsn")
		mustValue(t, conn, step.sql)
		if got := mustValue(t, conn, "SHOW pgtier.last_route"); !strings.Contains(got, step.want) {
			t.Errorf("after %s the route is %q, want %q", step.sql, got, step.want)
		}
	}
}

// TestResetOfTheLevel: whatever takes the setting back leaves the configured level, and reads go to replicas again.
func TestResetOfTheLevel(t *testing.T) {
	t.Parallel()
	_, p := settledCrew(t, 1, "", func(d *proxy.Database) { d.Reads.Consistency = "strong" })
	for _, back := range []string{"RESET pgtier.consistency", "RESET ALL", "DISCARD ALL", "SET pgtier.consistency TO DEFAULT", "SET pgtier.consistency = strong"} {
		conn := p.client(t)
		wantValue(t, conn, "SHOW pgtier.consistency", "strong")
		mustValue(t, conn, "SET pgtier.consistency = 'manager'")
		wantValue(t, conn, "SHOW pgtier.consistency", "manager")
		mustValue(t, conn, "SELECT 1")
		if got, want := mustValue(t, conn, "SHOW pgtier.last_route"), "consistency level manager"; !strings.Contains(got, want) {
			t.Errorf("after SET the route is %q, want %q", got, want)
		}
		mustValue(t, conn, back)
		wantValue(t, conn, "SHOW pgtier.consistency", "strong")
		if err := untilReplica(p.through(t), conn); err != nil {
			t.Errorf("%s: no replica serves afterwards: %v", back, err)
		}
	}
}

// TestReloadOfReads: what the configuration says of reads holds for present sessions at once, though no server moved.
func TestReloadOfReads(t *testing.T) {
	t.Parallel()
	c, p := settledCrew(t, 1, "", nil)
	conn := p.client(t)
	wantValue(t, conn, "SHOW pgtier.consistency", "session")
	if err := p.Reload(c.config(t, func(d *proxy.Database) { d.Reads.Consistency = "manager" })); err != nil {
		t.Fatal(err)
	}
	wantValue(t, conn, "SHOW pgtier.consistency", "manager")
	if err := p.Reload(c.config(t, func(d *proxy.Database) { d.Reads.MaxLag = time.Minute })); err != nil {
		t.Fatal(err)
	}
	wantValue(t, conn, "SHOW pgtier.consistency", "session")
	if err := untilReplica(p.through(t), conn); err != nil {
		t.Errorf("no replica serves after a reload: %v", err)
	}
}

// TestReloadOfReplicas adds and removes replicas under clients that read all the time: they notice nothing.
func TestReloadOfReplicas(t *testing.T) {
	t.Parallel()
	c, p := settledCrew(t, 2, "CREATE TABLE kv (k int PRIMARY KEY, v bigint); INSERT INTO kv VALUES (1, 0)", nil)
	stop := make(chan struct{})
	var clients sync.WaitGroup
	for range 4 {
		conn := p.client(t)
		clients.Go(func() { // ended by stop
			last := int64(0)
			for {
				select {
				case <-stop:
					return
				default:
				}
				var v int64
				ctx, end := context.WithTimeout(context.Background(), limit)
				err := conn.QueryRow(ctx, "SELECT v FROM kv WHERE k = 1").Scan(&v)
				if err == nil && v < last {
					err = fmt.Errorf("read %d after %d", v, last)
				}
				if err == nil && v%7 == 0 {
					err = conn.QueryRow(ctx, "UPDATE kv SET v = v + 1 WHERE k = 1 RETURNING v").Scan(&v)
				} else if err == nil {
					_, err = conn.Exec(ctx, "UPDATE kv SET v = v + 1 WHERE k = 1")
				}
				end()
				if err != nil {
					t.Errorf("a client that reads during reloads: %v", err)
					return
				}
				last = v
			}
		})
	}
	all := c.shard.Replicas
	for _, replicas := range [][]*localpg.Server{{all[1]}, {}, {all[1], all[0]}, {all[0]}, {}, {all[0], all[1]}} {
		c.shard.Replicas = replicas
		if err := p.Reload(c.config(t, nil)); err != nil {
			t.Fatal(err)
		}
		if len(replicas) == 0 {
			wantValue(t, p.client(t), "SELECT 1", "1")
			continue
		}
		// No client comes: those there are have the servers watched.
		p.usable(t, len(replicas))
		if err := untilReplica(p.through(t), p.client(t)); err != nil {
			t.Errorf("no replica serves after a reload: %v", err)
		}
	}
	close(stop)
	clients.Wait()
	p.nothingLent(t)
	c.shard.Replicas = all
}

// TestConnectionThatIsGoneBeforeItIsOfUse: server processes end while they are at rest. Whoever borrows such a connection
// and has to put its settings there first gets another one, for reads and for writes.
func TestConnectionThatIsGoneBeforeItIsOfUse(t *testing.T) {
	t.Parallel()
	c, p := settledCrew(t, 1, "CREATE TABLE t (v int)", nil)
	with, without := p.client(t), p.client(t)
	mustValue(t, with, "SET enable_seqscan = off") // needs a round trip of its own
	through := p.through(t)
	for i := range 20 {
		for _, conn := range []*pgx.Conn{with, without} {
			if err := untilReplica(through, conn); err != nil {
				t.Fatal(err)
			}
		}
		mustValue(t, without, "INSERT INTO t VALUES (0)")
		for _, s := range c.all() {
			pgtest.Exec(t, s, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'crew' AND application_name <> 'pgtier monitor'")
		}
		mustValue(t, with, "SELECT count(*) FROM t")
		mustValue(t, with, fmt.Sprintf("INSERT INTO t VALUES (%d)", i+1))
	}
	wantValue(t, with, "SELECT count(DISTINCT v) FROM t WHERE v > 0", "20")
}
