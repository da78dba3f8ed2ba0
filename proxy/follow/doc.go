// Package follow answers: what has been written to this server past us?
//
// A Follower reads a manager's writes by logical decoding and tells a Sink of every commit twice: when it stands in the
// log, and when every snapshot that the manager takes shows it. What it proves, and how, is in DESIGN.md.
package follow

import (
	"fmt"
	"time"
)

// Sink is told what was written. Its methods are called one at a time, by a goroutine of Run, and must not block: nothing
// else is told meanwhile. A new Sink counts as one that was told Lost.
type Sink interface {
	// Changing tells that c stands in the log. From some moment before this call on, readers of the manager may see it,
	// and until Changed has been called some may not. Calls come in the order of the commits. c is not changed any more
	// and may be kept.
	Changing(c *Commit)
	// Changed tells that every snapshot taken on the manager from now on shows c, which Changing told of. It comes once for
	// each Changing that no Lost has followed. A commit that waits for a standby does not hold up the Changed of later ones.
	Changed(c *Commit)
	// Resumed tells that from now on Changing comes for every commit that is not visible yet and changes a table of t. It
	// ends what Lost began, and is called again when the tables are others: what is kept of a table that the last t did
	// not have must have been read after this call.
	Resumed(t *Tables)
	// Lost tells that everything may have changed, and that nothing will be told until Resumed. No Changed will come for
	// earlier calls of Changing.
	Lost()
}

// LSN is a position in a server's write-ahead log, in bytes; 0 is none.
type LSN uint64

// String is PostgreSQL's way to write it.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint32(l>>32), uint32(l)) }

// Commit is one transaction's changes. It is immutable.
type Commit struct {
	// XID is the transaction's id with its epoch (xid8).
	XID uint64
	// End is where the commit's record ends.
	End LSN
	// At is the server's clock at the commit.
	At time.Time
	// Tables are those that were changed, each once; never empty. One that the sink does not know may be a partition that
	// was made a moment ago, so it stands for any table.
	Tables []*Table
	// Changes are the changed rows in their order. It is nil if Whole is set.
	Changes []Change
	// Whole says that there were too many rows to tell: anything in Tables may have changed.
	Whole bool

	bytes int // that Changes take, about
}

// Table is one that is no partitioned table: rows of those are told as rows of the partition. It is immutable.
type Table struct {
	OID          uint32
	Schema, Name string

	columns []column
}

// column is one of a Table.
type column struct {
	name string
	key  bool // of the replica identity
}

// Identifies reports whether the i-th column of the table's rows is in its replica identity.
func (t *Table) Identifies(i int) bool { return i < len(t.columns) && t.columns[i].key }

// Kind is what happened to a row.
type Kind byte

// The kinds of changes.
const (
	Insert   Kind = 'I'
	Update   Kind = 'U'
	Delete   Kind = 'D'
	Truncate Kind = 'T' // of all rows
)

// String is the statement's name.
func (k Kind) String() string {
	switch k {
	case Insert:
		return "insert"
	case Update:
		return "update"
	case Delete:
		return "delete"
	case Truncate:
		return "truncate"
	}
	return fmt.Sprintf("kind %q", byte(k))
}

// Change is what happened to one row, or to all of a table's.
type Change struct {
	Table *Table
	Kind  Kind
	// Old is the row as it was: of a Delete, and of an Update of a table with REPLICA IDENTITY FULL, or one that changes
	// columns of the replica identity. In an Update it is nil otherwise, and these columns are in New as they were.
	Old []Column
	// New is the row as it is: of Insert and Update.
	New []Column
}

// Column is a column's value in a row.
type Column struct {
	Name string
	// Value is the text that a session gets with UTF8, DateStyle ISO, TimeZone UTC, IntervalStyle postgres, extra_float_digits 3
	// and bytea_output hex. It is nil unless State is Value.
	Value []byte
	State State
}

// State is what is known of a column's value.
type State byte

// The states of a value.
const (
	Value     State = iota
	Null            // it is NULL
	Unchanged       // it is as it was, and too long to be told again
	Absent          // it is not told: the column is not in the replica identity
)
