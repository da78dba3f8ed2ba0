package proxy_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/jackc/pgx/v5"

	"pgtier/proxy"
	"pgtier/proxy/cache"
	"pgtier/proxy/pool"
	"pgtier/proxy/shardmap"
	"pgtier/router"
	"pgtier/router/shard"
)

// register is one value that clients write and read: the rows of a key, what a table of the home shard has, or a row of a reference table. Each is linearizable by itself if all of
// them are together (Herlihy and Wing), and nobody is promised that two shards show a transaction at the same moment.
type register struct {
	table string
	key   int
}

// touch is what one transaction does to a register, or a read of it.
type touch struct {
	what string // set; raise, to the highest; or read
	v    int64
	as   string // how it was sent, for reports

	replica bool // of a read: one served it, or may have; known where shardLoad.told
}

func (a touch) step(state, out int64) (bool, int64) {
	switch a.what {
	case "set":
		return true, a.v
	case "raise":
		return true, max(state, a.v)
	}
	return state == out, state
}

// shardLoad is a run: clients that read and write through one proxy over shards, and what they saw.
type shardLoad struct {
	*keptShards
	t     *testing.T
	began time.Time
	last  atomic.Int64 // the value written last; each is written once
	reads atomic.Int64
	moved atomic.Int64 // buckets
	told  bool         // replicas serve reads: of a write that is under way one may show more than the manager
	lag   atomic.Int64 // reads by replicas that were judged

	mu      sync.Mutex
	history map[register][]porcupine.Operation
	fates   map[string]int
}

func (l *shardLoad) now() int64 { return int64(time.Since(l.began)) }

// note adds an operation; ended is 0 where nobody was told of its end.
func (l *shardLoad) note(client int, on register, a touch, out, began, ended int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ended == 0 {
		l.fates["unknown"]++
	}
	l.history[on] = append(l.history[on], porcupine.Operation{ClientId: client, Input: a, Output: out, Call: began, Return: ended})
}

// shardClient is one client.
type shardClient struct {
	*shardLoad
	loadClient
}

// run works until stop.
func (c *shardClient) run(stop <-chan struct{}) {
	connect := func(ctx context.Context) bool { return c.connect(ctx, c.t, c.p, "") }
	c.loadClient.run(stop, connect, c.write, c.read)
}

// shardReads are the reads of a key ($1), each of one register.
var shardReads = []struct{ table, sql string }{
	{"regs", "SELECT v FROM regs WHERE id = $1"},
	{"regs", "SELECT v FROM regs WHERE id = $1"},
	{"regs", "SELECT coalesce(sum(r.v), 0)::bigint FROM regs r JOIN side s USING (id) WHERE r.id = $1"},
	{"side", "SELECT v FROM side WHERE id = $1"},
	{"hist", "SELECT coalesce(max(v), 0) FROM hist WHERE id = $1"},
	{"alone", "SELECT v FROM alone WHERE id = 1 AND $1::bigint IS NOT NULL"},
	{"copies", "SELECT v FROM copies WHERE id = 1 AND $1::bigint IS NOT NULL"},
	{"copies", "SELECT c.v FROM regs r, copies c WHERE r.id = $1 AND c.id = 1"},
	{"copies", "SELECT max(c.v) FROM regs r, copies c WHERE c.id = 1 AND $1::bigint IS NOT NULL"},
}

// on is the register of a table and a key.
func on(table string, key int) register {
	if table == "alone" || table == "copies" {
		key = 0
	}
	return register{table, key}
}

