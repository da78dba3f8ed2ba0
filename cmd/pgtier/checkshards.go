package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"pgtier/proxy"
	"pgtier/proxy/shardmap"
	"pgtier/router/catalog"
	"pgtier/router/shard"
)

// shardsLimit bounds all questions to the shards of one database: a catalog of ten thousand tables takes seconds.
const shardsLimit = 2 * time.Minute

// shardedCheck compares the shards of one database.
type shardedCheck struct {
	r        *report
	config   proxy.Config
	name     string
	database proxy.Database
	shards   []shardConn       // those that answered, in the configuration's order
	placed   map[string]placed // the declared tables that exist, and what is a part of them, by name; set by load
	buckets  *shard.Map        // set by checkMap; nil if there is none to go by
	moving   []shard.Span      // set by checkMap; buckets that change hands
	found    int               // findings that are not fine
}

// shardConn is one shard's manager and what it said.
type shardConn struct {
	name     string
	conn     *pgx.Conn
	snapshot *catalog.Snapshot
	objects  map[objectID]definition
}

// checkShards looks at what makes one database of several shards.
func checkShards(ctx context.Context, r *report, config proxy.Config, name string) {
	database := config.Databases[name]
	if !database.Sharded() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, shardsLimit)
	defer cancel()
	c := &shardedCheck{r: r, config: config, name: name, database: database}
	defer c.close(ctx)
	if !c.connect(ctx) {
		return
	}
	for _, step := range []func(context.Context) error{c.checkSettings, c.checkMap, c.load, c.checkSchema, c.checkPlacement, c.checkSequences, c.checkRows, c.checkKeys} {
		if err := step(ctx); err != nil {
			r.add(broken, c.subject(), "%v", err)
			return
		}
	}
}

// subject names the database in findings.
func (c *shardedCheck) subject() string { return "databases." + c.name + ".sharding" }

// connect opens a connection to every shard. Those that are not reached have a finding of their own.
func (c *shardedCheck) connect(ctx context.Context) bool {
	topology := c.database.Topology(c.name)
	var missing []string
	for _, s := range topology.Shards {
		check := serverCheck{config: c.config, database: c.name, pool: c.database.Pool, server: s.Manager}
		connecting, cancel := context.WithTimeout(ctx, check.timeout())
		conn, err := check.connect(connecting)
		cancel()
		if err == nil {
			// Names in definitions are to have their schemas, and values one form.
			if _, err = conn.Exec(ctx, "SET search_path = ''; SET DateStyle = ISO; SET TimeZone = UTC; SET IntervalStyle = postgres; SET extra_float_digits = 1; SET bytea_output = hex"); err != nil {
				conn.Close(ctx)
			}
		}
		if err != nil {
			missing = append(missing, s.Name)
			continue
		}
		c.shards = append(c.shards, shardConn{name: s.Name, conn: conn})
	}
	if len(missing) > 0 {
		c.add(broken, c.subject(), "the shards were not compared, because %s could not be asked", strings.Join(missing, ", "))
	}
	return len(missing) == 0
}

func (c *shardedCheck) close(ctx context.Context) {
	for _, s := range c.shards {
		s.conn.Close(context.WithoutCancel(ctx))
	}
}

// checkSettings compares the servers themselves.
func (c *shardedCheck) checkSettings(ctx context.Context) error {
	versions := map[string][]string{}
	for _, s := range c.shards {
		var version string
		var prepared, connections int
		err := s.conn.QueryRow(ctx, "SELECT pg_catalog.current_setting('server_version'), pg_catalog.current_setting('max_prepared_transactions')::int4, pg_catalog.current_setting('max_connections')::int4").
			Scan(&version, &prepared, &connections)
		if err != nil {
			return fmt.Errorf("ask shard %s for settings: %w", s.name, err)
		}
		versions[version] = append(versions[version], s.name)
		switch {
		case len(c.shards) == 1:
		case prepared == 0:
			c.add(broken, c.subject(), "shard %s has max_prepared_transactions 0, so that no transaction can write to it and another; set it to %d (max_connections) and restart it", s.name, connections)
		case prepared < c.database.Pool.Size:
			c.add(doubtful, c.subject(), "shard %s has max_prepared_transactions %d, and a pool has %d connections; set it to %d (max_connections)", s.name, prepared, c.database.Pool.Size, connections)
		default:
			c.add(fine, c.subject(), "shard %s has max_prepared_transactions %d", s.name, prepared)
		}
	}
	majors := map[string]bool{}
	for version := range versions {
		major, _, _ := strings.Cut(version, ".")
		majors[major] = true
	}
	switch {
	case len(majors) > 1:
		c.add(broken, c.subject(), "the servers' versions differ, and so may their answers: %s", byShards(versions))
	case len(versions) > 1:
		c.add(doubtful, c.subject(), "the servers' versions differ: %s", byShards(versions))
	}
	return nil
}

