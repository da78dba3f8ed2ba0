package proxy

import (
	"context"
	"time"

	"pgtier/proxy/session"
)

// sweepInterval is how late a time limit may strike.
const sweepInterval = 100 * time.Millisecond

// sweep keeps the sessions' time limits, and ends standstills between them. One walk over all sessions is cheaper
// than a timer set and cleared for every statement.
func (p *Proxy) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var waiting []session.Waiting
		for _, s := range p.Sessions() {
			s.KeepLimits()
			if w, ok := s.Waiting(); ok {
				waiting = append(waiting, w)
			}
		}
		if s := session.Standstill(waiting, p.env.Now()); s != nil {
			s.GiveUp()
		}
		for _, d := range p.allDatabases() {
			for _, part := range *d.parts.Load() {
				part.shared.Pipelines.Tend(p.env.Now(), d.conf.Load().Pool.Pipeline.Slow)
			}
		}
	}
}
