// Package plan answers: which shards does a statement go to, what is each sent, and how do their answers become one?
//
// A Schema knows how a database is spread over its shards. It makes a Statement of a text, once, and Statement.Route makes a Plan of it with the
// values at hand. What is not proved to give the answer of one server with all the rows is refused, with the construct's name and a
// hint. DESIGN.md has the rules of proof and the argument for each.
//
// The package is pure: no I/O, no clock, no goroutine. Everything that it returns is immutable and safe for concurrent use.
package plan
