package plan

import (
	"fmt"

	"pgtier/proxy/merge"
)

// printMerge prints what is set of a plan's merge.
func printMerge(p Plan) string {
	m := p.Merge
	text := ""
	add := func(format string, args ...any) { text += " " + fmt.Sprintf(format, args...) + ";" }
	if p.Columns > 0 {
		add("%d columns", p.Columns)
	}
	if m.Hidden > 0 {
		add("%d hidden", m.Hidden)
	}
	if m.Aggregate {
		add("aggregate by%s", printKeys(m.Group))
	}
	if m.GroupSorted {
		add("in order of groups")
	}
	for i, o := range m.Outputs {
		if m.Aggregate || o.Column != i {
			add("%d=%s", i, printOutput(o))
		}
	}
	if m.Having != nil {
		add("having %s", printCondition(m, m.Having))
	}
	if m.Sort != nil {
		add("sort%s", printKeys(m.Sort))
	}
	if m.Distinct != nil {
		add("distinct%s", printKeys(m.Distinct))
	}
	if m.Limited {
		add("limit %d", m.Limit)
	}
	if m.Offset > 0 {
		add("offset %d", m.Offset)
	}
	return text
}

func printKeys(keys []merge.Key) string {
	text := ""
	for _, k := range keys {
		text += fmt.Sprintf(" %d", k.Column)
		if k.Desc {
			text += " desc"
		}
		if k.NullsFirst {
			text += " nulls first"
		}
		text += [...]string{"?", "", " deterministic"}[k.Collation]
	}
	return text
}

func printOutput(o merge.Output) string {
	name := [...]string{"first", "count", "sum", "avg", "min", "max", "beside", "bool_and", "bool_or", "bit_and", "bit_or", "bit_xor"}[o.Function]
	if o.Function == merge.Avg {
		return fmt.Sprintf("%s(%d/%d)", name, o.Column, o.Second)
	}
	return fmt.Sprintf("%s(%d)", name, o.Column)
}

func printCondition(m *merge.Spec, c *merge.Condition) string {
	operand := func(o merge.Operand) string {
		if o.Constant {
			return fmt.Sprintf("%q:%d", m.Constants[o.Index].Value, m.Constants[o.Index].Type)
		}
		return fmt.Sprint(o.Index)
	}
	switch c.Kind {
	case merge.Compare:
		return operand(c.Left) + [...]string{"", "=", "<>", "<", "<=", ">", ">="}[c.Operator] + operand(c.Right)
	case merge.IsNull:
		return operand(c.Left) + " is null"
	case merge.IsTrue:
		return operand(c.Left)
	}
	word := [...]string{"", "and", "or", "not"}[c.Kind]
	text := "(" + word
	for _, arg := range c.Args {
		text += " " + printCondition(m, arg)
	}
	return text + ")"
}
