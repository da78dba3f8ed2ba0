package proxy

import (
	"context"
	"time"
)

// sweepInterval is how late a time limit may strike.
const sweepInterval = 100 * time.Millisecond

// sweep keeps the sessions' time limits. One walk over all sessions is cheaper
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
		for _, s := range p.Sessions() {
			s.KeepLimits()
		}
		for _, d := range p.allDatabases() {
			for _, part := range *d.parts.Load() {
				part.shared.Pipelines.Tend(p.env.Now(), d.conf.Load().Pool.Pipeline.Slow)
			}
		}
	}
}
