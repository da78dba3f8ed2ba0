package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"

	"pgtier/proxy/pool"
	"pgtier/proxy/shardmap"
	"pgtier/router/plan"
	"pgtier/router/shard"
	"pgtier/router/topology"
)

// maxName is the length of PostgreSQL's names in bytes (NAMEDATALEN - 1).
const maxName = 63

// Sharding says which rows live where. Buckets, Function, Home and the keys of tables are fixed for the life of the data.
type Sharding struct {
	// Buckets between key and shard; a power of two up to 65536.
	Buckets int `mapstructure:"buckets"`
	// Function is hash or modulo.
	Function string `mapstructure:"function"`
	// Tables are the sharded tables, by "name" or "schema.name". A name is the server's own: not folded, not quoted.
	Tables map[string]Table `mapstructure:"tables"`
	// Reference are the tables that every shard has a whole copy of, named as in Tables.
	Reference []string `mapstructure:"reference"`
	// Home is the shard where all other tables live; "" is the first one.
	Home string `mapstructure:"home"`
	// Reshard bounds what moves of buckets take.
	Reshard Reshard `mapstructure:"reshard"`
}

// Reshard bounds what moves of buckets between shards take; cmd/pgtier gives it to package resharder.
type Reshard struct {
	// Streams is how many tables, or parts of them, are copied at once for each pair of shards.
	Streams int `mapstructure:"streams"`
	// Groups is the most groups that the buckets of a pair of shards are cut over in, one after another.
	Groups int `mapstructure:"groups"`
	// MaxWAL bounds the write-ahead log that a server keeps for a move; beyond it the job stops and gives it back.
	MaxWAL Size `mapstructure:"max_wal"`
	// MaxReplicaLag is how much log a replica of source or target may have to replay before copies and deletions wait for it; 0: they never do.
	MaxReplicaLag Size `mapstructure:"max_replica_lag"`
}

// The bounds of Reshard. A transaction takes a lock for each group that it writes to, and a copy by more streams than processors is no faster.
const (
	streamsMost = 16
	groupsMost  = 64
	walLeast    = 1 << 30
)

func (r Reshard) validate(p *problems, path string) {
	if r.Streams < 1 || r.Streams > streamsMost {
		p.add(path+".streams", "%d is not from 1 to %d", r.Streams, streamsMost)
	}
	if r.Groups < 1 || r.Groups > groupsMost {
		p.add(path+".groups", "%d is not from 1 to %d", r.Groups, groupsMost)
	}
	if r.MaxWAL < walLeast {
		p.add(path+".max_wal", "%s is too little for any move; use %s or more", r.MaxWAL, Size(walLeast))
	}
	if r.MaxReplicaLag < 0 {
		p.add(path+".max_replica_lag", "%s is negative; use 0 for no bound", r.MaxReplicaLag)
	}
}

// Table is one sharded table.
type Table struct {
	// Key are the columns whose values choose the bucket, in the order in which they are hashed. A file may name one without a list.
	Key []string `mapstructure:"key" config:"single"`
}

// DefaultSharding is that of a database with one shard.
func DefaultSharding() Sharding {
	return Sharding{Buckets: shard.DefaultBuckets, Function: "hash", Reshard: DefaultReshard()}
}

// DefaultReshard are those of a configuration that says nothing. The second stream of a copy fills the pauses of the first; a cut costs some ten milliseconds
// for its group; the log is that of four hours of a busy server (4 MB/s); a replica replays what it may lack within a few seconds.
func DefaultReshard() Reshard {
	return Reshard{Streams: 2, Groups: 16, MaxWAL: 64 << 30, MaxReplicaLag: 256 << 20}
}

// Sharded says whether rows have shards: whether sharded or reference tables are declared, be it for one shard.
func (d *Database) Sharded() bool { return len(d.Sharding.Tables) > 0 || len(d.Sharding.Reference) > 0 }

// HomeShard is the name of the shard where undeclared tables live; "" without shards.
func (d *Database) HomeShard() string {
	if d.Sharding.Home != "" || len(d.Shards) == 0 {
		return d.Sharding.Home
	}
	return d.Shards[0].name(0)
}

// ShardNames are the names of the shards, in order.
func (d *Database) ShardNames() []string {
	names := make([]string, len(d.Shards))
	for i, shard := range d.Shards {
		names[i] = shard.name(i)
	}
	return names
}

// ControlOf returns the server and database that hold the map of a sharded database, which clients know as name.
func (c *Config) ControlOf(name string) topology.Server {
	if c.Control != (topology.Server{}) {
		control := c.Control
		control.Name = "control"
		return control
	}
	database := c.Databases[name]
	return database.Topology(name).Shards[0].Manager
}

// TableName is the name of a table in a configuration.
type TableName struct {
	Schema string // "" where it has none
	Name   string
}

