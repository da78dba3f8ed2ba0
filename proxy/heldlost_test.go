package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/pool"
	"pgtier/proxy/session"
	"pgtier/proxy/wire"
)

// endBackend waits until a client's statement with mark in its text is under way on one of the servers, where condition
// holds of it in pg_stat_activity, and ends its server process.
func (c *crew) endBackend(t testing.TB, mark, condition string, servers ...*localpg.Server) {
	t.Helper()
	eventually(t, mark+" runs and is ended", func() bool {
		return slices.ContainsFunc(servers, func(s *localpg.Server) bool {
			return pgtest.Value(t, s, "postgres", fmt.Sprintf(`SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
				WHERE datname = '%s' AND state = 'active' AND query LIKE '%%%s%%' AND %s`, c.database, mark, condition)) != "0"
		})
	})
}

// TestFirstTurnOfALostTransaction: a server is lost in the first turn behind a held BEGIN. Where nothing but BEGIN and what
// leaves nothing behind can have run, and the client has heard nothing, it runs again; where more may have, the client is
// told that its transaction is gone.
func TestFirstTurnOfALostTransaction(t *testing.T) {
	t.Parallel()
	c := newCrew(t, 1, nil)
	pgtest.Exec(t, c.manager, c.database, "CREATE TABLE t (v int); INSERT INTO t VALUES (1)")
	p := c.serve(t, nil)
	c.settle(t, p)
	// Whoever wants to read t waits, on the replica too, until end is called.
	lock := func(t *testing.T) (end func()) {
		conn, err := pgx.Connect(bounded(t), c.manager.URL(c.database, "", ""))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		mustValue(t, conn, "BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE")
		pgtest.Exec(t, c.manager, c.database, "SELECT pg_current_xact_id()") // a commit, with which replicas get the lock
		if err := c.shard.CatchUp(bounded(t)); err != nil {
			t.Fatal(err)
		}
		return func() { mustValue(t, conn, "COMMIT") }
	}
	stats := p.SharedOf(p.database).Stats

	t.Run("a read on a replica runs again", func(t *testing.T) {
		conn := p.client(t)
		mustValue(t, conn, "BEGIN READ ONLY")
		end := lock(t)
		repeated := stats.Repeated.Load()
		done := later(conn, "SELECT v AS read_on_a_replica FROM t")
		c.endBackend(t, "read_on_a_replica", "wait_event_type = 'Lock'", c.shard.Replicas...)
		eventually(t, "it is sent again", func() bool { return stats.Repeated.Load() > repeated })
		end()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		wantValue(t, conn, "SHOW transaction_read_only", "on")
		mustValue(t, conn, "COMMIT")
	})
	t.Run("a write on the manager runs again, once", func(t *testing.T) {
		conn := p.client(t)
		mustValue(t, conn, "BEGIN")
		end := lock(t)
		repeated := stats.Repeated.Load()
		done := later(conn, "INSERT INTO t VALUES (20) RETURNING v AS write_on_the_manager")
		c.endBackend(t, "write_on_the_manager", "wait_event_type = 'Lock'", c.manager)
		eventually(t, "it is sent again", func() bool { return stats.Repeated.Load() > repeated })
		end()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		mustValue(t, conn, "COMMIT")
		wantValue(t, conn, "SELECT count(*) FROM t WHERE v = 20", "1")
	})
	t.Run("what is only prepared is prepared again", func(t *testing.T) {
		conn := p.client(t)
		end := lock(t)
		repeated := stats.Repeated.Load()
		done := make(chan error, 1)
		go func() { // ends with the statement, which end lets go on
			_, err := conn.Prepare(context.Background(), "insert", "INSERT INTO t VALUES (30) RETURNING v AS only_prepared")
			done <- err
		}()
		// A server that says goodbye sooner may not have begun.
		c.endBackend(t, "only_prepared", "wait_event_type = 'Lock' AND query_start < now() - interval '0.3 s'", c.manager)
		eventually(t, "it is sent again", func() bool { return stats.Repeated.Load() > repeated })
		end()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		var v int
		if err := conn.QueryRow(bounded(t), "insert").Scan(&v); err != nil || v != 30 {
			t.Errorf("got %d, %v", v, err)
		}
		wantValue(t, conn, "SELECT count(*) FROM t WHERE v = 30", "1")
	})
	for name, tc := range map[string]struct{ before, sql string }{
		"what keeps its connection does not":        {"PREPARE own AS SELECT 1", "CREATE TEMP TABLE x AS SELECT v AS what_is_kept FROM t"},
		"a function that may do anything does not":  {"SELECT 1", "SELECT pg_logical_emit_message(false, 'a', 'b') AS what_is_kept FROM t"},
		"a text that ends the transaction does not": {"SELECT 1", "SELECT v AS what_is_kept FROM t FOR UPDATE; COMMIT"},
	} {
		t.Run(name, func(t *testing.T) {
			conn := p.client(t)
			mustValue(t, conn, tc.before)
			mustValue(t, conn, "BEGIN")
			end := lock(t)
			done := later(conn, tc.sql)
			c.endBackend(t, "what_is_kept", "wait_event_type = 'Lock'", c.manager)
			end()
			err := <-done
			if state := sqlstate(err); state != "08006" && state != "08007" && state != "57P01" {
				t.Errorf("got %v, want the transaction's end", err)
			}
			if !conn.IsClosed() {
				t.Error("the session goes on, outside its transaction")
			}
		})
	}
	t.Run("an answer that the client has begun to read does not", func(t *testing.T) {
		raw := p.rawDial(t, wire.Protocol30)
		if err := raw.round(wire.AppendQuery(nil, "BEGIN READ ONLY")); err != nil {
			t.Fatal(err)
		}
		if _, err := raw.nc.Write(wire.AppendQuery(nil, "SELECT i::text AS begun_to_read, repeat('x', 1000) FROM generate_series(1, 200000) i")); err != nil {
			t.Fatal(err)
		}
		c.endBackend(t, "begun_to_read", "wait_event = 'ClientWrite'", c.all()...)
		_ = raw.nc.SetReadDeadline(time.Now().Add(limit))
		rows := 0
		for {
			kind, body, err := raw.message()
			if errors.Is(err, io.EOF) {
				break // in the middle of a row, where nothing can be said
			}
			if err != nil {
				t.Fatalf("after %d rows: %v", rows, err)
			}
			if kind == wire.MsgDataRow {
				fields, _ := wire.RowFields(body)
				if rows++; string(fields[0]) != fmt.Sprint(rows) {
					t.Fatalf("row %d begins anew at %s", rows, fields[0])
				}
			}
			if kind == wire.MsgErrorResponse {
				if e := wire.ParseError(body); e.Severity != "FATAL" || e.Code != "08006" && e.Code != "57P01" {
					t.Errorf("got %+v", e)
				}
				break
			}
		}
		if rows == 0 {
			t.Error("no row came: the test proves nothing")
		}
	})
}

