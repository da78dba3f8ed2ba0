package plan

import (
	"slices"
	"strconv"
	"strings"

	"pgtier/parser"
	"pgtier/proxy/merge"
	"pgtier/router/catalog"
)

// mingler makes a query's answer of those of several shards.
type mingler struct {
	layer
	q    *query
	out  layout
	wide *wide
	spec merge.Spec
	// extra are columns that the shards return behind the client's.
	extra        []extra
	hiddenValues []hiddenValue
	// places are the literals that the plan rests on: numbers of columns, and those in expressions that are one if they are equal.
	places []int
}

// extra is a column that the shards return behind the client's.
type extra struct {
	expr     *parser.Expr // what it is, nil for parts of an average
	variable *variable
	parts    []piece
}

// plain makes the answer of a query that is no set operation.
func (m *mingler) plain() *Refusal {
	t := m.q.tree
	if r := m.windows(m.q, m.out); r != nil {
		return r
	}
	switch {
	case t.WithTies:
		return refuse("FETCH … WITH TIES over rows of several shards", "Use LIMIT.")
	case t.GroupingSets:
		return refuse("GROUPING SETS, ROLLUP or CUBE over rows of several shards", hintKey)
	case t.Into:
		return refuse("SELECT INTO over rows of several shards", hintKey)
	}
	grouped := m.q.aggregates || len(t.Group) > 0
	if grouped && !m.q.groupedBy(m.out, m.groups()) {
		if t.Locks {
			return refuse("FOR UPDATE with aggregates", hintKey)
		}
		return m.aggregate()
	}
	if r := m.union(); r != nil {
		return r
	}
	m.finish()
	if t.Locks && (m.wide.spec != nil || m.wide.limit != nil || bounded(t)) {
		return refuse("FOR UPDATE of rows of several shards with ORDER BY, LIMIT or DISTINCT", "Leave them out, or compare the sharding key with a value.")
	}
	return nil
}

// groups are the expressions of GROUP BY, those of outputs where it has their number or their name.
func (m *mingler) groups() (list []*parser.Expr) {
	t := m.q.tree
	for _, e := range t.Group {
		if e.Kind == parser.ExprConstant && len(t.Outputs) == len(m.q.outputs) {
			if at, _, r := m.position(e); r == nil {
				e = t.Outputs[at].Expr
			}
		}
		list = append(list, e)
	}
	return list
}

// union makes the answer of rows, or of groups of rows of one shard each.
func (m *mingler) union() *Refusal {
	t := m.q.tree
	m.wide.reason = "rows of all shards"
	if t.Distinct {
		if r := m.distinct(); r != nil {
			return r
		}
	}
	for _, s := range t.Order {
		k, r := m.sortKey(s)
		if r != nil {
			return r
		}
		m.spec.Sort = append(m.spec.Sort, k)
	}
	return m.limit()
}

// distinct has equal rows of different shards given once.
func (m *mingler) distinct() *Refusal {
	t := m.q.tree
	if t.DistinctOn != nil {
		if m.q.distinctOnBy(m.out) {
			return nil
		}
		for _, e := range t.DistinctOn {
			k, r := m.sortKey(&parser.Sort{Expr: e})
			if r != nil {
				return r
			}
			m.spec.Distinct = append(m.spec.Distinct, k)
		}
		return nil
	}
	if m.q.returns(m.out) {
		return nil
	}
	return m.allColumns()
}

// allColumns has rows differ in all columns of the answer.
func (m *mingler) allColumns() *Refusal {
	if m.q.open {
		return refuse("DISTINCT over columns that are not known, of rows of several shards", "Name the columns.")
	}
	for i, c := range m.q.outputs {
		m.spec.Distinct = append(m.spec.Distinct, merge.Key{Column: i, Collation: m.equality(c.variable)})
	}
	return nil
}

// sortKey is one key of the order that rows come in, or of DISTINCT ON.
func (m *mingler) sortKey(s *parser.Sort) (merge.Key, *Refusal) {
	if s.Using {
		return merge.Key{}, refuse("ORDER BY … USING over rows of several shards", "Use ASC or DESC.")
	}
	at, v, r := m.place(s.Expr)
	if r != nil {
		return merge.Key{}, r
	}
	k := merge.Key{Column: m.compared(at, v), Desc: s.Desc, NullsFirst: s.NullsFirst, Collation: m.order(v)}
	if v != nil && v.column != nil && v.column.Collation != catalog.CollationNone && v.column.Collation != catalog.CollationBytes {
		return k, refuse("ORDER BY "+v.name+" over rows of several shards, whose collation only the servers know",
			"Sort by the column COLLATE \"C\", or compare the sharding key with a value.")
	}
	return k, nil
}

