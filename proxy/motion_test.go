package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
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
	"pgtier/proxy/session"
	"pgtier/proxy/shardmap"
	"pgtier/proxy/wire"
	"pgtier/router/shard"
	"pgtier/router/topology"
)

// moving moves buckets of a spread by hand.
type moving struct {
	*spread
	t   testing.TB
	m   *shardmap.Mover
	key *shard.Key
	now *shardmap.Current
}

func (s *spread) moving(t testing.TB, cfg proxy.Config, lease time.Duration) *moving {
	t.Helper()
	database := cfg.Databases[s.database]
	config, err := database.MapConfig(s.database, "mover")
	if err != nil {
		t.Fatal(err)
	}
	config.Lease = lease
	connect := func(server *localpg.Server) *pgtest.Querier {
		conn, err := pgconn.Connect(bounded(t), server.URL(s.database, "", ""))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.Background()) })
		return pgtest.NewQuerier(conn)
	}
	shards := map[shard.Name]shardmap.Querier{}
	for _, at := range s.cluster.Shards {
		shards[shard.Name(at.Name)] = connect(at.Manager)
	}
	key, err := shard.NewKey(shard.Hash, config.Buckets, shard.Column{Name: "id", Type: shard.Int8, Modifier: shard.NoModifier})
	if err != nil {
		t.Fatal(err)
	}
	m := &moving{spread: s, t: t, m: shardmap.NewMover(config, connect(s.manager), shards), key: key}
	if m.now, err = m.m.Read(bounded(t)); err != nil {
		t.Fatal(err)
	}
	return m
}

// bucket is that of an account.
func (m *moving) bucket(id int) shard.Bucket {
	m.t.Helper()
	b, err := strconv.Atoi(m.on(m.t, 0, fmt.Sprintf("SELECT %s FROM (VALUES (%d::bigint)) AS v (id)", m.key.Expression(""), id)))
	if err != nil {
		m.t.Fatal(err)
	}
	return shard.Bucket(b)
}

// change puts a motion in force, and waits until all proxies act by it.
func (m *moving) change(motion shardmap.Motion) {
	m.t.Helper()
	m.put(&shardmap.Current{Map: m.now.Map, Members: m.now.Members, Motion: motion})
}

func (m *moving) put(next *shardmap.Current) {
	m.t.Helper()
	now, err := m.m.Change(bounded(m.t), m.now, next)
	if err == nil {
		err = m.m.Await(bounded(m.t), now.Motion.Number)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	m.now = now
}

// give has a shard own buckets, with a motion.
func (m *moving) give(to shard.Name, motion shardmap.Motion, buckets ...shard.Bucket) {
	m.t.Helper()
	next, err := m.now.Map.Moved(m.now.Map.Version()+1, to, buckets...)
	if err != nil {
		m.t.Fatal(err)
	}
	m.put(&shardmap.Current{Map: next, Members: m.now.Members, Motion: motion})
}

// carry copies the rows of buckets from one shard to another, and deletes them where they were.
func (m *moving) carry(from, to int, table string, buckets []shard.Bucket) {
	m.t.Helper()
	list := make([]string, len(buckets))
	for i, b := range buckets {
		list[i] = strconv.Itoa(int(b))
	}
	where := fmt.Sprintf("%s IN (%s)", m.key.Expression(""), strings.Join(list, ","))
	rows := m.on(m.t, from, fmt.Sprintf("WITH gone AS (DELETE FROM %s WHERE %s RETURNING *) SELECT coalesce(json_agg(gone), '[]') FROM gone", table, where))
	pgtest.Exec(m.t, m.cluster.Shards[to].Manager, m.database, fmt.Sprintf("INSERT INTO %s SELECT * FROM json_populate_recordset(NULL::%s, '%s')", table, table, strings.ReplaceAll(rows, "'", "''")))
}

// started is what comes of a statement that is under way.
type started chan error

// starts runs a statement on a connection of its own.
func (p *running) starts(t testing.TB, sql string) started {
	t.Helper()
	c, done := p.client(t), make(started, 1)
	go func() { // ends with the statement
		_, err := c.Exec(bounded(t), sql)
		done <- err
	}()
	return done
}

// ends fails the test unless the statement ends well.
func (s started) ends(t testing.TB, what string) {
	t.Helper()
	select {
	case err := <-s:
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	case <-time.After(limit):
		t.Fatalf("%s: still under way after %s", what, limit)
	}
}

// held waits until so many statements are held.
func (p *running) held(t testing.TB, n int64) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d statements are held", n), func() bool { return p.SharedOf(p.database).Stats.Held.Now() == n })
}

