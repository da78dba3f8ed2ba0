package plan

import (
	"slices"
	"strings"

	"pgtier/parser"
	"pgtier/proxy/merge"
	"pgtier/router/catalog"
)

// partials are the aggregates that the results of parts make one.
var partials = map[string]merge.Function{
	"count": merge.Count, "sum": merge.Sum, "avg": merge.Avg, "min": merge.Min, "max": merge.Max, "bool_and": merge.BoolAnd, "every": merge.BoolAnd,
	"bool_or": merge.BoolOr, "bit_and": merge.BitAnd, "bit_or": merge.BitOr, "bit_xor": merge.BitXor,
}

// aggregate makes the answer of groups whose rows are on several shards: each shard gives its part of every group. What cannot be done with the groups here
// is left to a server.
func (m *mingler) aggregate() *Refusal {
	if r := m.possible(); r != nil {
		return r
	}
	if m.merged() == nil {
		return nil
	}
	return m.finally()
}

// left is why a merge alone does not make an answer, of which nobody hears: a server computes what is left (finisher), or says why not.
var left = &Refusal{}

// merged makes the answer of the parts alone.
func (m *mingler) merged() *Refusal {
	t := m.q.tree
	m.spec.Aggregate = true
	for _, e := range t.Group {
		if r := m.group(e); r != nil {
			return r
		}
	}
	for i, o := range t.Outputs {
		v, r := m.value(o.Expr, i)
		if r != nil {
			return r
		}
		m.spec.Outputs = append(m.spec.Outputs, v)
	}
	m.beside()
	for _, s := range t.Order {
		k, r := m.groupOrder(s)
		if r != nil {
			return r
		}
		m.spec.Sort = append(m.spec.Sort, k)
	}
	if t.Having != nil {
		c, r := m.condition(t.Having)
		if r != nil {
			return r
		}
		m.spec.Having = c
	}
	m.spec.Hidden = len(m.spec.Outputs) - len(t.Outputs)
	if t.Distinct {
		for i := range t.Outputs {
			m.spec.Distinct = append(m.spec.Distinct, merge.Key{Column: i, Collation: m.equality(m.q.outputs[i].variable)})
		}
	}
	if r := m.bounds(); r != nil {
		return r
	}
	if len(t.Group) == 0 && !slices.ContainsFunc(m.spec.Outputs, func(o merge.Output) bool { return o.Function != merge.First }) {
		return left
	}
	m.finish()
	return m.strip()
}

// possible refuses what cannot be made of parts of groups.
func (m *mingler) possible() *Refusal {
	t := m.q.tree
	switch {
	case m.q.open || len(m.q.outputs) != len(t.Outputs):
		return refuse("aggregates beside columns that are not known, over rows of several shards", "Name the columns.")
	case t.DistinctOn != nil:
		return refuse("DISTINCT ON groups of rows of several shards", hintKey)
	case slices.ContainsFunc(m.q.subs, func(s *sub) bool { return m.spread1(s.query) && !m.q.inWhere(s) }):
		return refuse("sub-select over sharded tables beside aggregates over rows of several shards", "Group by the sharding key.")
	case m.q.borrowed:
		return refuse("aggregate inside a sub-select, over rows of several shards", "Make the sub-select a join.")
	case m.anyWindow():
		return refuse("window function over groups of rows of several shards", "Group by the sharding key.")
	}
	return nil
}

// inWhere says whether a sub-select stands in WHERE or ON, before groups are made.
func (q *query) inWhere(s *sub) bool {
	found := s.on != nil
	q.tree.Where.Walk(func(e *parser.Expr) bool {
		found = found || e == s.expr
		return true
	})
	return found
}

func (m *mingler) anyWindow() bool { return !m.q.windowsBy(func(*parser.Window) bool { return false }) }

