package proxy

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"pgtier/proxy/auth"
	"pgtier/proxy/pool"
	"pgtier/proxy/wire"
	"pgtier/router/topology"
)

// AnyDatabase is the key of the database that serves every name not listed, as PgBouncer's "*" does.
const AnyDatabase = "*"

// DefaultListenPort numbers unix sockets whose listen entry names no port: PgBouncer's, which clients of poolers know.
const DefaultListenPort = 6432

// Config is everything the proxy is told from outside. It is a plain value: change a copy and hand it to Reload.
type Config struct {
	// Listen holds host:port, unix:/dir or unix:/dir:port; changes need a restart.
	Listen []string `mapstructure:"listen"`
	// HTTP is the host:port of metrics and health, "" for none; changes need a restart.
	HTTP string `mapstructure:"http"`
	// Zone names where this proxy runs; "" is unknown.
	Zone string `mapstructure:"zone"`
	// Control is the database that holds the maps of sharded databases; its zero value is each database's first shard (see ControlOf).
	Control topology.Server `mapstructure:"control"`
	Auth    auth.Config     `mapstructure:"auth"`
	TLS     TLS             `mapstructure:"tls"`
	// Pool holds for every database that does not override it.
	Pool   pool.Config `mapstructure:"pool"`
	Limits Limits      `mapstructure:"limits"`
	// SlowQuery is the time from which a query is logged; 0 logs none. The file calls it log.slow_query.
	SlowQuery time.Duration `mapstructure:"-"`
	// Databases is keyed by the name that clients ask for; AnyDatabase stands for all others.
	Databases map[string]Database `mapstructure:"databases"`
}

// TLS holds both faces of the proxy.
type TLS struct {
	// Client is how clients are met, Server how PostgreSQL servers are met unless their URL says otherwise.
	Client wire.TLSConfig `mapstructure:"client"`
	Server wire.TLSConfig `mapstructure:"server"`
}

// Database is one database that clients may ask for.
type Database struct {
	Shards []Shard `mapstructure:"shards"`
	// Pool is complete: the proxy's Pool with this database's own keys put over it.
	Pool     pool.Config `mapstructure:"pool"`
	Reads    Reads       `mapstructure:"reads"`
	Failover Failover    `mapstructure:"failover"`
	Cache    Cache       `mapstructure:"cache"`
	Sharding Sharding    `mapstructure:"sharding"`
}

// Shard is a manager and the replicas that follow it.
type Shard struct {
	// Name is unique within the database; "" becomes s0, s1, … by position.
	Name     string          `mapstructure:"name"`
	Manager  topology.Server `mapstructure:"manager"`
	Replicas []Replica       `mapstructure:"replicas"`
}

// Replica is a server that follows a manager.
type Replica struct {
	URL  topology.Server `mapstructure:"url"`
	Zone string          `mapstructure:"zone"`
	// Weight is the share of reads beside the other replicas, where these are balanced by weight; DefaultWeight where the
	// configuration says nothing. 0 takes reads only while no replica with a weight can.
	Weight int `mapstructure:"weight"`
}

// DefaultWeight gives replicas equal shares.
const DefaultWeight = 1

// Reads says how old an answer may be and who gives it. Without replicas the manager answers everything, which keeps every promise.
type Reads struct {
	// Consistency is session, strong, eventual or manager.
	Consistency string        `mapstructure:"consistency"`
	MaxLag      time.Duration `mapstructure:"max_lag"`
	// Balance is least_latency, round_robin, random or weighted.
	Balance string `mapstructure:"balance"`
}

// Failover says how long statements wait for a new manager; 0 does not wait.
type Failover struct {
	Wait time.Duration `mapstructure:"wait"`
	// Promote lets the proxy itself promote the most advanced replica.
	Promote bool `mapstructure:"promote"`
}

// Cache says which answers are kept.
type Cache struct {
	Enabled  bool          `mapstructure:"enabled"`
	Memory   Size          `mapstructure:"memory"`
	MaxEntry Size          `mapstructure:"max_entry"`
	TTL      time.Duration `mapstructure:"ttl"`
	// MaxDelay is how late it may be known that something was written past the proxy; 0 does not follow such writes.
	MaxDelay     time.Duration `mapstructure:"max_delay"`
	StaleOnError time.Duration `mapstructure:"stale_on_error"`
}

