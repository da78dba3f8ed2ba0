package fleet

import (
	"time"

	"pgtier/router/balance"
	"pgtier/router/topology"
)

// Role is what a server said it is. The zero value is Unknown.
type Role uint8

// The roles.
const (
	Unknown Role = iota // it has not answered yet
	Manager             // not in recovery: takes writes, whether we believe it or not
	Replica             // in recovery
)

// String returns the role's name in lower case.
func (r Role) String() string {
	switch r {
	case Manager:
		return "manager"
	case Replica:
		return "replica"
	}
	return "unknown"
}

// Host is one server of a View.
type Host struct {
	Name string
	// Server is the fleet's own copy; nobody changes it.
	Server *topology.Server
	// Role is what it said last, also if it is down now.
	Role Role
	// Timeline is the one it writes or follows, 0 if it could not be read. That of a replica is a lower bound unless our role
	// may read pg_stat_wal_receiver (pg_monitor).
	Timeline uint32
	// System is pg_control_system().system_identifier, 0 if it could not be read.
	System uint64
	State  balance.State
	// Reason explains State; "" when there is nothing to explain.
	Reason string
	// Silent tells that it is down because it does not answer, rather than refuses.
	Silent bool
	// Since is when State began.
	Since time.Time
	// Replayed is the position up to which its answers are complete; for a manager, its own position.
	Replayed balance.LSN
	// Asked is when the question was sent whose answer Replayed is.
	Asked time.Time
	// Synchronous tells that its commits may wait for standbys, during which replicas can be ahead of it.
	Synchronous bool
	// Told is when the question was sent whose answer Synchronous is.
	Told time.Time
	// Lag is how long ago the manager went beyond Replayed, as of the View.
	Lag time.Duration
	// WarmSince is when its slow start began; zero if it is warm.
	WarmSince time.Time
}

// View is what the fleet knew at one moment. Immutable.
type View struct {
	// At is that moment.
	At time.Time
	// Manager is an index into Hosts, -1 while there is none. Its Host is Up, unless it lets only us not in (Full, Down).
	Manager int
	// Last is the last manager, also while there is none; -1 before the first.
	Last int
	// Hosts has the configured manager first, then the replicas in their order, whatever they are now.
	Hosts []Host
	// Conflict says who else claims to be the manager, "" if nobody does.
	Conflict string
	// Epoch is raised whenever a manager appears: another server, or the same after it was lost, or may have crashed. It is 0
	// before the first.
	Epoch uint64
}

// Hosts fills dst with what balance.Choose wants to know about every server of v that is not the manager: the View, and
// beside it what changes from one statement to the next. Indices are those of v.Hosts; the manager's entry is Down. It
// allocates only if dst has no room.
func (f *Fleet) Hosts(v *View, dst []balance.Host, now time.Time) []balance.Host {
	dst = dst[:0]
	for i := range v.Hosts {
		h := &v.Hosts[i]
		if i == v.Manager {
			dst = append(dst, balance.Host{Name: h.Name, Why: "is the manager"})
			continue
		}
		dst = append(dst, balance.Host{
			Name: h.Name, Zone: h.Server.Zone, Weight: h.Server.Weight, State: h.State, Replayed: h.Replayed, Lag: h.Lag,
			Latency: f.loads[i].average(), InFlight: int(f.loads[i].inFlight.Load()), Warmth: f.Warmth(h, now), Why: h.Reason,
		})
	}
	return dst
}

// Warmth is the part of its full share of reads that h gets now, above 0 to 1.
func (f *Fleet) Warmth(h *Host, now time.Time) float64 {
	if h.WarmSince.IsZero() {
		return 1
	}
	return balance.Warmth(now.Sub(h.WarmSince), f.cfg.SlowStart)
}
