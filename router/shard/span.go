package shard

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Span is a range of buckets, both ends in it.
type Span struct{ First, Last Bucket }

// Contains reports whether a bucket is in the span.
func (s Span) Contains(b Bucket) bool { return s.First <= b && b <= s.Last }

// String is the span as SpansText writes it: "0-63", or "70" of one bucket.
func (s Span) String() string { return rangeText(int(s.First), int(s.Last)) }

// InSpans reports whether a bucket is in one of the spans. It allocates nothing.
func InSpans(spans []Span, b Bucket) bool {
	for _, s := range spans {
		if s.Contains(b) {
			return true
		}
	}
	return false
}

// Overlap reports whether a bucket is in one span of each list. It allocates nothing.
func Overlap(a, b []Span) bool {
	for _, s := range a {
		for _, t := range b {
			if s.First <= t.Last && t.First <= s.Last {
				return true
			}
		}
	}
	return false
}

// SpansOf are the spans of buckets in any order, some perhaps twice: ascending, apart from each other by a bucket at least. It is nil for none.
func SpansOf(buckets ...Bucket) (spans []Span) {
	for _, b := range slices.Sorted(slices.Values(buckets)) {
		if last := len(spans) - 1; last >= 0 && int(b) <= int(spans[last].Last)+1 {
			spans[last].Last = b
			continue
		}
		spans = append(spans, Span{b, b})
	}
	return spans
}

// SpansText is the text form of spans, as in "0-63,70"; "" for none. Spans made by SpansOf or ParseSpans have one form only.
func SpansText(spans []Span) string {
	list := make([]string, len(spans))
	for i, s := range spans {
		list[i] = s.String()
	}
	return strings.Join(list, ",")
}

// ParseSpans reads what SpansText returns for spans of so many buckets: ascending, apart from each other by a bucket at least. "" is none, nil.
func ParseSpans(buckets int, text string) (spans []Span, err error) {
	if err := ValidBuckets(buckets); err != nil || text == "" {
		return nil, err
	}
	next := 0
	for part := range strings.SplitSeq(text, ",") {
		begin, _, _ := strings.Cut(part, "-")
		first, err := strconv.Atoi(begin)
		last, ok := 0, err == nil && first >= next
		if ok {
			last, ok = parseRange(part, first)
		}
		if !ok || last >= buckets {
			return nil, fmt.Errorf("%q in spans of %d buckets: write a range that begins with bucket %d or later, as in %s", part, buckets, next, rangeText(next, buckets-1))
		}
		spans = append(spans, Span{Bucket(first), Bucket(last)})
		next = last + 2
	}
	return spans, nil
}
