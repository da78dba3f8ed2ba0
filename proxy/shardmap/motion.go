package shardmap

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"pgtier/router/shard"
)

// Motion is what all proxies have to know of moves of buckets. The zero value: nothing moves, and nothing ever has. Its spans are as shard.SpansOf makes
// them. Do not change one that has been given away.
type Motion struct {
	// Number is the higher the newer; every change has a number of its own, from 1.
	Number int64
	// Moving are the buckets whose rows may stand on two shards.
	Moving []shard.Span
	// Groups are those by which they change hands.
	Groups []Group
	// Held are the buckets whose statements wait.
	Held []shard.Span
	// HeldReferences: writes of reference tables wait.
	HeldReferences bool
	// Frozen: changes of the schema are refused.
	Frozen bool
	// Near: proxies ask every few milliseconds.
	Near bool
}

// Group is a group of buckets that change hands at once. Its number is that of its lock, of GuardClass.
type Group struct {
	Number int
	Spans  []shard.Span
}

func (g Group) equal(o Group) bool { return g.Number == o.Number && slices.Equal(g.Spans, o.Spans) }

// groupsText is the stored form of groups: "1=0-7;2=8-15".
func groupsText(groups []Group) string {
	list := make([]string, len(groups))
	for i, g := range groups {
		list[i] = strconv.Itoa(g.Number) + "=" + shard.SpansText(g.Spans)
	}
	return strings.Join(list, ";")
}

// parseGroups reads what groupsText returns.
func parseGroups(buckets int, text string) ([]Group, error) {
	if text == "" {
		return nil, nil
	}
	var groups []Group
	for part := range strings.SplitSeq(text, ";") {
		number, spans, found := strings.Cut(part, "=")
		n, err := strconv.Atoi(number)
		if err != nil || !found {
			return nil, fmt.Errorf("group %q is no number and spans", part)
		}
		g := Group{Number: n}
		if g.Spans, err = shard.ParseSpans(buckets, spans); err != nil {
			return nil, err
		}
		groups = append(groups, g)
	}
	return groups, nil
}

// Still reports whether nothing is in motion: nobody need know of it.
func (m *Motion) Still() bool {
	return len(m.Moving) == 0 && len(m.Held) == 0 && !m.HeldReferences && !m.Frozen && !m.Near
}

// Holds reports whether statements wait for something.
func (m *Motion) Holds() bool { return len(m.Held) > 0 || m.HeldReferences }

// equal reports whether both ask the same, at the same number.
func (m *Motion) equal(o *Motion) bool {
	return m.Number == o.Number && slices.Equal(m.Moving, o.Moving) && slices.EqualFunc(m.Groups, o.Groups, Group.equal) && slices.Equal(m.Held, o.Held) && m.HeldReferences == o.HeldReferences && m.Frozen == o.Frozen && m.Near == o.Near
}

// movesMore reports whether a bucket moves in m that does not in o.
func (m *Motion) movesMore(o *Motion) bool {
	for _, span := range m.Moving {
		for b := int(span.First); b <= int(span.Last); b++ {
			if !shard.InSpans(o.Moving, shard.Bucket(b)) {
				return true
			}
		}
	}
	return false
}

// Same reports whether both ask the same of proxies, be their numbers others.
func (m *Motion) Same(o *Motion) bool {
	other := *o
	other.Number = m.Number
	return m.equal(&other)
}

// readMotion reads number, moving, held, held_references, frozen, near and groups.
func readMotion(buckets int, fields [][]byte) (m Motion, err error) {
	if m.Number, err = strconv.ParseInt(string(fields[0]), 10, 64); err != nil {
		return Motion{}, fmt.Errorf("read motion: %w", err)
	}
	if m.Moving, err = shard.ParseSpans(buckets, string(fields[1])); err == nil {
		m.Held, err = shard.ParseSpans(buckets, string(fields[2]))
	}
	if err == nil {
		m.Groups, err = parseGroups(buckets, string(fields[6]))
	}
	if err != nil {
		return Motion{}, fmt.Errorf("read motion %d: %w", m.Number, err)
	}
	m.HeldReferences, m.Frozen, m.Near = fields[3][0] == 't', fields[4][0] == 't', fields[5][0] == 't'
	return m, nil
}
