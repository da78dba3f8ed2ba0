package balance

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

func TestEject(t *testing.T) {
	ok, streak := Tally{Calls: 100}, Tally{Calls: 100, Failures: 5, Streak: 5}
	longer := Tally{Calls: 100, Failures: 9, Streak: 9}
	half := Tally{Calls: 20, Failures: 10, Streak: 1}
	few := Tally{Calls: 19, Failures: 4, Streak: 4}
	gone := Tally{Gone: true, Streak: 99, Calls: 99, Failures: 99}
	rule := DefaultEjection()
	for name, tc := range map[string]struct {
		rule    Ejection
		tallies []Tally
		want    []bool
	}{
		"nobody":                      {rule, nil, nil},
		"all well":                    {rule, []Tally{ok, ok}, []bool{false, false}},
		"a streak":                    {rule, []Tally{ok, streak}, []bool{false, true}},
		"a share of failures":         {rule, []Tally{half, ok}, []bool{true, false}},
		"too few to judge":            {rule, []Tally{few, ok}, []bool{false, false}},
		"the only one":                {rule, []Tally{streak}, []bool{false}},
		"both: the worse one":         {rule, []Tally{streak, longer}, []bool{false, true}},
		"all three: one":              {rule, []Tally{streak, longer, half}, []bool{false, true, false}},
		"four: up to half":            {rule, []Tally{streak, longer, half, streak}, []bool{true, true, false, false}},
		"the last that is left":       {rule, []Tally{gone, streak}, []bool{false, false}},
		"gone ones are not counted":   {rule, []Tally{gone, gone, streak, ok}, []bool{false, false, true, false}},
		"all allowed: one still left": {Ejection{Streak: 1, Most: 1}, []Tally{streak, longer, longer}, []bool{false, true, true}},
		"switched off":                {Ejection{Most: 1}, []Tally{longer, ok}, []bool{false, false}},
	} {
		if got := tc.rule.Eject(nil, tc.tallies); !slices.Equal(got, tc.want) {
			t.Errorf("%s: got %v, want %v", name, got, tc.want)
		}
	}
}

func TestNeverAllAreEjected(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	for range 20_000 {
		tallies := make([]Tally, 1+random.IntN(6))
		here := 0
		for i := range tallies {
			calls := random.Uint32N(100)
			tallies[i] = Tally{Calls: calls, Failures: random.Uint32N(calls + 1), Streak: random.Uint32N(12), Gone: random.IntN(4) == 0}
			if !tallies[i].Gone {
				here++
			}
		}
		rule := Ejection{Streak: random.Uint32N(6), Share: random.Float64(), MinCalls: random.Uint32N(30), Most: random.Float64() * 1.5}
		out := 0
		for i, ejected := range rule.Eject(nil, tallies) {
			if ejected {
				out++
			}
			if ejected && tallies[i].Gone {
				t.Fatalf("%+v ejects one that is gone: %+v", rule, tallies)
			}
		}
		if out > 0 && out >= here {
			t.Fatalf("%+v ejects %d of %d: %+v", rule, out, here, tallies)
		}
	}
}

func TestWarmthGrows(t *testing.T) {
	const ramp = 10 * time.Second
	for _, tc := range []struct {
		since, ramp time.Duration
		want        float64
	}{{-time.Second, ramp, .05}, {0, ramp, .05}, {5 * time.Second, ramp, .525}, {ramp, ramp, 1}, {time.Hour, ramp, 1}, {0, 0, 1}} {
		if got := Warmth(tc.since, tc.ramp); got < tc.want-1e-9 || got > tc.want+1e-9 {
			t.Errorf("Warmth(%s, %s) = %v, want %v", tc.since, tc.ramp, got, tc.want)
		}
	}
}
