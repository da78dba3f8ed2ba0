package resharder

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"pgtier/router/shard"
)

// lostLimit is how long a target may not be reached before cancel goes on without it: longer than a restart takes.
const lostLimit = 10 * time.Second

// Left is a server that was not reached when its job was cancelled. It keeps what the job has left there until it is cleaned.
type Left struct {
	Shard shard.Name `json:"shard"`
	// Why it was not reached.
	Why string `json:"why"`
}

// String says what is there still, and what takes it away.
func (l Left) String() string {
	return fmt.Sprintf("shard %s could not be reached when the job was cancelled, and keeps rows, guards and a replication slot of it until it is back; pgtier serve takes them away then, and so does pgtier reshard cancel once more (%s)",
		l.Shard, l.Why)
}

// unreached reports whether an error says that a server cannot be worked with, rather than what it thinks of a statement: no connection, no login (28, 3D), none left (53), one that starts or stops (57).
func unreached(err error) bool {
	code := sqlState(err)
	return code == "" || strings.HasPrefix(code, "08") || strings.HasPrefix(code, "28") || strings.HasPrefix(code, "3D") || strings.HasPrefix(code, "53") || strings.HasPrefix(code, "57P")
}

// onlyTarget reports whether a shard loses nothing by the job: what a cancel can do without.
func (m *mover) onlyTarget(name shard.Name) bool {
	return !slices.ContainsFunc(m.job.Moves, func(move Move) bool { return move.Source == name }) && (name != m.c.Map.Home || len(m.job.Joins) == 0)
}

// lose notes that a shard was not reached, and reports whether the job is to go on without it: a cancel takes back at the others what it can, so that a target that never comes back keeps no log of theirs.
func (m *mover) lose(name shard.Name, err error) bool {
	if !unreached(err) {
		delete(m.silent, name)
		return false
	}
	if m.silent[name].IsZero() {
		m.silent[name] = time.Now()
	}
	cancels := m.job.Step == StepCancel || m.job.Wish == WishCancel && m.job.Error == ""
	if !cancels || !m.onlyTarget(name) || time.Since(m.silent[name]) < m.c.lostLimit() {
		return false
	}
	m.lost[name] = err
	return true
}

// reached are the shards of the job that this mover leads.
func (m *mover) reached() []shard.Name {
	return slices.DeleteFunc(m.involved(), func(name shard.Name) bool { return m.lost[name] != nil })
}

// assume is what is known of the moves to a lost target: a group is taken for granted if the map says so.
func (m *mover) assume(ctx context.Context, s *standing) error {
	if len(m.lost) == 0 {
		return nil
	}
	cur, err := m.current(ctx)
	if err != nil {
		return err
	}
	for i := range m.job.Moves {
		move := &m.job.Moves[i]
		if m.lost[move.Target] == nil {
			continue
		}
		kept, _ := split(cur.Map, move)
		for _, group := range kept {
			s.granted[group.Number] = true
		}
	}
	return nil
}

// proveUngranted returns nil if no lost target can own a group, now or later. A grant comes behind a fence that stands at the source, and whoever leads the source now is the only one who can
// fence there; so where the source's register says owned, nothing is granted and nothing will be.
func (m *mover) proveUngranted(s *standing) error {
	for i := range m.job.Moves {
		move := &m.job.Moves[i]
		if m.lost[move.Target] == nil {
			continue
		}
		for _, group := range move.Groups {
			if register, ok := s.registers[move.Source][group.Number]; ok && register&3 != stateOwned {
				return &fatal{fmt.Errorf("shard %s cannot be reached (%w), and group %d of buckets was being cut over to it when it was lost: nobody else knows who owns it; bring it back, or promote its replica, and run pgtier reshard cancel again",
					move.Target, m.lost[move.Target], group.Number)}
			}
		}
	}
	return nil
}

// awaitLost cleans the lost targets that are members: while their rows stand there, all proxies have to leave them out.
func (m *mover) awaitLost(ctx context.Context) error {
	for _, name := range sortedNames(m.lost) {
		if slices.Contains(m.job.Joins, name) {
			continue
		}
		m.log.Warn("a target cannot be reached; all else of the job is taken back, and it is waited for", zap.String("shard", string(name)), zap.Error(m.lost[name]))
		for m.lost[name] != nil {
			m.doing("waits for shard %s, which cannot be reached: its own part is taken back when it is there again, all else is (%v)", name, m.lost[name])
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(retryLeast + m.c.lostLimit()/4):
			}
			if err := m.look(ctx); err != nil {
				return err
			}
			switch err := m.leadShard(ctx, name); {
			case err == nil:
				delete(m.lost, name)
				delete(m.silent, name)
			case unreached(err):
				m.lost[name] = err
			default:
				return err
			}
		}
		if err := m.clean(ctx, []shard.Name{name}); err != nil {
			return err
		}
	}
	return nil
}

