package movetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// operationLimit bounds one operation of a client. It is longer than what a proxy waits for a server.
const operationLimit = 100 * time.Second

// load is what clients do, and what they were told.
type load struct {
	// fixed
	t       testing.TB
	r       *rig
	breaks  bool            // proxies and servers are killed
	ctx     context.Context // of all operations
	cancel  context.CancelFunc
	stop    chan struct{}
	began   time.Time
	work    sync.WaitGroup
	regs    *registers
	account [accounts]counter // of what is added to accounts.n
	done    atomic.Int64      // operations that were acknowledged
	heard   atomic.Int64      // the last of them, by now
	rushed  atomic.Int64      // the last client of a rush

	mu     sync.Mutex
	tokens map[string]map[string]bool // guarded by mu, as what follows; table → name of a row that was written → whether that was acknowledged
	ids    map[string]bool            // that events were given
	seqs   map[string]bool            // that entries were given
	errors map[string]int             // by operation and SQLSTATE
	took   []time.Duration            // of single statements that write
	failed int
}

// counter counts what one row is increased by.
type counter struct {
	started atomic.Int64

	mu    sync.Mutex
	acked []acked // guarded by mu; in order
}

// acked is that an increase was acknowledged.
type acked struct {
	at int64 // no earlier than that
	by life
}

// acks notes that an increase was acknowledged.
func (n *counter) acks(now func() int64, by life) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.acked = append(n.acked, acked{now(), by})
}

// least is what who begins to read now is shown at least: what was acknowledged before it may be old, and by the process that it is read through.
func (n *counter) least(old int64, through life) (least int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, a := range n.acked {
		if a.at <= old || a.by == through {
			least++
		}
	}
	return least
}

func newLoad(r *rig, breaks bool) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{ctx: ctx, cancel: cancel, t: r.t, r: r, breaks: breaks, stop: make(chan struct{}), began: time.Now(), regs: &registers{}, tokens: map[string]map[string]bool{}, ids: map[string]bool{}, seqs: map[string]bool{}, errors: map[string]int{}}
	l.rushed.Store(100) // above those of start
	r.t.also(l.state)
	return l
}

// state is how far clients are.
func (l *load) state() string {
	return fmt.Sprintf("clients: %d operations acknowledged in %.1f s, the last %.1f s ago", l.done.Load(), time.Since(l.began).Seconds(), time.Duration(l.now()-l.heard.Load()).Seconds())
}

// start has clients work through every proxy, until end.
func (l *load) start(random func() *rand.Rand, bank, registers int) {
	for i := range bank + registers {
		c := &client{load: l, id: i, random: random(), proxy: l.r.proxies[i%len(l.r.proxies)]}
		if l.r.keeps && !l.r.apart {
			c.proxy = l.r.proxies[0]
		}
		l.work.Go(func() { // ends with stop
			defer c.leave()
			for !l.stopped() {
				if i < bank {
					c.bank()
				} else {
					c.register()
				}
				time.Sleep(time.Duration(c.random.IntN(40)) * time.Millisecond) // so that the servers have time for what is tested
			}
		})
	}
	l.t.Cleanup(l.end)
}

func (l *load) stopped() bool {
	select {
	case <-l.stop:
		return true
	default:
		return false
	}
}

// end stops the clients. Those of a test that has failed are not waited for until they have what they wait for.
func (l *load) end() {
	if l.t.Failed() {
		l.cancel()
	}
	l.mu.Lock()
	if !l.stopped() {
		close(l.stop)
	}
	l.mu.Unlock()
	l.work.Wait()
	l.cancel()
}

// more waits until so many more operations were acknowledged.
func (l *load) more(n int64) {
	l.t.Helper()
	from := l.done.Load()
	eventually(l.t, l.r.patience, func() string {
		if done := l.done.Load() - from; done < n {
			return fmt.Sprintf("%d operations of %d", done, n)
		}
		return ""
	})
}

// wrong says that a client was told something wrong. Not more often than people read.
func (l *load) wrong(format string, args ...any) {
	if l.ctx.Err() != nil {
		return
	}
	l.mu.Lock()
	l.failed++
	n := l.failed
	l.mu.Unlock()
	if n <= 20 {
		l.t.Errorf("%.3f s: %s", time.Since(l.began).Seconds(), fmt.Sprintf(format, args...))
	}
}

// token notes the name of a row that is being written.
func (l *load) token(table, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.tokens[table] == nil {
		l.tokens[table] = map[string]bool{}
	}
	l.tokens[table][name] = false
}

// fate is what has become of an operation.
type fate int

