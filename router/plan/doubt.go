package plan

import "pgtier/parser"

// doubt marks the parameters for which the server may infer another type than that of the column they are compared with: it takes the first place that
// a parameter stands in, and that may be another. Integers, uuids and booleans mean the same whatever it takes them for, or are an error.
func (p *Statement) doubt() {
	places := map[int]int{} // by parameter
	for e := range p.params {
		places[e.Value.Param]++
	}
	known := map[int]map[*parser.Expr]uint32{}
	all := p.values()
	for _, v := range all {
		if v.Kind == parser.ValueParam && v.expr != nil {
			if known[v.Param] == nil {
				known[v.Param] = map[*parser.Expr]uint32{}
			}
			known[v.Param][v.expr] = v.inferred + v.cast<<16
		}
	}
	for _, v := range all {
		if v.Kind != parser.ValueParam || places[v.Param] <= 1 {
			continue
		}
		switch familyOf(v.inferred) {
		case familyInteger, familyUUID, familyBool:
			continue
		}
		v.doubtful = len(known[v.Param]) != places[v.Param]
		for _, t := range known[v.Param] {
			v.doubtful = v.doubtful || t != known[v.Param][v.expr]
		}
	}
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
func paramsIn(tree *parser.Tree) map[*parser.Expr]struct{} {
	found := map[*parser.Expr]struct{}{}
	tree.Walk(func(q *parser.Query) {
		q.Exprs(func(e *parser.Expr) {
			if e.Kind == parser.ExprParam {
				found[e] = struct{}{}
			}
		})
	})
	return found
}
