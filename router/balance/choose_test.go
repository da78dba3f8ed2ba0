package balance

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"
)

// up is a server that takes reads.
func up(name string) Host {
	return Host{Name: name, State: Up, Weight: 1, Replayed: 100, Latency: time.Millisecond}
}

// with returns h changed.
func with(h Host, change func(*Host)) Host {
	change(&h)
	return h
}

func TestChooseTakesOnlyServersThatQualify(t *testing.T) {
	down := with(up("a"), func(h *Host) { h.State = Down })
	starting := with(up("a"), func(h *Host) { h.State = Starting })
	full := with(up("a"), func(h *Host) { h.State = Full })
	failing := with(up("a"), func(h *Host) { h.State = Failing })
	behind := with(up("a"), func(h *Host) { h.Replayed = 99 })
	late := with(up("a"), func(h *Host) { h.Lag = 2 * time.Second; h.State = Lagging })
	east := with(up("e"), func(h *Host) { h.Zone = "east" })
	west := with(up("w"), func(h *Host) { h.Zone = "west" })
	westDown := with(west, func(h *Host) { h.State = Down })
	westBehind := with(west, func(h *Host) { h.Replayed = 1 })
	for name, tc := range map[string]struct {
		hosts []Host
		ask   Ask
		want  int
		why   Why
	}{
		"no hosts":                         {nil, Ask{}, -1, NoHosts},
		"one that is up":                   {[]Host{up("a")}, Ask{}, 0, AnyZone},
		"down":                             {[]Host{down}, Ask{}, -1, NoneUp},
		"starting":                         {[]Host{starting}, Ask{}, -1, NoneUp},
		"failing":                          {[]Host{failing, down}, Ask{}, -1, NoneUp},
		"full":                             {[]Host{down, full}, Ask{}, -1, AllFull},
		"full beside one behind":           {[]Host{full, behind}, Ask{Need: 100}, -1, AllBehind},
		"down beside one that is up":       {[]Host{down, up("b")}, Ask{}, 1, AnyZone},
		"behind the position needed":       {[]Host{behind}, Ask{Need: 100}, -1, AllBehind},
		"exactly at the position needed":   {[]Host{behind}, Ask{Need: 99}, 0, AnyZone},
		"behind beside one that is not":    {[]Host{behind, up("b")}, Ask{Need: 100}, 1, AnyZone},
		"lagging":                          {[]Host{late}, Ask{MaxLag: time.Second}, -1, AllLagging},
		"lagging, every one":               {[]Host{late, late, down}, Ask{MaxLag: time.Second}, -1, AllLagging},
		"lagging, exactly as allowed":      {[]Host{late}, Ask{MaxLag: 2 * time.Second}, 0, AnyZone},
		"lagging, no limit":                {[]Host{late}, Ask{}, 0, AnyZone},
		"one lags, the other is behind":    {[]Host{late, behind}, Ask{MaxLag: time.Second, Need: 100}, -1, AllBehind},
		"same zone first":                  {[]Host{east, west}, Ask{Zone: "west"}, 1, SameZone},
		"same zone is down":                {[]Host{east, westDown}, Ask{Zone: "west"}, 0, OtherZone},
		"same zone is behind":              {[]Host{east, westBehind}, Ask{Zone: "west", Need: 50}, 0, OtherZone},
		"a zone that nobody is in":         {[]Host{east}, Ask{Zone: "north"}, 0, OtherZone},
		"the preferred one":                {[]Host{up("a"), up("b"), up("c")}, Ask{Prefer: "c"}, 2, Sticky},
		"the preferred one, another zone":  {[]Host{east, west}, Ask{Prefer: "e", Zone: "west"}, 0, Sticky},
		"the preferred one is behind":      {[]Host{behind, up("b")}, Ask{Prefer: "a", Need: 100}, 1, AnyZone},
		"the preferred one is not there":   {[]Host{up("b")}, Ask{Prefer: "gone"}, 0, AnyZone},
		"slow start, and nobody else":      {[]Host{with(up("a"), func(h *Host) { h.Warmth = 1e-18 })}, Ask{}, 0, AnyZone},
		"slow start, nobody else in zone":  {[]Host{up("b"), with(west, func(h *Host) { h.Warmth = 1e-18 })}, Ask{Zone: "west"}, 1, SameZone},
		"slow start beside a warm one":     {[]Host{with(up("a"), func(h *Host) { h.Warmth = 1e-18 }), up("b")}, Ask{}, 1, AnyZone},
		"weight 0 and nobody else":         {[]Host{with(up("a"), func(h *Host) { h.Weight = 0 })}, Ask{Policy: Weighted}, 0, AnyZone},
		"weight 0 and the other is behind": {[]Host{with(up("b"), func(h *Host) { h.Weight = 0 }), behind}, Ask{Policy: Weighted, Need: 100}, 0, AnyZone},
		"a negative weight is none":        {[]Host{with(up("a"), func(h *Host) { h.Weight = -5 }), up("b")}, Ask{Policy: Weighted, Random: 1 << 40}, 1, AnyZone},
	} {
		for _, random := range []uint64{tc.ask.Random, 1, 1 << 63, math.MaxUint64} {
			tc.ask.Random = random
			if got, why := Choose(tc.hosts, tc.ask); got != tc.want || why != tc.why {
				t.Errorf("%s, random %d: got %d because %q, want %d because %q", name, random, got, why, tc.want, tc.why)
			}
		}
	}
}

