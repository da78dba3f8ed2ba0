package plan

import (
	"fmt"
	"strings"
	"testing"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/router/catalog"
	"pgtier/router/shard"
)

// findings makes a Schema of a database of ddl.
func findings(t *testing.T, ddl string, config *Config) (*Schema, []string) {
	t.Helper()
	server := servers.Cluster(t).Shards[0].Manager
	name := pgtest.Database(t, server)
	pgtest.Exec(t, server, name, ddl)
	snapshot, err := catalog.Load(t.Context(), pgtest.NewQuerier(dial(t, server, name)), catalog.Relations)
	if err != nil {
		t.Fatal(err)
	}
	config.Shards, config.Buckets = []shard.Name{"s0", "s1"}, 16
	m, err := shard.Even(1, config.Buckets, config.Shards...)
	if err != nil {
		t.Fatal(err)
	}
	s, found, err := NewSchema(config, snapshot, Placement{Map: m})
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, f := range found {
		list = append(list, f.Table+": "+f.Message)
	}
	return s, list
}

func TestFindings(t *testing.T) {
	_, got := findings(t, `
		CREATE DOMAIN short AS text;
		CREATE COLLATION blind (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
		CREATE SCHEMA other;
		CREATE TABLE fine (id bigint PRIMARY KEY);
		CREATE TABLE child (id bigint, fine_id int REFERENCES fine, n int, PRIMARY KEY (fine_id, id), UNIQUE (fine_id, n));
		CREATE TABLE astray (id bigint PRIMARY KEY, fine_id bigint REFERENCES fine);
		CREATE TABLE lone (a int, b int UNIQUE);
		CREATE TABLE nokey (a int);
		CREATE TABLE domained (a short);
		CREATE TABLE blurred (a text COLLATE blind);
		CREATE TABLE floats (a float8);
		CREATE TABLE twice (a int);
		CREATE TABLE other.twice (a int);
		CREATE TABLE home (fine_id bigint REFERENCES fine);
		CREATE TABLE ref (code text PRIMARY KEY);
		CREATE TABLE refers (a int, code text REFERENCES ref);
		CREATE VIEW seen AS SELECT 1 AS a;
		CREATE TABLE parent (a int);
		CREATE TABLE part (a int) INHERITS (parent);`,
		&Config{Tables: map[string][]string{"fine": {"id"}, "child": {"fine_id"}, "astray": {"id"}, "lone": {"a"}, "nokey": {"x"}, "domained": {"a"}, "blurred": {"a"},
			"floats": {"a"}, "twice": {"a"}, "missing": {"a"}, "refers": {"a"}, "seen": {"a"}, "public.part": {"a"}}, Reference: []string{"ref"}})
	want := []string{
		`missing: there is no such table`,
		`other.twice: the configuration's "twice" may be several tables`,
		`public.astray: foreign key "astray_fine_id_fkey" looks for rows of "public.fine" that are on other shards`,
		`public.blurred: its key column "a" has a nondeterministic collation, under which texts of different bytes are equal`,
		`public.domained: its key column "a" is of a domain`,
		`public.floats: its key cannot be hashed: column "a": type 701 cannot be hashed; use an integer, text, uuid, bytea, bool, numeric, date or timestamp`,
		`public.home: foreign key "home_fine_id_fkey" looks for rows of "public.fine" that are on other shards`,
		`public.lone: unique "lone_b_key" lacks the key (a): rows of different shards may be equal in it`,
		`public.nokey: its key column "x" does not exist`,
		`public.parent: its part "public.part" has another place`,
		`public.seen: only tables can be sharded or reference tables`,
		`public.twice: the configuration's "twice" may be several tables`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

// TestForeignKeysThatChangeTheShardingKeyAreFound: a row whose key is set by a foreign key would stay where it is.
func TestForeignKeysThatChangeTheShardingKeyAreFound(t *testing.T) {
	s, got := findings(t, `
		CREATE TABLE owners (id bigint PRIMARY KEY);
		CREATE TABLE things (id bigint PRIMARY KEY);
		CREATE TABLE lost (id bigint DEFAULT 1 REFERENCES owners ON DELETE SET DEFAULT, n int);
		CREATE TABLE nobody (id bigint REFERENCES things ON DELETE SET NULL, n int, other bigint, UNIQUE (id, n));
		CREATE TABLE kept (id bigint, n int, FOREIGN KEY (id, n) REFERENCES nobody (id, n) ON DELETE SET NULL (n) ON UPDATE CASCADE);
		CREATE TABLE ref (code text PRIMARY KEY);
		CREATE TABLE marked (code text REFERENCES ref ON UPDATE CASCADE ON DELETE CASCADE);
		CREATE TABLE noted (id bigint, code text REFERENCES ref ON UPDATE CASCADE ON DELETE SET NULL);`,
		&Config{Tables: map[string][]string{"owners": {"id"}, "things": {"id"}, "lost": {"id"}, "nobody": {"id"}, "kept": {"id"}, "marked": {"code"}, "noted": {"id"}},
			Reference: []string{"ref"}})
	want := []string{
		`public.lost: foreign key "lost_id_fkey" sets key column id when a row of "public.owners" is deleted, of rows that stay where they are`,
		`public.marked: foreign key "marked_code_fkey" changes key column code with a row of "public.ref", of rows that stay where they are`,
		`public.nobody: foreign key "nobody_id_fkey" sets key column id when a row of "public.things" is deleted, of rows that stay where they are`,
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	f := &fleet{t: t, schema: s, cache: newCache()}
	for sql, want := range map[string]Kind{
		"DELETE FROM owners WHERE id = 1": Refused, "DELETE FROM things": Refused, "UPDATE ref SET code = 'x'": Refused,
		"DELETE FROM nobody WHERE id = 1": One, "INSERT INTO lost VALUES (1, 1)": One, "DELETE FROM lost": Spread,
	} {
		if p := f.plan(sql); p.Kind != want {
			t.Errorf("%s: got %s (%s), want %s", sql, p.Kind, p.Reason, want)
		}
	}
}

func TestSchemaRefusesConfigurationsThatCannotBe(t *testing.T) {
	m, err := shard.Even(1, 16, "s0", "s1")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		config Config
		want   string
	}{
		{Config{Buckets: 16}, "no shards"},
		{Config{Shards: []shard.Name{"s0", "s0"}, Buckets: 16}, `shard "s0" stands twice`},
		{Config{Shards: []shard.Name{"s0"}, Buckets: 16, Home: 1}, "home is shard 1 of 1"},
		{Config{Shards: []shard.Name{"s0"}, Buckets: 15}, "15 buckets: must be a power of two from 1 to 65536"},
		{Config{Shards: []shard.Name{"s0"}, Buckets: 16}, `bucket 8 belongs to shard "s1", which the configuration does not have`},
		{Config{Shards: []shard.Name{"s0", "s1"}, Buckets: 32}, "the map has 16 buckets, the configuration 32"},
		{Config{Shards: []shard.Name{"s0", "s1"}, Buckets: 16, Tables: map[string][]string{"a": {"b"}}, Reference: []string{"a"}}, `table "a" is sharded and a reference table`},
	} {
		if _, _, err := NewSchema(&c.config, nil, Placement{Map: m}); err == nil || err.Error() != c.want {
			t.Errorf("%+v: got %v, want %s", c.config, err, c.want)
		}
	}
}

func TestCopyFindsTheShardOfARow(t *testing.T) {
	schema, _ := testSchema(t, testDatabase(t))
	f := &fleet{t: t, schema: schema, cache: newCache()}
	for id := range 40 {
		want := f.plan(fmt.Sprintf("SELECT * FROM users WHERE id = %d", id)).Shard
		text := f.plan("COPY users FROM STDIN").Copy
		if got, ok := text.Shard([]CopyField{{Value: []byte(fmt.Sprint(id))}}); !ok || got != want {
			t.Errorf("text %d: got %d, %v, want %d", id, got, ok, want)
		}
		binary := f.plan("COPY users FROM STDIN (FORMAT binary)").Copy
		if got, ok := binary.Shard([]CopyField{{Value: []byte{0, 0, 0, 0, 0, 0, 0, byte(id)}}}); !ok || got != want {
			t.Errorf("binary %d: got %d, %v, want %d", id, got, ok, want)
		}
	}
	c := f.plan("COPY users FROM STDIN").Copy
	for _, field := range []CopyField{{Null: true}, {Value: []byte("x")}, {Value: []byte("")}, {Value: []byte("99999999999999999999")}} {
		if got, ok := c.Shard([]CopyField{field}); ok {
			t.Errorf("%q: got shard %d, want not sure", field.Value, got)
		}
	}
}

func TestPlansOfOneTemplateKeepTheirNumbers(t *testing.T) {
	schema, _ := testSchema(t, testDatabase(t))
	f := &fleet{t: t, schema: schema, cache: newCache()}
	for range 3 {
		for column := 1; column <= 3; column++ {
			p := f.plan(fmt.Sprintf("SELECT id, age, balance FROM users ORDER BY %d LIMIT %d", column, column*10))
			if p.Kind != Scatter || p.Merge.Sort[0].Column != column-1 || p.Merge.Limit != int64(column*10) {
				t.Errorf("column %d: got %s sorted by %+v, limit %d", column, p.Kind, p.Merge.Sort, p.Merge.Limit)
			}
		}
	}
}
