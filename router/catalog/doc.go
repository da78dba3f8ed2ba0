// Package catalog answers: which functions and tables can change session state behind the parser's back, which statements are proved reads that a
// replica answers as the manager does, which answers may a cache keep, and which tables does a write change?
//
// The parser sees what a statement says; a function, trigger, view or default that it names may say more. A Snapshot holds, for one database,
// what each of them may do, as one graph that is searched from several kinds of sources. DESIGN.md has the argument and its limits.
package catalog
