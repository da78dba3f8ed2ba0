package plan

import "testing"

// routeCases are statements whose way is found without allocation, with the parameters that they are carried out with.
func routeCases() map[string]struct {
	sql    string
	params []Param
} {
	type c = struct {
		sql    string
		params []Param
	}
	return map[string]c{
		"integer literal":   {"SELECT name FROM users WHERE id = 4711", nil},
		"integer parameter": {"SELECT name FROM users WHERE id = $1", []Param{{Value: []byte("4711")}}},
		"binary parameter":  {"SELECT name FROM users WHERE id = $1", []Param{{OID: 20, Binary: true, Value: []byte{0, 0, 0, 0, 0, 0, 18, 103}}}},
		"text literal":      {"SELECT kind FROM events WHERE tenant = 'acme' AND seq = 12", nil},
		"text parameter":    {"SELECT kind FROM events WHERE tenant = $1 AND seq = $2", []Param{{OID: 25, Value: []byte("acme")}, {Value: []byte("12")}}},
		"uuid literal":      {"SELECT title FROM public.docs WHERE id = '0d2a1f04-3c2b-4c8e-9d61-0e6a3f7b9c21'", nil},
		"uuid parameter":    {"SELECT title FROM public.docs WHERE id = $1", []Param{{Value: []byte("0d2a1f04-3c2b-4c8e-9d61-0e6a3f7b9c21")}}},
		"join":              {"SELECT * FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = 4711", nil},
		"insert":            {"INSERT INTO users (id, name) VALUES (4711, 'x')", nil},
		"update":            {"UPDATE users SET name = 'x' WHERE id = 4711", nil},
		"reference":         {"SELECT name FROM countries WHERE code = 'DE'", nil},
	}
}

func TestRouteAllocatesNothing(t *testing.T) {
	schema, _ := testSchema(t, testDatabase(t))
	cache := newCache()
	for name, c := range routeCases() {
		v := &Values{SQL: []byte(c.sql), Params: c.params, Known: true}
		st := cache.Statement(v.SQL)
		p := schema.Statement(st, v.SQL)
		if plan := p.Route(v, nil); plan.Kind != One && plan.Kind != Any {
			t.Errorf("%s: got %s (%s), want one", name, plan.Kind, plan.Reason)
		}
		if n := testing.AllocsPerRun(100, func() { schema.Statement(st, v.SQL).Route(v, nil) }); n > 0 {
			t.Errorf("%s: %v allocations, want 0", name, n)
		}
	}
}

func BenchmarkRoute(b *testing.B) {
	schema, _ := testSchema(b, testDatabase(b))
	cache := newCache()
	for name, c := range routeCases() {
		v := &Values{SQL: []byte(c.sql), Params: c.params, Known: true}
		st := cache.Statement(v.SQL)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				schema.Statement(st, v.SQL).Route(v, nil)
			}
		})
	}
}

func BenchmarkStatement(b *testing.B) {
	schema, _ := testSchema(b, testDatabase(b))
	cache := newCache()
	sql := []byte("SELECT u.id, u.name, sum(o.total) FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = $1 GROUP BY u.id, u.name")
	st := cache.Statement(sql)
	b.ReportAllocs()
	for b.Loop() {
		schema.text(st, sql, false)
	}
}
