package stream

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"pgtier/router/shard"
)

// Describe reads the layout's tables at one server. Those that are not there are missing from the result.
func Describe(ctx context.Context, server Server, layout Layout) ([]*Table, error) {
	params := sessionParams()
	delete(params, "search_path") // the role's own decides where a table without a schema is
	conn, err := server.Dial(ctx, params)
	if err != nil {
		return nil, fmt.Errorf("%s: log in: %w", server.Name, err)
	}
	defer hangUp(conn)
	tables, err := describe(ctx, conn, layout)
	if err != nil {
		return nil, fmt.Errorf("%s: read catalog: %w", server.Name, err)
	}
	return tables, nil
}

// resolved is a table of the layout that is there.
type resolved struct {
	Wanted
	OID uint32
}

func describe(ctx context.Context, conn *pgconn.PgConn, layout Layout) ([]*Table, error) {
	found, err := resolve(ctx, conn, layout.Tables)
	if err != nil {
		return nil, err
	}
	everywhere, err := resolve(ctx, conn, layout.References)
	if err != nil {
		return nil, err
	}
	if _, err := query(ctx, conn, "SET search_path = pg_catalog"); err != nil {
		return nil, err
	}
	version, encoding := conn.ParameterStatus("server_version"), conn.ParameterStatus("server_encoding")
	tables := make([]*Table, 0, len(found))
	for _, w := range found {
		raw, err := read(ctx, conn, w.OID)
		if err != nil {
			return nil, fmt.Errorf("table %s: %w", w.Name, err)
		}
		t := raw.table(layout, w.Wanted)
		t.version, t.encoding = version, encoding
		tables = append(tables, t)
	}
	if err := foreignKeys(ctx, conn, found, everywhere, tables); err != nil {
		return nil, err
	}
	return tables, oldVersion(ctx, conn, tables)
}

// oldVersion is a flaw of all that an old server has.
func oldVersion(ctx context.Context, conn *pgconn.PgConn, tables []*Table) error {
	rows, err := query(ctx, conn, "SELECT current_setting('server_version'), current_setting('server_version_num')::int < "+fmt.Sprint(Oldest))
	if err != nil || string(rows[0][1]) != "t" || len(tables) == 0 {
		return err
	}
	tables[0].flaw(fmt.Sprintf("PostgreSQL %s has no row filters", rows[0][0]), "upgrade the server to PostgreSQL 15 or later")
	return nil
}

// resolve finds the tables by the session's search path.
func resolve(ctx context.Context, conn *pgconn.PgConn, wanted []Wanted) ([]resolved, error) {
	if len(wanted) == 0 {
		return nil, nil
	}
	lines := make([]string, len(wanted))
	for i, w := range wanted {
		name := identifier(w.Name)
		if w.Schema != "" {
			name = identifier(w.Schema) + "." + name
		}
		lines[i] = fmt.Sprintf("SELECT %d, pg_catalog.to_regclass(%s)::pg_catalog.oid::pg_catalog.int8", i, literal(name))
	}
	rows, err := query(ctx, conn, strings.Join(lines, " UNION ALL ")+" ORDER BY 1")
	if err != nil {
		return nil, err
	}
	var found []resolved
	for i, row := range rows {
		if row[1] == nil {
			continue
		}
		var oid uint32
		if err := json.Unmarshal(row[1], &oid); err != nil {
			return nil, fmt.Errorf("read object id: %w", err)
		}
		found = append(found, resolved{wanted[i], oid})
	}
	return found, nil
}

// catalogTable is what tableQuery returns.
type catalogTable struct {
	Schema, Name        string
	Kind, Persistence   string
	Identity            string
	Partition, Children bool
	Triggers, Rules     []string // those that fire for streams too
	LargeObjects        bool     // the database has some
	Columns             []catalogColumn
	Leaves              []catalogLeaf
	Bytes, Rows         int64
}

type catalogColumn struct {
	Name, Type             string
	OID                    uint32
	Modifier               int32
	Generated, Always      bool
	Expression             string
	NotNull, Binary        bool
	InIdentity, InPrimary  bool
	Equal                  string
	Nondeterministic, IsLO bool
}

type catalogLeaf struct {
	Schema, Name, Kind, Persistence, Identity string
	Columns                                   []string // of the identity
}

