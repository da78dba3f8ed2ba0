package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/pool"
	"pgtier/router"
	"pgtier/router/topology"
)

// registers are the rows of one group, and what triggers, cascades and COPY make of them. It is the state of the model that
// histories are held to.
type registers struct {
	v       [linearKeys]int64
	child   int64 // of a parent whose deletion takes it along
	hist    int64 // the highest that was copied
	audit   int64 // written last while there was the trigger that notes it
	audited bool  // there is that trigger
}

const (
	linearGroups  = 3
	linearKeys    = 3
	linearClients = 8
)

// change is what one transaction does to a group, or a read.
type change struct {
	what string // set, child, hist, truncate, audit, or a read of linearReads
	key  int
	sets [][2]int64 // set: key and value, in order
	v    int64
	on   bool
	as   string // how it was sent, for reports

	replica bool // of a read: one served it; known where linear.told
}

// step is the model: what a change makes of r, and whether a read may answer out.
func (r registers) step(c change, out int64) (bool, registers) {
	switch c.what {
	case "set":
		for _, s := range c.sets {
			r.v[s[0]] = s[1]
			if r.audited {
				r.audit = s[1]
			}
		}
		return true, r
	case "child":
		r.child = c.v
	case "hist":
		r.hist = max(r.hist, c.v)
	case "truncate":
		r.hist = 0
	case "audit":
		r.audited = c.on
	default:
		return r.read(c.what, c.key) == out, r
	}
	return true, r
}

// read is what a read answers in the state r.
func (r registers) read(what string, key int) int64 {
	total := int64(0)
	for _, v := range r.v {
		total += v
	}
	switch what {
	case "total", "sum":
		return total
	case "child":
		return r.child
	case "children":
		return r.child
	case "history":
		return r.hist
	case "audited":
		return r.audit
	case "join":
		return r.v[key] + total
	}
	return r.v[key]
}

// linearReads are the reads of a group ($1) and a key ($2) in it.
var linearReads = map[string]string{
	"key":      "SELECT v FROM regs WHERE g = $1 AND k = $2",
	"view":     "SELECT v FROM seen WHERE g = $1 AND k = $2",
	"function": "SELECT reg_of($1::int, $2::int)",
	"total":    "SELECT total FROM totals WHERE g = $1 AND $2::int IS NOT NULL",
	"sum":      "SELECT sum(v)::bigint FROM regs WHERE g = $1 AND $2::int IS NOT NULL",
	"children": "SELECT coalesce(max(v), 0) FROM children WHERE g = $1 AND $2::int IS NOT NULL",
	"history":  "SELECT coalesce(max(v), 0) FROM hist WHERE g = $1 AND $2::int IS NOT NULL",
	"audited":  "SELECT v FROM audit WHERE g = $1 AND $2::int IS NOT NULL",
	"join":     "SELECT r.v + t.total FROM regs r JOIN totals t USING (g) WHERE r.g = $1 AND r.k = $2",
}

var linearReadNames = []string{"key", "key", "key", "view", "function", "total", "sum", "children", "history", "audited", "join"}

const linearSQL = `CREATE TABLE regs (g int, k int, v bigint NOT NULL, PRIMARY KEY (g, k));
CREATE TABLE totals (g int PRIMARY KEY, total bigint NOT NULL);
CREATE TABLE parents (g int PRIMARY KEY);
CREATE TABLE children (g int PRIMARY KEY REFERENCES parents ON DELETE CASCADE, v bigint NOT NULL);
CREATE TABLE hist (g int, v bigint NOT NULL);
CREATE TABLE audit (g int PRIMARY KEY, v bigint NOT NULL);
INSERT INTO regs SELECT g, k, 0 FROM generate_series(0, 2) g, generate_series(0, 2) k;
INSERT INTO totals SELECT g, 0 FROM generate_series(0, 2) g;
INSERT INTO audit SELECT g, 0 FROM generate_series(0, 2) g;
CREATE VIEW seen AS SELECT g, k, v FROM regs;
CREATE FUNCTION add_up() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN UPDATE totals SET total = total + NEW.v - OLD.v WHERE g = NEW.g; RETURN NULL; END$$;
CREATE TRIGGER add_up AFTER UPDATE ON regs FOR EACH ROW EXECUTE FUNCTION add_up();
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN UPDATE audit SET v = NEW.v WHERE g = NEW.g; RETURN NULL; END$$;
CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(0.002); RETURN NULL; END$$;
CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON totals DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.total % 3 = 0) EXECUTE FUNCTION slow();
CREATE FUNCTION set_reg(int, int, bigint) RETURNS void LANGUAGE plpgsql AS $$BEGIN UPDATE regs SET v = $3 WHERE g = $1 AND k = $2; END$$;
CREATE FUNCTION reg_of(int, int) RETURNS bigint LANGUAGE sql STABLE AS 'SELECT v FROM regs WHERE g = $1 AND k = $2'`

