package session

import (
	"context"
	"slices"
	"time"

	"go.uber.org/zap"

	"pgtier/proxy/backend"
	"pgtier/proxy/pool"
	"pgtier/proxy/wire"
)

// Transactions over several shards can wait for each other for ever: each of some has locks on shard A, or server connections
// of it, and waits for those of shard B, others the other way round. No server sees that. As with PostgreSQL's own deadlocks
// one of them has to give up, which is found out when somebody has waited for a while.

// standstillAfter is how long a session waits before it is asked whether it can ever go on: PostgreSQL's deadlock_timeout.
const standstillAfter = time.Second

// Waiting is what a session holds and waits for, or a server process that no session of this proxy has.
type Waiting struct {
	Session *Session                    // nil: none of this proxy
	For     *pool.Pool[*backend.Conn]   // of which it waits for a connection; nil: of none
	Holds   []*pool.Pool[*backend.Conn] // whose connections it has
	Leases  []Lease                     // these connections
	Behind  []int                       // the indexes of those whose locks it waits for
	Blocked []Lease                     // the connections on which it does
	Since   int64                       // when the wait began, nanoseconds of env clock
}

// Lease is a server connection that a session has.
type Lease struct {
	Server string // network and address
	PID    uint32
	// Asked is when the statement under way was sent, nanoseconds of env clock; 0: none is. It tells one wait from the next.
	Asked int64

	branch *branch // nil: it is the session's only one
}

// Waiting tells of the connections that the session holds while it waits for another. ok is false if it does not. Safe for
// concurrent use.
func (s *Session) Waiting() (w Waiting, ok bool) {
	if State(s.state.Load()) != StateWaiting {
		return w, false
	}
	w = s.Standing()
	return w, len(w.Holds) > 0 && w.For != nil
}

// Standing tells what the session holds, and of which pool it waits for a connection. Safe for concurrent use.
func (s *Session) Standing() Waiting {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := Waiting{Session: s, Since: s.since.Load()}
	if State(s.state.Load()) == StateWaiting {
		w.For = s.waiter.For()
	}
	if s.server != nil {
		w.Holds = append(w.Holds, s.lentBy)
		w.Leases = append(w.Leases, leaseOf(s.server, w.Since, nil))
	}
	for _, b := range s.branches {
		w.Holds = append(w.Holds, b.pool)
		w.Leases = append(w.Leases, leaseOf(b.c, b.asked.Load(), b))
	}
	return w
}

func leaseOf(c *backend.Conn, asked int64, b *branch) Lease {
	return Lease{Server: ServerOf(c.Target()), PID: c.PID(), Asked: asked, branch: b}
}

// ServerOf names the server that connections for t go to.
func ServerOf(t *backend.Target) string { return t.Network + " " + t.Address }

// Several reports whether the session that has the lease is at several shards.
func (l *Lease) Several() bool { return l.branch != nil }

// LookOut has the servers asked whether the session can ever go on, if it is at several shards and one of them has kept it
// waiting for long. The sweeper calls it.
func (s *Session) LookOut() {
	now := s.env.now()
	if now-s.since.Load() < int64(standstillAfter) || State(s.state.Load()) < StateWaiting {
		return
	}
	late := false
	s.mu.Lock()
	for _, b := range s.branches {
		asked := b.asked.Load()
		late = late || asked > 0 && now-asked >= int64(standstillAfter)
	}
	s.mu.Unlock()
	if cluster := s.db.Cluster.Load(); late && cluster != nil {
		cluster.Stuck()
	}
}

// Standstill returns the index of one that has to give up so that others can go on: of those that wait for each other, and for
// nobody else who cannot go on, the session at several shards that has waited least. -1: none has to.
func Standstill(all []Waiting, now int64) int {
	k := knot{all: all, stuck: make([]bool, len(all)), most: map[*pool.Pool[*backend.Conn]]int{}}
	late := false
	for i := range all {
		k.stuck[i] = all[i].For != nil || len(all[i].Behind) > 0
		if p := all[i].For; p != nil {
			k.most[p] = p.Most()
		}
	}
	k.untie()
	for i := range all {
		late = late || k.stuck[i] && all[i].Session != nil && now-all[i].Since >= int64(standstillAfter)
	}
	last := -1
	if !late {
		return last
	}
	for i, tied := range k.tied() {
		if tied && all[i].spread() && (last < 0 || all[i].Since > all[last].Since) {
			last = i
		}
	}
	return last
}

// spread reports whether w can be made to give up: a wait that leads from one server to another goes through such a session.
func (w *Waiting) spread() bool {
	for _, l := range w.Leases {
		if l.Several() {
			return true
		}
	}
	return false
}

// knot is who cannot go on.
type knot struct {
	all   []Waiting
	stuck []bool
	most  map[*pool.Pool[*backend.Conn]]int // how many connections there can be
}

