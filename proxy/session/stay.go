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
func (l *Layout) locked(groups []int, st *parser.Statement, p *plan.Plan) []int {
	if len(l.Motion.Groups) == 0 {
		return groups
	}
	calls := mayLockInside(st)
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

// mayLockInside reports whether st runs code that may lock rows, where st is not proved to read only. Code that rows' changes run does so behind the fence's
// own triggers, or in front of a change that these refuse.
func mayLockInside(st *parser.Statement) bool {
	return st.Unparsed || slices.ContainsFunc(st.Commands, func(c parser.Command) bool {
		switch c.Kind {
		case parser.Call, parser.Do:
			return true
		case parser.Select:
			return slices.ContainsFunc(c.Functions, func(name string) bool { return !locksNoRows(name) })
		}
		return false
	})
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
	if len(x.l.Motion.Groups) == 0 || !j.plan.Write && x.s.db.Hazards.Reading(j.st).Verdict == catalog.Read {
		return nil, nil
	}
	groups := x.l.locked(nil, j.st, &j.plan)
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