func (c *shardClient) read(ctx context.Context) {
	if c.random.IntN(12) == 0 {
		for range 1 + c.random.IntN(4) {
			if !c.readAll(ctx) {
				return
			}
		}
		return
	}
	r, key, mode := shardReads[c.random.IntN(len(shardReads))], c.random.IntN(keptKeys), c.mode()
	for range 1 + c.random.IntN(6) {
		var out int64
		began := c.now()
		if err := c.conn.QueryRow(ctx, r.sql, mode, key).Scan(&out); err != nil {
			c.failed("read", err)
			return
		}
		ended := c.now()
		route, ok := c.route(ctx)
		if !ok {
			return
		}
		c.reads.Add(1)
		c.note(c.id, on(r.table, key), touch{what: "read", as: mode.String(), replica: strings.Contains(route, "replica ")}, out, began, ended)
	}
}

// route is where the last statement went, if that matters.
func (c *shardClient) route(ctx context.Context) (route string, ok bool) {
	if !c.told {
		return "", true
	}
	if err := c.conn.QueryRow(ctx, "SHOW pgtier.last_route", pgx.QueryExecModeSimpleProtocol).Scan(&route); err != nil {
		c.failed("SHOW", err)
		return "", false
	}
	return route, true
}

// readAll reads the registers of all shards by one statement, and reports whether it did.
func (c *shardClient) readAll(ctx context.Context) bool {
	mode, began := c.mode(), c.now()
	values, err := allRegs(ctx, c.conn, mode)
	if err != nil {
		c.failed("read all", err)
		return false
	}
	ended := c.now()
	if len(values) != keptKeys {
		c.t.Errorf("%d registers of %d: %v", len(values), keptKeys, values)
	}
	route, ok := c.route(ctx)
	if !ok {
		return false
	}
	c.reads.Add(1)
	for key, v := range values {
		c.note(c.id, on("regs", key), touch{what: "read", as: "all " + mode.String(), replica: c.told && !strings.Contains(route, "cache: ")}, v, began, ended)
	}
	return true
}

func allRegs(ctx context.Context, conn *pgx.Conn, mode pgx.QueryExecMode) (values map[int]int64, err error) {
	rows, err := conn.Query(ctx, "SELECT id, v FROM regs", mode)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	values = map[int]int64{}
	for rows.Next() {
		var key int
		var v int64
		if err := rows.Scan(&key, &v); err != nil {
			return nil, err
		}
		values[key] = v
	}
	return values, rows.Err()
}

func (c *shardClient) failed(what string, err error) {
	code := codeOf(err)
	c.mu.Lock()
	c.fates[what+" "+code]++
	c.mu.Unlock()
	if code == "42601" || code == "42P01" || code == "42883" || code == "XX000" || code == "0A000" {
		c.t.Errorf("%s: %v", what, err)
	}
	c.broken = true
}

// settled notes a change of these registers of which err has become.
func (c *shardClient) settled(registers []register, changes []touch, began int64, err error) {
	ended := c.now()
	if err != nil {
		c.failed(changes[0].as, err)
		if unchanged(err) {
			return
		}
		ended = 0
	}
	for i, r := range registers {
		c.note(c.id, r, changes[i], 0, began, ended)
	}
}

