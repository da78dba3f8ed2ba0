package proxy

import (
	"context"

	"pgtier/proxy/admin"
	"pgtier/proxy/wire"
)

// noMoves is a proxy that nobody tells of moves.
type noMoves struct{}

func (noMoves) Moves() []admin.Move { return nil }

func (noMoves) Reshard(context.Context, string, string) error {
	return wire.NewError(wire.CodeFeatureNotSupported, "this process moves no buckets", "Run pgtier reshard with the configuration file.")
}

// moves tells of up to maxSeries moves of buckets.
func (c *collector) moves(s *sink) {
	moves := c.proxy.moves.Moves()
	told := map[string]bool{}
	for i, m := range moves {
		if i >= maxSeries {
			return
		}
		if !told[m.Database] {
			told[m.Database] = true
			over := m.Step == "done" || m.Step == "cancelled"
			s.gauge("pgtier_reshard_running", "1 while a job moves buckets, 0 when the last one is over.", truth(!over), "database", m.Database)
			s.gauge("pgtier_reshard_stopped", "1 while the job has stopped with an error that people have to do something about.", truth(m.Error != "" && !over), "database", m.Database)
			s.gauge("pgtier_reshard_misses", "Cuts of the job that did not come through in time and were tried again.", float64(m.Misses), "database", m.Database)
			s.gauge("pgtier_reshard_held_seconds", "How long statements that touch a group of buckets waited for its cut, over all cuts of the job.", m.Held50.Seconds(), "database", m.Database, "quantile", "0.5")
			s.gauge("pgtier_reshard_held_seconds", "How long statements that touch a group of buckets waited for its cut, over all cuts of the job.", m.Held99.Seconds(), "database", m.Database, "quantile", "0.99")
			s.gauge("pgtier_reshard_held_seconds", "How long statements that touch a group of buckets waited for its cut, over all cuts of the job.", m.HeldMost.Seconds(), "database", m.Database, "quantile", "1")
		}
		labels := []string{"database", m.Database, "source", m.Source, "target", m.Target}
		s.gauge("pgtier_reshard_groups", "Groups of buckets of a move.", float64(m.Groups), labels...)
		s.gauge("pgtier_reshard_groups_done", "Groups of buckets of a move that their target owns.", float64(m.GroupsDone), labels...)
		s.gauge("pgtier_reshard_copied_bytes", "Bytes of rows that were copied.", float64(m.Bytes), labels...)
		s.gauge("pgtier_reshard_expected_bytes", "Bytes of rows to copy, an estimate.", float64(m.ExpectedBytes), labels...)
		s.gauge("pgtier_reshard_lag_bytes", "Log that the source has written and the target has not applied.", float64(m.Lag), labels...)
		s.gauge("pgtier_reshard_reverse_lag_bytes", "Log that the target has written and the source has not applied.", float64(m.ReverseLag), labels...)
		s.gauge("pgtier_reshard_retained_bytes", "Log that source and target keep for a move.", float64(m.Retained), labels...)
	}
}
