package proxy_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/pool"
	"pgtier/proxy/session"
	"pgtier/proxy/wire"
)

// one is an edit for a single server connection, so that every client comes upon what the one before it left.
func one(cfg *proxy.Config) { cfg.Pool.Size = 1 }

// heard sends msgs, reads syncs ReadyForQuery and renders what came: rows by their first value, commands by their tag,
// errors by their SQLSTATE.
func (c *rawClient) heard(t testing.TB, msgs []byte, syncs int) string {
	t.Helper()
	_ = c.nc.SetDeadline(time.Now().Add(limit))
	if _, err := c.nc.Write(msgs); err != nil {
		t.Fatal(err)
	}
	var out []string
	for syncs > 0 {
		kind, body, err := c.message()
		if err != nil {
			t.Fatalf("after %q: %v", out, err)
		}
		switch kind {
		case wire.MsgDataRow:
			fields, err := wire.RowFields(body)
			if err != nil || len(fields) == 0 {
				t.Fatalf("row %q: %v", body, err)
			}
			out = append(out, string(fields[0]))
		case wire.MsgCommandComplete:
			out = append(out, string(body[:len(body)-1]))
		case wire.MsgErrorResponse:
			out = append(out, "!"+wire.ParseError(body).Code)
		case wire.MsgReadyForQuery:
			syncs--
			out = append(out, string(body))
		}
	}
	return strings.Join(out, " ")
}

func (c *rawClient) wantHeard(t testing.TB, msgs []byte, syncs int, want string) {
	t.Helper()
	if got := c.heard(t, msgs, syncs); got != want {
		t.Errorf("heard %q, want %q", got, want)
	}
}

func (c *rawClient) wantQuery(t testing.TB, sql, want string) {
	t.Helper()
	c.wantHeard(t, wire.AppendQuery(nil, sql), 1, want)
}

// named is Parse, Bind, Execute and Sync of sql under a statement name.
func named(name, sql string) []byte { return wire.AppendSync(unsynced(name, sql)) }

func unsynced(name, sql string) []byte {
	return wire.AppendExecute(wire.AppendBindText(wire.AppendParse(nil, name, []byte(sql), nil), name, nil))
}

func param(name, value string) wire.Param { return wire.Param{Name: name, Value: value} }

func TestPreparedStatementsAreSharedOnlyUnderTheSettingsTheyWereReadUnder(t *testing.T) {
	p := newRig(t).serve(t, one)
	const instant = "SELECT extract(epoch FROM timestamptz '2024-01-01 00:00')::int"
	utc := p.rawDial(t, wire.Protocol30, param("TimeZone", "UTC"))
	tokyo := p.rawDial(t, wire.Protocol30, param("TimeZone", "Asia/Tokyo"))
	for _, name := range []string{"", "s"} {
		utc.wantHeard(t, named(name, instant), 1, "1704067200 SELECT 1 I")
		tokyo.wantHeard(t, named(name, instant), 1, "1704034800 SELECT 1 I")
	}
	const text = "SELECT length('é')::text"
	latin := p.rawDial(t, wire.Protocol30, param("client_encoding", "LATIN1"))
	utf8 := p.rawDial(t, wire.Protocol30, param("client_encoding", "UTF8"))
	latin.wantHeard(t, named("e", text), 1, "2 SELECT 1 I")
	utf8.wantHeard(t, named("e", text), 1, "1 SELECT 1 I")
}

func TestSettingsAreReplayedInTheirOwnEncoding(t *testing.T) {
	p := newRig(t).serve(t, one)
	utf8 := p.rawDial(t, wire.Protocol30, param("client_encoding", "UTF8"))
	latin := p.rawDial(t, wire.Protocol30, param("client_encoding", "LATIN1"))
	utf8.wantQuery(t, `SET search_path = "schéma"`, "SET I")
	latin.wantQuery(t, "SET search_path = \"sch\xe9ma2\"", "SET I")
	utf8.wantQuery(t, "SHOW search_path", `"schéma" SHOW I`)
	latin.wantQuery(t, "SHOW search_path", "\"sch\xe9ma2\" SHOW I")
}

