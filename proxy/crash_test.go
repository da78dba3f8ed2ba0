package proxy_test

import (
	"strconv"
	"strings"
	"syscall"
	"testing"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/wire"
)

// TestReadsThatACrashEndsAreSentAgain kills one process of a server, which then tells all its clients by a WARNING and hangs up: who reads hears nothing of it, whoever
// writes hears that too.
func TestReadsThatACrashEndsAreSentAgain(t *testing.T) {
	t.Parallel()
	cluster := pgtest.Start(t, localpg.Options{})
	r := &rig{cluster: cluster, manager: cluster.Shards[0].Manager}
	r.database = pgtest.Database(t, r.manager)
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 7)")
	p := r.serve(t, func(cfg *proxy.Config) {
		onDatabase(func(d *proxy.Database) { d.Pool.Pipeline.Enabled = false })(cfg)
	})
	p.client(t)
	if err := p.ReadCatalog(bounded(t), p.database); err != nil {
		t.Fatal(err)
	}
	heard := func(c *rawClient) <-chan string {
		told := make(chan string, 1)
		go func() { // ends with the answer
			got, err := c.told(limit)
			if err != nil {
				got += " " + err.Error()
			}
			told <- got
		}()
		return told
	}
	for round := range 2 {
		holder := r.direct(t)
		mustValue(t, holder, "BEGIN; LOCK TABLE t; SELECT 1")
		simple, extended, writer := p.rawDial(t, wire.Protocol30), p.rawDial(t, wire.Protocol30), p.rawDial(t, wire.Protocol30)
		simple.write(t, wire.AppendQuery(nil, "SELECT v FROM t WHERE id = 1"))
		extended.write(t, requestOf("", "SELECT v FROM t WHERE id = 1"))
		writer.write(t, wire.AppendQuery(nil, "UPDATE t SET v = 7 WHERE id = 1"))
		one, two, three := heard(simple), heard(extended), heard(writer)
		eventually(t, "all wait for the lock", func() bool { return r.connections(t, "wait_event_type = 'Lock'") == "3" })
		pid, err := strconv.Atoi(mustValue(t, holder, "SELECT pg_backend_pid()"))
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if got := <-one; got != "T D:7 C Z" {
			t.Errorf("round %d, simple protocol: %s", round, got)
		}
		if got := <-two; got != "1 2 D:7 C Z" {
			t.Errorf("round %d, extended protocol: %s", round, got)
		}
		if got := <-three; !strings.HasPrefix(got, "N E:08007:") && !strings.HasPrefix(got, "N E:08006:") || !strings.HasSuffix(got, " Z") {
			t.Errorf("round %d, a write: %s", round, got)
		}
	}
}
