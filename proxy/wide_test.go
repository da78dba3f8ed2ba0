package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
)

// spread is a database over three shards that one test has for itself.
type spread struct{ *rig }

const spreadSQL = `CREATE TABLE accounts (id bigint PRIMARY KEY, owner text, balance bigint NOT NULL CHECK (balance >= 0));
CREATE TABLE rates (name text PRIMARY KEY, rate numeric);
CREATE TABLE taxes (name text PRIMARY KEY, rate numeric);
CREATE TABLE notes (id int PRIMARY KEY, body text);
CREATE TABLE cards (id bigint PRIMARY KEY REFERENCES accounts DEFERRABLE INITIALLY DEFERRED, pin int);`

// spreadOptions are three shards that commit over several.
var spreadOptions = localpg.Options{Shards: 3, Settings: map[string]string{"max_prepared_transactions": "60"}}

// shards are such servers for all tests that neither stop them nor make roles there, each with a database of its own.
var shards = pgtest.Share(spreadOptions)

// newSpread makes a database over three shards, and a proxy over it.
func newSpread(t testing.TB) (*spread, *running) {
	t.Helper()
	return newSpreadWith(t, nil)
}

// newSpreadWith is newSpread with another configuration.
func newSpreadWith(t testing.TB, edit func(*proxy.Config)) (*spread, *running) {
	t.Helper()
	cluster := shards.Cluster(t)
	return spreadOver(t, cluster, pgtest.Database(t, managers(cluster)...), edit)
}

// onDatabase edits what a configuration says of its databases.
func onDatabase(edit func(*proxy.Database)) func(*proxy.Config) {
	return func(cfg *proxy.Config) {
		for name, d := range cfg.Databases {
			edit(&d)
			cfg.Databases[name] = d
		}
	}
}

// newSpreadOf is newSpreadWith with servers of its own.
func newSpreadOf(t testing.TB, options localpg.Options, edit func(*proxy.Config)) (*spread, *running) {
	t.Helper()
	cluster := pgtest.Start(t, options)
	for _, m := range managers(cluster) {
		pgtest.Exec(t, m, "postgres", "CREATE DATABASE bank")
	}
	return spreadOver(t, cluster, "bank", edit)
}

func managers(cluster *localpg.Cluster) (all []*localpg.Server) {
	for _, shard := range cluster.Shards {
		all = append(all, shard.Manager)
	}
	return all
}

// spreadOver fills a database that all servers have and starts a proxy over it.
func spreadOver(t testing.TB, cluster *localpg.Cluster, database string, edit func(*proxy.Config)) (*spread, *running) {
	t.Helper()
	s := &spread{&rig{cluster: cluster, manager: cluster.Shards[0].Manager, database: database}}
	for _, m := range managers(cluster) {
		pgtest.Exec(t, m, s.database, spreadSQL)
	}
	cfg := s.config(t)
	if edit != nil {
		edit(&cfg)
	}
	p := s.startLogged(t, cfg, zaptest.NewLogger(t, zaptest.Level(zap.WarnLevel)))
	c := p.client(t)
	eventually(t, "the catalog is read", func() bool { // statements wait for it for five seconds
		_, err := value(c, "SELECT count(*) FROM accounts")
		return err == nil
	})
	for id := range 30 {
		mustExec(t, c, fmt.Sprintf("INSERT INTO accounts VALUES (%d, 'a%d', 100)", id, id%7))
	}
	return s, p
}

func (s *spread) config(t testing.TB) proxy.Config {
	cfg := s.rig.config(t, nil)
	d := cfg.Databases[s.database]
	at := d.Shards[0].Manager
	d.Shards = nil
	for _, shard := range s.cluster.Shards {
		at.Port = uint16(shard.Manager.Port)
		d.Shards = append(d.Shards, proxy.Shard{Name: shard.Name, Manager: at})
	}
	d.Sharding.Tables = map[string]proxy.Table{"accounts": {Key: []string{"id"}}, "cards": {Key: []string{"id"}}}
	d.Sharding.Reference = []string{"rates", "taxes"}
	cfg.Databases[s.database] = d
	return cfg
}

