package stream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"pgtier/cmd/localpg"
)

// GuardPrefix begins the names of the triggers that guard buckets. They belong to one server each, and are no part of the schema.
const GuardPrefix = "zzz_pgtier_"

// Schema copies the schema of one server to another by pg_dump and pg_restore: all but what is pgtier's own, publications and subscriptions.
type Schema struct {
	Source, Target Server
	// Libpq are the environment variables (PGHOST, PGPORT, PGUSER, PGPASSWORD, PGDATABASE, PGSSLMODE…) by which pg_dump finds the source.
	Libpq map[string]string
	// Also is SQL that is run behind the creation of the tables, in the same transaction; "" is none.
	Also string
}

// Before creates what rows need: schemas, types, tables, functions; all of it or nothing. Where all tables exist already, they are compared instead.
func (s *Schema) Before(ctx context.Context) error {
	if err := s.roles(ctx); err != nil {
		return fmt.Errorf("copy schema: %w", err)
	}
	return s.section(ctx, tablesPart)
}

// After creates what rows need not be there for: indexes, constraints but foreign keys, triggers; all of it or nothing. Where all exist already, it does nothing.
func (s *Schema) After(ctx context.Context) error {
	return s.section(ctx, indexesPart)
}

// ForeignKeys creates them, all or none, once After is done and the rows that they lead to are there. Where all exist already, it does nothing. An error with SQLSTATE 23503 says that
// a row is missing.
func (s *Schema) ForeignKeys(ctx context.Context) error {
	return s.section(ctx, foreignKeysPart)
}

// schemaPart is what is created at once.
type schemaPart struct {
	section string                   // pg_dump's name for it, or for more than it
	what    string                   // for people
	list    string                   // the query of what there is
	has     func(kind []string) bool // whether an entry of pg_dump's contents is part of it, by its type and what follows
}

// The parts, in order. Comments on constraints go with foreign keys, because an entry does not say of which kind its constraint is.
var (
	tablesPart      = schemaPart{"pre-data", "tables", tablesQuery, func([]string) bool { return true }}
	indexesPart     = schemaPart{"post-data", "indexes, constraints and triggers", afterQuery, func(kind []string) bool { return !ofForeignKeys(kind) }}
	foreignKeysPart = schemaPart{"post-data", "foreign keys", foreignPartQuery, ofForeignKeys}
)

// ofForeignKeys says so of an entry: "FK CONSTRAINT schema table name owner" or "COMMENT schema CONSTRAINT name ON table owner".
func ofForeignKeys(kind []string) bool {
	return kind[0] == "FK" || kind[0] == "COMMENT" && len(kind) > 2 && kind[2] == "CONSTRAINT"
}

// ours are the namespaces of the user's objects; %s is an object id.
const ours = `%s NOT IN (SELECT oid FROM pg_namespace WHERE nspname IN ('pg_catalog', 'information_schema', 'pgtier') OR nspname LIKE 'pg\_toast%%' OR nspname LIKE 'pg\_temp\_%%')`

// tablesQuery lists the tables: a name, and what must be the same.
var tablesQuery = `SELECT n.nspname || '.' || c.relname, c.relkind::text || coalesce((SELECT string_agg(concat_ws(' ', a.attname, format_type(a.atttypid, a.atttypmod),
    CASE WHEN a.attnotnull THEN 'not null' END, CASE WHEN a.attgenerated <> '' THEN 'generated' END), ', ' ORDER BY a.attname)
  FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p', 'f') AND ` + fmt.Sprintf(ours, "n.oid") + extensionless("pg_class", "c.oid")

// afterQuery lists indexes and triggers; constraints but foreign keys come with their tables or indexes.
var afterQuery = `SELECT 'index ' || n.nspname || '.' || c.relname, '' FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  WHERE c.relkind IN ('i', 'I') AND ` + fmt.Sprintf(ours, "n.oid") + extensionless("pg_class", "(SELECT indrelid FROM pg_index WHERE indexrelid = c.oid)") + `
UNION ALL SELECT 'trigger ' || t.tgrelid::regclass || ' ' || t.tgname, '' FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
  WHERE NOT t.tgisinternal AND t.tgname NOT LIKE '` + strings.ReplaceAll(GuardPrefix, "_", `\_`) + `%' AND ` + fmt.Sprintf(ours, "c.relnamespace")