// cutter is a TCP forwarder whose connections can be cut.
type cutter struct {
	listener net.Listener
	to       string
	mu       sync.Mutex
	pairs    []net.Conn
	work     sync.WaitGroup
}

func newCutter(t testing.TB, to string) *cutter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{listener: l, to: to}
	c.work.Go(c.serve) // ends with the listener
	t.Cleanup(func() {
		_ = l.Close()
		c.cut(1)
		c.work.Wait()
	})
	return c
}

func (c *cutter) serve() {
	for {
		in, err := c.listener.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", c.to)
		if err != nil {
			_ = in.Close()
			continue
		}
		c.mu.Lock()
		c.pairs = append(c.pairs, in, out)
		c.mu.Unlock()
		for _, way := range [][2]net.Conn{{in, out}, {out, in}} {
			c.work.Go(func() { // ends when either side does
				_, _ = io.Copy(way[0], way[1])
				_ = way[0].Close()
				_ = way[1].Close()
			})
		}
	}
}

// cut ends each connection with that probability.
func (c *cutter) cut(share float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := 0; i+1 < len(c.pairs); i += 2 {
		if rand.Float64() < share {
			_ = c.pairs[i].Close()
			_ = c.pairs[i+1].Close()
		}
	}
	c.pairs = slices.DeleteFunc(c.pairs, func(nc net.Conn) bool {
		var one [0]byte
		_, err := nc.Write(one[:])
		return errors.Is(err, net.ErrClosed)
	})
}

// linear is a run: clients that read and write through one proxy, and what they saw.
type linear struct {
	t       *testing.T
	r       *rig
	p       *running
	began   time.Time
	last    atomic.Int64 // the value written last; each is written once
	least   int64        // one read in so many must have been served
	level   string       // that reads ask for by hint, "" for none
	told    bool         // replicas serve reads: of a write that is under way one may show more than the manager
	mu      sync.Mutex
	history [linearGroups][]porcupine.Operation
	fates   map[string]int
	reads   atomic.Int64
}

func (l *linear) now() int64 { return int64(time.Since(l.began)) }

// note adds an operation of all groups that it concerns; ended is 0 where nobody was told of its end.
func (l *linear) note(client, group int, c change, out, began, ended int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if ended == 0 {
		l.fates["unknown"]++
	}
	for g := range linearGroups {
		if group < 0 || g == group {
			l.history[g] = append(l.history[g], porcupine.Operation{ClientId: client, Input: c, Output: out, Call: began, Return: ended})
		}
	}
}

// unchanged reports whether err says that the statement has had no effect: PostgreSQL has answered with an error that is none of
// losing the connection.
func unchanged(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	return !strings.HasPrefix(pg.Code, "08") && !strings.HasPrefix(pg.Code, "57P") && pg.Code != "58000"
}

// loadClient is the connection of one client of a load whose servers and connections come and go.
type loadClient struct {
	id     int
	random *rand.Rand
	conn   *pgx.Conn
	broken bool // the transaction under way is lost
}

func (c *loadClient) mode() pgx.QueryExecMode { return cacheModes[c.random.IntN(len(cacheModes))] }

// connect makes a connection if there is none; then it asks for prepare, if that is not empty.
func (c *loadClient) connect(ctx context.Context, t testing.TB, p *running, prepare string) bool {
	if c.conn != nil && !c.conn.IsClosed() && !c.broken {
		return true
	}
	if c.conn != nil {
		_ = c.conn.Close(ctx)
	}
	c.conn, c.broken = nil, false
	cfg, err := pgx.ParseConfig(p.dsn("postgres", ""))
	if err != nil {
		t.Error(err)
		return false
	}
	cfg.DefaultQueryExecMode = c.mode()
	if c.conn, err = pgx.ConnectConfig(ctx, cfg); err != nil {
		c.conn = nil
		time.Sleep(5 * time.Millisecond) // the server is away
		return false
	}
	if prepare != "" {
		_, err = c.conn.Exec(ctx, prepare)
		c.broken = err != nil
	}
	return !c.broken
}