// identityColumns are the numbers of the columns of a relation's replica identity by index; %s is the relation in pg_class.
const identityColumns = `(SELECT array_agg(k.attnum) FROM pg_index i, unnest(i.indkey::int2[]) AS k(attnum) WHERE i.indrelid = %[1]s.oid AND i.indisvalid AND i.indimmediate
    AND CASE %[1]s.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END)`

// tableQuery reads one table as JSON; $1 is its object id.
//
// A type can be copied in binary unless its binary form holds object ids, which differ between servers: those of types in arrays and composites that are not
// built in, and of what reg… types name.
var tableQuery = `
WITH c AS (SELECT * FROM pg_class WHERE oid = $1),
leaves AS (SELECT l.* FROM pg_class l WHERE l.oid IN (SELECT relid FROM pg_partition_tree($1) WHERE isleaf) OR (l.oid = $1 AND l.relkind <> 'p'))
SELECT json_build_object('schema', n.nspname, 'name', c.relname, 'kind', c.relkind, 'persistence', c.relpersistence, 'identity', c.relreplident,
  'partition', c.relispartition,
  'children', c.relkind = 'r' AND EXISTS (SELECT FROM pg_inherits h WHERE h.inhparent = c.oid OR h.inhrelid = c.oid) AND NOT c.relispartition,
  'triggers', (SELECT json_agg(DISTINCT t.tgname) FROM pg_trigger t WHERE t.tgrelid IN (SELECT oid FROM leaves UNION SELECT $1) AND NOT t.tgisinternal AND t.tgenabled IN ('A', 'R')),
  'rules', (SELECT json_agg(r.rulename) FROM pg_rewrite r WHERE r.ev_class = c.oid AND r.ev_type <> '1' AND r.ev_enabled IN ('A', 'R')),
  'largeobjects', EXISTS (SELECT FROM pg_largeobject_metadata),
  'bytes', (SELECT coalesce(sum(pg_table_size(oid)), 0)::int8 FROM leaves WHERE relkind = 'r'),
  'rows', (SELECT coalesce(sum(greatest(reltuples, 0)), 0)::int8 FROM leaves),
  'columns', (SELECT json_agg(json_build_object('name', a.attname, 'type', format_type(a.atttypid, a.atttypmod), 'oid', a.atttypid::int8, 'modifier', a.atttypmod,
      'generated', a.attgenerated <> '', 'always', a.attidentity = 'a', 'expression', (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d
        WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum AND a.attgenerated <> ''),
      'notnull', a.attnotnull,
      'binary', b.typsend <> 0 AND b.typreceive <> 0 AND b.typtype IN ('b', 'e', 'r', 'm') AND b.typname !~ '^_?reg'
        AND (b.typelem = 0 OR b.typelem < 16384 AND e.typtype IN ('b', 'r', 'm')),
      'inidentity', c.relreplident = 'f' OR a.attnum = ANY (` + fmt.Sprintf(identityColumns, "c") + `::int2[]),
      'inprimary', a.attnum = ANY ((SELECT i.indkey::int2[] FROM pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)::int2[]),
      'equal', (SELECT format('OPERATOR(%I.%s)', os.nspname, o.oprname) FROM pg_index i, unnest(i.indkey::int2[], i.indclass::oid[]) AS k(attnum, class)
          JOIN pg_opclass oc ON oc.oid = k.class JOIN pg_amop am ON am.amopfamily = oc.opcfamily AND am.amoplefttype = oc.opcintype AND am.amoprighttype = oc.opcintype AND am.amopstrategy = 3
          JOIN pg_operator o ON o.oid = am.amopopr JOIN pg_namespace os ON os.oid = o.oprnamespace
        WHERE i.indrelid = c.oid AND (i.indisprimary OR i.indisreplident) AND k.attnum = a.attnum ORDER BY i.indisprimary LIMIT 1),
      'nondeterministic', NOT coalesce(col.collisdeterministic, true),
      'islo', t.typname = 'lo' AND t.typtype = 'd' OR a.atttypid = 26) ORDER BY a.attnum)
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
      JOIN pg_type b ON b.oid = CASE t.typtype WHEN 'd' THEN (WITH RECURSIVE base AS (SELECT t.typbasetype AS oid UNION ALL
        SELECT p.typbasetype FROM base JOIN pg_type p ON p.oid = base.oid WHERE p.typtype = 'd') SELECT base.oid FROM base JOIN pg_type q ON q.oid = base.oid WHERE q.typtype <> 'd')
        ELSE t.oid END
      LEFT JOIN pg_type e ON e.oid = b.typelem LEFT JOIN pg_collation col ON col.oid = a.attcollation
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  'leaves', (SELECT json_agg(json_build_object('schema', ln.nspname, 'name', l.relname, 'kind', l.relkind, 'persistence', l.relpersistence, 'identity', l.relreplident,
      'columns', (SELECT json_agg(a.attname ORDER BY a.attname) FROM pg_attribute a WHERE a.attrelid = l.oid AND a.attnum = ANY (` + fmt.Sprintf(identityColumns, "l") + `::int2[])))
      ORDER BY ln.nspname, l.relname)
    FROM leaves l JOIN pg_namespace ln ON ln.oid = l.relnamespace))
FROM c JOIN pg_namespace n ON n.oid = c.relnamespace`

