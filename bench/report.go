package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// report is everything that one series found, as it stands in the JSON file.
type report struct {
	Date      time.Time         `json:"date"`
	Command   string            `json:"command"`
	Machine   machine           `json:"machine"`
	Versions  map[string]string `json:"versions"` // by target, and of Go
	Notes     []string          `json:"notes,omitempty"`
	Rounds    int               `json:"rounds"`
	Seconds   int               `json:"seconds_per_run"`
	Workloads []workloadResults `json:"workloads"`
	Idle      []idleResult      `json:"idle_clients,omitempty"`
	Reshard   *reshardResults   `json:"reshard,omitempty"`
}

// workloadResults are the results of all targets in one workload.
type workloadResults struct {
	Name    string   `json:"name"`
	What    string   `json:"what"`
	Routing spread   `json:"routing_cpu_us_per_transaction,omitzero"` // see differenceOf
	Keeping spread   `json:"cache_cpu_us_per_transaction,omitzero"`   // of one that hardly serves; see differenceOf
	Results []result `json:"results"`
}

// of is a target's result, the zero one if it has none.
func (wr workloadResults) of(target string) result { return resultOf(wr.Results, target) }

func resultOf(results []result, target string) result {
	for _, one := range results {
		if one.Target == target {
			return one
		}
	}
	return result{}
}

// introduce notes which targets there are and what is particular about them.
func (r *report) introduce(targets []*target) {
	for _, t := range targets {
		r.Versions[t.name] = t.version
		if t.note != "" {
			r.Notes = append(r.Notes, t.note)
		}
	}
}

// save writes the report as <name>.md, <name>.json and <name>.svg into dir, and returns the first's path.
func (r *report) save(dir, name string) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("make directory of results: %w", err)
	}
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return "", fmt.Errorf("encode results: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".json"), append(text, '\n'), 0o644); err != nil {
		return "", fmt.Errorf("write results: %w", err)
	}
	draw := r.plot
	if r.Reshard != nil {
		draw = r.plotMoves
	}
	drawn, err := draw(filepath.Join(dir, name+".svg"))
	if err != nil {
		return "", err
	}
	image := ""
	if drawn {
		image = name + ".svg"
	}
	var markdown strings.Builder
	r.markdown(&markdown, image)
	path := filepath.Join(dir, name+".md")
	if err := os.WriteFile(path, []byte(markdown.String()), 0o644); err != nil {
		return "", fmt.Errorf("write results: %w", err)
	}
	return path, nil
}

// markdown writes the report for people, with a plot when there is one.
func (r *report) markdown(w io.Writer, image string) {
	fmt.Fprintf(w, "# Measured on %s\n\n", r.Date.Format("2 January 2006, 15:04 MST"))
	fmt.Fprintf(w, "`%s`\n\n", r.Command)
	fmt.Fprintf(w, "- Machine: %s, %d processors, %s memory, Linux %s; load average before: %s\n", r.Machine.Processor, r.Machine.Processors, mebibytes(r.Machine.Memory), r.Machine.Kernel, r.Machine.Load)
	for _, name := range sortedKeys(r.Versions) {
		fmt.Fprintf(w, "- %s: %s\n", name, r.Versions[name])
	}
	how := fmt.Sprintf("%d rounds of %d s for each workload and target, the targets in turn", r.Rounds, r.Seconds)
	if r.Reshard != nil {
		how = fmt.Sprintf("%d rounds, in turn a bare COPY and moves; clients are watched for %d s before and after each move", r.Rounds, r.Seconds)
	}
	fmt.Fprintf(w, "- %s. Clients, proxies and PostgreSQL share the machine; the commits are durable.\n", how)
	for _, note := range r.Notes {
		fmt.Fprintf(w, "- %s\n", note)
	}
	switch {
	case image != "" && r.Reshard != nil:
		fmt.Fprintf(w, "\n![Throughput and p99 of clients while buckets move](%s)\n", image)
	case image != "":
		fmt.Fprintf(w, "\n![Throughput, latency and the proxy's processor time of each target in each workload](%s)\n", image)
	}
	r.cpuTable(w)
	r.cacheTable(w)
	for _, workload := range r.Workloads {
		fmt.Fprintf(w, "\n## %s\n\n%s.\n\n", workload.Name, sentence(workload.What))
		workload.table(w)
	}
	r.idleTable(w)
	r.reshardTable(w)
}

// cpuTable writes what the targets are first compared by: the proxy's processor time a transaction.
func (r *report) cpuTable(w io.Writer) {
	if len(r.Workloads) == 0 {
		return
	}
	behind := ""
	if slices.Contains(r.targetNames(), pgbouncerTarget) {
		behind = "; behind it the ratio to PgBouncer's"
	}
	fmt.Fprintf(w, "\n## Processor time of the proxy, µs a transaction\n\nMedian of the rounds%s.\n\n| workload |", behind)
	proxies := slices.DeleteFunc(r.targetNames(), func(name string) bool { return name == directTarget })
	for _, name := range proxies {
		fmt.Fprintf(w, " %s |", name)
	}
	fmt.Fprintf(w, "\n|---|%s\n", strings.Repeat("---:|", len(proxies)))
	for _, workload := range r.Workloads {
		fmt.Fprintf(w, "| %s |", workload.Name)
		for _, name := range proxies {
			fmt.Fprintf(w, " %s |", workload.cpuCell(name))
		}
		fmt.Fprintln(w)
	}
}

// targetNames lists the targets in the order of the results.
func (r *report) targetNames() []string {
	var names []string
	for _, workload := range r.Workloads {
		for _, one := range workload.Results {
			if !slices.Contains(names, one.Target) {
				names = append(names, one.Target)
			}
		}
	}
	return names
}

