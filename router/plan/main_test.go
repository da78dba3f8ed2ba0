package plan

import (
	"context"
	"os"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/parser"
	"pgtier/router/catalog"
	"pgtier/router/shard"
)

var servers = pgtest.Share(localpg.Options{})

func TestMain(m *testing.M) { os.Exit(servers.Run(m)) }

// testConfig spreads the tables of testdata/schema.sql over three shards.
func testConfig() *Config {
	return &Config{
		Shards:  []shard.Name{"s0", "s1", "s2"},
		Buckets: 1024,
		Tables: map[string][]string{
			"users": {"id"}, "orders": {"user_id"}, "items": {"user_id"}, "profiles": {"user_id"}, "events": {"tenant"}, "public.docs": {"id"},
			"products": {"sku"}, "airports": {"code"}, "days": {"day"}, "shipments": {"region", "customer"}, "posts": {"id"}, "pages": {"id"},
			"metrics": {"device"}, "visits": {"id"}, "notes": {"id"}, "badges": {"user_id"}, "tickets": {"id"}, "nowhere": {"id"},
			"exact": {"k"}, "rounded": {"k"}, "short": {"k"}, "long": {"k"},
		},
		Reference: []string{"countries", "currencies"},
	}
}

// testDatabase is a database of testdata/schema.sql.
func testDatabase(t testing.TB) *pgconn.PgConn {
	t.Helper()
	server := servers.Cluster(t).Shards[0].Manager
	name := pgtest.Database(t, server)
	ddl, err := os.ReadFile("testdata/schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, server, name, string(ddl))
	return dial(t, server, name)
}

func dial(t testing.TB, server *localpg.Server, database string) *pgconn.PgConn {
	t.Helper()
	conn, err := pgconn.Connect(t.Context(), server.URL(database, "", ""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func newCache() *parser.Cache { return parser.NewCache(1 << 24) }

// testSchema is the Schema of testdata/schema.sql.
func testSchema(t testing.TB, conn *pgconn.PgConn) (*Schema, []Finding) {
	t.Helper()
	snapshot, err := catalog.Load(t.Context(), pgtest.NewQuerier(conn), catalog.Relations)
	if err != nil {
		t.Fatal(err)
	}
	config := testConfig()
	m, err := shard.Even(1, config.Buckets, config.Shards...)
	if err != nil {
		t.Fatal(err)
	}
	s, findings, err := NewSchema(config, snapshot, Placement{Map: m})
	if err != nil {
		t.Fatal(err)
	}
	return s, findings
}
