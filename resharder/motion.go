package resharder

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"pgtier/proxy/shardmap"
	"pgtier/router/shard"
)

// current reads what proxies go by, where it is in doubt.
func (m *mover) current(ctx context.Context) (*shardmap.Current, error) {
	if m.cur == nil {
		cur, err := m.motion.Read(ctx)
		if err != nil {
			return nil, err
		}
		m.cur = cur
	}
	return m.cur, nil
}

// change puts something else in force, unless it is in force already. edit changes members and motion as it likes, and returns owners that differ, by bucket.
func (m *mover) change(ctx context.Context, edit func(next *shardmap.Current) map[shard.Bucket]shard.Name) error {
	from, err := m.current(ctx)
	if err != nil {
		return err
	}
	next := &shardmap.Current{Map: from.Map, Members: slices.Clone(from.Members), Motion: from.Motion}
	owners := edit(next)
	if changed := slices.Compare(next.Members, from.Members) != 0 || differs(from.Map, owners); changed {
		if next.Map, err = mapOf(from.Map, owners); err != nil {
			return err
		}
	} else if from.Motion.Same(&next.Motion) {
		return nil
	}
	made, err := m.motion.Change(ctx, from, next)
	m.cur = made // nil after an error: the change may be in force or not
	return err
}

// differs reports whether a bucket has another owner in the map.
func differs(m *shard.Map, owners map[shard.Bucket]shard.Name) bool {
	for b, name := range owners {
		if owner, _ := m.Owner(b); owner != name {
			return true
		}
	}
	return false
}

// mapOf is the next version of a map, with these owners.
func mapOf(m *shard.Map, owners map[shard.Bucket]shard.Name) (*shard.Map, error) {
	var parts []string
	first, last := 0, shard.Name("")
	flush := func(end int) {
		if end > first {
			if end-1 == first {
				parts = append(parts, fmt.Sprintf("%d:%s", first, last))
			} else {
				parts = append(parts, fmt.Sprintf("%d-%d:%s", first, end-1, last))
			}
		}
		first = end
	}
	for b := range m.Len() {
		owner, _ := m.Owner(shard.Bucket(b))
		if other, ok := owners[shard.Bucket(b)]; ok {
			owner = other
		}
		if owner != last {
			flush(b)
			last = owner
		}
	}
	flush(m.Len())
	return shard.ParseMap(m.Version()+1, m.Len(), strings.Join(parts, ","))
}

// await waits until all proxies go by what is in force.
func (m *mover) await(ctx context.Context) error {
	cur, err := m.current(ctx)
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeout(ctx, awaitLimit)
	defer stop()
	return m.motion.Await(ctx, cur.Motion.Number)
}

// answered waits until all proxies go by the motion in force, and have the answers of these shards to all that they planned by an earlier one: none of it comes to its
// server behind what is done next.
func (m *mover) answered(ctx context.Context, names ...shard.Name) error {
	if err := m.far(ctx, false); err != nil { // while it is near nobody looks
		return err
	}
	cur, err := m.current(ctx)
	if err != nil {
		return err
	}
	m.doing("waits until all proxies have the answers to what they planned before")
	ctx, stop := context.WithTimeout(ctx, awaitLimit)
	defer stop()
	return m.motion.AwaitAnswers(ctx, cur.Motion.Number, names...)
}

// release ends what an earlier mover, or an attempt that failed, holds. Who waits may go on: the fence is in the shards.
func (m *mover) release(ctx context.Context) error {
	if !m.dirty {
		return nil
	}
	return m.change(ctx, func(next *shardmap.Current) map[shard.Bucket]shard.Name {
		next.Motion.Held, next.Motion.HeldReferences = nil, false
		return nil
	})
}
