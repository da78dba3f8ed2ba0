package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/spf13/cobra"

	"pgtier/configs"
	"pgtier/parser"
	"pgtier/proxy"
	"pgtier/proxy/shardmap"
	"pgtier/router"
	"pgtier/router/catalog"
	"pgtier/router/plan"
	"pgtier/router/shard"
	"pgtier/router/topology"
)

// explainFlags are the flags of explain.
type explainFlags struct{ config, database string }

func explainCommand() *cobra.Command {
	var flags explainFlags
	command := &cobra.Command{
		Use:   "explain --config FILE --database DB 'SQL' [param…]",
		Short: "Say where a statement would go, and why",
		Long: "Say where a statement would go, and why: one line a fact. The catalog is read from the database's manager, or from a\n" +
			"replica where that is not reached; the statement itself is not run. The session is a new one, outside a transaction.\n" +
			"In a running proxy, EXPLAIN ROUTE in the admin database says the same.",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			switch {
			case flags.config == "":
				return usageError{errors.New("--config is missing; name the configuration file")}
			case flags.database == "":
				return usageError{errors.New("--database is missing; name the database as clients do")}
			}
			config, err := configs.Load(flags.config, os.Environ())
			if err != nil {
				return err
			}
			return explain(cmd.Context(), cmd.OutOrStdout(), config.Proxy, flags.database, args[0], args[1:])
		},
	}
	set := command.Flags()
	set.StringVar(&flags.config, "config", "", "the configuration file")
	set.StringVar(&flags.database, "database", "", "the database, by the name that clients use")
	return command
}

// explain prints the facts about one statement.
func explain(ctx context.Context, out io.Writer, config proxy.Config, name, sql string, params []string) error {
	database, ok := config.Databases[name]
	if !ok {
		database, ok = config.Databases[proxy.AnyDatabase]
	}
	if !ok {
		return fmt.Errorf("--database: %q is not configured; there are %s", name, strings.Join(slices.Sorted(maps.Keys(config.Databases)), ", "))
	}
	snapshot, err := readCatalog(ctx, config, database, name)
	if err != nil {
		return err
	}
	circumstances := database.Circumstances()
	circumstances.Params = params
	statement := parser.NewCache(int64(config.Limits.StatementCache)).Statement([]byte(sql))
	facts := router.Explain(statement, circumstances, snapshot)
	if database.Sharded() {
		schema, err := readShards(ctx, config, database, name, snapshot)
		if err != nil {
			return err
		}
		facts = proxy.ShardFacts(facts, schema, statement, sql, params)
	}
	for _, f := range facts {
		line := fmt.Sprintf("%-12s %s", f.Item, f.Value)
		if f.Reason != "" {
			line += " (" + f.Reason + ")"
		}
		fmt.Fprintln(out, line)
	}
	return nil
}

// readShards reads the map of a sharded database; before the first proxy has made one, that which it will make.
func readShards(ctx context.Context, config proxy.Config, database proxy.Database, name string, snapshot *catalog.Snapshot) (*plan.Schema, error) {
	mapped, err := database.MapConfig(name, "pgtier explain")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, catalogLimit)
	defer cancel()
	control := serverCheck{config: config, database: name, pool: database.Pool, server: config.ControlOf(name)}
	conn, err := control.connect(ctx)
	if err != nil {
		return nil, fmt.Errorf("control %s: %s", control.server, connectProblem(err))
	}
	defer conn.Close(context.WithoutCancel(ctx))
	now, found, err := shardmap.Inspect(ctx, mapped, querier{conn.PgConn()}, nil)
	if err == nil {
		err = errors.Join(found...)
	}
	var at plan.Placement
	switch {
	case err == nil && now != nil:
		at = plan.Placement{Map: now.Map, Members: now.Members, Moving: now.Motion.Moving, Frozen: now.Motion.Frozen}
	case err == nil:
		at.Map, err = shard.Even(1, mapped.Buckets, mapped.Shards...)
	}
	if err != nil {
		return nil, fmt.Errorf("control %s: %w", control.server, err)
	}
	schema, _, err := plan.NewSchema(database.Planning(), snapshot, at)
	return schema, err
}

// catalogLimit bounds the reading of a catalog: a second suffices for ten thousand functions.
const catalogLimit = 30 * time.Second

// readCatalog reads it from the first server of the database that answers: replicas have the manager's.
func readCatalog(ctx context.Context, config proxy.Config, database proxy.Database, name string) (*catalog.Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, catalogLimit)
	defer cancel()
	shard := database.Topology(name).Shards[0]
	var problems []error
	for _, server := range append([]topology.Server{shard.Manager}, shard.Replicas...) {
		c := serverCheck{config: config, database: name, pool: database.Pool, server: asProxy(server, shard.Manager)}
		if c.server.User == "" {
			return nil, fmt.Errorf("%s: the URL names no role, so the catalog cannot be read; write postgres://user:password@host:port/database", c.subject())
		}
		snapshot, err := c.readCatalog(ctx)
		if err == nil {
			return snapshot, nil
		}
		problems = append(problems, fmt.Errorf("%s: %w", c.subject(), err))
	}
	return nil, errors.Join(problems...)
}

func (c serverCheck) readCatalog(ctx context.Context) (*catalog.Snapshot, error) {
	connecting, cancel := context.WithTimeout(ctx, c.timeout())
	defer cancel()
	conn, err := c.connect(connecting)
	if err != nil {
		return nil, errors.New(connectProblem(err))
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if database := c.config.Databases[c.database]; database.Sharded() {
		return catalog.Load(ctx, querier{conn.PgConn()}, catalog.Relations, catalog.Answers)
	}
	return catalog.Load(ctx, querier{conn.PgConn()}, catalog.Answers)
}

// querier asks over one connection, by the simple protocol, whose values are text.
type querier struct{ conn *pgconn.PgConn }

// Query implements catalog.Querier.
func (q querier) Query(ctx context.Context, sql string, visit func(fields [][]byte) error) error {
	results := q.conn.Exec(ctx, sql)
	var refused error
	for results.NextResult() {
		for rows := results.ResultReader(); rows.NextRow(); {
			if refused == nil {
				refused = visit(rows.Values())
			}
		}
	}
	return errors.Join(results.Close(), refused)
}
