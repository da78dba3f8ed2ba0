package proxy

import (
	"maps"
	"slices"
	"time"

	"pgtier/proxy/admin"
	"pgtier/proxy/fleet"
	"pgtier/router"
	"pgtier/router/balance"
)

// notWatched is the state of the one server of a database without replicas.
const notWatched = "not watched"

// viewHosts lists the servers of every database in order of its name, the configured manager first.
func (p *Proxy) viewHosts() []admin.Host {
	all := p.listed()
	var out []admin.Host
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[name].hosts(time.Now())...)
	}
	return out
}

// hosts are the servers of d as they are known now.
func (d *database) hosts(now time.Time) []admin.Host {
	var out []admin.Host
	for _, part := range *d.parts.Load() {
		out = append(out, d.hostsOf(part, now)...)
	}
	return out
}

// hostsOf are the servers of one shard.
func (d *database) hostsOf(part *part, now time.Time) []admin.Host {
	shard := part.servers.Load()
	f := part.shared.Fleet.Load()
	if f == nil {
		m := &shard.Manager
		return []admin.Host{{Database: d.name, Shard: shard.Name, Name: m.Name, Addr: m.Host, Port: int(m.Port), Zone: m.Zone,
			Role: "manager", State: notWatched, Reason: "no replicas are configured", Warmth: 1, Manager: true}}
	}
	v := f.View()
	var out []admin.Host
	for i := range v.Hosts {
		h := d.host(f, v, i, now)
		h.Shard = shard.Name
		out = append(out, h)
	}
	return out
}

// host is the server at index i of v.
func (d *database) host(f *fleet.Fleet, v *fleet.View, i int, now time.Time) admin.Host {
	h, load := &v.Hosts[i], f.Load(i)
	out := admin.Host{Database: d.name, Name: h.Name, Addr: h.Server.Host, Port: int(h.Server.Port), Zone: h.Server.Zone, Weight: h.Server.Weight,
		Role: h.Role.String(), State: h.State.String(), Reason: h.Reason, Timeline: h.Timeline, Lag: h.Lag,
		Latency: load.Latency, InFlight: load.InFlight, Reads: load.Answered, Warmth: f.Warmth(h, now),
		Up: h.State >= balance.Lagging, Manager: i == v.Manager}
	if h.Replayed > 0 {
		out.Replayed, out.ReplayedBytes = h.Replayed.String(), uint64(h.Replayed)
	}
	switch {
	case out.Manager:
		out.Conflict = v.Conflict
	case h.Role == fleet.Manager:
		out.Role = "claims manager" // it is not written to; Reason says why
		out.Conflict = v.Conflict
	}
	return out
}

// viewRoutes counts the requests of every database by cause. Of a database without replicas, whose requests all go to its
// manager, only what happened is listed.
func (p *Proxy) viewRoutes() []admin.Route {
	all := p.listed()
	var out []admin.Route
	for _, name := range slices.Sorted(maps.Keys(all)) {
		d := all[name]
		for _, r := range d.routes() {
			if r.Count > 0 || d.watched() {
				out = append(out, r)
			}
		}
	}
	return out
}

// The lines beside the causes of routes: what happened to requests that had been routed.
const (
	routeRepeated = "repeated" // sent again, because their server failed
	routeUnproved = "unproved" // session.Stats.Unproved
)

func (d *database) routes() []admin.Route {
	st := &d.stats
	var out []admin.Route
	for c := router.ToReplica; c < router.Causes; c++ {
		out = append(out, admin.Route{Database: d.name, Cause: c.String(), Count: st.Routes[c].Load()})
	}
	return append(out, admin.Route{Database: d.name, Cause: routeRepeated, Count: st.Repeated.Load()},
		admin.Route{Database: d.name, Cause: routeUnproved, Count: st.Unproved.Load()})
}

// watched reports whether a shard of d has replicas.
func (d *database) watched() bool {
	return slices.ContainsFunc(*d.parts.Load(), func(part *part) bool { return part.shared.Fleet.Load() != nil })
}
