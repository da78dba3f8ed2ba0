package session

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"pgtier/parser"
	"pgtier/proxy/shardmap"
	"pgtier/proxy/wire"
	"pgtier/router/plan"
)

// lockCopies takes the locks that j's plan names on all shards, so that those who write a reference table do so in one order on all of them: first on
// the home shard, where they find out who is first, then on the others, where that one may not have finished yet. The transaction keeps them, also while
// it is prepared. A statement that comes afterwards sees what all before it have written, because READ COMMITTED looks anew.
//
// The home shard says too whether a shard has joined since j was planned, or, where j changes the schema, whether a move has begun, and lets that happen to none until the
// transaction ends: be it the only shard, it is asked.
func (x *wide) lockCopies(j *job, taking []*branch) (refusal *wire.Error, err error) {
	references, schema := len(j.plan.Locks) > 0 || j.plan.References, changesSchema(j.st)
	if !j.plan.Write || !references && !schema { // EXPLAIN writes nothing, and may be at a replica
		return nil, nil
	}
	sql := lockText(j.plan.Locks)
	asked := sql
	if references {
		asked += ", " + shardmap.PlannedSQL(x.l.Motion.Number)
	}
	if schema {
		asked += ", " + shardmap.SchemaPlannedSQL(x.l.Motion.Number)
	}
	home := max(0, slices.IndexFunc(taking, func(b *branch) bool { return b.index == x.l.Home })) // or the one shard that a hint names
	isolation := ""
	err = taking[home].query(x.s, asked, func(fields [][]byte) error {
		isolation = string(fields[0])
		return nil
	})
	if errors.Is(err, errFenced) {
		if schema {
			return schemaMoved(), nil
		}
		return shardJoined(), nil
	}
	if err != nil {
		return asRefusal(err)
	}
	if len(j.plan.Locks) == 0 {
		return nil, nil
	}
	if isolation == "read committed" || isolation == "read uncommitted" || j.st.Effects&parser.DDL != 0 {
		return x.lockOthers(sql, taking, home)
	}
	return &wire.Error{Code: wire.CodeFeatureNotSupported, Message: "write to a reference table at isolation level " + strings.ToUpper(isolation),
		Detail: "Each shard would compute it from a snapshot of its own, older than what others have written.",
		Hint:   "Write it in a transaction of its own: BEGIN ISOLATION LEVEL READ COMMITTED."}, nil
}

// shardJoined is what a client is told of a write of reference tables that home has refused, where its transaction cannot be sent again.
func shardJoined() *wire.Error {
	return &wire.Error{Code: "40001", Message: "could not serialize access: another shard has a copy of the reference table now",
		Detail: "It joined behind the transaction's first statement.", Hint: "The transaction might succeed if retried.", Cause: errFenced}
}

// lockOthers takes the locks on all shards but the home shard, at the same time: who holds them there has them on the home shard no more.
func (x *wide) lockOthers(sql string, taking []*branch, home int) (refusal *wire.Error, err error) {
	for i, b := range taking {
		if i == home {
			continue
		}
		if err := b.send(wire.AppendQuery(nil, sql)); err != nil {
			return nil, err
		}
	}
	for i, b := range taking {
		if i == home {
			continue
		}
		if err := b.drain(x.s); err != nil {
			return nil, err
		}
		if b.failed != nil {
			return b.failed, nil
		}
	}
	return nil, nil
}

// lockText is the statement that takes locks, in order. Its one row tells the isolation level.
func lockText(locks []plan.Lock) string {
	var text strings.Builder
	text.WriteString("SELECT pg_catalog.current_setting('transaction_isolation')")
	for _, l := range locks {
		name := "pg_advisory_xact_lock"
		if l.Shared {
			name += "_shared"
		}
		fmt.Fprintf(&text, ", pg_catalog.%s(%d)", name, l.Key)
	}
	return text.String()
}
