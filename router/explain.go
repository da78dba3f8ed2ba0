package router

import (
	"fmt"
	"slices"
	"strings"

	"pgtier/parser"
	"pgtier/router/catalog"
)

// Fact is one line of an explanation: what was asked, the answer, and why; Reason may be "".
type Fact struct{ Item, Value, Reason string }

// Circumstances are what a statement's way depends on beside its text. The zero value is a database without replicas, in
// transaction pooling, at level session.
type Circumstances struct {
	Level    Level  // that the configuration gives
	Replicas int    // configured
	Keeps    string // why every session keeps its connection, "" if none must
	Uncached string // why no answers are kept, "" if some may be
	Params   []string
}

// Evidence is what the catalog proves. catalog.Snapshot and catalog.Watcher are two.
type Evidence interface {
	Hazards
	Reading(st *parser.Statement) *catalog.Reading
	CommandReading(c *parser.Command) *catalog.Reading
	Written(c *parser.Command) (tables []string, all bool)
	Keeping(st *parser.Statement) *catalog.Keeping
}

// Explain says where a session outside a transaction would send st, and why. It decides as sessions do: by the same proofs,
// in the same order.
func Explain(st *parser.Statement, c Circumstances, e Evidence) []Fact {
	x := explanation{st: st, circumstances: c, evidence: e, pin: Route(st, Facts{}, e).Pin, reading: e.Reading(st)}
	x.kinds()
	x.tables()
	x.parameters()
	x.add("key", "none", "not sharded")
	x.proof()
	x.level()
	x.target()
	x.state()
	x.cache()
	return x.facts
}

// explanation is one under way.
type explanation struct {
	st            *parser.Statement
	circumstances Circumstances
	evidence      Evidence
	pin           string
	reading       *catalog.Reading
	asked         Level // of configuration and hint
	facts         []Fact
}

func (x *explanation) add(item, value, reason string) {
	x.facts = append(x.facts, Fact{item, value, reason})
}

func (x *explanation) kinds() {
	switch {
	case x.st.Unparsed:
		x.add("kind", "not understood", "PostgreSQL 16's grammar rejects it; the server says the error")
		return
	case len(x.st.Commands) == 0 && x.st.Pin != "":
		x.add("kind", "not understood", x.st.Pin)
		return
	case len(x.st.Commands) == 0:
		x.add("kind", "empty", "no statement")
		return
	}
	for i := range x.st.Commands {
		c := &x.st.Commands[i]
		x.add("kind", c.Kind.String(), "")
		switch {
		case c.Prepared != nil:
			r := x.evidence.CommandReading(c.Prepared)
			x.add("prepares", c.Prepared.Kind.String(), r.Verdict.String()+": "+r.Reason)
		case c.Kind == parser.Execute:
			x.add("executes", c.Name, "goes where what was prepared under this name goes")
		case c.Explained != nil:
			x.add("explains", c.Explained.Kind.String(), "")
		}
	}
	if n := len(x.st.Commands); n > 1 {
		x.add("statements", fmt.Sprint(n), "one text is sent to one server")
	}
}

// tables lists those that the text names, with what it does to them, and those that the catalog finds behind them.
func (x *explanation) tables() {
	named := map[string]bool{}
	for i := range x.st.Commands {
		c := &x.st.Commands[i]
		for _, t := range c.Tables {
			name := t.Name
			if t.Schema != "" {
				name = t.Schema + "." + name
			}
			if line := (Fact{"table", name, accesses(t.Access)}); !slices.Contains(x.facts, line) {
				x.facts = append(x.facts, line)
			}
			named[t.Name] = true
		}
		written, unknown := x.evidence.Written(c)
		if unknown {
			x.add("table", "any", "what it changes is not known")
		}
		x.behind(written, named, "may change, by a trigger, rule, key, partition or function")
	}
	x.behind(x.reading.Tables, named, "reads, by a view, function, policy, partition or child")
}

// behind lists tables that the text does not name.
func (x *explanation) behind(tables []string, named map[string]bool, how string) {
	for _, name := range tables {
		_, last, _ := strings.Cut(name, ".")
		if !named[last] && !named[name] {
			named[name] = true
			x.add("table", name, how)
		}
	}
}

// accesses says what is done to a table.
func accesses(a parser.Access) string {
	var words []string
	for _, one := range []struct {
		access parser.Access
		word   string
	}{{parser.Reads, "reads"}, {parser.Alters, "changes"}, {parser.Locks, "locks"}} {
		if a&one.access != 0 {
			words = append(words, one.word)
		}
	}
	return strings.Join(words, ", ")
}

func (x *explanation) parameters() {
	for i, v := range x.circumstances.Params {
		x.add("parameter", fmt.Sprintf("$%d = %s", i+1, v), "chooses nothing: not sharded")
	}
}

func (x *explanation) proof() {
	switch x.reading.Verdict {
	case catalog.Read:
		x.add("read only", "proved", x.reading.Reason)
	case catalog.Local:
		x.add("read only", "bound to its server", x.reading.Reason)
	default:
		x.add("read only", "not proved", x.reading.Reason)
	}
}