func TestStatementsWaitForTheirBuckets(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	m := s.moving(t, s.config(t), 0)
	a, b := s.apart(t)
	update := func(id int) string { return fmt.Sprintf("UPDATE accounts SET balance = balance + 1 WHERE id = %d", id) }

	// One transaction has written to the bucket before, one to another, and one has only begun.
	inside, beside, begun := p.client(t), p.client(t), p.client(t)
	mustExec(t, inside, "BEGIN")
	mustExec(t, inside, update(a))
	mustExec(t, beside, "BEGIN")
	mustExec(t, beside, update(b))
	mustExec(t, begun, "BEGIN")

	held := []shard.Span{{First: m.bucket(a), Last: m.bucket(a)}}
	m.change(shardmap.Motion{Moving: held, Frozen: true})
	m.change(shardmap.Motion{Moving: held, Held: held, Frozen: true, Near: true})
	waiting := []started{
		p.starts(t, update(a)),
		p.starts(t, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", a)),
		p.starts(t, "SELECT count(*) FROM accounts"),
		p.starts(t, "UPDATE accounts SET balance = balance + 1 WHERE balance < 0"),
		p.starts(t, fmt.Sprintf("SELECT count(*) FROM accounts WHERE id IN (%d, %d)", a, b)),
		p.starts(t, fmt.Sprintf("BEGIN; %s; COMMIT", update(a))),
	}
	p.held(t, 6)
	canceled := p.client(t)
	failed := make(chan error, 1)
	go func() { // ends with the cancel
		_, err := canceled.Exec(bounded(t), update(a))
		failed <- err
	}()
	p.held(t, 7)
	if err := canceled.PgConn().CancelRequest(bounded(t)); err != nil {
		t.Fatal(err)
	}
	wantError(t, <-failed, "57014", "user request")
	wantValue(t, canceled, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", b), "100") // beside's is not committed

	// What touches other buckets, or no rows, goes on; so does the transaction that may be waited for.
	mustExec(t, inside, update(a))
	mustExec(t, inside, "COMMIT")
	mustExec(t, beside, update(b))
	wantValue(t, canceled, "SELECT 1", "1")
	besideWaits, begunWaits := make(started, 1), make(started, 1)
	for c, done := range map[*pgx.Conn]started{beside: besideWaits, begun: begunWaits} {
		go func() { // ends with the release
			_, err := c.Exec(bounded(t), update(a))
			if err == nil {
				_, err = c.Exec(bounded(t), "COMMIT")
			}
			done <- err
		}()
	}
	p.held(t, 8)
	m.change(shardmap.Motion{})
	besideWaits.ends(t, "in a transaction that has written to another bucket")
	begunWaits.ends(t, "the first statement of a transaction")
	for i, w := range waiting {
		w.ends(t, fmt.Sprintf("statement %d", i))
	}
	wantValue(t, canceled, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", a), "106") // inside twice, one by itself, one in a text, beside, begun
	wantValue(t, canceled, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", b), "102")
	if _, count, _ := p.SharedOf(p.database).Stats.Held.Read(); count != 9 {
		t.Errorf("%d statements are counted as held, want 9", count)
	}
}

func TestHeldReferencesAndSchema(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	m := s.moving(t, s.config(t), 0)
	c := p.client(t)
	mustExec(t, c, "INSERT INTO rates VALUES ('eur', 1)")
	m.change(shardmap.Motion{HeldReferences: true, Frozen: true, Near: true})
	writes := p.starts(t, "UPDATE rates SET rate = 2 WHERE name = 'eur'")
	p.held(t, 1)
	wantValue(t, c, "SELECT rate FROM rates WHERE name = 'eur'", "1")
	wantValue(t, c, "SELECT count(*) FROM accounts", "30")
	mustExec(t, c, "UPDATE accounts SET balance = 1 WHERE id = 1")
	m.change(shardmap.Motion{Frozen: true})
	writes.ends(t, "a write of a reference table")
	for i := range s.cluster.Shards {
		if got := s.on(t, i, "SELECT rate FROM rates"); got != "2" {
			t.Errorf("shard %d has rate %s", i, got)
		}
	}
	for _, sql := range []string{"ALTER TABLE accounts ADD COLUMN more int", "CREATE TABLE others (id int)", "TRUNCATE cards"} {
		_, err := c.Exec(bounded(t), sql)
		wantError(t, err, "55006", "")
	}
	m.change(shardmap.Motion{})
	mustExec(t, c, "ALTER TABLE accounts ADD COLUMN more int")
}

func TestHeldStatementsDoNotWaitForever(t *testing.T) {
	t.Parallel()
	s, p := newSpreadOf(t, localpg.Options{Shards: 2, Settings: map[string]string{"max_prepared_transactions": "20"}}, func(cfg *proxy.Config) {
		for name, d := range cfg.Databases {
			d.Failover.Wait = 200 * time.Millisecond
			cfg.Databases[name] = d
		}
	})
	m := s.moving(t, s.config(t), 0)
	all := []shard.Span{{First: 0, Last: 1023}}
	c, inside := p.client(t), p.client(t)
	mustExec(t, inside, "BEGIN")
	wantValue(t, inside, "SELECT count(*) FROM accounts", "30")
	m.change(shardmap.Motion{Moving: all, Held: all})
	for _, sql := range []string{"UPDATE accounts SET balance = 1 WHERE id = 1", "SELECT count(*) FROM accounts"} {
		_, err := c.Exec(bounded(t), sql)
		wantError(t, err, "57P03", "the rows of this statement are being moved to another shard")
		_, err = c.Exec(bounded(t), sql, pgx.QueryExecModeExec)
		wantError(t, err, "57P03", "the rows of this statement are being moved to another shard")
	}
	_, err := inside.Exec(bounded(t), "SELECT balance FROM accounts WHERE id = 1")
	wantError(t, err, "57P03", "being moved")
	mustExec(t, inside, "ROLLBACK")
	m.change(shardmap.Motion{})
	wantValue(t, c, "SELECT count(*) FROM accounts", "30")
	wantValue(t, inside, "SELECT count(*) FROM accounts", "30")
}

// TestWhatWaitedForAConnectionIsPlannedAgain has statements wait for the only connection to a shard while their bucket leaves it.
func TestWhatWaitedForAConnectionIsPlannedAgain(t *testing.T) {
	t.Parallel()
	s, p := newSpreadOf(t, localpg.Options{Shards: 2, Settings: map[string]string{"max_prepared_transactions": "20"}}, func(cfg *proxy.Config) {
		for name, d := range cfg.Databases {
			d.Pool.Size = 1
			cfg.Databases[name] = d
		}
	})
	m := s.moving(t, s.config(t), 0)
	a, _ := s.apart(t)
	bucket := m.bucket(a)
	var other int // on s0 too
	_, _ = fmt.Sscan(s.on(t, 0, fmt.Sprintf("SELECT min(id) FROM accounts WHERE %s <> %d", m.key.Expression(""), bucket)), &other)
	c := p.client(t)
	mustExec(t, c, "BEGIN")
	mustExec(t, c, fmt.Sprintf("UPDATE accounts SET balance = balance + 1 WHERE id = %d", other))
	update := fmt.Sprintf("UPDATE accounts SET balance = balance + 1 WHERE id = %d", a)
	waiting := []started{p.starts(t, update), p.starts(t, update+fmt.Sprintf(" OR id = %d", other+1000000)), p.starts(t, "SELECT count(*) FROM accounts")}
	eventually(t, "all wait for the connection", func() bool {
		n := 0
		for _, at := range p.Sessions() {
			if at.Info().State == session.StateWaiting {
				n++
			}
		}
		return n == len(waiting)
	})
	span := []shard.Span{{First: bucket, Last: bucket}}
	m.change(shardmap.Motion{Moving: span, Held: span, Near: true})
	m.carry(0, 1, "accounts", []shard.Bucket{bucket})
	m.give("s1", shardmap.Motion{}, bucket)
	mustExec(t, c, "COMMIT")
	for i, w := range waiting {
		w.ends(t, fmt.Sprintf("statement %d", i))
	}
	wantValue(t, c, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", a), "102")
	wantValue(t, c, "SELECT count(*) FROM accounts", "30")

	// A read of all shards waits, while rows are copied of which nothing was said when it began.
	mustExec(t, c, "BEGIN")
	mustExec(t, c, fmt.Sprintf("UPDATE accounts SET balance = balance + 1 WHERE id = %d", other))
	reader := p.client(t)
	counted := make(chan string, 1)
	go func() { // ends with the statement
		got, err := value(reader, "SELECT count(*) FROM accounts")
		if err != nil {
			got = err.Error()
		}
		counted <- got
	}()
	eventually(t, "it waits for the connection", func() bool {
		for _, at := range p.Sessions() {
			if at.Info().State == session.StateWaiting {
				return true
			}
		}
		return false
	})
	bucket = m.bucket(other)
	m.change(shardmap.Motion{Moving: []shard.Span{{First: bucket, Last: bucket}}})
	pgtest.Exec(t, s.cluster.Shards[1].Manager, s.database, fmt.Sprintf("INSERT INTO accounts VALUES (%d, 'a copy', 0)", other))
	mustExec(t, c, "COMMIT")
	if got := <-counted; got != "30" {
		t.Errorf("with a copy of a row on another shard: got %s, want 30", got)
	}
}

// guardSQL is a fence as the mover has it, for every row of a table: it refuses while the sequence says so.
const guardSQL = `CREATE SEQUENCE fence MINVALUE 0 START 0;
CREATE FUNCTION fenced() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN
	IF (SELECT last_value FROM fence) <> 0 THEN RAISE EXCEPTION 'moved' USING ERRCODE = 'PT001'; END IF;
	RETURN coalesce(NEW, OLD);
END$$;
CREATE TRIGGER zzz_pgtier_guard BEFORE INSERT OR UPDATE OR DELETE ON accounts FOR EACH ROW EXECUTE FUNCTION fenced();`

// TestFencedStatementsGoToTheNewOwner has a fence refuse what a proxy sends that has not heard of the move yet.
func TestFencedStatementsGoToTheNewOwner(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	m := s.moving(t, s.config(t), 0)
	a, b := s.apart(t) // on s0 and on s1
	c := p.client(t)
	wantValue(t, c, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", a), "100")
	pgtest.Exec(t, s.cluster.Shards[0].Manager, s.database, guardSQL)
	var third int
	_, _ = fmt.Sscan(s.on(t, 2, "SELECT min(id) FROM accounts"), &third)

	inside, wide := p.client(t), p.client(t)
	mustExec(t, inside, "BEGIN")
	wantValue(t, inside, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", a), "100")
	mustExec(t, wide, "BEGIN")
	mustExec(t, wide, fmt.Sprintf("UPDATE accounts SET balance = balance + 1 WHERE id = %d", b))

	bucket := m.bucket(a)
	m.change(shardmap.Motion{Moving: []shard.Span{{First: bucket, Last: bucket}}})
	pgtest.Exec(t, s.cluster.Shards[0].Manager, s.database, "SELECT setval('fence', 1)")
	_, err := inside.Exec(bounded(t), fmt.Sprintf("UPDATE accounts SET balance = balance + 1 WHERE id = %d", a))
	wantError(t, err, "40001", "rows of this transaction have moved to another shard")
	mustExec(t, inside, "ROLLBACK")
	_, err = wide.Exec(bounded(t), fmt.Sprintf("UPDATE accounts SET balance = balance + 1 WHERE id = %d", a))
	wantError(t, err, "40001", "rows of this transaction have moved to another shard")
	mustExec(t, wide, "ROLLBACK")

	waiting := []started{
		p.starts(t, fmt.Sprintf("UPDATE accounts SET balance = balance + 1 WHERE id = %d", a)),
		p.starts(t, fmt.Sprintf("UPDATE accounts SET balance = balance + 1 WHERE id IN (%d, %d)", a, third)),
	}
	extended, transaction := p.client(t), p.client(t)
	for _, run := range []func() error{
		func() error {
			_, err := extended.Exec(bounded(t), "UPDATE accounts SET balance = balance + 1 WHERE id = $1", a)
			return err
		},
		func() error {
			tx, err := transaction.Begin(bounded(t))
			if err != nil {
				return err
			}
			if _, err := tx.Exec(bounded(t), fmt.Sprintf("UPDATE accounts SET balance = balance + 1 WHERE id = %d", a)); err != nil {
				return err
			}
			return tx.Commit(bounded(t))
		},
	} {
		done := make(started, 1)
		waiting = append(waiting, done)
		go func() { done <- run() }() // ends with the statement
	}
	p.held(t, 4)
	// The mover: what stands at the source goes to the target, which then owns it.
	pgtest.Exec(t, s.cluster.Shards[0].Manager, s.database, "SELECT setval('fence', 0)")
	m.carry(0, 1, "accounts", []shard.Bucket{bucket})
	m.give("s1", shardmap.Motion{}, bucket)
	for i, w := range waiting {
		w.ends(t, fmt.Sprintf("statement %d", i))
	}
	wantValue(t, c, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", a), "104")
	wantValue(t, c, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", b), "100")
	wantValue(t, c, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", third), "101")
	if got := s.on(t, 1, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", a)); got != "104" {
		t.Errorf("the new owner has %s", got)
	}
}

// TestMessagesWithoutSyncWait has a pipeline without Sync, inside a transaction, come to a held bucket: what came before it is answered meanwhile.
func TestMessagesWithoutSyncWait(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	m := s.moving(t, s.config(t), 0)
	a, _ := s.apart(t)
	bucket := m.bucket(a)
	var other int // on s0 too
	_, _ = fmt.Sscan(s.on(t, 0, fmt.Sprintf("SELECT min(id) FROM accounts WHERE %s <> %d", m.key.Expression(""), bucket)), &other)
	c := p.client(t)
	mustExec(t, c, "BEGIN")
	wantValue(t, c, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", other), "100")
	span := []shard.Span{{First: bucket, Last: bucket}}
	m.change(shardmap.Motion{Moving: span, Held: span, Near: true})

	pipeline := c.PgConn().StartPipeline(bounded(t))
	result := func(want string) {
		t.Helper()
		got, err := pipeline.GetResults()
		if err != nil {
			t.Fatal(err)
		}
		tag, err := got.(*pgconn.ResultReader).Close()
		if err != nil || tag.String() != want {
			t.Fatalf("got %q, %v, want %q", tag, err, want)
		}
	}
	ask := func(id int) {
		t.Helper()
		pipeline.SendQueryParams("UPDATE accounts SET balance = balance + 1 WHERE id = $1::bigint", [][]byte{[]byte(strconv.Itoa(id))}, nil, nil, nil)
		pipeline.SendFlushRequest()
		if err := pipeline.Flush(); err != nil {
			t.Fatal(err)
		}
	}
	ask(other)
	result("UPDATE 1")
	ask(other)
	ask(a)
	result("UPDATE 1")
	p.held(t, 1)
	m.change(shardmap.Motion{})
	result("UPDATE 1")
	if err := errors.Join(pipeline.Sync(), pipeline.Close()); err != nil {
		t.Fatal(err)
	}
	mustExec(t, c, "COMMIT")
	wantValue(t, c, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", a), "101")
	wantValue(t, c, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", other), "102")
}

// TestCopyUnderWayEndsAtTheFence has a COPY begin before its buckets are held. It goes on, and the fence decides.
func TestCopyUnderWayEndsAtTheFence(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	m := s.moving(t, s.config(t), 0)
	pgtest.Exec(t, s.cluster.Shards[0].Manager, s.database, guardSQL)
	all := []shard.Span{{First: 0, Last: 1023}}
	for _, fence := range []int{0, 1} {
		rows, feed := io.Pipe()
		done := make(started, 1)
		c := p.client(t)
		go func() { // ends with the rows
			_, err := c.PgConn().CopyFrom(bounded(t), rows, "COPY accounts FROM STDIN")
			_ = rows.Close()
			done <- err
		}()
		row := func(id int) {
			// Much of it, so that it is sent.
			if _, err := fmt.Fprintf(feed, "%d\t%s\t0\n", id, strings.Repeat("x", 40_000)); err != nil {
				t.Error(err)
			}
		}
		for id := range 50 {
			row(1000*(fence+1) + id)
		}
		m.change(shardmap.Motion{Moving: all, Held: all, Near: true})
		pgtest.Exec(t, s.cluster.Shards[0].Manager, s.database, fmt.Sprintf("SELECT setval('fence', %d)", fence))
		waits := p.starts(t, "COPY accounts TO STDOUT")
		for id := range 50 {
			row(1000*(fence+1) + 100 + id)
		}
		_ = feed.Close()
		err := <-done
		if fence == 0 && err != nil {
			t.Errorf("without a fence: %v", err)
		}
		if fence == 1 {
			wantError(t, err, "40001", "rows of this transaction have moved to another shard")
		}
		pgtest.Exec(t, s.cluster.Shards[0].Manager, s.database, "SELECT setval('fence', 0)")
		m.change(shardmap.Motion{})
		waits.ends(t, "a COPY that began behind the hold")
	}
	wantValue(t, p.client(t), "SELECT count(*) FROM accounts", "130")
}

// load has clients work with accounts until it is ended. Each account belongs to one client, who knows what it has to show.
type load struct {
	stop    atomic.Bool
	working sync.WaitGroup
	added   [30]atomic.Int64
	runs    atomic.Int64
}

func (l *load) begin(t *testing.T, p *running, clients int) {
	for i := range clients {
		c := p.client(t)
		l.working.Go(func() { // ends with stop
			for round := 0; !l.stop.Load() && !t.Failed(); round++ {
				for id := i; id < 30; id += clients {
					if err := l.work(c, id, round); err != nil {
						t.Errorf("account %d, round %d: %v", id, round, err)
						return
					}
					l.runs.Add(1)
				}
			}
		})
	}
}

// work adds to an account in one of several ways, and reads what it has then.
func (l *load) work(c *pgx.Conn, id, round int) error {
	ctx, stop := context.WithTimeout(context.Background(), limit)
	defer stop()
	const update = "UPDATE accounts SET balance = balance + 1 WHERE id = $1"
	switch round % 3 {
	case 0:
		if tag, err := c.Exec(ctx, update, id); err != nil || tag.RowsAffected() != 1 {
			return fmt.Errorf("update of %d rows: %w", tag.RowsAffected(), err)
		}
	case 1:
		tx, err := c.Begin(ctx)
		if err != nil {
			return err
		}
		if tag, err := tx.Exec(ctx, update, id); err != nil || tag.RowsAffected() != 1 {
			return fmt.Errorf("update of %d rows in a transaction: %w", tag.RowsAffected(), err)
		}
		if err := tx.Commit(ctx); err != nil {
			return fmt.Errorf("commit: %w", err)
		}
	case 2:
		if _, err := value(c, fmt.Sprintf("UPDATE accounts SET balance = balance + 1 WHERE id = %d", id)); err != nil {
			return fmt.Errorf("update by a simple query: %w", err)
		}
		var n int64
		if err := c.QueryRow(ctx, "SELECT count(*) FROM accounts").Scan(&n); err != nil || n != 30 {
			return fmt.Errorf("%d accounts: %w", n, err)
		}
	}
	want := l.added[id].Add(1) + 100
	var got int64
	if err := c.QueryRow(ctx, "SELECT balance FROM accounts WHERE id = $1", id).Scan(&got); err != nil || got != want {
		return fmt.Errorf("balance %d, want %d: %w", got, want, err)
	}
	return nil
}

func (l *load) end(t *testing.T, p *running) {
	t.Helper()
	l.stop.Store(true)
	l.working.Wait()
	sum := int64(30 * 100)
	for i := range l.added {
		sum += l.added[i].Load()
	}
	wantValue(t, p.client(t), "SELECT sum(balance) FROM accounts", fmt.Sprint(sum))
}

// more waits until the load has gone on for a while.
func (l *load) more(t *testing.T) {
	t.Helper()
	from := l.runs.Load()
	eventually(t, "clients work", func() bool { return t.Failed() || l.runs.Load() > from+60 })
}

// TestBucketsMoveUnderLoad adds a shard to a running proxy, which changes nothing, has it join, and moves buckets there and back by hand while they are held.
func TestBucketsMoveUnderLoad(t *testing.T) {
	t.Parallel()
	var whole proxy.Config
	s, p := newSpreadWith(t, func(cfg *proxy.Config) {
		cfg.HTTP = "127.0.0.1:0"
		whole = *cfg
		cfg.Databases = map[string]proxy.Database{}
		for name, d := range whole.Databases {
			d.Shards = d.Shards[:2]
			cfg.Databases[name] = d
		}
	})
	// A third shard that has nothing.
	empty := s.cluster.Shards[2].Manager
	pgtest.Exec(t, empty, s.database, "DROP TABLE cards, accounts, rates, taxes, notes")
	var l load
	l.begin(t, p, 6)
	l.more(t)
	if err := p.Reload(whole); err != nil {
		t.Fatal(err)
	}
	l.more(t)
	c := p.client(t)
	mustExec(t, c, "INSERT INTO rates VALUES ('eur', 1)")
	mustExec(t, c, "CREATE TABLE more (id bigint PRIMARY KEY, rate text)")
	mustExec(t, c, "CREATE INDEX ON accounts (owner)")
	mustExec(t, c, "TRUNCATE cards")
	wantValue(t, c, "SELECT count(*) FROM accounts", "30")
	wantValue(t, c, "SELECT pgtier.next_id() IS NOT NULL", "t")
	_, err := c.Exec(bounded(t), "/* pgtier: shard=s2 */ SELECT 1")
	if err == nil {
		t.Error("a statement went to a shard that has not joined")
	}
	if got := s.on(t, 2, "SELECT count(*) FROM pg_tables WHERE schemaname = 'public'"); got != "0" {
		t.Errorf("the new shard has %s tables", got)
	}
	m := s.moving(t, whole, 0)
	if fmt.Sprint(m.now.Members) != "[s0 s1]" {
		t.Errorf("members %v", m.now.Members)
	}
	eventually(t, "SHOW SHARDS shows that it has not joined", func() bool {
		for _, at := range p.ShardsOf(p.database) {
			if at.Name == "s2" {
				return !at.Member && strings.HasPrefix(at.Fault, "not joined")
			}
		}
		return false
	})

	// It joins.
	m.change(shardmap.Motion{Frozen: true, HeldReferences: true, Near: true})
	pgtest.Exec(t, empty, s.database, spreadSQL+"INSERT INTO rates VALUES ('eur', 1); CREATE TABLE more (id bigint PRIMARY KEY, rate text); CREATE INDEX ON accounts (owner)")
	same, err := m.now.Map.Moved(m.now.Map.Version()+1, "s0")
	if err != nil {
		t.Fatal(err)
	}
	m.put(&shardmap.Current{Map: same, Members: []shard.Name{"s0", "s1", "s2"}})
	mustExec(t, c, "UPDATE rates SET rate = 3")
	if got := s.on(t, 2, "SELECT rate FROM rates"); got != "3" {
		t.Errorf("the new member has rate %s", got)
	}
	l.more(t)

	// Half of s1's buckets go there, and come back.
	owned := m.now.Map.Buckets("s1")
	half := owned[:len(owned)/2]
	spans := shard.SpansOf(half...)
	for _, move := range []struct {
		from, to int
		name     shard.Name
	}{{1, 2, "s2"}, {2, 1, "s1"}, {1, 2, "s2"}} {
		m.change(shardmap.Motion{Moving: spans, Frozen: true})
		l.more(t)
		m.change(shardmap.Motion{Moving: spans, Held: spans, Frozen: true, Near: true})
		eventually(t, "no transaction is under way there", func() bool {
			return s.on(t, move.from, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()") == "0"
		})
		m.carry(move.from, move.to, "accounts", half)
		m.give(move.name, shardmap.Motion{}, half...)
		l.more(t)
	}
	l.end(t, p)
	if n := s.on(t, 2, "SELECT count(*) FROM accounts"); n == "0" {
		t.Error("the new shard has no rows")
	}
	if upTo, count, seconds := p.SharedOf(p.database).Stats.Held.Read(); count == 0 || seconds <= 0 || upTo[30] == 0 {
		t.Errorf("%d statements were held for %g s", count, seconds)
	}
	found := scrape(t, p)
	if h := found["pgtier_held_seconds"]; h == nil || h.Metric[0].GetHistogram().GetSampleCount() == 0 {
		t.Errorf("pgtier_held_seconds: %v", h)
	}
	for name, want := range map[string]float64{"pgtier_statements_held": 0, "pgtier_proxies": 1, "pgtier_motion_number": float64(m.now.Motion.Number), "pgtier_map_version": float64(m.now.Map.Version())} {
		if got := sample(t, found, name); got != want {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
}

// TestStaleProxyStops cuts a proxy off from its control database: it stops while another goes on, before that one is told that it has.
func TestStaleProxyStops(t *testing.T) {
	t.Parallel()
	const lease = 1500 * time.Millisecond
	s, _ := newSpread(t)
	control := newCutter(t, s.cluster.Shards[0].Manager.Address())
	cfg := s.config(t)
	cfg.Control = s.url(t, "postgres", s.cluster.Password, "sslmode=disable")
	away := cfg
	away.Control = addressed(away.Control, control.listener.Addr().String())
	stale, fresh := s.start(t, away, proxy.WithLease(lease)), s.start(t, cfg, proxy.WithLease(lease))
	m := s.moving(t, cfg, lease)
	a, _ := s.apart(t)
	read := fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", a)
	c, inside := stale.client(t), stale.client(t)
	wantValue(t, c, read, "100")
	wantValue(t, fresh.client(t), read, "100")

	// While nothing moves the shards' managers let it go on.
	_ = control.listener.Close()
	control.cut(1)
	for end := time.Now().Add(3 * lease); time.Now().Before(end); time.Sleep(lease / 20) {
		if _, err := value(c, "SELECT 1"); err != nil {
			t.Logf("a busy machine: %v", err) // the managers were asked too late
		}
	}
	eventually(t, "it goes on without control", func() bool { got, err := value(c, read); return err == nil && got == "100" })
	mustExec(t, inside, "BEGIN")
	wantValue(t, inside, read, "100")

	bucket := m.bucket(a)
	span := []shard.Span{{First: bucket, Last: bucket}}
	m.change(shardmap.Motion{Moving: span}) // waits for it
	if n := stale.MapState(s.database).Motion.Number; n != 0 {
		t.Errorf("it has heard of motion %d", n)
	}
	_, err := value(c, read)
	wantError(t, err, "57P03", "the control database does not answer")
	_, err = value(c, "SELECT count(*) FROM accounts")
	wantError(t, err, "57P03", "the control database does not answer")
	_, err = value(inside, read)
	wantError(t, err, "57P03", "the control database does not answer")
	mustExec(t, inside, "ROLLBACK")
	wantValue(t, fresh.client(t), read, "100")
	m.carry(0, 1, "accounts", []shard.Bucket{bucket})
	m.give("s1", shardmap.Motion{}, bucket)
	wantValue(t, fresh.client(t), read, "100")
	_, err = value(c, read)
	wantError(t, err, "57P03", "the control database does not answer")
}

// addressed is a server at another address.
func addressed(server topology.Server, address string) topology.Server {
	host, port, _ := strings.Cut(address, ":")
	n, _ := strconv.ParseUint(port, 10, 16)
	server.Host, server.Port = host, uint16(n)
	return server
}

// TestReplicasOfWinnersAreCaughtUp holds a replica back while its shard wins a bucket: no read at any level misses the rows there.
func TestReplicasOfWinnersAreCaughtUp(t *testing.T) {
	t.Parallel()
	s, p := newSpreadCrew(t, func(d *proxy.Database) { d.Reads.Consistency = "eventual" })
	m := s.moving(t, s.config(t), 0)
	a, b := s.apart(t)
	c := p.client(t)
	read := func(id int) string { return fmt.Sprintf("SELECT count(*) FROM accounts WHERE id = %d", id) }
	eventually(t, "reads of the target go to its replica", func() bool {
		wantValue(t, c, read(b), "1")
		return strings.Contains(mustValue(t, c, "SHOW pgtier.last_route"), "replica s1-r1")
	})
	replica := s.cluster.Shards[1].Replicas[0]
	pgtest.Exec(t, replica, "postgres", "SELECT pg_wal_replay_pause()")
	bucket := m.bucket(a)
	span := []shard.Span{{First: bucket, Last: bucket}}
	m.change(shardmap.Motion{Moving: span, Held: span, Near: true})
	m.carry(0, 1, "accounts", []shard.Bucket{bucket})
	m.give("s1", shardmap.Motion{}, bucket)
	for range 20 {
		wantValue(t, c, read(a), "1")
		wantValue(t, c, "SELECT count(*) FROM accounts", "30")
	}
	pgtest.Exec(t, replica, "postgres", "SELECT pg_wal_replay_resume()")
	eventually(t, "reads of the target go to its replica again", func() bool {
		wantValue(t, c, read(a), "1")
		return strings.Contains(mustValue(t, c, "SHOW pgtier.last_route"), "replica s1-r1")
	})
}

// TestReplicasChosenBeforeAMoveAreChosenAgain moves a bucket to a shard whose replica a read of all shards has chosen, while it waits for a connection to another.
func TestReplicasChosenBeforeAMoveAreChosenAgain(t *testing.T) {
	t.Parallel()
	s, p := newSpreadCrew(t, func(d *proxy.Database) {
		d.Reads.Consistency, d.Shards[1].Replicas, d.Pool.Size = "eventual", nil, 1
	})
	m := s.moving(t, s.config(t), 0)
	_, b := s.apart(t)
	replica := s.cluster.Shards[0].Replicas[0]
	holder, c := p.client(t), p.client(t)
	const sql = "SELECT count(*) FROM accounts"
	eventually(t, "reads of all shards go to the replica", func() bool {
		wantValue(t, c, sql, "30")
		return pgtest.Value(t, replica, "postgres", "SELECT count(*) FROM pg_stat_activity WHERE datname = 'bank' AND query LIKE 'SELECT count%'") == "1"
	})
	pgtest.Exec(t, replica, "postgres", "SELECT pg_wal_replay_pause()")
	defer pgtest.Exec(t, replica, "postgres", "SELECT pg_wal_replay_resume()")
	mustExec(t, holder, "BEGIN")
	wantValue(t, holder, fmt.Sprintf("SELECT count(*) FROM accounts WHERE id = %d", b), "1")
	got := answer(c, sql)
	eventually(t, "the read waits for the other shard", func() bool { return p.Lent() == 2 })
	bucket := m.bucket(b)
	m.change(shardmap.Motion{Moving: shard.SpansOf(bucket), Held: shard.SpansOf(bucket), Near: true})
	m.carry(1, 0, "accounts", []shard.Bucket{bucket})
	m.give("s0", shardmap.Motion{}, bucket)
	mustExec(t, holder, "COMMIT")
	if n := <-got; n != "30" {
		t.Errorf("counted %s of 30 rows", n)
	}
}

// TestLocksThatMeetTheFenceAreTakenAtTheNewOwner has transactions lock rows of a group that the shard has ceased to own, before their proxy has heard of that.
func TestLocksThatMeetTheFenceAreTakenAtTheNewOwner(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	m := s.moving(t, s.config(t), 0)
	a, b := s.apart(t) // on s0 and on s1
	pgtest.Exec(t, s.cluster.Shards[0].Manager, s.database, "CREATE SEQUENCE pgtier.register_7 MINVALUE 0; SELECT setval('pgtier.register_7', 2)")
	bucket := m.begins(a)
	locks := fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d FOR UPDATE", a)

	inside, late, level := p.client(t), p.client(t), p.client(t)
	mustExec(t, late, "BEGIN")
	wantValue(t, late, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", a), "100")
	mustExec(t, level, "BEGIN")
	_, err := level.Exec(bounded(t), "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; "+locks)
	wantError(t, err, "0A000", "cannot share a request with SET TRANSACTION")
	mustExec(t, level, "ROLLBACK")
	mustExec(t, level, "BEGIN; SET TRANSACTION ISOLATION LEVEL SERIALIZABLE; "+locks)
	wantValue(t, level, "SHOW transaction_isolation", "serializable")
	mustExec(t, level, "COMMIT")
	wantValue(t, inside, locks, "100")

	pgtest.Exec(t, s.cluster.Shards[0].Manager, s.database, "SELECT setval('pgtier.register_7', 1)")
	_, err = late.Exec(bounded(t), locks)
	wantError(t, err, "40001", "rows of this transaction have moved to another shard")
	mustExec(t, late, "ROLLBACK")
	var waiting []started
	for _, sql := range [][2]string{
		{"BEGIN", locks},
		{"BEGIN ISOLATION LEVEL SERIALIZABLE", locks},
		{"BEGIN", fmt.Sprintf("SELECT balance FROM accounts WHERE id IN (%d, %d) FOR UPDATE", a, b)},
	} {
		c, done := p.client(t), make(started, 1)
		waiting = append(waiting, done)
		go func() { // ends with the transaction
			var err error
			for _, sql := range append(sql[:], "COMMIT") {
				if err == nil {
					_, err = c.Exec(bounded(t), sql)
				}
			}
			done <- err
		}()
	}
	p.held(t, int64(len(waiting)))
	m.carry(0, 1, "accounts", []shard.Bucket{bucket})
	m.give("s1", shardmap.Motion{}, bucket)
	for i, w := range waiting {
		w.ends(t, fmt.Sprintf("transaction %d", i))
	}
}

// TestCursorsAndCopiesHaveRowsStay has code lock rows of a group that moves, or what stands for them: in cursors that were declared before it did, and in triggers of a COPY to several shards.
func TestCursorsAndCopiesHaveRowsStay(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	m := s.moving(t, s.config(t), 0)
	a, b := s.apart(t) // on s0 and on s1
	c := p.client(t)
	mustExec(t, c, `CREATE FUNCTION takes(account int8) RETURNS int8 LANGUAGE plpgsql AS $$ BEGIN PERFORM FROM accounts WHERE id = account FOR UPDATE; RETURN account; END $$`)
	mustExec(t, c, `CREATE FUNCTION taking() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_advisory_xact_lock(hashtext(NEW.owner)); RETURN NEW; END $$`)
	mustExec(t, c, "CREATE TRIGGER taking AFTER INSERT ON accounts FOR EACH ROW EXECUTE FUNCTION taking()")
	pgtest.Exec(t, s.cluster.Shards[0].Manager, s.database, "CREATE SEQUENCE pgtier.register_7 MINVALUE 0; SELECT setval('pgtier.register_7', 2)")

	declares := fmt.Sprintf("/* pgtier: shard=s0 */ DECLARE c CURSOR FOR SELECT takes(%d)", a)
	one, several := p.client(t), p.client(t)
	mustExec(t, one, "BEGIN")
	mustExec(t, one, declares)
	mustExec(t, several, "BEGIN")
	mustExec(t, several, fmt.Sprintf("UPDATE accounts SET balance = balance + 1 WHERE id = %d", b))
	mustExec(t, several, declares)
	mustExec(t, c, fmt.Sprintf("CREATE FUNCTION opens(c refcursor) RETURNS refcursor LANGUAGE plpgsql AS $$ BEGIN OPEN c FOR SELECT takes(%d); RETURN c; END $$", a))
	opened := p.client(t)
	mustExec(t, opened, "BEGIN")
	mustExec(t, opened, "/* pgtier: shard=s0 */ SELECT opens('c')")
	var none msgs
	takes := fmt.Sprintf("/* pgtier: shard=s0 */ SELECT takes($1) FROM generate_series(%d, %d)", a, a)
	resumes, behind, reads := p.rawDial(t, wire.Protocol30), p.rawDial(t, wire.Protocol30), p.rawDial(t, wire.Protocol30)
	for c, sql := range map[*rawClient]string{resumes: takes, behind: takes, reads: "SELECT balance FROM accounts WHERE id = $1"} {
		c.send(t, none.query("BEGIN"))
		c.send(t, none.parse("", sql).portal("p", "", strconv.Itoa(a)).sync())
	}
	m.begins(a)
	for what, at := range map[string]*pgx.Conn{"a cursor": one, "a cursor that a function has opened": opened, "a cursor beside a write of another shard": several} {
		wantValue(t, at, "FETCH c", strconv.Itoa(a))
		m.stays(what)
		mustExec(t, at, "COMMIT")
	}
	resumes.send(t, none.execute("p").sync())
	m.stays("a portal")
	resumes.send(t, none.query("COMMIT"))
	behind.write(t, none.parse("", "SELECT 1").run("").flush())
	for kind := byte(0); kind != wire.MsgCommandComplete; {
		var err error
		if kind, _, err = behind.message(); err != nil {
			t.Fatal(err)
		}
	}
	behind.write(t, none.execute("p").sync())
	behind.wantFarewell(t, wire.CodeFeatureNotSupported)
	reads.send(t, none.execute("p").sync())
	m.stay("a portal that only reads", "0")
	mustExec(t, c, "BEGIN")
	if _, err := c.PgConn().CopyFrom(bounded(t), strings.NewReader("1001\tx\t0\n1002\tx\t0\n1003\tx\t0\n1004\tx\t0\n1005\tx\t0\n1006\tx\t0\n"), "COPY accounts FROM STDIN"); err != nil {
		t.Fatal(err)
	}
	m.stays("COPY")
	mustExec(t, c, "COMMIT")
}

// TestAdvisoryLocksForAKeyHaveItsRowsStay has a hint and a setting name the key that an advisory lock is for: others come to it by the same key.
func TestAdvisoryLocksForAKeyHaveItsRowsStay(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	m := s.moving(t, s.config(t), 0)
	a, _ := s.apart(t)
	m.begins(a)
	hinted, set := p.client(t), p.client(t)
	mustExec(t, set, fmt.Sprintf("SET pgtier.sharding_key = '%d'", a))
	for c, sql := range map[*pgx.Conn]string{hinted: fmt.Sprintf("/* pgtier: sharding_key=%d */ SELECT pg_advisory_xact_lock(5)", a), set: "SELECT pg_advisory_xact_lock(5)"} {
		mustExec(t, c, "BEGIN")
		mustExec(t, c, sql)
		m.stays(sql)
		mustExec(t, c, "COMMIT")
	}
}

// TestCodeIsLookedAtAgainWhenBucketsMove changes a function past the proxy right before buckets move: it locks rows now.
func TestCodeIsLookedAtAgainWhenBucketsMove(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	m := s.moving(t, s.config(t), 0)
	a, _ := s.apart(t)
	c := p.client(t)
	const function = "CREATE OR REPLACE FUNCTION takes(account int8) RETURNS int8 LANGUAGE plpgsql AS $$ BEGIN PERFORM FROM accounts WHERE id = account%s; RETURN account; END $$"
	mustExec(t, c, fmt.Sprintf(function, ""))
	takes := fmt.Sprintf("/* pgtier: shard=s0 */ SELECT takes(%d)", a)
	wantValue(t, c, takes, strconv.Itoa(a))
	for _, at := range managers(s.cluster) {
		pgtest.Exec(t, at, s.database, fmt.Sprintf(function, " FOR UPDATE"))
	}
	m.begins(a)
	mustExec(t, c, "BEGIN")
	wantValue(t, c, takes, strconv.Itoa(a))
	m.stays("a function that was changed")
	mustExec(t, c, "COMMIT")
}

// begins has the bucket of an account move, as group 7.
func (m *moving) begins(account int) shard.Bucket {
	m.t.Helper()
	bucket := m.bucket(account)
	span := []shard.Span{{First: bucket, Last: bucket}}
	m.change(shardmap.Motion{Moving: span, Groups: []shardmap.Group{{Number: 7, Spans: span}}})
	return bucket
}

// stays fails the test unless one transaction on s0 has the rows of group 7 stay.
func (m *moving) stays(what string) {
	m.t.Helper()
	m.stay(what, "1")
}

// stay wants so many transactions to have asked for that.
func (m *moving) stay(what, want string) {
	m.t.Helper()
	if n := m.on(m.t, 0, fmt.Sprintf("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND classid = %d AND objid = 7 AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())", shardmap.GuardClass)); n != want {
		m.t.Errorf("%s: %s transactions have the rows of the group stay, want %s", what, n, want)
	}
}