// run writes once in eight times and reads otherwise, until stop.
func (c *loadClient) run(stop <-chan struct{}, connect func(context.Context) bool, write, read func(context.Context)) {
	for {
		select {
		case <-stop:
			if c.conn != nil {
				_ = c.conn.Close(context.Background())
				c.conn = nil
			}
			return
		default:
		}
		ctx, done := context.WithTimeout(context.Background(), limit)
		if connect(ctx) {
			if c.random.IntN(8) == 0 {
				write(ctx)
			} else {
				read(ctx)
			}
		}
		done()
	}
}

// codeOf is the SQLSTATE of err, "none" if the server has not said one.
func codeOf(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return "none"
}

// linearClient is one client.
type linearClient struct {
	*linear
	loadClient
}

// run works until stop.
func (c *linearClient) run(stop <-chan struct{}) {
	connect := func(ctx context.Context) bool {
		return c.connect(ctx, c.t, c.p, "PREPARE setk(int, int, bigint) AS UPDATE regs SET v = $3 WHERE g = $1 AND k = $2")
	}
	c.loadClient.run(stop, connect, c.write, c.read)
}

// read asks the same a few times.
func (c *linearClient) read(ctx context.Context) {
	what, mode := linearReadNames[c.random.IntN(len(linearReadNames))], c.mode()
	group, key := c.random.IntN(linearGroups), c.random.IntN(linearKeys)
	sql := linearReads[what]
	if c.level != "" {
		sql = "/* pgtier: consistency=" + c.level + " */ " + sql
	}
	for range 1 + c.random.IntN(6) {
		var out int64
		began := c.now()
		if err := c.conn.QueryRow(ctx, sql, mode, group, key).Scan(&out); err != nil {
			c.failed("read", err)
			return
		}
		ended, route := c.now(), ""
		if c.told {
			if err := c.conn.QueryRow(ctx, "SHOW pgtier.last_route", pgx.QueryExecModeSimpleProtocol).Scan(&route); err != nil {
				c.failed("SHOW", err)
				return
			}
		}
		c.reads.Add(1)
		c.note(c.id, group, change{what: what, key: key, as: mode.String(), replica: strings.HasPrefix(route, "replica")}, out, began, ended)
	}
}

// failed counts errors, and gives up the connection.
func (c *linearClient) failed(what string, err error) {
	code := codeOf(err)
	c.mu.Lock()
	c.fates[what+" "+code]++
	c.mu.Unlock()
	if code == "42601" || code == "42P01" || code == "42883" || code == "XX000" {
		c.t.Errorf("%s: %v", what, err)
	}
	c.broken = true
}

// settled notes a change of which err has become.
func (c *linearClient) settled(group int, what change, began int64, err error) {
	switch {
	case err == nil:
		c.note(c.id, group, what, 0, began, c.now())
	case unchanged(err):
		c.failed(what.as, err)
	default:
		c.note(c.id, group, what, 0, began, 0)
		c.failed(what.as, err)
	}
}

