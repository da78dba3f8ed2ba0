package plan

import (
	"slices"

	"pgtier/parser"
	"pgtier/proxy/merge"
)

// The text of a timestamptz depends on TimeZone, and with it an hour that comes twice: a merge compares such values in binary alone. Where the
// client gets them too, perhaps as text, the shards send a second column to compare by.

// oidTimestampTZ is the type whose text does not compare (pg_type.dat).
const oidTimestampTZ = 1184

// textual reports whether values of v cannot be compared as text.
func textual(v *variable) bool { return v != nil && v.column != nil && v.column.Type == oidTimestampTZ }

// moments are functions that may give such values.
var moments = []string{"date_trunc", "date_bin", "to_timestamp", "make_timestamptz", "timezone", "timestamptz"}

// moment reports whether an expression whose type is not known may be a timestamptz.
func (m *mingler) moment(e *parser.Expr) (found bool) {
	switch e.Kind {
	case parser.ExprCall:
		return slices.Contains(moments, e.Name)
	case parser.ExprColumn:
		return textual(m.q.scope.resolve(e))
	case parser.ExprCast:
		return !e.Array && e.Name == "timestamptz"
	case parser.ExprOperator, parser.ExprCase, parser.ExprCoalesce, parser.ExprOther:
		return slices.ContainsFunc(e.Args, m.moment)
	}
	return false
}

// compared is the shards' column to compare by in the place of at, a copy if need be.
func (m *mingler) compared(at int, v *variable) int {
	t := m.q.tree
	if at >= len(m.q.outputs) || m.q.open || m.q.left != nil || len(t.Outputs) != len(m.q.outputs) || t.Distinct && !m.spec.Aggregate {
		return at
	}
	e := t.Outputs[at].Expr
	if !textual(v) && !(v == nil && m.moment(e)) || m.aggregatesInside(e) {
		return at
	}
	for i, x := range m.extra {
		if x.expr == e {
			return len(m.q.outputs) + i
		}
	}
	parts, ok := m.text(e)
	if !ok {
		return at
	}
	return m.add(extra{expr: e, variable: v, parts: parts})
}

// beside makes the client's min and max of such values the ones that belong to the copy compared.
func (m *mingler) beside() {
	for i, o := range m.q.tree.Outputs {
		out := m.spec.Outputs[i]
		if out.Function != merge.Min && out.Function != merge.Max || len(o.Expr.Args) != 1 || !m.moment(o.Expr.Args[0]) {
			continue
		}
		parts, ok := m.text(o.Expr)
		if !ok {
			continue
		}
		copied := out
		copied.Column = m.add(extra{parts: parts})
		m.spec.Outputs = append(m.spec.Outputs, copied)
		m.spec.Outputs[i] = merge.Output{Function: merge.Beside, Column: out.Column, Second: len(m.spec.Outputs) - 1}
	}
}

// setReturning reports whether a function that may return several rows is called in an expression.
func (m *mingler) setReturning(e *parser.Expr) (found bool) {
	e.Walk(func(e *parser.Expr) bool {
		if e.Kind == parser.ExprCall {
			facts, known := m.schema.catalog.Function(e.Schema, e.Name, len(e.Args))
			found = found || !known || facts.Set
		}
		return !found
	})
	return found
}
