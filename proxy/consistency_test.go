package proxy_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"sort"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/localpg"
	"pgtier/proxy"
	"pgtier/router"
)

// op is one acknowledged read or write of one key. Values of a key only grow: each write adds one and learns the sum.
type op struct {
	session    int
	write      bool
	level      router.Level // of a read
	key        int
	value      int64
	start, end time.Duration // when the client sent it and had the answer
}

func (o op) String() string {
	what := "read at level " + o.level.String()
	if o.write {
		what = "write"
	}
	return fmt.Sprintf("session %d, %s of key %d: %d, from %s to %s", o.session, what, o.key, o.value, o.start, o.end)
}

// violations returns what a history has that the levels rule out:
//   - A session's read, and more so a strong one, is not older than what the session wrote or read before.
//   - A strong read is not older than any write acknowledged before it began.
//   - An eventual read is not older than any write acknowledged stale before it began.
func violations(history []op, stale time.Duration) (found []string) {
	acked := newestAcknowledged(history)
	inOrder := slices.Clone(history)
	slices.SortStableFunc(inOrder, func(a, b op) int { return cmp.Compare(a.start, b.start) })
	type own struct{ session, key int }
	last := map[own]op{}
	for _, o := range inOrder {
		at := own{o.session, o.key}
		before, known := last[at]
		if !known || o.value > before.value {
			last[at] = o
		}
		if o.write {
			continue
		}
		if o.level != router.Eventual && known && o.value < before.value {
			found = append(found, fmt.Sprintf("%v is older than its own %v%s", o, before, between(inOrder, before, o)))
		}
		limit := o.start
		switch o.level {
		case router.Session:
			continue
		case router.Eventual:
			limit -= stale
		}
		if w, ok := acked(o.key, limit); ok && o.value < w.value {
			found = append(found, fmt.Sprintf("%v is older than %v", o, w))
		}
	}
	return found
}

// between tells what the session did from one op to another.
func between(inOrder []op, from, to op) (told string) {
	for _, o := range inOrder {
		if o.session == to.session && o.start > from.start && o.start < to.start {
			told += fmt.Sprintf("\n\tbetween them: %v", o)
		}
	}
	return told
}

// newestAcknowledged returns a function that finds the highest write of a key that was acknowledged before a moment.
func newestAcknowledged(history []op) func(key int, before time.Duration) (op, bool) {
	writes := map[int][]op{}
	for _, o := range history {
		if o.write {
			writes[o.key] = append(writes[o.key], o)
		}
	}
	for _, of := range writes {
		slices.SortFunc(of, func(a, b op) int { return cmp.Compare(a.end, b.end) })
		for i := 1; i < len(of); i++ {
			if of[i].value < of[i-1].value {
				of[i].value = of[i-1].value
			}
		}
	}
	return func(key int, before time.Duration) (op, bool) {
		of := writes[key]
		i := sort.Search(len(of), func(i int) bool { return of[i].end >= before })
		if i == 0 {
			return op{}, false
		}
		return of[i-1], true
	}
}

// TestCheckerFindsViolations holds the checker to histories with and without a violation.
func TestCheckerFindsViolations(t *testing.T) {
	const stale = 50
	w := func(session, key int, value int64, start, end time.Duration) op {
		return op{session: session, write: true, key: key, value: value, start: start, end: end}
	}
	r := func(session int, level router.Level, key int, value int64, start, end time.Duration) op {
		return op{session: session, level: level, key: key, value: value, start: start, end: end}
	}
	const s, g, e = router.Session, router.Strong, router.Eventual
	for name, tc := range map[string]struct {
		history []op
		want    int
	}{
		"nothing":                                 {nil, 0},
		"own write read":                          {[]op{w(1, 1, 5, 0, 1), r(1, s, 1, 5, 2, 3)}, 0},
		"own write missed":                        {[]op{w(1, 1, 5, 0, 1), r(1, s, 1, 4, 2, 3)}, 1},
		"own write missed, strong":                {[]op{w(1, 1, 5, 0, 1), r(1, g, 1, 4, 2, 3)}, 2},
		"own write missed, eventual":              {[]op{w(1, 1, 5, 0, 1), r(1, e, 1, 4, 2, 3)}, 0},
		"another's write missed":                  {[]op{w(2, 1, 5, 0, 1), r(1, s, 1, 4, 2, 3)}, 0},
		"another's write missed, strong":          {[]op{w(2, 1, 5, 0, 1), r(1, g, 1, 4, 2, 3)}, 1},
		"a write under way missed, strong":        {[]op{w(2, 1, 5, 0, 9), r(1, g, 1, 4, 2, 3)}, 0},
		"another key":                             {[]op{w(2, 2, 5, 0, 1), r(1, g, 1, 4, 2, 3)}, 0},
		"back in time":                            {[]op{r(1, s, 1, 5, 0, 1), r(1, s, 1, 4, 2, 3)}, 1},
		"back in time, after an eventual read":    {[]op{r(1, e, 1, 5, 0, 1), r(1, s, 1, 4, 2, 3)}, 1},
		"back in time in the middle":              {[]op{r(1, s, 1, 5, 0, 1), r(1, s, 1, 4, 2, 3), r(1, s, 1, 6, 4, 5)}, 1},
		"back in time, out of order":              {[]op{r(1, s, 1, 4, 2, 3), r(1, s, 1, 5, 0, 1)}, 1},
		"stale, but not too stale":                {[]op{w(2, 1, 5, 0, 1), r(1, e, 1, 4, 40, 41)}, 0},
		"too stale":                               {[]op{w(2, 1, 5, 0, 1), r(1, e, 1, 4, 60, 61)}, 1},
		"the highest of those acknowledged":       {[]op{w(2, 1, 6, 0, 1), w(3, 1, 5, 0, 2), r(1, g, 1, 5, 3, 4)}, 1},
		"acknowledged in another order than made": {[]op{w(2, 1, 6, 0, 1), w(3, 1, 5, 0, 2), r(1, g, 1, 6, 3, 4)}, 0},
	} {
		if got := violations(tc.history, stale); len(got) != tc.want {
			t.Errorf("%s: got %d violations, want %d: %q", name, len(got), tc.want, got)
		}
	}
}

