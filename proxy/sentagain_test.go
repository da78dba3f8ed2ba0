package proxy_test

import (
	"fmt"
	"strings"
	"testing"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
)

// TestSettingsTellOfATurnThatIsSentAgain: a replica refuses a read, and reports a setting that has changed meanwhile. The client hears nothing of that turn, and must hear of
// the setting.
func TestSettingsTellOfATurnThatIsSentAgain(t *testing.T) {
	c, p := settledCrew(t, 1, "", nil)
	conn, other := p.client(t), p.client(t)
	mustExec(t, other, "SET pgtier.consistency = 'manager'")
	mustValue(t, other, "SELECT 1")
	eventually(t, "reads go to the replica", func() bool {
		mustValue(t, conn, "SELECT 1")
		return strings.HasPrefix(mustValue(t, conn, "SHOW pgtier.last_route"), "replica")
	})
	pgtest.Exec(t, c.shard.Replicas[0], "postgres", "ALTER SYSTEM SET default_transaction_isolation = 'serializable'") // which it cannot serve
	for _, s := range c.all() {
		pgtest.Exec(t, s, "postgres", "ALTER SYSTEM SET TimeZone = 'Asia/Tokyo'")
		pgtest.Exec(t, s, "postgres", "SELECT pg_reload_conf()")
	}
	eventually(t, "the manager's connection reports it", func() bool {
		mustValue(t, other, "SELECT 1")
		return other.PgConn().ParameterStatus("TimeZone") == "Asia/Tokyo"
	})
	repeated := &p.SharedOf(p.database).Stats.Repeated
	before := repeated.Load()
	eventually(t, "a read is sent again", func() bool {
		mustValue(t, conn, "SELECT 1")
		return repeated.Load() > before
	})
	if got := conn.PgConn().ParameterStatus("TimeZone"); got != mustValue(t, conn, "SHOW TimeZone") {
		t.Errorf("the client believes in TimeZone %q", got)
	}
}

// TestNothingStaysOnAConnectionThatCouldNotBeKept: a server refuses a part of what makes its connection a session's own, as by a cancel that strikes just it.
func TestNothingStaysOnAConnectionThatCouldNotBeKept(t *testing.T) {
	r := newRig(t)
	forwarder := &tripwire{to: r.manager.Address(), word: `LISTEN "b"`, instead: `LASTEN "b"`}
	forwarder.tripped.Store(true)
	port := forwarder.port(t)
	p := r.serve(t, func(cfg *proxy.Config) {
		cfg.Pool.Size = 1
		r.standsBehind(t, cfg, port)
	})
	c, other := p.client(t), p.client(t)
	for _, channel := range "abcdefghijkl" { // in whichever order they are listened to
		mustExec(t, c, fmt.Sprintf("LISTEN %c", channel))
	}
	forwarder.tripped.Store(false)
	_, err := value(c, "CREATE TEMP TABLE x ()")
	wantError(t, err, "42601", "LASTEN")
	mustExec(t, other, "LISTEN z")
	for _, channel := range "abcdefghijklz" {
		mustExec(t, other, fmt.Sprintf("NOTIFY %c", channel))
	}
	if n, err := other.WaitForNotification(bounded(t)); err != nil || n.Channel != "z" {
		t.Errorf("heard %+v, %v", n, err)
	}
}

// TestAListenThatFailsLeavesTheOneBefore: the connection that listens for all sessions refuses a channel that it listens to already.
func TestAListenThatFailsLeavesTheOneBefore(t *testing.T) {
	r := newRig(t)
	forwarder := &tripwire{to: r.manager.Address(), word: `LISTEN "news"`, instead: `LASTEN "news"`}
	forwarder.tripped.Store(true)
	port := forwarder.port(t)
	p := r.serve(t, func(cfg *proxy.Config) {
		r.standsBehind(t, cfg, port)
	})
	c, other := p.client(t), p.client(t)
	mustExec(t, c, "LISTEN news")
	forwarder.tripped.Store(false)
	_, err := value(c, "LISTEN news")
	wantError(t, err, "42601", "LASTEN")
	mustExec(t, other, "NOTIFY news")
	if n, err := c.WaitForNotification(bounded(t)); err != nil || n.Channel != "news" {
		t.Errorf("heard %+v, %v", n, err)
	}
}
