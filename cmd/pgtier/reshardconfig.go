package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"pgtier/proxy"
	"pgtier/resharder"
	"pgtier/resharder/stream"
	"pgtier/router/shard"
	"pgtier/router/topology"
)

// managers says which server takes a shard's writes now; nil: the one that the configuration names.
type managers func(database, shard string) (topology.Server, bool)

// reshardConfig is what package resharder has to know of a sharded database. who names this process in what it writes down.
func reshardConfig(config proxy.Config, name, who string, now managers, log *zap.Logger) (resharder.Config, error) {
	database := config.Databases[name]
	mapped, err := database.MapConfig(name, who)
	if err != nil {
		return resharder.Config{}, err
	}
	bounds := database.Sharding.Reshard
	c := resharder.Config{
		Map: mapped, Log: log,
		Options: resharder.Options{Streams: bounds.Streams, Groups: bounds.Groups, MaxWAL: int64(bounds.MaxWAL), MaxReplicaLag: int64(bounds.MaxReplicaLag)},
		Servers: resharder.Servers{Shards: map[shard.Name]resharder.Dial{}},
	}
	current := map[string]func() topology.Server{}
	for _, s := range database.Topology(name).Shards {
		current[s.Name] = func() topology.Server {
			if now == nil {
				return s.Manager
			}
			server, ok := now(name, s.Name)
			if !ok {
				return s.Manager
			}
			return asProxy(server, s.Manager)
		}
		c.Servers.Shards[shard.Name(s.Name)] = dialer(config, current[s.Name])
	}
	control := config.ControlOf(name)
	first := database.Topology(name).Shards[0]
	c.Servers.Control = dialer(config, func() topology.Server { return control })
	if control == first.Manager { // no control of its own: wherever the first shard's manager is
		c.Servers.Control = c.Servers.Shards[shard.Name(first.Name)]
	}
	c.Libpq = func(name shard.Name) map[string]string { return libpq(config, current[string(name)]()) }
	return c, nil
}

// dialer logs in to a server as the proxy would.
func dialer(config proxy.Config, server func() topology.Server) resharder.Dial {
	return func(ctx context.Context, parameters map[string]string) (*pgconn.PgConn, error) {
		to := server()
		conf, err := connection(to, config)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", to, err)
		}
		conn, err := stream.Connect(ctx, &conf.Config, parameters)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", to, err)
		}
		return conn, nil
	}
}

// libpq are the environment variables by which pg_dump finds a server.
func libpq(config proxy.Config, server topology.Server) map[string]string {
	ssl := sslParameters(server, config)
	variables := map[string]string{
		"PGHOST": server.Host, "PGPORT": fmt.Sprint(server.Port), "PGUSER": server.User, "PGPASSWORD": server.Password.Reveal(), "PGDATABASE": server.Database,
		"PGSSLMODE": ssl["sslmode"], "PGSSLROOTCERT": ssl["sslrootcert"], "PGSSLCERT": ssl["sslcert"], "PGSSLKEY": ssl["sslkey"], "PGPASSFILE": "/dev/null",
	}
	maps.DeleteFunc(variables, func(_, value string) bool { return value == "" })
	return variables
}

// shardedDatabase finds the database that a command is for.
func shardedDatabase(config proxy.Config, name string) (string, error) {
	var sharded []string
	for _, known := range slices.Sorted(maps.Keys(config.Databases)) {
		if database := config.Databases[known]; database.Sharded() {
			sharded = append(sharded, known)
		}
	}
	switch {
	case name == "" && len(sharded) == 1:
		return sharded[0], nil
	case name == "":
		return "", usageError{errors.New("--database is missing; name one of the sharded databases")}
	case !slices.Contains(sharded, name):
		return "", fmt.Errorf("--database: %q is no sharded database of the configuration; there are %s", name, strings.Join(sharded, ", "))
	}
	return name, nil
}
