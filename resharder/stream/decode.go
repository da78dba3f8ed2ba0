package stream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// The messages of pgoutput, protocol 1 (PostgreSQL's "Logical Replication Message Formats"), read by ourselves: a reader is short, and this one cannot
// index past an end or allocate what a length says. Values point into the message.

// errMalformed is wrapped by errors about a message that does not have the form of its type.
var errMalformed = errors.New("malformed message")

// columnsMost is how many columns a table can have (htup_details.h, MaxHeapAttributeNumber).
const columnsMost = 1600

// Values of columns in a row.
const (
	valueNull      = 'n'
	valueUnchanged = 'u' // stored out of line and not changed, so not sent
	valueText      = 't'
)

// value is a column's value in a row.
type value struct {
	state byte // valueNull, valueUnchanged, valueText
	text  []byte
}

type (
	beginMessage  struct{ final LSN }
	commitMessage struct {
		end LSN
		at  time.Time
	}
	originMessage   struct{ name string }
	logicalMessage  struct{ prefix, content string } // transactional; others are skipped
	relationMessage struct {
		id           uint32
		schema, name string
		columns      []relationColumn
	}
	relationColumn struct {
		name     string
		key      bool
		oid      uint32
		modifier int32
	}
	// rowMessage is an INSERT, UPDATE or DELETE ('I', 'U', 'D').
	rowMessage struct {
		kind byte
		id   uint32
		// old is the row before, nil if it was not sent; with keyOnly all but the replica identity's columns are null in it.
		old, new []value
		keyOnly  bool
	}
	truncateMessage struct{ ids []uint32 }
)

// walk is the rest of a message. Once something is missing it is short, and all that is taken is zero.
type walk struct {
	rest  []byte
	short bool
}

// take returns the next n bytes, of which there are at most 8 unless they are there.
func (w *walk) take(n int) []byte {
	if w.short || n < 0 || len(w.rest) < n {
		w.short = true
		return make([]byte, max(0, min(n, 8)))
	}
	taken := w.rest[:n:n]
	w.rest = w.rest[n:]
	return taken
}

func (w *walk) byte() byte     { return w.take(1)[0] }
func (w *walk) uint16() uint16 { return binary.BigEndian.Uint16(w.take(2)) }
func (w *walk) uint32() uint32 { return binary.BigEndian.Uint32(w.take(4)) }
func (w *walk) lsn() LSN       { return LSN(binary.BigEndian.Uint64(w.take(8))) }

// sized takes a length and as many bytes.
func (w *walk) sized() []byte {
	n := w.uint32()
	if uint64(n) > uint64(len(w.rest)) {
		w.short = true
		return nil
	}
	return w.take(int(n))
}

// text takes a zero-terminated string.
func (w *walk) text() string {
	end := bytes.IndexByte(w.rest, 0)
	if w.short || end < 0 {
		w.short = true
		return ""
	}
	text := string(w.rest[:end])
	w.rest = w.rest[end+1:]
	return text
}

// epoch is where PostgreSQL's microseconds count from.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// time takes a time.
func (w *walk) time() time.Time {
	return epoch.Add(time.Duration(int64(binary.BigEndian.Uint64(w.take(8)))) * time.Microsecond)
}

// decode reads a message. It returns nil for one that says nothing of interest.
func decode(b []byte) (any, error) {
	w := &walk{rest: b}
	var m any
	kind := w.byte()
	switch kind {
	case 'B':
		m = beginMessage{w.lsn()}
		w.take(8 + 4) // time, id
	case 'C':
		w.take(1 + 8) // flags, position of the commit
		m = commitMessage{w.lsn(), w.time()}
	case 'O':
		w.lsn()
		m = originMessage{w.text()}
	case 'M':
		m = w.logical()
	case 'R':
		m = w.relation()
	case 'I', 'U', 'D':
		m = w.row(kind)
	case 'T':
		m = w.truncate()
	case 'Y':
		return nil, nil // names of types, which we know from the catalog
	default:
		return nil, fmt.Errorf("%w: type %q is not known", errMalformed, kind)
	}
	if w.short || len(w.rest) != 0 {
		return nil, fmt.Errorf("%w: type %q does not end where it should", errMalformed, kind)
	}
	return m, nil
}

