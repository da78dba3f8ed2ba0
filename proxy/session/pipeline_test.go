package session

import (
	"testing"
	"time"
)

func TestAPipelineIsAsDeepAsItsPaceAllows(t *testing.T) {
	const slow = 5 * time.Millisecond
	for name, tc := range map[string]struct {
		answers []time.Duration // one each
		most    int
		want    int
	}{
		"nothing known":      {nil, 32, 32},
		"fast":               {[]time.Duration{50 * time.Microsecond}, 32, 32},
		"a millisecond":      {[]time.Duration{time.Millisecond}, 32, 5},
		"slow":               {[]time.Duration{20 * time.Millisecond}, 32, 1},
		"within the most":    {[]time.Duration{time.Millisecond}, 3, 3},
		"slower than it was": {[]time.Duration{100 * time.Microsecond, 900 * time.Microsecond}, 32, 25},
	} {
		var p pace
		for _, took := range tc.answers {
			p.note(1, int64(took))
		}
		p.note(0, int64(time.Hour)) // a wake-up without an answer says nothing
		if got := p.depth(tc.most, slow); got != tc.want {
			t.Errorf("%s: depth %d, want %d", name, got, tc.want)
		}
	}
	var p pace
	p.note(10, int64(time.Millisecond))
	if want := pace(100 * time.Microsecond); p != want {
		t.Errorf("10 answers in 1 ms: pace %d, want %d", p, want)
	}
}