// read reads a table of the catalog.
func read(ctx context.Context, conn *pgconn.PgConn, oid uint32) (*catalogTable, error) {
	rows, err := query(ctx, conn, strings.ReplaceAll(tableQuery, "$1", fmt.Sprint(oid)))
	if err != nil {
		return nil, err
	}
	if len(rows) != 1 {
		return nil, fmt.Errorf("it was dropped meanwhile")
	}
	raw := &catalogTable{}
	return raw, json.Unmarshal(rows[0][0], raw)
}

// table is the description, with what stands in the way of a move.
func (raw *catalogTable) table(layout Layout, w Wanted) *Table {
	t := &Table{Schema: raw.Schema, Name: raw.Name, Identity: Identity(firstByte(raw.Identity)), Bytes: raw.Bytes, Rows: raw.Rows, partitioned: raw.Kind == "p"}
	for _, c := range raw.Columns {
		if c.Generated {
			t.Generated, t.generated = append(t.Generated, identifier(c.Name)+" AS "+c.Expression), append(t.generated, c.Name)
			continue
		}
		t.Columns = append(t.Columns, Column{Name: c.Name, Type: c.Type, Always: c.Always, NotNull: c.NotNull, Binary: c.Binary,
			InIdentity: c.InIdentity, InPrimary: c.InPrimary, oid: c.OID, modifier: c.Modifier, equal: c.Equal})
		if c.IsLO && (c.Type != "oid" || raw.LargeObjects) {
			t.flaw(fmt.Sprintf("column %q may name large objects, which are not moved", c.Name), "keep the contents in a bytea column")
		}
	}
	for _, l := range raw.Leaves {
		t.Leaves = append(t.Leaves, identifier(l.Schema)+"."+identifier(l.Name))
	}
	raw.flaws(t)
	t.Key = raw.key(t, layout, w.Key)
	return t
}

func firstByte(text string) byte {
	if text == "" {
		return 0
	}
	return text[0]
}

// flaws notes what makes it impossible to move the table.
func (raw *catalogTable) flaws(t *Table) {
	switch {
	case raw.Kind != "r" && raw.Kind != "p":
		t.flaw("it is no ordinary table", "take it out of the sharded tables")
		return
	case raw.Partition:
		t.flaw("it is a partition", "declare the partitioned table instead")
	case raw.Children:
		t.flaw("it inherits from a table or is inherited from", "make a partitioned table of it, or undo the inheritance by ALTER TABLE … NO INHERIT")
	}
	if raw.Persistence != "p" {
		t.flaw("it is unlogged or temporary", "run ALTER TABLE "+t.sql()+" SET LOGGED")
	}
	if len(raw.Triggers)+len(raw.Rules) > 0 {
		t.flaw("triggers or rules "+strings.Join(append(raw.Triggers, raw.Rules...), ", ")+" fire for replicated rows too, so that they would run twice",
			"run ALTER TABLE … ENABLE TRIGGER (or RULE) without ALWAYS and REPLICA")
	}
	for _, l := range raw.Leaves {
		name := l.Schema + "." + l.Name
		switch {
		case raw.Kind != "p":
		case l.Kind != "r":
			t.flaw("its partition "+name+" is no ordinary table", "detach the partition")
		case l.Persistence != "p":
			t.flaw("its partition "+name+" is unlogged", "run ALTER TABLE "+identifier(l.Schema)+"."+identifier(l.Name)+" SET LOGGED")
		case l.Identity != raw.Identity || raw.Identity != "f" && !slices.Equal(l.Columns, raw.identityNames()):
			t.flaw("its partition "+name+" has another replica identity", "run ALTER TABLE … REPLICA IDENTITY on the partition as on the table")
		}
	}
	if len(raw.identityNames()) == 0 {
		t.flaw("it has no primary key or other replica identity, so changes of its rows are not in the log", "add a primary key, or run ALTER TABLE "+t.sql()+" REPLICA IDENTITY FULL")
	}
}

