package main

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"pgtier/proxy"
	"pgtier/router/catalog"
	"pgtier/router/shard"
)

// placed is a declared table that exists.
type placed struct {
	*catalog.Relation
	key []string // nil: a reference table
}

// resolve finds the relation of a declared name on the home shard. Its problem is "" where there is one.
func (c *shardedCheck) resolve(name string) (r *catalog.Relation, problem string) {
	table, err := proxy.ParseTableName(name)
	if err != nil {
		return nil, err.Error()
	}
	r, ambiguous := c.home().snapshot.Relation(table.Schema, table.Name)
	switch {
	case ambiguous:
		return nil, "several schemas have a table of this name; write the schema before it"
	case r == nil:
		return nil, "does not exist"
	case strings.IndexByte("rp", r.Kind) < 0:
		return nil, "is no table; only tables can be declared"
	}
	return r, ""
}

// placements are the declared tables that exist, and what is a part of them, by name.
func (c *shardedCheck) placements() map[string]placed {
	all := map[string]placed{}
	for name, table := range c.database.Sharding.Tables {
		if r, problem := c.resolve(name); problem == "" {
			all[r.String()] = placed{r, table.Key}
		}
	}
	for _, name := range c.database.Sharding.Reference {
		if r, problem := c.resolve(name); problem == "" {
			all[r.String()] = placed{r, nil}
		}
	}
	for changed := true; changed; { // partitions are where their parent is
		changed = false
		for _, r := range c.home().snapshot.Relations() {
			if _, known := all[r.String()]; known || len(r.Parents) == 0 {
				continue
			}
			if parent, ok := all[r.Parents[0].String()]; ok {
				all[r.String()], changed = placed{r, parent.key}, true
			}
		}
	}
	return all
}

// checkPlacement looks at the declared tables: whether they are there, and whether keys, constraints and foreign keys hold across shards.
func (c *shardedCheck) checkPlacement(context.Context) error {
	before, sharding := c.found, c.database.Sharding
	for _, name := range slices.Sorted(maps.Keys(sharding.Tables)) {
		at := c.subject() + ".tables." + name
		r, problem := c.resolve(name)
		if problem != "" {
			c.missing(at, problem)
			continue
		}
		if problem := c.keyProblem(r, sharding.Tables[name].Key); problem != "" {
			c.add(broken, at+".key", "%s", problem)
		}
	}
	for i, name := range sharding.Reference {
		if _, problem := c.resolve(name); problem != "" {
			c.missing(fmt.Sprintf("%s.reference[%d] (%s)", c.subject(), i, name), problem)
		}
	}
	all, sharded := c.placed, 0
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if all[name].key != nil {
			sharded++
		}
		c.checkConstraints(all[name])
	}
	for _, r := range c.home().snapshot.Relations() { // undeclared tables
		if _, ok := all[r.String()]; !ok {
			c.checkForeignKeys(placed{r, nil}, false, all)
			continue
		}
		c.checkForeignKeys(all[r.String()], true, all)
	}
	if c.found == before {
		c.add(fine, c.subject(), "%d sharded and %d reference tables, partitions included", sharded, len(all)-sharded)
	}
	return nil
}

// missing reports a declared table that cannot be used. One that does not exist yet may be created through pgtier.
func (c *shardedCheck) missing(at, problem string) {
	if problem == "does not exist" {
		c.add(doubtful, at, "does not exist on %s; create it through pgtier, or correct the name", c.home().name)
		return
	}
	c.add(broken, at, "%s", problem)
}

