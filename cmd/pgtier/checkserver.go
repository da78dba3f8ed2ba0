package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/proxy"
	"pgtier/proxy/fleet"
	"pgtier/proxy/pool"
	"pgtier/router/topology"
)

// The versions that the protocol and the catalog queries are written for.
const (
	oldestVersion = 100000 // PostgreSQL 10: SCRAM and today's version numbers
	testedVersion = 150000
)

// judgeVersion says what comes of a server's version, its number and its text. replicas: the database has some.
func judgeVersion(number int, text string, replicas bool) (verdict, string) {
	switch {
	case number < oldestVersion:
		return broken, fmt.Sprintf("PostgreSQL %s is too old; version %d or newer is needed", text, oldestVersion/10000)
	case replicas && number < fleet.OldestVersion:
		return broken, fmt.Sprintf("PostgreSQL %s is too old for a database with replicas; they need version %d or newer on every server", text, fleet.OldestVersion/10000)
	case number < testedVersion:
		return doubtful, fmt.Sprintf("PostgreSQL %s is older than the versions tested (%d)", text, testedVersion/10000)
	}
	return fine, "PostgreSQL " + text
}

// serverCheck is one manager and what the configuration wants of it.
type serverCheck struct {
	config   proxy.Config
	database string
	pool     pool.Config
	server   topology.Server
	replicas bool // the database has some
	follows  bool // its cache is told of writes past the proxy
	// need collects the connections wanted of each server address by the databases checked so far.
	need map[string]int
}

// subject names the server in findings.
func (c serverCheck) subject() string {
	return fmt.Sprintf("databases.%s %s %s", c.database, c.server.Name, c.server)
}

// checkServer looks at a manager and returns where it stands, if that is known and it takes writes.
func checkServer(ctx context.Context, r *report, c serverCheck) (m standing) {
	if c.server.User == "" {
		r.add(doubtful, c.subject(), "the URL names no role, so the servers cannot be looked at, warmed up or asked for users")
		return m
	}
	// Twice the time to connect is enough for a handful of one-row questions too.
	ctx, cancel := context.WithTimeout(ctx, 2*c.timeout())
	defer cancel()
	conn, err := c.connect(ctx)
	if err != nil {
		r.add(broken, c.subject(), "%s", connectProblem(err))
		return m
	}
	defer conn.Close(context.WithoutCancel(ctx))
	r.add(fine, c.subject(), "reached, and the login of %s works", c.server.User)
	if err := c.look(ctx, r, conn); err != nil {
		r.add(broken, c.subject(), "ask for settings: %v", err)
		return m
	}
	c.checkQuery(ctx, r, conn)
	if m, err = stand(ctx, conn); err != nil || m.inRecovery {
		return standing{}
	}
	return m
}

// timeout bounds connecting and logging in.
func (c serverCheck) timeout() time.Duration {
	if c.server.ConnectTimeout > 0 {
		return c.server.ConnectTimeout
	}
	return c.pool.ConnectTimeout
}

// asProxy is server with the role that the proxy logs in to it with, which is that of the manager's URL: roles and
// passwords are the same on all servers that follow one manager.
func asProxy(server, manager topology.Server) topology.Server {
	server.User, server.Password = manager.User, manager.Password
	return server
}

// connect opens a connection as the proxy would.
func (c serverCheck) connect(ctx context.Context) (*pgx.Conn, error) {
	config, err := connection(c.server, c.config)
	if err != nil {
		return nil, err
	}
	config.RuntimeParams["application_name"] = "pgtier check"
	return pgx.ConnectConfig(ctx, config)
}

// connection is how the proxy would connect to a server.
func connection(server topology.Server, conf proxy.Config) (*pgx.ConnConfig, error) {
	parameters := sslParameters(server, conf)
	parameters["host"], parameters["port"] = server.Host, fmt.Sprint(server.Port)
	parameters["user"], parameters["password"] = server.User, server.Password.Reveal()
	parameters["dbname"] = server.Database
	if parameters["dbname"] == "" {
		parameters["dbname"] = "postgres" // the fallback database has no name of its own
	}
	// The proxy reads no password file, so neither does the check.
	parameters["passfile"] = "/dev/null"
	if server.TLS.ChannelBinding != "" {
		parameters["channel_binding"] = server.TLS.ChannelBinding
	}
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(parameters)) {
		if value := parameters[key]; value != "" {
			fmt.Fprintf(&b, "%s='%s' ", key, strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(value))
		}
	}
	config, err := pgx.ParseConfig(b.String())
	if err != nil {
		// The parser's error quotes its input, password and all.
		return nil, errors.New("the URL's TLS files cannot be read or do not fit together; look at sslrootcert, sslcert and sslkey")
	}
	return config, nil
}