func TestStatementClosedForRoomMayComeBack(t *testing.T) {
	p := newRig(t).serve(t, one)
	c := p.rawDial(t, wire.Protocol30)
	for i := range 500 {
		c.wantHeard(t, named(fmt.Sprintf("s%d", i), fmt.Sprintf("SELECT %d", i)), 1, fmt.Sprintf("%d SELECT 1 I", i))
	}
	c.wantQuery(t, "PREPARE q AS SELECT 'q'", "PREPARE I")
	c.wantQuery(t, "EXECUTE q", "q SELECT 1 I")
	c.wantHeard(t, wire.AppendSync(wire.AppendExecute(wire.AppendBindText(nil, "s0", nil))), 1, "0 SELECT 1 I")
}

func TestListenThatFailsAnswersOnce(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, "postgres", "DROP ROLE IF EXISTS limited; CREATE ROLE limited LOGIN PASSWORD 'limited-secret'")
	p := r.serve(t, func(cfg *proxy.Config) {
		one(cfg)
		r.setURL(cfg, r.url(t, "limited", "limited-secret", "sslmode=disable"))
	})
	nc, err := dialTCP(p.address)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	c, err := rawLogin(nc, wire.Protocol30, []wire.Param{param("user", "limited"), param("database", p.database)})
	if err != nil {
		t.Fatal(err)
	}
	c.wantQuery(t, "SELECT 1", "1 SELECT 1 I")
	pgtest.Exec(t, r.manager, "postgres", "ALTER ROLE limited CONNECTION LIMIT 1")
	if got := c.heard(t, wire.AppendQuery(nil, "LISTEN a"), 1); !strings.Contains(got, "!") {
		t.Errorf("LISTEN: heard %q, want an error", got)
	}
	pgtest.Exec(t, r.manager, "postgres", "ALTER ROLE limited CONNECTION LIMIT -1")
	c.wantQuery(t, "SELECT 2", "2 SELECT 1 I")
}

func TestUnlistenFollowsItsTransaction(t *testing.T) {
	p := newRig(t).serve(t, nil)
	teller := p.client(t)
	for _, test := range []struct {
		sql  []string
		told bool
	}{
		{[]string{"LISTEN a", "BEGIN", "UNLISTEN a", "COMMIT"}, false},
		{[]string{"LISTEN a", "BEGIN; UNLISTEN a; ROLLBACK"}, true},
		{[]string{"LISTEN a", "BEGIN", "UNLISTEN a", "ROLLBACK"}, true},
		{[]string{"LISTEN a", "UNLISTEN *; LISTEN a"}, true},
		{[]string{"LISTEN a; UNLISTEN a"}, false},
		{[]string{"LISTEN a", "UNLISTEN *"}, false},
	} {
		c := p.client(t)
		for _, sql := range append(test.sql, "LISTEN z") {
			mustValue(t, c, sql)
		}
		mustValue(t, teller, "NOTIFY a; NOTIFY z")
		ctx, stop := context.WithTimeout(context.Background(), limit)
		n, err := c.WaitForNotification(ctx)
		stop()
		if err != nil || (n.Channel == "a") != test.told {
			t.Errorf("%q: got %+v, %v; told of a: want %v", test.sql, n, err, test.told)
		}
	}
}

