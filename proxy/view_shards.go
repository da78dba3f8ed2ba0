package proxy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"pgtier/proxy/admin"
	"pgtier/proxy/shardmap"
	"pgtier/router/shard"
)

// viewShards lists the shards of every database.
func (p *Proxy) viewShards() []admin.Shard {
	all := p.listed()
	var out []admin.Shard
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[name].shards()...)
	}
	return out
}

// shards are those of d as they are known now.
func (d *database) shards() (out []admin.Shard) {
	var state *shardmap.State
	w := d.cluster.watcher.Load()
	if w != nil && d.conf.Load().Sharded() {
		state = w.State()
	}
	for _, part := range *d.parts.Load() {
		s := admin.Shard{Database: d.name, Name: part.name(), Manager: part.manager().Name, Home: part.shared == d.shared, InDoubt: d.inDoubt.Load(),
			OldestInDoubt: time.Duration(d.oldestInDoubt.Load()), Member: true}
		if state != nil {
			s.Age = w.Age()
			s.Fault = fault(w, state, shard.Name(s.Name))
			if state.Map != nil {
				s.Member, s.Motion = slices.Contains(state.Members, shard.Name(s.Name)), state.Motion.Number
				s.Version = uint64(state.Map.Version())
				owned := state.Map.Buckets(shard.Name(s.Name))
				s.Buckets, s.Ranges = len(owned), ranges(owned)
				s.Moving, s.Held = ranges(within(owned, state.Motion.Moving)), ranges(within(owned, state.Motion.Held))
			}
		}
		out = append(out, s)
	}
	return out
}

// proxies is how many proxies serve d, as far as this one knows.
func (d *database) proxies() int64 {
	if w := d.cluster.watcher.Load(); w != nil {
		return w.Proxies()
	}
	return 0
}

// within are those of the buckets that are in spans.
func within(buckets []shard.Bucket, spans []shard.Span) []shard.Bucket {
	return slices.DeleteFunc(slices.Clone(buckets), func(b shard.Bucket) bool { return !shard.InSpans(spans, b) })
}

// fault says why nothing is sent to a shard, "" if it is.
func fault(w *shardmap.Watcher, state *shardmap.State, name shard.Name) string {
	if state.Refusal != nil {
		return state.Refusal.Error()
	}
	if err := state.Unprepared[name]; err != nil {
		return err.Error()
	}
	switch {
	case state.Map == nil:
	case !slices.Contains(state.Members, name):
		return "not joined: it is only in the configuration, until buckets are moved there"
	case !w.Leased(name):
		return "the control database does not answer"
	}
	return ""
}

// ranges writes ascending buckets as 0-340,1000.
func ranges(buckets []shard.Bucket) string {
	var out []string
	for i := 0; i < len(buckets); {
		last := i
		for last+1 < len(buckets) && buckets[last+1] == buckets[last]+1 {
			last++
		}
		if last == i {
			out = append(out, fmt.Sprint(buckets[i]))
		} else {
			out = append(out, fmt.Sprintf("%d-%d", buckets[i], buckets[last]))
		}
		i = last + 1
	}
	return strings.Join(out, ",")
}
