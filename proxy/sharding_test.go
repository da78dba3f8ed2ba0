package proxy

import (
	"strings"
	"testing"

	"pgtier/proxy/pool"
	"pgtier/proxy/shardmap"
	"pgtier/router/topology"
)

// QuerierOf asks a database as the proxy itself does.
func (p *Proxy) QuerierOf(name string) (shardmap.Querier, error) {
	d, err := p.find(name)
	if err != nil {
		return nil, err
	}
	return d.querier, nil
}

// shardedDatabase has two shards, a table users and a reference table.
func shardedDatabase() Database {
	database := DefaultDatabase(DefaultConfig().Pool)
	database.Shards = []Shard{{Manager: topology.Server{Host: "a", Port: 1, User: "u"}}, {Manager: topology.Server{Host: "b", Port: 1, User: "u"}}}
	database.Sharding.Tables = map[string]Table{"users": {Key: []string{"id"}}}
	database.Sharding.Reference = []string{"countries"}
	return database
}

func TestReloadKeepsRowsInPlace(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(*Database)
		want   string // "" is accepted
	}{
		"nothing":          {func(*Database) {}, ""},
		"more tables":      {func(d *Database) { d.Sharding.Tables["orders"] = Table{Key: []string{"user_id"}} }, ""},
		"more reference":   {func(d *Database) { d.Sharding.Reference = append(d.Sharding.Reference, "regions") }, ""},
		"one more shard":   {func(d *Database) { d.Shards = append(d.Shards, Shard{Manager: topology.Server{Host: "c", User: "u"}}) }, ""},
		"a schema named":   {func(d *Database) { d.Sharding.Tables = map[string]Table{"public.users": {Key: []string{"id"}}} }, ""},
		"the home spelled": {func(d *Database) { d.Sharding.Home = "s0" }, ""},
		"buckets":          {func(d *Database) { d.Sharding.Buckets = 512 }, "databases.app.sharding.buckets: changes from 1024 to 512: rows"},
		"function":         {func(d *Database) { d.Sharding.Function = "modulo" }, "databases.app.sharding.function: changes from hash to modulo"},
		"home":             {func(d *Database) { d.Sharding.Home = "s1" }, "databases.app.sharding.home: changes from s0 to s1"},
		"order of shards":  {func(d *Database) { d.Shards[0].Name, d.Shards[1].Name = "s1", "s0" }, "databases.app.sharding.home: changes from s0 to s1"},
		"key":              {func(d *Database) { d.Sharding.Tables["users"] = Table{Key: []string{"tenant"}} }, "databases.app.sharding.tables.users.key: changes users from sharded by id to sharded by tenant"},
		"reference to table": {func(d *Database) {
			d.Sharding.Reference, d.Sharding.Tables["x.countries"] = nil, Table{Key: []string{"id"}}
		}, "databases.app.sharding.tables.x.countries.key: changes x.countries from a reference table to sharded by id"},
		"table no more":       {func(d *Database) { d.Sharding.Tables = map[string]Table{"other": {Key: []string{"id"}}} }, "databases.app.sharding.tables.users.key: is gone: the rows of users"},
		"reference no more":   {func(d *Database) { d.Sharding.Reference = nil }, "databases.app.sharding.reference[0]: is gone"},
		"sharded no more":     {func(d *Database) { d.Sharding = DefaultSharding(); d.Shards = d.Shards[:1] }, "databases.app.sharding.reference[0]: is gone"},
		"session pooling":     {func(d *Database) { d.Pool.Mode = pool.ModeSession }, "databases.app.pool.mode: is session"},
		"invalid all the way": {func(d *Database) { d.Sharding.Buckets = 3 }, "databases.app.sharding.buckets: 3 is not a power of two"},
	} {
		old, changed := shardedDatabase(), shardedDatabase()
		tc.change(&changed)
		config := DefaultConfig()
		config.Databases = map[string]Database{"app": changed}
		err := config.Validate()
		if err == nil {
			err = staysPut(map[string]Database{"app": old}, config.Databases)
		}
		if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.HasPrefix(err.Error(), tc.want)) {
			t.Errorf("%s: got %v, want %s", name, err, tc.want)
		}
	}
	plain := DefaultDatabase(DefaultConfig().Pool)
	if err := staysPut(map[string]Database{"app": plain}, map[string]Database{"app": shardedDatabase()}); err != nil {
		t.Errorf("sharding declared: %v", err)
	}
}

func TestTableNames(t *testing.T) {
	for text, want := range map[string]TableName{"users": {"", "users"}, "shop.Users": {"shop", "Users"}, "a b.c": {"a b", "c"}} {
		if got, err := ParseTableName(text); err != nil || got != want || got.String() != text {
			t.Errorf("%q: got %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", ".", "a.", ".b", "a.b.c", `"a"`, "a\x00", strings.Repeat("x", 64)} {
		if got, err := ParseTableName(text); err == nil {
			t.Errorf("%q: accepted as %+v", text, got)
		}
	}
}
