package session

import (
	"pgtier/proxy/cache"
	"pgtier/router/tags"
)

// What a transaction over several shards may change is noted shard by shard, in each branch's own Write and for its shard's own cache: a statement's tags on
// every shard that takes part in it, whichever rows it writes there. Before anything may be committed anywhere, all is claimed. A branch lets go when its
// connection is given back and its own shard has said how it went: changedFor, of which also the ways that end badly make use. One that is prepared,
// or may be, lets go when that shard has it no more.

// changes notes what j may change on these branches. It is called before j is sent there.
func (x *wide) changes(j *job, taking ...*branch) {
	if cache.GuardBranch.Off() {
		return
	}
	values := tags.Values{SQL: j.text, Params: j.params, ASCII: x.s.circumstances().ASCII}
	for _, b := range taking {
		if k := b.db.Keeper.Load(); k != nil {
			x.s.changeIn(k, b.writing.in(k, true), j.st, values, j.plan.Hinted)
		}
	}
}

// claims claims what the branch has noted.
func (b *branch) claims() {
	if k := b.writing.of; k != nil {
		k.Cache.Claim(&b.writing.write)
	}
}
