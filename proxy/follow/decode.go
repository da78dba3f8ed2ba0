package follow

import (
	"encoding/binary"
	"fmt"

	"github.com/jackc/pglogrepl"
)

const (
	// relationMost bounds a Relation message: 1,600 columns (MaxHeapAttributeNumber) with names of 63 bytes each take 117,000.
	relationMost = 256 << 10
	// relationsMost bounds the Relations that are kept, in bytes of their messages: 100,000 tables of 20 columns.
	relationsMost = 64 << 20
	// headMost is what a message needs at most for its type and table to be known.
	headMost = 1 + 4
	// columnBytes is what a Column takes beside its value (two words of a string, three of a slice, the State, and the
	// slice's own allocation rounded up): a row of many NULLs is short as a message and long in memory.
	columnBytes = 64
)

// decoder makes Commits of the messages of one stream. It is not safe for concurrent use.
type decoder struct {
	// Fixed.
	maxRows, maxBytes int
	counters          *counters

	tables map[uint32]*relation
	kept   int // bytes of the messages in tables

	open    *Commit // nil: between transactions
	xid     uint32
	touched map[uint32]bool // by the open transaction
	rows    int             // of it, told or not
}

// relation is a table as its last message described it.
type relation struct {
	table *Table
	bytes int
}

func newDecoder(cfg *Config, counters *counters) *decoder {
	return &decoder{maxRows: cfg.MaxRows, maxBytes: cfg.MaxBytes, counters: counters, tables: map[uint32]*relation{}, touched: map[uint32]bool{}}
}

// most is how long a message may be that begins with head; a longer one is given to oversized.
func (d *decoder) most(kind byte) int {
	switch pglogrepl.MessageType(kind) {
	case pglogrepl.MessageTypeInsert, pglogrepl.MessageTypeUpdate, pglogrepl.MessageTypeDelete:
		return d.maxBytes
	}
	return relationMost
}

// oversized takes the head of a message that is longer than most allows, size bytes, and that nobody reads.
func (d *decoder) oversized(head []byte, size int) error {
	d.counters.bytes.Add(uint64(size))
	switch pglogrepl.MessageType(head[0]) {
	case pglogrepl.MessageTypeInsert, pglogrepl.MessageTypeUpdate, pglogrepl.MessageTypeDelete:
		return d.row(head, size)
	case pglogrepl.MessageTypeTruncate, pglogrepl.MessageTypeRelation:
		return fmt.Errorf("%w: %s of %d bytes", errMalformed, pglogrepl.MessageType(head[0]), size)
	}
	return nil // is not read when it is short, either
}

// message takes the next one, which must not be empty. It returns a Commit at its end: with an XID of 32 bits, and without
// Tables if nothing was changed.
func (d *decoder) message(b []byte) (*Commit, error) {
	d.counters.bytes.Add(uint64(len(b)))
	switch kind := pglogrepl.MessageType(b[0]); kind {
	case pglogrepl.MessageTypeOrigin, pglogrepl.MessageTypeType, pglogrepl.MessageTypeMessage:
		return nil, nil // says nothing of rows
	case pglogrepl.MessageTypeInsert, pglogrepl.MessageTypeUpdate, pglogrepl.MessageTypeDelete:
		return nil, d.row(b, len(b))
	}
	if err := check(b); err != nil {
		return nil, err
	}
	parsed, err := pglogrepl.Parse(b)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errMalformed, err)
	}
	switch m := parsed.(type) {
	case *pglogrepl.BeginMessage:
		if d.open != nil {
			return nil, fmt.Errorf("%w: a transaction begins inside another", errMalformed)
		}
		d.open, d.xid, d.rows = &Commit{}, m.Xid, 0
		clear(d.touched)
	case *pglogrepl.CommitMessage:
		c := d.open
		if c == nil {
			return nil, fmt.Errorf("%w: a commit outside a transaction", errMalformed)
		}
		d.open = nil
		c.XID, c.End, c.At = uint64(d.xid), LSN(m.TransactionEndLSN), m.CommitTime
		return c, nil
	case *pglogrepl.RelationMessage:
		return nil, d.relate(m, len(b))
	case *pglogrepl.TruncateMessage:
		for _, id := range m.RelationIDs {
			t, err := d.touch(id)
			if err != nil {
				return nil, err
			}
			d.add(Change{Table: t, Kind: Truncate}, 0)
		}
	default:
		return nil, fmt.Errorf("%w: %s is not expected", errMalformed, parsed.Type())
	}
	return nil, nil
}

