// Command bench answers: what does pgtier cost and save, beside other poolers and beside no proxy at all?
//
// It starts PostgreSQL with durable commits and a replica, pgtier, PgBouncer and Pgpool-II on loopback, runs the same pgbench
// workloads against each in turn, and writes throughput, latencies and processor time a transaction to bench/results as
// Markdown, JSON and a plot. Nothing it starts outlives it. It needs Linux, and the poolers that `make bench` installs.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"pgtier/cmd/localpg"
)

// options are the flags.
type options struct {
	rounds, seconds int
	clients         []int
	only, targets   string
	out             string
	quick           bool
	idle            int
	profile         bool
	pgtier          string
	pgbouncer       string
	peers           []peer
	replicas        int
	shards          bool
	cache           bool
	reshard         bool
	rows            int
}

func main() {
	o, err := parseOptions(os.Args[1:])
	if errors.Is(err, flag.ErrHelp) {
		return
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err = bench(ctx, o)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "bench: %v\n", err)
		os.Exit(1)
	}
}

func parseOptions(args []string) (options, error) {
	var o options
	clients := ""
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	o.define(set, &clients)
	if err := set.Parse(args); err != nil {
		return o, err
	}
	if set.NArg() > 0 {
		return o, fmt.Errorf("unknown argument %q", set.Arg(0))
	}
	for part := range strings.SplitSeq(clients, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil || n < 1 {
			return o, fmt.Errorf("--clients %q: must be numbers above 0, separated by commas", clients)
		}
		o.clients = append(o.clients, n)
	}
	given := map[string]bool{}
	set.Visit(func(f *flag.Flag) { given[f.Name] = true })
	o.complete(given)
	return o, o.check()
}

// define adds the flags to set.
func (o *options) define(set *flag.FlagSet, clients *string) {
	set.IntVar(&o.rounds, "rounds", 3, "how often each target runs each workload")
	set.IntVar(&o.seconds, "seconds", 2, "how long one run lasts, logins left out")
	set.StringVar(clients, "clients", "1,16,64,256", "numbers of clients of the select-only workloads")
	set.StringVar(&o.only, "only", "", "run only workloads whose name holds one of these, separated by commas; \"idle\" is one")
	set.StringVar(&o.targets, "targets", "", "run only against targets whose name holds one of these, separated by commas")
	set.StringVar(&o.out, "out", filepath.Join("bench", "results"), "directory of the results")
	set.BoolVar(&o.quick, "quick", false, "16 clients, select-only and TPC-B, no replica, no Pgpool-II unless --targets names it, 3 rounds of 1 second; under 90 seconds in all")
	set.IntVar(&o.idle, "idle", 10000, "idle clients for the measurement of memory; 0 leaves it out")
	set.BoolVar(&o.profile, "profile", false, "instead: count system calls and sample stacks under select-only with 16 clients, into bench/out")
	set.StringVar(&o.pgtier, "pgtier", "", "program to measure as pgtier; built from this checkout when empty")
	set.StringVar(&o.pgbouncer, "pgbouncer", "", "program to measure as PgBouncer; the installed one when empty")
	set.IntVar(&o.replicas, "replicas", 1, "replicas to start, for a further pgtier that reads from them and a workload of 19 reads to a write")
	set.BoolVar(&o.shards, "shards", false, "instead: what routing to a shard, reading from three and commits over two cost; 6 rounds of at least 1 second")
	set.BoolVar(&o.cache, "cache", false, "instead: what a cache of answers saves and costs, beside Pgpool-II's; 4 rounds of at least 2 seconds")
	set.BoolVar(&o.reshard, "reshard", false, "instead: what moves of buckets cost and how fast they are, beside a bare COPY; 3 rounds, 10 seconds before and after each move")
	set.IntVar(&o.rows, "rows", shardRows, "accounts of --reshard, half of which move")
	set.Func("peer", peerHelp, func(flag string) error {
		one, err := parsePeer(flag)
		o.peers = append(o.peers, one)
		return err
	})
}

// complete sets what was not given by what the kind of measurement takes.
func (o *options) complete(given map[string]bool) {
	set := func(name string, value *int, to int) {
		if !given[name] {
			*value = to
		}
	}
	switch {
	case o.reshard:
		set("seconds", &o.seconds, 10)
	case o.quick || o.shards:
		set("seconds", &o.seconds, 1)
	}
	switch {
	case o.shards:
		set("rounds", &o.rounds, 6)
	case o.cache:
		set("rounds", &o.rounds, 4)
	}
	if o.quick {
		set("idle", &o.idle, 0)
		set("replicas", &o.replicas, 0)
	}
	if o.apart() > 0 {
		o.idle, o.replicas = 0, 0
	}
}

