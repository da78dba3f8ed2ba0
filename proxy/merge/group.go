package merge

import (
	"slices"
	"unsafe"
)

// group is one group: what its functions have seen.
type group struct {
	states []state
}

// groupBytes is about what a group costs beside its states and its key: itself, its entry in the map and its place in the order.
const groupBytes = 128

// stateBytes is a state without what it points to.
const stateBytes = int64(unsafe.Sizeof(state{}))

// groups are those not yet finished.
type groups struct {
	byKey  map[string]*group
	order  []*group // as they were first seen
	buffer []byte
	keys   []datum // of the row
	// current is the one group that streaming has, last its keys.
	current *group
	last    []datum
	kept    [][]byte
	arena   []byte   // values of a finished group
	records []record // finished groups that wait to be sorted
}

// record is the outputs of a finished group and its keys of Sort.
type record struct {
	values [][]byte
	keys   []datum
}

func (g *groups) start(m *Merger) {
	if !m.aggregate {
		return
	}
	g.byKey = map[string]*group{}
	g.keys, g.last, g.kept = make([]datum, len(m.group)), make([]datum, len(m.group)), make([][]byte, len(m.group))
}

// addToGroup adds a shard's row to its group.
func (r *run) addToGroup(values [][]byte) error {
	g := &r.groups
	if err := readAllKeys(r.group, values, g.keys); err != nil {
		return err
	}
	one, err := r.findGroup(g)
	if err != nil {
		return err
	}
	return r.fold(one, values)
}

// findGroup returns the group of g.keys. Streaming, it finishes the group before.
func (r *run) findGroup(g *groups) (*group, error) {
	if !r.streaming {
		g.buffer = g.buffer[:0]
		for i := range r.group {
			g.buffer = r.group[i].class.appendKey(g.buffer, &g.keys[i])
		}
		if one := g.byKey[string(g.buffer)]; one != nil {
			return one, nil
		}
		one := &group{states: make([]state, len(r.outputs))}
		g.byKey[string(g.buffer)], g.order = one, append(g.order, one)
		return one, r.use(groupBytes+int64(len(g.buffer))+stateBytes*int64(len(r.outputs)), "groups")
	}
	if g.current == nil {
		g.current = &group{states: make([]state, len(r.outputs))}
	} else {
		if compareAll(r.group, g.last, g.keys) == 0 {
			return g.current, nil
		}
		if err := r.finish(g.current); err != nil {
			return nil, err
		}
		for i := range g.current.states {
			g.current.states[i].reset()
		}
	}
	copy(g.last, g.keys)
	for i := range g.last {
		g.kept[i] = g.last[i].keep(g.kept[i])
	}
	return g.current, nil
}

// fold adds a row to the states of its group.
func (r *run) fold(one *group, values [][]byte) error {
	for i := range r.outputs {
		o, s := &r.outputs[i], &one.states[i]
		if o.Function == Beside {
			continue
		}
		var second []byte
		if o.Function == Avg {
			second = values[o.Second]
		}
		if err := o.add(s, values[o.Column], second, &r.scratch); err != nil {
			return err
		}
	}
	for i := range r.outputs {
		o, s := &r.outputs[i], &one.states[i]
		if o.Function == Beside && one.states[o.Second].replaced {
			s.seen, s.value = true, own(s.value, values[o.Column])
		}
	}
	if r.streaming {
		return nil
	}
	var grown int64
	for i := range one.states {
		grown += one.states[i].growth()
	}
	return r.use(grown, "groups")
}

// finishGroups finishes the groups that are left when the sources have ended.
func (r *run) finishGroups() error {
	g := &r.groups
	if r.streaming {
		if g.current != nil {
			if err := r.finish(g.current); err != nil {
				return err
			}
		}
		return r.deliverSorted()
	}
	if len(r.group) == 0 && len(g.order) == 0 {
		g.order = append(g.order, &group{states: make([]state, len(r.outputs))}) // all rows are one group, of none too
	}
	for _, one := range g.order {
		if err := r.finish(one); err != nil {
			return err
		}
	}
	return r.deliverSorted()
}

// finish makes the outputs of a group, and delivers them or keeps them to be sorted, if HAVING is true of them.
func (r *run) finish(one *group) (err error) {
	g := &r.groups
	g.arena = g.arena[:0]
	for i := range r.outputs {
		o, s := &r.outputs[i], &one.states[i]
		if !s.seen && o.Function != Count {
			r.out[i] = nil
			continue
		}
		if o.finish == nil {
			r.out[i] = s.value
			continue
		}
		at := len(g.arena)
		if g.arena, err = o.finish(s, g.arena); err != nil {
			return err
		}
		if r.out[i] = g.arena[at:len(g.arena):len(g.arena)]; len(g.arena) == at {
			r.out[i] = nil // an average of no rows
		}
	}
	if r.having != nil {
		kept, err := r.having(r.out)
		if err != nil || kept != isTrue {
			return err
		}
	}
	if r.sort == nil {
		return r.deliver(nil, r.out)
	}
	return r.keepRecord()
}

// keepRecord keeps the outputs until all groups can be sorted.
func (r *run) keepRecord() error {
	one := record{values: make([][]byte, len(r.out)), keys: make([]datum, len(r.sort))}
	size := int64(len(r.out))*int64(unsafe.Sizeof([]byte{})) + int64(len(r.sort))*int64(unsafe.Sizeof(datum{})) + int64(unsafe.Sizeof(one))
	for i, value := range r.out {
		one.values[i] = own(nil, value)
		size += int64(len(value))
	}
	if err := readAllKeys(r.sort, one.values, one.keys); err != nil {
		return err
	}
	r.groups.records = append(r.groups.records, one)
	return r.use(size, "groups")
}

// deliverSorted delivers the kept outputs in order; equal ones as they were first seen.
func (r *run) deliverSorted() error {
	records := r.groups.records
	slices.SortStableFunc(records, func(a, b record) int { return compareAll(r.sort, a.keys, b.keys) })
	for i := range records {
		if err := r.deliver(nil, records[i].values); err != nil {
			return err
		}
	}
	return nil
}
