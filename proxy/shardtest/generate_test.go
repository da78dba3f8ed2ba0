package shardtest

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// class is what can be done with a column.
type class byte

// The classes. Values of "exact" ones that are equal have equal bytes, so that DISTINCT, GROUP BY and ties in an order
// show the same whichever row they take.
const (
	integer  class = 'i'
	fixed    class = 'f' // numeric of one scale
	text     class = 's' // under C
	language class = 'u' // text under ICU
	code     class = 'c' // char(2)
	moment   class = 't'
	day      class = 'd'
	boolean  class = 'b'
	uuid     class = 'g'
	free     class = 'n' // numeric of any scale
	float    class = 'x' // whose sums are exact
)

func (c class) exact() bool { return c != free && c != float }

// column is a column that a generated statement can name.
type column struct {
	name string
	class
}

// relation is a table with the columns that the generator uses.
type relation struct {
	name    string
	columns []column
}

// relations lists what statements are made of: "name:class" each, the key first.
func relations() []relation {
	var all []relation
	for _, line := range []string{
		"users id:i name:s sorted:u country:c age:i balance:f score:x active:b born:d created:t boss:i",
		"orders user_id:i id:i status:s total:n currency:s placed:t note:s",
		"order_items user_id:i order_id:i line:i product:s quantity:i price:f discount:n",
		"countries code:c name:u continent:s population:i area:f",
		"currencies code:s name:s digits:i rate:n",
		"accounts name:s owner:i balance:i kind:s opened:d quota:i",
		"events id:g at:t day:d user_id:i kind:s",
		"meters tenant:i id:i reading:n taken:t label:s",
		"visits user_id:i day:d pages:i",
		"zoo id:i i4:i n:n n6:f f8:x b:b c:s t:s icu:u d:d tz:t u:g",
		"empties id:i v:s n:n t:t",
		"settings key:s value:s changed:t",
		"audit id:i what:s user_id:i",
		"active_users id:i name:s country:c age:i balance:f",
	} {
		words := strings.Fields(line)
		r := relation{name: words[0]}
		for _, word := range words[1:] {
			name, kind, _ := strings.Cut(word, ":")
			r.columns = append(r.columns, column{name, class(kind[0])})
		}
		all = append(all, r)
	}
	return all
}

// bonds lists how relations are meant to be joined.
func bonds() [][4]string {
	return [][4]string{
		{"users", "id", "orders", "user_id"}, {"orders", "user_id", "order_items", "user_id"}, {"users", "id", "order_items", "user_id"},
		{"users", "country", "countries", "code"}, {"orders", "currency", "currencies", "code"}, {"users", "id", "visits", "user_id"},
		{"orders", "user_id", "visits", "user_id"}, {"active_users", "id", "orders", "user_id"}, {"users", "id", "active_users", "id"},
		{"users", "id", "accounts", "owner"}, {"users", "id", "events", "user_id"}, {"users", "boss", "users", "id"}, {"zoo", "id", "users", "id"},
		{"audit", "user_id", "users", "id"}, {"meters", "id", "users", "id"}, {"users", "id", "users", "id"}, {"orders", "id", "order_items", "order_id"},
		{"meters", "tenant", "meters", "tenant"}, {"events", "id", "events", "id"}, {"accounts", "name", "accounts", "name"},
	}
}

// item is one source of a FROM.
type item struct {
	alias   string
	of      string // the relation's name, "" for a sub-select
	columns []column
}

// generator makes one statement of choices.
type generator struct {
	*choices
	aliases int
	params  []param
	with    []item // WITH queries so far
	texts   []string
	traits  map[string]bool
}

func newGenerator(c *choices) *generator { return &generator{choices: c, traits: map[string]bool{}} }

// maxDepth is how deep sub-selects go.
const maxDepth = 2

