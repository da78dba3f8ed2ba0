package proxy_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/pool"
	"pgtier/proxy/wire"
)

// TestTriggersThatAreMadeUnseen makes a trigger in ways that do not say so, and writes what fires it at once.
func TestTriggersThatAreMadeUnseen(t *testing.T) {
	for name, makes := range map[string]string{
		"DO":         "DO $$BEGIN EXECUTE '" + makeTrigger + "'; END$$",
		"a function": "SELECT makes()",
		"CALL":       "CALL make()",
		"EXECUTE":    "PREPARE m AS SELECT makes(); EXECUTE m",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRace(t, nil)
			pgtest.Exec(t, r.manager, r.database, "CREATE FUNCTION makes() RETURNS int LANGUAGE plpgsql AS $$BEGIN EXECUTE '"+makeTrigger+
				"'; RETURN 1; END$$; CREATE PROCEDURE make() LANGUAGE plpgsql AS $$BEGIN EXECUTE '"+makeTrigger+"'; COMMIT; END$$")
			if err := r.p.ReadCatalog(bounded(t), r.database); err != nil {
				t.Fatal(err)
			}
			maker, writer, reader := r.p.client(t), r.p.client(t), r.p.client(t)
			r.primed(reader, readSide)
			mustExec(t, maker, makes)
			for i := range 5 {
				eventually(t, "an answer is kept", func() bool {
					mustValue(t, reader, readSide)
					return r.kept.Hits.Load() > 0
				})
				mustExec(t, writer, fmt.Sprintf("INSERT INTO watched VALUES (%d, 0)", 10+i))
				wantValue(t, reader, readSide, fmt.Sprint(i+1))
			}
		})
	}
}

