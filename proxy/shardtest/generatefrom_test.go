package shardtest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// equalities matches conditions that are nothing but columns that are equal.
var equalities = regexp.MustCompile(`^(t\d+)\.\w+ = (t\d+)\.\w+( AND t\d+\.\w+ = t\d+\.\w+)?$`)

// from makes the sources of a query.
func (g *generator) from(depth int) (scope []item, sql string) {
	first, text := g.source(depth)
	scope, sql = []item{first}, " FROM "+text
	for range g.below(3) {
		g.traits["join"] = true
		next, text, on := g.joined(scope, depth)
		joins := []string{" JOIN ", " LEFT JOIN ", " RIGHT JOIN "}
		if sides := equalities.FindStringSubmatch(on); sides != nil && sides[1] != sides[2] {
			joins = append(joins, " FULL JOIN ") // which wants a condition that can be hashed
		}
		join := oneOf(g.choices, joins...)
		scope = append(scope, next)
		sql += join + text + " ON " + on
	}
	return scope, sql
}

// source is a table, a WITH query or a sub-select.
func (g *generator) source(depth int) (item, string) {
	if depth < maxDepth && g.once(6) {
		g.traits["sub-select"] = true
		body, columns := g.query(depth+1, nil)
		return g.called("("+body+")", item{columns: columns})
	}
	if len(g.with) > 0 && g.below(2) == 1 {
		with := oneOf(g.choices, g.with...)
		return g.called(with.of, item{columns: with.columns})
	}
	r := oneOf(g.choices, relations()...)
	return g.called(r.name, item{of: r.name, columns: r.columns})
}

// called gives a source an alias.
func (g *generator) called(text string, i item) (item, string) {
	g.aliases++
	i.alias = fmt.Sprintf("t%d", g.aliases)
	return i, text + " " + i.alias
}

// joined is one more source with the condition that joins it: mostly by a bond that the schema has.
func (g *generator) joined(scope []item, depth int) (next item, text, on string) {
	with := oneOf(g.choices, scope...)
	var fitting [][4]string
	for _, b := range bonds() {
		if b[0] == with.of {
			fitting = append(fitting, b)
		}
		if b[2] == with.of {
			fitting = append(fitting, [4]string{b[2], b[3], b[0], b[1]})
		}
	}
	if len(fitting) > 0 && g.below(5) < 4 {
		b := oneOf(g.choices, fitting...)
		r := relations()[slices.IndexFunc(relations(), func(r relation) bool { return r.name == b[2] })]
		next, text = g.called(r.name, item{of: r.name, columns: r.columns})
		on = fmt.Sprintf("%s.%s = %s.%s", next.alias, b[3], with.alias, b[1])
		if b[0] == "orders" && b[2] == "order_items" && g.below(2) == 0 {
			on = fmt.Sprintf("%[1]s.user_id = %[2]s.user_id AND %[1]s.order_id = %[2]s.id", next.alias, with.alias)
		}
		if g.once(5) {
			on += " AND " + g.comparison([]item{next}, scope)
		}
		return next, text, on
	}
	before := len(g.params)
	next, text = g.source(depth)
	left := g.pick([]item{next}, func(class) bool { return true })
	if right := g.pick(scope, func(c class) bool { return c == left.class }); right.class == left.class && left.class != boolean {
		return next, text, left.name + " = " + right.name
	}
	// Only few rows are put beside all others.
	few := slices.DeleteFunc(relations(), func(r relation) bool {
		return !slices.Contains([]string{"currencies", "countries", "settings", "empties"}, r.name)
	})
	g.params = g.params[:before]
	r := oneOf(g.choices, few...)
	next, text = g.called(r.name, item{of: r.name, columns: r.columns})
	return next, text, g.comparison([]item{next}, scope)
}

// pick draws a column of the scope that is wanted, or any if none is.
func (g *generator) pick(scope []item, wanted func(class) bool) column {
	var all, fitting []column
	for _, i := range scope {
		for _, c := range i.columns {
			qualified := column{i.alias + "." + c.name, c.class}
			all = append(all, qualified)
			if wanted(c.class) {
				fitting = append(fitting, qualified)
			}
		}
	}
	if fitting == nil {
		fitting = all
	}
	return oneOf(g.choices, fitting...)
}

// valueOf is a column of the class, or a constant of it.
func (g *generator) valueOf(kind class, scope []item) string {
	c := g.pick(scope, func(c class) bool { return c == kind })
	if c.class == kind {
		return c.name
	}
	return g.literal(kind)
}