// read makes a SELECT.
func (g *generator) read() *statement {
	for range g.below(3) {
		if g.below(2) == 0 {
			break
		}
		body, columns := g.query(1, nil)
		name := fmt.Sprintf("w%d", len(g.with)+1)
		g.texts = append(g.texts, name+" AS ("+body+")")
		g.with = append(g.with, item{columns: columns, of: name})
		g.traits["cte"] = true
	}
	body, columns := g.query(0, nil)
	if g.once(8) {
		body, columns = g.setOperation(body, columns)
	}
	s := &statement{}
	s.sql = body + g.orderBy(s, columns)
	if s.order.total && g.once(6) { // whose order one server passes on
		s.sql = "SELECT * FROM (" + s.sql + ") sorted" + oneOf(g.choices, "", " LIMIT 3")
	}
	if g.texts != nil {
		s.sql = "WITH " + strings.Join(g.texts, ", ") + " " + s.sql
	}
	g.parameters(s)
	s.kind = g.kind()
	// Sub-selects with more than one row, a number out of range: which of several errors comes first is not promised.
	s.anyError = true
	return s
}

// parameters gives the statement those that its text has. Where one of several ways to say something is chosen, all have been made with theirs.
func (g *generator) parameters(s *statement) {
	numbers := map[string]string{}
	s.sql = parameter.ReplaceAllStringFunc(s.sql, func(old string) string {
		if numbers[old] == "" {
			n, _ := strconv.Atoi(old[1:])
			s.params = append(s.params, g.params[n-1])
			numbers[old] = fmt.Sprintf("$%d", len(s.params))
		}
		return numbers[old]
	})
}

var parameter = regexp.MustCompile(`\$[0-9]+`)

// kind names a statement by what is hardest in it.
func (g *generator) kind() string {
	for _, trait := range []string{"cte", "set", "window", "sub-select", "group", "aggregate", "distinct", "join"} {
		if g.traits[trait] {
			return "random " + trait
		}
	}
	return "random plain"
}

// setOperation puts another query of the same types behind the first.
func (g *generator) setOperation(body string, columns []column) (string, []column) {
	exact := true
	for _, c := range columns {
		exact = exact && c.exact()
	}
	word := " UNION ALL "
	if exact {
		word = oneOf(g.choices, " UNION ALL ", " UNION ", " EXCEPT ", " INTERSECT ", " EXCEPT ALL ", " INTERSECT ALL ")
	}
	scope, from := g.from(1)
	var outputs []string
	for _, c := range columns {
		outputs = append(outputs, g.valueOf(c.class, scope))
	}
	g.traits["set"] = true
	return body + word + "SELECT " + strings.Join(outputs, ", ") + from + g.where(1, scope, nil), columns
}

// orderBy orders the statement by some of its outputs, and bounds it if that leaves no choice of rows.
func (g *generator) orderBy(s *statement, columns []column) string {
	if g.below(3) == 0 {
		return ""
	}
	exact := true
	var keys []string
	n := 1 + g.below(len(columns))
	for i, c := range columns {
		exact = exact && c.exact()
		if i < n {
			s.order.keys = append(s.order.keys, i)
			keys = append(keys, fmt.Sprintf("%d%s", i+1, oneOf(g.choices, "", " DESC", " NULLS FIRST", " DESC NULLS LAST")))
		}
	}
	tail := " ORDER BY " + strings.Join(keys, ", ")
	if exact && n == len(columns) {
		s.order = order{total: true}
		if g.below(2) == 1 {
			tail += " LIMIT " + g.number(12)
		}
		if g.once(4) {
			tail += " OFFSET " + g.number(20)
		}
	}
	return tail
}

// number is a small number, sometimes as a parameter.
func (g *generator) number(n int) string { return g.constant(fmt.Sprint(g.below(n)), false) }

// constant is a literal, or now and then a parameter.
func (g *generator) constant(value string, quoted bool) string {
	if g.once(4) && len(g.params) < 9 {
		g.params = append(g.params, param{text: value, quoted: quoted})
		return fmt.Sprintf("$%d", len(g.params))
	}
	if quoted {
		return "'" + value + "'"
	}
	return value
}