// group adds a key by which rows are one group.
func (m *mingler) group(e *parser.Expr) *Refusal {
	var at int
	var r *Refusal
	v := m.q.variable(e)
	switch {
	case e.Kind == parser.ExprConstant:
		at, v, r = m.position(e)
	case e.Kind == parser.ExprColumn && v == nil && len(e.Qualifier) == 0:
		if at, v, r = m.alias(e); at < 0 {
			return refuse("GROUP BY "+e.Name+", which is not known well enough, over rows of several shards", "Write the table before the column's name.")
		}
	default:
		at, v, r = m.computed(e)
	}
	if r != nil {
		return r
	}
	if v != nil && v.column != nil && v.column.Collation == catalog.CollationNondeterministic {
		return refuse("GROUP BY "+v.name+" over rows of several shards, whose collation makes texts of different bytes equal", "Group by the column COLLATE \"C\".")
	}
	m.spec.Group = append(m.spec.Group, merge.Key{Column: m.compared(at, v), Collation: m.equality(v)})
	return nil
}

// alias finds the output that GROUP BY names, where no column of FROM has the name; -1 if that is not certain.
func (m *mingler) alias(e *parser.Expr) (at int, v *variable, r *Refusal) {
	if _, _, certain := (&scope{items: m.q.scope.items}).unqualified(e.Name); !certain {
		return -1, nil, nil
	}
	if slices.ContainsFunc(m.q.outputs, func(c column) bool { return c.vague(e.Name) }) {
		return -1, nil, nil
	}
	at = slices.IndexFunc(m.q.outputs, func(c column) bool { return c.name == e.Name })
	if at < 0 {
		return -1, nil, nil
	}
	return at, m.q.outputs[at].variable, nil
}

// value is how an output of the group is made of the shards' column at.
func (m *mingler) value(e *parser.Expr, at int) (merge.Output, *Refusal) {
	if !m.bind.aggregate(e) {
		if m.aggregatesInside(e) {
			return merge.Output{}, left
		}
		if m.setReturning(e) {
			return merge.Output{}, left
		}
		return merge.Output{Column: at}, nil
	}
	f, ok := partials[e.Name]
	facts, known := m.schema.catalog.Function(e.Schema, e.Name, len(e.Args))
	switch {
	case !ok || !known || facts.Foreign || e.Schema != "" && e.Schema != "pg_catalog":
		return merge.Output{}, refuse("aggregate "+e.Name+"() over groups of rows of several shards", "Group by the sharding key.")
	case e.Ordered || e.Variadic:
		return merge.Output{}, refuse("ORDER BY inside aggregate "+e.Name+"() over rows of several shards", "Leave it out.")
	case e.Distinct && !m.distinctKey(e) && f != merge.Min && f != merge.Max && f != merge.BoolAnd && f != merge.BoolOr:
		return merge.Output{}, refuse(e.Name+"(DISTINCT …) over rows of several shards", "Count distinct values of the sharding key, or group by it.")
	}
	out := merge.Output{Function: f, Column: at}
	if f == merge.Min || f == merge.Max {
		return m.extreme(e, out)
	}
	if f == merge.Avg {
		return m.average(e, out)
	}
	return out, nil
}

// extreme says how min and max of text compare.
func (m *mingler) extreme(e *parser.Expr, out merge.Output) (merge.Output, *Refusal) {
	if len(e.Args) != 1 {
		return out, refuse("aggregate "+e.Name+"() of several values", hintKey)
	}
	v := m.q.variable(e.Args[0])
	out.Collation = m.order(v)
	if v != nil && v.column != nil && v.column.Collation != catalog.CollationNone && v.column.Collation != catalog.CollationBytes {
		return out, refuse(e.Name+"("+v.name+") over rows of several shards, whose collation only the servers know", "Ask with "+e.Name+"("+v.name+" COLLATE \"C\"), or group by the sharding key.")
	}
	return out, nil
}

// distinctKey says whether an aggregate's DISTINCT values are those of a key, so that no two shards have the same.
func (m *mingler) distinctKey(e *parser.Expr) bool {
	if len(e.Args) != 1 {
		return false
	}
	v := m.q.scope.resolve(e.Args[0])
	return slices.ContainsFunc(m.out.keys, func(key []*variable) bool { return len(key) == 1 && m.q.facts.equates(v, key[0]) })
}

// aggregatesInside says whether an aggregate stands somewhere in an expression.
func (m *mingler) aggregatesInside(e *parser.Expr) (found bool) {
	e.Walk(func(e *parser.Expr) bool {
		found = found || m.bind.aggregate(e)
		return !found
	})
	return found
}

