package admin

import "time"

// Totals are what one database's sessions did, since the proxy started.
type Totals struct {
	Assignments, Transactions, Queries uint64
	Received, Sent                     uint64        // bytes, from and to clients
	TxTime, QueryTime, WaitTime        time.Duration // sums
	ClientParses, ServerParses, Binds  uint64
}

// Stats are one database's totals, now and at the begin of the span that
// averages are taken over.
type Stats struct {
	Database string
	Now, Old Totals
	Span     time.Duration // between Old and Now
}

// Add returns the sum of both.
func (t Totals) Add(o Totals) Totals {
	return Totals{
		t.Assignments + o.Assignments, t.Transactions + o.Transactions, t.Queries + o.Queries,
		t.Received + o.Received, t.Sent + o.Sent,
		t.TxTime + o.TxTime, t.QueryTime + o.QueryTime, t.WaitTime + o.WaitTime,
		t.ClientParses + o.ClientParses, t.ServerParses + o.ServerParses, t.Binds + o.Binds,
	}
}

// figures are the totals in the order of PgBouncer's columns, times in microseconds.
func (t Totals) figures() []any {
	return []any{
		t.Assignments, t.Transactions, t.Queries, t.Received, t.Sent,
		t.TxTime.Microseconds(), t.QueryTime.Microseconds(), t.WaitTime.Microseconds(),
		t.ClientParses, t.ServerParses, t.Binds,
	}
}

// averages are PgBouncer's: counts and bytes a second; times a transaction, a
// query and an assignment, in microseconds.
func (s Stats) averages() []any {
	rate := func(now, old uint64) uint64 {
		if s.Span <= 0 || now < old {
			return 0
		}
		return uint64(float64(now-old) / s.Span.Seconds())
	}
	each := func(now, old time.Duration, n uint64) int64 {
		if n == 0 {
			return 0
		}
		return (now - old).Microseconds() / int64(n)
	}
	n, o := s.Now, s.Old
	return []any{
		rate(n.Assignments, o.Assignments), rate(n.Transactions, o.Transactions), rate(n.Queries, o.Queries),
		rate(n.Received, o.Received), rate(n.Sent, o.Sent),
		each(n.TxTime, o.TxTime, n.Transactions-o.Transactions),
		each(n.QueryTime, o.QueryTime, n.Queries-o.Queries),
		each(n.WaitTime, o.WaitTime, n.Assignments-o.Assignments),
		rate(n.ClientParses, o.ClientParses), rate(n.ServerParses, o.ServerParses), rate(n.Binds, o.Binds),
	}
}
