package balance

// Why is the reason of a choice. Those below Chosen are refusals.
type Why uint8

// The reasons.
const (
	NoHosts    Why = iota // there was none to choose from
	NoneUp                // none is up
	AllLagging            // those that are up are all further behind in time than allowed: the manager serves
	AllBehind             // those that are up and within the lag have all not replayed the position needed
	AllFull               // those that answer have all no connection left

	chosen // the first that is not a refusal

	Sticky    // the preferred server still qualifies
	SameZone  // one of the zone asked for
	OtherZone // none of that zone qualified
	AnyZone   // no zone was asked for
)

// Refused reports whether no server was chosen.
func (w Why) Refused() bool { return w < chosen }

// String says the reason in words, for explanations and metrics.
func (w Why) String() string {
	switch w {
	case NoHosts:
		return "no replica"
	case NoneUp:
		return "no replica is up"
	case AllLagging:
		return "every replica lags"
	case AllBehind:
		return "no replica has replayed the position needed"
	case AllFull:
		return "every replica is full"
	case Sticky:
		return "the session's replica"
	case SameZone:
		return "replica of the same zone"
	case OtherZone:
		return "replica of another zone"
	case AnyZone:
		return "replica"
	}
	return "unknown"
}
