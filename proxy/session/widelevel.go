package session

import (
	"bytes"
	"strings"

	"pgtier/proxy/wire"
)

// No snapshot is the same on two shards, and no shard sees what the transactions of another depend on. So what several shards do
// together is READ COMMITTED, and a transaction that has asked for more is refused where it would silently get less. On one
// shard it gets what it has asked for. The servers are asked for the level, because it may come from BEGIN, from settings
// of the session, of the role or of the database.

// showLevel asks for the level of the transaction under way. It takes no snapshot, so that SET TRANSACTION may still follow.
const showLevel = "SHOW transaction_isolation"

// takeLevel notes the answer to showLevel, which is the last row of b's answer under way.
func (b *branch) takeLevel(fields [][]byte) error {
	b.level = string(fields[0])
	return nil
}

// askLevels asks the branches whose level is not known, beside the one that joins. agree reads what they say.
func (x *wide) askLevels(joins *branch) error {
	for _, b := range x.branches {
		if b == joins || b.tx == wire.TxIdle || b.level != "" || b.busy {
			continue
		}
		if err := b.send(wire.AppendQuery(nil, showLevel)); err != nil {
			return err
		}
		b.tells = true
	}
	return nil
}

// agreeInLevel refuses a transaction over several shards that has asked for more than they can give together.
func (x *wide) agreeInLevel() (refusal *wire.Error, err error) {
	begun, strict := 0, ""
	for _, b := range x.branches {
		if b.tells {
			b.tells = false
			if err := b.rows(x.s, b.takeLevel); err != nil {
				return nil, err
			}
		}
		if b.tx == wire.TxIdle {
			continue
		}
		if begun++; !together(b.level) {
			strict = b.level
		}
	}
	if begun > 1 && strict != "" {
		return x.tooStrict(strict), nil
	}
	return nil, nil
}

// together reports whether several shards give what a level promises. Where the level is not known, the server has refused to tell,
// and the transaction has failed.
func together(level string) bool {
	return level == "" || strings.EqualFold(level, "read committed") || strings.EqualFold(level, "read uncommitted")
}

func strictLevel(level string) *wire.Error {
	return &wire.Error{Code: wire.CodeFeatureNotSupported, Message: "isolation level " + strings.ToUpper(level) + " is not supported across shards",
		Detail: "Each shard has a snapshot of its own, and none is of the same moment as another's.",
		Hint:   "Use READ COMMITTED, or stay on one shard: by one key, or SET pgtier.shard."}
}

// changedLevel looks at the level again when a statement may have changed it, which a server allows before the first snapshot.
func (x *wide) changedLevel(text []byte) (refusal *wire.Error, err error) {
	if !bytes.Contains(bytes.ToLower(text), []byte("isolation")) {
		return nil, nil
	}
	for _, b := range x.branches {
		b.level = ""
	}
	if len(x.branches) < 2 {
		return nil, nil
	}
	if err := x.askLevels(nil); err != nil {
		return nil, err
	}
	return x.agreeInLevel()
}

// bareLevels is agreeInLevel for a read without a transaction, whose level is the default of the session or of its connections.
func (x *wide) bareLevels(begins bool, taking []*branch) (refusal *wire.Error, err error) {
	if begins || len(taking) < 2 {
		return nil, nil
	}
	level, own := x.s.settings.Value("default_transaction_isolation")
	for _, b := range taking {
		if !own {
			if b.c.Isolation == "" {
				err := b.query(x.s, "SHOW default_transaction_isolation", func(fields [][]byte) error {
					b.c.Isolation = string(fields[0])
					return nil
				})
				if err != nil {
					return asRefusal(err)
				}
			}
			level = b.c.Isolation
		}
		if !together(level) {
			return strictLevel(level), nil
		}
	}
	return nil, nil
}
