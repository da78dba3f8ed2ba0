// Package resharder answers: how do buckets go from shard to shard while clients work, who may change what meanwhile, and how does that go on when any part dies?
//
// A job is one goal of one database (Plan, Start). It stands in the control database (Journal), and one serving process carries it on (Run): it takes the
// mover's lock, makes itself the only one that shards listen to (a generation, checked in the shards by pgtier.lead), looks at where everything stands, and does
// the next thing, until nothing is left to do. People say what they want by Journal.Ask: cutover, rollback, finish, cancel.
//
// The rows are moved by package stream; what proxies know is moved by shardmap.Mover; the fence that keeps writes off a bucket is in the shards (Guard).
// DESIGN.md has the objects, the steps, and the argument for their order.
package resharder
