package plan

import (
	"slices"
	"strconv"
	"sync/atomic"

	"pgtier/parser"
)

const (
	// maxPlaces is the most numbers of columns that a remembered plan may rest on.
	maxPlaces = 16
	// maxVariants is how many plans of one template are remembered, for other numbers of columns.
	maxVariants = 16
)

// variants are the plans of a template whose ORDER BY or GROUP BY has numbers of columns, which are literals: other texts of it have other numbers.
type variants struct {
	places []int
	list   atomic.Pointer[[]variant]
}

// variant is the plan for these numbers.
type variant struct {
	numbers   []int
	statement *Statement
}

func newVariants(p *Statement, sql []byte) *variants {
	v := &variants{places: p.places}
	if numbers, ok := v.numbers(sql, nil); ok {
		v.list.Store(&[]variant{{numbers, p}})
	}
	return v
}

// numbers appends the numbers that a text has at the places.
func (v *variants) numbers(sql []byte, dst []int) ([]int, bool) {
	var room [16]parser.Literal
	literals, ok := parser.Literals(sql, room[:0])
	for _, place := range v.places {
		if !ok || place >= len(literals) {
			return dst, false
		}
		n, err := strconv.Atoi(string(literals[place].Value))
		if err != nil {
			return dst, false
		}
		dst = append(dst, n)
	}
	return dst, true
}

// find returns the plan for the numbers of a text.
func (v *variants) find(s *Schema, st *parser.Statement, sql []byte) *Statement {
	var room [maxPlaces]int
	numbers, ok := v.numbers(sql, room[:0])
	list := v.list.Load()
	if ok && list != nil {
		for i := range *list {
			if slices.Equal((*list)[i].numbers, numbers) {
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
		more = append(more, variant{slices.Clone(numbers), p})
		v.list.CompareAndSwap(list, &more)
	}
	return p
}