// foreignPartQuery lists foreign keys, and comments on constraints behind the data.
var foreignPartQuery = `SELECT 'foreign key ' || k.conrelid::regclass || ' ' || k.conname, pg_get_constraintdef(k.oid) FROM pg_constraint k
  WHERE k.contype = 'f' AND ` + fmt.Sprintf(ours, "k.connamespace") + `
UNION ALL SELECT 'comment on constraint ' || k.conrelid::regclass || ' ' || k.conname, d.description FROM pg_constraint k JOIN pg_description d ON d.objoid = k.oid AND d.classoid = 'pg_constraint'::regclass
  WHERE k.conrelid <> 0 AND (k.contype <> 'c' OR NOT k.convalidated) AND ` + fmt.Sprintf(ours, "k.connamespace") + extensionless("pg_class", "k.conrelid")

// extensionless is SQL that is true unless an extension made the object: CREATE EXTENSION makes it again.
func extensionless(class, oid string) string {
	return " AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = '" + class + "'::regclass AND e.objid = " + oid + " AND e.deptype = 'e')"
}

// section creates a part, unless what its query lists is there already.
func (s *Schema) section(ctx context.Context, p schemaPart) error {
	done, err := s.there(ctx, p.list, p.what)
	if err == nil && !done {
		err = s.create(ctx, p)
	}
	if err != nil {
		return fmt.Errorf("copy schema: %s: %w", p.what, err)
	}
	return nil
}

// there reports whether the target has what the source has. Some of it, or with a difference, is an error.
func (s *Schema) there(ctx context.Context, list, what string) (bool, error) {
	var sides [2]map[string]string
	for i, server := range []Server{s.Source, s.Target} {
		rows, err := server.ask(ctx, list)
		if err != nil {
			return false, fmt.Errorf("list %s: %w", what, err)
		}
		sides[i] = map[string]string{}
		for _, r := range rows {
			sides[i][string(r[0])] = string(r[1])
		}
	}
	var missing, other []string
	for _, name := range slices.Sorted(maps.Keys(sides[0])) {
		switch definition, ok := sides[1][name]; {
		case !ok:
			missing = append(missing, name)
		case definition != sides[0][name]:
			other = append(other, name)
		}
	}
	switch {
	case len(other) > 0:
		return false, fmt.Errorf("%s of %s are not as they are at %s: %s; make them the same, or drop them", what, s.Target.Name, s.Source.Name, strings.Join(other, ", "))
	case len(missing) == 0:
		return true, nil
	case len(missing) < len(sides[0]):
		return false, fmt.Errorf("%s has only some of the %s of %s; create the others by hand, or drop what is there: missing are %s",
			s.Target.Name, what, s.Source.Name, strings.Join(missing, ", "))
	}
	return false, nil
}

