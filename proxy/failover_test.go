package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/fleet"
	"pgtier/proxy/session"
	"pgtier/proxy/wire"
	"pgtier/router"
)

// fate is what a client knows of a write.
type fate string

const (
	acked   fate = "acknowledged" // must be there once
	failed  fate = "failed"       // must not be there
	unknown fate = "unknown"      // may be there once: 08007
)

// client is one of a load that goes on through a failover. It writes rows that nobody else writes, and no row twice.
type client struct {
	t      *testing.T
	p      *running
	random *rand.Rand
	id     int
	writes bool // or it only reads
	anew   bool // each time over a connection of its own
	whole  bool // what was acknowledged must always be found afterwards

	conn     *pgx.Conn
	prepared *pgx.Conn // where PREPARE has run
	fates    []fate    // by number of the write
	when     []time.Time
	errors   map[string]int // by what was done and SQLSTATE
	did      atomic.Int64   // rounds
	longest  time.Duration
}

// work has clients work until end is called, or the test ends.
func work(t *testing.T, clients []*client) (end func()) {
	stop := make(chan struct{})
	var load sync.WaitGroup
	for _, c := range clients {
		load.Go(func() { c.run(stop) }) // ended by stop
	}
	end = sync.OnceFunc(func() { close(stop); load.Wait() })
	t.Cleanup(end)
	return end
}

// run works until stop is closed or the test has failed.
func (c *client) run(stop <-chan struct{}) {
	c.errors = map[string]int{}
	defer func() {
		if c.conn != nil {
			_ = c.conn.Close(context.Background())
		}
	}()
	for !c.t.Failed() {
		select {
		case <-stop:
			return
		case <-time.After(time.Millisecond): // so that the machine's other work goes on too
		}
		ctx, end := context.WithTimeout(context.Background(), 2*limit)
		began := time.Now()
		c.once(ctx)
		c.longest = max(c.longest, time.Since(began))
		c.did.Add(1)
		end()
	}
}

func (c *client) once(ctx context.Context) {
	if c.conn == nil || c.conn.IsClosed() || c.anew {
		if c.conn != nil {
			_ = c.conn.Close(ctx)
		}
		conn, err := pgx.Connect(ctx, c.p.dsn("postgres", ""))
		if c.conn = conn; c.note("connect", err) != "" {
			return
		}
	}
	switch {
	case !c.writes && c.random.IntN(4) == 0:
		c.execute(ctx)
	case !c.writes && c.random.IntN(4) > 0:
		c.note("read", c.conn.QueryRow(ctx, "SELECT count(*) FROM ledger WHERE w = $1", c.mode(), c.id).Scan(new(int)))
	case !c.writes:
		c.note("locking read", c.conn.QueryRow(ctx, "SELECT count(*) FROM (SELECT 1 FROM ledger WHERE w = $1 LIMIT 1 FOR SHARE) x", c.mode(), c.id).Scan(new(int)))
	default:
		n := len(c.fates)
		how := c.autocommit
		if c.random.IntN(2) == 0 {
			how = c.transaction
		}
		c.fates = append(c.fates, unknown)
		c.fates[n] = how(ctx, n)
		c.when = append(c.when, time.Now())
		if c.fates[n] == acked && c.random.IntN(3) == 0 {
			c.readBack(ctx, n)
		}
	}
}

func (c *client) mode() pgx.QueryExecMode {
	modes := []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeCacheStatement}
	return modes[c.random.IntN(len(modes))]
}

// execute reads by SQL's own PREPARE and EXECUTE.
func (c *client) execute(ctx context.Context) {
	if c.prepared != c.conn {
		if c.note("PREPARE", c.simple(ctx, "PREPARE r (int) AS SELECT count(*) FROM ledger WHERE w = $1")) != "" {
			return
		}
		c.prepared = c.conn
	}
	c.note("read", c.simple(ctx, fmt.Sprintf("EXECUTE r (%d)", c.id)))
}

