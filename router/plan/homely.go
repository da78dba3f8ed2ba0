package plan

import (
	"slices"

	"pgtier/parser"
)

// What is at home is nowhere else: on another shard its tables are empty, its materialized views old and its sequences have counters of their own. A hint for
// another shard does not lift that.

// homely notes a table of the home shard whose rows the statement looks at or changes, by itself or behind it.
func (w *work) homely() {
	switch w.command.Kind {
	case parser.Vacuum, parser.Checkpoint, parser.Reindex:
		return
	case parser.SchemaChange:
		if text := wordsOf(w.sql); !text.makesRows() {
			return
		}
	}
	var names []*table
	for _, t := range w.command.Tables {
		if w.command.Effects&parser.DDL == 0 || t.Access&parser.Alters == 0 {
			names = append(names, w.schema.lookup(t.Schema, t.Name, w.changed))
		}
	}
	behind := w.schema.catalog.Behind(w.command)
	for _, name := range slices.Concat(behind.Reads, behind.Writes, behind.Related, behind.Changed) {
		names = append(names, w.schema.byName(name))
	}
	for _, t := range names {
		if w.schema.rowsAtHome(t, 0) {
			w.homeTable = t.name
			return
		}
	}
	if w.tree != nil {
		w.advances = slices.ContainsFunc(w.tree.Calls, func(e *parser.Expr) bool { return e.Name == "nextval" })
	}
}

// rowsAtHome says whether a table has rows on the home shard alone, or is a view of such. Views of functions and foreign tables show what the server has that is
// asked; tables that the catalog does not have may be temporary.
func (s *Schema) rowsAtHome(t *table, depth int) bool {
	switch {
	case t == nil || t.relation == nil || depth > maxInheritance:
		return false
	case t.relation.Kind == 'v':
		for _, r := range t.relation.Uses {
			if s.rowsAtHome(s.byOID[r.OID], depth+1) {
				return true
			}
		}
		return false
	}
	return t.place == placeHome && t.relation.Kind != 'f'
}

// astray says why a statement cannot go to a shard by a hint because of what is at home, nil if it can.
func (p *Statement) astray(i int, v *Values) *Refusal {
	config := p.schema.config
	home := "\"" + string(config.Shards[config.Home]) + "\""
	hint := "Leave the hint and the settings pgtier.shard and pgtier.sharding_key out, or name shard " + home + "."
	switch {
	case i == config.Home:
		return nil
	case p.homeTable != "":
		return refuse("table \""+p.homeTable+"\", whose rows are on shard "+home+" alone, on shard \""+string(config.Shards[i])+"\"", hint)
	case p.empties:
		return refuse("table made with rows on shard \""+string(config.Shards[i])+"\", where nobody would look for them", hint)
	case p.advances && !p.schema.namesNumbers(v.SQL):
		return refuse("nextval() of a sequence that counts on shard "+home+", on shard \""+string(config.Shards[i])+"\"", hint)
	}
	return nil
}

// namesNumbers says whether a text has the name of a sequence that steps by shard.
func (s *Schema) namesNumbers(sql []byte) bool {
	literals, ok := parser.Literals(sql, nil)
	return ok && slices.ContainsFunc(literals, func(l parser.Literal) bool { return l.Kind == parser.LiteralString && s.numbersText(string(l.Value)) })
}
