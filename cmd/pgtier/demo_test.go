package main

import (
	"os"
	"regexp"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func TestDemoServesSampleDataUntilTheSignal(t *testing.T) {
	var out logBuffer
	signals := make(chan os.Signal, 2)
	ended := make(chan error, 1)
	go func() { // ends with the signal below
		ended <- runDemo(t.Context(), demoFlags{listen: "127.0.0.1:0"}, &out, &out, signals)
	}()
	out.await(t, "Ctrl-C stops")
	url := regexp.MustCompile(`DATABASE_URL=(\S+)`).FindStringSubmatch(out.String())[1]
	conn := connect(t, url+"?sslmode=disable")
	var orders int
	if err := conn.QueryRow(t.Context(), "SELECT count(*) FROM orders").Scan(&orders); err != nil || orders == 0 {
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
}
