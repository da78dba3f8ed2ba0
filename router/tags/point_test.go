package tags

import (
	"fmt"
	"slices"
	"testing"

	"pgtier/parser"
	"pgtier/router/catalog"
	"pgtier/router/shard"
)

// param is a parameter as text without a declared type.
func param(text string) shard.Param { return shard.Param{Value: []byte(text)} }

// readTags and writeTags are the tags of a text with parameters.
func readTags(t testing.TB, x *Index, cache *parser.Cache, sql string, params ...shard.Param) []Tag {
	t.Helper()
	s := x.Read(cache.Statement([]byte(sql)))
	if s == nil {
		t.Fatalf("%s: no read", sql)
	}
	return s.Append(nil, Values{SQL: []byte(sql), Params: params})
}

func writeTags(x *Index, cache *parser.Cache, sql string, params ...shard.Param) []Tag {
	return x.Write(cache.Statement([]byte(sql))).Append(nil, Values{SQL: []byte(sql), Params: params})
}

// TestPointsOfOtherKeysDoNotMeet has the usual reads and writes by a key: of one key they meet, of two keys they do not.
func TestPointsOfOtherKeysDoNotMeet(t *testing.T) {
	x := testIndex(t, testDatabase(t), catalog.Relations)
	cache := newCache()
	for _, c := range []struct{ read, write, one, other string }{
		{"SELECT * FROM users WHERE id = $1", "UPDATE users SET name = 'x' WHERE id = $1", "1", "2"},
		{"SELECT * FROM users WHERE id = $1", "DELETE FROM users WHERE id = $1", "1", "2"},
		{"SELECT * FROM users WHERE id = $1", "INSERT INTO users (id, name) VALUES ($1, 'x')", "1", "2"},
		{"SELECT * FROM users WHERE id = $1", "INSERT INTO users VALUES ($1, 'a@x', 'x')", "1", "2"},
		{"SELECT * FROM users WHERE id = $1", "INSERT INTO users (id) VALUES ($1) ON CONFLICT DO NOTHING", "1", "2"},
		{"SELECT name FROM users u WHERE u.id IN ($1, 77) AND age > 5", "UPDATE users SET name = 'x' WHERE id IN ($1, 78)", "1", "2"},
		{"SELECT * FROM users WHERE email = $1", "UPDATE users SET name = 'x' WHERE email = $1", "a@x", "b@x"},
		{"SELECT * FROM users WHERE email = $1", "INSERT INTO users (id, email) VALUES (9, $1)", "a@x", "b@x"},
		{"SELECT * FROM orders WHERE user_id = $1", "INSERT INTO orders (user_id, total) VALUES ($1, 5)", "1", "2"},
		{"SELECT sum(total) FROM orders WHERE user_id = $1", "DELETE FROM orders WHERE user_id = $1", "1", "2"},
		{"SELECT * FROM orders WHERE id = $1", "UPDATE orders SET note = 'x' WHERE id = $1", "1", "2"},
		{"SELECT u.name, o.note FROM users u JOIN orders o ON o.user_id = u.id WHERE u.id = $1 AND o.user_id = $1", "UPDATE users SET name = 'x' WHERE id = $1", "1", "2"},
		{"SELECT * FROM items WHERE id = $1", "UPDATE items SET qty = 5 WHERE id = $1", "00000000-0000-0000-0000-00000000000a", "00000000-0000-0000-0000-00000000000b"},
		{"SELECT * FROM items WHERE order_id = $1", "INSERT INTO items (id, order_id) VALUES ('00000000-0000-0000-0000-00000000000a', $1)", "1", "2"},
		{"SELECT * FROM nodes WHERE id = $1", "UPDATE nodes SET label = 'x' WHERE id = $1", "1", "2"},
		{"SELECT * FROM secrets WHERE id = $1", "UPDATE secrets SET v = 1 WHERE id = $1", "1", "2"},
		{"SELECT * FROM prices WHERE p = $1", "UPDATE prices SET v = 1 WHERE p = $1", "1.50", "2"},
		{"SELECT * FROM days WHERE d = $1", "UPDATE days SET v = 1 WHERE d = $1", "2024-01-01", "2024-01-02"},
		{"SELECT * FROM codes WHERE c = $1", "UPDATE codes SET v = 1 WHERE c = $1", "aa", "bb"},
	} {
		for _, literal := range []bool{false, true} {
			t.Run(fmt.Sprint(c.read, " / ", c.write, literal), func(t *testing.T) {
				read, write := []string{c.read, c.read}, []string{c.write, c.write}
				params := [2][]shard.Param{{param(c.one)}, {param(c.other)}}
				if literal {
					read = []string{inline(c.read, c.one), inline(c.read, c.other)}
					write = []string{inline(c.write, c.one), inline(c.write, c.other)}
					params = [2][]shard.Param{}
				}
				for i := range 2 {
					for j := range 2 {
						r, w := readTags(t, x, cache, read[i], params[i]...), writeTags(x, cache, write[j], params[j]...)
						if got := meet(r, w); got != (i == j) {
							t.Errorf("%s and %s: meet %v\n%v\n%v", read[i], write[j], got, r, w)
						}
					}
				}
			})
		}
	}
}

