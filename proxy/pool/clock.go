package pool

import (
	"sync/atomic"
	"time"
)

// clock counts nanoseconds since the Registry was made. The hot path reads coarse, which the janitor sets at least once
// in janitorEvery, because reading the real clock twice a transaction costs as much as the rest of Acquire and Release.
type clock struct {
	epoch  time.Time
	coarse atomic.Int64
}

// newClock starts at one nanosecond, so that 0 can mean never.
func newClock() clock { return clock{epoch: time.Now().Add(-1)} }

// now is the exact time; it also refreshes coarse.
func (c *clock) now() int64 {
	now := int64(time.Since(c.epoch))
	c.coarse.Store(now)
	return now
}

func (c *clock) at(t time.Time) int64 { return int64(t.Sub(c.epoch)) }

func (c *clock) time(at int64) time.Time { return c.epoch.Add(time.Duration(at)) }
