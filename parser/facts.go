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
	Reads  Access = 1 << iota // its rows are looked at; the target of UPDATE, DELETE, MERGE and INSERT … ON CONFLICT included
	Alters                    // its rows or it itself change: INSERT, UPDATE, DELETE, MERGE, COPY FROM, TRUNCATE, SELECT INTO, REFRESH, DDL
	Locks                     // its rows or the whole are locked: FOR UPDATE and its kind, LOCK, VACUUM, CLUSTER, REINDEX
)

// Called is a function that the text calls by name.
type Called struct {
	Schema string // "" where search_path decides
	Name   string // as the server folds it
	Args   int    // arguments written, those of WITHIN GROUP too; a variadic one counts once. -1 if they were not counted
	// First is the first argument of current_setting and set_config if it is a plain string literal, else "". Those of other
	// functions differ between the texts of one template.
	First string
}

// Named is a name with its schema, "" where search_path decides: an operator or a type.
type Named struct{ Schema, Name string }

// Cast is a conversion of a value that is no constant.
type Cast struct {
	// Type is what it is converted to; of an array its elements'.
	Type Named
	// The value is a text only if one of Columns is one, or a function of Calls or an operator of Operators is not the server's own.
	Columns          []string
	Calls, Operators []string
	// Opaque: the value may be a text whatever those are.
	Opaque bool
}

// Value is what a column is compared with or set to.
type Value struct {
	Kind ValueKind
	// Param is the number of the parameter, from 1.
	Param int
	// Literal is the index of the literal among those that the template takes out of the text, from 0: other texts of the Statement
	// have another one there. It is -1 for what is the same in all: parameters, NULL, TRUE, FALSE, and literals that stay in the text.
	Literal int
	// Negative: a minus sign stands before the literal.
	Negative bool
	// Text and Null are the constant itself in the text that was analysed, without quotes, with its sign.
	Text string
	Null bool
	// Cast is the type that the text gives the value, zero if none; for an array that of its elements. The value compared is what
	// the cast makes of it.
	Cast Named
}

// ValueKind tells a constant from a parameter.
type ValueKind uint8

// The kinds of values. Anything computed is ValueOther.
const (
	ValueOther ValueKind = iota
	ValueConstant
	ValueParam
)

// Comparison is column = value, or column IN (values), that must hold for every row the statement touches in that use of a table: it
// stands in a conjunction of WHERE, or of ON in an inner join, of the query that the use belongs to. The operator is = or
// pg_catalog.=, and no value is ValueOther. That the table has such a column is not known. Columns that UPDATE sets are left out.
type Comparison struct {
	Table  int    // index into Command.Tables; -1 if the text does not say which of the outermost query's
	Column string // as the server folds it
	Values []Value
	Array  bool // = ANY (value): Values has one element, an array
}

// Insertion is what an INSERT of the outermost query puts into its table by VALUES.
type Insertion struct {
	// Columns are those that it names, as the server folds them; nil: those of the table, in its order.
	Columns []string
	// Rows are the values of each row, in the order of the columns; one that is computed, and DEFAULT, is ValueOther.
	Rows [][]Value
	// Overriding: OVERRIDING SYSTEM or USER VALUE.
	Overriding bool
}

// maxInserted bounds the values of an Insertion, which the parser's cache holds: some rows of a wide table.
const maxInserted = 128

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
	Name    string // in lower case
	Value   string // without quotes; for SET search_path = 'a, b' it is the one name of a schema
	Local   bool
	Default bool // TO DEFAULT, or RESET; Value is ""
}

// Configuration is one call of set_config(name, value, is_local).
type Configuration struct {
	// Assignment is what the text shows. Its Name is "" where that is computed or a parameter; Default is a value of NULL.
	Assignment
	// NameParam and ValueParam are the numbers of the parameters that hold the name and the value, 0 if none does.
	NameParam, ValueParam int
	// Computed: the value is neither a constant nor a parameter. LocalComputed: is_local is no constant.
	Computed, LocalComputed bool
}

// plainEffects are those that a Plain statement may have.
const plainEffects = BeginsTransaction | EndsTransaction | TransactionControl | Writes | LocksRows | AdvancesSequence

// isPlain computes Plain from the rest.
func (s *Statement) isPlain() bool {
	if s.Unparsed || s.Conforming || s.Pin != "" || len(s.Hints) > 0 || s.HintError != "" || s.Effects&^plainEffects != 0 {
		return false
	}
	for i := range s.Commands {
		if !s.Commands[i].isPlain() {
			return false
		}
	}
	return true
}

func (c *Command) isPlain() bool {
	switch c.Kind {
	case Select, Insert, Update, Delete, Merge, Begin, Commit, Rollback, Savepoint, RollbackTo, Release:
	default:
		return false
	}
	return c.Pin == "" && c.Effects&^plainEffects == 0 && len(c.Settings)+len(c.Locals)+len(c.Restores)+len(c.Configured) == 0 &&
		!c.LocalsAny && !c.RestoresAny && c.Assigned.Name == "" && c.Prepared == nil && c.Explained == nil
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
