package fleet

import (
	"fmt"
	"strings"
)

// claim is what a server says of itself, as far as the choice of the manager goes.
type claim struct {
	name     string
	role     Role // Unknown while it does not answer
	timeline uint32
	system   uint64
	// closed: it refused us for who we are, so its role is neither proved nor disproved.
	closed bool
	// fenced: pgtier ordered the promotion of another while this was the manager, on timeline fence.
	fenced bool
	fence  uint32
}

// roles is what the choice of the manager remembers. The zero value has seen nothing; only elect changes it.
type roles struct {
	manager  int    // index; -1: none
	last     int    // the last manager, also while there is none; -1 before the first
	system   uint64 // of the managers seen
	first    uint32 // the timeline of the first manager
	highest  uint32 // the highest timeline of a manager seen
	followed uint32 // the highest timeline of any server seen
	epoch    uint64
}

// verdict is the outcome for the servers that are not the manager: why one that answers must not be used, "" if it may.
type verdict struct {
	reasons  []string
	conflict string
}

// elect chooses the manager among claims, of which there is at least one. It is pure but for r itself. The rules:
//   - A manager is not in recovery and belongs to the system of the managers before it.
//   - The higher timeline wins. One below the highest that any manager has shown is never taken: what was committed on the
//     higher one would be lost. A new manager must not be below what any replica follows either.
//   - On equal timelines the present manager stays, then the last one, then the first that is configured.
//   - The last manager, or before the first the configured one, is taken at its word while it refuses us for who we are and
//     nobody claims the role.
func (r *roles) elect(claims []claim) verdict {
	r.adoptSystem(claims)
	for _, c := range claims {
		if c.role != Unknown && r.same(c) {
			r.followed = max(r.followed, c.timeline)
		}
	}
	chosen := -1
	for i, c := range claims {
		if r.eligible(i, c) && (chosen < 0 || r.better(i, c, chosen, claims[chosen])) {
			chosen = i
		}
	}
	if word := max(r.last, 0); chosen < 0 && claims[word].closed && !claimed(claims) {
		chosen = word
	}
	if chosen >= 0 && (chosen != r.manager || claims[chosen].timeline > r.highest) {
		r.epoch++
	}
	r.manager = chosen
	if chosen >= 0 {
		r.last = chosen
		r.highest = max(r.highest, claims[chosen].timeline)
		if r.first == 0 {
			r.first = r.highest
		}
	}
	return r.judge(claims)
}

// adoptSystem settles which system the shard is: as long as there was no manager, the first claimant's, else any
// replica's; afterwards the managers', unless the last of them was made anew and nobody of the old system is left.
func (r *roles) adoptSystem(claims []claim) {
	if r.last < 0 {
		r.system, r.followed = 0, 0
		for _, role := range []Role{Manager, Replica} {
			for _, c := range claims {
				if r.system == 0 && c.role == role {
					r.system = c.system
				}
			}
		}
		return
	}
	c := claims[r.last]
	if c.role != Manager || r.same(c) {
		if r.system == 0 {
			r.system = c.system
		}
		return
	}
	for _, other := range claims {
		if other.role != Unknown && other.system == r.system {
			return
		}
	}
	r.system, r.highest, r.followed, r.first = c.system, 0, 0, 0
}

// same reports whether c may belong to the shard's system; ids that cannot be read are given the benefit of the doubt.
func (r *roles) same(c claim) bool { return c.system == 0 || r.system == 0 || c.system == r.system }

func claimed(claims []claim) bool {
	for _, c := range claims {
		if c.role == Manager {
			return true
		}
	}
	return false
}

func (r *roles) eligible(i int, c claim) bool {
	if c.role != Manager || !r.same(c) || c.timeline < r.highest || c.fenced && c.timeline <= c.fence {
		return false
	}
	return i == r.manager || c.timeline >= r.followed
}

func (r *roles) better(i int, c claim, j int, other claim) bool {
	if c.timeline != other.timeline {
		return c.timeline > other.timeline
	}
	rank := func(k int) int {
		switch k {
		case r.manager:
			return 0
		case r.last:
			return 1
		}
		return 2 + k
	}
	return rank(i) < rank(j)
}

// judge says which servers that answer must not be used, and why.
func (r *roles) judge(claims []claim) verdict {
	v := verdict{reasons: make([]string, len(claims))}
	var claimants []string
	for i, c := range claims {
		switch {
		case i == r.manager || c.role == Unknown:
		case c.role == Manager:
			v.reasons[i] = r.whyNotManager(c)
			claimants = append(claimants, fmt.Sprintf("%s (timeline %d) %s", c.name, c.timeline, v.reasons[i]))
		default:
			v.reasons[i] = r.whyNotReplica(c)
			if r.manager >= 0 && r.highest > 0 && r.same(c) && c.timeline > r.highest {
				claimants = append(claimants, fmt.Sprintf("%s follows timeline %d of a manager that is none of ours", c.name, c.timeline))
			}
		}
	}
	if len(claimants) > 0 {
		present := "nobody is the manager"
		if r.manager >= 0 {
			present = fmt.Sprintf("%s (timeline %d) is the manager", claims[r.manager].name, claims[r.manager].timeline)
		}
		v.conflict = present + "; " + strings.Join(claimants, "; ")
	}
	return v
}

func (r *roles) whyNotManager(c claim) string {
	switch {
	case !r.same(c):
		return fmt.Sprintf("belongs to another system, %d instead of %d", c.system, r.system)
	case c.timeline < r.highest:
		return fmt.Sprintf("claims to be the manager on timeline %d, but the shard has gone on to %d", c.timeline, r.highest)
	case c.fenced && c.timeline <= c.fence:
		return fmt.Sprintf("was the manager of timeline %d until another was promoted", c.fence)
	case r.manager < 0:
		return fmt.Sprintf("claims to be the manager on timeline %d, but a replica follows %d", c.timeline, r.followed)
	}
	return "claims to be the manager too"
}

func (r *roles) whyNotReplica(c claim) string {
	switch {
	case r.highest == 0:
		return "" // no manager has shown itself yet
	case !r.same(c):
		return fmt.Sprintf("belongs to another system, %d instead of %d", c.system, r.system)
	case c.timeline == 0 && r.highest == r.first:
		return "" // it cannot be read, and there has been no failover that it could have missed
	case c.timeline == 0:
		return "its timeline cannot be read after a failover; grant pgtier's role EXECUTE on pg_control_checkpoint"
	case c.timeline < r.highest:
		return fmt.Sprintf("follows timeline %d, the manager is on %d; if it follows by now, grant pgtier's role pg_monitor to see it at once", c.timeline, r.highest)
	case c.timeline > r.highest:
		return fmt.Sprintf("follows timeline %d, which the manager on %d is not", c.timeline, r.highest)
	}
	return ""
}