// writeLeft writes down which servers are still to be cleaned when the job is over.
func (m *mover) writeLeft(ctx context.Context) error {
	if len(m.lost) == 0 {
		return nil
	}
	var left []Left
	for _, name := range sortedNames(m.lost) {
		left = append(left, Left{name, m.lost[name].Error()})
		m.log.Warn("a shard that was to join is not cleaned, because it cannot be reached", zap.String("shard", string(name)), zap.Error(m.lost[name]))
	}
	m.setLeft(left)
	return m.journal.say(ctx, m.job.Database, m.job.Number, m.job.generation, m.progress())
}

func (m *mover) setLeft(left []Left) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note.Left = left
}

// CleanUp takes away what cancelled jobs have left on servers that are back, unless another process carries jobs on, which does it then. A server that is still away is no error.
func CleanUp(ctx context.Context, c Config) error {
	control := c.controlLink("pgtier reshard")
	defer control.close()
	return locked(ctx, &c, control, func(ctx context.Context, stop func()) error {
		return sweep(ctx, &c, NewJournal(control, c.Map.Database), control, stop)
	})
}

// sweep tries once to clean each server that cancelled jobs have left something on. The caller has the mover's lock; no job under way has to do with these servers.
func sweep(ctx context.Context, c *Config, journal *Journal, control *link, end func()) error {
	jobs, err := journal.unclean(ctx)
	if err != nil {
		return err
	}
	for _, job := range jobs {
		if err := sweepJob(ctx, c, journal, control, job, end); err != nil {
			return fmt.Errorf("clean what job %d has left: %w", job.Number, err)
		}
	}
	return nil
}

// sweepMeanwhile is sweep again and again while another job is carried on, until nothing is left.
func sweepMeanwhile(ctx context.Context, c *Config, end func()) {
	control := c.controlLink("pgtier reshard")
	defer control.close()
	journal := NewJournal(control, c.Map.Database)
	for {
		unclean, err := journal.unclean(ctx)
		if err == nil && len(unclean) == 0 { // no job is cancelled meanwhile
			return
		}
		if err == nil {
			err = sweep(ctx, c, journal, control, end)
		}
		if err != nil && !ended(ctx) {
			c.Log.Debug("what a cancelled job has left is not taken away yet", zap.Error(err))
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(retryMost):
		}
	}
}

// sweepKnock is how long a server may take to answer before it is taken for away still.
const sweepKnock = 5 * time.Second

// sweepJob cleans the servers that one job has left something on.
func sweepJob(ctx context.Context, c *Config, journal *Journal, control *link, job *Job, end func()) error {
	m := newMover(c, journal, control, job, end)
	defer m.leave()
	left := slices.Clone(job.Progress.Left)
	var failed []error
	for _, l := range job.Progress.Left {
		knock, stop := context.WithTimeout(ctx, sweepKnock)
		err := m.links[l.Shard].run(knock, "SELECT")
		stop()
		m.links[l.Shard].close() // it is a session of the generation before
		if err != nil && unreached(err) {
			continue
		}
		if err == nil {
			err = m.sweepShard(ctx, l.Shard)
		}
		if err != nil {
			failed = append(failed, fmt.Errorf("shard %s: %w", l.Shard, err))
			continue
		}
		m.log.Info("a server is back, and what a cancelled job had left there is taken away", zap.String("shard", string(l.Shard)))
		left = slices.DeleteFunc(left, func(other Left) bool { return other.Shard == l.Shard })
		m.setLeft(left)
		if err := journal.say(ctx, job.Database, job.Number, job.generation, m.progress()); err != nil {
			return err
		}
	}
	return errors.Join(failed...)
}

// sweepShard cleans one server that is back.
func (m *mover) sweepShard(ctx context.Context, name shard.Name) error {
	cur, err := m.current(ctx)
	if err != nil {
		return err
	}
	if slices.Contains(cur.Members, name) {
		return errors.New("it is a member by now; nothing is deleted there")
	}
	if err := m.renew(ctx); err != nil {
		return err
	}
	if err := m.identify(ctx); err != nil {
		return err
	}
	if err := m.leadShard(ctx, name); err != nil {
		return err
	}
	return m.clean(ctx, []shard.Name{name})
}
