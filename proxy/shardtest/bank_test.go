package shardtest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
)

const (
	bankAccounts = 60
	bankBalance  = 1000 // of each account at the beginning
	bankClients  = 4
	// settled is how long in-doubt transactions may stay after everything runs again: the grace time that keeps proxies
	// from settling what others are about to, and a round of the one that looks for them.
	settled = 60 * time.Second
)

const bankSchema = `CREATE TABLE bank (account bigint PRIMARY KEY, balance bigint NOT NULL);
CREATE TABLE entries (account bigint NOT NULL, transfer bigint NOT NULL, amount bigint NOT NULL, PRIMARY KEY (account, transfer));`

// fate is what a client was told of a transfer.
type fate int

const (
	aborted fate = iota
	committed
	unknown // the connection was lost, or it was told that nobody knows, after COMMIT was sent
)

// bank is some shards with accounts, a daemon before them, and what its clients were told.
type bank struct {
	cluster *localpg.Cluster
	shards  []*localpg.Server
	daemon  *daemon
	seed    int64

	mu    sync.Mutex
	fates map[int64]fate // guarded by mu; by transfer
	// torn counts sums over all shards that were not the whole, seen by readers while transfers went on; guarded by mu.
	sums, torn int
	errs       map[string]int // guarded by mu; errors that clients saw
}

func newBank(t *testing.T, shards int) *bank {
	cluster := pgtest.Start(t, localpg.Options{Auth: "trust", Shards: shards})
	b := &bank{cluster: cluster, seed: seedOf(t), fates: map[int64]fate{}, errs: map[string]int{}}
	owner := (&table{key: []string{"g"}, hash: "int"}).owner()
	if shards == 1 {
		owner = "0"
	}
	for i, s := range cluster.Shards {
		b.shards = append(b.shards, s.Manager)
		pgtest.Exec(t, s.Manager, "postgres", "CREATE DATABASE "+database)
		pgtest.Exec(t, s.Manager, database, bankSchema)
		pgtest.Exec(t, s.Manager, database, fmt.Sprintf("INSERT INTO bank SELECT g, %d FROM generate_series(1, %d) g WHERE %s = %d", bankBalance, bankAccounts, owner, i))
	}
	b.daemon = newDaemon(t, b.configuration())
	return b
}

// configuration is the daemon's file; %s stands for its address.
func (b *bank) configuration() string {
	var text strings.Builder
	text.WriteString("listen: [\"%s\"]\nhttp: \"\"\nauth: {method: trust}\nlog: {level: warn}\npool: {login_retry: 200ms}\ndatabases:\n  app:\n    failover: {wait: 10s}\n    shards:\n")
	for i, s := range b.shards {
		fmt.Fprintf(&text, "      - {name: s%d, manager: \"%s\"}\n", i, s.URL(database, "", ""))
	}
	if len(b.shards) > 1 {
		text.WriteString("    sharding:\n      home: s0\n      tables: {bank: {key: account}, entries: {key: account}}\n")
	}
	return text.String()
}

// TestBankOnOneServer holds the test of the bank to a daemon in front of one server.
func TestBankOnOneServer(t *testing.T) {
	newBank(t, 1).run(t, secondsOf(t, 3))
}

// TestBank lets clients transfer money between accounts of different shards while servers and the daemon are killed. When
// all is calm again no money has come or gone, every transfer is there whole or not at all, as its client was told, and
// nothing is left in doubt.
func TestBank(t *testing.T) {
	newBank(t, shardCount).run(t, secondsOf(t, 8))
}

func (b *bank) run(t *testing.T, limit time.Duration) {
	b.daemon.start(t)
	ctx, stop := context.WithTimeout(t.Context(), limit)
	defer stop()
	var all sync.WaitGroup
	for n := range bankClients {
		all.Go(func() { b.transfers(ctx, int64(n)) }) // ends with ctx
	}
	all.Go(func() { b.reads(ctx) }) // ends with ctx
	kills := b.breaks(ctx, t)
	all.Wait()
	if t.Failed() {
		return
	}
	var known [unknown + 1]int
	for _, f := range b.fates {
		known[f]++
	}
	t.Logf("%d transfers committed, %d aborted, %d nobody knows; %d kills; of %d sums over all accounts %d were torn", known[committed], known[aborted], known[unknown], kills, b.sums, b.torn)
	for what, n := range b.errs {
		t.Logf("%6d times: %s", n, what)
	}
	if known[committed] < 20 || kills == 0 || b.sums == 0 {
		t.Error("too little happened: the run proves nothing")
	}
	b.verify(t)
}

