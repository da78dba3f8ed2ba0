package resharder

import (
	"context"
	"errors"
	"fmt"

	"pgtier/resharder/stream"
	"pgtier/router/shard"
)

// overflown says that a server keeps more log for a move than it may. Whoever carries the job gives the log back then (giveBack), whatever that costs the job: the rows of clients are never in the log alone.
type overflown struct {
	// move is nil for the reference tables of a shard that joins.
	move *Move
	// atTarget: it is the way back that does not get on.
	atTarget bool
	cause    error
}

// Error is the cause's text.
func (o *overflown) Error() string { return o.cause.Error() }

// watched does a step beside which people may want something else, and servers keep log.
func (m *mover) watched(do func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		doing, stop := context.WithCancel(ctx)
		defer stop()
		done := make(chan struct{})
		var err error
		go func() { // ends with doing, which is waited for
			defer close(done)
			err = do(doing)
		}()
		why := m.watchStep(ctx, done)
		if why != nil {
			stop()
		}
		<-done
		if why != nil {
			return why
		}
		return err
	}
}

// boundedAll looks at the log that servers keep for the whole job. It may run beside a step: it reads nothing that steps change.
func (m *mover) boundedAll(ctx context.Context) error {
	for i := range m.job.Moves {
		if err := m.bounded(ctx, &m.job.Moves[i]); err != nil {
			return err
		}
	}
	return m.boundedReferences(ctx)
}

// boundedReferences looks at the log that home keeps for shards that join.
func (m *mover) boundedReferences(ctx context.Context) error {
	for _, name := range m.job.Joins {
		slot := m.referenceNames(name)
		bytes, err := m.retained(ctx, m.c.Map.Home, slot)
		if err != nil {
			return err
		}
		if err := m.judge(m.c.Map.Home, slot, bytes); err != nil {
			return &overflown{cause: err}
		}
	}
	return nil
}

// bounded looks at the log that servers keep for a move; at the source's whether the target answers or not.
func (m *mover) bounded(ctx context.Context, move *Move) error {
	n := m.names(move.Number)
	forward, err := m.retained(ctx, move.Source, n.forward)
	if err != nil {
		return err
	}
	if err := m.judge(move.Source, n.forward, forward); err != nil {
		return &overflown{move: move, cause: err}
	}
	back, err := m.retained(ctx, move.Target, n.back)
	if err != nil {
		return err
	}
	m.kept(move.Number, forward, back)
	if err := m.judge(move.Target, n.back, back); err != nil {
		return &overflown{move: move, atTarget: true, cause: err}
	}
	return nil
}

// judge returns an error for more log than there may be, and warns of half of it.
func (m *mover) judge(name shard.Name, slot string, bytes int64) error {
	limit := m.c.Options.MaxWAL
	if bytes > limit {
		m.warn(slot, "")
		return fmt.Errorf("shard %s kept %s of write-ahead log for slot %s, more than reshard.max_wal (%s)", name, size(bytes), slot, size(limit))
	}
	text := ""
	if bytes > limit/2 {
		text = fmt.Sprintf("shard %s keeps %s of write-ahead log for slot %s; at %s the job stops and gives it back", name, size(bytes), slot, size(limit))
	}
	m.warn(slot, text)
	return nil
}

// hoarded looks at the sources while the mover cannot go on because of why: a target that is away must not have them keep their log for ever.
func (m *mover) hoarded(ctx context.Context, why error) error {
	if m.mapID == "" || superseded(why) || ended(ctx) {
		return why
	}
	for i := range m.job.Moves {
		move := &m.job.Moves[i]
		slot := m.names(move.Number).forward
		bytes, err := m.retained(ctx, move.Source, slot)
		if err != nil {
			continue // it is away itself
		}
		if err := m.judge(move.Source, slot, bytes); err != nil {
			return &overflown{move: move, cause: fmt.Errorf("%w, while the job could not go on: %w", err, why)}
		}
	}
	var over *overflown
	if err := m.boundedReferences(ctx); errors.As(err, &over) {
		return over
	}
	return why
}

