package resharder

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"pgtier/router/shard"
)

// Goal is what people ask for: one of its fields is set.
type Goal struct {
	// To spreads the buckets over these shards, evenly by their number, and over no others.
	To []shard.Name `json:"to,omitempty"`
	// Add gives a shard that has no buckets its share, and moves no others.
	Add shard.Name `json:"add,omitempty"`
	// Drain gives the buckets of a shard to the others, and moves no others.
	Drain shard.Name `json:"drain,omitempty"`
}

// String returns the goal as it is written on the command line.
func (g Goal) String() string {
	switch {
	case g.Add != "":
		return "--add " + string(g.Add)
	case g.Drain != "":
		return "--drain " + string(g.Drain)
	}
	names := make([]string, len(g.To))
	for i, name := range g.To {
		names[i] = string(name)
	}
	return "--to " + strings.Join(names, ",")
}

// check says what is wrong with a goal for shards of this configuration.
func (g Goal) check(configured []shard.Name) error {
	set := 0
	named := slices.Clone(g.To)
	if len(g.To) > 0 {
		set++
	}
	for _, name := range []shard.Name{g.Add, g.Drain} {
		if name != "" {
			set, named = set+1, append(named, name)
		}
	}
	if set != 1 {
		return errors.New("say where the buckets shall go: --to s0,s1 or --add s1 or --drain s1, one of them")
	}
	for i, name := range named {
		if !slices.Contains(configured, name) {
			return fmt.Errorf("shard %q is not in the configuration; add it to the database's shards with its manager's URL, and reload the proxies", name)
		}
		if slices.Contains(named[:i], name) {
			return fmt.Errorf("shard %q stands twice", name)
		}
	}
	return nil
}

// Move is what goes from one shard to another in one job.
type Move struct {
	// Number is from 1, in the job.
	Number int        `json:"number"`
	Source shard.Name `json:"source"`
	Target shard.Name `json:"target"`
	Groups []Group    `json:"groups"`
}

// Group is what is cut over at once.
type Group struct {
	// Number is from 1, in the job.
	Number int          `json:"number"`
	Spans  []shard.Span `json:"spans"`
}

// Spans are those of all groups, in order.
func (m *Move) Spans() []shard.Span {
	var buckets []shard.Bucket
	for _, g := range m.Groups {
		buckets = append(buckets, bucketsOf(g.Spans)...)
	}
	return shard.SpansOf(buckets...)
}

// moves finds the moves from a map to a goal: as few buckets as can be, and what a shard gives is the end of what it has.
func (g Goal) moves(m *shard.Map, groups int) ([]Move, error) {
	target, err := g.spread(m)
	if err != nil {
		return nil, err
	}
	type pair struct{ from, to shard.Name }
	var order []pair
	given := map[pair][]shard.Bucket{}
	for b := range m.Len() {
		from, _ := m.Owner(shard.Bucket(b))
		p := pair{from, target[b]}
		if p.from == p.to {
			continue
		}
		if given[p] == nil {
			order = append(order, p)
		}
		given[p] = append(given[p], shard.Bucket(b))
	}
	var out []Move
	number := 0
	for i, p := range order {
		move := Move{Number: i + 1, Source: p.from, Target: p.to}
		buckets := given[p]
		count := min(groups, len(buckets))
		for k := range count {
			number++
			move.Groups = append(move.Groups, Group{Number: number, Spans: shard.SpansOf(buckets[k*len(buckets)/count : (k+1)*len(buckets)/count]...)})
		}
		out = append(out, move)
	}
	return out, nil
}

// spread returns the owner of each bucket once the goal is reached.
func (g Goal) spread(m *shard.Map) ([]shard.Name, error) {
	owned := map[shard.Name][]shard.Bucket{}
	for _, name := range m.Shards() {
		owned[name] = m.Buckets(name)
	}
	want := map[shard.Name]int{} // how many buckets each shall have; a shard that is not in it shall have none
	switch {
	case g.Add != "":
		if len(owned[g.Add]) > 0 {
			return nil, fmt.Errorf("shard %s has buckets already; use --to with all shards to spread them evenly", g.Add)
		}
		for name, buckets := range owned {
			want[name] = len(buckets)
		}
		for range m.Len() / (len(owned) + 1) {
			want[extreme(m.Shards(), want, false)]--
			want[g.Add]++
		}
	case g.Drain != "":
		others := slices.DeleteFunc(m.Shards(), func(name shard.Name) bool { return name == g.Drain })
		if len(others) == len(m.Shards()) {
			return nil, fmt.Errorf("shard %s has no buckets", g.Drain)
		}
		if len(others) == 0 {
			return nil, fmt.Errorf("shard %s is the only one with buckets; use --to to say where they shall go", g.Drain)
		}
		for _, name := range others {
			want[name] = len(owned[name])
		}
		for range owned[g.Drain] {
			want[extreme(others, want, true)]++
		}
	default:
		if len(g.To) > m.Len() {
			return nil, fmt.Errorf("%d buckets cannot be spread over %d shards", m.Len(), len(g.To))
		}
		// Who has most keeps one more where the number does not divide.
		bySize := slices.Clone(g.To)
		slices.SortStableFunc(bySize, func(a, b shard.Name) int { return len(owned[b]) - len(owned[a]) })
		for i, name := range bySize {
			want[name] = m.Len() / len(g.To)
			if i < m.Len()%len(g.To) {
				want[name]++
			}
		}
	}
	return fill(m, g.receivers(m), owned, want), nil
}

// receivers are the shards that may win buckets, in the order in which they are filled.
func (g Goal) receivers(m *shard.Map) []shard.Name {
	if g.Add != "" {
		return []shard.Name{g.Add}
	}
	if g.Drain != "" {
		return m.Shards()
	}
	return g.To
}

// extreme returns the first of the shards with the fewest or the most wanted.
func extreme(names []shard.Name, want map[shard.Name]int, fewest bool) shard.Name {
	best := names[0]
	for _, name := range names[1:] {
		if fewest && want[name] < want[best] || !fewest && want[name] > want[best] {
			best = name
		}
	}
	return best
}

// fill gives what shards have beyond their share to those that want more.
func fill(m *shard.Map, receivers []shard.Name, owned map[shard.Name][]shard.Bucket, want map[shard.Name]int) []shard.Name {
	out := make([]shard.Name, m.Len())
	var surplus []shard.Bucket
	for _, name := range m.Shards() {
		for i, b := range owned[name] {
			out[b] = name
			if i >= want[name] {
				surplus = append(surplus, b)
			}
		}
	}
	slices.Sort(surplus)
	for _, name := range receivers {
		missing := max(0, want[name]-len(owned[name]))
		for _, b := range surplus[:missing] {
			out[b] = name
		}
		surplus = surplus[missing:]
	}
	return out
}

// bucketsOf are the buckets of spans.
func bucketsOf(spans []shard.Span) (buckets []shard.Bucket) {
	for _, s := range spans {
		for b := int(s.First); b <= int(s.Last); b++ {
			buckets = append(buckets, shard.Bucket(b))
		}
	}
	return buckets
}