// place finds the shards' column that an item of ORDER BY means, and adds it if there is none.
func (m *mingler) place(e *parser.Expr) (at int, v *variable, r *Refusal) {
	if e.Kind == parser.ExprConstant {
		return m.position(e)
	}
	if e.Kind == parser.ExprColumn && len(e.Qualifier) == 0 && !m.q.open {
		if slices.ContainsFunc(m.q.outputs, func(c column) bool { return c.vague(e.Name) }) {
			return 0, nil, refuse("ORDER BY "+e.Name+", which may be the name of several columns, over rows of several shards", "Name the columns with AS.")
		}
		if i := slices.IndexFunc(m.q.outputs, func(c column) bool { return c.name == e.Name }); i >= 0 {
			return i, m.q.outputs[i].variable, nil
		}
	}
	return m.computed(e)
}

// position is the column that an integer in ORDER BY or GROUP BY means.
func (m *mingler) position(e *parser.Expr) (at int, v *variable, r *Refusal) {
	if e.Value.Literal >= 0 {
		m.rests(e.Value.Literal)
	}
	n, err := strconv.Atoi(e.Value.Text)
	if err != nil || m.q.open || n < 1 || n > len(m.q.outputs) {
		return 0, nil, refuse("ORDER BY or GROUP BY of a constant that is no column's number, over rows of several shards", "Name the column.")
	}
	return n - 1, m.q.outputs[n-1].variable, nil
}

// computed finds the shards' column of an expression over the columns of FROM, and adds it if there is none.
func (m *mingler) computed(e *parser.Expr) (at int, v *variable, r *Refusal) {
	v = m.q.variable(e)
	if m.q.open {
		return 0, v, refuse("ORDER BY over columns that are not known, of rows of several shards", "Name the columns.")
	}
	for i, c := range m.q.outputs {
		if v != nil && c.variable == v {
			return i, v, nil
		}
	}
	if i := m.outputOf(e); i >= 0 {
		return i, v, nil
	}
	for i, x := range m.extra {
		if x.expr != nil && (v != nil && x.variable == v || m.same(x.expr, e)) {
			return len(m.q.outputs) + i, v, nil
		}
	}
	if m.q.tree.Distinct && m.q.tree.DistinctOn == nil && !m.spec.Aggregate { // groups have all that they are made by, so that none are equal
		return 0, v, refuse("ORDER BY of what SELECT DISTINCT does not return, over rows of several shards", "Add it to the select list.")
	}
	parts, ok := m.text(e)
	if !ok {
		return 0, v, refuse("ORDER BY or GROUP BY of an expression that is not in the select list, over rows of several shards", "Add it to the select list.")
	}
	return m.add(extra{expr: e, variable: v, parts: parts}), v, nil
}

// outputOf finds the output that is the same expression, -1 if there is none. With * among them they are not counted.
func (m *mingler) outputOf(e *parser.Expr) int {
	if len(m.q.tree.Outputs) != len(m.q.outputs) {
		return -1
	}
	return slices.IndexFunc(m.q.tree.Outputs, func(o *parser.Output) bool { return m.same(o.Expr, e) })
}

// add adds a column behind the client's, and returns its index.
func (m *mingler) add(x extra) int {
	m.extra = append(m.extra, x)
	return len(m.q.outputs) + len(m.extra) - 1
}

// text is an expression as SQL: a column, or a call or an item of GROUP BY or ORDER BY as the text has it.
func (m *mingler) text(e *parser.Expr) ([]piece, bool) {
	if m.q.tree.OutputsTokens == (parser.Span{}) {
		return nil, false
	}
	switch {
	case e.Kind == parser.ExprColumn:
		var name []string
		for _, part := range append(slices.Clone(e.Qualifier), e.Name) {
			name = append(name, quoteName(part))
		}
		return []piece{{text: strings.Join(name, ".")}}, true
	case e.Kind == parser.ExprCall && e.Tokens != parser.Span{}:
		return []piece{{span: e.Tokens}}, true
	}
	if span, ok := m.item(e); ok {
		return []piece{{text: "("}, {span: span}, {text: ")"}}, true
	}
	return nil, false
}

// order is how text of a variable sorts.
func (m *mingler) order(v *variable) merge.Collation {
	if v != nil && v.column != nil && v.column.Collation == catalog.CollationBytes {
		return merge.CollationBytes
	}
	return merge.CollationUnknown
}

// equality is how text of a variable, or of an expression, is equal.
func (m *mingler) equality(v *variable) merge.Collation {
	switch {
	case v != nil && v.column != nil && v.column.Collation == catalog.CollationBytes:
		return merge.CollationBytes
	case v != nil && v.column != nil && v.column.Collation == catalog.CollationNondeterministic:
		return merge.CollationUnknown
	case v != nil && v.column != nil && v.column.Collation == catalog.CollationOther, m.deterministic():
		return merge.CollationDeterministic
	}
	return merge.CollationUnknown
}

