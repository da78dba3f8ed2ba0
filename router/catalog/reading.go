package catalog

import (
	"slices"

	"pgtier/parser"
)

// Verdict says what is known of a statement's effects.
type Verdict uint8

// The verdicts. Where a statement is both, Local wins over Unproved: a replica would refuse to write, but not to answer otherwise.
const (
	Unproved Verdict = iota // may write, lock or advance something; on a replica it would fail as any write does
	Local                   // answers from, or locks on, the server it runs on: a replica would silently answer otherwise
	Read                    // proved: reads only, and a replica that has replayed enough answers the same
)

// String is the verdict in lower case, for logs and tests.
func (v Verdict) String() string {
	switch v {
	case Local:
		return "local"
	case Read:
		return "read"
	}
	return "unproved"
}

// Reading is what a snapshot proves of a statement. It is immutable and shared.
type Reading struct {
	Verdict Verdict
	// Reason says in a few words why the statement is no Read, or why it is one.
	Reason string
	// Tables are the names, as "schema.name", of every table and materialized view that a Read may look at, sorted. Views, functions in SQL and plpgsql,
	// policies, partitions and children are looked through; a name without schema counts in all schemas that have it. What the server's own functions
	// look up in the catalogs is not listed, so a change of the catalog concerns every Read, one without tables too.
	Tables []string
	// Behind are those of Tables that the Read looks at in another way than by their own names, be it beside that: through views, functions, policies and
	// parents. Of the others the Read sees what its text says.
	Behind []string
}

// The readings of a whole kind of statement.
var (
	readingNotRead  = &Reading{Reason: NotRead}
	readingPending  = &Reading{Reason: BeingRead}
	readingUnparsed = &Reading{Reason: "the parser does not understand it"}
	readingEmpty    = &Reading{Verdict: Read, Reason: "no statement"}
	readingCursor   = &Reading{Verdict: Read, Reason: "goes where its cursor is"}
	readingSetting  = &Reading{Verdict: Local, Reason: "shows a setting of the server"}
	readingPlan     = &Reading{Verdict: Local, Reason: "plans differ between servers"}
	readingFile     = &Reading{Verdict: Local, Reason: "writes a file of the server"}
	readingLong     = &Reading{Verdict: Local, Reason: "text too long to look for column notation of functions"}
	readingField    = &Reading{Verdict: Local, Reason: "a name behind a point that is not read"}
)

// Reading judges the whole text. The nil Snapshot proves nothing. A statement that was asked for before takes no memory and no lock.
// PREPARE and EXECUTE are Unproved: CommandReading judges what they prepare.
func (s *Snapshot) Reading(st *parser.Statement) *Reading {
	if s == nil {
		return readingNotRead
	}
	if r, ok := s.memo.Find(st).(*Reading); ok {
		return r
	}
	r := s.statement(st)
	if st.Template != "" { // others are new each time
		s.memo.Add(st, r, len(st.Template)+commandSize*len(st.Commands)+size(r.Tables)+size(r.Behind))
	}
	return r
}

// CommandReading judges one command, such as what PREPARE prepares. Without the text, a column of the name of a function that is no reading counts as a
// call of it in column notation.
func (s *Snapshot) CommandReading(c *parser.Command) *Reading {
	if s == nil {
		return readingNotRead
	}
	if r, ok := s.memo.Find(c).(*Reading); ok {
		return r
	}
	r := s.command(c, commandFields(c, s.evidence.fields))
	s.memo.Add(c, r, commandSize+size(r.Tables)+size(r.Behind))
	return r
}

// commandSize is a guess, in bytes, of what a command's facts take.
const commandSize = 1 << 10

func size(tables []string) int { return 16 * len(tables) }

// statement judges a text by its commands.
func (s *Snapshot) statement(st *parser.Statement) *Reading {
	if st.Pin != "" && len(st.Commands) == 0 {
		return &Reading{Verdict: Local, Reason: st.Pin}
	}
	if st.Unparsed {
		return readingUnparsed
	}
	if len(st.Commands) == 0 {
		return readingEmpty
	}
	fields, bad := statementFields(st, s.evidence.fields)
	if bad != nil {
		return bad
	}
	result := s.command(&st.Commands[0], fields)
	for i := 1; i < len(st.Commands); i++ {
		result = both(result, s.command(&st.Commands[i], fields))
	}
	return result
}

// both unites the readings of two commands.
func both(a, b *Reading) *Reading {
	switch {
	case a.Verdict == Local || a.Verdict == Unproved && b.Verdict != Local:
		return a
	case b.Verdict != Read:
		return b
	}
	return readOf(union(a.Tables, b.Tables), union(a.Behind, b.Behind))
}

// union is the sorted list of the names in a or b.
func union(a, b []string) []string {
	all := append(slices.Clone(a), b...)
	slices.Sort(all)
	return slices.Compact(all)
}

// readOf is the Read of these tables.
func readOf(tables, behind []string) *Reading {
	r := &Reading{Verdict: Read, Tables: tables, Behind: behind}
	switch len(tables) {
	case 0:
		r.Reason = "reads no table; every function is stable"
	case 1:
		r.Reason = "reads " + tables[0] + "; every function is stable"
	case 2:
		r.Reason = "reads " + tables[0] + " and " + tables[1] + "; every function is stable"
	default:
		r.Reason = "reads " + tables[0] + ", " + tables[1] + " and others; every function is stable"
	}
	return r
}

// command judges one command. fields are the functions that column notation in the text may call.
func (s *Snapshot) command(c *parser.Command, fields []string) *Reading {
	switch c.Kind {
	case parser.Show:
		return readingSetting
	case parser.Fetch, parser.Close, parser.CloseAll:
		return readingCursor
	case parser.Explain:
		if c.Explained == nil {
			return &Reading{Reason: "explains what is not known"}
		}
		if inner := s.command(c.Explained, fields); inner.Verdict == Unproved && c.Analyze {
			return inner
		}
		return readingPlan
	}
	if c.Pin != "" {
		return &Reading{Verdict: Local, Reason: "needs a connection of its own: " + c.Pin}
	}
	switch c.Kind {
	case parser.Select, parser.Declare:
	case parser.Copy:
		if c.Effects&(parser.Writes|parser.CopyIn|parser.CopyOut) == 0 {
			return readingFile
		}
	default:
		return &Reading{Reason: c.Kind.String() + " is no query"}
	}
	p := proof{evidence: s.evidence}
	p.effects(c)
	p.names(c, fields)
	return p.reading()
}
