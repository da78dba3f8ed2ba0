package proxy

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"pgtier/proxy/admin"
	"pgtier/proxy/session"
)

// statsPeriod is PgBouncer's stats_period: averages are over the last whole
// period and what has passed of the present one.
const statsPeriod = time.Minute

// history keeps the totals of two moments for averages.
type history struct {
	mu     sync.Mutex
	older  moment // the begin of the span that averages are over
	newest moment
}

// moment is the totals of all databases at one time.
type moment struct {
	at     time.Time
	totals map[string]admin.Totals
}

// keepHistory notes the totals once a period until ctx ends.
func (p *Proxy) keepHistory(ctx context.Context) {
	p.ops.history.mu.Lock()
	begin := moment{at: p.started}
	p.ops.history.older, p.ops.history.newest = begin, begin
	p.ops.history.mu.Unlock()
	tick := time.NewTicker(statsPeriod)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		p.ops.history.note(moment{at: time.Now(), totals: p.totals()})
	}
}

func (h *history) note(m moment) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.older, h.newest = h.newest, m
}

func (h *history) begin() moment {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.older
}

// totals are those of every database now.
func (p *Proxy) totals() map[string]admin.Totals {
	out := map[string]admin.Totals{}
	for name, d := range p.listed() {
		out[name] = totalsOf(&d.stats)
	}
	return out
}

func totalsOf(s *session.Stats) admin.Totals {
	return admin.Totals{
		Assignments: s.ServerAssignments.Load(), Transactions: s.Transactions.Load(), Queries: s.Queries.Load(),
		Received: s.Received.Load(), Sent: s.Sent.Load(),
		TxTime: time.Duration(s.TxTime.Load()), QueryTime: time.Duration(s.QueryTime.Load()), WaitTime: time.Duration(s.WaitTime.Load()),
		ClientParses: s.ClientParses.Load(), ServerParses: s.ServerParses.Load(), Binds: s.Binds.Load(),
	}
}

// viewStats are the databases' totals and averages in order of name. The
// console's own commands are no queries that anybody pools.
func (p *Proxy) viewStats() []admin.Stats {
	begin, now := p.ops.history.begin(), time.Now()
	all := p.totals()
	all[adminDatabase] = admin.Totals{}
	var out []admin.Stats
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, admin.Stats{Database: name, Now: all[name], Old: begin.totals[name], Span: now.Sub(begin.at)})
	}
	return out
}
