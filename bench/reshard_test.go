package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgtier/resharder"
)

func TestStampedLogsAreReadUpToTheLastWholeLine(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"t.1":   "0 1 1500 0 1700000000 250000 0\n1 1 failed 0 1700000000 500000 0\n0 2 9000 0 1700000001 0",
		"t.1.1": "2 1 skipped 0 1700000000 0 0\n2 2 2500 0 1700000001 750000 0\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	all, failed, err := readStamped(dir)
	if err != nil || failed != 1 || len(all) != 2 {
		t.Fatalf("got %v, %d failed, %v", all, failed, err)
	}
	began := time.Unix(1700000001, 0)
	before, during := phaseOf(all, began.Add(-time.Second), began), phaseOf(all, began, began.Add(2*time.Second))
	if got := before.throughput(); got != 1 || before.latencies[0] != 1500*time.Microsecond {
		t.Errorf("before: %v, %v", got, before.latencies)
	}
	if got := during.throughput(); got != 0.5 || during.latencies[0] != 2500*time.Microsecond {
		t.Errorf("during: %v, %v", got, during.latencies)
	}
	got := secondsOf(all, began, began.Add(-time.Second), began.Add(2*time.Second))
	want := []second{{-1, 1, 1.5}, {0, 1, 2.5}, {1, 0, 0}}
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("second %d: got %v, want %v", i, got[i], want[i])
		}
	}
	if _, _, err := parseStamped(strings.NewReader("0 1 1500 0\n")); err == nil {
		t.Error("a line without a time was taken")
	}
}

func TestStepsAreThoseOfTheJob(t *testing.T) {
	log := `{"level":"info","ts":"2026-11-27T06:00:00.5Z","msg":"step of the job","database":"app","job":1,"step":"copy"}
{"level":"info","ts":"2026-11-27T06:00:01Z","msg":"serving"}
{"level":"info","ts":"2026-11-27T06:00:02Z","msg":"step of the job","database":"app","job":2,"step":"copy"}
{"level":"info","ts":"2026-11-27T06:00:04.25Z","msg":"step of the job","database":"app","job":2,"step":"index"}
`
	at, err := steps(log, "2")
	if err != nil {
		t.Fatal(err)
	}
	if got := at[resharder.StepIndex].Sub(at[resharder.StepCopy]); got != 2250*time.Millisecond {
		t.Errorf("got %s", got)
	}
}

func TestReportOfMoves(t *testing.T) {
	cut := resharder.Cut{Held: 12 * time.Millisecond}
	run := moveRun{failed: 1, seen: map[string]phaseRun{phaseBefore: {time.Second, []time.Duration{time.Millisecond, 3 * time.Millisecond}}},
		progress: resharder.Progress{Misses: 2, Cuts: []resharder.Cut{cut, {Held: 30 * time.Millisecond}}}, seconds: []second{{0, 2, 3}, {1, 4, 2}}}
	r := &report{Rounds: 1, Seconds: 10, Reshard: &reshardResults{Rows: 500_000, Bare: spread{1000, 900, 1100}, Copy: spread{800, 700, 900}, Share: spread{0.8, 0.7, 0.9},
		Loads: []loadResult{summarizeMoves(load{name: "full speed"}, []moveRun{run})}}}
	path, err := r.save(t.TempDir(), "x")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"500000 rows", "0.80 (0.70–0.90)", "full speed", "| before | 2.00 (2.00–2.00) | 1.00 | 3.00 |", "2 cuts held", "12.0 ms (p50), 30.0 ms (p99), 30.0 ms (most)", "2 attempts were taken back; 1 transactions failed", "(x.svg)"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in:\n%s", want, text)
		}
	}
	if drawn, err := os.ReadFile(strings.TrimSuffix(path, ".md") + ".svg"); err != nil || !strings.Contains(string(drawn), "full speed") {
		t.Errorf("the plot: %v", err)
	}
}