const (
	happened fate = iota
	refused       // it has had no effect
	unsure
)

// settle notes the names as the operation's fate says.
func (l *load) settle(f fate, table string, names ...string) {
	if f == unsure {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, name := range names {
		if f == happened {
			l.tokens[table][name] = true
		} else {
			delete(l.tokens[table], name)
		}
	}
}

// client is one client of one proxy.
type client struct {
	*load
	id     int
	n      int // of names
	random *rand.Rand
	proxy  *daemon
	stays  bool // with that proxy

	conn  *pgx.Conn
	since time.Time // when conn was made
	life  life      // what conn leads to
}

func (c *client) leave() {
	if c.conn != nil {
		_ = c.conn.Close(context.Background())
	}
	c.conn = nil
}

// name is one that nothing else has.
func (c *client) name() string {
	c.n++
	return fmt.Sprintf("%d/%d", c.id, c.n)
}

// connected makes a connection if there is none.
func (c *client) connected(ctx context.Context) bool {
	if c.conn != nil && !c.conn.IsClosed() {
		return true
	}
	if c.r.apart && c.breaks && !c.stays { // as behind a balancer
		c.proxy = c.r.proxies[c.random.IntN(len(c.r.proxies))]
	}
	config, err := pgx.ParseConfig(c.proxy.url("app"))
	if err != nil {
		c.wrong("%v", err)
		return false
	}
	modes := []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeExec, pgx.QueryExecModeSimpleProtocol}
	config.DefaultQueryExecMode = modes[c.random.IntN(len(modes))]
	began := time.Now()
	if c.conn, err = pgx.ConnectConfig(ctx, config); err != nil {
		c.conn = nil
		if code := stateOf(err); c.stopped() || c.breaks && (c.proxy.away(began) || code != "" && passing(code)) {
			time.Sleep(20 * time.Millisecond)
			return false
		}
		c.wrong("connect to %s: %v", c.proxy.name, err)
		return false
	}
	c.since, c.life = began, c.proxy.lives()
	return true
}

// oldest is from when what is read now may be: from now on, but for what is kept where others write through another proxy. A process keeps nothing from before its time.
func (c *client) oldest() int64 {
	now := c.now()
	if !c.r.apart {
		return now
	}
	return min(now, max(now-int64(maxDelay), int64(c.life.began.Sub(c.began))))
}

// stateOf is the SQLSTATE of an error, "" of one that no server has said.
func stateOf(err error) string {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return pg.Code
	}
	return ""
}

// passing reports whether an error says that a server was lost or is away.
func passing(code string) bool {
	return strings.HasPrefix(code, "08") || strings.HasPrefix(code, "57P") || strings.HasPrefix(code, "58")
}

// judge says what has become of an operation, and fails the test if the client may not hear err. conflicts: it may hear 40001.
func (c *client) judge(what string, err error, conflicts bool) fate {
	if err == nil {
		c.done.Add(1)
		c.heard.Store(c.now())
		return happened
	}
	code := stateOf(err)
	c.mu.Lock()
	c.errors[what+" "+code]++
	c.mu.Unlock()
	since := c.since
	if code == "" || code != "40001" {
		c.leave() // whatever state it is in
	}
	switch {
	case code == "40001" && conflicts:
		return refused
	case c.breaks && code == "" && c.proxy.fell(since):
		return unsure
	case c.breaks && passing(code):
		return unsure
	}
	detail := ""
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) {
		detail = pg.Detail
	}
	c.wrong("client %d of %s, %s: %v %s", c.id, c.proxy.name, what, err, detail)
	if code == "" || passing(code) {
		return unsure
	}
	return refused
}

// bank does one thing that an application does.
func (c *client) bank() {
	ctx, stop := context.WithTimeout(c.ctx, operationLimit)
	defer stop()
	if !c.connected(ctx) {
		return
	}
	choices := []func(context.Context){
		c.insert, c.insert, c.add, c.add, c.add, c.transfer, c.transfer, c.purse, c.purse, c.event, c.readKey, c.readKey, c.readKey, c.countAll, c.sumAll, c.purseSum,
		c.batch, c.note,
	}
	rare := []func(context.Context){c.country, c.copyIn, c.balances, c.country, c.several}
	if c.random.IntN(12) == 0 {
		rare[c.random.IntN(len(rare))](ctx)
		return
	}
	choices[c.random.IntN(len(choices))](ctx)
}

// timed notes how long a statement that writes took.
func (c *client) timed(began time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.took = append(c.took, time.Since(began))
}

