package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/zap"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/pool"
	"pgtier/router/topology"
)

// servers is the cluster of this package's tests. Beside the superuser, who logs in by SCRAM with or without TLS, it has
// a role for each way of logging in; rolesSQL makes them.
var servers = pgtest.Share(localpg.Options{TLS: true, HBA: []string{
	"host all hashed 127.0.0.1/32 md5",
	"host all clear 127.0.0.1/32 password",
	"host all trusty 127.0.0.1/32 trust",
	"hostssl all certified 127.0.0.1/32 cert",
	"hostnossl all secured 127.0.0.1/32 reject",
	"hostssl all unsecured 127.0.0.1/32 reject",
}})

const rolesSQL = `SET password_encryption = 'scram-sha-256';
CREATE ROLE app LOGIN PASSWORD 'app-secret'; CREATE ROLE other LOGIN PASSWORD 'other-secret';
CREATE ROLE clear LOGIN PASSWORD 'clear-secret'; CREATE ROLE trusty LOGIN; CREATE ROLE certified LOGIN;
CREATE ROLE secured LOGIN PASSWORD 'secured-secret'; CREATE ROLE unsecured LOGIN PASSWORD 'unsecured-secret';
SET password_encryption = 'md5'; CREATE ROLE hashed LOGIN PASSWORD 'hashed-secret';`

func TestMain(m *testing.M) { os.Exit(servers.Run(m, shards)) }

// limit bounds every wait of a test; the machine may be busy.
const limit = time.Minute

// rig is a database of the shared cluster that one test has for itself.
type rig struct {
	cluster  *localpg.Cluster
	manager  *localpg.Server
	database string
}

var makeRoles sync.Once

func newRig(t testing.TB) *rig {
	t.Helper()
	cluster := servers.Cluster(t)
	r := &rig{cluster: cluster, manager: cluster.Shards[0].Manager}
	makeRoles.Do(func() { pgtest.Exec(t, r.manager, "postgres", rolesSQL) })
	r.database = pgtest.Database(t, r.manager)
	return r
}

// url is the manager's address as a configuration has it.
func (r *rig) url(t testing.TB, user, password, options string) topology.Server {
	t.Helper()
	login := url.User(user)
	if password != "" {
		login = url.UserPassword(user, password)
	}
	u := url.URL{Scheme: "postgres", User: login, Host: r.manager.Address(), Path: "/" + r.database, RawQuery: options}
	if user == "" {
		u.User = nil
	}
	server, err := topology.ParseURL(u.String())
	if err != nil {
		t.Fatal(err)
	}
	return server
}

// config is a proxy that trusts its clients and reaches the server as the superuser. edit changes it; pool limits that
// edit sets in cfg.Pool hold for the database.
func (r *rig) config(t testing.TB, edit func(*proxy.Config)) proxy.Config {
	t.Helper()
	cfg := proxy.DefaultConfig()
	cfg.Listen, cfg.HTTP = []string{"127.0.0.1:0"}, ""
	cfg.Auth.Method = "trust"
	cfg.Pool.LoginRetry = 200 * time.Millisecond
	database := proxy.DefaultDatabase(cfg.Pool)
	database.Shards = []proxy.Shard{{Manager: r.url(t, "postgres", r.cluster.Password, "sslmode=disable")}}
	cfg.Databases = map[string]proxy.Database{r.database: database}
	if edit != nil {
		edit(&cfg)
	}
	for name, d := range cfg.Databases {
		if d.Pool == database.Pool {
			d.Pool = cfg.Pool
			cfg.Databases[name] = d
		}
	}
	return cfg
}

// setURL replaces the manager of r's database.
func (r *rig) setURL(cfg *proxy.Config, server topology.Server) {
	d := cfg.Databases[r.database]
	d.Shards = []proxy.Shard{{Manager: server}}
	cfg.Databases[r.database] = d
}

// standsBehind has the proxy reach r's database by another port of this machine, a forwarder's.
func (r *rig) standsBehind(t testing.TB, cfg *proxy.Config, port uint16) {
	t.Helper()
	server := r.url(t, "postgres", r.cluster.Password, "sslmode=disable")
	server.Port = port
	r.setURL(cfg, server)
}

// running is a proxy under test.
type running struct {
	*proxy.Proxy
	address  string
	database string
}

