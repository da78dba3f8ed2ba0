package follow

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/jackc/pglogrepl"
)

// errMalformed is wrapped by errors about a message that does not have the form of its type.
var errMalformed = errors.New("malformed message")

// check walks through a message of pgoutput before pglogrepl reads it: its reader trusts each length, allocates what the
// length says, and indexes past the end. A message that passes is read without a panic, in memory of about its own size.
// Types that decoder reads without pglogrepl, or skips, are not looked at.
func check(b []byte) error {
	w := walk{rest: b}
	kind := pglogrepl.MessageType(w.take(1)[0])
	switch kind {
	case pglogrepl.MessageTypeBegin:
		w.take(8 + 8 + 4) // position, time, id
	case pglogrepl.MessageTypeCommit:
		w.take(1 + 8 + 8 + 8) // flags, positions, time
	case pglogrepl.MessageTypeRelation:
		w.relation()
	case pglogrepl.MessageTypeInsert:
		w.take(4)
		w.tuple("N")
	case pglogrepl.MessageTypeUpdate:
		w.take(4)
		if old := w.tuple("KON"); old != 'N' {
			w.tuple("N")
		}
	case pglogrepl.MessageTypeDelete:
		w.take(4)
		w.tuple("KO")
	case pglogrepl.MessageTypeTruncate:
		n := binary.BigEndian.Uint32(w.take(4))
		w.take(1)                                          // options
		w.take(int(min(int64(n)*4, int64(len(w.rest)+1)))) // tables; a count too large asks for more than there is
	default:
		return fmt.Errorf("%w: type %q is not known", errMalformed, byte(kind))
	}
	if w.short || len(w.rest) != 0 {
		return fmt.Errorf("%w: %s does not end where it should", errMalformed, kind)
	}
	return nil
}

// walk is the rest of a message. Once something is missing it is short, and all that is taken is zero.
type walk struct {
	rest  []byte
	short bool
}

// take returns the next n bytes.
func (w *walk) take(n int) []byte {
	if w.short || len(w.rest) < n {
		w.short = true
		return make([]byte, min(n, 8))
	}
	taken := w.rest[:n]
	w.rest = w.rest[n:]
	return taken
}

// text takes a zero-terminated string.
func (w *walk) text() {
	end := bytes.IndexByte(w.rest, 0)
	if end < 0 {
		w.short = true
		return
	}
	w.take(end + 1)
}

// relation takes the body of a Relation.
func (w *walk) relation() {
	w.take(4)
	w.text() // schema
	w.text() // name
	w.take(1)
	for n := binary.BigEndian.Uint16(w.take(2)); n > 0 && !w.short; n-- {
		w.take(1)
		w.text()
		w.take(4 + 4)
	}
}

// tuple takes a row that begins with one of the letters, and returns which.
func (w *walk) tuple(letters string) byte {
	letter := w.take(1)[0]
	if bytes.IndexByte([]byte(letters), letter) < 0 {
		w.short = true
	}
	for n := binary.BigEndian.Uint16(w.take(2)); n > 0 && !w.short; n-- {
		switch w.take(1)[0] {
		case pglogrepl.TupleDataTypeNull, pglogrepl.TupleDataTypeToast:
		case pglogrepl.TupleDataTypeText:
			size := binary.BigEndian.Uint32(w.take(4))
			w.take(int(min(int64(size), int64(len(w.rest)+1))))
		default: // binary was not asked for
			w.short = true
		}
	}
	return letter
}