// write changes something in one of many ways.
func (c *linearClient) write(ctx context.Context) {
	g, began := c.random.IntN(linearGroups), c.now()
	first := c.random.IntN(linearKeys - 1)
	one := [2]int64{int64(c.random.IntN(linearKeys)), c.last.Add(1)}
	a, b := [2]int64{int64(first), c.last.Add(1)}, [2]int64{int64(first + 1), c.last.Add(1)}
	update := func(s [2]int64) string {
		return fmt.Sprintf("UPDATE regs SET v = %d WHERE g = %d AND k = %d", s[1], g, s[0])
	}
	set := func(as string, sets ...[2]int64) change { return change{what: "set", sets: sets, as: as} }
	script := func(sql string) error { _, err := c.conn.PgConn().Exec(ctx, sql).ReadAll(); return err }
	switch c.random.IntN(15) {
	case 0, 1, 2:
		mode := c.mode()
		_, err := c.conn.Exec(ctx, "UPDATE regs SET v = $3 WHERE g = $1 AND k = $2", mode, g, one[0], one[1])
		c.settled(g, set("update "+mode.String(), one), began, err)
	case 3:
		c.transaction(ctx, g, a, b)
	case 4:
		c.chain(ctx, g, a, b)
	case 5:
		err := script("BEGIN; " + update(a) + "; " + update(b) + "; COMMIT")
		c.settled(g, set("script", a, b), began, err)
	case 6:
		err := script(update(a) + "; " + update(b))
		c.settled(g, set("implicit", a, b), began, err)
	case 7:
		_, err := c.conn.PgConn().CopyFrom(ctx, strings.NewReader(fmt.Sprintf("%d\t%d\n", g, one[1])), "COPY hist FROM STDIN")
		c.settled(g, change{what: "hist", v: one[1], as: "copy"}, began, err)
	case 8:
		err := script(fmt.Sprintf("EXECUTE setk(%d, %d, %d)", g, one[0], one[1]))
		c.settled(g, set("execute", one), began, err)
	case 9:
		_, err := c.conn.Exec(ctx, "SELECT set_reg($1, $2, $3)", c.mode(), g, one[0], one[1])
		c.settled(g, set("function", one), began, err)
	case 10:
		err := c.batch(ctx, g, a, b)
		c.settled(g, set("batch", a, b), began, err)
	case 11:
		sql := fmt.Sprintf("BEGIN; INSERT INTO parents VALUES (%d) ON CONFLICT DO NOTHING; INSERT INTO children VALUES (%[1]d, %d) ON CONFLICT (g) DO UPDATE SET v = EXCLUDED.v; COMMIT", g, one[1])
		c.settled(g, change{what: "child", v: one[1], as: "insert child"}, began, script(sql))
	case 12:
		_, err := c.conn.Exec(ctx, "DELETE FROM parents WHERE g = $1", c.mode(), g)
		c.settled(g, change{what: "child", as: "cascade"}, began, err)
	case 13:
		c.transaction(ctx, g, a, b)
	case 14:
		c.define(ctx)
	}
}

// define changes the catalog.
func (c *linearClient) define(ctx context.Context) {
	began := c.now()
	exec := func(what change, sql string) {
		_, err := c.conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol)
		if what.what == "" {
			if err != nil {
				c.failed("DDL", err)
			}
			return
		}
		c.settled(-1, what, began, err)
	}
	switch c.random.IntN(6) {
	case 0:
		exec(change{what: "truncate", as: "truncate"}, "TRUNCATE hist")
	case 1:
		exec(change{what: "audit", on: true, as: "create trigger"}, "CREATE OR REPLACE TRIGGER note AFTER UPDATE ON regs FOR EACH ROW EXECUTE FUNCTION note()")
	case 2:
		exec(change{what: "audit", as: "drop trigger"}, "DROP TRIGGER IF EXISTS note ON regs")
	case 3:
		exec(change{}, "ALTER TABLE regs ADD COLUMN IF NOT EXISTS more int")
	case 4:
		exec(change{}, "ALTER TABLE regs DROP COLUMN IF EXISTS more")
	case 5:
		exec(change{}, "CREATE OR REPLACE VIEW seen AS SELECT g, k, v FROM (SELECT * FROM regs) r")
	}
}

// transaction sets two keys between BEGIN and its end, by way of a savepoint, and reads them there.
func (c *linearClient) transaction(ctx context.Context, g int, a, b [2]int64) {
	rollsBack := c.random.IntN(3) == 0
	exec := func(sql string, args ...any) bool {
		_, err := c.conn.Exec(ctx, sql, append([]any{c.mode()}, args...)...)
		if err != nil {
			c.failed("transaction", err) // before it was told to commit
		}
		return err == nil
	}
	const sql = "UPDATE regs SET v = $3 WHERE g = $1 AND k = $2"
	if !exec("BEGIN") || !exec(sql, g, a[0], a[1]) || !exec("SAVEPOINT one") || !exec(sql, g, b[0], -b[1]) || !exec("ROLLBACK TO one") || !exec(sql, g, b[0], b[1]) {
		return
	}
	var own int64
	if err := c.conn.QueryRow(ctx, linearReads["key"], c.mode(), g, b[0]).Scan(&own); err != nil {
		c.failed("transaction", err)
		return
	}
	if own != b[1] {
		c.t.Errorf("a transaction reads %d where it wrote %d", own, b[1])
	}
	if rollsBack {
		exec("ROLLBACK")
		return
	}
	began := c.now()
	_, err := c.conn.Exec(ctx, "COMMIT", c.mode())
	c.settled(g, change{what: "set", sets: [][2]int64{a, b}, as: "transaction"}, began, err)
}

