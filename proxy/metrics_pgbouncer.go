package proxy

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"pgtier/proxy/admin"
)

// bouncerCollector gives the metrics of PgBouncer's exporter under its names,
// which dashboards and alerts are built on.
type bouncerCollector struct{ proxy *Proxy }

// Describe tells nothing, because the series depend on what is configured.
func (c *bouncerCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c *bouncerCollector) Collect(ch chan<- prometheus.Metric) {
	s := &sink{ch: ch, descs: map[string]*prometheus.Desc{}}
	p := c.proxy
	s.gauge("pgbouncer_up", "The figures could be read.", 1)
	s.gauge("pgbouncer_version_info", "The version of the console.", 1, "version", p.ops.version)
	c.pools(s)
	c.stats(s)
	c.databases(s)
	counts := p.viewCounts()
	for _, l := range []struct {
		name, help string
		n          int
	}{
		{"databases", "Count of databases.", len(p.listed()) + 1},
		{"users", "Count of users.", counts.Users},
		{"pools", "Count of pools.", counts.Pools},
		{"free_clients", "Count of free clients.", 0},
		{"used_clients", "Count of used clients.", len(p.Sessions()) + len(p.visits())},
		{"login_clients", "Count of clients in login state.", counts.Greeting},
		{"free_servers", "Count of free servers.", 0},
		{"used_servers", "Count of used servers.", len(p.viewServers())},
		{"cached_dns_names", "Count of DNS names in the cache.", 0},
		{"cached_dns_zones", "Count of DNS zones in the cache.", 0},
		{"in_flight_dns_queries", "Count of in-flight DNS queries.", 0},
	} {
		s.gauge("pgbouncer_"+l.name, l.help, float64(l.n))
	}
	limits := p.face.Load().cfg.Pool
	s.gauge("pgbouncer_config_max_client_connections", "Configured maximum of client connections.", float64(limits.MaxClients))
	s.gauge("pgbouncer_config_max_user_connections", "Configured maximum of server connections of a user.", float64(limits.MaxUserConnections))
}

func (c *bouncerCollector) pools(s *sink) {
	merged := map[login]poolSum{} // there may be a pool for each of several servers
	clients := c.proxy.sessionsOf()
	for _, st := range c.proxy.poolSums() {
		at := login{st.database, st.user}
		if sum, ok := merged[at]; ok {
			sum.Closed = map[string]uint64{}
			sum.add(st.Stats, st.size)
			if st = sum; st.database != others {
				st.Clients = clients[at] // one that uses several is one
			}
		}
		merged[at] = st
	}
	for _, st := range merged {
		at := []string{"database", st.database, "user", st.user}
		for _, m := range []struct {
			name, help string
			value      float64
		}{
			{"client_active_connections", "Client connections linked to a server connection, or idle.", float64(max(st.Clients-st.Waiting, 0))},
			{"client_active_cancel_connections", "Cancels being forwarded.", 0},
			{"client_waiting_connections", "Client connections waiting for a server connection.", float64(st.Waiting)},
			{"client_waiting_cancel_connections", "Cancels not forwarded yet.", 0},
			{"server_active_connections", "Server connections linked to a client.", float64(st.Active)},
			{"server_active_cancel_connections", "Server connections forwarding a cancel.", 0},
			{"server_being_canceled_connections", "Server connections waiting for cancels to end.", 0},
			{"server_idle_connections", "Server connections ready for a client.", float64(st.Idle)},
			{"server_used_connections", "Server connections idle for so long that they are checked first.", float64(st.Used)},
			{"server_testing_connections", "Server connections being reset or checked.", float64(st.Tested)},
			{"server_login_connections", "Server connections logging in.", float64(st.Login)},
			{"client_maxwait_seconds", "How long the first client in the queue has waited.", st.MaxWait.Seconds()},
		} {
			s.gauge("pgbouncer_pools_"+m.name, m.help, m.value, at...)
		}
	}
}

func (c *bouncerCollector) stats(s *sink) {
	totals, _ := c.proxy.boundedTotals()
	for name, t := range totals {
		for _, m := range bouncerStats(t) {
			s.counter("pgbouncer_stats_"+m.name, m.help, m.value, "database", name)
		}
	}
}

type bouncerStat struct {
	name, help string
	value      float64
}

func bouncerStats(t admin.Totals) []bouncerStat {
	return []bouncerStat{
		{"queries_pooled_total", "SQL queries pooled.", float64(t.Queries)},
		{"queries_duration_seconds_total", "Time executing queries.", t.QueryTime.Seconds()},
		{"received_bytes_total", "Bytes received from clients.", float64(t.Received)},
		{"sent_bytes_total", "Bytes sent to clients.", float64(t.Sent)},
		{"client_wait_seconds_total", "Time clients waited for a server.", t.WaitTime.Seconds()},
		{"sql_transactions_pooled_total", "SQL transactions pooled.", float64(t.Transactions)},
		{"server_in_transaction_seconds_total", "Time connected to a server in a transaction.", t.TxTime.Seconds()},
		{"client_parses_total", "Prepared statements created by clients.", float64(t.ClientParses)},
		{"server_parses_total", "Prepared statements created on servers.", float64(t.ServerParses)},
		{"binds_total", "Prepared statements readied for execution.", float64(t.Binds)},
		{"server_assignments_total", "Times a server was assigned to a client.", float64(t.Assignments)},
	}
}

func (c *bouncerCollector) databases(s *sink) {
	for i, d := range c.proxy.viewDatabases() {
		if i >= maxSeries || d.Name == adminDatabase {
			continue
		}
		at := []string{"name", d.Name, "host", d.Host, "port", strconv.Itoa(d.Port), "database", d.Database, "force_user", d.ForceUser, "pool_mode", d.Mode}
		for _, m := range []struct {
			name, help string
			value      float64
		}{
			{"pool_size", "Maximum number of server connections.", float64(d.PoolSize)},
			{"reserve_pool", "Maximum number of additional server connections.", float64(d.ReserveSize)},
			{"max_connections", "Maximum number of server connections of the database.", float64(d.MaxConnections)},
			{"current_connections", "Server connections of the database.", float64(d.Connections)},
			{"paused", "1 while the database is paused.", truth(d.Paused)},
			{"disabled", "1 while the database is disabled.", truth(d.Disabled)},
		} {
			s.gauge("pgbouncer_databases_"+m.name, m.help, m.value, at...)
		}
	}
}
