package shardtest

import (
	"fmt"
	"strings"
)

// target is a table that generated writes change, with what they may set.
type target struct {
	name string
	keys []column // its primary key, of which the first column is the sharding key, or all of them
	sets []column
}

func targets() []target {
	return []target{
		{"users", []column{{"id", integer}}, []column{{"name", text}, {"age", integer}, {"balance", fixed}, {"active", boolean}, {"born", day}}},
		{"accounts", []column{{"name", text}}, []column{{"balance", integer}, {"kind", text}, {"opened", day}, {"quota", integer}}},
		{"orders", []column{{"user_id", integer}, {"id", integer}}, []column{{"status", text}, {"total", fixed}, {"placed", moment}, {"note", text}}},
		{"meters", []column{{"tenant", integer}, {"id", integer}}, []column{{"reading", fixed}, {"taken", moment}, {"label", text}}},
		{"zoo", []column{{"id", integer}}, []column{{"i4", integer}, {"n6", fixed}, {"b", boolean}, {"c", text}, {"d", day}}},
		{"empties", []column{{"id", integer}}, []column{{"v", text}, {"n", fixed}, {"t", moment}}},
		{"currencies", []column{{"code", text}}, []column{{"digits", integer}, {"rate", fixed}}},
		{"settings", []column{{"key", text}}, []column{{"value", text}, {"changed", moment}}},
		{"audit", []column{{"id", integer}}, []column{{"what", text}, {"user_id", integer}}},
	}
}

// columns are those that must be given: what has no default and may not be NULL comes with the rest.
func (t target) columns() []column { return append(append([]column(nil), t.keys...), t.sets...) }

// write makes an INSERT, UPDATE or DELETE.
func (g *generator) write() *statement {
	t := oneOf(g.choices, targets()...)
	s := &statement{anyError: true} // several rows break several constraints
	switch kind := oneOf(g.choices, "update", "insert", "delete", "upsert", "insert select"); kind {
	case "insert", "upsert":
		s.sql, s.kind = g.insert(t, kind == "upsert"), "random "+kind
	case "insert select":
		s.kind = "random insert select"
		if g.once(3) {
			s.sql = g.insertRounded()
			g.parameters(s)
			return s
		}
		s.sql = g.insertSelect(t)
	case "delete":
		s.sql, s.kind = "DELETE FROM "+t.name+" t0"+g.whereOf(t), "random delete"
	default:
		s.sql, s.kind = "UPDATE "+t.name+" t0 SET "+g.assignments(t)+g.whereOf(t), "random update"
	}
	if g.once(3) {
		s.sql += " RETURNING " + t.keys[0].name + ", " + t.sets[0].name
	}
	g.parameters(s)
	return s
}

// whereOf makes a WHERE over the target, which names its columns by t0; often it names the key.
func (g *generator) whereOf(t target) string {
	scope := []item{{alias: "t0", of: t.name, columns: t.columns()}}
	if g.below(3) == 0 {
		var parts []string
		for _, key := range t.keys {
			value := g.literal(key.class)
			if key.class == integer {
				value = g.constant(fmt.Sprint(g.below(120)), false)
			}
			parts = append(parts, "t0."+key.name+" = "+value)
		}
		return " WHERE " + strings.Join(parts, " AND ")
	}
	return " WHERE " + g.condition(1, scope, nil)
}

func (g *generator) assignments(t target) string {
	var parts []string
	for _, c := range t.sets {
		if len(parts) == 0 || g.once(3) {
			parts = append(parts, c.name+" = "+g.newValue(c))
		}
	}
	return strings.Join(parts, ", ")
}

// newValue is a constant, or for numbers what follows from the old value.
func (g *generator) newValue(c column) string {
	switch {
	case c.class == integer && g.below(2) == 1:
		return c.name + " + 1"
	case c.class == fixed && g.below(2) == 1:
		return c.name + " * 2"
	case g.once(6) && c.name != "name" && c.name != "status" && c.name != "what" && c.name != "kind" && c.name != "digits":
		return "NULL"
	case g.once(6):
		return "DEFAULT"
	}
	return g.literal(c.class)
}

// key is a value for a key column: often a new one.
func (g *generator) key(c column) string {
	if c.class == text {
		return fmt.Sprintf("'key-%d'", g.below(60))
	}
	return g.constant(fmt.Sprint(100+g.below(200)), false)
}

func (g *generator) insert(t target, upsert bool) string {
	var rows, names, keys []string
	for _, c := range t.columns() {
		names = append(names, c.name)
	}
	for range 1 + g.below(4) {
		var values []string
		for _, c := range t.keys {
			values = append(values, g.key(c))
		}
		for _, c := range t.sets {
			values = append(values, g.literal(c.class))
		}
		rows = append(rows, "("+strings.Join(values, ", ")+")")
	}
	into := t.name + " (" + strings.Join(names, ", ") + ")"
	if t.name == "currencies" {
		into = "currencies (code, digits, rate, name)"
		for i := range rows {
			rows[i] = strings.TrimSuffix(rows[i], ")") + ", 'name')"
		}
	}
	sql := "INSERT INTO " + into + " VALUES " + strings.Join(rows, ", ")
	if !upsert {
		return sql
	}
	for _, c := range t.keys {
		keys = append(keys, c.name)
	}
	sql += " ON CONFLICT (" + strings.Join(keys, ", ") + ") DO "
	set := t.sets[g.below(len(t.sets))]
	return sql + oneOf(g.choices, "NOTHING", "UPDATE SET "+set.name+" = excluded."+set.name)
}

// rounding are tables of which each keeps the other's keys as they are, or rounds or cuts them.
func rounding() [][2]string {
	return [][2]string{{"exacts", "rounded"}, {"rounded", "exacts"}, {"longs", "shorts"}, {"shorts", "longs"}}
}

// insertRounded fills a table from another whose keys may not all be what they are there.
func (g *generator) insertRounded() string {
	pair := oneOf(g.choices, rounding()...)
	source := pair[1]
	if g.once(3) {
		source = "(SELECT k, v FROM " + pair[0] + " UNION ALL SELECT k, v FROM " + pair[1] + ")"
	}
	return "INSERT INTO " + pair[0] + " SELECT k, 1 FROM " + source + " t0 WHERE v " + oneOf(g.choices, "<", ">") + " " + g.number(30) +
		oneOf(g.choices, "", " ON CONFLICT DO NOTHING", " ON CONFLICT DO NOTHING")
}

// insertSelect fills a table from itself with other keys, or from what a query gives.
func (g *generator) insertSelect(t target) string {
	var names, values []string
	for i, c := range t.columns() {
		names = append(names, c.name)
		value := "t0." + c.name
		switch {
		case i > 0 && i < len(t.keys), i == 0 && len(t.keys) == 1:
			if c.class == integer {
				value += " / 2 + 1000"
			} else {
				value += " || '-x'"
			}
		}
		values = append(values, value)
	}
	if t.name == "currencies" {
		names, values = append(names, "name"), append(values, "t0.name")
	}
	return "INSERT INTO " + t.name + " (" + strings.Join(names, ", ") + ") SELECT " + oneOf(g.choices, "", "DISTINCT ") + strings.Join(values, ", ") +
		" FROM " + t.name + " t0" + g.whereOf(t)
}