// deterministic says whether no text in the statement can be of a collation under which texts of different bytes are equal.
func (m *mingler) deterministic() bool {
	if m.schema.blurred {
		return false
	}
	sure := true
	m.tree.Walk(func(q *parser.Query) {
		q.Exprs(func(e *parser.Expr) {
			sure = sure && (e.Kind != parser.ExprCollate || bytewise(e)) && (e.Kind != parser.ExprCast || e.Schema == "pg_catalog" || castType(e.Schema, e.Name) != 0)
		})
	})
	return sure
}

// limit has the shards give the first rows that may be among the answer's.
func (m *mingler) limit() *Refusal {
	t := m.q.tree
	if !bounded(t) {
		return nil
	}
	if r := m.bounds(); r != nil {
		return r
	}
	if t.Offset == nil {
		return nil
	}
	span, ok := m.boundsTokens()
	if !ok {
		return refuse("OFFSET over rows of several shards in a text that cannot be changed", hintKey)
	}
	m.wide.limit = &limit{span: span, count: m.wide.count, offset: m.wide.offset}
	return nil
}

// bounds notes the values of LIMIT and OFFSET.
func (m *mingler) bounds() *Refusal {
	for _, b := range []struct {
		expr *parser.Expr
		to   **value
	}{{m.q.tree.Limit, &m.wide.count}, {m.q.tree.Offset, &m.wide.offset}} {
		if b.expr == nil {
			continue
		}
		k, ok := constantOf(b.expr)
		if !ok || k.cast != 0 && familyOf(k.cast) != familyInteger {
			return refuse("LIMIT or OFFSET that is computed, over rows of several shards", "Give it as a number or a parameter.")
		}
		*b.to = &k
	}
	return nil
}

// boundsTokens are the tokens of LIMIT and OFFSET; ok is false if they do not stand together.
func (m *mingler) boundsTokens() (parser.Span, bool) {
	l, o := m.q.tree.LimitTokens, m.q.tree.OffsetTokens
	switch none := (parser.Span{}); {
	case o == none || m.q.tree.Limit != nil && l == none:
		return none, false
	case l == none:
		return o, true
	case l.To == o.From:
		return parser.Span{From: l.From, To: o.To}, true
	case o.To == l.From:
		return parser.Span{From: o.From, To: l.To}, true
	}
	return parser.Span{}, false
}

// finish makes the plan of what was gathered.
func (m *mingler) finish() {
	if len(m.extra) > 0 {
		at := m.q.tree.OutputsTokens.To
		var parts []piece
		for i, x := range m.extra {
			parts = append(parts, piece{text: ","})
			parts = append(parts, x.parts...)
			parts = append(parts, piece{text: "AS pgtier_" + strconv.Itoa(i+1)})
		}
		m.wide.edits = append(m.wide.edits, edit{span: parser.Span{From: at, To: at}, parts: parts})
		if !m.spec.Aggregate {
			m.spec.Hidden = len(m.extra)
		}
	}
	if m.spec.Sort == nil && m.spec.Distinct == nil && !m.spec.Aggregate && m.wide.count == nil && m.wide.offset == nil {
		return
	}
	if !m.q.open {
		m.wide.columns = len(m.q.outputs) + len(m.extra)
	}
	m.wide.spec = &m.spec
	switch {
	case m.spec.Aggregate:
		m.wide.reason = "partial aggregates of all shards"
	case m.spec.Distinct != nil:
		m.wide.reason = "distinct rows of all shards"
	case m.spec.Sort != nil:
		m.wide.reason = "sorted rows of all shards"
	}
}

// set makes the answer of a set operation.
func (m *mingler) set() *Refusal {
	t := m.q.tree
	left, right, r := m.sides(m.q)
	if r != nil {
		return r
	}
	if left.constant { // and right: every shard has all of their rows
		m.wide.reason, m.wide.same = "only tables that every shard has", true
		return nil
	}
	m.wide.reason = "rows of all shards"
	m.wide.target = target{any: true, parts: []target{left.target, right.target}}
	m.wide.roots = append(slices.Clone(left.roots), right.roots...)
	if !t.All || t.Set != parser.SetUnion {
		inner := *m.q
		tree := *t
		tree.Limit, tree.Offset, tree.WithTies = nil, nil, false
		inner.tree = &tree
		_, r := m.layer.set(&inner)
		switch {
		case r == nil:
		case t.Set != parser.SetUnion || t.All:
			return r
		default:
			if r := m.allColumns(); r != nil {
				return r
			}
		}
	}
	if t.WithTies {
		return refuse("FETCH … WITH TIES over rows of several shards", "Use LIMIT.")
	}
	for _, s := range t.Order {
		k, r := m.sortKey(s)
		if r != nil {
			return r
		}
		m.spec.Sort = append(m.spec.Sort, k)
	}
	if r := m.limit(); r != nil {
		return r
	}
	m.finish()
	return nil
}