// identityNames are the columns of the replica identity, in order of their names.
func (raw *catalogTable) identityNames() (names []string) {
	for _, c := range raw.Columns {
		if c.InIdentity && !c.Generated {
			names = append(names, c.Name)
		}
	}
	slices.Sort(names)
	return names
}

// key is the table's key; nil with a flaw if there cannot be one.
func (raw *catalogTable) key(t *Table, layout Layout, names []string) *shard.Key {
	if len(names) == 0 {
		return nil
	}
	t.keyed = true
	var columns []shard.Column
	for _, name := range names {
		i := slices.IndexFunc(raw.Columns, func(c catalogColumn) bool { return c.Name == name })
		switch {
		case i < 0:
			t.flaw(fmt.Sprintf("it has no column %q, which is in its key", name), "correct the key in the configuration")
			return nil
		case raw.Columns[i].Generated:
			t.flaw(fmt.Sprintf("column %q of its key is generated", name), "use a column that is stored as it is sent")
			return nil
		case raw.Columns[i].Nondeterministic:
			t.flaw(fmt.Sprintf("column %q of its key has a collation that is not deterministic", name), "give the column a deterministic collation")
			return nil
		case !raw.Columns[i].InIdentity && len(raw.identityNames()) > 0:
			t.flaw(fmt.Sprintf("column %q of its key is not in its replica identity, so updates would fail while rows are moved", name),
				"put the column into the primary key, or run ALTER TABLE "+t.sql()+" REPLICA IDENTITY FULL")
		}
		columns = append(columns, shard.Column{Name: name, Type: shard.Type(raw.Columns[i].OID), Modifier: raw.Columns[i].Modifier})
	}
	key, err := shard.NewKey(layout.Function, layout.Buckets, columns...)
	if err != nil {
		t.flaw("its key: "+err.Error(), "choose another key")
		return nil
	}
	return key
}

// flaw notes a problem of the table.
func (t *Table) flaw(message, hint string) {
	t.flaws = append(t.flaws, Problem{Table: t.String(), Message: message, Hint: hint})
}

// foreignKeysQuery lists foreign keys from or to the tables; %s are their object ids.
const foreignKeysQuery = `SELECT k.conname, k.conrelid::int8, k.confrelid::int8, k.conrelid::regclass, k.confrelid::regclass,
  (SELECT json_agg(json_build_array(a.attname, b.attname)) FROM unnest(k.conkey, k.confkey) AS p(x, y)
    JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = p.x JOIN pg_attribute b ON b.attrelid = k.confrelid AND b.attnum = p.y)
FROM pg_constraint k WHERE k.contype = 'f' AND k.conparentid = 0 AND (k.conrelid IN (%[1]s) OR k.confrelid IN (%[1]s)) ORDER BY k.conname, 2, 3`

// foreignKeys notes those that lead from one shard to another once buckets are on several. found and tables go together; everywhere are tables that
// every shard has besides.
func foreignKeys(ctx context.Context, conn *pgconn.PgConn, found, everywhere []resolved, tables []*Table) error {
	if len(found) == 0 {
		return nil
	}
	ids := make([]string, len(found))
	at := map[string]int{}
	for i, f := range found {
		ids[i] = fmt.Sprint(f.OID)
		at[ids[i]] = i
	}
	onAll := map[string]bool{}
	for _, f := range everywhere {
		onAll[fmt.Sprint(f.OID)] = true
	}
	rows, err := query(ctx, conn, fmt.Sprintf(foreignKeysQuery, strings.Join(ids, ", ")))
	if err != nil {
		return err
	}
	for _, row := range rows {
		var pairs [][2]string
		if err := json.Unmarshal(row[5], &pairs); err != nil {
			return fmt.Errorf("read foreign key: %w", err)
		}
		name, from, to := string(row[0]), string(row[3]), string(row[4])
		i, fromOurs := at[string(row[1])]
		j, toOurs := at[string(row[2])]
		hint := "drop the foreign key, or declare both tables so that rows that belong together have the same key"
		switch {
		case !fromOurs && tables[j].keyed:
			tables[j].flaw("foreign key "+name+" of "+from+", which is not sharded, refers to it", hint)
		case fromOurs && !toOurs && !onAll[string(row[2])]:
			tables[i].flaw("foreign key "+name+" refers to "+to+", which is on one shard only", hint)
		case fromOurs && toOurs && tables[j].keyed && !sameKey(found[i].Key, found[j].Key, pairs):
			tables[i].flaw("foreign key "+name+" refers to rows of "+to+" that may be on another shard", hint)
		}
	}
	return nil
}

