package plan

import (
	"fmt"
	"slices"

	"pgtier/router/shard"
)

// Placement is where a database's rows are. It must not change once a Schema has it.
type Placement struct {
	// Map says which shard owns each bucket.
	Map *shard.Map
	// Members are the shards that have the schema and the reference tables, and may be asked; nil: all of the configuration. The home shard and all owners
	// must be among them. Other shards get no plan.
	Members []shard.Name
	// Moving are buckets whose rows may stand on two shards: plans over several shards read and write on each shard only rows of buckets that the map gives it.
	Moving []shard.Span
	// Frozen: changes of the schema are refused.
	Frozen bool
}

// settle notes a placement; the error says why it and the configuration do not fit each other.
func (s *Schema) settle(at *Placement) error {
	c, m := s.config, at.Map
	if m.Len() != c.Buckets {
		return fmt.Errorf("the map has %d buckets, the configuration %d", m.Len(), c.Buckets)
	}
	for _, name := range at.Members {
		i := slices.Index(c.Shards, name)
		if i < 0 {
			return fmt.Errorf("shard %q is a member, which the configuration does not have", name)
		}
		s.member.add(i)
	}
	if at.Members == nil {
		s.member = firstShards(len(c.Shards))
	}
	if !s.member.has(c.Home) {
		return fmt.Errorf("home is shard %q, which is no member", c.Shards[c.Home])
	}
	for bucket := range m.Len() {
		name, _ := m.Owner(shard.Bucket(bucket))
		i := slices.Index(c.Shards, name)
		switch {
		case i < 0:
			return fmt.Errorf("bucket %d belongs to shard %q, which the configuration does not have", bucket, name)
		case !s.member.has(i):
			return fmt.Errorf("bucket %d belongs to shard %q, which is no member", bucket, name)
		}
		s.owners = append(s.owners, uint8(i))
		s.all.add(i)
	}
	for _, span := range at.Moving {
		if span.Last < span.First || int(span.Last) >= m.Len() {
			return fmt.Errorf("buckets %s move: there are %d", span, m.Len())
		}
	}
	s.version, s.list, s.members = m.Version(), s.all.list(), s.member.list()
	s.moving, s.frozen, s.sole = at.Moving, at.Frozen, -1
	if len(s.list) == 1 {
		s.sole = s.list[0]
	}
	for i := range c.Shards {
		var foreign []shard.Bucket
		for b := range m.Len() {
			if bucket := shard.Bucket(b); s.owner(bucket) != i && shard.InSpans(s.moving, bucket) {
				foreign = append(foreign, bucket)
			}
		}
		s.foreign = append(s.foreign, shard.SpansOf(foreign...))
	}
	return nil
}
