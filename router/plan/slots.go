package plan

import (
	"slices"

	"pgtier/parser"
	"pgtier/router/catalog"
	"pgtier/router/shard"
)

// The server takes a parameter without a declared type for what the first place that it stands in asks for. A slot is the type that a place asks for,
// as far as that is certain: 0 where it is not, anySlot where the place takes whatever others make of it.
const anySlot = ^uint32(0)

// slots notes those of a query's own expressions.
func (b *binder) slots(q *query) {
	t := q.tree
	t.Exprs(func(e *parser.Expr) {
		switch e.Kind {
		case parser.ExprCast:
			if !e.Array && !e.Typmod {
				b.slot(e.Args[0], uint32(castType(e.Schema, e.Name)))
			}
		case parser.ExprNull:
			b.slot(e.Args[0], anySlot)
		case parser.ExprOperator:
			b.operatorSlots(q, e)
		case parser.ExprIn: // beside other values the server looks for a type that suits all
			if !slices.ContainsFunc(e.Args[1:], func(a *parser.Expr) bool { return a.Kind != parser.ExprParam }) {
				for _, a := range e.Args[1:] {
					b.besideSlot(q, e, a, e.Args[0])
				}
			}
		}
	})
	b.slot(t.Limit, int8Type)
	b.slot(t.Offset, int8Type)
	if q.target == nil || q.target.table.relation == nil {
		return
	}
	relation := q.target.table.relation
	for _, a := range t.Assigns {
		b.assignSlot(relation, a)
	}
	if t.Conflict != nil {
		for _, a := range t.Conflict.Assigns {
			b.assignSlot(relation, a)
		}
	}
	for _, r := range t.Rows {
		b.rowSlots(relation, t.Columns, r)
	}
}

// slot notes the type that a place asks for, if a parameter stands there.
func (b *binder) slot(e *parser.Expr, oid uint32) {
	if e != nil && e.Kind == parser.ExprParam && oid != 0 {
		b.slotOf[e] = oid
	}
}

// operatorSlots: beside a column, an operator that the server has for two values of the column's type takes another value for one of that type
// (oper in parse_oper.c).
func (b *binder) operatorSlots(q *query, e *parser.Expr) {
	if len(e.Args) == 2 {
		b.besideSlot(q, e, e.Args[0], e.Args[1])
		b.besideSlot(q, e, e.Args[1], e.Args[0])
	}
}

// besideSlot notes what operator e asks for in the place of a value beside a column.
func (b *binder) besideSlot(q *query, e, value, column *parser.Expr) {
	v := q.scope.resolve(column)
	if v == nil || v.column == nil || e.Schema != "" && e.Schema != "pg_catalog" || q.shadowed {
		return
	}
	if slices.Contains([]string{"=", "<>", "!=", "<", "<=", ">", ">="}, e.Name) || isNumber(v.column) && slices.Contains([]string{"+", "-", "*", "/"}, e.Name) {
		b.slot(value, slotType(v.column.Type))
	}
}

func isNumber(c *catalog.Column) bool {
	return familyOf(c.Type) == familyInteger || familyOf(c.Type) == familyNumeric || c.Type == float4Type || c.Type == float8Type
}

// slotType is the type by which a value beside a column of this type is sent, 0 if that is not known. Text and varchar are sent alike.
func slotType(column uint32) uint32 {
	switch {
	case shard.Type(column) == shard.Varchar:
		return uint32(shard.Text)
	case familyOf(column) != familyNone, column == float4Type, column == float8Type, column == intervalType:
		return column
	}
	return 0
}

// assignSlot: a value that is stored as it is becomes one of the column's type.
func (b *binder) assignSlot(r *catalog.Relation, a *parser.Assign) {
	if a.Path {
		return
	}
	if i := columnAt(r, a.Column); i >= 0 {
		b.slot(a.Value, slotType(r.Columns[i].Type))
	}
}

// rowSlots are those of a row of INSERT; columns are the names that it lists.
func (b *binder) rowSlots(r *catalog.Relation, columns []string, row *parser.Row) {
	for i, value := range row.Values {
		at := i
		if columns != nil {
			if at = -1; i < len(columns) {
				at = columnAt(r, columns[i])
			}
		}
		if at >= 0 && at < len(r.Columns) {
			b.slot(value, slotType(r.Columns[at].Type))
		}
	}
}

func columnAt(r *catalog.Relation, name string) int {
	return slices.IndexFunc(r.Columns, func(c catalog.Column) bool { return c.Name == name })
}
