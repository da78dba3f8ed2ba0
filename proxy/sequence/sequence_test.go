package sequence

import "testing"

func TestSequencesAreApart(t *testing.T) {
	given := func(increment, last int64) State { return State{increment: increment, last: last, called: true} }
	for name, tc := range map[string]struct {
		found []State
		want  bool
	}{
		"as new tables have them":     {[]State{{increment: 1, last: 1}, {increment: 1, last: 1}}, false},
		"from different remainders":   {[]State{given(1024, 1025), given(1024, 2050)}, true},
		"from one remainder":          {[]State{given(1024, 1), given(1024, 1025)}, false},
		"from one, not called yet":    {[]State{given(1024, 1), {increment: 1024, last: 2049}}, false},
		"by different steps":          {[]State{given(1024, 1), given(512, 2)}, false},
		"more shards than the step":   {[]State{given(2, 1), given(2, 2), given(2, 3)}, false},
		"downwards":                   {[]State{given(-1024, -1), given(-1024, -2)}, false},
		"from below zero, apart":      {[]State{given(1024, -1025), given(1024, 1024)}, true},
		"from below zero, one number": {[]State{given(1024, -1025), given(1024, -1)}, false},
		"from both sides of zero":     {[]State{given(1024, -1025), given(1024, 1023)}, false},
	} {
		if got := Apart(tc.found); got != tc.want {
			t.Errorf("%s: got %v, want %v", name, got, tc.want)
		}
	}
}
