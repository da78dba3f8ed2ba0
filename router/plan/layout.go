package plan

import (
	"slices"

	"pgtier/parser"
)

// layout is how the rows of a part of a statement lie on the shards when each shard computes it with its own rows.
type layout struct {
	// constant: every shard has them all. Otherwise they are those of all shards together, none twice.
	constant bool
	// keys are the lists of variables that a row's shard is that of, each as good as the others. There may be none.
	keys [][]*variable
	// target are the shards that may have any.
	target target
	// roots are the uses of tables by whose rows all others are found: where rows of these are left out by their keys, those with such keys are left out of the
	// answer, and no others.
	roots []*node
}

// target are the shards that rows may be on: those of a pin, or of all or one of its parts. The zero value is all shards.
type target struct {
	pin   *pin
	any   bool // of parts: rows may be where any of them says, else where all of them say
	parts []target
}

// shards are the shards of a target.
func (t *target) shards(r *reader) set {
	switch {
	case t.pin != nil:
		if found, ok := t.pin.shards(r); ok {
			return found
		}
		return r.schema.all
	case len(t.parts) == 0:
		return r.schema.all
	}
	var found set
	if !t.any {
		found = r.schema.all
	}
	for i := range t.parts {
		these := t.parts[i].shards(r)
		if t.any {
			found.union(&these)
		} else {
			found.intersect(&these)
		}
	}
	return found
}

// layer finds how a statement's parts lie.
type layer struct{ *work }

// node finds how the rows of an item of FROM lie.
func (l *layer) node(q *query, n *node) (layout, *Refusal) {
	switch {
	case n.table != nil:
		return l.table(n)
	case n.inner != nil:
		return l.derived(n)
	case n.left != nil:
		return l.join(q, n)
	case n.source.Kind == parser.SourceFunction:
		return layout{constant: true}, nil
	case n.source.Kind == parser.SourceWith:
		return layout{}, refuse("WITH query \""+n.source.Name+"\", which names itself or writes, across shards", hintKey)
	}
	return layout{}, refuse("item of FROM that is not known, across shards", hintKey)
}

func (l *layer) table(n *node) (layout, *Refusal) {
	t := n.table
	switch {
	case t.view:
		return layout{}, refuse("view \""+t.name+"\" together with rows of several shards", "Write its query in its place.")
	case t.place == placeReference:
		return layout{constant: true}, nil
	case t.sharded():
		key := make([]*variable, len(t.columns))
		for i, c := range t.columns {
			key[i] = n.columns[c].variable
		}
		out := layout{keys: [][]*variable{key}, roots: []*node{n}}
		if p, ok := pinOf(n); ok {
			out.target.pin = &p
		}
		return out, nil
	}
	return layout{}, refuse("table \""+t.name+"\" of the home shard together with rows of several shards", hintKey)
}

// derived finds how the rows of a sub-select in FROM lie, in terms of its columns.
func (l *layer) derived(n *node) (layout, *Refusal) {
	inner, r := l.query(n.inner)
	if r != nil {
		return inner, r
	}
	out := layout{constant: inner.constant, target: inner.target, roots: inner.roots}
	for _, key := range inner.keys {
		if at := n.inner.exposes(key); at != nil {
			exposed := make([]*variable, len(at))
			for i, column := range at {
				exposed[i] = n.columns[column].variable
			}
			if !slices.Contains(exposed, nil) {
				out.keys = append(out.keys, exposed)
			}
		}
	}
	return out, nil
}

// exposes finds the outputs that a key's variables are in, nil if one is in none.
func (q *query) exposes(key []*variable) (at []int) {
	for _, v := range key {
		i := slices.IndexFunc(q.outputs, func(c column) bool { return c.variable == v })
		if i < 0 {
			i = slices.IndexFunc(q.outputs, func(c column) bool { return q.facts.equates(c.variable, v) })
		}
		if i < 0 {
			return nil
		}
		at = append(at, i)
	}
	return at
}

// join finds how the rows of a join lie.
func (l *layer) join(q *query, n *node) (layout, *Refusal) {
	left, r := l.node(q, n.left)
	if r != nil {
		return left, r
	}
	if n.right.source.Lateral && n.right.inner != nil && l.spread1(n.right.inner) {
		return left, l.anchored(n.right.inner, left)
	}
	right, r := l.node(q, n.right)
	if r != nil {
		return right, r
	}
	switch n.source.Join {
	case parser.JoinInner:
		return l.inner(left, right, n.matched, n)
	case parser.JoinLeft:
		return l.outer(left, right, n)
	case parser.JoinRight:
		return l.outer(right, left, n)
	}
	return l.full(left, right, n)
}

