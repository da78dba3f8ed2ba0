package session

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"pgtier/proxy/backend"
	"pgtier/proxy/fleet"
	"pgtier/proxy/pool"
	"pgtier/proxy/wire"
	"pgtier/router"
	"pgtier/router/balance"
)

// Reads says how the reads of a database are spread over its replicas. Immutable.
type Reads struct {
	Level    router.Level
	Policy   balance.Policy
	MaxLag   time.Duration // 0 allows any
	Zone     string
	Failover time.Duration // how long a statement may wait for a manager
}

// servers is where a session's server connections come from.
type servers struct {
	login   *pool.Pool[*backend.Conn]            // of the server that the database's manager was at login; fixed
	home    *pool.Pool[*backend.Conn]            // of the manager of the shard that the session is at, where no fleet chooses
	pools   map[string]*pool.Pool[*backend.Conn] // of other servers, by name; attached to
	pool    *pool.Pool[*backend.Conn]            // that the leased connection belongs to
	replica string                               // name of the replica that it is a connection of; "" for the manager
	inside  router.Level                         // level that the replica was chosen for
	lentAt  time.Time                            // when the connection was; the replica has not crashed from then until its last answer
	fleet   *fleet.Fleet                         // that the replica was chosen of
	hosts   []balance.Host                       // reused
	token   balance.LSN                          // what SHOW pgtier.lsn tells
}

// poolOf returns the pool of the session's role on the server of that name.
func (s *Session) poolOf(server string) *pool.Pool[*backend.Conn] {
	if server == s.login.Key().Server {
		return s.login
	}
	if p := s.pools[server]; p != nil {
		return p
	}
	p := s.db.Attach(s.role, server)
	if s.pools == nil {
		s.pools = make(map[string]*pool.Pool[*backend.Conn])
	}
	s.pools[server] = p
	return p
}

// detach gives up the pools that the session attached itself to.
func (s *Session) detach() {
	for _, p := range s.pools {
		p.Detach()
	}
	s.pools = nil
}

// errReplaced ends a wait for what a fleet knows when a reload has put another in its place, or none.
var errReplaced = errors.New("other servers are watched now")

// acquire borrows a connection of the server that the turn was aimed at.
func (s *Session) acquire(want pool.Want[*backend.Conn]) (*backend.Conn, error) {
	for {
		c, err := s.acquireOf(s.at.Fleet.Load(), want)
		if !errors.Is(err, errReplaced) {
			return c, err
		}
	}
}

// acquireOf is acquire with what f knows; nil: there are no replicas.
func (s *Session) acquireOf(f *fleet.Fleet, want pool.Want[*backend.Conn]) (*backend.Conn, error) {
	if f == nil {
		s.pool, s.replica = s.home, ""
		return s.home.Acquire(s.waiter, want)
	}
	if s.aim.replica {
		if c, err := s.acquireReplica(f, want); c != nil || err != nil {
			return c, err
		}
	}
	return s.acquireManager(f, want)
}

// replicaWait is how long a read waits for a connection of a busy replica before the manager takes it.
const replicaWait = 500 * time.Millisecond

// acquireReplica borrows from a replica that may serve the turn. Without one it returns neither a connection nor an
// error, and the turn is aimed at the manager.
func (s *Session) acquireReplica(f *fleet.Fleet, want pool.Want[*backend.Conn]) (*backend.Conn, error) {
	want.Limit, want.Hasty = replicaWait, false // the manager is there to be asked next
	v := f.View()
	s.hosts = f.Hosts(v, s.hosts, time.Now())
	for range s.hosts {
		i, why := s.choose(f)
		if why == balance.AllBehind {
			v, i, why = s.awaitReplica(f, v)
		}
		if i < 0 {
			s.aim.refused(why)
			return nil, nil
		}
		name := s.hosts[i].Name
		p := s.poolOf(name)
		c, err := p.Acquire(s.waiter, want)
		if err == nil && !s.proved(f, c, &v.Hosts[i], why) {
			s.hosts[i].Replayed, s.hosts[i].State = 0, balance.Starting
			s.pool = p
			s.giveBack(c)
			continue
		}
		if err == nil {
			s.pool, s.replica, s.fleet = p, name, f
			s.aim.why, s.behind, s.inside, s.lentAt = why, 0, s.aim.level, time.Now()
			s.keep.replayed = s.hosts[i].Replayed
			f.Begin(name)
			return c, nil
		}
		var refusal *pool.Error
		if !errors.As(err, &refusal) {
			return nil, err // killed or cancelled
		}
		if cause := refusal.Unwrap(); cause != nil { // not for want of connections of our own
			f.Lost(name, cause)
		}
		s.hosts[i].State = balance.Full
	}
	s.aim.refused(balance.AllFull)
	return nil, nil
}

