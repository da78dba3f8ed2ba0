package fleet

import (
	"slices"
	"sort"
	"time"

	"pgtier/router/balance"
)

// history remembers when the manager was first seen at which position, so that a replica's position becomes a time. The
// replica's own pg_last_xact_replay_timestamp cannot tell that: on an idle system it grows although nothing is missing.
// Not safe for concurrent use.
type history struct {
	points []point   // both fields grow
	newest time.Time // when the last point's position was last confirmed
}

type point struct {
	at  time.Time // before the question was sent, so a lag is rather too long
	lsn balance.LSN
}

// historyMost bounds the points. At one every 3 ms it is 3 s in full, and thinned out ever further back.
const historyMost = 1024

// add takes a sample of the manager.
func (h *history) add(at time.Time, lsn balance.LSN) {
	last := len(h.points) - 1
	if last >= 0 && lsn < h.points[last].lsn {
		// A manager that crashed without fsync or with asynchronous commits begins again further back.
		h.points, last = h.points[:0], -1
	}
	h.newest = at
	if last >= 0 && lsn == h.points[last].lsn {
		return
	}
	if len(h.points) == historyMost {
		h.thin()
	}
	h.points = append(h.points, point{at, lsn})
}

// thin drops every second point of the older half: times long ago may be coarser.
func (h *history) thin() {
	kept := h.points[:0]
	for i, p := range h.points {
		if i >= historyMost/2 || i%2 == 0 {
			kept = append(kept, p)
		}
	}
	h.points = kept
}

func (h *history) reset() { *h = history{points: slices.Clip(h.points[:0])} }

// lag is how long ago the manager went beyond replayed. One that has everything of the last sample has no lag, unless that
// sample is older than fresh: then nobody knows what it misses since, and the sample's age counts.
func (h *history) lag(replayed balance.LSN, now time.Time, fresh time.Duration) time.Duration {
	n := len(h.points)
	if n == 0 {
		return 0
	}
	if replayed >= h.points[n-1].lsn {
		if age := now.Sub(h.newest); age > fresh {
			return age
		}
		return 0
	}
	i := sort.Search(n, func(i int) bool { return h.points[i].lsn > replayed })
	return max(now.Sub(h.points[i].at), 1)
}