func (c *shardClient) write(ctx context.Context) {
	one := c.random.IntN(keptKeys)
	other := (one + 1 + c.random.IntN(keptKeys-1)) % keptKeys
	v, began := c.last.Add(1), c.now()
	script := func(sql string) error { _, err := c.conn.PgConn().Exec(ctx, sql).ReadAll(); return err }
	set := func(as string, n int) (list []touch) {
		for range n {
			list = append(list, touch{what: "set", v: v, as: as})
		}
		return list
	}
	single, both := []register{on("regs", one)}, []register{on("regs", one), on("regs", other)}
	switch c.random.IntN(15) {
	case 14:
		_, err := c.conn.Exec(ctx, "UPDATE copies SET v = $1 WHERE id = 1", c.mode(), v)
		c.settled([]register{on("copies", 0)}, set("reference", 1), began, err)
	case 0, 1:
		mode := c.mode()
		_, err := c.conn.Exec(ctx, "UPDATE regs SET v = $2 WHERE id = $1", mode, one, v)
		c.settled(single, set("update "+mode.String(), 1), began, err)
	case 2:
		_, err := c.conn.Exec(ctx, "UPDATE regs SET v = $3 WHERE id IN ($1, $2)", c.mode(), one, other, v)
		c.settled(both, set("update two", 2), began, err)
	case 3, 4, 5, 6:
		c.transaction(ctx, one, other, v)
	case 7:
		_, err := c.conn.PgConn().CopyFrom(ctx, strings.NewReader(fmt.Sprintf("%d\t%d\n%d\t%d\n", one, v, other, v)), "COPY hist FROM STDIN")
		c.settled([]register{on("hist", one), on("hist", other)}, []touch{{what: "raise", v: v, as: "copy"}, {what: "raise", v: v, as: "copy"}}, began, err)
	case 8:
		_, err := c.conn.Exec(ctx, "UPDATE alone SET v = $1 WHERE id = 1", c.mode(), v)
		c.settled([]register{on("alone", 0)}, set("home", 1), began, err)
	case 9:
		if c.conn.Config().DefaultQueryExecMode == pgx.QueryExecModeSimpleProtocol {
			return // it would be one text
		}
		batch := &pgx.Batch{}
		batch.Queue("UPDATE regs SET v = $2 WHERE id = $1", one, v)
		batch.Queue("UPDATE regs SET v = $2 WHERE id = $1", other, v)
		err := c.conn.SendBatch(ctx, batch).Close()
		c.settled(both, set("batch", 2), began, err)
	case 10:
		_, err := c.conn.Exec(ctx, "INSERT INTO side VALUES ($1, $3), ($2, $3) ON CONFLICT (id) DO UPDATE SET v = EXCLUDED.v", c.mode(), one, other, v)
		c.settled([]register{on("side", one), on("side", other)}, set("upsert", 2), began, err)
	case 11:
		err := script(fmt.Sprintf("UPDATE regs SET v = %d WHERE id = %d; UPDATE regs SET v = %[1]d WHERE id = %[2]d", v, one))
		c.settled(single, set("implicit", 1), began, err)
	case 12:
		c.define(ctx)
	case 13:
		c.mixed(ctx, one, v)
	}
}

// transaction sets two keys between BEGIN and its end, and reads them there.
func (c *shardClient) transaction(ctx context.Context, one, other int, v int64) {
	exec := func(sql string, args ...any) bool {
		_, err := c.conn.Exec(ctx, sql, append([]any{c.mode()}, args...)...)
		if err != nil {
			c.failed("transaction", err) // before it was told to commit
		}
		return err == nil
	}
	const sql = "UPDATE regs SET v = $2 WHERE id = $1"
	if !exec("BEGIN") || !exec(sql, one, v) || !exec("SAVEPOINT a") || !exec(sql, other, -v) || !exec("ROLLBACK TO a") || !exec(sql, other, v) {
		return
	}
	var own int64
	if err := c.conn.QueryRow(ctx, "SELECT v FROM regs WHERE id = $1", c.mode(), other).Scan(&own); err != nil {
		c.failed("transaction", err)
		return
	}
	if own != v {
		c.t.Errorf("a transaction reads %d where it wrote %d", own, v)
	}
	if c.random.IntN(4) == 0 {
		exec("ROLLBACK")
		return
	}
	began := c.now()
	_, err := c.conn.Exec(ctx, "COMMIT", c.mode())
	c.settled([]register{on("regs", one), on("regs", other)}, []touch{{what: "set", v: v, as: "transaction"}, {what: "set", v: v, as: "transaction"}}, began, err)
}

