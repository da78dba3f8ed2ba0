package merge

import (
	"errors"
	"io"

	"pgtier/proxy/wire"
)

// DefaultMemory is Config.Memory's default: some 100,000 groups with two numbers each.
const DefaultMemory = 64 << 20

// Config is how a merge may work and what the session's settings are.
type Config struct {
	// Memory bounds, in bytes, what is kept of groups and rows where a merge cannot stream. 0 means DefaultMemory.
	Memory int64
	// Settings are the session's, under which the shards write text.
	Settings Settings
}

// Validate says what is wrong with c.
func (c *Config) Validate() error {
	if c.Memory < 0 {
		return errors.New("memory must not be negative")
	}
	return nil
}

// Field is a column: its type, and the format of its values, 0 for text and 1 for binary.
type Field struct {
	OID    uint32
	Format int16
}

// Source gives the rows of one shard. Next returns the body of the next DataRow, valid until the next call, or io.EOF behind the last.
type Source interface {
	Next() (row []byte, err error)
}

// Merger makes one answer of the answers of several shards, as a Spec says. It is for one goroutine; Run may be called again.
type Merger struct {
	// fixed after New
	settings Settings
	memory   int64
	columns  int // of the shards' rows
	outputs  []output
	visible  int // of the outputs, those for the client
	// merge is the order in which the sources' rows come, over the shards' columns; nil: one source after the other.
	merge     []key
	aggregate bool
	group     []key // over the shards' columns
	streaming bool  // groups are finished one by one
	having    predicate
	sort      []key // over the outputs; nil: the rows come in order
	distinct  []key // over the outputs
	adjacent  bool  // rows equal by distinct come one after the other
	// same: outputs are the shards' columns in their order, and nothing has to be converted. whole: there are no hidden ones either.
	same, whole   bool
	limited       bool
	limit, offset int64
}

// Run merges the rows of the sources and hands those of the answer to emit, which may keep them until it returns. It ends early,
// without reading the sources to their ends, when the limit is reached. It returns how many rows it has emitted. An error of a source
// or of emit is returned as it is; others are *wire.Error.
func (m *Merger) Run(sources []Source, emit func(row []byte) error) (rows int64, err error) {
	if m.limited && m.limit == 0 {
		return 0, nil
	}
	r := newRun(m, emit)
	switch {
	case m.merge != nil:
		err = r.readOrdered(sources)
	case m.whole && !m.aggregate && m.distinct == nil:
		err = r.pass(sources)
	default:
		err = r.readAll(sources)
	}
	if err == nil && m.aggregate {
		err = r.finishGroups()
	}
	if err != nil && !errors.Is(err, errEnough) {
		return r.rows, err
	}
	return r.rows, nil
}

// errEnough ends a run whose limit is reached.
var errEnough = errors.New("limit reached")

// run is one run of a Merger.
type run struct {
	*Merger
	emit    func(row []byte) error
	rows    int64
	skip    int64    // of the offset, what is left
	left    int64    // of the limit, if there is one
	used    int64    // memory, of what memory bounds
	values  [][]byte // of a shard's row
	out     [][]byte // outputs of a row, where they are not values
	buffer  []byte   // the row for the client
	scratch datum    // of the value that is being added
	groups  groups
	last    uniqueness
}

func newRun(m *Merger, emit func(row []byte) error) *run {
	r := &run{Merger: m, emit: emit, skip: m.offset, left: m.limit, values: make([][]byte, m.columns), out: make([][]byte, len(m.outputs))}
	r.groups.start(m)
	r.last.start(m)
	return r
}

// pass hands rows on without looking into them.
func (r *run) pass(sources []Source) error {
	for _, source := range sources {
		for {
			row, err := source.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			if r.skip > 0 {
				r.skip--
				continue
			}
			if err := r.give(row); err != nil {
				return err
			}
		}
	}
	return nil
}

// readAll takes one source after the other.
func (r *run) readAll(sources []Source) error {
	for _, source := range sources {
		for {
			row, err := source.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
			if err := split(row, r.values); err != nil {
				return err
			}
			if err := r.take(row, r.values); err != nil {
				return err
			}
		}
	}
	return nil
}

// take takes a shard's row, in the order of the merge.
func (r *run) take(row []byte, values [][]byte) error {
	if r.aggregate {
		return r.addToGroup(values)
	}
	if r.same {
		return r.deliver(row, values)
	}
	for i := range r.outputs {
		r.out[i] = values[r.outputs[i].Column]
	}
	return r.deliver(row, r.out)
}

// deliver takes the outputs of a row of the answer in its order; row is the shard's, if it was one row.
func (r *run) deliver(row []byte, values [][]byte) error {
	if r.distinct != nil {
		if seen, err := r.isSeen(values); err != nil || seen {
			return err
		}
	}
	if r.skip > 0 {
		r.skip--
		return nil
	}
	if r.whole && !r.aggregate {
		return r.give(row)
	}
	return r.giveValues(values)
}

// giveValues writes a row for the client.
func (r *run) giveValues(values [][]byte) (err error) {
	row := beginRow(r.buffer, r.visible)
	for i, value := range values[:r.visible] {
		if convert := r.outputs[i].convert; convert != nil && value != nil {
			if row, err = appendConverted(row, value, convert, &r.settings); err != nil {
				return err
			}
			continue
		}
		row = appendValue(row, value)
	}
	r.buffer = row
	return r.give(row)
}

// give hands a row to the client and counts it.
func (r *run) give(row []byte) error {
	if err := r.emit(row); err != nil {
		return err
	}
	r.rows++
	if r.limited {
		if r.left--; r.left == 0 {
			return errEnough
		}
	}
	return nil
}

// use takes memory from what is allowed.
func (r *run) use(bytes int64, what string) error {
	if r.used += bytes; r.used > r.memory {
		return outOfMemory(what, r.memory)
	}
	return nil
}

// checkLimits refuses what PostgreSQL refuses of LIMIT and OFFSET (recompute_limits, src/backend/executor/nodeLimit.c).
func checkLimits(spec *Spec) error {
	if spec.Offset < 0 {
		return wire.NewError(codeInvalidOffset, "OFFSET must not be negative", "")
	}
	if spec.Limited && spec.Limit < 0 {
		return wire.NewError(codeInvalidLimit, "LIMIT must not be negative", "")
	}
	return nil
}
