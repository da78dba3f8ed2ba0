package resharder

import (
	"slices"
	"time"

	"pgtier/router/shard"
)

// Progress is what the mover says of its job: everything that status, console and metrics show.
type Progress struct {
	// Doing is what is being done or waited for, in a few words.
	Doing string `json:"doing,omitempty"`
	// Trouble is the last error that is being tried again, "" when all is well.
	Trouble string         `json:"trouble,omitempty"`
	Moves   []MoveProgress `json:"moves,omitempty"`
	// Groups of buckets in all moves, and those that the targets own.
	Groups     int `json:"groups"`
	GroupsDone int `json:"groups_done"`
	// Asked is how often people had asked for something when the mover counted the groups last.
	Asked int64 `json:"asked,omitempty"`
	// Verified is when both sides were found equal last, since the copy.
	Verified *time.Time `json:"verified,omitempty"`
	// Cuts are those that were granted, rollbacks too.
	Cuts []Cut `json:"cuts,omitempty"`
	// Attempts that ended before the grant, because somebody held up fence or drain.
	Misses int `json:"misses"`
	// Warnings are what people should look at while the job goes on.
	Warnings []string `json:"warnings,omitempty"`
	// Left are servers that were not reached when the job was cancelled, and are to be cleaned when they are back.
	Left []Left `json:"left,omitempty"`
}

// MoveProgress is that of one move.
type MoveProgress struct {
	Number int        `json:"number"`
	Source shard.Name `json:"source"`
	Target shard.Name `json:"target"`
	// State is "", "new" while rows are copied, or "stream".
	State        string `json:"state"`
	Groups       int    `json:"groups"`
	GroupsDone   int    `json:"groups_done"`
	Rows         int64  `json:"rows"`
	Bytes        int64  `json:"bytes"`
	ExpectedRows int64  `json:"expected_rows"`
	// ExpectedBytes is an estimate, like ExpectedRows.
	ExpectedBytes int64 `json:"expected_bytes"`
	// Rate is in bytes a second, over the copy so far. ETA is how long the copy may take still, 0 when it is done or nothing is known.
	Rate int64         `json:"rate"`
	ETA  time.Duration `json:"eta"`
	// Lag is what the source has written and the target has not applied, in bytes of log; ReverseLag is that of the way back.
	Lag        int64 `json:"lag"`
	ReverseLag int64 `json:"reverse_lag"`
	// Retained is the log that the source keeps for the move, in bytes, ReverseRetained the target's.
	Retained        int64 `json:"retained"`
	ReverseRetained int64 `json:"reverse_retained"`
	// Applied are the rows that the stream has brought since this mover has it.
	Applied uint64 `json:"applied"`
	// Crippled is why the rest of a move cannot be cut over, or nothing of it be rolled back, after a server has lost a slot; "" if both can be.
	Crippled string `json:"crippled,omitempty"`
	// Throttled is why nothing is copied or deleted at the moment: replicas are too far behind. "" while all goes on.
	Throttled string `json:"throttled,omitempty"`
	// Deleted are the rows that finish or cancel has deleted.
	Deleted int64 `json:"deleted"`
}

// Cut is one change of owner.
type Cut struct {
	Group int        `json:"group"`
	From  shard.Name `json:"from"`
	To    shard.Name `json:"to"`
	// Held is from the moment before the hold was announced until the new map was in force.
	Held time.Duration `json:"held"`
	// Fence, Drain and Grant are the parts of it, without what proxies took to say that they hold.
	Fence time.Duration `json:"fence"`
	Drain time.Duration `json:"drain"`
	Grant time.Duration `json:"grant"`
	// Attempts that it took.
	Attempts int       `json:"attempts"`
	At       time.Time `json:"at"`
}

// crippled is why a move cannot go all the way, "" if all can.
func (p *Progress) crippled() string {
	for i := range p.Moves {
		if why := p.Moves[i].Crippled; why != "" {
			return why
		}
	}
	return ""
}

// HeldQuantile returns the time below which a part q (0 to 1) of the cuts held their buckets; 0 where there was none.
func (p *Progress) HeldQuantile(q float64) time.Duration {
	if len(p.Cuts) == 0 {
		return 0
	}
	held := make([]time.Duration, len(p.Cuts))
	for i, cut := range p.Cuts {
		held[i] = cut.Held
	}
	slices.Sort(held)
	return held[min(len(held)-1, int(q*float64(len(held))))]
}

// Status is a database's job under way or the last one, for people. It is a plain value.
type Status struct {
	*Job
	// Carried reports whether some process holds the mover's lock: whether anybody carries the job on.
	Carried bool
}

// UnderWay reports whether something is left to do.
func (s *Status) UnderWay() bool { return !s.Step.over() }