// insert writes one entry by one statement, with 0 as amount.
func (c *client) insert(ctx context.Context) {
	name, account, seq := c.name(), c.random.IntN(accounts), int64(0)
	c.token("entries", name)
	began := time.Now()
	f := c.judge("insert", c.conn.QueryRow(ctx, "INSERT INTO entries (account, id, amount) VALUES ($1, $2, 0) RETURNING seq", account, name).Scan(&seq), false)
	c.settle(f, "entries", name)
	if f == happened {
		c.timed(began)
		c.unique(c.seqs, "entries.seq", seq)
	}
}

// unique fails the test if a number was given before.
func (c *client) unique(given map[string]bool, what string, n int64) {
	c.mu.Lock()
	key := fmt.Sprint(n)
	twice := given[key]
	given[key] = true
	c.mu.Unlock()
	if twice {
		c.wrong("%s gave %d twice", what, n)
	}
}

// add increases a number by one statement.
func (c *client) add(ctx context.Context) {
	id := c.random.IntN(accounts)
	n := &c.account[id]
	n.started.Add(1)
	began := time.Now()
	tag, err := c.conn.Exec(ctx, "UPDATE accounts SET n = n + 1 WHERE id = $1", id)
	if err == nil && tag.RowsAffected() != 1 {
		c.wrong("account %d: %s", id, tag)
	}
	switch c.judge("add", err, false) {
	case happened:
		c.timed(began)
		n.acks(c.now, c.life)
	case refused:
		n.started.Add(-1)
	}
}

// inTransaction runs f in a transaction of several statements.
func (c *client) inTransaction(ctx context.Context, what string, f func(tx pgx.Tx) error) fate {
	tx, err := c.conn.Begin(ctx)
	if err == nil {
		err = f(tx)
	}
	if err != nil {
		f := c.judge(what, err, true)
		if c.conn != nil {
			_ = tx.Rollback(ctx) // the next statement says it if that does not work
		}
		if f == unsure { // COMMIT was not sent
			return refused
		}
		return f
	}
	return c.judge(what+" commit", tx.Commit(ctx), true)
}

// transfer moves money between two accounts, mostly of two shards.
func (c *client) transfer(ctx context.Context) {
	a, b := c.random.IntN(accounts), c.random.IntN(accounts)
	if c.random.IntN(3) == 0 {
		b = a
	}
	from, to := min(a, b), max(a, b) // in this order, so that nobody waits in a circle
	amount, one, two := 1+c.random.IntN(100), c.name(), c.name()
	c.token("entries", one)
	c.token("entries", two)
	f := c.inTransaction(ctx, "transfer", func(tx pgx.Tx) error {
		for _, side := range []struct {
			account, amount int
			name            string
		}{{from, -amount, one}, {to, amount, two}} {
			if _, err := tx.Exec(ctx, "UPDATE accounts SET balance = balance + $2 WHERE id = $1", side.account, side.amount); err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, "INSERT INTO entries (account, id, amount) VALUES ($1, $2, $3)", side.account, side.name, side.amount); err != nil {
				return err
			}
		}
		return nil
	})
	c.settle(f, "entries", one, two)
}

// purse moves money between the purses of one owner.
func (c *client) purse(ctx context.Context) {
	owner, amount := c.random.IntN(owners), 1+c.random.IntN(100)
	c.inTransaction(ctx, "purse", func(tx pgx.Tx) error {
		for kind, amount := range []int{-amount, amount} {
			if _, err := tx.Exec(ctx, "UPDATE purses SET amount = amount + $3 WHERE owner = $1 AND kind = $2", owner, kind, amount); err != nil {
				return err
			}
		}
		var sum int64
		if err := tx.QueryRow(ctx, "SELECT sum(amount)::int8 FROM purses WHERE owner = $1", owner).Scan(&sum); err != nil {
			return err
		}
		if sum != 0 {
			c.wrong("purses of owner %d add up to %d in a transaction", owner, sum)
		}
		return nil
	})
}

// event writes a row whose key comes from a sequence.
func (c *client) event(ctx context.Context) {
	name, id := c.name(), int64(0)
	c.token("events", name)
	f := c.judge("event", c.conn.QueryRow(ctx, "INSERT INTO events (body) VALUES ($1) RETURNING id", name).Scan(&id), false)
	c.settle(f, "events", name)
	if f == happened {
		c.unique(c.ids, "events.id", id)
	}
}

// note writes a row that lives at home.
func (c *client) note(ctx context.Context) {
	name := c.name()
	c.token("notes", name)
	_, err := c.conn.Exec(ctx, "INSERT INTO notes (body) VALUES ($1)", name)
	c.settle(c.judge("note", err, false), "notes", name)
}

