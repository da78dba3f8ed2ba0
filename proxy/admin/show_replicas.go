package admin

import "math"

func hostColumns() []Column {
	return []Column{
		{"database", Text}, {"shard", Text}, {"server", Text}, {"host", Text}, {"port", Int4}, {"zone", Text}, {"weight", Int4},
		{"role", Text}, {"state", Text}, {"reason", Text}, {"timeline", Int8}, {"replayed_lsn", Text}, {"lag_ms", Int8},
		{"latency_us", Int8}, {"in_flight", Int4}, {"reads", Int8}, {"warm_percent", Int4}, {"conflict", Text},
	}
}

// showHosts lists the servers of every database, the configured manager first.
func showHosts(k *call) error {
	for _, h := range k.view.Hosts() {
		var timeline any
		if h.Timeline > 0 {
			timeline = int64(h.Timeline)
		}
		k.row(h.Database, h.Shard, h.Name, known(h.Addr), h.Port, known(h.Zone), h.Weight, h.Role, h.State, known(h.Reason), timeline,
			known(h.Replayed), h.Lag.Milliseconds(), h.Latency.Microseconds(), h.InFlight, h.Reads,
			int(math.Round(100*h.Warmth)), known(h.Conflict))
	}
	return nil
}