func inline(sql, value string) string {
	text := ""
	for i := 0; i < len(sql); i++ {
		if sql[i] == '$' {
			text += "'" + value + "'"
			i++
			continue
		}
		text += sql[i : i+1]
	}
	return text
}

// TestFoundRowsDoNotDependOnNewOnes has a row of a number that a sequence gives: it may be one that was looked for in vain, but none that was found.
func TestFoundRowsDoNotDependOnNewOnes(t *testing.T) {
	x := testIndex(t, testDatabase(t), catalog.Relations)
	cache := newCache()
	written := writeTags(x, cache, "INSERT INTO orders (user_id, note) VALUES (7, 'x')")
	for sql, want := range map[string]bool{
		"SELECT note FROM orders WHERE id = 1":                                 false,
		"SELECT note, round(total) FROM orders o WHERE o.id = 1 LIMIT 1":       false,
		"SELECT note FROM orders WHERE id IN (1, 2)":                           true,
		"SELECT count(*) FROM orders WHERE id = 1":                             true,
		"SELECT orders.count FROM orders WHERE id = 1":                         true,
		"SELECT note FROM orders WHERE id = 1 UNION ALL SELECT 'x'":            true,
		"SELECT EXISTS (SELECT FROM orders WHERE id = 1)":                      true,
		"SELECT 1 FROM orders WHERE id = 1 HAVING true":                        true,
		"SELECT u.name FROM users u LEFT JOIN orders o ON true WHERE o.id = 1": true,
		"SELECT note FROM orders WHERE user_id = 1":                            false,
	} {
		s := x.Read(cache.Statement([]byte(sql)))
		if got := meet(s.AppendFound(nil, Values{SQL: []byte(sql)}), written); got != want {
			t.Errorf("%s: depends on new rows: %v, want %v", sql, got, want)
		}
	}
	if r := readTags(t, x, cache, "SELECT note FROM orders WHERE id = 1"); !meet(r, written) {
		t.Error("a row that was not found may be the new one")
	}
}

// TestWaysToWriteAValueHaveOneTag compares every way to send a value.
func TestWaysToWriteAValueHaveOneTag(t *testing.T) {
	x := testIndex(t, testDatabase(t), catalog.Relations)
	cache := newCache()
	const sql = "SELECT * FROM nodes WHERE id = $1"
	want := readTags(t, x, cache, sql, param("5"))
	if slices.Contains(want, x.names["public.nodes"].tag) {
		t.Fatal("not pinned")
	}
	for name, p := range map[string]shard.Param{
		"spaces":     param(" 5 "),
		"int2":       {Binary: true, Value: []byte{0, 5}},
		"int2 told":  {OID: 21, Binary: true, Value: []byte{0, 5}},
		"int4":       {OID: 23, Binary: true, Value: []byte{0, 0, 0, 5}},
		"int8":       {OID: 20, Binary: true, Value: []byte{0, 0, 0, 0, 0, 0, 0, 5}},
		"int8 text":  {OID: 20, Value: []byte("5")},
		"numeric":    {OID: 1700, Value: []byte("5.00")},
		"of unknown": {OID: 705, Value: []byte("5")},
	} {
		if got := readTags(t, x, cache, sql, p); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", name, got, want)
		}
	}
	for _, text := range []string{"5", "'5'", "5.0", "(5)", "- -5", "'+5'", "05"} {
		if got := readTags(t, x, cache, "SELECT * FROM nodes WHERE id = "+text); !slices.Equal(got, want) {
			t.Errorf("%s: got %v, want %v", text, got, want)
		}
	}
}