// country writes to the reference table.
func (c *client) country(ctx context.Context) {
	name := c.name()
	c.token("countries", name)
	_, err := c.conn.Exec(ctx, "INSERT INTO countries (code, name) VALUES ($1, 'written')", name)
	c.settle(c.judge("country", err, false), "countries", name)
}

// batch writes two entries of one account, sent together.
func (c *client) batch(ctx context.Context) {
	account, one, two := c.random.IntN(accounts), c.name(), c.name()
	c.token("entries", one)
	c.token("entries", two)
	batch := &pgx.Batch{}
	for _, name := range []string{one, two} {
		batch.Queue("INSERT INTO entries (account, id, amount) VALUES ($1, $2, 0)", account, name)
	}
	c.settle(c.judge("batch", c.conn.SendBatch(ctx, batch).Close(), true), "entries", one, two)
}

// copyIn writes entries of several accounts by COPY.
func (c *client) copyIn(ctx context.Context) {
	var names []string
	var rows [][]any
	for range 2 + c.random.IntN(5) {
		name := c.name()
		c.token("entries", name)
		names, rows = append(names, name), append(rows, []any{int64(c.random.IntN(accounts)), name, int64(0)})
	}
	_, err := c.conn.CopyFrom(ctx, pgx.Identifier{"entries"}, []string{"account", "id", "amount"}, pgx.CopyFromRows(rows))
	c.settle(c.judge("copy", err, true), "entries", names...)
}

// several writes entries of several accounts by one INSERT.
func (c *client) several(ctx context.Context) {
	one, two := c.name(), c.name()
	c.token("entries", one)
	c.token("entries", two)
	_, err := c.conn.Exec(ctx, "INSERT INTO entries (account, id, amount) VALUES ($1, $2, 0), ($3, $4, 0)", c.random.IntN(accounts), one, c.random.IntN(accounts), two)
	c.settle(c.judge("several", err, false), "entries", one, two)
}

// readKey holds a number to what had been acknowledged and what had been begun.
func (c *client) readKey(ctx context.Context) {
	id := c.random.IntN(accounts)
	n, got := &c.account[id], int64(0)
	least := n.least(c.oldest(), c.life)
	err := c.conn.QueryRow(ctx, "SELECT n FROM accounts WHERE id = $1", id).Scan(&got)
	if errors.Is(err, pgx.ErrNoRows) {
		c.wrong("account %d is not there", id)
		return
	}
	if c.judge("read", err, false) != happened {
		return
	}
	if most := n.started.Load(); got < least || got > most {
		c.wrong("account %d has n = %d, from %d to %d are possible", id, got, least, most)
	}
}

// countAll counts rows that stay as many.
func (c *client) countAll(ctx context.Context) {
	var got int64
	if c.judge("count", c.conn.QueryRow(ctx, "SELECT count(*) FROM accounts").Scan(&got), false) == happened && got != accounts {
		c.wrong("there are %d accounts, not %d", got, accounts)
	}
}

// sumAll holds the sum over all shards to what had been acknowledged and what had been begun.
func (c *client) sumAll(ctx context.Context) {
	sum := func(of func(*counter) int64) (n int64) {
		for i := range c.account {
			n += of(&c.account[i])
		}
		return n
	}
	old, got := c.oldest(), int64(0)
	least := sum(func(n *counter) int64 { return n.least(old, c.life) })
	if c.judge("sum", c.conn.QueryRow(ctx, "SELECT sum(n) FROM accounts").Scan(&got), false) != happened {
		return
	}
	if most := sum(func(n *counter) int64 { return n.started.Load() }); got < least || got > most {
		c.wrong("the sum of n is %d, from %d to %d are possible", got, least, most)
	}
}

// purseSum adds up all purses. Every transaction stays on one shard, so that one answer of each shard shows it whole.
func (c *client) purseSum(ctx context.Context) {
	var sum, count int64
	err := c.conn.QueryRow(ctx, "SELECT sum(amount), count(*) FROM purses").Scan(&sum, &count)
	if c.judge("purse sum", err, false) == happened && (sum != 0 || count != 2*owners) {
		c.wrong("%d purses add up to %d", count, sum)
	}
}

// balances looks for accounts whose balance is not the sum of their entries.
func (c *client) balances(ctx context.Context) {
	rows, err := c.conn.Query(ctx, "SELECT a.id, a.balance, sum(e.amount) FROM accounts a JOIN entries e ON e.account = a.id GROUP BY a.id, a.balance HAVING a.balance <> sum(e.amount)")
	if err == nil {
		for rows.Next() {
			var id, balance, sum int64
			if err = rows.Scan(&id, &balance, &sum); err == nil {
				c.wrong("account %d has balance %d, its entries add up to %d", id, balance, sum)
			}
		}
		rows.Close()
		err = errors.Join(err, rows.Err())
	}
	c.judge("balances", err, false)
}

