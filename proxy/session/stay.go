package session

import (
	"slices"

	"pgtier/parser"
	"pgtier/proxy/shardmap"
	"pgtier/proxy/wire"
	"pgtier/router/catalog"
	"pgtier/router/plan"
)

// A transaction that locks rows, or whole tables, or takes an advisory lock for them where they are, relies on their staying as they are until its end. The fence of a move knows of writers only: a row that is
// locked at one shard would be anybody's at the next. So while buckets move, a transaction asks before it locks rows of them (shardmap.StaySQL): it has the lock of
// their groups then, as writers do, and the fence waits for its end. What locks in a transaction of its own locks for nobody but itself.

// locksEffects are those of statements that lock by their own text, up to the end of their transaction.
const locksEffects = parser.LocksRows | parser.LocksTable | parser.LocksTransaction

// locked notes the groups of which st, planned as p, may lock rows that it does not write. Nobody asks for what is proved to read only.
func (s *Session) locked(l *Layout, v *survey, st *parser.Statement, p *plan.Plan) {
	if len(l.Motion.Groups) == 0 {
		return
	}
	code := s.mayLockInside(st)
	if !code && st.Effects&locksEffects == 0 {
		return
	}
	v.relies = v.relies || code || p.Write
	for _, g := range l.Motion.Groups {
		if (code || p.Touches.In(g.Spans)) && !slices.Contains(v.stays, g.Number) {
			v.stays = append(v.stays, g.Number)
		}
	}
}

// fetched is locked for cursors, which may have been declared before buckets began to move, and lock only now.
func (s *Session) fetched(l *Layout, v *survey, st *parser.Statement) {
	if (s.trail.cursors || v.trail.cursors) && runs(st, parser.Fetch) {
		v.lockedUnseen(l)
	}
}

// resumed is locked for a portal that was bound before, as fetched is for cursors.
func (s *Session) resumed(l *Layout, v *survey) {
	if s.trail.cursors {
		v.lockedUnseen(l)
	}
}

// lockedUnseen is locked for what nobody knows.
func (v *survey) lockedUnseen(l *Layout) {
	v.relies = true
	for _, g := range l.Motion.Groups {
		if !slices.Contains(v.stays, g.Number) {
			v.stays = append(v.stays, g.Number)
		}
	}
}

// mayLockInside reports whether st, which is no proved reading, runs code that may lock rows: of functions, triggers, rules, views. Any bucket's: the key by which
// the statement was planned binds none of them.
func (s *Session) mayLockInside(st *parser.Statement) bool {
	if st.Unparsed || st.Effects&parser.RunsOpaqueCode != 0 {
		return true
	}
	var known *catalog.Snapshot
	if !s.db.Hazards.Pending() {
		known = s.db.Hazards.Snapshot()
	}
	for i := range st.Commands {
		c := &st.Commands[i]
		if c.Kind == parser.Explain && !c.Analyze {
			continue
		}
		if c.Kind == parser.Explain && c.Explained != nil {
			c = c.Explained
		}
		if known.Behind(c).Locks {
			return true
		}
	}
	return false
}

// lockedNamed is locked for what a Bind binds on a connection of the session's own; st is nil where nobody knows what that is.
func (s *Session) lockedNamed(l *Layout, v *survey, st *parser.Statement) {
	switch {
	case len(l.Motion.Groups) == 0:
	case st == nil, s.db.Hazards.Reading(st).Verdict != catalog.Read && s.mayLockInside(st):
		v.lockedUnseen(l)
	case st.Effects&locksEffects != 0:
		relies := v.relies || st.Effects&parser.Writes != 0
		v.lockedUnseen(l)
		v.relies = relies
	}
}

// stays are the groups of the requests that the shard owns, and that a transaction goes on with.
func (s *Session) stays(l *Layout, v *survey, at int) []int {
	if !v.relies && s.tx == wire.TxIdle && s.opening == nil && len(v.ran) == 1 && len(v.ran[0].st.Commands) == 1 {
		return nil
	}
	return l.owned(v.stays, at)
}

// owned are those of groups that the shard owns, in order.
func (l *Layout) owned(groups []int, at int) (all []int) {
	for _, g := range l.Motion.Groups {
		if slices.Contains(groups, g.Number) && l.Schema.Owner(g.Spans[0].First) == at {
			all = append(all, g.Number)
		}
	}
	slices.Sort(all)
	return all
}

// stay has the rows stay on each shard that j may lock there.
func (x *wide) stay(j *job, taking []*branch) (refusal *wire.Error, err error) {
	if len(x.l.Motion.Groups) == 0 {
		return nil, nil
	}
	var v survey
	x.s.fetched(x.l, &v, j.st)
	if j.plan.Write || x.s.db.Hazards.Reading(j.st).Verdict != catalog.Read {
		x.s.locked(x.l, &v, j.st, &j.plan)
	}
	for _, b := range taking {
		owned := x.l.owned(v.stays, b.index)
		if len(owned) == 0 {
			continue
		}
		if err := b.query(x.s, "SELECT "+shardmap.StaySQL(owned...), func([][]byte) error { return nil }); err != nil {
			return asRefusal(err)
		}
	}
	return nil, nil
}
