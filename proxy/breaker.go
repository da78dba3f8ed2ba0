package proxy

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"pgtier/proxy/session"
)

// A server sees the deadlocks among its own processes, not those that lead over several servers. Where a session has waited
// for a shard for long, the servers are asked who waits there for whose locks, and what they say is joined by the sessions
// that have connections to several of them. What leads over another proxy's sessions is not seen.

const (
	// breakerPause is between two rounds while sessions wait: PostgreSQL's deadlock_timeout.
	breakerPause = time.Second
	// breakerDoubt is between a round that has found somebody who cannot go on, and the one that must find the same again: the servers
	// are asked one after another, and meanwhile a lock may have been given back.
	breakerDoubt = 100 * time.Millisecond
	// breakerRest is how long the connections are kept when nobody waits any more.
	breakerRest = 5 * time.Second
	// breakerSilence is between two reports that a server could not be asked.
	breakerSilence = time.Minute
)

// blockedSQL tells which processes wait for locks, and behind which others each does; 0 is a prepared transaction.
const blockedSQL = "SELECT w.pid, pg_catalog.array_to_string(pg_catalog.pg_blocking_pids(w.pid), ',')" +
	" FROM (SELECT DISTINCT pid FROM pg_catalog.pg_locks WHERE NOT granted AND pid IS NOT NULL) AS w"

// breaker ends what waits for each other for ever on the shards of one database.
type breaker struct {
	nudge  chan struct{}
	asker                    // owned by run
	seen   map[sighting]bool // by the round before; owned by run
	warned time.Time         // owned by run
}

// process is a server's. Shards may be databases of one server.
type process struct {
	server string // network and address
	pid    uint32
}

// sighting is one process that waits behind another in one statement.
type sighting struct {
	process
	asked  int64 // of the statement, 0 where it is none of this proxy's
	behind uint32
}

func newBreaker(p *Proxy, d *database) *breaker {
	return &breaker{nudge: make(chan struct{}, 1), asker: asker{p: p, d: d}}
}

// Nudge tells that somebody may wait for ever. Safe for concurrent use.
func (b *breaker) Nudge() {
	select {
	case b.nudge <- struct{}{}:
	default:
	}
}

// run looks when it is nudged, until ctx ends.
func (b *breaker) run(ctx context.Context) {
	defer b.hangUp()
	for {
		rest := time.NewTimer(breakerRest)
		select {
		case <-ctx.Done():
			rest.Stop()
			return
		case <-rest.C:
			b.hangUp()
			b.seen = nil
			continue
		case <-b.nudge:
			rest.Stop()
		}
		pause := breakerPause
		if b.round(ctx) {
			pause = breakerDoubt
			b.Nudge()
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(pause):
		}
	}
}

// round asks the servers, and has those give up of whom two rounds say that they must. doubt: this one says it of others.
func (b *breaker) round(ctx context.Context) (doubt bool) {
	var all []session.Waiting
	for _, s := range b.p.Sessions() {
		if w := s.Standing(); len(w.Leases) > 0 {
			all = append(all, w)
		}
	}
	now, before := b.look(ctx, all), b.seen
	b.seen = now
	at := b.p.env.Now()
	if session.Standstill(join(all, now, now), at) < 0 {
		return false
	}
	sure := join(all, now, before)
	for {
		i := session.Standstill(sure, at)
		if i < 0 {
			return true
		}
		b.d.log.Warn("transactions over several shards wait for each other, so one has to give up")
		sure[i].Session.GiveUp(&sure[i])
		sure[i].For, sure[i].Behind = nil, nil
	}
}

