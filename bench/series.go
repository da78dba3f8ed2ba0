package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// progress says what is being done, one line a call.
type progress func(format string, args ...any)

// run is one run of pgbench.
type run struct {
	Throughput float64 // transactions a second
	ProxyCPU   float64 // microseconds of processor time a transaction, of the proxy; 0 without one
	ServerCPU  float64 // the same of PostgreSQL, the manager and its replicas
	Peak       int64   // bytes; 0 without a proxy
	Failed     int     // transactions that the server refused

	round     int
	cache     *cacheShares // nil: the proxy has none
	latencies []time.Duration
}

// series runs workloads against targets.
type series struct {
	pgbench pgbench
	server  *server
	warm    []workload // what targets run first; its seconds do not count
	targets []*target
	rounds  int
	seconds int // of one run
	say     progress
}

// report runs workloads and adds their results to a report.
func (s *series) report(ctx context.Context, todo []workload, r *report) error {
	if len(todo) > 0 {
		s.say("warming up")
		if err := s.warmUp(ctx); err != nil {
			return err
		}
	}
	for _, w := range todo {
		runs, problems := s.measure(ctx, w)
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		results := workloadResults{Name: w.name, What: w.describe()}
		if w.routing {
			results.Routing = differenceOf(runs, oneShardTarget, pgtierTarget)
		}
		if w.keeping {
			results.Keeping = differenceOf(runs, cacheTarget, pgtierTarget)
		}
		for _, t := range s.targets {
			if !t.takes(w) {
				continue
			}
			results.Results = append(results.Results, summarize(t.name, runs[t.name], problems[t.name]).reading(w.rows))
			if t.routes == nil {
				continue
			}
			share, err := t.routes(ctx)
			if err != nil {
				return err
			}
			r.Notes = append(r.Notes, share)
		}
		compare(results.Results)
		r.Workloads = append(r.Workloads, results)
	}
	return nil
}

// warmUp makes every target open its server connections, in each of its processes, and learn the statements. A target that
// takes all the time to open them is warm, too.
func (s *series) warmUp(ctx context.Context) error {
	for _, t := range s.targets {
		for _, w := range s.warm {
			if !t.takes(w) || t.unable(w) != "" {
				continue
			}
			w.clients = max(w.clients, t.sessions)
			if _, err := s.pgbench.run(ctx, w, t, max(1, t.learns), nil); err != nil && !errors.Is(err, errNoTransaction) {
				return fmt.Errorf("warm %s up: %w", t.name, err)
			}
		}
	}
	return nil
}

// measure runs one workload against all targets in turn, round by round: what else the machine does meanwhile then
// hits all of them. A target that fails is left out from there on; its result says why. A round without a transaction
// is no failure of the target, because direct connections see it too.
func (s *series) measure(ctx context.Context, w workload) (map[string][]run, map[string]string) {
	runs, problems := map[string][]run{}, map[string]string{}
	for _, t := range s.targets {
		if reason := t.unable(w); reason != "" && t.takes(w) {
			problems[t.name] = reason
		}
	}
	for round := range s.rounds {
		for i := range s.targets {
			t := s.targets[(i+round)%len(s.targets)] // nobody always runs behind the same one
			if !t.takes(w) || problems[t.name] != "" || ctx.Err() != nil {
				continue
			}
			one, err := s.once(ctx, w, t)
			if errors.Is(err, errNoTransaction) {
				s.say("%-20s round %d %-10s %v, left out", w.name, round+1, t.name, err)
				continue
			}
			if err != nil {
				s.say("%-20s round %d %-10s failed: %v", w.name, round+1, t.name, err)
				problems[t.name] = err.Error()
				continue
			}
			one.round = round
			runs[t.name] = append(runs[t.name], one)
			hits := ""
			if one.cache != nil {
				hits = fmt.Sprintf(", %.1f %% of the reads from its cache", 100*one.cache.hits)
			}
			s.say("%-20s round %d %-10s %8.0f tx/s  proxy %6.1f µs  PostgreSQL %6.1f µs of processor time each%s", w.name, round+1, t.name, one.Throughput, one.ProxyCPU, one.ServerCPU, hits)
		}
	}
	return runs, problems
}

// once is one run with the processor time of its transactions: logins cost a server up to a hundred times as much, which short
// runs would not hide.
func (s *series) once(ctx context.Context, w workload, t *target) (run, error) {
	if t.pid != 0 {
		if err := forgetPeaks(t.pid); err != nil {
			return run{}, err
		}
	}
	// Asked for outside of the time that is measured, when nobody else reads.
	cacheBefore, err := t.cacheCounts(ctx)
	if err != nil {
		return run{}, err
	}
	var proxyBefore, serverBefore time.Duration
	result, err := s.pgbench.run(ctx, w, t, max(s.seconds, w.seconds), func() (err error) {
		proxyBefore, serverBefore, err = s.processorTimes(t)
		return err
	})
	if err != nil {
		return run{}, err
	}
	// What replicas have to replay yet belongs to this run, not to the next one.
	if err := s.server.cluster.Shards[0].CatchUp(ctx); err != nil {
		return run{}, err
	}
	proxyAfter, serverAfter, err := s.processorTimes(t)
	if err != nil {
		return run{}, err
	}
	one := run{
		Throughput: result.throughput, Failed: result.failed, latencies: result.latencies,
		ProxyCPU:  microseconds(proxyAfter-proxyBefore) / float64(result.transactions),
		ServerCPU: microseconds(serverAfter-serverBefore) / float64(result.transactions),
	}
	if t.pid != 0 {
		if one.Peak, err = treeMemory(t.pid, peakMemory); err != nil {
			return run{}, err
		}
	}
	cacheAfter, err := t.cacheCounts(ctx)
	if t.caches != nil {
		one.cache = cacheAfter.since(cacheBefore, w.reads*float64(result.transactions))
	}
	return one, err
}

// processorTimes is what the proxy and all servers have used so far.
func (s *series) processorTimes(t *target) (proxy, servers time.Duration, err error) {
	if t.pid != 0 {
		if proxy, err = treeTime(t.pid); err != nil {
			return 0, 0, err
		}
	}
	for _, pid := range s.server.pids {
		one, err := treeTime(pid)
		if err != nil {
			return 0, 0, err
		}
		servers += one
	}
	return proxy, servers, nil
}

func microseconds(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// warmUps are what makes targets warm under the usual workloads.
func warmUps() []workload {
	var all []workload
	for _, mode := range []string{"simple", "prepared"} {
		all = append(all, workload{name: "warm-up", mode: mode, clients: quickClients, args: []string{"-S"}, sampling: 0.1})
	}
	return all
}
