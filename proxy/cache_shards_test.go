package proxy_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/cache"
	"pgtier/proxy/session"
	"pgtier/proxy/shardmap"
	"pgtier/router/shard"
)

const keptSQL = `CREATE TABLE regs (id bigint PRIMARY KEY, v bigint NOT NULL);
CREATE TABLE hist (id bigint, v bigint NOT NULL);
CREATE TABLE side (id bigint PRIMARY KEY, v bigint NOT NULL);
CREATE TABLE copies (id bigint PRIMARY KEY, v bigint NOT NULL);
CREATE TABLE alone (id bigint PRIMARY KEY, v bigint NOT NULL);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN UPDATE side SET v = NEW.v WHERE id = NEW.id; RETURN NULL; END$$;`

// keptKeys are the registers of a keptShards, from 0; regs and side have a row of each.
const keptKeys = 12

// keptShards is a database over shards whose answers are kept, reached through a cutter a shard.
type keptShards struct {
	*spread
	p    *running
	cfg  proxy.Config
	cuts []*cutter
	at   [keptKeys]int // the shard of each key
}

// newKeptShards makes one over servers of its own; or, without options, over those that tests share. delay is cache.max_delay.
func newKeptShards(t testing.TB, options *localpg.Options, delay time.Duration, edit func(*proxy.Config), more ...proxy.Option) *keptShards {
	t.Helper()
	var cluster *localpg.Cluster
	database := "bank"
	if options != nil {
		cluster = pgtest.Start(t, *options)
		for _, m := range managers(cluster) {
			pgtest.Exec(t, m, "postgres", "CREATE DATABASE bank")
		}
	} else {
		cluster = shards.Cluster(t)
		database = pgtest.Database(t, managers(cluster)...)
	}
	s := &keptShards{spread: &spread{&rig{cluster: cluster, manager: cluster.Shards[0].Manager, database: database}}}
	for _, m := range managers(cluster) {
		pgtest.Exec(t, m, database, keptSQL)
		pgtest.Exec(t, m, "postgres", "ALTER DATABASE "+database+" SET deadlock_timeout = '20ms'")
		s.cuts = append(s.cuts, newCutter(t, m.Address()))
	}
	s.cfg = s.spread.config(t)
	d := s.cfg.Databases[database]
	for i := range d.Shards {
		for _, replica := range cluster.Shards[i].Replicas {
			d.Shards[i].Replicas = append(d.Shards[i].Replicas, proxy.Replica{URL: addressed(d.Shards[i].Manager, replica.Address()), Weight: 1})
		}
		d.Shards[i].Manager = addressed(d.Shards[i].Manager, s.cuts[i].listener.Addr().String())
	}
	d.Sharding.Tables = map[string]proxy.Table{"regs": {Key: []string{"id"}}, "hist": {Key: []string{"id"}}, "side": {Key: []string{"id"}}}
	d.Sharding.Reference = []string{"copies"}
	d.Cache.Enabled, d.Cache.MaxDelay = true, delay
	s.cfg.Databases[database] = d
	if edit != nil {
		edit(&s.cfg)
	}
	s.p = s.start(t, s.cfg, more...)
	c := s.p.client(t)
	eventually(t, "the catalog is read", func() bool {
		_, err := value(c, "SELECT count(*) FROM regs")
		return err == nil
	})
	mustExec(t, c, "INSERT INTO copies VALUES (1, 0)")
	mustExec(t, c, "INSERT INTO alone VALUES (1, 0)")
	for id := range keptKeys {
		mustExec(t, c, fmt.Sprintf("INSERT INTO regs VALUES (%d, 0)", id))
		mustExec(t, c, fmt.Sprintf("INSERT INTO side VALUES (%d, 0)", id))
	}
	for i := range cluster.Shards {
		for id := range keptKeys {
			if s.on(t, i, fmt.Sprintf("SELECT count(*) FROM regs WHERE id = %d", id)) == "1" {
				s.at[id] = i
			}
		}
	}
	for _, kept := range s.p.CachesOf(database) {
		eventually(t, "the cache serves", func() bool { return kept.Away() == 0 })
	}
	return s
}

// key is the n-th key of a shard.
func (s *keptShards) key(t testing.TB, shard, n int) int {
	t.Helper()
	for id, at := range s.at {
		if at == shard {
			if n == 0 {
				return id
			}
			n--
		}
	}
	t.Fatalf("shard %d has too few keys: %v", shard, s.at)
	return 0
}

// hits are those of all shards.
func (s *keptShards) hits() (n uint64) {
	for _, c := range s.p.CachesOf(s.database) {
		n += c.Hits.Load()
	}
	return n
}