// connectProblem says what kept a connection from opening, and what to do.
func connectProblem(err error) string {
	var refusal *pgconn.PgError
	if !errors.As(err, &refusal) {
		return fmt.Sprintf("not reached: %v; is it running, and do host and port fit?", err)
	}
	switch {
	case strings.HasPrefix(refusal.Code, "28"):
		return fmt.Sprintf("login refused: %s (%s); look at the URL's role and password and at the server's pg_hba.conf", refusal.Message, refusal.Code)
	case refusal.Code == "3D000":
		return fmt.Sprintf("%s (%s); create it or correct the URL", refusal.Message, refusal.Code)
	}
	return fmt.Sprintf("refused: %s (%s)", refusal.Message, refusal.Code)
}

// askConnections are the columns of what a server allows and keeps for superusers.
const askConnections = `current_setting('max_connections')::int,
	current_setting('superuser_reserved_connections')::int + coalesce(current_setting('reserved_connections', true), '0')::int`

// look asks for the server's role and settings.
func (c serverCheck) look(ctx context.Context, r *report, conn *pgx.Conn) error {
	var version, maxConnections, reserved, prepared int
	var versionText, walLevel string
	var inRecovery, replicates bool
	err := conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, current_setting('server_version'), pg_is_in_recovery(),
		current_setting('wal_level'), (SELECT rolsuper OR rolreplication FROM pg_roles WHERE rolname = current_user), current_setting('max_prepared_transactions')::int, `+askConnections).
		Scan(&version, &versionText, &inRecovery, &walLevel, &replicates, &prepared, &maxConnections, &reserved)
	if err != nil {
		return err
	}
	judged, words := judgeVersion(version, versionText, c.replicas)
	r.add(judged, c.subject(), "%s", words)
	if inRecovery {
		r.add(broken, c.subject(), "is a replica (in recovery) and takes no writes; name its manager")
	} else {
		r.add(fine, c.subject(), "takes writes")
	}
	r.add(fine, c.subject(), "wal_level %s, max_prepared_transactions %d", walLevel, prepared)
	switch {
	case !c.follows:
	case walLevel != "logical":
		r.add(broken, c.subject(), "cache.max_delay needs wal_level = logical, so nothing would be served from the cache; set it and restart the server, or set max_delay to 0")
	case !replicates:
		r.add(broken, c.subject(), "cache.max_delay needs a role that may replicate, so nothing would be served from the cache; ALTER ROLE %s REPLICATION, or set max_delay to 0", c.server.User)
	}
	c.checkConnections(r, maxConnections-reserved, maxConnections, reserved)
	return nil
}

// checkConnections compares what the pools may open with what the server has to give.
func (c serverCheck) checkConnections(r *report, available, all, reserved int) {
	one := c.pool.Size + c.pool.Reserve
	if most := c.pool.MaxDatabaseConnections; most > 0 {
		one = min(one, most)
	}
	_, address := c.server.Address()
	c.need[address] += one
	sum := c.need[address]
	switch {
	case one > available:
		r.add(broken, c.subject(), "a pool may open %d connections, the server gives %d (max_connections %d less %d reserved); lower pool.size or raise max_connections", one, available, all, reserved)
	case sum > available:
		r.add(doubtful, c.subject(), "the databases on this server may open %d connections with one role each, the server gives %d; set pool.max_database_connections or raise max_connections", sum, available)
	default:
		r.add(fine, c.subject(), "pools of one role may open %d of the server's %d connections; every further role that logs in has a pool of its own", sum, available)
	}
}

// checkQuery tries auth.query with the role of the URL.
func (c serverCheck) checkQuery(ctx context.Context, r *report, conn *pgx.Conn) {
	query := c.config.Auth.Query
	if query == "" {
		return
	}
	if user := c.config.Auth.QueryUser; user != "" && user != c.server.User {
		r.add(doubtful, "auth.query", "is run as %s, whom the check cannot log in as; it was not tried", user)
		return
	}
	rows, err := conn.Query(ctx, query, c.server.User)
	if err == nil {
		columns := len(rows.FieldDescriptions())
		rows.Close()
		if err = rows.Err(); err == nil && columns != 2 {
			r.add(broken, "auth.query", "gives %d columns on %s; it must give the name and the secret", columns, c.server)
			return
		}
	}
	if err != nil {
		r.add(broken, "auth.query", "fails on %s: %v; let %s run it, for example through a SECURITY DEFINER function", c.server, err, c.server.User)
		return
	}
	r.add(fine, "auth.query", "works on %s", c.server)
}
