package plan

import (
	"slices"
	"testing"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/router/catalog"
	"pgtier/router/shard"
)

// placed is the fleet of testdata/schema.sql with its rows at a placement.
func placed(t *testing.T, at Placement, shards ...shard.Name) *fleet {
	t.Helper()
	snapshot, err := catalog.Load(t.Context(), pgtest.NewQuerier(testDatabase(t)), catalog.Relations)
	if err != nil {
		t.Fatal(err)
	}
	config := testConfig()
	config.Shards = shards
	s, _, err := NewSchema(config, snapshot, at)
	if err != nil {
		t.Fatal(err)
	}
	return &fleet{t: t, schema: s, cache: newCache()}
}

func evenMap(t *testing.T, shards ...shard.Name) *shard.Map {
	t.Helper()
	m, err := shard.Even(1, 1024, shards...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestPlansAskMembersAndOwnersAlone(t *testing.T) {
	f := placed(t, Placement{Map: evenMap(t, "s0", "s3"), Members: []shard.Name{"s0", "s1", "s3"}}, "s0", "s1", "s2", "s3")
	owners, members := []int{0, 3}, []int{0, 1, 3}
	for _, c := range []struct {
		sql    string
		kind   Kind
		shards []int
	}{
		{"SELECT * FROM users", Scatter, owners},
		{"UPDATE users SET age = 1", Spread, owners},
		{"COPY users TO STDOUT", CopyOut, owners},
		{"COPY users FROM STDIN", CopyIn, owners},
		{"COPY countries FROM STDIN", CopyIn, members},
		{"INSERT INTO countries VALUES ('xx', 'X')", Everywhere, members},
		{"CREATE TABLE more (a int)", Everywhere, members},
		{"TRUNCATE users", Everywhere, members},
		{"VACUUM", Everywhere, members},
		{"SELECT 1", Any, nil},
		{"SELECT * FROM countries", Any, nil},
		{"/* pgtier: shard=s1 */ SELECT * FROM countries", One, nil},
		{"/* pgtier: shard=s2 */ SELECT * FROM countries", Refused, nil},
		{"/* pgtier: shard=s2 */ SELECT * FROM users", Refused, nil},
		{"/* pgtier: shard=s9 */ SELECT * FROM users", Refused, nil},
	} {
		p := f.plan(c.sql)
		if p.Kind != c.kind || !slices.Equal(p.Shards, c.shards) {
			t.Errorf("%s: got %s on %v, want %s on %v", c.sql, p.Kind, p.Shards, c.kind, c.shards)
		}
		if p.Kind == Refused && p.Refusal.Code != "22023" {
			t.Errorf("%s: got %s", c.sql, p.Refusal.Code)
		}
		if p.Shard == 2 {
			t.Errorf("%s: shard %d is no member", c.sql, p.Shard)
		}
	}
}

func TestPlacementsThatCannotBe(t *testing.T) {
	config := &Config{Shards: []shard.Name{"s0", "s1"}, Buckets: 1024}
	for _, c := range []struct {
		at   Placement
		want string
	}{
		{Placement{Map: evenMap(t, "s0"), Members: []shard.Name{"s0", "s2"}}, `shard "s2" is a member, which the configuration does not have`},
		{Placement{Map: evenMap(t, "s1"), Members: []shard.Name{"s1"}}, `home is shard "s0", which is no member`},
		{Placement{Map: evenMap(t, "s0", "s1"), Members: []shard.Name{"s0"}}, `bucket 512 belongs to shard "s1", which is no member`},
		{Placement{Map: evenMap(t, "s0"), Moving: []shard.Span{{First: 1000, Last: 1024}}}, "buckets 1000-1024 move: there are 1024"},
		{Placement{Map: evenMap(t, "s0"), Moving: []shard.Span{{First: 2, Last: 1}}}, "buckets 2-1 move: there are 1024"},
	} {
		if _, _, err := NewSchema(config, nil, c.at); err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}

func TestTouches(t *testing.T) {
	all := []shard.Span{{First: 0, Last: 1023}}
	m := evenMap(t, "s0", "s1", "s2")
	still := placed(t, Placement{Map: m}, "s0", "s1", "s2")
	moving := placed(t, Placement{Map: m, Moving: all}, "s0", "s1", "s2")
	key := still.schema.byName("public.users").key
	bucket := func(id string) shard.Bucket {
		b, ok := key.Bucket(shard.Literal(shard.Unknown, []byte(id)))
		if !ok {
			t.Fatal(id)
		}
		return b
	}
	for _, c := range []struct {
		sql        string
		reach      Reach
		ids        []string
		references bool
	}{
		{"SELECT * FROM users WHERE id = 7", OneBucket, []string{"7"}, false},
		{"UPDATE users SET age = 1 WHERE id = 7", OneBucket, []string{"7"}, false},
		{"INSERT INTO orders (user_id, id) VALUES (7, 1)", OneBucket, []string{"7"}, false},
		{"INSERT INTO orders (user_id, id) VALUES (7, 1), (8, 1)", SomeBuckets, []string{"7", "8"}, false},
		{"SELECT * FROM users WHERE id IN (7, 8, 9)", SomeBuckets, []string{"7", "8", "9"}, false},
		{"SELECT * FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = 7", OneBucket, []string{"7"}, false},
		{"SELECT * FROM users WHERE id = 7 AND id = 8", SomeBuckets, []string{"7", "8"}, false},
		{"SELECT * FROM users", AnyBucket, nil, false},
		{"DELETE FROM users WHERE age = 7", AnyBucket, nil, false},
		{"COPY users FROM STDIN", AnyBucket, nil, false},
		{"COPY users TO STDOUT", AnyBucket, nil, false},
		{"TRUNCATE users", AnyBucket, nil, false},
		{"/* pgtier: shard=s1 */ SELECT * FROM users", AnyBucket, nil, false},
		{"/* pgtier: shard=s1 */ SELECT pg_advisory_xact_lock(1)", NoBucket, nil, false},
		{"SELECT pg_advisory_xact_lock(1)", NoBucket, nil, false},
		{"SELECT 1", NoBucket, nil, false},
		{"SELECT * FROM countries", NoBucket, nil, false},
		{"/* pgtier: shard=s1 */ SELECT * FROM countries", NoBucket, nil, false},
		{"BEGIN", NoBucket, nil, false},
		{"INSERT INTO countries VALUES ('xx', 'X')", NoBucket, nil, true},
		{"COPY countries FROM STDIN", NoBucket, nil, true},
		{"ALTER TABLE countries ADD COLUMN more int", AnyBucket, nil, true},
	} {
		want := Touches{Reach: c.reach}
		for _, id := range c.ids {
			want.Buckets = append(want.Buckets, bucket(id))
		}
		p := moving.plan(c.sql)
		for b := range shard.Bucket(1024) {
			may := c.reach == AnyBucket || slices.Contains(want.Buckets, b)
			if got := p.Touches.In([]shard.Span{{First: b, Last: b}}); got != may {
				t.Errorf("%s (%s): bucket %d: got %v, want %v", c.sql, p.Kind, b, got, may)
				break
			}
		}
		if p.Touches.Reach != c.reach || p.References != c.references || p.Touches.In(nil) {
			t.Errorf("%s: got %+v, references %v, want reach %d", c.sql, p.Touches, p.References, c.reach)
		}
		if c.reach == SomeBuckets {
			c.reach = AnyBucket
		}
		if p := still.plan(c.sql); p.Touches.Reach != c.reach || p.Touches.Buckets != nil {
			t.Errorf("%s while nothing moves: got %+v, want reach %d", c.sql, p.Touches, c.reach)
		}
	}
}
