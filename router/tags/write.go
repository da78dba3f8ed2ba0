package tags

import (
	"slices"

	"pgtier/parser"
	"pgtier/router/catalog"
)

func (x *Index) write(st *parser.Statement) *Set {
	s := &Set{}
	if st.Unparsed {
		s.fix(Everything)
		return s
	}
	for i := range st.Commands {
		c := &st.Commands[i]
		w := x.snapshot.Writing(c)
		if w.All {
			return &Set{fixed: []Tag{Everything}}
		}
		s.code = s.code || w.Code
		for _, name := range w.Tables {
			t := x.names[name]
			if t == nil {
				s.fix(named(name))
				continue
			}
			s.fix(t.tag)
			if len(t.columns) > 0 {
				x.changes(s, c, t, slices.Contains(w.Behind, name))
			}
		}
	}
	var pins []*pin
	for i := range s.writes {
		for j := range s.writes[i].pins {
			pins = append(pins, &s.writes[i].pins[j])
		}
	}
	return s.done(st, pins)
}

// changes adds what a command does to the columns of a table that it writes.
func (x *Index) changes(s *Set, c *parser.Command, t *table, behind bool) {
	target, ok := x.target(c, t)
	for _, column := range t.columns {
		change := change{otherwise: column.whole}
		switch {
		case !ok || behind:
		case c.Kind == parser.Insert || c.Kind == parser.Copy:
			if c.Conflicts || c.Kind == parser.Copy && c.Tables[target].Access&parser.Reads != 0 { // COPY (UPDATE … RETURNING …) TO
				break
			}
			if column.unique {
				change.otherwise = column.made
			}
			if t.relation.BeforeInsert || c.Inserted == nil {
				break
			}
			p, known, stored := inserted(c.Inserted, t, column)
			if !stored {
				continue
			}
			if known {
				change.pins = []pin{p}
			}
		case c.Kind == parser.Update && !t.relation.BeforeUpdate, c.Kind == parser.Delete:
			change.pins = comparisons(c, target, column)
		}
		if len(change.pins) == 0 {
			s.fix(change.otherwise)
			continue
		}
		s.writes = append(s.writes, change)
	}
}

// target finds the use by which a command writes a table; ok is false if it is not the only table that the text writes, or by another kind of statement.
func (x *Index) target(c *parser.Command, t *table) (use int, ok bool) {
	switch c.Kind {
	case parser.Insert, parser.Update, parser.Delete, parser.Copy:
	default:
		return 0, false
	}
	use = -1
	for i := range c.Tables {
		if c.Tables[i].Access&parser.Alters == 0 {
			continue
		}
		if use >= 0 || !x.is(t, &c.Tables[i]) {
			return 0, false
		}
		use = i
	}
	return use, use >= 0
}

// inserted is the pin of a column of the rows that an INSERT makes. known is false if a value is not certain; stored is false if all are NULL for certain,
// which no comparison finds.
func inserted(in *parser.Insertion, t *table, c *column) (p pin, known, stored bool) {
	at := slices.Index(in.Columns, c.Name)
	if in.Columns == nil {
		at = slices.IndexFunc(t.relation.Columns, func(other catalog.Column) bool { return other.Name == c.Name })
	}
	p = pin{column: c, apart: true}
	if len(in.Rows) > maxValues || in.Overriding && c.Identity != 0 {
		return p, false, true
	}
	for _, row := range in.Rows {
		if at < 0 || at >= len(row) {
			if c.HasDefault {
				return p, false, true
			}
			continue
		}
		v := &row[at]
		if v.Kind == parser.ValueConstant && v.Null && v.Cast == (parser.Named{}) {
			continue
		}
		o, ok := operandOf(c, v)
		if !ok {
			return p, false, true
		}
		p.values = append(p.values, o)
	}
	return p, true, len(p.values) > 0
}
