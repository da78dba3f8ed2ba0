package plan

import (
	"slices"

	"pgtier/parser"
	"pgtier/router/shard"
)

// doubt marks the parameters for which the server may infer another type than that of the column they are compared with: it takes the first place that
// a parameter stands in, and that may be another. Uuids mean the same whatever it takes them for, or are an error; so do booleans without a cast.
func (p *Statement) doubt() {
	slots := map[int][]uint32{} // by parameter
	all := p.values()
	for _, v := range all {
		if v.Kind == parser.ValueParam && v.expr != nil && p.params[v.expr] == 0 {
			p.params[v.expr] = v.slot()
		}
	}
	for e, slot := range p.params {
		if slot != anySlot {
			slots[e.Value.Param] = append(slots[e.Value.Param], slot)
		}
	}
	for _, v := range all {
		if v.Kind == parser.ValueParam {
			v.doubtful = v.mayBeOther(slots[v.Param])
		}
	}
	if p.wide != nil {
		for _, v := range []*value{p.wide.count, p.wide.offset} {
			if v != nil && v.Kind == parser.ValueParam {
				v.doubtful = slices.ContainsFunc(slots[v.Param], func(slot uint32) bool { return familyOf(slot) != familyInteger })
			}
		}
	}
	for param, list := range slots {
		if slices.ContainsFunc(list, func(slot uint32) bool { return slot == 0 || slot != list[0] }) && len(list) > 1 {
			p.vague = append(p.vague, param)
		}
	}
}

// untyped says whether a parameter comes without a type for which the server may take another in another text.
func (p *Statement) untyped(values *Values) bool {
	return slices.ContainsFunc(p.vague, func(n int) bool { return n <= len(values.Params) && typeless(&values.Params[n-1]) })
}

// typeless says whether a parameter comes without a type.
func typeless(p *Param) bool { return p.OID == 0 || shard.Type(p.OID) == shard.Unknown }

// untypedIn says whether any parameter comes without a type.
func untypedIn(values *Values) bool {
	for i := range values.Params {
		if typeless(&values.Params[i]) {
			return true
		}
	}
	return false
}

// mayBeOther says whether the server may take a parameter that stands in these slots for one of another type than v's.
func (v *value) mayBeOther(slots []uint32) bool {
	f := familyOf(v.kind())
	if len(slots) <= 1 || f == familyUUID && !v.array || f == familyBool && v.cast == 0 {
		return false
	}
	return slices.ContainsFunc(slots, func(slot uint32) bool {
		if f == familyInteger && !v.array { // of whatever width: the value shows it
			return familyOf(slot) != familyInteger
		}
		return slot != v.slot()
	})
}

// kind is the type that the place of v asks for.
func (v *value) kind() uint32 {
	if v.cast != 0 {
		return v.cast
	}
	return v.inferred
}

// slot is the type by which v is sent.
func (v *value) slot() uint32 {
	if v.array {
		return arrayTypes[shard.Type(v.kind())]
	}
	return slotType(v.kind())
}

// values are all values that decide where the statement goes.
func (p *Statement) values() (list []*value) {
	add := func(columns [][]*values) {
		for _, lists := range columns {
			for _, l := range lists {
				for i := range l.list {
					list = append(list, &l.list[i])
				}
			}
		}
	}
	for i := range p.pins {
		add(p.pins[i].columns)
	}
	if p.wide != nil {
		p.wide.target.each(func(t *pin) { add(t.columns) })
	}
	if p.insert != nil {
		for _, row := range p.insert.rows {
			for _, v := range row {
				if v != nil {
					list = append(list, v)
				}
			}
		}
	}
	return list
}

// each visits the pins of a target.
func (t *target) each(visit func(*pin)) {
	if t.pin != nil {
		visit(t.pin)
	}
	for i := range t.parts {
		t.parts[i].each(visit)
	}
}

// paramsIn are the places of parameters in a statement.
func paramsIn(tree *parser.Tree) map[*parser.Expr]uint32 {
	found := map[*parser.Expr]uint32{}
	tree.Walk(func(q *parser.Query) {
		q.Exprs(func(e *parser.Expr) {
			if e.Kind == parser.ExprParam {
				found[e] = 0
			}
		})
	})
	return found
}
