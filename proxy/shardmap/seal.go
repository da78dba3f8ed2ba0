package shardmap

import (
	"crypto/sha256"
	"encoding/hex"
)

// Seal proves to the shards of one database that pgtier decides a transaction. Its zero value proves nothing.
//
// The identifiers of prepared transactions can be read by everybody (pg_prepared_xacts). Who could write a decision for one of another
// role would tear it apart: "commit" before its anchor commits, and half of it is there when the anchor fails. So roles have no right on pgtier.xact,
// and the functions that write it want a proof made of the identifier and a secret that only the owner of the objects can read.
type Seal struct{ secret string }

// proof is a hash over a hash, as HMAC has it, so that no proof can be lengthened into another's. The secret is 64 digits of hexadecimal.
func (s Seal) proof(gid string) string {
	inner := sha256.Sum256([]byte(s.secret + gid))
	outer := sha256.Sum256([]byte(s.secret + hex.EncodeToString(inner[:])))
	return hex.EncodeToString(outer[:])
}

// Decide returns the statement by which a transaction that is about to commit on its anchor decides for commit, in the client's role, as the
// last thing before COMMIT. It ends in 23505 if somebody has settled the transaction meanwhile, which then must roll back everywhere.
func (s Seal) Decide(gid string) string {
	return "SELECT pgtier.decide(" + literal(gid) + ", " + literal(s.proof(gid)) + ")"
}

// Settle returns the statement, outside a transaction block and at READ COMMITTED, that asks an anchor for a transaction's decision: it waits for one that is being
// committed, writes "abort" where there is none, and yields one row, "commit" or "abort", which then stands.
func (s Seal) Settle(gid string) string {
	return "SELECT pgtier.settle(" + literal(gid) + ", " + literal(s.proof(gid)) + ")"
}
