package demo_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"pgtier/cmd/demo"
	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/router/shard"
)

// loadLimit bounds a load; alone it takes 3 seconds.
const loadLimit = time.Minute

// trafficLimit bounds the wait until every kind of request has been made.
const trafficLimit = 30 * time.Second

// shop loads the sample application into a database of each server, and returns the URLs of its owner.
func shop(t *testing.T, database string, servers ...*localpg.Server) (urls []string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), loadLimit)
	defer cancel()
	for _, server := range servers {
		if err := demo.CreateDatabase(ctx, server.URL("", "", ""), database, "the app", "it's secret"); err != nil {
			t.Fatal(err)
		}
		urls = append(urls, server.URL(database, "the app", "it's secret"))
	}
	loaded := map[string]int64{}
	began := time.Now()
	err := demo.Load(ctx, urls, func(table string, rows, total int64) {
		if rows > total {
			t.Errorf("progress of %s: %d rows of %d", table, rows, total)
		}
		loaded[table] = rows
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("loaded in %s", time.Since(began))
	if len(loaded) != 7 || loaded["orders"] != 50_000 {
		t.Errorf("progress was told of %v, want 7 tables and 50000 orders", loaded)
	}
	return urls
}

func TestShopIsLoadedSoundAndTakesTraffic(t *testing.T) {
	server := pgtest.Start(t, localpg.Options{}).Shards[0].Manager
	url := shop(t, "shop", server)[0]
	for _, c := range []struct{ what, sql, want string }{
		{"users", "SELECT count(*) FROM users", "10000"},
		{"orders", "SELECT count(*) FROM orders", "50000"},
		{"orders whose total is not that of their lines", `SELECT count(*) FROM orders o
			WHERE total <> (SELECT sum(quantity * unit_price) FROM order_items i WHERE i.order_id = o.id AND i.user_id = o.user_id)`, "0"},
		{"orders older than their user", "SELECT count(*) FROM orders o JOIN users u ON u.id = o.user_id WHERE o.placed_at < u.created_at", "0"},
		{"payments that differ from their order", "SELECT count(*) FROM payments p JOIN orders o ON o.id = p.order_id WHERE (amount, p.user_id) <> (total, o.user_id)", "0"},
		{"kinds of order status", "SELECT count(DISTINCT status) FROM orders", "5"},
		{"orders by a function", "SELECT place_order(1, ARRAY[1, 1, 2]) = 50001", "t"},
		{"lines of that order", "SELECT count(*) = 3 AND sum(unit_price) = max(total) FROM order_items i JOIN orders o ON o.id = i.order_id WHERE o.id > 50000", "t"},
		{"addresses are unique", "SELECT indisunique FROM pg_index WHERE indexrelid = 'users_email'::regclass", "t"},
	} {
		if got := pgtest.Value(t, server, "shop", c.sql); got != c.want {
			t.Errorf("%s: got %s, want %s", c.what, got, c.want)
		}
	}
	t.Run("examples run as printed", func(t *testing.T) {
		runExamples(t, demo.Examples(url))
		runExamples(t, demo.ShardExamples(url))
	})
	t.Run("traffic", func(t *testing.T) { takeTraffic(t, server, url, false) })
	t.Run("traffic for shards", func(t *testing.T) { takeTraffic(t, server, url, true) })
}

func TestShardsHoldTheRowsOfTheirUsers(t *testing.T) {
	var servers []*localpg.Server
	for _, s := range pgtest.Start(t, localpg.Options{Shards: 3}).Shards {
		servers = append(servers, s.Manager)
	}
	shop(t, "shop", servers...)
	names := make([]shard.Name, len(servers))
	for i := range names {
		names[i] = shard.Name(demo.ShardName(i))
	}
	first, err := shard.Even(1, shard.DefaultBuckets, names...)
	if err != nil {
		t.Fatal(err)
	}
	sums, ids := map[string]int{}, map[string]bool{}
	for i, server := range servers {
		owned := first.Buckets(names[i])
		for table, column := range demo.Keys() {
			key, err := shard.NewKey(shard.Hash, shard.DefaultBuckets, shard.Column{Name: column, Type: shard.Int8, Modifier: shard.NoModifier})
			if err != nil {
				t.Fatal(err)
			}
			astray := pgtest.Value(t, server, "shop", fmt.Sprintf("SELECT count(*) FROM %s WHERE %s NOT BETWEEN %d AND %d", table, key.Expression(""), owned[0], owned[len(owned)-1]))
			if astray != "0" {
				t.Errorf("%s has %s rows of %s that belong elsewhere", names[i], astray, table)
			}
			n, err := strconv.Atoi(pgtest.Value(t, server, "shop", "SELECT count(*) FROM "+table))
			if err != nil || n == 0 {
				t.Errorf("%s has %d rows of %s, %v", names[i], n, table, err)
			}
			sums[table] += n
		}
		for _, table := range demo.Reference() {
			if n := pgtest.Value(t, server, "shop", "SELECT count(*) FROM "+table); n == "0" {
				t.Errorf("%s has no %s", names[i], table)
			}
		}
		user := pgtest.Value(t, server, "shop", "SELECT min(id) FROM users")
		for range 100 {
			id := pgtest.Value(t, server, "shop", "SELECT place_order("+user+", ARRAY[1])")
			if n, err := strconv.Atoi(id); err != nil || n <= 50_000 || ids[id] {
				t.Fatalf("%s gives order %s, which is taken", names[i], id)
			}
			ids[id] = true
		}
	}
	if sums["users"] != 10_000 || sums["orders"] != 50_000 || sums["events"] != 30_000 {
		t.Errorf("got %v", sums)
	}
}

func runExamples(t *testing.T, lines string) {
	t.Helper()
	binaries, err := localpg.FindBinaries()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), trafficLimit)
	defer cancel()
	script := exec.CommandContext(ctx, "/bin/sh", "-e", "-c", lines)
	script.Env = append(os.Environ(), "PATH="+binaries.Dir+":"+os.Getenv("PATH"), "PAGER=cat")
	if out, err := script.CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