// query makes a SELECT without order. Columns of outer may be named in its conditions.
func (g *generator) query(depth int, outer []item) (string, []column) {
	scope, from := g.from(depth)
	where := g.where(depth, scope, outer)
	switch oneOf(g.choices, "plain", "plain", "group", "aggregate", "distinct", "window") {
	case "group":
		return g.grouped(scope, from+where)
	case "aggregate":
		g.traits["aggregate"] = true
		outputs, columns := g.aggregates(scope)
		return "SELECT " + named(outputs, columns) + from + where, columns
	case "distinct":
		g.traits["distinct"] = true
		outputs, columns := g.outputs(scope, true)
		return "SELECT DISTINCT " + named(outputs, columns) + from + where, columns
	case "window":
		g.traits["window"] = true
		outputs, columns := g.outputs(scope, false)
		by := g.pick(scope, class.exact)
		outputs, columns = append(outputs, "count(*) OVER (PARTITION BY "+by.name+")"), append(columns, column{class: integer})
		return "SELECT " + named(outputs, columns) + from + where, rename(columns)
	}
	outputs, columns := g.outputs(scope, false)
	return "SELECT " + named(outputs, columns) + from + where, columns
}

// named writes outputs with names that sub-selects can be asked by, and gives the columns these names.
func named(outputs []string, columns []column) string {
	parts := make([]string, len(outputs))
	for i, output := range outputs {
		columns[i].name = fmt.Sprintf("c%d", i+1)
		parts[i] = output + " AS " + columns[i].name
	}
	return strings.Join(parts, ", ")
}

func rename(columns []column) []column {
	for i := range columns {
		columns[i].name = fmt.Sprintf("c%d", i+1)
	}
	return columns
}

// grouped makes outputs of group columns and aggregates, with HAVING now and then.
func (g *generator) grouped(scope []item, rest string) (string, []column) {
	g.traits["group"] = true
	var outputs, keys []string
	var columns []column
	for range 1 + g.below(2) {
		c := g.pick(scope, class.exact)
		outputs, keys, columns = append(outputs, c.name), append(keys, c.name), append(columns, c)
	}
	if g.once(3) {
		for _, item := range g.alike(scope) {
			outputs, keys, columns = append(outputs, item), append(keys, item), append(columns, column{class: integer})
		}
		if g.below(2) == 1 {
			slices.Reverse(keys)
		}
	}
	more, of := g.aggregates(scope)
	sql := "SELECT " + named(append(outputs, more...), append(columns, of...)) + rest + " GROUP BY " + strings.Join(keys, ", ")
	if g.once(3) {
		having := g.aggregate(scope, integer)
		if g.once(3) {
			having = g.computed(scope, integer, having)
		}
		sql += " HAVING " + having + oneOf(g.choices, " > ", " < ", " <> ") + g.number(8)
	}
	return sql, rename(append(columns, of...))
}

// alike are two integers that are written alike but for their constants, now and then the same ones.
func (g *generator) alike(scope []item) []string {
	n := func() string { return g.constant(fmt.Sprint(2+g.below(3)), false) }
	if c := g.pick(scope, func(c class) bool { return c == integer }); c.class == integer && g.below(3) > 0 {
		return []string{c.name + " % " + n(), c.name + " % " + n()}
	}
	if c := g.pick(scope, func(c class) bool { return c == text }); c.class == text {
		return []string{"length(left(" + c.name + ", " + n() + "))", "length(left(" + c.name + ", " + n() + "))"}
	}
	return []string{"(" + n() + ")::int", "(" + n() + ")::int"}
}

