package balance

// Tally is what sessions met at one server lately.
type Tally struct {
	// Calls is how many statements it was asked, Failures how many of them lost it.
	Calls, Failures uint32
	// Streak is how many failures came one after the other, without an answer between them.
	Streak uint32
	// Gone says that the server is out anyhow; it neither can be ejected nor counts as one that is left.
	Gone bool
}

// Ejection is the rule by which servers that fail too often rest for a while. A zero field switches its part off.
type Ejection struct {
	// Streak is the number of failures in a row that eject.
	Streak uint32
	// Share is the part of failed calls that ejects, above 0 to 1, once there were MinCalls.
	Share    float64
	MinCalls uint32
	// Most is the largest part of the servers that may rest at one time, 0 to 1. Whatever it says, one is always left:
	// failures of all servers at once say more about the network, or about us, than about the servers.
	Most float64
}

// DefaultEjection rests servers as Envoy's outlier detection does by default (five failures in a row), but up to half of
// them instead of a tenth, because fleets here have two or three replicas.
func DefaultEjection() Ejection {
	return Ejection{Streak: 5, Share: 0.5, MinCalls: 20, Most: 0.5}
}

// Eject appends to dst whether each server rests, in the order of tallies: the worst first, as many as the rule allows.
func (e Ejection) Eject(dst []bool, tallies []Tally) []bool {
	base, here := len(dst), 0
	for _, t := range tallies {
		dst = append(dst, false)
		if !t.Gone {
			here++
		}
	}
	out := dst[base:]
	for room := min(int(e.Most*float64(here)), here-1); room > 0; room-- {
		worst := -1
		for i, t := range tallies {
			if !out[i] && e.fails(t) && (worst < 0 || t.worse(tallies[worst])) {
				worst = i
			}
		}
		if worst < 0 {
			break
		}
		out[worst] = true
	}
	return dst
}

// fails reports whether the rule ejects a server with this tally.
func (e Ejection) fails(t Tally) bool {
	if t.Gone {
		return false
	}
	return e.Streak > 0 && t.Streak >= e.Streak ||
		e.Share > 0 && t.Failures > 0 && t.Calls >= e.MinCalls && t.share() >= e.Share
}

func (t Tally) share() float64 { return float64(t.Failures) / float64(max(t.Calls, 1)) }

// worse orders by the streak, then by the share of failures.
func (t Tally) worse(other Tally) bool {
	if t.Streak != other.Streak {
		return t.Streak > other.Streak
	}
	return t.share() > other.share()
}