// apart is how many of the measurements were asked for that have servers of their own.
func (o *options) apart() (kinds int) {
	for _, is := range []bool{o.shards, o.cache, o.reshard} {
		if is {
			kinds++
		}
	}
	return kinds
}

// check says what does not go together, or is out of bounds.
func (o *options) check() error {
	switch kinds := o.apart(); {
	case kinds > 0 && (o.quick || len(o.peers) > 0):
		return errors.New("--shards, --cache and --reshard measure neither the quick series nor peers")
	case kinds > 1:
		return errors.New("--shards, --cache and --reshard: must be one of them")
	case o.reshard && (o.profile || o.only != "" || o.targets != ""):
		return errors.New("--reshard measures one thing: leave --profile, --only and --targets out")
	case o.rows < 1000:
		return errors.New("--rows must be 1000 or above")
	case o.replicas < 0:
		return errors.New("--replicas must be 0 or above")
	case o.rounds < 1 || o.seconds < 1 || o.idle < 0 || o.idle >= maxClients:
		return fmt.Errorf("--rounds and --seconds must be above 0, --idle from 0 to %d", maxClients-1)
	}
	return nil
}

// workloads are those that the flags choose.
func (o options) workloads() []workload {
	if o.reshard { // moves have loads of their own
		return nil
	}
	if o.shards {
		only := o.only
		if o.profile && only == "" {
			only = "shards-point"
		}
		return chosen(shardWorkloads(shardRows), only, false)
	}
	if o.cache {
		only := o.only
		if o.profile && only == "" {
			only = fmt.Sprintf("hot-simple-%[1]d,hot-prepared-%[1]d", cacheClients)
		}
		return chosen(cacheWorkloads(cacheRows), only, false)
	}
	if o.profile {
		return chosen(workloads([]int{quickClients}), "select-", false)
	}
	return slices.DeleteFunc(chosen(workloads(o.clients), o.only, o.quick), func(w workload) bool {
		return w.split && o.replicas == 0
	})
}

// mostClients is how many clients come at the same time, idle ones left out.
func (o options) mostClients() int {
	most := quickClients
	for _, w := range o.workloads() {
		most = max(most, w.clients)
	}
	return most
}

// bench does what the flags ask for.
func bench(ctx context.Context, o options) (err error) {
	started := time.Now()
	say := func(format string, args ...any) {
		fmt.Printf("%6.1fs  %s\n", time.Since(started).Seconds(), fmt.Sprintf(format, args...))
	}
	raiseFileLimit()
	machine := thisMachine()
	s, err := o.startServers(ctx, say)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.cluster.Stop()) }()
	dir, err := os.MkdirTemp("", "pgtier-bench-")
	if err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	proxies, err := newProxies(s, dir)
	if err != nil {
		return err
	}
	series, err := o.series(s, dir, say)
	if err != nil {
		return err
	}
	var moved *moves
	defer func() { err = errors.Join(err, stopTargets(series.targets)) }()
	if o.reshard {
		moved, err = reshardMoves(ctx, o, series, proxies)
	} else {
		series.targets, err = startTargets(ctx, o, proxies, say)
	}
	if err != nil {
		return err
	}
	if o.profile {
		return series.profile(ctx, o.workloads(), filepath.Join("bench", "out"))
	}
	found := &report{
		Date: started, Machine: machine, Command: shownCommand(os.Args[1:]),
		Rounds: o.rounds, Seconds: o.seconds, Versions: map[string]string{"Go": runtime.Version()},
	}
	found.introduce(series.targets)
	if o.idle > 0 && (o.only == "" || named("idle", o.only)) {
		found.Idle = series.idleClients(ctx, o.idle)
		if err := series.anew(ctx, o, proxies); err != nil {
			return err
		}
	}
	if moved != nil {
		err = moved.measure(ctx, found)
	} else {
		err = series.report(ctx, o.workloads(), found)
	}
	if err != nil {
		return err
	}
	path, err := found.save(o.out, found.fileName(o))
	if err != nil {
		return err
	}
	say("done: %s", path)
	found.cpuTable(os.Stdout)
	found.cacheTable(os.Stdout)
	found.reshardTable(os.Stdout)
	return nil
}