// ParseTableName reads name or schema.name.
func ParseTableName(text string) (TableName, error) {
	schema, name, found := strings.Cut(text, ".")
	if !found {
		schema, name = "", text
	}
	if name == "" || found && schema == "" || strings.ContainsAny(text, "\"\x00") || strings.Contains(name, ".") {
		return TableName{}, fmt.Errorf("%q is not the name of a table; write name or schema.name as the server has it, without quotes", text)
	}
	if len(name) > maxName || len(schema) > maxName {
		return TableName{}, fmt.Errorf("%q is longer than a name can be (%d bytes)", text, maxName)
	}
	return TableName{schema, name}, nil
}

// String returns name or schema.name.
func (t TableName) String() string {
	if t.Schema == "" {
		return t.Name
	}
	return t.Schema + "." + t.Name
}

// meets says whether two names may be one table's: a name without schema is in any.
func (t TableName) meets(other TableName) bool {
	return t.Name == other.Name && (t.Schema == other.Schema || t.Schema == "" || other.Schema == "")
}

func (c *Config) validateControl(p *problems) {
	if c.Control != (topology.Server{}) {
		if c.Control.User == "" {
			p.add("control", "names no role; write postgres://role:password@host:port/database")
		}
		if c.Control.Database == "" {
			p.add("control", "names no database; write the one that maps are kept in, postgres://role:password@host:port/database")
		}
	}
}

// validateSharding checks the sharding of the database name, which stands at path.
func (d *Database) validateSharding(p *problems, name, path string) {
	s, at := &d.Sharding, path+".sharding"
	oneOf(p, at+".function", s.Function, "hash", "modulo")
	if s.Buckets < 1 || s.Buckets > shard.MaxBuckets || bits.OnesCount(uint(s.Buckets)) != 1 {
		p.add(at+".buckets", "%d is not a power of two from 1 to %d; use for example %d", s.Buckets, shard.MaxBuckets, shard.DefaultBuckets)
	} else if s.Buckets < len(d.Shards) {
		p.add(at+".buckets", "%d are fewer than the %d shards; use for example %d", s.Buckets, len(d.Shards), shard.DefaultBuckets)
	}
	if s.Home != "" && !slices.Contains(d.ShardNames(), s.Home) {
		p.add(at+".home", "%q is none of the database's shards; name one of them", s.Home)
	}
	if len(d.Shards) > 1 && len(s.Tables) == 0 {
		p.add(path+".shards", "are %d, and no table is sharded; declare tables with their keys in sharding.tables, or leave one shard", len(d.Shards))
	}
	d.validateTables(p, at)
	s.Reshard.validate(p, at+".reshard")
	if d.Sharded() || len(d.Shards) > 1 {
		d.validateSharded(p, name, path)
	}
}

// validateSharded checks what a database needs to have a map.
func (d *Database) validateSharded(p *problems, name, path string) {
	if name == AnyDatabase {
		p.add(path+".sharding", "a sharded database has a name of its own, because its map has; list it beside %q", AnyDatabase)
	}
	if len(d.Shards) > 1 && d.Pool.Mode == pool.ModeSession {
		p.add(path+".pool.mode", "is session, whose clients keep one server connection and could use one shard only; use transaction")
	}
	for i, shard := range d.Shards {
		at := fmt.Sprintf("%s.shards[%d]", path, i)
		if !validShard(shard.name(i)) {
			p.add(at+".name", "%q is not a shard's name; use up to %d letters, digits, '_', '-' and '.'", shard.name(i), maxName)
		}
		if shard.Manager != (topology.Server{}) && shard.Manager.User == "" {
			p.add(at+".manager", "names no role; pgtier itself logs in to the shards of a sharded database: write postgres://role:password@host:port/database")
		}
	}
}