// look asks the servers where sessions at several shards are who waits there behind whom.
func (b *breaker) look(ctx context.Context, all []session.Waiting) map[sighting]bool {
	wanted := map[string]bool{}
	for i := range all {
		for _, l := range all[i].Leases {
			if l.Several() {
				wanted[l.Server] = true
			}
		}
	}
	found := map[sighting]bool{}
	for i := range all {
		if w := &all[i]; w.For != nil {
			found[waitOf(w)] = true
		}
	}
	asked := askedBy(all)
	for _, part := range *b.d.parts.Load() {
		role := b.d.ownRoleOn(part)
		target := b.p.target(b.d, part.manager(), role, nil)
		server := session.ServerOf(&target)
		if !wanted[server] {
			continue
		}
		delete(wanted, server) // another shard may be there too
		err := b.ask(ctx, part, role, blockedSQL, func(fields [][]byte) {
			at := process{server, number(fields[0])}
			for _, behind := range strings.Split(string(fields[1]), ",") {
				if pid := number([]byte(behind)); pid > 0 {
					found[sighting{at, asked[at], pid}] = true
				}
			}
		})
		if err != nil && ctx.Err() == nil && time.Since(b.warned) > breakerSilence {
			b.warned = time.Now()
			b.d.log.Warn("a shard does not tell who waits for whose locks", zap.String("shard", part.name()), zap.Error(err))
		}
	}
	return found
}

// number reads the number of a process.
func number(text []byte) uint32 {
	n, _ := strconv.ParseUint(string(text), 10, 32)
	return uint32(n)
}

// askedBy is when the statement was sent that each process works on.
func askedBy(all []session.Waiting) map[process]int64 {
	out := map[process]int64{}
	for i := range all {
		for _, l := range all[i].Leases {
			out[process{l.Server, l.PID}] = l.Asked
		}
	}
	return out
}

// waitOf is a session's wait for a server connection, as a sighting.
func waitOf(w *session.Waiting) sighting {
	return sighting{process: process{server: "pool of session " + strconv.FormatUint(w.Session.ID(), 10)}, asked: w.Since}
}

// foreign leaves those sightings out that are part of a deadlock which a server sees, and ends, itself.
func foreign(found map[sighting]bool) map[sighting]bool {
	number, next := map[process]int{}, [][]int{}
	place := func(p process) int {
		if _, known := number[p]; !known {
			number[p] = len(next)
			next = append(next, nil)
		}
		return number[p]
	}
	out := map[sighting]bool{}
	for s := range found {
		if s.behind != 0 {
			out[s] = true
			at, behind := place(s.process), place(process{s.server, s.behind})
			next[at] = append(next[at], behind)
		}
	}
	of := session.Knots(len(next), func(i int, visit func(j int)) {
		for _, j := range next[i] {
			visit(j)
		}
	})
	for s := range out {
		if of[place(s.process)] == of[place(process{s.server, s.behind})] {
			delete(out, s)
		}
	}
	return out
}

// join gives each what it waits for by what was seen both now and before. Processes that no session has come behind the sessions.
func join(sessions []session.Waiting, now, before map[sighting]bool) []session.Waiting {
	all := slices.Clone(sessions)
	owners, leases := map[process]int{}, map[process]session.Lease{}
	for i := range sessions {
		all[i].Behind, all[i].Blocked = nil, nil
		if all[i].For != nil && !before[waitOf(&all[i])] {
			all[i].For = nil
		}
		for _, l := range all[i].Leases {
			owners[process{l.Server, l.PID}], leases[process{l.Server, l.PID}] = i, l
		}
	}
	owner := func(p process) int {
		i, known := owners[p]
		if !known {
			i = len(all)
			owners[p], all = i, append(all, session.Waiting{})
		}
		return i
	}
	for s := range foreign(now) {
		if !before[s] {
			continue
		}
		at, behind := owner(s.process), owner(process{s.server, s.behind})
		all[at].Behind = append(all[at].Behind, behind)
		if l, known := leases[s.process]; known {
			all[at].Blocked = append(all[at].Blocked, l)
			all[at].Since = max(all[at].Since, l.Asked)
		}
	}
	return all
}
