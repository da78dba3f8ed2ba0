package resharder

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"go.uber.org/zap"

	"pgtier/proxy/shardmap"
	"pgtier/resharder/stream"
	"pgtier/router/shard"
)

// cutOver changes the owner of one group, to the target or back, in as many attempts as it takes. It returns false where people want something else meanwhile.
func (m *mover) cutOver(ctx context.Context, move *Move, group Group, forth bool) (done bool, err error) {
	cut := &crossing{mover: m, move: move, group: group, from: move.Source, to: move.Target, forth: forth}
	if !forth {
		cut.from, cut.to = cut.to, cut.from
	}
	flow := m.flows[move.Number]
	if flow == nil {
		return false, fmt.Errorf("move %d has no stream yet", move.Number)
	}
	cut.stream = flow.forward
	if !forth {
		cut.stream = flow.back
	}
	m.doing("cuts over group %d of %d from %s to %s", group.Number, m.job.groups(), cut.from, cut.to)
	if err := m.far(ctx, true); err != nil {
		return false, err
	}
	if err := m.await(ctx); err != nil {
		return false, err
	}
	wish, pause := m.job.Wish, retryLeast
	for attempt := 1; ; attempt++ {
		err := cut.attempt(ctx)
		if err == nil {
			cut.Attempts, cut.At = attempt, time.Now()
			m.cutDone(cut.Cut)
			m.log.Info("group of buckets cut over", zap.Int("group", group.Number), zap.String("from", string(cut.from)), zap.String("to", string(cut.to)), zap.Int("attempts", attempt),
				zap.Duration("held", cut.Held), zap.Duration("fence", cut.Fence), zap.Duration("drain", cut.Drain), zap.Duration("grant", cut.Grant))
			return true, m.at(ctx, "group done")
		}
		var missed *miss
		if !errors.As(err, &missed) {
			return false, err
		}
		m.missed(err)
		m.log.Info("a group of buckets could not be cut over yet", zap.Int("group", group.Number), zap.Error(err))
		select {
		case <-ctx.Done():
			return false, ctx.Err()
		case <-time.After(pause/2 + rand.N(pause)):
		}
		pause = min(2*pause, retryMost)
		if err := flow.fault(); err != nil {
			return false, err
		}
		if err := m.bounded(ctx, move); err != nil {
			return false, err
		}
		if err := m.look(ctx); err != nil {
			return false, err
		}
		if m.job.Wish != wish && (m.job.Wish == WishRollback || m.job.Wish == WishCancel || m.job.Wish == WishStart) {
			return false, m.far(ctx, false)
		}
	}
}

// crossing is the change of owner of one group.
type crossing struct {
	*mover
	Cut
	move     *Move
	group    Group
	from, to shard.Name
	forth    bool
	stream   *stream.Applier
}

// attempt changes the owner, or returns a *miss, and nobody is held any more and the group is where it was. Any other error leaves it to settle.
func (c *crossing) attempt(ctx context.Context) error {
	if err := c.gate(ctx); err != nil {
		return err
	}
	epoch, err := c.epoch(ctx)
	if err != nil {
		return err
	}
	epoch++ // the map that will be in force
	c.Cut = Cut{Group: c.group.Number, From: c.from, To: c.to}
	began := time.Now()
	holding, stop := context.WithDeadline(ctx, began.Add(c.c.holdLimit()))
	defer stop()
	if err := c.hold(ctx, holding); err != nil {
		return err
	}
	if err := c.at(ctx, "held"); err != nil {
		return err
	}
	marker := stream.NewMarker()
	fencing := time.Now()
	if err := c.fence(holding, epoch, marker); err != nil {
		return c.giveUp(ctx, epoch, false, fmt.Errorf("fence at %s: %w%s", c.from, err, c.writers(ctx, c.from, c.group.Number)))
	}
	c.Fence = time.Since(fencing)
	if err := c.at(ctx, "fenced"); err != nil {
		return err
	}
	draining := time.Now()
	if err := c.stream.Await(holding, marker); err != nil {
		return c.giveUp(ctx, epoch, true, fmt.Errorf("drain to %s: %w", c.to, err))
	}
	c.Drain = time.Since(draining)
	if err := c.at(ctx, "drained"); err != nil {
		return err
	}
	granting := time.Now()
	if err := c.grant(ctx, epoch); err != nil {
		return fmt.Errorf("grant to %s: %w", c.to, err) // nobody knows whether it is; settle looks
	}
	c.Grant = time.Since(granting)
	if err := c.at(ctx, "granted"); err != nil {
		return err
	}
	if err := c.publish(ctx); err != nil {
		return err
	}
	c.Held = time.Since(began)
	return nil
}