// TestHeldBeginWhoseConnectionIsLostBefore: what has to be made on the connection before a held BEGIN goes there finds it ended. The client
// believes itself in a transaction: whatever it says next must not run outside of one.
func TestHeldBeginWhoseConnectionIsLostBefore(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, pools(func(c *pool.Config) { c.Size = 1 }))
	for name, first := range map[string]string{
		"a statement read under other settings": "q",
		"what the proxy itself tells":           "SHOW pgtier.last_route",
		"a statement that pins":                 "CREATE TEMPORARY TABLE mine ()",
	} {
		t.Run(name, func(t *testing.T) {
			c := p.client(t)
			mustValue(t, c, "SET TimeZone = 'UTC'")
			if _, err := c.Prepare(bounded(t), "q", "SELECT (timestamptz '2024-01-01 12:00')::text"); err != nil {
				t.Fatal(err)
			}
			mustValue(t, c, "SET TimeZone = 'Asia/Tokyo'")
			pid := mustValue(t, c, "SELECT pg_backend_pid()")
			mustValue(t, c, "BEGIN")
			pgtest.Value(t, r.manager, r.database, "SELECT pg_terminate_backend("+pid+", 5000)")
			_, err := c.Exec(bounded(t), first)
			if err != nil && !c.IsClosed() && c.PgConn().TxStatus() == 'I' {
				t.Errorf("%v, and the transaction is over for the client", err)
			}
			if err == nil && c.PgConn().TxStatus() != 'T' {
				t.Errorf("in state %c after %s", c.PgConn().TxStatus(), first)
			}
		})
	}
}

