package follow

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
)

// ownServer starts a server for one test, with a database of its own.
func ownServer(t *testing.T, settings map[string]string) *localpg.Server {
	t.Helper()
	return pgtest.Start(t, localpg.Options{Settings: settings}).Shards[0].Manager
}

func TestChangedWaitsUntilTheCommitIsVisible(t *testing.T) {
	server := ownServer(t, nil)
	pgtest.Exec(t, server, "postgres", "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)")
	r := start(t, server, "postgres", "", quickConfig())
	r.awaitTables("SELECT 2")
	pgtest.Exec(t, server, "postgres", "ALTER SYSTEM SET synchronous_standby_names = 'absent'")
	pgtest.Exec(t, server, "postgres", "SELECT pg_reload_conf()")
	until(t, "commits wait", func() bool { return pgtest.Value(t, server, "postgres", "SHOW synchronous_standby_names") == "absent" })

	writer := r.connect()
	ended := make(chan error, 1)
	go func() { // ends when the wait is cancelled below
		_, err := writer.Exec(context.Background(), "INSERT INTO a VALUES (1)")
		ended <- err
	}()
	until(t, "the commit is decoded", func() bool { return r.count("changing") == 1 })
	// A commit that waits for nobody overtakes it.
	local := r.connect()
	must(t, local, "SET synchronous_commit = local")
	must(t, local, "INSERT INTO b VALUES (1)")
	until(t, "the second commit is visible", func() bool { return r.count("changed") == 1 })
	// Whoever reads it as changed while nobody can see it would keep the old rows.
	r.awaitFresh()
	r.awaitFresh()
	if n := pgtest.Value(t, server, "postgres", "SELECT count(*) FROM a"); n != "0" {
		t.Fatalf("the row of a commit that waits is visible (%s): the test tests nothing", n)
	}
	for _, e := range r.calls() {
		if e.call == "changed" && e.commit.Tables[0].Name == "a" {
			t.Fatal("Changed came for a commit that is not visible")
		}
	}
	if n := r.Stats().Waiting; n != 1 {
		t.Errorf("%d commits wait, want 1", n)
	}
	pgtest.Exec(t, server, "postgres", "SELECT pg_cancel_backend("+strconv.Itoa(int(writer.PgConn().PID()))+")")
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	until(t, "the first commit is visible", func() bool { return r.count("changed") == 2 })
}

func TestNothingResumesWhileACommitFromBeforeIsNotVisible(t *testing.T) {
	server := ownServer(t, nil)
	pgtest.Exec(t, server, "postgres", "CREATE TABLE a (id int PRIMARY KEY)")
	pgtest.Exec(t, server, "postgres", "ALTER SYSTEM SET synchronous_standby_names = 'absent'")
	pgtest.Exec(t, server, "postgres", "SELECT pg_reload_conf()")
	until(t, "commits wait", func() bool { return pgtest.Value(t, server, "postgres", "SHOW synchronous_standby_names") == "absent" })
	writer, err := pgx.Connect(t.Context(), server.URL("", "", ""))
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { // ends when the wait is cancelled below
		_, err := writer.Exec(context.Background(), "INSERT INTO a VALUES (1)")
		ended <- err
	}()
	until(t, "the commit waits", func() bool {
		return pgtest.Value(t, server, "postgres", "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'") == "1"
	})
	// Its record lies before the slot, so it will not be decoded; nor is it visible. Nothing may be kept yet.
	r := start(t, server, "postgres", "", quickConfig())
	until(t, "the slot waits for it", func() bool {
		return pgtest.Value(t, server, "postgres", "SELECT count(*) FROM pg_locks WHERE locktype = 'transactionid' AND NOT granted") == "1"
	})
	if n := r.count("resumed"); n != 0 {
		t.Fatal("Resumed came while a commit from before waits to become visible")
	}
	pgtest.Exec(t, server, "postgres", "SELECT pg_cancel_backend("+strconv.Itoa(int(writer.PgConn().PID()))+")")
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	r.awaitTables("SELECT 1")
}