// inner joins what lies in two ways, where facts hold for each pair of rows that matters.
func (l *layer) inner(left, right layout, f *facts, n *node) (layout, *Refusal) {
	switch {
	case left.constant:
		return right, nil
	case right.constant:
		return left, nil
	case !meet(left, right, f):
		return left, refuse("join of "+n.names()+" that are not joined by their keys", "Join them by equality of all columns of their sharding keys, or compare a key with a value.")
	}
	return layout{keys: append(slices.Clone(left.keys), right.keys...), target: target{parts: []target{left.target, right.target}}, roots: left.roots}, nil
}

// outer joins with all rows of kept.
func (l *layer) outer(kept, other layout, n *node) (layout, *Refusal) {
	switch {
	case other.constant:
		return kept, nil
	case kept.constant:
		return kept, refuse("outer join that keeps every row of a table that all shards have, beside "+n.names(), "Join from the sharded table, or compare its key with a value.")
	case !meet(kept, other, n.matched):
		return kept, refuse("outer join of "+n.names()+" that are not joined by their keys", "Join them by equality of all columns of their sharding keys in ON.")
	}
	return kept, nil
}

func (l *layer) full(left, right layout, n *node) (layout, *Refusal) {
	switch {
	case left.constant && right.constant:
		return left, nil
	case left.constant || right.constant:
		return left, refuse("full join with a table that all shards have, of "+n.names(), "Compare the sharded table's key with a value.")
	case !meet(left, right, n.matched):
		return left, refuse("full join of "+n.names()+" that are not joined by their keys", "Join them by equality of all columns of their sharding keys in ON.")
	}
	return layout{target: target{any: true, parts: []target{left.target, right.target}}, roots: append(slices.Clone(left.roots), right.roots...)}, nil
}

// meet says whether rows that are joined are on the same shard.
func meet(a, b layout, f *facts) bool {
	for _, x := range a.keys {
		for _, y := range b.keys {
			if sameShard(x, y, f) {
				return true
			}
		}
	}
	return false
}

// sameShard says whether two keys are equal.
func sameShard(a, b []*variable, f *facts) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !f.equates(a[i], b[i]) {
			return false
		}
	}
	return true
}

// names are the sharded tables of a join, for messages.
func (n *node) names() string {
	var list []string
	var add func(n *node)
	add = func(n *node) {
		switch {
		case n == nil:
		case n.table != nil && n.table.sharded():
			if name := n.table.relation.Name; !slices.Contains(list, name) {
				list = append(list, name)
			}
		case n.inner != nil:
			if n.source.Alias != "" && !slices.Contains(list, n.source.Alias) {
				list = append(list, n.source.Alias)
			}
		default:
			add(n.left)
			add(n.right)
		}
	}
	add(n)
	return enumerate(list)
}

// enumerate joins names by commas and "and".
func enumerate(list []string) string {
	text := ""
	for i, name := range list {
		switch {
		case i > 0 && i == len(list)-1:
			text += " and "
		case i > 0:
			text += ", "
		}
		text += name
	}
	if text == "" {
		return "rows of several shards"
	}
	return text
}

// items joins the items of q's FROM.
func (l *layer) items(q *query) (layout, *Refusal) {
	out := layout{constant: true}
	whole := &node{source: &parser.Source{}}
	for _, n := range q.from {
		if n.source.Lateral && n.inner != nil && l.spread1(n.inner) {
			if r := l.anchored(n.inner, out); r != nil {
				return out, r
			}
			continue
		}
		next, r := l.node(q, n)
		if r != nil {
			return next, r
		}
		whole = &node{source: whole.source, left: whole, right: n}
		if out, r = l.inner(out, next, q.facts, whole); r != nil {
			return out, r
		}
	}
	return out, nil
}

// spread1 says whether a sharded table is used in q, at any depth.
func (l *layer) spread1(q *query) bool {
	return slices.ContainsFunc(q.uses(), func(n *node) bool { return n.table.sharded() })
}

// uses are the uses of tables in q, at any depth, those of WITH queries that nothing names left out.
func (q *query) uses() (list []*node) {
	q.walk(func(q *query) {
		var add func(n *node)
		add = func(n *node) {
			if n == nil {
				return
			}
			if n.table != nil {
				list = append(list, n)
			}
			add(n.left)
			add(n.right)
		}
		for _, n := range q.from {
			add(n)
		}
	})
	return list
}

