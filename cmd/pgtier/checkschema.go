package main

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// objectID is an object of a schema by its kind and name, which are the same on all shards.
type objectID struct{ kind, name string }

// definition is what an object is, as text or as a hash, and the table that it belongs to.
type definition struct{ relation, text string }

// hashed leads a definition that is a hash: nobody wants to read it.
const hashed = "md5:"

// queryDefinitions yields kind, name, relation and definition of what must be equal on all shards. Objects of extensions count as their extension.
// Guards of buckets that a shard does not own are different everywhere. Sequences are compared without their position, which is to differ, and without the step, which is judged for sharded tables.
const queryDefinitions = `WITH schemas AS (
	SELECT oid, nspname FROM pg_catalog.pg_namespace WHERE nspname !~ '^pg_' AND nspname NOT IN ('information_schema', 'pgtier')),
extended AS (SELECT classid, objid FROM pg_catalog.pg_depend WHERE deptype = 'e'),
relations AS (
	SELECT c.*, n.nspname, n.nspname || '.' || c.relname AS name FROM pg_catalog.pg_class c JOIN schemas n ON n.oid = c.relnamespace
	WHERE c.relpersistence <> 't' AND NOT EXISTS (SELECT FROM extended e WHERE e.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND e.objid = c.oid)),
tables AS (SELECT * FROM relations WHERE relkind IN ('r', 'p', 'f', 'v', 'm', 'c'))
SELECT 'schema' AS kind, nspname::text AS name, '' AS relation, '' AS definition FROM schemas
UNION ALL SELECT CASE relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'c' THEN 'type' WHEN 'f' THEN 'foreign table' ELSE 'table' END, name, name,
	pg_catalog.concat_ws(' ', CASE relkind WHEN 'p' THEN 'partitioned by ' || pg_catalog.pg_get_partkeydef(oid) END, CASE WHEN relispartition THEN pg_catalog.pg_get_expr(relpartbound, oid) END,
		CASE relpersistence WHEN 'u' THEN 'unlogged' END, CASE WHEN relrowsecurity THEN 'row level security' END, CASE WHEN relforcerowsecurity THEN 'forced' END,
		(SELECT 'of ' || pg_catalog.string_agg(inhparent::pg_catalog.regclass::text, ', ' ORDER BY inhseqno) FROM pg_catalog.pg_inherits WHERE inhrelid = tables.oid),
		CASE WHEN relkind IN ('v', 'm') THEN 'md5:' || pg_catalog.md5(pg_catalog.pg_get_viewdef(oid)) END)
	FROM tables
UNION ALL SELECT 'column', r.name || '.' || a.attname, r.name, pg_catalog.concat_ws(' ',
		'no. ' || (SELECT pg_catalog.count(*) FROM pg_catalog.pg_attribute b WHERE b.attrelid = a.attrelid AND b.attnum BETWEEN 1 AND a.attnum AND NOT b.attisdropped),
		pg_catalog.format_type(a.atttypid, a.atttypmod), (SELECT 'collate ' || l.oid::pg_catalog.regcollation FROM pg_catalog.pg_collation l
			JOIN pg_catalog.pg_type t ON t.oid = a.atttypid WHERE l.oid = a.attcollation AND l.oid <> t.typcollation),
		CASE WHEN a.attnotnull THEN 'not null' END,
		CASE WHEN a.attgenerated <> '' THEN 'generated ' WHEN a.atthasdef THEN 'default ' END || (SELECT pg_catalog.pg_get_expr(d.adbin, d.adrelid) FROM pg_catalog.pg_attrdef d
			WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum), CASE a.attidentity WHEN 'a' THEN 'identity always' WHEN 'd' THEN 'identity by default' END)
	FROM pg_catalog.pg_attribute a JOIN tables r ON r.oid = a.attrelid WHERE a.attnum > 0 AND NOT a.attisdropped
UNION ALL SELECT 'constraint', r.name || '.' || k.conname, r.name, pg_catalog.pg_get_constraintdef(k.oid) FROM pg_catalog.pg_constraint k JOIN tables r ON r.oid = k.conrelid
	WHERE k.contype IN ('c', 'f', 'p', 'u', 'x')
UNION ALL SELECT 'index', r.nspname || '.' || x.relname, r.name, pg_catalog.pg_get_indexdef(i.indexrelid) || CASE WHEN i.indisvalid THEN '' ELSE ' (not valid)' END
	FROM pg_catalog.pg_index i JOIN tables r ON r.oid = i.indrelid JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
	WHERE NOT EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x'))
UNION ALL SELECT 'sequence', r.name, COALESCE((SELECT o.name FROM pg_catalog.pg_depend d JOIN tables o ON o.oid = d.refobjid WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass
		AND d.objid = r.oid AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjsubid > 0 AND d.deptype IN ('a', 'i')), ''),
	pg_catalog.concat_ws(' ', pg_catalog.format_type(s.seqtypid, NULL), 'from', s.seqmin, 'to', s.seqmax, CASE WHEN s.seqcycle THEN 'cycle' END)
	FROM pg_catalog.pg_sequence s JOIN relations r ON r.oid = s.seqrelid
UNION ALL SELECT 'trigger', r.name || '.' || t.tgname, r.name, pg_catalog.pg_get_triggerdef(t.oid) || CASE WHEN t.tgenabled = 'O' THEN '' ELSE ' (enabled: ' || t.tgenabled::text || ')' END
	FROM pg_catalog.pg_trigger t JOIN tables r ON r.oid = t.tgrelid JOIN pg_catalog.pg_proc f ON f.oid = t.tgfoid
	WHERE NOT t.tgisinternal AND f.pronamespace IS DISTINCT FROM pg_catalog.to_regnamespace('pgtier')
UNION ALL SELECT 'rule', r.name || '.' || u.rulename, r.name, 'md5:' || pg_catalog.md5(pg_catalog.pg_get_ruledef(u.oid)) FROM pg_catalog.pg_rewrite u JOIN tables r ON r.oid = u.ev_class
	WHERE u.rulename <> '_RETURN'
UNION ALL SELECT 'policy', r.name || '.' || p.polname, r.name, pg_catalog.concat_ws(' ', p.polcmd, CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END,
		pg_catalog.pg_get_expr(p.polqual, p.polrelid), pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid)) FROM pg_catalog.pg_policy p JOIN tables r ON r.oid = p.polrelid
UNION ALL SELECT CASE p.prokind WHEN 'a' THEN 'aggregate' WHEN 'p' THEN 'procedure' ELSE 'function' END, n.nspname || '.' || p.proname || '(' || pg_catalog.pg_get_function_identity_arguments(p.oid) || ')', '',
	CASE WHEN p.prokind = 'a' THEN (SELECT pg_catalog.concat_ws(' ', a.aggtransfn, a.aggfinalfn, a.aggtranstype::pg_catalog.regtype, a.agginitval) FROM pg_catalog.pg_aggregate a WHERE a.aggfnoid = p.oid)
		ELSE 'md5:' || pg_catalog.md5(pg_catalog.pg_get_functiondef(p.oid)) END
	FROM pg_catalog.pg_proc p JOIN schemas n ON n.oid = p.pronamespace
	WHERE NOT EXISTS (SELECT FROM extended e WHERE e.classid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND e.objid = p.oid)
UNION ALL SELECT 'type', n.nspname || '.' || t.typname, '', CASE t.typtype
		WHEN 'e' THEN (SELECT 'enum of ' || pg_catalog.string_agg(pg_catalog.quote_literal(e.enumlabel), ', ' ORDER BY e.enumsortorder) FROM pg_catalog.pg_enum e WHERE e.enumtypid = t.oid)
		WHEN 'd' THEN pg_catalog.concat_ws(' ', 'domain over', pg_catalog.format_type(t.typbasetype, t.typtypmod), CASE WHEN t.typnotnull THEN 'not null' END, 'default ' || t.typdefault,
			(SELECT pg_catalog.string_agg(pg_catalog.pg_get_constraintdef(k.oid), ' ' ORDER BY k.conname) FROM pg_catalog.pg_constraint k WHERE k.contypid = t.oid AND k.contype = 'c'))
		ELSE (SELECT 'range of ' || pg_catalog.format_type(g.rngsubtype, NULL) FROM pg_catalog.pg_range g WHERE g.rngtypid = t.oid) END
	FROM pg_catalog.pg_type t JOIN schemas n ON n.oid = t.typnamespace WHERE t.typtype IN ('e', 'd', 'r')
		AND NOT EXISTS (SELECT FROM extended e WHERE e.classid = 'pg_catalog.pg_type'::pg_catalog.regclass AND e.objid = t.oid)
UNION ALL SELECT 'collation', n.nspname || '.' || l.collname, '', pg_catalog.concat_ws(' ', l.collprovider, l.collcollate, l.collctype, pg_catalog.to_jsonb(l)->>'colliculocale', pg_catalog.to_jsonb(l)->>'colllocale',
		CASE WHEN NOT l.collisdeterministic THEN 'nondeterministic' END)
	FROM pg_catalog.pg_collation l JOIN schemas n ON n.oid = l.collnamespace
UNION ALL SELECT 'extension', extname, '', extversion FROM pg_catalog.pg_extension
UNION ALL SELECT 'database', 'encoding and collation', '', pg_catalog.concat_ws(' ', pg_catalog.pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, pg_catalog.to_jsonb(d)->>'datlocprovider',
		pg_catalog.to_jsonb(d)->>'daticulocale', pg_catalog.to_jsonb(d)->>'datlocale') FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
UNION ALL SELECT 'collation version', 'of the database', '', pg_catalog.to_jsonb(d)->>'datcollversion' FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()
UNION ALL SELECT 'setting', name, '', COALESCE(NULLIF(reset_val, ''), '(empty)') FROM pg_catalog.pg_settings WHERE name IN ('TimeZone', 'DateStyle', 'IntervalStyle', 'lc_monetary', 'lc_numeric', 'lc_time',
		'default_transaction_isolation', 'bytea_output', 'extra_float_digits', 'default_text_search_config', 'xmlbinary', 'array_nulls', 'transform_null_equals', 'standard_conforming_strings')`

