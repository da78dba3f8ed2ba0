package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
)

// splitTarget is a pgtier that has replicas to read from.
const splitTarget = "pgtier-reads"

// splitScript is 19 reads to a write, each by the key of pgbench's accounts. A client's reads behind its write wait for a replica or
// go to the manager.
func splitScript() string {
	return fmt.Sprintf(`\set aid random(1, %d)
\set n random(1, 20)
\if :n = 1
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;
\else
SELECT abalance FROM pgbench_accounts WHERE aid = :aid;
\endif
`, accountsPerBranch*scale)
}

// accountsPerBranch is how many rows pgbench_accounts has at scale 1.
const accountsPerBranch = 100_000

func splitWorkload() workload {
	return workload{name: "reads-19-of-20-16", mode: "prepared", clients: quickClients, script: splitScript(), sampling: 0.1, split: true}
}

// split starts a pgtier that knows the replicas, at level session.
func (p *proxies) split(ctx context.Context, program string) (*target, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	var replicas []string
	for _, r := range p.server.cluster.Shards[0].Replicas {
		replicas = append(replicas, fmt.Sprintf("{url: \"postgres://%s?sslmode=disable\"}", serverAddress(r.Port)))
	}
	config := p.pgtierConfig(port, p.server.manager) + "        replicas: [" + strings.Join(replicas, ", ") + "]\n"
	t, err := p.startPgtier(ctx, program, splitTarget, port, administered(config))
	if err != nil {
		return nil, err
	}
	t.routes = func(ctx context.Context) (string, error) { return routes(ctx, t) }
	return t, nil
}

// administered is pgtier's file with our role for its admin database.
func administered(config string) string {
	return strings.Replace(config, "  users_file:", "  admins: ["+benchRole+"]\n  users_file:", 1)
}

// routes says what part of the proved reads replicas have served.
func routes(ctx context.Context, t *target) (string, error) {
	c, err := t.connectTo(ctx, "pgtier")
	if err != nil {
		return "", fmt.Errorf("ask %s for its routes: %w", t.name, err)
	}
	defer func() { _ = c.Close(ctx) }() // it was only read from
	results, err := c.Exec(ctx, "SHOW ROUTES").ReadAll()
	if err != nil {
		return "", fmt.Errorf("ask %s for its routes: %w", t.name, err)
	}
	if len(results) != 1 {
		return "", fmt.Errorf("ask %s for its routes: %d answers, want one", t.name, len(results))
	}
	counts := map[string]float64{}
	for _, row := range results[0].Rows {
		n, err := strconv.ParseFloat(string(row[2]), 64)
		if err != nil {
			return "", fmt.Errorf("read the routes of %s: %w", t.name, err)
		}
		counts[string(row[1])] += n
	}
	reads := counts["replica"] + counts["behind"] + counts["lagging"] + counts["no_replica"] + counts["sent_again"]
	return fmt.Sprintf("%s: replicas served %.0f %% of the proved reads; for %.0f %% none had replayed yet what the session had to see.",
		t.name, 100*counts["replica"]/max(reads, 1), 100*counts["behind"]/max(reads, 1)), nil
}