// gate waits for nobody: a *miss says that a hold would not be short now.
func (c *crossing) gate(ctx context.Context) error {
	if !c.stream.Status().Attached {
		return &miss{fmt.Errorf("the stream to %s is not attached", c.to)}
	}
	limited, stop := context.WithTimeout(ctx, awaitLimit)
	defer stop()
	took, err := c.stream.Lag(limited)
	if err != nil {
		return &miss{fmt.Errorf("the stream to %s: %w", c.to, err)}
	}
	if took > c.c.lagLimit() {
		return &miss{fmt.Errorf("the stream to %s is %s behind, more than %s", c.to, took.Round(time.Millisecond), c.c.lagLimit())}
	}
	return c.oldWriter(ctx, c.from, c.group.Number)
}

// oldWriter returns a *miss where a transaction has written to a group for so long that a fence would wait for it in vain.
func (m *mover) oldWriter(ctx context.Context, name shard.Name, group int) error {
	old := ""
	err := m.links[name].Query(ctx, writing(group, oldWriter)+" LIMIT 1", func(fields [][]byte) error {
		old = string(fields[0])
		return nil
	})
	if err != nil {
		return &miss{err}
	}
	if old != "" {
		what := "has written to the buckets, or locked rows of them,"
		if group == referenceGroup {
			what = "has written to reference tables"
		}
		return &miss{fmt.Errorf("%s %s and is still in its transaction", old, what)}
	}
	return nil
}

// writing is SQL for who has written to a group in a transaction that is older than so, as text.
func writing(group int, age time.Duration) string {
	return fmt.Sprintf(`SELECT coalesce('process ' || l.pid || ' (' || coalesce(nullif(a.application_name, ''), 'no name') || ', ' || a.state || ', for ' || extract(epoch FROM clock_timestamp() - a.xact_start)::int || ' s)', 'a prepared transaction')
FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.locktype = 'advisory' AND l.classid = %d AND l.objid = %d AND l.objsubid = 2 AND l.granted
AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND l.pid IS DISTINCT FROM pg_backend_pid()
AND (a.pid IS NULL OR a.xact_start < clock_timestamp() - interval '%d ms') ORDER BY a.xact_start NULLS FIRST`, guardClass, uint32(group), age.Milliseconds()) //nolint:gosec // as pg_locks has it
}

// writers names who was in the way of a fence, for people.
func (m *mover) writers(ctx context.Context, name shard.Name, group int) string {
	var who []string
	err := m.links[name].Query(ctx, writing(group, 0)+" LIMIT 5", func(fields [][]byte) error {
		who = append(who, string(fields[0]))
		return nil
	})
	if err != nil || len(who) == 0 {
		return ""
	}
	return "; in the way is " + strings.Join(who, ", ")
}

// hold has all proxies let statements that touch the group wait.
func (c *crossing) hold(ctx, holding context.Context) error {
	err := c.change(ctx, func(next *shardmap.Current) map[shard.Bucket]shard.Name {
		next.Motion.Held = c.group.Spans
		return nil
	})
	if err != nil {
		return err
	}
	if err := c.motion.Await(holding, c.cur.Motion.Number); err != nil {
		if ended(ctx) {
			return ctx.Err()
		}
		return c.giveUpHold(ctx, err)
	}
	return nil
}

