package catalog

import (
	"maps"
	"slices"

	"pgtier/parser"
)

// Behind is what a command may touch that its text does not name, as "schema.name". Lists are sorted. It is immutable and shared.
type Behind struct {
	// Reads and Writes are tables that functions called, by the text, operators or triggers, may look at or change, those of the text too.
	Reads, Writes []string
	// Related are tables that those of the text bring with them without any function, themselves included: parts, tables below views and in policies;
	// Changed are those whose rows change with theirs: parts, actions of foreign keys, rules.
	Related, Changed []string
	// Functions are the functions that are not the server's own, of triggers too.
	Functions []string
	// All: it may touch any table.
	All bool
	// Locks: code or a view that it uses may lock rows or tables or take advisory locks, as a name may that the catalog does not have. What its own text locks does not count.
	Locks bool
	// Defines: one of the Functions has a statement that changes the catalog, or the text is a DO that has one.
	Defines bool

	triggers []map[string]struct{}
}

// TriggersName says whether the body of a trigger's function has a word, such as the name of a column that it may change.
func (b *Behind) TriggersName(word string) bool {
	return slices.ContainsFunc(b.triggers, func(words map[string]struct{}) bool {
		_, ok := words[word]
		return ok
	})
}

// behindNothing is the Behind of what runs nothing.
var behindNothing = &Behind{}

// RunsFunctions reports whether the statement runs functions that are not the server's own; the nil Snapshot takes it for so.
func (s *Snapshot) RunsFunctions(st *parser.Statement) bool {
	for i := range st.Commands {
		if s == nil || len(s.Behind(&st.Commands[i]).Functions) > 0 {
			return true
		}
	}
	return false
}

// Defines reports whether code that the statement runs may change the catalog. What runs behind that, in the same transaction or by the same code, may be what
// nobody has judged. DDL in the text itself is none.
func (s *Snapshot) Defines(st *parser.Statement) bool {
	for i := range st.Commands {
		if s != nil && s.Behind(&st.Commands[i]).Defines {
			return true
		}
	}
	return false
}

// behindKey tells the memo's entries from its others.
type behindKey struct{ c *parser.Command }

// Behind tells what a command touches behind its text. The nil Snapshot knows nothing. Names that the catalog does not have touch nothing.
func (s *Snapshot) Behind(c *parser.Command) *Behind {
	if runsNothing(c.Kind) {
		return behindNothing
	}
	if s == nil {
		return &Behind{All: true, Locks: true}
	}
	key := behindKey{c}
	if b, ok := s.memo.Find(key).(*Behind); ok {
		return b
	}
	b := s.behind(c)
	s.memo.Add(key, b, commandSize+size(b.Reads)+size(b.Writes)+size(b.Related)+size(b.Changed)+size(b.Functions))
	return b
}

// reached is a node, and whether a function leads to it.
type reached struct {
	node
	code bool
}

func (s *Snapshot) behind(c *parser.Command) *Behind {
	e := s.evidence
	p := proof{evidence: e}
	p.names(c, commandFields(c, e.fields))
	g := gatherer{evidence: e, all: e.alwaysBlind || c.Incomplete, locks: e.alwaysLocks}
	for i := range g.names {
		g.names[i] = map[string]struct{}{}
	}
	for _, t := range c.Tables {
		if t.Access&parser.Alters != 0 {
			p.alters(c, t)
		}
	}
	if c.Kind == parser.Do {
		p.mentions(c)
	}
	for _, name := range e.alwaysReads {
		g.names[0][name] = struct{}{}
	}
	for _, name := range e.alwaysWrites {
		g.names[1][name] = struct{}{}
	}
	g.reach(p.nodes)
	lists := [5][]string{}
	for i := range g.names {
		lists[i] = slices.Sorted(maps.Keys(g.names[i]))
	}
	defines := g.defines || c.Kind == parser.Do && c.Effects&parser.DDL != 0
	return &Behind{Reads: lists[0], Writes: lists[1], Related: lists[2], Changed: lists[3], Functions: lists[4], All: g.all, Locks: g.locks || g.all || p.unknown, Defines: defines, triggers: g.triggers}
}

// mentions adds what DO may run: its body is known by its words.
func (p *proof) mentions(c *parser.Command) {
	for _, name := range c.Functions {
		p.call(parser.Called{Name: name})
	}
	for _, name := range c.Relations {
		for _, m := range p.evidence.relations[name] {
			p.nodes = append(p.nodes, m.node, node{inWrite, m.node.oid}, node{inChange, m.node.oid})
		}
	}
}

// gatherer walks from what a command names to what that sets off.
type gatherer struct {
	*evidence
	names               [5]map[string]struct{} // as the lists of Behind, in order
	all, locks, defines bool
	// triggers are the words of the bodies of trigger functions.
	triggers []map[string]struct{}
}

func (g *gatherer) reach(from []node) {
	seen := map[reached]struct{}{}
	var queue []reached
	for _, n := range from {
		queue = append(queue, reached{n, false})
	}
	for len(queue) > 0 {
		n := queue[len(queue)-1]
		queue = queue[:len(queue)-1]
		if _, old := seen[n]; old {
			continue
		}
		if _, always := g.always[n.node]; always {
			continue
		}
		seen[n] = struct{}{}
		g.visit(n)
		for _, next := range g.uses[n.node] {
			g.locks = g.locks || g.evidence.locks[next] != locksNothing
			queue = append(queue, reached{next, n.code || n.place == inFunction || n.place == inOperator})
		}
	}
}

// visit notes what a node is.
func (g *gatherer) visit(n reached) {
	list := 2
	if n.code {
		list = 0
	}
	g.locks = g.locks || g.evidence.locks[n.node] == locksInside
	switch n.place {
	case inFunction:
		f, ok := g.calls[n.oid]
		g.all, g.defines = g.all || ok && f.blind, g.defines || ok && f.changes
		if ok && f.schema != "pg_catalog" {
			g.names[4][f.schema+"."+f.name] = struct{}{}
			if f.words != nil {
				g.triggers = append(g.triggers, f.words)
			}
		}
	case inRead:
		if name, ok := g.tables[n.oid]; ok {
			g.names[list][name] = struct{}{}
		}
	case inWrite, inChange, inUpdate, inTruncate:
		if name, ok := g.tables[n.oid]; ok {
			g.names[list+1][name] = struct{}{}
		}
	}
}
