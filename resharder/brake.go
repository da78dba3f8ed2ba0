package resharder

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"go.uber.org/zap"

	"pgtier/router/shard"
)

// brake holds up what writes much while replicas are behind. Its zero value holds nobody up. Safe for concurrent use.
type brake struct {
	mu   sync.Mutex
	free chan struct{} // guarded by mu; closed when it lets go, nil while it holds nobody up
}

// wait returns when nobody is held up, or ctx ends.
func (b *brake) wait(ctx context.Context) error {
	for {
		b.mu.Lock()
		free := b.free
		b.mu.Unlock()
		if free == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-free:
		}
	}
}

// hold holds everybody up who waits from now on, or lets all go.
func (b *brake) hold(is bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case is && b.free == nil:
		b.free = make(chan struct{})
	case !is && b.free != nil:
		close(b.free)
		b.free = nil
	}
}

// brakes returns a brake that looks at the replicas of some shards, twice a second until stop. It takes hold of a move beyond the bound, and lets go at half of it.
func (m *mover) brakes(ctx context.Context, move int, names ...shard.Name) (b *brake, stop func()) {
	b = &brake{}
	if m.c.Options.MaxReplicaLag == 0 {
		return b, func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	m.brakeOnce(ctx, b, move, names)
	var looking sync.WaitGroup
	looking.Go(func() { // ends with ctx, and stop waits
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(pulse / 2):
				m.brakeOnce(ctx, b, move, names)
			}
		}
	})
	return b, func() {
		cancel()
		looking.Wait()
		b.hold(false)
		m.throttled(move, "")
	}
}

// brakeOnce looks once. A server that cannot be asked holds nobody up: whoever works with it notices.
func (m *mover) brakeOnce(ctx context.Context, b *brake, move int, names []shard.Name) {
	limit, worst, who := m.c.Options.MaxReplicaLag, int64(0), ""
	for _, name := range names {
		replica, lag, err := m.replicaLag(ctx, name)
		if err != nil {
			m.log.Debug("the lag of replicas is not known", zap.String("shard", string(name)), zap.Error(err))
			continue
		}
		if lag > worst {
			worst, who = lag, fmt.Sprintf("replica %s of shard %s", replica, name)
		}
	}
	switch {
	case worst > limit:
		b.hold(true)
		m.throttled(move, fmt.Sprintf("%s is %s behind, more than reshard.max_replica_lag (%s)", who, size(worst), size(limit)))
	case worst <= limit/2:
		b.hold(false)
		m.throttled(move, "")
	}
}

// replicaLag is the replica of a shard that has replayed least, and how much log it lacks, in bytes; 0 without replicas. Logical replication, backups and archivers replay nothing and do not count.
func (m *mover) replicaLag(ctx context.Context, name shard.Name) (replica string, bytes int64, err error) {
	err = m.links[name].Query(ctx, `SELECT coalesce(nullif(r.application_name, ''), 'process ' || r.pid) || coalesce(' at ' || host(r.client_addr), ''), pg_wal_lsn_diff(pg_current_wal_lsn(), r.replay_lsn)::int8
FROM pg_stat_replication AS r WHERE r.state IN ('streaming', 'catchup') AND r.replay_lsn IS NOT NULL
AND NOT EXISTS (SELECT FROM pg_replication_slots AS s WHERE s.active_pid = r.pid AND s.slot_type = 'logical') ORDER BY 2 DESC LIMIT 1`, func(fields [][]byte) (err error) {
		replica = string(fields[0])
		bytes, err = strconv.ParseInt(string(fields[1]), 10, 64)
		return err
	})
	return replica, bytes, err
}