func TestDiscardAllInAPipelineDoesNotFreeWhatComesAfterIt(t *testing.T) {
	p := newRig(t).serve(t, pools(func(c *pool.Config) { c.Size = 1; c.WaitTimeout = time.Second }))
	next := p.rawDial(t, wire.Protocol30)
	refused := func(what string) {
		t.Helper()
		if got := next.heard(t, wire.AppendQuery(nil, "SELECT 1"), 1); !strings.HasPrefix(got, "!") {
			t.Errorf("%s: the connection was lent to a neighbour: %q", what, got)
		}
	}
	// On a connection that is kept already.
	c := p.rawDial(t, wire.Protocol30)
	c.wantQuery(t, "CREATE TEMP TABLE kept ()", "CREATE TABLE I")
	c.wantHeard(t, append(wire.AppendQuery(nil, "DISCARD ALL"), wire.AppendQuery(nil, "CREATE TEMP TABLE later ()")...), 2,
		"DISCARD ALL I CREATE TABLE I")
	refused("after CREATE TEMP TABLE")
	c.wantQuery(t, "DISCARD ALL", "DISCARD ALL I")
	next.wantQuery(t, "SELECT count(*) FROM pg_class WHERE relname = 'later'", "0 SELECT 1 I")
	// On a shared one, within one request and over two.
	for what, msgs := range map[string][]byte{
		"one request":  append(unsynced("", "DISCARD ALL"), named("n", "SET search_path = mine")...),
		"two requests": append(named("", "DISCARD ALL"), named("n", "SET search_path = mine")...),
	} {
		c := p.rawDial(t, wire.Protocol30)
		c.wantHeard(t, named("s", "SELECT 's'"), 1, "s SELECT 1 I")
		syncs := strings.Count(string(msgs), "S\x00\x00\x00\x04")
		if got := c.heard(t, msgs, syncs); strings.Contains(got, "!") {
			t.Errorf("%s: %s", what, got)
		}
		c.wantQuery(t, "SHOW search_path", "mine SHOW I")
		c.wantHeard(t, named("s", "SELECT 'again'"), 1, "again SELECT 1 I")
		c.wantQuery(t, "DISCARD ALL", "DISCARD ALL I")
		next.wantQuery(t, "SHOW search_path", `"$user", public SHOW I`)
	}
}

func TestPrepareWhereItIsPreparedAlready(t *testing.T) {
	p := newRig(t).serve(t, one)
	for _, name := range []string{"a", "b"} {
		c := p.rawDial(t, wire.Protocol30, param("application_name", name))
		c.wantQuery(t, "PREPARE q AS SELECT 'q'", "PREPARE I")
		c.wantQuery(t, "EXECUTE q", "q SELECT 1 I")
	}
}

func TestPinWithAStatementThatCanNoLongerBePrepared(t *testing.T) {
	p := newRig(t).serve(t, nil)
	for _, tx := range []bool{false, true} {
		c := p.rawDial(t, wire.Protocol30)
		c.wantQuery(t, "CREATE TABLE gone ()", "CREATE TABLE I")
		c.wantHeard(t, named("g", "SELECT count(*) FROM gone"), 1, "0 SELECT 1 I")
		c.wantHeard(t, named("k", "SELECT 'kept'"), 1, "kept SELECT 1 I")
		c.wantQuery(t, "DROP TABLE gone", "DROP TABLE I")
		state := "I"
		if tx {
			state = "T"
			c.wantQuery(t, "BEGIN", "BEGIN T")
		}
		c.wantQuery(t, "CREATE TEMP TABLE mine ()", "CREATE TABLE "+state)
		c.wantHeard(t, wire.AppendSync(wire.AppendExecute(wire.AppendBindText(nil, "k", nil))), 1, "kept SELECT 1 "+state)
		if tx {
			c.wantQuery(t, "COMMIT", "COMMIT I")
		}
		c.wantQuery(t, "SELECT count(*) FROM mine", "0 SELECT 1 I")
	}
}

// call is a FunctionCall of a function with one text argument.
func call(oid uint32, arg string) []byte {
	msg, at := wire.Begin(nil, wire.MsgFunction)
	msg = binary.BigEndian.AppendUint32(msg, oid)
	msg = append(msg, 0, 0, 0, 1)
	msg = binary.BigEndian.AppendUint32(msg, uint32(len(arg)))
	return wire.End(append(append(msg, arg...), 0, 0), at)
}

func TestFunctionCallKeepsItsConnection(t *testing.T) {
	p := newRig(t).serve(t, pools(func(c *pool.Config) { c.Size = 1; c.WaitTimeout = time.Second }))
	c := p.rawDial(t, wire.Protocol30)
	c.wantHeard(t, call(2880, "7"), 1, "I") // pg_advisory_lock(bigint)
	next := p.rawDial(t, wire.Protocol30)
	if got := next.heard(t, wire.AppendQuery(nil, "SELECT pg_advisory_unlock(7)"), 1); !strings.HasPrefix(got, "!") {
		t.Errorf("the lock's connection was lent to a neighbour: %q", got)
	}
}

