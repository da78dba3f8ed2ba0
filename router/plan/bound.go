package plan

import "pgtier/parser"

// query is a query of the statement with its names resolved. A WITH query is bound anew for each use of its name, as if it stood there.
type query struct {
	tree *parser.Query
	// with are the WITH queries that change rows, and those that nothing names.
	with []*query
	from []*node
	// target is the table that it writes, nil for SELECT. That of INSERT is not in from.
	target *node
	// scope is what names in the query's expressions mean: the items of FROM, then the outer queries.
	scope *scope
	// outputs are the columns of the answer; open: there may be more, or they are not known.
	outputs []column
	open    bool
	// left and right are the sides of a set operation, source that of INSERT … SELECT.
	left, right, source *query
	// subs are the sub-selects in its expressions.
	subs []*sub
	// first and last are the numbers of the variables made in it.
	first, last int
	// recursive: it is a WITH query that names itself.
	recursive bool
	// shadowed: = may be another operator than the server's own.
	shadowed bool
	// aggregates: its rows are made of many, be it that an aggregate inside a sub-select belongs to it.
	aggregates bool
	// borrowed: an aggregate inside a sub-select may belong to it.
	borrowed bool

	// constants are what is known of outputs that are constants.
	constants []fact
	// given are facts, true of every row that the query returns whatever stands around it; made once.
	given     []fact
	givenDone bool
	// facts are true of the rows that matter behind WHERE; set by flow.
	facts *facts
}

// node is an item of FROM, or a part of one.
type node struct {
	source *parser.Source
	// table and its columns, of a table.
	table   *table
	columns []column
	// inner is the query of a sub-select or of a WITH query; nil for one that names itself.
	inner *query
	// left and right are the sides of a join; equal are the columns of USING.
	left, right *node
	equal       []fact
	// scope is what names in ON mean; items are what the node adds to the query's.
	scope *scope
	items []*item

	// facts are true of the rows of the node that matter, matched of those for which ON holds; set by flow.
	facts, matched *facts
}

// sub is a sub-select in an expression.
type sub struct {
	expr  *parser.Expr
	query *query
	scope *scope
	// on is the node whose ON it stands in, nil for others.
	on *node
	// positive: the condition that it stands in is true only if it is.
	positive bool
}

// outer says whether the node is a join that adds rows of NULLs.
func (n *node) outer() bool {
	return n.source.Kind == parser.SourceJoin && n.source.Join != parser.JoinInner
}

// subOf finds the sub-select of an expression.
func (q *query) subOf(e *parser.Expr) *sub {
	for _, s := range q.subs {
		if s.expr == e {
			return s
		}
	}
	return nil
}

// inside says whether a variable was made in q or in a query inside it.
func (q *query) inside(v *variable) bool { return v.number >= q.first && v.number < q.last }
