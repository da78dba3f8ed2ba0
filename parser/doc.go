// Package parser answers: what does this SQL do?
//
// A [Cache] turns SQL text into an immutable [Statement] that every client shares. The hot path never
// parses: a lexer of our own strips the literals, and the remaining template is looked up. The first time a
// template is seen, PostgreSQL's own grammar (pg_query, PostgreSQL 16) builds the tree that the facts are read from.
//
// The facts err on the safe side. Whatever cannot be understood, or may leave behind session state that
// nobody could carry to another server connection, has a Pin: a short reason to keep the connection.
//
// What planners of shards need beyond the facts is a [Tree] of queries, sources and expressions ([TreeOf]), made once a template. Its
// constants are indexes of what [Literals] reads from each text, its places are numbers of [Tokens], which [Splice] replaces.
package parser
