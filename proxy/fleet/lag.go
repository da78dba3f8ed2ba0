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

// historyMost bounds the points, and historyGrain is the largest part of its age by which thinning may shift a point: a lag
// is at most 3 % too short. That takes about 32 × ln(age of the first point / 3 ms) points: 740 for a year.
const (
	historyMost  = 1024
	historyGrain = 32
)

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

// thin drops points whose neighbours lie close together for their age. The last and the first stay.
func (h *history) thin() {
	for grain := time.Duration(historyGrain); len(h.points) > historyMost*3/4 && grain > 0; grain /= 2 {
		n := len(h.points)
		newest, kept := h.points[n-1].at, n // those kept move to the end of the slice
		last := newest
		for i := n - 1; i >= 0; i-- {
			p := h.points[i]
			if i == n-1 || i == 0 || last.Sub(h.points[i-1].at) > newest.Sub(h.points[i-1].at)/grain {
				kept--
				h.points[kept], last = p, p.at
			}
		}
		h.points = h.points[:copy(h.points, h.points[kept:])]
	}
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