// Limits bounds memory, in bytes.
type Limits struct {
	// MaxMessage is the longest single protocol message relayed, in either direction. Messages are streamed, so this
	// refuses nonsense lengths and takes no memory.
	MaxMessage Size `mapstructure:"max_message"`
	// MaxQuery is the longest Query or Parse message, which must be held whole to be understood.
	MaxQuery Size `mapstructure:"max_query"`
	// PreparedStatements bounds the texts of all prepared statements shared by the proxy's sessions.
	PreparedStatements Size `mapstructure:"prepared_statements"`
	// StatementCache bounds the analysed templates of SQL texts.
	StatementCache Size `mapstructure:"statement_cache"`
	// SessionMemory bounds what one session may hold: a request being gathered, its statement names, its settings.
	SessionMemory Size `mapstructure:"session_memory"`
}

// DefaultConfig is what holds where the configuration says nothing. It names no database.
func DefaultConfig() Config {
	return Config{
		Listen: []string{"127.0.0.1:6432"},
		HTTP:   "127.0.0.1:6433",
		Auth:   auth.Default(),
		TLS:    TLS{Client: wire.TLSConfig{Mode: wire.TLSPrefer}, Server: wire.TLSConfig{Mode: wire.TLSPrefer}},
		Pool:   pool.DefaultConfig(),
		Limits: Limits{
			// PostgreSQL's own largest message is a little below (MaxAllocSize, 1 GiB - 1).
			MaxMessage: 1 << 30,
			// Long enough for a multi-row INSERT of a bulk loader, short enough that a few hundred cannot exhaust a host.
			MaxQuery:           16 << 20,
			PreparedStatements: 64 << 20,
			StatementCache:     64 << 20,
			// Two queries of the largest size: one being gathered, one remembered as a prepared statement.
			SessionMemory: 32 << 20,
		},
	}
}

// DefaultDatabase is a database without shards whose pool is pools.
func DefaultDatabase(pools pool.Config) Database {
	return Database{
		Pool:  pools,
		Reads: Reads{Consistency: "session", MaxLag: 10 * time.Second, Balance: "least_latency"},
		// A promotion by Patroni takes 30 s with its defaults (ttl).
		Failover: Failover{Wait: 30 * time.Second},
		Cache:    Cache{Memory: 256 << 20, MaxEntry: 1 << 20, TTL: time.Minute, MaxDelay: time.Second},
		Sharding: DefaultSharding(),
	}
}

// Topology returns the servers of d, which clients know as name: shards and servers named, and databases filled in
// (the name asked for, except for AnyDatabase, where it stays "" until a client asks).
func (d Database) Topology(name string) topology.Database {
	shards := make([]topology.Shard, len(d.Shards))
	for i, shard := range d.Shards {
		shardName := shard.name(i)
		complete := func(server topology.Server, serverName string) topology.Server {
			server.Name = serverName
			if server.Database == "" && name != AnyDatabase {
				server.Database = name
			}
			return server
		}
		shards[i] = topology.Shard{Name: shardName, Manager: complete(shard.Manager, shardName)}
		for j, replica := range shard.Replicas {
			server := replica.URL
			if server.Database == "" {
				server.Database = shard.Manager.Database // it has the manager's
			}
			server = complete(server, shardName+"-r"+strconv.Itoa(j+1))
			server.Zone, server.Weight = replica.Zone, replica.Weight
			shards[i].Replicas = append(shards[i].Replicas, server)
		}
	}
	return topology.Database{Name: name, Shards: shards}
}

// name returns the shard's name, given its position.
func (s Shard) name(position int) string {
	if s.Name != "" {
		return s.Name
	}
	return "s" + strconv.Itoa(position)
}

// homeOf is the index of the shard that holds what is not sharded: the first unless the configuration names one.
func (d *Database) homeOf(shards []topology.Shard) int {
	return max(0, slices.IndexFunc(shards, func(s topology.Shard) bool { return s.Name == d.Sharding.Home }))
}

// ParseListen splits a listen entry into what net.Listen wants.
func ParseListen(entry string) (network, address string, err error) {
	dir, isUnix := strings.CutPrefix(entry, "unix:")
	if !isUnix {
		_, port, err := net.SplitHostPort(entry)
		if err != nil {
			return "", "", fmt.Errorf("%q is neither host:port nor unix:/dir; write for example 127.0.0.1:6432", entry)
		}
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return "", "", fmt.Errorf("port %q is not a number from 0 to 65535; 0 takes a free one", port)
		}
		return "tcp", entry, nil
	}
	port := strconv.Itoa(DefaultListenPort)
	if before, after, ok := strings.Cut(dir, ":"); ok {
		if n, err := strconv.ParseUint(after, 10, 16); err != nil || n == 0 {
			return "", "", fmt.Errorf("port %q is not a number from 1 to 65535", after)
		}
		dir, port = before, after
	}
	if !strings.HasPrefix(dir, "/") {
		return "", "", fmt.Errorf("%q does not name an absolute directory; write for example unix:/var/run/pgtier", entry)
	}
	return "unix", strings.TrimRight(dir, "/") + "/.s.PGSQL." + port, nil
}

