package plan

// notSupported is the SQLSTATE of what cannot be done exactly across shards.
const notSupported = "0A000"

// The hints that many refusals share.
const (
	hintKey    = "Compare the sharding key with a value in WHERE, or send the statement to one shard with /* pgtier: shard=… */."
	hintPin    = "If it concerns the rows of one shard only, say so with /* pgtier: shard=… */ or /* pgtier: sharding_key=… */."
	hintSplit  = "Send the statements one by one."
	hintCommit = "Commit the change of the schema first. Where it is of a temporary table, send each of its statements to one shard with /* pgtier: shard=… */."
	hintAlone  = "Return the aggregates by themselves, or group by the sharding key."
)

// refuse makes a Refusal with code 0A000.
func refuse(message, hint string) *Refusal {
	return &Refusal{Code: notSupported, Message: message, Hint: hint}
}
