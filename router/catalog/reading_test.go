package catalog

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/parser"
)

func TestNilSnapshotProvesNothing(t *testing.T) {
	st := parser.NewCache(1 << 20).Statement([]byte("SELECT 1"))
	var s *Snapshot
	if r := s.Reading(st); r.Verdict != Unproved || r.Reason != NotRead {
		t.Errorf("got %s (%s)", r.Verdict, r.Reason)
	}
	if r := s.CommandReading(&st.Commands[0]); r.Verdict != Unproved || r.Reason != NotRead {
		t.Errorf("got %s (%s)", r.Verdict, r.Reason)
	}
	if _, all := s.Written(&st.Commands[0]); !all {
		t.Error("the nil Snapshot knows what is written")
	}
}

func TestCommandReadingJudgesWhatIsPrepared(t *testing.T) {
	shard, database := readingShard(t)
	s := load(t, pgtest.NewQuerier(connect(t, shard.Manager, database)))
	cache := parser.NewCache(1 << 20)
	for sql, want := range map[string]Verdict{
		"PREPARE p AS SELECT * FROM v_both WHERE id = $1":                   Read,
		"PREPARE p AS SELECT u.age, u.name FROM users u":                    Local, // age is also a function
		"PREPARE p AS SELECT name FROM users u":                             Read,
		"PREPARE p AS SELECT vol(1)":                                        Unproved,
		"PREPARE p AS SELECT (u).vol_of_user FROM users u":                  Unproved,
		"PREPARE p AS SELECT * FROM pg_locks":                               Local,
		"PREPARE p AS UPDATE users SET name = 'x'":                          Unproved,
		"PREPARE p AS VALUES (1)":                                           Read,
		"PREPARE p AS SELECT current_setting('app.tenant', true)":           Read,
		"PREPARE p AS SELECT current_setting('port')":                       Local,
		"PREPARE p AS SELECT set_config('app.tenant', 'x', true), random()": Unproved,
		"PREPARE p AS SELECT * FROM users FOR UPDATE":                       Unproved,
	} {
		c := cache.Statement([]byte(sql)).Commands[0].Prepared
		for range 2 { // the second from memory
			if r := s.CommandReading(c); r.Verdict != want {
				t.Errorf("%s: got %s (%s), want %s", sql, r.Verdict, r.Reason, want)
			}
		}
	}
}

// TestLiteralsOfOneTemplateAreToldApart has texts that differ in a literal only, of which one is a read.
func TestLiteralsOfOneTemplateAreToldApart(t *testing.T) {
	_, _, q := database(t)
	s := load(t, q)
	cache := parser.NewCache(1 << 20)
	for sql, want := range map[string]Verdict{
		"SELECT current_setting('app.tenant')":   Read,
		"SELECT current_setting('port')":         Local,
		"SELECT current_setting('pgtier.x')":     Local,
		"SELECT current_setting('TIMEZONE')":     Read,
		"SELECT current_setting(E'app.tenant')":  Read,
		"SELECT current_setting($1)":             Local,
		"SELECT CURRENT_SETTING('work_mem')":     Local,
		`SELECT "current_setting"('work_mem')`:   Local,
		"SELECT current_setting(E'\\x70ort')":    Local,
		"SELECT current_setting(U&'\\0070ort')":  Local,
		"SELECT current_setting($$app.tenant$$)": Read,
		"SELECT current_setting('app.' || 'b')":  Local,
	} {
		if r := s.Reading(cache.Statement([]byte(sql))); r.Verdict != want {
			t.Errorf("%s: got %s (%s), want %s", sql, r.Verdict, r.Reason, want)
		}
	}
}

// TestDblinkConcernsThoseWhoCallIt: that it is installed, with servers of its wrapper, pins nobody else.
func TestDblinkConcernsThoseWhoCallIt(t *testing.T) {
	_, _, q := database(t)
	if _, err := text(t.Context(), q.Conn, "CREATE EXTENSION dblink; CREATE SERVER far FOREIGN DATA WRAPPER dblink_fdw"); err != nil {
		t.Fatal(err)
	}
	s, cache := load(t, q), parser.NewCache(1<<20)
	for sql, pins := range map[string]bool{"SELECT 1": false, "SELECT count(*) FROM pg_class": false, "SELECT dblink_connect('far')": true, "SELECT dblink_exec('far', '')": true} {
		if st := cache.Statement([]byte(sql)); (st.Pin != "" || s.Pins(st) != "") != pins {
			t.Errorf("%s: pins %q, the catalog %q; want pinned %v", sql, st.Pin, s.Pins(st), pins)
		}
	}
}