// number is an environment variable's value, for runs longer than those of every change.
func number(t testing.TB, name string, otherwise int64) int64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

const (
	checkKeys     = 6
	checkSessions = 10
	// checkMaxLag is max_lag of the run. What the proxy adds to it: a replica's position and the manager's are up to 1.1 s
	// old, the view that shows them 1 s, and a read waits up to 0.5 s for a connection; the rest is for a busy machine.
	checkMaxLag = time.Second
	checkStale  = checkMaxLag + 4*time.Second
)

// TestLevelsHoldWhileReplicasLagAndCrash lets many sessions read and write the same keys while replicas stop replaying,
// replay late and are killed, and checks what each read was promised.
func TestLevelsHoldWhileReplicasLagAndCrash(t *testing.T) {
	t.Parallel()
	levelsHold(t, false)
}

// The same with answers kept, which those at level session are served: the others ask for their level by a hint.
func TestLevelsHoldWithAnswersKept(t *testing.T) {
	t.Parallel()
	p := levelsHold(t, true)
	kept := p.cache(t)
	t.Logf("%d reads were served, %d answers kept, %d passed by", kept.Hits.Load(), kept.Kept.Load(), kept.Passed.Load())
	if kept.Hits.Load() == 0 {
		t.Error("no read was served: the run proves nothing")
	}
}

// The same with every read that may share a pipeline doing so.
func TestLevelsHoldInPipelines(t *testing.T) {
	t.Parallel()
	p := levelsHold(t, false, proxy.WithEagerPipelines())
	st := p.Pipelines(p.database)
	t.Logf("%d requests travelled in %d batches, %d sent again, %d evicted", st.Requests, st.Batches, st.SentAgain, st.Evicted)
	if st.Requests == 0 {
		t.Error("no read shared a pipeline: the run proves nothing")
	}
}

// The same over shards that have a replica each.
func TestLevelsHoldOverShardsWithAnswersKept(t *testing.T) {
	t.Parallel()
	options := spreadOptions
	options.Shards, options.Replicas = 2, 1
	s := newKeptShards(t, &options, time.Second, onDatabase(func(d *proxy.Database) {
		d.Reads.MaxLag = checkMaxLag
		d.Sharding.Tables["kv"] = proxy.Table{Key: []string{"k"}}
	}))
	c := s.p.client(t)
	mustExec(t, c, "CREATE TABLE kv (k int PRIMARY KEY, v bigint NOT NULL)")
	var replicas []*localpg.Server
	at := make([]int, checkKeys)
	for k := range checkKeys {
		mustExec(t, c, fmt.Sprintf("INSERT INTO kv VALUES (%d, 0)", k))
		for i := range s.cluster.Shards {
			if s.on(t, i, fmt.Sprintf("SELECT count(*) FROM kv WHERE k = %d", k)) == "1" {
				at[k] = i
			}
		}
	}
	for _, shard := range s.cluster.Shards {
		if err := shard.CatchUp(bounded(t)); err != nil {
			t.Fatal(err)
		}
		replicas = append(replicas, shard.Replicas...)
	}
	holdLevels(t, s.p, replicas, at, true)
	t.Logf("%d reads were served", s.hits())
	for i, kept := range s.p.CachesOf(s.database) {
		if kept.Hits.Load() == 0 {
			t.Errorf("shard %d: no read was served: the run proves nothing", i)
		}
	}
}

