package resharder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"pgtier/proxy/shardmap"
	"pgtier/resharder/stream"
	"pgtier/router/shard"
)

// Options are what users may set, for all jobs of a database. DefaultOptions has the defaults.
type Options struct {
	// Streams is how many tables, or parts of them, are copied at once for each pair of shards.
	Streams int `mapstructure:"streams"`
	// Groups is the most groups that a move's buckets are cut over in.
	Groups int `mapstructure:"groups"`
	// MaxWAL bounds the write-ahead log that a server keeps for a move, in bytes. Beyond half of it there is a warning; beyond it the job stops and
	// gives the log back, and with it the copy, or the way forth or back of what is cut over.
	MaxWAL int64 `mapstructure:"-"`
	// MaxReplicaLag is how much log a replica of a source or target may have to replay, in bytes: beyond it copies and deletions wait. 0: nobody looks.
	MaxReplicaLag int64 `mapstructure:"-"`
}

// DefaultOptions are those of a configuration that says nothing.
func DefaultOptions() Options {
	return Options{
		// A copy is bound by a processor on each side: the second stream fills the pauses of the first.
		Streams: 2,
		// A cut costs some ten milliseconds for its group; more groups hold fewer keys for a longer time in all.
		Groups: 16,
		// Four hours of a busy server (4 MB/s).
		MaxWAL: 64 << 30,
		// A replica replays it within a few seconds, which reads.max_lag allows.
		MaxReplicaLag: 256 << 20,
	}
}

// Validate returns everything that is wrong as one joined error, or nil. Each part begins with the key.
func (o Options) Validate() error {
	var errs []error
	if o.Streams < 1 || o.Streams > 16 {
		errs = append(errs, fmt.Errorf("streams: %d is not from 1 to 16", o.Streams))
	}
	if o.Groups < 1 || o.Groups > groupsMost {
		errs = append(errs, fmt.Errorf("groups: %d is not from 1 to %d", o.Groups, groupsMost))
	}
	if o.MaxWAL < 1<<30 {
		errs = append(errs, fmt.Errorf("max_wal: %d bytes are too few for any move; use 1GiB or more", o.MaxWAL))
	}
	if o.MaxReplicaLag < 0 {
		errs = append(errs, fmt.Errorf("max_replica_lag: %d is negative; use 0 for no bound", o.MaxReplicaLag))
	}
	return errors.Join(errs...)
}

// groupsMost bounds the groups of a move: a transaction takes one advisory lock for each that it writes to.
const groupsMost = 64

// How long things may take that clients wait for. A hold is at most holdLimit an attempt, unless the grant or its map take longer, which nothing may take back.
const (
	holdLimit = 250 * time.Millisecond
	// fenceLimit is how long the fence may wait for writers: new ones wait behind it.
	fenceLimit = 100 * time.Millisecond
	// guardLimit is the same for the locks that installing a guard takes, which hold up all writers of a table.
	guardLimit = 50 * time.Millisecond
	// lagParts is the longest round trip of a marker before a hold, in fifths of what a hold may take.
	lagParts = 2
	// oldWriter is the age of a transaction that has written to a group beyond which a hold is not tried.
	oldWriter = 100 * time.Millisecond
)

// Config is a database to be resharded. Do not change it once it is given away.
type Config struct {
	Map     shardmap.Config
	Servers Servers
	Options Options
	// Libpq are the environment variables by which pg_dump finds a shard's manager.
	Libpq func(name shard.Name) map[string]string
	Log   *zap.Logger
	// Point is called at each named point of a job, and may wait; an error of it ends the mover there, as if its process had been killed. nil in production.
	Point func(ctx context.Context, name string) error
	// Poll is how often the journal is looked at while nothing is under way; 0 is a second.
	Poll time.Duration

	hold time.Duration // instead of holdLimit, for tests on a busy machine
	lost time.Duration // instead of lostLimit, for tests
}

func (c *Config) lostLimit() time.Duration {
	if c.lost > 0 {
		return c.lost
	}
	return lostLimit
}

func (c *Config) holdLimit() time.Duration {
	if c.hold > 0 {
		return c.hold
	}
	return holdLimit
}

// lagLimit is the longest round trip of a marker before a hold.
func (c *Config) lagLimit() time.Duration { return c.holdLimit() * lagParts / 5 }

func (c *Config) poll() time.Duration {
	if c.Poll > 0 {
		return c.Poll
	}
	return time.Second
}

// layout is what package stream has to know of the database.
func (c *Config) layout() stream.Layout {
	l := stream.Layout{Function: c.Map.Function, Buckets: c.Map.Buckets}
	for _, t := range c.Map.Tables {
		l.Tables = append(l.Tables, stream.Wanted{Schema: t.Schema, Name: t.Name, Key: t.Key})
	}
	return l
}

// controlLink makes a link to the control database.
func (c *Config) controlLink(name string) *link {
	return &link{place: "the control database", dial: func(ctx context.Context) (*pgconn.PgConn, error) { return c.Servers.Control(ctx, named(name, nil)) }}
}

// shardLinks makes a link to each shard.
func (c *Config) shardLinks(name string) map[shard.Name]*link {
	links := map[shard.Name]*link{}
	for s, dial := range c.Servers.Shards {
		links[s] = &link{place: "shard " + string(s), dial: func(ctx context.Context) (*pgconn.PgConn, error) { return dial(ctx, named(name, nil)) }}
	}
	return links
}

// queriers are links as package shardmap takes them.
func queriers(links map[shard.Name]*link) map[shard.Name]shardmap.Querier {
	out := map[shard.Name]shardmap.Querier{}
	for name, l := range links {
		out[name] = l
	}
	return out
}

// server is a shard as package stream takes it.
func (c *Config) server(name shard.Name) stream.Server {
	return stream.Server{Name: string(name), Dial: c.Servers.Shards[name]}
}

// sortedNames are the keys of a set of shards, in order.
func sortedNames[V any](set map[shard.Name]V) []shard.Name { return slices.Sorted(maps.Keys(set)) }

// shardedLayout is layout without reference tables, referenceLayout has nothing but them.
func (c *Config) shardedLayout() stream.Layout {
	l := c.part(func(t stream.Wanted) bool { return len(t.Key) > 0 })
	l.References = c.referenceLayout().Tables
	return l
}
func (c *Config) referenceLayout() stream.Layout {
	return c.part(func(t stream.Wanted) bool { return len(t.Key) == 0 })
}

func (c *Config) part(want func(stream.Wanted) bool) stream.Layout {
	l := c.layout()
	l.Tables = slices.DeleteFunc(l.Tables, func(t stream.Wanted) bool { return !want(t) })
	return l
}