// keyProblem says why the key of a table cannot be hashed, "" if it can.
func (c *shardedCheck) keyProblem(r *catalog.Relation, names []string) string {
	for _, name := range names {
		column := r.Column(name)
		switch {
		case column == nil:
			return fmt.Sprintf("table %s has no column %q", r, name)
		case column.Domain:
			return fmt.Sprintf("column %s.%s is of a domain; give it the type that the domain stands for, or choose another key", r, name)
		case column.Generated:
			return fmt.Sprintf("column %s.%s is computed from others; choose another key", r, name)
		case column.Collation == catalog.CollationNondeterministic:
			return fmt.Sprintf("column %s.%s has a nondeterministic collation, under which texts of different bytes are equal; give it another, or choose another key", r, name)
		}
	}
	if _, err := c.keyOf(r, names); err != nil {
		return fmt.Sprintf("table %s: %v", r, err)
	}
	for _, name := range names {
		if !r.Column(name).NotNull {
			c.add(doubtful, c.subject(), "column %s.%s, a part of the key, may be NULL; ALTER TABLE … SET NOT NULL", r, name)
		}
	}
	return ""
}

// keyOf is the key of a table whose columns are there.
func (c *shardedCheck) keyOf(r *catalog.Relation, names []string) (*shard.Key, error) {
	columns := make([]shard.Column, len(names))
	for i, name := range names {
		column := r.Column(name)
		if column == nil {
			return nil, fmt.Errorf("there is no column %q", name)
		}
		columns[i] = shard.Column{Name: name, Type: shard.Type(column.Type), Modifier: column.Typmod}
	}
	function, err := shard.ParseFunction(c.database.Sharding.Function)
	if err != nil {
		return nil, err
	}
	return shard.NewKey(function, c.database.Sharding.Buckets, columns...)
}

// checkConstraints finds what makes rows of a sharded table unique without its key: servers see only their own rows.
func (c *shardedCheck) checkConstraints(t placed) {
	for _, u := range t.Unique {
		lacks := slices.DeleteFunc(slices.Clone(t.key), func(column string) bool { return slices.Contains(u.Columns, column) })
		if t.key == nil || len(lacks) == 0 {
			continue
		}
		what, drop := "unique index", "DROP INDEX"
		if u.Constraint {
			what, drop = "constraint", "drop it"
		}
		c.add(broken, c.subject(), "%s %s of table %s lacks the key (%s), so that rows of different shards may be equal in (%s); add %s to it, or %s",
			what, u.Name, t, strings.Join(t.key, ", "), strings.Join(u.Columns, ", "), strings.Join(lacks, ", "), drop)
	}
}

// checkForeignKeys finds references to rows of other shards.
func (c *shardedCheck) checkForeignKeys(t placed, declared bool, all map[string]placed) {
	for _, f := range t.ForeignKeys {
		to, toDeclared := all[f.References.String()]
		var problem string
		switch {
		case toDeclared && to.key == nil, !declared && !toDeclared:
			continue // to a copy that is there too, or from home to home
		case declared && t.key == nil:
			problem = "a reference table can refer to reference tables only"
		case !declared:
			problem = "the table lives on " + c.database.HomeShard() + " alone, and what it refers to on all shards"
		case !toDeclared:
			problem = "what it refers to lives on " + c.database.HomeShard() + " alone"
		case !follows(t, to, f):
			problem = fmt.Sprintf("it does not lead from key (%s) to key (%s) of the same type, so that the rows may be on other shards", strings.Join(t.key, ", "), strings.Join(to.key, ", "))
		default:
			continue
		}
		c.add(broken, c.subject(), "foreign key %s of table %s to %s: %s; let both keys be part of it, make %s a reference table, or drop it", f.Name, t, f.References, problem, f.References)
	}
}

// follows says whether a foreign key pairs the columns of both keys in order, so that rows that refer to each other are in one bucket.
func follows(from, to placed, f catalog.ForeignKey) bool {
	if len(from.key) != len(to.key) {
		return false
	}
	for i := range from.key {
		at := slices.Index(f.Columns, from.key[i])
		if at < 0 || f.RefColumns[at] != to.key[i] || !hashAlike(from.Column(from.key[i]), to.Column(to.key[i])) {
			return false
		}
	}
	return true
}

