package proxy

import (
	"time"

	"pgtier/proxy/follow"
)

// caches tells of up to maxSeries databases that keep answers. What shards have is added up; of delays the longest is told.
func (c *collector) caches(s *sink) {
	databases, now := 0, c.proxy.env.Now()
	for name, d := range c.proxy.listed() {
		keepers := d.keepers()
		if len(keepers) == 0 || databases >= maxSeries {
			continue
		}
		databases++
		kept, at := viewCache(name, keepers, now), []string{"database", name}
		s.counter("pgtier_cache_hits_total", "Reads answered from the cache.", float64(kept.Hits), at...)
		s.counter("pgtier_cache_misses_total", "Reads looked for in the cache that were not there.", float64(kept.Misses), at...)
		s.counter("pgtier_cache_shared_total", "Reads answered by another session's question.", float64(kept.Shared), at...)
		s.counter("pgtier_cache_passed_total", "Reads that went to a server because a write of what they depend on was under way.", float64(kept.Passed), at...)
		s.counter("pgtier_cache_stale_total", "Reads answered from the cache because no server was there to ask.", float64(kept.Stale), at...)
		s.counter("pgtier_cache_kept_total", "Answers put into the cache.", float64(kept.Kept), at...)
		s.counter("pgtier_cache_evictions_total", "Answers given up for want of room.", float64(kept.Evicted), at...)
		s.counter("pgtier_cache_writes_total", "Transactions that ended answers, counted on each shard that took part.", float64(kept.Writes), at...)
		s.counter("pgtier_cache_flushes_total", "Times that all answers were ended, of one shard or of a database without.", float64(kept.Flushes), at...)
		s.gauge("pgtier_cache_answers", "Answers kept, ended ones among them until they are evicted or asked for.", float64(kept.Answers), at...)
		s.gauge("pgtier_cache_bytes", "Memory of the answers kept.", float64(kept.Bytes), at...)
		if stats, followed := followed(keepers); followed {
			s.gauge("pgtier_cache_delay_seconds", "How long ago it was known that everything written past the proxy is known; negative before the first time.", stats.Delay.Seconds(), at...)
			s.counter("pgtier_cache_followed_transactions_total", "Transactions read from the managers' logs.", float64(stats.Transactions), at...)
			s.counter("pgtier_cache_follower_losses_total", "Times that a manager's log was lost, and everything with it.", float64(stats.Losses), at...)
			s.gauge("pgtier_cache_retained_wal_bytes", "Write-ahead log that the managers keep for the followers.", float64(stats.Retained), at...)
		}
		serving := true
		for _, k := range keepers {
			serving = serving && k.cache.Away() == 0 && !k.cache.Silent(now)
		}
		s.gauge("pgtier_cache_unknown_transactions", "Transactions of which nobody knows yet what has become.", float64(kept.Unknown), at...)
		s.gauge("pgtier_cache_serving", "1 while answers are served, 0 while the cache stands aside, that of one shard at least.", truth(serving), at...)
	}
}

// followed adds up what the followers of shards have done; ok is false if nothing is followed. Its delay is the longest, negative if a shard's is not known.
func followed(keepers []*keeper) (sum follow.Stats, ok bool) {
	unknown := false
	for _, k := range keepers {
		f := k.feed.Load()
		if f == nil {
			continue
		}
		stats := f.follower.Stats()
		sum.Delay, unknown, ok = max(sum.Delay, stats.Delay), unknown || stats.Delay < 0, true
		sum.Transactions, sum.Losses, sum.Retained = sum.Transactions+stats.Transactions, sum.Losses+stats.Losses, sum.Retained+stats.Retained
	}
	if unknown {
		sum.Delay = -time.Second
	}
	return sum, ok
}
