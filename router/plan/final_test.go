package plan

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/proxy/wire"
)

// expressions makes random queries with expressions over aggregates.
type expressions struct{ generator }

// spread is where rows of several shards come from.
type spread struct {
	from                         string
	numbers, texts, times, flags []string // columns
}

var spreads = []spread{
	{"users", []string{"age", "balance", "score", "id"}, []string{"name", "email", "country"}, []string{"created", "born"}, []string{"active"}},
	{"orders o", []string{"o.total", "o.id", "user_id"}, []string{"status", "o.country", "note"}, []string{"placed"}, []string{"o.total > 5"}},
	{"items", []string{"qty", "line", "price", "user_id"}, []string{"sku"}, nil, []string{"qty > 2"}},
	{"users u JOIN orders o ON u.id = o.user_id AND o.total > 3", []string{"u.age", "o.total", "u.balance"}, []string{"u.name", "o.status", "u.email"}, []string{"o.placed", "u.born"},
		[]string{"u.active"}},
	{"users u LEFT JOIN countries c ON c.code = u.country", []string{"u.age", "c.population"}, []string{"c.name", "u.name", "c.code"}, []string{"u.created"}, []string{"u.active"}},
}

func (g *expressions) filter() string {
	return g.pick("", "", "", "", " FILTER (WHERE 1 = 2)", " FILTER (WHERE 2 > 1)")
}

// number is an expression of a number, over aggregates where deep is above 0.
func (g *expressions) number(s *spread, keys []string, deep int) string {
	if deep <= 0 {
		column := g.pick(s.numbers...)
		switch g.IntN(9) {
		case 0:
			return "count(*)" + g.filter()
		case 1:
			return "count(" + column + ")" + g.filter()
		case 2:
			if g.IntN(5) == 0 {
				return "count(DISTINCT " + column + ")" // refused but for keys
			}
			return "count(" + column + ")"
		case 3, 4:
			return "sum(" + column + ")" + g.filter()
		case 5:
			return "avg(" + column + ")" + g.filter()
		case 6:
			return "min(" + column + ")" + g.filter()
		case 7:
			return "max(" + column + " )" + g.filter()
		}
		return g.pick("1", "2.50", "0", "-3", "NULL::int", "1e2")
	}
	sub := func() string { return g.number(s, keys, deep-1-g.IntN(2)) }
	switch g.IntN(17) {
	case 0, 1:
		return fmt.Sprintf("%s %s %s", sub(), g.pick("+", "-", "*"), sub())
	case 2:
		return fmt.Sprintf("(%s) %s (%s)", sub(), g.pick("+", "-", "*", "/"), sub())
	case 3:
		return fmt.Sprintf("%s / nullif(%s, 0)", sub(), sub())
	case 4:
		return "coalesce(" + sub() + ", " + sub() + ")"
	case 5:
		return "round((" + sub() + ")::numeric, " + g.pick("0", "2", "-1") + ")"
	case 6:
		return g.pick("greatest", "least") + "(" + sub() + ", " + sub() + ")"
	case 7:
		return "(" + sub() + ")::" + g.pick("int", "numeric(20,3)", "double precision", "real", "bigint", "text::numeric")
	case 8:
		return "CASE WHEN " + g.condition(s, keys, deep-1) + " THEN " + sub() + " ELSE " + sub() + " END"
	case 9:
		return "abs(" + sub() + ")"
	case 10:
		return "CASE " + sub() + " WHEN " + sub() + " THEN 1 END"
	case 11:
		return "length(" + g.text(s, keys, deep-1) + ")"
	case 12:
		return "-(" + sub() + ")"
	case 13:
		if len(s.times) > 0 {
			column := g.pick(s.times...)
			return "extract(epoch FROM max(" + column + ")) - extract(epoch FROM min(" + column + "))"
		}
	case 14:
		for _, k := range keys {
			if slices.Contains(s.numbers, k) {
				return k + " * " + sub()
			}
		}
	case 15:
		if g.IntN(9) > 0 {
			break
		}
		return "(ARRAY[" + sub() + ", 1])[1]" // refused
	}
	return "sum(" + g.pick(s.numbers...) + ") + " + sub()
}

func (g *expressions) text(s *spread, keys []string, deep int) string {
	switch g.IntN(6) {
	case 0:
		return "count(*) || ' of ' || " + g.pick("'x'", "coalesce("+g.number(s, keys, deep-1)+"::text, '')")
	case 1:
		return "to_char(" + g.number(s, keys, deep-1) + ", 'FM9990.00')"
	case 2:
		return "(" + g.number(s, keys, deep-1) + ")::text"
	case 3:
		for _, k := range keys {
			if slices.Contains(s.texts, k) {
				return "upper(" + k + ") || count(*)"
			}
		}
	case 4:
		return "max(" + g.pick(s.texts...) + g.pick("", ` COLLATE "C"`) + ") || '!'"
	}
	return "concat(" + g.number(s, keys, deep-1) + ", '-', bool_or(" + g.pick(s.flags...) + "))"
}

func (g *expressions) condition(s *spread, keys []string, deep int) string {
	a, b := g.number(s, keys, deep-1), g.number(s, keys, deep-1)
	switch g.IntN(8) {
	case 0, 1:
		return a + " " + g.pick("<", ">=", "<>") + " " + b
	case 2:
		return a + " BETWEEN 0 AND 100"
	case 3:
		return "NOT (" + a + " IS NULL)"
	case 4:
		return "(" + a + " IN (1, 2, 3) OR " + b + " > 2)"
	case 5:
		return "bool_and(" + g.pick(s.flags...) + ") IS NOT TRUE"
	case 6:
		return a + " IS DISTINCT FROM " + b
	}
	return "count(*) > 1 AND " + a + " > 0"
}

