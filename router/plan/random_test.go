package plan

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

var randomQueries = flag.Int("queries", 1500, "how many random queries are compared; each number has others")

// generator makes random queries over the tables of testdata/schema.sql. They are valid; most join along keys.
type generator struct {
	*rand.Rand
	aliases int
}

// source is an item of FROM with the columns that conditions may use.
type source struct {
	sql     string
	key     string // the sharding key, "" if it has none that can be named
	columns []string
	alias   string
}

func (g *generator) pick(list ...string) string { return list[g.IntN(len(list))] }

// table is a table, or a sub-select over one.
func (g *generator) table() source {
	g.aliases++
	alias := fmt.Sprintf("t%d", g.aliases)
	s := source{alias: alias}
	name := g.pick("users", "users", "orders", "orders", "items", "profiles", "countries", "settings")
	switch name {
	case "users":
		s.key, s.columns = "id", []string{"id", "age", "balance"}
	case "orders":
		s.key, s.columns = "user_id", []string{"user_id", "id", "total"}
	case "items":
		s.key, s.columns = "user_id", []string{"user_id", "order_id", "line", "qty"}
	case "profiles":
		s.key, s.columns = "user_id", []string{"user_id"}
	case "countries":
		s.columns = []string{"population"}
	case "settings":
		s.sql, s.columns = "(SELECT value::int AS value FROM settings) "+alias, []string{"value"}
		if g.IntN(3) > 0 {
			s.sql, s.columns = "(VALUES (1), (7), (NULL)) "+alias+" (value)", []string{"value"}
		}
		return s
	}
	switch g.IntN(8) {
	case 0:
		s.sql = fmt.Sprintf("(SELECT %s FROM %s x WHERE %s) %s", strings.Join(s.columns, ", "), name, g.filter("x", s.columns), alias)
	case 1:
		if s.key != "" {
			s.sql = fmt.Sprintf("(SELECT %s, count(*) AS n FROM %s GROUP BY %s) %s", s.key, name, g.pick(s.key, s.key, "1"), alias)
			s.columns = []string{s.key, "n"}
			break
		}
		fallthrough
	case 2:
		s.sql = fmt.Sprintf("(SELECT DISTINCT %s FROM %s) %s", strings.Join(s.columns, ", "), name, alias)
	default:
		s.sql = name + " " + alias
	}
	return s
}

// filter is a condition over one source.
func (g *generator) filter(alias string, columns []string) string {
	column := alias + "." + g.pick(columns...)
	switch g.IntN(7) {
	case 0, 1:
		return fmt.Sprintf("%s = %d", column, g.IntN(15))
	case 2:
		return fmt.Sprintf("%s IN (%d, %d, %d)", column, g.IntN(15), g.IntN(15), g.IntN(15))
	case 3:
		return fmt.Sprintf("(%s = %d OR %s = %d)", column, g.IntN(15), alias+"."+g.pick(columns...), g.IntN(15))
	case 4:
		return fmt.Sprintf("%s > %d", column, g.IntN(10))
	case 5:
		return fmt.Sprintf("NOT (%s = %d)", column, g.IntN(15))
	}
	return fmt.Sprintf("%s IS NOT NULL", column)
}

// on is a condition between two sources.
func (g *generator) on(a, b source) string {
	left, right := a.alias+"."+g.pick(a.columns...), b.alias+"."+g.pick(b.columns...)
	if a.key != "" && b.key != "" && g.IntN(4) > 0 {
		left, right = a.alias+"."+a.key, b.alias+"."+b.key
	}
	on := left + " = " + right
	if g.IntN(3) == 0 {
		side := a
		if g.IntN(2) == 0 {
			side = b
		}
		on += " AND " + g.filter(side.alias, side.columns)
	}
	return on
}

// query makes one query.
func (g *generator) query() string {
	g.aliases = 0
	sources := []source{g.table()}
	from := sources[0].sql
	for range g.IntN(3) {
		next := g.table()
		kind := g.pick("JOIN", "JOIN", "LEFT JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN")
		from = fmt.Sprintf("%s %s %s ON %s", from, kind, next.sql, g.on(sources[g.IntN(len(sources))], next))
		sources = append(sources, next)
	}
	var where []string
	for range g.IntN(3) {
		s := sources[g.IntN(len(sources))]
		where = append(where, g.filter(s.alias, s.columns))
	}
	if g.IntN(3) == 0 {
		where = append(where, g.sub(sources[g.IntN(len(sources))]))
	}
	sql := " FROM " + from
	if len(where) > 0 {
		sql += " WHERE " + strings.Join(where, " AND ")
	}
	return g.outputs(sources) + sql + g.tail(sources)
}

// sub is a condition with a sub-select.
func (g *generator) sub(outer source) string {
	inner := g.table()
	condition := g.on(outer, inner)
	switch g.IntN(5) {
	case 0:
		return fmt.Sprintf("EXISTS (SELECT 1 FROM %s WHERE %s)", inner.sql, condition)
	case 1:
		return fmt.Sprintf("NOT EXISTS (SELECT 1 FROM %s WHERE %s)", inner.sql, condition)
	case 2:
		return fmt.Sprintf("%s.%s IN (SELECT %s FROM %s)", outer.alias, g.pick(outer.columns...), inner.alias+"."+g.pick(inner.columns...), inner.sql)
	case 3:
		return fmt.Sprintf("%s.%s NOT IN (SELECT %s FROM %s WHERE %s)", outer.alias, g.pick(outer.columns...), inner.alias+"."+g.pick(inner.columns...), inner.sql, condition)
	}
	return fmt.Sprintf("(SELECT count(*) FROM %s WHERE %s) > %d", inner.sql, condition, g.IntN(2))
}

func (g *generator) outputs(sources []source) string {
	s := sources[g.IntN(len(sources))]
	column := s.alias + "." + g.pick(s.columns...)
	return "SELECT " + g.pick("*", "*", "count(*), sum("+column+"), min("+column+")", "DISTINCT "+column, column+" AS x, count(*)", "avg("+column+")")
}

// tail groups what must be grouped; the outputs are found by their place.
func (g *generator) tail([]source) string { return "" }

// TestRandomQueriesGiveTheAnswerOfOneServer is TestPlansGiveTheAnswerOfOneServer for random queries.
func TestRandomQueriesGiveTheAnswerOfOneServer(t *testing.T) {
	f := newFleet(t)
	queries := *randomQueries
	g := &generator{Rand: rand.New(rand.NewPCG(3, uint64(queries)))}
	ran := map[Kind]int{}
	for i := range queries {
		sql := g.query()
		if at := strings.Index(sql, " AS x, count(*)"); at > 0 {
			sql += " GROUP BY 1"
		}
		p := f.plan(sql)
		if p.Kind == Refused {
			ran[Refused]++
			continue
		}
		if f.compare(&goldenCase{line: i, sql: sql}, p) {
			ran[p.Kind]++
		}
	}
	t.Log(ran)
	if ran[One] < queries/20 || ran[Scatter] < queries/10 {
		t.Errorf("compared %v, want more", ran)
	}
}
