package plan

import (
	"encoding/binary"
	"slices"
	"sync/atomic"

	"pgtier/parser"
)

const (
	// maxPlaces is the most literals that a remembered plan may rest on.
	maxPlaces = 32
	// maxVariants is how many plans of one template are remembered, for other literals.
	maxVariants = 16
	// variantBytes is as much of the literals as is put together without memory of its own.
	variantBytes = 256
)

// variants are the plans of a template that rest on some of its literals: numbers of columns in ORDER BY or GROUP BY, and constants of expressions that
// must be equal to be one. Other texts of it have others.
type variants struct {
	places []int
	list   atomic.Pointer[[]variant]
}

// variant is the plan for these literals.
type variant struct {
	literals  string
	statement *Statement
}

func newVariants(p *Statement, sql []byte) *variants {
	v := &variants{places: p.places}
	if literals, ok := v.literals(sql, nil); ok {
		v.list.Store(&[]variant{{string(literals), p}})
	}
	return v
}

// literals appends what a text has at the places.
func (v *variants) literals(sql, dst []byte) ([]byte, bool) {
	var room [32]parser.Literal
	literals, ok := parser.Literals(sql, room[:0])
	for _, place := range v.places {
		if !ok || place >= len(literals) {
			return dst, false
		}
		l := &literals[place]
		dst = binary.AppendUvarint(append(dst, byte(l.Kind)), uint64(len(l.Value)))
		dst = append(dst, l.Value...)
	}
	return dst, true
}

// find returns the plan for the literals of a text.
func (v *variants) find(s *Schema, st *parser.Statement, sql []byte) *Statement {
	var room [variantBytes]byte
	literals, ok := v.literals(sql, room[:0])
	list := v.list.Load()
	if ok && list != nil {
		for i := range *list {
			if (*list)[i].literals == string(literals) {
				return (*list)[i].statement
			}
		}
	}
	p := s.text(st, sql, false)
	if ok && slices.Equal(p.places, v.places) && (list == nil || len(*list) < maxVariants) {
		var more []variant
		if list != nil {
			more = slices.Clone(*list)
		}
		more = append(more, variant{string(literals), p})
		v.list.CompareAndSwap(list, &more)
	}
	return p
}
