package shard

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Name is the name of a shard: 1 to 63 letters, digits, '_', '-' and '.', as in "s0".
type Name string

// maxName is the longest name of a shard: that of a PostgreSQL identifier (pg_config_manual.h, NAMEDATALEN), as names made of it are.
const maxName = 63

// valid reports whether the text form of a Map can hold the name.
func (n Name) valid() bool {
	for i := range len(n) {
		c := n[i]
		if !isDigit(c) && (lower(c) < 'a' || lower(c) > 'z') && c != '_' && c != '-' && c != '.' {
			return false
		}
	}
	return n != "" && len(n) <= maxName
}

// Version numbers the maps of a database: the higher is the newer. 0 is no map's.
type Version uint64

// Map says which shard owns each bucket, at one version. Make it by Even, ParseMap or Map.Moved.
type Map struct {
	version Version
	names   []Name   // of the owners, in the order of their first bucket
	owners  []uint16 // index into names, by bucket
}

// Even spreads buckets over shards: each owns one range, in the order given, and no two differ by more than one bucket in size.
func Even(version Version, buckets int, shards ...Name) (*Map, error) {
	if err := ValidBuckets(buckets); err != nil {
		return nil, err
	}
	if len(shards) == 0 || len(shards) > buckets {
		return nil, fmt.Errorf("%d buckets cannot be spread over %d shards", buckets, len(shards))
	}
	owners := make([]Name, 0, buckets)
	for i, name := range shards {
		if slices.Contains(shards[:i], name) {
			return nil, fmt.Errorf("shard %q stands twice", name)
		}
		for len(owners) < (i+1)*buckets/len(shards) {
			owners = append(owners, name)
		}
	}
	return newMap(version, owners)
}

// newMap makes a map of the owner of each bucket.
func newMap(version Version, owners []Name) (*Map, error) {
	if version == 0 {
		return nil, errors.New("a map's version begins at 1")
	}
	m := &Map{version: version, owners: make([]uint16, len(owners))}
	index := map[Name]uint16{}
	for bucket, name := range owners {
		i, ok := index[name]
		if !ok {
			if !name.valid() {
				return nil, fmt.Errorf("%q is not a shard's name: write up to %d letters, digits, '_', '-' and '.'", name, maxName)
			}
			i = uint16(len(m.names))
			index[name] = i
			m.names = append(m.names, name)
		}
		m.owners[bucket] = i
	}
	return m, nil
}

// Moved returns a map of a later version in which a shard owns these buckets, too.
func (m *Map) Moved(version Version, to Name, buckets ...Bucket) (*Map, error) {
	if version <= m.version {
		return nil, fmt.Errorf("version %d does not come after %d", version, m.version)
	}
	owners := make([]Name, len(m.owners))
	for bucket := range owners {
		owners[bucket] = m.names[m.owners[bucket]]
	}
	for _, bucket := range buckets {
		if int(bucket) >= len(owners) {
			return nil, fmt.Errorf("bucket %d: there are %d", bucket, len(owners))
		}
		owners[bucket] = to
	}
	return newMap(version, owners)
}

// Version returns the map's version, at least 1.
func (m *Map) Version() Version { return m.version }

// Len returns the number of buckets, a power of two.
func (m *Map) Len() int { return len(m.owners) }

// Owner returns the shard that owns a bucket; ok is false if the map has no such bucket. It allocates nothing.
func (m *Map) Owner(b Bucket) (name Name, ok bool) {
	if int(b) >= len(m.owners) {
		return "", false
	}
	return m.names[m.owners[b]], true
}

// Shards returns the shards that own a bucket, in the order of their first, in a slice of the caller's own.
func (m *Map) Shards() []Name { return slices.Clone(m.names) }

// Buckets returns the buckets that a shard owns, in order; none if it is not in the map.
func (m *Map) Buckets(name Name) []Bucket {
	i := slices.Index(m.names, name)
	var owned []Bucket
	for bucket, owner := range m.owners {
		if int(owner) == i {
			owned = append(owned, Bucket(bucket))
		}
	}
	return owned
}

// Move is a range of buckets that changes hands.
type Move struct {
	// First and Last are the ends of the range, both in it.
	First, Last Bucket
	// From and To are the owners before and after.
	From, To Name
}

// Diff returns what moves from one map to another, by buckets; nothing if every bucket keeps its owner. Maps of different sizes are an
// error: a key's bucket is another there.
func Diff(before, after *Map) ([]Move, error) {
	if before.Len() != after.Len() {
		return nil, fmt.Errorf("one map has %d buckets, the other %d", before.Len(), after.Len())
	}
	var moves []Move
	for i := range before.owners {
		bucket := Bucket(i)
		from, to := before.names[before.owners[i]], after.names[after.owners[i]]
		if from == to {
			continue
		}
		if last := len(moves) - 1; last >= 0 && moves[last].Last+1 == bucket && moves[last].From == from && moves[last].To == to {
			moves[last].Last = bucket
			continue
		}
		moves = append(moves, Move{First: bucket, Last: bucket, From: from, To: to})
	}
	return moves, nil
}

// String returns the text form: ranges of buckets with their owners, as in "0-340:s0,341-681:s1,682-1023:s0". A map has one form only.
// The version is not in it.
func (m *Map) String() string {
	var text strings.Builder
	for first := 0; first < len(m.owners); {
		end := first + 1
		for end < len(m.owners) && m.owners[end] == m.owners[first] {
			end++
		}
		if first > 0 {
			text.WriteByte(',')
		}
		text.WriteString(rangeText(first, end-1) + ":" + string(m.names[m.owners[first]]))
		first = end
	}
	return text.String()
}

func rangeText(first, last int) string {
	if first == last {
		return strconv.Itoa(first)
	}
	return strconv.Itoa(first) + "-" + strconv.Itoa(last)
}

// ParseMap reads what String returns for a map of that many buckets, and nothing else: every bucket once, in order, and each range as
// long as it can be.
func ParseMap(version Version, buckets int, text string) (*Map, error) {
	if err := ValidBuckets(buckets); err != nil {
		return nil, err
	}
	owners := make([]Name, 0, buckets)
	for part := range strings.SplitSeq(text, ",") {
		if len(owners) == buckets {
			return nil, fmt.Errorf("%q stands behind the last of %d buckets", part, buckets)
		}
		place, name, ok := strings.Cut(part, ":")
		last, okLast := parseRange(place, len(owners))
		if !ok || !okLast || last >= buckets {
			return nil, fmt.Errorf("%q in a map of %d buckets: write a range that begins with bucket %d and its shard, as in %s:s0",
				part, buckets, len(owners), rangeText(len(owners), buckets-1))
		}
		if n := len(owners); n > 0 && owners[n-1] == Name(name) {
			return nil, fmt.Errorf("%q belongs to the range before it", part)
		}
		for len(owners) <= last {
			owners = append(owners, Name(name))
		}
	}
	if len(owners) != buckets {
		return nil, fmt.Errorf("the map ends with bucket %d of %d", len(owners)-1, buckets)
	}
	return newMap(version, owners)
}

// parseRange reads a range that begins with bucket first, and returns its end.
func parseRange(text string, first int) (last int, ok bool) {
	written := text
	if _, end, ok := strings.Cut(text, "-"); ok {
		written = end
	}
	last, err := strconv.Atoi(written)
	return last, err == nil && last >= first && text == rangeText(first, last)
}
