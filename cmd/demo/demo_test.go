package demo_test

import (
	"context"
	"os"
	"os/exec"
	"testing"
	"time"

	"pgtier/cmd/demo"
	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
)

// loadLimit bounds a load; alone it takes 3 seconds.
const loadLimit = time.Minute

// trafficLimit bounds the wait until every kind of request has been made.
const trafficLimit = 30 * time.Second

// shop starts two shards with the sample application in the database "shop" and returns the URL of its owner on each.
func shop(t *testing.T) (*localpg.Cluster, []string) {
	t.Helper()
	cluster := pgtest.Start(t, localpg.Options{Shards: 2})
	ctx, cancel := context.WithTimeout(t.Context(), loadLimit)
	defer cancel()
	var urls []string
	for _, shard := range cluster.Shards {
		if err := demo.CreateDatabase(ctx, shard.Manager.URL("", "", ""), "shop", "the app", "it's secret"); err != nil {
			t.Fatal(err)
		}
		urls = append(urls, shard.Manager.URL("shop", "the app", "it's secret"))
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
	return cluster, urls
}

func TestShopIsLoadedSoundAndTakesTraffic(t *testing.T) {
	cluster, urls := shop(t)
	home, other := cluster.Shards[0].Manager, cluster.Shards[1].Manager

	for _, c := range []struct {
		what   string
		server *localpg.Server
		sql    string
		want   string
	}{
		{"users", home, "SELECT count(*) FROM users", "10000"},
		{"orders", home, "SELECT count(*) FROM orders", "50000"},
		{"orders whose total is not that of their lines", home, `SELECT count(*) FROM orders o
			WHERE total <> (SELECT sum(quantity * unit_price) FROM order_items i WHERE i.order_id = o.id AND i.user_id = o.user_id)`, "0"},
		{"orders older than their user", home, "SELECT count(*) FROM orders o JOIN users u ON u.id = o.user_id WHERE o.placed_at < u.created_at", "0"},
		{"payments that differ from their order", home, "SELECT count(*) FROM payments p JOIN orders o ON o.id = p.order_id WHERE (amount, p.user_id) <> (total, o.user_id)", "0"},
		{"kinds of order status", home, "SELECT count(DISTINCT status) FROM orders", "5"},
		{"orders by a function", home, "SELECT place_order(1, ARRAY[1, 1, 2]) > 50000", "t"},
		{"lines of that order", home, "SELECT count(*) = 3 AND sum(unit_price) = max(total) FROM order_items i JOIN orders o ON o.id = i.order_id WHERE o.id > 50000", "t"},
		{"users of the shard that is not home", other, "SELECT count(*) FROM users", "0"},
		{"products of the shard that is not home", other, "SELECT count(*) FROM products", "1200"},
	} {
		if got := pgtest.Value(t, c.server, "shop", c.sql); got != c.want {
			t.Errorf("%s: got %s, want %s", c.what, got, c.want)
		}
	}

	t.Run("examples run as printed", func(t *testing.T) { runExamples(t, urls[0]) })
	t.Run("traffic", func(t *testing.T) { takeTraffic(t, home, urls[0]) })
}

func runExamples(t *testing.T, url string) {
	binaries, err := localpg.FindBinaries()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), trafficLimit)
	defer cancel()
	script := exec.CommandContext(ctx, "/bin/sh", "-e", "-c", demo.Examples(url))
	script.Env = append(os.Environ(), "PATH="+binaries.Dir+":"+os.Getenv("PATH"), "PAGER=cat")
	if out, err := script.CombinedOutput(); err != nil {
		t.Errorf("%v:\n%s", err, out)
	}
}

// takeTraffic lets the traffic run over a restart of its server.
func takeTraffic(t *testing.T, server *localpg.Server, url string) {
	traffic, err := demo.NewTraffic(url, 400)
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
		if _, err := demo.NewTraffic("postgres://localhost/x", rate); err == nil {
			t.Errorf("a rate of %v was taken", rate)
		}
	}
	if _, err := demo.NewTraffic("postgres://localhost:notaport/x", 1); err == nil {
		t.Error("a bad URL was taken")
	}
}
