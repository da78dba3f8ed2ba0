// Package catalog answers: which functions and tables can change session state behind the parser's back?
//
// The parser sees what a statement says; a function, trigger, view or default that it names may say more. A Snapshot holds, for one database,
// which of them may change what a shared connection must not carry to the next client. DESIGN.md has the argument and its limits.
package catalog