// mixed writes the home shard's table and a key in one transaction, all of it in one go.
func (c *shardClient) mixed(ctx context.Context, one int, v int64) {
	exec := func(sql string) bool {
		_, err := c.conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			c.failed("mixed", err)
		}
		return err == nil
	}
	if !exec("BEGIN") || !exec(fmt.Sprintf("UPDATE alone SET v = %d WHERE id = 1", v)) || !exec(fmt.Sprintf("UPDATE side SET v = %d WHERE id = %d", v, one)) {
		return
	}
	began := c.now()
	_, err := c.conn.Exec(ctx, "COMMIT", c.mode())
	c.settled([]register{on("alone", 0), on("side", one)}, []touch{{what: "set", v: v, as: "mixed"}, {what: "set", v: v, as: "mixed"}}, began, err)
}

// define changes the catalog of all shards.
func (c *shardClient) define(ctx context.Context) {
	began := c.now()
	switch which := c.random.IntN(4); which {
	case 0:
		_, err := c.conn.Exec(ctx, "TRUNCATE hist", pgx.QueryExecModeSimpleProtocol)
		var all []register
		var changes []touch
		for key := range keptKeys {
			all, changes = append(all, on("hist", key)), append(changes, touch{what: "set", as: "truncate"})
		}
		c.settled(all, changes, began, err)
		return
	case 1, 2:
		_, err := c.conn.Exec(ctx, "ALTER TABLE side "+[]string{1: "ADD COLUMN IF NOT EXISTS more int", 2: "DROP COLUMN IF EXISTS more"}[which], pgx.QueryExecModeSimpleProtocol)
		if err != nil {
			c.failed("DDL", err)
		}
	}
}

// settledShards waits until nothing is under way, or prepared, on any shard.
func (l *shardLoad) settledShards() {
	l.t.Helper()
	eventually(l.t, "all transactions end", func() bool {
		for _, m := range managers(l.cluster) {
			ctx, stop := context.WithTimeout(context.Background(), limit)
			c, err := pgx.Connect(ctx, m.URL(l.database, "postgres", l.cluster.Password))
			n := "1"
			if err == nil {
				n, err = value(c, "SELECT (SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()) + (SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"+
					" AND backend_type = 'client backend' AND state <> 'idle' AND pid <> pg_backend_pid())")
				_ = c.Close(ctx)
			}
			stop()
			if err != nil || n != "0" {
				return false
			}
		}
		return true
	})
}

// directly are all registers as their shards have them.
func (l *shardLoad) directly() map[register]int64 {
	l.t.Helper()
	found := map[register]int64{}
	for _, table := range []string{"regs", "side", "hist"} {
		for key := range keptKeys {
			found[on(table, key)] = 0
		}
	}
	read := func(at int, table, sql string) {
		for _, line := range strings.Fields(l.spread.on(l.t, at, sql)) {
			var key int
			var v int64
			if _, err := fmt.Sscanf(line, "%d:%d", &key, &v); err != nil {
				l.t.Fatal(err)
			}
			found[on(table, key)] = v
		}
	}
	for at := range l.cluster.Shards {
		for _, table := range []string{"regs", "side", "hist"} {
			read(at, table, fmt.Sprintf("SELECT coalesce(string_agg(id || ':' || v, ' '), '') FROM (SELECT id, max(v) AS v FROM %s GROUP BY id) x", table))
		}
	}
	read(0, "alone", "SELECT '0:' || v FROM alone WHERE id = 1")
	for at := range l.cluster.Shards {
		before, known := found[on("copies", 0)]
		if read(at, "copies", "SELECT '0:' || v FROM copies WHERE id = 1"); known && found[on("copies", 0)] != before {
			l.t.Errorf("copies of a reference table: %d on shard %d, %d before", found[on("copies", 0)], at, before)
		}
	}
	return found
}

