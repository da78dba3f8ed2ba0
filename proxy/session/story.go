package session

import (
	"bytes"
	"slices"

	"pgtier/parser"
	"pgtier/proxy/wire"
)

// story is what a transaction has done that a shard which joins it later must be told: settings and savepoints. The zero
// value is a transaction that has done nothing of the kind.
type story struct {
	begin  string // what began it
	told   []told // statements to repeat, in order
	bytes  int
	untold string // why it cannot be repeated; "" if it can
	wrote  bool   // rows may have changed
	inside bool   // a transaction block is open behind what was noted
	failed bool   // it has failed: what comes does nothing, up to its end or a savepoint
	noted  bool   // the last statement is in the story
	behind bool   // one in the story was sent behind others whose answers were not there: where those fail it may have been skipped
}

// told is a statement that is repeated on a shard which joins.
type told struct {
	kind parser.Kind
	name string // of the savepoint
	text string
}

// maxStory bounds the statements kept of a transaction, in bytes.
const maxStory = 64 << 10

func (t *story) clear() { *t = story{told: t.told[:0], inside: t.inside} }

// add notes a statement that was sent, or is about to be. That a server may refuse it does not matter: what a failed
// transaction has done since its savepoint is undone, and forgotten, by the ROLLBACK TO without which it does not go on.
func (t *story) add(st *parser.Statement, text []byte) {
	for i := range st.Commands {
		cmd := &st.Commands[i]
		if t.failed && !recovers(cmd) {
			continue
		}
		t.failed = false
		t.command(cmd, text, len(st.Commands) == 1)
	}
}

// recovers reports whether cmd does something in a transaction that has failed.
func recovers(cmd *parser.Command) bool {
	return cmd.Kind == parser.Commit || cmd.Kind == parser.Rollback || cmd.Kind == parser.RollbackTo
}

// leavesFailed reports whether st does something in a transaction that has failed.
func leavesFailed(st *parser.Statement) bool {
	for i := range st.Commands {
		if recovers(&st.Commands[i]) {
			return true
		}
	}
	return false
}

// command is add for one command of a text; whole: it is all of it.
func (t *story) command(cmd *parser.Command, text []byte, whole bool) {
	t.noted = true
	switch cmd.Kind {
	case parser.Begin:
		t.begins(cmd, text, whole)
	case parser.Commit, parser.Rollback:
		t.ends(cmd.Chain)
	case parser.RollbackTo:
		t.undo(cmd.Name)
	case parser.Release:
		t.release(cmd.Name)
	case parser.Set, parser.Reset, parser.ResetAll, parser.SetTransaction, parser.SetConstraints, parser.Savepoint:
		t.tell(told{cmd.Kind, cmd.Name, string(text)}, whole)
	default:
		switch {
		case !changesSettings(cmd) && cmd.Effects&parser.RunsOpaqueCode == 0:
			t.noted = false
		case onlySettings(cmd) && bytes.IndexByte(text, '$') < 0: // whose parameters are not kept
			t.tell(told{cmd.Kind, "", string(text)}, whole)
		default:
			t.untold = "It has run " + cmd.Kind.String() + " that may have changed settings."
		}
	}
}

// changesSettings reports whether cmd, which is no SET, changes settings.
func changesSettings(cmd *parser.Command) bool {
	return cmd.Effects&(parser.ChangesSettings|parser.ResetsAll) != 0 || len(cmd.Locals) > 0 || cmd.LocalsAny
}

// onlySettings reports whether cmd is a call of set_config and nothing else that matters where it runs.
func onlySettings(cmd *parser.Command) bool {
	return cmd.Kind == parser.Select && len(cmd.Configured) > 0 && len(cmd.Calls) == 1 && len(cmd.Functions) == 0 && len(cmd.Tables) == 0 && !cmd.LocalsAny
}

// begins notes a BEGIN. In a transaction block it only brings a warning.
func (t *story) begins(cmd *parser.Command, text []byte, whole bool) {
	if t.inside {
		return
	}
	t.clear()
	t.inside, t.begin = true, string(text)
	if !whole {
		t.begin = beginText(&cmd.Transaction)
	}
}

// ends notes COMMIT and ROLLBACK. A chain goes on in a transaction that is like the last.
func (t *story) ends(chain bool) {
	begin, told := t.begin, t.characteristics()
	t.clear()
	if t.inside = chain && t.inside; t.inside {
		t.begin, t.told = begin, told
	}
}

// characteristics are the statements that say what the transaction is like.
func (t *story) characteristics() []told {
	return slices.DeleteFunc(slices.Clone(t.told), func(s told) bool { return s.kind != parser.SetTransaction })
}

// tell keeps a statement to repeat.
func (t *story) tell(s told, whole bool) {
	switch {
	case !whole:
		t.untold = "It has changed settings or made savepoints in a request of several statements."
	case t.bytes+len(s.text) > maxStory:
		t.untold = "It has changed settings or made savepoints too often."
	default:
		t.told = append(t.told, s)
		t.bytes += len(s.text)
	}
}

// savepoint is the place of the last savepoint of that name, -1 if there is none.
func (t *story) savepoint(name string) int {
	for i := len(t.told) - 1; i >= 0; i-- {
		if t.told[i].kind == parser.Savepoint && t.told[i].name == name {
			return i
		}
	}
	return -1
}

// undo notes ROLLBACK TO: what came behind the savepoint is as if it had not been.
func (t *story) undo(name string) {
	if at := t.savepoint(name); at >= 0 {
		t.told = t.told[:at+1]
	} else if t.untold == "" {
		t.untold = "It has gone back to a savepoint that is not known."
	}
}

// release notes RELEASE: the savepoint goes, and those behind it. What was set since stays.
func (t *story) release(name string) {
	at := t.savepoint(name)
	if at < 0 {
		return // the server says that there is none
	}
	kept := slices.DeleteFunc(slices.Clone(t.told[at:]), func(s told) bool { return s.kind == parser.Savepoint })
	t.told = append(t.told[:at], kept...)
}

// unsure notes that something has failed in a transaction that goes on, or may come back to a savepoint.
func (t *story) unsure() {
	if t.behind {
		t.untold, t.wrote = "It has changed settings or made savepoints in a request that failed, behind other statements.", true
	}
}

// tellsFrom begins to note what goes to one shard, for others that may join.
func (s *Session) tellsFrom() {
	t := &s.story
	t.failed, t.behind = s.tx == wire.TxFailed, false
	if t.inside = s.tx != wire.TxIdle || s.opening != nil; !t.inside {
		t.clear()
	}
	if s.opening != nil {
		text, _ := queryText(s.opening)
		t.begin = string(text)
	}
}

// tell notes what the turn under way does. It runs before the turn is sent.
func (s *Session) tell(v *survey) {
	s.tellsFrom()
	s.tellMore(v, false)
}

// tellMore notes statements. behind: others came before them, and are not answered.
func (s *Session) tellMore(v *survey, behind bool) {
	t := &s.story
	for i, r := range v.ran {
		t.noted = false
		t.add(r.st, r.text)
		t.behind = t.behind || t.noted && (behind || i > 0)
	}
	t.wrote = t.wrote || v.writes
}