// hashAlike says whether equal values of two columns are in one bucket: integers of all widths are, and text with varchar.
func hashAlike(a, b *catalog.Column) bool {
	if a == nil || b == nil {
		return true // the key has a finding already
	}
	for _, family := range [][]shard.Type{{shard.Int2, shard.Int4, shard.Int8}, {shard.Text, shard.Varchar}} {
		if slices.Contains(family, shard.Type(a.Type)) && slices.Contains(family, shard.Type(b.Type)) {
			return true
		}
	}
	return a.Type == b.Type
}

// stride is the step of sequences on shards: room for as many shards, and twice as many as there are.
func stride(shards int) int64 {
	step := int64(64)
	for step < 2*int64(shards) {
		step *= 2
	}
	return step
}

// counter is where a sequence stands on one shard.
type counter struct {
	shard      string
	step, next int64
}

// checkSequences finds numbers of sharded tables that two shards may give.
func (c *shardedCheck) checkSequences(ctx context.Context) error {
	if len(c.shards) < 2 {
		return nil
	}
	all, checked, clash := c.placed, 0, 0
	for _, name := range slices.Sorted(maps.Keys(all)) {
		for _, column := range all[name].Columns {
			if all[name].key == nil || column.Sequence == "" {
				continue
			}
			checked++
			counters, err := c.counters(ctx, column.Sequence)
			if err != nil {
				return err
			}
			if collide(counters) {
				clash++
				c.add(broken, c.subject(), "sequence %s gives the same numbers for %s.%s on several shards; let each count by itself: %s", column.Sequence, name, column.Name, apart(column.Sequence, counters))
			}
		}
	}
	if checked > 0 && clash == 0 {
		c.add(fine, c.subject(), "%d sequences of sharded tables give different numbers on every shard", checked)
	}
	return nil
}

// counters asks every shard where a sequence stands. Shards without it have a finding already.
func (c *shardedCheck) counters(ctx context.Context, sequence string) ([]counter, error) {
	schema, name := catalog.SplitName(sequence)
	quoted := pgx.Identifier{schema, name}.Sanitize()
	var counters []counter
	for _, s := range c.shards {
		if _, there := s.objects[objectID{"sequence", schema + "." + name}]; !there {
			continue
		}
		k := counter{shard: s.name}
		err := s.conn.QueryRow(ctx, "SELECT s.seqincrement, CASE WHEN q.is_called THEN q.last_value + s.seqincrement ELSE q.last_value END FROM "+quoted+
			" AS q, pg_catalog.pg_sequence AS s WHERE s.seqrelid = $1::text::pg_catalog.regclass", quoted).Scan(&k.step, &k.next)
		if err != nil {
			return nil, fmt.Errorf("shard %s: ask sequence %s: %w", s.name, sequence, err)
		}
		counters = append(counters, k)
	}
	return counters, nil
}

// collide says whether two counters may come to the same number: they do not if they have the same step and other remainders.
func collide(counters []counter) bool {
	seen := map[int64]bool{}
	for _, k := range counters {
		step := k.step
		if step < 0 {
			step = -step
		}
		if k.step != counters[0].step || step < 2 {
			return len(counters) > 1
		}
		remainder := ((k.next % step) + step) % step
		if seen[remainder] {
			return true
		}
		seen[remainder] = true
	}
	return false
}

// apart returns the statements that keep the counters apart, behind every number that one of them has given.
func apart(sequence string, counters []counter) string {
	schema, name := catalog.SplitName(sequence)
	step, highest := stride(len(counters)), int64(math.MinInt64)
	for _, k := range counters {
		highest = max(highest, k.next)
	}
	first := max(0, (highest+step-1)/step*step)
	var parts []string
	for i, k := range counters {
		parts = append(parts, fmt.Sprintf("on %s ALTER SEQUENCE %s INCREMENT BY %d RESTART WITH %d", k.shard, pgx.Identifier{schema, name}.Sanitize(), step, first+int64(i)+1))
	}
	return strings.Join(parts, "; ")
}