// on runs sql on one shard and returns its first value.
func (s *spread) on(t testing.TB, shard int, sql string) string {
	t.Helper()
	return pgtest.Value(t, s.cluster.Shards[shard].Manager, s.database, sql)
}

// prepared counts the prepared transactions of all shards.
func (s *spread) prepared(t testing.TB) (n int) {
	t.Helper()
	for i := range s.cluster.Shards {
		if s.on(t, i, "SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()") != "0" {
			n++
		}
	}
	return n
}

func mustExec(t testing.TB, c *pgx.Conn, sql string, args ...any) string {
	t.Helper()
	tag, err := c.Exec(bounded(t), sql, args...)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return tag.String()
}

// apart returns two accounts on different shards.
func (s *spread) apart(t testing.TB) (a, b int) {
	t.Helper()
	on := make([]string, len(s.cluster.Shards))
	for i := range on {
		on[i] = s.on(t, i, "SELECT min(id) FROM accounts")
	}
	_, _ = fmt.Sscan(on[0], &a)
	_, _ = fmt.Sscan(on[1], &b)
	return a, b
}

func TestRowsLiveOnTheShardOfTheirKey(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	c := p.client(t)
	total := 0
	for i := range s.cluster.Shards {
		n := 0
		_, _ = fmt.Sscan(s.on(t, i, "SELECT count(*) FROM accounts"), &n)
		if n == 0 {
			t.Errorf("shard %d has no row", i)
		}
		total += n
	}
	if total != 30 {
		t.Errorf("%d rows on all shards, want 30", total)
	}
	for id := range 30 {
		wantValue(t, c, fmt.Sprintf("SELECT owner FROM accounts WHERE id = %d", id), fmt.Sprintf("a%d", id%7))
		var owner string
		if err := c.QueryRow(bounded(t), "SELECT owner FROM accounts WHERE id = $1", id).Scan(&owner); err != nil || owner != fmt.Sprintf("a%d", id%7) {
			t.Errorf("account %d: got %q, %v", id, owner, err)
		}
	}
	wantValue(t, c, "SELECT count(*) FROM accounts", "30")
	wantValue(t, c, "SELECT sum(balance) FROM accounts", "3000")
	wantValue(t, c, "SELECT string_agg(id::text, ',') FROM (SELECT id FROM accounts WHERE id = 3) x", "3")
}

