package session

import (
	"pgtier/parser"
	"pgtier/proxy/wire"
)

// story is what a transaction has done that a shard which joins it later must be told: settings and savepoints. The zero
// value is a transaction that has done nothing of the kind.
type story struct {
	begin  string   // what began it
	told   []string // statements to repeat, in order
	bytes  int
	untold string // why it cannot be repeated; "" if it can
	wrote  bool   // rows may have changed
}

// maxStory bounds the statements kept of a transaction, in bytes.
const maxStory = 64 << 10

func (t *story) clear() { *t = story{told: t.told[:0]} }

// add notes a statement of the transaction under way that was sent, or is about to be.
func (t *story) add(st *parser.Statement, text []byte) {
	repeats, changes := false, false
	for i := range st.Commands {
		switch cmd := &st.Commands[i]; cmd.Kind {
		case parser.Set, parser.Reset, parser.ResetAll, parser.SetTransaction, parser.SetConstraints,
			parser.Savepoint, parser.RollbackTo, parser.Release:
			repeats = true
		default:
			changes = changes || cmd.Effects&(parser.ChangesSettings|parser.RunsOpaqueCode) != 0 || len(cmd.Locals) > 0
		}
	}
	switch {
	case changes:
		t.untold = "It has run " + st.Commands[0].Kind.String() + " that may have changed settings."
	case !repeats:
	case len(st.Commands) > 1:
		t.untold = "It has changed settings or made savepoints in a request of several statements."
	case t.bytes+len(text) > maxStory:
		t.untold = "It has changed settings or made savepoints too often."
	default:
		t.told = append(t.told, string(text))
		t.bytes += len(text)
	}
}

// tell notes what the turn under way does on one shard, for others that may join. It runs before the turn is sent.
func (s *Session) tell(v *survey) {
	if s.tx != wire.TxActive && s.opening == nil {
		s.story.clear()
	}
	if s.opening != nil {
		text, _ := queryText(s.opening)
		s.story.begin = string(text)
	}
	for _, r := range v.ran {
		if r.st.Effects&parser.BeginsTransaction != 0 && len(r.st.Commands) == 1 {
			s.story.clear()
			s.story.begin = string(r.text)
			continue
		}
		s.story.add(r.st, r.text)
	}
	s.story.wrote = s.story.wrote || v.writes
}
