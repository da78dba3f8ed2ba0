package resharder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"pgtier/proxy/shardmap"
	"pgtier/resharder/stream"
	"pgtier/router/shard"
)

// finish gives the way back up: what has moved is deleted where it was, and nothing is left of the job but guards of buckets that a shard does not own.
func (m *mover) finish(ctx context.Context) error {
	m.doing("waits until all proxies go by the last map")
	if err := m.await(ctx); err != nil {
		return err
	}
	cur, err := m.current(ctx)
	if err != nil {
		return err
	}
	if err := m.answered(ctx, m.losers(cur.Map)...); err != nil {
		return err
	}
	if cur, err = m.current(ctx); err != nil {
		return err
	}
	m.stopFlows()
	for i := range m.job.Moves {
		if err := m.dropStreams(ctx, &m.job.Moves[i], m.involved()...); err != nil {
			return err
		}
	}
	if err := m.at(ctx, "streams dropped"); err != nil {
		return err
	}
	for _, name := range m.involved() {
		if err := m.reguard(ctx, name, false); err != nil {
			return err
		}
	}
	if err := m.at(ctx, "guarded for good"); err != nil {
		return err
	}
	for i := range m.job.Moves {
		move := &m.job.Moves[i]
		kept, others := split(cur.Map, move) // others, where a stream was lost in the middle
		if err := m.deleteAt(ctx, move, move.Target, others); err != nil {
			return err
		}
		if err := m.older(ctx, move.Source, true); err != nil {
			return err
		}
		if err := m.deleteAt(ctx, move, move.Source, kept); err != nil {
			return err
		}
	}
	if err := m.dropRegisters(ctx, m.involved()); err != nil {
		return err
	}
	leaves := slices.DeleteFunc(slices.Clone(m.job.Leaves), func(name shard.Name) bool { return len(cur.Map.Buckets(name)) > 0 })
	if err := m.calm(ctx, leaves); err != nil {
		return err
	}
	return m.await(ctx) // a shard that has left may be stopped when the job is over
}

// losers are the shards at which finish deletes rows.
func (m *mover) losers(now *shard.Map) (names []shard.Name) {
	for i := range m.job.Moves {
		move := &m.job.Moves[i]
		kept, others := split(now, move)
		if len(kept) > 0 {
			names = append(names, move.Source)
		}
		if len(others) > 0 {
			names = append(names, move.Target)
		}
	}
	return names
}

// deleteAt deletes the rows of some groups of a move on one side.
func (m *mover) deleteAt(ctx context.Context, move *Move, name shard.Name, groups []Group) error {
	if len(groups) == 0 {
		return nil
	}
	m.doing("deletes the rows of buckets that shard %s does not own", name)
	tables, err := m.tables(ctx, name)
	if err != nil {
		return err
	}
	replicas, letGo := m.brakes(ctx, move.Number, name)
	defer letGo()
	part := Move{Groups: groups}
	_, err = stream.DeleteBuckets(ctx, m.server(name), tables, part.Spans(), func(ctx context.Context, rows int64) error {
		m.deleted(move.Number, rows)
		if err := m.at(ctx, "deleting"); err != nil {
			return err
		}
		return replicas.wait(ctx)
	})
	return err
}

// dropRegisters removes what the job's groups have left on shards. No guard looks at it any more.
func (m *mover) dropRegisters(ctx context.Context, names []shard.Name) error {
	for _, name := range names {
		registers, err := m.readRegisters(ctx, name)
		if err != nil {
			return err
		}
		sql := m.lead() + fmt.Sprintf("; DELETE FROM pgtier.move WHERE job = %d", m.job.Number)
		for group := range registers {
			sql += fmt.Sprintf("; DROP SEQUENCE IF EXISTS pgtier.register_%d", group)
		}
		if err := m.links[name].run(ctx, sql); err != nil {
			return err
		}
	}
	return m.at(ctx, "registers dropped")
}