// check holds the round's history to the model, and begins the next. from are the values before it.
func (l *shardLoad) check(from map[register]int64) (to map[register]int64) {
	l.t.Helper()
	l.settledShards()
	over := l.now()
	to = l.directly()
	for r, v := range to {
		history := l.history[r]
		for i := range history {
			if history[i].Return == 0 {
				history[i].Return = over + 10 // behind all reads, if it has not happened
			}
		}
		// One copy of a reference table shows a write before another does.
		history = withoutAhead(history, func(in any) (writes, ahead bool) {
			a := in.(touch)
			return a.what != "read", a.what == "read" && (a.replica || r.table == "copies")
		})
		for _, o := range history {
			if a := o.Input.(touch); a.replica && !strings.HasPrefix(a.as, "all") {
				l.lag.Add(1)
			}
		}
		history = append(history, porcupine.Operation{Input: touch{what: "read", as: "direct"}, Output: v, Call: over + 1, Return: over + 2})
		l.judge(r, from[r], history)
	}
	l.history = map[register][]porcupine.Operation{}
	return to
}

// judge fails the test unless the history of a register has an order that the model allows.
func (l *shardLoad) judge(r register, from int64, history []porcupine.Operation) {
	l.t.Helper()
	model := porcupine.Model{
		Init: func() any { return from },
		Step: func(state, in, out any) (bool, any) {
			ok, next := in.(touch).step(state.(int64), out.(int64))
			return ok, next
		},
	}
	result, info := porcupine.CheckOperationsVerbose(model, history, time.Minute)
	switch result {
	case porcupine.Ok:
		return
	case porcupine.Unknown:
		l.t.Logf("%v: %d operations could not be judged in time", r, len(history))
		return
	}
	longest := []int(nil)
	for _, partial := range info.PartialLinearizations() {
		for _, order := range partial {
			if len(order) > len(longest) {
				longest = order
			}
		}
	}
	var rest []porcupine.Operation
	for i, op := range history {
		if !slices.Contains(longest, i) {
			rest = append(rest, op)
		}
	}
	slices.SortFunc(rest, func(a, b porcupine.Operation) int { return int(a.Return - b.Return) })
	slices.SortFunc(history, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	var out strings.Builder
	for _, op := range history {
		if end := rest[0].Return; op.Return > end-int64(60*time.Millisecond) && op.Call < end+int64(5*time.Millisecond) {
			fmt.Fprintf(&out, "\n%9.3f to %9.3f ms, client %d: %+v → %d", float64(op.Call)/1e6, float64(op.Return)/1e6, op.ClientId, op.Input, op.Output)
		}
	}
	l.t.Errorf("%v on shard %d: no order of its operations explains what was read; %d of %d fit; the first that does not is %+v → %d from %.3f ms to %.3f ms. Around it:%s",
		r, l.at[r.key], len(longest), len(history), rest[0].Input, rest[0].Output, float64(rest[0].Call)/1e6, float64(rest[0].Return)/1e6, out.String())
}

// TestCachedReadsOfShardsAreLinearizable lets clients read and write rows of several shards through one proxy that keeps answers, in transactions over two
// shards too, while server connections are cut and ended and servers are killed, and looks for an order that explains each read.
func TestCachedReadsOfShardsAreLinearizable(t *testing.T) {
	for name, way := range map[string]struct {
		edit    func(*proxy.Config)
		options []proxy.Option
		moves   bool // buckets move while clients work
	}{
		"as configured by default": {},
		"pipelines":                {options: []proxy.Option{proxy.WithEagerPipelines()}},
		"few connections": {edit: onDatabase(func(d *proxy.Database) {
			d.Pool.Size, d.Pool.Pipeline.Enabled = 5, false
			d.Pool.Mode = pool.ModeTransaction
		})},
		"moves of buckets": {moves: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			seconds, seed := number(t, "PGTIER_CACHE_SECONDS", 3), number(t, "PGTIER_CACHE_SEED", time.Now().UnixNano())
			t.Logf("PGTIER_CACHE_SEED=%d PGTIER_CACHE_SECONDS=%d", seed, seconds)
			l := &shardLoad{keptShards: newKeptShards(t, &spreadOptions, 0, way.edit, way.options...), t: t, began: time.Now(),
				history: map[register][]porcupine.Operation{}, fates: map[string]int{}}
			random := rand.New(rand.NewPCG(uint64(seed), 0))
			trouble := func(stop <-chan struct{}) { l.trouble(random, stop) }
			defer func() {
				if way.moves {
					t.Logf("%d buckets moved", l.moved.Load())
				}
			}()
			if way.moves {
				m := l.moving(t, l.cfg, 0)
				trouble = func(stop <-chan struct{}) { l.moves(m, random, stop) }
			}
			l.rounds(time.Duration(seconds)*time.Second, random, trouble)
		})
	}
}

