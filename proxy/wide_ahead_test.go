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
