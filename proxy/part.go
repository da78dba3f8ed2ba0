package proxy

import (
	"context"
	"slices"
	"sync/atomic"

	"pgtier/proxy/fleet"
	"pgtier/proxy/session"
	"pgtier/router/topology"
)

// part is one shard of a database. A database without sharding has one.
type part struct {
	shared  *session.Database // fixed
	servers atomic.Pointer[topology.Shard]
	keeper  atomic.Pointer[keeper] // of its cache; nil before there was one

	// Guarded by database.mu.
	stopFleet context.CancelFunc
	lastFleet *fleet.Fleet // in force, or before there were no replicas any more
	startOnce func()       // starts the fleet in force, once somebody's login gives a role to ask as
}

// newPart makes a shard of what its sessions share. Nobody uses it yet.
func newPart(shared *session.Database, c *cluster) *part {
	p := &part{shared: shared}
	shared.Shard, shared.Manager, shared.Bond = p.name, func() string { return p.manager().Name }, &tie{c: c, part: p}
	return p
}

// manager is the server that takes the shard's writes: the configured one, until another is seen to. That remains so while it is away: the configured one may be back
// with what it had when it was lost, and does not know what has been decided since.
func (p *part) manager() topology.Server {
	if f := p.shared.Fleet.Load(); f != nil {
		if v := f.View(); v.Last >= 0 {
			return *v.Hosts[v.Last].Server
		}
	}
	return p.servers.Load().Manager
}

// name is the shard's.
func (p *part) name() string { return p.servers.Load().Name }

// has reports whether the shard has a server of that name.
func (p *part) has(server string) bool {
	shard := p.servers.Load()
	return shard.Manager.Name == server || slices.ContainsFunc(shard.Replicas, func(r topology.Server) bool { return r.Name == server })
}

// endFleet ends the watch of the shard's servers. database.mu is held.
func (p *part) endFleet() {
	if p.stopFleet != nil {
		p.stopFleet()
	}
	p.stopFleet, p.startOnce = nil, nil
}

// home is the shard that holds what is not sharded.
func (d *database) home() *part {
	parts := *d.parts.Load()
	for _, part := range parts {
		if part.shared == d.shared {
			return part
		}
	}
	return parts[0]
}

// partOf is the shard with a server of that name; one that is gone counts as the home shard's.
func (d *database) partOf(server string) *part {
	for _, part := range *d.parts.Load() {
		if part.has(server) {
			return part
		}
	}
	return d.home()
}

// ownRoleOn is the role for the proxy's own questions to a shard.
func (d *database) ownRoleOn(part *part) string {
	if u := part.manager().User; u != "" {
		return u
	}
	return d.ownRole()
}

// configureParts puts the shards of the configuration in force, and the watch of their servers. A shard keeps what
// sessions share of it as long as its name is there.
func (d *database) configureParts(p *Proxy) {
	shards := d.servers.Load().Shards
	home := d.conf.Load().homeOf(shards)
	old := map[string]*part{}
	if parts := d.parts.Load(); parts != nil {
		for _, part := range *parts {
			old[part.name()] = part
		}
	}
	parts := make([]*part, len(shards))
	for i := range shards {
		at := old[shards[i].Name]
		switch {
		case i == home && len(old) == 0: // the first time
			at = newPart(d.shared, d.cluster)
		case i == home:
			at = d.home()
		case at == nil:
			at = newPart(d.newShared(p, d.shared.Statements), d.cluster)
			at.shared.Listener = d.listener
		}
		if at.servers.Load() != nil {
			delete(old, at.name())
		}
		at.servers.Store(&shards[i])
		parts[i] = at
	}
	d.parts.Store(&parts)
	for _, gone := range old {
		d.mu.Lock()
		gone.endFleet()
		d.mu.Unlock()
		gone.shared.Pipelines.Close()
		d.dropKeeper(p, gone)
	}
	d.configureFleets(p)
	d.cluster.configure()
}