// TestFreshIsNeverMoreThanIsTrue lets sessions commit, in every way that there is, and look afterwards: once Fresh lies
// behind the acknowledgement, the sink must have been told.
func TestFreshIsNeverMoreThanIsTrue(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("PGTIER_CHECK_SEED"); text != "" {
		parsed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		seed = parsed
	}
	lasts := 5 * time.Second
	if text := os.Getenv("PGTIER_CHECK_SECONDS"); text != "" {
		seconds, err := strconv.Atoi(text)
		if err != nil {
			t.Fatal(err)
		}
		lasts = time.Duration(seconds) * time.Second
	}
	t.Logf("PGTIER_CHECK_SEED=%d", seed)
	r := follow(t, "CREATE TABLE a (id int PRIMARY KEY, n bigint); INSERT INTO a SELECT g, 0 FROM generate_series(0, 99) g; CREATE TABLE filler (id serial PRIMARY KEY, v text)", quickConfig())
	var mu sync.Mutex
	seen := map[string]bool{} // values of n that were told
	r.mu.Lock()
	r.look = func(e told) {
		if e.call != "changing" {
			return
		}
		mu.Lock()
		defer mu.Unlock()
		for _, c := range e.commit.Changes {
			if c.Table.Name == "a" {
				seen[string(c.New[1].Value)] = true
			}
		}
	}
	r.mu.Unlock()
	deadline := time.Now().Add(lasts)
	var writers sync.WaitGroup
	var commits, delays [8]int64
	for w := range 8 {
		conn := r.connect()
		random := rand.New(rand.NewPCG(seed, uint64(w)))
		writers.Go(func() { // ends at the deadline
			for i := 0; time.Now().Before(deadline); i++ {
				value := strconv.Itoa(w*1_000_000 + i)
				update := "UPDATE a SET n = " + value + " WHERE id = " + strconv.Itoa(w*10+random.IntN(10))
				statements := []string{update}
				switch random.IntN(6) {
				case 0:
					statements = []string{"BEGIN", "SET LOCAL synchronous_commit = off", update, "COMMIT"}
				case 1:
					statements = []string{"BEGIN", update, "PREPARE TRANSACTION '" + value + "'", "COMMIT PREPARED '" + value + "'"}
				case 2:
					statements = []string{"BEGIN", "SAVEPOINT a", update, "ROLLBACK TO a", "SAVEPOINT b", update, "RELEASE b", "COMMIT"}
				case 3:
					statements = []string{"BEGIN", update, "INSERT INTO filler (v) SELECT repeat('x', 50) FROM generate_series(1, " + strconv.Itoa(1+random.IntN(300)) + ")", "COMMIT"}
				}
				for _, s := range statements {
					if _, err := conn.Exec(context.Background(), s); err != nil {
						t.Errorf("%s: %v", s, err)
						return
					}
				}
				acknowledged := time.Now()
				for !r.Fresh().After(acknowledged) {
					if time.Since(acknowledged) > patience {
						t.Errorf("nothing is fresh after %s", patience)
						return
					}
					time.Sleep(time.Millisecond)
				}
				mu.Lock()
				told := seen[value]
				mu.Unlock()
				if !told {
					t.Errorf("Fresh lies behind the commit of %s, which the sink was not told of (%q)", value, statements)
					return
				}
				commits[w]++
				delays[w] += int64(time.Since(acknowledged))
			}
		})
	}
	writers.Wait()
	var n, delay int64
	for w := range commits {
		n, delay = n+commits[w], delay+delays[w]
	}
	if n == 0 {
		t.Fatal("nobody committed")
	}
	t.Logf("%d commits, each proved fresh after %s on average; %d nudges", n, time.Duration(delay/n), r.Stats().Nudges)
}

func TestFreshnessIsProvedWhileATransactionIsOpenAndNobodyCommits(t *testing.T) {
	r := follow(t, "CREATE TABLE a (id int PRIMARY KEY)", quickConfig())
	open := r.connect()
	must(t, open, "BEGIN")
	must(t, open, "INSERT INTO a VALUES (1)") // stands in the log, and nobody flushes it
	began := time.Now()
	r.awaitFresh()
	// Without a nudge this takes until the background writer logs the running transactions: 15 s (LOG_SNAPSHOT_INTERVAL_MS).
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("proved after %s", took)
	}
}

func TestPagesEndWhereTheLogIsSwitched(t *testing.T) {
	cfg := quickConfig()
	cfg.Nudge = 0 // would write the next record
	r := follow(t, "CREATE TABLE a (id int PRIMARY KEY)", cfg)
	for range 3 {
		r.exec("INSERT INTO a VALUES (1); DELETE FROM a")
		r.exec("SELECT pg_switch_wal()") // the next record will begin behind a page's header, where nothing has ended
		began := time.Now()
		r.awaitFresh()
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("proved after %s", took)
		}
	}
}

func TestReadingFreshAllocatesNothing(t *testing.T) {
	r := follow(t, "CREATE TABLE a (id int PRIMARY KEY)", quickConfig())
	r.awaitFresh()
	if n := testing.AllocsPerRun(1000, func() { r.Fresh() }); n > 1 { // others allocate meanwhile, though seldom
		t.Errorf("%v allocations", n)
	}
}

func TestFreshIsProvedSeldomWhileNobodyReadsIt(t *testing.T) {
	cfg := quickConfig()
	cfg.Ask, cfg.Idle = 5*time.Millisecond, 10*time.Second
	r := follow(t, "CREATE TABLE a (id int PRIMARY KEY)", cfg)
	r.awaitFresh()
	until(t, "it is left alone", func() bool { return r.Stats().Delay > time.Second })
	began := time.Now()
	r.awaitFresh()
	if took := time.Since(began); took > cfg.Idle/2 {
		t.Errorf("the first reader waits %s, want some %s", took, cfg.Ask)
	}
}
