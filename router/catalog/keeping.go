package catalog

import (
	"slices"
	"strings"

	"pgtier/parser"
)

// Keeping is what a snapshot proves about keeping the answer of a statement. It is immutable and shared.
type Keeping struct {
	Kept bool
	// Reason says in a few words why the answer is not kept, or why it is.
	Reason string
	// Tables are Reading.Tables of an answer that is kept. Stored are those of them that are materialized views: REFRESH changes their rows, and logical
	// decoding does not show it.
	Tables, Stored []string
}

// The keepings of a whole kind of statement.
var (
	keepingNotRead = &Keeping{Reason: NotRead}
	keepingPending = &Keeping{Reason: BeingRead}
	keepingUnasked = &Keeping{Reason: "types of columns are not read"}
	keepingMany    = &Keeping{Reason: "not one statement"}
	keepingLong    = &Keeping{Reason: "text too long"}
	keepingWords   = &Keeping{Reason: "a literal that may say now"}
	keepingNone    = &Keeping{Reason: "reads no table"}
)

// keepingKey tells the memo's keepings from its readings.
type keepingKey struct{ st *parser.Statement }

// Keeping says whether the answer of a statement changes only when rows of tables do that Written names, or the catalog: two runs between which neither
// happened answer the same, or one of several answers that the statement leaves open. The nil Snapshot keeps nothing, and neither does one without Answers. A
// statement that was asked for before takes no memory and no lock.
//
// The caller answers for what the text does not show:
//   - The key of the answer has the database, the role that rights are checked by (for SET ROLE the role that was set), and all settings that the session
//     carries, those of the server that it did not set included; the template, the literals that it takes out, the parameters with their types, and the
//     formats of results.
//   - parser.TimeWords is false of the text of a simple query, or parser.TimeWord of each of its literals (parser.Literals), and TimeWord is false of every
//     parameter in text format, and of those in binary format that are texts or hold some. Statement.Conforming wants standard_conforming_strings on.
//   - KeepsParameter is true of every type that Parse declares.
//   - The answer came with no notice or warning, which functions may send.
//   - The session has no temporary objects, its transaction has written nothing, and its snapshot is not older than the answer's.
//   - Answers are dropped after whatever changes the catalog, rights and the rights of roles included (GRANT, REVOKE, ALTER ROLE, ALTER … OWNER), and after
//     settings of the server were read again. Of rights and settings Version does not tell.
func (s *Snapshot) Keeping(st *parser.Statement) *Keeping {
	if s == nil {
		return keepingNotRead
	}
	key := keepingKey{st}
	if k, ok := s.memo.Find(key).(*Keeping); ok {
		return k
	}
	k := s.keeping(st)
	if st.Template != "" { // others are new each time
		s.memo.Add(key, k, len(st.Template)+commandSize+size(k.Tables))
	}
	return k
}

// KeepsParameter says whether a parameter may be of the type with this OID, 0 for one that the server finds out: values of others are read and
// printed by names of the catalogs, or by the clock, or are times, of which AT TIME ZONE may be asked.
func (s *Snapshot) KeepsParameter(oid uint32) bool {
	if s == nil || s.evidence.answers == nil {
		return false
	}
	a := s.evidence.answers
	return !a.namedOIDs[oid] && !a.timeOIDs[oid]
}

func (s *Snapshot) keeping(st *parser.Statement) *Keeping {
	e := s.evidence
	if e.answers == nil {
		return keepingUnasked
	}
	r := s.Reading(st)
	switch {
	case r.Verdict != Read:
		return &Keeping{Reason: r.Reason}
	case len(st.Commands) != 1:
		return keepingMany
	case st.Template == "":
		return keepingLong
	case st.TimeWords:
		return keepingWords
	}
	c := &st.Commands[0]
	if c.Kind != parser.Select || c.Effects != 0 {
		return &Keeping{Reason: c.Kind.String() + " is no query"}
	}
	if why := e.textChanges(c); why != "" {
		return &Keeping{Reason: why}
	}
	fields, bad := statementFields(st, e.timely)
	if bad != nil {
		return &Keeping{Reason: bad.Reason}
	}
	for _, name := range fields {
		if e.answers.dated[name] {
			return &Keeping{Reason: readsDate}
		}
	}
	p := proof{evidence: e}
	p.names(c, fields)
	switch {
	case p.changing != "":
		return &Keeping{Reason: p.changing}
	case e.asksZone(c, &p):
		return &Keeping{Reason: "AT TIME ZONE of a time, by the offset of today"}
	case len(r.Tables) == 0:
		return keepingNone
	}
	for _, name := range r.Tables {
		if schema, _, _ := strings.Cut(name, "."); serverSchema(schema) {
			return &Keeping{Reason: "reads " + name + ", a catalog of the server"}
		}
	}
	var stored []string
	for _, name := range r.Tables {
		if e.answers.stored[name] {
			stored = append(stored, name)
		}
	}
	return &Keeping{Kept: true, Reason: keptReason(r.Tables), Tables: r.Tables, Stored: stored}
}

