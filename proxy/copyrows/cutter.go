// Package copyrows answers: where do the rows of a COPY end, and what stands in some of their fields? It cuts the stream that
// a client sends, in each of PostgreSQL's formats, without changing a byte of it. It does no I/O; what it holds is bounded
// by the longest row.
package copyrows

import (
	"errors"
	"fmt"
)

// Kind is a format of COPY.
type Kind uint8

// The formats.
const (
	Text Kind = iota
	CSV
	Binary
)

// Format is how rows are written. Quote and Escape are CSV's; Binary uses none of the fields.
type Format struct {
	Kind                     Kind
	Delimiter, Quote, Escape byte
	Null                     string
	Header                   bool // the first line holds names
	Match                    bool // which the server reads
}

// Part is what a piece of the stream is.
type Part uint8

// The parts. Head is for every receiver: the header of Binary, and the line of names. End is the end marker; nothing behind it counts.
const (
	Row Part = iota
	Head
	End
)

// MaxRow bounds a row in bytes: it is held whole. A server takes no longer ones (MaxAllocSize in src/include/utils/memutils.h is 1 GB, but
// each row is converted and copied there, so that much shorter ones fail too).
const MaxRow = 256 << 20

// ErrLongRow is returned for a row above MaxRow.
var ErrLongRow = fmt.Errorf("a row is longer than %d bytes", MaxRow)

// errBinary is returned for a binary stream that no server would take.
var errBinary = errors.New("invalid binary COPY data")

// Field is one field of a row. Value has neither quotes nor escapes; it is valid until the next call of Next.
type Field struct {
	Value []byte
	Null  bool
	Given bool // the row has such a field
}

// Cutter cuts one stream. It belongs to one goroutine.
type Cutter struct {
	format Format
	wanted []int // the fields to read, ascending or not
	fields []Field
	spare  []byte // memory of fields that had escapes

	buf    []byte
	from   int  // of the row that is looked at
	at     int  // what has been looked at
	begun  bool // the head has been cut
	quoted bool // CSV: inside quotes at at
	escape bool // CSV: the byte before was an escape
}

// New returns a cutter that reads the fields of these indexes from every row.
func New(format Format, wanted []int) *Cutter {
	return &Cutter{format: format, wanted: wanted, fields: make([]Field, len(wanted)), begun: format.Kind != Binary && !format.Header}
}

// Add gives the cutter more of the stream. It is copied.
func (c *Cutter) Add(b []byte) {
	if c.from > 0 {
		n := copy(c.buf, c.buf[c.from:])
		c.buf, c.at, c.from = c.buf[:n], c.at-c.from, 0
	}
	c.buf = append(c.buf, b...)
}

// Next returns the next whole piece of the stream, nil if more must come first. It is valid until Add.
func (c *Cutter) Next() (piece []byte, part Part, err error) {
	var n int
	if c.format.Kind == Binary {
		n, part, err = c.binary()
	} else if n = c.line(); n > 0 {
		part = c.linePart(c.buf[c.from : c.from+n])
	}
	if err != nil || n == 0 {
		if err == nil && len(c.buf)-c.from > MaxRow {
			err = ErrLongRow
		}
		return nil, Row, err
	}
	piece = c.buf[c.from : c.from+n]
	c.from += n
	c.at = c.from
	return piece, part, nil
}

// Rest returns what is left when the stream has ended: in Text and CSV the last row, whose line may have no end.
func (c *Cutter) Rest() (piece []byte, part Part) {
	piece = c.buf[c.from:]
	c.from = len(c.buf)
	if len(piece) == 0 || c.format.Kind == Binary {
		return piece, Head // whatever it is, the servers shall judge it
	}
	return piece, c.linePart(piece)
}

// Fields are those of the row that Next or Rest returned last, in the order of the indexes given to New.
func (c *Cutter) Fields() []Field { return c.fields }

// linePart says what a line is, and reads its fields.
func (c *Cutter) linePart(line []byte) Part {
	if !c.begun {
		c.begun = true
		return Head
	}
	line = trimEnd(line)
	if string(line) == `\.` {
		return End
	}
	c.spare = c.spare[:0]
	clear(c.fields)
	if c.format.Kind == CSV {
		c.fieldsCSV(line)
	} else {
		c.fieldsText(line)
	}
	return Row
}

// trimEnd cuts the end of a line off.
func trimEnd(line []byte) []byte {
	if n := len(line); n > 0 && line[n-1] == '\n' {
		line = line[:n-1]
	}
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	return line
}

// keep notes the i-th field of a row.
func (c *Cutter) keep(i int, value []byte, null bool) {
	for at, wanted := range c.wanted {
		if wanted == i {
			c.fields[at] = Field{Value: value, Null: null, Given: true}
		}
	}
}

// wants reports whether the i-th field is one to read.
func (c *Cutter) wants(i int) bool {
	for _, wanted := range c.wanted {
		if wanted == i {
			return true
		}
	}
	return false
}
