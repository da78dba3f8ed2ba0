package tags

import (
	"slices"

	"pgtier/parser"
	"pgtier/router/catalog"
)

// samplers are the methods of TABLESAMPLE, the server's own and those of its contrib modules: which rows they take may depend on other rows.
var samplers = []string{"bernoulli", "system", "system_rows", "system_time"}

func (x *Index) read(st *parser.Statement) *Set {
	reading := x.snapshot.Reading(st)
	if reading.Verdict != catalog.Read || len(st.Commands) == 0 {
		return nil
	}
	sampled := false
	for i := range st.Commands {
		c := &st.Commands[i]
		if c.Kind != parser.Select {
			return nil
		}
		sampled = sampled || slices.ContainsFunc(c.Calls, func(f parser.Called) bool { return slices.Contains(samplers, f.Name) })
	}
	s := &Set{}
	s.fix(Everything)
	var pins []*pin
	for _, name := range reading.Tables {
		t := x.names[name]
		if t == nil || len(t.columns) == 0 || sampled || slices.Contains(reading.Behind, name) {
			s.fix(named(name))
			continue
		}
		uses, ok := x.uses(st, t)
		if !ok {
			s.fix(t.tag)
			continue
		}
		s.reads = append(s.reads, pinned{t, uses})
		for _, use := range uses {
			for i := range use {
				pins = append(pins, &use[i])
			}
		}
	}
	s.single = len(s.reads) == 1 && len(s.fixed) == 1 && len(st.Commands) == 1 && x.single(&st.Commands[0], s.reads[0].table)
	return s.done(st, pins)
}

// uses are the pins of each use of a table; ok is false if one has none.
func (x *Index) uses(st *parser.Statement, t *table) (uses [][]pin, ok bool) {
	for i := range st.Commands {
		c := &st.Commands[i]
		for j := range c.Tables {
			if !mayBe(t, &c.Tables[j]) {
				continue
			}
			if !x.is(t, &c.Tables[j]) {
				return nil, false
			}
			pins := pinsOf(c, j, t)
			if len(pins) == 0 {
				return nil, false
			}
			uses = append(uses, pins)
		}
	}
	return uses, len(uses) > 0
}

// pinsOf are the pins of the j-th use of a table in a command, of the best column first.
func pinsOf(c *parser.Command, j int, t *table) (pins []pin) {
	for _, column := range t.columns {
		pins = append(pins, comparisons(c, j, column)...)
	}
	return pins
}

// comparisons are the pins of one column.
func comparisons(c *parser.Command, j int, column *column) (pins []pin) {
	for i := range c.Compared {
		if cmp := &c.Compared[i]; cmp.Table == j && cmp.Column == column.Name && !cmp.Array {
			if p, ok := pinOf(column, cmp.Values); ok {
				pins = append(pins, p)
			}
		}
	}
	return pins
}

// pinOf is a pin to a list of values.
func pinOf(c *column, values []parser.Value) (p pin, ok bool) {
	if len(values) > maxValues {
		return p, false
	}
	p.column = c
	for i := range values {
		o, ok := operandOf(c, &values[i])
		if !ok {
			return p, false
		}
		p.values = append(p.values, o)
	}
	return p, true
}

// single says whether a row of the answer proves that there is a row in the table.
func (x *Index) single(c *parser.Command, t *table) bool {
	if !c.Single || len(c.Tables) != 1 {
		return false
	}
	for _, f := range c.Calls {
		if facts, known := x.snapshot.Function(f.Schema, f.Name, f.Args); !known || facts.Aggregate || facts.Foreign {
			return false
		}
	}
	return !slices.ContainsFunc(c.Attributes, func(name string) bool { return t.relation.Column(name) == nil })
}
