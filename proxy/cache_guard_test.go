package proxy_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/cache"
	"pgtier/proxy/wire"
	"pgtier/router/topology"
)

// cacheRaces are the ways in which a cache goes wrong, each held at its worst moment on real servers. wrong says what was served that
// must not have been, "" where nothing was. needs are the guards that rule it out: a build with the tag weaken runs each race
// without them, and wants to see it go wrong.
var cacheRaces = []struct {
	name  string
	needs cache.Guard
	run   func(t *testing.T) (wrong string)
}{
	{"a fill that a write overtakes", cache.GuardKeep, raceFill},
	{"a reader behind a write joins a question before it", cache.GuardKeep | cache.GuardFlight, raceFlight},
	{"a write that others see before its client is told", cache.GuardClaim, raceInFlight},
	{"a commit that a replica shows before the manager", cache.GuardClaim, raceReplicaAhead},
	{"a fill from a replica that is behind", cache.GuardReplay, raceReplicaBehind},
	{"a commit whose outcome nobody knows", cache.GuardDoubt, raceUnknown},
	{"a rollback", cache.GuardRollback, raceRollback},
	{"a trigger", cache.GuardSides, raceSides("INSERT INTO watched VALUES (7, 7)")},
	{"a cascade", cache.GuardSides, raceSides("DELETE FROM watched WHERE id = 1")},
	{"a function", cache.GuardSides, raceSides("SELECT writes()")},
	{"a rule", cache.GuardSides, raceSides("INSERT INTO ruled VALUES (1)")},
	{"a default", cache.GuardSides, raceSides("INSERT INTO defaulted (id) VALUES (1)")},
	{"a WITH", cache.GuardSides, raceSides("WITH w AS (UPDATE side SET n = n + 1 RETURNING n) SELECT n FROM w")},
	{"another role", cache.GuardFace, raceFace("SET ROLE limited", "SELECT count(*) FROM guarded")},
	{"another schema", cache.GuardFace, raceFace("SET search_path = other", "SELECT n FROM named")},
	{"another setting", cache.GuardFace, raceFace("SET datestyle = 'SQL, DMY'", "SELECT at FROM dated")},
	{"another setting of the application's own", cache.GuardFace, raceFace("SET my.tenant = '2'", "SELECT n FROM tenanted")},
	{"another format", cache.GuardFormat, raceFormat},
	{"the clock", cache.GuardClock, raceClock},
	{"a write past the proxy", cache.GuardPast, racePast},
	{"a write past the proxy that nobody tells of", cache.GuardSilent, raceSilent},
	{"one's own write", cache.GuardOwn, raceOwn},
	{"a trigger made while an INSERT waits for it", cache.GuardGrace, raceGrace},
	{"a trigger made in the middle of a transaction", cache.GuardOrder, raceOrder(false)},
	{"a trigger made while its maker and others are under way", cache.GuardOrder, raceOrder(true)},
	{"a commit bound before it runs", cache.GuardUnsent, raceUnsent},
	{"a transaction over shards", cache.GuardBranch, raceBranch},
	{"a part that is prepared on a shard", cache.GuardPrepared, racePrepared},
	{"a bucket that goes and comes back", cache.GuardLayout, raceLayout},
	{"a trigger made on one shard", cache.GuardApart, raceApart},
	{"a write on a shard that the answer is not kept at", cache.GuardBeside, raceBeside},
	{"a write that one copy of a reference table has not got", cache.GuardBeside, raceCopies},
}

// TestCacheRaces runs the races: nothing may be wrong.
func TestCacheRaces(t *testing.T) {
	for _, race := range cacheRaces {
		t.Run(race.name, func(t *testing.T) {
			t.Parallel()
			if wrong := race.run(t); wrong != "" {
				t.Error(wrong)
			}
		})
	}
}