// untie takes those out who will go on: whoever waits for locks goes on when all who have them do, whoever waits for a
// connection when one of those who have one does.
func (k *knot) untie() {
	for changed := true; changed; {
		changed = false
		held := map[*pool.Pool[*backend.Conn]]int{}
		for i := range k.all {
			if k.stuck[i] {
				for _, p := range k.all[i].Holds {
					held[p]++
				}
			}
		}
		for i := range k.all {
			w := &k.all[i]
			if !k.stuck[i] || w.For != nil && held[w.For] >= k.most[w.For] {
				continue
			}
			waits := false
			for _, j := range w.Behind {
				waits = waits || k.stuck[j]
			}
			if !waits {
				k.stuck[i], changed = false, true
			}
		}
	}
}

// next visits those that cannot go on and are in i's way.
func (k *knot) next(i int, visit func(j int)) {
	at := &k.all[i]
	for _, j := range at.Behind {
		if k.stuck[j] {
			visit(j)
		}
	}
	if !k.stuck[i] || at.For == nil {
		return
	}
	for j := range k.all {
		if k.stuck[j] && slices.Contains(k.all[j].Holds, at.For) {
			visit(j)
		}
	}
}

// tied reports of each whether everybody who is in its way waits for it in turn, and somebody is.
func (k *knot) tied() []bool {
	of := Knots(len(k.all), k.next)
	tied, leaves := make([]bool, len(k.all)), map[int]bool{}
	for i := range k.all {
		k.next(i, func(j int) {
			leaves[of[i]] = leaves[of[i]] || of[i] != of[j]
			tied[i] = true
		})
	}
	for i := range tied {
		tied[i] = tied[i] && k.stuck[i] && !leaves[of[i]]
	}
	return tied
}

// Knots returns of each of n a number that is the same for those who can be reached from each other; next visits those whom one
// reaches at once (Tarjan's strongly connected components).
func Knots(n int, next func(i int, visit func(j int))) []int {
	t := tarjan{next: next, of: make([]int, n), found: make([]int, n), low: make([]int, n)}
	for i := range n {
		t.of[i] = -1
	}
	for i := range n {
		if t.found[i] == 0 {
			t.visit(i)
		}
	}
	return t.of
}

// tarjan is a search for knots.
type tarjan struct {
	next       func(i int, visit func(j int))
	of         []int // knot; -1: not known yet
	found, low []int // when it was found, from 1; and the first that is reached from there
	count      int
	open       []int // found, and not in a knot yet
}

func (t *tarjan) visit(i int) {
	t.count++
	t.found[i], t.low[i] = t.count, t.count
	t.open = append(t.open, i)
	t.next(i, func(j int) {
		if t.found[j] == 0 {
			t.visit(j)
			t.low[i] = min(t.low[i], t.low[j])
		} else if t.of[j] < 0 {
			t.low[i] = min(t.low[i], t.found[j])
		}
	})
	for t.low[i] == t.found[i] && t.of[i] < 0 {
		last := t.open[len(t.open)-1]
		t.open = t.open[:len(t.open)-1]
		t.of[last] = i
	}
}

// GiveUp ends what the session waits for, if that is still what w tells. Safe for concurrent use.
func (s *Session) GiveUp(w *Waiting) {
	if w.For != nil && len(w.Blocked) == 0 {
		s.waiter.Cancel(&wire.Error{Code: codeDeadlock, Message: "deadlock detected", Detail: "Transactions over several shards wait for each other's server connections.",
			Hint: "Try again. A larger pool.size makes this rarer, and so does writing to the shards in the same order."})
		return
	}
	var conns []*backend.Conn
	s.mu.Lock()
	for _, b := range s.branches {
		for _, l := range w.Blocked {
			if asked := b.asked.Load(); l.branch == b && asked != 0 && l.Asked == asked {
				b.struck.Store(asked)
				b.c.BeginCancel() // under mu: the next statement waits for it
				conns = append(conns, b.c)
			}
		}
	}
	s.mu.Unlock()
	ctx, stop := context.WithTimeout(context.Background(), s.cancelWait())
	defer stop()
	for _, c := range conns {
		if err := c.Cancel(ctx); err != nil {
			s.logger().Warn("cancel failed", zap.Error(err))
		}
	}
}

const codeDeadlock = "40P01"

// asks notes that a statement is sent. A cancel that was meant for the one before must have come to the server by then, which
// takes no notice of it between statements.
func (b *branch) asks() {
	s := b.of
	s.mu.Lock()
	struck := b.struck.Swap(0) != 0
	b.asked.Store(max(1, s.env.now()))
	s.mu.Unlock()
	if struck {
		b.c.AwaitCancels()
	}
}

// endsStandstill puts the error of a deadlock in the place of the server's that a cancel by GiveUp has brought.
func (b *branch) endsStandstill() {
	if struck := b.struck.Load(); b.failed.Code != wire.CodeQueryCanceled || struck == 0 || struck != b.asked.Load() {
		return
	}
	b.failed = &wire.Error{Severity: b.failed.Severity, Code: codeDeadlock, Message: "deadlock detected", Detail: "Transactions over several shards wait for each other's locks.",
		Hint: "Try again. Locking rows in the same order in all transactions makes this rarer."}
}
