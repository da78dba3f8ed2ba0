// Package shardtest holds a sharded database to one plain PostgreSQL server: the same schema and data on one server, and
// on three shards behind pgtier. Every answer must be equal to the single server's, or be refused with 0A000 and a hint.
// None may be wrong. It has tests only.
//
// Statements come from testdata/reads and testdata/writes, one file for each kind, and from a generator. Each runs by the
// simple protocol, by the extended one with parameters in text, and as a prepared statement with parameters and results
// in binary. Compared are column names and types, values byte by byte, command tags, SQLSTATE and message of errors,
// notices, and the state of the transaction; after writes the contents of all tables, and that every row lies on the shard
// that owns its key. The order of rows is compared where a statement says that it has one.
//
// A refusal must leave no trace. Statements marked "must" may not be refused, so that refusing cannot hide a planner that
// does not work. `go test -v` prints how many of each kind were answered and refused.
package shardtest
