package proxy

import "time"

// shards tells of the shards of up to maxSeries sharded databases.
func (c *collector) shards(s *sink) {
	databases := 0
	for name, d := range c.proxy.listed() {
		if !d.conf.Load().Sharded() || databases >= maxSeries {
			continue
		}
		databases++
		held := &d.stats.Held
		s.gauge("pgtier_statements_held", "Statements that wait for a move of buckets now.", float64(held.Now()), "database", name)
		upTo, count, seconds := held.Read()
		s.histogram("pgtier_held_seconds", "How long statements have waited for moves of buckets.", count, seconds, upTo, "database", name)
		s.counter("pgtier_fenced_statements_total", "Statements that the servers' fence has refused because their rows move, and that were sent again.",
			float64(d.stats.Fenced.Load()), "database", name)
		s.gauge("pgtier_in_doubt_transactions", "Transactions over several shards that were prepared and not carried out when the shards were asked last.",
			float64(d.inDoubt.Load()), "database", name)
		s.gauge("pgtier_in_doubt_oldest_seconds", "How long the oldest of the transactions in doubt had been prepared then; 0 while there is none. It holds locks and keeps vacuum back.",
			time.Duration(d.oldestInDoubt.Load()).Seconds(), "database", name)
		for i, shard := range d.shards() {
			if i == 0 {
				s.gauge("pgtier_map_version", "Version of the map of buckets to shards in force; 0 while there is none.", float64(shard.Version), "database", name)
				s.gauge("pgtier_motion_number", "Number of what moves of buckets ask of this proxy; each change has one of its own, 0 is none yet.", float64(shard.Motion), "database", name)
				s.gauge("pgtier_proxies", "Proxies that serve the database and have said so to the control database within their lease, this one among them.", float64(d.proxies()), "database", name)
				s.gauge("pgtier_map_age_seconds", "How long ago the control database said that the map is in force; negative if it never has.", shard.Age.Seconds(), "database", name)
			}
			s.gauge("pgtier_shard_buckets", "Buckets that the shard owns.", float64(shard.Buckets), "database", name, "shard", shard.Name)
			s.gauge("pgtier_shard_usable", "1 while statements are sent to the shard.", truth(shard.Fault == ""), "database", name, "shard", shard.Name)
		}
	}
}
