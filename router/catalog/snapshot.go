package catalog

import (
	"cmp"
	"slices"
	"strings"

	"pgtier/parser"
)

// NotRead is the reason while nothing is known.
const NotRead = "catalog not read yet"

// Object is something that may change session state, for SHOW.
type Object struct {
	Kind string // function, relation (reading it is enough), written relation, schema change, or any statement
	Name string // with its schema; "" for the last two kinds
	Why  string
}

// Snapshot knows what one database's functions, tables and views may do to the session and to rows, and what they answer from. It is immutable but for
// what it remembers of its answers; nil knows nothing.
type Snapshot struct {
	version string
	objects []Object

	known     map[string]struct{} // every name that may be called and is harmless unless it is in functions
	functions map[string]string   // reasons, by the last part of the name
	reads     map[string]string
	writes    map[string]string
	// columns are the functions that column notation may call: a.f is f(a). The value says whether a may be a whole row.
	columns map[string]bool
	schema  string // the reason for statements that change the catalog
	all     string // the reason for all statements
	anyOf   string // the reason for statements that visit all relations without naming them

	shadows bool

	evidence *evidence
	shapes   *shapes // nil unless asked for
	memo     Memo
}

// newSnapshot takes what a solved graph found.
func newSnapshot(g *graph, known map[string]struct{}, version string) *Snapshot {
	s := &Snapshot{version: version, known: known, functions: map[string]string{}, reads: map[string]string{},
		writes: map[string]string{}, columns: map[string]bool{}}
	for _, f := range g.functions {
		s.known[f.name] = struct{}{}
	}
	for n, why := range g.solve(g.session, false) {
		s.add(g, n, why)
	}
	slices.SortFunc(s.objects, func(a, b Object) int {
		return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Why, b.Why))
	})
	if s.anyOf != "" {
		for _, name := range readersOfAnyRelation {
			if _, ok := s.functions[name]; !ok {
				s.functions[name] = s.anyOf
			}
		}
	}
	return s
}

// add notes one risky node.
func (s *Snapshot) add(g *graph, n node, why string) {
	const tail = " may change session state ("
	switch n.place {
	case inFunction:
		f, ok := g.functions[n.oid]
		if !ok {
			return
		}
		name := f.schema + "." + f.name
		s.functions[f.name] = "function " + name + "()" + tail + why + ")"
		if f.one {
			s.columns[f.name] = s.columns[f.name] || f.row
		}
		s.objects = append(s.objects, Object{"function", name + "()", why})
	case inRead, inWrite:
		r, ok := g.relations[n.oid]
		if !ok {
			return
		}
		name := r.schema + "." + r.name
		reason, kind, reasons := "reading "+name+tail+why+")", "relation", s.reads
		if n.place == inWrite {
			reason, kind, reasons = "writing "+name+tail+why+")", "written relation", s.writes
		}
		reasons[r.name] = reason
		s.anyOf = reason
		s.objects = append(s.objects, Object{kind, name, why})
	case inSchema:
		s.schema = "changing the catalog" + tail + why + ")"
		s.objects = append(s.objects, Object{"schema change", "", why})
	case inAll:
		s.all = "any statement" + tail + why + ")"
		s.objects = append(s.objects, Object{"any statement", "", why})
	}
}

// Risky lists what may change session state, in a stable order. The caller must not change the list.
func (s *Snapshot) Risky() []Object {
	if s == nil {
		return nil
	}
	return s.objects
}

// Version is what Version returned before the snapshot was read, "" for nil.
func (s *Snapshot) Version() string {
	if s == nil {
		return ""
	}
	return s.version
}

// Pins returns the reason why the statement needs a connection of its own, "" if functions and relations give none. What PREPARE prepares
// is not judged: see Command. It does not allocate unless it gives a reason that names an unknown function.
func (s *Snapshot) Pins(st *parser.Statement) string {
	if s != nil && s.all != "" && len(st.Commands) > 0 {
		return s.all
	}
	for i := range st.Commands {
		if why := s.Command(&st.Commands[i]); why != "" {
			return why
		}
	}
	if s == nil || len(s.columns) == 0 {
		return ""
	}
	return s.column(st)
}

