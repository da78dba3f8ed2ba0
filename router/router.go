// Package router decides what a statement means for the session that runs it:
// what it may leave behind on the server connection, what must be read back
// after it, and whether the session must keep the connection, and why. It does
// no I/O and keeps no state.
package router

import (
	"strings"

	"pgtier/parser"
)

// Facts is what a decision needs to know of the session. The zero value is a
// session outside any peculiarity.
type Facts struct {
	TxFailed      bool // inside a transaction that has failed: statements only error
	Backslashes   bool // the server may read them in literals otherwise than the parser: standard_conforming_strings is off, or client_encoding hides some
	SequencesRead bool // somebody in this database asked for currval() or lastval()
	NewCode       bool // this transaction has made functions, triggers, views or rules
}

// Hazards knows which functions and relations may change session state where
// the text does not show it. catalog.Watcher is one.
type Hazards interface {
	// Pins returns why a statement must keep its connection, "" if it need not.
	Pins(st *parser.Statement) string
	// Defines reports whether code that a statement runs may change the catalog.
	Defines(st *parser.Statement) bool
}

// Plan is a decision. It is a value; its slices belong to the statement.
type Plan struct {
	// Pin is why the session must keep its server connection from here on; "" if it need not.
	Pin string
	// Effects are those of the statement that the session has to follow.
	Effects parser.Effects
	// Commands are the statement's, for what Effects says of them.
	Commands []parser.Command
	// MakesCode: the statement makes something that runs later in its owner's place.
	MakesCode bool
}

// PinSequences is the pin of currval and lastval: they answer from what this
// very connection did before.
const PinSequences = "currval() or lastval()"

// Outlives reports whether what pin stands for may outlive DISCARD ALL: loaded
// libraries, the schema of temporary objects, connections and variables inside
// functions and extensions. A server connection with such a past is closed
// rather than lent again. Only what DISCARD ALL is known to end is not.
func Outlives(pin string) bool {
	for _, ended := range []string{"advisory", "WITH HOLD", "sequence", PinSequences, "views of this", "prepared", "PREPARE", "backslashes"} {
		if strings.Contains(pin, ended) {
			return false
		}
	}
	return pin != ""
}

// Followed are the effects that a session must do something about.
const Followed = parser.Notifies | parser.ChangesSettings | parser.ResetsAll | parser.DiscardsAll | parser.DDL |
	parser.Listens | parser.Unlistens | parser.AdvancesSequence | parser.ReadsSequenceState

// Route decides about one statement.
func Route(st *parser.Statement, f Facts, h Hazards) Plan {
	p := Plan{Effects: st.Effects & Followed, Commands: st.Commands}
	p.MakesCode = st.Effects&parser.DDL != 0 && makesCode(st)
	if !f.TxFailed {
		p.Pin = pin(st, f, h)
	}
	return p
}

func pin(st *parser.Statement, f Facts, h Hazards) string {
	switch {
	case st.Pin != "":
		return st.Pin
	case st.Conforming && f.Backslashes:
		return "backslashes in literals that standard_conforming_strings or client_encoding may have read otherwise"
	case st.Effects&parser.ReadsSessionViews != 0:
		return "reads views of this very connection"
	case st.Effects&parser.ReadsSequenceState != 0:
		return PinSequences
	case st.Effects&parser.AdvancesSequence != 0 && f.SequencesRead:
		return "a sequence may advance, and this database's clients read currval() or lastval()"
	case f.NewCode && MayRunCode(st):
		return "may run code that this transaction has made"
	case runsItsCode(st):
		return "may run code that it has made itself"
	}
	return h.Pins(st)
}

// MayRunCode reports whether st may run functions, triggers or rules that its
// text does not show in full.
func MayRunCode(st *parser.Statement) bool {
	if st.Effects&(parser.Writes|parser.RunsOpaqueCode) != 0 {
		return true
	}
	for i := range st.Commands {
		if len(st.Commands[i].Functions) > 0 {
			return true
		}
	}
	return false
}

// MayPrepare reports whether st may prepare, or end, statements by names that its text does not show: in code, or because nobody can read it. What EXECUTE runs is
// not judged.
func MayPrepare(st *parser.Statement, f Facts, h Hazards) bool {
	switch {
	case st.Pin != "" && (st.Unparsed || len(st.Commands) == 0), st.Conforming && f.Backslashes:
		return true
	case (f.NewCode || len(st.Commands) > 1 && st.Effects&parser.DDL != 0 && makesCode(st)) && MayRunCode(st):
		return true
	}
	for i := range st.Commands {
		c := &st.Commands[i]
		switch c.Kind {
		case parser.Do:
			if c.Pin != "" {
				return true
			}
		case parser.Call, parser.Execute:
		default:
			if c.Effects&parser.RunsOpaqueCode != 0 {
				return true
			}
		}
	}
	return h.Pins(st) != "" || h.Defines(st)
}

// runsItsCode reports whether a text that makes a function, be it in DO, may also run it, which was another when the catalog was read. What functions make is known by
// the words of their bodies, literals included.
func runsItsCode(st *parser.Statement) bool {
	if st.Effects&parser.DDL == 0 {
		return false
	}
	made := false
	for i := range st.Commands {
		c := &st.Commands[i]
		changes := c.Effects&parser.DDL != 0
		if (made || changes && c.Kind == parser.Do) && (c.Effects&(parser.Writes|parser.RunsOpaqueCode) != 0 || len(c.Functions) > 0) {
			text := strings.ToLower(st.Template)
			return text == "" || strings.Contains(text, "function") || strings.Contains(text, "procedure")
		}
		made = made || changes
	}
	return false
}

// makesCode looks for the kinds of objects that run code for others. A word too
// many only costs a pin.
func makesCode(st *parser.Statement) bool {
	text := strings.ToLower(st.Template)
	for _, word := range []string{"function", "procedure", "trigger", "rule", "view", "policy", "operator", "cast", "domain", "aggregate", "default", "check"} {
		if strings.Contains(text, word) {
			return true
		}
	}
	return text == ""
}