// check holds what stands on the shards, when nothing moves any more, against what clients were told.
func (l *load) check() {
	l.t.Helper()
	l.end()
	r := l.r
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.failed > 20 {
		l.t.Errorf("clients were told wrong things %d times", l.failed)
	}
	var n [accounts]struct{ rows, n, balance, entries int64 }
	found, seqs, events := map[string]map[string]int{"entries": {}, "events": {}, "notes": {}}, map[string]int{}, map[string]int{}
	var codes []string // of the reference table, by shard
	for i := range r.cluster.Shards {
		if r.value(i, "SELECT to_regclass('public.entries') IS NULL") == "t" {
			continue
		}
		for _, row := range r.rows(r.direct(i), "SELECT account, id, amount, seq FROM entries") {
			var account int
			var amount int64
			fmt.Sscan(row[0], &account)
			fmt.Sscan(row[2], &amount)
			n[account].entries += amount
			found["entries"][row[1]]++
			seqs[row[3]]++
		}
		for _, row := range r.rows(r.direct(i), "SELECT id, n, balance FROM accounts") {
			var id int
			fmt.Sscan(row[0], &id)
			fmt.Sscan(row[1], &n[id].n)
			fmt.Sscan(row[2], &n[id].balance)
			n[id].rows++
		}
		for _, row := range r.rows(r.direct(i), "SELECT id, body FROM events") {
			events[row[0]]++
			found["events"][row[1]]++
		}
		if i == 0 {
			for _, row := range r.rows(r.direct(i), "SELECT body FROM notes") {
				found["notes"][row[0]]++
			}
		}
	}
	members, _ := r.shards(r.proxies[0])
	for i := range r.cluster.Shards {
		if _, ok := members[fmt.Sprintf("s%d", i)]; !ok {
			continue
		}
		var list []string
		here := map[string]int{}
		for _, row := range r.rows(r.direct(i), "SELECT code FROM countries ORDER BY code") {
			list = append(list, row[0])
			if !strings.HasPrefix(row[0], "c") {
				here[row[0]]++
			}
		}
		found[fmt.Sprintf("countries on s%d", i)] = here
		codes = append(codes, strings.Join(list, " "))
	}
	if slices.Sort(codes); len(slices.Compact(codes)) != 1 {
		l.t.Error("the copies of the reference table differ")
	}
	for id := range n {
		a, acked, started := &n[id], l.account[id].least(l.now(), life{}), l.account[id].started.Load()
		if a.rows != 1 {
			l.t.Errorf("account %d is there %d times", id, a.rows)
		}
		if a.n < acked || a.n > started {
			l.t.Errorf("account %d has n = %d, from %d to %d are possible", id, a.n, acked, started)
		}
		if a.balance != a.entries {
			l.t.Errorf("account %d has balance %d, its entries add up to %d", id, a.balance, a.entries)
		}
	}
	for what, numbers := range map[string]map[string]int{"entries.seq": seqs, "events.id": events} {
		for number, times := range numbers {
			if times != 1 {
				l.t.Errorf("%s %s is there %d times", what, number, times)
			}
		}
	}
	acked, doubtful := 0, 0
	for what, here := range found {
		table, _, _ := strings.Cut(what, " ")
		for name, sure := range l.tokens[table] {
			switch {
			case sure && here[name] != 1:
				l.t.Errorf("%s in %s was acknowledged and is there %d times", name, what, here[name])
			case !sure && here[name] > 1:
				l.t.Errorf("%s in %s is there %d times", name, what, here[name])
			}
			if sure {
				acked++
			} else {
				doubtful++
			}
			delete(here, name)
		}
		for name, times := range here {
			l.t.Errorf("%s in %s is there %d times and was never written, or refused", name, what, times)
		}
	}
	slices.Sort(l.took)
	at := func(q float64) time.Duration {
		if len(l.took) == 0 {
			return 0
		}
		return l.took[min(len(l.took)-1, int(q*float64(len(l.took))))].Round(100 * time.Microsecond)
	}
	l.t.Logf("%d operations acknowledged in %s; rows written: %d acknowledged, %d in doubt; single writes took %s (half of them), %s (99 %%), %s (at most); errors %v",
		l.done.Load(), time.Since(l.began).Round(time.Second), acked, doubtful, at(0.5), at(0.99), at(1), l.errors)
}