// Command is Pins for one command, for instance the one that EXECUTE runs. Column notation is judged by Pins on the PREPARE.
func (s *Snapshot) Command(c *parser.Command) string {
	if s == nil {
		if len(c.Functions) > 0 {
			return NotRead
		}
		return ""
	}
	if s.all != "" {
		return s.all
	}
	for _, name := range c.Functions {
		if why := s.function(name); why != "" {
			return why
		}
	}
	if len(s.functions) > 0 {
		for _, name := range c.Builtins {
			if why, ok := s.functions[name]; ok {
				return why
			}
		}
	}
	if s.anyOf == "" && s.schema == "" {
		return ""
	}
	return s.visits(c)
}

// function judges a name that is not a harmless built-in function's.
func (s *Snapshot) function(name string) string {
	if why, ok := s.functions[name]; ok {
		return why
	}
	if _, ok := s.known[name]; !ok {
		return "function " + name + "() is not in the catalog as it was last read"
	}
	return ""
}

// visits judges the relations of a command, and what it does to the catalog.
func (s *Snapshot) visits(c *parser.Command) string {
	reads := onlyReads(c)
	if s.schema != "" && !reads && changesSchema(c) {
		return s.schema
	}
	for _, name := range c.Relations {
		if why, ok := s.reads[name]; ok {
			return why
		}
		if why, ok := s.writes[name]; ok && !reads {
			return why
		}
	}
	if len(c.Relations) == 0 && (c.Kind == parser.Vacuum || c.Kind == parser.Reindex) {
		return s.anyOf
	}
	return ""
}

// onlyReads says whether the command certainly changes neither rows nor the catalog.
func onlyReads(c *parser.Command) bool {
	switch c.Kind {
	case parser.Select, parser.Declare, parser.Copy, parser.Explain, parser.Lock, parser.Prepare, parser.Show, parser.Fetch:
		return c.Effects&(parser.Writes|parser.DDL) == 0
	}
	return false
}

// changesSchema says whether the command may fire event triggers.
func changesSchema(c *parser.Command) bool {
	switch c.Kind {
	case parser.SchemaChange, parser.Refresh, parser.Reindex, parser.Import, parser.Do, parser.Other:
		return true
	}
	return c.Effects&parser.DDL != 0
}

// column looks for a.f, which calls f(a), in the statement's text. Columns of such a name pin for nothing; they are rare.
func (s *Snapshot) column(st *parser.Statement) string {
	text := st.Template
	if text == "" && len(st.Commands) > 0 {
		return "text too long to look for column notation of functions"
	}
	for i := 0; ; {
		dot := strings.IndexByte(text[i:], '.')
		if dot < 0 {
			return ""
		}
		dot += i
		i = dot + 1
		name, certain := nameAt(text, i)
		if !certain {
			return "a name behind a point that is not read"
		}
		row, ok := s.columns[name]
		if ok && (row || !followsName(text, dot)) {
			return s.functions[name]
		}
	}
}

// nameAt reads the name behind a point; certain is false for what only the server should read. Names of upper-case letters are the only ones
// that allocate.
func nameAt(text string, i int) (name string, certain bool) {
	i = skipSpace(text, i)
	if i >= len(text) {
		return "", true
	}
	switch c := text[i]; {
	case strings.HasPrefix(text[i:], "--"), strings.HasPrefix(text[i:], "/*"):
		return "", false
	case c == '"':
		end := strings.IndexByte(text[i+1:], '"')
		if end < 0 || strings.HasPrefix(text[i+1+end:], `""`) {
			return "", false
		}
		return cut(text[i+1 : i+1+end]), true
	case !startsWord(c):
		return "", true
	case strings.HasPrefix(text[i:], "U&") || strings.HasPrefix(text[i:], "u&"):
		return "", false
	}
	return fold(text[i:wordEnd(text, i)]), true
}

// followsName says whether the point stands behind a plain name, which may be a table's but not a scalar's.
func followsName(text string, dot int) bool {
	for dot > 0 && skipSpace(text, dot-1) != dot-1 {
		dot--
	}
	if dot == 0 {
		return false
	}
	c := text[dot-1]
	return startsWord(c) || c == '"'
}

func skipSpace(text string, i int) int {
	for i < len(text) && (text[i] == ' ' || text[i] == '\t' || text[i] == '\n' || text[i] == '\r' || text[i] == '\f' || text[i] == '\v') {
		i++
	}
	return i
}

// ShadowsEqual says whether the database has an operator = for two types of the server itself that is not the server's own: where no schema is
// written, search_path decides which is meant.
func (s *Snapshot) ShadowsEqual() bool { return s != nil && s.shadows }
