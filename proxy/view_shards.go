package proxy

import (
	"fmt"
	"maps"
	"slices"
	"strings"

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
		s := admin.Shard{Database: d.name, Name: part.name(), Manager: part.manager().Name, Home: part.shared == d.shared, InDoubt: d.inDoubt.Load()}
		if state != nil {
			s.Age = w.Age()
			s.Fault = fault(state, shard.Name(s.Name))
			if state.Map != nil {
				s.Version = uint64(state.Map.Version())
				owned := state.Map.Buckets(shard.Name(s.Name))
				s.Buckets, s.Ranges = len(owned), ranges(owned)
			}
		}
		out = append(out, s)
	}
	return out
}

// fault says why nothing is sent to a shard, "" if it is.
func fault(state *shardmap.State, name shard.Name) string {
	if state.Refusal != nil {
		return state.Refusal.Error()
	}
	if err := state.Unprepared[name]; err != nil {
		return err.Error()
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
