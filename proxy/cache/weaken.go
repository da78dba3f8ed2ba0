package cache

// Guard is one of the rules that keep answers coherent. Builds with the tag weaken can do without it (Weaken), so that the test of the
// race that it rules out can be seen to fail; in all others it stands.
type Guard uint32

// The guards, by what goes wrong without them.
const (
	GuardKeep     Guard = 1 << iota // an answer is kept that a write has overtaken
	GuardClaim                      // a write whose end is on its way does not yet keep others from what was before
	GuardReplay                     // the answer of a replica is kept that has not replayed a write
	GuardDoubt                      // a transaction whose connection was lost counts as over
	GuardRollback                   // a transaction that is rolled back ends answers
	GuardSides                      // what triggers, cascades and functions write is overlooked
	GuardFace                       // answers are given whatever the role and the settings
	GuardFormat                     // answers are given whatever the formats asked for
	GuardOwn                        // a transaction is given answers from before its own writes
	GuardFlight                     // one waits for a question that was asked before a write
	GuardOrder                      // what a transaction changes is as the catalog said before it changed
	GuardGrace                      // a change of the catalog does not wait for those that were judged before it
	GuardUnsent                     // a portal that was bound before runs unseen
	GuardPrepared                   // what is prepared on a shard counts as over when its connection is done
	GuardBranch                     // a transaction over several shards claims nothing
	GuardLayout                     // answers are given whatever layout they were asked for by
	GuardBeside                     // answers of several shards hold by what one of them knows
	GuardClock                      // answers are kept that change as time goes by
	GuardPast                       // what is written past the proxy ends nothing
	GuardSilent                     // answers are given though nobody tells what is written past the proxy
	GuardApart                      // schemas of shards are taken for alike after DDL for one of them
)
