package plan

import (
	"cmp"
	"slices"
	"strconv"
	"strings"

	"pgtier/parser"
	"pgtier/proxy/merge"
)

// Final is the query that makes the answer of the groups that a merge has made of shards' parts. A server computes there what stands around the aggregates:
// expressions, HAVING, ORDER BY and LIMIT. Immutable.
type Final struct {
	// columns are, by value of the merge, the shards' column that has its type and collation; width is how many columns the shards have.
	columns []int
	width   int
	// head are SELECT and its list, tail what stands behind FROM.
	head, tail []piece
}

// Columns are, by value of the merge, the shards' column of the same type.
func (f *Final) Columns() []int { return f.columns }

// Text is the query. part is the text of a shard, made of sql; first is the number of the first of as many parameters as there are Columns: arrays of the
// values that the merge has made. The statement's own parameters keep their numbers.
//
// The shard's text stands in it beside the values and gives no rows, so that the values have the collations that they have in the statement.
func (f *Final) Text(part, sql []byte, first int) ([]byte, error) {
	tokens := parser.Tokens(sql, nil)
	head, err := (&edit{parts: f.head}).text(sql, tokens)
	if err != nil {
		return nil, err
	}
	tail, err := (&edit{parts: f.tail}).text(sql, tokens)
	if err != nil {
		return nil, err
	}
	var values, columns, arrays []string
	for i, at := range f.columns {
		values = append(values, "p."+valueName(at))
		columns = append(columns, valueName(i))
		arrays = append(arrays, "pg_catalog.unnest($"+strconv.Itoa(first+i)+")")
	}
	var all []string
	for i := range f.width {
		all = append(all, valueName(i))
	}
	text := head + " FROM ((SELECT " + strings.Join(values, ", ") + " FROM (" + string(unended(part)) + ") AS p (" + strings.Join(all, ", ") + ") LIMIT 0)" +
		" UNION ALL SELECT * FROM ROWS FROM (" + strings.Join(arrays, ", ") + ")) AS pgtier (" + strings.Join(columns, ", ") + ")"
	if tail != "" {
		text += " " + tail
	}
	return []byte(text), nil
}

// unended is a text without what stands behind its last token, and without semicolons at its end.
func unended(sql []byte) []byte {
	tokens := parser.Tokens(sql, nil)
	n := len(tokens)
	for n > 0 && string(sql[tokens[n-1].Start:tokens[n-1].End]) == ";" {
		n--
	}
	if n == 0 {
		return nil
	}
	return sql[:tokens[n-1].End]
}

// valueName is what a column is called.
func valueName(at int) string { return "pgtier_" + strconv.Itoa(at+1) }

// Unused are the numbers of the statement's parameters, up to n, that the text of a Final does not name.
func (f *Final) Unused(text []byte, n int) (list []int) {
	named := paramsOf(text)
	for i := 1; i <= n; i++ {
		if i >= len(named) || !named[i] {
			list = append(list, i)
		}
	}
	return list
}

// finisher plans a Final beside the merge that it works on.
type finisher struct {
	*mingler
	columns []int
	calls   []hiddenValue
	groups  []*parser.Expr
	head    []piece
	tail    []piece
}

// finally has a server compute what a merge cannot. What a mingler has planned so far is left aside; if that is refused, it stays.
func (m *mingler) finally() *Refusal {
	fresh := &mingler{layer: m.layer, q: m.q, out: m.out, wide: &wide{kind: m.wide.kind, target: m.wide.target, roots: m.wide.roots}, places: m.places}
	f := &finisher{mingler: fresh}
	r := f.plan()
	m.places = fresh.places
	if r == nil {
		*m.wide = *fresh.wide
	}
	return r
}

func (f *finisher) plan() *Refusal {
	t := f.q.tree
	f.spec.Aggregate = true
	if t.OutputsTokens == (parser.Span{}) {
		return f.fixed()
	}
	for _, e := range t.Group {
		if r := f.group(e); r != nil {
			return r
		}
	}
	for _, step := range []func() *Refusal{f.grouped, f.outputs, f.having, f.order, f.limits} {
		if r := step(); r != nil {
			return r
		}
	}
	if len(t.Group) == 0 && len(f.calls) == 0 {
		return refuse("HAVING without aggregates, over rows of several shards", "Put the condition into WHERE.")
	}
	if r := f.strip(); r != nil {
		return r
	}
	f.finish()
	f.wide.reason = "partial aggregates of all shards, expressions over them on one"
	f.wide.final = &Final{columns: f.columns, width: f.wide.columns, head: f.head, tail: f.tail}
	return f.proved()
}

// fixed refuses a text whose parts are not found.
func (f *finisher) fixed() *Refusal {
	return refuse("expression over aggregates of rows of several shards in a text that cannot be changed", hintAlone)
}

