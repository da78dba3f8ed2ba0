package plan

import (
	"math"
	"slices"
	"strconv"

	"pgtier/parser"
	"pgtier/router/catalog"
	"pgtier/router/shard"
)

// maxQueries bounds the queries that a statement may have once its WITH queries stand where they are named: two names in each of
// twenty would make a million.
const maxQueries = 200

// binder resolves the names of a statement.
type binder struct {
	schema  *Schema
	changed bool
	// outside are the scopes that WITH queries stand in.
	outside map[*parser.With]*scope
	named   map[*parser.With]bool
	open    []*parser.With // those being bound
	numbers int
	queries int
	// uses are all tables read, and targets those written.
	uses    []*node
	targets []*node
	// inserted are the targets of INSERT.
	inserted map[*node]bool
	// slotOf are the types that places of parameters ask for, where they are known.
	slotOf map[*parser.Expr]uint32
	// literals are those of the text.
	literals []parser.Literal
	refusal  *Refusal
}

func newBinder(s *Schema, sql []byte, changed bool) *binder {
	literals, _ := parser.Literals(sql, nil)
	return &binder{literals: literals, schema: s, changed: changed, outside: map[*parser.With]*scope{}, named: map[*parser.With]bool{}, inserted: map[*node]bool{}, slotOf: map[*parser.Expr]uint32{}}
}

func (b *binder) fail(r *Refusal) {
	if b.refusal == nil {
		b.refusal = r
	}
}

// query binds a query whose outer queries' names are in outer.
func (b *binder) query(tree *parser.Query, outer *scope) *query {
	b.queries++
	q := &query{tree: tree, first: b.numbers, scope: &scope{outer: outer}, shadowed: b.schema.catalog.ShadowsEqual()}
	q.scope.query = q
	defer func() { q.last = b.numbers }()
	if b.queries > maxQueries {
		b.fail(refuse("statement with more than 200 queries, counting WITH queries where they are named", "Write it in several."))
		q.open = true
		return q
	}
	for _, w := range tree.With {
		b.outside[w] = outer
		if w.Query.Kind != parser.Select {
			b.named[w] = true
			q.with = append(q.with, b.query(w.Query, outer))
		}
	}
	switch {
	case tree.Set != parser.SetNone:
		q.left, q.right = b.query(tree.Left, outer), b.query(tree.Right, outer)
		b.setOutputs(q)
	default:
		b.plain(q, outer)
	}
	for _, w := range tree.With {
		if !b.named[w] {
			q.with = append(q.with, b.query(w.Query, outer))
		}
	}
	return q
}

// plain binds a query that is no set operation.
func (b *binder) plain(q *query, outer *scope) {
	if q.tree.Kind == parser.Insert {
		n := b.table(q.tree.Target)
		b.targets = append(b.targets, n)
		b.inserted[n] = true
		q.target = n
		q.scope.items = n.items
		if q.tree.Source != nil {
			q.source = b.query(q.tree.Source, outer)
		}
	}
	for _, s := range q.tree.From {
		n := b.source(q, s, outer, q.scope.items)
		if s == q.tree.Target {
			b.targets = append(b.targets, n)
			q.target = n
		} else {
			b.read(n)
		}
		q.from = append(q.from, n)
		q.scope.items = append(slices.Clone(q.scope.items), n.items...)
	}
	q.tree.Exprs(func(e *parser.Expr) { b.sub(q, e, q.scope, nil) })
	b.slots(q)
	q.aggregates = q.aggregates || q.tree.Having != nil
	q.tree.Exprs(func(e *parser.Expr) {
		if b.aggregate(e) {
			b.aggregated(q, e)
		}
	})
	b.outputs(q)
}

// aggregate says whether a call may be one of an aggregate.
func (b *binder) aggregate(e *parser.Expr) bool {
	if e.Kind != parser.ExprCall || e.Over != nil {
		return false
	}
	f, known := b.schema.catalog.Function(e.Schema, e.Name, len(e.Args))
	return f.Aggregate || !known && b.changed || parser.IsAggregate(e.Name) || e.Filter != nil || e.Distinct || e.Ordered
}

// aggregated notes which queries an aggregate in an expression of q may belong to: q, unless all columns of its arguments are outer ones.
func (b *binder) aggregated(q *query, call *parser.Expr) {
	columns, local := 0, false
	for _, arg := range append(slices.Clone(call.Args), call.Filter) {
		arg.Walk(func(e *parser.Expr) bool {
			if e.Kind == parser.ExprColumn || e.Kind == parser.ExprStar || e.Kind == parser.ExprSubquery {
				columns++
				_, certain := (&scope{items: q.scope.items}).column(e)
				local = local || certain
			}
			return true
		})
	}
	q.aggregates = true
	for s := q.scope.outer; s != nil && columns > 0 && !local; s = s.outer {
		if s.query != nil {
			s.query.aggregates, s.query.borrowed = true, true
		}
	}
}