func keptReason(tables []string) string {
	const tail = " and settings alone"
	switch len(tables) {
	case 1:
		return "depends on " + tables[0] + tail
	case 2:
		return "depends on " + tables[0] + ", " + tables[1] + tail
	}
	return "depends on " + tables[0] + ", " + tables[1] + ", others" + tail
}

// textChanges is the reason why the text itself asks for something that changes without a write, "" if it does not.
func (e *evidence) textChanges(c *parser.Command) string {
	switch {
	case c.Samples:
		return "a sample of the rows"
	case c.Extracts:
		return "XMLTABLE: " + readsDate
	}
	for _, word := range c.Keywords {
		switch word {
		case "current_user", "current_role", "user", "current_catalog": // of the key
		default:
			why, ok := keywordReasons[word]
			if !ok {
				why = "not known"
			}
			return strings.ToUpper(word) + ": " + why
		}
	}
	for _, name := range c.SystemColumns {
		if matches(systemColumns, name) {
			return name + ": how rows are stored"
		}
	}
	for _, f := range c.Calls {
		switch {
		case f.Name == "current_setting" && matches(loginSettings, strings.ToLower(f.First)):
			return f.First + ": who logged in"
		case e.answers.dated[f.Name] && (f.Args == 1 || f.Args < 0) && !plainConversion(f.Name):
			return f.Name + "(): " + readsDate
		}
	}
	for _, t := range c.Types {
		if e.answers.named[t.Name] {
			return "type " + t.Name + " is read or printed by names of the catalogs, or by the clock"
		}
	}
	for i := range c.Casts {
		if e.readsDate(c, &c.Casts[i]) {
			return readsDate
		}
	}
	return ""
}

// plainConversion says whether the parser notes a call of this name as a Cast.
func plainConversion(name string) bool {
	switch name {
	case "date", "time", "timestamp", "timestamptz":
		return true
	}
	return false
}

// readsDate says whether a conversion may read a date or time from a text that is no constant.
func (e *evidence) readsDate(c *parser.Command, cast *parser.Cast) bool {
	if _, ok := e.answers.dated[cast.Type.Name]; !ok {
		return false
	}
	if cast.Opaque || slices.ContainsFunc(cast.Operators, func(name string) bool { return e.answers.textOperators[name] }) {
		return true
	}
	for _, name := range cast.Calls {
		if slices.ContainsFunc(e.functions[name], func(m meaning) bool { return m.schema != "pg_catalog" }) {
			return true
		}
	}
	return slices.ContainsFunc(cast.Columns, func(name string) bool { return e.mayBeText(c, name) })
}

// mayBeText says whether a column of this name may be a text: one that the query makes, one of a table that it names, or a function in
// column notation.
func (e *evidence) mayBeText(c *parser.Command, name string) bool {
	if slices.Contains(c.Derived, name) || slices.Contains(c.Derived, "*") {
		return true
	}
	if _, ok := e.fields[name]; ok || matches(rowPrinters, name) {
		return true
	}
	texts := e.answers.texts[name]
	if len(texts) == 0 {
		return false
	}
	for _, t := range c.Tables {
		for _, m := range e.relations[t.Name] {
			if (t.Schema == "" || t.Schema == m.schema) && slices.Contains(texts, m.node.oid) {
				return true
			}
		}
	}
	return false
}

// rowPrinters are functions of the server that column notation may call with a row, and that return a text.
const rowPrinters = `concat quote_literal quote_nullable`

// zoneFunction is what AT TIME ZONE calls.
const zoneFunction = "timezone"

// asksZone says whether the command may ask AT TIME ZONE of a value of type time: it turns into timetz by the offset that the zone has today.
func (e *evidence) asksZone(c *parser.Command, p *proof) bool {
	calls := func(name string) bool {
		return slices.ContainsFunc(c.Calls, func(f parser.Called) bool { return f.Name == name })
	}
	if !calls(zoneFunction) {
		return false
	}
	if calls("make_time") || calls("time") || slices.ContainsFunc(c.Types, func(t parser.Named) bool { return e.answers.times[t.Name] }) {
		return true
	}
	found := false
	e.reach(p.nodes, func(n node) bool {
		found = e.answers.timed[n]
		return !found
	})
	for n := range e.answers.timed {
		_, always := e.always[n]
		found = found || always
	}
	return found
}

// findTimely fills timely: the functions that column notation may call, and the types that it may convert to.
func (e *evidence) findTimely(g *graph) {
	if g.answers == nil {
		return
	}
	e.timely = map[string]bool{}
	for name, row := range e.fields {
		e.timely[name] = row
	}
	add := func(name string) {
		if _, ok := e.timely[name]; !ok {
			e.timely[name] = false
		}
	}
	for _, b := range g.builtins {
		if b.args.takes(1) && b.changing() != "" {
			add(b.name)
		}
	}
	for name, scalar := range g.answers.dated {
		if scalar {
			add(name)
		}
	}
}
