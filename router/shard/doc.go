// Package shard answers: in which bucket is this key, and on which shard is that bucket?
//
// A Key says how the rows of a table fall into buckets, and a Map says which shard owns each bucket. The bucket of a key is the one that
// PostgreSQL itself would choose for a partition by hash, so a server can compute it too (Key.Expression).
//
// A Value is what a client sent: bytes, their format and their type. It is read as the server would read it, or not at all: whatever
// depends on settings, or that a column would store otherwise than it was sent, is "not sure" and has no bucket here.
//
// Servers are taken to be little-endian, as amd64 and arm64 are: others hash text to other numbers.
//
// The package is pure: no I/O, no clock, no goroutine. Key, Map and Value never change once they are made, and are safe for concurrent use.
package shard
