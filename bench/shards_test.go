package main

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"pgtier/cmd/localpg"
	"pgtier/router/shard"
)

func TestTransfersStayOnOneShardOrGoToTwo(t *testing.T) {
	even, err := shard.Even(1, shardBuckets, "s0", "s1", "s2")
	if err != nil {
		t.Fatal(err)
	}
	owner := func(key int) shard.Name {
		name, _ := even.Owner(shard.Bucket(key % shardBuckets)) // as the function modulo has it
		return name
	}
	for key := range 3 * shardBuckets {
		if owner(key) != owner(key+shardBuckets) {
			t.Fatalf("keys %d and %d: on two shards, want one", key, key+shardBuckets)
		}
		if owner(key) == owner(key+shardBuckets/2) {
			t.Fatalf("keys %d and %d: on one shard, want two", key, key+shardBuckets/2)
		}
	}
}

func TestRoutingIsTheMedianOfDifferencesWithinRounds(t *testing.T) {
	runs := map[string][]run{
		pgtierTarget:   {{round: 0, ProxyCPU: 10}, {round: 1, ProxyCPU: 40}, {round: 3, ProxyCPU: 12}},
		oneShardTarget: {{round: 0, ProxyCPU: 11}, {round: 1, ProxyCPU: 38}, {round: 2, ProxyCPU: 99}, {round: 3, ProxyCPU: 15}},
	}
	if got, want := differenceOf(runs, oneShardTarget, pgtierTarget), (spread{1, -2, 3}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got := differenceOf(map[string][]run{pgtierTarget: runs[pgtierTarget]}, oneShardTarget, pgtierTarget); got != (spread{}) {
		t.Errorf("without shards only: got %+v, want nothing", got)
	}
	w := workloadResults{Name: "shards-point-simple-16", What: "select", Routing: differenceOf(runs, oneShardTarget, pgtierTarget), Results: []result{summarize(oneShardTarget, runs[oneShardTarget], "").reading(7)}}
	w.Results[0].Throughput.Median = 1
	var text strings.Builder
	w.table(&text)
	for _, want := range []string{"costs 1.00 µs", "between −2.00 and 3.00"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, text.String())
		}
	}
	if strings.Contains(text.String(), "PgBouncer") {
		t.Errorf("the report compares with PgBouncer, which did not run:\n%s", text.String())
	}
}

// TestShardsAgainstRealServers runs every workload of --shards once, and looks where transfers went.
func TestShardsAgainstRealServers(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	const rows = 5 * shardBuckets
	s, err := startShardServers(ctx, rows, 3, quickClients, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	p := proxiesOf(t, s)
	targets, err := shardTargets(ctx, options{shards: true}, p, t.Logf)
	t.Cleanup(func() {
		if err := stopTargets(targets); err != nil {
			t.Error(err)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	binaries, err := localpg.FindBinaries()
	if err != nil {
		t.Fatal(err)
	}
	short := &series{pgbench: pgbench{program: binaries.Path("pgbench"), scratch: p.dir}, server: s, targets: targets, rounds: 1, seconds: 1, say: t.Logf}
	const sums = "SELECT sum(abalance)::text FROM pgbench_accounts"
	before := make(map[string]string)
	for _, one := range s.cluster.Shards {
		if before[one.Name], err = one.Manager.Value(ctx, benchDatabase, sums); err != nil {
			t.Fatal(err)
		}
	}
	for _, w := range shardWorkloads(rows) {
		w.seconds = 1
		runs, problems := short.measure(ctx, w)
		left := func(target *target) bool {
			return slices.Contains(w.targets, target.name) && len(runs[target.name]) == 0
		}
		for tries := 1; tries < 3 && slices.ContainsFunc(targets, left); tries++ { // a machine that stood still has left one out
			runs, problems = short.measure(ctx, w)
		}
		for _, target := range targets {
			if got := len(runs[target.name]); got != 1 && slices.Contains(w.targets, target.name) || problems[target.name] != "" {
				t.Errorf("%s against %s: %d runs, %s", w.name, target.name, got, problems[target.name])
			}
			for _, one := range runs[target.name] {
				if one.Failed > 0 || one.Throughput <= 0 || one.ServerCPU <= 0 {
					t.Errorf("%s against %s: got %+v", w.name, target.name, one)
				}
			}
		}
	}
	if t.Failed() {
		return
	}
	// What two-phase commit moved came from one shard and went to another, so their own sums differ from those before.
	moved := 0
	for _, one := range s.cluster.Shards {
		after, err := one.Manager.Value(ctx, benchDatabase, sums)
		if err != nil {
			t.Fatal(err)
		}
		left, err := one.Manager.Value(ctx, benchDatabase, "SELECT count(*) FROM pg_prepared_xacts")
		if err != nil {
			t.Fatal(err)
		}
		if left != "0" {
			t.Errorf("%s: %s transactions are in doubt", one.Name, left)
		}
		if after != before[one.Name] {
			moved++
		}
	}
	if same, _ := s.manager.Value(ctx, benchDatabase, sums); same != before["s0"] {
		t.Errorf("transfers on one server changed its sum from %s to %s", before["s0"], same)
	}
	if moved == 0 {
		t.Error("no transfer went over two shards")
	}
}
