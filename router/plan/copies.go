package plan

import (
	"pgtier/parser"
	"pgtier/proxy/merge"
)

// The text of a timestamptz depends on TimeZone, and with it an hour that comes twice: a merge compares such values in binary alone. Where the
// client gets them too, perhaps as text, the shards send a second column to compare by.

// oidTimestampTZ is the type whose text does not compare (pg_type.dat).
const oidTimestampTZ = 1184

// textual reports whether values of v cannot be compared as text.
func textual(v *variable) bool { return v != nil && v.column != nil && v.column.Type == oidTimestampTZ }

// compared is the shards' column to compare by in the place of at, a copy if need be.
func (m *mingler) compared(at int, v *variable) int {
	t := m.q.tree
	if !textual(v) || at >= len(m.q.outputs) || m.q.open || m.q.left != nil || len(t.Outputs) != len(m.q.outputs) || t.Distinct && !m.spec.Aggregate {
		return at
	}
	e := t.Outputs[at].Expr
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
		if out.Function != merge.Min && out.Function != merge.Max || len(o.Expr.Args) != 1 || !textual(m.q.scope.resolve(o.Expr.Args[0])) {
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
