package proxy

import "testing"

func TestSequencesAreApart(t *testing.T) {
	given := func(increment, last int64) sequence { return sequence{increment: increment, last: last, called: true} }
	for name, tc := range map[string]struct {
		found []sequence
		want  bool
	}{
		"as new tables have them":     {[]sequence{{increment: 1, last: 1}, {increment: 1, last: 1}}, false},
		"from different remainders":   {[]sequence{given(1024, 1025), given(1024, 2050)}, true},
		"from one remainder":          {[]sequence{given(1024, 1), given(1024, 1025)}, false},
		"from one, not called yet":    {[]sequence{given(1024, 1), {increment: 1024, last: 2049}}, false},
		"by different steps":          {[]sequence{given(1024, 1), given(512, 2)}, false},
		"more shards than the step":   {[]sequence{given(2, 1), given(2, 2), given(2, 3)}, false},
		"downwards":                   {[]sequence{given(-1024, -1), given(-1024, -2)}, false},
		"from below zero, apart":      {[]sequence{given(1024, -1025), given(1024, 1024)}, true},
		"from below zero, one number": {[]sequence{given(1024, -1025), given(1024, -1)}, false},
		"from both sides of zero":     {[]sequence{given(1024, -1025), given(1024, 1023)}, false},
	} {
		if got := apart(tc.found); got != tc.want {
			t.Errorf("%s: got %v, want %v", name, got, tc.want)
		}
	}
}
