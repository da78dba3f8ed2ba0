package fleet

import (
	"context"
	"time"

	"go.uber.org/zap"

	"pgtier/router/balance"
)

const (
	// flushAfter is how long somebody waits for a position before the manager is made to flush its log: longer than the
	// flush, the stream and the replay of a commit take, after which nothing is in the way but what nobody flushes.
	flushAfter = 50 * time.Millisecond
	// flushRest is the shortest time between two flushes: they are writes, ten a second at most.
	flushRest = 100 * time.Millisecond
	// flushRetry is the rest after one that the server refused, or did not answer.
	flushRetry = time.Minute
)

// flusher tells when the manager must be made to flush its log: an open transaction's records stay unflushed, and unseen by
// replicas, until somebody commits or they fill a page. The zero value has flushed nothing.
type flusher struct {
	epoch   uint64      // that the rest is of
	awaited balance.LSN // that somebody waits for; 0: nobody does
	since   time.Time   // when that was noticed
	flushed balance.LSN // how far the log was flushed the last time
	next    time.Time   // not before
	told    bool        // that the role may not
}

// due is when the manager of epoch, whose log ends at at, must flush; false: not as things are.
func (f *flusher) due(now time.Time, epoch uint64, sought, visible, at balance.LSN) (time.Time, bool) {
	if f.epoch != epoch {
		*f = flusher{epoch: epoch, told: f.told}
	}
	if visible >= f.awaited {
		f.awaited = 0
		if sought = min(sought, at); sought > visible { // tokens come from clients: what lies beyond the log is nobody's to flush
			f.awaited, f.since = sought, now
		}
	}
	if f.awaited == 0 || at <= f.flushed {
		return time.Time{}, false
	}
	due := f.since.Add(flushAfter)
	if due.Before(f.next) {
		due = f.next
	}
	return due, true
}

// flushDue is when the monitor's server must be made to flush its log; false: not as things are.
func (m *monitor) flushDue(now time.Time) (time.Time, bool) {
	f := m.fleet
	v := f.View()
	if m.role != Manager || v.Manager != m.index || !f.sights.active() {
		m.flushes.awaited = 0
		return time.Time{}, false
	}
	return m.flushes.due(now, v.Epoch, balance.LSN(f.sought.Load()), balance.LSN(f.visible.Load()), m.at)
}

// flush makes the manager flush its log. That it does not answer in time tells of its disk, not that it is away: then the
// questions go on over another connection.
func (m *monitor) flush(ctx context.Context) {
	at, refused, err := m.probe.flush()
	now := time.Now()
	m.flushes.next = now.Add(flushRest)
	switch {
	case err != nil:
		m.flushes.next = now.Add(flushRetry)
		m.disconnect()
		m.broken, m.lastAsk = !silent(err), time.Time{}
		if ctx.Err() == nil {
			m.fleet.log.Warn("the manager does not flush its log", zap.String("server", m.fleet.servers[m.index].Name), zap.Error(err))
		}
	case refused != nil:
		m.flushes.next = now.Add(flushRetry)
		if !m.flushes.told {
			m.flushes.told = true
			m.fleet.log.Warn("cannot make the manager flush its log: sessions that go there from a replica may wait for transactions that are open",
				zap.String("server", m.fleet.servers[m.index].Name), zap.Error(refused))
		}
	default:
		m.flushes.flushed = at
	}
}
