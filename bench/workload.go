package main

import (
	"fmt"
	"slices"
	"strings"
)

// workload is one thing that pgbench is told to do, the same for every target.
type workload struct {
	name     string
	mode     string   // pgbench --protocol: simple, extended or prepared
	clients  int      // at once
	args     []string // what chooses the script
	script   string   // SQL of a script of our own; "" with a built-in one
	tls      bool     // between client and target
	sampling float64  // share of the transactions whose time is logged: all where they are few
	seconds  int      // the shortest run that means something; 0 for any
	quick    bool     // part of --quick
	split    bool     // reads and writes, for replicas
	what     string   // in words; "" where describe finds them
	targets  []string // those that it is meant for; nil: all
	rows     int      // read by each transaction, where that is what matters
	routing  bool     // report what routing to a shard costs
	keeping  bool     // report what a cache costs that hardly serves
	reads    float64  // share of the transactions that a cache may answer, where caches are measured
	// scripts are what single targets run instead of script, by name.
	scripts map[string]string
}

// quickClients is the number of clients of workloads that know only one: enough to keep two processors busy and below
// the size of the pool, so that nobody queues.
const quickClients = 16

// workloads is the table of everything pgbench measures. clients are the numbers that select-only runs with.
func workloads(clients []int) []workload {
	var all []workload
	for _, n := range clients {
		for _, mode := range []string{"simple", "extended", "prepared"} {
			all = append(all, workload{
				name: fmt.Sprintf("select-%s-%d", mode, n), mode: mode, clients: n, args: []string{"-S"},
				sampling: 0.1, quick: n == quickClients,
			})
		}
	}
	return append(all,
		workload{name: "tpcb-simple-16", mode: "simple", clients: quickClients, sampling: 1, seconds: 2},
		workload{name: "tpcb-extended-16", mode: "extended", clients: quickClients, sampling: 1, seconds: 2},
		workload{name: "tpcb-prepared-16", mode: "prepared", clients: quickClients, sampling: 1, seconds: 2, quick: true},
		workload{name: "reconnect-16", mode: "simple", clients: quickClients, args: []string{"-S", "-C"}, sampling: 1},
		workload{name: "tls-prepared-16", mode: "prepared", clients: quickClients, args: []string{"-S"}, tls: true, sampling: 0.1},
		workload{name: "row-1kB-16", mode: "extended", clients: quickClients, script: rowScript("row_1kb"), sampling: 0.1},
		workload{name: "row-100kB-16", mode: "extended", clients: quickClients, script: rowScript("row_100kb"), sampling: 1},
		splitWorkload(),
	)
}

// payloadRows is how many rows the tables of rowScript have: few enough to stay in PostgreSQL's memory.
const payloadRows = 100

func rowScript(table string) string {
	return fmt.Sprintf("\\set id random(1, %d)\nSELECT body FROM %s WHERE id = :id;\n", payloadRows, table)
}

// scriptFor is the script of our own that a target runs; "" with a built-in one.
func (w workload) scriptFor(t *target) string {
	if script, ok := w.scripts[t.name]; ok {
		return script
	}
	return w.script
}

// reconnects tells whether each transaction has a connection of its own.
func (w workload) reconnects() bool { return slices.Contains(w.args, "-C") }

// describe says in words what a workload does, for the report.
func (w workload) describe() string {
	what := "TPC-B-like transaction, 7 statements"
	switch {
	case w.what != "":
		what = w.what
	case w.split:
		what = "19 reads of one row to a write, commits durable"
	case strings.Contains(w.name, "row-1kB"):
		what = "read one row of 1 kB"
	case strings.Contains(w.name, "row-100kB"):
		what = "read one row of 100 kB"
	case w.reconnects():
		what = "connect, select one row, disconnect"
	case slices.Contains(w.args, "-S"):
		what = "select one row by its key"
	}
	text := fmt.Sprintf("%s; %s protocol, %d %s", what, w.mode, w.clients, plural("client", w.clients))
	if w.tls {
		text += ", TLS from the client"
	}
	return text
}

// chosen keeps the workloads that --only names (any part of the name, several separated by commas) and, with quick,
// those of the quick series.
func chosen(all []workload, only string, quick bool) []workload {
	return slices.DeleteFunc(all, func(w workload) bool {
		if only == "" {
			return quick && !w.quick
		}
		return !named(w.name, only)
	})
}

// named tells whether a list of parts of names, separated by commas, names this one.
func named(name, only string) bool {
	return slices.ContainsFunc(strings.Split(only, ","), func(part string) bool {
		part = strings.TrimSpace(part)
		return part != "" && strings.Contains(name, part)
	})
}

// plural is the word for n of something.
func plural(word string, n int) string {
	if n == 1 {
		return word
	}
	return word + "s"
}
