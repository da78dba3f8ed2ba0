package main

import (
	"os"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestDemoServesSampleDataUntilTheSignal(t *testing.T) {
	serveDemo(t, demoFlags{listen: "127.0.0.1:0", shards: 1}, "orders")
}

func TestDemoServesEveryShardAndNamesReplicas(t *testing.T) {
	out := serveDemo(t, demoFlags{listen: "127.0.0.1:0", shards: 2, replicas: 1}, "orders")
	for _, want := range []string{"/shop_s1", "replica of s0", "replica of s1"} {
		if !strings.Contains(out, want) {
			t.Errorf("the demo does not print %q:\n%s", want, out)
		}
	}
}

// serveDemo runs the demo, checks that table holds rows in its DATABASE_URL, ends it and returns what it printed.
func serveDemo(t *testing.T, flags demoFlags, table string) string {
	t.Helper()
	var out logBuffer
	signals := make(chan os.Signal, 2)
	ended := make(chan error, 1)
	go func() { // ends with the signal below
		ended <- runDemo(t.Context(), flags, &out, &out, signals)
	}()
	out.await(t, "Ctrl-C stops")
	url := regexp.MustCompile(`DATABASE_URL=(\S+)`).FindStringSubmatch(out.String())[1]
	conn := connect(t, url+"?sslmode=disable")
	var orders int
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM "+table).Scan(&orders); err != nil || orders == 0 {
		t.Errorf("orders: got %d, %v", orders, err)
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
