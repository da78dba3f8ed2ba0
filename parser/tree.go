package parser

// Tree is one statement as a planner of shards sees it: its queries with their sources, conditions and outputs, all names unresolved. It is
// immutable and holds for every text of the same template: constants are named by their index among the template's literals, places by
// tokens. What the tree has no words for is an Expr of kind ExprOther, or sets Opaque.
type Tree struct {
	// Query is the statement: SELECT, VALUES, INSERT, UPDATE, DELETE or MERGE, inside EXPLAIN, DECLARE, PREPARE and COPY (query) TO too.
	Query *Query
	// Opaque names the construct that the tree cannot express and that may matter anywhere, such as "XMLTABLE"; "" if there is none.
	Opaque string
	// Calls are all function calls of the statement, at any depth, in no order. What only syntax names (CURRENT_TIMESTAMP, COALESCE,
	// XML and JSON constructors, the methods of TABLESAMPLE) is none.
	Calls []*Expr
	// Sources are all tables named, at any depth, targets of writes included, in no order. Names of WITH queries in scope are none, nor is
	// the table that SELECT INTO makes.
	Sources []*Source
}

// Query is a SELECT, VALUES, set operation, INSERT, UPDATE, DELETE or MERGE.
type Query struct {
	Kind Kind // Select, Insert, Update, Delete or Merge
	With []*With
	// Set is the set operation between Left and Right; SetNone for others. All: UNION ALL and its kind. Order, Limit and Offset are its own.
	Set         SetOp
	All         bool
	Left, Right *Query
	// Target is the table that INSERT, UPDATE, DELETE and MERGE write to, nil for Select. It is in From too, but for INSERT.
	Target *Source
	From   []*Source // the items of FROM and USING, behind the target
	Where  *Expr     // nil: none
	// Outputs is the select list, or RETURNING.
	Outputs    []*Output
	Distinct   bool    // SELECT DISTINCT, DISTINCT ON too
	DistinctOn []*Expr // nil without ON
	// Group are the expressions of GROUP BY; GroupingSets that it has ROLLUP, CUBE or GROUPING SETS, GroupDistinct GROUP BY DISTINCT.
	Group         []*Expr
	GroupingSets  bool
	GroupDistinct bool
	Having        *Expr
	Windows       bool // has a WINDOW clause, whose windows calls name
	// WindowDefs are the windows of that clause, with their Name.
	WindowDefs    []*Window
	Order         []*Sort
	Limit, Offset *Expr // nil: none; LIMIT ALL and LIMIT NULL are none too
	WithTies      bool
	Locks         bool // FOR UPDATE and its kind
	Into          bool
	// Rows are those of VALUES; for INSERT those it inserts, nil for DEFAULT VALUES and INSERT … SELECT. A DEFAULT is ExprDefault.
	Rows []*Row
	// Columns are INSERT's, as the server folds them; nil: those of the table, in its order.
	Columns []string
	Source  *Query // of INSERT … SELECT, nil for VALUES; a SELECT of MERGE's USING is in From
	Assigns []*Assign
	// Conflict is ON CONFLICT, nil without it.
	Conflict *Conflict
	// On is the condition of MERGE, Actions what it does.
	On      *Expr
	Actions []*Action
	// Overriding: INSERT … OVERRIDING SYSTEM or USER VALUE.
	Overriding bool
	// Aggregates says that the outputs, HAVING or ORDER BY of this query itself call what stands in AggregateNames, or anything with
	// FILTER, DISTINCT, ORDER BY inside its parentheses or WITHIN GROUP, without OVER. Aggregates that users define are not known, and one
	// inside a sub-select whose arguments are columns of this query alone belongs to this query without being counted here.
	Aggregates bool
	// Tokens covers the statement's outermost query with its WITH, without parentheses around it and without a semicolon.
	Tokens Span
	// WhereTokens covers the condition behind the word WHERE; HavingTokens, OrderTokens, LimitTokens and OffsetTokens the whole clause, its
	// keyword included, GroupTokens too; all zero without the clause. They are set for the statement's outermost query alone, if it is a plain SELECT.
	WhereTokens, GroupTokens, HavingTokens, OrderTokens, LimitTokens, OffsetTokens Span
	// OutputsTokens covers the select list (or what RETURNING returns), without DISTINCT.
	OutputsTokens Span
	// TailToken is the token before which ORDER BY can be put into the outermost query, if it is a plain SELECT without one: that of
	// LIMIT, OFFSET, FETCH or FOR, or the end of Tokens. 0 if not known.
	TailToken int
}

