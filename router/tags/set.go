package tags

import (
	"slices"

	"pgtier/parser"
)

// Set is what a text depends on, or may change, before its values are known. It is immutable, shared, and holds for all texts of one template.
type Set struct {
	// fixed are the tags whatever the values are.
	fixed []Tag
	// reads are tables whose every use is pinned; writes are columns of tables that are written.
	reads  []pinned
	writes []change
	// literals: some values are literals of the text.
	literals bool
	// single: a row of the answer is a row of the only table.
	single bool
	// code: see Code.
	code bool
}

// pinned is a table that a text reads by keys alone: each use has at least one pin, of which any says all.
type pinned struct {
	table *table
	uses  [][]pin
}

// change is a column of a table that is written, with what says which values of it the changed rows have: any of the pins, else otherwise.
type change struct {
	pins      []pin
	otherwise Tag
}

// pin says that a column is one of some values.
type pin struct {
	column *column
	values []operand
	// apart: the values have nothing to do with each other, as those of several rows; else they are one list that a column is compared with.
	apart bool
}

// Empty reports whether the Set has no tags whatever the values are.
func (s *Set) Empty() bool { return len(s.fixed)+len(s.reads)+len(s.writes) == 0 }

// Code reports whether a text that writes may come to change more than its tags: it runs code that somebody may make anew before it is over (catalog.Writing).
func (s *Set) Code() bool { return s.code }

// Append appends the tags of one execution with these values. It does not allocate beyond dst, but for literals with a minus sign and doubled quotes.
func (s *Set) Append(dst []Tag, v Values) []Tag { return s.append(dst, v, false) }

// AppendFound is Append for an answer of Read that has rows. The rows that it is made of are there, so it may depend on less: not on new rows, where their
// keys are of no row that is there.
func (s *Set) AppendFound(dst []Tag, v Values) []Tag { return s.append(dst, v, s.single) }

func (s *Set) append(dst []Tag, v Values, found bool) []Tag {
	dst = append(dst, s.fixed...)
	if len(s.reads) == 0 && len(s.writes) == 0 {
		return dst
	}
	r := reader{Values: v}
	var room [16]parser.Literal // as many as most texts have
	if s.literals {
		r.literals, _ = parser.Literals(v.SQL, room[:0])
	}
	for i := range s.reads {
		dst = s.reads[i].append(dst, &r, found)
	}
	for i := range s.writes {
		dst = s.writes[i].append(dst, &r)
	}
	return dst
}

func (p *pinned) append(dst []Tag, r *reader, found bool) []Tag {
	mark := len(dst)
	for _, pins := range p.uses {
		ok := false
		for i := 0; i < len(pins) && !ok; i++ {
			dst, ok = pins[i].read(dst, r, found)
		}
		if !ok {
			return append(dst[:mark], p.table.tag)
		}
	}
	return dst
}

// read appends what a use depends on that this pin pins; false if a value is not certain.
func (p *pin) read(dst []Tag, r *reader, found bool) ([]Tag, bool) {
	mark := len(dst)
	dst = append(dst, p.column.whole)
	if p.column.unique && (!found || len(p.values) > 1) {
		dst = append(dst, p.column.made)
	}
	dst, ok := p.rows(dst, r)
	if !ok {
		dst = dst[:mark]
	}
	return dst, ok
}

// rows appends the tags of the rows that have the values. NULL is the value of none.
func (p *pin) rows(dst []Tag, r *reader) ([]Tag, bool) {
	mark := len(dst)
	for i := range p.values {
		v, ok := r.value(p, i)
		if !ok {
			return dst[:mark], false
		}
		if v.IsNull() {
			continue
		}
		hash, ok := p.column.key.Hash(v)
		if !ok {
			return dst[:mark], false
		}
		dst = append(dst, row(p.column.row, hash))
	}
	return dst, true
}

func (c *change) append(dst []Tag, r *reader) []Tag {
	for i := range c.pins {
		if with, ok := c.pins[i].rows(dst, r); ok {
			return with
		}
	}
	return append(dst, c.otherwise)
}

// fix adds tags that do not depend on values.
func (s *Set) fix(tags ...Tag) { s.fixed = append(s.fixed, tags...) }

// done puts the fixed tags in order, each once, and sees what the pins need.
func (s *Set) done(st *parser.Statement, pins []*pin) *Set {
	doubt(st, pins)
	for _, p := range pins {
		s.literals = s.literals || slices.ContainsFunc(p.values, func(o operand) bool { return o.param == 0 && o.literal >= 0 })
	}
	slices.Sort(s.fixed)
	s.fixed = slices.Compact(s.fixed)
	return s
}
