package plan

import (
	"slices"

	"pgtier/router/shard"
)

// Reach is how much is known of the buckets whose rows a statement may touch.
type Reach uint8

// The reaches. EXPLAIN has that of what it explains.
const (
	NoBucket    Reach = iota // no rows of sharded tables
	OneBucket                // rows of Touches.Bucket alone
	SomeBuckets              // rows of Touches.Buckets alone
	AnyBucket                // rows of any bucket
)

// Touches says of which buckets a statement may touch rows, be it that it reads or that it writes them. It is a value; Buckets is shared and must not be changed.
type Touches struct {
	Reach  Reach
	Bucket shard.Bucket // of OneBucket
	// Buckets are those of SomeBuckets, in no order and some perhaps twice; none if no row can match. They are listed only by a Schema with buckets that
	// move: others have AnyBucket in the place of SomeBuckets.
	Buckets []shard.Bucket
}

// In reports whether the statement may touch a row of the spans' buckets. It allocates nothing.
func (t *Touches) In(spans []shard.Span) bool {
	switch t.Reach {
	case NoBucket:
		return false
	case OneBucket:
		return shard.InSpans(spans, t.Bucket)
	case SomeBuckets:
		return slices.ContainsFunc(t.Buckets, func(b shard.Bucket) bool { return shard.InSpans(spans, b) })
	}
	return len(spans) > 0
}

// reach is what is known before values are: nothing of statements that use sharded tables.
func (p *Statement) reach() Touches {
	switch {
	case p.kind == Session, p.kind == Any, p.kind == One && p.settled(), p.kind == Everywhere && p.onlyCopies, p.kind == CopyIn && p.copies:
		return Touches{}
	}
	return Touches{Reach: AnyBucket}
}

// touched are the buckets of what r has read, where that is all that decides.
func (r *reader) touched() Touches {
	if !r.collects() {
		return Touches{Reach: AnyBucket}
	}
	return Touches{Reach: SomeBuckets, Buckets: *r.buckets}
}

// Regiven reports whether a statement that touches t may come to rows of buckets that another shard owned by an earlier schema of the same database.
func (s *Schema) Regiven(before *Schema, t *Touches) bool {
	if before.version == s.version || t.Reach == NoBucket {
		return false
	}
	given := func(b shard.Bucket) bool {
		i := int(b)
		return i >= len(s.owners) || i >= len(before.owners) || s.config.Shards[s.owners[i]] != before.config.Shards[before.owners[i]]
	}
	switch t.Reach {
	case OneBucket:
		return given(t.Bucket)
	case SomeBuckets:
		return slices.ContainsFunc(t.Buckets, given)
	}
	for b := range s.owners {
		if given(shard.Bucket(b)) {
			return true
		}
	}
	return len(s.owners) != len(before.owners)
}

// collects says whether buckets are listed.
func (r *reader) collects() bool { return len(r.schema.moving) > 0 }

// owner is the shard of a bucket that decides; it is listed.
func (r *reader) owner(b shard.Bucket) int {
	if r.collects() {
		*r.buckets = append(*r.buckets, b)
	}
	return r.schema.owner(b)
}

// references says whether reference tables may be written, or their schema changed.
func (p *Statement) references() bool {
	return p.copies || p.kind == Everywhere && p.write && !p.onlyCopies && len(p.locks) > 0
}
