package plan

import (
	"errors"
	"fmt"
	"slices"

	"pgtier/router/shard"
)

// MaxShards is the most shards that a database may have: as many as a set of them has room for.
const MaxShards = 256

// Config is how a database is spread over its shards. It must not change once a Schema has it.
type Config struct {
	// Shards are in the configuration's order. A shard is called by its index from here on.
	Shards   []shard.Name
	Buckets  int
	Function shard.Function
	// Tables are the key columns of sharded tables, by "name" or "schema.name".
	Tables map[string][]string
	// Reference are the tables, by "name" or "schema.name", that every shard has a whole copy of.
	Reference []string
	// Home is the index of the shard where the rows of all other tables live.
	Home int
}

// Validate returns an error that says what is wrong whatever the catalog has, or nil.
func (c *Config) Validate() error {
	switch {
	case len(c.Shards) == 0:
		return errors.New("no shards")
	case len(c.Shards) > MaxShards:
		return fmt.Errorf("%d shards: there may be %d", len(c.Shards), MaxShards)
	case c.Home < 0 || c.Home >= len(c.Shards):
		return fmt.Errorf("home is shard %d of %d", c.Home, len(c.Shards))
	}
	for _, name := range c.Reference {
		if _, sharded := c.Tables[name]; sharded {
			return fmt.Errorf("table %q is sharded and a reference table", name)
		}
	}
	for i, name := range c.Shards {
		if slices.Contains(c.Shards[:i], name) {
			return fmt.Errorf("shard %q stands twice", name)
		}
	}
	return shard.ValidBuckets(c.Buckets)
}

// Finding is something about a table that keeps statements from being exact, and so has them refused.
type Finding struct {
	// Table is the table's name with its schema, or the configuration's where there is no such table.
	Table         string
	Message, Hint string
	// Missing: there is no such table. All others are about what is there.
	Missing bool
}
