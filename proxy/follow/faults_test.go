package follow

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy/wire"
)

// insertion gives each row of these tests its number.
var insertions atomic.Int64

// toldAgain checks that the follower is at work: a row is told.
func (r *rig) toldAgain() {
	r.t.Helper()
	before := r.count("changing")
	r.exec(fmt.Sprintf("INSERT INTO a VALUES (%d)", insertions.Add(1)))
	until(r.t, "a row is told", func() bool { return r.count("changing") > before })
	r.awaitFresh()
}

// clean runs SQL when a test is over.
func clean(t *testing.T, server *localpg.Server, database, sql string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := server.Exec(ctx, database, sql); err != nil {
		t.Error(err)
	}
}

// slots counts our slots.
func (r *rig) slots() string {
	return pgtest.Value(r.t, r.server, r.database, "SELECT count(*) FROM pg_replication_slots WHERE slot_name LIKE 'pgtier\\_cache\\_%'")
}

// lostAndFound checks that what happens in cause is told as a loss, and that following then goes on by itself.
func (r *rig) lostAndFound(what string, cause func()) {
	r.t.Helper()
	lost, resumed := r.count("lost"), r.count("resumed")
	cause()
	until(r.t, "Lost after "+what, func() bool { return r.count("lost") > lost })
	until(r.t, "Resumed after "+what, func() bool { return r.count("resumed") > resumed && r.Stats().Tables > 0 })
	r.toldAgain()
}

