package shard

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func even(t testing.TB, version Version, buckets int, shards ...Name) *Map {
	t.Helper()
	m, err := Even(version, buckets, shards...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func TestEvenSpreadsRanges(t *testing.T) {
	for _, tc := range []struct {
		buckets int
		shards  []Name
		want    string
	}{
		{1024, []Name{"s0", "s1", "s2"}, "0-340:s0,341-681:s1,682-1023:s2"},
		{1024, []Name{"only"}, "0-1023:only"},
		{1, []Name{"s0"}, "0:s0"},
		{4, []Name{"d", "c", "b", "a"}, "0:d,1:c,2:b,3:a"},
		{8, []Name{"a", "b", "c", "d", "e"}, "0:a,1-2:b,3:c,4-5:d,6-7:e"},
		{MaxBuckets, []Name{"a", "b"}, "0-32767:a,32768-65535:b"},
	} {
		m := even(t, 3, tc.buckets, tc.shards...)
		if got := m.String(); got != tc.want || m.Version() != 3 || m.Len() != tc.buckets || !slices.Equal(m.Shards(), tc.shards) {
			t.Errorf("got %s, version %d, %d buckets of %v, want %s", got, m.Version(), m.Len(), m.Shards(), tc.want)
		}
		sum := 0
		for _, name := range tc.shards {
			for _, b := range m.Buckets(name) {
				if owner, ok := m.Owner(b); owner != name || !ok {
					t.Errorf("bucket %d of %s: owner is %q, %v", b, name, owner, ok)
				}
				sum++
			}
		}
		if sum != tc.buckets {
			t.Errorf("%s: the shards own %d buckets", m, sum)
		}
	}
}

func TestMapsThatCannotBeAreRefused(t *testing.T) {
	long := Name(strings.Repeat("x", maxName+1))
	for name, err := range map[string]error{
		"no shards":         second(Even(1, 16)),
		"3 buckets":         second(Even(1, 3, "a")),
		"too many shards":   second(Even(1, 2, "a", "b", "c")),
		"twice":             second(Even(1, 16, "a", "b", "a")),
		"version 0":         second(Even(0, 16, "a")),
		"empty name":        second(Even(1, 16, "")),
		"a comma":           second(Even(1, 16, "a,b")),
		"a colon":           second(Even(1, 16, "a:b")),
		"a blank":           second(Even(1, 16, " a")),
		"ü":                 second(Even(1, 16, "ü")),
		"long":              second(Even(1, 16, long)),
		"older":             second(even(t, 5, 16, "a").Moved(5, "b", 1)),
		"bucket 16 of 16":   second(even(t, 5, 16, "a").Moved(6, "b", 16)),
		"move to no shard":  second(even(t, 5, 16, "a").Moved(6, "", 1)),
		"diff of two sizes": second(Diff(even(t, 1, 16, "a"), even(t, 2, 32, "a"))),
	} {
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func second[T any](_ T, err error) error { return err }

func TestBucketsBeyondTheMapHaveNoOwner(t *testing.T) {
	m := even(t, 1, 16, "a", "b")
	if owner, ok := m.Owner(16); ok {
		t.Errorf("bucket 16 of 16 is owned by %q", owner)
	}
	if owned := m.Buckets("c"); owned != nil {
		t.Errorf("a shard that is not in the map owns %v", owned)
	}
}

func TestMapTextIsStrict(t *testing.T) {
	for _, text := range []string{"0-15:a", "0:a,1-15:b", "0-3:a,4-7:b,8-11:a,12-15:s-1.x_Y"} {
		m, err := ParseMap(7, 16, text)
		if err != nil || m.String() != text || m.Version() != 7 {
			t.Errorf("%s: got %v, %v", text, m, err)
		}
	}
	for _, text := range []string{"", "0-15", "0-15:", ":a", "0-15:a,", ",0-15:a", "0-14:a", "0-16:a", "0-31:a", "1-15:a", "0-7:a,9-15:b", "0-8:a,8-15:b", "0-7:a,8-15:a",
		"0-15:a,16:b", "0-0:a,1-15:b", "00-15:a", "0-015:a", "+0-15:a", "0-+15:a", "-0-15:a", "0--15:a", " 0-15:a", "0 -15:a", "0-15: a", "0-15:a ", "0-15:a\n", "0-15:a:b", "0-15-16:a",
		"15-0:a", "0-99999999999999999999:a", "0-15;a", "0-15:a;b", "0-7:a,,8-15:b", "0-15:" + strings.Repeat("x", maxName+1)} {
		if m, err := ParseMap(7, 16, text); err == nil {
			t.Errorf("ParseMap(%q) = %v, want an error", text, m)
		}
	}
	if m, err := ParseMap(0, 16, "0-15:a"); err == nil {
		t.Errorf("version 0: got %v", m)
	}
	if m, err := ParseMap(1, 17, "0-16:a"); err == nil {
		t.Errorf("17 buckets: got %v", m)
	}
}

func TestMovedLeavesTheMapAsItWas(t *testing.T) {
	before := even(t, 1, 16, "a", "b")
	after, err := before.Moved(2, "c", 3, 4, 5, 8, 15)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := after.String(), "0-2:a,3-5:c,6-7:a,8:c,9-14:b,15:c"; got != want || after.Version() != 2 {
		t.Errorf("got %s of version %d, want %s", got, after.Version(), want)
	}
	if got := before.String(); got != "0-7:a,8-15:b" {
		t.Errorf("the map before is %s", got)
	}
	shards := after.Shards()
	shards[0] = "changed"
	if want := []Name{"a", "c", "b"}; !slices.Equal(after.Shards(), want) {
		t.Errorf("got %v, want %v", after.Shards(), want)
	}
}

func TestShardsWithoutBucketsAreNotInTheMap(t *testing.T) {
	m, err := even(t, 1, 4, "a", "b").Moved(2, "a", 2, 3)
	if err != nil || m.String() != "0-3:a" || !slices.Equal(m.Shards(), []Name{"a"}) {
		t.Errorf("got %v of %v, %v", m, m.Shards(), err)
	}
}

func TestDiffSaysWhatMoves(t *testing.T) {
	for _, tc := range []struct{ before, after, want string }{
		{"0-15:a", "0-15:a", "[]"},
		{"0-7:a,8-15:b", "0-7:b,8-15:a", "[{0 7 a b} {8 15 b a}]"},
		{"0-7:a,8-15:b", "0-6:a,7-9:c,10-15:b", "[{7 7 a c} {8 9 b c}]"},
		{"0-15:a", "0:b,1-14:a,15:b", "[{0 0 a b} {15 15 a b}]"},
		{"0-7:b,8-15:a", "0-7:b,8-15:c", "[{8 15 a c}]"},
	} {
		before, errBefore := ParseMap(1, 16, tc.before)
		after, errAfter := ParseMap(2, 16, tc.after)
		if errBefore != nil || errAfter != nil {
			t.Fatal(errBefore, errAfter)
		}
		moves, err := Diff(before, after)
		if got := fmt.Sprint(moves); got != tc.want || err != nil {
			t.Errorf("%s to %s: got %s, %v, want %s", tc.before, tc.after, got, err, tc.want)
		}
	}
}

func FuzzParseMap(f *testing.F) {
	f.Add(uint8(4), "0-15:a")
	f.Add(uint8(10), "0-340:s0,341-681:s1,682-1023:s2")
	f.Add(uint8(0), "0:a")
	f.Fuzz(func(t *testing.T, bits uint8, text string) {
		m, err := ParseMap(1, 1<<(bits%20), text)
		if err != nil {
			return
		}
		if m.String() != text || m.Len() != 1<<(bits%20) {
			t.Errorf("%q became %q of %d buckets", text, m, m.Len())
		}
		sum := 0
		for _, name := range m.Shards() {
			sum += len(m.Buckets(name))
		}
		if sum != m.Len() {
			t.Errorf("%q: the shards own %d buckets of %d", text, sum, m.Len())
		}
	})
}

func BenchmarkOwner(b *testing.B) {
	m := even(b, 1, 1024, "s0", "s1", "s2")
	b.ReportAllocs()
	for bucket := Bucket(0); b.Loop(); bucket = (bucket + 1) % 1024 {
		if _, ok := m.Owner(bucket); !ok {
			b.Fatal("no owner")
		}
	}
}
