package fleet

import (
	"errors"
	"time"

	"go.uber.org/zap"

	"pgtier/proxy/wire"
	"pgtier/router/balance"
)

// promotion is an order to a replica to become the manager. The zero value is none.
type promotion struct {
	at     time.Time // when it was given, and then when its monitor took it
	target int
	taken  bool // the target is told, or may have been
	fences bool // it is what fenced the old manager; an earlier order that may have been heard is not
}

// promoteAgain is how long an order may take to show an effect: PostgreSQL's own default wait (pg_promote, wait_seconds).
const promoteAgain = 60 * time.Second

// considerPromotion orders the most advanced replica to become the manager, if that is allowed and the fleet's own probes
// agree that there is none. DESIGN.md says what that proves. f.mu is held.
func (f *Fleet) considerPromotion(now time.Time) {
	if !f.cfg.Promote || f.roles.manager >= 0 || f.roles.last < 0 || f.lostAt.IsZero() || now.Sub(f.lostAt) < f.cfg.PromoteAfter {
		return
	}
	if !f.order.at.IsZero() && !f.order.taken && !f.hosts[f.order.target].answered {
		f.withdraw()
		return // the old manager, if it is there, is heard first
	}
	if !f.order.at.IsZero() && now.Sub(f.order.at) < promoteAgain {
		return
	}
	target, ok := f.quorum()
	if !ok {
		return
	}
	old := &f.hosts[f.roles.last]
	f.forgetOrder()
	f.order = promotion{at: now, target: target, fences: !old.fenced}
	old.fenced, old.fence = true, f.roles.highest
	f.log.Warn("promoting a replica", zap.String("server", f.servers[target].Name), zap.Stringer("received", f.hosts[target].advance()),
		zap.String("fenced", f.servers[f.roles.last].Name), zap.Duration("without_manager", now.Sub(f.lostAt)))
	m := f.monitors[target]
	m.promote.Store(true)
	m.poke()
}

// takeOrder reports whether server i is still to become the manager, for its monitor, which then tells it: much may have
// happened since the order was given if the server was lost in between. From now on the order counts as heard, and no other
// is given for promoteAgain.
func (f *Fleet) takeOrder(i int, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	o := &f.order
	if o.at.IsZero() || o.target != i || o.taken || f.roles.manager >= 0 || now.Sub(o.at) >= promoteAgain {
		return false
	}
	if target, ok := f.quorum(); !ok || target != i {
		f.withdraw()
		return false
	}
	o.at, o.taken = now, true
	return true
}

// withdraw takes back an order that nobody was told, with the fence that it put up. f.mu is held.
func (f *Fleet) withdraw() {
	f.log.Warn("promotion withdrawn", zap.String("server", f.servers[f.order.target].Name))
	if f.order.fences {
		f.hosts[f.roles.last].fenced = false
	}
	f.forgetOrder()
}

// forgetOrder ends the order there is. f.mu is held.
func (f *Fleet) forgetOrder() {
	for _, m := range f.monitors {
		m.promote.Store(false)
	}
	f.order = promotion{}
}

// quorum reports whether more than half of the servers' probes say that the manager is gone and none says otherwise, and
// which replica has the most of its log. The old manager says so by not answering as one; a replica, by following the
// shard's timeline and having no stream; one that does not answer says nothing.
func (f *Fleet) quorum() (target int, ok bool) {
	votes, target := 0, -1
	for i := range f.hosts {
		h := &f.hosts[i]
		switch {
		case i == f.roles.last:
			if !h.asked || h.answered && h.status.role == Manager && !h.fenced || h.failure.closed {
				return -1, false
			}
			votes++
		case !h.answered || h.status.role != Replica || h.status.system != f.roles.system:
		case h.status.streaming:
			return -1, false
		default:
			votes++
			// One on an older timeline has an older past, however far it has come there.
			if h.status.timeline == f.roles.highest && (target < 0 || h.advance() > f.hosts[target].advance()) {
				target = i
			}
		}
	}
	return target, target >= 0 && 2*votes > len(f.hosts)
}

// advance is how much of the log a replica would have after a promotion, which replays all that was received.
func (h *known) advance() balance.LSN { return max(h.status.received, h.status.position) }

// promote orders the server to leave recovery. It does not wait: the next full questions see it happen.
func (p *probe) promote() error {
	p.msgs = wire.AppendQuery(p.msgs[:0], "SELECT pg_promote(false)")
	accepted := false
	err := p.run(func(_ int, fields [][]byte) error {
		accepted = len(fields) > 0 && string(fields[0]) == "t"
		return nil
	})
	if err == nil && !accepted {
		return errNotPromoted
	}
	return err
}

// errNotPromoted is pg_promote's false: the postmaster could not be signalled, after the order had been left in a file.
var errNotPromoted = errors.New("the server could not signal its postmaster")

// promoted takes the outcome of an order. A server's refusal proves that nothing happened, so the old manager is free to
// return; anything else leaves it fenced, because the order may have been heard.
func (f *Fleet) promoted(i int, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		f.log.Warn("promotion ordered", zap.String("server", f.servers[i].Name))
		return
	}
	var refusal *wire.Error
	if errors.As(err, &refusal) && f.order.target == i && f.order.fences {
		f.hosts[f.roles.last].fenced, f.order.fences = false, false
	}
	f.log.Error("promotion failed", zap.String("server", f.servers[i].Name), zap.Error(err))
}
