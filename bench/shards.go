package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"pgtier/cmd/localpg"
)

// The targets of --shards beside the server itself and pgtier without shards.
const (
	oneShardTarget    = "pgtier-one-shard"
	threeShardsTarget = "pgtier-3-shards"
	twoPhaseTarget    = "pgtier-3-shards-2pc"
)

const (
	// shardRows is how many accounts there are on one server, and on all shards together.
	shardRows = 1_000_000
	// branches is how many groups the accounts fall into.
	branches = 10
	// shardBuckets is the proxy's default. With the function modulo, three shards own 341, 341 and 342 buckets in a row
	// (Even in router/shard), so keys that differ by shardBuckets are on one shard and by half of it on two.
	shardBuckets = 1024
	// shardBuffers hold all rows, on one server as on three: what is measured is not how much memory there is.
	shardBuffers = "384MB"
)

// accountsTable is pgbench's pgbench_accounts. Its own loader fills it with zeros, which are quickly added up.
const accountsTable = "CREATE TABLE pgbench_accounts (aid int PRIMARY KEY, bid int, abalance int, filler char(84))"

// oneShardConfig makes pgtier plan every statement though there is one shard only.
const oneShardConfig = `    sharding:
      tables: {pgbench_accounts: {key: aid}}
`

// threeShardsConfig hashes nothing, so that pgbench can tell which keys are on one shard.
const threeShardsConfig = `    sharding:
      function: modulo
      tables: {pgbench_accounts: {key: aid}}
`

// shardWorkloads is the table of what --shards measures, over that many accounts.
func shardWorkloads(rows int) []workload {
	var all []workload
	for _, mode := range []string{"simple", "prepared"} {
		all = append(all, workload{
			name: fmt.Sprintf("shards-point-%s-16", mode), mode: mode, clients: quickClients, sampling: 0.1, what: "select one row by its key",
			targets: []string{directTarget, pgtierTarget, oneShardTarget}, routing: true,
			script: fmt.Sprintf("\\set aid random(1, %d)\nSELECT abalance FROM pgbench_accounts WHERE aid = :aid;\n", rows),
		})
	}
	for _, read := range []struct{ name, what, sql string }{
		{"group", "count, sum, avg, min and max by branch of all accounts", "SELECT bid, count(*), sum(abalance), avg(abalance), min(abalance), max(abalance) FROM pgbench_accounts GROUP BY bid ORDER BY bid"},
		{"top", "the 10 accounts of the highest balances, without an index on them", "SELECT aid, abalance FROM pgbench_accounts ORDER BY abalance DESC, aid LIMIT 10"},
	} {
		all = append(all, workload{
			name: "shards-aggregate-" + read.name + "-1", mode: "simple", clients: 1, sampling: 1, seconds: 3, what: read.what, rows: rows,
			targets: []string{directTarget, threeShardsTarget}, script: read.sql + ";\n",
		})
	}
	// By the simple protocol, in which drivers send BEGIN, it waits for the first statement; prepared, as only pgbench sends it, it goes to a shard at once.
	for _, commits := range []struct {
		mode    string
		clients int
	}{{"simple", 1}, {"simple", quickClients}, {"prepared", quickClients}} {
		all = append(all, workload{
			name: fmt.Sprintf("shards-commit-%s-%d", commits.mode, commits.clients), mode: commits.mode, clients: commits.clients, sampling: 1, seconds: 2,
			what:    "BEGIN, two updates by key, COMMIT",
			targets: []string{directTarget, threeShardsTarget, twoPhaseTarget},
			script:  transferScript(rows, shardBuckets), scripts: map[string]string{twoPhaseTarget: transferScript(rows, shardBuckets/2)},
		})
	}
	return all
}

// transferScript updates two accounts whose keys are apart by so much, the lower one first: clients wait for each other but never in a circle.
func transferScript(rows, apart int) string {
	return fmt.Sprintf(`\set from random(1, %d)
\set to :from + %d
BEGIN;
UPDATE pgbench_accounts SET abalance = abalance - 1 WHERE aid = :from;
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :to;
COMMIT;
`, rows-shardBuckets, apart)
}

// startShardServers starts a server with all accounts, and so many empty ones.
func startShardServers(ctx context.Context, rows, shards, clients int, say progress) (*server, error) {
	s, err := startServers(ctx, localpg.Options{Shards: 1 + shards, Settings: map[string]string{"shared_buffers": shardBuffers}}, clients, say)
	if err != nil {
		return nil, err
	}
	say("loading %d accounts into one server", rows)
	sql := fmt.Sprintf("SET ROLE %s; %s; INSERT INTO pgbench_accounts SELECT i, (i - 1) %% %d, hashint4(i) %% 100000, '' FROM generate_series(1, %d) i",
		benchRole, accountsTable, branches, rows)
	if err := s.manager.Exec(ctx, benchDatabase, sql); err != nil {
		return nil, stopAfter(err, s.cluster.Stop)
	}
	return s, nil
}

