package shardtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/big"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/configs"
	"pgtier/proxy"
)

// Names of the databases: the same data is on the plain server, on the shards, and in a twin on the plain server, against
// which the test itself is tested.
const (
	database = "app"
	twin     = "twin"
)

// rig is the servers with their data. The tests of this package share it, one after another.
type rig struct {
	cluster *localpg.Cluster
	shards  []*localpg.Server
	plain   *localpg.Server
	loads   []load
	encoder *encoder
	// moves are those under way: rows of their buckets stand on two shards.
	moves []move
}

// load is one database with the rows that it begins with, by table.
type load struct {
	server   *localpg.Server
	database string
	rows     map[string][]byte // as COPY gives them
	conn     *pgconn.PgConn
}

var (
	setUp  sync.Once
	common *rig
)

// newRig returns the servers with their data as it was at the beginning.
func newRig(t testing.TB) *rig {
	t.Helper()
	cluster := servers.Cluster(t)
	setUp.Do(func() { common = makeRig(t, cluster, dataSeed(t)) })
	if common == nil {
		t.Fatal("the databases could not be made: see the first test")
	}
	common.restore(t, false)
	common.restore(t, true)
	return common
}

// dataSeed is the seed of the data: fixed, so that the corpus means the same each time, unless the environment has another.
func dataSeed(t testing.TB) int64 {
	seed := number(t, "PGTIER_SHARD_DATA_SEED", 1)
	t.Logf("PGTIER_SHARD_DATA_SEED=%d", seed)
	return seed
}

func makeRig(t testing.TB, cluster *localpg.Cluster, seed int64) *rig {
	r := &rig{cluster: cluster, plain: cluster.Shards[shardCount].Manager}
	for _, s := range cluster.Shards[:shardCount] {
		r.shards = append(r.shards, s.Manager)
		r.loads = append(r.loads, load{server: s.Manager, database: database})
	}
	r.loads = append(r.loads, load{server: r.plain, database: database}, load{server: r.plain, database: twin})
	schema := readFile(t, "testdata/schema.sql")
	for i := range r.loads {
		l := &r.loads[i]
		pgtest.Exec(t, l.server, "postgres", "CREATE DATABASE "+l.database)
		pgtest.Exec(t, l.server, l.database, schema)
		l.conn = dial(t, l.server, l.database)
	}
	pgtest.Exec(t, r.plain, database, fmt.Sprintf("SET shardtest.seed = '%d';", seed)+readFile(t, "testdata/data.sql")+";ANALYZE")
	plain := r.loads[shardCount]
	for i := range r.loads {
		l := &r.loads[i]
		l.rows = map[string][]byte{}
		for _, table := range tables() {
			condition := "true"
			switch {
			case i < shardCount && table.place == sharded:
				condition = fmt.Sprintf("%s = %d", table.owner(), i)
			case i < shardCount && table.place == home:
				condition = fmt.Sprintf("%d = 0", i)
			}
			var out bytes.Buffer
			if _, err := plain.conn.CopyTo(t.Context(), &out, fmt.Sprintf("COPY (SELECT * FROM %s WHERE %s) TO STDOUT", table.name, condition)); err != nil {
				t.Fatal(err)
			}
			l.rows[table.name] = out.Bytes()
		}
	}
	r.encoder = &encoder{conn: dial(t, r.plain, database), known: map[string][]byte{}}
	return r
}

func readFile(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// dial connects as the superuser, straight to a server. The connection ends with the server.
func dial(t testing.TB, server *localpg.Server, database string) *pgconn.PgConn {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), stepLimit)
	defer stop()
	conn, err := pgconn.Connect(ctx, server.URL(database, "", ""))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// concerns reports whether a load is one of the plain server and the twin, or of the plain server and the shards.
func concerns(load int, asTwin bool) bool { return load == shardCount || (load > shardCount) == asTwin }

// restore brings the data back to what it was at the beginning, on the plain server and the shards or the twin.
func (r *rig) restore(t testing.TB, asTwin bool) {
	t.Helper()
	errs := make([]error, len(r.loads))
	var all sync.WaitGroup
	for i := range r.loads {
		if concerns(i, asTwin) {
			all.Go(func() { errs[i] = r.loads[i].restore() })
		}
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			t.Fatalf("restore the data: %v", err)
		}
	}
}

// cleanUp takes away tables and columns that DDL has left on some servers.
func (r *rig) cleanUp(t testing.TB) {
	t.Helper()
	sql := readFile(t, "testdata/cleanup.sql")
	for _, l := range r.loads {
		pgtest.Exec(t, l.server, l.database, "SET lock_timeout = '10s';"+sql)
	}
}

