package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// The targets of --cache that keep answers, beside the server itself, PgBouncer, and pgtier without.
const (
	cacheTarget       = "pgtier-cache"
	pgpoolCacheTarget = "pgpool-cache"
)

const (
	// cacheRows is how many accounts there are: more than there is memory for their answers.
	cacheRows = 1_000_000
	// hotKeys are few enough to be known after a moment.
	hotKeys = 100
	// cacheClients are more than server connections, as where a cache is wanted.
	cacheClients = 64
	// zipfExponent lets the first key have every tenth read, and the first hundred half of them. pgbench takes more than 1 only.
	zipfExponent = "1.07"
	// zipfSeed places the frequent keys among all rows, at the same places in each run: as numbers in a row they would be on one page.
	zipfSeed = 1
	// rareHits is the share of reads, in hundredths, that rareScript asks again: so far above what lets a statement rest
	// (paysFrom in proxy/cache) that no thousand of them is below by chance. All others are looked for in vain, asked and kept.
	rareHits = 25
	// cacheMemory is what pgtier takes by default, for Pgpool-II.
	cacheMemory = "256MB"
	// pgpoolLearns is how many seconds of each warm-up Pgpool-II takes until it knows hotKeys by the prepared protocol: it keeps
	// few of the answers that it sees there (15 % hits after 1 s, 92 % after 24).
	pgpoolLearns = 6
)

// readAccount reads a row by its key. Each workload has a statement of its own, told by its column's name: what pgtier learned in
// one about whether keeping pays is not for another.
func readAccount(column string) string {
	return fmt.Sprintf("SELECT abalance AS %s FROM pgbench_accounts WHERE aid = :aid;\n", column)
}

// readAbove is readAccount with a condition that every row meets.
func readAbove(column string) string {
	return fmt.Sprintf("SELECT abalance AS %s FROM pgbench_accounts WHERE aid = :aid AND abalance > :low;\n", column)
}

// cacheWorkloads is the table of what --cache measures, over that many accounts.
func cacheWorkloads(rows int) []workload {
	everybody := []string{directTarget, pgbouncerTarget, pgpoolCacheTarget, pgtierTarget, cacheTarget}
	alone := []string{directTarget, pgtierTarget, cacheTarget}
	var all []workload
	add := func(name, mode string, clients int, w workload) {
		w.name, w.mode, w.clients = fmt.Sprintf("cache-%s-%s-%d", name, mode, clients), mode, clients
		all = append(all, w)
	}
	for _, clients := range []int{quickClients, cacheClients} {
		for _, mode := range []string{"simple", "prepared"} {
			add("hot", mode, clients, workload{
				what: fmt.Sprintf("select one of %d rows by its key", hotKeys), targets: everybody, reads: 1, sampling: 0.1,
				script: fmt.Sprintf("\\set aid random(1, %d)\n", hotKeys) + readAccount("hot"),
			})
		}
	}
	for _, mode := range []string{"simple", "prepared"} {
		add("never", mode, cacheClients, workload{
			what: "select one row by its key and a value that is never asked for again", targets: alone, reads: 1, sampling: 0.1, keeping: true,
			script: neverScript(rows),
		})
		add("rare", mode, cacheClients, workload{
			what:    fmt.Sprintf("the same, but %d %% of the reads are of one key and value", rareHits),
			targets: alone, reads: 1, sampling: 0.1, keeping: true, script: rareScript(rows),
		})
	}
	for _, writes := range []int{5, 50} {
		for _, mode := range []string{"simple", "prepared"} {
			add(fmt.Sprintf("zipf-%d", 100-writes), mode, cacheClients, workload{
				what:    fmt.Sprintf("%d %% selects and %d %% updates of one row by its key, keys by Zipf's law with exponent %s, commits durable", 100-writes, writes, zipfExponent),
				targets: everybody, reads: float64(100-writes) / 100, sampling: 0.1, seconds: 3, script: zipfScript(rows, writes),
			})
		}
	}
	return all
}

