package proxy

import (
	"time"

	"pgtier/proxy/admin"
	"pgtier/proxy/fleet"
)

// routes counts where requests went, for every database; those beyond maxSeries are one.
func (c *collector) routes(s *sink) {
	bounded := map[string][]admin.Route{}
	for name, d := range c.proxy.listed() {
		if len(bounded) >= maxSeries {
			name = others
		}
		bounded[name] = addRoutes(bounded[name], d.routes())
	}
	for name, routes := range bounded {
		for _, r := range routes {
			at, n := []string{"database", name}, float64(r.Count)
			switch r.Cause {
			case routeRepeated:
				s.counter("pgtier_repeated_total", "Requests sent again, because their server failed.", n, at...)
			case routeUnproved:
				s.counter("pgtier_unproved_reads_total", "Requests for which the manager was not known in time to show what the session had read from a replica: they went there nevertheless, or were refused with 57P03.", n, at...)
			default:
				s.counter("pgtier_routes_total", "Requests of databases with replicas, by why they went where they went; cause replica is those that replicas took.",
					n, "database", name, "cause", r.Cause)
			}
		}
	}
}

// addRoutes adds two databases' counts, which are of the same causes.
func addRoutes(a, b []admin.Route) []admin.Route {
	if a == nil {
		return b
	}
	for i := range a {
		a[i].Count += b[i].Count
	}
	return a
}

// servers tells of the servers of shards with replicas, up to maxSeries databases of these.
func (c *collector) servers(s *sink) {
	now, databases := time.Now(), 0
	for _, d := range c.proxy.listed() {
		if !d.watched() || databases >= maxSeries {
			continue
		}
		databases++
		for _, part := range *d.parts.Load() {
			if f := part.shared.Fleet.Load(); f != nil {
				c.shard(s, d, part, f, now)
			}
		}
	}
}

// shard tells of one shard's servers.
func (c *collector) shard(s *sink, d *database, part *part, f *fleet.Fleet, now time.Time) {
	v := f.View()
	at := []string{"database", d.name}
	if len(*d.parts.Load()) > 1 {
		at = append(at, "shard", part.name())
	}
	s.counter("pgtier_failovers_total", "Times that a manager appeared after the first: another server, or the same after it was lost or may have crashed.",
		float64(max(v.Epoch, 1)-1), at...)
	s.gauge("pgtier_manager_conflict", "1 while more than one server claims to be the manager; SHOW REPLICAS says which.",
		truth(v.Conflict != ""), at...)
	s.gauge("pgtier_manager_up", "1 while there is a server that takes writes.", truth(v.Manager >= 0), at...)
	for i := range v.Hosts {
		c.server(s, d.host(f, v, i, now))
	}
}

func (c *collector) server(s *sink, h admin.Host) {
	at := []string{"database", h.Database, "server", h.Name}
	s.gauge("pgtier_server_up", "1 while the server can be used in its role.", truth(h.Up), at...)
	s.gauge("pgtier_server_state", "The server's role and state; always 1.", 1, append(at, "role", h.Role, "state", h.State)...)
	s.gauge("pgtier_replica_replayed_bytes", "Position in the write-ahead log up to which the server's answers are complete.", float64(h.ReplayedBytes), at...)
	if h.Manager {
		return
	}
	s.gauge("pgtier_replica_lag_seconds", "How long ago the manager went beyond that position.", h.Lag.Seconds(), at...)
	s.gauge("pgtier_replica_latency_seconds", "Moving average of the replica's answers; 0 before the first.", h.Latency.Seconds(), at...)
	s.gauge("pgtier_replica_in_flight", "Requests and READ ONLY transactions that the replica works on.", float64(h.InFlight), at...)
	s.counter("pgtier_replica_reads_total", "Requests that the replica has answered.", float64(h.Reads), at...)
}
