package catalog

import (
	"maps"
	"slices"

	"pgtier/parser"
)

// proof is the attempt to prove that one command is a reading.
type proof struct {
	evidence *evidence
	// local, unproved and changing are the first reasons of each kind.
	local, unproved, changing string
	nodes                     []node // what the command names
	unknown                   bool   // it names what the catalog does not have
}

// effectReasons are the effects that keep a query from being a reading, with their verdicts.
var effectReasons = [...]struct {
	effect  parser.Effects
	verdict Verdict
	why     string
}{
	{parser.LocksTransaction, Local, "advisory locks of the server"},
	{parser.ReadsSequenceState, Local, "answers from its connection's past"},
	{parser.ReadsSessionViews, Local, "answers from its connection"},
	{parser.Listens | parser.Unlistens, Local, "listens on its server"},
	{parser.Writes, Unproved, "writes"},
	{parser.AdvancesSequence, Unproved, "may advance a sequence"},
	{parser.LocksRows, Unproved, "locks rows"},
	{parser.LocksTable, Unproved, "locks a table"},
	{parser.DDL | parser.TempOnCommitDrop, Unproved, "changes the catalog"},
	{parser.Notifies, Unproved, "notifies"},
	{parser.ChangesSettings | parser.ResetsAll, Unproved, "changes settings"},
	{parser.RunsOpaqueCode | parser.SQLExecute | parser.SQLPrepare, Unproved, "runs code that is not in its text"},
}

// effects judges what the text itself shows.
func (p *proof) effects(c *parser.Command) {
	for _, e := range effectReasons {
		if c.Effects&e.effect != 0 {
			p.fail(e.verdict, e.why)
		}
	}
	if len(c.Settings) > 0 || len(c.Locals) > 0 || len(c.Restores) > 0 || c.RestoresAny || c.LocalsAny {
		p.fail(Unproved, "changes settings")
	}
	if c.Incomplete {
		p.fail(Unproved, "its text does not show everything that it uses")
	}
}

// fail notes that the command is no Read.
func (p *proof) fail(v Verdict, why string) {
	if v == Local && p.local == "" {
		p.local = why
	}
	if v == Unproved && p.unproved == "" {
		p.unproved = why
	}
}

// names judges what the command names, and what needs no name.
func (p *proof) names(c *parser.Command, fields []string) {
	p.judge(node{place: inAll}, "any statement")
	for _, t := range c.Tables {
		p.relation(t)
	}
	for _, f := range c.Calls {
		p.call(f)
	}
	for _, o := range c.Operators {
		for _, m := range p.evidence.operators[o.Name] {
			if o.Schema == "" || o.Schema == m.schema {
				p.nodes = append(p.nodes, m.node)
				p.judge(m.node, "operator "+m.schema+"."+o.Name)
			}
		}
	}
	for _, name := range fields {
		for _, m := range p.evidence.functions[name] {
			if m.args.takes(1) {
				p.nodes = append(p.nodes, m.node)
				p.judge(m.node, m.schema+"."+name+"()")
			}
		}
	}
}

// judge fails the proof if n is known to be no reading.
func (p *proof) judge(n node, name string) {
	if why, ok := p.evidence.local[n]; ok {
		p.fail(Local, name+" depends on its server: "+why)
	}
	if why, ok := p.evidence.unproved[n]; ok {
		p.fail(Unproved, name+" may do more than read: "+why)
	}
	if why, ok := p.evidence.changing[n]; ok && p.changing == "" {
		p.changing = name + " may change without a write: " + why
	}
}

func (p *proof) relation(t parser.Table) {
	if isTemp(t.Schema) {
		p.unknown = true
		p.fail(Local, "temporary objects")
		return
	}
	found := false
	for _, m := range p.evidence.relations[t.Name] {
		if t.Schema != "" && t.Schema != m.schema {
			continue
		}
		found = true
		p.nodes = append(p.nodes, m.node)
		p.judge(m.node, m.schema+"."+t.Name)
	}
	if !found {
		p.unknown = true
		p.fail(Unproved, "relation "+t.Name+" is not in the catalog as it was last read")
	}
}

// call judges one call by name: all functions that it may mean.
func (p *proof) call(f parser.Called) {
	if isTemp(f.Schema) {
		p.unknown = true
		p.fail(Local, "temporary objects")
		return
	}
	if f.Name == "current_setting" && carried(f.First) {
		return
	}
	_, found := p.evidence.known[f.Name]
	found = found && (f.Schema == "" || f.Schema == "pg_catalog" || f.Schema == "information_schema")
	for _, m := range p.evidence.functions[f.Name] {
		if f.Schema != "" && f.Schema != m.schema {
			continue
		}
		found = true
		if m.args.takes(f.Args) {
			p.nodes = append(p.nodes, m.node)
			p.judge(m.node, m.schema+"."+f.Name+"()")
		}
	}
	if !found {
		p.unknown = true
		p.fail(Unproved, "function "+f.Name+"() is not in the catalog as it was last read")
	}
}

// reading is the verdict. Of what fails, the doubt that a replica would not notice counts first.
func (p *proof) reading() *Reading {
	switch {
	case p.local != "":
		return &Reading{Verdict: Local, Reason: p.local}
	case p.unproved != "":
		return &Reading{Verdict: Unproved, Reason: p.unproved}
	}
	return readOf(p.tables(p.nodes), p.tables(p.behind()))
}

// tables are the names of the tables that are read from these nodes on, with those that every statement reads.
func (p *proof) tables(from []node) []string {
	names := map[string]struct{}{}
	for _, name := range p.evidence.alwaysReads {
		names[name] = struct{}{}
	}
	p.evidence.reach(from, func(n node) bool {
		p.evidence.reads(n, names)
		return true
	})
	return slices.Sorted(maps.Keys(names))
}

// behind are the nodes of what the command names, but that those of tables are left out and stand for what they set off: a table that is reached
// from here is reached otherwise than by its name.
func (p *proof) behind() (list []node) {
	for _, n := range p.nodes {
		if _, table := p.evidence.tables[n.oid]; table && n.place.ofRelation() {
			list = append(list, p.evidence.uses[n]...)
		} else {
			list = append(list, n)
		}
	}
	return list
}

func isTemp(schema string) bool {
	return schema == "pg_temp" || len(schema) > len("pg_temp_") && schema[:len("pg_temp_")] == "pg_temp_"
}
