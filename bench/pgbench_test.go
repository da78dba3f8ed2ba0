package main

import (
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// What pgbench 15.18 printed, shortened by nothing.
const (
	selectSummary = `pgbench (15.18 (Debian 15.18-0+deb12u1))
transaction type: <builtin: select only>
scaling factor: 1
query mode: prepared
number of clients: 4
number of threads: 2
maximum number of tries: 1
duration: 1 s
number of transactions actually processed: 13723
number of failed transactions: 0 (0.000%)
latency average = 0.287 ms
initial connection time = 22.362 ms
tps = 13949.342024 (without initial connection time)
`
	reconnectSummary = `pgbench (15.18 (Debian 15.18-0+deb12u1))
transaction type: <builtin: select only>
scaling factor: 1
query mode: simple
number of clients: 2
number of threads: 1
maximum number of tries: 1
duration: 1 s
number of transactions actually processed: 94
number of failed transactions: 0 (0.000%)
latency average = 21.416 ms
average connection time = 10.257 ms
tps = 93.386822 (including reconnection times)
`
	conflictSummary = `pgbench (15.18 (Debian 15.18-0+deb12u1))
transaction type: s.sql
scaling factor: 1
query mode: simple
number of clients: 4
number of threads: 1
maximum number of tries: 1
duration: 1 s
number of transactions actually processed: 1353
number of failed transactions: 1296 (48.924%)
latency average = 1.503 ms (including failures)
initial connection time = 37.386 ms
tps = 1359.146058 (without initial connection time)
`
	stalledSummary = `pgbench (15.18 (Debian 15.18-0+deb12u1))
transaction type: <builtin: TPC-B (sort of)>
scaling factor: 16
query mode: prepared
number of clients: 16
number of threads: 2
maximum number of tries: 1
duration: 1 s
number of transactions actually processed: 0
number of failed transactions: 0 (NaN%)
`
)

func TestSummaryOfPgbenchIsRead(t *testing.T) {
	for name, tc := range map[string]struct {
		text                 string
		transactions, failed int
		throughput           float64
	}{
		"select":    {selectSummary, 13723, 0, 13949.342024},
		"reconnect": {reconnectSummary, 94, 0, 93.386822},
		"conflicts": {conflictSummary, 1353, 1296, 1359.146058},
	} {
		got, err := parseSummary(tc.text)
		if err != nil || got.transactions != tc.transactions || got.failed != tc.failed || got.throughput != tc.throughput {
			t.Errorf("%s: got %+v, %v, want %+v", name, got, err, tc)
		}
	}
}

func TestRunWithoutTransactionIsToldFromUnreadableOutput(t *testing.T) {
	if _, err := parseSummary(stalledSummary); !errors.Is(err, errNoTransaction) {
		t.Errorf("stalled run: got %v, want %v", err, errNoTransaction)
	}
	unreadable := strings.ReplaceAll(selectSummary, "tps =", "throughput =")
	if _, err := parseSummary(unreadable); err == nil || errors.Is(err, errNoTransaction) {
		t.Errorf("summary without tps: got %v, want an error that quotes it", err)
	}
}

func TestLogOfPgbenchIsRead(t *testing.T) {
	got, err := parseLog(strings.NewReader("0 1192 92 0 1795459466 334182\n2 1 failed 0 1795459468 325166\n1 1 5218 0 1795459468 311600\n"))
	if want := []time.Duration{92 * time.Microsecond, 5218 * time.Microsecond}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v without the failed one", got, err, want)
	}
	for _, bad := range []string{"0 1192\n", "0 1 x 0 1 2\n"} {
		if got, err := parseLog(strings.NewReader(bad)); err == nil {
			t.Errorf("%q: got %v, want an error", bad, got)
		}
	}
}

func TestTransactionsCountFromTheLastLogin(t *testing.T) {
	self := os.Getpid()
	called := 0
	connected := func() error { called++; return nil }
	idle := make(chan error, 1)
	if err := awaitConnections(self, workload{clients: 1 << 20, args: []string{"-S", "-C"}}, idle, connected); err != nil || called != 1 {
		t.Errorf("each transaction connects: got %v, called %d times, want once at the start", err, called)
	}
	before := sockets(self)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	if err := awaitConnections(self, workload{clients: before + 1}, idle, connected); err != nil || called != 2 {
		t.Errorf("all are connected: got %v, called %d times, want 2", err, called)
	}
	idle <- nil
	if err := awaitConnections(self, workload{clients: 1 << 20}, idle, connected); !errors.Is(err, errNoTransaction) || called != 2 || len(idle) != 1 {
		t.Errorf("pgbench ended before: got %v, called %d times, %d ends left, want %v and its end", err, called, len(idle), errNoTransaction)
	}
}
