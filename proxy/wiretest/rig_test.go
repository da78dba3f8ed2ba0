package wiretest

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/proxy"
	"pgtier/proxy/pool"
	"pgtier/router/topology"
)

var (
	servers = pgtest.Share(localpg.Options{Auth: "trust"})
	update  = flag.Bool("update", false, "write the answers of PostgreSQL into the conversations")
)

func TestMain(m *testing.M) {
	flag.Parse()
	os.Exit(servers.Run(m))
}

// database is the name of the database under test, on the server and on the proxy.
const database = "app"

// schema is what every conversation finds.
const schema = `DROP SCHEMA public CASCADE; CREATE SCHEMA public;
CREATE TABLE items (id int PRIMARY KEY, name text);
INSERT INTO items SELECT i, 'item ' || i FROM generate_series(1, 10) i;
CREATE TABLE sink (id int, name text);
CREATE SCHEMA IF NOT EXISTS other; CREATE TABLE IF NOT EXISTS other.items (id int, wrong text);`

// rig is a server with its database under test.
type rig struct {
	manager *localpg.Server
}

func newRig(t testing.TB) *rig {
	t.Helper()
	r := &rig{manager: servers.Cluster(t).Shards[0].Manager}
	r.prepare(t)
	return r
}

// prepare makes the database if need be.
func (r *rig) prepare(t testing.TB) {
	t.Helper()
	if pgtest.Value(t, r.manager, "postgres", "SELECT count(*) FROM pg_database WHERE datname = 'app'") == "0" {
		pgtest.Exec(t, r.manager, "postgres", "CREATE DATABASE app")
	}
	pgtest.Exec(t, r.manager, database, schema)
}

// reset brings the tables back. A lock that somebody still holds is a failure.
func (r *rig) reset(t testing.TB) {
	t.Helper()
	pgtest.Exec(t, r.manager, database, "SET lock_timeout = '5s'; SET client_min_messages = 'error';"+schema)
}

// config is a proxy over address with a pool of size, trusting everybody.
func (r *rig) config(address string, mode pool.Mode, size int) proxy.Config {
	cfg := proxy.DefaultConfig()
	cfg.Listen, cfg.HTTP = []string{"127.0.0.1:0"}, ""
	cfg.Auth.Method = "trust"
	cfg.Pool.Mode, cfg.Pool.Size = mode, size
	cfg.Pool.LoginRetry = 200 * time.Millisecond
	u, err := topology.ParseURL("postgres://postgres@" + address + "/" + database + "?sslmode=disable")
	if err != nil {
		panic(err)
	}
	db := proxy.DefaultDatabase(cfg.Pool)
	db.Shards = []proxy.Shard{{Manager: u}}
	cfg.Databases = map[string]proxy.Database{database: db}
	return cfg
}

// start runs a proxy until the test ends and returns its address.
func start(t testing.TB, cfg proxy.Config, options ...proxy.Option) (p *proxy.Proxy, address string) {
	t.Helper()
	p, err := proxy.New(cfg, zaptest.NewLogger(t, zaptest.Level(zap.ErrorLevel)), options...)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(context.Background()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p, p.Addrs()[0].String()
}

// connect logs a client in and fails the test if that does not work.
func connect(t testing.TB, address string, params ...string) *peer {
	t.Helper()
	p, err := dialPeer(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.nc.Close() })
	frames, err := p.login(append([]string{"user=postgres", "database=" + database}, params...)...)
	if err != nil || frames[len(frames)-1][0] != 'Z' {
		t.Fatalf("log in: %v\n%s", err, lines(frames))
	}
	return p
}

func lines(frames [][]byte) string {
	var out strings.Builder
	for _, f := range frames {
		fmt.Fprintln(&out, render(f))
	}
	return out.String()
}

// direct asks the server itself.
func (r *rig) direct(sql string) (string, error) {
	ctx, stop := context.WithTimeout(context.Background(), stepLimit)
	defer stop()
	return r.manager.Value(ctx, database, sql)
}

// eventually polls until condition holds.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(stepLimit); !condition(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %s: %s", stepLimit, what)
		}
		time.Sleep(5 * time.Millisecond) // between two looks
	}
}

// atRest waits until no connection to the database is in a transaction or working.
func (r *rig) atRest(t testing.TB) {
	t.Helper()
	eventually(t, "no server connection is left in a transaction", func() bool {
		got, err := r.direct("SELECT count(*) FROM pg_stat_activity WHERE datname = 'app' AND pid <> pg_backend_pid() AND state <> 'idle'")
		return err == nil && got == "0"
	})
}