const (
	// behindMost is how many reads in a row go to the manager because every replica is behind. What the manager shows raises
	// what a replica must have replayed, so a session that never rests would not come away from it again.
	behindMost = 8
	// catchUpWait is how long the next read waits for a replica: replay follows within 1 to 3 ms on a local network.
	catchUpWait = 20 * time.Millisecond
)

// awaitReplica waits a moment for a replica if the session has been at the manager for long. It returns what choose does, and
// the View that s.hosts are of, which was v.
func (s *Session) awaitReplica(f *fleet.Fleet, v *fleet.View) (*fleet.View, int, balance.Why) {
	if s.behind++; s.behind <= behindMost {
		return v, -1, balance.AllBehind
	}
	s.behind = 0
	for until := time.Now().Add(catchUpWait); time.Now().Before(until) && !s.isKilled(); time.Sleep(visiblePoll) {
		v = f.View()
		s.hosts = f.Hosts(v, s.hosts, time.Now())
		if i, why := s.choose(f); why != balance.AllBehind {
			return v, i, why
		}
	}
	return v, -1, balance.AllBehind
}

// proveWait bounds the question of a new connection for its server's position.
const proveWait = 2 * time.Second

// proved reports whether c's server is where it was chosen for. A server that crashed comes back with an older state than
// it has shown, and what is known of it may be from before. A connection that was there when it said where it was proves
// that it has not crashed since; a newer one has to ask, until it is told enough.
func (s *Session) proved(f *fleet.Fleet, c *backend.Conn, host *fleet.Host, why balance.Why) bool {
	if c.CreatedAt().Before(s.aliveSince(host, why)) {
		return true
	}
	need := host.Replayed
	if why == balance.Sticky && !c.CreatedAt().Before(s.seenAt) {
		at, known := f.Position(s.seen)
		if !known {
			return false
		}
		need = max(need, at)
	}
	if c.Replayed > 0 && balance.LSN(c.Replayed) >= need {
		return true
	}
	at := s.asks(c)
	return at > 0 && at >= need
}

// asks is the position that the server of c, a replica, says over it, and has then as long as c lives; 0 if it says none.
func (s *Session) asks(c *backend.Conn) (at balance.LSN) {
	c.SetUnnamed(nil)
	err := c.Exec(wire.AppendQuery(nil, "SELECT pg_catalog.pg_last_wal_replay_lsn()"), proveWait, func(frame wire.Frame) {
		if frame.Type != wire.MsgDataRow {
			return
		}
		if fields, err := wire.RowFields(frame.Body()); err == nil && len(fields) == 1 {
			at, _ = balance.ParseLSN(string(fields[0])) // 0 proves nothing
		}
	})
	if err != nil {
		return 0
	}
	c.Replayed = uint64(at)
	return at
}

// aliveSince is when the server was alive in the state that it was chosen for: when it said where it is and, of one that is
// chosen because the session has read there, also when it was asked then.
func (s *Session) aliveSince(host *fleet.Host, why balance.Why) time.Time {
	if why == balance.Sticky && s.seenAt.Before(host.Asked) {
		return s.seenAt
	}
	return host.Asked
}