// neverScript reads rows that exist, so that they cost the server what others do, by values of which hardly one comes twice.
func neverScript(rows int) string {
	return fmt.Sprintf(`\set aid random(1, %d)
\set low random(-2000000000, -1000000000)
`, rows) + readAbove("never")
}

// rareScript is neverScript with some reads of one key and value: the same statement, or the others would rest.
func rareScript(rows int) string {
	return fmt.Sprintf(`\set aid random(1, %d)
\set low random(-2000000000, -1000000000)
\set n random(1, 100)
\if :n <= %d
\set aid 1
\set low -1
\endif
`, rows, rareHits) + readAbove("rare")
}

// zipfScript updates rows by the key in so many hundredths of its transactions.
func zipfScript(rows, writes int) string {
	return fmt.Sprintf(`\set rank random_zipfian(1, %[1]d, %[2]s)
\set aid permute(:rank, %[1]d, %[3]d) + 1
\set n random(1, 100)
\if :n <= %[4]d
UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;
\else
%[5]s\endif
`, rows, zipfExponent, zipfSeed, writes, readAccount(fmt.Sprintf("zipf_%d", 100-writes)))
}

// cacheTargets starts what --cache measures. Those that run are returned with an error, too.
func cacheTargets(ctx context.Context, o options, p *proxies, say progress) (all []*target, err error) {
	chosen := o.workloads()
	for _, one := range []struct {
		name  string
		start func() (*target, error)
	}{
		{directTarget, func() (*target, error) { return p.direct(), nil }},
		{pgbouncerTarget, func() (*target, error) { return p.installedPgbouncer(ctx, o.pgbouncer) }},
		{pgpoolCacheTarget, func() (*target, error) { return p.pgpoolCache(ctx, o.mostClients()) }},
		{pgtierTarget, func() (*target, error) { return p.pgtier(ctx, o.pgtier) }},
		{cacheTarget, func() (*target, error) { return p.pgtierCache(ctx, o.pgtier) }},
	} {
		meant := slices.ContainsFunc(chosen, func(w workload) bool { return slices.Contains(w.targets, one.name) })
		if !meant || o.targets != "" && !named(one.name, o.targets) {
			continue
		}
		t, err := one.start()
		if err != nil {
			return all, err
		}
		all = append(all, t)
		say("%s: %s, port %d, process %d", t.name, t.version, t.port, t.pid)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("--targets %q names no target", o.targets)
	}
	return all, p.server.settle(ctx)
}

// pgtierCache starts a pgtier that keeps answers.
func (p *proxies) pgtierCache(ctx context.Context, program string) (*target, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	config := administered(p.pgtierConfig(port, p.server.manager)) + "    cache: {enabled: true}\n"
	t, err := p.startPgtier(ctx, program, cacheTarget, port, config)
	if err != nil {
		return nil, err
	}
	t.note = cacheTarget + ": keeps answers in 256 MiB for a minute at most, as by default, and gives them up before a write that changes them is answered"
	t.caches = func(ctx context.Context) (cacheCounts, error) { return pgtierCounts(ctx, t) }
	return t, nil
}

// pgpoolCache starts a Pgpool-II that keeps answers in shared memory.
func (p *proxies) pgpoolCache(ctx context.Context, sessions int) (*target, error) {
	program, err := debianProgram("pgpool")
	if err != nil {
		return nil, err
	}
	oids := p.path("pgpool-oids") // it notes there which tables' answers are where
	if err := p.directory(oids); err != nil {
		return nil, err
	}
	t, err := p.startPgpool(ctx, program, pgpoolCacheTarget, sessions, fmt.Sprintf(`memory_cache_enabled = on
memqcache_method = 'shmem'
memqcache_total_size = %s
memqcache_max_num_cache = 1000000
memqcache_auto_cache_invalidation = on
memqcache_oiddir = '%s'
`, cacheMemory, oids))
	if err != nil {
		return nil, err
	}
	t.note += fmt.Sprintf("; its cache has %s of shared memory, answers have no end of their own, and a write gives up all those of its table", cacheMemory)
	t.learns = pgpoolLearns
	t.caches = func(ctx context.Context) (cacheCounts, error) { return pgpoolCounts(ctx, t) }
	return t, nil
}