// series is what runs workloads against targets that are still to be started.
func (o options) series(s *server, dir string, say progress) (*series, error) {
	binaries, err := localpg.FindBinaries()
	if err != nil {
		return nil, err
	}
	made := &series{
		pgbench: pgbench{program: binaries.Path("pgbench"), scratch: dir},
		server:  s, rounds: o.rounds, seconds: o.seconds, say: say, warm: warmUps(),
	}
	switch {
	case o.shards:
		made.warm = o.workloads()
	case o.cache:
		made.warm = chosen(o.workloads(), "hot,never", false) // whoever reads by Zipf's law learns for minutes
	}
	return made, nil
}

// anew starts all proxies anew: one keeps memory of clients that it had, which would be its peak in every workload.
func (s *series) anew(ctx context.Context, o options, proxies *proxies) (err error) {
	s.say("starting all proxies anew")
	if err := stopTargets(s.targets); err != nil {
		return err
	}
	s.targets, err = startTargets(ctx, o, proxies, s.say)
	return err
}

// startServers starts what the targets lead to.
func (o options) startServers(ctx context.Context, say progress) (*server, error) {
	if o.shards {
		shards := 0
		if slices.ContainsFunc(o.workloads(), func(w workload) bool { return slices.Contains(w.targets, threeShardsTarget) }) {
			shards = 3
		}
		return startShardServers(ctx, shardRows, shards, o.mostClients(), say)
	}
	if o.reshard {
		return startReshardServers(ctx, o, say)
	}
	if o.cache {
		return startShardServers(ctx, cacheRows, 0, o.mostClients(), say)
	}
	return startServer(ctx, o.replicas, o.mostClients(), say)
}

// fileName names the report by its day and by what was left out.
func (r *report) fileName(o options) string {
	name := r.Date.Format("2006-01-02")
	kind := ""
	switch {
	case o.shards:
		kind = "shards"
	case o.cache:
		kind = "cache"
	case o.reshard:
		kind = "reshard"
	}
	switch {
	case kind != "" && !strings.Contains(o.only, kind):
		name = strings.TrimSuffix(name+"-"+kind+"-"+strings.ReplaceAll(o.only, ",", "-"), "-")
	case o.only != "":
		name += "-" + strings.ReplaceAll(o.only, ",", "-")
	case o.quick:
		name += "-quick"
	}
	return name
}

// startTargets starts what is to be measured. Those that run are returned with an error, too.
func startTargets(ctx context.Context, o options, p *proxies, say progress) ([]*target, error) {
	if o.shards {
		return shardTargets(ctx, o, p, say)
	}
	if o.cache {
		return cacheTargets(ctx, o, p, say)
	}
	wanted := func(name string) bool { return o.targets == "" || named(name, o.targets) }
	var all []*target
	add := func(name string, start func() (*target, error)) error {
		if !wanted(name) {
			return nil
		}
		t, err := start()
		if err != nil {
			return err
		}
		all = append(all, t)
		say("%s: %s, port %d, process %d", t.name, t.version, t.port, t.pid)
		return nil
	}
	if err := add(directTarget, func() (*target, error) { return p.direct(), nil }); err != nil {
		return all, err
	}
	err := add(pgbouncerTarget, func() (*target, error) { return p.installedPgbouncer(ctx, o.pgbouncer) })
	if err != nil {
		return all, err
	}
	if o.targets != "" || !o.quick {
		err := add(pgpoolTarget, func() (*target, error) {
			program, err := debianProgram("pgpool")
			if err != nil {
				return nil, err
			}
			return p.pgpool(ctx, program, o.mostClients())
		})
		if err != nil {
			return all, err
		}
	}
	if err := add(pgtierTarget, func() (*target, error) { return p.pgtier(ctx, o.pgtier) }); err != nil {
		return all, err
	}
	if slices.ContainsFunc(o.workloads(), func(w workload) bool { return w.split }) {
		if err := add(splitTarget, func() (*target, error) { return p.split(ctx, o.pgtier) }); err != nil {
			return all, err
		}
	}
	for _, peer := range o.peers {
		if err := add(peer.name, func() (*target, error) { return p.peer(ctx, peer) }); err != nil {
			return all, err
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("--targets %q names no target", o.targets)
	}
	return all, nil
}

func stopTargets(targets []*target) error {
	var errs []error
	for _, t := range targets {
		errs = append(errs, t.stop())
	}
	return errors.Join(errs...)
}

// raiseFileLimit lets us and the proxies that we start hold as many connections as the system permits. Without it
// the measurement of idle clients says what is missing.
func raiseFileLimit() {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		limit.Cur = limit.Max
		_ = syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
	}
}