// giveBack drops the slot that a server keeps too much log for, and returns what has become of the job; nil if it can go on.
func (m *mover) giveBack(ctx context.Context, over *overflown) error {
	if over.move == nil { // only the slot: settle has to look at the fence of these tables first
		home := m.c.Map.Home
		if !m.led {
			if err := m.leadShard(ctx, home); err != nil {
				return err
			}
		}
		for _, name := range m.job.Joins {
			slot := m.referenceNames(name)
			if err := m.drop(ctx, []shard.Name{home}, dropped{home, stream.Objects{Slot: slot, Publication: slot}}); err != nil {
				return err
			}
		}
		return &fatal{fmt.Errorf("%w; the log is given back: pgtier reshard start copies the reference tables anew", over.cause)}
	}
	move := over.move
	if f := m.flows[move.Number]; f != nil {
		f.stop()
		m.setFlow(move.Number, nil)
	}
	n := m.names(move.Number)
	forth := dropped{move.Source, stream.Objects{Slot: n.forward, Publication: n.forward}}
	back := dropped{move.Target, stream.Objects{Slot: n.back, Publication: n.back}}
	s := &standing{state: map[int]string{}, granted: map[int]bool{}}
	if !m.led {
		if err := m.leadShard(ctx, move.Source); err != nil {
			return err
		}
		if err := m.drop(ctx, []shard.Name{move.Source}, forth); err != nil {
			return err
		}
		return &fatal{fmt.Errorf("%w; the log is given back, and the stream from %s to %s has ended with it: pgtier reshard status says what can be done when all servers answer, or cancel", over.cause, move.Source, move.Target)}
	}
	if err := m.readMoves(ctx, move.Target, s); err != nil {
		return err
	}
	granted := grantedOf(move, s)
	switch {
	case granted == 0 && over.atTarget: // nobody has written there: the way back can begin anew
		return m.drop(ctx, []shard.Name{move.Target}, back)
	case granted == 0:
		if err := m.dropStreams(ctx, move, m.involved()...); err != nil {
			return err
		}
		return m.copyAnew(ctx, move, over.cause)
	case over.atTarget:
		if err := m.drop(ctx, []shard.Name{move.Target}, back); err != nil {
			return err
		}
		return &fatal{fmt.Errorf("%w; the log is given back, and with it the way back from %s to %s: pgtier reshard finish keeps what is cut over", over.cause, move.Target, move.Source)}
	}
	if err := m.drop(ctx, []shard.Name{move.Source}, forth); err != nil {
		return err
	}
	return &fatal{fmt.Errorf("%w; the log is given back; %s", over.cause, forthLost(move, granted))}
}

// copyAnew has a move begin again from its copy when people want it: nothing of it is granted, and the stream is lost that would have kept its rows current.
func (m *mover) copyAnew(ctx context.Context, move *Move, why error) error {
	if err := m.links[move.Target].run(ctx, fmt.Sprintf("%s; UPDATE pgtier.move SET state = 'new' WHERE job = %d AND move = %d", m.lead(), m.job.Number, move.Number)); err != nil {
		return err
	}
	m.verified(nil)
	m.cripple(move.Number, "")
	s, err := m.stand(ctx)
	if err != nil {
		return err
	}
	m.count(s)
	if len(s.granted) == 0 { // else the other moves go on to follow, and serve copies this one
		switch m.job.Step {
		case StepIndex, StepJoin, StepFollow:
			if err := m.advance(ctx, StepCopy); err != nil {
				return err
			}
		}
	}
	return &fatal{fmt.Errorf("%w; the rows of the move from %s to %s have to be copied anew: pgtier reshard start does that, or cancel", why, move.Source, move.Target)}
}

// grantedOf is how many groups of a move the target owns.
func grantedOf(move *Move, s *standing) (n int) {
	for _, group := range move.Groups {
		if s.granted[group.Number] {
			n++
		}
	}
	return n
}

// retained is the log that a server keeps for a slot, in bytes; 0 without the slot.
func (m *mover) retained(ctx context.Context, name shard.Name, slot string) (int64, error) {
	var bytes int64
	text, err := m.links[name].value(ctx, "SELECT coalesce(pg_wal_lsn_diff(pg_current_wal_lsn(), restart_lsn), 0)::int8 FROM pg_replication_slots WHERE slot_name = "+literal(slot))
	if err != nil || text == "" {
		return 0, err
	}
	_, err = fmt.Sscan(text, &bytes)
	return bytes, err
}

// size writes bytes for people.
func size(bytes int64) string {
	switch {
	case bytes >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
	case bytes >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(bytes)/(1<<20))
	}
	return fmt.Sprintf("%d kB", bytes>>10)
}