func levelsHold(t *testing.T, keeps bool, options ...proxy.Option) *running {
	t.Helper()
	c, p := settledCrew(t, 2, fmt.Sprintf("CREATE TABLE kv (k int PRIMARY KEY, v bigint NOT NULL); INSERT INTO kv SELECT k, 0 FROM generate_series(0, %d) k", checkKeys-1), func(d *proxy.Database) { d.Reads.MaxLag, d.Cache.Enabled = checkMaxLag, keeps }, options...)
	holdLevels(t, p, c.shard.Replicas, make([]int, checkKeys), keeps)
	return p
}

// holdLevels has sessions read and write through p while its replicas are in trouble, and checks what they saw. at are the shards of the keys. keeps: p keeps
// answers, so every other session asks often for what may be kept.
func holdLevels(t *testing.T, p *running, replicas []*localpg.Server, at []int, keeps bool) {
	t.Helper()
	seconds := number(t, "PGTIER_CHECK_SECONDS", 8)
	seed := number(t, "PGTIER_CHECK_SEED", time.Now().UnixNano())
	t.Logf("PGTIER_CHECK_SEED=%d PGTIER_CHECK_SECONDS=%d", seed, seconds)
	stop := make(chan struct{})
	var trouble, clients sync.WaitGroup
	trouble.Go(func() { lagAndCrash(t, replicas, rand.New(rand.NewPCG(uint64(seed), 0)), stop) }) // ended by stop
	began := time.Now()
	histories := make([][]op, checkSessions)
	lost := make([]int, checkSessions)
	for i := range checkSessions {
		clients.Go(func() { // ends after the time of the run
			w := worker{t: t, p: p, random: rand.New(rand.NewPCG(uint64(seed), uint64(i+1))), began: began, session: i * 100000, at: at, only: keeps && i%2 == 1}
			w.run(time.Duration(seconds) * time.Second)
			histories[i], lost[i] = w.history, w.lost
		})
	}
	clients.Wait()
	close(stop)
	trouble.Wait()
	p.nothingLent(t)
	var history []op
	broken, reads, writes := 0, 0, 0
	for i, h := range histories {
		history = append(history, h...)
		broken += lost[i]
	}
	for _, o := range history {
		if o.write {
			writes++
		} else {
			reads++
		}
	}
	found := violations(history, checkStale)
	for i, v := range found {
		if i == 20 {
			break
		}
		t.Error(v)
	}
	stats := p.SharedOf(p.database).Stats
	t.Logf("%d reads, %d writes, %d violations; %d READ ONLY transactions lost their replica", reads, writes, len(found), broken)
	for cause := router.Cause(0); cause < router.Causes; cause++ {
		t.Logf("turns by cause %-12s %d", cause, stats.Routes[cause].Load())
	}
	t.Logf("sent again %d, not proved visible %d", stats.Repeated.Load(), stats.Unproved.Load())
	if stats.Routes[router.ToReplica].Load() == 0 || writes == 0 {
		t.Error("no read by a replica, or no write: the run proves nothing")
	}
}

// lagAndCrash makes replicas lag and crash until stop is closed, and then leaves them well.
func lagAndCrash(t *testing.T, replicas []*localpg.Server, random *rand.Rand, stop <-chan struct{}) {
	ctx := context.Background()
	exec := func(s *localpg.Server, sql string) {
		for _, one := range []string{sql, "SELECT pg_reload_conf()"} {
			if err := s.Exec(ctx, "postgres", one); err != nil {
				t.Errorf("trouble: %v", err)
			}
		}
	}
	rest := func(most time.Duration) bool {
		select {
		case <-stop:
			return false
		case <-time.After(rand.N(most)):
			return true
		}
	}
	for rest(300 * time.Millisecond) {
		s := replicas[random.IntN(len(replicas))]
		switch random.IntN(5) {
		case 0, 1:
			exec(s, "SELECT pg_wal_replay_pause()")
			rest(600 * time.Millisecond)
			exec(s, "SELECT pg_wal_replay_resume()")
		case 2, 3:
			delay := []string{"0", "50ms", "500ms", "7s"}[random.IntN(4)]
			exec(s, "ALTER SYSTEM SET recovery_min_apply_delay = '"+delay+"'")
		case 4:
			if err := s.Kill(); err != nil {
				t.Errorf("trouble: %v", err)
			}
			rest(300 * time.Millisecond)
			if err := s.Start(ctx); err != nil {
				t.Errorf("trouble: %v", err)
			}
		}
	}
}

