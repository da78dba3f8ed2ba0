// Package balance answers: which of these servers should take this read?
//
// It is pure: no I/O, no clock, no goroutine, and Choose allocates nothing. What it knows stands in its arguments,
// chance included, so equal arguments give equal answers. All functions are safe for concurrent use.
package balance
