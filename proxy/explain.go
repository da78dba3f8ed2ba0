package proxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"pgtier/proxy/pool"
	"pgtier/proxy/wire"
	"pgtier/router"
	"pgtier/router/balance"
)

// Circumstances are what the way of every statement for d depends on, as far as it is configured.
func (d *Database) Circumstances() router.Circumstances {
	level, _ := router.ParseLevel(d.Reads.Consistency) // Validate has checked it
	c := router.Circumstances{Level: level}
	if len(d.Shards) > 0 {
		c.Replicas = len(d.Shards[0].Replicas)
	}
	if d.Pool.Mode == pool.ModeSession {
		c.Keeps = "pool.mode is session"
	}
	if !d.Cache.Enabled {
		c.Uncached = "cache.enabled is false"
	}
	return c
}

// explain answers EXPLAIN ROUTE.
func (p *Proxy) explain(ctx context.Context, name, sql string) ([]router.Fact, error) {
	d, err := p.meant(name)
	if err != nil {
		return nil, err
	}
	if d.ownRole() == "" {
		return nil, wire.NewError(wire.CodeNotInState, fmt.Sprintf("the catalog of database %q is not read yet", d.name),
			"Its URL names no role, so pgtier logs in with that of its first client; or name one in the URL.")
	}
	p.watchCatalog(d)
	d.watchFleets()
	ctx, stop := context.WithTimeout(ctx, askTimeout)
	defer stop()
	if err := d.catalog.Wait(ctx); err != nil {
		if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			return nil, wire.NewError(wire.CodeCannotConnectNow, fmt.Sprintf("the catalog of database %q could not be read", d.name), "The log says why.")
		}
		return nil, err
	}
	st := p.env.Parser.Statement([]byte(sql))
	facts := router.Explain(st, d.conf.Load().Circumstances(), d.catalog)
	if d.conf.Load().Sharded() {
		layout, err := d.cluster.current()
		if err != nil {
			return nil, err
		}
		facts = ShardFacts(facts, layout.Schema, st, sql, nil)
	}
	return append(append([]router.Fact{{Item: "database", Value: d.name}}, facts...), d.takers(time.Now())...), nil
}

// meant is the database of that name; "" is the only one.
func (p *Proxy) meant(name string) (*database, error) {
	if name != "" {
		return p.namedDatabase(name)
	}
	all := p.listed()
	if len(all) != 1 {
		names := slices.Sorted(maps.Keys(all))
		return nil, wire.NewError(wire.CodeInvalidDatabase, "which database? there are "+fmt.Sprint(len(all)),
			"Name it in front: EXPLAIN ROUTE name: SELECT …. There are: "+strings.Join(names, ", ")+".")
	}
	return all[slices.Collect(maps.Keys(all))[0]], nil
}

// takers says how many replicas take reads now. How far one must have replayed depends on the session.
func (d *database) takers(now time.Time) []router.Fact {
	f := d.shared.Fleet.Load()
	if f == nil {
		return nil
	}
	hosts := f.Hosts(f.View(), nil, now)
	most, taking := d.reads.Load().MaxLag, 0
	for i := range hosts {
		if _, why := balance.Choose(hosts[i:i+1], balance.Ask{MaxLag: most}); !why.Refused() {
			taking++
		}
	}
	return []router.Fact{{Item: "replicas", Value: fmt.Sprintf("%d of %d take reads now", taking, len(hosts)-1), Reason: "SHOW REPLICAS says more"}}
}