// calm ends the motion, and takes away members that are none any more.
func (m *mover) calm(ctx context.Context, leaves []shard.Name) error {
	if err := m.change(ctx, func(next *shardmap.Current) map[shard.Bucket]shard.Name {
		next.Members = slices.DeleteFunc(next.Members, func(name shard.Name) bool { return slices.Contains(leaves, name) })
		next.Motion = shardmap.Motion{}
		return nil
	}); err != nil {
		return err
	}
	m.doing("")
	return m.at(ctx, "calm")
}

// beginCancel has everything taken back, unless a target owns buckets already.
func (m *mover) beginCancel(ctx context.Context) error {
	s, err := m.stand(ctx)
	if err != nil {
		return err
	}
	if len(s.granted) > 0 {
		return &fatal{errors.New("some groups of buckets are cut over already; run pgtier reshard rollback first")}
	}
	if err := m.proveUngranted(s); err != nil {
		return err
	}
	return m.advance(ctx, StepCancel)
}

// cancel takes everything back. The schema of a shard that should have joined stays. A lost target that is a member is waited for at the end, one that was to join is left to sweep.
func (m *mover) cancel(ctx context.Context) error {
	m.doing("takes everything back")
	m.stopFlows()
	if err := m.change(ctx, func(next *shardmap.Current) map[shard.Bucket]shard.Name {
		next.Members = slices.DeleteFunc(next.Members, func(name shard.Name) bool { return slices.Contains(m.job.Joins, name) })
		next.Motion.Held, next.Motion.HeldReferences, next.Motion.Near = nil, false, false
		return nil
	}); err != nil {
		return err
	}
	if err := m.answered(ctx, m.reached()...); err != nil {
		return err
	}
	if err := m.clean(ctx, m.reached()); err != nil {
		return err
	}
	if err := m.awaitLost(ctx); err != nil {
		return err
	}
	if err := m.writeLeft(ctx); err != nil {
		return err
	}
	return m.calm(ctx, nil)
}

// clean takes away what a job that is cancelled has left at some of its shards.
func (m *mover) clean(ctx context.Context, names []shard.Name) error {
	for i := range m.job.Moves {
		if err := m.dropStreams(ctx, &m.job.Moves[i], names...); err != nil {
			return err
		}
	}
	if err := m.dropReferences(ctx, names...); err != nil {
		return err
	}
	if err := m.at(ctx, "streams dropped"); err != nil {
		return err
	}
	for i := range m.job.Moves {
		move := &m.job.Moves[i]
		if !slices.Contains(names, move.Target) {
			continue
		}
		if err := m.deleteAt(ctx, move, move.Target, move.Groups); err != nil {
			return err
		}
	}
	for _, name := range names {
		if slices.Contains(m.job.Joins, name) {
			if err := m.forget(ctx, name); err != nil {
				return err
			}
			continue
		}
		if err := m.reguard(ctx, name, false); err != nil {
			return err
		}
	}
	return m.dropRegisters(ctx, names)
}

// forget takes rows and guards off a shard that was to join.
func (m *mover) forget(ctx context.Context, name shard.Name) error {
	references, err := stream.Describe(ctx, m.server(name), m.c.referenceLayout())
	if err != nil {
		return err
	}
	if _, err := stream.DeleteBuckets(ctx, m.server(name), references, nil, nil); err != nil {
		return err
	}
	tables, err := m.tables(ctx, name)
	if err != nil {
		return err
	}
	for _, t := range tables {
		if err := m.guardTable(ctx, name, t, &Guard{}); err != nil {
			return err
		}
	}
	return nil
}

// lockedTurns runs SQL that locks a table, in short turns.
func (m *mover) lockedTurns(ctx context.Context, name shard.Name, t *stream.Table, sql string) error {
	return m.inTurns(ctx, fmt.Sprintf("installs the guard of table %s on shard %s", t, name), func() string { return m.holders(ctx, name, t) }, func() error {
		return m.links[name].run(ctx, fmt.Sprintf("SET LOCAL lock_timeout = %d; %s", guardLimit.Milliseconds(), m.lead()+"; "+strings.TrimSuffix(sql, ";\n")))
	})
}