// chain commits a and goes on to b in the same request.
func (c *linearClient) chain(ctx context.Context, g int, a, b [2]int64) {
	update := func(s [2]int64) error {
		_, err := c.conn.Exec(ctx, "UPDATE regs SET v = $3 WHERE g = $1 AND k = $2", c.mode(), g, s[0], s[1])
		return err
	}
	_, err := c.conn.Exec(ctx, "BEGIN", c.mode())
	if err == nil {
		err = update(a)
	}
	if err != nil {
		c.failed("chain", err)
		return
	}
	began := c.now()
	_, err = c.conn.Exec(ctx, "COMMIT AND CHAIN", c.mode())
	c.settled(g, change{what: "set", sets: [][2]int64{a}, as: "chain"}, began, err)
	if err != nil {
		return
	}
	if err = update(b); err != nil {
		c.failed("chain", err)
		return
	}
	began = c.now()
	_, err = c.conn.Exec(ctx, "COMMIT", c.mode())
	c.settled(g, change{what: "set", sets: [][2]int64{b}, as: "chained"}, began, err)
}

// batch sends two updates and a read between them ahead.
func (c *linearClient) batch(ctx context.Context, g int, a, b [2]int64) error {
	batch := &pgx.Batch{}
	const sql = "UPDATE regs SET v = $3 WHERE g = $1 AND k = $2"
	batch.Queue(sql, g, a[0], a[1])
	batch.Queue(linearReads["key"], g, a[0])
	batch.Queue(sql, g, b[0], b[1])
	results := c.conn.SendBatch(ctx, batch)
	_, err := results.Exec()
	var own int64
	if err == nil {
		err = results.QueryRow().Scan(&own)
		if err == nil && own != a[1] {
			c.t.Errorf("a batch reads %d where it wrote %d", own, a[1])
		}
	}
	return errors.Join(err, results.Close())
}

// stateOf is the true state of a group, asked past the proxy.
func (l *linear) stateOf(c *pgx.Conn, g int) (s registers) {
	l.t.Helper()
	for k := range linearKeys {
		if err := c.QueryRow(bounded(l.t), linearReads["key"], g, k).Scan(&s.v[k]); err != nil {
			l.t.Fatal(err)
		}
	}
	for what, to := range map[string]*int64{"children": &s.child, "history": &s.hist, "audited": &s.audit} {
		if err := c.QueryRow(bounded(l.t), linearReads[what], g, 0).Scan(to); err != nil {
			l.t.Fatal(err)
		}
	}
	if err := c.QueryRow(bounded(l.t), "SELECT count(*) > 0 FROM pg_trigger WHERE tgname = 'note'").Scan(&s.audited); err != nil {
		l.t.Fatal(err)
	}
	return s
}

