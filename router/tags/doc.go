// Package tags answers: which rows does a statement's answer depend on, and which rows may a write change? Both are sets of tags, and a write that may
// change an answer has a tag with it in common. DESIGN.md says why.
//
// It does no I/O.
package tags
