package proxy

import (
	"context"
	"runtime/debug"
	"time"

	"pgtier/proxy/session"
)

// sweepInterval is how late a time limit may strike.
const sweepInterval = 100 * time.Millisecond

// sweep keeps the sessions' time limits, ends standstills over server connections, and has those over locks looked for. One walk over all sessions is cheaper
// than a timer set and cleared for every statement.
func (p *Proxy) sweep(ctx context.Context) {
	tick := time.NewTicker(sweepInterval)
	defer tick.Stop()
	var tidy tidy
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		var waiting []session.Waiting
		for _, s := range p.Sessions() {
			s.KeepLimits()
			s.LookOut()
			if w, ok := s.Waiting(); ok {
				waiting = append(waiting, w)
			}
		}
		if i := session.Standstill(waiting, p.env.Now()); i >= 0 {
			waiting[i].Session.GiveUp(&waiting[i])
		}
		if tidy.due(p.env.Dozer.Dozing(), time.Now()) {
			p.running.Go(debug.FreeOSMemory) // ends by itself, in milliseconds
		}
		for _, d := range p.allDatabases() {
			for _, part := range *d.parts.Load() {
				part.shared.Pipelines.Tend(p.env.Now(), d.conf.Load().Pool.Pipeline.Slow)
			}
		}
	}
}

const (
	// crowd is how many clients have to fall asleep before memory is given back to the system.
	crowd = 1000
	// tidyAfter is how long nobody else has fallen asleep or woken up by then.
	tidyAfter = 2 * time.Second
	// tidyPause is the least time from once to the next: it costs a collection, and what is used again has to be got again.
	tidyPause = time.Minute
)

// tidy decides when memory is given back that a crowd of clients leaves when it has nothing to do: the runtime would wait
// two minutes for a reason to collect it. The zero value is ready. It belongs to the sweeper.
type tidy struct {
	dozing int       // at the last look
	since  time.Time // as many as now
	done   int       // how many dozed when memory was given back last
	at     time.Time // when that was
}

func (t *tidy) due(dozing int, now time.Time) bool {
	t.done = min(t.done, dozing)
	if dozing != t.dozing {
		t.dozing, t.since = dozing, now
		return false
	}
	if dozing < t.done+crowd || now.Sub(t.since) < tidyAfter || now.Sub(t.at) < tidyPause {
		return false
	}
	t.done, t.at = dozing, now
	return true
}
