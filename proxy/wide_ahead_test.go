package proxy_test

import (
	"fmt"
	"strings"
	"testing"

	"pgtier/proxy/wire"
)

// TestWritesAheadOfAReadAreNotLost has a shard lost in a read that stands behind a write in the same request, which a Flush has parted: the read is not asked again
// by itself, and the client does not hear of success.
func TestWritesAheadOfAReadAreNotLost(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	c := p.rawDial(t, wire.Protocol30)
	var m msgs
	c.send(t, m.parse("", "UPDATE accounts SET balance = 7").run("").flush())
	if got := s.on(t, 1, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'"); got != "1" {
		t.Fatalf("%s transactions", got)
	}
	eventually(t, "gone", func() bool {
		return s.on(t, 1, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'idle in transaction'") == "0"
	})
	got := c.heard(t, m.parse("", "SELECT count(*) FROM accounts WHERE balance = 100").run("").sync(), 1)
	if !strings.HasPrefix(got, "!") || !strings.HasSuffix(got, " I") { // what the server said at its end, or that it is lost
		t.Errorf("heard %q behind an update that is lost, want an error", got)
	}
	c.wantQuery(t, "SELECT count(*) FROM accounts WHERE balance = 100", "30 SELECT 1 I")
}

// TestSettingsBehindAReadOfTheSameRequestAreUndone sets something behind a read that a Flush has parted from it, on shards that the request still holds: with the request
// that fails it is undone.
func TestSettingsBehindAReadOfTheSameRequestAreUndone(t *testing.T) {
	t.Parallel()
	_, p := newSpread(t)
	c := p.rawDial(t, wire.Protocol30)
	var m msgs
	before := c.heard(t, m.query("SHOW work_mem"), 1)
	c.send(t, m.parse("", "SELECT count(*) FROM accounts").run("").parse("w", "SELECT count(*) FROM accounts WHERE id > $1").portal("x", "w", "1").flush())
	c.wantHeard(t, m.parse("", "SET work_mem = '7MB'").run("").parse("", "SELECT sum(1 / (balance - balance)) FROM accounts").run("").sync(), 1, "SET !22012 I")
	c.wantQuery(t, "SHOW work_mem", before)
}

// TestLongParametersGoToTheShardOfTheirKey binds parameters that are longer than what a request is read by, in a transaction that has begun on another shard than that
// of their key, whole and in pieces.
func TestLongParametersGoToTheShardOfTheirKey(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	a, b := s.apart(t)
	long := strings.Repeat("x", 300<<10)
	write := fmt.Sprintf("UPDATE accounts SET owner = $1 WHERE id = %d", b)
	var m msgs
	begun := func() *rawClient {
		c := p.rawDial(t, wire.Protocol30)
		c.wantQuery(t, "BEGIN", "BEGIN T")
		c.wantQuery(t, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", a), "100 SELECT 1 T")
		return c
	}
	c := begun()
	c.wantHeard(t, m.parse("", write).run("", long).sync(), 1, "UPDATE 1 T")
	c.wantQuery(t, "COMMIT", "COMMIT I")
	if got := s.on(t, 1, fmt.Sprintf("SELECT length(owner) FROM accounts WHERE id = %d", b)); got != fmt.Sprint(len(long)) {
		t.Errorf("the owner has %s bytes, want %d", got, len(long))
	}
	// Behind a Flush nothing can be put in the place of the server's answer.
	c = begun()
	c.send(t, m.parse("", fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", a)).run("").flush())
	c.write(t, m.parse("", write).run("", long+long).sync())
	if told, err := c.farewell(); told == nil || told.Code != "0A000" { // the end may come before all of the message is read
		t.Errorf("got %+v, %v; want that it is for another shard", told, err)
	}
}

// TestTransactionsGoOnToOtherShardsBehindPipelines has messages without their Sync change what a transaction is like on its shard, and then goes on to another: that is told, as if they had come with it.
func TestTransactionsGoOnToOtherShardsBehindPipelines(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	a, b := s.apart(t)
	var m msgs
	const setting = "coalesce(current_setting('app.x', true), '')"
	reads := fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", a)
	begin, set := m.query("BEGIN"), m.query("SET LOCAL app.x = 'told'")
	one := m.query(reads)
	ahead := func(sql string) msgs { return m.parse("", sql).run("").flush().sync() }
	for name, tc := range map[string]struct {
		before      []msgs
		write, want string // on the other shard
		commit      string
	}{
		"a setting":                        {[]msgs{begin, one, ahead("SET LOCAL app.x = 'ahead'")}, "UPDATE 1 T", "ahead", "COMMIT I"},
		"undone":                           {[]msgs{begin, one, m.query("SAVEPOINT x"), set, ahead("ROLLBACK TO x")}, "UPDATE 1 T", "", "COMMIT I"},
		"another transaction":              {[]msgs{begin, one, set, m.parse("", "COMMIT").run("").flush().sync().parse("", "BEGIN").run("").sync().query(reads)}, "UPDATE 1 T", "", "COMMIT I"},
		"chained, and set":                 {[]msgs{begin, one, ahead("COMMIT AND CHAIN"), set}, "UPDATE 1 T", "told", "COMMIT I"},
		"skipped behind an error":          {[]msgs{begin, one, m.query("SAVEPOINT x"), set, m.parse("", "SELECT 1/0").run("").parse("", "SAVEPOINT x").run("").sync(), m.query("ROLLBACK TO x")}, "!0A000 E", "", "ROLLBACK I"},
		"skipped in a pipeline":            {[]msgs{begin, one, m.query("SAVEPOINT x"), set, m.parse("", reads).run("").flush().parse("", "SELECT 1/0").run("").parse("", "SAVEPOINT x").run("").sync(), m.query("ROLLBACK TO x")}, "!0A000 E", "", "ROLLBACK I"},
		"a savepoint in front of an error": {[]msgs{begin, one, m.parse("", "SAVEPOINT x").run("").parse("", "SELECT 1/0").run("").sync(), m.query("ROLLBACK TO x")}, "UPDATE 1 T", "", "COMMIT I"},
	} {
		mustExec(t, p.client(t), fmt.Sprintf("UPDATE accounts SET owner = '' WHERE id = %d", b))
		c := p.rawDial(t, wire.Protocol30)
		for _, m := range tc.before {
			c.send(t, m)
		}
		if got := c.heard(t, m.query(fmt.Sprintf("UPDATE accounts SET owner = %s WHERE id = %d", setting, b)), 1); got != tc.write {
			t.Errorf("%s: the other shard's write: heard %q, want %q", name, got, tc.write)
		}
		if got := c.heard(t, m.query("COMMIT"), 1); got != tc.commit {
			t.Errorf("%s: heard %q, want %q", name, got, tc.commit)
		}
		if got := s.on(t, 1, fmt.Sprintf("SELECT owner FROM accounts WHERE id = %d", b)); got != tc.want {
			t.Errorf("%s: wrote %q, want %q", name, got, tc.want)
		}
	}
	// What it has written there is committed with the rest, or not at all.
	mustExec(t, p.client(t), fmt.Sprintf("DELETE FROM accounts WHERE id = %d", b))
	c := p.rawDial(t, wire.Protocol30)
	for _, m := range []msgs{begin, one, ahead(fmt.Sprintf("UPDATE accounts SET balance = 7 WHERE id = %d", a)), m.query(fmt.Sprintf("INSERT INTO cards VALUES (%d, 1)", b))} {
		c.send(t, m)
	}
	c.wantQuery(t, "COMMIT", "!23503 I")
	if got := s.on(t, 0, reads); got != "100" {
		t.Errorf("the balance is %s behind a commit that failed, want 100", got)
	}
}

// TestFunctionCallsAheadAreCalledAtHome calls a function in a transaction of another shard, behind a Flush.
func TestFunctionCallsAheadAreCalledAtHome(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	a, b := s.apart(t)
	var m msgs
	var oid uint32
	if _, err := fmt.Sscan(s.on(t, 0, "SELECT 'pg_backend_pid'::regproc::oid"), &oid); err != nil {
		t.Fatal(err)
	}
	for id, home := range map[int]bool{a: true, b: false} {
		c := p.rawDial(t, wire.Protocol30)
		reads := fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", id)
		c.wantQuery(t, "BEGIN", "BEGIN T")
		c.wantQuery(t, reads, "100 SELECT 1 T")
		c.send(t, m.parse("", reads).run("").flush())
		if home {
			c.wantHeard(t, m.call(oid).sync(), 2, "T T")
			continue
		}
		c.write(t, m.call(oid).sync())
		c.wantFarewell(t, "0A000")
	}
}

// TestSavepointsNeedABlockOverShards makes savepoints outside a transaction block, where the shards are in one of the proxy's.
func TestSavepointsNeedABlockOverShards(t *testing.T) {
	t.Parallel()
	_, p := newSpread(t)
	c := p.rawDial(t, wire.Protocol30)
	var m msgs
	for _, sql := range []string{"SAVEPOINT x", "ROLLBACK TO x", "RELEASE x"} {
		c.wantHeard(t, m.parse("", "UPDATE accounts SET balance = 7").run("").parse("", sql).run("").sync(), 1, "UPDATE 30 !25P01 I")
		c.wantHeard(t, m.parse("", sql).run("").flush().sync(), 1, "!25P01 I")
	}
	c.wantQuery(t, "SELECT count(*) FROM accounts WHERE balance = 7", "0 SELECT 1 I")
}

// TestAFailedTransactionStaysFailedAhead has a transaction fail that no shard has seen. What comes without its Sync does nothing there, and does not end it.
func TestAFailedTransactionStaysFailedAhead(t *testing.T) {
	t.Parallel()
	_, p := newSpread(t)
	c := p.rawDial(t, wire.Protocol30)
	var m msgs
	for name, sql := range map[string]string{"rows": "UPDATE accounts SET balance = 7", "a setting": "SET work_mem = '7MB'", "a row": "SELECT balance FROM accounts WHERE id = 1"} {
		c.wantQuery(t, "BEGIN", "BEGIN T")
		c.wantQuery(t, "CREATE TEMP TABLE mine ()", "!0A000 E")
		c.write(t, m.parse("", sql).run("").flush())
		kind, body, err := c.message()
		for ; err == nil && kind != wire.MsgErrorResponse && kind != wire.MsgCommandComplete; kind, body, err = c.message() {
		}
		if err != nil || kind != wire.MsgErrorResponse || wire.ParseError(body).Code != "25P02" {
			t.Errorf("%s: got %q %q, %v", name, kind, body, err)
		}
		c.wantHeard(t, m.sync(), 1, "E")
		c.wantQuery(t, "COMMIT", "ROLLBACK I")
		c.wantQuery(t, "SELECT count(*) FROM accounts WHERE balance = 7", "0 SELECT 1 I")
	}
	c.wantQuery(t, "BEGIN", "BEGIN T")
	c.wantQuery(t, "CREATE TEMP TABLE mine ()", "!0A000 E")
	c.send(t, m.parse("", "ROLLBACK AND CHAIN").run("").flush())
	c.wantHeard(t, m.sync(), 1, "T")
	c.wantQuery(t, "UPDATE accounts SET balance = 7 WHERE id = 1", "UPDATE 1 T")
	c.wantQuery(t, "ROLLBACK", "ROLLBACK I")
	c.wantQuery(t, "SELECT count(*) FROM accounts WHERE balance = 7", "0 SELECT 1 I")
}
