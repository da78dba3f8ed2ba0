package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"pgtier/cmd/demo"
	"pgtier/cmd/localpg"
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
	out := serveDemo(t, demoFlags{listen: "127.0.0.1:0", shards: 3}, "products", func(url string, out *logBuffer) {
		trafficWithoutFailures(t, url)
		runsAsPrinted(t, demo.ShardExamples(url))
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

func TestDemoAddsItsSpareShardAsPrinted(t *testing.T) {
	out := serveDemo(t, demoFlags{listen: "127.0.0.1:0", shards: 2}, "users", func(url string, out *logBuffer) {
		lines := regexp.MustCompile(`(?m)^\S+ (reshard (plan|start|finish) .*)$`).FindAllStringSubmatch(out.String(), -1)
		if len(lines) != 3 {
			t.Fatalf("no commands that add a shard:\n%s", out.String())
		}
		busy, stop := context.WithCancel(t.Context())
		traffic, err := demo.NewTraffic(url, 100, true)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		defer wg.Wait()
		defer stop()
		wg.Go(func() { traffic.Run(busy) }) // ends by stop
		for i, want := range [][]string{
			{"s2: is no member yet", "s0 to s2: buckets 341-511", "s1 to s2: buckets 854-1023", "341 of 1024 buckets, about "},
			{"the new owners serve", "32 cuts held statements for "},
			{"the job is done"},
		} {
			status, stdout, stderr := command(t, strings.Fields(lines[i][1])...)
			if status != 0 {
				t.Fatalf("%s: status %d\n%s%s\n%s", lines[i][0], status, stdout, stderr, out.String())
			}
			says(t, stdout, want...)
		}
		if c := traffic.Counts(); c.Failures > 0 || c.Writes == 0 {
			t.Errorf("%+v", c)
		}
		runsAsPrinted(t, regexp.MustCompile(`(?m)^psql .*SHOW RESHARD.*$`).FindString(out.String()))
		users := 0
		for _, url := range regexp.MustCompile(`(s\d)\b.*, past the proxy: (\S+)`).FindAllStringSubmatch(out.String(), -1) {
			conn, n := connect(t, url[2]), 0
			if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM users").Scan(&n); err != nil || n < 3000 {
				t.Errorf("%s has %d users, %v", url[1], n, err)
			}
			users += n
			if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND connamespace = 'public'::regnamespace").Scan(&n); err != nil || n != 6 {
				t.Errorf("%s has %d foreign keys, %v", url[1], n, err)
			}
		}
		if users != 10_000 {
			t.Errorf("the shards have %d users", users)
		}
		file := regexp.MustCompile(`--config (\S+)`).FindStringSubmatch(lines[0][1])[1]
		if status, stdout, _ := command(t, "check", "--config", file); status != 0 {
			t.Errorf("pgtier check: %s", stdout)
		}
	})
	if file := regexp.MustCompile(`--config (\S+)`).FindStringSubmatch(out)[1]; fileExists(file) {
		t.Errorf("%s is left", file)
	}
}

func fileExists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// trafficWithoutFailures makes the sample application's requests, all kinds of them, and wants every one to succeed.
func trafficWithoutFailures(t *testing.T, url string) {
	t.Helper()
	traffic, err := demo.NewTraffic(url, 200, true)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { traffic.Run(ctx) }) // ends by stop
	for end := time.Now().Add(demoLimit); ; time.Sleep(10 * time.Millisecond) {
		c := traffic.Counts()
		if c.Failures > 0 || c.Reads > 600 && c.Writes > 150 && c.Notifications > 50 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("waited in vain for reads, writes and notifications: %+v", c)
		}
	}
	stop()
	wg.Wait()
	if c := traffic.Counts(); c.Failures > 0 {
		t.Errorf("%d requests failed, the last with: %s", c.Failures, c.LastError)
	}
}

// runsAsPrinted runs shell lines with the installed psql.
func runsAsPrinted(t *testing.T, lines string) {
	t.Helper()
	binaries, err := localpg.FindBinaries()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithTimeout(t.Context(), demoLimit)
	defer stop()
	script := exec.CommandContext(ctx, "/bin/sh", "-e", "-c", lines)
	script.Env = append(os.Environ(), "PATH="+binaries.Dir+":"+os.Getenv("PATH"), "PAGER=cat")
	out, err := script.CombinedOutput()
	if err != nil || strings.Contains(string(out), "ERROR") || strings.Contains(string(out), "(0 rows)") {
		t.Errorf("%v:\n%s", err, out)
	}
}

// awaitReads reads over conn until SHOW ROUTES counts a read of database by a replica.
func awaitReads(t *testing.T, console, conn *pgx.Conn, database, table string) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
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
	case <-time.After(time.Minute):
		t.Fatalf("the demo goes on:\n%s", out.String())
	}
	if conn, err := pgx.Connect(t.Context(), url+"?sslmode=disable"); err == nil {
		conn.Close(t.Context())
		t.Error("the demo still answers")
	}
	return out.String()
}