// choose returns the index in s.hosts of the replica for the turn, -1 if there is none.
func (s *Session) choose(f *fleet.Fleet) (int, balance.Why) {
	reads := s.db.Reads()
	ask := balance.Ask{Policy: reads.Policy, Zone: reads.Zone, MaxLag: reads.MaxLag, Random: rand.Uint64(), Turn: s.aim.draw(s.at)}
	floor, known := s.at.Floor.Load().position(f)
	if !known {
		return -1, balance.AllBehind
	}
	ask.Need = floor
	if s.aim.level == router.Eventual {
		return balance.Choose(s.hosts, ask)
	}
	need, known := s.needed(f)
	if !known {
		return -1, balance.AllBehind
	}
	need = max(need, floor)
	ask.Need = need
	if s.seenOn == "" {
		return s.seeking(f, ask)
	}
	// What it read from one replica may not have come to another.
	if at, known := f.Position(s.seen); known {
		strict := ask
		strict.Need = max(need, at)
		if i, why := balance.Choose(s.hosts, strict); i >= 0 {
			return i, why
		}
	}
	for i := range s.hosts {
		if s.hosts[i].Name == s.seenOn {
			if one, _ := balance.Choose(s.hosts[i:i+1], ask); one == 0 {
				return i, balance.Sticky
			}
		}
	}
	return -1, balance.AllBehind
}

// seeking is Choose that has the replicas watched closely while none of them is far enough.
func (s *Session) seeking(f *fleet.Fleet, ask balance.Ask) (int, balance.Why) {
	i, why := balance.Choose(s.hosts, ask)
	if why == balance.AllBehind {
		f.Seek(ask.Need)
	}
	return i, why
}

// needed is the position that a replica must have replayed for the turn; not known yet means the manager.
func (s *Session) needed(f *fleet.Fleet) (need balance.LSN, known bool) {
	if s.floor != 0 && s.db.Cluster.Load() != nil {
		return 0, false // it is of the log of one shard, and nobody knows of which
	}
	ticket := s.past()
	if s.aim.level == router.Strong {
		ticket = max(ticket, s.written())
	}
	at, known := f.Position(ticket)
	return max(at, s.floor), known
}

// written is the ticket of the last write that the turn may see.
func (s *Session) written() fleet.Ticket {
	if s.aim.begins {
		return s.at.Writes.last() // its later statements are not known
	}
	return s.at.Writes.latest(s.aim.readings)
}

// acquireManager borrows from the manager, waiting for one if there is none.
func (s *Session) acquireManager(f *fleet.Fleet, want pool.Want[*backend.Conn]) (*backend.Conn, error) {
	var lost uint64 // epoch of a manager that was lost
	until := time.Time{}
	for {
		v := f.View()
		if v.Manager < 0 || v.Epoch == lost {
			if until.IsZero() {
				until = s.waitsForManager(want)
			}
			var err error
			if v, err = s.awaitManager(f, lost, until); err != nil {
				return nil, err
			}
		}
		if err := s.awaitVisible(f, want.Hasty); err != nil {
			return nil, err
		}
		if now := f.View(); now.Epoch != v.Epoch || now.Manager != v.Manager {
			continue // while it waited; those who waited for the old one's connections were told to go before it came
		}
		p := s.poolOf(v.Hosts[v.Manager].Name)
		c, err := p.Acquire(s.waiter, want)
		if err == nil {
			if now := f.View(); now.Epoch != v.Epoch && now.Manager != v.Manager {
				p.Release(c) // it was handed over before the change was seen
				continue
			}
			s.pool, s.replica = p, ""
			return c, nil
		}
		var refusal *pool.Error
		if !errors.As(err, &refusal) || !refusal.Away() || !until.IsZero() && time.Now().After(until) {
			return nil, err
		}
		if want.Hasty {
			return nil, err // it may be of an attempt before this one, and says nothing of the manager
		}
		if until.IsZero() {
			until = s.waitsForManager(want)
		}
		f.Lost(v.Hosts[v.Manager].Name, err)
		lost = v.Epoch
	}
}

// waitsForManager is until when a turn waits for a manager, from now on.
func (s *Session) waitsForManager(want pool.Want[*backend.Conn]) time.Time {
	if want.Hasty {
		return time.Now()
	}
	return time.Now().Add(s.db.Reads().Failover)
}

// awaitManager waits for a manager other than that of epoch lost, or for the same to answer again.
func (s *Session) awaitManager(f *fleet.Fleet, lost uint64, until time.Time) (*fleet.View, error) {
	ctx, done := s.stoppable(until)
	defer done()
	if e := s.stopped(); e != nil { // between the queue and here
		return nil, e
	}
	v, err := f.AwaitManager(ctx, lost)
	if err == nil {
		return v, nil
	}
	var told *wire.Error
	if errors.As(context.Cause(ctx), &told) {
		return nil, told
	}
	for errors.Is(err, fleet.ErrEnded) && time.Now().Before(until) { // its successor comes at once, unless the proxy ends
		if s.at.Fleet.Load() != f {
			return nil, errReplaced
		}
		if e := s.stopped(); e != nil {
			return nil, e
		}
		time.Sleep(visiblePoll)
	}
	return nil, noServer(f.View())
}