// readDefinitions reads the objects of one shard.
func readDefinitions(ctx context.Context, conn *pgx.Conn) (map[objectID]definition, error) {
	objects := map[objectID]definition{}
	err := querier{conn.PgConn()}.Query(ctx, queryDefinitions, func(fields [][]byte) error {
		objects[objectID{string(fields[0]), string(fields[1])}] = definition{string(fields[2]), string(fields[3])}
		return nil
	})
	return objects, err
}

// findingsMost is how many differences are written out; a shard whose schema is another altogether needs no thousand lines.
const findingsMost = 50

// checkSchema compares the objects of all shards: one line for each that differs.
func (c *shardedCheck) checkSchema(context.Context) error {
	all := map[objectID]definition{}
	for _, s := range c.shards {
		for id, d := range s.objects {
			if _, known := all[id]; !known {
				all[id] = d
			}
		}
	}
	ids := make([]objectID, 0, len(all))
	for id := range all {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b objectID) int { return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.name, b.name)) })
	found := 0
	for _, id := range ids {
		words, v := c.difference(id, all[id].relation)
		if words == "" {
			continue
		}
		if found++; found <= findingsMost {
			c.add(v, c.subject(), "%s %s", id, words)
		}
	}
	switch {
	case found > findingsMost:
		c.add(broken, c.subject(), "and %d more differences", found-findingsMost)
	case found == 0 && len(c.shards) > 1:
		c.add(fine, c.subject(), "schema equal on all shards: %d tables and views, %d objects", len(c.shards[0].snapshot.Relations()), len(ids))
	}
	return nil
}