// TestWhatIsNotCertainIsTheTable has values that may be read otherwise by the server.
func TestWhatIsNotCertainIsTheTable(t *testing.T) {
	x := testIndex(t, testDatabase(t), catalog.Relations)
	cache := newCache()
	for _, c := range []struct {
		sql    string
		params []shard.Param
	}{
		{"SELECT * FROM users WHERE id = $1", nil},
		{"SELECT * FROM users WHERE id = $1", []shard.Param{{OID: 701, Value: []byte("1")}}},
		{"SELECT * FROM users WHERE id = $1", []shard.Param{{OID: 23, Binary: true, Value: []byte{1}}}},
		{"SELECT * FROM users WHERE id = $1 AND age * 1.5 > $1", []shard.Param{param("1")}},
		{"SELECT * FROM users WHERE id IN ($1, 2.0)", []shard.Param{{Binary: true, Value: []byte{0, 0, 0, 1}}}},
		{"SELECT * FROM users WHERE id = NULL", nil},
		{"SELECT * FROM users WHERE id = 1::int8", nil},
		{"SELECT * FROM users WHERE id = 1.5", nil},
		{"SELECT * FROM users WHERE id IN (1,2,3,4,5,6,7,8,9)", nil},
		{"SELECT * FROM texts WHERE t = N'x '", nil},
		{"SELECT * FROM texts WHERE t = E'x'", nil},
		{"SELECT * FROM codes WHERE c = 'abcdefg   '", nil},
		{"SELECT * FROM prices WHERE p = 'x'", nil},
		{"SELECT * FROM days WHERE d = 'today'", nil},
		{"SELECT * FROM users TABLESAMPLE system (50) WHERE id = 1", nil},
		{"SELECT * FROM animals WHERE id = 1", nil},
		{"SELECT * FROM ruled WHERE id = 1", nil},
		{"SELECT a.id FROM users a, users b WHERE a.id = 1", nil},
		{"SELECT name_of(1) FROM users WHERE id = 1", nil},
		{"SELECT * FROM v_users v, users WHERE users.id = 1", nil},
	} {
		st := cache.Statement([]byte(c.sql))
		table := x.names["public."+st.Commands[0].Relations[0]]
		if table == nil {
			table = x.names["public.users"]
		}
		if got := readTags(t, x, cache, c.sql, c.params...); !slices.Contains(got, table.tag) {
			t.Errorf("%s: got %v, want the table", c.sql, got)
		}
	}
}

// TestOtherEncodingsAreNotRead has a text that the client writes in other bytes than the server.
func TestOtherEncodingsAreNotRead(t *testing.T) {
	x := testIndex(t, testDatabase(t), catalog.Relations)
	st := newCache().Statement([]byte("SELECT * FROM texts WHERE t = $1"))
	for value, want := range map[string]bool{"abc": false, "ä": true} {
		got := x.Read(st).Append(nil, Values{Params: []shard.Param{param(value)}, ASCII: true})
		if slices.Contains(got, x.names["public.texts"].tag) != want {
			t.Errorf("%s: the whole table: %v, want %v", value, !want, want)
		}
	}
}

// TestOnlyReadsOfRowsHaveSets has texts whose answers are not of rows alone.
func TestOnlyReadsOfRowsHaveSets(t *testing.T) {
	x := testIndex(t, testDatabase(t), catalog.Relations)
	cache := newCache()
	for _, sql := range []string{"", "FETCH c", "SHOW work_mem", "UPDATE users SET name = 'x'", "SELECT touch(1)", "SELECT FROM users FOR UPDATE",
		"EXPLAIN SELECT 1", "SELECT 1; FETCH c", "DECLARE c CURSOR FOR SELECT 1", "COPY users TO STDOUT", "SELECT 1 FROM nowhere", "no SQL"} {
		if x.Read(cache.Statement([]byte(sql))) != nil {
			t.Errorf("%q has a Set", sql)
		}
	}
	for _, sql := range []string{"no SQL", "CREATE TABLE x ()", "DO $$ BEGIN END $$", "CALL f()", "INSERT INTO nowhere VALUES (1)", "VACUUM users"} {
		if got := writeTags(x, cache, sql); !slices.Equal(got, []Tag{Everything}) {
			t.Errorf("%q touches %v, want everything", sql, got)
		}
	}
	for _, sql := range []string{"", "SELECT 1", "SELECT * FROM users", "BEGIN", "SET work_mem = '4MB'", "SELECT nextval('orders_id_seq')"} {
		if s := x.Write(cache.Statement([]byte(sql))); !s.Empty() {
			t.Errorf("%q touches %v", sql, s)
		}
	}
	if x := New(nil); x.Read(cache.Statement([]byte("SELECT * FROM users"))) != nil || !slices.Equal(writeTags(x, cache, "DELETE FROM users"), []Tag{Everything}) {
		t.Error("no snapshot knows something")
	}
}