// SetOp is a set operation.
type SetOp uint8

// The set operations.
const (
	SetNone SetOp = iota
	SetUnion
	SetIntersect
	SetExcept
)

// With is one query of a WITH clause.
type With struct {
	Name         string
	Columns      []string // of the name, nil without a list
	Recursive    bool     // the clause says RECURSIVE and the query names itself
	Materialized bool     // AS MATERIALIZED
	Inlined      bool     // AS NOT MATERIALIZED
	Query        *Query
}

// Source is one item of a FROM.
type Source struct {
	Kind SourceKind
	// Schema and Name are the table's as written; Name alone is the WITH query's where Kind is SourceWith.
	Schema, Name string
	// Alias is what columns may be qualified by: the alias, or the table's or function's name where it has none; "" for none.
	Alias string
	// Columns are the alias's own names for the first columns; for a function those of its column definitions too.
	Columns []string
	// With is the WITH query that the name stands for.
	With *With
	// Query is the sub-select.
	Query   *Query
	Lateral bool
	// Only: FROM ONLY t. Sampled: TABLESAMPLE.
	Only, Sampled bool
	// Join: Left and Right with On, Using or Natural. Aliased: the source has an alias of its own, Alias.
	Join        JoinKind
	Left, Right *Source
	On          *Expr
	Using       []string
	Natural     bool
	Aliased     bool
	// Calls are those of a function in FROM, several for ROWS FROM; one may be ExprNow or another kind that looks like a call.
	Calls      []*Expr
	Ordinality bool // WITH ORDINALITY
	// Args are other expressions inside: the arguments of TABLESAMPLE, and all of SourceOther.
	Args []*Expr
	// place is one more than the token that a table's name begins with, 0 where that is not known.
	place int
}

// SourceKind is what an item of FROM is.
type SourceKind uint8

// The kinds of sources. SourceOther is anything not known better.
const (
	SourceOther SourceKind = iota
	SourceTable
	SourceWith // a WITH query by its name
	SourceQuery
	SourceJoin
	SourceFunction
)

// JoinKind is the kind of a join. CROSS JOIN and NATURAL are JoinInner.
type JoinKind uint8

// The kinds of joins.
const (
	JoinInner JoinKind = iota
	JoinLeft
	JoinRight
	JoinFull
)

// Output is one item of a select list or of RETURNING.
type Output struct {
	Name   string // AS name, or "" where the server chooses
	Expr   *Expr  // ExprStar for * and t.*
	Tokens Span   // the expression and its name
}

// Row is one row of VALUES.
type Row struct {
	Values []*Expr
	Tokens Span // with its parentheses
}

// Sort is one item of ORDER BY.
type Sort struct {
	// Expr may be a constant integer, the number of an output; it differs between texts of one template. So in Group and DistinctOn.
	Expr       *Expr
	Desc       bool
	NullsFirst bool // as the server takes it: the default of DESC too
	Using      bool // USING operator: the order is that operator's
}

// Assign is one item of UPDATE's or ON CONFLICT's SET.
type Assign struct {
	Column string
	// Path: the item assigns to a field or element of the column. Subscripts are the expressions in its brackets.
	Path       bool
	Subscripts []*Expr
	// Value is ExprOther for (a, b) = (SELECT …), with the sub-select among its Args, the same for all columns.
	Value *Expr
}

// Conflict is ON CONFLICT.
type Conflict struct {
	Update     bool // DO UPDATE
	Columns    []string
	Constraint string
	// Other: the target has expressions, operator classes, collations or a WHERE. Args are the expressions in it.
	Other   bool
	Args    []*Expr
	Assigns []*Assign
	Where   *Expr
}