func TestRefusalsAreRefusals(t *testing.T) {
	for why := NoHosts; why <= AnyZone; why++ {
		if why == chosen {
			continue
		}
		if refused := why <= AllFull; why.Refused() != refused {
			t.Errorf("%q: Refused() = %v", why, why.Refused())
		}
		if why.String() == "unknown" {
			t.Errorf("reason %d has no words", why)
		}
	}
}

// shares draws n times with a fixed seed and returns each server's part.
func shares(hosts []Host, ask Ask, n int) []float64 {
	random := rand.New(rand.NewPCG(1, 2))
	out := make([]float64, len(hosts))
	for turn := range n {
		ask.Random, ask.Turn = random.Uint64(), uint64(turn)
		i, _ := Choose(hosts, ask)
		out[i] += 1 / float64(n)
	}
	return out
}

func TestSharesOfThePolicies(t *testing.T) {
	const draws = 200_000
	weigh := func(name string, weight int) Host { return with(up(name), func(h *Host) { h.Weight = weight }) }
	slow := with(up("slow"), func(h *Host) { h.Latency = 10 * time.Millisecond })
	busy := with(up("busy"), func(h *Host) { h.InFlight = 9 })
	fresh := with(up("fresh"), func(h *Host) { h.Warmth = 0.1 })
	for name, tc := range map[string]struct {
		hosts  []Host
		policy Policy
		want   []float64
	}{
		"random":                      {[]Host{up("a"), up("b"), up("c"), up("d")}, Random, []float64{.25, .25, .25, .25}},
		"round robin":                 {[]Host{up("a"), up("b"), up("c"), up("d")}, RoundRobin, []float64{.25, .25, .25, .25}},
		"weighted":                    {[]Host{weigh("a", 1), weigh("b", 3), weigh("c", 0)}, Weighted, []float64{.25, .75, 0}},
		"weighted, nobody has any":    {[]Host{weigh("a", 0), weigh("b", 0)}, Weighted, []float64{.5, .5}},
		"least latency, all alike":    {[]Host{up("a"), up("b"), up("c"), up("d")}, LeastLatency, []float64{.25, .25, .25, .25}},
		"least latency, one slow":     {[]Host{up("a"), up("b"), slow}, LeastLatency, []float64{.5, .5, 0}},
		"least latency, one busy":     {[]Host{up("a"), busy, up("c")}, LeastLatency, []float64{.5, 0, .5}},
		"least latency, two":          {[]Host{slow, up("b")}, LeastLatency, []float64{0, 1}},
		"slow start, random":          {[]Host{up("a"), fresh}, Random, []float64{.95, .05}},
		"slow start, round robin":     {[]Host{up("a"), fresh}, RoundRobin, []float64{.95, .05}},
		"slow start, weighted":        {[]Host{weigh("a", 1), fresh}, Weighted, []float64{.95, .05}},
		"slow start, though unburden": {[]Host{up("a"), with(fresh, func(h *Host) { h.Latency = 0 })}, LeastLatency, []float64{.9, .1}},
	} {
		got := shares(tc.hosts, Ask{Policy: tc.policy}, draws)
		for i := range got {
			// Five standard deviations of a binomial draw of this size.
			if math.Abs(got[i]-tc.want[i]) > 5*math.Sqrt(.25/draws) {
				t.Errorf("%s: shares %.4f, want %.4f", name, got, tc.want)
				break
			}
		}
	}
}

// TestTwoChoicesEvenOutAQueue plays servers that each finish one statement a tick: by the least of two the longest queue
// stays short, by chance alone it does not.
func TestTwoChoicesEvenOutAQueue(t *testing.T) {
	longest := func(policy Policy) int {
		random := rand.New(rand.NewPCG(7, 7))
		hosts := make([]Host, 8)
		for i := range hosts {
			hosts[i] = up("x")
		}
		most := 0
		for range 20_000 {
			for range 7 { // of 8 that could be done
				i, _ := Choose(hosts, Ask{Policy: policy, Random: random.Uint64()})
				hosts[i].InFlight++
				most = max(most, hosts[i].InFlight)
			}
			for i := range hosts {
				hosts[i].InFlight = max(hosts[i].InFlight-1, 0)
			}
		}
		return most
	}
	two, one := longest(LeastLatency), longest(Random)
	if two > 8 || one < 2*two {
		t.Errorf("longest queue by two choices %d, by chance %d; want at most 8, and chance at least twice as long", two, one)
	}
}

func TestChooseDoesNotAllocate(t *testing.T) {
	hosts := []Host{up("a"), with(up("b"), func(h *Host) { h.Warmth = .5 }), with(up("c"), func(h *Host) { h.Zone = "z" })}
	for policy := LeastLatency; policy <= Weighted; policy++ {
		ask := Ask{Policy: policy, Need: 50, MaxLag: time.Second}
		if n := testing.AllocsPerRun(100, func() {
			ask.Random++
			Choose(hosts, ask)
		}); n != 0 {
			t.Errorf("%s: %v allocations, want none", policy, n)
		}
	}
}

func BenchmarkChoose(b *testing.B) {
	hosts := []Host{up("a"), up("b"), up("c")}
	ask := Ask{Need: 50, MaxLag: time.Second}
	b.ReportAllocs()
	for b.Loop() {
		ask.Random += 0x9E3779B97F4A7C15
		Choose(hosts, ask)
	}
}