const raceSQL = `CREATE TABLE watched (id bigint PRIMARY KEY, n bigint); INSERT INTO watched SELECT g, 0 FROM generate_series(1, 3) g;
CREATE TABLE side (n bigint); INSERT INTO side VALUES (0);
CREATE TABLE gate (n bigint);
CREATE TABLE other (n bigint); INSERT INTO other VALUES (0);
CREATE TABLE parts (id bigint REFERENCES watched ON DELETE CASCADE); INSERT INTO parts VALUES (1), (2);
CREATE FUNCTION hold() RETURNS bigint STABLE LANGUAGE plpgsql AS $$BEGIN RETURN (SELECT count(*) FROM gate); END$$;
CREATE FUNCTION add_side() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN UPDATE side SET n = n + 1; RETURN NULL; END$$;
CREATE FUNCTION writes() RETURNS bigint LANGUAGE plpgsql AS $$BEGIN UPDATE side SET n = n + 1; RETURN 1; END$$;
CREATE FUNCTION waits() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_advisory_xact_lock(7); RETURN NULL; END$$;
CREATE TABLE ruled (n bigint); CREATE RULE also AS ON INSERT TO ruled DO ALSO UPDATE side SET n = n + 1;
CREATE TABLE defaulted (id bigint, n bigint DEFAULT writes());`

// race is a proxy that keeps answers, over tables that nobody else uses.
type race struct {
	*rig
	t    *testing.T
	p    *running
	kept *cache.Cache
	to   *pgx.Conn // past the proxy
}

func newRace(t *testing.T, edit func(*proxy.Config)) *race {
	t.Helper()
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, raceSQL)
	p, _ := r.keepsTables(t, edit)
	return &race{rig: r, t: t, p: p, kept: p.cache(t), to: r.direct(t)}
}

// primed asks sql until its answer comes from the cache, and returns it.
func (r *race) primed(c *pgx.Conn, sql string) (got string) {
	r.t.Helper()
	eventually(r.t, "hit: "+sql, func() bool {
		hits := r.kept.Hits.Load()
		got = mustValue(r.t, c, sql)
		return r.kept.Hits.Load() > hits
	})
	return got
}

// blocked waits until so many wait on the server for a lock.
func (r *race) blocked(n int) {
	r.t.Helper()
	eventually(r.t, "locks are waited for", func() bool { return r.connections(r.t, "wait_event_type = 'Lock'") == fmt.Sprint(n) })
}

// differs says what was read where it is not what must be.
func differs(got, want, what string) string {
	if got == want {
		return ""
	}
	return fmt.Sprintf("%s: got %s, want %s", what, got, want)
}

const readWatched = "SELECT n FROM watched WHERE id = 1"

// readHeld reads the watched row, and waits at the gate with it.
const readHeld = "SELECT n + hold() FROM watched WHERE id = 1"

// overtaken has reader ask for the row, which waits at the gate until r.to ends its transaction, and writer change it meanwhile.
func (r *race) overtaken(reader, writer *pgx.Conn) (held <-chan string) {
	r.t.Helper()
	mustValue(r.t, r.to, "BEGIN; LOCK TABLE gate")
	held = answer(reader, readHeld)
	r.blocked(1)
	mustExec(r.t, writer, "UPDATE watched SET n = 1 WHERE id = 1")
	return held
}

// raceFill holds a read on the server, as of before a write, until the write is over.
func raceFill(t *testing.T) string {
	r := newRace(t, nil)
	one, two := r.p.client(t), r.p.client(t)
	slow := r.overtaken(one, two)
	mustValue(t, r.to, "ROLLBACK")
	if got := <-slow; got != "0" {
		t.Fatalf("the read saw %s: it was not held, and the test proves nothing", got)
	}
	return differs(mustValue(t, two, readHeld), "1", "a read behind the write")
}

// raceFlight has a reader come behind the write while the question from before it is under way.
func raceFlight(t *testing.T) string {
	r := newRace(t, nil)
	one, two := r.p.client(t), r.p.client(t)
	slow := r.overtaken(one, two)
	late := answer(two, readHeld)
	eventually(t, "the reader asks, or waits", func() bool {
		return r.p.waitingNow() > 0 || r.connections(t, "wait_event_type = 'Lock'") == "2"
	})
	mustValue(t, r.to, "ROLLBACK")
	<-slow
	return differs(<-late, "1", "a read that began behind the write")
}

// raceInFlight keeps a request going whose write has been committed.
func raceInFlight(t *testing.T) string {
	r := newRace(t, nil)
	one, two := r.p.client(t), r.p.client(t)
	r.primed(two, readWatched)
	mustValue(t, r.to, "SELECT pg_advisory_lock(7)")
	done := answer(one, "BEGIN; UPDATE watched SET n = 1 WHERE id = 1; COMMIT; SELECT pg_advisory_xact_lock(7)")
	eventually(t, "others see the write", func() bool { return mustValue(t, r.to, readWatched) == "1" })
	got := mustValue(t, two, readWatched)
	mustValue(t, r.to, "SELECT pg_advisory_unlock(7)")
	<-done
	return differs(got, "1", "a read of what others have seen")
}