// level says how new the answer must be, and who wants that.
func (x *explanation) level() {
	by := "reads.consistency"
	x.asked = x.circumstances.Level
	for _, h := range x.st.Hints {
		if h.Name == "consistency" {
			x.asked, _ = ParseLevel(h.Value)
			by = "the statement's hint"
		}
	}
	x.add("consistency", x.asked.String(), by+": "+x.asked.Promise())
}

// target says which role the server has that it goes to. A hint or a value of the proxy's own settings that means nothing
// is refused instead.
func (x *explanation) target() {
	if r := CheckOwn(x.st); r != nil {
		x.add("target", "none", "refused with "+r.Code+": "+r.Message)
		return
	}
	if x.st.HintError != "" {
		x.add("target", "none", "refused with 22023: "+x.st.HintError)
		return
	}
	role, cause, why := x.aim()
	x.add("target", role, why)
	if x.circumstances.Replicas > 0 {
		x.add("cause", cause.String(), "SHOW ROUTES counts it by this name")
	}
}

// aim is a session's decision, outside a transaction.
func (x *explanation) aim() (role string, cause Cause, why string) {
	keeps := x.circumstances.Keeps
	if keeps == "" {
		keeps = x.pin
	}
	begins := len(x.st.Commands) == 1 && x.st.Commands[0].Kind == parser.Begin
	switch {
	case x.circumstances.Replicas == 0:
		return "manager", NoReplica, "no replicas are configured"
	case keeps != "":
		return "manager", OwnConnection, "keeps its connection: " + keeps
	case begins && !ReadOnly(&x.st.Commands[0].Transaction, "", false):
		return "manager", InTransaction, Begins(&x.st.Commands[0].Transaction) + "; it is held back until the first statement behind it"
	case begins && x.asked == Strong && x.st.Commands[0].Transaction.Isolation != "repeatable read":
		return "manager", InTransaction, "a transaction of level strong that is not REPEATABLE READ"
	case begins && x.asked != Manager:
		return "replica", ToReplica, "begins a READ ONLY transaction, which one replica serves whole"
	case !begins && x.reading.Verdict == catalog.Local:
		return "manager", ServerLocal, x.reading.Reason
	case !begins && x.reading.Verdict != catalog.Read:
		return "manager", NotProved, x.reading.Reason
	case x.asked == Manager:
		return "manager", AsAsked, "consistency level manager"
	}
	return "replica", ToReplica, x.reading.Reason
}

// state says what becomes of the session's state.
func (x *explanation) state() {
	switch {
	case x.circumstances.Keeps != "":
		x.add("connection", "kept", x.circumstances.Keeps)
	case x.pin != "":
		x.add("connection", "kept", x.pin+"; until the session ends or DISCARD ALL")
	default:
		x.add("connection", "shared", "given back when the transaction is over")
	}
	for i := range x.st.Commands {
		c := &x.st.Commands[i]
		for _, name := range c.Settings {
			x.add("setting", name, "may differ afterwards: read back and carried from connection to connection")
		}
		for _, name := range c.Locals {
			x.add("setting", name, "changes until the transaction ends")
		}
		for _, name := range c.Restores {
			x.add("setting", name, "may become what it was at login")
		}
		if c.LocalsAny || c.RestoresAny {
			x.add("setting", "any", "the text does not show which")
		}
	}
}

// cache says whether the cache may keep the answer, as far as the configuration, the text and the catalog tell.
func (x *explanation) cache() {
	k := x.evidence.Keeping(x.st)
	switch why := x.uncached(); {
	case !k.Kept:
		x.add("cache", "not kept", k.Reason)
	case why != "":
		x.add("cache", "not kept", why+"; else it could be: "+k.Reason)
	default:
		x.add("cache", "kept", k.Reason)
	}
}

// uncached is why an answer is not kept that could be, "" if it is.
func (x *explanation) uncached() string {
	switch {
	case x.circumstances.Uncached != "":
		return x.circumstances.Uncached
	case x.circumstances.Keeps != "":
		return "the session keeps its connection: " + x.circumstances.Keeps
	case x.asked == Manager:
		return "consistency level manager"
	case len(x.st.Hints) > 0:
		return "the statement has hints"
	}
	return ""
}

// Promise says in words what a level promises.
func (l Level) Promise() string {
	switch l {
	case Strong:
		return "never older than any write acknowledged through this proxy"
	case Eventual:
		return "from any replica within reads.max_lag"
	case Manager:
		return "from the manager"
	}
	return "never older than what the session wrote or read"
}

// Begins says of a transaction that no replica serves whole what it is.
func Begins(t *parser.Transaction) string {
	if t.Isolation == "serializable" && !t.ReadWrite {
		return "begins a SERIALIZABLE transaction, which no replica serves"
	}
	return "begins a read-write transaction"
}

// ReadOnly reports whether a replica can serve a transaction that asks for t whole. isolation and readOnly are the
// session's defaults.
func ReadOnly(t *parser.Transaction, isolation string, readOnly bool) bool {
	if t.Isolation != "" {
		isolation = t.Isolation
	}
	if isolation == "serializable" || t.Snapshot || t.ReadWrite {
		return false
	}
	return t.ReadOnly || readOnly
}