// primed asks sql until its answer comes from the cache, and returns it.
func (s *keptShards) primed(t testing.TB, c *pgx.Conn, sql string) (got string) {
	t.Helper()
	eventually(t, "hit: "+sql, func() bool {
		hits := s.hits()
		got = mustValue(t, c, sql)
		return s.hits() > hits
	})
	return got
}

func readReg(id int) string { return fmt.Sprintf("SELECT v FROM regs WHERE id = %d", id) }

// TestAnswersOfOneShardAreKept asks for what is kept, and what is not, in every shard.
func TestAnswersOfOneShardAreKept(t *testing.T) {
	t.Parallel()
	s := newKeptShards(t, nil, 0, withConsole)
	c := s.p.client(t)
	caches := s.p.CachesOf(s.database)
	if len(caches) != 3 {
		t.Fatalf("%d caches", len(caches))
	}
	for i, kept := range caches {
		id := s.key(t, i, 0)
		for _, sql := range []string{readReg(id), fmt.Sprintf("SELECT coalesce(max(v), 0) FROM hist WHERE id = %d", id),
			fmt.Sprintf("SELECT r.v + s.v FROM regs r JOIN side s USING (id) WHERE r.id = %d", id)} {
			before := kept.Hits.Load()
			if got := s.primed(t, c, sql); got != "0" {
				t.Errorf("%s: got %s", sql, got)
			}
			if kept.Hits.Load() == before {
				t.Errorf("%s: the hit was another shard's", sql)
			}
		}
	}
	if got := s.primed(t, c, "SELECT v FROM alone WHERE id = 1"); got != "0" {
		t.Errorf("a table of the home shard: got %s", got)
	}
	// A write by any key of a table ends what depends on all of it, on its shard alone.
	one, other := s.key(t, 1, 0), s.key(t, 2, 0)
	s.primed(t, c, readReg(one))
	s.primed(t, c, readReg(other))
	mustExec(t, c, fmt.Sprintf("UPDATE regs SET v = v + 1 WHERE id = %d AND v >= 0", one))
	hits := s.hits()
	wantValue(t, c, readReg(other), "0")
	if s.hits() != hits+1 {
		t.Error("a write on one shard ended an answer of another")
	}
	wantValue(t, c, readReg(one), "1")
	// By a statement of several shards, and by a transaction.
	for i, write := range []string{fmt.Sprintf("UPDATE regs SET v = 10 WHERE id IN (%d, %d)", one, other), fmt.Sprintf("BEGIN; UPDATE regs SET v = 11 WHERE id = %d; UPDATE regs SET v = 11 WHERE id = %d; COMMIT", one, other), "UPDATE regs SET v = 12"} {
		s.primed(t, c, readReg(one))
		s.primed(t, c, readReg(other))
		for _, sql := range strings.Split(write, "; ") {
			mustExec(t, c, sql)
		}
		wantValue(t, c, readReg(one), fmt.Sprint(10+i))
		wantValue(t, c, readReg(other), fmt.Sprint(10+i))
	}
	// What is not kept says why.
	const random = "SELECT v >= random ( ) FROM alone WHERE id = $n"
	wantValue(t, c, strings.Replace(random, "$n", "1", 1), "f")
	_, rows := table(t, s.p.console(t, "boss"), "SHOW CACHE")
	if at := slices.IndexFunc(rows, func(row map[string]string) bool { return row["statement"] == random }); at < 0 || !strings.Contains(rows[at]["reason"], "random") {
		t.Errorf("%v says not why %s is not kept", rows, random)
	}
	if rows[0]["state"] != "serving" || rows[0]["memory"] != fmt.Sprint(int64(s.cfg.Databases[s.database].Cache.Memory)/3*3) {
		t.Errorf("the row of the database: %v", rows[0])
	}
}