func (c *client) simple(ctx context.Context, sql string) error {
	_, err := c.conn.PgConn().Exec(ctx, sql).ReadAll()
	return err
}

const insert = "INSERT INTO ledger VALUES ($1, $2)"

func (c *client) autocommit(ctx context.Context, n int) fate {
	_, err := c.conn.Exec(ctx, insert, c.mode(), c.id, n)
	return fateOf(c.note("write", err))
}

func (c *client) transaction(ctx context.Context, n int) fate {
	if _, err := c.conn.Exec(ctx, "BEGIN"); err != nil {
		c.note("BEGIN", err)
		return failed
	}
	_, err := c.conn.Exec(ctx, insert, c.mode(), c.id, n)
	for i := 0; err == nil && i < 2; i++ {
		_, err = c.conn.Exec(ctx, "SELECT 1", c.mode())
	}
	if err != nil {
		c.note("in a transaction", err)
		_, _ = c.conn.Exec(ctx, "ROLLBACK")
		return failed
	}
	tag, err := c.conn.Exec(ctx, "COMMIT")
	if err == nil && tag.String() != "COMMIT" {
		c.t.Errorf("COMMIT was answered %q", tag)
	}
	return fateOf(c.note("COMMIT", err))
}

// fateOf is what a client may conclude from an SQLSTATE.
func fateOf(state string) fate {
	switch state {
	case "":
		return acked
	case "08007":
		return unknown
	}
	return failed
}

// readBack finds the row that was just acknowledged, once.
func (c *client) readBack(ctx context.Context, n int) {
	var found int
	err := c.conn.QueryRow(ctx, "SELECT count(*) FROM ledger WHERE w = $1 AND n = $2", c.mode(), c.id, n).Scan(&found)
	if c.note("read", err) == "" && (found > 1 || found < 1 && c.whole) {
		c.t.Errorf("a session's own acknowledged row was found %d times", found)
	}
}

// note counts an error and returns its SQLSTATE.
func (c *client) note(what string, err error) (state string) {
	if err == nil {
		return ""
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		c.t.Errorf("%s: %v, which has no SQLSTATE", what, err)
		c.errors[what+" none"]++
		return "none"
	}
	c.errors[what+" "+pg.Code]++
	if what == "read" || what == "connect" {
		c.t.Errorf("%s: %v (%s; %s)", what, err, pg.Detail, pg.Hint)
	}
	return pg.Code
}

// failover is a way to lose a manager.
type failover struct {
	synchronous bool // the replica that follows it has all that was acknowledged
	lose        func(manager *localpg.Server) error
	back        func(manager *localpg.Server) error
}

// TestFailoverUnderLoad loses the manager under a load, promotes a replica, and lets the old manager come back and claim to
// be it. Nothing acknowledged may be lost where replication is synchronous, nothing may be written twice, and the errors are
// those of transactions under way alone.
func TestFailoverUnderLoad(t *testing.T) {
	kill := func(s *localpg.Server) error { return s.Kill() }
	start := func(s *localpg.Server) error { return s.Start(context.Background()) }
	pause := func(s *localpg.Server) error { return s.Pause() }
	resume := func(s *localpg.Server) error { return s.Continue() }
	for name, how := range map[string]failover{
		"killed, synchronous":  {true, kill, start},
		"killed, asynchronous": {false, kill, start},
		"silent, synchronous":  {true, pause, resume},
	} {
		t.Run(name, func(t *testing.T) { testFailover(t, how) })
	}
}

