package balance

import (
	"math"
	"math/bits"
	"time"
)

// Ask is one read's wishes. The zero value asks for any server that is up.
type Ask struct {
	// Need is the position that the server must have replayed; 0 needs none.
	Need   LSN
	Policy Policy
	// Zone is preferred: servers elsewhere are taken only if none there qualifies. "" prefers none.
	Zone string
	// MaxLag is the longest lag allowed; 0 allows any.
	MaxLag time.Duration
	// Random is the chance of this choice: 64 even bits, new for each.
	Random uint64
	// Turn counts the choices, for RoundRobin.
	Turn uint64
	// Prefer is the name of the server to stay with while it qualifies; "" is none.
	Prefer string
}

// Choose returns the index of the server that takes the read and why, or -1 and why none does.
func Choose(hosts []Host, ask Ask) (int, Why) {
	s := selection{hosts: hosts, ask: ask}
	total, inZone := 0, 0
	for i := range hosts {
		if !s.fits(i) {
			continue
		}
		if ask.Prefer != "" && hosts[i].Name == ask.Prefer {
			return i, Sticky
		}
		total++
		if hosts[i].Zone == ask.Zone {
			inZone++
		}
	}
	if total == 0 {
		return -1, s.refusal()
	}
	why := AnyZone
	if ask.Zone != "" {
		why = OtherZone
		if inZone > 0 {
			s.zoned, why = true, SameZone
		}
	}
	return s.pick(), why
}

// selection is the servers that a read may still go to. It lives on Choose's stack.
type selection struct {
	hosts []Host
	ask   Ask
	zoned bool // only servers of ask.Zone
	cold  bool // servers in slow start that chance left out take part after all
}

// fits reports whether server i may take the read.
func (s *selection) fits(i int) bool {
	h := &s.hosts[i]
	return (h.State == Up || h.State == Lagging) && s.recent(h) && h.Replayed >= s.ask.Need
}

func (s *selection) recent(h *Host) bool { return s.ask.MaxLag <= 0 || h.Lag <= s.ask.MaxLag }

// refusal is why nobody fits: what stopped the server that came furthest.
func (s *selection) refusal() Why {
	why := NoneUp
	if len(s.hosts) == 0 {
		return NoHosts
	}
	for i := range s.hosts {
		switch h := &s.hosts[i]; {
		case h.State == Full && why == NoneUp:
			why = AllFull
		case h.State != Up && h.State != Lagging:
		case s.recent(h):
			return AllBehind
		default:
			why = AllLagging
		}
	}
	return why
}

// takesPart reports whether server i is drawn from. One in slow start takes part in as many of the choices as its warmth
// says, whatever the policy then does with it.
func (s *selection) takesPart(i int) bool {
	h := &s.hosts[i]
	if !s.fits(i) || s.zoned && h.Zone != s.ask.Zone {
		return false
	}
	if s.cold || h.Warmth <= 0 || h.Warmth >= 1 {
		return true
	}
	// 53 bits are what a float64 holds exactly.
	return float64(mix(s.ask.Random+uint64(i))>>11)/(1<<53) < h.Warmth
}

// pick chooses among those that take part, of whom there is at least one once the cold are let in.
func (s *selection) pick() int {
	n := s.count()
	if n == 0 {
		s.cold = true // nobody else is there, so they must carry it
		n = s.count()
	}
	switch s.ask.Policy {
	case RoundRobin:
		return s.nth(int(s.ask.Turn % uint64(n)))
	case Weighted:
		return s.byWeight(n)
	case Random:
		return s.nth(below(s.ask.Random, n))
	default:
		return s.byLatency(n)
	}
}

func (s *selection) count() int {
	n := 0
	for i := range s.hosts {
		if s.takesPart(i) {
			n++
		}
	}
	return n
}

// nth returns the index of the nth server that takes part.
func (s *selection) nth(n int) int {
	for i := range s.hosts {
		if s.takesPart(i) {
			if n == 0 {
				return i
			}
			n--
		}
	}
	return -1 // n was below the count, so there is one
}

// byLatency draws two different servers of n and takes the less burdened.
func (s *selection) byLatency(n int) int {
	first := below(s.ask.Random, n)
	a := s.nth(first)
	if n == 1 {
		return a
	}
	second := below(mix(s.ask.Random), n-1)
	if second >= first {
		second++
	}
	b := s.nth(second)
	if s.hosts[b].burden() < s.hosts[a].burden() {
		return b
	}
	return a
}

// burden is how long a statement sent now is likely to take. One that was never measured is tried first.
func (h *Host) burden() float64 { return float64(h.Latency) * float64(max(h.InFlight, 0)+1) }

// byWeight draws by weight; if nobody of the n has any, evenly.
func (s *selection) byWeight(n int) int {
	var total uint64
	for i := range s.hosts {
		if s.takesPart(i) {
			total += s.hosts[i].share()
		}
	}
	if total == 0 {
		return s.nth(below(s.ask.Random, n))
	}
	at, _ := bits.Mul64(s.ask.Random, total)
	for i := range s.hosts {
		if !s.takesPart(i) {
			continue
		}
		if share := s.hosts[i].share(); at < share {
			return i
		} else {
			at -= share
		}
	}
	return -1 // at was below the total, so there is one
}

// share is the weight, kept where no sum of them overflows.
func (h *Host) share() uint64 { return uint64(min(max(h.Weight, 0), math.MaxInt32)) }

// below maps 64 even bits to 0 … n-1 by the high half of a product (Lemire, Fast Random Integer Generation in an
// Interval, 2019). The bias is below n/2⁶⁴.
func below(random uint64, n int) int {
	high, _ := bits.Mul64(random, uint64(n))
	return int(high)
}

// mix makes 64 new even bits of 64 others: the finalizer of SplitMix64 (Steele, Lea, Flood, 2014).
func mix(x uint64) uint64 {
	x += 0x9E3779B97F4A7C15
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}
