package session

import (
	"time"

	"pgtier/proxy/backend"
	"pgtier/proxy/cache"
	"pgtier/proxy/fleet"
	"pgtier/proxy/pool"
	"pgtier/router"
	"pgtier/router/balance"
)

// pipedTo is the server whose pipelines a read may join.
type pipedTo struct {
	pool    *pool.Pool[*backend.Conn]
	fleet   *fleet.Fleet // nil: the database has no replicas
	replica string       // "" for the manager
	level   router.Level // that the replica was chosen for
	// replayed is what the replica has, at least.
	replayed balance.LSN
	before   time.Time // of a replica, only a connection made before then is known to be to the server that was chosen
}

// pipedTarget chooses the server for the turn as acquire would, but waits for nothing: ok is false where that may be
// needed.
func (s *Session) pipedTarget() (to pipedTo, ok bool) {
	f := s.at.Fleet.Load()
	if f == nil {
		return pipedTo{pool: s.home}, true
	}
	v := f.View()
	if !s.aim.replica {
		if v.Manager < 0 || s.sawAhead() {
			return to, false
		}
		return pipedTo{pool: s.poolOf(v.Hosts[v.Manager].Name), fleet: f}, true
	}
	s.hosts = f.Hosts(v, s.hosts, time.Now())
	i, why := s.choose(f)
	if i < 0 {
		return to, false
	}
	s.aim.why = why
	to = pipedTo{pool: s.poolOf(s.hosts[i].Name), fleet: f, replica: s.hosts[i].Name, level: s.aim.level, replayed: s.hosts[i].Replayed, before: s.aliveSince(&v.Hosts[i], why)}
	return to, true
}

// pipedGoes notes where the turn goes, once it does.
func (s *Session) pipedGoes(to *pipedTo, e *entry) {
	if e.fleet, e.replica, e.level = to.fleet, to.replica, to.level; to.fleet == nil {
		return
	}
	s.pool, s.tells = to.pool, false
	s.replica = to.replica
	s.routed()
	s.replica = ""
	if to.replica != "" {
		s.behind = 0
		to.fleet.Begin(to.replica)
	}
}

// shows is where a session stands that has seen the answer to e.
func (e *entry) shows() cache.Shown {
	return cache.Shown{Ticket: uint64(e.ticket), Replica: e.replica, At: e.began}
}

// pipedSaw raises what the session must see from now on to what the answer to e has shown.
func (s *Session) pipedSaw(e *entry) {
	switch {
	case !e.shown:
	case e.replica != "":
		s.saw(e.replica, e.level, e.ticket, s.env.Epoch.Add(time.Duration(e.began)))
	default:
		s.ticket = e.ticket
	}
}
