package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"pgtier/router/shard"
)

// keyRows is how many rows of a table one shard is asked about, by its own estimate: hashing them takes a fraction of a second. Of larger tables a sample of as
// many is drawn.
const keyRows = 200_000

// checkKeys looks whether rows are on the shard of their key, by the servers' own hash functions: who wrote them past pgtier may have put them elsewhere.
func (c *shardedCheck) checkKeys(ctx context.Context) error {
	if len(c.shards) < 2 || c.buckets == nil {
		return nil
	}
	tables, astray := 0, 0
	var sampled []string
	for _, name := range slices.Sorted(maps.Keys(c.placed)) {
		t := c.placed[name]
		key, err := c.keyOf(t.Relation, t.key)
		if t.key == nil || t.Kind != 'r' || err != nil { // a key that is wrong has a finding already
			continue
		}
		tables++
		part := false
		for _, s := range c.shards {
			if !s.hasRelation(name) {
				continue
			}
			found, err := c.astray(ctx, &s, t, key)
			if err != nil {
				return fmt.Errorf("shard %s: look at the keys of %s: %w", s.name, name, err)
			}
			part = part || found.sample
			if found.wrong > 0 {
				astray++
				c.add(broken, c.subject(), "table %s has rows on %s that belong to other shards by their key (%s): %d of %d looked at, %s for example; insert them through pgtier, and delete them there",
					name, s.name, strings.Join(t.key, ", "), found.wrong, found.looked, found.example)
			}
		}
		if part {
			sampled = append(sampled, name)
		}
	}
	if tables == 0 || astray > 0 {
		return nil
	}
	note := ""
	if len(sampled) > 0 {
		note = fmt.Sprintf("; of %s a sample of about %d on each shard was looked at", strings.Join(sampled, ", "), keyRows)
	}
	c.add(fine, c.subject(), "the rows of %d tables are on the shards of their keys%s", tables, note)
	return nil
}

// keysFound is what a shard has of a table.
type keysFound struct {
	looked, wrong int64
	example       string
	sample        bool
}

// astray asks a shard for rows that belong to another.
func (c *shardedCheck) astray(ctx context.Context, s *shardConn, t placed, key *shard.Key) (found keysFound, err error) {
	quoted := pgx.Identifier{t.Schema, t.Name}.Sanitize()
	var estimate float64
	// A table that was never analyzed is taken to have a hundred rows a page.
	err = s.conn.QueryRow(ctx, "SELECT greatest(reltuples, CASE WHEN reltuples < 0 THEN pg_catalog.pg_relation_size(oid) / 8192 * 100 ELSE 0 END)::float8 FROM pg_catalog.pg_class WHERE oid = $1::text::pg_catalog.regclass", quoted).
		Scan(&estimate)
	if err != nil {
		return found, err
	}
	from := "ONLY " + quoted + " AS t"
	if found.sample = estimate > keyRows; found.sample {
		from += fmt.Sprintf(" TABLESAMPLE SYSTEM (%g)", 100*keyRows/estimate)
	}
	var columns []string
	for _, name := range t.key {
		columns = append(columns, "t."+pgx.Identifier{name}.Sanitize())
	}
	sql := fmt.Sprintf("SELECT count(*), count(*) FILTER (WHERE %[1]s), coalesce(min(key) FILTER (WHERE %[1]s), '') FROM (SELECT %[2]s AS bucket, concat_ws(', ', %[3]s) AS key FROM %[4]s) AS k",
		c.elsewhere(shard.Name(s.name)), key.Expression("t"), strings.Join(columns, ", "), from)
	err = s.conn.QueryRow(ctx, sql).Scan(&found.looked, &found.wrong, &found.example)
	return found, err
}

// elsewhere is the condition that a bucket is none of a shard's, nor one that moves, whose rows stand on two.
func (c *shardedCheck) elsewhere(name shard.Name) string {
	ranges := ""
	owned := c.buckets.Buckets(name)
	for i := 0; i < len(owned); {
		end := i
		for end+1 < len(owned) && owned[end+1] == owned[end]+1 {
			end++
		}
		if ranges != "" {
			ranges += " OR "
		}
		ranges += fmt.Sprintf("bucket BETWEEN %d AND %d", owned[i], owned[end])
		i = end + 1
	}
	for _, span := range c.moving {
		if ranges != "" {
			ranges += " OR "
		}
		ranges += fmt.Sprintf("bucket BETWEEN %d AND %d", span.First, span.Last)
	}
	if ranges == "" {
		return "true"
	}
	return "NOT (" + ranges + ")"
}
