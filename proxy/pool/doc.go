// Package pool answers one question: who may use which server connection now?
//
// A Pool lends the connections of one database, role and server. Sessions call Acquire and Release; everything else
// (opening, checking, retiring, waking) follows from those two and from the janitor of the Registry that owns the pool.
// The package does no PostgreSQL I/O of its own: connections arrive through Dial and are asked through Server.
//
// # Order of service
//
// Waiters are served strictly in the order in which they asked; a newcomer never overtakes one. Among idle
// connections the one used last is lent first, so that the others reach their idle timeout, but a connection that
// the session had before, and then one in the wanted state, go ahead of it.
//
// # Lock order
//
// Registry.mu, then Pool.mu, then Limits.mu. No two pools are ever locked together. No lock is held while a Server is
// dialled, checked or closed; the connection is in the state dialling, checking or closing meanwhile, which nobody else
// may touch, and counts against the size until Close has returned.
//
// # Goroutines
//
// One janitor a Registry, one goroutine a dial in flight (at most maxDials a pool), and short ones that close what the
// janitor took out. Registry.Close ends and awaits them all.
package pool
