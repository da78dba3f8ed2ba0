package session

import "time"

// hastyAfter is how long messages wait for their Sync before they are sent on without it: longer than a request that
// comes in several packets takes, shorter than anybody waits for an error that would have come at once.
const hastyAfter = 100 * time.Millisecond

// noteUnended notes that messages wait for their Sync. Once they have waited hastyAfter, the sweeper has them sent on.
func (s *Session) noteUnended() {
	if s.dx != nil || s.copiesWide() || s.in.Len() == 0 || len(s.items) == 0 {
		if s.unended.Load() != 0 {
			s.unended.Store(0)
			s.hasty.Store(false)
		}
		return
	}
	if s.unended.Load() == 0 {
		s.unended.Store(s.env.now())
	}
}

// pending serves what is left in the input. Messages that have waited long for
// their Sync go out without it.
func (s *Session) pending() bool {
	if !s.requests() {
		return false
	}
	if s.hasty.Swap(false) && s.dx == nil && !s.copiesWide() && s.in.Len() > 0 && len(s.items) > 0 {
		s.unended.Store(0)
		return s.startDuplex()
	}
	return true
}
