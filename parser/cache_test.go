package parser

import (
	"fmt"
	"reflect"
	"strings"
	"sync"
	"testing"
)

const benchSelect = "SELECT abalance FROM pgbench_accounts WHERE aid = 4711;"

func TestHitDoesNotAllocate(t *testing.T) {
	c := NewCache(1 << 20)
	for _, text := range []string{benchSelect, "BEGIN", "SET work_mem = '1MB'", "SELECT abalance FROM pgbench_accounts WHERE aid = $1"} {
		sql := []byte(text)
		c.Statement(sql)
		if n := testing.AllocsPerRun(1000, func() { c.Statement(sql) }); n != 0 {
			t.Errorf("a hit allocates %v times, want 0: %s", n, text)
		}
	}
}

func TestCacheSharesStatementsByTemplate(t *testing.T) {
	c := NewCache(1 << 20)
	same := func(a, b string) bool { return c.Statement([]byte(a)) == c.Statement([]byte(b)) }
	for _, p := range [][2]string{
		{"SELECT 1", "SELECT 2"}, {"SELECT  'a' -- x\n", "SELECT $$b$$"}, {"SELECT -1", "SELECT - 25"},
		{"INSERT INTO t VALUES (1,'a')", "INSERT INTO t VALUES ( 2 , 'b' )"},
		{"/* other */ SELECT 1", "SELECT 1"}, {"SELECT current_setting('a'), 1", "SELECT current_setting('a'), 2"},
		{"/* pgtier: shard=1 */ SELECT 1", "/* pgtier: shard=1 */ /* other */ SELECT 2"},
	} {
		if !same(p[0], p[1]) {
			t.Errorf("two statements for %q and %q, want one", p[0], p[1])
		}
	}
	for _, p := range [][2]string{
		{"SELECT 1", "SELECT '1'"}, {"SELECT 1", "SELECT 1.0"}, {"SELECT 1", "SELECT 3000000000"}, {"SELECT 'a' 'b'", "SELECT 'a'\n'b'"}, {"SET a.b = '1'", "SET a.b = '2'"},
		{"SELECT set_config('a.a', '', false)", "SELECT set_config('a.b', '', false)"}, {"SELECT a::float(24)", "SELECT a::float(53)"},
		{"/* pgtier: cache=off */ SELECT 1", "SELECT 1"}, {"LISTEN a", "LISTEN b"}, {"SELECT $1", "SELECT $2"}, {"SELECT b'1'", "SELECT '1'"},
		{"SELECT $s", "SELECT 'x'"}, {"SELECT current_setting('a')", "SELECT current_setting('b')"},
		{"/* pgtier: cache=off */ SELECT 1", "/* pgtier: cache=on */ SELECT 1"}, {"/*pgtier: shard=1*/ SELECT 1", "/*pgtier: shard=2*/ SELECT 1"},
		{"/* pgtier: shard='1' */ SELECT 1", "/* pgtier: shard='2' */ SELECT 1"}, {"/* pgtier: shard=1 */ SELECT 1", "SELECT /* pgtier: shard=1 */ 1"},
	} {
		if same(p[0], p[1]) {
			t.Errorf("one statement for %q and %q, want two", p[0], p[1])
		}
	}
}

func TestCacheStaysWithinItsBytes(t *testing.T) {
	const limit = 300 << 10
	c := NewCache(limit)
	for i := range 3000 {
		c.Statement(fmt.Appendf(nil, "SELECT a%d FROM t%s", i, strings.Repeat("x", i%700)))
		c.Statement([]byte(benchSelect)) // used all the time: stays
	}
	s := c.Stats()
	if s.Bytes > limit || s.Bytes < limit/2 || s.Entries < 10 || s.Evictions == 0 || s.Misses+s.Hits != 6000 {
		t.Errorf("stats %+v, want at most %d bytes and some evictions", s, limit)
	}
	if s.Hits < 2900 {
		t.Errorf("%d hits: the statement in constant use was evicted", s.Hits)
	}
}

func TestCacheOfNothing(t *testing.T) {
	c := NewCache(0)
	for range 2 {
		if s := c.Statement([]byte("BEGIN")); s.Effects&BeginsTransaction == 0 {
			t.Errorf("effects %v, want BeginsTransaction", s.Effects)
		}
	}
	if s := c.Stats(); s.Entries != 0 || s.Misses != 2 {
		t.Errorf("stats %+v, want no entry and 2 misses", s)
	}
}

func TestCacheIsSafeForManyGoroutines(t *testing.T) {
	c := NewCache(64 << 10) // small: evicts all the time
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 300 {
				want := fmt.Sprintf("t%d", (i*7+g)%90)
				s := c.Statement([]byte("SELECT 1 FROM " + want))
				if len(s.Commands) != 1 || len(s.Commands[0].Relations) != 1 || s.Commands[0].Relations[0] != want {
					t.Errorf("statement of %s: %+v", want, s)
				}
			}
		})
	}
	wg.Wait()
}

// memoryOf is the memory that v and all it points to take.
func memoryOf(v reflect.Value) int64 {
	n := int64(v.Type().Size())
	switch v.Kind() {
	case reflect.String:
		n += int64(v.Len())
	case reflect.Pointer:
		if !v.IsNil() {
			n += memoryOf(v.Elem())
		}
	case reflect.Slice:
		for i := range v.Len() {
			n += memoryOf(v.Index(i))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			n += memoryOf(v.Field(i)) - int64(v.Field(i).Type().Size())
		}
	}
	return n
}

