package shardtest

import (
	"os"
	"strconv"
	"testing"
	"time"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
)

// shardCount is how many servers are shards; one more is the plain one.
const shardCount = 3

var servers = pgtest.Share(localpg.Options{Auth: "trust", Shards: shardCount + 1})

func TestMain(m *testing.M) { os.Exit(servers.Run(m)) }

// number is an environment variable's value, for runs longer than those of every change.
func number(t testing.TB, name string, otherwise int64) int64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// seedOf is PGTIER_SHARD_SEED, or a new seed, which is logged so that the run can be repeated.
func seedOf(t testing.TB) int64 {
	seed := number(t, "PGTIER_SHARD_SEED", time.Now().UnixNano()%1_000_000_000)
	t.Logf("PGTIER_SHARD_SEED=%d", seed)
	return seed
}

// secondsOf is PGTIER_SHARD_SECONDS, or what a run within `make test` may take.
func secondsOf(t testing.TB, otherwise int64) time.Duration {
	return time.Duration(number(t, "PGTIER_SHARD_SECONDS", otherwise)) * time.Second
}