func (wr workloadResults) cpuCell(target string) string {
	for _, one := range wr.Results {
		if one.Target != target || one.ProxyCPU.Median == 0 {
			continue
		}
		if target == pgbouncerTarget || one.ToPgBouncer.ProxyCPU == 0 {
			return number(one.ProxyCPU.Median)
		}
		return fmt.Sprintf("%s (%.2f ×)", number(one.ProxyCPU.Median), one.ToPgBouncer.ProxyCPU)
	}
	return "–"
}

// column is one of a workload's table. It is left out where no target has a value for it.
type column struct {
	title string
	cell  func(result) string
	has   func(result) bool // nil: every table has it
}

func columns() []column {
	milliseconds := func(of func(percentiles) float64) func(result) string {
		return func(r result) string { return fmt.Sprintf("%.2f", of(r.Latency)) }
	}
	besidePgBouncer := func(r result) bool { return r.ToPgBouncer != ratios{} }
	return []column{
		{"tx/s (min–max)", func(r result) string { return withRange(r.Throughput) }, nil},
		{"÷ direct", func(r result) string { return factor(r.ToDirect.Throughput) }, nil},
		{"÷ PgBouncer", func(r result) string { return factor(r.ToPgBouncer.Throughput) }, besidePgBouncer},
		{"hits (min–max)", result.hits, func(r result) bool { return r.Cache != nil }},
		{"rows/s", func(r result) string { return number(r.Rows.Median) }, func(r result) bool { return r.Rows.Median != 0 }},
		{"p50 ms", milliseconds(func(p percentiles) float64 { return p.P50 }), nil},
		{"p95 ms", milliseconds(func(p percentiles) float64 { return p.P95 }), nil},
		{"p99 ms", milliseconds(func(p percentiles) float64 { return p.P99 }), nil},
		{"÷ direct", func(r result) string { return factor(r.ToDirect.P99) }, nil},
		{"p99.9 ms", milliseconds(func(p percentiles) float64 { return p.P999 }), nil},
		{"proxy µs/tx (min–max)", func(r result) string { return withRange(r.ProxyCPU) }, nil},
		{"÷ PgBouncer", func(r result) string { return factor(r.ToPgBouncer.ProxyCPU) }, besidePgBouncer},
		{"PostgreSQL µs/tx", func(r result) string { return number(r.ServerCPU.Median) }, nil},
		{"÷ direct", func(r result) string { return factor(r.ToDirect.ServerCPU) }, nil},
		{"peak memory", func(r result) string { return mebibytes(r.Peak) }, nil},
	}
}

// table writes the results of one workload.
func (wr workloadResults) table(w io.Writer) {
	shown := slices.DeleteFunc(columns(), func(c column) bool { return c.has != nil && !slices.ContainsFunc(wr.Results, c.has) })
	fmt.Fprint(w, "| |")
	for _, c := range shown {
		fmt.Fprintf(w, " %s |", c.title)
	}
	fmt.Fprintf(w, "\n|---|%s\n", strings.Repeat("---:|", len(shown)))
	var remarks []string
	for _, one := range wr.Results {
		if one.Problem != "" {
			remarks = append(remarks, fmt.Sprintf("%s: %s.", one.Target, one.Problem))
		}
		if one.Failed > 0 {
			remarks = append(remarks, fmt.Sprintf("%s: %d transactions failed.", one.Target, one.Failed))
		}
		if one.Rounds == 0 {
			fmt.Fprintf(w, "| %s |%s\n", one.Target, strings.Repeat(" – |", len(shown)))
			continue
		}
		fmt.Fprintf(w, "| %s |", one.Target)
		for _, c := range shown {
			fmt.Fprintf(w, " %s |", c.cell(one))
		}
		fmt.Fprintln(w)
	}
	if wr.Routing != (spread{}) {
		remarks = append(remarks, sentenceOfRouting(wr.Routing))
	}
	if wr.Keeping != (spread{}) {
		remarks = append(remarks, wr.sentenceOfKeeping())
	}
	for _, remark := range remarks {
		fmt.Fprintf(w, "\n%s\n", remark)
	}
}

// idleTable writes what clients that do nothing cost.
func (r *report) idleTable(w io.Writer) {
	if len(r.Idle) == 0 {
		return
	}
	fmt.Fprint(w, "\n## Idle clients\n\nMemory of the proxy (PSS) for clients that each ran one query and then stay connected.\n\n")
	fmt.Fprint(w, "| | clients | before | with them | kB a client | connected in |\n|---|---:|---:|---:|---:|---:|\n")
	for _, one := range r.Idle {
		if one.Problem != "" {
			fmt.Fprintf(w, "| %s | %d | – | – | %s | – |\n", one.Target, one.Clients, one.Problem)
			continue
		}
		fmt.Fprintf(w, "| %s | %d | %s | %s | %.1f | %.1f s |\n", one.Target, one.Clients, mebibytes(one.Before), mebibytes(one.After), one.BytesPerClient/1000, one.Seconds)
	}
}

// number prints three digits that matter.
func number(v float64) string {
	switch {
	case v == 0:
		return "–"
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

func withRange(s spread) string {
	if s.Median == 0 {
		return "–"
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.Median), number(s.Min), number(s.Max))
}

func factor(v float64) string {
	if v == 0 {
		return "–"
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

func mebibytes(bytes int64) string {
	if bytes == 0 {
		return "–"
	}
	return number(float64(bytes)/(1<<20)) + " MiB"
}

func sentence(text string) string { return strings.ToUpper(text[:1]) + text[1:] }