// start runs a proxy until the test ends.
func (r *rig) start(t testing.TB, cfg proxy.Config, options ...proxy.Option) *running {
	t.Helper()
	return r.startLogged(t, cfg, zap.NewNop(), options...)
}

func (r *rig) startLogged(t testing.TB, cfg proxy.Config, log *zap.Logger, options ...proxy.Option) *running {
	t.Helper()
	p, err := proxy.New(cfg, log, options...)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return &running{Proxy: p, address: p.Addrs()[0].String(), database: r.database}
}

// serve is config and start in one.
func (r *rig) serve(t testing.TB, edit func(*proxy.Config)) *running {
	t.Helper()
	return r.start(t, r.config(t, edit))
}

// pools returns an edit of the pool's section alone.
func pools(edit func(*pool.Config)) func(*proxy.Config) {
	return func(cfg *proxy.Config) { edit(&cfg.Pool) }
}

// dsn is a client's connection string: user, password, and further libpq parameters as "name=value".
func (p *running) dsn(user, password string, params ...string) string {
	host, port, _ := strings.Cut(p.address, ":")
	words := []string{"host=" + host, "port=" + port, "dbname=" + p.database, "user=" + user}
	if password != "" {
		words = append(words, "password="+password)
	}
	mode := "sslmode=disable"
	for _, param := range params {
		if strings.HasPrefix(param, "sslmode=") {
			mode = ""
		}
	}
	return strings.Join(append(append(words, mode), params...), " ")
}

// dial logs in with pgx; an error is the test's business.
func (p *running) dial(t testing.TB, dsn string) (*pgx.Conn, error) {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), limit)
	defer stop()
	c, err := pgx.Connect(ctx, dsn)
	if err == nil {
		t.Cleanup(func() { _ = c.Close(context.Background()) })
	}
	return c, err
}

// client logs in as the superuser.
func (p *running) client(t testing.TB, params ...string) *pgx.Conn {
	t.Helper()
	c, err := p.dial(t, p.dsn("postgres", "", params...))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// readsCatalog returns once the proxy has read the catalog as it is now, and goes by it. Sessions wait for that too, but not for long.
func (p *running) readsCatalog(t testing.TB) {
	t.Helper()
	c := p.client(t) // the first has it read
	if err := p.SharedOf(p.database).Hazards.Wait(bounded(t)); err != nil {
		t.Fatal(err)
	}
	mustValue(t, c, "DO 'BEGIN END'") // what is judged by another catalog gives answers up, once
}

// bounded is a context for one step of a test.
func bounded(t testing.TB) context.Context {
	ctx, stop := context.WithTimeout(context.Background(), limit)
	t.Cleanup(stop)
	return ctx
}

// value runs one statement by the simple protocol and returns its first value as text.
func value(c *pgx.Conn, sql string) (string, error) {
	ctx, stop := context.WithTimeout(context.Background(), limit)
	defer stop()
	results, err := c.PgConn().Exec(ctx, sql).ReadAll()
	if err != nil {
		return "", err
	}
	for _, result := range results {
		if len(result.Rows) > 0 {
			return string(result.Rows[0][0]), nil
		}
	}
	return "", nil
}

// mustValue is value where an error fails the test.
func mustValue(t testing.TB, c *pgx.Conn, sql string) string {
	t.Helper()
	v, err := value(c, sql)
	if err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}

// wantValue fails the test unless sql's first value is want.
func wantValue(t testing.TB, c *pgx.Conn, sql, want string) {
	t.Helper()
	if got := mustValue(t, c, sql); got != want {
		t.Errorf("%s: got %q, want %q", sql, got, want)
	}
}

// wantError fails the test unless err comes from a server or the proxy with the SQLSTATE and words in its message.
func wantError(t testing.TB, err error, state, words string) {
	t.Helper()
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code != state || !strings.Contains(pg.Message, words) {
		t.Errorf("got error %v, want SQLSTATE %s and %q", err, state, words)
	}
}

// connections counts the server's connections of this rig's database that fit the condition, but for the one over which
// the proxy reads the catalog now and then.
func (r *rig) connections(t testing.TB, condition string) string {
	t.Helper()
	return pgtest.Value(t, r.manager, "postgres",
		fmt.Sprintf("SELECT count(*) FROM pg_stat_activity WHERE datname = '%s' AND query !~ 'pg_catalog\\.pg_' AND (%s)", r.database, condition))
}

// eventually polls until condition holds.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", limit, what)
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
}
