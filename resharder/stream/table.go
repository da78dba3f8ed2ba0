package stream

import (
	"pgtier/router/shard"
)

// Wanted is a table that is to be moved, as the configuration declares it.
type Wanted struct {
	// Schema may be "": the role's search path decides then.
	Schema, Name string
	// Key are the columns of the sharding key; none for a reference table, which is moved whole.
	Key []string
}

// Layout is how a database's rows fall into buckets.
type Layout struct {
	Function shard.Function
	Buckets  int
	Tables   []Wanted
	// References are tables that are whole on every shard and not among Tables: foreign keys may lead to them.
	References []Wanted
}

// Column is a column that is moved: every one that is not generated.
type Column struct {
	Name string
	// Type is the type's name with its modifier, by format_type: the same name on both sides is the same type.
	Type string
	// Always: GENERATED ALWAYS AS IDENTITY.
	Always bool
	// NotNull: it has no NULL.
	NotNull bool
	// Binary: its type can be sent and received in binary.
	Binary bool
	// InIdentity: UPDATE and DELETE tell its old value.
	InIdentity bool
	// InPrimary: it is in the primary key.
	InPrimary bool

	oid      uint32 // of the type, at this server
	modifier int32
	equal    string // the operator of the index that the column is found by; "" if there is none
}

// String is the letter with its meaning.
func (i Identity) String() string {
	switch i {
	case IdentityDefault:
		return "default"
	case IdentityNothing:
		return "nothing"
	case IdentityFull:
		return "full"
	case IdentityIndex:
		return "index"
	}
	return string(rune(i))
}

// Identity is pg_class.relreplident.
type Identity byte

// The identities.
const (
	IdentityDefault Identity = 'd' // the primary key, if there is one
	IdentityNothing Identity = 'n'
	IdentityFull    Identity = 'f'
	IdentityIndex   Identity = 'i'
)

// Table is a table of one server, as its catalog describes it.
type Table struct {
	Schema, Name string
	// Key is nil for a reference table.
	Key *shard.Key
	// Columns are in the order in which the server has them, without generated ones.
	Columns []Column
	// Generated are the generated columns with their expressions, in order.
	Generated []string
	Identity  Identity
	// Leaves are where the rows are: partitions, the table itself if it has none. Quoted.
	Leaves []string
	// Bytes is the size of the rows, without indexes; Rows is how many the planner takes them for, 0 if it does not know.
	Bytes, Rows int64

	keyed             bool // it is declared with a key, although Key may be nil for a flaw
	partitioned       bool
	generated         []string  // names of Generated
	version, encoding string    // of the server and database
	flaws             []Problem // found by Describe
}

// Problem is why a move is impossible.
type Problem struct {
	Table   string
	Message string
	// Hint is what to do about it.
	Hint string
}

// String is all of it.
func (p Problem) String() string { return p.Table + ": " + p.Message + "; " + p.Hint }

// sql is the table's name in SQL.
func (t *Table) sql() string { return identifier(t.Schema) + "." + identifier(t.Name) }

// String is the table's name for people.
func (t *Table) String() string { return t.Schema + "." + t.Name }