func (l *load) restore() error {
	ctx, stop := context.WithTimeout(context.Background(), stepLimit)
	defer stop()
	names := make([]string, len(tables()))
	for i, table := range tables() {
		names[i] = table.name
	}
	// Triggers that check foreign keys would take most of the time.
	_, err := l.conn.Exec(ctx, "BEGIN; SET LOCAL lock_timeout = '10s'; SET LOCAL session_replication_role = replica; TRUNCATE "+
		strings.Join(names, ", ")).ReadAll()
	for _, name := range names {
		if err == nil {
			_, err = l.conn.CopyFrom(ctx, bytes.NewReader(l.rows[name]), "COPY "+name+" FROM STDIN")
		}
	}
	if err == nil {
		_, err = l.conn.Exec(ctx, "COMMIT; SELECT setval('tickets_id_seq', 30)").ReadAll()
	}
	if err != nil {
		_, rollback := l.conn.Exec(ctx, "ROLLBACK").ReadAll()
		return errors.Join(fmt.Errorf("%s on %s: %w", l.database, l.server.Name, err), rollback)
	}
	return nil
}

// print is what a database holds, by table: how many rows, the sum of their hashes, how many rows another shard owns.
type print map[string]sums

type sums struct {
	rows, hash *big.Int
	astray     string
}

func (l *load) fingerprint(query string) (print, error) {
	ctx, stop := context.WithTimeout(context.Background(), stepLimit)
	defer stop()
	answer := l.conn.ExecParams(ctx, query, nil, nil, nil, nil).Read()
	if answer.Err != nil {
		return nil, answer.Err
	}
	p := print{}
	for _, row := range answer.Rows {
		s := sums{rows: new(big.Int), hash: new(big.Int), astray: string(row[3])}
		s.rows.SetString(string(row[1]), 10)
		s.hash.SetString(string(row[2]), 10)
		p[string(row[0])] = s
	}
	return p, nil
}

// differences compares the contents of the shards with those of the plain server: "" if they are the same, and every row
// is where it belongs. With asTwin the twin is compared instead.
func (r *rig) differences(asTwin bool, of []table) string {
	prints := make([]print, len(r.loads))
	errs := make([]error, len(r.loads))
	var all sync.WaitGroup
	for i := range r.loads {
		if !concerns(i, asTwin) {
			continue
		}
		shard := i
		if i >= shardCount {
			shard = -1
		}
		all.Go(func() { prints[i], errs[i] = r.loads[i].fingerprint(r.fingerprint(shard, of)) })
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			return fmt.Sprintf("look at the tables of %s: %v", r.loads[i].server.Name, err)
		}
	}
	var found []string
	for _, table := range of {
		if d := r.differencesIn(&table, prints, asTwin); d != "" {
			found = append(found, d)
		}
	}
	return strings.Join(found, "\n")
}

func (r *rig) differencesIn(t *table, prints []print, asTwin bool) string {
	want := prints[shardCount][t.name]
	same := func(got sums) bool { return got.rows.Cmp(want.rows) == 0 && got.hash.Cmp(want.hash) == 0 }
	if asTwin {
		if !same(prints[shardCount+1][t.name]) {
			return t.name + " differs" + r.rowsApart(t, []int{shardCount + 1})
		}
		return ""
	}
	total := sums{rows: new(big.Int), hash: new(big.Int)}
	for i := range shardCount {
		got := prints[i][t.name]
		if got.astray != "0" {
			return fmt.Sprintf("%s: %s has %s rows that belong to other shards", t.name, r.shards[i].Name, got.astray)
		}
		switch {
		case t.place == reference && !same(got):
			return fmt.Sprintf("%s differs on %s%s", t.name, r.shards[i].Name, r.rowsApart(t, []int{i}))
		case t.place == home && i > 0 && got.rows.Sign() != 0:
			return fmt.Sprintf("%s: %s has %s rows, and is not its home", t.name, r.shards[i].Name, got.rows)
		}
		total.rows.Add(total.rows, got.rows)
		total.hash.Add(total.hash, got.hash)
	}
	if t.place != reference && !same(total) {
		return t.name + " differs" + r.rowsApart(t, []int{0, 1, 2})
	}
	return ""
}

