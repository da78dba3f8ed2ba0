package shard

import (
	"slices"
	"testing"
)

func TestSpansHaveOneText(t *testing.T) {
	for _, tc := range []struct {
		buckets []Bucket
		want    string
	}{
		{nil, ""},
		{[]Bucket{70}, "70"},
		{[]Bucket{3, 1, 2, 0, 70, 2}, "0-3,70"},
		{[]Bucket{5, 7}, "5,7"},
		{[]Bucket{1023, 0}, "0,1023"},
	} {
		spans := SpansOf(tc.buckets...)
		if got := SpansText(spans); got != tc.want {
			t.Errorf("spans of %v: got %q, want %q", tc.buckets, got, tc.want)
		}
		if got, err := ParseSpans(1024, tc.want); err != nil || !slices.Equal(got, spans) {
			t.Errorf("%q: got %v, %v, want %v", tc.want, got, err, spans)
		}
		for b := range Bucket(1024) {
			if got := InSpans(spans, b); got != slices.Contains(tc.buckets, b) {
				t.Errorf("bucket %d in %q: got %v", b, tc.want, got)
			}
		}
	}
}

func TestParseSpansTakesNothingElse(t *testing.T) {
	for _, text := range []string{" 1", "1,", ",1", "1-1", "2-1", "01", "1-02", "3,2", "1-3,3", "1-3,4", "16", "0-16", "a", "-1", "1--2", "+1", "0-65536"} {
		if got, err := ParseSpans(16, text); err == nil {
			t.Errorf("%q: got %v, want an error", text, got)
		}
	}
}

func TestOverlap(t *testing.T) {
	for _, tc := range []struct {
		a, b string
		want bool
	}{{"", "0-15", false}, {"0-3", "4-7", false}, {"0-4", "4-7", true}, {"0,9", "4-7", false}, {"5", "4-7", true}, {"0-15", "7", true}} {
		a, errA := ParseSpans(16, tc.a)
		b, errB := ParseSpans(16, tc.b)
		if errA != nil || errB != nil || Overlap(a, b) != tc.want || Overlap(b, a) != tc.want {
			t.Errorf("%q and %q: got %v, want %v (%v, %v)", tc.a, tc.b, Overlap(a, b), tc.want, errA, errB)
		}
	}
}
