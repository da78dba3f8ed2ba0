package proxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"

	"pgtier/router/catalog"
)

// The sequences behind serial and identity columns of sharded tables count on each shard by itself. So that no two shards
// give one number, all of them step by the same stride from different remainders, above everything that was given before.
// A move of buckets changes nothing about that: ids are global.

const (
	// stride is the step of such sequences: the most shards that a database can have without numbering again. It is a power of two that
	// leaves the range of bigint a thousandth, which is enough for 9 * 10^15 ids.
	stride = 1024
	// smallStride is that of sequences of smaller types, whose range would be gone too soon.
	smallStride = 16
	// numbering is the advisory lock, on the home shard, that has one proxy at a time do this; "pgtiernu" in ASCII.
	numbering = 0x706774696572_6e75
)

// sequence is one as a shard has it.
type sequence struct {
	increment, last, most int64
	called                bool
}

// next is the next value that it would give.
func (q *sequence) next() int64 {
	if !q.called {
		return q.last
	}
	return q.last + q.increment
}

// numberer numbers the sequences of a database's shards.
type numberer struct {
	asker
	parts []*part
}

// ownIDs is the sequence behind pgtier.next_id(), and the relation that stands for its table: it has none.
const ownIDs = "pgtier.ids"

var noTable = &catalog.Relation{OID: 1, Schema: "pgtier", Name: "next_id()"}

// sequencesOf are the sequences behind columns of sharded tables, with a table that each is for, and that of pgtier.next_id.
func sequencesOf(conf *Database, snapshot *catalog.Snapshot) map[string]*catalog.Relation {
	out := map[string]*catalog.Relation{ownIDs: noTable}
	for _, r := range snapshot.Relations() {
		if !conf.shards(r.Schema, r.Name) {
			continue
		}
		for i := range r.Columns {
			if name := r.Columns[i].Sequence; name != "" {
				out[name] = r
			}
		}
	}
	return out
}

// shards reports whether a table is sharded.
func (d *Database) shards(schema, name string) bool {
	for declared := range d.Sharding.Tables {
		if t, err := ParseTableName(declared); err == nil && t.meets(TableName{schema, name}) {
			return true
		}
	}
	return false
}

// number sees to it that no two shards give one number. It returns the tables whose sequences it could not see to, and why.
// seen are the tables whose sequences were seen to before, by sequence.
func (n *numberer) number(ctx context.Context, sequences map[string]*catalog.Relation, seen map[string]uint32) (unsafe map[string]error) {
	unsafe = map[string]error{}
	defer n.hangUp()
	for _, name := range slices.Sorted(maps.Keys(sequences)) {
		table := sequences[name]
		if seen[name] == table.OID {
			continue
		}
		if err := n.one(ctx, name); err != nil {
			unsafe[table.String()] = fmt.Errorf("sequence %s: %w", name, err)
			n.hangUp()
			n.d.log.Warn("a sequence may give the same numbers on several shards", zap.String("sequence", name), zap.Stringer("table", table), zap.Error(err))
			continue
		}
		seen[name] = table.OID
	}
	return unsafe
}

// one sees to one sequence.
func (n *numberer) one(ctx context.Context, name string) error {
	found, err := n.read(ctx, name)
	if err != nil || apart(found) {
		return err
	}
	// The lock is held until the connection is closed, or by commit below.
	if err := n.each(ctx, n.parts[:1], func(int) string { return fmt.Sprintf("SELECT pg_catalog.pg_advisory_lock(%d)", int64(numbering)) }); err != nil {
		return err
	}
	defer n.hangUp()
	step := int64(stride)
	if slices.ContainsFunc(found, func(q sequence) bool { return q.most < 1<<62 }) {
		step = smallStride
	}
	if int64(len(n.parts)) > step {
		return fmt.Errorf("%d shards are more than a sequence of its type can number for (%d); make it bigint", len(n.parts), step)
	}
	quoted := quoteName(name)
	// From here on nobody takes a number until the transaction ends.
	err = n.each(ctx, n.parts, func(int) string {
		return fmt.Sprintf("BEGIN; ALTER SEQUENCE %s INCREMENT BY %d NO CYCLE", quoted, step)
	})
	if err != nil {
		return err
	}
	if found, err = n.read(ctx, name); err != nil {
		return err
	}
	start := int64(1)
	for _, q := range found {
		if q.called {
			start = max(start, q.last+1)
		} else {
			start = max(start, q.last)
		}
	}
	start = (start + step - 1) / step * step
	return n.each(ctx, n.parts, func(i int) string {
		return fmt.Sprintf("ALTER SEQUENCE %s RESTART WITH %d; COMMIT", quoted, start+int64(i)+1)
	})
}

// each runs a statement on shards.
func (n *numberer) each(ctx context.Context, parts []*part, sql func(i int) string) error {
	for i, part := range parts {
		if err := n.ask(ctx, part, n.d.ownRoleOn(part), sql(i), nil); err != nil {
			return fmt.Errorf("shard %s: %w", part.name(), err)
		}
	}
	return nil
}

// read asks every shard for a sequence.
func (n *numberer) read(ctx context.Context, name string) ([]sequence, error) {
	found := make([]sequence, len(n.parts))
	sql := fmt.Sprintf("SELECT s.seqincrement, q.last_value, q.is_called, s.seqmax FROM %s AS q, pg_catalog.pg_sequence AS s WHERE s.seqrelid = %s::pg_catalog.regclass",
		quoteName(name), literal(quoteName(name)))
	for i, part := range n.parts {
		rows := 0
		err := n.ask(ctx, part, n.d.ownRoleOn(part), sql, func(f [][]byte) {
			rows++
			q := &found[i]
			q.increment, _ = strconv.ParseInt(string(f[0]), 10, 64)
			q.last, _ = strconv.ParseInt(string(f[1]), 10, 64)
			q.called = string(f[2]) == "t"
			q.most, _ = strconv.ParseInt(string(f[3]), 10, 64)
		})
		if err == nil && rows != 1 {
			err = errors.New("there is no such sequence")
		}
		if err != nil {
			return nil, fmt.Errorf("shard %s: %w", part.name(), err)
		}
	}
	return found, nil
}

// apart reports whether no two shards give one number: they step alike, from different remainders.
func apart(found []sequence) bool {
	seen := map[int64]bool{}
	step := found[0].increment
	if step < int64(len(found)) {
		return false
	}
	for i := range found {
		place := (found[i].next()%step + step) % step // also of negative numbers
		if found[i].increment != step || seen[place] {
			return false
		}
		seen[place] = true
	}
	return true
}

// quoteName quotes schema.name as an identifier.
func quoteName(name string) string {
	schema, last, _ := strings.Cut(name, ".")
	return identifier(schema) + "." + identifier(last)
}
