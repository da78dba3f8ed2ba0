package resharder

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"pgtier/proxy/shardmap"
	"pgtier/router/shard"
)

// standing is where everything stands, as the shards say.
type standing struct {
	state     map[int]string               // of moves; "" for one that has not begun
	granted   map[int]bool                 // groups that their targets own
	registers map[shard.Name]map[int]int64 // by group; those that there are
}

// readMoves reads how far the moves to a shard are.
func (m *mover) readMoves(ctx context.Context, name shard.Name, into *standing) error {
	return m.links[name].Query(ctx, fmt.Sprintf("SELECT move, state, granted FROM pgtier.move WHERE job = %d", m.job.Number), func(fields [][]byte) error {
		move, err := strconv.Atoi(string(fields[0]))
		if err != nil {
			return err
		}
		into.state[move] = string(fields[1])
		for text := range strings.SplitSeq(strings.Trim(string(fields[2]), "{}"), ",") {
			if text == "" {
				continue
			}
			group, err := strconv.Atoi(text)
			if err != nil {
				return err
			}
			into.granted[group] = true
		}
		return nil
	})
}

// readRegisters reads the registers of a shard.
func (m *mover) readRegisters(ctx context.Context, name shard.Name) (map[int]int64, error) {
	found := map[int]int64{}
	err := m.links[name].Query(ctx, `SELECT substr(relname, 10), coalesce(pg_sequence_last_value(oid::regclass), 0) FROM pg_class
WHERE relnamespace = 'pgtier'::regnamespace AND relkind = 'S' AND relname ~ '^register_[0-9]+$'`, func(fields [][]byte) error {
		group, err := strconv.Atoi(string(fields[0]))
		if err != nil {
			return err
		}
		found[group], err = strconv.ParseInt(string(fields[1]), 10, 64)
		return err
	})
	return found, err
}

// stand asks all shards of the job, but lost ones.
func (m *mover) stand(ctx context.Context) (*standing, error) {
	s := &standing{map[int]string{}, map[int]bool{}, map[shard.Name]map[int]int64{}}
	for _, name := range m.reached() {
		if err := m.readMoves(ctx, name, s); err != nil {
			return nil, err
		}
		var err error
		if s.registers[name], err = m.readRegisters(ctx, name); err != nil {
			return nil, err
		}
	}
	return s, m.assume(ctx, s)
}

// settle brings registers, map and motion to what the targets say of who owns each group, whatever an earlier mover or attempt has left. That is all there
// is to do after a crash: before the grant a fence is taken back, after it the rest is done.
func (m *mover) settle(ctx context.Context) error {
	switch m.job.Step {
	case StepPlanned, StepDone, StepCancelled:
		return nil
	}
	s, err := m.stand(ctx)
	if err != nil {
		return err
	}
	if m.job.Step == StepCancel { // it began when nothing was granted, and nothing can have been since
		clear(s.granted)
	}
	if m.job.Step == StepFinish { // what says so is deleted at its end, and the map has said the same since it began
		cur, err := m.current(ctx)
		if err != nil {
			return err
		}
		clear(s.granted)
		for i := range m.job.Moves {
			kept, _ := split(cur.Map, &m.job.Moves[i])
			for _, group := range kept {
				s.granted[group.Number] = true
			}
		}
	}
	m.count(s)
	if register, ok := s.registers[m.c.Map.Home][referenceGroup]; ok && register&3 != stateOwned {
		epoch, err := m.epoch(ctx)
		if err != nil {
			return err
		}
		// Whether the new shard was admitted or not, all proxies have to know before writes go on.
		if err := m.await(ctx); err != nil {
			return err
		}
		if err := m.turnRegister(ctx, m.c.Map.Home, referenceGroup, epoch*4+stateOwned, stateForeign, stateFenced); err != nil {
			return err
		}
	}
	owners := map[shard.Bucket]shard.Name{}
	for i := range m.job.Moves {
		move := &m.job.Moves[i]
		if m.lost[move.Target] != nil && m.job.Step != StepCancel { // nobody knows more than the map says
			continue
		}
		for _, group := range move.Groups {
			owner := move.Source
			if s.granted[group.Number] {
				owner = move.Target
			}
			if err := m.settleGroup(ctx, s, move, group.Number); err != nil {
				return err
			}
			for _, b := range bucketsOf(group.Spans) {
				owners[b] = owner
			}
		}
	}
	return m.change(ctx, func(next *shardmap.Current) map[shard.Bucket]shard.Name {
		next.Motion.Near = false
		return owners
	})
}