func testFailover(t *testing.T, how failover) {
	c := newCrew(t, 2, nil)
	pgtest.Exec(t, c.manager, c.database, "CREATE TABLE ledger (w int, n int)") // no key: a row written twice shows
	first, second := c.shard.Replicas[0], c.shard.Replicas[1]
	if how.synchronous {
		c.awaitStandby(t, first.Name)
		eventually(t, "the replica is synchronous", func() bool {
			return pgtest.Value(t, c.manager, "postgres", "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'") == "1"
		})
	}
	p := c.serve(t, func(d *proxy.Database) { d.Failover.Wait = limit })
	c.settle(t, p)
	seed := number(t, "PGTIER_CHECK_SEED", time.Now().UnixNano())
	t.Logf("PGTIER_CHECK_SEED=%d", seed)
	var clients []*client
	for i := range 10 {
		clients = append(clients, &client{t: t, p: p, random: rand.New(rand.NewPCG(uint64(seed), uint64(i))), id: i,
			writes: i < 7, anew: i == 6 || i == 9, whole: how.synchronous})
	}
	done := work(t, clients)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	working := func() { // for a while
		stats := p.SharedOf(p.database).Stats
		before := stats.Transactions.Load()
		eventually(t, "the load goes on", func() bool { return stats.Transactions.Load() > before+300 })
	}
	working()
	listener, late := p.client(t), p.client(t)
	mustValue(t, listener, "LISTEN news")
	lostAt := time.Now()
	must(how.lose(c.manager))
	eventually(t, "the loss is noticed", func() bool { return p.ViewOf(p.database).Manager < 0 })
	served := later(late, "/* pgtier: consistency=manager */ SELECT 1") // the others may all have been at the manager
	p.someWait(t)                                                       // who finds no manager
	ctx, end := context.WithTimeout(context.Background(), 2*limit)
	defer end()
	must(first.Promote(ctx))
	eventually(t, "the promoted replica is the manager", func() bool { v := p.ViewOf(p.database); return v.Manager == 1 })
	t.Logf("another manager %s after the old one was lost", time.Since(lostAt).Round(time.Millisecond))
	must(<-served)
	if _, err := listener.WaitForNotification(bounded(t)); err != nil {
		wantError(t, err, "08006", "") // notifications may have been missed, so it must hear of it
	} else {
		t.Error("a notification came that nobody sent")
	}
	must(second.Follow(ctx, first))
	working()
	must(how.back(c.manager))
	eventually(t, "the old manager's claim is reported", func() bool { return p.ViewOf(p.database).Conflict != "" })
	working()
	if v := p.ViewOf(p.database); v.Manager != 1 {
		t.Errorf("server %d is the manager after the old one came back, want the promoted one", v.Manager)
	}
	listener = p.client(t)
	mustValue(t, listener, "LISTEN news")
	mustValue(t, p.client(t), "NOTIFY news, 'again'")
	if n, err := listener.WaitForNotification(bounded(t)); err != nil || n.Payload != "again" {
		t.Errorf("after the failover LISTEN brought %v, %v", n, err)
	}
	for _, s := range p.Sessions() {
		if info := s.Info(); info.Pin != "" {
			t.Errorf("a session keeps its connection after the failover: %s", info.Pin)
		}
	}
	p.servesReads(t, second)
	done()
	p.nothingLent(t)
	judge(t, c, first, clients, how, lostAt)
}

// servesReads waits until the one replica that is left serves reads. If it had received more than the promoted one,
// PostgreSQL itself cannot have it follow; nothing of that had been acknowledged.
func (p *running) servesReads(t *testing.T, replica *localpg.Server) {
	t.Helper()
	served := &p.SharedOf(p.database).Stats.Routes[router.ToReplica]
	before, diverged := served.Load(), false
	eventually(t, "the other replica serves reads, or had received more than the promoted one", func() bool {
		diverged = strings.Contains(replica.LogTail(200), "before current recovery point")
		return diverged || served.Load() > before
	})
	if diverged {
		t.Log("the other replica had received more than the promoted one, so it cannot follow it")
	}
}

// nothingLent waits until every server connection is back and counted as such.
func (p *running) nothingLent(t *testing.T) {
	t.Helper()
	eventually(t, "all connections are back", func() bool { return p.Lent() == 0 })
	if n := p.InFlight(p.database); n != 0 {
		t.Errorf("%d statements count as under way on replicas, want none", n)
	}
}