// roles checks that the roles that own something or may do something exist at the target.
func (s *Schema) roles(ctx context.Context) error {
	used, err := s.Source.ask(ctx, `SELECT DISTINCT r.rolname FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid
WHERE d.refclassid = 'pg_authid'::regclass AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1`)
	if err != nil {
		return fmt.Errorf("list roles: %w", err)
	}
	there, err := s.Target.ask(ctx, "SELECT rolname FROM pg_roles")
	if err != nil {
		return fmt.Errorf("list roles: %w", err)
	}
	have := map[string]bool{}
	for _, r := range there {
		have[string(r[0])] = true
	}
	var missing []string
	for _, r := range used {
		if !have[string(r[0])] {
			missing = append(missing, string(r[0]))
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("%s lacks roles that own objects at %s or have rights there: %s; create them there by CREATE ROLE, or with their passwords by pg_dumpall --roles-only",
			s.Target.Name, s.Source.Name, strings.Join(missing, ", "))
	}
	return nil
}

// create runs a part's SQL at the target, in one transaction.
func (s *Schema) create(ctx context.Context, p schemaPart) error {
	conn, err := s.Target.connect(ctx)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	script, err := s.script(ctx, p)
	if err != nil {
		return err
	}
	script = runnable(script)
	if p.section == tablesPart.section {
		script += "\n" + s.Also
	}
	// Many statements in one simple query are one transaction.
	if _, err := query(ctx, conn, script); err != nil {
		return fmt.Errorf("%s: %w", s.Target.Name, mayNot(err, "the role must be allowed to create what the source has, and to give it to its owner"))
	}
	return nil
}

// script is a part's SQL, as psql takes it.
func (s *Schema) script(ctx context.Context, p schemaPart) (string, error) {
	args := []string{"--schema-only", "--section=" + p.section, "--exclude-schema=pgtier", "--no-publications", "--no-subscriptions", "--no-tablespaces"}
	dump, err := findProgram("pg_dump")
	restore, err2 := findProgram("pg_restore")
	if err = errors.Join(err, err2); err != nil {
		return "", fmt.Errorf("%w; install PostgreSQL's client programs, set PGTIER_PG_BIN to their directory, or run by hand: pg_dump %s | psql, without triggers %s*",
			err, strings.Join(args, " "), GuardPrefix)
	}
	dir, err := os.MkdirTemp("", "pgtier-schema-")
	if err != nil {
		return "", fmt.Errorf("make directory: %w", err)
	}
	defer os.RemoveAll(dir)
	archive, list := filepath.Join(dir, "archive"), filepath.Join(dir, "list")
	if _, err := s.program(ctx, dump, append(args, "--format=custom", "--file="+archive)...); err != nil {
		return "", err
	}
	contents, err := s.program(ctx, restore, "--list", archive)
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(list, wantedEntries(contents, p), 0o600); err != nil {
		return "", fmt.Errorf("write list: %w", err)
	}
	script, err := s.program(ctx, restore, "--use-list="+list, "--file=-", archive)
	return string(script), err
}

// wantedEntries leaves guards and what is of another part out of the list of an archive's contents. Its lines are "number; class object TYPE schema table trigger owner".
func wantedEntries(contents []byte, p schemaPart) []byte {
	var kept []byte
	for line := range bytes.Lines(contents) {
		_, entry, _ := bytes.Cut(line, []byte("; "))
		fields := bytes.Fields(entry)
		if len(fields) > 4 && (string(fields[2]) == "TRIGGER" || string(fields[2]) == "COMMENT") && bytes.Contains(entry, []byte(" "+GuardPrefix)) {
			continue
		}
		if len(fields) > 2 && line[0] != ';' && !p.has(strings.Fields(string(entry))[2:]) {
			continue
		}
		kept = append(kept, line...)
	}
	return kept
}

// program runs one of PostgreSQL's programs.
func (s *Schema) program(ctx context.Context, path string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, path, args...)
	for _, setting := range os.Environ() {
		if !strings.HasPrefix(setting, "PG") {
			cmd.Env = append(cmd.Env, setting)
		}
	}
	for name, value := range s.Libpq {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", path, strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out, nil
}

// findProgram finds one of PostgreSQL's client programs: in PGTIER_PG_BIN and nowhere else if that is set, beside the server's programs, or in PATH.
func findProgram(name string) (string, error) {
	if dir := os.Getenv("PGTIER_PG_BIN"); dir != "" {
		path, err := exec.LookPath(filepath.Join(dir, name))
		if err != nil {
			return "", fmt.Errorf("PGTIER_PG_BIN=%s has no %s", dir, name)
		}
		return path, nil
	}
	if binaries, err := localpg.FindBinaries(); err == nil {
		if path, err := exec.LookPath(binaries.Path(name)); err == nil {
			return path, nil
		}
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", fmt.Errorf("no %s is installed", name)
	}
	return path, nil
}

// runnable is a script without what only psql understands, and without a setting that servers before PostgreSQL 17 do not have.
func runnable(script string) string {
	key := ""
	var kept strings.Builder
	for line := range strings.Lines(script) {
		trimmed := strings.TrimRight(line, "\r\n")
		// The key of the first \restrict is random, so no line of a function's body is taken for one of them.
		if word, rest, _ := strings.Cut(trimmed, " "); word == `\restrict` && key == "" && rest != "" {
			key = rest
			continue
		}
		if key != "" && trimmed == `\unrestrict `+key || trimmed == "SET transaction_timeout = 0;" {
			continue
		}
		kept.WriteString(line)
	}
	return kept.String()
}