// read notes the tables of an item of FROM.
func (b *binder) read(n *node) {
	if n == nil {
		return
	}
	if n.table != nil {
		b.uses = append(b.uses, n)
	}
	b.read(n.left)
	b.read(n.right)
}

// sub binds a sub-select that has not been bound yet.
func (b *binder) sub(q *query, e *parser.Expr, s *scope, on *node) {
	if e.Query != nil && q.subOf(e) == nil {
		q.subs = append(q.subs, &sub{expr: e, query: b.query(e.Query, s), scope: s, on: on})
	}
}

// source binds an item of FROM. before are the items that stand before it, for LATERAL.
func (b *binder) source(q *query, s *parser.Source, outer *scope, before []*item) *node {
	inside := outer
	if s.Lateral || s.Kind == parser.SourceFunction {
		inside = &scope{outer: outer, items: before}
	}
	switch s.Kind {
	case parser.SourceTable:
		return b.table(s)
	case parser.SourceWith:
		return b.with(s)
	case parser.SourceQuery:
		return b.derived(s, b.query(s.Query, inside))
	case parser.SourceJoin:
		return b.join(q, s, outer, before)
	}
	n := &node{source: s, items: []*item{{alias: s.Alias, open: true}}}
	for _, e := range append(slices.Clone(s.Calls), s.Args...) {
		e.Walk(func(e *parser.Expr) bool {
			b.sub(q, e, inside, nil)
			return true
		})
	}
	return n
}

// table binds the use of a table.
func (b *binder) table(s *parser.Source) *node {
	n := &node{source: s, table: b.schema.lookup(s.Schema, s.Name, b.changed)}
	i := &item{alias: s.Alias, open: n.table.relation == nil}
	if r := n.table.relation; r != nil {
		if !s.Aliased {
			i.schema = r.Schema
		}
		for c := range r.Columns {
			v := b.variable(r.Name+"."+r.Columns[c].Name, columnFamily(&r.Columns[c]))
			v.column = &r.Columns[c]
			i.columns = append(i.columns, column{name: r.Columns[c].Name, variable: v})
		}
	}
	rename(i, s)
	n.columns, n.items = i.columns, []*item{i}
	return n
}

func (b *binder) variable(name string, f family) *variable {
	b.numbers++
	return &variable{number: b.numbers - 1, name: name, family: f}
}

// rename gives the first columns of an item the names that the alias has for them.
func rename(i *item, s *parser.Source) {
	if len(s.Columns) == 0 {
		return
	}
	i.columns = slices.Clone(i.columns)
	for c := range i.columns {
		if c < len(s.Columns) {
			i.columns[c].name, i.columns[c].maybe = s.Columns[c], ""
		}
	}
	if len(s.Columns) > len(i.columns) {
		i.open = true
	}
}

// with binds the use of a WITH query, as if it stood there.
func (b *binder) with(s *parser.Source) *node {
	w := s.With
	b.named[w] = true
	if w.Query == nil || w.Query.Kind != parser.Select || slices.Contains(b.open, w) {
		return &node{source: s, items: []*item{{alias: s.Alias, open: true}}}
	}
	b.open = append(b.open, w)
	inner := b.query(w.Query, b.outside[w])
	b.open = b.open[:len(b.open)-1]
	inner.recursive = w.Recursive
	if len(w.Columns) > 0 {
		inner.outputs = slices.Clone(inner.outputs)
		for i := range min(len(w.Columns), len(inner.outputs)) {
			inner.outputs[i].name, inner.outputs[i].maybe = w.Columns[i], ""
		}
	}
	return b.derived(s, inner)
}

// derived binds a sub-select in FROM. Its columns are variables of their own, linked to those inside by flow.
func (b *binder) derived(s *parser.Source, inner *query) *node {
	n := &node{source: s, inner: inner}
	i := &item{alias: s.Alias, open: inner.open}
	for _, o := range inner.outputs {
		c := column{name: o.name, maybe: o.maybe}
		if o.variable != nil {
			c.variable = b.variable(o.variable.name, o.variable.family)
			c.variable.column = o.variable.column
		}
		i.columns = append(i.columns, c)
	}
	rename(i, s)
	n.columns, n.items = i.columns, []*item{i}
	return n
}

// outputs names the columns of a query's answer.
func (b *binder) outputs(q *query) {
	if len(q.tree.Rows) > 0 && q.tree.Kind == parser.Select {
		b.rows(q)
		return
	}
	for _, o := range q.tree.Outputs {
		switch o.Expr.Kind {
		case parser.ExprStar:
			b.star(q, o.Expr)
		case parser.ExprColumn:
			c, _ := q.scope.column(o.Expr)
			name := o.Expr.Name
			if o.Name != "" {
				name = o.Name
			}
			q.outputs = append(q.outputs, column{name: name, variable: c.variable})
		default:
			name, maybe := outputNames(o)
			if v := q.collated(o.Expr); v != nil {
				q.outputs = append(q.outputs, column{name: name, maybe: maybe, variable: v})
				continue
			}
			q.outputs = append(q.outputs, column{name: name, maybe: maybe, variable: b.constants(q, name, []*parser.Expr{o.Expr})})
		}
	}
}