// TestUnnamedObjectsTaintEveryStatement has what works without being named: SELECT 1 is a read until it is made, and only then.
func TestUnnamedObjectsTaintEveryStatement(t *testing.T) {
	const functions = `CREATE TYPE pair AS (a int, b int); CREATE TABLE seen (id int); CREATE SEQUENCE s;
		CREATE FUNCTION vol(pair) RETURNS text LANGUAGE sql AS $$ SELECT 'x' $$;
		CREATE FUNCTION loc(pair) RETURNS text STABLE LANGUAGE sql AS $$ SELECT version() $$;
		CREATE FUNCTION sta(pair) RETURNS text STABLE LANGUAGE sql AS $$ SELECT 'x' FROM seen $$;
		CREATE FUNCTION vol(text) RETURNS bool LANGUAGE sql AS $$ SELECT true $$;
		CREATE FUNCTION loc(text) RETURNS bool STABLE LANGUAGE sql AS $$ SELECT pg_is_in_recovery() $$;
		CREATE FUNCTION same(pair, pair) RETURNS bool LANGUAGE sql AS $$ SELECT true $$;
		CREATE FUNCTION cmp(pair, pair) RETURNS int IMMUTABLE LANGUAGE sql AS $$ SELECT 0 $$;
		CREATE FUNCTION vol_cmp(pair, pair) RETURNS int LANGUAGE sql AS $$ SELECT 0 $$;`
	cache := parser.NewCache(1 << 20)
	statement := []byte("SELECT 1")
	_, _, q := database(t)
	for ddl, want := range map[string]Verdict{
		"CREATE CAST (pair AS text) WITH FUNCTION vol(pair)":                                                                                          Unproved,
		"CREATE CAST (pair AS text) WITH FUNCTION loc(pair)":                                                                                          Local,
		"CREATE CAST (pair AS text) WITH FUNCTION sta(pair)":                                                                                          Read,
		"CREATE DOMAIN d AS text CHECK (vol(VALUE))":                                                                                                  Unproved,
		"CREATE DOMAIN d AS text CHECK (loc(VALUE))":                                                                                                  Local,
		"CREATE DOMAIN d AS bigint DEFAULT nextval('s')":                                                                                              Read,
		"CREATE DOMAIN d AS int DEFAULT pg_backend_pid()":                                                                                             Read,
		"CREATE DOMAIN d AS text CHECK (VALUE <> current_setting('app.x', true))":                                                                     Read,
		"CREATE DOMAIN d AS text CHECK (VALUE <> current_setting('port'))":                                                                            Local,
		"CREATE OPERATOR = (LEFTARG = pair, RIGHTARG = pair, FUNCTION = same)":                                                                        Unproved,
		"CREATE OPERATOR === (LEFTARG = pair, RIGHTARG = pair, FUNCTION = same)":                                                                      Read,
		"CREATE OPERATOR CLASS oc FOR TYPE pair USING btree AS FUNCTION 1 cmp(pair, pair)":                                                            Read,
		"CREATE OPERATOR CLASS oc FOR TYPE pair USING btree AS FUNCTION 1 vol_cmp(pair, pair)":                                                        Unproved,
		"CREATE EXTENSION postgres_fdw; CREATE SERVER x FOREIGN DATA WRAPPER postgres_fdw":                                                            Read,
		"CREATE EXTENSION bloom; CREATE EXTENSION dict_int; CREATE EXTENSION unaccent":                                                                Read,
		"CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE EXTENSION ltree; CREATE EXTENSION cube; CREATE EXTENSION seg; CREATE EXTENSION isn": Read,
		"CREATE EXTENSION btree_gist; CREATE EXTENSION btree_gin; CREATE EXTENSION intarray; CREATE EXTENSION pg_trgm; CREATE EXTENSION lo":           Read,
	} {
		for _, sql := range []string{"BEGIN", functions} {
			if _, err := text(t.Context(), q.Conn, sql); err != nil {
				t.Fatal(err)
			}
		}
		if r := load(t, q).Reading(cache.Statement(statement)); r.Verdict != Read || len(r.Tables) != 0 {
			t.Fatalf("before %s: got %s (%s)", ddl, r.Verdict, r.Reason)
		}
		if _, err := text(t.Context(), q.Conn, ddl); err != nil {
			t.Fatal(err)
		}
		r := load(t, q).Reading(cache.Statement(statement))
		if r.Verdict != want {
			t.Errorf("after %s: got %s (%s), want %s", ddl, r.Verdict, r.Reason, want)
		}
		if reads := strings.Join(r.Tables, " "); want == Read && (reads == "public.seen") != strings.Contains(ddl, "sta(pair)") {
			t.Errorf("after %s: reads %q", ddl, reads)
		}
		if _, err := text(t.Context(), q.Conn, "ROLLBACK"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEveryRoleMayRead loads the catalog as a role that may do nothing.
func TestEveryRoleMayRead(t *testing.T) {
	shard, database := readingShard(t)
	conn := connect(t, shard.Manager, database)
	want := load(t, pgtest.NewQuerier(conn))
	if _, err := text(t.Context(), conn, "SET ROLE pg_signal_backend"); err != nil {
		t.Fatal(err)
	}
	got := load(t, pgtest.NewQuerier(conn))
	if len(got.evidence.local) != len(want.evidence.local) || len(got.evidence.unproved) != len(want.evidence.unproved) || len(got.evidence.uses) != len(want.evidence.uses) {
		t.Error("a role without rights sees another catalog than a superuser")
	}
}

// ordinary is a snapshot with a read and a write of the common kind.
func ordinary(t testing.TB) (s *Snapshot, read, write *parser.Statement) {
	t.Helper()
	shard, database := readingShard(t)
	cache := parser.NewCache(1 << 20)
	return load(t, pgtest.NewQuerier(connect(t, shard.Manager, database))),
		cache.Statement([]byte("SELECT u.id, sta(u.id) FROM users u JOIN sales.invoices i ON i.user_id = u.id WHERE u.id = 1")),
		cache.Statement([]byte("DELETE FROM users WHERE id = 1"))
}

func TestReadingDoesNotAllocate(t *testing.T) {
	s, st, write := ordinary(t)
	first := s.Reading(st)
	if n := testing.AllocsPerRun(100, func() {
		if r := s.Reading(st); r != first || s.CommandReading(&st.Commands[0]) == nil {
			t.Fatal("judged again")
		}
		if tables, all := s.Written(&write.Commands[0]); all || len(tables) != 3 {
			t.Fatal(tables, all)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestMemoIsBounded asks for more statements than it holds, and for one of them all the time.
func TestMemoIsBounded(t *testing.T) {
	var m Memo
	const weight = memoBytes / 100
	for i := range 1000 {
		key := fmt.Sprint("key ", i)
		m.Add(key, i, weight)
		if got := m.Find(key); got != i {
			t.Fatalf("%s: got %v", key, got)
		}
		if i == 0 {
			continue
		}
		if got := m.Find("key 0"); got != 0 {
			t.Fatalf("after %d more, what is asked for all the time is lost: %v", i, got)
		}
	}
	kept := 0
	for i := range 1000 {
		young, _ := m.young.Load().entries.Load(fmt.Sprint("key ", i))
		old, _ := m.old.Load().entries.Load(fmt.Sprint("key ", i))
		if young != nil || old != nil {
			kept++
		}
	}
	if kept < 50 || kept > 202 {
		t.Errorf("%d of 1000 entries kept, want at most two generations of 100", kept)
	}
}

func TestVarlena(t *testing.T) {
	for digits, want := range map[string]string{"28 0 0 0 97 46 98 ": "a.b", "24 0 0 0 -61 -87 ": "é", "16 0 0 0 ": "", "1 2": "?", "": "?", "1 2 3 4 x": "?"} {
		got, ok := varlena(digits)
		if !ok {
			got = "?"
		}
		if got != want {
			t.Errorf("%q: got %q, want %q", digits, got, want)
		}
	}
}

func BenchmarkReading(b *testing.B) {
	s, st, write := ordinary(b)
	b.Run("known", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if s.Reading(st).Verdict != Read {
				b.Fatal("no read")
			}
		}
	})
	b.Run("first", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if s.statement(st).Verdict != Read {
				b.Fatal("no read")
			}
		}
	})
	b.Run("written", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, all := s.Written(&write.Commands[0]); all {
				b.Fatal("unknown")
			}
		}
	})
}

// TestMemoIsSafeForManyUsers is for the race detector, and finds answers that belong to another key.
func TestMemoIsSafeForManyUsers(t *testing.T) {
	var m Memo
	var users sync.WaitGroup
	for range 4 {
		users.Go(func() {
			for i := range 2000 {
				key := i % 300
				if got := m.Find(key); got != nil && got != key {
					t.Errorf("%d: got %v", key, got)
				}
				m.Add(key, key, memoBytes/50)
			}
		})
	}
	users.Wait()
}