func TestPrepareBehindAnOpenRequestStaysWithItsClient(t *testing.T) {
	p := newRig(t).serve(t, one)
	c, next := p.rawDial(t, wire.Protocol30), p.rawDial(t, wire.Protocol30)
	c.heard(t, append(wire.AppendCloseStatement(nil, "x"), wire.AppendQuery(nil, "PREPARE mine AS SELECT 'mine'")...), 1)
	c.wantQuery(t, "EXECUTE mine", "mine SELECT 1 I")
	_ = c.nc.Close()
	next.wantQuery(t, "SELECT count(*) FROM pg_prepared_statements WHERE name = 'mine'", "0 SELECT 1 I")
}

func TestResetGoesBackToTheStartupSettings(t *testing.T) {
	r := newRig(t)
	shared := r.serve(t, one)
	own := r.serve(t, pools(func(c *pool.Config) { c.Mode = pool.ModeSession }))
	for _, test := range []struct {
		p   *running
		sql []string
	}{
		{shared, []string{"SET work_mem = '9MB'", "SET work_mem TO DEFAULT"}},
		{shared, []string{"BEGIN", "SET work_mem = '9MB'", "RESET work_mem"}},
		{shared, []string{"BEGIN", "SET work_mem = '9MB'", "RESET ALL"}},
		{shared, []string{"BEGIN", "SET work_mem = '9MB'", "SET work_mem TO DEFAULT"}},
		{shared, []string{"CREATE TEMP TABLE pinned ()", "SET work_mem = '9MB'", "RESET work_mem"}},
		{shared, []string{"CREATE TEMP TABLE pinned ()", "SET work_mem = '9MB'", "RESET ALL"}},
		{own, []string{"SET work_mem = '9MB'", "RESET ALL"}},
		{own, []string{"SET work_mem = '9MB'", "DISCARD ALL"}},
	} {
		c := test.p.client(t, "options='-c work_mem=7MB'")
		for _, sql := range test.sql {
			mustValue(t, c, sql)
		}
		if got := mustValue(t, c, "SHOW work_mem"); got != "7MB" {
			t.Errorf("%q: work_mem is %s, want the 7MB of the startup packet", test.sql, got)
		}
		_ = c.Close(context.Background())
	}
}

func TestExecuteThatCannotBePreparedSaysWhy(t *testing.T) {
	p := newRig(t).serve(t, nil)
	c, blocker := p.rawDial(t, wire.Protocol30), p.rawDial(t, wire.Protocol30)
	c.wantQuery(t, "CREATE TABLE gone ()", "CREATE TABLE I")
	c.wantQuery(t, "PREPARE g AS SELECT count(*) FROM gone", "PREPARE I")
	c.wantQuery(t, "DROP TABLE gone", "DROP TABLE I")
	blocker.wantQuery(t, "BEGIN", "BEGIN T")
	blocker.wantQuery(t, "SELECT 1", "1 SELECT 1 T") // takes the connection that c had
	c.wantQuery(t, "EXECUTE g", "!42P01 I")
	c.wantQuery(t, "BEGIN", "BEGIN T")
	c.wantQuery(t, "EXECUTE g", "!42P01 E")
	c.wantQuery(t, "ROLLBACK", "ROLLBACK I")
}

func TestKilledSessionLeavesNothingOnItsConnection(t *testing.T) {
	p := newRig(t).serve(t, pools(func(c *pool.Config) { c.Size = 2 }))
	stop, failed := make(chan struct{}), make(chan error, 8)
	for range 4 {
		c := p.rawDial(t, wire.Protocol30)
		go func() { // ends with stop, or its connection
			for {
				select {
				case <-stop:
					failed <- nil
					return
				default:
				}
				_ = c.nc.SetDeadline(time.Now().Add(limit))
				if err := c.round(wire.AppendQuery(nil, "SELECT 1")); err != nil {
					failed <- err
					return
				}
			}
		}()
	}
	keep := map[uint64]bool{}
	for _, s := range p.Sessions() {
		keep[s.ID()] = true
	}
	for i := range 300 {
		c := p.rawDial(t, wire.Protocol30)
		works := make(chan struct{})
		go func() { // ends when it is killed
			for n := 0; c.round(wire.AppendQuery(nil, "SELECT 2")) == nil; n++ {
				if n == i%4 {
					close(works)
				}
			}
		}()
		select {
		case <-works: // so the kill comes at any moment of a statement
		case <-time.After(limit):
			t.Fatalf("client %d is not answered", i)
		}
		for _, s := range p.Sessions() {
			if !keep[s.ID()] {
				s.Kill(wire.Fatal(wire.CodeAdminShutdown, "killed by the test"))
			}
		}
	}
	close(stop)
	for range 4 {
		if err := <-failed; err != nil {
			t.Errorf("a neighbour of killed sessions: %v", err)
		}
	}
}