// average makes avg of the sums and counts of parts.
func (m *mingler) average(e *parser.Expr, out merge.Output) (merge.Output, *Refusal) {
	if len(e.Args) != 1 || e.Distinct || e.Tokens == (parser.Span{}) || e.NameTokens == (parser.Span{}) || e.ArgsTokens == (parser.Span{}) {
		return out, refuse("avg() over rows of several shards that cannot be taken apart", "Ask for sum() and count().")
	}
	kind := m.q.arithmetic(e.Args[0])
	if kind == unclear {
		return out, refuse("avg() of an expression whose type is not known, over rows of several shards", "Ask for sum() and count().")
	}
	rest := piece{span: parser.Span{From: e.ArgsTokens.To, To: e.Tokens.To}}
	of := func(name string, widen bool) []piece {
		parts := []piece{{text: "pg_catalog." + name + "("}, {span: e.ArgsTokens}}
		if widen {
			parts = []piece{{text: "pg_catalog." + name + "(("}, {span: e.ArgsTokens}, {text: ")::pg_catalog.float8"}}
		}
		return append(parts, rest)
	}
	out.Column = m.add(extra{parts: of("sum", kind == single)})
	out.Second = m.add(extra{parts: of("count", false)})
	return out, nil
}

// groupOrder is one key of the order of groups, by values of theirs.
func (m *mingler) groupOrder(s *parser.Sort) (merge.Key, *Refusal) {
	if s.Using {
		return merge.Key{}, left
	}
	if m.setReturning(s.Expr) {
		return merge.Key{}, left
	}
	var v *variable
	var at int
	var r *Refusal
	if m.aggregatesInside(s.Expr) {
		at, r = m.hidden(s.Expr)
	} else {
		at, v, r = m.place(s.Expr)
		if r == nil {
			at = m.compared(at, v)
		}
		if r == nil && at >= len(m.q.outputs) {
			at = m.pass(at)
		}
	}
	if r != nil {
		return merge.Key{}, r
	}
	if f := m.spec.Outputs[at]; f.Function == merge.Beside {
		at = f.Second
	}
	k := merge.Key{Column: at, Desc: s.Desc, NullsFirst: s.NullsFirst, Collation: m.order(v)}
	if v != nil && v.column != nil && v.column.Collation != catalog.CollationNone && v.column.Collation != catalog.CollationBytes {
		return k, left
	}
	if f := m.spec.Outputs[at]; f.Function == merge.Min || f.Function == merge.Max {
		k.Collation = f.Collation
	}
	return k, nil
}

// hidden finds the value of the group that an aggregate is, and adds it if there is none.
func (m *mingler) hidden(e *parser.Expr) (at int, r *Refusal) {
	for i, o := range m.q.tree.Outputs {
		if m.same(o.Expr, e) {
			return i, nil
		}
	}
	for _, h := range m.hiddenValues {
		if m.same(h.expr, e) {
			return h.at, nil
		}
	}
	parts, ok := m.text(e)
	if !ok || !m.bind.aggregate(e) {
		return 0, left
	}
	column := len(m.q.outputs) + slices.IndexFunc(m.extra, func(x extra) bool { return x.expr != nil && m.same(x.expr, e) })
	if column < len(m.q.outputs) {
		column = m.add(extra{expr: e, parts: parts})
	}
	v, r := m.value(e, column)
	if r != nil {
		return 0, r
	}
	m.spec.Outputs = append(m.spec.Outputs, v)
	m.hiddenValues = append(m.hiddenValues, hiddenValue{e, len(m.spec.Outputs) - 1})
	return len(m.spec.Outputs) - 1, nil
}

// hiddenValue is an aggregate that only HAVING and ORDER BY look at, and its index among the outputs.
type hiddenValue struct {
	expr *parser.Expr
	at   int
}

// pass makes a value of the group of a shards' column that is the same in all of it.
func (m *mingler) pass(column int) int {
	for i, o := range m.spec.Outputs {
		if o.Function == merge.First && o.Column == column {
			return i
		}
	}
	m.spec.Outputs = append(m.spec.Outputs, merge.Output{Column: column})
	return len(m.spec.Outputs) - 1
}

