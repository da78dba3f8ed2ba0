package catalog

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgtier/cmd/localpg/pgtest"
	"pgtier/parser"
)

func TestBehindTellsWhatTheTextDoesNotName(t *testing.T) {
	s := relations(t, `
		CREATE TABLE a (id int PRIMARY KEY, b int DEFAULT 7, at timestamptz DEFAULT now());
		CREATE TABLE child (id int REFERENCES a ON DELETE CASCADE);
		CREATE TABLE log (what text);
		CREATE TABLE other (id int);
		CREATE VIEW v AS SELECT * FROM a;
		CREATE FUNCTION reads() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT count(*) FROM other';
		CREATE FUNCTION writes() RETURNS void LANGUAGE sql AS 'INSERT INTO log VALUES (1)';
		CREATE FUNCTION blind(text) RETURNS void LANGUAGE plpgsql AS 'BEGIN EXECUTE $1; END';
		CREATE FUNCTION makes() RETURNS void LANGUAGE plpgsql AS 'BEGIN CREATE TABLE made (id int); END';
		CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN NEW.id := 5; INSERT INTO log VALUES (1); RETURN NEW; END';
		CREATE FUNCTION takes() RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM FROM other FOR NO KEY UPDATE; END';
		CREATE FUNCTION cannot() RETURNS bigint LANGUAGE sql STABLE AS 'SELECT id FROM other FOR UPDATE';
		CREATE FUNCTION advises() RETURNS void LANGUAGE plpgsql AS 'BEGIN PERFORM pg_try_advisory_xact_lock_shared(1); END';
		CREATE FUNCTION advises_stably() RETURNS void LANGUAGE plpgsql STABLE AS 'BEGIN PERFORM pg_advisory_xact_lock(1); END';
		CREATE FUNCTION advises_parsed() RETURNS void LANGUAGE sql BEGIN ATOMIC SELECT pg_advisory_xact_lock(1); END;
		CREATE VIEW advised AS SELECT pg_try_advisory_xact_lock(id) FROM other;
		CREATE TABLE advising (id int, CHECK (pg_try_advisory_xact_lock(id)));
		CREATE FUNCTION inside() RETURNS void LANGUAGE sql AS 'SELECT takes()';
		CREATE FUNCTION table_of(text) RETURNS void LANGUAGE plpgsql AS 'BEGIN LOCK other; END';
		CREATE VIEW taken AS SELECT * FROM other FOR SHARE;
		CREATE FUNCTION taking() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN EXECUTE ''SELECT FROM a FOR UPDATE''; RETURN NEW; END';
		CREATE TABLE guarded (id int);
		CREATE TRIGGER taking AFTER UPDATE ON guarded FOR EACH ROW EXECUTE FUNCTION taking();
		CREATE TABLE ruled (id int);
		CREATE RULE ruled AS ON DELETE TO ruled DO ALSO SELECT FROM a FOR UPDATE;
		CREATE FUNCTION noted_truncate() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO log VALUES (1); RETURN NULL; END';
		CREATE FUNCTION turns_down() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN IF NEW.id < 0 THEN RETURN NULL; END IF; RETURN NEW; END';
		CREATE TABLE choosy (id int);
		CREATE TRIGGER turns_down BEFORE UPDATE ON choosy FOR EACH ROW EXECUTE FUNCTION turns_down();
		CREATE TABLE late (id int);
		CREATE TRIGGER turns_down AFTER UPDATE ON late FOR EACH ROW EXECUTE FUNCTION turns_down();
		CREATE TRIGGER new BEFORE INSERT ON late FOR EACH ROW EXECUTE FUNCTION turns_down();
		CREATE TABLE lazy (id int);
		CREATE TRIGGER same BEFORE UPDATE ON lazy FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
		CREATE TABLE emptied (id int);
		CREATE TRIGGER truncated BEFORE TRUNCATE ON emptied EXECUTE FUNCTION noted_truncate();
		CREATE TABLE watched (id int);
		CREATE TRIGGER noted BEFORE INSERT ON watched FOR EACH ROW EXECUTE FUNCTION noted();`)
	cache := parser.NewCache(1 << 20)
	if b := (*Snapshot)(nil).Behind(&cache.Statement([]byte("ROLLBACK")).Commands[0]); b.Locks || b.All {
		t.Error("ROLLBACK locks, or touches any table, where nothing is known")
	}
	for _, c := range []struct{ sql, want string }{
		{"SELECT * FROM a", "related public.a"},
		{"SELECT * FROM v", "related public.a"},
		{"SELECT reads() FROM a", "reads public.other related public.a functions public.reads"},
		{"SELECT writes()", "reads public.log writes public.log functions public.writes"},
		{"SELECT blind('x')", "functions public.blind all locks"},
		{"SELECT abs(1), nosuch(2)", "locks"},
		{"SELECT nextval('q'), abs(1)", ""},
		{"SELECT takes()", "reads public.other writes public.other functions public.takes locks"},
		{"SELECT advises()", "functions public.advises locks"},
		{"SELECT advises_stably()", "functions public.advises_stably locks"},
		{"SELECT advises_parsed()", "functions public.advises_parsed locks"},
		{"SELECT FROM advised", "related public.other locks"},
		{"INSERT INTO advising VALUES (1)", "related public.advising changed public.advising locks"},
		{"SELECT pg_advisory_xact_lock(id) FROM a", "related public.a"},
		{"SELECT inside()", "reads public.other writes public.other functions public.inside public.takes locks"},
		{"SELECT cannot()", "reads public.other functions public.cannot"},
		{"SELECT table_of('x')", "reads public.other functions public.table_of locks"},
		{"SELECT FROM taken", "related public.other locks"},
		{"SELECT FROM a FOR UPDATE", "related public.a"},
		{"UPDATE guarded SET id = 1", "reads public.a writes public.a public.child related public.guarded changed public.guarded functions public.taking locks"},
		{"DELETE FROM ruled", "related public.a public.ruled changed public.a public.child public.ruled locks"},
		{"UPDATE choosy SET id = 1", "related public.choosy changed public.choosy functions public.turns_down locks"},
		{"UPDATE late SET id = 1", "related public.late changed public.late functions public.turns_down"},
		{"UPDATE lazy SET id = 1", "related public.lazy changed public.lazy locks"},
		{"UPDATE emptied SET id = 1", "related public.emptied changed public.emptied"},
		{"TRUNCATE emptied", "reads public.log writes public.log related public.emptied changed public.emptied functions public.noted_truncate"},
		{"COMMIT", ""},
		{"SELECT makes()", "functions public.makes all locks defines"},
		{"DO 'BEGIN PERFORM makes(); END'", "functions public.makes all locks defines"},
		{"DO 'BEGIN CREATE TABLE made (id int); END'", "all locks defines"},
		{"DO 'BEGIN PERFORM reads(); END'", "reads public.other functions public.reads all locks"},
		{"DO 'BEGIN INSERT INTO watched VALUES (1); END'", "reads public.log writes public.log related public.watched changed public.watched functions public.noted all locks"},
		{"CREATE TABLE made (id int)", "locks"},
		{"DELETE FROM a", "related public.a changed public.a public.child"},
		{"INSERT INTO a VALUES (1)", "related public.a changed public.a"},
		{"INSERT INTO watched VALUES (1)", "reads public.log writes public.log related public.watched changed public.watched functions public.noted"},
	} {
		b := s.Behind(&cache.Statement([]byte(c.sql)).Commands[0])
		var got []string
		for _, list := range []struct {
			name  string
			names []string
		}{{"reads", b.Reads}, {"writes", b.Writes}, {"related", b.Related}, {"changed", b.Changed}, {"functions", b.Functions}} {
			if len(list.names) > 0 {
				got = append(got, list.name+" "+strings.Join(list.names, " "))
			}
		}
		if b.All {
			got = append(got, "all")
		}
		if b.Locks {
			got = append(got, "locks")
		}
		if b.Defines {
			got = append(got, "defines")
		}
		if text := strings.Join(got, " "); text != c.want {
			t.Errorf("%s: got %q, want %q", c.sql, text, c.want)
		}
	}
	b := s.Behind(&cache.Statement([]byte("INSERT INTO watched VALUES (1)")).Commands[0])
	if !b.TriggersName("id") || b.TriggersName("other") {
		t.Errorf("trigger of watched names id %v and other %v, want true and false", b.TriggersName("id"), b.TriggersName("other"))
	}
}

