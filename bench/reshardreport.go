package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// The phases of a move as its clients see them. The cuts are part of what is during.
const (
	phaseBefore = "before"
	phaseDuring = "during the whole move"
	phaseCuts   = "of it, during the cuts"
	phaseAfter  = "after"
)

func phases() []string { return []string{phaseBefore, phaseDuring, phaseCuts, phaseAfter} }

// reshardResults are what --reshard found.
type reshardResults struct {
	Rows  int64        `json:"rows_moved"`
	Bare  spread       `json:"bare_copy_rows_per_second"`
	Copy  spread       `json:"move_rows_per_second"`
	Share spread       `json:"move_to_bare_copy"` // within each round
	Loads []loadResult `json:"loads"`
}

// loadResult is what clients of one load saw in all rounds.
type loadResult struct {
	Name   string        `json:"load"`
	Phases []phaseResult `json:"phases"`
	Cuts   int           `json:"cuts"`
	Misses int           `json:"attempts_taken_back"`
	// Held is how long a cut held the statements of its group.
	Held   heldTimes `json:"held_ms"`
	Failed int       `json:"failed_transactions"`
	// Seconds are those of the last round.
	Seconds []second `json:"seconds"`
}

type heldTimes struct {
	P50 float64 `json:"p50"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
}

type phaseResult struct {
	Name       string      `json:"phase"`
	Throughput spread      `json:"transactions_per_second"`
	Latency    percentiles `json:"latency_ms"`
}

// phaseRun is what clients saw in one phase of one move.
type phaseRun struct {
	length    time.Duration
	latencies []time.Duration
}

func (p phaseRun) throughput() float64 {
	if p.length <= 0 {
		return 0
	}
	return float64(len(p.latencies)) / p.length.Seconds()
}

// second is what clients saw in one, counted from the move's beginning.
type second struct {
	At         int     `json:"second"`
	Throughput int     `json:"transactions"`
	P99        float64 `json:"p99_ms"`
}

// stamped is a transaction with the time of its end.
type stamped struct {
	at      time.Time
	elapsed time.Duration // with -R since it was due
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// readStamped reads the logs of all of pgbench's threads. The last line of each may be cut off, because pgbench is killed.
func readStamped(dir string) (all []stamped, failed int, err error) {
	paths, err := filepath.Glob(filepath.Join(dir, "t.*"))
	if err != nil {
		return nil, 0, fmt.Errorf("list pgbench's logs: %w", err)
	}
	for _, path := range paths {
		log, err := os.ReadFile(path)
		if err != nil {
			return nil, 0, fmt.Errorf("open pgbench's log: %w", err)
		}
		whole := log[:bytes.LastIndexByte(log, '\n')+1]
		part, fails, err := parseStamped(bytes.NewReader(whole))
		if err != nil {
			return nil, 0, err
		}
		all, failed = append(all, part...), failed+fails
	}
	return all, failed, nil
}

// parseStamped reads a log: client, number, microseconds or "failed" or "skipped", script, and when, as seconds and microseconds.
func parseStamped(log io.Reader) (all []stamped, failed int, err error) {
	const elapsedField, secondsField, microsecondsField = 2, 4, 5
	lines := bufio.NewScanner(log)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) <= microsecondsField {
			return nil, 0, fmt.Errorf("read pgbench's log: line %q", lines.Text())
		}
		switch fields[elapsedField] {
		case "failed":
			failed++
			continue
		case "skipped":
			continue
		}
		var numbers [3]int64
		for i, field := range []int{elapsedField, secondsField, microsecondsField} {
			if numbers[i], err = strconv.ParseInt(fields[field], 10, 64); err != nil {
				return nil, 0, fmt.Errorf("read pgbench's log: %w", err)
			}
		}
		all = append(all, stamped{at: time.Unix(numbers[1], numbers[2]*1000), elapsed: time.Duration(numbers[0]) * time.Microsecond})
	}
	if err := lines.Err(); err != nil {
		return nil, 0, fmt.Errorf("read pgbench's log: %w", err)
	}
	return all, failed, nil
}

// phaseOf are the transactions that ended in a time.
func phaseOf(all []stamped, from, to time.Time) phaseRun {
	p := phaseRun{length: to.Sub(from)}
	for _, one := range all {
		if !one.at.Before(from) && one.at.Before(to) {
			p.latencies = append(p.latencies, one.elapsed)
		}
	}
	return p
}

// secondsOf cuts a time into seconds from zero on.
func secondsOf(all []stamped, zero, from, to time.Time) []second {
	by := map[int][]time.Duration{}
	for _, one := range all {
		if !one.at.Before(from) && one.at.Before(to) {
			n := int(math.Floor(one.at.Sub(zero).Seconds()))
			by[n] = append(by[n], one.elapsed)
		}
	}
	var out []second
	for n := int(math.Floor(from.Sub(zero).Seconds())); n < int(math.Floor(to.Sub(zero).Seconds())); n++ {
		out = append(out, second{At: n, Throughput: len(by[n]), P99: percentilesOf(by[n]).P99})
	}
	return out
}

// summarizeMoves sums the rounds of a load up.
func summarizeMoves(l load, runs []moveRun) loadResult {
	r := loadResult{Name: l.name}
	for _, phase := range phases() {
		one := phaseResult{Name: phase}
		var throughput []float64
		var latencies []time.Duration
		for _, run := range runs {
			if seen, ok := run.seen[phase]; ok {
				throughput = append(throughput, seen.throughput())
				latencies = append(latencies, seen.latencies...)
			}
		}
		one.Throughput, one.Latency = spreadOf(throughput), percentilesOf(latencies)
		r.Phases = append(r.Phases, one)
	}
	var held []time.Duration
	for _, run := range runs {
		for _, cut := range run.progress.Cuts {
			held = append(held, cut.Held)
		}
		r.Misses, r.Failed, r.Seconds = r.Misses+run.progress.Misses, r.Failed+run.failed, run.seconds
	}
	r.Cuts = len(held)
	if len(held) > 0 {
		p := percentilesOf(held)
		r.Held = heldTimes{P50: p.P50, P99: p.P99, Max: milliseconds(slices.Max(held))}
	}
	return r
}

// reshardTable writes what moves cost.
func (r *report) reshardTable(w io.Writer) {
	found := r.Reshard
	if found == nil {
		return
	}
	fmt.Fprintf(w, "\n## Rows a second\n\n%d rows from one server to another that is new, without other work; medians (least and greatest). A move is timed from its slot to the commit of its last row.\n\n", found.Rows)
	fmt.Fprint(w, "| | rows/s (min–max) |\n|---|---:|\n")
	fmt.Fprintf(w, "| COPY, binary, into COPY | %s |\n| move | %s |\n| move ÷ COPY, in each round | %.2f (%.2f–%.2f) |\n", withRange(found.Bare), withRange(found.Copy), found.Share.Median, found.Share.Min, found.Share.Max)
	for _, l := range found.Loads {
		fmt.Fprintf(w, "\n## Clients meanwhile: %s\n\n| | tx/s (min–max) | p50 ms | p99 ms | p99.9 ms |\n|---|---:|---:|---:|---:|\n", l.Name)
		for _, p := range l.Phases {
			fmt.Fprintf(w, "| %s | %s | %.2f | %.2f | %.2f |\n", p.Name, withRange(p.Throughput), p.Latency.P50, p.Latency.P99, p.Latency.P999)
		}
		fmt.Fprintf(w, "\n%d cuts held the statements of their group for %.1f ms (p50), %.1f ms (p99), %.1f ms (most); %d attempts were taken back; %d transactions failed.\n",
			l.Cuts, l.Held.P50, l.Held.P99, l.Held.Max, l.Misses, l.Failed)
	}
}

// plotMoves draws the seconds of the last round of each load; false without any.
func (r *report) plotMoves(path string) (bool, error) {
	if r.Reshard == nil {
		return false, nil
	}
	var drawn [][]*plot.Plot
	for i, panel := range []struct {
		title string
		value func(second) float64
	}{
		{"transactions a second, by seconds since the move began", func(s second) float64 { return float64(s.Throughput) }},
		{"p99 latency in each second, ms", func(s second) float64 { return s.P99 }},
	} {
		p := plot.New()
		p.Title.Text = panel.title
		p.Legend.Top = true
		for _, style := range []*text.Style{&p.Title.TextStyle, &p.X.Tick.Label, &p.Y.Tick.Label, &p.Legend.TextStyle} {
			style.Font.Variant = "Sans"
		}
		p.Add(horizontals())
		for k, l := range r.Reshard.Loads {
			var line plotter.XYs
			for _, s := range l.Seconds {
				line = append(line, plotter.XY{X: float64(s.At), Y: panel.value(s)})
			}
			if len(line) == 0 {
				continue
			}
			drawnLine, err := plotter.NewLine(line)
			if err != nil {
				return false, fmt.Errorf("plot moves: %w", err)
			}
			drawnLine.Color = colours()[k+1]
			p.Add(drawnLine)
			if i == 0 {
				p.Legend.Add(l.Name, drawnLine)
			}
		}
		p.Y.Min = 0
		drawn = append(drawn, []*plot.Plot{p})
	}
	const width = 24 * vg.Centimeter
	canvas := vgsvg.New(width, panelHeight*vg.Length(len(drawn)))
	tiles := draw.Tiles{Rows: len(drawn), Cols: 1, PadY: vg.Millimeter * 3}
	for i, row := range plot.Align(drawn, tiles, draw.New(canvas)) {
		drawn[i][0].Draw(row[0])
	}
	return true, writePlot(canvas, path)
}
