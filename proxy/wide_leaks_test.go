package proxy_test

import (
	"testing"

	"pgtier/proxy/wire"
)

// TestNoLocksBehindAFailedTransactionOverShards asks for a lock of the session in the same request that ends a transaction which has failed before a shard was asked:
// it is refused as anywhere, and left on no connection that goes to another session.
func TestNoLocksBehindAFailedTransactionOverShards(t *testing.T) {
	t.Parallel()
	s, p := newSpread(t)
	var m msgs
	const lock = "SELECT pg_advisory_lock_shared(1)"
	for name, tc := range map[string]struct {
		send msgs
		want string
	}{
		"in one request":               {m.parse("", "ROLLBACK").run("").parse("", lock).run("").sync(), "ROLLBACK !0A000 I"},
		"in the transaction behind it": {m.parse("", "ROLLBACK AND CHAIN").run("").parse("", lock).run("").sync(), "ROLLBACK !0A000 E"},
	} {
		t.Run(name, func(t *testing.T) {
			c := p.rawDial(t, wire.Protocol30)
			defer func() { _ = c.nc.Close() }()
			c.wantHeard(t, m.query("BEGIN").query(lock), 2, "BEGIN T !0A000 E")
			c.wantHeard(t, tc.send, 1, tc.want)
			for i := range s.cluster.Shards {
				if got := s.on(t, i, "SELECT count(*) FROM pg_locks JOIN pg_database d ON d.oid = database WHERE locktype = 'advisory' AND datname = current_database()"); got != "0" {
					t.Errorf("shard %d: %s locks are left", i, got)
				}
			}
		})
	}
}