// quiet waits until nobody works for the proxy any more: then all that could happen has.
func (r *rig) quiet(t testing.TB) *pgx.Conn {
	t.Helper()
	var c *pgx.Conn
	eventually(t, "the server is up", func() bool {
		ctx, stop := context.WithTimeout(context.Background(), limit)
		defer stop()
		var err error
		c, err = pgx.Connect(ctx, r.manager.URL(r.database, "postgres", r.cluster.Password))
		return err == nil
	})
	eventually(t, "all transactions end", func() bool {
		v, err := value(c, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = 'client backend' AND state <> 'idle' AND pid <> pg_backend_pid()")
		return err == nil && v == "0"
	})
	return c
}

// check holds the round's history to the model, and begins the next.
func (l *linear) check(from [linearGroups]registers) (to [linearGroups]registers) {
	l.t.Helper()
	c := l.r.quiet(l.t)
	defer func() { _ = c.Close(context.Background()) }()
	over := l.now()
	for g := range linearGroups {
		to[g] = l.stateOf(c, g)
	}
	for g := range linearGroups {
		history := l.history[g]
		l.history[g] = nil
		for i := range history {
			if history[i].Return == 0 {
				history[i].Return = over + 10 // behind all reads, if it has not happened
			}
		}
		if l.told {
			history = withoutAhead(history, func(in any) (writes, ahead bool) {
				c := in.(change)
				return linearReads[c.what] == "", c.replica
			})
		}
		for k := range linearKeys {
			history = append(history, porcupine.Operation{Input: change{what: "key", key: k, as: "direct"}, Output: to[g].v[k], Call: over + 1, Return: over + 2})
		}
		for what, out := range map[string]int64{"children": to[g].child, "history": to[g].hist, "audited": to[g].audit} {
			history = append(history, porcupine.Operation{Input: change{what: what, as: "direct"}, Output: out, Call: over + 1, Return: over + 2})
		}
		if l.told {
			l.t.Logf("group %d: %d operations are judged", g, len(history))
		}
		l.judge(g, from[g], history)
	}
	return to
}

// withoutAhead leaves out the reads that a replica answered while a write was under way. Level strong promises what was
// acknowledged: a replica has a commit before the manager shows it, so that such a read may see it and a later one elsewhere
// not yet. What the manager and the cache answer is all judged. kind tells of an operation's input whether it writes, and whether
// it is a read that may be ahead.
func withoutAhead(history []porcupine.Operation, kind func(in any) (writes, ahead bool)) []porcupine.Operation {
	var writes []porcupine.Operation
	for _, o := range history {
		if is, _ := kind(o.Input); is {
			writes = append(writes, o)
		}
	}
	return slices.DeleteFunc(history, func(o porcupine.Operation) bool {
		_, ahead := kind(o.Input)
		return ahead && slices.ContainsFunc(writes, func(w porcupine.Operation) bool { return w.Call < o.Return && o.Return < w.Return })
	})
}

// judge fails the test unless the history of a group has an order that the model allows.
func (l *linear) judge(g int, from registers, history []porcupine.Operation) {
	l.t.Helper()
	model := porcupine.Model{
		Init: func() any { return from },
		Step: func(state, in, out any) (bool, any) {
			ok, next := state.(registers).step(in.(change), out.(int64))
			return ok, next
		},
		DescribeOperation: func(in, out any) string { return fmt.Sprintf("%v: %v", in, out) },
	}
	result, info := porcupine.CheckOperationsVerbose(model, history, time.Minute)
	if result == porcupine.Ok {
		return
	}
	if result == porcupine.Unknown {
		l.t.Logf("group %d: %d operations could not be judged in time", g, len(history))
		return
	}
	// The operations behind the longest order that was found.
	longest := []int(nil)
	for _, partial := range info.PartialLinearizations() {
		for _, order := range partial {
			if len(order) > len(longest) {
				longest = order
			}
		}
	}
	state := from
	placed := map[int]bool{}
	for _, i := range longest {
		_, state = state.step(history[i].Input.(change), history[i].Output.(int64))
		placed[i] = true
	}
	var out strings.Builder
	var rest []porcupine.Operation
	end := int64(0)
	for i, op := range history {
		if !placed[i] {
			rest = append(rest, op)
		}
	}
	slices.SortFunc(rest, func(a, b porcupine.Operation) int { return int(a.Return - b.Return) })
	if len(rest) > 0 {
		end = rest[0].Return
	}
	all := slices.Clone(history)
	slices.SortFunc(all, func(a, b porcupine.Operation) int { return int(a.Call - b.Call) })
	for _, op := range all {
		if op.Return > end-int64(60*time.Millisecond) && op.Call < end+int64(5*time.Millisecond) {
			fmt.Fprintf(&out, "\n%9.3f to %9.3f ms, client %d: %+v → %d", float64(op.Call)/1e6, float64(op.Return)/1e6, op.ClientId, op.Input, op.Output)
		}
	}
	l.t.Errorf("group %d: no order of its operations explains what was read; %d of %d fit and end in %+v; the first that does not is %+v → %d from %.3f ms to %.3f ms. Around it:%s",
		g, len(longest), len(history), state, rest[0].Input, rest[0].Output, float64(rest[0].Call)/1e6, float64(rest[0].Return)/1e6, out.String())
}

// TestCachedReadsAreLinearizable lets clients read and write the same rows in all ways through one proxy that keeps answers, while
// server connections are cut and ended and the server is killed, and looks for an order of all operations that explains each
// read.
func TestCachedReadsAreLinearizable(t *testing.T) {
	for name, way := range map[string]struct {
		edit     func(*proxy.Config)
		options  []proxy.Option
		switches bool // the cache goes off and on
	}{
		"as configured by default": {},
		"pipelines":                {options: []proxy.Option{proxy.WithEagerPipelines()}},
		"few connections":          {edit: pools(func(c *pool.Config) { c.Size, c.Pipeline.Enabled = 3, false })},
		"session pooling":          {edit: pools(func(c *pool.Config) { c.Mode = pool.ModeSession })},
		"switched on and off":      {switches: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			runLinear(t, way.edit, way.switches, way.options...)
		})
	}
}