// rowsApart shows rows of a table that the plain server has and those loads do not, and the other way round.
func (r *rig) rowsApart(t *table, loads []int) string {
	what := whole
	if t.compared != "" {
		what = t.compared
	}
	read := func(i int) [][][]byte {
		ctx, stop := context.WithTimeout(context.Background(), stepLimit)
		defer stop()
		return r.loads[i].conn.ExecParams(ctx, fmt.Sprintf("SELECT (%s)::text FROM %s "+whole, what, t.name), nil, nil, nil, nil).Read().Rows
	}
	got := &result{}
	for _, i := range loads {
		got.rows = append(got.rows, read(i)...)
	}
	return missing(&result{rows: read(shardCount)}, got)
}

// configuration is the daemon's file for the shards.
func (r *rig) configuration() string {
	return configurationOf(r.shards)
}

func configurationOf(shards []*localpg.Server) string {
	var text strings.Builder
	text.WriteString("listen: [\"127.0.0.1:0\"]\nhttp: \"\"\nauth: {method: trust}\ndatabases:\n  app:\n    shards:\n")
	for i, s := range shards {
		fmt.Fprintf(&text, "      - {name: s%d, manager: \"%s\"}\n", i, s.URL(database, "", ""))
	}
	fmt.Fprintf(&text, "    sharding:\n      buckets: %d\n      function: hash\n      home: s0\n      tables:\n", buckets)
	var references []string
	for _, t := range tables() {
		switch {
		case t.place == reference:
			references = append(references, t.name)
		case t.place == sharded && len(t.key) == 1:
			fmt.Fprintf(&text, "        %s: {key: %s}\n", t.name, t.key[0])
		case t.place == sharded:
			fmt.Fprintf(&text, "        %s: {key: [%s]}\n", t.name, strings.Join(t.key, ", "))
		}
	}
	fmt.Fprintf(&text, "      reference: [%s]\n", strings.Join(references, ", "))
	return text.String()
}

// serve runs pgtier over the shards until the test ends, and returns the URL of the database.
func (r *rig) serve(t testing.TB) string {
	t.Helper()
	config, err := configs.Parse("shardtest", []byte(r.configuration()), nil)
	if err != nil {
		t.Fatal(err)
	}
	p, err := proxy.New(config.Proxy, zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return fmt.Sprintf("postgres://%s@%s/%s?sslmode=disable", r.cluster.Superuser, p.Addrs()[0], database)
}

// eventually polls until condition holds.
func eventually(t testing.TB, limit time.Duration, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, what)
		}
		time.Sleep(10 * time.Millisecond) // between two looks
	}
}

// spread counts how many rows of a table each shard has.
func (r *rig) spread(name string) []int {
	counts := make([]int, shardCount)
	for i := range counts {
		counts[i] = bytes.Count(r.loads[i].rows[name], []byte("\n"))
	}
	return counts
}

// TestDataIsSpread holds the data to what the other tests need: every sharded table but the empty one has rows on all
// shards, and orders with the same number on one shard only would prove nothing.
func TestDataIsSpread(t *testing.T) {
	r := newRig(t)
	for _, table := range tables() {
		counts := r.spread(table.name)
		t.Logf("%-12s %v", table.name, counts)
		if table.place == sharded && table.name != "empties" && slices.Min(counts) < 3 {
			t.Errorf("%s: a shard has hardly any rows: %v", table.name, counts)
		}
	}
	if d := r.differences(false, tables()); d != "" {
		t.Error(d)
	}
}

// TestBucketsAreThoseOfPartitions holds the test's own arithmetic to PostgreSQL's satisfies_hash_partition.
func TestBucketsAreThoseOfPartitions(t *testing.T) {
	r := newRig(t)
	for _, table := range tables() {
		if table.place != sharded || table.name == "empties" {
			continue
		}
		columns := strings.Join(table.key, ", ")
		kind := map[string]string{"users": "bigint", "zoo": "int", "meters": "int", "accounts": `text COLLATE "C"`, "events": "uuid",
			"exacts": "numeric", "rounded": "numeric", "longs": "varchar", "shorts": "varchar"}[table.name]
		if kind == "" {
			kind = "bigint"
		}
		declared := strings.Join(table.key, " "+kind+", ") + " " + kind
		pgtest.Exec(t, r.plain, twin, fmt.Sprintf("CREATE TABLE parts (%s) PARTITION BY HASH (%s)", declared, columns))
		wrong := pgtest.Value(t, r.plain, twin, fmt.Sprintf("SELECT count(*) FROM %s WHERE NOT satisfies_hash_partition('parts'::regclass, %d, (%s)::int, %s)",
			table.name, buckets, table.bucket(), columns))
		pgtest.Exec(t, r.plain, twin, "DROP TABLE parts")
		if wrong != "0" {
			t.Errorf("%s: %s rows have another bucket", table.name, wrong)
		}
	}
}