func TestCancelThatComesLateHitsNobody(t *testing.T) {
	r := newRig(t)
	p := r.serve(t, pools(func(c *pool.Config) { c.Size = 1; c.CancelWaitTimeout = 200 * time.Millisecond }))
	c, next := p.client(t), p.client(t)
	mustValue(t, c, "SELECT 1")
	done := later(c, "SELECT pg_sleep(1)")
	eventually(t, "the statement runs", func() bool { return r.connections(t, "query LIKE 'SELECT pg_sleep%' AND state = 'active'") == "1" })
	watch, err := pgx.Connect(bounded(t), r.manager.URL("postgres", "", "")) // while new connections can be made
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = watch.Close(context.Background()) })
	stopPostmaster(t, r.manager.PID())
	ctx, stop := context.WithTimeout(context.Background(), 2*time.Second)
	defer stop()
	_ = c.PgConn().CancelRequest(ctx)
	if err := <-done; err != nil {
		t.Logf("the cancelled statement: %v", err)
	}
	after := later(next, "SELECT pg_sleep(1)")
	eventually(t, "the next statement is under way, or waits for a new connection", func() bool {
		active := mustValue(t, watch, "SELECT count(*) FROM pg_stat_activity WHERE datname = '"+r.database+"' AND query LIKE 'SELECT pg_sleep%' AND state = 'active'")
		return active != "0" || len(after) > 0 || slices.ContainsFunc(p.Sessions(), func(s *session.Session) bool { return s.Info().State == session.StateWaiting })
	})
	continuePostmaster(t, r.manager.PID())
	if err := <-after; err != nil {
		t.Errorf("the next client's statement: %v", err)
	}
}

// stopPostmaster keeps the server from acting on cancel requests; its sessions go on.
func stopPostmaster(t testing.TB, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(pid, syscall.SIGCONT) })
}

func continuePostmaster(t testing.TB, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
}

// TestArgumentsOfExecutePin passes what changes the session's state to a prepared statement that does not.
func TestArgumentsOfExecutePin(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE FUNCTION locks() RETURNS int LANGUAGE sql AS 'SELECT 1 FROM pg_advisory_lock(4)';"+
		"CREATE FUNCTION sets() RETURNS text LANGUAGE plpgsql AS $$BEGIN RETURN set_config('work_mem', '9MB', false); END$$")
	p := r.serve(t, withConsole)
	p.readsCatalog(t)
	boss := p.console(t, "boss")
	for argument, pins := range map[string]bool{"locks()": true, "sets()": true, "pg_advisory_lock(4)": true, "upper('x')": false} {
		c := p.client(t)
		mustExec(t, c, "PREPARE s AS SELECT $1::text")
		mustExec(t, c, "EXECUTE s("+argument+"::text)")
		if got := pin(t, boss); (got != "") != pins {
			t.Errorf("%s: pinned by %q", argument, got)
		}
		if err := c.Close(bounded(t)); err != nil {
			t.Fatal(err)
		}
		eventually(t, "the session is gone", func() bool { return pin(t, boss) == "" })
	}
}

