package session

import (
	"slices"
	"strings"

	"pgtier/parser"
	"pgtier/proxy/shardmap"
	"pgtier/proxy/wire"
	"pgtier/router/catalog"
	"pgtier/router/plan"
)

// A transaction that locks rows, or whole tables, relies on their staying as they are until its end. The fence of a move knows of writers only: a row that is
// locked at one shard would be anybody's at the next. So while buckets move, a transaction asks before it locks rows of them (shardmap.StaySQL): it has the lock of
// their groups then, as writers do, and the fence waits for its end. What locks in a transaction of its own locks for nobody but itself.

// locked adds to groups those of which st, planned as p, may lock rows without writing them. Nobody asks for what is proved to read only.
func (l *Layout) locked(groups []int, st *parser.Statement, p *plan.Plan, verdict catalog.Verdict) []int {
	if len(l.Motion.Groups) == 0 {
		return groups
	}
	calls := mayLockInside(st, verdict)
	if !calls && st.Effects&(parser.LocksRows|parser.LocksTable) == 0 {
		return groups
	}
	for _, g := range l.Motion.Groups {
		if (p.Touches.In(g.Spans) || calls && p.Touches.Reach == plan.NoBucket) && !slices.Contains(groups, g.Number) {
			groups = append(groups, g.Number)
		}
	}
	return groups
}

// lockedUnseen is locked for what nobody knows.
func (l *Layout) lockedUnseen(groups []int) []int {
	for _, g := range l.Motion.Groups {
		if !slices.Contains(groups, g.Number) {
			groups = append(groups, g.Number)
		}
	}
	return groups
}

// mayLockInside reports whether st, which is no proved reading, runs code that may lock rows. Triggers do so behind the fence's own, or in front of a change that
// these refuse.
func mayLockInside(st *parser.Statement, verdict catalog.Verdict) bool {
	if st.Unparsed || st.Effects&parser.RunsOpaqueCode != 0 {
		return true
	}
	for i := range st.Commands {
		c := &st.Commands[i]
		if c.Kind == parser.Explain && !c.Analyze || c.Kind == parser.Prepare {
			continue
		}
		if slices.ContainsFunc(c.Functions, func(name string) bool { return !locksNoRows(name) }) {
			return true
		}
		if (c.Kind == parser.Select || c.Kind == parser.Declare) && verdict == catalog.Unproved && len(c.Functions) == 0 && c.Effects&^parser.UsesCursor == 0 {
			return true // by a view, or an operator
		}
	}
	return false
}

// namedMayLock reports whether what a Bind binds on a connection of the session's own may lock rows; st is nil where nobody knows what that is.
func (s *Session) namedMayLock(st *parser.Statement) bool {
	if st == nil || st.Effects&(parser.LocksRows|parser.LocksTable) != 0 {
		return true
	}
	verdict := s.db.Hazards.Reading(st).Verdict
	return verdict != catalog.Read && mayLockInside(st, verdict)
}

// locksNoRows knows the commonest of PostgreSQL's functions that are no reading: transactions that call them may be long.
func locksNoRows(name string) bool {
	switch name {
	case "nextval", "currval", "lastval", "setval", "set_config", "pg_notify", "pg_sleep":
		return true
	}
	return strings.HasPrefix(name, "pg_advisory_") || strings.HasPrefix(name, "pg_try_advisory_")
}

// stays are the groups of the requests that the shard owns, and that a transaction goes on with.
func (s *Session) stays(l *Layout, v *survey, at int) []int {
	if s.tx == wire.TxIdle && s.opening == nil && len(v.ran) == 1 && len(v.ran[0].st.Commands) == 1 {
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
	verdict := x.s.db.Hazards.Reading(j.st).Verdict
	if !j.plan.Write && verdict == catalog.Read {
		return nil, nil
	}
	groups := x.l.locked(nil, j.st, &j.plan, verdict)
	for _, b := range taking {
		owned := x.l.owned(groups, b.index)
		if len(owned) == 0 {
			continue
		}
		if err := b.query(x.s, "SELECT "+shardmap.StaySQL(owned...), func([][]byte) error { return nil }); err != nil {
			return asRefusal(err)
		}
	}
	return nil, nil
}