func runLinear(t *testing.T, edit func(*proxy.Config), switches bool, options ...proxy.Option) {
	seconds := number(t, "PGTIER_CACHE_SECONDS", 3)
	seed := number(t, "PGTIER_CACHE_SEED", time.Now().UnixNano())
	t.Logf("PGTIER_CACHE_SEED=%d PGTIER_CACHE_SECONDS=%d", seed, seconds)
	cluster := pgtest.Start(t, localpg.Options{})
	r := &rig{cluster: cluster, manager: cluster.Shards[0].Manager}
	r.database = pgtest.Database(t, r.manager)
	pgtest.Exec(t, r.manager, r.database, linearSQL)
	pgtest.Exec(t, r.manager, "postgres", "ALTER DATABASE "+r.database+" SET deadlock_timeout = '20ms'")
	cut := newCutter(t, r.manager.Address())
	config := func(on bool) proxy.Config {
		cfg := r.config(t, func(cfg *proxy.Config) {
			if edit != nil {
				edit(cfg)
			}
			server, err := topology.ParseURL(fmt.Sprintf("postgres://postgres:%s@%s/%s?sslmode=disable", r.cluster.Password, cut.listener.Addr(), r.database))
			if err != nil {
				t.Fatal(err)
			}
			r.setURL(cfg, server)
		})
		d := cfg.Databases[r.database]
		d.Cache.Enabled, d.Cache.MaxDelay = on, 0
		cfg.Databases[r.database] = d
		return cfg
	}
	p := r.start(t, config(true), options...)
	p.readsCatalog(t)
	l := &linear{t: t, r: r, p: p, began: time.Now(), fates: map[string]int{}, least: 20}
	if cfg := config(true); switches || cfg.Pool.Mode == pool.ModeSession { // whose clients keep their connections
		l.least = 0
	}
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	l.rounds(time.Duration(seconds)*time.Second, random, func(stop <-chan struct{}) {
		if !switches {
			l.trouble(random, cut, stop)
			return
		}
		for on := false; ; on = !on {
			if err := p.Reload(config(on)); err != nil {
				t.Error(err)
			}
			select {
			case <-stop:
				if err := p.Reload(config(true)); err != nil {
					t.Error(err)
				}
				return
			case <-time.After(time.Duration(20+random.IntN(map[bool]int{true: 1200, false: 100}[on])) * time.Millisecond):
			}
			if random.IntN(2) == 0 {
				cut.cut(0.3)
			}
		}
	})
}

// keepsTables starts a proxy that keeps answers, over the tables that are there.
func (r *rig) keepsTables(t testing.TB, edit func(*proxy.Config), options ...proxy.Option) (*running, func() uint64) {
	t.Helper()
	cfg := r.config(t, edit)
	d := cfg.Databases[r.database]
	d.Cache.Enabled, d.Cache.MaxDelay = true, 0
	cfg.Databases[r.database] = d
	p := r.start(t, cfg, options...)
	p.readsCatalog(t)
	return p, func() uint64 { return p.cache(t).Hits.Load() }
}