// rows names the columns of VALUES.
func (b *binder) rows(q *query) {
	for i := range q.tree.Rows[0].Values {
		var list []*parser.Expr
		for _, r := range q.tree.Rows {
			if i < len(r.Values) {
				list = append(list, r.Values[i])
			}
		}
		name := "column" + strconv.Itoa(i+1)
		q.outputs = append(q.outputs, column{name: name, variable: b.constants(q, name, list)})
	}
}

// constants makes a variable of an output that has one of these constants in each row; nil if their type is not known.
func (b *binder) constants(q *query, name string, list []*parser.Expr) *variable {
	found := &values{given: true}
	kind := uint32(0)
	for _, e := range list {
		k, ok := constantOf(e)
		if !ok || k.Null {
			return nil
		}
		t := k.cast
		if n, err := strconv.ParseInt(k.Text, 10, 32); t == 0 && k.Kind == parser.ValueConstant && k.Literal >= 0 && !b.quoted(k.Literal) && err == nil && n >= -math.MaxInt32 {
			t = int4Type // all texts of the template have an integer of four bytes there
		}
		if t == 0 || kind != 0 && kind != t {
			return nil
		}
		kind, k.inferred = t, t
		found.list = append(found.list, k)
	}
	v := b.variable(name, familyOf(kind))
	v.column = &catalog.Column{Name: name, Type: kind, Typmod: -1}
	if v.family == familyText { // the collation is the database's
		v.column.Collation = b.schema.catalog.DefaultCollation()
	}
	q.constants = append(q.constants, fact{a: v, values: found})
	return v
}

// quoted says whether a literal stands in quotes.
func (b *binder) quoted(literal int) bool {
	return literal >= len(b.literals) || b.literals[literal].Kind != parser.LiteralInteger
}

// star adds the columns that * or t.* stands for.
func (b *binder) star(q *query, e *parser.Expr) {
	if len(e.Qualifier) == 0 {
		for _, i := range q.scope.items {
			q.open = q.open || i.open
			for _, c := range i.columns {
				if !c.merged {
					q.outputs = append(q.outputs, c)
				}
			}
		}
		return
	}
	var found []*item
	for _, i := range q.scope.items {
		if !i.joined && i.alias == e.Qualifier[len(e.Qualifier)-1] && len(e.Qualifier) <= 2 && (len(e.Qualifier) == 1 || i.schema == e.Qualifier[0]) {
			found = append(found, i)
		}
	}
	if len(found) != 1 || found[0].open {
		q.open = true
		return
	}
	for _, c := range found[0].columns {
		q.outputs = append(q.outputs, column{name: c.name, maybe: c.maybe, variable: c.variable})
	}
}

// setOutputs names the columns of a set operation's answer: those of the left side, of a type that both sides have.
func (b *binder) setOutputs(q *query) {
	q.open = q.left.open || q.right.open || len(q.left.outputs) != len(q.right.outputs)
	for i, l := range q.left.outputs {
		c := column{name: l.name, maybe: l.maybe}
		if !q.open && l.variable != nil && q.right.outputs[i].variable != nil {
			r := q.right.outputs[i].variable
			if l.variable.family == r.family && r.family != familyNone {
				c.variable = b.variable(l.variable.name, r.family)
				c.variable.column = common(l.variable.column, r.column)
			}
		}
		q.outputs = append(q.outputs, c)
	}
}

// common is the column of a set operation whose sides have a and b, both of one family: what is not the same of both is not known of it.
func common(a, b *catalog.Column) *catalog.Column {
	if a.Type == b.Type && a.Typmod == b.Typmod && a.Collation == b.Collation {
		return a
	}
	c := *a
	if a.Type != b.Type {
		c.Type = wider(a.Type, b.Type)
	}
	if a.Type != b.Type || a.Typmod != b.Typmod {
		c.Typmod = noTypmod
	}
	if a.Collation != b.Collation { // which of both the server takes depends on where each comes from
		c.Collation = catalog.CollationOther
	}
	return &c
}

// wider is the type that the server gives to values of two types of one family.
func wider(a, b uint32) uint32 {
	order := []shard.Type{shard.Int2, shard.Int4, shard.Int8, shard.Varchar, shard.Text}
	if slices.Index(order, shard.Type(a)) < slices.Index(order, shard.Type(b)) {
		return b
	}
	return a
}
