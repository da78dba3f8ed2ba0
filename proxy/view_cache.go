package proxy

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"pgtier/proxy/admin"
	"pgtier/proxy/cache"
	"pgtier/proxy/wire"
	"pgtier/router/catalog"
)

// viewCaches tells of the databases that keep answers.
func (p *Proxy) viewCaches() (out []admin.Cache) {
	all := p.listed()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if keepers := all[name].keepers(); len(keepers) > 0 {
			out = append(out, viewCache(name, keepers, p.env.Now()))
		}
	}
	return out
}

// viewCache tells of the caches of a database's shards as of one. Its state is that of the first that does not serve.
func viewCache(database string, keepers []*keeper, now int64) admin.Cache {
	out := admin.Cache{Database: database, State: "serving", Delay: -1}
	for _, k := range keepers {
		c := k.cache
		out.Memory, out.Unknown, out.Evicted = out.Memory+c.Config().Memory, out.Unknown+c.Unknown.Load(), out.Evicted+c.Evicted()
		out.Hits, out.Misses, out.Shared = out.Hits+c.Hits.Load(), out.Misses+c.Misses.Load(), out.Shared+c.Shared.Load()
		out.Passed, out.Stale, out.Kept = out.Passed+c.Passed.Load(), out.Stale+c.Stale.Load(), out.Kept+c.Kept.Load()
		out.Writes, out.Flushes = out.Writes+c.Writes.Load(), out.Flushes+c.Flushes.Load()
		answers, bytes := c.Size()
		out.Answers, out.Bytes = out.Answers+answers, out.Bytes+bytes
		state, delay := k.state(now)
		out.Delay = max(out.Delay, delay)
		if state != "" && out.State == "serving" {
			if len(keepers) > 1 {
				state = "shard " + k.part.name() + " " + state
			}
			out.State = state
		}
	}
	keepers[0].cache.Records(func(r *cache.Record) { // which all share
		s := admin.CachedStatement{Text: r.Text, State: "kept", Asked: r.Asked.Load(), Hits: r.Hits.Load(), Kept: r.Kept.Load(), Reason: r.Refused()}
		switch {
		case s.Reason != "":
			s.State = "not kept"
		case r.Rests(now):
			s.State, s.Reason = "resting", "too few hits"
		case r.Long.Load() > 0 && s.Kept == 0:
			s.State, s.Reason = "not kept", "answers are longer than cache.max_entry"
		case r.Long.Load() > 0:
			s.Reason = fmt.Sprintf("%d answers were longer than cache.max_entry", r.Long.Load())
		}
		out.Statements = append(out.Statements, s)
	})
	slices.SortFunc(out.Statements, func(a, b admin.CachedStatement) int {
		return cmp.Or(cmp.Compare(b.Hits, a.Hits), cmp.Compare(b.Asked, a.Asked), cmp.Compare(a.Text, b.Text))
	})
	return out
}

// state is why nothing is served, "" if something is; delay is how late writes past the proxy are known, negative if they are not followed.
func (k *keeper) state(now int64) (why string, delay time.Duration) {
	switch away := k.cache.Away(); {
	case away&cache.Starting != 0:
		why = "waits for transactions that began before it"
	case away&cache.Apart != 0:
		why = "stands aside: a statement for one shard may have changed its schema; RESET CACHE ends that"
	case away&cache.Unfollowed != 0:
		why = "stands aside: writes past the proxy are not followed"
	case k.cache.Silent(now):
		why = "stands aside: writes past the proxy are known too late"
	}
	f := k.feed.Load()
	if f == nil {
		return why, -1
	}
	stats := f.follower.Stats()
	if stats.Trouble != nil {
		if why == "" {
			why = "serving"
		}
		why += ": " + stats.Trouble.Error()
	}
	return why, stats.Delay
}

// resetCache gives up answers as of says.
func (p *Proxy) resetCache(of admin.Answers) (n int, err error) {
	if of.Database != "" {
		if _, err := p.namedDatabase(of.Database); err != nil {
			return 0, err
		}
	}
	for _, d := range p.allDatabases() {
		if of.Database != "" && d.name != of.Database {
			continue
		}
		for _, k := range d.keepers() {
			gone, err := k.reset(of)
			if err != nil {
				return n, err
			}
			n += gone
		}
	}
	return n, nil
}

// reset gives up answers of k's shard as of says.
func (k *keeper) reset(of admin.Answers) (int, error) {
	if of.Table == "" {
		n := k.cache.Purge()
		k.cache.StandAside(cache.Apart, false)
		return n, nil
	}
	judge := k.judged(k.d.catalog.Snapshot())
	if !slices.ContainsFunc(judge.Snapshot.Relations(), func(r *catalog.Relation) bool { return r.String() == of.Table }) {
		return 0, wire.NewError(wire.CodeInvalidParameter, "there is no table "+of.Table, "Name it with its schema, as public.items.")
	}
	index := judge.Tags
	if of.Column == "" {
		return k.cache.PurgeOf(index.Whole(nil, of.Table), of.Table), nil
	}
	list, ok, why := index.Keyed(nil, of.Table, of.Column, of.Value)
	if !ok {
		return 0, wire.NewError(wire.CodeInvalidParameter, why, fmt.Sprintf("RESET CACHE %s %s gives up all answers of the table.", of.Database, of.Table))
	}
	return k.cache.PurgeOf(list, ""), nil
}