// TestHeldBeginThatItsServerRefuses: BEGIN fails on the server, as by a cancel that strikes just it. What comes behind it must not
// run by itself, and the client is in a failed transaction.
func TestHeldBeginThatItsServerRefuses(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE t (v int)")
	forwarder := &tripwire{to: fmt.Sprintf("127.0.0.1:%d", r.manager.Port), word: "BEGIN ISOLATION LEVEL REPEATABLE READ", instead: "BEGIN ISOLATION LEVEL UNHEARD OF     "}
	port := forwarder.port(t)
	p := r.serve(t, func(cfg *proxy.Config) {
		r.standsBehind(t, cfg, port)
	})
	for name, tc := range map[string]struct {
		before   []byte
		requests []byte
		answers  string // the messages, and the state in each ReadyForQuery
	}{
		"Query":              {nil, wire.AppendQuery(nil, "INSERT INTO t VALUES (1)"), "EZE"},
		"Query that commits": {nil, wire.AppendQuery(nil, "INSERT INTO t VALUES (1); COMMIT"), "EZE"},
		"extended":           {nil, inOneTurn("INSERT INTO t VALUES (1)"), "EZE"},
		"behind settings":    {wire.AppendQuery(nil, "SET application_name = 'told with BEGIN'"), wire.AppendQuery(nil, "INSERT INTO t VALUES (1)"), "EZE"},
		"what pins":          {nil, inOneTurn("CREATE TEMPORARY TABLE x ()"), "EZE"},
		"more that pins":     {nil, append(inOneTurn("CREATE TEMPORARY TABLE x ()"), inOneTurn("SELECT 1")...), "EZEEZE"},
		"two Queries":        {nil, wire.AppendQuery(wire.AppendQuery(nil, "INSERT INTO t VALUES (1)"), "INSERT INTO t VALUES (2)"), "EZEEZE"},
		"behind a Sync":      {nil, append(inOneTurn("INSERT INTO t VALUES (1)"), inOneTurn("INSERT INTO t VALUES (1)")...), "EZEEZE"},
	} {
		t.Run(name, func(t *testing.T) {
			raw := p.rawDial(t, wire.Protocol30)
			if tc.before != nil {
				if err := raw.round(tc.before); err != nil {
					t.Fatal(err)
				}
			}
			if err := raw.round(wire.AppendSync(wire.AppendParse(nil, "kept", []byte("SELECT 1"), nil))); err != nil {
				t.Fatal(err)
			}
			if err := raw.round(wire.AppendQuery(nil, "BEGIN ISOLATION LEVEL REPEATABLE READ")); err != nil {
				t.Fatal(err)
			}
			forwarder.tripped.Store(false)
			if got := raw.kinds(t, tc.requests, len(tc.answers), "42601", "25P02"); got != tc.answers {
				t.Errorf("got %q, want %q", got, tc.answers)
			}
			if !forwarder.tripped.Load() {
				t.Error("the server got the BEGIN as it was: the test proves nothing")
			}
			if err := raw.round(wire.AppendQuery(nil, "ROLLBACK")); err != nil {
				t.Fatal(err)
			}
			if n := pgtest.Value(t, r.manager, r.database, "SELECT count(*) FROM t"); n != "0" {
				t.Errorf("%s rows were written outside the transaction", n)
			}
			if got := raw.kinds(t, wire.AppendSync(wire.AppendExecute(wire.AppendBindText(nil, "kept", nil))), len("2DCZI")); got != "2DCZI" {
				t.Errorf("got %q of what the session has prepared", got)
			}
			if err := raw.round(wire.AppendQuery(nil, "SELECT 1")); err != nil {
				t.Errorf("the session does not go on: %v", err)
			}
		})
	}
}

// inOneTurn is sql as messages of the extended protocol.
func inOneTurn(sql string) []byte {
	b := wire.AppendParse(nil, "", []byte(sql), nil)
	return wire.AppendSync(wire.AppendExecute(wire.AppendBindText(b, "", nil)))
}

// kinds sends requests and returns the types of n messages that answer, with the state behind each ReadyForQuery. Errors
// must be of one of these states.
func (c *rawClient) kinds(t testing.TB, requests []byte, n int, states ...string) (got string) {
	t.Helper()
	if _, err := c.nc.Write(requests); err != nil {
		t.Fatal(err)
	}
	_ = c.nc.SetReadDeadline(time.Now().Add(limit))
	for len(got) < n {
		kind, body, err := c.message()
		if err != nil {
			t.Fatalf("after %q: %v", got, err)
		}
		got += string(kind)
		switch kind {
		case wire.MsgReadyForQuery:
			got += string(body)
		case wire.MsgErrorResponse:
			if e := wire.ParseError(body); !slices.Contains(states, e.Code) || e.Severity != "ERROR" {
				t.Errorf("got %+v, want an error of %v", e, states)
			}
		}
	}
	return got
}