// giveUpHold releases who waits.
func (c *crossing) giveUpHold(ctx context.Context, why error) error {
	if err := c.change(ctx, func(next *shardmap.Current) map[shard.Bucket]shard.Name {
		next.Motion.Held = nil
		return nil
	}); err != nil {
		return errors.Join(why, err)
	}
	return &miss{why}
}

// fence ends writes to the group at its owner, with a marker behind the last of them. New writers wait behind it, so it does not wait long.
func (c *crossing) fence(ctx context.Context, epoch int64, marker string) error {
	return c.links[c.from].run(ctx, fmt.Sprintf("SET LOCAL lock_timeout = %d; SET LOCAL synchronous_commit = on; SELECT pg_advisory_xact_lock(%d, %d); %s; %s",
		fenceLimit.Milliseconds(), guardClass, c.group.Number, c.turnSQL(c.group.Number, epoch*4+stateFenced, stateOwned, stateFenced), stream.EmitSQL(marker)))
}

// giveUp takes a fence back, before the grant, and releases who waits. A fence whose answer is missing may be under way still: settle ends its session first.
func (c *crossing) giveUp(ctx context.Context, epoch int64, fenced bool, why error) error {
	if ended(ctx) {
		return ctx.Err()
	}
	if !fenced && sqlState(why) == "" {
		if err := c.giveUpHold(ctx, why); !errors.As(err, new(*miss)) {
			return err
		}
		return why
	}
	if err := c.turnRegister(ctx, c.from, c.group.Number, epoch*4+stateOwned, stateFenced, stateOwned); err != nil {
		return errors.Join(why, err)
	}
	return c.giveUpHold(ctx, why)
}

// grant makes the group's new owner. The target says who owns it, in both directions: its commit is the point of no return. Registers follow, that of who does not own it first.
func (c *crossing) grant(ctx context.Context, epoch int64) error {
	change, changed := "array_append(granted, %d)", "NOT %d = ANY (granted)"
	if !c.forth {
		change, changed = "array_remove(granted, %d)", "%d = ANY (granted)"
	}
	granted := false
	sql := fmt.Sprintf("BEGIN; SET LOCAL synchronous_commit = on; %s; %s; UPDATE pgtier.move SET granted = "+change+", at = clock_timestamp() WHERE job = %d AND move = %d AND state = 'stream' AND "+changed+" RETURNING 'granted'; COMMIT",
		c.lead(), shardmap.SeenSQL(c.cur.Motion.Number), c.group.Number, c.job.Number, c.move.Number, c.group.Number)
	if err := c.links[c.move.Target].Query(ctx, sql, func(fields [][]byte) error {
		granted = granted || len(fields) == 1 && string(fields[0]) == "granted"
		return nil
	}); err != nil {
		return err
	}
	if !granted {
		return errors.New("the target does not know the move as it should be")
	}
	if err := c.at(ctx, "committed"); err != nil {
		return err
	}
	if !c.forth {
		if err := c.turnRegister(ctx, c.move.Target, c.group.Number, epoch*4+stateImporting, stateFenced); err != nil {
			return err
		}
	}
	return c.turnRegister(ctx, c.to, c.group.Number, epoch*4+stateOwned, stateImporting, stateFenced)
}

// publish puts the map with the new owner in force, and releases who waits.
func (c *crossing) publish(ctx context.Context) error {
	return c.change(ctx, func(next *shardmap.Current) map[shard.Bucket]shard.Name {
		next.Motion.Held = nil
		owners := map[shard.Bucket]shard.Name{}
		for _, b := range bucketsOf(c.group.Spans) {
			owners[b] = c.to
		}
		return owners
	})
}