// cacheCounts are what a cache has counted since its start.
type cacheCounts struct {
	hits   float64 // answers given without asking the server anew
	looked float64 // reads looked for in the cache, hits among them; -1: it does not tell
}

// cacheShares are what a cache did in one run.
type cacheShares struct {
	hits   float64 // share of the reads that it answered
	looked float64 // share of the reads that it looked for; -1: it does not tell
}

// since is what was counted behind before, in which so many reads came.
func (c cacheCounts) since(before cacheCounts, reads float64) *cacheShares {
	shares := cacheShares{hits: ratio(c.hits-before.hits, reads), looked: -1}
	if c.looked >= 0 {
		shares.looked = ratio(c.looked-before.looked, reads)
	}
	return &shares
}

// cacheUse is what a cache did in all rounds, as shares of the reads.
type cacheUse struct {
	Hits   spread `json:"hits_of_reads"`
	Looked spread `json:"lookups_of_reads,omitzero"` // hits among them; all zero: it does not tell
}

// cacheUseOf sums runs up; nil if the target has no cache.
func cacheUseOf(runs []run) *cacheUse {
	var hits, looked []float64
	for _, one := range runs {
		if one.cache == nil {
			continue
		}
		hits = append(hits, one.cache.hits)
		if one.cache.looked >= 0 {
			looked = append(looked, one.cache.looked)
		}
	}
	if hits == nil {
		return nil
	}
	return &cacheUse{Hits: spreadOf(hits), Looked: spreadOf(looked)}
}

// cacheCounts asks a target what its cache has counted; nothing if it has none.
func (t *target) cacheCounts(ctx context.Context) (cacheCounts, error) {
	if t.caches == nil {
		return cacheCounts{}, nil
	}
	return t.caches(ctx)
}

// pgtierCounts asks the admin database. Who waited for another's question counts as a hit.
func pgtierCounts(ctx context.Context, t *target) (cacheCounts, error) {
	row, err := t.ask(ctx, "pgtier", "SHOW CACHE")
	if err != nil {
		return cacheCounts{}, err
	}
	if state := row["state"]; state != "serving" {
		return cacheCounts{}, fmt.Errorf("the cache of %s does not serve: %q", t.name, state)
	}
	n, err := row.numbers("hits", "shared", "asked")
	if err != nil {
		return cacheCounts{}, fmt.Errorf("read the cache of %s: %w", t.name, err)
	}
	return cacheCounts{hits: n[0] + n[1], looked: n[2]}, nil
}

// pgpoolCounts asks Pgpool-II through any database. Its num_selects are the reads that were none of its hits.
func pgpoolCounts(ctx context.Context, t *target) (cacheCounts, error) {
	row, err := t.ask(ctx, benchDatabase, "SHOW POOL_CACHE")
	if err != nil {
		return cacheCounts{}, err
	}
	n, err := row.numbers("num_cache_hits")
	if err != nil {
		return cacheCounts{}, fmt.Errorf("read the cache of %s: %w", t.name, err)
	}
	return cacheCounts{hits: n[0], looked: -1}, nil
}

// answerRow is a row by the names of its columns.
type answerRow map[string]string

// ask returns the first row that a proxy's own command answers with.
func (t *target) ask(ctx context.Context, database, command string) (_ answerRow, err error) {
	c, err := t.connectTo(ctx, database)
	if err != nil {
		return nil, fmt.Errorf("ask %s: %w", t.name, err)
	}
	defer func() { err = errors.Join(err, c.Close(ctx)) }()
	var results []*pgconn.Result
	if results, err = c.Exec(ctx, command).ReadAll(); err != nil {
		return nil, fmt.Errorf("ask %s: %s: %w", t.name, command, err)
	}
	if len(results) != 1 || len(results[0].Rows) == 0 {
		return nil, fmt.Errorf("ask %s: %s: no row", t.name, command)
	}
	row := answerRow{}
	for i, field := range results[0].FieldDescriptions {
		row[field.Name] = string(results[0].Rows[0][i])
	}
	return row, nil
}