// TestSettingsThatAServerRefuses: the replay of a session's settings fails on a connection that others have used, as by a cancel
// that strikes just it. What comes behind it must not run under the others' settings.
func TestSettingsThatAServerRefuses(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE SCHEMA mine; CREATE TABLE mine.t (v int); CREATE TABLE public.t (v int)")
	forwarder := &tripwire{to: fmt.Sprintf("127.0.0.1:%d", r.manager.Port), word: "set_config($", instead: "sat_config($"}
	forwarder.tripped.Store(true)
	port := forwarder.port(t)
	p := r.serve(t, func(cfg *proxy.Config) {
		cfg.Pool.Size = 1
		r.standsBehind(t, cfg, port)
	})
	const insert = "INSERT INTO t VALUES (1)"
	for name, tc := range map[string]struct {
		requests []byte
		answers  string
	}{
		"Query":                {wire.AppendQuery(nil, insert), "EZI"},
		"extended":             {inOneTurn(insert), "EZI"},
		"a transaction":        {wire.AppendQuery(nil, "BEGIN; "+insert+"; COMMIT"), "EZI"},
		"PREPARE":              {wire.AppendQuery(nil, "PREPARE one AS "+insert), "EZI"},
		"several Syncs":        {append(inOneTurn(insert), inOneTurn(insert)...), "EZIEZI"},
		"a held BEGIN":         {wire.AppendQuery(nil, insert), "EZE"},
		"what is only watched": {wire.AppendQuery(nil, "SET search_path = public; "+insert), "EZI"},
		"what pins":            {wire.AppendQuery(nil, "CREATE TEMP TABLE x ()"), "EZI"},
		"what the proxy tells": {wire.AppendQuery(nil, "SHOW pgtier.last_route"), "EZI"},
		"it in a held BEGIN":   {wire.AppendQuery(nil, "SHOW pgtier.last_route"), "EZE"},
	} {
		t.Run(name, func(t *testing.T) {
			raw, other := p.rawDial(t, wire.Protocol30), p.rawDial(t, wire.Protocol30)
			for _, one := range []struct {
				c   *rawClient
				sql string
			}{{raw, "SET search_path = mine"}, {raw, "SELECT * FROM t"}, {other, "SET search_path = public"}, {other, "SELECT * FROM t"}} {
				if err := one.c.round(wire.AppendQuery(nil, one.sql)); err != nil {
					t.Fatal(err)
				}
			}
			if strings.HasSuffix(tc.answers, "E") {
				if err := raw.round(wire.AppendQuery(nil, "BEGIN")); err != nil {
					t.Fatal(err)
				}
			}
			forwarder.tripped.Store(false)
			if got := raw.kinds(t, tc.requests, len(tc.answers), "42883"); got != tc.answers {
				t.Errorf("got %q, want %q", got, tc.answers)
			}
			if !forwarder.tripped.Load() {
				t.Error("the server got the replay as it was: the test proves nothing")
			}
			if slices.ContainsFunc(p.Sessions(), func(s *session.Session) bool {
				i := s.Info()
				return i.State == session.StateActive || i.State == session.StateWaiting
			}) {
				t.Error("a session that rests is said to be at work")
			}
			_ = raw.round(wire.AppendQuery(nil, "ROLLBACK"))
			if n := pgtest.Value(t, r.manager, r.database, "SELECT count(*) FROM (TABLE mine.t UNION ALL TABLE public.t) t"); n != "0" {
				t.Errorf("%s rows were written", n)
			}
			if err := raw.round(wire.AppendQuery(nil, insert)); err != nil {
				t.Errorf("the session does not go on: %v", err)
			}
			if n := pgtest.Value(t, r.manager, r.database, "WITH d AS (DELETE FROM mine.t RETURNING v) SELECT count(*) FROM d"); n != "1" {
				t.Errorf("%s rows were written where they belong, want 1", n)
			}
		})
	}
}

// TestSettingsBehindACopyAreTold: the server has no reason to report a value that it has reported to the session before, where
// a COPY comes first and its end is followed by SET.
func TestSettingsBehindACopyAreTold(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE t (v int)")
	p := r.serve(t, pools(func(c *pool.Config) { c.Size = 1 }))
	raw, other := p.rawDial(t, wire.Protocol30), p.rawDial(t, wire.Protocol30)
	for _, one := range []struct {
		c    *rawClient
		name string
	}{{raw, "mine"}, {other, "others"}} {
		for _, sql := range []string{"SET application_name = '" + one.name + "'", "SELECT 1"} {
			if err := one.c.round(wire.AppendQuery(nil, sql)); err != nil {
				t.Fatal(err)
			}
		}
	}
	copies := wire.AppendQuery(nil, "COPY t FROM STDIN; SET application_name = 'others'")
	if got := raw.kinds(t, append(copies, 'c', 0, 0, 0, 4), len("GCCSZI")); got != "GCCSZI" {
		t.Errorf("got %q, want COPY, SET, the setting's report and the end", got)
	}
}

