package balance

import "time"

// State says whether a server can take reads at all. The zero value is Down.
type State uint8

// The states of a server.
const (
	Down     State = iota // not there, silent, or not to be believed
	Starting              // it answers that it cannot take connections yet, or no more
	Full                  // it answers that all its connections are taken
	Failing               // too many sessions lost it lately; it rests for a while
	Lagging               // alive, and further behind than is allowed by default; Choose goes by Host.Lag alone
	Up                    // takes reads
)

// String returns the state's name in lower case.
func (s State) String() string {
	switch s {
	case Down:
		return "down"
	case Starting:
		return "starting"
	case Full:
		return "full"
	case Failing:
		return "failing"
	case Lagging:
		return "lagging"
	case Up:
		return "up"
	}
	return "unknown"
}

// Host is one server as Choose sees it.
type Host struct {
	Name string
	// Zone is where it runs; "" is unknown.
	Zone string
	// Weight is its share of reads under Weighted, beside its peers'; 0 takes none unless nothing else can.
	Weight int
	State  State
	// Replayed is the position up to which its answers are complete.
	Replayed LSN
	// Lag is how long ago the manager went beyond Replayed; 0 is not behind.
	Lag time.Duration
	// Latency is the moving average of its answers; 0 is not measured yet.
	Latency time.Duration
	// InFlight is the number of statements it works on for us.
	InFlight int
	// Warmth is the part of its full share that it gets, above 0 to 1. A server that has come back begins low. 0 counts as 1,
	// so that a Host without the field is an ordinary one.
	Warmth float64
	// Why explains State to a person; Choose does not read it.
	Why string
}