// grouped notes the expressions that the groups are made by, those of outputs where GROUP BY has their numbers or names.
func (f *finisher) grouped() *Refusal {
	t := f.q.tree
	for i, e := range f.mingler.groups() {
		if e == t.Group[i] && e.Kind == parser.ExprColumn && len(e.Qualifier) == 0 && f.q.variable(e) == nil {
			at, _, r := f.alias(e)
			switch {
			case r != nil:
				return r
			case at < 0:
				return f.fixed()
			}
			e = t.Outputs[at].Expr
		}
		f.groups = append(f.groups, e)
	}
	return nil
}

// outputs writes the select list. Where the shards would compute an expression over aggregates they get one of these in its place.
func (f *finisher) outputs() *Refusal {
	t := f.q.tree
	f.head = append(f.head, piece{text: "SELECT"})
	if t.Distinct {
		f.head = append(f.head, piece{text: "DISTINCT"})
	}
	for i, o := range t.Outputs {
		if i > 0 {
			f.head = append(f.head, piece{text: ","})
		}
		if !f.aggregatesInside(o.Expr) {
			if f.setReturning(o.Expr) {
				return refuse("function that returns rows beside aggregates over rows of several shards", "Call it in another statement.")
			}
			f.head = append(f.head, valueAt(f.first(i)))
			continue
		}
		span, ok := f.unlabelled(o)
		if !ok {
			return f.fixed()
		}
		if r := f.keeps(o.Expr, span, i); r != nil {
			return r
		}
		parts, r := f.rewritten(o.Expr, span)
		if r != nil {
			return r
		}
		f.head = append(f.head, parts...)
	}
	return nil
}

// unlabelled are the tokens of an output without its name.
func (f *finisher) unlabelled(o *parser.Output) (span parser.Span, ok bool) {
	span = o.Tokens
	if span == (parser.Span{}) || o.Name == "" {
		return span, span != parser.Span{}
	}
	text := wordsOf(f.sql)
	span.To--
	if span.To >= len(text.text) || text.text[span.To] != o.Name {
		return span, false
	}
	if text.is(span.To-1, "as") {
		span.To--
	}
	return span, span.To > span.From
}

// keeps leaves the first aggregate of an expression over some in the place of it, as column at.
func (f *finisher) keeps(e *parser.Expr, span parser.Span, at int) *Refusal {
	var kept *parser.Expr
	e.Walk(func(e *parser.Expr) bool {
		if kept == nil && f.bind.aggregate(e) {
			kept = e
		}
		return kept == nil
	})
	if kept.Tokens == (parser.Span{}) {
		return f.fixed()
	}
	if kept != e {
		f.wide.edits = append(f.wide.edits, edit{span: span, parts: []piece{{span: kept.Tokens}}})
	}
	if f.call(kept) >= 0 {
		return nil
	}
	return f.gather(kept, at)
}

// call finds the value of the merge that an aggregate is, -1 if there is none yet.
func (f *finisher) call(e *parser.Expr) int {
	for _, c := range f.calls {
		if c.expr == e || f.same(c.expr, e) {
			return c.at
		}
	}
	return -1
}

// gather has the merge make an aggregate of its parts in a shards' column.
func (f *finisher) gather(e *parser.Expr, column int) *Refusal {
	v, r := f.value(e, column)
	if r != nil {
		return r
	}
	f.calls = append(f.calls, hiddenValue{e, f.add1(v, column)})
	return nil
}

// add1 adds a value to those that the merge makes.
func (f *finisher) add1(v merge.Output, column int) int {
	f.spec.Outputs, f.columns = append(f.spec.Outputs, v), append(f.columns, column)
	return len(f.columns) - 1
}

// first is the value of the merge that passes on a shards' column which is the same in a whole group.
func (f *finisher) first(column int) int {
	for i, o := range f.spec.Outputs {
		if o.Function == merge.First && o.Column == column {
			return i
		}
	}
	return f.add1(merge.Output{Column: column}, column)
}

// valueAt names a value of the merge. No output has such a name.
func valueAt(at int) piece { return piece{text: "pgtier." + valueName(at)} }

// cut is what of an expression is a value of the merge.
type cut struct {
	parser.Span
	at int
}

// rewritten is an expression, whose tokens span has, over the values of the merge.
func (f *finisher) rewritten(e *parser.Expr, span parser.Span) ([]piece, *Refusal) {
	var cuts []cut
	if r := f.cuts(e, &cuts); r != nil {
		return nil, r
	}
	slices.SortFunc(cuts, func(a, b cut) int { return cmp.Compare(a.From, b.From) })
	var parts []piece
	from := span.From
	for _, c := range cuts {
		if c.From < from || c.To > span.To || c.To <= c.From {
			return nil, f.fixed()
		}
		if c.From > from {
			parts = append(parts, piece{span: parser.Span{From: from, To: c.From}})
		}
		parts = append(parts, valueAt(c.at))
		from = c.To
	}
	if from < span.To {
		parts = append(parts, piece{span: parser.Span{From: from, To: span.To}})
	}
	return parts, nil
}