// String returns kind and name.
func (id objectID) String() string { return id.kind + " " + id.name }

// difference says how an object differs between the shards, "" if it does not or if its table is missing as a whole.
func (c *shardedCheck) difference(id objectID, relation string) (words string, v verdict) {
	texts, missing := map[string][]string{}, []string(nil)
	for _, s := range c.shards {
		d, there := s.objects[id]
		switch {
		case there:
			texts[d.text] = append(texts[d.text], s.name)
		case id.name == relation || s.hasRelation(relation):
			missing = append(missing, s.name)
		}
	}
	v = broken
	switch {
	case id.kind == "setting" || id.kind == "collation version":
		v = doubtful
	case relation != "" && !strings.HasSuffix(id.kind, "view"):
		if _, declared := c.placed[relation]; !declared {
			v = doubtful // only its home is asked for its rows
		}
	}
	switch {
	case len(missing) > 0:
		return fmt.Sprintf("is missing on %s", strings.Join(missing, ", ")), v
	case len(texts) < 2:
		return "", fine
	}
	hash := 0
	for text := range texts {
		if strings.Contains(text, hashed) {
			hash++
		}
	}
	if hash == 0 {
		return "differs: " + byShards(texts), v
	}
	var groups []string
	for _, names := range texts {
		groups = append(groups, strings.Join(names, ", "))
	}
	slices.Sort(groups)
	return "differs: one definition on " + strings.Join(groups, "; another on "), v
}

// hasRelation says whether the shard has a table, view or composite type, or whether there is none to have.
func (s *shardConn) hasRelation(name string) bool {
	if name == "" {
		return true
	}
	for _, kind := range []string{"table", "view", "materialized view", "foreign table", "type"} {
		if _, ok := s.objects[objectID{kind, name}]; ok {
			return true
		}
	}
	return false
}