// strip takes from the shards' text what is done with whole groups: HAVING, ORDER BY, LIMIT and OFFSET.
func (m *mingler) strip() *Refusal {
	t := m.q.tree
	for _, c := range []struct {
		has  bool
		span parser.Span
		word string
	}{{t.Having != nil, t.HavingTokens, "HAVING"}, {t.Order != nil, t.OrderTokens, "ORDER BY"}, {t.Limit != nil, t.LimitTokens, "LIMIT"}, {t.Offset != nil, t.OffsetTokens, "OFFSET"}} {
		if !c.has {
			continue
		}
		if c.span == (parser.Span{}) {
			return refuse(c.word+" over rows of several shards in a text that cannot be changed", hintKey)
		}
		m.wide.edits = append(m.wide.edits, edit{span: c.span})
	}
	return nil
}

// comparisons are the operators of conditions.
var comparisons = map[string]merge.Operator{"=": merge.Equal, "<>": merge.NotEqual, "<": merge.Less, "<=": merge.LessOrEqual, ">": merge.Greater, ">=": merge.GreaterOrEqual}

// condition makes HAVING a condition over values of the group.
func (m *mingler) condition(e *parser.Expr) (*merge.Condition, *Refusal) {
	switch e.Kind {
	case parser.ExprAnd, parser.ExprOr, parser.ExprNot:
		c := &merge.Condition{Kind: map[parser.ExprKind]merge.ConditionKind{parser.ExprAnd: merge.And, parser.ExprOr: merge.Or, parser.ExprNot: merge.Not}[e.Kind]}
		for _, arg := range e.Args {
			part, r := m.condition(arg)
			if r != nil {
				return nil, r
			}
			c.Args = append(c.Args, part)
		}
		return c, nil
	case parser.ExprOperator:
		return m.comparison(e)
	case parser.ExprNull:
		left, _, r := m.operand(e.Args[0])
		c := &merge.Condition{Kind: merge.IsNull, Left: left}
		if e.Not {
			c = &merge.Condition{Kind: merge.Not, Args: []*merge.Condition{c}}
		}
		return c, r
	case parser.ExprCall, parser.ExprColumn:
		left, _, r := m.operand(e)
		return &merge.Condition{Kind: merge.IsTrue, Left: left}, r
	}
	return nil, left
}

func (m *mingler) comparison(e *parser.Expr) (*merge.Condition, *Refusal) {
	op, ok := comparisons[strings.ReplaceAll(e.Name, "!=", "<>")]
	if !ok || len(e.Args) != 2 || e.Schema != "" && e.Schema != "pg_catalog" {
		return nil, left
	}
	left, leftCollation, r := m.operand(e.Args[0])
	if r != nil {
		return nil, r
	}
	right, rightCollation, r := m.operand(e.Args[1])
	return &merge.Condition{Kind: merge.Compare, Operator: op, Left: left, Right: right, Collation: max(leftCollation, rightCollation)}, r
}

// operand is a value of the group, or a constant.
func (m *mingler) operand(e *parser.Expr) (merge.Operand, merge.Collation, *Refusal) {
	if k, ok := constantOf(e); ok && k.cast == 0 {
		k.doubtful = k.Kind == parser.ValueParam && m.standing(k.Param) > 1
		m.wide.constants = append(m.wide.constants, k)
		m.spec.Constants = append(m.spec.Constants, merge.Constant{})
		return merge.Operand{Constant: true, Index: len(m.wide.constants) - 1}, 0, nil
	}
	if m.bind.aggregate(e) {
		at, r := m.hidden(e)
		if r != nil {
			return merge.Operand{}, 0, r
		}
		return merge.Operand{Index: at}, m.spec.Outputs[at].Collation, nil
	}
	v := m.q.variable(e)
	if v == nil || m.aggregatesInside(e) {
		return merge.Operand{}, 0, left
	}
	at, _, r := m.computed(e)
	if r == nil && at >= len(m.q.outputs) {
		at = m.pass(at)
	}
	return merge.Operand{Index: at}, m.equality(v), r
}

// standing is in how many places of the statement a parameter stands: the first decides which type the server takes it for.
func (m *mingler) standing(param int) (n int) {
	for e := range m.params {
		if e.Value.Param == param {
			n++
		}
	}
	return n
}
