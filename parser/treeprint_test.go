package parser

import (
	"fmt"
	"strings"
)

// treePrinter writes a tree in short words. Literals are #0 by their place, so that texts of one template print the same.
type treePrinter struct {
	// texts prints constants, and no places; kinds of names that depend on what is around are left out.
	texts bool
}

// describeTree writes the tree of sql, its spans as the text that they cover.
func describeTree(sql string) string {
	t, err := TreeOf([]byte(sql))
	if err != nil {
		return "error: " + err.Error() + "\n"
	}
	p := treePrinter{}
	var b strings.Builder
	if t.Opaque != "" {
		fmt.Fprintf(&b, "opaque: %s\n", t.Opaque)
	}
	b.WriteString(strings.Join(p.query(t.Query), "\n  ") + "\n")
	tokens := Tokens([]byte(sql), nil)
	for _, s := range namedSpans(t) {
		start, end := places(tokens, s.Span)
		fmt.Fprintf(&b, "%s <%s>\n", s.name, strings.Join(strings.Fields(sql[start:end]), " "))
	}
	if t.Query.TailToken > 0 {
		fmt.Fprintf(&b, "tail %d of %d\n", t.Query.TailToken, t.Query.Tokens.To)
	}
	return b.String()
}

// namedSpan is one Span of a tree.
type namedSpan struct {
	name string
	Span
}

// namedSpans are those that are set.
func namedSpans(t *Tree) (out []namedSpan) {
	add := func(name string, s Span) {
		if s != (Span{}) {
			out = append(out, namedSpan{name, s})
		}
	}
	q := t.Query
	add("query", q.Tokens)
	add("outputs", q.OutputsTokens)
	for _, o := range q.Outputs {
		add("output", o.Tokens)
	}
	for _, r := range q.Rows {
		add("row", r.Tokens)
	}
	add("where", q.WhereTokens)
	add("group", q.GroupTokens)
	add("having", q.HavingTokens)
	add("order", q.OrderTokens)
	add("limit", q.LimitTokens)
	add("offset", q.OffsetTokens)
	for _, e := range t.Calls {
		add("call", e.Tokens)
		add("name", e.NameTokens)
		add("args", e.ArgsTokens)
	}
	return out
}

func (p treePrinter) query(q *Query) (out []string) {
	add := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	add("%s%s", q.Kind, flags(q.Aggregates, "aggregates", q.Distinct, "distinct", q.GroupDistinct, "group distinct", q.GroupingSets, "sets",
		q.WithTies, "ties", q.Locks, "locks", q.Into, "into", q.Overriding, "overriding", q.All, "all"))
	for _, w := range q.With {
		add("with %s%s%s: %s", w.Name, list(w.Columns), flags(w.Recursive, "recursive", w.Materialized, "materialized", w.Inlined, "inlined"), p.inline(w.Query))
	}
	if q.Set != SetNone {
		add("%s: %s, %s", []string{"", "union", "intersect", "except"}[q.Set], p.inline(q.Left), p.inline(q.Right))
	}
	if q.Target != nil {
		add("target %s%s", p.source(q.Target), list(q.Columns))
	}
	for _, s := range q.From {
		if s != q.Target {
			add("from %s", p.source(s))
		}
	}
	if q.Source != nil {
		add("source %s", p.inline(q.Source))
	}
	for _, r := range q.Rows {
		add("row %s", p.exprs(r.Values))
	}
	for _, a := range q.Assigns {
		add("set %s", p.assign(a))
	}
	if c := q.Conflict; c != nil {
		add("conflict %s%s%s%s", c.Constraint, list(c.Columns), flags(c.Update, "update", c.Other, "other"), p.exprs(c.Args))
		for _, a := range c.Assigns {
			add("conflict set %s", p.assign(a))
		}
		p.clause(add, "conflict where", c.Where)
	}
	p.clause(add, "on", q.On)
	for _, a := range q.Actions {
		values := ""
		if a.Values != nil {
			values = p.exprs(a.Values)
		}
		add("when%s %s%s%s", flags(a.Matched, "matched", a.Overriding, "overriding"), a.Kind, list(a.Columns), values)
		p.clause(add, "when and", a.Condition)
		for _, s := range a.Assigns {
			add("when set %s", p.assign(s))
		}
	}
	p.clause(add, "where", q.Where)
	for _, o := range q.Outputs {
		add("output %s%s", p.expr(o.Expr), named(" as ", o.Name))
	}
	for _, e := range q.DistinctOn {
		add("distinct on %s", p.expr(e))
	}
	for _, e := range q.Group {
		add("group %s", p.expr(e))
	}
	p.clause(add, "having", q.Having)
	for _, w := range q.WindowDefs {
		add("window %s", p.window(w))
	}
	for _, s := range q.Order {
		add("order %s", p.sort(s))
	}
	p.clause(add, "limit", q.Limit)
	p.clause(add, "offset", q.Offset)
	return out
}

func (p treePrinter) clause(add func(string, ...any), name string, e *Expr) {
	if e != nil {
		add("%s %s", name, p.expr(e))
	}
}