// problems collects what Validate finds.
type problems struct{ found []error }

func (p *problems) add(path, format string, args ...any) {
	p.found = append(p.found, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...)))
}

// below adds the parts of err, each of which begins with a key below path.
func (p *problems) below(path string, err error) {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, part := range joined.Unwrap() {
			p.below(path, part)
		}
	} else if err != nil {
		p.found = append(p.found, fmt.Errorf("%s.%w", path, err))
	}
}

// Validate returns everything that is wrong as one joined error, or nil. Each part begins with the key's path and
// ends with what to do. It touches no file and no network.
func (c *Config) Validate() error {
	var p problems
	c.validateEndpoints(&p)
	p.found = appendJoined(p.found, c.Auth.Validate())
	p.found = appendJoined(p.found, c.TLS.Client.Validate("tls.client", wire.ClientSide))
	p.found = appendJoined(p.found, c.TLS.Server.Validate("tls.server", wire.ServerSide))
	poolErr := c.Pool.Validate()
	p.below("pool", poolErr)
	c.validateCertLogin(&p)
	c.Limits.validate(&p)
	if c.SlowQuery < 0 {
		p.add("log.slow_query", "%s is negative; use 0 to log no query", c.SlowQuery)
	}
	c.validateControl(&p)
	if len(c.Databases) == 0 {
		p.add("databases", "no database is configured; add one with its manager's URL, or serve with --manager URL")
	}
	for _, name := range slices.Sorted(maps.Keys(c.Databases)) {
		database := c.Databases[name]
		database.validate(&p, name, poolErr)
	}
	return errors.Join(p.found...)
}

// appendJoined appends the parts of a joined error.
func appendJoined(found []error, err error) []error {
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return append(found, joined.Unwrap()...)
	}
	if err != nil {
		return append(found, err)
	}
	return found
}

func (c *Config) validateEndpoints(p *problems) {
	if len(c.Listen) == 0 {
		p.add("listen", "is empty; name at least one host:port or unix:/dir")
	}
	seen := map[string]bool{}
	for i, entry := range c.Listen {
		path := fmt.Sprintf("listen[%d]", i)
		_, address, err := ParseListen(entry)
		switch {
		case err != nil:
			p.add(path, "%s", err)
		case seen[address] && !strings.HasSuffix(address, ":0"):
			p.add(path, "%q stands twice; remove one", entry)
		}
		seen[address] = true
	}
	if c.HTTP == "" {
		return
	}
	switch network, address, err := ParseListen(c.HTTP); {
	case err != nil:
		p.add("http", "%s", err)
	case network == "unix":
		p.add("http", "a unix socket cannot serve HTTP here; use host:port")
	case seen[address] && !strings.HasSuffix(address, ":0"):
		p.add("http", "%q is a listen address too; choose another port", c.HTTP)
	}
}

// validateCertLogin checks that clients can show a certificate where one is all that lets them in.
func (c *Config) validateCertLogin(p *problems) {
	if c.Auth.Method != "cert" {
		return
	}
	if c.TLS.Client.Cert == "" || c.TLS.Client.EffectiveMode() == wire.TLSDisable {
		p.add("auth.method", "cert needs TLS towards clients; set tls.client.cert and tls.client.key")
	}
	if c.TLS.Client.CA == "" {
		p.add("tls.client.ca", "is missing and auth.method cert needs it; name the file of the authority that signs client certificates")
	}
}

func (l Limits) validate(p *problems) {
	// A statement cache or message of less than this could not hold ordinary queries, and everything would be refused.
	const least = 64 << 10
	for _, limit := range []struct {
		key   string
		value Size
	}{
		{"max_message", l.MaxMessage}, {"max_query", l.MaxQuery}, {"prepared_statements", l.PreparedStatements},
		{"statement_cache", l.StatementCache}, {"session_memory", l.SessionMemory},
	} {
		if limit.value < least {
			p.add("limits."+limit.key, "%s is below the least useful size; use %s or more", limit.value, Size(least))
		}
	}
	if l.MaxMessage > 1<<31-1 {
		p.add("limits.max_message", "%s is more than the protocol can say; use 1GiB", l.MaxMessage)
	}
	if l.MaxQuery > l.MaxMessage {
		p.add("limits.max_query", "%s is above limits.max_message (%s); lower it", l.MaxQuery, l.MaxMessage)
	}
	if l.SessionMemory < l.MaxQuery {
		p.add("limits.session_memory", "%s cannot hold one query of limits.max_query (%s); raise it", l.SessionMemory, l.MaxQuery)
	}
}

