// Package fleet answers: which servers of a shard are up, in which role, and how far have they replayed?
//
// One Fleet watches the manager and the replicas of one shard, each over a connection of its own. What it knows is a View,
// an immutable snapshot behind an atomic pointer. Beside it stand two answers that change too quickly for a snapshot:
// Position, a place in the log that covers a write, and Visible, a place up to which every commit can be seen on the
// manager. DESIGN.md holds the arguments for both, and what a promotion by pgtier can and cannot know.
package fleet
