package catalog

import (
	"maps"
	"slices"
	"strings"

	"pgtier/parser"
)

// Writing is what a command may change. It is immutable and shared.
type Writing struct {
	// Tables are the names, as "schema.name" and sorted, of the tables whose rows the command may change: those it names, and what triggers, rules,
	// actions of foreign keys, partitions and functions change with them.
	Tables []string
	// Behind are those of Tables that it may change in another way than by naming them, be it beside that.
	Behind []string
	// Code: it runs functions whose body is text, be it behind others. Somebody may make them anew before it is over, and then it changes what they change.
	Code bool
	// All: what it changes is unknown, or it changes the catalog, which concerns every reading.
	All bool
}

// writingAll is the Writing of what is not known.
var writingAll = &Writing{All: true}

// Writing tells what a command may change. PREPARE changes nothing; ask for what it prepares. The nil Snapshot knows nothing.
func (s *Snapshot) Writing(c *parser.Command) *Writing {
	if s == nil {
		return writingAll
	}
	key := writtenKey{c}
	if w, ok := s.memo.Find(key).(*Writing); ok {
		return w
	}
	w := s.written(c)
	s.memo.Add(key, w, commandSize+size(w.Tables)+size(w.Behind))
	return w
}

// Written is Writing without Behind. The caller must not change the list.
func (s *Snapshot) Written(c *parser.Command) (tables []string, all bool) {
	w := s.Writing(c)
	return w.Tables, w.All
}

// writtenKey tells the memo's writings from its readings.
type writtenKey struct{ c *parser.Command }

func (s *Snapshot) written(c *parser.Command) *Writing {
	if runsNothing(c.Kind) {
		return &Writing{}
	}
	switch c.Kind {
	case parser.Select, parser.Insert, parser.Update, parser.Delete, parser.Merge, parser.Copy, parser.Truncate, parser.Refresh, parser.Declare:
	case parser.Explain:
		if c.Explained == nil {
			return &Writing{All: c.Analyze}
		}
		if !c.Analyze {
			return &Writing{}
		}
		return s.written(c.Explained)
	default: // VACUUM and its kind change what the catalogs say of a table
		return writingAll
	}
	if c.Incomplete || c.Effects&(parser.DDL|parser.RunsOpaqueCode) != 0 {
		return writingAll
	}
	p := proof{evidence: s.evidence}
	p.names(c, commandFields(c, s.evidence.fields))
	for _, t := range c.Tables {
		if t.Access&parser.Alters != 0 && !p.alters(c, t) {
			return writingAll
		}
	}
	if c.Effects&parser.Writes != 0 && c.Kind != parser.Select && !slices.ContainsFunc(c.Tables, func(t parser.Table) bool { return t.Access&parser.Alters != 0 }) {
		return writingAll
	}
	if p.unknown {
		return writingAll
	}
	return p.writing()
}

// runsNothing reports whether commands of this kind run nothing by themselves that uses or changes tables. What a transaction has put off to its end, and what a
// cursor runs, was told of the command that began it.
func runsNothing(k parser.Kind) bool {
	switch k {
	case parser.Begin, parser.Commit, parser.Rollback, parser.Savepoint, parser.RollbackTo, parser.Release, parser.PrepareTransaction,
		parser.Set, parser.Reset, parser.ResetAll, parser.SetTransaction, parser.SetConstraints, parser.Show, parser.DiscardPlans, parser.DiscardSequences,
		parser.Prepare, parser.Deallocate, parser.DeallocateAll, parser.Listen, parser.Unlisten, parser.UnlistenAll, parser.Notify,
		parser.Fetch, parser.Close, parser.CloseAll, parser.Lock, parser.Checkpoint:
		return true
	}
	return false
}

// alters adds what writing a table sets off; false if the table is not known, or a catalog.
func (p *proof) alters(c *parser.Command, t parser.Table) bool {
	found := false
	for _, m := range p.evidence.relations[t.Name] {
		if t.Schema != "" && t.Schema != m.schema {
			continue
		}
		if m.schema == "pg_catalog" {
			return false
		}
		found = true
		p.nodes = append(p.nodes, node{inWrite, m.node.oid})
		if how, ok := p.evidence.changes(c, t, m); ok {
			p.nodes = append(p.nodes, node{how, m.node.oid})
		}
	}
	return found
}

// changes says how a command changes the rows of a table that are there, for actions of foreign keys; false if none acts. Which part of a command with
// several changes which table is not told. Rows of a partitioned table may move, which deletes them.
func (e *evidence) changes(c *parser.Command, t parser.Table, m meaning) (how place, ok bool) {
	alone, count := m.kind == 'r', 0
	for i := range c.Tables {
		if c.Tables[i].Access&parser.Alters != 0 {
			count++
		}
	}
	alone = alone && count == 1
	switch c.Kind {
	case parser.Truncate:
		return inTruncate, true
	case parser.Insert:
		if alone && !c.Conflicts {
			return 0, false
		}
	case parser.Copy:
	case parser.Update, parser.Delete, parser.Merge, parser.Select, parser.Declare:
	default:
		return 0, false
	}
	if t.Access&parser.Reads == 0 && (c.Kind == parser.Insert || c.Kind == parser.Copy) { // neither ON CONFLICT nor a WITH that changes
		return 0, false
	}
	if !alone || c.Kind != parser.Update && c.Kind != parser.Insert {
		return inChange, true
	}
	set := func(column string) bool { return column == "" || slices.Contains(c.Sets, column) }
	return inUpdate, slices.ContainsFunc(e.keys[m.node.oid], set)
}

// writing gathers the tables that are written.
func (p *proof) writing() *Writing {
	if p.evidence.alwaysBlind {
		return writingAll
	}
	tables, code, all := p.written(p.nodes)
	if all {
		return writingAll
	}
	behind, _, _ := p.written(p.behind())
	return &Writing{Tables: tables, Behind: behind, Code: code}
}

// written are the names of the tables that are written from these nodes on, with those that every statement writes. code tells of functions among them.
func (p *proof) written(from []node) (tables []string, code, all bool) {
	names := map[string]struct{}{}
	for _, name := range p.evidence.alwaysWrites {
		names[name] = struct{}{}
	}
	code = p.evidence.alwaysMade
	p.evidence.reach(from, func(n node) bool {
		code, all = code || p.evidence.isMade(n), p.evidence.writes(n, names)
		return !all
	})
	return slices.Sorted(maps.Keys(names)), code, all
}

// isMade reports whether n is a function whose body is text.
func (e *evidence) isMade(n node) bool { return n.place == inFunction && e.calls[n.oid].made }

// writes adds the table that n writes, if it does, to names, and says whether n may write anything.
func (e *evidence) writes(n node, names map[string]struct{}) (all bool) {
	switch n.place {
	case inFunction:
		return e.calls[n.oid].blind
	case inWrite, inChange, inUpdate, inTruncate:
		if name, ok := e.tables[n.oid]; ok {
			names[name] = struct{}{}
			return strings.HasPrefix(name, "pg_catalog.")
		}
	}
	return false
}