// outputs are some columns or expressions of the scope.
func (g *generator) outputs(scope []item, exact bool) (outputs []string, columns []column) {
	for range 1 + g.below(3) {
		c := g.pick(scope, func(c class) bool { return !exact || c.exact() })
		output := c.name
		switch {
		case g.below(4) != 3:
		case c.class == integer:
			output, c.class = oneOf(g.choices, c.name+" % 7", "coalesce("+c.name+", 0)", c.name+" IS NULL"), integer
			if strings.HasSuffix(output, "NULL") {
				c.class = boolean
			}
		case c.class == text || c.class == language:
			output, c.class = oneOf(g.choices, "length("+c.name+")", c.name+" LIKE 'a%'"), integer
			if strings.Contains(output, "LIKE") {
				c.class = boolean
			}
		case c.class == moment:
			output = "date_trunc('month', " + c.name + ")"
		}
		outputs, columns = append(outputs, output), append(columns, c)
	}
	return outputs, columns
}

// aggregates are one to three aggregates.
func (g *generator) aggregates(scope []item) (outputs []string, columns []column) {
	for range 1 + g.below(3) {
		kind := oneOf(g.choices, integer, free, text, moment, boolean)
		output := g.aggregate(scope, kind)
		if g.once(2) {
			output = g.computed(scope, kind, output)
		}
		outputs, columns = append(outputs, output), append(columns, column{class: kind})
	}
	return outputs, columns
}

// computed is an expression over an aggregate, of its class.
func (g *generator) computed(scope []item, kind class, aggregate string) string {
	other := func() string { return g.aggregate(scope, kind) }
	switch kind {
	case free:
		return oneOf(g.choices, "round("+aggregate+", 2)", aggregate+" / nullif(count(*), 0)", "coalesce("+aggregate+", 0) - "+g.number(9), "-("+aggregate+")", "greatest("+aggregate+", "+other()+")")
	case text:
		return oneOf(g.choices, "coalesce("+aggregate+", 'none')", aggregate+" || '!'", "nullif("+aggregate+", "+other()+")", "CASE WHEN count(*) > 2 THEN "+aggregate+" END")
	case moment:
		return oneOf(g.choices, aggregate+" + interval '1 day'", "date_trunc('day', "+aggregate+")", "least("+aggregate+", "+other()+")")
	case boolean:
		return oneOf(g.choices, "NOT "+aggregate, "("+aggregate+") IS TRUE", aggregate+" AND count(*) > "+g.number(5), aggregate+" = "+other())
	default:
		return oneOf(g.choices, aggregate+" + 1", "("+aggregate+")::bigint * 2", aggregate+" - "+other(), "coalesce(nullif("+aggregate+", "+g.number(5)+"), -1)", "length(("+aggregate+")::text)")
	}
}

// aggregate is one aggregate with a result of the class: integer, free, text (of C), moment or boolean.
func (g *generator) aggregate(scope []item, kind class) string {
	of := func(classes string) (string, bool) {
		c := g.pick(scope, func(c class) bool { return strings.Contains(classes, string(c)) })
		return c.name, strings.Contains(classes, string(c.class))
	}
	var call string
	switch kind {
	case free:
		if name, ok := of("ifn"); ok {
			call = oneOf(g.choices, "sum(", "avg(", "avg(DISTINCT ") + name + ")::numeric"
			if g.once(6) {
				return call
			}
			return strings.TrimSuffix(call, "::numeric") + g.filter(scope) + "::numeric"
		}
		return "count(*)::numeric"
	case text:
		if name, ok := of("s"); ok {
			call = oneOf(g.choices, "min(", "max(") + name + ")"
			break
		}
		return "max('x'::text)"
	case moment:
		if name, ok := of("t"); ok {
			call = oneOf(g.choices, "max(", "min(") + name + ")"
			break
		}
		return "max('2024-01-01 00:00:00+00'::timestamptz)"
	case boolean:
		if name, ok := of("b"); ok {
			call = oneOf(g.choices, "bool_or(", "bool_and(") + name + ")"
			break
		}
		return "bool_or(true)"
	default:
		name, _ := of("ifsucdtbgnx")
		call = oneOf(g.choices, "count(*)", "count("+name+")", "count(DISTINCT "+name+")")
	}
	return call + g.filter(scope)
}

func (g *generator) filter(scope []item) string {
	if !g.once(6) {
		return ""
	}
	return " FILTER (WHERE " + g.comparison(scope, nil) + ")"
}