// someWait waits until a session waits for a server.
func (p *running) someWait(t *testing.T) {
	t.Helper()
	eventually(t, "a session waits", func() bool {
		return slices.ContainsFunc(p.Sessions(), func(s *session.Session) bool { return s.Info().State == session.StateWaiting })
	})
}

// judge compares what the clients know of their writes with what is there.
func judge(t *testing.T, c *crew, manager *localpg.Server, clients []*client, how failover, lostAt time.Time) {
	t.Helper()
	counts := map[fate]int{}
	errorsSeen := map[string]int{}
	var longest time.Duration
	did, lost := int64(0), 0
	for _, cl := range clients {
		did += cl.did.Load()
		longest = max(longest, cl.longest)
		for what, n := range cl.errors {
			errorsSeen[what] += n
		}
		times := map[string]string{}
		for _, line := range strings.Fields(pgtest.Value(t, manager, c.database,
			fmt.Sprintf("SELECT coalesce(string_agg(n || ':' || times, ' '), '') FROM (SELECT n, count(*) AS times FROM ledger WHERE w = %d GROUP BY n) x", cl.id))) {
			n, of, _ := strings.Cut(line, ":")
			times[n] = of
		}
		for n, f := range cl.fates {
			counts[f]++
			got := times[fmt.Sprint(n)]
			switch {
			case got != "" && got != "1":
				t.Errorf("client %d's write %d, %s, is there %s times", cl.id, n, f, got)
			case f == acked && got == "" && !how.synchronous && cl.when[n].Before(lostAt.Add(time.Second)):
				lost++ // acknowledged by the old manager alone
			case f == acked && got == "":
				t.Errorf("client %d's write %d was acknowledged and is lost", cl.id, n)
			case f == failed && got != "":
				t.Errorf("client %d's write %d failed and is there", cl.id, n)
			}
		}
	}
	t.Logf("%d rounds of work; writes acknowledged %d, failed %d, of unknown fate %d, acknowledged and lost with the old manager %d",
		did, counts[acked], counts[failed], counts[unknown], lost)
	t.Logf("longest wait of a client %s", longest.Round(time.Millisecond))
	for _, what := range slices.Sorted(maps.Keys(errorsSeen)) {
		t.Logf("errors: %s ×%d", what, errorsSeen[what])
		switch what {
		case "write 08007", "PREPARE 08007", "COMMIT 08007", "in a transaction 08006", "COMMIT 08006", "locking read 08007":
		default:
			t.Errorf("clients saw %q", what)
		}
	}
	if counts[acked] == 0 {
		t.Error("nothing was acknowledged: the run proves nothing")
	}
}

// TestSilentReplicaIsLeftByWhatIsPrepared freezes a replica under a statement that has to be prepared there first.
func TestSilentReplicaIsLeftByWhatIsPrepared(t *testing.T) {
	t.Parallel()
	c, p := settledCrew(t, 1, "CREATE TABLE ledger (w int, n int)", nil)
	silent, reader := c.shard.Replicas[0], p.client(t)
	if err := silent.Pause(); err != nil {
		t.Fatal(err)
	}
	p.usable(t, 0)
	mustExec(t, reader, "SET pgtier.consistency = 'eventual'", pgx.QueryExecModeSimpleProtocol)
	mustExec(t, reader, "PREPARE another AS SELECT count(*) FROM ledger", pgx.QueryExecModeSimpleProtocol)
	mustExec(t, reader, "PREPARE r AS SELECT count(*) + 0 FROM ledger", pgx.QueryExecModeSimpleProtocol)
	if err := silent.Continue(); err != nil {
		t.Fatal(err)
	}
	p.usable(t, 1)
	eventually(t, "the replica has what the session has seen", func() bool {
		mustExec(t, reader, "EXECUTE another", pgx.QueryExecModeSimpleProtocol)
		return strings.HasPrefix(mustValue(t, reader, "SHOW pgtier.last_route"), "replica")
	})
	if err := silent.Pause(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Continue() }()
	repeated := p.SharedOf(p.database).Stats.Repeated.Load()
	mustExec(t, reader, "EXECUTE r", pgx.QueryExecModeSimpleProtocol)
	if p.SharedOf(p.database).Stats.Repeated.Load() == repeated {
		t.Error("the replica was not asked: the test proves nothing")
	}
}