// Action is one WHEN of MERGE.
type Action struct {
	Matched    bool
	Kind       Kind  // Update, Delete or Insert; Other for DO NOTHING
	Condition  *Expr // nil: none
	Assigns    []*Assign
	Columns    []string // of INSERT, nil without a list
	Values     []*Expr  // of INSERT, nil for DEFAULT VALUES
	Overriding bool
}

// Expr is an expression.
type Expr struct {
	Kind ExprKind
	// Schema and Name: of ExprCall the function's; of ExprOperator the operator's; of ExprCast the type's (Array: its elements');
	// of ExprColumn Name is the column's, Qualifier what stands before it, the last part nearest: {"s", "t"} for s.t.c. ExprStar has a
	// Qualifier only. Of ExprSubquery the operator's for SubAny and SubAll; of ExprOther Name is the construct's, for messages.
	Schema, Name string
	Qualifier    []string
	// Value is the constant of ExprConstant or the parameter of ExprParam; its Cast is unused.
	Value Value
	// Args are the operands in order. ExprAny: left and the array. ExprIn: left, then the list. ExprSubquery: what is compared with it, if
	// anything. ExprCase: all its parts. ExprOther: whatever expressions are inside. ExprRow, ExprArray: the elements. A
	// named argument of a call is ExprOther.
	Args []*Expr
	// Query of ExprSubquery; Sub says what it is there for.
	Query *Query
	Sub   SubKind
	// Call facts. Star: count(*). Distinct: agg(DISTINCT …). Ordered: ORDER BY inside the parentheses, or WITHIN GROUP. Variadic.
	Star, Distinct, Ordered, Variadic bool
	Order                             []*Sort // that of Ordered
	Filter                            *Expr
	Over                              *Window // nil: no OVER
	// Not: NOT IN, IS NOT NULL. Array: of ExprCast to an array type. Typmod: of ExprCast with a length or precision; of ExprNow too.
	// Operand: of ExprCase, CASE x WHEN …, whose x is Args[0].
	Not, Array, Typmod, Operand bool
	// Tokens covers an ExprCall from its name to its last parenthesis, FILTER, WITHIN GROUP and OVER included; zero for other kinds and for
	// calls that syntax such as EXTRACT or AT TIME ZONE stands for.
	Tokens Span
	// NameTokens covers the name of ExprCall with its schema, and the whole of ExprColumn.
	NameTokens Span
	// ArgsTokens covers what stands inside the parentheses of ExprCall, DISTINCT and ORDER BY included; empty but not zero for f().
	ArgsTokens Span
}

// ExprKind is what an expression is.
type ExprKind uint8

// The kinds of expressions.
const (
	ExprOther    ExprKind = iota
	ExprColumn            // also whole rows: the name may be a table's
	ExprStar              // * or t.*; as an argument, the row
	ExprConstant          // with Value
	ExprParam             // with Value
	ExprDefault           // DEFAULT
	ExprCall
	ExprOperator // Args has one (a prefix operator) or two; BETWEEN, LIKE, IS DISTINCT FROM and others are ExprOther with Args
	ExprAnd
	ExprOr
	ExprNot
	ExprNull // IS [NOT] NULL
	ExprIn   // a IN (list): Args[0] in the rest
	ExprAny  // a = ANY (array), with the operator's Name
	ExprRow
	ExprArray
	ExprCast
	ExprCase
	ExprCoalesce
	ExprCollate // Name is the collation
	ExprSubquery
	ExprNow // CURRENT_TIMESTAMP and its kind, CURRENT_USER and its kind: Name in lower case
)

// SubKind is what a sub-select in an expression is there for.
type SubKind uint8

// The kinds of sub-selects. SubAny is IN too, where Name is "=".
const (
	SubScalar SubKind = iota
	SubExists
	SubAny
	SubAll
	SubArray
	SubOther // part of what the tree has no words for
)

// Window is OVER (…) or OVER name, or one of a WINDOW clause.
type Window struct {
	Name  string // of a WINDOW clause
	Named string // OVER name, or the window that this one begins with: the fields below are then that window's too
	// Partition, Order and Args, the offsets of the frame.
	Partition []*Expr
	Order     []*Sort
	Framed    bool
	Args      []*Expr
}
