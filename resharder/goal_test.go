package resharder

import (
	"strings"
	"testing"

	"pgtier/router/shard"
)

func TestGoalsMoveAsFewBucketsAsCanBe(t *testing.T) {
	all := []shard.Name{"s0", "s1", "s2", "s3"}
	for _, tc := range []struct {
		before string
		goal   Goal
		after  string
		moved  int
	}{
		{"0-63:s0", Goal{To: all[:3]}, "0-21:s0,22-42:s1,43-63:s2", 42},
		{"0-63:s0", Goal{To: all[:1]}, "0-63:s0", 0},
		{"0-31:s0,32-63:s1", Goal{To: all[:3]}, "0-21:s0,22-31:s2,32-52:s1,53-63:s2", 21},
		{"0-31:s0,32-63:s1", Goal{To: []shard.Name{"s2", "s1"}}, "0-31:s2,32-63:s1", 32},
		{"0-31:s0,32-63:s1", Goal{To: all[2:]}, "0-31:s2,32-63:s3", 64},
		{"0-31:s0,32-63:s1", Goal{Add: "s2"}, "0-20:s0,21-31:s2,32-53:s1,54-63:s2", 21},
		{"0-59:s0,60-63:s1", Goal{Add: "s2"}, "0-38:s0,39-59:s2,60-63:s1", 21},
		{"0-20:s0,21-41:s1,42-63:s2", Goal{Drain: "s1"}, "0-31:s0,32-63:s2", 21},
		{"0-31:s0,32-63:s1", Goal{Drain: "s1"}, "0-63:s0", 32},
		{"0-4:s0,5-9:s1,10-63:s2", Goal{Drain: "s1"}, "0-9:s0,10-63:s2", 5},
	} {
		m, err := shard.ParseMap(1, 64, tc.before)
		if err != nil {
			t.Fatal(err)
		}
		if err := tc.goal.check(all); err != nil {
			t.Errorf("%s: %v", tc.goal, err)
		}
		moves, err := tc.goal.moves(m, 4)
		if err != nil {
			t.Errorf("%s of %s: %v", tc.goal, tc.before, err)
			continue
		}
		owners, moved, groups := map[shard.Bucket]shard.Name{}, 0, map[int]bool{}
		for _, move := range moves {
			if len(move.Groups) > 4 {
				t.Errorf("%s of %s: a move has %d groups", tc.goal, tc.before, len(move.Groups))
			}
			for _, group := range move.Groups {
				if groups[group.Number] {
					t.Errorf("%s of %s: group %d is there twice", tc.goal, tc.before, group.Number)
				}
				groups[group.Number] = true
				for _, b := range bucketsOf(group.Spans) {
					if owner, _ := m.Owner(b); owner != move.Source {
						t.Errorf("%s of %s: bucket %d is not on %s", tc.goal, tc.before, b, move.Source)
					}
					owners[b] = move.Target
					moved++
				}
			}
		}
		after, err := mapOf(m, owners)
		if err != nil {
			t.Fatal(err)
		}
		if after.String() != tc.after || moved != tc.moved || len(owners) != moved || after.Version() != 2 {
			t.Errorf("%s of %s: got %s by moving %d, want %s by moving %d", tc.goal, tc.before, after, moved, tc.after, tc.moved)
		}
	}
}

func TestGoalsThatMakeNoSenseAreRefused(t *testing.T) {
	all := []shard.Name{"s0", "s1", "s2"}
	m, err := shard.ParseMap(1, 64, "0-31:s0,32-63:s1")
	if err != nil {
		t.Fatal(err)
	}
	one, err := shard.ParseMap(1, 64, "0-63:s0")
	if err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		goal Goal
		m    *shard.Map
		want string
	}{
		{Goal{}, m, "one of them"},
		{Goal{Add: "s2", Drain: "s1"}, m, "one of them"},
		{Goal{To: []shard.Name{"s0", "s9"}}, m, `"s9" is not in the configuration`},
		{Goal{To: []shard.Name{"s0", "s0"}}, m, "stands twice"},
		{Goal{Add: "s1"}, m, "has buckets already"},
		{Goal{Drain: "s2"}, m, "has no buckets"},
		{Goal{Drain: "s0"}, one, "the only one"},
	} {
		err := tc.goal.check(all)
		if err == nil {
			_, err = tc.goal.moves(tc.m, 4)
		}
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: got %v, want an error that says %q", tc.goal, err, tc.want)
		}
	}
}