// TestNamesOfSQLBehindAFlush prepares by SQL where messages come without their Sync: the name is the session's own, or the session ends.
func TestNamesOfSQLBehindAFlush(t *testing.T) {
	t.Parallel()
	flush := []byte{wire.MsgFlush, 0, 0, 0, 4}
	behind := func(msgs []byte) []byte { return append(msgs, flush...) }
	copying := append(wire.AppendQuery(nil, "COPY kept FROM STDIN"), wire.MsgCopyData, 0, 0, 0, 6, '7', '\n', wire.MsgCopyDone, 0, 0, 0, 4)
	prepare := slices.Clip(unsynced("", "PREPARE s AS SELECT 2"))
	for _, tc := range []struct {
		name    string
		before  []byte // with its ReadyForQuery
		open    []byte // without
		said    int    // messages that answer open
		msgs    []byte
		syncs   int
		want    string // "": the session ends
		execute string // by the same session, then
	}{
		{name: "with the Flush", open: behind(prepare), said: 3, msgs: wire.AppendSync(nil), syncs: 1, want: "I", execute: "2 SELECT 1 I"},
		{name: "of a name in use", before: wire.AppendQuery(nil, "PREPARE s AS SELECT 1"), open: behind(prepare), said: 3, msgs: wire.AppendSync(nil), syncs: 1, want: "I", execute: "1 SELECT 1 I"},
		{name: "behind it", open: behind(unsynced("", "SELECT 1")), said: 4, msgs: wire.AppendSync(prepare)},
		{name: "EXECUTE", before: wire.AppendQuery(nil, "PREPARE s AS SELECT 1"), open: behind(unsynced("", "SELECT 1")), said: 4, msgs: wire.AppendSync(unsynced("", "EXECUTE s"))},
		{name: "DEALLOCATE", before: wire.AppendQuery(nil, "PREPARE s AS SELECT 1"), open: behind(unsynced("", "SELECT 1")), said: 4, msgs: wire.AppendSync(unsynced("", "DEALLOCATE s"))},
		{name: "behind its Sync", open: behind(unsynced("", "SELECT 1")), said: 4, msgs: append(wire.AppendSync(nil), wire.AppendSync(prepare)...), syncs: 2, want: "I PREPARE I", execute: "2 SELECT 1 I"},
		{name: "behind COPY", msgs: wire.AppendQuery(wire.AppendQuery(copying, "PREPARE s AS SELECT 2"), "EXECUTE s"), syncs: 3, want: "COPY 1 I PREPARE I 2 SELECT 1 I", execute: "2 SELECT 1 I"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			pgtest.Exec(t, r.manager, r.database, "CREATE TABLE kept (id int)")
			p := r.serve(t, func(cfg *proxy.Config) { cfg.Pool.Size = 2 })
			p.readsCatalog(t)
			c, other := p.rawDial(t, wire.Protocol30), p.rawDial(t, wire.Protocol30)
			if tc.before != nil {
				c.heard(t, tc.before, 1)
			}
			if tc.open != nil {
				c.write(t, tc.open)
				if got, err := c.hear(tc.said, limit); err != nil || len(got) < tc.said {
					t.Fatalf("heard %q, %v", got, err)
				}
			}
			if tc.want == "" {
				c.write(t, tc.msgs)
				c.wantFarewell(t, wire.CodeFeatureNotSupported)
			} else {
				c.wantHeard(t, tc.msgs, tc.syncs, tc.want)
				c.wantQuery(t, "EXECUTE s", tc.execute)
			}
			other.wantQuery(t, "EXECUTE s", "!26000 I")
			other.wantQuery(t, "SELECT count(*) FROM pg_prepared_statements WHERE name = 's'", "0 SELECT 1 I")
		})
	}
}

// TestAStatementThatCannotBePreparedFailsItsTransaction runs a statement in a transaction that has to be prepared anew as it was read first, and that its server refuses by now.
func TestAStatementThatCannotBePreparedFailsItsTransaction(t *testing.T) {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE t (v int); CREATE TABLE gone (v int)")
	p := r.serve(t, func(cfg *proxy.Config) { cfg.Pool.Size = 2 })
	c, other := p.rawDial(t, wire.Protocol30), p.client(t)
	var m msgs
	c.wantQuery(t, "SET TimeZone = 'UTC'", "SET I")
	if err := c.round(m.parse("q", "SELECT (timestamptz '2024-01-01 12:00')::text FROM gone").sync()); err != nil {
		t.Fatal(err)
	}
	c.wantQuery(t, "SET TimeZone = 'Asia/Tokyo'", "SET I")
	pgtest.Exec(t, r.manager, r.database, "DROP TABLE gone")
	end := hold(t, other) // the connection where it is prepared
	c.wantQuery(t, "BEGIN", "BEGIN T")
	c.wantQuery(t, "INSERT INTO t VALUES (1)", "INSERT 0 1 T")
	c.wantHeard(t, m.run("q").sync(), 1, "!42P01 E")
	c.wantQuery(t, "SELECT 1", "!25P02 E")
	c.wantQuery(t, "COMMIT", "ROLLBACK I")
	end()
	if n := pgtest.Value(t, r.manager, r.database, "SELECT count(*) FROM t"); n != "0" {
		t.Errorf("%s rows of a failed transaction are committed", n)
	}
}