// crewRace is a race on a manager with a replica.
func crewRace(t *testing.T) (*crew, *race) {
	t.Helper()
	c := newCrew(t, 1, nil)
	pgtest.Exec(t, c.manager, c.database, raceSQL)
	p := c.start(t, c.config(t, func(d *proxy.Database) { d.Cache.Enabled, d.Cache.MaxDelay = true, 0 }))
	c.settle(t, p)
	p.readsCatalog(t)
	r := &race{rig: c.rig, t: t, p: p, kept: p.cache(t), to: c.direct(t)}
	c.settle(t, p)
	return c, r
}

// raceReplicaAhead has a commit wait for a standby that is not there: the replica shows it, the manager does not.
func raceReplicaAhead(t *testing.T) string {
	c, r := crewRace(t)
	one, two := r.p.client(t), r.p.client(t)
	r.primed(two, readWatched)
	end := c.waitForNobody(t)
	done := answer(one, "UPDATE watched SET n = 1 WHERE id = 1 RETURNING n")
	replica := c.shard.Replicas[0]
	eventually(t, "the replica shows the commit that waits", func() bool {
		return pgtest.Value(t, replica, c.database, readWatched) == "1"
	})
	seen := mustValue(t, two, "/* pgtier: consistency=eventual */ SELECT n FROM watched WHERE id = 1")
	late := answer(two, readWatched)
	got := ""
	select {
	case got = <-late:
	case <-time.After(time.Second): // it waits for the manager to show it
	}
	end()
	<-done
	if got == "" {
		got = <-late
	}
	if seen != "1" {
		t.Fatalf("the session was shown %s by the replica: the test proves nothing", seen)
	}
	return differs(got, "1", "what the session has seen on the replica")
}

// raceReplicaBehind reads from a replica that does not replay.
func raceReplicaBehind(t *testing.T) string {
	c, r := crewRace(t)
	one, two := r.p.client(t), r.p.client(t)
	pgtest.Exec(t, c.shard.Replicas[0], "postgres", "SELECT pg_wal_replay_pause()")
	defer pgtest.Exec(t, c.shard.Replicas[0], "postgres", "SELECT pg_wal_replay_resume()")
	mustExec(t, one, "UPDATE watched SET n = 1 WHERE id = 1")
	got := mustValue(t, two, readWatched)
	if route := mustValue(t, two, "SHOW pgtier.last_route"); got != "0" || !strings.HasPrefix(route, "replica") {
		t.Fatalf("got %s by %s: the test proves nothing", got, route)
	}
	return differs(mustValue(t, one, readWatched), "1", "the writer's own read")
}

// raceUnknown cuts the connection over which a COMMIT is under way.
func raceUnknown(t *testing.T) string {
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, raceSQL+"CREATE CONSTRAINT TRIGGER waits AFTER UPDATE ON watched DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION waits()")
	cut := newCutter(t, r.manager.Address())
	p, _ := r.keepsTables(t, func(cfg *proxy.Config) {
		server, err := topology.ParseURL(fmt.Sprintf("postgres://postgres:%s@%s/%s?sslmode=disable", r.cluster.Password, cut.listener.Addr(), r.database))
		if err != nil {
			t.Fatal(err)
		}
		r.setURL(cfg, server)
	})
	race := &race{rig: r, t: t, p: p, kept: p.cache(t), to: r.direct(t)}
	one, two := p.client(t), p.client(t)
	race.primed(two, readWatched)
	mustValue(t, race.to, "SELECT pg_advisory_lock(7)")
	done := answer(one, "UPDATE watched SET n = 1 WHERE id = 1 RETURNING n")
	race.blocked(1)
	cut.cut(1)
	if got := <-done; !strings.Contains(got, "08007") {
		t.Fatalf("the write ended with %s: the test proves nothing", got)
	}
	for range 3 {
		if got := mustValue(t, two, readWatched); got != "0" {
			t.Fatalf("a read before the commit saw %s", got)
		}
	}
	mustValue(t, race.to, "SELECT pg_advisory_unlock(7)")
	eventually(t, "the write is committed", func() bool { return mustValue(t, race.to, readWatched) == "1" })
	wrong := differs(mustValue(t, two, readWatched), "1", "a read behind a commit whose client was told nothing")
	eventually(t, "its fate is known", func() bool { return race.kept.Unknown.Load() == 0 })
	if wrong == "" {
		race.primed(two, readWatched)
	}
	return wrong
}