// breaks kills servers and the daemon and starts them again until ctx ends, and returns how often.
func (b *bank) breaks(ctx context.Context, t *testing.T) (kills int) {
	rng := rand.New(rand.NewPCG(uint64(b.seed), 1<<32))
	for {
		select {
		case <-ctx.Done():
			return kills
		case <-time.After(time.Duration(200+rng.IntN(900)) * time.Millisecond): // moments of the test's own choice
		}
		kills++
		if victim := rng.IntN(2 * len(b.shards)); victim < len(b.shards) {
			server := b.shards[victim]
			if err := server.Kill(); err != nil {
				t.Error(err)
				return kills
			}
			again, stop := context.WithTimeout(context.Background(), stepLimit)
			err := server.Start(again)
			stop()
			if err != nil {
				t.Error(err)
				return kills
			}
		} else {
			b.daemon.kill()
			b.daemon.start(t)
		}
	}
}

// transfers moves money until ctx ends. A client takes its accounts in the order of their numbers, because nobody finds
// deadlocks between servers.
func (b *bank) transfers(ctx context.Context, client int64) {
	rng := rand.New(rand.NewPCG(uint64(b.seed), uint64(client)))
	var conn *pgx.Conn
	for number := client; ctx.Err() == nil; number += bankClients {
		if conn == nil || conn.IsClosed() {
			var err error
			if conn, err = b.dial(); err != nil {
				b.saw(err)
				time.Sleep(20 * time.Millisecond) // before the next attempt
				continue
			}
		}
		from, to := 1+rng.Int64N(bankAccounts), 1+rng.Int64N(bankAccounts)
		if from == to {
			continue
		}
		f, err := transfer(conn, number, min(from, to), max(from, to), rng.Int64N(200)-100)
		b.saw(err)
		b.mu.Lock()
		b.fates[number] = f
		b.mu.Unlock()
	}
	if conn != nil {
		bounded, stop := context.WithTimeout(context.Background(), stepLimit)
		defer stop()
		conn.Close(bounded)
	}
}

func (b *bank) dial() (*pgx.Conn, error) {
	ctx, stop := context.WithTimeout(context.Background(), stepLimit)
	defer stop()
	conn, err := pgx.Connect(ctx, b.daemon.url)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	// A lock of a transaction in doubt lasts until that is settled.
	if _, err = conn.Exec(ctx, "SET lock_timeout = '2s'"); err != nil {
		conn.Close(ctx)
		return nil, err
	}
	return conn, nil
}

