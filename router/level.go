package router

import "fmt"

// Level is how new the answer of a read must be. The zero value is Session.
type Level uint8

// The consistency levels.
const (
	Session  Level = iota // never older than what the session wrote or read
	Strong                // nor than any write acknowledged through this proxy
	Eventual              // from any replica within the allowed lag
	Manager               // from the manager
)

// ParseLevel reads a level's name.
func ParseLevel(text string) (Level, error) {
	for l := Session; l <= Manager; l++ {
		if text == l.String() {
			return l, nil
		}
	}
	return 0, fmt.Errorf("unknown consistency %q; use session, strong, eventual or manager", text)
}

// String is the level's name in the configuration.
func (l Level) String() string {
	switch l {
	case Strong:
		return "strong"
	case Eventual:
		return "eventual"
	case Manager:
		return "manager"
	}
	return "session"
}

// Cause is why a turn went to the server it went to, as metrics count it.
type Cause uint8

// The causes. All but ToReplica are of turns that the manager served.
const (
	ToReplica     Cause = iota
	NotProved           // it may write
	ServerLocal         // a replica would answer from itself
	InTransaction       // a read-write transaction
	AsAsked             // consistency level manager
	OwnConnection       // the session keeps its connection
	Behind              // no replica has replayed what the session must see, or it is not known yet
	Lagging             // every replica lags
	NoReplica           // none is up
	SentAgain           // a replica failed it
	Causes              // their number
)

// String is the cause as a label of metrics.
func (c Cause) String() string {
	return [...]string{"replica", "not_proved", "server_local", "transaction", "level", "pinned", "behind", "lagging", "no_replica", "sent_again", "unknown"}[min(c, Causes)]
}