// raceRollback wants what was kept to be served still.
func raceRollback(t *testing.T) string {
	r := newRace(t, nil)
	one, two := r.p.client(t), r.p.client(t)
	r.primed(two, readWatched)
	hits := r.kept.Hits.Load()
	for _, mode := range cacheModes {
		for _, sql := range []string{"BEGIN", "UPDATE watched SET n = 1 WHERE id = 1", "ROLLBACK"} {
			if _, err := one.Exec(bounded(t), sql, mode); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := value(one, "INSERT INTO watched VALUES (1, 1)"); err == nil { // there is one already
		t.Fatal("a second row of the same key")
	}
	mustValue(t, two, readWatched)
	if r.kept.Hits.Load() == hits {
		return "a transaction that was rolled back has ended an answer"
	}
	return ""
}

// raceSides writes by way of something that the statement does not name.
func raceSides(write string) func(t *testing.T) string {
	return func(t *testing.T) string {
		r := newRace(t, nil)
		pgtest.Exec(t, r.manager, r.database, "CREATE TRIGGER add_side AFTER INSERT ON watched FOR EACH ROW EXECUTE FUNCTION add_side()")
		if err := r.p.ReadCatalog(bounded(t), r.database); err != nil {
			t.Fatal(err)
		}
		one, two := r.p.client(t), r.p.client(t)
		const sql = "SELECT (SELECT n FROM side) || ' ' || (SELECT count(*) FROM parts)"
		before := r.primed(two, sql)
		mustValue(t, one, write)
		got, want := mustValue(t, two, sql), mustValue(t, r.to, sql)
		if want == before {
			t.Fatal("the write changes nothing: the test proves nothing")
		}
		return differs(got, want, "a read of what was written beside")
	}
}

// raceClock asks for what changes though nobody writes.
func raceClock(t *testing.T) string {
	r := newRace(t, nil)
	c := r.p.client(t)
	const sql = "SELECT extract(epoch FROM now())::text FROM watched WHERE id = 1"
	for range 3 {
		first := mustValue(t, c, sql)
		eventually(t, "time goes by", func() bool { return mustValue(t, r.to, sql) > first })
		if mustValue(t, c, sql) == first {
			return "time stands still"
		}
	}
	return ""
}

// racePast writes past the proxy.
func racePast(t *testing.T) string {
	const bound = 2 * time.Second
	r := newRace(t, nil)
	cfg := r.config(t, nil)
	d := cfg.Databases[r.database]
	d.Cache.Enabled, d.Cache.MaxDelay = true, bound
	cfg.Databases[r.database] = d
	if err := r.p.Reload(cfg); err != nil {
		t.Fatal(err)
	}
	c := r.p.client(t)
	r.primed(c, readWatched)
	mustExec(t, r.to, "UPDATE watched SET n = 1 WHERE id = 1")
	written, got := time.Now(), ""
	for got != "1" && time.Since(written) < 3*bound {
		got = mustValue(t, c, readWatched)
	}
	return differs(got, "1", "a read long behind a write past the proxy")
}

// raceSilent writes past the proxy while the log is not heard of.
func raceSilent(t *testing.T) string {
	const bound = 300 * time.Millisecond
	r := newRig(t)
	pgtest.Exec(t, r.manager, r.database, raceSQL)
	over := newLines(t, r.manager.Address())
	p := r.start(t, r.config(t, r.keepsOver(t, over, bound)))
	p.readsCatalog(t)
	race := &race{rig: r, t: t, p: p, kept: p.cache(t), to: r.direct(t)}
	c := p.client(t)
	race.primed(c, readWatched)
	letGo := over.hold(1, following)
	defer letGo()
	mustExec(t, race.to, "UPDATE watched SET n = 1 WHERE id = 1")
	written := time.Now()
	eventually(t, "the bound has gone by", func() bool { return time.Since(written) > bound })
	return differs(mustValue(t, c, readWatched), "1", "a read behind the bound")
}

// raceFace asks the same in two sessions that differ by what set does.
func raceFace(set, sql string) func(t *testing.T) string {
	return func(t *testing.T) string {
		r := newRig(t)
		pgtest.Exec(t, r.manager, r.database, raceSQL+`CREATE TABLE guarded (n int); INSERT INTO guarded VALUES (1), (2); ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
DO $$BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'limited') THEN CREATE ROLE limited; END IF; EXCEPTION WHEN others THEN END$$;
GRANT SELECT ON guarded TO limited; CREATE POLICY one ON guarded TO limited USING (n = 1);
CREATE TABLE named (n int); INSERT INTO named VALUES (1); CREATE SCHEMA other; CREATE TABLE other.named (n int); INSERT INTO other.named VALUES (2);
CREATE TABLE dated (at date); INSERT INTO dated VALUES ('2024-02-03');
CREATE TABLE tenants (tenant int, n int); INSERT INTO tenants VALUES (1, 10), (2, 20);
CREATE VIEW tenanted AS SELECT coalesce(sum(n), 0) AS n FROM tenants WHERE tenant::text = current_setting('my.tenant', true)`)
		p, hits := r.keepsTables(t, nil)
		one, two := p.client(t), p.client(t)
		to := r.direct(t)
		plain := mustValue(t, to, sql)
		eventually(t, "hit", func() bool {
			before := hits()
			wantValue(t, one, sql, plain)
			return hits() > before
		})
		mustExec(t, two, set)
		mustExec(t, to, set)
		want := mustValue(t, to, sql)
		if want == plain {
			t.Fatal("it makes no difference: the test proves nothing")
		}
		for range 3 {
			if wrong := differs(mustValue(t, two, sql), want, "a read behind "+set); wrong != "" {
				return wrong
			}
		}
		return differs(mustValue(t, one, sql), plain, "a read without "+set)
	}
}

// raceFormat asks for the same in text and in binary.
func raceFormat(t *testing.T) string {
	r := newRace(t, nil)
	c := r.p.client(t)
	for _, format := range []int16{pgx.TextFormatCode, pgx.BinaryFormatCode, pgx.TextFormatCode} {
		want, size := map[int16]int{pgx.TextFormatCode: 1, pgx.BinaryFormatCode: 8}[format], 0
		eventually(t, "an answer of the format is served, or a wrong one", func() bool {
			hits := r.kept.Hits.Load()
			rows, err := c.Query(bounded(t), "SELECT id FROM watched WHERE id = $1", pgx.QueryExecModeCacheStatement, pgx.QueryResultFormats{format}, int64(2))
			if err != nil {
				t.Fatal(err)
			}
			rows.Next()
			size = 0
			if raw := rows.RawValues(); len(raw) == 1 {
				size = len(raw[0])
			}
			rows.Close()
			return size != want || r.kept.Hits.Load() > hits
		})
		if size != want {
			return fmt.Sprintf("format %d: got %d bytes, want %d", format, size, want)
		}
	}
	return ""
}

// raceOwn reads in a transaction what it has changed.
func raceOwn(t *testing.T) string {
	r := newRace(t, nil)
	one, two := r.p.client(t), r.p.client(t)
	r.primed(two, readWatched)
	mustExec(t, one, "BEGIN")
	mustExec(t, one, "UPDATE watched SET n = 1 WHERE id = 1")
	return differs(mustValue(t, one, readWatched), "1", "a transaction's read of what it wrote")
}

const (
	makeTrigger = "CREATE TRIGGER add_side AFTER INSERT ON watched FOR EACH ROW EXECUTE FUNCTION add_side()"
	readSide    = "SELECT n FROM side"
)

// raceGrace makes a trigger that an INSERT fires which was sent before, and waits for its maker.
func raceGrace(t *testing.T) string {
	r := newRace(t, nil)
	maker, writer, reader := r.p.client(t), r.p.client(t), r.p.client(t)
	mustExec(t, maker, "BEGIN")
	mustExec(t, maker, makeTrigger)
	mustExec(t, maker, "CREATE CONSTRAINT TRIGGER waits AFTER INSERT ON watched DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION waits()")
	mustValue(t, r.to, "SELECT pg_advisory_lock(7)")
	done := answer(writer, "INSERT INTO watched VALUES (7, 7) RETURNING n")
	r.blocked(1)
	mustExec(t, maker, "COMMIT")
	eventually(t, "the INSERT waits at its end", func() bool { return r.connections(t, "wait_event = 'advisory'") == "1" })
	for range 3 {
		wantValue(t, reader, readSide, "0")
	}
	settles(t, r, reader)
	mustValue(t, r.to, "SELECT pg_advisory_unlock(7)")
	if got := <-done; got != "7" {
		t.Fatal(got)
	}
	return differs(mustValue(t, reader, readSide), "1", "a read of what the new trigger wrote")
}

// settles has the proxy read the catalog, and asks until an answer would have been kept.
func settles(t *testing.T, r *race, reader *pgx.Conn) {
	t.Helper()
	if err := r.p.ReadCatalog(bounded(t), r.database); err != nil {
		t.Fatal(err)
	}
	for range 5 {
		wantValue(t, reader, readSide, "0")
	}
}

// raceOrder makes a trigger between the first statement of a transaction and one that fires it. under: while the change is under way
// together with another transaction that outlasts it.
func raceOrder(under bool) func(t *testing.T) string {
	return func(t *testing.T) string {
		r := newRace(t, nil)
		maker, writer, reader, slow := r.p.client(t), r.p.client(t), r.p.client(t), r.p.client(t)
		mustExec(t, writer, "BEGIN")
		mustExec(t, writer, "UPDATE other SET n = 1")
		mustExec(t, maker, "BEGIN")
		mustExec(t, maker, makeTrigger)
		outlasts := (<-chan string)(nil)
		if under {
			mustExec(t, r.to, "BEGIN; LOCK TABLE gate")
			outlasts = answer(slow, "INSERT INTO gate VALUES (1) RETURNING n")
			r.blocked(1)
		}
		done := answer(writer, "INSERT INTO watched VALUES (7, 7) RETURNING n")
		if under {
			r.blocked(2)
		} else {
			r.blocked(1)
		}
		mustExec(t, maker, "COMMIT")
		if got := <-done; got != "7" {
			t.Fatal(got)
		}
		if under {
			mustExec(t, r.to, "ROLLBACK")
			<-outlasts
		}
		if err := r.p.ReadCatalog(bounded(t), r.database); err != nil {
			t.Fatal(err)
		}
		if got := r.primed(reader, readSide); got != "0" {
			t.Fatal(got)
		}
		mustExec(t, writer, "COMMIT")
		return differs(mustValue(t, reader, readSide), "1", "a read of what the new trigger wrote")
	}
}

// raceUnsent runs a COMMIT by a portal that an earlier request has bound, behind a Bind of something else.
func raceUnsent(t *testing.T) string {
	r := newRace(t, nil)
	two := r.p.client(t)
	r.primed(two, readWatched)
	c := r.p.rawDial(t, wire.Protocol30)
	ask := func(msgs []byte) {
		t.Helper()
		if err := c.round(msgs); err != nil {
			t.Fatal(err)
		}
	}
	bind := func(dst []byte, portal, statement string) []byte {
		dst, at := wire.Begin(dst, wire.MsgBind)
		dst = wire.AppendString(wire.AppendString(dst, portal), statement)
		return wire.End(append(dst, 0, 0, 0, 0, 0, 0), at)
	}
	execute := func(dst []byte, portal string) []byte {
		dst, at := wire.Begin(dst, wire.MsgExecute)
		return wire.End(binary.BigEndian.AppendUint32(wire.AppendString(dst, portal), 0), at)
	}
	ask(wire.AppendQuery(nil, "BEGIN"))
	ask(wire.AppendQuery(nil, "UPDATE watched SET n = 1 WHERE id = 1"))
	ask(wire.AppendSync(wire.AppendParse(wire.AppendParse(nil, "c", []byte("COMMIT"), nil), "s", []byte("SELECT 1"), nil)))
	ask(wire.AppendSync(bind(nil, "later", "c")))
	r.primed(two, readWatched) // again: a COMMIT that is bound counts as one that may run
	ask(wire.AppendSync(execute(bind(nil, "now", "s"), "later")))
	wantValue(t, r.to, readWatched, "1")
	return differs(mustValue(t, two, readWatched), "1", "a read behind the commit")
}