// plainConstructs are those expressions without a kind of their own that do no more than their operands say.
var plainConstructs = []string{"NULLIF", "GREATEST or LEAST", "IS DISTINCT FROM", "IS NOT DISTINCT FROM", "LIKE", "ILIKE", "SIMILAR TO", "BETWEEN", "NOT BETWEEN",
	"BETWEEN SYMMETRIC", "NOT BETWEEN SYMMETRIC", "IS TRUE", "ALL (array)", "a named argument"}

// cuts finds the aggregates and the columns of an expression, and refuses what must not be computed apart from the groups' rows.
func (f *finisher) cuts(e *parser.Expr, cuts *[]cut) *Refusal {
	if f.bind.aggregate(e) {
		return f.aggregateCut(e, cuts)
	}
	switch e.Kind {
	case parser.ExprColumn:
		return f.columnCut(e, cuts)
	case parser.ExprCall:
		if e.Tokens != (parser.Span{}) && slices.ContainsFunc(f.groups, func(g *parser.Expr) bool { return f.same(g, e) }) {
			at, _, r := f.computed(e)
			if r == nil {
				*cuts = append(*cuts, cut{e.Tokens, f.first(at)})
			}
			return r
		}
		facts, known := f.schema.catalog.Function(e.Schema, e.Name, len(e.Args))
		if facts.Set {
			return refuse("function that returns rows over aggregates of rows of several shards", "Call it in another statement.")
		}
		if !known || facts.Foreign || facts.Window || e.Over != nil {
			return refuse("function "+e.Name+"(), which is not the server's own, over aggregates of rows of several shards", hintAlone)
		}
	case parser.ExprCast:
		if e.Schema != "pg_catalog" && !slices.Contains(ownTypes, e.Name) {
			return refuse("cast to type "+e.Name+" over aggregates of rows of several shards", hintAlone)
		}
	case parser.ExprConstant, parser.ExprParam, parser.ExprOperator, parser.ExprAnd, parser.ExprOr, parser.ExprNot, parser.ExprNull, parser.ExprIn, parser.ExprAny,
		parser.ExprArray, parser.ExprCase, parser.ExprCoalesce, parser.ExprCollate:
	case parser.ExprSubquery:
		return refuse("sub-select beside aggregates over rows of several shards", "Send it as a statement of its own.")
	default:
		if e.Kind != parser.ExprOther || !slices.Contains(plainConstructs, e.Name) {
			return refuse(cmp.Or(e.Name, "row")+" over aggregates of rows of several shards", hintAlone)
		}
	}
	for _, arg := range e.Args {
		if r := f.cuts(arg, cuts); r != nil {
			return r
		}
	}
	return nil
}

// ownTypes are types of the server's own that the grammar leaves without their schema.
var ownTypes = strings.Fields("text date uuid json jsonb bytea money name oid inet cidr macaddr int2 int4 int8 float4 float8 bool numeric timestamp timestamptz time timetz interval varchar bpchar varbit")

func (f *finisher) aggregateCut(e *parser.Expr, cuts *[]cut) *Refusal {
	if e.Tokens == (parser.Span{}) {
		return f.fixed()
	}
	if f.call(e) < 0 {
		if r := f.gather(e, f.add(extra{expr: e, parts: []piece{{span: e.Tokens}}})); r != nil {
			return r
		}
	}
	*cuts = append(*cuts, cut{e.Tokens, f.call(e)})
	return nil
}

// columnCut is a column that the groups are made by. One that is not may depend on those that are, or be an error, which the shards tell; but not where
// GROUP BY has expressions: these may stand around the column.
func (f *finisher) columnCut(e *parser.Expr, cuts *[]cut) *Refusal {
	v := f.q.variable(e)
	is := func(g *parser.Expr) bool {
		return g.Kind == parser.ExprColumn && f.q.variable(g) != nil && f.q.variable(g) == v || f.same(g, e)
	}
	if !slices.ContainsFunc(f.groups, is) && slices.ContainsFunc(f.groups, func(g *parser.Expr) bool { return g.Kind != parser.ExprColumn }) {
		return refuse("column "+e.Name+" beside aggregates over rows of several shards, which GROUP BY has in an expression", "Return the expression of GROUP BY and the aggregates by themselves.")
	}
	if e.NameTokens == (parser.Span{}) {
		return f.fixed()
	}
	at, _, r := f.computed(e)
	if r == nil {
		*cuts = append(*cuts, cut{e.NameTokens, f.first(at)})
	}
	return r
}