// validShard says whether a map can hold the name of a shard (shard.Name).
func validShard(name string) bool {
	other := func(r rune) bool {
		return (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') && r != '_' && r != '-' && r != '.'
	}
	return name != "" && len(name) <= maxName && !strings.ContainsFunc(name, other)
}

// validateTables checks the declared tables, each against those before it: the sharded ones by name, then the reference tables.
func (d *Database) validateTables(p *problems, path string) {
	var seen []TableName
	declare := func(at, text string) {
		table, err := ParseTableName(text)
		if err != nil {
			p.add(at, "%s", err)
			return
		}
		for _, other := range seen {
			if table.meets(other) {
				p.add(at, "may be the same table as %s, which is declared too; a table is declared once, with its schema where several have the name", other)
			}
		}
		seen = append(seen, table)
	}
	for _, name := range slices.Sorted(maps.Keys(d.Sharding.Tables)) {
		at := path + ".tables." + name
		declare(at, name)
		d.validateKey(p, at+".key", d.Sharding.Tables[name].Key)
	}
	for i, name := range d.Sharding.Reference {
		declare(fmt.Sprintf("%s.reference[%d]", path, i), name)
	}
}

func (d *Database) validateKey(p *problems, path string, key []string) {
	switch {
	case len(key) == 0:
		p.add(path, "is empty; name the column whose value chooses the shard")
	case len(key) > shard.MaxColumns:
		p.add(path, "has %d columns; use up to %d", len(key), shard.MaxColumns)
	case len(key) > 1 && d.Sharding.Function == "modulo":
		p.add(path, "has %d columns, and sharding.function modulo takes one; name one or use hash", len(key))
	}
	for i, column := range key {
		switch {
		case column == "" || len(column) > maxName || strings.ContainsAny(column, "\"\x00"):
			p.add(path, "%q is not the name of a column; write it as the server has it, without quotes", column)
		case slices.Contains(key[:i], column):
			p.add(path, "%q stands twice; name each column once", column)
		}
	}
}

// staysPut returns what new would misplace of the rows that old has placed, as one joined error whose parts begin with the key's path. A
// restart does not help: the map in the control database says the same.
func staysPut(old, new map[string]Database) error {
	var p problems
	for _, name := range slices.Sorted(maps.Keys(new)) {
		before, after := old[name], new[name]
		if before.Sharded() {
			staysPutIn(&p, "databases."+name+".sharding", &before, &after)
		}
	}
	return errors.Join(p.found...)
}

func staysPutIn(p *problems, path string, before, after *Database) {
	const misplaced = "rows that are there would be looked for on other shards; keep the old value"
	if before.Sharding.Buckets != after.Sharding.Buckets {
		p.add(path+".buckets", "changes from %d to %d: %s", before.Sharding.Buckets, after.Sharding.Buckets, misplaced)
	}
	if before.Sharding.Function != after.Sharding.Function {
		p.add(path+".function", "changes from %s to %s: %s", before.Sharding.Function, after.Sharding.Function, misplaced)
	}
	if before.HomeShard() != after.HomeShard() {
		p.add(path+".home", "changes from %s to %s: %s", before.HomeShard(), after.HomeShard(), misplaced)
	}
	for _, old := range before.placements() {
		declared := false
		for _, new := range after.placements() {
			if !old.table.meets(new.table) {
				continue
			}
			declared = true
			if !slices.Equal(old.key, new.key) {
				p.add(path+"."+new.path, "changes %s from %s to %s: %s", new.table, old, new, misplaced)
			}
		}
		if !declared {
			p.add(path+"."+old.path, "is gone: the rows of %s would be looked for on %s alone; keep it, or drop the table and restart", old.table, after.HomeShard())
		}
	}
}

// placement is how the rows of a declared table are placed.
type placement struct {
	table TableName
	key   []string // nil: a reference table
	path  string   // below sharding
}

// String says what the table is.
func (p placement) String() string {
	if p.key == nil {
		return "a reference table"
	}
	return "sharded by " + strings.Join(p.key, ", ")
}

// placements lists the declared tables, by name.
func (d *Database) placements() []placement {
	var all []placement
	for name, table := range d.Sharding.Tables {
		parsed, _ := ParseTableName(name) // validated
		all = append(all, placement{parsed, table.Key, "tables." + name + ".key"})
	}
	for i, name := range d.Sharding.Reference {
		parsed, _ := ParseTableName(name) // validated
		all = append(all, placement{parsed, nil, fmt.Sprintf("reference[%d]", i)})
	}
	slices.SortFunc(all, func(a, b placement) int { return cmp.Compare(a.table.String(), b.table.String()) })
	return all
}

// MapConfig is what a map of buckets to shards has to know of the database, which clients know as name. who names the proxy in what it writes down.
func (d *Database) MapConfig(name, who string) (shardmap.Config, error) {
	function, err := shard.ParseFunction(d.Sharding.Function)
	if err != nil {
		return shardmap.Config{}, fmt.Errorf("databases.%s.sharding.function: %w", name, err)
	}
	c := shardmap.Config{Database: name, Buckets: d.Sharding.Buckets, Function: function, Home: shard.Name(d.HomeShard()), Who: who}
	for _, s := range d.ShardNames() {
		c.Shards = append(c.Shards, shard.Name(s))
	}
	for _, p := range d.placements() {
		c.Tables = append(c.Tables, shardmap.Table{Schema: p.table.Schema, Name: p.table.Name, Key: p.key})
	}
	return c, nil
}

// Planning is the configuration as planners take it. Validate has checked it.
func (d *Database) Planning() *plan.Config {
	function, _ := shard.ParseFunction(d.Sharding.Function)
	out := &plan.Config{Buckets: d.Sharding.Buckets, Function: function, Tables: map[string][]string{}, Reference: d.Sharding.Reference}
	for i, name := range d.ShardNames() {
		out.Shards = append(out.Shards, shard.Name(name))
		if name == d.HomeShard() {
			out.Home = i
		}
	}
	for name, table := range d.Sharding.Tables {
		out.Tables[name] = table.Key
	}
	return out
}

// ShardManager returns the server that takes the writes of a shard now, as far as is known: another than the configuration's after a failover.
func (p *Proxy) ShardManager(database, shard string) (server topology.Server, ok bool) {
	p.mu.Lock()
	d := p.databases[database]
	p.mu.Unlock()
	if d == nil {
		return topology.Server{}, false
	}
	for _, part := range *d.parts.Load() {
		if part.name() == shard {
			return part.manager(), true
		}
	}
	return topology.Server{}, false
}
