package tags

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
	"pgtier/parser"
	"pgtier/router/catalog"
)

var servers = pgtest.Share(localpg.Options{})

func TestMain(m *testing.M) { os.Exit(servers.Run(m)) }

// testDatabase is a database of testdata/schema.sql with more DDL, and a connection to it.
func testDatabase(t testing.TB, more ...string) *pgconn.PgConn {
	t.Helper()
	server := servers.Cluster(t).Shards[0].Manager
	name := pgtest.Database(t, server)
	ddl, err := os.ReadFile("testdata/schema.sql")
	if err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, server, name, string(ddl)+strings.Join(more, "\n"))
	conn, err := pgconn.Connect(t.Context(), server.URL(name, "", ""))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

// testIndex is the Index of a connection's database.
func testIndex(t testing.TB, conn *pgconn.PgConn, extras ...catalog.Extra) *Index {
	t.Helper()
	s, err := catalog.Load(t.Context(), pgtest.NewQuerier(conn), extras...)
	if err != nil {
		t.Fatal(err)
	}
	return New(s)
}

func newCache() *parser.Cache { return parser.NewCache(1 << 24) }

// exec runs SQL without parameters.
func exec(t testing.TB, conn *pgconn.PgConn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql).ReadAll(); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

// lines are the statements of a file of testdata.
func lines(t testing.TB, file string) (list []string) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, line)
		}
	}
	return list
}