// add is report.add that counts.
func (c *shardedCheck) add(v verdict, subject, format string, args ...any) {
	if v != fine {
		c.found++
	}
	c.r.add(v, subject, format, args...)
}

// byShards says which shards have which value.
func byShards(values map[string][]string) string {
	var parts []string
	for _, value := range slices.Sorted(maps.Keys(values)) {
		parts = append(parts, fmt.Sprintf("%s on %s", value, strings.Join(values[value], ", ")))
	}
	return strings.Join(parts, "; ")
}

// checkMap looks at the control database and at the shards' marks.
func (c *shardedCheck) checkMap(ctx context.Context) error {
	config, err := c.database.MapConfig(c.name, "pgtier check")
	if err != nil {
		return err
	}
	control := serverCheck{config: c.config, database: c.name, pool: c.database.Pool, server: c.config.ControlOf(c.name)}
	connecting, cancel := context.WithTimeout(ctx, control.timeout())
	defer cancel()
	conn, err := control.connect(connecting)
	if err != nil {
		c.add(broken, "control", "%s: %s", control.server, connectProblem(err))
		return nil
	}
	defer conn.Close(context.WithoutCancel(ctx))
	shards := map[shard.Name]shardmap.Querier{}
	for _, s := range c.shards {
		shards[shard.Name(s.name)] = querier{s.conn.PgConn()}
	}
	now, found, err := shardmap.Inspect(ctx, config, querier{conn.PgConn()}, shards)
	if err != nil {
		c.add(broken, "control", "%s: %v", control.server, err)
		return nil
	}
	for _, problem := range found {
		c.add(broken, c.subject(), "%v", problem)
	}
	switch {
	case now != nil:
		c.buckets, c.moving = now.Map, now.Motion.Moving
		c.add(fine, c.subject(), "map of version %d: %d buckets on %d shards", now.Map.Version(), now.Map.Len(), len(now.Map.Shards()))
	case len(found) == 0:
		c.buckets, _ = shard.Even(1, config.Buckets, config.Shards...) // as the first proxy does
		c.add(fine, c.subject(), "there is no map yet; the first proxy that starts spreads %d buckets evenly over %d shards", config.Buckets, len(config.Shards))
	}
	if err := c.checkSchemaRight(ctx, "control", conn); err != nil {
		return err
	}
	for _, s := range c.shards {
		if err := c.checkSchemaRight(ctx, "shard "+s.name, s.conn); err != nil {
			return err
		}
	}
	if now != nil {
		c.leaveOut(now.Members)
	}
	return nil
}

// leaveOut looks no further at shards that are only in the configuration: they get the schema when buckets are moved there.
func (c *shardedCheck) leaveOut(members []shard.Name) {
	var joined []shardConn
	for _, s := range c.shards {
		if slices.Contains(members, shard.Name(s.name)) {
			joined = append(joined, s)
			continue
		}
		c.add(fine, c.subject(), "shard %s has not joined yet: nothing is sent there until buckets are moved there (pgtier reshard)", s.name)
		_ = s.conn.Close(context.Background())
	}
	c.shards = joined
}

// checkSchemaRight looks whether pgtier's own schema is there or can be made.
func (c *shardedCheck) checkSchemaRight(ctx context.Context, place string, conn *pgx.Conn) error {
	var can bool
	err := conn.QueryRow(ctx, "SELECT pg_catalog.to_regnamespace('pgtier') IS NOT NULL OR pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE')").Scan(&can)
	if err != nil {
		return fmt.Errorf("ask %s for rights: %w", place, err)
	}
	if !can {
		c.add(broken, c.subject(), "%s: the role of its URL may not create schema pgtier; GRANT CREATE ON DATABASE to it, or run what the proxy's log says", place)
	}
	return nil
}

// load reads the catalog of every shard.
func (c *shardedCheck) load(ctx context.Context) (err error) {
	for i := range c.shards {
		s := &c.shards[i]
		if s.snapshot, err = catalog.Load(ctx, querier{s.conn.PgConn()}, catalog.Relations); err != nil {
			return fmt.Errorf("shard %s: %w", s.name, err)
		}
		if s.objects, err = readDefinitions(ctx, s.conn); err != nil {
			return fmt.Errorf("shard %s: read definitions: %w", s.name, err)
		}
	}
	c.placed = c.placements()
	return nil
}

// home is the shard where undeclared tables live.
func (c *shardedCheck) home() *shardConn {
	i := slices.IndexFunc(c.shards, func(s shardConn) bool { return s.name == c.database.HomeShard() })
	return &c.shards[max(i, 0)]
}