// noServer is told where no manager came in time, or nobody waits for one.
func noServer(v *fleet.View) *wire.Error {
	return &wire.Error{Code: wire.CodeCannotConnectNow, Message: "no server of this database takes writes now",
		Detail: noManager(v), Hint: "The proxy waited failover.wait for one; try again."}
}

// noManager says of every server why it is not the manager.
func noManager(v *fleet.View) string {
	out := ""
	for i := range v.Hosts {
		h := &v.Hosts[i]
		if out != "" {
			out += "; "
		}
		out += h.Name + ": " + h.Role.String() + ", " + h.State.String()
		if h.Reason != "" {
			out += " (" + h.Reason + ")"
		}
	}
	return out
}

// visibleWait bounds how long a session that has read from a replica waits until the manager is proved to show as much. It
// is longer than what a change of synchronous_standby_names takes to be known.
const visibleWait = 2500 * time.Millisecond

// sawAhead reports whether the turn may have to wait until the manager shows what the session, or the one whose token it was
// given, has seen on a replica.
func (s *Session) sawAhead() bool {
	due := s.floorDue && s.db.Cluster.Load() == nil
	return (s.seenOn != "" || due) && s.aim.level != router.Eventual && !s.aim.blind
}

// awaitVisible has the manager show what the session has seen on a replica: that can be ahead, because a commit is
// replicated before it is visible where it was made. Without synchronous standbys that is a matter of microseconds, so a
// proof that does not come, because a long transaction runs and no replica can be asked about it, is not waited for any
// longer. With them a commit may wait for hours: then the session gets an error rather than an older answer.
// Who is hasty waits for no other manager than there is.
func (s *Session) awaitVisible(f *fleet.Fleet, hasty bool) error {
	if !s.sawAhead() {
		return nil
	}
	began := time.Now()
	for {
		at, known := s.mustShow(f)
		if known && f.Visible() >= at {
			s.seenOn, s.floorDue = "", false
			return nil
		}
		if known {
			f.Seek(at)
		}
		if e := s.stopped(); e != nil {
			return e
		}
		if s.at.Fleet.Load() != f {
			return errReplaced
		}
		v := f.View()
		switch waited := time.Since(began); {
		case v.Manager < 0 && hasty:
			return noServer(v)
		case v.Manager < 0 && waited < s.db.Reads().Failover:
			// Its successor will tell.
		case waited <= visibleWait:
		case v.Manager >= 0 && !v.Hosts[v.Manager].Synchronous && v.Hosts[v.Manager].Told.After(began): // what it was before says nothing
			s.db.Stats.Unproved.Add(1)
			s.seenOn, s.floorDue = "", false
			return nil
		case waited > max(visibleWait, s.db.Reads().Failover):
			s.db.Stats.Unproved.Add(1)
			return &wire.Error{Code: wire.CodeCannotConnectNow, Message: "the manager does not show yet what this session has read from a replica",
				Detail: "A commit that replicas have waits there for a synchronous standby.", Hint: "Check synchronous_standby_names on the manager; try again."}
		}
		time.Sleep(visiblePoll)
	}
}

// mustShow is the position that the manager must show because the session, or the one whose token it was given, has seen it
// on a replica.
func (s *Session) mustShow(f *fleet.Fleet) (at balance.LSN, known bool) {
	known = true
	if s.seenOn != "" {
		at, known = f.Position(s.seen)
	}
	if s.floorDue && s.db.Cluster.Load() == nil {
		at = max(at, s.floor)
	}
	return at, known
}

// stopped is what ends a wait of the session: it was killed, or its statement cancelled before a server had seen it.
func (s *Session) stopped() *wire.Error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.killed == nil && s.canceled {
		return canceled()
	}
	return s.killed
}

// visiblePoll is a little above the round trip of a sample.
const visiblePoll = 300 * time.Microsecond