// TestATriggerWhoseMakerIsLost cuts the connection over which CREATE TRIGGER is being committed, and has a client leave in the
// middle of one.
func TestATriggerWhoseMakerIsLost(t *testing.T) {
	t.Parallel()
	r := newRace(t, nil)
	maker, writer, reader := r.p.client(t), r.p.client(t), r.p.client(t)
	r.primed(reader, readSide)
	mustExec(t, r.to, "BEGIN; LOCK TABLE watched IN ROW EXCLUSIVE MODE")
	done := answer(maker, "BEGIN; SELECT 5; "+makeTrigger+"; COMMIT; SELECT pg_advisory_xact_lock(7)")
	r.blocked(1)
	other := r.direct(t)
	mustValue(t, other, "SELECT pg_advisory_lock(7)")
	mustExec(t, r.to, "COMMIT")
	eventually(t, "the trigger is there", func() bool {
		return mustValue(t, other, "SELECT count(*) FROM pg_trigger WHERE tgname = 'add_side'") == "1"
	})
	pgtest.Exec(t, r.manager, r.database, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'advisory'")
	<-done
	mustValue(t, other, "SELECT pg_advisory_unlock(7)")
	eventually(t, "its fate is known", func() bool { return r.kept.Unknown.Load() == 0 })
	seesSide(t, writer, reader)
}

// seesSide has each insert, which the new trigger counts beside, end what the reader is served.
func seesSide(t *testing.T, writer, reader *pgx.Conn) {
	t.Helper()
	for i := range 3 {
		for range 5 {
			mustValue(t, reader, readSide)
		}
		mustExec(t, writer, fmt.Sprintf("INSERT INTO watched VALUES (%d, 0)", 10+i))
		wantValue(t, reader, readSide, fmt.Sprint(i+1))
	}
}

// TestAClientLeavesBehindDDL has a client leave while its request runs on behind a CREATE TRIGGER that is committed.
func TestAClientLeavesBehindDDL(t *testing.T) {
	t.Parallel()
	r := newRace(t, nil)
	writer, reader := r.p.client(t), r.p.client(t)
	r.primed(reader, readSide)
	mustValue(t, r.to, "SELECT pg_advisory_lock(7)")
	c := r.p.rawDial(t, wire.Protocol30)
	c.write(t, wire.AppendQuery(nil, "BEGIN; "+makeTrigger+"; COMMIT; SELECT pg_advisory_xact_lock(7)"))
	eventually(t, "the trigger is there", func() bool {
		return mustValue(t, r.to, "SELECT count(*) FROM pg_trigger WHERE tgname = 'add_side'") == "1"
	})
	_ = c.nc.Close()
	eventually(t, "nobody waits any more", func() bool { return r.connections(t, "wait_event = 'advisory'") == "0" })
	mustValue(t, r.to, "SELECT pg_advisory_unlock(7)")
	eventually(t, "its session is over", func() bool { return r.p.Lent() == 0 })
	seesSide(t, writer, reader)
}

// TestAnArgumentOfExecuteWrites: what EXECUTE passes is made by a function that writes.
func TestAnArgumentOfExecuteWrites(t *testing.T) {
	t.Parallel()
	r := newRace(t, nil)
	one, two := r.p.client(t), r.p.client(t)
	mustExec(t, one, "PREPARE same(bigint) AS SELECT $1")
	for i := range 3 {
		r.primed(two, readSide)
		mustExec(t, one, "EXECUTE same(writes())")
		wantValue(t, two, readSide, fmt.Sprint(i+1))
	}
}

// shared has first ask readHeld, which waits at the gate until r.to ends its transaction, and second ask the same, and returns when second waits for the answer that
// first will have. Where it has asked by itself, as when the catalog was being read or it had waited its second before anybody looked, all begins anew.
func (r *race) shared(first, second func() <-chan string) (slow, late <-chan string) {
	r.t.Helper()
	for range 20 {
		r.kept.Purge()
		mustValue(r.t, r.to, "BEGIN; LOCK TABLE gate")
		slow = first()
		r.blocked(1)
		late = second()
		waits := false
		eventually(r.t, "the second waits", func() bool {
			waits = r.p.waitingNow() == 1
			return waits || r.connections(r.t, "wait_event_type = 'Lock'") == "2"
		})
		if waits {
			return slow, late
		}
		mustValue(r.t, r.to, "ROLLBACK")
		<-slow
		<-late
	}
	r.t.Fatal("nobody waits for another's answer")
	return nil, nil
}

// TestACancelWhileAnothersQuestionIsWaitedFor ends a read that has asked no server.
func TestACancelWhileAnothersQuestionIsWaitedFor(t *testing.T) {
	t.Parallel()
	r := newRace(t, nil)
	one, two := r.p.client(t), r.p.client(t)
	slow, late := r.shared(func() <-chan string { return answer(one, readHeld) }, func() <-chan string { return answer(two, readHeld) })
	if err := two.PgConn().CancelRequest(bounded(t)); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-late:
		if !strings.Contains(got, "57014") {
			t.Errorf("a cancelled read: %s", got)
		}
	case <-time.After(limit):
		t.Error("a cancel was lost")
	}
	mustValue(t, r.to, "ROLLBACK")
	if got := <-slow; got != "0" {
		t.Errorf("the one who was waited for got %s", got)
	}
	wantValue(t, two, "SELECT 5", "5")
}

// TestThoseWhoWaitOutliveTheOneTheyWaitFor has the client leave whose question others wait for.
func TestThoseWhoWaitOutliveTheOneTheyWaitFor(t *testing.T) {
	t.Parallel()
	r := newRace(t, nil)
	leaves, stays := r.p.rawDial(t, wire.Protocol30), r.p.client(t)
	_, late := r.shared(func() <-chan string {
		leaves.write(t, wire.AppendQuery(nil, readHeld))
		heard := make(chan string, 1)
		go func() { // ends with the answer, or the connection
			got, _ := leaves.told(limit)
			heard <- got
		}()
		return heard
	}, func() <-chan string { return answer(stays, readHeld) })
	_ = leaves.nc.Close()
	eventually(t, "the other asks", func() bool { return r.connections(t, "wait_event_type = 'Lock'") >= "1" })
	mustValue(t, r.to, "ROLLBACK")
	if got := <-late; got != "0" {
		t.Errorf("got %s", got)
	}
}