// rounds works in rounds, each of which is judged by itself.
func (l *shardLoad) rounds(long time.Duration, random *rand.Rand, trouble func(stop <-chan struct{})) {
	t := l.t
	t.Helper()
	from := map[register]int64{}
	lacks := func() bool { // on a machine that is busy
		return int64(l.hits())*20 < l.reads.Load() || slices.ContainsFunc(l.p.CachesOf(l.database), func(c *cache.Cache) bool { return c.Hits.Load() == 0 })
	}
	for (time.Since(l.began) < long || lacks() && time.Since(l.began) < long+time.Minute) && !t.Failed() {
		stop := make(chan struct{})
		var work sync.WaitGroup
		for i := range linearClients {
			c := &shardClient{l, loadClient{id: i, random: rand.New(rand.NewPCG(random.Uint64(), uint64(i)))}}
			work.Go(func() { c.run(stop) }) // ends with stop
		}
		work.Go(func() { trouble(stop) })   // ends with stop
		time.Sleep(1500 * time.Millisecond) // the length of a round
		close(stop)
		work.Wait()
		from = l.check(from)
	}
	var passed, kept, writes, flushes uint64
	for i, c := range l.p.CachesOf(l.database) {
		passed, kept, writes, flushes = passed+c.Passed.Load(), kept+c.Kept.Load(), writes+c.Writes.Load(), flushes+c.Flushes.Load()
		if c.Hits.Load() == 0 {
			t.Errorf("shard %d: no read was served", i)
		}
	}
	t.Logf("%d reads, %d of them served, %d passed by, %d answers kept, %d writes, %d flushes; fates %v", l.reads.Load(), l.hits(), passed, kept, writes, flushes, l.fates)
	if lacks() {
		t.Errorf("%d of %d reads were served: the run proves nothing", l.hits(), l.reads.Load())
	}
	for _, c := range l.p.CachesOf(l.database) {
		eventually(t, "the fate of all transactions is known", func() bool { return c.Unknown.Load() == 0 })
	}
}

// trouble cuts connections, ends servers' processes and kills servers, until stop.
func (l *shardLoad) trouble(random *rand.Rand, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(40+random.IntN(200)) * time.Millisecond):
		}
		ctx, done := context.WithTimeout(context.Background(), limit)
		at := random.IntN(len(l.cuts))
		m := l.cluster.Shards[at].Manager
		switch random.IntN(16) {
		case 0, 1, 2, 3, 4, 5:
			l.cuts[at].cut(0.5)
		case 6, 7, 8, 9, 10:
			_ = m.Exec(ctx, l.database, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'")
		case 11, 12:
			if err := m.Kill(); err != nil {
				l.t.Error(err)
			}
			if err := m.Start(ctx); err != nil {
				l.t.Error(err)
			}
		}
		done()
	}
}

