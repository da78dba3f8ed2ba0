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
	pgtest.Exec(t, r.manager, r.database, "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 7); CREATE TABLE nap (s float); INSERT INTO nap VALUES (0)")
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
	const (
		locked = "SELECT v FROM t WHERE id = 1"
		asleep = "SELECT v + 1 FROM nap, (SELECT 7 AS v) t WHERE pg_sleep(s) IS NOT NULL" // has begun to answer: that comes with the WARNING
	)
	for round := range 2 {
		pgtest.Exec(t, r.manager, r.database, "UPDATE nap SET s = 600")
		victim := r.direct(t)
		mustValue(t, victim, "BEGIN; LOCK TABLE t; SELECT 1")
		pid, err := strconv.Atoi(mustValue(t, victim, "SELECT pg_backend_pid()"))
		if err != nil {
			t.Fatal(err)
		}
		answers := map[string]<-chan string{}
		for name, msgs := range map[string][]byte{
			"read": wire.AppendQuery(nil, locked), "extended read": requestOf("", locked), "write": wire.AppendQuery(nil, "UPDATE t SET v = 7 WHERE id = 1"),
			"read under way": wire.AppendQuery(nil, asleep), "extended read under way": requestOf("", asleep),
		} {
			c := p.rawDial(t, wire.Protocol30)
			c.write(t, msgs)
			answers[name] = heard(c)
		}
		eventually(t, "all wait", func() bool { return r.connections(t, "wait_event_type = 'Lock' OR wait_event = 'PgSleep'") == "5" })
		pgtest.Exec(t, r.manager, r.database, "UPDATE nap SET s = 0") // when it is asked again
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"read": "T D:7 C Z", "extended read": "1 2 D:7 C Z", "read under way": "T D:8 C Z", "extended read under way": "1 2 D:8 C Z"} {
			if got := <-answers[name]; got != want {
				t.Errorf("round %d, %s: %s, want %s", round, name, got, want)
			}
		}
		if got := <-answers["write"]; !strings.HasPrefix(got, "N E:08007:") && !strings.HasPrefix(got, "N E:08006:") || !strings.HasSuffix(got, " Z") {
			t.Errorf("round %d, a write: %s", round, got)
		}
	}
}
