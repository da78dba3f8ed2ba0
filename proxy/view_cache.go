package proxy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	"pgtier/proxy/admin"
	"pgtier/proxy/cache"
	"pgtier/proxy/wire"
)

// viewCaches tells of the databases that keep answers.
func (p *Proxy) viewCaches() (out []admin.Cache) {
	all := p.listed()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if d := all[name]; d.shared.Keeper.Load() != nil {
			out = append(out, viewCache(name, d.keeper.Load(), p.env.Now()))
		}
	}
	return out
}

func viewCache(database string, k *keeper, now int64) admin.Cache {
	c := k.cache
	out := admin.Cache{Database: database, State: "serving", Memory: c.Config().Memory, Hits: c.Hits.Load(), Misses: c.Misses.Load(), Shared: c.Shared.Load(),
		Passed: c.Passed.Load(), Stale: c.Stale.Load(), Kept: c.Kept.Load(), Evicted: c.Evicted(), Writes: c.Writes.Load(), Flushes: c.Flushes.Load(),
		Unknown: c.Unknown.Load(), Delay: -1}
	switch away := c.Away(); {
	case away&cache.Starting != 0:
		out.State = "waits for transactions that began before it"
	case away&cache.Unfollowed != 0:
		out.State = "stands aside: writes past the proxy are not followed"
	case c.Silent(now):
		out.State = "stands aside: writes past the proxy are known too late"
	}
	if f := k.feed.Load(); f != nil {
		stats := f.follower.Stats()
		out.Delay = stats.Delay
		if stats.Trouble != nil {
			out.State += ": " + stats.Trouble.Error()
		}
	}
	out.Answers, out.Bytes = c.Size()
	c.Records(func(r *cache.Record) {
		s := admin.CachedStatement{Text: r.Text, State: "kept", Asked: r.Asked.Load(), Hits: r.Hits.Load(), Kept: r.Kept.Load(), Reason: r.Refused()}
		switch {
		case s.Reason != "":
			s.State = "not kept"
		case r.Rests(now):
			s.State, s.Reason = "resting", "too few hits"
		}
		out.Statements = append(out.Statements, s)
	})
	slices.SortFunc(out.Statements, func(a, b admin.CachedStatement) int {
		return cmp.Or(cmp.Compare(b.Hits, a.Hits), cmp.Compare(b.Asked, a.Asked), cmp.Compare(a.Text, b.Text))
	})
	return out
}

// resetCache gives up answers as of says.
func (p *Proxy) resetCache(of admin.Answers) (n int, err error) {
	if of.Database != "" {
		if _, err := p.namedDatabase(of.Database); err != nil {
			return 0, err
		}
	}
	for _, d := range p.allDatabases() {
		if d.shared.Keeper.Load() == nil || of.Database != "" && d.name != of.Database {
			continue
		}
		gone, err := d.keeper.Load().reset(d, of)
		if err != nil {
			return n, err
		}
		n += gone
	}
	return n, nil
}

// reset gives up answers of d as of says.
func (k *keeper) reset(d *database, of admin.Answers) (int, error) {
	if of.Table == "" {
		return k.cache.Purge(), nil
	}
	index := k.judged(d.catalog.Snapshot()).Tags
	if of.Column == "" {
		return k.cache.PurgeOf(index.Whole(nil, of.Table), of.Table), nil
	}
	list, ok, why := index.Keyed(nil, of.Table, of.Column, of.Value)
	if !ok {
		return 0, wire.NewError(wire.CodeInvalidParameter, why, fmt.Sprintf("RESET CACHE %s %s gives up all answers of the table.", of.Database, of.Table))
	}
	return k.cache.PurgeOf(list, ""), nil
}