// validate leaves out what is wrong with the database's pool only because it is wrong with every pool.
func (d *Database) validate(p *problems, name string, inherited error) {
	path := "databases." + name
	switch name {
	case "":
		p.add("databases", "a database has an empty name; name it, or use %q for all others", AnyDatabase)
	case "pgtier", "pgbouncer":
		p.add(path, "is the name of the admin database; choose another")
	}
	d.validateShards(p, path)
	if err := d.Pool.Validate(); err != nil && (inherited == nil || err.Error() != inherited.Error()) {
		p.below(path+".pool", err)
	}
	d.Reads.validate(p, path+".reads")
	d.Cache.validate(p, path+".cache")
	d.validateSharding(p, name, path)
	if d.Failover.Wait < 0 {
		p.add(path+".failover.wait", "%s is negative; use 0 not to wait", d.Failover.Wait)
	}
}

func (d *Database) validateShards(p *problems, path string) {
	if len(d.Shards) == 0 {
		p.add(path+".shards", "is empty; add one with its manager's URL")
	}
	names := map[string]bool{}
	for i, shard := range d.Shards {
		at := fmt.Sprintf("%s.shards[%d]", path, i)
		if name := shard.name(i); names[name] {
			p.add(at+".name", "%q stands twice; names are unique within a database", name)
		} else {
			names[name] = true
		}
		if shard.Manager == (topology.Server{}) {
			p.add(at+".manager", "is missing; write the URL of the server that takes writes")
		}
		for j, replica := range shard.Replicas {
			if replica.URL == (topology.Server{}) {
				p.add(fmt.Sprintf("%s.replicas[%d].url", at, j), "is missing; write the replica's URL")
			}
			if other := replica.URL.Database; other != "" && shard.Manager.Database != "" && other != shard.Manager.Database {
				p.add(fmt.Sprintf("%s.replicas[%d].url", at, j), "names database %q, its manager has %q; a replica has its manager's databases", other, shard.Manager.Database)
			}
			if replica.Weight < 0 {
				p.add(fmt.Sprintf("%s.replicas[%d].weight", at, j), "%d is negative; use 0 or more", replica.Weight)
			}
		}
	}
}

func (r Reads) validate(p *problems, path string) {
	oneOf(p, path+".consistency", r.Consistency, "session", "strong", "eventual", "manager")
	oneOf(p, path+".balance", r.Balance, "least_latency", "round_robin", "random", "weighted")
	if r.MaxLag < 0 {
		p.add(path+".max_lag", "%s is negative; use 0 or more", r.MaxLag)
	}
}

func (c Cache) validate(p *problems, path string) {
	if c.Memory < 1<<20 {
		p.add(path+".memory", "%s is below 1MiB; raise it, or set enabled to false", c.Memory)
	}
	if c.MaxEntry == 0 {
		p.add(path+".max_entry", "0 keeps nothing; raise it, or set enabled to false")
	}
	if c.MaxEntry > c.Memory {
		p.add(path+".max_entry", "%s is above memory (%s); lower it", c.MaxEntry, c.Memory)
	}
	if c.TTL <= 0 {
		p.add(path+".ttl", "%s is no time; set enabled to false to keep nothing", c.TTL)
	}
	if c.MaxDelay != 0 && c.MaxDelay < 50*time.Millisecond {
		p.add(path+".max_delay", "%s is too short; use 50ms or more, or 0 to let ttl alone bound what is written past the proxy", c.MaxDelay)
	}
	if c.StaleOnError < 0 {
		p.add(path+".stale_on_error", "%s is negative; use 0 or more", c.StaleOnError)
	}
}

// oneOf reports a value outside words.
func oneOf(p *problems, path, value string, words ...string) {
	if !slices.Contains(words, value) {
		p.add(path, "unknown value %q; use one of %s", value, strings.Join(words, ", "))
	}
}

// Size is a number of bytes. In a configuration it is written as 512B, 64KiB, 16MiB or 1GiB.
type Size = pool.Size
