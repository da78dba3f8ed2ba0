package main

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"pgtier/cmd/localpg"
)

func TestSharesOfHitsAreOfTheReadsOfOneRun(t *testing.T) {
	before, after := cacheCounts{hits: 100, looked: 400}, cacheCounts{hits: 160, looked: 480}
	if got, want := *after.since(before, 80), (cacheShares{hits: 0.75, looked: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got, want := *(cacheCounts{hits: 160, looked: -1}).since(cacheCounts{hits: 100, looked: -1}, 80), (cacheShares{hits: 0.75, looked: -1}); got != want {
		t.Errorf("of a cache that does not tell: got %+v, want %+v", got, want)
	}
	use := cacheUseOf([]run{{cache: &cacheShares{0.5, 0.9}}, {cache: &cacheShares{0.7, 1}}, {cache: &cacheShares{0.6, 0.8}}})
	if want := (cacheUse{Hits: spread{0.6, 0.5, 0.7}, Looked: spread{0.9, 0.8, 1}}); *use != want {
		t.Errorf("got %+v, want %+v", *use, want)
	}
	if use := cacheUseOf([]run{{}}); use != nil {
		t.Errorf("without a cache: got %+v, want nothing", *use)
	}
}

// cacheResults are workloads of --cache as they may end: one of hits, one whose reads never hit.
func cacheResults() []workloadResults {
	hot := []result{
		summarize(directTarget, []run{{Throughput: 20000, ServerCPU: 30, latencies: []time.Duration{4 * time.Millisecond}}}, ""),
		summarize(pgpoolCacheTarget, []run{{Throughput: 25000, ProxyCPU: 20, ServerCPU: 9, cache: &cacheShares{0.5, -1}}}, ""),
		summarize(pgtierTarget, []run{{Throughput: 40000, ProxyCPU: 10, ServerCPU: 11}}, ""),
		summarize(cacheTarget, []run{{Throughput: 100000, ProxyCPU: 5, ServerCPU: 0.25, cache: &cacheShares{1, 1}, latencies: []time.Duration{time.Millisecond}}}, ""),
	}
	runs := map[string][]run{
		pgtierTarget: {{round: 0, ProxyCPU: 20}, {round: 1, ProxyCPU: 30}, {round: 2, ProxyCPU: 20}},
		cacheTarget:  {{round: 0, ProxyCPU: 20.5, cache: &cacheShares{0, 0.02}}, {round: 1, ProxyCPU: 30.2, cache: &cacheShares{0, 0.02}}, {round: 2, ProxyCPU: 19.8, cache: &cacheShares{0, 0.02}}},
	}
	never := []result{summarize(pgtierTarget, runs[pgtierTarget], ""), summarize(cacheTarget, runs[cacheTarget], "")}
	compare(hot)
	compare(never)
	return []workloadResults{
		{Name: "cache-hot-simple-64", What: "select", Results: hot},
		{Name: "cache-never-simple-64", What: "select", Results: never, Keeping: differenceOf(runs, cacheTarget, pgtierTarget)},
	}
}

func TestReportTellsWhichReadsWereHits(t *testing.T) {
	r := &report{Workloads: cacheResults()}
	var text strings.Builder
	r.markdown(&text, "")
	for _, want := range []string{
		"Hits are shares of the reads",
		"| cache-hot-simple-64 | 100.0 % (100.0–100.0) | 50.0 % (50.0–50.0) | 5.00 | 2.50 | 4.00 | 0.25 | – | 0.50 | 0.25 | 5.0 + 0.2 | – |\n",
		"| cache-never-simple-64 | 0.0 % (0.0–0.0) | – |",
		"| hits (min–max) |",
		"The cache costs 0.20 µs of the proxy's processor time a transaction, 1.00 % of what it is without",
		"lie between −0.20 and 0.50. It was asked for 2 % of the reads",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the report lacks %q:\n%s", want, text.String())
		}
	}
	encoded, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"cache":{"hits_of_reads":{"median":1,`, `"to_pgpool_cache":{"throughput":4,`, `"to_pgtier_without_cache":{"throughput":2.5,`, `"cache_cpu_us_per_transaction":{"median":0.1`} {
		if !strings.Contains(string(encoded), want) {
			t.Errorf("the JSON lacks %s:\n%s", want, encoded)
		}
	}
	text.Reset()
	(&report{Workloads: []workloadResults{threeResults()}}).markdown(&text, "")
	if strings.Contains(text.String(), "cache") {
		t.Errorf("a report without caches tells of one:\n%s", text.String())
	}
}

// TestCacheAgainstRealServers runs every workload of --cache once, and looks which answers were hits and whether they
// are what the server says.
func TestCacheAgainstRealServers(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	const (
		rows    = 5000
		clients = 4 // whom also a busy machine serves within a second
	)
	s, err := startShardServers(ctx, rows, 0, quickClients, t.Logf)
	if err != nil {
		t.Fatal(err)
	}
	p := proxiesOf(t, s)
	targets, err := cacheTargets(ctx, options{cache: true}, p, t.Logf)
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
	// Processes of Pgpool-II that have never served take a second for their first.
	short.warm = []workload{{name: "warm-up", mode: "simple", sampling: 1, clients: clients, targets: []string{pgpoolCacheTarget}, script: "\\set aid 1\n" + readAccount("warm")}}
	if err := short.warmUp(ctx); err != nil {
		t.Fatal(err)
	}
	for _, w := range cacheWorkloads(rows) {
		if strings.HasSuffix(w.name, "-64") && strings.HasPrefix(w.name, "cache-hot") {
			continue // the same with more clients
		}
		w.seconds, w.clients = 1, clients
		if !strings.HasPrefix(w.name, "cache-hot-simple") { // these two are measured by other workloads, too
			w.targets = slices.DeleteFunc(slices.Clone(w.targets), func(name string) bool { return name == directTarget || name == pgbouncerTarget })
		}
		runs, problems := short.measure(ctx, w)
		for _, target := range targets {
			if got := len(runs[target.name]); got != 1 && slices.Contains(w.targets, target.name) || problems[target.name] != "" {
				t.Errorf("%s against %s: %d runs, %s", w.name, target.name, got, problems[target.name])
			}
			for _, one := range runs[target.name] {
				if one.Failed > 0 || one.Throughput <= 0 || (one.cache != nil) != (target.caches != nil) {
					t.Errorf("%s against %s: got %+v", w.name, target.name, one)
				}
			}
		}
		if got := runs[cacheTarget]; len(got) == 1 {
			checkHits(t, w, *got[0].cache)
		}
	}
	for _, target := range targets {
		c, err := target.connect(ctx)
		if err != nil {
			t.Fatal(err)
		}
		results, err := c.Exec(ctx, "SELECT sum(abalance) FROM pgbench_accounts").ReadAll()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Close(ctx); err != nil {
			t.Error(err)
		}
		want, err := s.manager.Value(ctx, benchDatabase, "SELECT sum(abalance) FROM pgbench_accounts")
		if err != nil {
			t.Fatal(err)
		}
		if got := string(results[0].Rows[0][0]); got != want {
			t.Errorf("%s after all updates: got sum %s, want %s", target.name, got, want)
		}
	}
}

// checkHits holds what pgtier's cache did to what the workload is for.
func checkHits(t *testing.T, w workload, got cacheShares) {
	t.Helper()
	low, high := 0.0, 1.0 // of workloads that write: by chance
	switch {
	case strings.Contains(w.name, "hot"):
		low = 0.5 // of the few reads of a machine that does much else
	case strings.Contains(w.name, "never"):
		high = 0
	case strings.Contains(w.name, "rare"):
		low, high = 0.15, 0.35
	}
	// The reads of workloads that write are a share of the transactions by chance.
	const chance = 1.1
	if got.hits < low || got.hits > high*chance || got.looked < got.hits || got.looked <= 0 && low > 0 || got.looked > chance {
		t.Errorf("%s: %.3f of the reads were hits, of %.3f looked for; want from %.2f to %.2f", w.name, got.hits, got.looked, low, high)
	}
}