func (b *bank) saw(err error) {
	if err == nil {
		return
	}
	what := "connection lost"
	if pg := (*pgconn.PgError)(nil); errors.As(err, &pg) {
		what = pg.Code + " " + pg.Message
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.errs[what]++
}

// transfer moves amount from one account to another, both with an entry, and tells its fate.
func transfer(conn *pgx.Conn, number, from, to, amount int64) (fate, error) {
	ctx, stop := context.WithTimeout(context.Background(), stepLimit)
	defer stop()
	tx, err := conn.Begin(ctx)
	if err != nil {
		return aborted, err
	}
	defer func() { _ = tx.Rollback(ctx) }() // after a commit it does nothing; else the error is told already
	for _, side := range []struct{ account, amount int64 }{{from, -amount}, {to, amount}} {
		if _, err := tx.Exec(ctx, "UPDATE bank SET balance = balance + $1 WHERE account = $2", side.amount, side.account); err != nil {
			return aborted, err
		}
		if _, err := tx.Exec(ctx, "INSERT INTO entries VALUES ($1, $2, $3)", side.account, number, side.amount); err != nil {
			return aborted, err
		}
	}
	err = tx.Commit(ctx)
	switch pg := (*pgconn.PgError)(nil); {
	case err == nil:
		return committed, nil
	case errors.Is(err, pgx.ErrTxCommitRollback):
		return aborted, err
	case errors.As(err, &pg) && !strings.HasPrefix(pg.Code, "08") && !strings.HasPrefix(pg.Code, "57"):
		return aborted, err // a server's own word, or 08006: not committed
	}
	return unknown, err
}

// reads asks for the sum of all balances until ctx ends. While a commit is under way on two servers a reader may see one
// half; how often is told, and no failure.
func (b *bank) reads(ctx context.Context) {
	var conn *pgx.Conn
	for ctx.Err() == nil {
		if conn == nil || conn.IsClosed() {
			var err error
			if conn, err = b.dial(); err != nil {
				b.saw(err)
				time.Sleep(20 * time.Millisecond) // before the next attempt
				continue
			}
		}
		bounded, stop := context.WithTimeout(context.Background(), stepLimit)
		var sum string
		err := conn.QueryRow(bounded, "SELECT sum(balance) FROM bank", pgx.QueryExecModeSimpleProtocol).Scan(&sum)
		stop()
		b.saw(err)
		b.mu.Lock()
		if err == nil {
			b.sums++
		}
		if err == nil && sum != fmt.Sprint(bankAccounts*bankBalance) {
			b.torn++
		}
		b.mu.Unlock()
		time.Sleep(10 * time.Millisecond) // to leave the machine to the transfers
	}
}

// verify looks at the servers themselves, the daemon apart.
func (b *bank) verify(t *testing.T) {
	t.Helper()
	began := time.Now()
	for _, s := range b.shards {
		eventually(t, settled, "no prepared transaction is left on "+s.Name, func() bool {
			return pgtest.Value(t, s, database, "SELECT count(*) FROM pg_prepared_xacts") == "0"
		})
	}
	t.Logf("nothing is in doubt %s after the last kill", time.Since(began).Round(time.Millisecond))
	sum := int64(0)
	entries := map[int64][]int64{} // amounts by transfer
	for _, s := range b.shards {
		ctx, stop := context.WithTimeout(t.Context(), stepLimit)
		defer stop()
		conn, err := pgx.Connect(ctx, s.URL(database, "", ""))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(ctx)
		var part int64
		if err := conn.QueryRow(ctx, "SELECT coalesce(sum(balance), 0)::bigint FROM bank").Scan(&part); err != nil {
			t.Fatal(err)
		}
		sum += part
		rows, err := conn.Query(ctx, "SELECT transfer, amount FROM entries")
		if err != nil {
			t.Fatal(err)
		}
		var number, amount int64
		if _, err := pgx.ForEachRow(rows, []any{&number, &amount}, func() error {
			entries[number] = append(entries[number], amount)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	if sum != bankAccounts*bankBalance {
		t.Errorf("all balances are %d, want %d", sum, bankAccounts*bankBalance)
	}
	for number, f := range b.fates {
		got := entries[number]
		whole := len(got) == 2 && got[0]+got[1] == 0
		if len(got) != 0 && !whole || f == committed && !whole || f == aborted && len(got) != 0 {
			t.Errorf("transfer %d has entries %v, and its client was told %s", number, got, [...]string{"aborted", "committed", "nothing"}[f])
		}
		delete(entries, number)
	}
	for number := range entries {
		t.Errorf("transfer %d is nobody's", number)
	}
	b.verifyThrough(t)
}

// verifyThrough asks the daemon for the same.
func (b *bank) verifyThrough(t *testing.T) {
	t.Helper()
	conn, err := b.dial()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), stepLimit)
	defer stop()
	defer conn.Close(ctx)
	var sum string
	var accounts int
	if err := conn.QueryRow(ctx, "SELECT sum(balance), count(*) FROM bank", pgx.QueryExecModeSimpleProtocol).Scan(&sum, &accounts); err != nil {
		t.Fatal(err)
	}
	if sum != fmt.Sprint(bankAccounts*bankBalance) || accounts != bankAccounts {
		t.Errorf("the daemon says %s in %d accounts, want %d in %d", sum, accounts, bankAccounts*bankBalance, bankAccounts)
	}
}