func TestTransactionOverShardsIsWhole(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	a, b := s.apart(t)
	c := p.client(t)
	move := func(end string) {
		for _, sql := range []string{"BEGIN", fmt.Sprintf("UPDATE accounts SET balance = balance - 10 WHERE id = %d", a),
			fmt.Sprintf("UPDATE accounts SET balance = balance + 10 WHERE id = %d", b), end} {
			if got, want := mustExec(t, c, sql), strings.Fields(sql)[0]; !strings.HasPrefix(got, want) {
				t.Errorf("%s: tag %q", sql, got)
			}
		}
	}
	balances := func(wantA, wantB string) {
		t.Helper()
		wantValue(t, c, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", a), wantA)
		wantValue(t, c, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", b), wantB)
	}
	move("ROLLBACK")
	balances("100", "100")
	move("COMMIT")
	balances("90", "110")
	if n := s.prepared(t); n > 0 {
		t.Errorf("%d shards have prepared transactions", n)
	}

	mustExec(t, c, "BEGIN")
	mustExec(t, c, fmt.Sprintf("UPDATE accounts SET balance = balance - 10 WHERE id = %d", a))
	_, err := c.Exec(bounded(t), fmt.Sprintf("UPDATE accounts SET balance = balance - 1000 WHERE id = %d", b))
	wantError(t, err, "23514", "violates check constraint")
	_, err = c.Exec(bounded(t), "SELECT 1")
	wantError(t, err, "25P02", "current transaction is aborted")
	if tag := mustExec(t, c, "COMMIT"); tag != "ROLLBACK" {
		t.Errorf("COMMIT of a failed transaction: %q", tag)
	}
	balances("90", "110")
}

func TestSavepointsReachShardsThatJoinLater(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	a, b := s.apart(t)
	c := p.client(t)
	for _, sql := range []string{"BEGIN", "SET LOCAL work_mem = '5MB'", fmt.Sprintf("UPDATE accounts SET owner = 'x' WHERE id = %d", a), "SAVEPOINT one",
		fmt.Sprintf("UPDATE accounts SET owner = 'y' WHERE id = %d", b), "ROLLBACK TO one", fmt.Sprintf("UPDATE accounts SET balance = 1 WHERE id = %d", b)} {
		mustExec(t, c, sql)
	}
	wantValue(t, c, "SHOW work_mem", "5MB")
	mustExec(t, c, "COMMIT")
	wantValue(t, c, fmt.Sprintf("SELECT owner FROM accounts WHERE id = %d", a), "x")
	if got := mustValue(t, c, fmt.Sprintf("SELECT owner || balance FROM accounts WHERE id = %d", b)); got == "y1" || !strings.HasSuffix(got, "1") {
		t.Errorf("account behind the savepoint: %q", got)
	}
	if got := mustValue(t, c, "SHOW work_mem"); got == "5MB" {
		t.Error("SET LOCAL outlived its transaction")
	}
}

func TestSettingsFollowToEveryShard(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	a, b := s.apart(t)
	c := p.client(t)
	mustExec(t, c, "SET TimeZone = 'Asia/Tokyo'")
	for _, id := range []int{a, b} {
		wantValue(t, c, fmt.Sprintf("SELECT current_setting('TimeZone') FROM accounts WHERE id = %d", id), "Asia/Tokyo")
	}
	mustExec(t, c, "BEGIN")
	mustExec(t, c, fmt.Sprintf("UPDATE accounts SET owner = 'x' WHERE id = %d", a))
	mustExec(t, c, "SET TimeZone = 'Asia/Dubai'")
	wantValue(t, c, fmt.Sprintf("SELECT current_setting('TimeZone') FROM accounts WHERE id = %d", b), "Asia/Dubai")
	mustExec(t, c, "COMMIT")
	for _, id := range []int{a, b} {
		wantValue(t, c, fmt.Sprintf("SELECT current_setting('TimeZone') FROM accounts WHERE id = %d", id), "Asia/Dubai")
	}
}

func TestWritesToReferenceTablesReachEveryShard(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	c := p.client(t)
	if tag := mustExec(t, c, "INSERT INTO rates VALUES ('one', 1.50), ('two', 2)"); tag != "INSERT 0 2" {
		t.Errorf("tag %q", tag)
	}
	for i := range s.cluster.Shards {
		if got := s.on(t, i, "SELECT sum(rate) FROM rates"); got != "3.50" {
			t.Errorf("shard %d: %q", i, got)
		}
	}
	wantValue(t, c, "SELECT rate FROM rates WHERE name = 'one'", "1.50")
}

func TestUndeclaredTablesLiveAtHome(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	c := p.client(t)
	mustExec(t, c, "INSERT INTO notes VALUES (1, 'here')")
	wantValue(t, c, "SELECT body FROM notes", "here")
	mustExec(t, c, "SET pgtier.shard = 's1'")
	for _, sql := range []string{"INSERT INTO notes VALUES (2, 'astray')", "SELECT body FROM notes", "DELETE FROM notes"} {
		_, err := c.Exec(bounded(t), sql)
		wantError(t, err, "0A000", `table "public.notes", whose rows are on shard "s0" alone, on shard "s1"`)
	}
	mustExec(t, c, "RESET pgtier.shard")
	for i, want := range []string{"1", "0", "0"} {
		if got := s.on(t, i, "SELECT count(*) FROM notes"); got != want {
			t.Errorf("shard %d: %s rows, want %s", i, got, want)
		}
	}
}

func TestWritesSplitByKey(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	c := p.client(t)
	if tag := mustExec(t, c, "INSERT INTO accounts VALUES (100, 'n', 1), (101, 'n', 2), (102, 'n', 3), (103, 'n', 4)"); tag != "INSERT 0 4" {
		t.Errorf("tag %q", tag)
	}
	wantValue(t, c, "SELECT sum(balance) FROM accounts WHERE owner = 'n'", "10")
	if tag := mustExec(t, c, "UPDATE accounts SET balance = balance + 1 WHERE owner = $1", "n"); tag != "UPDATE 4" {
		t.Errorf("tag %q", tag)
	}
	wantValue(t, c, "SELECT sum(balance) FROM accounts WHERE owner = 'n'", "14")
	if tag := mustExec(t, c, "DELETE FROM accounts WHERE owner = 'n'"); tag != "DELETE 4" {
		t.Errorf("tag %q", tag)
	}
	_, err := c.Exec(bounded(t), "INSERT INTO accounts VALUES (200, 'm', 1), (201, 'm', 1), (202, 'm', -1), (203, 'm', 1)")
	wantError(t, err, "23514", "violates check constraint")
	wantValue(t, c, "SELECT count(*) FROM accounts WHERE owner = 'm'", "0")
	if n := s.prepared(t); n > 0 {
		t.Errorf("%d shards have prepared transactions", n)
	}
}

func TestBatchOverShardsIsOneTransaction(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	a, b := s.apart(t)
	c := p.client(t)
	batch := &pgx.Batch{}
	batch.Queue("UPDATE accounts SET balance = balance - 10 WHERE id = $1", a)
	batch.Queue("UPDATE accounts SET balance = balance + 10 WHERE id = $1", b)
	batch.Queue("SELECT count(*) FROM accounts")
	if err := c.SendBatch(bounded(t), batch).Close(); err != nil {
		t.Fatal(err)
	}
	wantValue(t, c, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", b), "110")

	batch = &pgx.Batch{}
	batch.Queue("UPDATE accounts SET balance = balance - 10 WHERE id = $1", a)
	batch.Queue("UPDATE accounts SET balance = balance - 1000 WHERE id = $1", b)
	wantError(t, c.SendBatch(bounded(t), batch).Close(), "23514", "violates check constraint")
	wantValue(t, c, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", a), "90")
}

func TestPreparedTransactionsLeftOverAreSettled(t *testing.T) {
	t.Parallel()
	s, p := newSpreadWith(t, withHTTP)
	a, b := s.apart(t)
	c := p.client(t)
	leave := func(gid string) {
		pgtest.Exec(t, s.cluster.Shards[1].Manager, s.database, fmt.Sprintf("BEGIN; UPDATE accounts SET balance = balance + 1 WHERE id = %d; PREPARE TRANSACTION 'pgtier:%s:s0:%s:s1'", b, s.database, gid))
	}
	leave("undecided")
	eventually(t, "the undecided transaction is rolled back", func() bool { return s.prepared(t) == 0 })
	wantValue(t, c, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", b), "100")
	if got := s.on(t, 0, "SELECT decision FROM pgtier.xact WHERE gid = 'pgtier:"+s.database+":s0:undecided'"); got != "abort" {
		t.Errorf("decision %q", got)
	}
	pgtest.Exec(t, s.cluster.Shards[0].Manager, s.database, fmt.Sprintf("BEGIN; UPDATE accounts SET balance = balance - 1 WHERE id = %d; INSERT INTO pgtier.xact VALUES ('pgtier:%s:s0:decided', 'commit'); COMMIT", a, s.database))
	leave("decided")
	eventually(t, "the decided transaction is committed", func() bool { return s.prepared(t) == 0 })
	wantValue(t, c, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", b), "101")
	pgtest.Exec(t, s.cluster.Shards[1].Manager, s.database, fmt.Sprintf("BEGIN; UPDATE accounts SET balance = 1 WHERE id = %d; PREPARE TRANSACTION 'pgtier:%s:gone:x:s1'", b, s.database))
	eventually(t, "what cannot be settled is told with its age", func() bool {
		found := scrape(t, p)
		return sample(t, found, "pgtier_in_doubt_transactions", "database", s.database) == 1 && sample(t, found, "pgtier_in_doubt_oldest_seconds", "database", s.database) > 0 &&
			p.ShardsOf(s.database)[0].OldestInDoubt > 0
	})
	pgtest.Exec(t, s.cluster.Shards[1].Manager, s.database, "ROLLBACK PREPARED 'pgtier:"+s.database+":gone:x:s1'")
	eventually(t, "nothing is in doubt any more", func() bool {
		found := scrape(t, p)
		return sample(t, found, "pgtier_in_doubt_transactions", "database", s.database) == 0 && sample(t, found, "pgtier_in_doubt_oldest_seconds", "database", s.database) == 0
	})
}

func TestCancelReachesAllShards(t *testing.T) {
	t.Parallel()
	_, p := newSpread(t)
	c := p.client(t)
	ctx, stop := context.WithTimeout(context.Background(), 300*time.Millisecond)
	defer stop()
	began := time.Now()
	err := c.PgConn().Exec(ctx, "SELECT count(*) FROM accounts a, generate_series(1, 2000000000) g").Close()
	if err == nil || time.Since(began) > limit {
		t.Errorf("cancelled query: %v after %s", err, time.Since(began))
	}
	eventually(t, "no shard works on it", func() bool {
		other := p.client(t)
		defer other.Close(context.Background())
		return mustValue(t, other, "SELECT sum(balance) FROM accounts") == "3000"
	})
}

func TestLostShardEndsTheTransaction(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	a, b := s.apart(t)
	c := p.client(t)
	mustExec(t, c, "BEGIN")
	mustExec(t, c, fmt.Sprintf("UPDATE accounts SET balance = balance - 10 WHERE id = %d", a))
	mustExec(t, c, fmt.Sprintf("UPDATE accounts SET balance = balance + 10 WHERE id = %d", b))
	pgtest.Exec(t, s.cluster.Shards[1].Manager, "postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+s.database+"' AND state = 'idle in transaction'")
	_, err := c.Exec(bounded(t), "COMMIT")
	if err == nil {
		t.Error("COMMIT succeeded without one of its shards")
	}
	other := p.client(t)
	wantValue(t, other, "SELECT sum(balance) FROM accounts", "3000")
	wantValue(t, other, fmt.Sprintf("SELECT balance FROM accounts WHERE id = %d", a), "100")
	eventually(t, "nothing stays prepared", func() bool { return s.prepared(t) == 0 })
	if errors.Is(err, context.DeadlineExceeded) {
		t.Error("COMMIT hung")
	}
}

func TestSettingsOfAnEarlierTransactionAreNotRepeated(t *testing.T) {
	t.Parallel()
	_, p := newSpread(t)
	c := p.client(t)
	_, err := c.Exec(bounded(t), "ROLLBACK TO SAVEPOINT none")
	wantError(t, err, "25P01", "ROLLBACK TO SAVEPOINT can only be used in transaction blocks")
	if tag := mustExec(t, c, "UPDATE accounts SET balance = balance + 0"); tag != "UPDATE 30" {
		t.Errorf("tag %q", tag)
	}
}

// TestPlansOfOneTemplateHaveTheirOwnColumns: what literals say decides which columns the shards are asked for.
func TestPlansOfOneTemplateHaveTheirOwnColumns(t *testing.T) {
	t.Parallel()
	_, p := newSpread(t)
	c := p.client(t)
	for range 2 {
		wantValue(t, c, "SELECT sum(balance + 1) FROM accounts GROUP BY id % 1 ORDER BY sum(balance + 1)", "3030")
		wantValue(t, c, "SELECT sum(balance + 1) FROM accounts GROUP BY id % 1 ORDER BY sum(balance + 2)", "3030")
		wantValue(t, c, "SELECT sum(balance + 1.5) FROM accounts GROUP BY id % 1 ORDER BY sum(balance + 1.5)", "3045.0")
		wantValue(t, c, "SELECT sum(balance + 1) / 10 + sum(balance + 1) FROM accounts", "3333.0000000000000000")
		wantValue(t, c, "SELECT sum(balance + 1) / 10 + sum(balance + 2) FROM accounts", "3363.0000000000000000")
	}
}