// split are the groups of a move that its target owns by the map, and the others.
func split(m *shard.Map, move *Move) (kept, others []Group) {
	for _, group := range move.Groups {
		if owner, _ := m.Owner(group.Spans[0].First); owner == move.Target {
			kept = append(kept, group)
		} else {
			others = append(others, group)
		}
	}
	return kept, others
}

// settleGroup puts the registers of a group right, first of the shard that does not own it.
func (m *mover) settleGroup(ctx context.Context, s *standing, move *Move, group int) error {
	epoch, err := m.epoch(ctx)
	if err != nil {
		return err
	}
	source, atSource := s.registers[move.Source][group]
	target, atTarget := s.registers[move.Target][group]
	if s.granted[group] {
		if atSource && source&3 == stateOwned { // only a server that has lost commits says so
			if err := m.turnOff(ctx, move.Source, group, stateFenced, epoch); err != nil {
				return err
			}
		}
		if atTarget && target&3 != stateOwned {
			return m.turnRegister(ctx, move.Target, group, epoch*4+stateOwned, stateForeign, stateImporting, stateFenced)
		}
		return nil
	}
	if atTarget && target&3 != stateImporting {
		if err := m.turnOff(ctx, move.Target, group, stateImporting, epoch); err != nil {
			return err
		}
	}
	if atSource && source&3 != stateOwned {
		return m.turnRegister(ctx, move.Source, group, epoch*4+stateOwned, stateForeign, stateImporting, stateFenced)
	}
	return nil
}

// epoch is the version of the map in force.
func (m *mover) epoch(ctx context.Context) (int64, error) {
	cur, err := m.current(ctx)
	if err != nil {
		return 0, err
	}
	return int64(cur.Map.Version()), nil //nolint:gosec // versions count from 1
}

// turnRegister changes a group's register, which must be in one of the expected states.
func (m *mover) turnRegister(ctx context.Context, name shard.Name, group int, value int64, expected ...int) error {
	return m.links[name].run(ctx, "SET LOCAL synchronous_commit = on; "+m.turnSQL(group, value, expected...))
}

// turnSQL is the SQL of that.
func (m *mover) turnSQL(group int, value int64, expected ...int) string {
	list := make([]string, len(expected))
	for i, state := range expected {
		list[i] = strconv.Itoa(state)
	}
	return fmt.Sprintf("SELECT pgtier.turn(%d, %d, '{%s}', %d)", m.job.generation, group, strings.Join(list, ","), value)
}

// turnOff is turnRegister for a register that may say owned: it waits for who writes to the group.
func (m *mover) turnOff(ctx context.Context, name shard.Name, group int, state, epoch int64) error {
	return m.links[name].run(ctx, fmt.Sprintf("SET LOCAL synchronous_commit = on; SET LOCAL lock_timeout = %d; SELECT pg_advisory_xact_lock(%d, %d); %s",
		fenceLimit.Milliseconds(), guardClass, group, m.turnSQL(group, epoch*4+state, stateForeign, stateImporting, stateOwned, stateFenced)))
}

// ordered are the members in the order of the configuration.
func (m *mover) ordered(members []shard.Name) []shard.Name {
	var out []shard.Name
	for _, name := range m.c.Map.Shards {
		if slices.Contains(members, name) {
			out = append(out, name)
		}
	}
	return out
}