func (p treePrinter) inline(q *Query) string { return "{" + strings.Join(p.query(q), "; ") + "}" }

func (p treePrinter) source(s *Source) string {
	var text string
	switch s.Kind {
	case SourceTable, SourceWith:
		kind := "table "
		if s.Kind == SourceWith && !p.texts {
			kind = "with "
		}
		text = kind + describeNamed(Named{s.Schema, s.Name})
	case SourceQuery:
		text = p.inline(s.Query)
	case SourceJoin:
		text = fmt.Sprintf("(%s %s join %s", p.source(s.Left), []string{"inner", "left", "right", "full"}[s.Join], p.source(s.Right))
		if s.Natural {
			text += " natural"
		}
		if s.Using != nil {
			text += " using" + list(s.Using)
		}
		if s.On != nil {
			text += " on " + p.expr(s.On)
		}
		text += ")"
	case SourceFunction:
		text = "function " + p.exprs(s.Calls)
	default:
		text = "other"
	}
	if s.Args != nil {
		text += " args " + p.exprs(s.Args)
	}
	if s.Aliased || s.Kind == SourceFunction {
		text += named(" as ", s.Alias)
	}
	return text + list(s.Columns) + flags(s.Lateral, "lateral", s.Only, "only", s.Sampled, "sampled", s.Ordinality, "ordinality")
}

func (p treePrinter) assign(a *Assign) string {
	path := ""
	if a.Path {
		path = " path" + p.exprs(a.Subscripts)
	}
	return a.Column + path + " = " + p.expr(a.Value)
}

func (p treePrinter) sort(s *Sort) string {
	return p.expr(s.Expr) + flags(s.Desc, "desc", s.NullsFirst, "nulls first", s.Using, "using")
}

func (p treePrinter) window(w *Window) string {
	text := w.Name
	if w.Named != "" {
		text += "=" + w.Named
	}
	if p.texts && w.Named != "" {
		return text // what the name stands for is not known to a piece
	}
	text += " partition" + p.exprs(w.Partition)
	for _, s := range w.Order {
		text += " order " + p.sort(s)
	}
	if w.Framed {
		text += " frame" + p.exprs(w.Args)
	}
	return text
}

func (p treePrinter) exprs(list []*Expr) string {
	var out []string
	for _, e := range list {
		out = append(out, p.expr(e))
	}
	return "[" + strings.Join(out, ", ") + "]"
}

var exprNames = strings.Fields("other column star constant param default call operator and or not null in any row array cast case coalesce collate subquery now")

func (p treePrinter) expr(e *Expr) string {
	if e == nil {
		return "nothing"
	}
	name := describeNamed(Named{e.Schema, e.Name})
	switch e.Kind {
	case ExprColumn:
		return strings.Join(append(append([]string(nil), e.Qualifier...), e.Name), ".")
	case ExprStar:
		return strings.Join(append(append([]string(nil), e.Qualifier...), "*"), ".")
	case ExprConstant, ExprParam:
		return p.value(e.Value)
	case ExprCall:
		return name + p.call(e)
	}
	text := exprNames[e.Kind]
	if name != "" {
		text += " " + name
	}
	if e.Kind == ExprSubquery {
		text += " " + []string{"scalar", "exists", "any", "all", "array", "other"}[e.Sub] + " " + p.inline(e.Query)
	}
	text += flags(e.Not, "not", e.Array, "[]", e.Typmod, "(n)", e.Operand, "operand")
	if len(e.Args) > 0 {
		text += " " + p.exprs(e.Args)
	}
	return "<" + text + ">"
}

func (p treePrinter) call(e *Expr) string {
	text := "(" + strings.Trim(p.exprs(e.Args), "[]") + ")" + flags(e.Star, "star", e.Distinct, "distinct", e.Ordered, "ordered", e.Variadic, "variadic")
	if e.Name == "" || len(e.Args) == 0 {
		text = "()" + flags(e.Star, "star", e.Ordered, "ordered")
	}
	for _, s := range e.Order {
		text += " order " + p.sort(s)
	}
	if e.Filter != nil {
		text += " filter " + p.expr(e.Filter)
	}
	if e.Over != nil {
		text += " over (" + p.window(e.Over) + ")"
	}
	return text
}

func (p treePrinter) value(v Value) string {
	switch {
	case v.Kind == ValueParam:
		return fmt.Sprintf("$%d", v.Param)
	case v.Null:
		return "null"
	case v.Literal < 0 || p.texts:
		return "'" + v.Text + "'"
	case v.Negative:
		return fmt.Sprintf("-#%d", v.Literal)
	}
	return fmt.Sprintf("#%d", v.Literal)
}

// flags are the names of those that are set.
func flags(pairs ...any) (out string) {
	for i := 0; i < len(pairs); i += 2 {
		if pairs[i].(bool) {
			out += " " + pairs[i+1].(string)
		}
	}
	return out
}

func list(names []string) string {
	if names == nil {
		return ""
	}
	return "(" + strings.Join(names, " ") + ")"
}

func named(before, name string) string {
	if name == "" {
		return ""
	}
	return before + name
}