// TestReadsOutliveConnections cuts connections as they bring a read. It has changed nothing, so it goes to another, also where
// the connection was only made ready for it, and where connections go on being lost for a moment.
func TestReadsOutliveConnections(t *testing.T) {
	t.Parallel()
	forwarder := &tripwire{word: "/* cut here */"}
	forwarder.tripped.Store(true)
	_, p := settledCrew(t, 1, "", func(d *proxy.Database) {
		_, forwarder.to = d.Shards[0].Manager.Address()
		d.Shards[0].Manager.Port = forwarder.port(t)
	})
	for name, tc := range map[string]struct {
		before, sql string
		lasts       time.Duration
	}{
		"a connection":                    {"SELECT 1", "SELECT 42 /* cut here */", 0},
		"those of a moment":               {"SELECT 1", "SELECT 42 /* cut here */", 150 * time.Millisecond},
		"one that EXECUTE makes ready":    {"PREPARE r AS SELECT 42 /* cut here */", "EXECUTE r", 0},
		"those that EXECUTE makes ready":  {"PREPARE r AS SELECT 42 /* and on */ /* cut here */", "EXECUTE r", 150 * time.Millisecond},
		"one that a held BEGIN goes to":   {"BEGIN", "SELECT 42 /* cut here */", 0},
		"those that a held BEGIN goes to": {"BEGIN", "SELECT 42 /* cut here */", 150 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			c, other := p.client(t), p.client(t)
			mustValue(t, c, "SET pgtier.consistency = 'manager'")
			mustValue(t, c, tc.before)
			end := hold(t, other) // the connection on which r was prepared
			defer end()
			forwarder.lasts.Store(int64(tc.lasts))
			forwarder.tripped.Store(false)
			if got := mustValue(t, c, tc.sql); got != "42" {
				t.Errorf("got %q", got)
			}
			if !forwarder.tripped.Load() {
				t.Error("no connection was cut: the test proves nothing")
			}
		})
	}
}

// TestHeldBeginAndItsEndAhead sends a transaction's statement and its COMMIT at once while there is no connection. What comes behind the
// COMMIT must not be refused as if the transaction were still there.
func TestHeldBeginAndItsEndAhead(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, pools(func(c *pool.Config) { c.Size, c.WaitTimeout = 1, 2*time.Second }))
	c, end := p.rawDial(t, wire.Protocol30), hold(t, p.client(t))
	if err := c.round(wire.AppendQuery(nil, "BEGIN")); err != nil {
		t.Fatal(err)
	}
	c.write(t, wire.AppendQuery(wire.AppendQuery(nil, "SELECT 1"), "COMMIT"))
	c.wantFarewell(t, "57P03")
	end()
}

// TestBeginThatARecoveringServerRefuses: where a hot standby is all there is, it says itself what it does not begin.
func TestBeginThatARecoveringServerRefuses(t *testing.T) {
	t.Parallel()
	c := newCrew(t, 1, nil)
	if err := c.shard.CatchUp(bounded(t)); err != nil {
		t.Fatal(err)
	}
	cfg := c.rig.config(t, nil)
	d := cfg.Databases[c.database]
	d.Shards[0].Manager.Port = uint16(c.shard.Replicas[0].Port)
	cfg.Databases[c.database] = d
	p := c.start(t, cfg)
	direct, err := pgx.Connect(bounded(t), c.shard.Replicas[0].URL(c.database, "", ""))
	if err != nil {
		t.Fatal(err)
	}
	defer direct.Close(context.Background())
	texts := []string{"BEGIN READ WRITE", "SELECT 1", "BEGIN ISOLATION LEVEL SERIALIZABLE", "SELECT 2", "BEGIN", "SELECT 3", "CREATE TABLE x ()", "COMMIT"}
	want, err := steps(bounded(t), direct, texts)
	if err != nil {
		t.Fatal(err)
	}
	got, err := steps(bounded(t), p.client(t), texts)
	if err != nil || got != want {
		t.Errorf("got %v\n%swant\n%s", err, got, want)
	}
}
