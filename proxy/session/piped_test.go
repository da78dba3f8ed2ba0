package session

import "testing"

func TestAnIdleSessionKeepsNoLongRequest(t *testing.T) {
	for name, tc := range map[string]struct {
		state int32
		size  int
		kept  bool
	}{
		"short, answered":     {entryDone, keptRequest, true},
		"long, answered":      {entryDone, keptRequest + 1, false},
		"long, cancelled":     {entryCanceled, keptRequest + 1, false},
		"long, to send again": {entryRepeat, keptRequest + 1, true},
	} {
		s := &Session{env: &Env{}, db: &Database{}, work: &work{}}
		e := &entry{s: s}
		e.state.Store(tc.state)
		s.piped.entry, s.piped.req = e, make([]byte, tc.size)
		if got := s.takeBack(e); got != tc.state || (cap(s.piped.req) > 0) != tc.kept {
			t.Errorf("%s: state %d, %d bytes kept; want state %d, kept %v", name, got, cap(s.piped.req), tc.state, tc.kept)
		}
	}
}