// query makes one query. Its rows come in an order that leaves nothing open.
func (g *expressions) query() string {
	s := &spreads[g.IntN(len(spreads))]
	var keys, outputs, order []string
	for range g.IntN(3) {
		k := g.pick(append(slices.Clone(s.numbers), s.texts...)...)
		if !slices.Contains(keys, k) {
			keys = append(keys, k)
		}
	}
	group := slices.Clone(keys)
	if g.IntN(5) == 0 {
		extra := g.pick("date_trunc('month', created)", "lower(country)", "age % 2")
		if s.from == "users" {
			group, outputs = append(group, extra), append(outputs, extra)
		}
	}
	for _, k := range keys {
		if g.IntN(3) > 0 {
			outputs = append(outputs, k)
		}
	}
	for i := range 1 + g.IntN(3) {
		e := g.number(s, keys, 2)
		if g.IntN(4) == 0 {
			e = g.text(s, keys, 2)
		}
		outputs = append(outputs, e+g.pick("", " AS v"+fmt.Sprint(i), " v"+fmt.Sprint(i), " AS \"a v\""))
	}
	sql := "SELECT " + g.pick("", "", "", "DISTINCT ") + strings.Join(outputs, ", ") + " FROM " + s.from
	if len(group) > 0 {
		sql += " GROUP BY " + strings.Join(group, ", ")
	}
	if g.IntN(3) == 0 {
		sql += " HAVING " + g.condition(s, keys, 2)
	}
	for i := range outputs {
		order = append(order, fmt.Sprint(i+1)+g.pick("", "", " DESC", " NULLS FIRST", " DESC NULLS LAST"))
	}
	if g.IntN(3) == 0 && !strings.HasPrefix(sql, "SELECT DISTINCT") {
		order = append([]string{g.number(s, keys, 2) + g.pick("", " DESC")}, order...)
	}
	sql += " ORDER BY " + strings.Join(order, ", ")
	if g.IntN(3) == 0 {
		sql += g.pick(" LIMIT 3", " LIMIT 2 OFFSET 1", " OFFSET 1 LIMIT 1 + 1", " FETCH FIRST 2 ROWS ONLY", " LIMIT ALL", " LIMIT 0")
	}
	return sql
}

// TestExpressionsOverAggregatesGiveTheAnswerOfOneServer compares random ones with one database that has all rows: values, their types, order and errors.
func TestExpressionsOverAggregatesGiveTheAnswerOfOneServer(t *testing.T) {
	f := newFleet(t)
	queries := *randomQueries / 2
	g := &expressions{generator{Rand: rand.New(rand.NewPCG(7, uint64(queries)))}}
	ran := map[string]int{}
	for range queries {
		sql := g.query()
		p := f.plan(sql)
		_, want, wantErr := f.ask(f.whole, sql, nil)
		if p.Kind == Refused {
			ran["refused: "+p.Refusal.Message]++
			continue
		}
		if p.Final == nil {
			ran["not final"]++
		}
		got, err := f.run(sql, p)
		switch {
		case errors.Is(err, errRefusedLate):
			ran["refused late: "+err.Error()]++
		case sqlState(err) != sqlState(wantErr):
			t.Errorf("%s\ngot error %v, want %v", sql, err, wantErr)
		case wantErr != nil:
			ran["errors"]++
		case !equalAnswers(sql, got.rows, want.rows):
			text, _ := p.finalText([]byte(sql))
			t.Errorf("%s\n%s\ngot  %q\nwant %q", sql, text, got.rows, want.rows)
		default:
			ran["same"]++
		}
	}
	for why, n := range ran {
		t.Log(n, why)
	}
	if ran["same"] < queries/3 {
		t.Errorf("compared %d, want more", ran["same"])
	}
}

// equalAnswers compares rows in their order. Equal numbers of other scales are one to ORDER BY and DISTINCT, so that each of them may be shown, or come first.
func equalAnswers(sql string, got, want []string) bool {
	if slices.Equal(got, want) {
		return true
	}
	plain := func(rows []string) (out []string) {
		for _, row := range rows {
			fields, err := wire.RowFields([]byte(row))
			if err != nil {
				return nil
			}
			text := ""
			for _, f := range fields {
				text += "|" + scale.ReplaceAllString(string(f), "$1")
			}
			out = append(out, text)
		}
		return out
	}
	if !slices.Equal(plain(got), plain(want)) {
		return false
	}
	slices.Sort(got)
	slices.Sort(want)
	return slices.Equal(got, want) || strings.Contains(sql, "DISTINCT") || strings.Contains(sql, "LIMIT") || strings.Contains(sql, "FETCH")
}

// scale matches a number with zeros at its end.
var scale = regexp.MustCompile(`^(-?\d+(?:\.\d*[1-9])?)(?:\.0+|0*)$`)

// sqlState is that of a server's error, "" for none.
func sqlState(err error) string {
	var e *pgconn.PgError
	switch {
	case errors.As(err, &e):
		return e.Code
	case err != nil:
		return err.Error()
	}
	return ""
}