// moves moves a key's bucket to another shard, and on and back, until stop.
func (l *shardLoad) moves(m *moving, random *rand.Rand, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		key := random.IntN(keptKeys)
		from := l.at[key]
		to := (from + 1 + random.IntN(len(l.cuts)-1)) % len(l.cuts)
		bucket := m.bucket(key)
		spans := shard.SpansOf(bucket)
		m.change(shardmap.Motion{Moving: spans, Frozen: true})
		m.change(shardmap.Motion{Moving: spans, Held: spans, Frozen: true, Near: true})
		eventually(l.t, "no transaction is under way there", func() bool {
			return l.spread.on(l.t, from, "SELECT (SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()) + (SELECT count(*) FROM pg_stat_activity"+
				" WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid())") == "0"
		})
		for _, table := range []string{"regs", "side", "hist"} {
			m.carry(from, to, table, []shard.Bucket{bucket})
		}
		for other := range keptKeys { // some may share it
			if m.bucket(other) == bucket {
				l.at[other] = to
			}
		}
		m.give(shard.Name(fmt.Sprintf("s%d", to)), shardmap.Motion{}, bucket)
		l.moved.Add(1)
	}
}

// TestStrongReadsOfShardsAreLinearizableWithAnswersKept does so where each shard has a replica that stops replaying, at level strong.
func TestStrongReadsOfShardsAreLinearizableWithAnswersKept(t *testing.T) {
	t.Parallel()
	seconds, seed := number(t, "PGTIER_CACHE_SECONDS", 3), number(t, "PGTIER_CACHE_SEED", time.Now().UnixNano())
	t.Logf("PGTIER_CACHE_SEED=%d PGTIER_CACHE_SECONDS=%d", seed, seconds)
	options := spreadOptions
	options.Shards, options.Replicas = 2, 1
	l := &shardLoad{keptShards: newKeptShards(t, &options, time.Second, onDatabase(func(d *proxy.Database) { d.Reads.Consistency = "strong" })), t: t,
		told: true, began: time.Now(), history: map[register][]porcupine.Operation{}, fates: map[string]int{}}
	for i := range l.cluster.Shards {
		l.readsOnReplica(i)
	}
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	l.rounds(time.Duration(seconds)*time.Second, random, func(stop <-chan struct{}) { l.lags(random, stop) })
	turns := l.p.SharedOf(l.database).Stats.Routes[router.ToReplica].Load()
	t.Logf("%d turns went to replicas, %d reads by them were judged", turns, l.lag.Load())
	if l.lag.Load() == 0 {
		t.Error("no read by a replica was judged: the run proves nothing")
	}
}

// readsOnReplica waits until a replica of the shard serves reads.
func (l *shardLoad) readsOnReplica(at int) {
	l.t.Helper()
	c := l.p.client(l.t)
	read := "/* pgtier: cache=off */ " + readReg(l.key(l.t, at, 0))
	eventually(l.t, "a replica serves a read", func() bool {
		mustValue(l.t, c, read)
		return strings.Contains(mustValue(l.t, c, "SHOW pgtier.last_route"), fmt.Sprintf("replica s%d-r1", at))
	})
}

// lags has replicas stop replaying, and now and then cuts connections to managers or kills one, until stop.
func (l *shardLoad) lags(random *rand.Rand, stop <-chan struct{}) {
	for {
		at := random.IntN(len(l.cuts))
		shard := l.cluster.Shards[at]
		switch random.IntN(30) {
		case 0, 1:
			l.cuts[at].cut(0.3)
		case 2:
			if err := shard.Manager.Kill(); err != nil {
				l.t.Error(err)
			}
			ctx, done := context.WithTimeout(context.Background(), limit)
			if err := shard.Manager.Start(ctx); err != nil {
				l.t.Error(err)
			}
			done()
		}
		for _, sql := range []string{"SELECT pg_wal_replay_pause()", "SELECT pg_wal_replay_resume()"} {
			if err := shard.Replicas[0].Exec(context.Background(), "postgres", sql); err != nil {
				l.t.Error(err)
			}
			select {
			case <-stop:
				if err := shard.Replicas[0].Exec(context.Background(), "postgres", "SELECT pg_wal_replay_resume()"); err != nil {
					l.t.Error(err)
				}
				return
			case <-time.After(time.Duration(random.IntN(200)) * time.Millisecond):
			}
		}
	}
}
