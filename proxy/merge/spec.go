// Package merge makes one answer of the answers of several shards: the rows that one server with all the data would
// give, or an error. It streams where it can and its memory is bounded where it cannot. It does no I/O: rows come from
// Sources and go to a function.
package merge

// Spec says how the rows of the shards become those of one server. A plain value, never written to by this package, so
// that all executions of a statement share it; one that has parameters in Limit, Offset or Constants makes a copy.
// The zero Spec is a plain union: all rows of the first source, then of the next.
//
// A merge has steps in this order: the shards' rows (one source after the other, or in order), Group and Outputs, Having,
// Sort, Distinct, Offset and Limit. Without Aggregate each row of a shard is a row of the answer.
type Spec struct {
	// Outputs are the values of a row of the answer, nil for the shards' columns as they are. Having, Sort and Distinct name
	// values by their index here, hidden ones too.
	Outputs []Output
	// Hidden is how many of the last Outputs (of the last columns, where Outputs is nil) are not for the client: keys of
	// Sort and Distinct, aggregates that only Having looks at.
	Hidden int
	// Aggregate: the rows of a group become one, and Outputs must be set. Without it Outputs are First only, and Group and
	// Having empty.
	Aggregate bool
	// Group are the shards' columns that make a group; none: all rows are one group, which exists even without rows. NULLs are equal.
	Group []Key
	// GroupSorted: the shards' rows come sorted by Group, as its keys say. Then groups are finished one by one and no memory is
	// needed for them, if the order of all keys is known here; otherwise they are gathered as without GroupSorted.
	GroupSorted bool
	// Having keeps groups for which it is true; nil keeps all.
	Having *Condition
	// Sort is the order of the answer. Without Aggregate the shards' rows come in it; with Aggregate the groups are sorted here
	// unless they come in that order.
	Sort []Key
	// Distinct are the values by which rows must differ: of those equal in all of them the first is given. For SELECT DISTINCT
	// all values (or copies of them that can be compared here), for DISTINCT ON its own. It needs no memory for the rows given
	// where Distinct are the first keys of Sort in whatever order.
	Distinct []Key
	// Limited says that Limit counts. Offset rows are left out before. The executor fills in parameters; negative ones are
	// refused as PostgreSQL does.
	Limited       bool
	Limit, Offset int64
	// Constants are what operands of Having name by index. The executor fills in parameters.
	Constants []Constant
}

// Output is one value of a row of the answer.
type Output struct {
	Function Function
	// Column is the shards' column.
	Column int
	// Second is, for Avg, the column with the count, and for Beside the index in Outputs of the Min or Max. Others don't use it.
	Second int
	// Collation says how Min and Max of text compare. Others don't use it.
	Collation Collation
}

// Function is how the values of a group become one. NULLs are ignored; where nothing else is there the result is NULL, of Count 0.
type Function uint8

// The functions. First passes the group's first value on: of a key, of a column that is the same in the whole group, or of a
// row without groups. The others are PostgreSQL's aggregates over partial results, which the shards compute:
//
//	Count    sums count(…), bigint
//	Sum      adds sum(x): bigint (x smallint or integer), numeric, real, double precision or interval. The last digits of floats depend
//	         on the order of the rows, as on one server
//	Avg      sum(x) in Column and count(x) in Second; for avg of real sum(x::double precision). For real and double precision the
//	         shards compute avg(x) too, in a column that nothing names: it fails on values so far apart that avg fails on one server
//	Min Max  min(x), max(x)
//	Beside   passes on Column of the row that the Min or Max named by Second is of: the same min(x) in the client's format, where
//	         only another format of it can be compared here (Spec.Formats); of no use outside that
//	BoolAnd BoolOr   bool_and(x) or every(x), bool_or(x)
//	BitAnd BitOr BitXor   bit_and(x), bit_or(x), bit_xor(x) of smallint, integer and bigint
const (
	First Function = iota
	Count
	Sum
	Avg
	Min
	Max
	Beside
	BoolAnd
	BoolOr
	BitAnd
	BitOr
	BitXor
)

// Key is one key of an order or of equality.
type Key struct {
	// Column is an index of Outputs (of the shards' columns where Outputs is nil); in Group always of the shards' columns.
	Column int
	// Desc and NullsFirst are the order; for DESC without NULLS LAST the planner sets NullsFirst too. Equality doesn't use them.
	Desc, NullsFirst bool
	// Collation says how text compares. Other types don't use it.
	Collation Collation
}

// Collation is what is known of the collation of text (of name too; "char" has none).
type Collation uint8

// Collations. Of CollationUnknown nothing is done here, neither order nor equality.
const (
	CollationUnknown       Collation = iota
	CollationBytes                   // C, POSIX and C.UTF-8: the order of bytes
	CollationDeterministic           // equal if the bytes are; the order is not known here
)

// Condition is a condition over the values of a group, with the three values of SQL: a group is kept if it is true.
type Condition struct {
	Kind ConditionKind
	// Args are the parts of And and Or (any number) and of Not (one).
	Args []*Condition
	// Operator and Collation (of text) are Compare's.
	Operator  Operator
	Collation Collation
	// Left is the operand of Compare, IsNull and IsTrue, Right the second one of Compare.
	Left, Right Operand
}

// ConditionKind is what a condition is.
type ConditionKind uint8

// The kinds of conditions. IsNull is never unknown; IS NOT NULL is Not of it. IsTrue is an operand of type boolean by itself
// (and unknown where that is NULL). BETWEEN and IN are made of Compare.
const (
	And ConditionKind = iota + 1
	Or
	Not
	Compare
	IsNull
	IsTrue
)

// Operator is a comparison.
type Operator uint8

// The comparisons.
const (
	Equal Operator = iota + 1
	NotEqual
	Less
	LessOrEqual
	Greater
	GreaterOrEqual
)

// Operand is a value in a condition.
type Operand struct {
	// Constant: Index is one of Spec.Constants; else one of Outputs.
	Constant bool
	Index    int
}

// Constant is a constant of the statement or a parameter's value. A planner may also have the shards compute it as a column of
// their rows (First, hidden): that is exact for all types that can be compared here.
type Constant struct {
	Null bool
	// Value is the value in Format (0 text, 1 binary), of a literal what stands between its quotes.
	Value  []byte
	Format int16
	// Type is the value's type: of a literal without quotes as the server reads it (integer, bigint, else numeric; boolean for TRUE
	// and FALSE), of a parameter or cast the one declared; 0 for a quoted literal, which takes the type of what it is compared with.
	// Text is read here in plain forms only (12, -1.50, 2024-01-31), else refused.
	Type uint32
}
