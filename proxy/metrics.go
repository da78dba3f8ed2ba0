package proxy

import (
	"runtime"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"pgtier/proxy/admin"
	"pgtier/proxy/backend"
	"pgtier/proxy/pool"
	"pgtier/proxy/session"
)

const (
	// maxSeries bounds the pools and databases that have series of their own:
	// with a wildcard entry and auth_query their names come from outside.
	maxSeries = 1000
	// others is the label of those beyond, summed up.
	others = "(others)"
)

// newMetrics returns the proxy's own registry.
func (p *Proxy) newMetrics() *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		&collector{proxy: p, descs: map[string]*prometheus.Desc{}}, &bouncerCollector{proxy: p})
	return r
}

// collector gives the pgtier_… metrics at each scrape, from the figures that
// the proxy keeps anyway.
type collector struct {
	proxy *Proxy
	descs map[string]*prometheus.Desc
}

// Describe tells nothing, because the series depend on what is configured.
func (c *collector) Describe(chan<- *prometheus.Desc) {}

// sink makes metrics for one scrape.
type sink struct {
	ch    chan<- prometheus.Metric
	descs map[string]*prometheus.Desc
}

// emit adds one sample; labels are names and values in turn.
func (s *sink) emit(kind prometheus.ValueType, name, help string, value float64, labels ...string) {
	desc, values := s.describe(name, help, labels)
	s.ch <- prometheus.MustNewConstMetric(desc, kind, value, values...)
}

// describe is the description of a metric, and the values of its labels.
func (s *sink) describe(name, help string, labels []string) (desc *prometheus.Desc, values []string) {
	desc = s.descs[name]
	for i := 1; i < len(labels); i += 2 {
		values = append(values, strings.ToValidUTF8(labels[i], "?"))
	}
	if desc == nil {
		var names []string
		for i := 0; i < len(labels); i += 2 {
			names = append(names, labels[i])
		}
		desc = prometheus.NewDesc(name, help, names, nil)
		s.descs[name] = desc
	}
	return desc, values
}

func (s *sink) counter(name, help string, value float64, labels ...string) {
	s.emit(prometheus.CounterValue, name, help, value, labels...)
}

// histogram tells of count values with that sum; upTo counts those up to each bound, the ones below it included.
func (s *sink) histogram(name, help string, count uint64, sum float64, upTo map[float64]uint64, labels ...string) {
	desc, values := s.describe(name, help, labels)
	s.ch <- prometheus.MustNewConstHistogram(desc, count, sum, upTo, values...)
}

func (s *sink) gauge(name, help string, value float64, labels ...string) {
	s.emit(prometheus.GaugeValue, name, help, value, labels...)
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	s := &sink{ch: ch, descs: map[string]*prometheus.Desc{}}
	p := c.proxy
	s.gauge("pgtier_build_info", "What runs; always 1.", 1, "version", p.ops.version, "go_version", runtime.Version())
	s.gauge("pgtier_draining", "1 while the proxy is shutting down.", truth(p.Draining()))
	s.gauge("pgtier_paused", "1 while everything is paused.", truth(p.registry.Paused(pool.Scope{})))
	s.counter("pgtier_logins_total", "Clients that logged in.", float64(p.ops.logins.Load()))
	p.ops.failures.mu.Lock()
	for code, n := range p.ops.failures.byCode {
		s.counter("pgtier_login_failures_total", "Clients that did not get in, by SQLSTATE.", float64(n), "code", code)
	}
	p.ops.failures.mu.Unlock()
	cache := p.env.Parser.Stats()
	s.counter("pgtier_statement_cache_hits_total", "Statements whose template was known.", float64(cache.Hits))
	s.counter("pgtier_statement_cache_misses_total", "Statements that were analysed.", float64(cache.Misses))
	s.counter("pgtier_statement_cache_evictions_total", "Templates dropped to make room.", float64(cache.Evictions))
	s.gauge("pgtier_statement_cache_entries", "Templates remembered.", float64(cache.Entries))
	s.gauge("pgtier_statement_cache_bytes", "Memory of the templates remembered.", float64(cache.Bytes))
	c.pools(s)
	c.databases(s)
	c.routes(s)
	c.servers(s)
	c.shards(s)
	c.moves(s)
	c.caches(s)
	c.clients(s)
	c.pipelines(s)
}