// rounds works in rounds, each of which is judged by itself.
func (l *linear) rounds(long time.Duration, random *rand.Rand, trouble func(stop <-chan struct{})) {
	t := l.t
	t.Helper()
	var from [linearGroups]registers
	served := func() int64 {
		kept := l.p.cache(t)
		return int64(kept.Hits.Load() + kept.Shared.Load())
	}
	lacks := func() bool { return l.least > 0 && served()*l.least < l.reads.Load() } // on a machine that is busy a server takes long to come back
	for (time.Since(l.began) < long || lacks() && time.Since(l.began) < long+time.Minute) && !t.Failed() {
		stop := make(chan struct{})
		var work sync.WaitGroup
		for i := range linearClients {
			c := &linearClient{l, loadClient{id: i, random: rand.New(rand.NewPCG(random.Uint64(), uint64(i)))}}
			work.Go(func() { c.run(stop) }) // ends with stop
		}
		work.Go(func() { trouble(stop) })   // ends with stop
		time.Sleep(1500 * time.Millisecond) // the length of a round
		close(stop)
		work.Wait()
		from = l.check(from)
	}
	kept := l.p.cache(t)
	hits, reads := kept.Hits.Load()+kept.Shared.Load(), l.reads.Load()
	t.Logf("%d reads, %d of them served (%d shared), %d passed by, %d answers kept, %d writes, %d flushes; fates %v", reads, hits, kept.Shared.Load(), kept.Passed.Load(),
		kept.Kept.Load(), kept.Writes.Load(), kept.Flushes.Load(), l.fates)
	if int64(hits)*l.least < reads && l.least > 0 {
		t.Errorf("%d of %d reads were served: the run proves nothing", hits, reads)
	}
	eventually(t, "the fate of all transactions is known", func() bool { return kept.Unknown.Load() == 0 })
}

// trouble cuts connections, ends servers' processes and kills the server, until stop.
func (l *linear) trouble(random *rand.Rand, cut *cutter, stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-time.After(time.Duration(40+random.IntN(200)) * time.Millisecond):
		}
		ctx, done := context.WithTimeout(context.Background(), limit)
		switch random.IntN(16) {
		case 0, 1, 2, 3, 4, 5:
			cut.cut(0.5)
		case 6, 7, 8, 9, 10, 11:
			_ = l.r.manager.Exec(ctx, l.r.database, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'")
		case 12:
			if err := l.r.manager.Kill(); err != nil {
				l.t.Error(err)
			}
			if err := l.r.manager.Start(ctx); err != nil {
				l.t.Error(err)
			}
		}
		done()
	}
}

// TestStrongReadsAreLinearizableWithAnswersKept does so with replicas that stop replaying, at level strong.
func TestStrongReadsAreLinearizableWithAnswersKept(t *testing.T) {
	t.Parallel()
	seconds := number(t, "PGTIER_CACHE_SECONDS", 3)
	seed := number(t, "PGTIER_CACHE_SEED", time.Now().UnixNano())
	t.Logf("PGTIER_CACHE_SEED=%d PGTIER_CACHE_SECONDS=%d", seed, seconds)
	c, p := settledCrew(t, 2, linearSQL, func(d *proxy.Database) { d.Cache.Enabled, d.Reads.Consistency = true, "strong" })
	p.readsCatalog(t)
	l := &linear{t: t, r: c.rig, p: p, began: time.Now(), fates: map[string]int{}, least: 20, told: true}
	random := rand.New(rand.NewPCG(uint64(seed), 0))
	l.rounds(time.Duration(seconds)*time.Second, random, func(stop <-chan struct{}) {
		for {
			s := c.shard.Replicas[random.IntN(2)]
			for _, sql := range []string{"SELECT pg_wal_replay_pause()", "SELECT pg_wal_replay_resume()"} {
				if err := s.Exec(context.Background(), "postgres", sql); err != nil {
					t.Error(err)
				}
				select {
				case <-stop:
					if err := s.Exec(context.Background(), "postgres", "SELECT pg_wal_replay_resume()"); err != nil {
						t.Error(err)
					}
					return
				case <-time.After(time.Duration(random.IntN(200)) * time.Millisecond):
				}
			}
		}
	})
	routes := &p.SharedOf(p.database).Stats.Routes
	t.Logf("%d turns went to replicas", routes[router.ToReplica].Load())
	if routes[router.ToReplica].Load() == 0 {
		t.Error("no read by a replica: the run proves nothing")
	}
}
