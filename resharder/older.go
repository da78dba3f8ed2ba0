package resharder

import (
	"context"
	"fmt"
	"time"

	"pgtier/router/shard"
)

const (
	// olderLimit bounds how long one attempt waits for older transactions: meanwhile nobody looks whether the job is wanted otherwise.
	olderLimit = 10 * time.Second
	// olderPause is the time between two looks.
	olderPause = 50 * time.Millisecond
)

// older waits until no transaction is left on a shard that is older than what all proxies act by now; of those that have neither written nor locked anything if readers is true.
//
// Proxies send nothing any more by what they knew before, but what they have sent may still wait for a lock of the server, and take its snapshot when rows
// stand there that it must not see, or are gone that it should. A change of the schema that was sent before they refused it may commit later.
func (m *mover) older(ctx context.Context, name shard.Name, readers bool) error {
	cur, err := m.current(ctx)
	if err != nil {
		return err
	}
	// The attempts for one motion wait for the same transactions: where long ones overlap, there are always others.
	asked := fmt.Sprintf("%s %d", name, cur.Motion.Number)
	now := m.asked[asked]
	if now == "" {
		if now, err = m.links[name].value(ctx, "SELECT clock_timestamp()"); err != nil {
			return err
		}
		m.asked[asked] = now
	}
	// Who has an advisory lock may rely on it without an id, and a cursor or portal may come to lock rows yet; advisory locks of ours have keys that begin with "pgt".
	which := `(a.backend_xid IS NOT NULL OR EXISTS (SELECT FROM pg_locks AS l WHERE l.pid = a.pid AND l.granted
AND (l.locktype = 'advisory' AND l.classid::int8 >> 8 <> x'706774'::int8 OR l.locktype = 'relation' AND l.mode = 'RowShareLock')))`
	if readers {
		which = "a.state IS NOT NULL" // all that can be seen
	}
	sql := fmt.Sprintf(`SELECT 'process ' || a.pid || ' (' || coalesce(nullif(a.application_name, ''), 'no name') || ' of ' || a.usename || ', ' || a.state || ', for ' || extract(epoch FROM clock_timestamp() - a.xact_start)::int || ' s)'
FROM pg_stat_activity AS a WHERE a.datname = current_database() AND a.backend_type = 'client backend' AND a.pid <> pg_backend_pid() AND a.xact_start < %s::timestamptz AND %s ORDER BY a.xact_start LIMIT 1`,
		literal(now), which)
	for end := time.Now().Add(olderLimit); ; {
		who := ""
		if err := m.links[name].Query(ctx, sql, func(fields [][]byte) error {
			who = string(fields[0])
			return nil
		}); err != nil || who == "" {
			return err
		}
		m.doing("waits for transactions of shard %s that are older than the move: %s", name, who)
		if time.Now().After(end) {
			return fmt.Errorf("shard %s: %s is older than the move, and is waited for; end it, or let it end", name, who)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(olderPause):
		}
	}
}
