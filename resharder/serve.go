package resharder

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"pgtier/proxy/shardmap"
	"pgtier/resharder/stream"
	"pgtier/router/shard"
)

// serve is what the mover does while all rows are at the targets and changes follow: what people want.
func (m *mover) serve(ctx context.Context) (rest time.Duration, err error) {
	s, err := m.stand(ctx)
	if err != nil {
		return 0, err
	}
	m.count(s)
	cut, all := len(s.granted), m.job.groups()
	wish := m.job.Wish
	if m.job.Auto && wish == WishStart && cut < all {
		wish = WishCutover
	}
	for i := range m.job.Moves {
		if s.state[m.job.Moves[i].Number] != "stream" && wish != WishFinish && wish != WishRollback { // its stream was lost when other moves were cut over in part
			return 0, m.copy(ctx)
		}
	}
	lame := m.crippled()
	switch {
	case wish == WishRollback && cut > 0 && lame != "":
		return 0, m.rollbackLame(ctx, s)
	case wish == WishFinish && cut > 0 && lame != "":
		return 0, m.advance(ctx, StepFinish)
	case lame != "":
		return 0, &fatal{errors.New(lame)}
	case wish == WishVerify:
		if err := m.verify(ctx, s); err != nil {
			return 0, err
		}
		return 0, m.fulfil(ctx, WishStart)
	case wish == WishCutover && cut < all:
		return 0, m.cutover(ctx, s)
	case wish == WishCutover && m.job.Auto:
		return 0, m.fulfil(ctx, WishStart)
	case wish == WishRollback && cut > 0:
		return 0, m.rollback(ctx, s)
	case wish == WishRollback:
		return 0, m.fulfil(ctx, WishStart)
	case wish == WishFinish && cut == all:
		return 0, m.advance(ctx, StepFinish)
	case wish == WishFinish:
		return 0, &fatal{fmt.Errorf("%d of %d groups of buckets are cut over; finish comes after pgtier reshard cutover", cut, all)}
	}
	m.doing("")
	if err := m.far(ctx, false); err != nil {
		return 0, err
	}
	return m.c.poll() / 2, m.boundedAll(ctx)
}

// fulfil writes down that a wish has come true.
func (m *mover) fulfil(ctx context.Context, next Wish) error {
	m.doing("")
	m.store(ctx) // who waits for the wish looks at what has come of it
	return m.journal.fulfil(ctx, m.job, next)
}

// far has proxies ask every few milliseconds, or no more.
func (m *mover) far(ctx context.Context, near bool) error {
	return m.change(ctx, func(next *shardmap.Current) map[shard.Bucket]shard.Name {
		next.Motion.Near = near
		return nil
	})
}

// rollbackLame lets the sources own all groups again when the stream to a target is lost. A server that has become a source's manager since may lack what the last one had: so rows are compared first.
func (m *mover) rollbackLame(ctx context.Context, s *standing) error {
	if err := m.verify(ctx, s); err != nil {
		return fmt.Errorf("%w; pgtier reshard finish keeps what is cut over", err)
	}
	if err := m.rollback(ctx, s); err != nil {
		return err
	}
	m.stopFlows() // follow looks anew
	return nil
}

// verify compares the rows of all moves on both sides while clients write. What differs stops the job. It may take long: people may want something else meanwhile, and servers keep log.
func (m *mover) verify(ctx context.Context, s *standing) error {
	return m.watched(func(ctx context.Context) error { return m.compare(ctx, s) })(ctx)
}

// compare does what verify is for.
func (m *mover) compare(ctx context.Context, s *standing) error {
	var found []string
	for i := range m.job.Moves {
		move := &m.job.Moves[i]
		f := m.flows[move.Number]
		if f == nil {
			return fmt.Errorf("move %d has no stream yet", move.Number)
		}
		var before, after []shard.Bucket
		for _, group := range move.Groups {
			if s.granted[group.Number] {
				after = append(after, bucketsOf(group.Spans)...)
			} else {
				before = append(before, bucketsOf(group.Spans)...)
			}
		}
		for _, side := range []struct {
			from, to shard.Name
			buckets  []shard.Bucket
			barrier  func(context.Context) error
		}{{move.Source, move.Target, before, f.forward.Barrier}, {move.Target, move.Source, after, f.back.Barrier}} {
			if len(side.buckets) == 0 || side.from == move.Source && m.lameOf(move.Number) {
				continue
			}
			m.doing("compares the rows of %s and %s", side.from, side.to)
			tables, err := m.tables(ctx, side.from)
			if err != nil {
				return err
			}
			others, err := m.tables(ctx, side.to)
			if err != nil {
				return err
			}
			if problems := stream.Problems(m.c.shardedLayout(), tables, others); len(problems) > 0 {
				return &fatal{fmt.Errorf("the schema is not any more what it was: %s", problems[0])}
			}
			v := &stream.Verify{Source: m.server(side.from), Target: m.server(side.to), Tables: tables, Spans: shard.SpansOf(side.buckets...), Barrier: side.barrier}
			differences, err := v.Run(ctx)
			if err != nil {
				return fmt.Errorf("compare the rows of %s and %s: %w", side.from, side.to, err)
			}
			unsettled := ""
			if v.Unsettled > 0 {
				unsettled = fmt.Sprintf("%d rows of %s and %s could not be compared, because clients wrote to them whenever it was tried", v.Unsettled, side.from, side.to)
			}
			m.warn(fmt.Sprintf("compare %d %s", move.Number, side.from), unsettled)
			for _, d := range differences {
				found = append(found, fmt.Sprintf("%s and %s: %s", side.from, side.to, d))
			}
		}
	}
	if len(found) > 0 {
		m.verified(nil)
		more := ""
		if len(found) > 10 {
			found, more = found[:10], fmt.Sprintf("; and %d more", len(found)-10)
		}
		return &fatal{fmt.Errorf("rows are not the same on both sides: %s%s; somebody has written to the target, or past the source's log: mend the rows or cancel, then run pgtier reshard verify", strings.Join(found, "; "), more)}
	}
	now := time.Now()
	m.verified(&now)
	return m.at(ctx, "verified")
}

// cutover lets the targets own all groups, one after another.
func (m *mover) cutover(ctx context.Context, s *standing) error {
	if m.progress().Verified == nil {
		if err := m.verify(ctx, s); err != nil {
			return err
		}
	}
	for i := range m.job.Moves {
		move := &m.job.Moves[i]
		for _, group := range move.Groups {
			if s.granted[group.Number] {
				continue
			}
			if on, err := m.cutOver(ctx, move, group, true); err != nil || !on {
				return err
			}
			s.granted[group.Number] = true
			m.count(s)
		}
	}
	if err := m.far(ctx, false); err != nil {
		return err
	}
	return m.at(ctx, "cut over")
}

// rollback lets the sources own all groups again.
func (m *mover) rollback(ctx context.Context, s *standing) error {
	for i := range m.job.Moves {
		move := &m.job.Moves[i]
		for _, group := range move.Groups {
			if !s.granted[group.Number] {
				continue
			}
			if on, err := m.cutOver(ctx, move, group, false); err != nil || !on {
				return err
			}
			delete(s.granted, group.Number)
			m.count(s)
		}
	}
	if err := m.far(ctx, false); err != nil {
		return err
	}
	if m.job.Wish == WishRollback { // else people want something besides by now, which comes next
		m.job.Auto = false
		if err := m.fulfil(ctx, WishStart); err != nil {
			return err
		}
	}
	return m.at(ctx, "rolled back")
}
