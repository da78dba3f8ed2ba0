package balance

import "time"

// coldest is the share that a server begins with in slow start: enough to warm its caches and to measure it, little
// enough that a server with cold caches does not spoil the 95th percentile of the reads.
const coldest = 0.05

// Warmth is the part of its full share that a server gets which came back so long ago. It grows evenly from a twentieth
// to 1 over the time ramp; a ramp of 0 or less is over at once.
func Warmth(since, ramp time.Duration) float64 {
	if ramp <= 0 || since >= ramp {
		return 1
	}
	return coldest + (1-coldest)*float64(max(since, 0))/float64(ramp)
}