// takeTraffic lets the traffic run over a restart of its server.
func takeTraffic(t *testing.T, server *localpg.Server, url string, sharded bool) {
	traffic, err := demo.NewTraffic(url, 400, sharded)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*trafficLimit)
	defer cancel()
	ended := make(chan struct{})
	go func() { traffic.Run(ctx); close(ended) }()

	moves := func(since demo.Counts) bool {
		c := traffic.Counts()
		return c.Reads > since.Reads+50 && c.Writes > since.Writes+10 && c.Notifications > since.Notifications
	}
	await(t, traffic, "reads, writes and notifications", func() bool { return moves(demo.Counts{}) })
	if c := traffic.Counts(); c.Failures > 0 {
		t.Errorf("%d requests failed on a healthy server, the last with: %s", c.Failures, c.LastError)
	}
	if err := server.Stop(localpg.Fast); err != nil {
		t.Fatal(err)
	}
	await(t, traffic, "failures while the server is down", func() bool { return traffic.Counts().Failures > 0 })
	if err := server.Start(ctx); err != nil {
		t.Fatal(err)
	}
	restarted := traffic.Counts()
	await(t, traffic, "traffic after the restart", func() bool { return moves(restarted) })
	cancel()
	select {
	case <-ended:
	case <-time.After(trafficLimit):
		t.Error("Run did not end with its context")
	}
}

func await(t *testing.T, traffic *demo.Traffic, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(trafficLimit); !condition(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s: %+v", what, traffic.Counts())
		}
	}
}

func TestBadTrafficIsRefused(t *testing.T) {
	for _, rate := range []float64{0, -1} {
		if _, err := demo.NewTraffic("postgres://localhost/x", rate, false); err == nil {
			t.Errorf("a rate of %v was taken", rate)
		}
	}
	if _, err := demo.NewTraffic("postgres://localhost:notaport/x", 1, true); err == nil {
		t.Error("a bad URL was taken")
	}
}
