package plan

import (
	"pgtier/proxy/merge"
	"pgtier/router/shard"
)

// Plan is what is done with a statement. It is a value; what it points to is shared and must not be changed.
type Plan struct {
	Kind Kind
	// Shard is the shard of One; of Any, Everywhere and Open one whose answer does; -1 of the others.
	Shard int
	// Shards are those of Scatter, Spread, Everywhere, CopyIn and CopyOut, in order. All members are asked of Everywhere and of a CopyIn of a reference
	// table; else those that own buckets, or fewer.
	Shards []int
	// Refusal is why not, of Refused.
	Refusal *Refusal
	// Reason says why in a few words, without values.
	Reason string
	// Parts are the texts that the shards of Scatter and Spread are sent; nil: the client's own text and parameters.
	Parts *Parts
	// Untyped: in the texts of Parts a server may take parameters without a declared type for others than in the client's text. Declare for them what a
	// server tells of that text.
	Untyped bool
	// Merge makes one answer of those of Scatter; nil is a plain union.
	Merge *merge.Spec
	// Final makes the answer of what Merge has made; nil: that is the answer. One of the servers runs it.
	Final *Final
	// Variant tells apart plans of one template whose shards' columns differ by what literals say; "" for most.
	Variant string
	// Columns is how many columns the shards' rows must have for Merge to mean what it says, 0 for any: the catalog may be late.
	Columns int
	// Write: it may change rows or the catalog, and is part of two-phase commit where several shards are.
	Write bool
	// Open: Values.Known was false, and which shards it will be depends on them. The text can be parsed and described by Shard.
	Open bool
	// Explain: the statement is the EXPLAIN of what the plan is for. Each shard explains its part.
	Explain bool
	// Mixed, of One: the text has transaction control or settings too, as in BEGIN; UPDATE …; COMMIT.
	Mixed bool
	// Outside, of Everywhere: it cannot run inside a transaction block, so the shards are not changed as one.
	Outside bool
	// Apart, of Everywhere: the shards need not be changed as one, and are not where nothing has begun a transaction.
	Apart bool
	// Needs, of Spread: rows of an INSERT get their key from a sequence. Take the numbers from it and ask Numbered.
	Needs *Numbers
	// Locks are to be taken on every shard, in this order and by a statement of their own, before the statement is sent: it writes reference tables.
	Locks []Lock
	// Hinted: a hint or a setting has chosen the shard.
	Hinted bool
	// Touches says of which buckets it may touch rows; of an Open plan nothing, because it is routed again before it is carried out.
	Touches Touches
	// References: it may write reference tables, or change their schema.
	References bool
	// Copy is of CopyIn, and of CopyOut.
	Copy *Copy
}

// Kind is what a plan is.
type Kind uint8

// The kinds of plans.
const (
	Refused    Kind = iota
	One             // the client's text as it is, on one shard
	Any             // the client's text as it is, on any one member: Shard is as good as the others
	Scatter         // a read on several shards; Merge makes one answer of theirs
	Spread          // a write on several shards, each its part: the counts in the command tags are added up, RETURNING's rows concatenated
	Everywhere      // the same on all members, in one transaction: the answer of Shard counts
	Session         // no table and no shard: transaction control, SET, PREPARE, EXECUTE, FETCH …: the session decides
	CopyIn          // COPY FROM STDIN: each row to the shard of its key, or to all shards
	CopyOut         // COPY TO STDOUT from several shards: the rows of all
	numKinds
)

var kindNames = [numKinds]string{"refused", "one", "any", "scatter", "spread", "everywhere", "session", "copy in", "copy out"}

// String is the kind in lower case, for logs and explanations.
func (k Kind) String() string {
	if k < numKinds {
		return kindNames[k]
	}
	return "unknown"
}

// Refusal is why a statement is not carried out, as a client is told.
type Refusal struct{ Code, Message, Detail, Hint string }

// Numbers are values of a sequence.
type Numbers struct {
	// Sequence is its name as nextval takes it, quoted where it must be.
	Sequence string
	Count    int
}

// Circumstances are what a session adds to a statement. Nil stands for the zero value.
type Circumstances struct {
	// Shard and ShardingKey are the settings pgtier.shard and pgtier.sharding_key, "" for none. A hint in the text comes before them.
	Shard, ShardingKey string
	// ASCII: client_encoding is not the database's own, so that values beyond ASCII are not read.
	ASCII bool
	// Backslashes: standard_conforming_strings is off, or client_encoding has characters in which one is hidden.
	Backslashes bool
}

// Values are what a statement is executed with.
type Values struct {
	// SQL is the text, whose literals are read where a plan needs them.
	SQL []byte
	// Params are those of the Bind.
	Params []Param
	// Known is false before Bind, where the statement has parameters.
	Known bool
}

// Param is a parameter's value.
type Param = shard.Param