func TestDefaultConstant(t *testing.T) {
	s := relations(t, `
		CREATE SEQUENCE q;
		CREATE TABLE t (a int DEFAULT 7, b numeric(9,2) DEFAULT 0, c text DEFAULT lower('X'), d timestamptz DEFAULT now(), e int DEFAULT nextval('q'),
			f text DEFAULT current_user, g text[] DEFAULT '{}', h date DEFAULT '2024-01-01', i int, j uuid DEFAULT gen_random_uuid(), k boolean DEFAULT 1 > 0,
			l date DEFAULT current_date, m int GENERATED ALWAYS AS (1) STORED)`)
	var got, shared []string
	for _, c := range mustRelation(t, s, "t").Columns {
		got = append(got, fmt.Sprint(c.Name, "=", c.DefaultConstant))
		if c.DefaultShared {
			shared = append(shared, c.Name+": "+c.DefaultValue)
		}
	}
	const iso = ") OPERATOR(pg_catalog.#>>) '{}'"
	wantShared := []string{"d: pg_catalog.to_json((now())::timestamp with time zone" + iso, "f: ", "l: pg_catalog.to_json((CURRENT_DATE)::date" + iso}
	if !slices.Equal(shared, wantShared) {
		t.Errorf("got  %q\nwant %q", shared, wantShared)
	}
	want := "a=true b=true c=true d=false e=false f=false g=true h=true i=false j=false k=true l=false m=false"
	if text := strings.Join(got, " "); text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

func TestShadowsEqual(t *testing.T) {
	server, name, q := database(t)
	if loadRelations(t, q).ShadowsEqual() {
		t.Error("an empty database has an operator = of its own")
	}
	pgtest.Exec(t, server, name, `CREATE TYPE own AS (a int); CREATE FUNCTION same(own, own) RETURNS boolean LANGUAGE sql AS 'SELECT true';
		CREATE OPERATOR = (LEFTARG = own, RIGHTARG = own, FUNCTION = same)`)
	if loadRelations(t, q).ShadowsEqual() {
		t.Error("an operator for a type of its own counts")
	}
	pgtest.Exec(t, server, name, `CREATE SCHEMA s; CREATE FUNCTION s.same(bigint, integer) RETURNS boolean LANGUAGE sql AS 'SELECT true';
		CREATE OPERATOR s.= (LEFTARG = bigint, RIGHTARG = integer, FUNCTION = s.same)`)
	if !loadRelations(t, q).ShadowsEqual() {
		t.Error("an operator for bigint and integer does not count")
	}
}