func (w *walk) logical() any {
	flags := w.byte()
	w.lsn()
	m := logicalMessage{prefix: w.text()}
	m.content = string(w.sized())
	if flags&1 == 0 {
		return nil
	}
	return m
}

func (w *walk) relation() any {
	m := relationMessage{id: w.uint32()}
	m.schema, m.name = w.text(), w.text()
	w.byte() // replica identity: the columns say it
	n := w.uint16()
	if n > columnsMost {
		w.short = true
	}
	for ; n > 0 && !w.short; n-- {
		key := w.byte()&1 != 0
		m.columns = append(m.columns, relationColumn{w.text(), key, w.uint32(), int32(w.uint32())})
	}
	return m
}

func (w *walk) row(kind byte) any {
	m := rowMessage{kind: kind, id: w.uint32()}
	letter := w.byte()
	if letter == 'K' || letter == 'O' {
		if kind == 'I' {
			w.short = true
		}
		m.keyOnly = letter == 'K'
		m.old = w.tuple()
		if kind == 'D' {
			return m
		}
		letter = w.byte()
	}
	if letter != 'N' || kind == 'D' {
		w.short = true
		return m
	}
	m.new = w.tuple()
	return m
}

// tuple takes a row.
func (w *walk) tuple() []value {
	n := int(w.uint16())
	// Each takes a byte at least.
	if n > columnsMost || n > len(w.rest) {
		w.short = true
		return nil
	}
	row := make([]value, n)
	for i := range row {
		row[i].state = w.byte()
		switch row[i].state {
		case valueNull, valueUnchanged:
		case valueText:
			row[i].text = w.sized()
		default: // binary was not asked for
			w.short = true
		}
		if w.short {
			return nil
		}
	}
	return row
}

func (w *walk) truncate() any {
	n := w.uint32()
	w.byte() // options
	if uint64(n)*4 != uint64(len(w.rest)) {
		w.short = true
		return nil
	}
	m := truncateMessage{ids: make([]uint32, n)}
	for i := range m.ids {
		m.ids[i] = w.uint32()
	}
	return m
}

// Heads of messages inside CopyData.
const (
	kindData      = 'w'
	kindKeepalive = 'k'
	kindStatus    = 'r'
)

// frame is what a CopyData of a stream holds: a message, or a keepalive.
type frame struct {
	message []byte // of pgoutput; nil: a keepalive
	end     LSN    // a keepalive's: all up to here has been sent
	reply   bool   // the server wants to hear from us
}

// unframe reads a CopyData.
func unframe(b []byte) (frame, error) {
	w := &walk{rest: b}
	switch kind := w.byte(); kind {
	case kindData:
		w.take(8 + 8 + 8) // positions, time
		if w.short || len(w.rest) == 0 {
			return frame{}, fmt.Errorf("%w: data of %d bytes", errMalformed, len(b))
		}
		return frame{message: w.rest}, nil
	case kindKeepalive:
		f := frame{end: w.lsn()}
		w.take(8)
		f.reply = w.byte() != 0
		if w.short || len(w.rest) != 0 {
			return frame{}, fmt.Errorf("%w: keepalive of %d bytes", errMalformed, len(b))
		}
		return f, nil
	default:
		return frame{}, fmt.Errorf("%w: %d bytes that begin with %q", errMalformed, len(b), kind)
	}
}

// appendStatus appends the body of a status: all up to at is durable here. It asks the server to tell how far it is.
func appendStatus(b []byte, at LSN) []byte {
	b = append(b, kindStatus)
	for range 3 { // written, flushed, applied
		b = binary.BigEndian.AppendUint64(b, uint64(at))
	}
	b = binary.BigEndian.AppendUint64(b, 0) // our clock is nobody's business
	return append(b, 1)
}