// anchored refuses a sub-select unless all rows that matter in it are on the shard of the outer row, so that it gives there what one server would.
func (l *layer) anchored(q *query, out layout) *Refusal {
	for _, n := range q.uses() {
		t := n.table
		switch {
		case t.view || t.place != placeReference && !t.sharded():
			return refuse("sub-select over \""+t.name+"\" together with rows of several shards", hintKey)
		case !t.sharded():
			continue
		}
		key := make([]*variable, len(t.columns))
		for i, c := range t.columns {
			key[i] = n.columns[c].variable
		}
		if !slices.ContainsFunc(out.keys, func(k []*variable) bool { return sameShard(key, k, n.facts) }) {
			return refuse("sub-select over sharded table "+t.relation.Name+" that is not tied to the outer row by the key",
				"Compare "+t.relation.Name+"'s key with that of the outer table inside the sub-select, or make it a join.")
		}
	}
	return l.unsteadyWith(q)
}

// unsteadyWith refuses WITH queries that write.
func (l *layer) unsteadyWith(q *query) (r *Refusal) {
	q.walk(func(q *query) {
		if q.tree.Kind != parser.Select {
			r = refuse("WITH query that writes, across shards", "Send it as a statement of its own.")
		}
	})
	return r
}

// subs judges the sub-selects in q's expressions, whose FROM lies as out.
func (l *layer) subs(q *query, out layout) *Refusal {
	for _, s := range q.subs {
		if r := l.sub(s, out); r != nil {
			return r
		}
	}
	return nil
}

func (l *layer) sub(s *sub, out layout) *Refusal {
	if !l.spread1(s.query) {
		for _, n := range s.query.uses() {
			if n.table.place != placeReference || n.table.view {
				return refuse("sub-select over \""+n.table.name+"\" together with rows of several shards", hintKey)
			}
		}
		if s.expr.Sub == parser.SubArray && !s.query.correlated() {
			return refuse("ARRAY(SELECT …) over reference tables, whose order is another on each shard", "Send it as a statement of its own.")
		}
		return l.steady(s.query)
	}
	switch {
	case out.constant:
		return refuse("sub-select over sharded table "+s.query.sharded()+" outside of rows of its shards", "Make it a join, or send it as a statement of its own.")
	case s.on != nil && s.on.outer():
		return refuse("sub-select over sharded table "+s.query.sharded()+" in ON of an outer join", "Put it into WHERE, or send it as a statement of its own.")
	}
	return l.anchored(s.query, out)
}

// sharded names the first sharded table in q, for messages.
func (q *query) sharded() string {
	for _, n := range q.uses() {
		if n.table.sharded() {
			return n.table.relation.Name
		}
	}
	return ""
}

// firmAggregates give the same whatever the order of the rows.
var firmAggregates = []string{"count", "min", "max", "bool_and", "bool_or", "every", "bit_and", "bit_or", "bit_xor", "sum", "avg"}

// steady refuses a query over reference tables alone that may give other rows on each shard, because their order is another there.
func (l *layer) steady(q *query) (r *Refusal) {
	q.walk(func(in *query) {
		t := in.tree
		switch {
		case in.recursive || t.Kind != parser.Select:
			r = refuse("WITH query that names itself or writes, across shards", hintKey)
		case (bounded(t) || t.DistinctOn != nil) && !in.correlated():
			r = refuse("LIMIT or DISTINCT ON in a sub-select over reference tables, which may choose other rows on each shard", hintKey)
		}
		t.Exprs(func(e *parser.Expr) {
			switch {
			case e.Kind == parser.ExprCall && e.Over != nil:
				r = refuse("window function "+e.Name+"() over reference tables together with rows of several shards", hintKey)
			case e.Kind == parser.ExprCall && l.bind.aggregate(e) && (!slices.Contains(firmAggregates, e.Name) || !in.exactSum(e)):
				r = refuse("aggregate "+e.Name+"() over reference tables, whose order is another on each shard", hintKey)
			}
		})
	})
	return r
}

// exactSum says whether a sum does not depend on the order of its rows: it is none of floats.
func (q *query) exactSum(e *parser.Expr) bool {
	return e.Name != "sum" && e.Name != "avg" || len(e.Args) == 1 && q.arithmetic(e.Args[0]) == exact
}

// correlated says whether q names columns of an outer query, so that it is computed anew for each of its rows.
func (q *query) correlated() (found bool) {
	q.tree.Exprs(func(e *parser.Expr) {
		if e.Kind == parser.ExprColumn {
			v := q.scope.resolve(e)
			found = found || v != nil && !q.inside(v)
		}
	})
	return found
}
