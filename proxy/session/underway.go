package session

import "sync/atomic"

// A move of buckets waits, before rows are deleted where they were or stand where they were not, until nothing is under way that was planned without
// knowing of it: a network may hold a statement back for as long as it likes. A session says so itself, since nobody else knows what a server still owes an answer to.

// underway is what a session has under way, for whoever asks. It is set by the session, and in a pipeline or a cancel by who answers in its place.
type underway struct {
	// since is 1 more than the number of a motion: whatever is under way was planned by that one or a later one. 0: nothing is.
	since atomic.Int64
	// at is the one shard to which it goes; nil: any.
	at atomic.Pointer[Database]
}

// busy says that something may be under way from here on, before the session looks at the layout in force.
func (s *Session) busy() {
	u := &s.underway
	if u.since.Load() != 0 {
		return
	}
	u.at.Store(nil)
	u.since.Store(1) // first, so that who asks now takes it for older than it is
	cluster := s.db.Cluster.Load()
	if cluster == nil {
		return
	}
	u.since.Store(1 + cluster.Number())
	if s.server != nil { // it has rested, and what comes is planned from here on
		s.server.Bind(s.at.Bond)
	}
	for _, b := range s.branches {
		b.c.Bind(b.db.Bond)
	}
}

// rebind binds a connection that was let go of for what touches no rows, before anything else is planned for it.
func (s *Session) rebind() {
	if s.rowless && s.server != nil {
		s.server.Bind(s.at.Bond)
	}
	s.rowless = false
}

// quiet says that nothing is under way, if so.
func (s *Session) quiet() {
	if s.underway.since.Load() == 0 || s.dx != nil || s.piped.entry != nil || s.wide != nil && s.wide.copying != nil {
		return
	}
	s.underway.since.Store(0)
}

// Underway tells the oldest motion that what the session has under way may have been planned by, and the shard that it goes to, nil for any; ok is false where nothing is
// under way, or the session is one of another database. Safe for concurrent use.
func (s *Session) Underway(of *Database) (number int64, at *Database, ok bool) {
	since := s.underway.since.Load()
	if since == 0 || s.db != of {
		return 0, nil, false
	}
	return since - 1, s.underway.at.Load(), true
}