const (
	// copyRows is the largest reference table, by the server's estimate, whose copies are compared: it is read as a whole.
	copyRows = 200_000
	// emptyTables is how many tables one question looks into.
	emptyTables = 200
)

// checkRows finds reference tables whose copies differ, and rows of undeclared tables that are not at home.
func (c *shardedCheck) checkRows(ctx context.Context) error {
	if len(c.shards) < 2 {
		return nil
	}
	all := c.placed
	var undeclared []*catalog.Relation
	for _, r := range c.home().snapshot.Relations() {
		switch t, ok := all[r.String()]; {
		case !ok && (r.Kind == 'r' || r.Kind == 'p') && len(r.Parents) == 0 && r.Schema != "pgtier":
			undeclared = append(undeclared, r)
		case ok && t.key == nil && len(r.Parents) == 0:
			if err := c.checkCopies(ctx, r); err != nil {
				return err
			}
		}
	}
	for part := range slices.Chunk(undeclared, emptyTables) {
		if err := c.checkStrays(ctx, part); err != nil {
			return err
		}
	}
	return nil
}

// checkCopies compares the copies of a reference table.
func (c *shardedCheck) checkCopies(ctx context.Context, r *catalog.Relation) error {
	quoted := pgx.Identifier{r.Schema, r.Name}.Sanitize()
	contents, sizes := map[string][]string{}, map[string][]string{}
	for _, s := range c.shards {
		if !s.hasRelation(r.String()) {
			continue
		}
		var large bool
		if err := s.conn.QueryRow(ctx, "SELECT reltuples > $1 FROM pg_catalog.pg_class WHERE oid = $2::text::pg_catalog.regclass", copyRows, quoted).Scan(&large); err != nil {
			return fmt.Errorf("shard %s: ask for the size of %s: %w", s.name, r, err)
		}
		if large {
			c.add(fine, c.subject(), "reference table %s is large; its copies were not compared", r)
			return nil
		}
		var count int64
		var hash string
		err := s.conn.QueryRow(ctx, "SELECT pg_catalog.count(*), COALESCE(pg_catalog.sum(pg_catalog.hashtextextended(t::pg_catalog.text, 0)), 0)::pg_catalog.text FROM "+quoted+" AS t").Scan(&count, &hash)
		if err != nil {
			return fmt.Errorf("shard %s: read reference table %s: %w", s.name, r, err)
		}
		contents[hash] = append(contents[hash], s.name)
		rows := fmt.Sprintf("%d rows", count)
		sizes[rows] = append(sizes[rows], s.name)
	}
	if len(contents) > 1 {
		c.add(broken, c.subject(), "the copies of reference table %s differ: %s; copy it anew from the shard that has the right one", r, byShards(sizes))
	}
	return nil
}

// checkStrays looks for rows of undeclared tables on shards other than their home.
func (c *shardedCheck) checkStrays(ctx context.Context, tables []*catalog.Relation) error {
	for _, s := range c.shards {
		if s.name == c.home().name {
			continue
		}
		var questions []string
		for i, r := range tables {
			if s.hasRelation(r.String()) {
				questions = append(questions, fmt.Sprintf("SELECT %d WHERE EXISTS (SELECT FROM %s)", i, pgx.Identifier{r.Schema, r.Name}.Sanitize()))
			}
		}
		if len(questions) == 0 {
			continue
		}
		rows, err := s.conn.Query(ctx, strings.Join(questions, " UNION ALL "))
		if err != nil {
			return fmt.Errorf("shard %s: look for rows of undeclared tables: %w", s.name, err)
		}
		found, err := pgx.CollectRows(rows, pgx.RowTo[int])
		if err != nil {
			return fmt.Errorf("shard %s: look for rows of undeclared tables: %w", s.name, err)
		}
		for _, i := range found {
			c.add(doubtful, c.subject(), "table %s is not declared and has rows on %s, where nobody looks: its home is %s", tables[i], s.name, c.home().name)
		}
	}
	return nil
}