// TestSilentReplica freezes a replica under readers: they hear nothing of it, and it comes back by itself.
func TestSilentReplica(t *testing.T) {
	t.Parallel()
	c, p := settledCrew(t, 2, "CREATE TABLE ledger (w int, n int)", nil)
	var clients []*client
	for i := range 6 {
		clients = append(clients, &client{t: t, p: p, random: rand.New(rand.NewPCG(1, uint64(i))), id: i, anew: i == 5})
	}
	done := work(t, clients)
	goOn := func() { // each of them
		t.Helper()
		for _, cl := range clients {
			before := cl.did.Load()
			eventually(t, "a client goes on", func() bool { return cl.did.Load() > before+20 })
		}
	}
	goOn()
	silent := c.shard.Replicas[1]
	repeated := &p.SharedOf(p.database).Stats.Repeated
	for try := 0; ; try++ { // until a read is under way there when it falls silent
		if err := silent.Pause(); err != nil {
			t.Fatal(err)
		}
		p.usable(t, 1)
		goOn()
		if repeated.Load() > 0 {
			break
		}
		if try == 9 {
			t.Fatal("no read was under way on the replica when it fell silent: the test proves nothing")
		}
		if err := silent.Continue(); err != nil {
			t.Fatal(err)
		}
		p.usable(t, 2)
		goOn()
	}
	inside := p.client(t)
	if got := mustValue(t, inside, "BEGIN READ ONLY; SELECT 1; COMMIT"); got != "1" {
		t.Errorf("a READ ONLY transaction beside a silent replica: %q", got)
	}
	if err := silent.Continue(); err != nil {
		t.Fatal(err)
	}
	p.usable(t, 2)
	goOn()
	done()
	p.nothingLent(t)
	var longest time.Duration
	for _, cl := range clients {
		longest = max(longest, cl.longest)
		if len(cl.errors) > 0 {
			t.Errorf("client %d saw %v", cl.id, cl.errors)
		}
	}
	t.Logf("longest wait of a client %s; sent again %d", longest.Round(time.Millisecond), p.SharedOf(p.database).Stats.Repeated.Load())
}

// TestAReloadTakesNoManagerThatWasReplaced re-reads the configuration while the new manager is away and the one before is back, without what was written since.
func TestAReloadTakesNoManagerThatWasReplaced(t *testing.T) {
	t.Parallel()
	c, p := settledCrew(t, 1, "CREATE TABLE t (v int)", nil)
	old, now, client := c.manager, c.shard.Replicas[0], p.client(t)
	if err := old.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := now.Promote(bounded(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new manager is written to", func() bool {
		_, err := value(client, "INSERT INTO t VALUES (1)")
		return err == nil
	})
	if err := now.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := old.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if err := p.Reload(c.config(t, func(d *proxy.Database) { d.Reads.MaxLag, d.Failover.Wait = time.Hour, 100*time.Millisecond })); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the one before answers", func() bool { return p.ViewOf(c.database).Hosts[0].Role == fleet.Manager })
	if _, err := value(client, "INSERT INTO t VALUES (2)"); sqlstate(err) != wire.CodeCannotConnectNow {
		t.Errorf("a write while the manager is away: %v", err)
	}
	if n := pgtest.Value(t, old, c.database, "SELECT count(*) FROM t"); n != "0" {
		t.Errorf("%s rows were written to the manager before", n)
	}
	if err := now.Start(bounded(t)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new manager is written to again", func() bool {
		_, err := value(client, "INSERT INTO t VALUES (3)")
		return err == nil
	})
	wantValue(t, client, "/* pgtier: consistency=manager */ SELECT count(*) FROM t", "2")
}
