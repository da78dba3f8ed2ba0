package main

import (
	"math"
	"slices"
	"time"
)

// spread is what several rounds measured. All zero: nothing was measured.
type spread struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// spreadOf sums values up; the median of an even number is the mean of the two in the middle.
func spreadOf(values []float64) spread {
	if len(values) == 0 {
		return spread{}
	}
	sorted := slices.Sorted(slices.Values(values))
	middle := len(sorted) / 2
	median := sorted[middle]
	if len(sorted)%2 == 0 {
		median = (sorted[middle-1] + sorted[middle]) / 2
	}
	return spread{Median: median, Min: sorted[0], Max: sorted[len(sorted)-1]}
}

// percentiles are latencies in milliseconds, over the logged transactions of all rounds.
type percentiles struct {
	P50  float64 `json:"p50"`
	P95  float64 `json:"p95"`
	P99  float64 `json:"p99"`
	P999 float64 `json:"p99_9"`
}

func percentilesOf(latencies []time.Duration) percentiles {
	if len(latencies) == 0 {
		return percentiles{}
	}
	sorted := slices.Sorted(slices.Values(latencies))
	// Nearest rank: the smallest value that at least this share of all does not exceed.
	at := func(share float64) float64 {
		rank := int(math.Ceil(share * float64(len(sorted))))
		return float64(sorted[max(rank-1, 0)]) / float64(time.Millisecond)
	}
	return percentiles{P50: at(0.50), P95: at(0.95), P99: at(0.99), P999: at(0.999)}
}

// ratios compare medians with those of another target; 0 where there is nothing to compare.
type ratios struct {
	Throughput float64 `json:"throughput,omitempty"`
	P99        float64 `json:"latency_p99,omitempty"`
	ProxyCPU   float64 `json:"proxy_cpu,omitempty"`
	ServerCPU  float64 `json:"server_cpu,omitempty"`
}

// result is what one target did in one workload. Problem says why there are no numbers.
type result struct {
	Target      string      `json:"target"`
	Problem     string      `json:"problem,omitempty"`
	Rounds      int         `json:"rounds"`
	Throughput  spread      `json:"transactions_per_second"`
	Latency     percentiles `json:"latency_ms"`
	ProxyCPU    spread      `json:"proxy_cpu_us_per_transaction"`
	ServerCPU   spread      `json:"postgresql_cpu_us_per_transaction"`
	Peak        int64       `json:"proxy_peak_bytes,omitempty"`
	Failed      int         `json:"failed_transactions,omitempty"`
	Rows        spread      `json:"rows_per_second,omitzero"` // read, where a transaction reads many
	Cache       *cacheUse   `json:"cache,omitempty"`          // nil: the target has none
	ToDirect    ratios      `json:"to_direct"`
	ToPgBouncer ratios      `json:"to_pgbouncer"`
	ToPgpool    ratios      `json:"to_pgpool_cache,omitzero"`
	ToUncached  ratios      `json:"to_pgtier_without_cache,omitzero"` // of pgtier's with one
}

func summarize(target string, runs []run, problem string) result {
	r := result{Target: target, Problem: problem, Rounds: len(runs)}
	var throughput, proxyCPU, serverCPU []float64
	var latencies []time.Duration
	for _, one := range runs {
		throughput = append(throughput, one.Throughput)
		proxyCPU = append(proxyCPU, one.ProxyCPU)
		serverCPU = append(serverCPU, one.ServerCPU)
		latencies = append(latencies, one.latencies...)
		r.Peak = max(r.Peak, one.Peak)
		r.Failed += one.Failed
	}
	r.Throughput, r.ProxyCPU, r.ServerCPU = spreadOf(throughput), spreadOf(proxyCPU), spreadOf(serverCPU)
	r.Cache = cacheUseOf(runs)
	r.Latency = percentilesOf(latencies)
	return r
}

// differenceOf is what one proxy costs more than another: its processor time a transaction, less that of the other in the same
// round. With shards it is what routing costs, with a cache that does not serve what looking and keeping do.
func differenceOf(runs map[string][]run, with, without string) spread {
	var all []float64
	for _, more := range runs[with] {
		for _, less := range runs[without] {
			if more.round == less.round {
				all = append(all, more.ProxyCPU-less.ProxyCPU)
			}
		}
	}
	return spreadOf(all)
}

// reading adds how many rows a second were read where each transaction reads so many; 0 says that it does not matter.
func (r result) reading(rows int) result {
	n := float64(rows)
	r.Rows = spread{r.Throughput.Median * n, r.Throughput.Min * n, r.Throughput.Max * n}
	return r
}

// compare fills in the ratios of all results of one workload.
func compare(results []result) {
	direct, pgbouncer := resultOf(results, directTarget), resultOf(results, pgbouncerTarget)
	pgpool, pgtier := resultOf(results, pgpoolCacheTarget), resultOf(results, pgtierTarget)
	for i := range results {
		results[i].ToDirect = ratiosOf(results[i], direct)
		results[i].ToPgBouncer = ratiosOf(results[i], pgbouncer)
		results[i].ToPgpool = ratiosOf(results[i], pgpool)
		if results[i].Target == cacheTarget {
			results[i].ToUncached = ratiosOf(results[i], pgtier)
		}
	}
}

func ratiosOf(r, base result) ratios {
	return ratios{
		Throughput: ratio(r.Throughput.Median, base.Throughput.Median),
		P99:        ratio(r.Latency.P99, base.Latency.P99),
		ProxyCPU:   ratio(r.ProxyCPU.Median, base.ProxyCPU.Median),
		ServerCPU:  ratio(r.ServerCPU.Median, base.ServerCPU.Median),
	}
}

// ratio is 0 where either side was not measured.
func ratio(a, b float64) float64 {
	if b == 0 {
		return 0
	}
	return a / b
}
