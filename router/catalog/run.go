package catalog

// run is one search of the graph: what do its sources reach? The runs differ in their sources, and in that a run about readings
// stays away from what a reading never does.
type run struct {
	g       *graph
	reading bool
	why     map[node]string
	queue   []node
}

// solve follows the edges from the sources until nothing new is found, and returns the reasons. The first reason found stays.
func (g *graph) solve(sources []source, reading bool) map[node]string {
	r := run{g: g, reading: reading, why: map[node]string{}}
	for _, s := range sources {
		r.mark(s.node, s.why)
	}
	for len(r.queue) > 0 {
		n := r.queue[0]
		r.queue = r.queue[1:]
		cause := r.cause(n)
		for _, e := range g.edges[n] {
			if !e.planned || !reading || r.immutable(n) {
				r.mark(e.to, e.why+cause)
			}
		}
		r.unnamed(n, cause)
	}
	return r.why
}

// mark notes n for the first reason given.
func (r *run) mark(n node, why string) {
	if r.reading {
		switch n.place {
		case inWrite, inChange, inUpdate, inTruncate, inSchema, inRest:
			return
		}
	}
	if _, ok := r.why[n]; ok {
		return
	}
	r.why[n] = why
	r.queue = append(r.queue, n)
}

// unnamed follows n to what has no edge: bodies that have its name, and statements that need not name it.
func (r *run) unnamed(n node, cause string) {
	g := r.g
	switch n.place {
	case inFunction:
		if f, ok := g.functions[n.oid]; ok {
			r.mentioned(g.mentions[f.name], cause, false)
		} else if b, ok := g.builtins[n.oid]; ok && r.reading { // for the session, body.go knows them
			r.mentioned(g.calls[b.name], cause, false)
		}
	case inRead, inWrite:
		if rel, ok := g.relations[n.oid]; ok {
			r.mentioned(g.mentions[rel.name], cause, n.place == inWrite)
		}
	case inOperator:
		o, ok := g.operators[n.oid]
		if !r.reading || !ok || implied(o.name) {
			r.mark(node{place: inAll}, cause)
		} else {
			r.mentioned(g.spelling(o.name), cause, false)
		}
	case inRest:
		r.mark(node{place: inAll}, r.why[n])
	}
}

// mentioned marks functions whose body has the name of a cause.
func (r *run) mentioned(list []*function, cause string, onlyWriters bool) {
	for _, f := range list {
		if !onlyWriters || f.facts.writes {
			r.mark(node{inFunction, f.oid}, cause)
		}
	}
}

// immutable says whether n is a call of an immutable function of the database, the only kind that the planner evaluates in
// constraints and index expressions (contain_mutable_functions in src/backend/optimizer/util/plancat.c).
func (r *run) immutable(n node) bool {
	f, ok := r.g.functions[n.oid]
	return ok && n.place == inFunction && f.volatility == 'i'
}

// cause names n as the reason of what it makes risky.
func (r *run) cause(n node) string {
	g := r.g
	switch n.place {
	case inFunction:
		if f, ok := g.functions[n.oid]; ok {
			return "calls " + f.schema + "." + f.name + "()"
		}
		if b, ok := g.builtins[n.oid]; ok {
			return "calls " + b.name + "()"
		}
	case inRead, inWrite, inChange, inUpdate, inTruncate:
		if rel, ok := g.relations[n.oid]; ok {
			return "uses " + rel.schema + "." + rel.name
		}
	case inOperator:
		if o, ok := g.operators[n.oid]; ok {
			return "uses operator " + o.schema + "." + o.name
		}
	case inSchema:
		return "changes the catalog, " + r.why[n]
	}
	return r.why[n]
}

// implied says whether the grammar or the planner may use an operator of this name without the statement having it: IN, CASE x WHEN, USING,
// NULLIF, DISTINCT, ORDER BY, BETWEEN, LIKE, ILIKE and SIMILAR TO.
func implied(operator string) bool {
	switch operator {
	case "=", "<>", "<", "<=", ">", ">=", "~", "!~", "~~", "!~~", "~~*", "!~~*":
		return true
	}
	return false
}
