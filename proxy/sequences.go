package proxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.uber.org/zap"

	"pgtier/proxy/sequence"
	"pgtier/proxy/wire"
	"pgtier/router/catalog"
	"pgtier/router/shard"
	"pgtier/router/topology"
)

// numbering is the advisory lock, on the first shard, that has one proxy at a time number sequences; "pgtiernu" in ASCII.
const numbering = 0x706774696572_6e75

// noTable stands for the table of the sequence behind pgtier.next_id(): it has none.
var noTable = &catalog.Relation{OID: 1, Schema: "pgtier", Name: "next_id()"}

// sequencesOf are the sequences behind columns of sharded tables, with a table that each is for, and that of pgtier.next_id.
func sequencesOf(conf *Database, snapshot *catalog.Snapshot) map[string]*catalog.Relation {
	out := map[string]*catalog.Relation{sequence.OwnIDs: noTable}
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

// number keeps the sequences of sharded tables apart. It returns why not, by table. They are looked at again whenever the catalog has changed: DDL
// may have begun one anew. One that cannot be looked at, because somebody holds it, is trusted if it was well before. mu is held.
func (c *cluster) number(conf *Database, snapshot *catalog.Snapshot, parts []*part, limit time.Duration) (unsafe map[string]error) {
	if len(parts) < 2 {
		return nil
	}
	ctx, stop := context.WithTimeout(c.d.ctx, limit)
	defer stop()
	sequences := sequencesOf(conf, snapshot)
	names := slices.Sorted(maps.Keys(sequences))
	looking := c.looking(parts)
	found, err := looking.Read(ctx, names)
	if err != nil { // some are not there, or not for us to see
		found = map[string][]sequence.State{}
	}
	unsafe = map[string]error{}
	for _, name := range names {
		table := sequences[name]
		states, known := found[name]
		if known && sequence.Apart(states) {
			c.numbered[name] = table.OID
			continue
		}
		err := c.renumber(ctx, parts, looking, name)
		var held *wire.Error
		if errors.As(err, &held) && held.Code == "55P03" && !known && c.numbered[name] == table.OID {
			continue
		}
		if err != nil {
			delete(c.numbered, name)
			unsafe[table.String()] = fmt.Errorf("sequence %s: %w", name, err)
			c.d.log.Warn("a sequence may give the same numbers on several shards", zap.String("sequence", name), zap.Stringer("table", table), zap.Error(err))
			continue
		}
		c.numbered[name] = table.OID
	}
	return unsafe
}

// renumber sees to one sequence over connections of its own, unless it is well as it is.
func (c *cluster) renumber(ctx context.Context, parts []*part, looking *sequence.Numberer, name string) error {
	if found, err := looking.Read(ctx, []string{name}); err != nil || sequence.Apart(found[name]) {
		return err
	}
	a := &asker{p: c.p, d: c.d}
	defer a.hangUp() // rolls back and unlocks what an error has left
	n := &sequence.Numberer{}
	for _, part := range parts {
		n.Shards, n.Names = append(n.Shards, asking{a, part}), append(n.Names, part.name())
	}
	if err := n.Shards[0].Query(ctx, fmt.Sprintf("SELECT pg_catalog.pg_advisory_lock(%d)", int64(numbering)), func([][]byte) error { return nil }); err != nil {
		return fmt.Errorf("shard %s: %w", n.Names[0], err)
	}
	return n.One(ctx, name, false)
}

// looking asks the managers, over connections that are kept for a while. It does not wait long for locks. mu is held.
func (c *cluster) looking(parts []*part) *sequence.Numberer {
	n := &sequence.Numberer{}
	for _, part := range parts {
		q := c.querier("sequences of "+part.name(), func() topology.Server { return part.manager() })
		n.Shards, n.Names = append(n.Shards, impatient{q}), append(n.Names, part.name())
	}
	return n
}

// impatient does not wait long for locks: somebody may have dropped what is looked for, and not committed.
type impatient struct{ catalog.Querier }

// Query implements catalog.Querier.
func (q impatient) Query(ctx context.Context, sql string, visit func(fields [][]byte) error) error {
	return q.Querier.Query(ctx, "SET lock_timeout = '200ms'; "+sql, visit)
}

// asking asks one shard of an asker.
type asking struct {
	*asker
	part *part
}

// Query implements catalog.Querier.
func (q asking) Query(ctx context.Context, sql string, visit func(fields [][]byte) error) error {
	var failed error
	err := q.ask(ctx, q.part, q.d.ownRoleOn(q.part), sql, func(fields [][]byte) {
		if failed == nil {
			failed = visit(fields)
		}
	})
	return errors.Join(err, failed)
}

// numberInside sees to the sequences behind columns of sharded tables that a transaction has made or changed, in that transaction: from its commit on others
// take numbers. What was not well before it is left as it is. The shards are branches of the transaction.
func (c *cluster) numberInside(ctx context.Context, conf *Database, snapshot *catalog.Snapshot, unsafe map[string]error, shards []catalog.Querier, members []shard.Name) error {
	sequences := sequencesOf(conf, snapshot)
	maps.DeleteFunc(sequences, func(name string, r *catalog.Relation) bool { return r == noTable || unsafe[r.String()] != nil })
	if len(sequences) == 0 || len(shards) < 2 {
		return nil
	}
	n := &sequence.Numberer{}
	for _, q := range shards {
		n.Shards = append(n.Shards, q)
	}
	for _, name := range conf.ShardNames() {
		if slices.Contains(members, shard.Name(name)) {
			n.Names = append(n.Names, name)
		}
	}
	names, err := readable(ctx, shards[0], sequences)
	if err != nil || len(names) == 0 {
		return err
	}
	found, err := n.Read(ctx, names)
	if err != nil {
		return err
	}
	for _, name := range names {
		if sequence.Apart(found[name]) {
			continue
		}
		if err := n.One(ctx, name, true); err != nil {
			return fmt.Errorf("number sequence %s: %w", name, err)
		}
	}
	return nil
}

// readable are the sequences that the role of a transaction may look at, as it may what it has made; in order.
func readable(ctx context.Context, q catalog.Querier, sequences map[string]*catalog.Relation) (names []string, err error) {
	const sql = "SELECT n.nspname, c.relname FROM pg_catalog.pg_sequence AS s JOIN pg_catalog.pg_class AS c ON c.oid = s.seqrelid" +
		" JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace" +
		" WHERE pg_catalog.has_sequence_privilege(s.seqrelid, 'SELECT') AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')"
	err = q.Query(ctx, sql, func(f [][]byte) error {
		if name := catalog.QualifiedName(string(f[0]), string(f[1])); sequences[name] != nil {
			names = append(names, name)
		}
		return nil
	})
	slices.Sort(names)
	return names, err
}
