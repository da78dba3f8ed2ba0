package fleet

import (
	"time"

	"go.uber.org/zap"

	"pgtier/router/balance"
)

// publish draws the conclusions from what is known and stores them as the new View. f.mu is held.
func (f *Fleet) publish(now time.Time) {
	before := f.roles
	claims := make([]claim, len(f.hosts))
	for i := range f.hosts {
		claims[i] = f.claim(i)
	}
	verdict := f.roles.elect(claims)
	if f.roles.epoch != before.epoch {
		f.appeared(now)
	}
	if f.roles.manager < 0 && before.manager >= 0 {
		f.lostAt = now
		f.pokeAll() // to hunt for a new one
	}
	f.eject(now)
	for i := range f.hosts {
		f.settleState(i, verdict.reasons[i], now)
	}
	old := f.view.Load()
	v := &View{At: now, Manager: f.roles.manager, Last: f.roles.last, Epoch: f.roles.epoch, Conflict: verdict.conflict, Hosts: make([]Host, len(f.hosts))}
	for i := range f.hosts {
		v.Hosts[i] = f.describe(i, now)
	}
	f.view.Store(v)
	f.logChange(old, v)
	f.considerPromotion(now)
	if f.roles.epoch != before.epoch || f.roles.manager != before.manager {
		f.wakeWaiters()
	}
}

// claim is what server i says of itself.
func (f *Fleet) claim(i int) claim {
	h := &f.hosts[i]
	c := claim{name: f.servers[i].Name, closed: h.failure.closed, fenced: h.fenced, fence: h.fence}
	// A server whose slots are all taken is alive, and what it last was.
	if h.answered || h.failure.state == balance.Full {
		c.role, c.timeline, c.system = h.status.role, h.status.timeline, h.status.system
	}
	return c
}

// appeared begins a new epoch: positions of another manager, or from before a crash, compare with nothing.
func (f *Fleet) appeared(now time.Time) {
	m := &f.hosts[f.roles.manager]
	f.lostAt = time.Time{}
	f.forgetOrder()
	f.history.reset()
	f.guard.reset()
	f.visible.Store(0)
	f.goal.Store(0)
	f.sought.Store(0)
	f.replayed.Store(0)
	if m.answered {
		f.history.add(now, m.status.position)
	}
}

// eject rests replicas that sessions keep losing, and never all. f.mu is held.
func (f *Fleet) eject(now time.Time) {
	tallies := make([]balance.Tally, len(f.hosts))
	for i := range f.hosts {
		l, h := &f.loads[i], &f.hosts[i]
		tallies[i] = balance.Tally{Calls: l.calls.Load(), Failures: l.failures.Load(), Streak: l.streak.Load(),
			Gone: i == f.roles.manager || h.state < balance.Lagging || now.Before(h.restUntil)}
	}
	for i, out := range f.cfg.Ejection.Eject(nil, tallies) {
		if out {
			f.hosts[i].restUntil = now.Add(f.cfg.EjectFor)
			f.loads[i].streak.Store(0)
		}
	}
	if now.Sub(f.window) < f.cfg.EjectWindow {
		return
	}
	f.window = now
	for i := range f.loads {
		f.loads[i].calls.Store(0)
		f.loads[i].failures.Store(0)
	}
}

// settleState moves server i to the state that follows from what is known. objection is elect's.
func (f *Fleet) settleState(i int, objection string, now time.Time) {
	h := &f.hosts[i]
	state, reason := balance.Up, ""
	switch {
	case !h.answered:
		state, reason = h.failure.state, h.failure.reason
	case objection != "":
		state, reason = balance.Down, objection
	case i == f.roles.manager:
	case now.Before(h.restUntil):
		state, reason = balance.Failing, "sessions keep losing it"
	case f.loads[i].full.Load() > now.UnixNano():
		state, reason = balance.Full, "refuses connections because all its slots are taken"
	case f.cfg.MaxLag > 0 && f.lag(i, now) > f.cfg.MaxLag:
		state, reason = balance.Lagging, "is further behind than "+f.cfg.MaxLag.String()
	}
	if state != h.state {
		h.since = now
	}
	switch {
	case state == balance.Down || state == balance.Starting || state == balance.Failing:
		// One that was up when we first asked is as warm as any.
		h.wasDown, h.warmSince = h.asked, time.Time{}
	case state >= balance.Lagging && h.wasDown:
		h.wasDown, h.warmSince = false, now
	case !h.warmSince.IsZero() && now.Sub(h.warmSince) >= f.cfg.SlowStart:
		h.warmSince = time.Time{}
	}
	h.state, h.reason = state, reason
}

// lag is how far server i is behind the manager in time. A manager that was asked within two rounds counts as asked now.
func (f *Fleet) lag(i int, now time.Time) time.Duration {
	if i == f.roles.manager || f.hosts[i].status.role != Replica {
		return 0
	}
	return f.history.lag(f.hosts[i].status.position, now, 2*f.cfg.Slow+f.cfg.Silence)
}

func (f *Fleet) describe(i int, now time.Time) Host {
	h := &f.hosts[i]
	return Host{
		Name: f.servers[i].Name, Server: &f.servers[i], Role: h.status.role, Timeline: h.status.timeline, System: h.status.system,
		State: h.state, Reason: h.reason, Silent: !h.answered && h.failure.silent, Since: h.since, WarmSince: h.warmSince,
		Replayed: h.status.position, Asked: h.sent, Synchronous: h.status.synchronous, Told: h.told,
		Lag: f.lag(i, now),
	}
}

// logChange tells of what changed between two views.
func (f *Fleet) logChange(old, v *View) {
	if old == nil {
		return
	}
	for i := range v.Hosts {
		if h, was := &v.Hosts[i], &old.Hosts[i]; h.State != was.State || h.Role != was.Role {
			f.log.Info("server changed", zap.String("server", h.Name), zap.Stringer("state", h.State), zap.Stringer("role", h.Role),
				zap.Uint32("timeline", h.Timeline), zap.String("reason", h.Reason))
		}
	}
	switch {
	case v.Manager < 0 && old.Manager >= 0:
		f.log.Warn("manager lost", zap.String("server", v.Hosts[old.Manager].Name), zap.String("reason", v.Hosts[old.Manager].Reason))
	case v.Epoch != old.Epoch:
		h := &v.Hosts[v.Manager]
		f.log.Info("manager found", zap.String("server", h.Name), zap.Uint32("timeline", h.Timeline), zap.Uint64("epoch", v.Epoch))
	}
	if v.Conflict != old.Conflict && v.Conflict != "" {
		f.log.Warn("more than one server claims to be the manager", zap.String("conflict", v.Conflict))
	}
}