func TestLossesAreToldAndMended(t *testing.T) {
	server := ownServer(t, nil)
	pgtest.Exec(t, server, "postgres", "CREATE TABLE a (id int PRIMARY KEY)")
	cfg := quickConfig()
	cfg.Silence = 2 * time.Second
	r := start(t, server, "postgres", "", cfg)
	r.awaitTables("SELECT 1")
	r.toldAgain()
	terminate := func(kind string) func() {
		return func() {
			r.exec("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'pgtier cache' AND backend_type = '" + kind + "'")
		}
	}
	r.lostAndFound("the end of the walsender", terminate("walsender"))
	r.lostAndFound("the end of the session that asks", terminate("client backend"))
	r.lostAndFound("the publication's end", func() { r.exec("DROP PUBLICATION pgtier_cache") })
	r.lostAndFound("Reset", func() { r.Reset("a test") })
	restart := func(end func() error) func() {
		return func() {
			if err := end(); err != nil {
				t.Fatal(err)
			}
			if err := server.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.lostAndFound("a restart", restart(func() error { return server.Stop(localpg.Fast) }))
	r.lostAndFound("a crash", restart(server.Kill))
	if got := r.slots(); got != "1" {
		t.Errorf("%s slots, want 1", got)
	}
	r.stop()
	until(t, "the slot is gone", func() bool { return r.slots() == "0" })
	if s := r.Stats(); s.Losses != uint64(r.count("lost")) || s.Losses < 7 {
		t.Errorf("%d losses in the stats, %d told, want 7 or more", s.Losses, r.count("lost"))
	}
}

func TestASilentServerIsNoticed(t *testing.T) {
	server := ownServer(t, nil)
	pgtest.Exec(t, server, "postgres", "CREATE TABLE a (id int PRIMARY KEY)")
	cfg := quickConfig()
	cfg.Silence = time.Second
	r := start(t, server, "postgres", "", cfg)
	r.awaitTables("SELECT 1")
	r.toldAgain()
	r.lostAndFound("silence", func() {
		if err := server.Pause(); err != nil {
			t.Fatal(err)
		}
		paused := time.Now()
		until(t, "Lost", func() bool { return r.count("lost") == 1 })
		if fresh := r.Stats().Fresh; fresh.After(paused) { // it is when the server was asked that has answered
			t.Errorf("Fresh went on to %s after the pause", fresh.Sub(paused))
		}
		if err := server.Continue(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestASilentWalsenderIsNoticedAndFreshStandsStill(t *testing.T) {
	cfg := quickConfig()
	cfg.Stall = time.Second
	r := follow(t, "CREATE TABLE a (id int PRIMARY KEY)", cfg)
	r.toldAgain()
	r.lostAndFound("silence of the walsender", func() {
		var pid int64
		text := pgtest.Value(t, r.server, r.database, "SELECT active_pid FROM pg_replication_slots WHERE database = current_database()")
		if err := value(text, &pid); err != nil || pid == 0 {
			t.Fatalf("walsender %q: %v", text, err)
		}
		if err := syscall.Kill(int(pid), syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = syscall.Kill(int(pid), syscall.SIGCONT) }()
		// As long as nobody writes, all of the log has been read. From here on it has not.
		r.exec(fmt.Sprintf("INSERT INTO a VALUES (%d)", insertions.Add(1)))
		written := time.Now()
		until(t, "Lost", func() bool { return r.count("lost") == 1 })
		if fresh := r.Stats().Fresh; fresh.After(written) {
			t.Errorf("Fresh went on to %s after a row that was not told", fresh.Sub(written))
		}
	})
}

func TestTooMuchRetainedLogDropsTheSlot(t *testing.T) {
	cfg := quickConfig()
	cfg.MaxRetained = 64 << 20
	r := follow(t, "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE big (id int PRIMARY KEY, v text)", cfg)
	open := r.connect()
	r.lostAndFound("too much log", func() {
		must(t, open, "BEGIN")
		must(t, open, "INSERT INTO big VALUES (1, 'held open')") // the slot retains the log from here on
		r.exec("CREATE UNLOGGED TABLE noise (v text)")
		r.exec("SELECT pg_logical_emit_message(false, 'noise', repeat('x', 1000000)) FROM generate_series(1, 70)")
		until(t, "Lost", func() bool { return r.count("lost") == 1 })
		must(t, open, "COMMIT")
	})
	if trouble := r.Stats().Retained; trouble > cfg.MaxRetained {
		t.Errorf("%d bytes are retained after the slot was dropped", trouble)
	}
}

func TestLargeTransactionsAreToldByTheirTables(t *testing.T) {
	cfg := quickConfig()
	cfg.MaxRows, cfg.MaxBytes = 100, 300_000
	r := follow(t, "CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, v text)", cfg)
	most := r.watchMemory()
	r.exec("INSERT INTO a SELECT g, repeat('x', 500) FROM generate_series(1, 200000) g; INSERT INTO b VALUES (1, 'x')")
	r.exec("UPDATE b SET v = (SELECT string_agg(md5(g::text), '') FROM generate_series(1, 20000) g)") // a row above the bound
	r.exec("INSERT INTO b SELECT g, 'y' FROM generate_series(2, 100) g")                              // as many as are kept
	r.awaitFresh()
	got := strings.Split(r.changes(), "\n")
	if len(got) != 4 || got[0] != "whole a; whole b" || got[1] != "whole b" || strings.Count(got[2], "insert b") != 99 {
		t.Errorf("was told %.200q", got)
	}
	if s := r.Stats(); s.Rows != 200_000+1+1+99 {
		t.Errorf("%d rows, want 200,101", s.Rows)
	}
	if grown := most(); grown > 32<<20 {
		t.Errorf("the heap grew by %d MiB during a transaction of 100 MiB", grown>>20)
	}
}

func TestCommitsThatWaitForLongAreBoundedTogether(t *testing.T) {
	c := &course{f: New(Config{MaxWaiting: 100, Settle: 1}, nil, &sink{t: t, on: true, open: map[*Commit]bool{}}, zap.NewNop()), resumed: true}
	for i := range 10 {
		c.commit(&Commit{XID: uint64(i), End: LSN(i + 1), Tables: []*Table{{}}, Changes: make([]Change, 1), bytes: 30})
	}
	whole := 0
	for _, w := range c.waiting {
		if w.Whole {
			whole++
		}
	}
	if whole != 7 || c.waitingBytes != 90 {
		t.Errorf("%d of 10 commits are whole and %d bytes wait, want 7 and 90", whole, c.waitingBytes)
	}
	c.show(&pulse{seen: snapshot{xmin: 5, xmax: 8, running: []uint64{6}}})
	if len(c.waiting) != 3 || c.waiting[0].XID != 6 || c.waitingBytes != 0 {
		t.Errorf("%d commits and %d bytes wait, want those of 6, 8 and 9, without rows", len(c.waiting), c.waitingBytes)
	}
}

func TestProxiesShareThePublicationAndTheLastOneDropsIt(t *testing.T) {
	r := follow(t, "CREATE TABLE a (id int PRIMARY KEY)", quickConfig())
	other := start(t, r.server, r.database, "", quickConfig())
	other.awaitTables("SELECT 1")
	r.exec("CREATE TABLE b (id int PRIMARY KEY)")
	r.Refresh()
	other.Refresh()
	r.awaitTables("SELECT 2")
	other.awaitTables("SELECT 2")
	r.stop()
	cfg := quickConfig()
	cfg.Silence = 300 * time.Millisecond
	last := New(cfg, dialTo(r.server, r.database, ""), r.sink, zap.NewNop())
	if dropped, err := last.Drop(t.Context()); err != nil || dropped {
		t.Fatalf("dropped %v, %v while another follows", dropped, err)
	}
	other.exec("INSERT INTO b VALUES (1)")
	other.expect("insert b new id=1")
	other.stop()
	if dropped, err := r.Drop(t.Context()); err != nil || !dropped {
		t.Fatalf("dropped %v, %v, want it dropped", dropped, err)
	}
	if got := pgtest.Value(t, r.server, r.database, "SELECT count(*) FROM pg_publication"); got != "0" {
		t.Errorf("%s publications are left", got)
	}
}

func TestAnOrdinaryRoleFollowsItsOwnTables(t *testing.T) {
	server := shared.Cluster(t).Shards[0].Manager
	database := pgtest.Database(t, server)
	pgtest.Exec(t, server, database, "CREATE ROLE follower LOGIN REPLICATION PASSWORD 'weak'")
	t.Cleanup(func() { clean(t, server, database, "DROP OWNED BY follower; DROP ROLE follower") })
	pgtest.Exec(t, server, database, "GRANT CREATE ON DATABASE "+database+" TO follower; CREATE SCHEMA own AUTHORIZATION follower;"+
		"CREATE TABLE own.a (id int PRIMARY KEY); ALTER TABLE own.a OWNER TO follower; CREATE TABLE theirs (id int PRIMARY KEY)")
	r := start(t, server, database, "follower", quickConfig())
	r.awaitTables("SELECT 1")
	until(t, "the other's table is named", func() bool { return len(r.Tables().Left()) == 1 })
	if l := r.Tables().Left()[0]; l.Name != "theirs" || !strings.Contains(l.Why, "ALTER PUBLICATION pgtier_cache ADD TABLE ONLY") {
		t.Errorf("left out: %+v", l)
	}
	r.exec("INSERT INTO own.a VALUES (1); INSERT INTO theirs VALUES (1)")
	r.expect("insert a new id=1")
	// The hint works as written, and the follower sees it by itself.
	r.exec(`ALTER PUBLICATION pgtier_cache ADD TABLE ONLY "public"."theirs"`)
	r.awaitTables("SELECT 2")
	r.stop()
}

func TestAFilteredPublicationIsNotBelieved(t *testing.T) {
	r := follow(t, "CREATE TABLE a (id int PRIMARY KEY, v int)", quickConfig())
	r.exec("ALTER PUBLICATION pgtier_cache SET TABLE a WHERE (id > 10)")
	until(t, "the sink is told, and the publication mended", func() bool {
		var counts []int
		for _, e := range r.calls() {
			if e.call == "resumed" {
				counts = append(counts, e.tables.Len())
			}
		}
		last := len(counts) - 1
		return last >= 2 && counts[last-1] == 0 && counts[last] == 1
	})
	r.exec("ALTER PUBLICATION pgtier_cache SET (publish = 'insert')")
	until(t, "the sink is told again", func() bool { return r.Tables().Len() == 0 })
	until(t, "it is mended again", func() bool { return r.Tables().Len() == 1 })
	r.exec("INSERT INTO a VALUES (1, 1); UPDATE a SET v = 2")
	r.expect("insert a new id=1 v=1; update a new id=1 v=2")
}

func TestUnfitServersAreToldWhatToChange(t *testing.T) {
	poor := ownServer(t, map[string]string{"wal_level": "replica"})
	full := ownServer(t, map[string]string{"max_replication_slots": "1", "max_wal_senders": "1"})
	pgtest.Exec(t, full, "postgres", "SELECT pg_create_physical_replication_slot('taken')")
	none := ownServer(t, map[string]string{"max_wal_senders": "0"})
	plain := shared.Cluster(t).Shards[0].Manager
	database := pgtest.Database(t, plain)
	pgtest.Exec(t, plain, database, "CREATE ROLE unable LOGIN PASSWORD 'weak'; CREATE ROLE able LOGIN REPLICATION PASSWORD 'weak'")
	t.Cleanup(func() { clean(t, plain, database, "DROP ROLE unable; DROP ROLE able") })
	standby := pgtest.Start(t, localpg.Options{Replicas: 1}).Shards[0].Replicas[0]
	for name, tc := range map[string]struct {
		dial          Dial
		message, hint string
		later         bool // not seen by Check, which changes nothing
	}{
		"wal_level":   {dialTo(poor, "postgres", ""), "wal_level is replica", "set wal_level = logical", false},
		"slots":       {dialTo(full, "postgres", ""), "all 1 replication slots", "max_replication_slots", false},
		"walsenders":  {dialTo(none, "postgres", ""), "all 0 walsenders", "max_wal_senders", false},
		"role":        {dialTo(plain, database, "unable"), `role "unable" may not replicate`, `ALTER ROLE "unable" REPLICATION`, false},
		"publication": {dialTo(plain, database, "able"), "may not create publication", "GRANT CREATE ON DATABASE", true},
		"standby":     {dialTo(standby, "postgres", ""), "in recovery", "manager", false},
	} {
		t.Run(name, func(t *testing.T) {
			check := func(err error) {
				t.Helper()
				unfit := (*Unfit)(nil)
				if !errors.As(err, &unfit) || !strings.Contains(unfit.Message, tc.message) || !strings.Contains(unfit.Hint, tc.hint) {
					t.Errorf("error %v, want an Unfit that says %q and %q", err, tc.message, tc.hint)
				}
			}
			if err := Check(t.Context(), tc.dial, quickConfig()); !tc.later {
				check(err)
			} else if err != nil {
				t.Errorf("Check says %v", err)
			}
			f := New(quickConfig(), tc.dial, &sink{t: t, open: map[*Commit]bool{}}, zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel)))
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan struct{})
			go func() { // ended by cancel
				f.Run(ctx)
				close(ended)
			}()
			until(t, "an Unfit", func() bool { return errors.As(f.Stats().Trouble, new(*Unfit)) })
			check(f.Stats().Trouble)
			cancel()
			<-ended
		})
	}
	if err := Check(t.Context(), dialTo(plain, database, ""), quickConfig()); err != nil {
		t.Errorf("Check of a server that is fit says %v", err)
	}
	nobody := func(context.Context, []wire.Param) (*wire.Conn, error) { return nil, errors.New("nobody there") }
	if err := Check(t.Context(), nobody, quickConfig()); err == nil || errors.As(err, new(*Unfit)) {
		t.Errorf("Check of nobody says %v, want an error that is no Unfit", err)
	}
}