// TestWritesPastTheProxyAreFollowedOnEachShard writes past the proxy, and stops one shard: the others go on serving.
func TestWritesPastTheProxyAreFollowedOnEachShard(t *testing.T) {
	t.Parallel()
	s := newKeptShards(t, &localpg.Options{Shards: 2, Settings: map[string]string{"max_prepared_transactions": "20", "wal_level": "logical"}}, time.Second, nil)
	c := s.p.client(t)
	caches := s.p.CachesOf(s.database)
	for i := range caches {
		id := s.key(t, i, 0)
		s.primed(t, c, readReg(id))
		pgtest.Exec(t, s.cluster.Shards[i].Manager, s.database, fmt.Sprintf("UPDATE regs SET v = 7 WHERE id = %d", id))
		eventually(t, "the write past the proxy is seen", func() bool { return mustValue(t, c, readReg(id)) == "7" })
		s.primed(t, c, readReg(id))
	}
	// A table that is made anew has another number on each shard.
	mustExec(t, c, "DROP TABLE side")
	mustExec(t, c, "CREATE TABLE side (id bigint PRIMARY KEY, v bigint NOT NULL)")
	for i := range caches {
		id := s.key(t, i, 0)
		mustExec(t, c, fmt.Sprintf("INSERT INTO side VALUES (%d, 1)", id))
		sql := fmt.Sprintf("SELECT v FROM side WHERE id = %d", id)
		s.primed(t, c, sql)
		pgtest.Exec(t, s.cluster.Shards[i].Manager, s.database, fmt.Sprintf("UPDATE side SET v = 2 WHERE id = %d", id))
		eventually(t, "the write past the proxy is seen", func() bool { return mustValue(t, c, sql) == "2" })
	}
	one, other := s.key(t, 0, 0), s.key(t, 1, 0)
	s.primed(t, c, readReg(one))
	if err := s.cluster.Shards[1].Manager.Kill(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the shard that is lost stands aside", func() bool { return caches[1].Away()&cache.Unfollowed != 0 })
	if away := caches[0].Away(); away != 0 {
		t.Errorf("the other stands aside too: %b", away)
	}
	s.primed(t, c, readReg(one))
	if err := s.cluster.Shards[1].Manager.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it serves again", func() bool {
		hits := caches[1].Hits.Load()
		got, err := value(c, readReg(other))
		return err == nil && got == "7" && caches[1].Hits.Load() > hits
	})
}

// raceBranch writes to two shards what is kept of them.
func raceBranch(t *testing.T) string {
	s := newKeptShards(t, nil, 0, nil)
	c, reader := s.p.client(t), s.p.client(t)
	one, other := s.key(t, 1, 0), s.key(t, 2, 0)
	s.primed(t, reader, readReg(one))
	s.primed(t, reader, readReg(other))
	for _, sql := range []string{"BEGIN", fmt.Sprintf("UPDATE regs SET v = 1 WHERE id = %d", one), fmt.Sprintf("UPDATE regs SET v = 1 WHERE id = %d", other), "COMMIT"} {
		mustExec(t, c, sql)
	}
	return differs(mustValue(t, reader, readReg(one))+mustValue(t, reader, readReg(other)), "11", "reads behind the commit")
}

// racePrepared has a transaction prepared on one shard, and the other commit it when nobody listens any more: what is read in between is not the end.
func racePrepared(t *testing.T) string {
	s := newKeptShards(t, &spreadOptions, 0, nil)
	c, reader := s.p.client(t), s.p.client(t)
	anchor := s.cluster.Shards[1].Manager
	one, other := s.key(t, 1, 0), s.key(t, 2, 0)
	s.primed(t, reader, readReg(other))
	mustExec(t, c, "BEGIN")
	mustExec(t, c, fmt.Sprintf("UPDATE regs SET v = 1 WHERE id = %d", one)) // the first decides
	mustExec(t, c, fmt.Sprintf("UPDATE regs SET v = 1 WHERE id = %d", other))
	synchronous := func(names string) {
		pgtest.Exec(t, anchor, "postgres", "ALTER SYSTEM SET synchronous_standby_names = '"+names+"'")
		pgtest.Exec(t, anchor, "postgres", "SELECT pg_reload_conf()")
	}
	synchronous("nobody")
	eventually(t, "commits wait", func() bool { return pgtest.Value(t, anchor, "postgres", "SHOW synchronous_standby_names") == "nobody" })
	committed := later(c, "COMMIT")
	eventually(t, "the decision waits for a standby", func() bool {
		return pgtest.Value(t, anchor, "postgres", "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND datname = 'bank'") != "0"
	})
	s.cuts[1].cut(1)
	if err := <-committed; err == nil {
		t.Fatal("the commit was not cut off, and the test proves nothing")
	}
	for range 3 { // without the guard it is kept
		wantValue(t, reader, readReg(other), "0")
	}
	synchronous("")
	eventually(t, "what was prepared is settled", func() bool {
		return s.prepared(t) == 0
	})
	if got := s.on(t, 2, readReg(other)); got != "1" {
		t.Fatalf("it was undone: %s, and the test proves nothing", got)
	}
	wrong := differs(mustValue(t, reader, readReg(other)), "1", "a read behind the settlement")
	if kept := s.p.CachesOf(s.database)[2]; wrong == "" {
		eventually(t, "the doubt ends", func() bool { return kept.Unknown.Load() == 0 })
		s.primed(t, reader, readReg(other))
	}
	return wrong
}

