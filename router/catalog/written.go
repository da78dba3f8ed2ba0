package catalog

import (
	"maps"
	"slices"
	"strings"

	"pgtier/parser"
)

// writing is what Written found.
type writing struct {
	tables []string
	all    bool
}

// Written returns the tables, as "schema.name" and sorted, whose rows the command may change: those it names, and what triggers, rules, actions of foreign
// keys, partitions and functions change with them. all says that this is unknown, or that the command changes the catalog, which concerns every
// reading. PREPARE changes nothing; ask for what it prepares. The nil Snapshot knows nothing. The caller must not change the list.
func (s *Snapshot) Written(c *parser.Command) (tables []string, all bool) {
	if s == nil {
		return nil, true
	}
	key := writtenKey{c}
	if w, ok := s.memo.Find(key).(*writing); ok {
		return w.tables, w.all
	}
	w := s.written(c)
	s.memo.Add(key, w, commandSize+size(w.tables))
	return w.tables, w.all
}

// writtenKey tells the memo's writings from its readings.
type writtenKey struct{ c *parser.Command }

func (s *Snapshot) written(c *parser.Command) *writing {
	switch c.Kind {
	case parser.Select, parser.Insert, parser.Update, parser.Delete, parser.Merge, parser.Copy, parser.Truncate, parser.Refresh, parser.Declare:
	case parser.Explain:
		if c.Explained == nil {
			return &writing{all: c.Analyze}
		}
		if !c.Analyze {
			return &writing{}
		}
		return s.written(c.Explained)
	case parser.Begin, parser.Commit, parser.Rollback, parser.Savepoint, parser.RollbackTo, parser.Release, parser.PrepareTransaction,
		parser.Set, parser.Reset, parser.ResetAll, parser.SetTransaction, parser.SetConstraints, parser.Show, parser.DiscardPlans, parser.DiscardSequences,
		parser.Prepare, parser.Deallocate, parser.DeallocateAll, parser.Listen, parser.Unlisten, parser.UnlistenAll, parser.Notify,
		parser.Fetch, parser.Close, parser.CloseAll, parser.Lock, parser.Checkpoint:
		return &writing{}
	default: // VACUUM and its kind change what the catalogs say of a table
		return &writing{all: true}
	}
	if c.Incomplete || c.Effects&(parser.DDL|parser.RunsOpaqueCode) != 0 {
		return &writing{all: true}
	}
	p := proof{evidence: s.evidence}
	p.names(c, s.evidence.commandFields(c))
	for _, t := range c.Tables {
		if t.Access&parser.Alters != 0 && !p.alters(c.Kind, t) {
			return &writing{all: true}
		}
	}
	if c.Effects&parser.Writes != 0 && c.Kind != parser.Select && !slices.ContainsFunc(c.Tables, func(t parser.Table) bool { return t.Access&parser.Alters != 0 }) {
		return &writing{all: true}
	}
	if p.unknown {
		return &writing{all: true}
	}
	return p.writing()
}

// alters adds what writing a table sets off; false if the table is not known, or a catalog.
func (p *proof) alters(kind parser.Kind, t parser.Table) bool {
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
		switch kind {
		case parser.Truncate:
			p.nodes = append(p.nodes, node{inTruncate, m.node.oid})
		case parser.Update, parser.Delete, parser.Merge, parser.Select, parser.Declare:
			p.nodes = append(p.nodes, node{inChange, m.node.oid})
		case parser.Insert, parser.Copy:
			if t.Access&parser.Reads != 0 { // ON CONFLICT, or a WITH that changes
				p.nodes = append(p.nodes, node{inChange, m.node.oid})
			}
		}
	}
	return found
}

// writing gathers the tables that are written.
func (p *proof) writing() *writing {
	e := p.evidence
	if e.alwaysBlind {
		return &writing{all: true}
	}
	names, all := map[string]struct{}{}, false
	for _, name := range e.alwaysWrites {
		names[name] = struct{}{}
	}
	e.reach(p.nodes, func(n node) bool {
		all = e.writes(n, names)
		return !all
	})
	if all {
		return &writing{all: true}
	}
	return &writing{tables: slices.Sorted(maps.Keys(names))}
}

// writes adds the table that n writes, if it does, to names, and says whether n may write anything.
func (e *evidence) writes(n node, names map[string]struct{}) (all bool) {
	switch n.place {
	case inFunction:
		return e.calls[n.oid].blind
	case inWrite, inChange, inTruncate:
		if name, ok := e.tables[n.oid]; ok {
			names[name] = struct{}{}
			return strings.HasPrefix(name, "pg_catalog.")
		}
	}
	return false
}
