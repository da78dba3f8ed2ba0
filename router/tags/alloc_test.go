package tags

import (
	"testing"

	"pgtier/parser"
	"pgtier/router/catalog"
	"pgtier/router/shard"
)

// usual are statements of the common kind with their values.
func usual(cache *parser.Cache) (reads, writes []struct {
	st *parser.Statement
	v  Values
}) {
	type one = struct {
		st *parser.Statement
		v  Values
	}
	prepared := func(sql string, params ...shard.Param) one {
		return one{cache.Statement([]byte(sql)), Values{SQL: []byte(sql), Params: params}}
	}
	binary := shard.Param{OID: 23, Binary: true, Value: []byte{0, 0, 0, 1}}
	reads = []one{
		prepared("SELECT * FROM users WHERE id = $1", binary),
		prepared("SELECT * FROM users WHERE id = 1"),
		prepared("SELECT * FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = $1 AND o.user_id = $1", param("1")),
		prepared("SELECT * FROM items WHERE id = $1", param("00000000-0000-0000-0000-00000000000a")),
		prepared("SELECT * FROM codes WHERE c IN ('aa', 'bb')"),
		prepared("SELECT * FROM users"),
	}
	writes = []one{
		prepared("UPDATE users SET name = 'x' WHERE id = $1", binary),
		prepared("INSERT INTO users (id, email, name) VALUES (1, 'a@x', 'ann'), (2, 'b@x', 'bob')"),
		prepared("DELETE FROM orders WHERE user_id = 1"),
	}
	return reads, writes
}

func TestSetsDoNotAllocate(t *testing.T) {
	x := testIndex(t, testDatabase(t), catalog.Relations)
	reads, writes := usual(newCache())
	dst := make([]Tag, 0, 64)
	change := Change{Kind: 'U', Schema: "public", Table: "users", Columns: []string{"id", "email", "name", "age"}, Identity: []bool{true, false, false, false},
		New: []Datum{{'t', []byte("1")}, {'t', []byte("a@x")}, {'n', nil}, {'n', nil}}}
	if n := testing.AllocsPerRun(100, func() {
		for i := range reads {
			dst = x.Read(reads[i].st).Append(dst[:0], reads[i].v)
			dst = x.Read(reads[i].st).AppendFound(dst[:0], reads[i].v)
		}
		for i := range writes {
			dst = x.Write(writes[i].st).Append(dst[:0], writes[i].v)
		}
		dst = x.Changed(dst[:0], &change)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTags(b *testing.B) {
	x := testIndex(b, testDatabase(b), catalog.Relations)
	reads, writes := usual(newCache())
	dst := make([]Tag, 0, 64)
	for i := range reads {
		b.Run(reads[i].st.Template, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				dst = x.Read(reads[i].st).Append(dst[:0], reads[i].v)
			}
		})
	}
	for i := range writes {
		b.Run(writes[i].st.Template, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				dst = x.Write(writes[i].st).Append(dst[:0], writes[i].v)
			}
		})
	}
}