// raceLayout moves a key's bucket away, writes there, and moves it back.
func raceLayout(t *testing.T) string {
	s := newKeptShards(t, nil, 0, nil)
	m := s.moving(t, s.cfg, 0)
	c := s.p.client(t)
	id := s.key(t, 1, 0)
	s.primed(t, c, readReg(id))
	bucket := m.bucket(id)
	spans := shard.SpansOf(bucket)
	move := func(from, to int) {
		m.change(shardmap.Motion{Moving: spans, Held: spans, Frozen: true, Near: true})
		m.carry(from, to, "regs", []shard.Bucket{bucket})
		m.give(shard.Name(fmt.Sprintf("s%d", to)), shardmap.Motion{}, bucket)
	}
	move(1, 2)
	if got := mustValue(t, c, readReg(id)); got != "0" {
		return differs(got, "0", "a read at the new owner")
	}
	mustExec(t, c, fmt.Sprintf("UPDATE regs SET v = 1 WHERE id = %d", id))
	if got := s.primed(t, c, readReg(id)); got != "1" {
		return differs(got, "1", "a read behind a write at the new owner")
	}
	move(2, 1)
	return differs(mustValue(t, c, readReg(id)), "1", "a read where the bucket came from")
}

// raceApart makes a trigger on one shard alone, of which the catalog of the home shard says nothing.
func raceApart(t *testing.T) string {
	s := newKeptShards(t, nil, 0, withConsole)
	c := s.p.client(t)
	id := s.key(t, 1, 0)
	read := fmt.Sprintf("SELECT v FROM side WHERE id = %d", id)
	mustExec(t, c, "/* pgtier: shard=s1 */ CREATE TRIGGER note AFTER UPDATE ON regs FOR EACH ROW EXECUTE FUNCTION note()")
	if caches := s.p.CachesOf(s.database); caches[1].Away() == 0 {
		s.primed(t, c, read)
	}
	mustExec(t, c, fmt.Sprintf("UPDATE regs SET v = 5 WHERE id = %d", id))
	wrong := differs(mustValue(t, c, read), "5", "a read of what the trigger wrote")
	if wrong == "" {
		mustExec(t, c, "/* pgtier: shard=s1 */ DROP TRIGGER note ON regs")
		mustExec(t, s.p.console(t, "boss"), "RESET CACHE "+s.database)
		s.primed(t, c, read)
	}
	return wrong
}

// TestReadsThatWaitedForAnAnswerArePlannedAgain has a read wait for what another session asks while its bucket moves, and the rows go from where they were. It would then
// travel in a pipeline, which looks for no other layout by itself.
func TestReadsThatWaitedForAnAnswerArePlannedAgain(t *testing.T) {
	t.Parallel()
	s := newKeptShards(t, nil, 0, onDatabase(func(d *proxy.Database) { d.Pool.Pipeline.Slow = limit }), proxy.WithEagerPipelines())
	m := s.moving(t, s.cfg, 0)
	m.change(shardmap.Motion{Near: true}) // the proxy hears of the next motion soon
	first, second := s.p.client(t), s.p.client(t)
	read := func(c *pgx.Conn, id int) <-chan string {
		done := make(chan string, 1)
		go func() { // ends with the statement
			got, err := value(c, readReg(id))
			if err != nil {
				got = err.Error()
			}
			done <- got
		}()
		return done
	}
	in := func(state session.State) (n int) {
		for _, at := range s.p.Sessions() {
			if at.Info().State == state {
				n++
			}
		}
		return n
	}
	for attempt := 0; ; attempt++ { // the second waits for a second, which may be over too soon on a busy machine
		id := s.key(t, 1, attempt)
		bucket := m.bucket(id)
		move := fmt.Sprintf("BEGIN; LOCK TABLE regs; DELETE FROM regs WHERE %s = %d", m.key.Expression(""), bucket)
		holder, err := pgx.Connect(bounded(t), s.cluster.Shards[1].Manager.URL(s.database, "", ""))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := holder.Exec(bounded(t), move, pgx.QueryExecModeSimpleProtocol); err != nil {
			t.Fatal(err)
		}
		pgtest.Exec(t, s.cluster.Shards[2].Manager, s.database, fmt.Sprintf("INSERT INTO regs VALUES (%d, 7)", id))
		asked := read(first, id)
		eventually(t, "the first is asked", func() bool {
			return s.on(t, 1, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'SELECT v FROM regs%'") != "0"
		})
		answer := read(second, id)
		eventually(t, "the second waits, or does no more", func() bool { return in(session.StateWaiting) == 1 || in(session.StateActive) == 2 })
		m.give("s2", shardmap.Motion{Near: true}, bucket)
		inTime := in(session.StateWaiting) == 1
		if _, err := holder.Exec(bounded(t), "COMMIT"); err != nil {
			t.Fatal(err)
		}
		<-asked
		got := <-answer
		if err := holder.Close(bounded(t)); err != nil {
			t.Fatal(err)
		}
		if !inTime {
			t.Log("the second did not wait for long enough")
			continue
		}
		if got != "7" {
			t.Errorf("a read that has waited shows %q, and its row has 7 at the new owner", got)
		}
		return
	}
}