// sameKey reports whether the columns of a foreign key, from and to, pair the two keys, so that rows that belong together are in one bucket.
func sameKey(from, to []string, pairs [][2]string) bool {
	if len(from) != len(to) {
		return false
	}
	for i := range from {
		if !slices.Contains(pairs, [2]string{from[i], to[i]}) {
			return false
		}
	}
	return true
}

// Problems are what makes a move between two servers impossible, by what Describe returned for each; nil if nothing does.
func Problems(layout Layout, source, target []*Table) []Problem {
	var problems []Problem
	for _, side := range [][]*Table{source, target} {
		for _, t := range side {
			problems = append(problems, t.flaws...)
		}
	}
	for _, w := range layout.Tables {
		s, d := find(source, w), find(target, w)
		name := w.Name
		if w.Schema != "" {
			name = w.Schema + "." + name
		}
		switch {
		case s == nil:
			problems = append(problems, Problem{name, "the source does not have it", "create it, or take it out of the configuration"})
		case d == nil:
			problems = append(problems, Problem{name, "the target does not have it", "create it there as it is at the source"})
		default:
			problems = append(problems, compare(s, d)...)
		}
	}
	slices.SortStableFunc(problems, func(a, b Problem) int { return strings.Compare(a.Table, b.Table) })
	return slices.Compact(problems)
}

// find is the description of a wanted table, nil if there is none.
func find(tables []*Table, w Wanted) *Table {
	for _, t := range tables {
		if t.Name == w.Name && (w.Schema == "" || t.Schema == w.Schema) {
			return t
		}
	}
	return nil
}

// compare lists what differs between the two sides so that rows of one cannot be rows of the other.
func compare(s, d *Table) (problems []Problem) {
	differ := func(message string) {
		problems = append(problems, Problem{s.String(), message, "make the schemas the same, on all shards"})
	}
	if s.Schema != d.Schema {
		differ(fmt.Sprintf("it is in schema %s at the source and %s at the target", s.Schema, d.Schema))
	}
	if s.encoding != d.encoding {
		differ(fmt.Sprintf("the source's database is encoded in %s, the target's in %s, so that text has other buckets", s.encoding, d.encoding))
	}
	for _, c := range s.Columns {
		switch other := d.column(c.Name); {
		case other == nil:
			differ(fmt.Sprintf("column %q is missing at the target", c.Name))
		case other.Type != c.Type:
			differ(fmt.Sprintf("column %q is %s at the source and %s at the target", c.Name, c.Type, other.Type))
		case other.NotNull != c.NotNull:
			differ(fmt.Sprintf("column %q may be NULL on one side only", c.Name))
		case other.InIdentity != c.InIdentity || other.InPrimary != c.InPrimary:
			differ(fmt.Sprintf("column %q is in the primary key or replica identity on one side only", c.Name))
		}
	}
	for _, c := range d.Columns {
		if s.column(c.Name) == nil {
			differ(fmt.Sprintf("column %q is missing at the source", c.Name))
		}
	}
	if a, b := slices.Sorted(slices.Values(s.Generated)), slices.Sorted(slices.Values(d.Generated)); !slices.Equal(a, b) {
		differ(fmt.Sprintf("generated columns differ: %q at the source, %q at the target", a, b))
	}
	if s.Identity != d.Identity {
		differ(fmt.Sprintf("its replica identity is %q at the source and %q at the target", s.Identity, d.Identity))
	}
	return problems
}

// column is the column of a name, nil if there is none.
func (t *Table) column(name string) *Column {
	for i := range t.Columns {
		if t.Columns[i].Name == name {
			return &t.Columns[i]
		}
	}
	return nil
}
