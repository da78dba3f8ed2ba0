package stream

import (
	"context"
	"fmt"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"pgtier/cmd/localpg/pgtest"
)

// libpq is how client programs find a side.
func (s *side) libpq(t *testing.T) map[string]string {
	u, err := url.Parse(s.server.URL(s.database, "", ""))
	must(t, err)
	password, _ := u.User.Password()
	return map[string]string{"PGHOST": u.Hostname(), "PGPORT": u.Port(), "PGUSER": u.User.Username(), "PGPASSWORD": password, "PGDATABASE": s.database}
}

// dropRole drops a role of one test.
func (s *side) dropRole(role string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.server.Exec(ctx, s.database, "DROP OWNED BY "+role+"; DROP ROLE "+role); err != nil {
		s.t.Error(err)
	}
}

func TestSchemaIsCopiedInPartsAndRepeated(t *testing.T) {
	p := newPair(t, "", testLayout())
	role := "owner_of_" + p.source.database
	for _, s := range []*side{p.source, p.target} {
		pgtest.Exec(t, s.server, "postgres", "CREATE ROLE "+role)
		t.Cleanup(func() { s.dropRole(role) })
	}
	p.source.exec(schemaSQL + fmt.Sprintf(`
CREATE SCHEMA pgtier; CREATE TABLE pgtier.move (id int);
CREATE FUNCTION pgtier.guard_1() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER zzz_pgtier_guard_1 AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION pgtier.guard_1();
CREATE TRIGGER theirs AFTER INSERT ON users FOR EACH ROW EXECUTE FUNCTION refuse();
ALTER TABLE users DISABLE TRIGGER theirs;
ALTER TABLE countries OWNER TO %[1]s; GRANT SELECT ON users TO %[1]s;
CREATE PUBLICATION theirs FOR TABLE users;
CREATE SCHEMA more; CREATE TABLE more.notes (id int PRIMARY KEY, note text DEFAULT E'\\n--\\n\\\\restrict x');
CREATE VIEW more.view AS SELECT * FROM users;
COMMENT ON TABLE users IS '\unrestrict me';
CREATE TABLE more.sub (id int PRIMARY KEY, note int REFERENCES more.notes);
COMMENT ON CONSTRAINT sub_pkey ON more.sub IS 'a key'; COMMENT ON CONSTRAINT sub_note_fkey ON more.sub IS 'a way';
`, role))
	schema := &Schema{Source: p.source.Server, Target: p.target.Server, Libpq: p.source.libpq(t)}
	ctx := contextFor(t)
	must(t, schema.Before(ctx))
	must(t, schema.Before(ctx)) // as after a crash behind it
	p.fill(100)
	p.copy(p.prepare(p.forward()))
	if got := p.target.value("SELECT count(*) FROM pg_index WHERE indrelid = 'users'::regclass"); got != "0" {
		t.Errorf("the first part has made %s indexes of users", got)
	}
	must(t, schema.After(ctx))
	must(t, schema.After(ctx))
	if got := p.target.value("SELECT count(*) FROM pg_constraint WHERE contype = 'f'"); got != "0" {
		t.Errorf("the second part has made %s foreign keys", got)
	}
	must(t, schema.ForeignKeys(ctx))
	must(t, schema.ForeignKeys(ctx))
	p.same()

	back := &Schema{Source: p.target.Server, Target: p.source.Server, Libpq: p.target.libpq(t)}
	random := regexp.MustCompile(`\\(un)?restrict \w+|-- (Dumped|TOC).*|-- Name: .*`)
	for _, one := range []schemaPart{tablesPart, indexesPart, foreignKeysPart} {
		want, err := schema.script(ctx, one)
		must(t, err)
		got, err := back.script(ctx, one)
		must(t, err)
		if want, got = random.ReplaceAllString(want, ""), random.ReplaceAllString(got, ""); want != got || !strings.Contains(want, "users") {
			t.Errorf("%s of the target are not those of the source:\n%s\n---\n%s", one.what, got, want)
		}
	}
	if got := p.target.value("SELECT to_regnamespace('pgtier') IS NULL AND NOT EXISTS (SELECT FROM pg_publication)"); got != "t" {
		t.Error("the target has what is the source's own")
	}
	p.target.exec("DROP TABLE more.notes CASCADE")
	if err := schema.Before(ctx); err == nil || !strings.Contains(err.Error(), "missing are more.notes") {
		t.Errorf("with a table missing: %v", err)
	}
	p.target.exec("CREATE TABLE more.notes (id int8 PRIMARY KEY, note text)")
	if err := schema.Before(ctx); err == nil || !strings.Contains(err.Error(), "not as they are at s0_manager: more.notes") {
		t.Errorf("with another table: %v", err)
	}
}

func TestSchemaSaysWhatIsMissing(t *testing.T) {
	p := newPair(t, "", testLayout())
	role := "nobody_" + p.source.database
	pgtest.Exec(t, p.source.server, "postgres", "CREATE ROLE "+role)
	t.Cleanup(func() { p.source.dropRole(role) })
	p.source.exec("CREATE TABLE t (id int PRIMARY KEY); GRANT SELECT ON t TO " + role)
	schema := &Schema{Source: p.source.Server, Target: p.target.Server, Libpq: p.source.libpq(t)}
	if err := schema.Before(contextFor(t)); err == nil || !strings.Contains(err.Error(), role+"; create them there by CREATE ROLE") {
		t.Errorf("without a role: %v", err)
	}
	p.source.exec("DROP OWNED BY " + role)
	t.Setenv("PGTIER_PG_BIN", t.TempDir())
	err := schema.Before(contextFor(t))
	if err == nil || !strings.Contains(err.Error(), "run by hand: pg_dump --schema-only --section=pre-data") {
		t.Errorf("without pg_dump: %v", err)
	}
	if got := p.target.value("SELECT to_regclass('t') IS NULL"); got != "t" {
		t.Error("something was made")
	}
}
