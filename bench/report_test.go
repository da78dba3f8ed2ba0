package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSpreadIsMedianBetweenExtremes(t *testing.T) {
	for name, tc := range map[string]struct {
		values []float64
		want   spread
	}{
		"none": {nil, spread{}},
		"one":  {[]float64{3}, spread{3, 3, 3}},
		"odd":  {[]float64{9, 1, 2}, spread{2, 1, 9}},
		"even": {[]float64{4, 1, 2, 9}, spread{3, 1, 9}},
	} {
		if got := spreadOf(tc.values); got != tc.want {
			t.Errorf("%s: got %+v, want %+v", name, got, tc.want)
		}
	}
}

func TestPercentilesAreOfNearestRank(t *testing.T) {
	var latencies []time.Duration
	for i := 2000; i >= 1; i-- {
		latencies = append(latencies, time.Duration(i)*time.Millisecond)
	}
	if got, want := percentilesOf(latencies), (percentiles{1000, 1900, 1980, 1998}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if got, want := percentilesOf(latencies[:1]), (percentiles{2000, 2000, 2000, 2000}); got != want {
		t.Errorf("one value: got %+v, want %+v", got, want)
	}
}

// threeResults are a workload as it may end: the server itself, PgBouncer, pgtier, and a peer that failed.
func threeResults() workloadResults {
	results := []result{
		summarize(directTarget, []run{{Throughput: 30000, ServerCPU: 50, latencies: []time.Duration{400 * time.Microsecond}}}, ""),
		summarize(pgbouncerTarget, []run{{Throughput: 20000, ProxyCPU: 20, ServerCPU: 60, Peak: 10 << 20}, {Throughput: 22000, ProxyCPU: 18, ServerCPU: 60, Peak: 8 << 20, latencies: []time.Duration{800 * time.Microsecond}}}, ""),
		summarize(pgtierTarget, []run{{Throughput: 21000, ProxyCPU: 22.8, ServerCPU: 55, Peak: 25 << 20, Failed: 2}}, ""),
		summarize("other", nil, "start other: no answer"),
	}
	compare(results)
	return workloadResults{Name: "select-simple-16", What: "select one row", Results: results}
}

func TestRatiosCompareMedians(t *testing.T) {
	all := threeResults().Results
	pgtier := all[2]
	if got, want := pgtier.ToPgBouncer.ProxyCPU, 22.8/19; got != want {
		t.Errorf("processor time to PgBouncer's: got %v, want %v", got, want)
	}
	if got, want := pgtier.ToDirect.Throughput, 0.7; got != want {
		t.Errorf("throughput to direct: got %v, want %v", got, want)
	}
	if got, want := all[1].ToDirect.P99, 2.0; got != want {
		t.Errorf("p99 to direct: got %v, want %v", got, want)
	}
	if got := pgtier.ToDirect.ProxyCPU; got != 0 {
		t.Errorf("processor time to that of no proxy: got %v, want 0", got)
	}
	if got, want := all[3].ToDirect, (ratios{}); got != want {
		t.Errorf("of a target that failed: got %v, want %v", got, want)
	}
}

func TestReportIsWrittenAsMarkdownAndJSON(t *testing.T) {
	r := &report{
		Date: time.Date(2026, 3, 4, 5, 6, 0, 0, time.UTC), Command: "go run ./bench", Rounds: 2, Seconds: 1,
		Machine:   machine{Processor: "Some CPU", Processors: 2, Memory: 4 << 30, Kernel: "6.1", Load: "0.1 0.2 0.3"},
		Versions:  map[string]string{"Go": "go1.26.8", pgbouncerTarget: "PgBouncer 1.18.0"},
		Workloads: []workloadResults{threeResults()},
		Idle:      []idleResult{{Target: pgtierTarget, Clients: 2000, Before: 10 << 20, After: 40 << 20, BytesPerClient: 15728.64, Seconds: 3}},
	}
	dir := t.TempDir()
	path, err := r.save(filepath.Join(dir, "results"), r.fileName(options{quick: true}))
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(dir, "results", "2026-03-04-quick.md"); path != want {
		t.Errorf("path: got %s, want %s", path, want)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"# Measured on 4 March 2026, 05:06 UTC\n",
		"- Machine: Some CPU, 2 processors, 4096 MiB memory, Linux 6.1; load average before: 0.1 0.2 0.3\n- Go: go1.26.8\n- pgbouncer: PgBouncer 1.18.0\n",
		"\n![Throughput, latency and the proxy's processor time of each target in each workload](2026-03-04-quick.svg)\n",
		"| workload | pgbouncer | pgtier | other |\n|---|---:|---:|---:|\n| select-simple-16 | 19.0 | 22.8 (1.20 ×) | – |\n",
		"| direct | 30000 (30000–30000) | 1.00 | 1.43 | 0.40 | 0.40 | 0.40 | 1.00 | 0.40 | – | – | 50.0 | 1.00 | – |\n",
		"| pgbouncer | 21000 (20000–22000) | 0.70 | 1.00 | 0.80 | 0.80 | 0.80 | 2.00 | 0.80 | 19.0 (18.0–20.0) | 1.00 | 60.0 | 1.20 | 10.0 MiB |\n",
		"| other | – | – | – | – | – | – | – | – | – | – | – | – | – |\n",
		"\nother: start other: no answer.\n",
		"\npgtier: 2 transactions failed.\n",
		"| pgtier | 2000 | 10.0 MiB | 40.0 MiB | 15.7 | 3.0 s |\n",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
	encoded, err := os.ReadFile(strings.TrimSuffix(path, ".md") + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var back report
	if err := json.Unmarshal(encoded, &back); err != nil {
		t.Fatal(err)
	}
	if got := back.Workloads[0].Results[2].ToPgBouncer.ProxyCPU; got != 22.8/19 {
		t.Errorf("the JSON's ratio: got %v, want %v", got, 22.8/19)
	}
}

func TestPlotHasAPointForWhatWasMeasured(t *testing.T) {
	r := &report{Workloads: []workloadResults{threeResults()}}
	path := filepath.Join(t.TempDir(), "plot.svg")
	if drawn, err := r.plot(path); err != nil || !drawn {
		t.Fatalf("got %v, %v, want a plot", drawn, err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"<svg", ">select-simple-16<", ">direct<", ">pgbouncer<", ">pgtier<", ">20000<"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the plot lacks %q", want)
		}
	}
	if strings.Contains(string(text), ">other<") {
		t.Error("the plot names a target that was not measured")
	}
	if points := r.points("other", panels()[0].value, 0); len(points.XYs) != 0 {
		t.Errorf("a target that failed: got points %v", points.XYs)
	}
	if drawn, err := (&report{}).plot(path); err != nil || drawn {
		t.Errorf("no workload: got %v, %v, want no plot", drawn, err)
	}
}

func TestTicksOfPlotAreRoundNumbers(t *testing.T) {
	var got []string
	for _, tick := range (decades{}).Ticks(0.3, 12) {
		got = append(got, tick.Label)
	}
	for _, tick := range (decades{}).Ticks(0.3, 400) {
		got = append(got, tick.Label)
	}
	if want := []string{"0.5", "1", "2", "5", "10", "1", "10", "100"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