// literal is a constant of the class that the data has, with its type where the text alone would leave it open.
func (g *generator) literal(kind class) string {
	switch kind {
	case integer:
		return oneOf(g.choices, "1", "2", "3", "7", "15", "30", "-1", "0", "100000")
	case fixed, free:
		return oneOf(g.choices, "0.00", "1.50", "-3.25", "100")
	case float:
		return oneOf(g.choices, "0", "1.5", "-2.25") + "::float8"
	case language:
		return "(" + oneOf(g.choices, "'a'", "'B'", "'é'", "'z'") + `::text COLLATE "und-x-icu")`
	case code:
		return oneOf(g.choices, "'DE'", "'US'", "'ZZ'") + "::char(2)"
	case moment:
		return oneOf(g.choices, "'2024-03-31 00:00:00+00'", "'2023-06-01 12:00:00+00'", "'2024-05-01 00:00:00+00'") + "::timestamptz"
	case day:
		return oneOf(g.choices, "'2024-02-29'", "'1970-01-01'", "'infinity'") + "::date"
	case boolean:
		return oneOf(g.choices, "true", "false")
	case uuid:
		return oneOf(g.choices, "'c4ca4238a0b923820dcc509a6f75849b'", "'00000000-0000-0000-0000-000000000000'") + "::uuid"
	}
	return oneOf(g.choices, "'paid'", "'giro'", "'a'", "'acc-1'", "''", "'login'") + "::text"
}

// where makes a WHERE of up to three conditions.
func (g *generator) where(depth int, scope, outer []item) string {
	var parts []string
	for range oneOf(g.choices, 0, 0, 0, 1, 1, 2) {
		parts = append(parts, g.condition(depth, scope, outer))
	}
	if outer != nil {
		// What makes a sub-select belong to the row around it.
		c := g.pick(scope, func(c class) bool { return c == integer || c == text })
		if o := g.pick(outer, func(k class) bool { return k == c.class }); o.class == c.class {
			parts = append(parts, c.name+" = "+o.name)
		}
	}
	if parts == nil {
		return ""
	}
	return " WHERE " + strings.Join(parts, " AND ")
}

// condition is a comparison, or several in one, or one with a sub-select.
func (g *generator) condition(depth int, scope, outer []item) string {
	if depth < maxDepth && g.once(5) {
		return g.subCondition(depth, scope)
	}
	switch oneOf(g.choices, "", "", "", "or", "not") {
	case "or":
		return "(" + g.comparison(scope, outer) + " OR " + g.comparison(scope, outer) + ")"
	case "not":
		return "NOT (" + g.comparison(scope, outer) + ")"
	}
	return g.comparison(scope, outer)
}

// comparison compares a column with a constant, a list, NULL or another column; keys come first and thus often.
func (g *generator) comparison(scope, outer []item) string {
	c := g.pick(scope, func(class) bool { return true })
	if g.below(3) == 0 {
		i := oneOf(g.choices, scope...)
		c = column{i.alias + "." + i.columns[0].name, i.columns[0].class}
	}
	switch oneOf(g.choices, "constant", "constant", "list", "null", "column", "any", "between") {
	case "list":
		return fmt.Sprintf("%s%s (%s, %s, %s)", c.name, oneOf(g.choices, " IN", " IN", " NOT IN"), g.literal(c.class), g.literal(c.class), g.literal(c.class))
	case "null":
		return c.name + oneOf(g.choices, " IS NOT NULL", " IS NULL")
	case "column":
		if o := g.pick(append(slices.Clone(scope), outer...), func(k class) bool { return k == c.class }); o.class == c.class {
			return c.name + oneOf(g.choices, " = ", " <> ", " < ", " IS DISTINCT FROM ") + o.name
		}
	case "any":
		return c.name + " = ANY (ARRAY[" + g.literal(c.class) + ", " + g.literal(c.class) + "])"
	case "between":
		if c.class != boolean {
			return c.name + " BETWEEN " + g.literal(c.class) + " AND " + g.literal(c.class)
		}
	}
	value := g.literal(c.class)
	if c.class == integer {
		value = g.constant(fmt.Sprint(g.below(120)), false)
	}
	return c.name + oneOf(g.choices, " = ", " = ", " <> ", " > ", " <= ") + value
}

// subCondition is a condition with a sub-select, of which some belong to the row around it.
func (g *generator) subCondition(depth int, scope []item) string {
	g.traits["sub-select"] = true
	inner, from := g.from(depth + 1)
	var outer []item
	if g.below(3) > 0 {
		outer = scope
	}
	switch oneOf(g.choices, "exists", "in", "scalar") {
	case "exists":
		return oneOf(g.choices, "", "NOT ") + "EXISTS (SELECT 1" + from + g.where(depth+1, inner, outer) + ")"
	case "in":
		c := g.pick(scope, func(c class) bool { return c == integer || c == text })
		return c.name + oneOf(g.choices, " IN", " NOT IN") + " (SELECT " + g.valueOf(c.class, inner) + from + g.where(depth+1, inner, outer) + ")"
	}
	c := g.pick(scope, func(c class) bool { return c == integer })
	if c.class != integer {
		return "(SELECT count(*)" + from + g.where(depth+1, inner, outer) + ") > " + g.number(5)
	}
	return c.name + oneOf(g.choices, " > ", " = ", " <> ") + "(SELECT " + oneOf(g.choices, "count(*)", "max("+g.valueOf(integer, inner)+")") + from + g.where(depth+1, inner, outer) + ")"
}
