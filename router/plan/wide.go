package plan

import (
	"cmp"
	"slices"

	"pgtier/parser"
	"pgtier/proxy/merge"
)

// wide is how a statement goes to several shards.
type wide struct {
	kind   Kind
	reason string
	target target
	// roots are those of its layout.
	roots []*node
	// same: each shard gives the whole answer.
	same bool
	// spec makes one answer of the shards'; nil: a plain union. columns is how many columns they must have then.
	spec    *merge.Spec
	columns int
	edits   []edit
	limit   *limit
	// constants are the values of spec.Constants.
	constants []value
	// numbers are the values of LIMIT and OFFSET that spec needs, nil for none.
	count, offset *value
	// final makes the answer of what spec has made; nil: that is the answer.
	final *Final
}

// edit replaces tokens by words and by other tokens of the text.
type edit struct {
	span  parser.Span
	parts []piece
}

// piece is a word, or tokens of the text.
type piece struct {
	text string
	span parser.Span
}

// widen finds how the statement goes to several shards, if it does.
func (w *work) widen() {
	wide, r := w.several()
	if r == nil && wide != nil && w.explain && wide.kind == Spread {
		wide.reason += "; each shard explains its part"
	}
	w.wide, w.narrow = wide, r
}

// several is how the statement goes to several shards, or why not.
func (w *work) several() (*wide, *Refusal) {
	if why := w.differs(false); why != "" {
		return nil, refuse(why+", in a statement over rows of several shards", "Send its value as a parameter, or compare the sharding key with a value.")
	}
	if w.has(placeHome) || w.homeBehind {
		return nil, refuse("tables of the home shard together with rows of several shards", hintKey)
	}
	l := layer{w}
	switch w.command.Kind {
	case parser.Declare:
		return nil, refuse("cursor over rows of several shards", "Ask for the rows without a cursor, or compare the sharding key with a value.")
	case parser.Update, parser.Delete:
		return w.spreadWrite(l)
	case parser.Merge:
		return nil, refuse("MERGE over rows of several shards", hintKey)
	case parser.Select, parser.Copy:
		return w.scatter(l)
	}
	return nil, refuse(upper(w.command.Kind)+" over rows of several shards", hintKey)
}

// spreadWrite is how UPDATE and DELETE go to several shards: each changes its own rows.
func (w *work) spreadWrite(l layer) (*wide, *Refusal) {
	out, r := l.rows(w.root)
	if r != nil {
		return nil, r
	}
	if why := cmp.Or(w.defaulted(false), w.triggersTellTime()); why != "" {
		return nil, refuse(upper(w.command.Kind)+" over rows of several shards with "+why, "Give it its value, as a parameter for example, or compare the sharding key with a value.")
	}
	if out.constant || len(w.bind.targets) != 1 {
		return nil, refuse(upper(w.command.Kind)+" over rows of several shards", hintKey)
	}
	return &wide{kind: Spread, reason: "each shard its own rows", target: out.target, roots: out.roots}, nil
}

// scatter is how a query goes to several shards.
func (w *work) scatter(l layer) (*wide, *Refusal) {
	q := w.root
	m := &mingler{layer: l, q: q, wide: &wide{kind: Scatter}}
	if q.left != nil {
		r := m.set()
		w.places = m.places
		if r == nil && !m.wide.same {
			r = q.unsorted()
		}
		return m.wide, r
	}
	out, r := l.rows(q)
	if r != nil {
		return nil, r
	}
	if out.constant { // every shard has all of its rows
		return &wide{kind: Scatter, reason: "only tables that every shard has", same: true}, nil
	}
	m.out, m.wide.target, m.wide.roots = out, out.target, out.roots
	if r = q.unsorted(); r == nil {
		r = m.plain()
	}
	w.places = m.places
	return m.wide, r
}

// widely is the plan for several shards, with the values at hand.
func (p *Statement) widely(r *reader, touches Touches) Plan {
	w := p.wide
	if p.narrow != nil || w == nil {
		return p.refused(p.narrow)
	}
	if w.same {
		plan := p.one(p.schema.config.Home, Touches{})
		plan.Reason = w.reason
		return plan
	}
	shards := w.target.shards(r)
	switch shards.len() {
	case 0:
		plan := p.one(p.schema.config.Home, touches)
		plan.Reason = "no row can match"
		return plan
	case 1:
		return p.one(shards.first(), touches)
	}
	if clockValue(r.values) {
		return p.refused(refuseClock())
	}
	plan := Plan{Kind: w.kind, Shard: -1, Shards: p.schema.list, Reason: w.reason, Write: p.write, Explain: p.explain, Columns: w.columns, Copy: p.copy,
		Touches: touches}
	if shards != p.schema.all {
		plan.Shards = shards.list()
	}
	if w.spec != nil {
		spec := *w.spec
		if refusal := w.fill(&spec, r); refusal != nil {
			return p.refused(refusal)
		}
		plan.Merge = &spec
	}
	if len(w.edits) > 0 || w.limit != nil {
		plan.Parts, plan.Untyped = &Parts{edits: w.edits, limit: w.limit}, p.untyped(r.values)
	}
	if len(p.places) > 0 {
		literals, _ := (&variants{places: p.places}).literals(r.values.SQL, nil)
		plan.Variant = string(literals)
	}
	if w.final != nil {
		plan.Final, plan.Untyped = w.final, untypedIn(r.values)
	}
	if p.explain {
		plan.Merge, plan.Final = nil, nil
	}
	return p.owned(plan)
}

// fill puts the values at hand into a merge.
func (w *wide) fill(spec *merge.Spec, r *reader) *Refusal {
	for _, n := range []struct {
		from *value
		to   *int64
	}{{w.count, &spec.Limit}, {w.offset, &spec.Offset}} {
		if n.from == nil {
			continue
		}
		number, null, ok := r.number(n.from)
		if !ok {
			return refuse("LIMIT or OFFSET that is no plain number, over rows of several shards", "Give it as an integer or a parameter of type bigint.")
		}
		*n.to = number
		if n.to == &spec.Limit {
			spec.Limited = !null
		}
	}
	if len(w.constants) > 0 {
		spec.Constants = slices.Clone(spec.Constants)
		for i := range w.constants {
			if !r.constant(&w.constants[i], &spec.Constants[i]) {
				return refuse("HAVING with a constant that is not read here, over rows of several shards", "Declare the parameter's type, or use one of its own in HAVING.")
			}
		}
	}
	return nil
}
