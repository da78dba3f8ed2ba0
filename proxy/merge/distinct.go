package merge

// entryBytes is about what an entry of a map costs beside its key.
const entryBytes = 64

// uniqueness knows the rows that have been given, for DISTINCT.
type uniqueness struct {
	// last is the row before, where rows that are equal come one after the other.
	last   []datum
	next   []datum
	kept   [][]byte
	begun  bool
	seen   map[string]struct{}
	buffer []byte
}

func (u *uniqueness) start(m *Merger) {
	if m.distinct == nil {
		return
	}
	u.last, u.next, u.kept = make([]datum, len(m.distinct)), make([]datum, len(m.distinct)), make([][]byte, len(m.distinct))
	if !m.adjacent {
		u.seen = map[string]struct{}{}
	}
}

// isSeen says whether a row equal by the keys of DISTINCT has been given, and notes this one.
func (r *run) isSeen(values [][]byte) (bool, error) {
	u := &r.last
	if err := readAllKeys(r.distinct, values, u.next); err != nil {
		return false, err
	}
	if r.adjacent {
		if u.begun && compareAll(r.distinct, u.last, u.next) == 0 {
			return true, nil
		}
		u.begun = true
		copy(u.last, u.next)
		for i := range u.last {
			u.kept[i] = u.last[i].keep(u.kept[i])
		}
		return false, nil
	}
	u.buffer = u.buffer[:0]
	for i := range r.distinct {
		u.buffer = r.distinct[i].class.appendKey(u.buffer, &u.next[i])
	}
	if _, ok := u.seen[string(u.buffer)]; ok {
		return true, nil
	}
	u.seen[string(u.buffer)] = struct{}{}
	return false, r.use(int64(len(u.buffer))+entryBytes, "DISTINCT rows")
}