// pipelines sums those of the databases beyond maxSeries.
func (c *collector) pipelines(s *sink) {
	sums := map[string]admin.Pipeline{}
	for _, l := range c.proxy.viewPipelines() {
		name := l.Database
		if len(sums) >= maxSeries {
			name = others
		}
		sum := sums[name]
		sum.Open, sum.UnderWay, sum.Requests, sum.Batches = sum.Open+l.Open, sum.UnderWay+l.UnderWay, sum.Requests+l.Requests, sum.Batches+l.Batches
		sum.SentAgain, sum.Evicted = sum.SentAgain+l.SentAgain, sum.Evicted+l.Evicted
		sums[name] = sum
	}
	for name, l := range sums {
		s.gauge("pgtier_pipelines", "Server connections that reads of several clients share.", float64(l.Open), "database", name)
		s.gauge("pgtier_pipeline_depth", "Requests under way in them.", float64(l.UnderWay), "database", name)
		s.counter("pgtier_pipeline_requests_total", "Requests that travelled in them.", float64(l.Requests), "database", name)
		s.counter("pgtier_pipeline_batches_total", "Writes that carried them.", float64(l.Batches), "database", name)
		s.counter("pgtier_pipeline_replays_total", "Requests sent again over connections of their own.", float64(l.SentAgain), "database", name)
		s.counter("pgtier_pipeline_evictions_total", "Of these, requests that waited behind a slow one.", float64(l.Evicted), "database", name)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// poolSum is one pool's numbers, or the sum of those beyond maxSeries.
type poolSum struct {
	database, user, server string
	pool.Stats
	size int
}

// poolSums lists the pools, the first maxSeries on their own.
func (p *Proxy) poolSums() []poolSum {
	var out []poolSum
	p.registry.Each(func(pl *pool.Pool[*backend.Conn]) {
		key, st := pl.Key(), pl.Stats()
		if len(out) < maxSeries {
			out = append(out, poolSum{key.Database, key.Role, key.Server, st, pl.Config().Size})
			return
		}
		if len(out) == maxSeries {
			out = append(out, poolSum{database: others, user: others, server: others})
			out[maxSeries].Closed = map[string]uint64{}
		}
		out[maxSeries].add(st, pl.Config().Size)
	})
	return out
}

func (s *poolSum) add(o pool.Stats, size int) {
	s.Active, s.Idle, s.Used, s.Tested = s.Active+o.Active, s.Idle+o.Idle, s.Used+o.Used, s.Tested+o.Tested
	s.Login, s.Closing, s.Waiting, s.Clients = s.Login+o.Login, s.Closing+o.Closing, s.Waiting+o.Waiting, s.Clients+o.Clients
	s.MaxWait, s.Down, s.Paused = max(s.MaxWait, o.MaxWait), s.Down || o.Down, s.Paused || o.Paused
	s.Assigned, s.Waited, s.WaitTime = s.Assigned+o.Assigned, s.Waited+o.Waited, s.WaitTime+o.WaitTime
	s.Dials, s.DialErrors, s.size = s.Dials+o.Dials, s.DialErrors+o.DialErrors, s.size+size
	for reason, n := range o.Closed {
		s.Closed[reason] += n
	}
}

func (c *collector) pools(s *sink) {
	for _, st := range c.proxy.poolSums() {
		at := []string{"database", st.database, "user", st.user, "server", st.server}
		with := func(more ...string) []string { return append(append([]string(nil), at...), more...) }
		for _, state := range []struct {
			name string
			n    int
		}{{"active", st.Active}, {"idle", st.Idle}, {"used", st.Used}, {"tested", st.Tested}, {"login", st.Login}, {"closing", st.Closing}} {
			s.gauge("pgtier_pool_connections", "Server connections by state.", float64(state.n), with("state", state.name)...)
		}
		s.gauge("pgtier_pool_size", "Server connections the pool may have.", float64(st.size), at...)
		s.gauge("pgtier_pool_clients", "Clients that use the pool.", float64(st.Clients), at...)
		s.gauge("pgtier_pool_waiting_clients", "Clients that wait for a server connection.", float64(st.Waiting), at...)
		s.gauge("pgtier_pool_max_wait_seconds", "How long the first of them has waited.", st.MaxWait.Seconds(), at...)
		s.gauge("pgtier_pool_down", "1 when the pool has no connection and the last attempt failed.", truth(st.Down), at...)
		s.gauge("pgtier_pool_paused", "1 while the pool is paused.", truth(st.Paused), at...)
		s.counter("pgtier_pool_assignments_total", "Server connections lent.", float64(st.Assigned), at...)
		s.counter("pgtier_pool_waits_total", "Server connections lent after a wait or a check.", float64(st.Waited), at...)
		s.counter("pgtier_pool_wait_seconds_total", "Time spent in these waits.", st.WaitTime.Seconds(), at...)
		s.counter("pgtier_pool_dials_total", "Attempts to open a server connection.", float64(st.Dials), at...)
		s.counter("pgtier_pool_dial_errors_total", "Attempts that failed.", float64(st.DialErrors), at...)
		for reason, n := range st.Closed {
			s.counter("pgtier_pool_closed_total", "Server connections closed, by reason.", float64(n), with("reason", reason)...)
		}
	}
}

func (c *collector) databases(s *sink) {
	bounded, prepared := c.proxy.boundedTotals()
	for name, t := range bounded {
		s.counter("pgtier_queries_total", "Requests relayed.", float64(t.Queries), "database", name)
		s.counter("pgtier_transactions_total", "Transactions relayed.", float64(t.Transactions), "database", name)
		s.counter("pgtier_received_bytes_total", "Bytes from clients.", float64(t.Received), "database", name)
		s.counter("pgtier_sent_bytes_total", "Bytes to clients.", float64(t.Sent), "database", name)
		s.counter("pgtier_query_seconds_total", "Time of requests, waiting included.", t.QueryTime.Seconds(), "database", name)
		s.counter("pgtier_transaction_seconds_total", "Time between the first work for a server and the end of the transaction.", t.TxTime.Seconds(), "database", name)
		s.counter("pgtier_wait_seconds_total", "Time clients waited for a server connection.", t.WaitTime.Seconds(), "database", name)
		s.gauge("pgtier_prepared_statements_bytes", "Memory of shared prepared statements.", float64(prepared[name]), "database", name)
	}
}

// boundedTotals are the databases' totals and their memory of prepared
// statements, with those beyond maxSeries as one.
func (p *Proxy) boundedTotals() (totals map[string]admin.Totals, prepared map[string]int64) {
	totals, prepared = map[string]admin.Totals{}, map[string]int64{}
	for name, d := range p.listed() {
		if len(totals) >= maxSeries {
			name = others
		}
		totals[name] = totals[name].Add(totalsOf(&d.stats))
		prepared[name] += d.shared.Statements.Bytes()
	}
	return totals, prepared
}

// clients counts sessions by state, and pins by class.
func (c *collector) clients(s *sink) {
	type place struct{ database, what string }
	states, pins := map[place]int{}, map[place]int{}
	databases := map[string]bool{}
	for _, one := range c.proxy.Sessions() {
		i := one.Info()
		if !databases[i.Database] && len(databases) >= maxSeries {
			i.Database = others
		}
		databases[i.Database] = true
		states[place{i.Database, i.State.String()}]++
		if i.Pin != "" {
			pins[place{i.Database, pinClass(i.Pin)}]++
		}
	}
	for database := range databases {
		for st := session.StateIdle; st <= session.StateActive; st++ {
			s.gauge("pgtier_clients", "Clients by what they do.", float64(states[place{database, st.String()}]),
				"database", database, "state", strings.ReplaceAll(st.String(), " ", "_"))
		}
	}
	for at, n := range pins {
		s.gauge("pgtier_pinned_clients", "Clients that keep their server connection, by the kind of reason; SHOW PINS has the reasons.",
			float64(n), "database", at.database, "class", at.what)
	}
	s.gauge("pgtier_dozing_clients", "Idle clients that take no goroutine.", float64(c.proxy.env.Dozer.Dozing()))
	s.gauge("pgtier_console_clients", "Clients of the admin console.", float64(len(c.proxy.visits())))
}

// pinClass is the kind of a pin's reason, one of few: reasons may carry names.
func pinClass(reason string) string {
	lower := strings.ToLower(reason)
	for _, class := range []struct{ word, name string }{
		{"session pooling", "session_pooling"}, {"temporary", "temporary_object"}, {"temp ", "temporary_object"}, {"advisory", "advisory_lock"},
		{"cursor", "cursor"}, {"hold", "cursor"}, {"currval", "sequence"}, {"sequence", "sequence"}, {"load", "load"},
		{"authorization", "role"}, {"role", "role"}, {"listen", "listen"}, {"prepare", "prepared_statement"}, {"do block", "code"}, {"function", "code"},
		{"too large", "unparsed"}, {"parse", "unparsed"},
	} {
		if strings.Contains(lower, class.word) {
			return class.name
		}
	}
	return "other"
}