// TestTheUnnamedStatementBehindAHit runs what a request made the unnamed statement that no server has seen.
func TestTheUnnamedStatementBehindAHit(t *testing.T) {
	t.Parallel()
	r := newRace(t, nil)
	reader := r.p.client(t)
	r.primed(reader, readWatched)
	c := r.p.rawDial(t, wire.Protocol30)
	whole := requestOf("", readWatched)
	again := wire.AppendSync(wire.AppendExecute(wire.AppendBindText(nil, "", nil)))
	hits := r.kept.Hits.Load()
	for range 4 {
		c.write(t, whole)
		c.wantTold(t, "1 2 D:0 C Z")
	}
	if r.kept.Hits.Load() == hits {
		t.Error("no hit: the test proves nothing")
	}
	for range 3 {
		c.write(t, again)
		c.wantTold(t, "2 D:0 C Z")
	}
	other := r.p.client(t)
	mustExec(t, other, "UPDATE watched SET n = 4 WHERE id = 1")
	for range 3 {
		c.write(t, again)
		c.wantTold(t, "2 D:4 C Z")
	}
	c.write(t, wire.AppendQuery(nil, "SELECT 1"))
	c.wantTold(t, "T D:1 C Z")
	c.write(t, again) // a Query takes the unnamed statement along
	if got, err := c.told(limit); err != nil || !strings.HasPrefix(got, "E:26000") {
		t.Errorf("a Bind behind a Query: %s, %v", got, err)
	}
}

// TestAStatementFromBeforeAChangeOfColumns is not given rows of other columns than its client was told of.
func TestAStatementFromBeforeAChangeOfColumns(t *testing.T) {
	t.Parallel()
	r := newRace(t, nil)
	old, fresh, maker := r.p.client(t), r.p.client(t), r.p.client(t)
	const sql = "SELECT * FROM watched WHERE id = $1"
	ask := func(c *pgx.Conn) (string, error) {
		rows, err := c.Query(bounded(t), sql, pgx.QueryExecModeCacheStatement, int64(1))
		if err != nil {
			return "", err
		}
		defer rows.Close()
		out := ""
		for rows.Next() {
			out = fmt.Sprint(len(rows.FieldDescriptions()), len(rows.RawValues()))
		}
		return out, rows.Err()
	}
	for range 3 {
		if got, err := ask(old); err != nil || got != "2 2" {
			t.Fatal(got, err)
		}
	}
	mustExec(t, maker, "ALTER TABLE watched ADD COLUMN more int")
	for range 3 {
		if got, err := ask(fresh); err != nil || got != "3 3" {
			t.Fatal(got, err)
		}
	}
	if got, err := ask(old); err == nil && got != "2 2" && got != "3 3" {
		t.Errorf("a client that was told of other columns got %s", got)
	}
}

// TestNothingIsServedToThoseWhoDoNotWantIt asks behind hints and settings that say so.
func TestNothingIsServedToThoseWhoDoNotWantIt(t *testing.T) {
	t.Parallel()
	r := newRace(t, nil)
	reader := r.p.client(t)
	r.primed(reader, readWatched)
	mustExec(t, r.to, "UPDATE watched SET n = 9 WHERE id = 1") // past the proxy
	wantValue(t, reader, readWatched, "0")
	wantValue(t, reader, "/* pgtier: cache=off */ "+readWatched, "9")
	mustExec(t, reader, "SET pgtier.cache = off")
	wantValue(t, reader, readWatched, "9")
	mustExec(t, reader, "RESET pgtier.cache")
	wantValue(t, reader, readWatched, "0")
	for _, sql := range []string{"BEGIN", readWatched} {
		mustExec(t, reader, sql)
	}
	wantValue(t, reader, readWatched, "9")
	mustExec(t, reader, "COMMIT")
	mustExec(t, reader, "SET default_transaction_isolation = serializable")
	wantValue(t, reader, readWatched, "9")
}

