package resharder

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"pgtier/proxy/shardmap"
	"pgtier/router/shard"
)

// schemaGroup is the group of the lock that changes of the schema share.
const schemaGroup = shardmap.SchemaGroup

// outdateSchema has home, which is asked about changes on all shards, and the shards of the job, which hints may name, refuse changes of the schema that were planned
// before the motion in force, however late they come. It waits for those that have been let through before, to the end of their transactions. All motions up to the job's end
// freeze the schema, so it never has to be taken back.
func (m *mover) outdateSchema(ctx context.Context) error {
	cur, err := m.current(ctx)
	if err != nil {
		return err
	}
	names := m.involved()
	if !slices.Contains(names, m.c.Map.Home) {
		names = append(names, m.c.Map.Home)
	}
	sql := fmt.Sprintf("SET LOCAL lock_timeout = %d; SET LOCAL synchronous_commit = on; %s", guardLimit.Milliseconds(), shardmap.OutdateSchemaSQL(cur.Motion.Number))
	for _, name := range names {
		if err := shardmap.EnsureShard(ctx, m.links[name], name); err != nil {
			return err
		}
		if err := m.inTurns(ctx, "begins behind changes of the schema of shard "+string(name), func() string { return m.changers(ctx, name) }, func() error {
			return m.links[name].run(ctx, sql)
		}); err != nil {
			return err
		}
	}
	return m.at(ctx, "schema outdated")
}

// changers says whose changes of the schema are waited for.
func (m *mover) changers(ctx context.Context, name shard.Name) string {
	return cmp.Or(strings.TrimPrefix(m.writers(ctx, name, schemaGroup), "; in the way is "), "one that is about to end")
}
