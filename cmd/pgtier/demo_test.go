package main

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/demo"
)

func TestDemoServesSampleDataUntilTheSignal(t *testing.T) {
	serveDemo(t, demoFlags{listen: "127.0.0.1:0", shards: 1}, "orders", nil)
}

func TestDemoReadsFromReplicas(t *testing.T) {
	out := serveDemo(t, demoFlags{listen: "127.0.0.1:0", shards: 1, replicas: 1}, "orders", func(url string, out *logBuffer) {
		conn := connect(t, url+"?sslmode=disable")
		console := connect(t, strings.Replace(url, "/shop", "/pgtier", 1)+"?sslmode=disable&default_query_exec_mode=simple_protocol")
		awaitReads(t, console, conn, "shop", "products")
		out.await(t, "replicas served ")
	})
	for _, want := range []string{"replica of s0", "SHOW pgtier.last_route", "SHOW REPLICAS", "EXPLAIN ROUTE shop: SELECT"} {
		if !strings.Contains(out, want) {
			t.Errorf("the demo does not print %q:\n%s", want, out)
		}
	}
}

func TestDemoSpreadsUsersOverShards(t *testing.T) {
	out := serveDemo(t, demoFlags{listen: "127.0.0.1:0", shards: 2}, "products", func(_ string, out *logBuffer) {
		users, shards := 0, ""
		for _, url := range regexp.MustCompile(`shard s\d, past the proxy: (\S+)`).FindAllStringSubmatch(out.String(), -1) {
			var n int
			if err := connect(t, url[1]).QueryRow(t.Context(), "SELECT count(*) FROM users").Scan(&n); err != nil || n == 0 {
				t.Errorf("%s has %d users, %v", url[1], n, err)
			}
			users += n
			shards += fmt.Sprintf("{manager: %q},", url[1])
		}
		if users != 10_000 {
			t.Errorf("the shards have %d users", users)
		}
		var tables []string
		for table, key := range demo.Keys() {
			tables = append(tables, table+": {key: "+key+"}")
		}
		wantCheck(t, fmt.Sprintf("auth: {method: trust}\ndatabases: {shop: {shards: [%s], sharding: {tables: {%s}, reference: [%s]}}}\n", shards, strings.Join(tables, ", "), strings.Join(demo.Reference(), ", ")),
			0, "5 sharded and 2 reference tables", "4 sequences of sharded tables give different numbers")
	})
	if want := "sharding_key=42"; !strings.Contains(out, want) {
		t.Errorf("the demo does not print %q:\n%s", want, out)
	}
}

// awaitReads reads over conn until SHOW ROUTES counts a read of database by a replica.
func awaitReads(t *testing.T, console, conn *pgx.Conn, database, table string) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		var rowCount, count int
		if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&rowCount); err != nil || rowCount == 0 {
			t.Fatalf("%s: got %d rows, %v", table, rowCount, err)
		}
		rows, err := console.Query(t.Context(), "SHOW ROUTES")
		if err != nil {
			t.Fatal(err)
		}
		var name, cause string
		var n int
		if _, err := pgx.ForEachRow(rows, []any{&name, &cause, &n}, func() error {
			if name == database && cause == "replica" {
				count = n
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if count > 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("no replica has served a read of %s", database)
		}
	}
}

// demoLimit bounds the demo's start: initdb, a server process for each manager and replica, and the sample data. It is what
// pgtest gives a cluster, because the machine may be busy with other packages' tests.
const demoLimit = 2 * time.Minute

// serveDemo runs the demo, checks that table holds rows in its DATABASE_URL, does what look does unless that is nil, ends it
// and returns what it printed.
func serveDemo(t *testing.T, flags demoFlags, table string, look func(url string, out *logBuffer)) string {
	t.Helper()
	var out logBuffer
	signals := make(chan os.Signal, 2)
	ended := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { // ends with the signal below, or with the test, whose servers must not outlive it
		ended <- runDemo(t.Context(), flags, &out, &out, signals)
	})
	t.Cleanup(wg.Wait)
	for end := time.Now().Add(demoLimit); !strings.Contains(out.String(), "Ctrl-C stops"); time.Sleep(5 * time.Millisecond) {
		select {
		case err := <-ended:
			t.Fatalf("demo: %v\n%s", err, out.String())
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("the demo is not up after %s:\n%s", demoLimit, out.String())
		}
	}
	url := regexp.MustCompile(`DATABASE_URL=(\S+)`).FindStringSubmatch(out.String())[1]
	conn := connect(t, url+"?sslmode=disable")
	var orders int
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&orders); err != nil || orders == 0 {
		t.Errorf("orders: got %d, %v", orders, err)
	}
	if look != nil {
		look(url, &out)
	}
	signals <- syscall.SIGINT
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("demo: %v", err)
		}
	case <-time.After(30 * time.Second):
		t.Fatalf("the demo goes on:\n%s", out.String())
	}
	if conn, err := pgx.Connect(t.Context(), url+"?sslmode=disable"); err == nil {
		conn.Close(t.Context())
		t.Error("the demo still answers")
	}
	return out.String()
}
