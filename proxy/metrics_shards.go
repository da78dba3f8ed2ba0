package proxy

// shards tells of the shards of up to maxSeries sharded databases.
func (c *collector) shards(s *sink) {
	databases := 0
	for name, d := range c.proxy.listed() {
		if !d.conf.Load().Sharded() || databases >= maxSeries {
			continue
		}
		databases++
		s.gauge("pgtier_in_doubt_transactions", "Transactions over several shards that were prepared and not carried out when the shards were asked last.",
			float64(d.inDoubt.Load()), "database", name)
		for i, shard := range d.shards() {
			if i == 0 {
				s.gauge("pgtier_map_version", "Version of the map of buckets to shards in force; 0 while there is none.", float64(shard.Version), "database", name)
				s.gauge("pgtier_map_age_seconds", "How long ago the control database said that the map is in force; negative if it never has.", shard.Age.Seconds(), "database", name)
			}
			s.gauge("pgtier_shard_buckets", "Buckets that the shard owns.", float64(shard.Buckets), "database", name, "shard", shard.Name)
			s.gauge("pgtier_shard_usable", "1 while statements are sent to the shard.", truth(shard.Fault == ""), "database", name, "shard", shard.Name)
		}
	}
}
