package pgtest_test

import (
	"os"
	"testing"

	"pgtier/cmd/localpg"
	"pgtier/cmd/localpg/pgtest"
)

var servers = pgtest.Share(localpg.Options{})

func TestMain(m *testing.M) { os.Exit(servers.Run(m)) }

func TestSharedClusterIsOneAndItsDatabasesAreApart(t *testing.T) {
	first, second := servers.Cluster(t).Shards[0].Manager, servers.Cluster(t).Shards[0].Manager
	if first != second {
		t.Fatal("two calls gave two clusters")
	}
	var name string
	t.Run("in a database of its own", func(t *testing.T) {
		name = pgtest.Database(t, first)
		pgtest.Exec(t, first, name, "CREATE TABLE t ()")
		if other := pgtest.Database(t, first); pgtest.Value(t, first, other, "SELECT to_regclass('t') IS NULL") != "t" {
			t.Error("a new database shows another's table")
		}
	})
	if got := pgtest.Value(t, first, "postgres", "SELECT count(*) FROM pg_database WHERE datname = '"+name+"'"); got != "0" {
		t.Errorf("database %s is left after its test", name)
	}
}