// TestTheUnnamedStatementOutlivesAListen binds it again on a connection that is the session's own, where LISTEN has been prepared.
func TestTheUnnamedStatementOutlivesAListen(t *testing.T) {
	t.Parallel()
	p := newRig(t).serve(t, one)
	p.readsCatalog(t)
	c := p.rawDial(t, wire.Protocol30)
	c.wantQuery(t, "SELECT 1 FROM pg_advisory_lock(4)", "1 SELECT 1 I")
	c.wantHeard(t, named("heard", "LISTEN heard"), 1, "LISTEN I")
	c.wantHeard(t, named("", "SELECT 7"), 1, "7 SELECT 1 I")
	c.wantHeard(t, wire.AppendSync(wire.AppendExecute(wire.AppendBindText(nil, "", nil))), 1, "7 SELECT 1 I")
	c.wantQuery(t, "SELECT pg_listening_channels()", "heard SELECT 1 I")
}

// TestTheUnnamedStatementOfALaterRequest sends requests of which an earlier one fails, and binds what the last has parsed.
func TestTheUnnamedStatementOfALaterRequest(t *testing.T) {
	t.Parallel()
	p := newRig(t).serve(t, one)
	p.readsCatalog(t)
	bind := wire.AppendSync(wire.AppendExecute(wire.AppendBindText(nil, "", nil)))
	fails, skips := named("", "SELECT nothing"), wire.AppendSync(append(unsynced("x", "SELECT nothing"), unsynced("", "SELECT 6")...))
	for _, tc := range []struct {
		name    string
		request [][]byte
		syncs   int
		want    string
		bound   string
	}{
		{"behind one that fails", [][]byte{fails, named("", "SELECT 7")}, 2, "!42703 I 7 SELECT 1 I", "7 SELECT 1 I"},
		{"behind one that is skipped", [][]byte{skips, named("", "SELECT 7")}, 2, "!42703 I 7 SELECT 1 I", "7 SELECT 1 I"},
		{"the same behind one that fails", [][]byte{fails, fails, named("", "SELECT 7")}, 3, "!42703 I !42703 I 7 SELECT 1 I", "7 SELECT 1 I"},
		{"that fails too", [][]byte{named("", "SELECT 7"), fails, fails}, 3, "7 SELECT 1 I !42703 I !42703 I", "!26000 I"},
		{"that is skipped too", [][]byte{named("", "SELECT 7"), skips, skips}, 3, "7 SELECT 1 I !42703 I !42703 I", "7 SELECT 1 I"},
		{"that is skipped behind one that fails", [][]byte{named("", "SELECT 7"), fails, skips}, 3, "7 SELECT 1 I !42703 I !42703 I", "!26000 I"},
		{"that a Query replaces", [][]byte{named("", "SELECT 7"), skips, wire.AppendQuery(nil, "SELECT 8")}, 3, "7 SELECT 1 I !42703 I 8 SELECT 1 I", "!26000 I"},
	} {
		for range 2 { // it is prepared anew, and known
			c := p.rawDial(t, wire.Protocol30)
			if got := c.heard(t, bytes.Join(tc.request, nil), tc.syncs); got != tc.want {
				t.Errorf("%s: heard %q, want %q", tc.name, got, tc.want)
			}
			if got := c.heard(t, bind, 1); got != tc.bound {
				t.Errorf("%s: bound, heard %q, want %q", tc.name, got, tc.bound)
			}
			c.wantHeard(t, named("", "SELECT 9"), 1, "9 SELECT 1 I")
			c.wantHeard(t, bind, 1, "9 SELECT 1 I")
		}
	}
}