// TestClaimsEndWithTheirSessions leaves nothing under way behind, however sessions end.
func TestClaimsEndWithTheirSessions(t *testing.T) {
	t.Parallel()
	r := newRace(t, pools(func(c *pool.Config) { c.Size = 2 }))
	reader := r.p.client(t)
	for name, leave := range map[string]func(c *pgx.Conn){
		"in a transaction": func(c *pgx.Conn) { mustExec(t, c, "BEGIN; UPDATE watched SET n = n WHERE id = 1") },
		"in a statement": func(c *pgx.Conn) {
			later(c, "UPDATE watched SET n = n WHERE id = 1 AND pg_sleep(30) IS NOT NULL")
			eventually(t, "it runs", func() bool { return r.connections(t, "wait_event = 'PgSleep'") == "1" })
		},
		"behind a failure": func(c *pgx.Conn) { _, _ = value(c, "INSERT INTO watched VALUES (1, 1)") },
		"in a COPY": func(c *pgx.Conn) {
			ctx, stop := context.WithCancel(context.Background())
			stop()
			_, _ = c.PgConn().CopyFrom(ctx, strings.NewReader("9\t9\n"), "COPY watched FROM STDIN")
		},
	} {
		c := r.p.client(t)
		leave(c)
		_ = c.PgConn().Conn().Close()
		eventually(t, "answers are served behind a client that left "+name, func() bool {
			hits := r.kept.Hits.Load()
			mustValue(t, reader, readWatched)
			return r.kept.Hits.Load() > hits && r.kept.Unknown.Load() == 0
		})
	}
}

// TestTheCacheIsSwitchedOnInTheMiddleOfATransaction begins a transaction before there is a cache, and commits it when there is one.
func TestTheCacheIsSwitchedOnInTheMiddleOfATransaction(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, raceSQL)
	config := func(on bool) proxy.Config {
		cfg := r.config(t, nil)
		d := cfg.Databases[r.database]
		d.Cache.Enabled = on
		cfg.Databases[r.database] = d
		return cfg
	}
	p := r.start(t, config(false))
	one, two := p.client(t), p.client(t)
	mustExec(t, one, "BEGIN")
	mustExec(t, one, "UPDATE watched SET n = 1 WHERE id = 1")
	if err := p.Reload(config(true)); err != nil {
		t.Fatal(err)
	}
	p.readsCatalog(t)
	for range 5 {
		wantValue(t, two, readWatched, "0")
	}
	mustExec(t, one, "COMMIT")
	wantValue(t, two, readWatched, "1")
	race := &race{rig: r, t: t, p: p, kept: p.cache(t)}
	race.primed(two, readWatched)
	if err := p.Reload(config(false)); err != nil {
		t.Fatal(err)
	}
	mustExec(t, one, "UPDATE watched SET n = 2 WHERE id = 1")
	wantValue(t, two, readWatched, "2")
	if err := p.Reload(config(true)); err != nil {
		t.Fatal(err)
	}
	wantValue(t, two, readWatched, "2")
}

// TestAChangeOfTheCatalogPassesUnderLoad: transactions that it had count as changing everything do not make others count so, for good.
func TestAChangeOfTheCatalogPassesUnderLoad(t *testing.T) {
	t.Parallel()
	r := newRace(t, nil)
	reader, maker := r.p.client(t), r.p.client(t)
	stop := make(chan struct{})
	done := make(chan error, 4)
	for i := range 4 {
		c := r.p.client(t)
		go func() { // ends with stop
			for {
				select {
				case <-stop:
					done <- nil
					return
				default:
				}
				for _, sql := range []string{"BEGIN", fmt.Sprintf("UPDATE watched SET n = n + 1 WHERE id = %d", i%3+1), "SELECT pg_sleep(0.01)", "COMMIT"} {
					if _, err := value(c, sql); err != nil {
						done <- err
						return
					}
				}
			}
		}()
	}
	mustExec(t, maker, "CREATE TABLE more (n int)")
	time.Sleep(300 * time.Millisecond) // of transactions behind each other
	if err := r.p.ReadCatalog(bounded(t), r.database); err != nil {
		t.Fatal(err)
	}
	r.primed(reader, readSide)
	hits := r.kept.Hits.Load()
	for range 40 {
		mustValue(t, reader, readSide)
		time.Sleep(5 * time.Millisecond) // in which others commit
	}
	if got := r.kept.Hits.Load() - hits; got < 25 {
		t.Errorf("%d of 40 reads of a table that nobody writes were hits", got)
	}
	close(stop)
	for range 4 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}
