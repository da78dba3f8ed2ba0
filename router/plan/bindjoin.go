package plan

import (
	"slices"

	"pgtier/parser"
)

// join binds a join. Its sides' items stay what names mean, unless it has an alias of its own.
func (b *binder) join(q *query, s *parser.Source, outer *scope, before []*item) *node {
	n := &node{source: s}
	n.left = b.source(q, s.Left, outer, before)
	n.right = b.source(q, s.Right, outer, append(slices.Clone(before), n.left.items...))
	n.scope = &scope{outer: outer, items: append(slices.Clone(n.left.items), n.right.items...)}
	b.using(n)
	s.On.Walk(func(e *parser.Expr) bool {
		b.sub(q, e, n.scope, n)
		return true
	})
	if s.Aliased {
		n.items = []*item{{alias: s.Alias, open: true}}
	}
	return n
}

// using finds the columns of USING or NATURAL, and makes one of each pair.
func (b *binder) using(n *node) {
	left, right := n.left.items, n.right.items
	names := n.source.Using
	if n.source.Natural {
		if anyOpen(left) || anyOpen(right) {
			n.items = closed(left, right)
			return
		}
		names = shared(left, right)
	}
	if len(names) == 0 {
		n.items = append(slices.Clone(left), right...)
		return
	}
	joined := &item{joined: true}
	for _, name := range names {
		e := &parser.Expr{Kind: parser.ExprColumn, Name: name}
		l, r := (&scope{items: left}).resolve(e), (&scope{items: right}).resolve(e)
		c := column{name: name}
		switch n.source.Join {
		case parser.JoinInner, parser.JoinLeft:
			c.variable = l
		case parser.JoinRight:
			c.variable = r
		}
		joined.columns = append(joined.columns, c)
		if f, ok := equal(l, r); ok {
			n.equal = append(n.equal, f)
		}
	}
	n.items = append([]*item{joined}, append(without(left, names), without(right, names)...)...)
}

func anyOpen(items []*item) bool {
	vague := func(c column) bool { return c.maybe != "" }
	return slices.ContainsFunc(items, func(i *item) bool { return i.open || slices.ContainsFunc(i.columns, vague) })
}

// closed are items of which it is not known which columns are one: no unqualified name is certain.
func closed(left, right []*item) []*item {
	return append([]*item{{joined: true, open: true}}, append(hidden(left), hidden(right)...)...)
}

// hidden are copies of items whose columns are found by qualified names only.
func hidden(items []*item) []*item {
	return mapColumns(items, func(column) bool { return true })
}

// without are copies of items whose columns of these names are found by qualified names only.
func without(items []*item, names []string) []*item {
	return mapColumns(items, func(c column) bool { return slices.Contains(names, c.name) })
}

func mapColumns(items []*item, merged func(column) bool) (out []*item) {
	for _, i := range items {
		other := *i
		other.columns = slices.Clone(i.columns)
		for c := range other.columns {
			other.columns[c].merged = other.columns[c].merged || merged(other.columns[c])
		}
		out = append(out, &other)
	}
	return out
}

// shared are the names that both sides have, in the order of the left side.
func shared(left, right []*item) (names []string) {
	for _, i := range left {
		for _, c := range i.columns {
			e := &parser.Expr{Kind: parser.ExprColumn, Name: c.name}
			if _, ok := (&scope{items: right}).column(e); ok && !c.merged {
				names = append(names, c.name)
			}
		}
	}
	return names
}
