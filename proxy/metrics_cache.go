package proxy

// caches tells of up to maxSeries databases that keep answers.
func (c *collector) caches(s *sink) {
	databases := 0
	for name, d := range c.proxy.listed() {
		k := d.shared.Keeper.Load()
		if k == nil || databases >= maxSeries {
			continue
		}
		databases++
		kept, at := k.Cache, []string{"database", name}
		answers, bytes := kept.Size()
		s.counter("pgtier_cache_hits_total", "Reads answered from the cache.", float64(kept.Hits.Load()), at...)
		s.counter("pgtier_cache_misses_total", "Reads looked for in the cache that were not there.", float64(kept.Misses.Load()), at...)
		s.counter("pgtier_cache_shared_total", "Reads answered by another session's question.", float64(kept.Shared.Load()), at...)
		s.counter("pgtier_cache_passed_total", "Reads that went to a server because a write of what they depend on was under way.", float64(kept.Passed.Load()), at...)
		s.counter("pgtier_cache_stale_total", "Reads answered from the cache because no server was there to ask.", float64(kept.Stale.Load()), at...)
		s.counter("pgtier_cache_kept_total", "Answers put into the cache.", float64(kept.Kept.Load()), at...)
		s.counter("pgtier_cache_evictions_total", "Answers given up for want of room.", float64(kept.Evicted()), at...)
		s.counter("pgtier_cache_writes_total", "Transactions that ended answers.", float64(kept.Writes.Load()), at...)
		s.counter("pgtier_cache_flushes_total", "Times that all answers were ended.", float64(kept.Flushes.Load()), at...)
		s.gauge("pgtier_cache_answers", "Answers kept, ended ones among them until they are evicted or asked for.", float64(answers), at...)
		s.gauge("pgtier_cache_bytes", "Memory of the answers kept.", float64(bytes), at...)
		if f := d.keeper.Load().feed.Load(); f != nil {
			stats := f.follower.Stats()
			s.gauge("pgtier_cache_delay_seconds", "How long ago it was known that everything written past the proxy is known; negative before the first time.", stats.Delay.Seconds(), at...)
			s.counter("pgtier_cache_followed_transactions_total", "Transactions read from the manager's log.", float64(stats.Transactions), at...)
			s.counter("pgtier_cache_follower_losses_total", "Times that the manager's log was lost, and everything with it.", float64(stats.Losses), at...)
			s.gauge("pgtier_cache_retained_wal_bytes", "Write-ahead log that the manager keeps for the follower.", float64(stats.Retained), at...)
		}
		s.gauge("pgtier_cache_unknown_transactions", "Transactions of which nobody knows yet what has become.", float64(kept.Unknown.Load()), at...)
		s.gauge("pgtier_cache_serving", "1 while answers are served, 0 while the cache stands aside.", truth(kept.Away() == 0 && !kept.Silent(c.proxy.env.Now())), at...)
	}
}
