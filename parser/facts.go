package parser

// Table is one use of a relation in a statement. A name of a WITH query where it is in scope is none.
type Table struct {
	// Schema is as the text has it, "" where search_path decides.
	Schema string
	Name   string
	Access Access
}

// Access is a set of what a statement does with a table. The zero value is nothing.
type Access uint8

// What may be done with a table.
const (
	Reads  Access = 1 << iota // its rows are looked at; the target of UPDATE, DELETE and MERGE included
	Alters                    // its rows change: INSERT, UPDATE, DELETE, MERGE, COPY FROM, TRUNCATE, SELECT INTO, REFRESH
	Locks                     // its rows or the whole are locked: FOR UPDATE and its kind, LOCK
)

// Called is a function that the text calls by name.
type Called struct {
	Schema string // "" where search_path decides
	Name   string // as the server folds it
	Args   int    // arguments written; a variadic one counts once
	// First is the first argument if it is a plain string literal, such as current_setting's, else "".
	First string
}

// Named is a name with its schema, "" where search_path decides: an operator or a type.
type Named struct{ Schema, Name string }

// Value is what a column is compared with or set to.
type Value struct {
	Kind ValueKind
	// Param is the number of the parameter, from 1.
	Param int
	// Literal is the index of the literal among those that the template takes out of the text, from 0; meaningful for
	// texts whose Statement has a template. Text and Null are the literal itself in the text that was analysed.
	Literal int
	Text    string
	Null    bool
}

// ValueKind tells a constant from a parameter.
type ValueKind uint8

// The kinds of values. Anything computed is ValueOther.
const (
	ValueOther ValueKind = iota
	ValueConstant
	ValueParam
)

// Comparison is column = value, or column IN (values), that must hold for every row the statement touches in that table: it
// stands in a conjunction of WHERE, or of ON in an inner join.
type Comparison struct {
	Table  int    // index into Command.Tables; -1 if the text does not say which
	Column string // as the server folds it
	Values []Value
	Array  bool // = ANY (value): Values has one element, an array
}

// Transaction is what BEGIN, START TRANSACTION or SET TRANSACTION asks for. Fields of what is not asked are zero.
type Transaction struct {
	Isolation  string // "serializable", "repeatable read", "read committed", "read uncommitted"
	ReadOnly   bool
	ReadWrite  bool
	Deferrable bool
	Snapshot   bool // SET TRANSACTION SNAPSHOT
}

// Hint is one setting of a leading comment /* pgtier: name=value, name=value */.
type Hint struct{ Name, Value string }

// Assignment is SET name = value with one literal value.
type Assignment struct {
	Name, Value string
	Local       bool
	Default     bool // TO DEFAULT, or RESET; Value is ""
}

// Restores reports whether a command may set something to what it was at login.
func (s *Statement) Restores() bool {
	for i := range s.Commands {
		if c := &s.Commands[i]; c.RestoresAny || len(c.Restores) > 0 {
			return true
		}
	}
	return false
}