// shardTargets starts what --shards measures. Those that run are returned with an error, too.
func shardTargets(ctx context.Context, o options, p *proxies, say progress) (all []*target, err error) {
	wanted := func(name string) bool {
		return (o.targets == "" || named(name, o.targets)) && slices.ContainsFunc(o.workloads(), func(w workload) bool { return slices.Contains(w.targets, name) })
	}
	if wanted(directTarget) {
		all = append(all, p.direct())
	}
	shards := make([]*localpg.Server, 0, 3)
	for _, one := range p.server.cluster.Shards[1:] {
		shards = append(shards, one.Manager)
	}
	for _, one := range []struct {
		name, config, note string
		managers           []*localpg.Server
	}{
		{pgtierTarget, "", "pgtier: before the one server, no table declared", []*localpg.Server{p.server.manager}},
		{oneShardTarget, oneShardConfig, oneShardTarget + ": before the same server, which is the only shard of pgbench_accounts by hash of aid", []*localpg.Server{p.server.manager}},
		{threeShardsTarget, threeShardsConfig, threeShardsTarget + ": before three more servers, each with a third of the accounts; updates of one transaction are on one shard", shards},
	} {
		if !wanted(one.name) && (one.name != threeShardsTarget || !wanted(twoPhaseTarget)) {
			continue
		}
		port, err := freePort()
		if err != nil {
			return all, err
		}
		t, err := p.startPgtier(ctx, o.pgtier, one.name, port, p.pgtierConfig(port, one.managers...)+one.config)
		if err != nil {
			return all, err
		}
		t.note = one.note
		all = append(all, t)
		say("%s: %s, port %d, process %d", t.name, t.version, t.port, t.pid)
		if one.name != threeShardsTarget {
			continue
		}
		if err := p.spread(ctx, t, say); err != nil {
			return all, err
		}
		if wanted(twoPhaseTarget) {
			twin := *t
			twin.name, twin.note = twoPhaseTarget, twoPhaseTarget+": the same proxy; updates of one transaction are on two shards, which takes two-phase commit"
			twin.stop = func() error { return nil }
			all = append(all, &twin)
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("--targets %q names no target", o.targets)
	}
	return all, p.server.settle(ctx)
}

// spread copies the accounts from the one server to the shards, through pgtier.
func (p *proxies) spread(ctx context.Context, to *target, say progress) error {
	from, err := p.direct().connect(ctx)
	if err != nil {
		return fmt.Errorf("connect to the server: %w", err)
	}
	defer func() { _ = from.Close(ctx) }() // it was only read from
	into, err := to.connect(ctx)
	if err != nil {
		return fmt.Errorf("connect to %s: %w", to.name, err)
	}
	defer func() { _ = into.Close(ctx) }() // what it wrote is committed
	if _, err := into.Exec(ctx, accountsTable).ReadAll(); err != nil {
		return fmt.Errorf("make the table on the shards: %w", err)
	}
	began := time.Now()
	rows, write := io.Pipe()
	done := make(chan error, 1)
	go func() { // ends with the last row, or when the other side is closed
		_, err := from.CopyTo(ctx, write, "COPY pgbench_accounts TO STDOUT")
		done <- errors.Join(err, write.CloseWithError(err))
	}()
	tag, err := into.CopyFrom(ctx, rows, "COPY pgbench_accounts FROM STDIN")
	if err = errors.Join(err, rows.CloseWithError(err), <-done); err != nil {
		return fmt.Errorf("copy the accounts to the shards: %w", err)
	}
	say("%s: %d accounts copied in %.1f s", to.name, tag.RowsAffected(), time.Since(began).Seconds())
	return nil
}

// settle makes the servers write out what was loaded, or the first target would pay for it.
func (s *server) settle(ctx context.Context) error {
	for _, one := range s.cluster.Shards {
		for _, sql := range []string{"VACUUM ANALYZE", "CHECKPOINT"} {
			if err := one.Manager.Exec(ctx, benchDatabase, sql); err != nil {
				return err
			}
		}
	}
	return nil
}

// sentenceOfRouting says it for the report.
func sentenceOfRouting(s spread) string {
	return fmt.Sprintf("Routing to the shard costs %s µs of the proxy's processor time a transaction: the median of the rounds' differences, which lie between %s and %s.",
		signed(s.Median), signed(s.Min), signed(s.Max))
}

func signed(v float64) string { return strings.Replace(fmt.Sprintf("%.2f", v), "-", "−", 1) }
