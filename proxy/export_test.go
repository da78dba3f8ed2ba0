package proxy

import (
	"context"
	"time"

	"pgtier/proxy/admin"
	"pgtier/proxy/backend"
	"pgtier/proxy/cache"
	"pgtier/proxy/fleet"
	"pgtier/proxy/pool"
	"pgtier/proxy/session"
	"pgtier/proxy/shardmap"
)

// SharedOf is what the sessions of a database share, for tests that read its counters.
func (p *Proxy) SharedOf(name string) *session.Database {
	d, err := p.find(name)
	if err != nil {
		return nil
	}
	return d.shared
}

// CachesOf are those of a database's shards, in their order.
func (p *Proxy) CachesOf(name string) (list []*cache.Cache) {
	d, err := p.find(name)
	if err != nil {
		return nil
	}
	for _, k := range d.keepers() {
		list = append(list, k.cache)
	}
	return list
}

// WithLease has a proxy go on for so long without its control database.
func WithLease(d time.Duration) Option { return func(p *Proxy) { p.lease = d } }

// MapState is what the proxy knows of a database's map and motion.
func (p *Proxy) MapState(name string) *shardmap.State {
	d, err := p.find(name)
	if err != nil {
		return nil
	}
	return d.cluster.watcher.Load().State()
}

// ShardsOf is what SHOW SHARDS tells of a database.
func (p *Proxy) ShardsOf(name string) []admin.Shard {
	d, err := p.find(name)
	if err != nil {
		return nil
	}
	return d.shards()
}

// ViewOf is what is known of a database's servers; nil where there is a manager alone.
func (p *Proxy) ViewOf(name string) *fleet.View {
	if f := p.SharedOf(name).Fleet.Load(); f != nil {
		return f.View()
	}
	return nil
}

// Lent is how many server connections are lent to sessions.
func (p *Proxy) Lent() (n int) {
	p.registry.Each(func(pl *pool.Pool[*backend.Conn]) { n += pl.Stats().Active })
	return n
}

// InFlight is the sum of what is under way on a database's replicas.
func (p *Proxy) InFlight(name string) (n int) {
	f := p.SharedOf(name).Fleet.Load()
	for _, h := range f.Hosts(f.View(), nil, f.View().At) {
		n += h.InFlight
	}
	return n
}

// ReadCatalog reads a database's catalog anew, which was changed behind the proxy's back.
func (p *Proxy) ReadCatalog(ctx context.Context, name string) error {
	d, err := p.find(name)
	if err != nil {
		return err
	}
	d.catalog.Touch()
	return d.catalog.Wait(ctx)
}