// having makes HAVING a condition over the values of the merge.
func (f *finisher) having() *Refusal {
	t := f.q.tree
	if t.Having == nil {
		return nil
	}
	if t.HavingTokens == (parser.Span{}) {
		return f.fixed()
	}
	parts, r := f.rewritten(t.Having, parser.Span{From: t.HavingTokens.From + 1, To: t.HavingTokens.To})
	f.tail = append(append(f.tail, piece{text: "WHERE"}), parts...)
	return r
}

// order writes ORDER BY: outputs by their numbers, others as expressions over the values of the merge.
func (f *finisher) order() *Refusal {
	for i, s := range f.q.tree.Order {
		if s.Using {
			return refuse("ORDER BY … USING over rows of several shards", "Use ASC or DESC.")
		}
		word := ","
		if i == 0 {
			word = "ORDER BY"
		}
		f.tail = append(f.tail, piece{text: word})
		parts, r := f.sortedBy(s)
		if r != nil {
			return r
		}
		f.tail = append(f.tail, parts...)
		word = "ASC"
		if s.Desc {
			word = "DESC"
		}
		if s.NullsFirst {
			word += " NULLS FIRST"
		} else {
			word += " NULLS LAST"
		}
		f.tail = append(f.tail, piece{text: word})
	}
	return nil
}

func (f *finisher) sortedBy(s *parser.Sort) ([]piece, *Refusal) {
	if f.setReturning(s.Expr) {
		return nil, refuse("ORDER BY of a function that returns rows, of groups of rows of several shards", "Group by the sharding key.")
	}
	at, named, r := f.output(s.Expr)
	if r != nil {
		return nil, r
	}
	if named || f.outputOf(s.Expr) >= 0 {
		if !named {
			at = f.outputOf(s.Expr)
		}
		return []piece{{text: strconv.Itoa(at + 1)}}, nil
	}
	span, ok := f.item(s.Expr)
	if !ok {
		return nil, f.fixed()
	}
	parts, r := f.rewritten(s.Expr, span)
	return append(append([]piece{{text: "("}}, parts...), piece{text: ")"}), r
}

// output finds the output that an item of ORDER BY means by its number or its name; ok is false for others.
func (f *finisher) output(e *parser.Expr) (at int, ok bool, r *Refusal) {
	switch {
	case e.Kind == parser.ExprConstant:
		at, _, r = f.position(e)
		return at, true, r
	case e.Kind != parser.ExprColumn || len(e.Qualifier) > 0:
		return 0, false, nil
	case slices.ContainsFunc(f.q.outputs, func(c column) bool { return c.vague(e.Name) }):
		return 0, false, refuse("ORDER BY "+e.Name+", which may be the name of several columns, over rows of several shards", "Name the columns with AS.")
	}
	at = slices.IndexFunc(f.q.outputs, func(c column) bool { return c.name == e.Name })
	return at, at >= 0, nil
}

// limits copies LIMIT and OFFSET, which have no columns.
func (f *finisher) limits() *Refusal {
	t := f.q.tree
	for _, c := range []struct {
		expr *parser.Expr
		span parser.Span
	}{{t.Limit, t.LimitTokens}, {t.Offset, t.OffsetTokens}} {
		if c.expr == nil {
			continue
		}
		var cuts []cut
		if r := f.cuts(c.expr, &cuts); r != nil || len(cuts) > 0 || c.span == (parser.Span{}) {
			return refuse("LIMIT or OFFSET that is computed, over rows of several shards", "Give it as a number or a parameter.")
		}
		f.tail = append(f.tail, piece{span: c.span})
	}
	return nil
}

// proved reads the text that was made, and refuses one in which something else stands than expressions over the values of the merge.
func (f *finisher) proved() *Refusal {
	text, err := f.wide.final.Text([]byte("SELECT"), f.sql, maxParams-len(f.columns))
	if err != nil {
		return f.fixed()
	}
	tree, err := parser.TreeOf(text)
	if err != nil || len(tree.Query.With) > 0 || len(tree.Query.Outputs) != len(f.q.outputs) || tree.Opaque != "" {
		return f.fixed()
	}
	sure := true
	tree.Query.Exprs(func(e *parser.Expr) {
		switch e.Kind {
		case parser.ExprColumn:
			sure = sure && slices.Equal(e.Qualifier, []string{"pgtier"}) && strings.HasPrefix(e.Name, "pgtier_")
		case parser.ExprSubquery, parser.ExprStar:
			sure = false
		case parser.ExprCall:
			sure = sure && e.Over == nil && (e.Name == "unnest" || !f.bind.aggregate(e))
		}
	})
	if !sure {
		return f.fixed()
	}
	return nil
}