// worker is one client that goes on with a new session where READ ONLY transactions lose their server.
type worker struct {
	t       *testing.T
	p       *running
	random  *rand.Rand
	began   time.Time
	session int   // raised with each connection
	at      []int // the shards of the keys
	only    bool  // it reads at level session, and nothing else
	conn    *pgx.Conn
	history []op
	lost    int
}

func (w *worker) run(long time.Duration) {
	for time.Since(w.began) < long && !w.t.Failed() {
		if w.conn == nil || w.conn.IsClosed() {
			w.session++
			ctx, stop := context.WithTimeout(context.Background(), limit)
			conn, err := pgx.Connect(ctx, w.p.dsn("postgres", ""))
			stop()
			if err != nil {
				w.t.Errorf("connect: %v", err)
				return
			}
			w.conn = conn
		}
		ctx, stop := context.WithTimeout(context.Background(), limit)
		var err error
		switch n := w.random.IntN(20); {
		case w.only && n == 0: // the next session has seen nothing yet
			_ = w.conn.Close(ctx)
		case w.only:
			key := w.random.IntN(checkKeys)
			for range 1 + n/2 {
				if err = w.read(ctx, router.Session, key, w.now()); err != nil {
					break
				}
			}
		case n < 4:
			err = w.write(ctx)
		case n < 6:
			if err = w.transaction(ctx); err != nil {
				w.lost++
				_ = w.conn.Close(ctx)
				err = nil
			}
		default:
			level := router.Level(w.random.IntN(3))
			err = w.read(ctx, level, w.random.IntN(checkKeys), w.now())
		}
		stop()
		if err != nil {
			w.t.Errorf("session %d: %v", w.session, err)
		}
	}
	if w.conn != nil {
		_ = w.conn.Close(context.Background())
	}
}

func (w *worker) now() time.Duration { return time.Since(w.began) }

// mode is a way to send a statement: each has its own path through the proxy.
func (w *worker) mode() pgx.QueryExecMode {
	modes := []pgx.QueryExecMode{pgx.QueryExecModeSimpleProtocol, pgx.QueryExecModeExec, pgx.QueryExecModeCacheStatement}
	return modes[w.random.IntN(len(modes))]
}

func (w *worker) write(ctx context.Context) error {
	o := op{session: w.session, write: true, key: w.random.IntN(checkKeys), start: w.now()}
	if err := w.conn.QueryRow(ctx, "UPDATE kv SET v = v + 1 WHERE k = $1 RETURNING v", w.mode(), o.key).Scan(&o.value); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	o.end = w.now()
	w.history = append(w.history, o)
	return nil
}

// read reads a key. What it must show is judged as of since.
func (w *worker) read(ctx context.Context, level router.Level, key int, since time.Duration) error {
	o := op{session: w.session, level: level, key: key, start: since}
	sql := [...]string{"SELECT v FROM kv WHERE k = $1", "SELECT max(v) FROM kv WHERE k = $1"}[w.random.IntN(2)]
	if level != router.Session {
		sql = "/* pgtier: consistency=" + level.String() + " */ " + sql
	}
	if err := w.conn.QueryRow(ctx, sql, w.mode(), key).Scan(&o.value); err != nil {
		return fmt.Errorf("read at level %s: %w", level, err)
	}
	o.end = w.now()
	w.history = append(w.history, o)
	return nil
}

// transaction reads two keys in a READ ONLY transaction, at the session's level or the strong one.
func (w *worker) transaction(ctx context.Context) error {
	level := router.Level(w.random.IntN(2))
	frozen := w.random.IntN(2) == 0
	begin := "BEGIN READ ONLY"
	if frozen {
		begin += " ISOLATION LEVEL REPEATABLE READ"
	}
	if _, err := w.conn.Exec(ctx, "SET pgtier.consistency = '"+level.String()+"'"); err != nil {
		return err
	}
	if _, err := w.conn.Exec(ctx, begin); err != nil {
		return err
	}
	snapshot := w.now()
	first := w.random.IntN(checkKeys)
	for i := range 2 {
		since, key := w.now(), first
		if i == 1 {
			key = w.random.IntN(checkKeys)
		}
		if frozen {
			since = snapshot // what was acknowledged later need not be shown
			for w.at[key] != w.at[first] {
				key = w.random.IntN(checkKeys) // no snapshot is of two shards
			}
		}
		o := op{session: w.session, level: level, key: key, start: since}
		if err := w.conn.QueryRow(ctx, "SELECT v FROM kv WHERE k = $1", w.mode(), o.key).Scan(&o.value); err != nil {
			return err
		}
		o.end = w.now()
		w.history = append(w.history, o)
	}
	if _, err := w.conn.Exec(ctx, "COMMIT"); err != nil {
		return err
	}
	_, err := w.conn.Exec(ctx, "RESET pgtier.consistency")
	return err
}