func (r answerRow) numbers(columns ...string) ([]float64, error) {
	var all []float64
	for _, column := range columns {
		n, err := strconv.ParseFloat(r[column], 64)
		if err != nil {
			return nil, fmt.Errorf("column %s: %w", column, err)
		}
		all = append(all, n)
	}
	return all, nil
}

// wholeHits is the share of hits from which a transaction costs what a hit does.
const wholeHits = 0.98

// hit is what a hit costs in processor time of the proxy and of PostgreSQL, in words; "–" where too few are hits to tell.
func (r result) hit() string {
	if r.Cache == nil || r.Cache.Hits.Median < wholeHits {
		return "–"
	}
	return fmt.Sprintf("%.1f + %.1f", r.ProxyCPU.Median, r.ServerCPU.Median)
}

// hits is the share of the reads that the cache answered, in words.
func (r result) hits() string {
	if r.Cache == nil {
		return "–"
	}
	return fmt.Sprintf("%.1f %% (%.1f–%.1f)", 100*r.Cache.Hits.Median, 100*r.Cache.Hits.Min, 100*r.Cache.Hits.Max)
}

// cacheTable writes which reads were hits, and what pgtier's cache is beside Pgpool-II's, no cache and no proxy.
func (r *report) cacheTable(w io.Writer) {
	if !slices.Contains(r.targetNames(), cacheTarget) {
		return
	}
	fmt.Fprintf(w, "\n## The cache\n\nHits are shares of the reads; all others, and all writes, went to PostgreSQL. Ratios are those of %s's medians. "+
		"What a hit costs is processor time in µs, of the proxy + of PostgreSQL, where at least %.0f %% of the reads were hits.\n\n", cacheTarget, 100*wholeHits)
	fmt.Fprintf(w, "| workload | hits of pgtier | hits of Pgpool-II | tx/s ÷ direct | ÷ pgtier without | ÷ Pgpool-II's cache | p99 ÷ direct | ÷ Pgpool-II's cache "+
		"| proxy's µs/tx ÷ pgtier without | ÷ Pgpool-II's cache | a hit of pgtier | a hit of Pgpool-II |\n|---|%s\n", strings.Repeat("---:|", 11))
	for _, workload := range r.Workloads {
		own, pgpool := workload.of(cacheTarget), workload.of(pgpoolCacheTarget)
		fmt.Fprintf(w, "| %s | %s | %s |", workload.Name, own.hits(), pgpool.hits())
		for _, v := range []float64{
			own.ToDirect.Throughput, own.ToUncached.Throughput, own.ToPgpool.Throughput,
			own.ToDirect.P99, own.ToPgpool.P99, own.ToUncached.ProxyCPU, own.ToPgpool.ProxyCPU,
		} {
			fmt.Fprintf(w, " %s |", factor(v))
		}
		fmt.Fprintf(w, " %s | %s |\n", own.hit(), pgpool.hit())
	}
}

// sentenceOfKeeping says for the report what a cache costs that hardly serves.
func (wr workloadResults) sentenceOfKeeping() string {
	text := fmt.Sprintf("The cache costs %s µs of the proxy's processor time a transaction", signed(wr.Keeping.Median))
	if without := wr.of(pgtierTarget).ProxyCPU.Median; without > 0 {
		text += fmt.Sprintf(", %s %% of what it is without", signed(100*wr.Keeping.Median/without))
	}
	text += fmt.Sprintf(": the median of the rounds' differences, which lie between %s and %s.", signed(wr.Keeping.Min), signed(wr.Keeping.Max))
	if use := wr.of(cacheTarget).Cache; use != nil {
		text += fmt.Sprintf(" It was asked for %.3g %% of the reads; the others' statement rested, because it had not paid.", 100*use.Looked.Median)
	}
	return text
}