func TestBytesCountAllFacts(t *testing.T) {
	for _, text := range append(seeds(), "/* pgtier: shard=1, cache=of */ SELECT 1", "SELECT set_config($1, NULL, true), x.y::s.t FROM a.t WHERE b IN (1, $2::s.u)") {
		st := NewCache(1 << 20).Statement([]byte(text))
		if got, want := st.bytes(), memoryOf(reflect.ValueOf(*st)); got != want {
			t.Errorf("%d bytes, want %d, of %q", got, want, text)
		}
	}
}

// Hash collisions must not mix statements: all keys go into one bucket.
func TestCacheComparesWholeKeys(t *testing.T) {
	c, s := NewCache(0), shard{entries: map[uint64]*entry{}, maxBytes: 4 << 10}
	for i := range 100 {
		st := &Statement{Template: fmt.Sprint("template ", i)}
		s.add(c, &entry{hash: 7, key: st.Template, verbatim: i%2 == 0, statement: st})
		if got := s.find(c, 7, []byte(st.Template), i%2 == 0); got != st {
			t.Fatalf("found %v, want %v", got, st)
		}
		if got := s.find(c, 7, []byte(st.Template), i%2 != 0); got != nil {
			t.Fatalf("found %v for a key of the other sort", got)
		}
	}
	if s.evictions == 0 || s.bytes > s.maxBytes {
		t.Errorf("%d evictions, %d bytes; want some and at most %d", s.evictions, s.bytes, s.maxBytes)
	}
	n := int64(0)
	for e := s.entries[7]; e != nil; e = e.next {
		n++
	}
	if n != s.count {
		t.Errorf("%d entries in the bucket, want %d", n, s.count)
	}
}

func TestRecentEntriesAreThoseOfTheMap(t *testing.T) {
	c := NewCache(64 << 10)
	for i := range 3000 {
		sql := fmt.Appendf(nil, "SELECT c%d, abcdefghijklmn FROM t LIMIT 1", i%1000)
		for range 3 { // the second finds it, the third by its shape
			if got := c.Statement(sql); got.Template != fmt.Sprintf("SELECT c%d , abcdefghijklmn FROM t LIMIT $n", i%1000) {
				t.Fatalf("%s: got the statement of %q", sql, got.Template)
			}
		}
	}
	if c.Stats().Evictions == 0 {
		t.Fatal("nothing was evicted: the test proves nothing")
	}
	s, held := &c.shards[0], 0
	for i := range s.recent {
		e := s.recent[i].Load()
		if e == nil {
			continue
		}
		held++
		found := false
		for o := s.entries[e.hash]; o != nil; o = o.next {
			found = found || o == e
		}
		if !found {
			t.Errorf("%q was evicted and is still found", e.key)
		}
	}
	for i := range c.shapes {
		for j := range c.shapes[i] {
			if e := c.shapes[i][j].Load(); e != nil && s.entries[e.hash] != e {
				t.Errorf("%q was evicted and is still found by its shape", e.key)
			}
		}
	}
	if held == 0 {
		t.Error("no entry is found without the lock")
	}
}

func TestTemplateOfShortTextFits(t *testing.T) {
	c := NewCache(1 << 20)
	sql := []byte("SELECT" + strings.Repeat(" 1", (maxShort-len("SELECT"))/2)) // most marks and spaces a byte
	for len(sql) < maxShort {
		sql = append(sql, '1')
	}
	for _, dense := range [][]byte{sql, []byte("SELECT" + strings.Repeat("+1", (maxShort-len("SELECT"))/2))} {
		var short [shortFactor * maxShort]byte
		if _, verbatim, ok := template(short[:0], dense); !ok || verbatim {
			t.Errorf("%s: fits %v, verbatim %v, want a template that fits", dense, ok, verbatim)
		}
		c.Statement(dense)
	}
}

func BenchmarkHitSelect(b *testing.B) { benchmarkHit(b, benchSelect) }
func BenchmarkHitBegin(b *testing.B)  { benchmarkHit(b, "BEGIN") }
func BenchmarkHitUpdate(b *testing.B) {
	benchmarkHit(b, "UPDATE pgbench_accounts SET abalance = abalance + -4711 WHERE aid = 12345;")
}

func benchmarkHit(b *testing.B, text string) {
	c := NewCache(1 << 20)
	sql := []byte(text)
	b.ReportAllocs()
	b.SetBytes(int64(len(sql)))
	for b.Loop() {
		c.Statement(sql)
	}
}

func BenchmarkHitParallel(b *testing.B) {
	c := NewCache(8 << 20)
	b.ReportAllocs()
	b.RunParallel(func(p *testing.PB) {
		sql := []byte(benchSelect)
		for p.Next() {
			c.Statement(sql)
		}
	})
}

func BenchmarkMiss(b *testing.B) {
	c := NewCache(0)
	b.ReportAllocs()
	for b.Loop() {
		c.Statement([]byte(benchSelect))
	}
}

// BenchmarkBulkInsert parses 1 MB of VALUES, which are never remembered.
func BenchmarkBulkInsert(b *testing.B) {
	sql := []byte("INSERT INTO t (a, b, c) VALUES (0, 'x', 1.5)" + strings.Repeat(", (12345, 'some text', 3.25)", 36000))
	c := NewCache(1 << 20)
	b.ReportAllocs()
	b.SetBytes(int64(len(sql)))
	for b.Loop() {
		if s := c.Statement(sql); s.Unparsed {
			b.Fatalf("not parsed: %s", s.Pin)
		}
	}
}