// relate keeps what a Relation tells.
func (d *decoder) relate(m *pglogrepl.RelationMessage, size int) error {
	t := &Table{OID: m.RelationID, Schema: m.Namespace, Name: m.RelationName, columns: make([]column, len(m.Columns))}
	for i, c := range m.Columns {
		t.columns[i] = column{name: c.Name, key: c.Flags&1 != 0}
	}
	if old := d.tables[t.OID]; old != nil {
		d.kept -= old.bytes
	}
	d.tables[t.OID] = &relation{t, size}
	if d.kept += size; d.kept > relationsMost {
		return fmt.Errorf("descriptions of %d tables take more than %d bytes", len(d.tables), relationsMost)
	}
	return nil
}

// touch notes that the open transaction changes a table, and returns the table.
func (d *decoder) touch(id uint32) (*Table, error) {
	r := d.tables[id]
	switch {
	case d.open == nil:
		return nil, fmt.Errorf("%w: a change outside a transaction", errMalformed)
	case r == nil:
		return nil, fmt.Errorf("%w: a change of table %d, which was not described", errMalformed, id)
	}
	if !d.touched[id] {
		d.touched[id] = true
		d.open.Tables = append(d.open.Tables, r.table)
	}
	return r.table, nil
}

// add keeps a change that takes size bytes, unless there are too many.
func (d *decoder) add(c Change, size int) {
	d.rows++
	d.counters.rows.Add(1)
	o := d.open
	if o.Whole {
		return
	}
	if d.rows > d.maxRows || o.bytes+size > d.maxBytes {
		o.Whole, o.Changes, o.bytes = true, nil, 0
		return
	}
	o.bytes += size
	o.Changes = append(o.Changes, c)
}

// row takes an Insert, Update or Delete of size bytes. All of them are in b, unless they are more than are kept.
func (d *decoder) row(b []byte, size int) error {
	if len(b) < headMost {
		return fmt.Errorf("%w: a change of %d bytes", errMalformed, len(b))
	}
	t, err := d.touch(binary.BigEndian.Uint32(b[1:headMost]))
	if err != nil {
		return err
	}
	c := Change{Table: t, Kind: Kind(b[0])}
	takes := size + columnBytes*len(t.columns)
	if c.Kind == Update {
		takes += columnBytes * len(t.columns)
	}
	// pglogrepl does not read rows of a table without columns, and there is nothing in them.
	if len(t.columns) > 0 && len(b) == size && !d.open.Whole && d.rows < d.maxRows && d.open.bytes+takes <= d.maxBytes {
		if c, err = parseRow(t, b); err != nil {
			return err
		}
	}
	d.add(c, takes)
	return nil
}

// parseRow reads a whole Insert, Update or Delete of t.
func parseRow(t *Table, b []byte) (c Change, err error) {
	if err := check(b); err != nil {
		return c, err
	}
	parsed, err := pglogrepl.Parse(b)
	if err != nil {
		return c, fmt.Errorf("%w: %w", errMalformed, err)
	}
	c = Change{Table: t, Kind: Kind(b[0])}
	var old, new *pglogrepl.TupleData
	keyOnly := false
	switch m := parsed.(type) {
	case *pglogrepl.InsertMessage:
		new = m.Tuple
	case *pglogrepl.UpdateMessage:
		old, new, keyOnly = m.OldTuple, m.NewTuple, m.OldTupleType == pglogrepl.UpdateMessageTupleTypeKey
	case *pglogrepl.DeleteMessage:
		old, keyOnly = m.OldTuple, m.OldTupleType == pglogrepl.DeleteMessageTupleTypeKey
	}
	if c.Old, err = columnsOf(t, old, keyOnly); err == nil {
		c.New, err = columnsOf(t, new, false)
	}
	return c, err
}

// columnsOf reads a row of t; nil is nil. Of one that has the key only, the server sends the other columns as NULL.
func columnsOf(t *Table, row *pglogrepl.TupleData, keyOnly bool) ([]Column, error) {
	if row == nil {
		return nil, nil
	}
	if len(row.Columns) != len(t.columns) {
		return nil, fmt.Errorf("%w: a row of %d columns in table %d of %d", errMalformed, len(row.Columns), t.OID, len(t.columns))
	}
	columns := make([]Column, len(row.Columns))
	for i, c := range row.Columns {
		out := &columns[i]
		out.Name = t.columns[i].name
		switch {
		case keyOnly && !t.columns[i].key:
			out.State = Absent
		case c.DataType == pglogrepl.TupleDataTypeNull:
			out.State = Null
		case c.DataType == pglogrepl.TupleDataTypeToast:
			out.State = Unchanged
		default:
			out.Value = c.Data
		}
	}
	return columns, nil
}
