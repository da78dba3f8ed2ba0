package catalog

// Object identifiers of the catalogs themselves; they are the same in every server (src/include/catalog/pg_*.h).
const (
	catalogProc         = 1255
	catalogClass        = 1259
	catalogAttrdef      = 2604
	catalogConstraint   = 2606
	catalogRewrite      = 2618
	catalogTrigger      = 2620
	catalogPolicy       = 3256
	catalogEventTrigger = 3466

	catalogOperator      = 2617
	catalogType          = 1247
	catalogWrapper       = 2328
	catalogServer        = 1417
	catalogMethod        = 2601
	catalogConversion    = 2607
	catalogLanguage      = 2612
	catalogStatistics    = 3381
	catalogTransform     = 3576
	catalogDictionary    = 3600
	catalogParser        = 3601
	catalogConfiguration = 3602
	catalogTemplate      = 3764
	catalogPublication   = 6104

	// domainDefault stands for catalogType where a domain's default is meant; no catalog has this identifier.
	domainDefault = 1
	// serverView stands for catalogClass where the relation is a view of the server itself, known by its own identifier.
	serverView = 2
)

// The queries read only catalogs that every role may read, take no locks on relations (no pg_get_*def) and do not call functions
// outside pg_catalog. Objects below 16384 (FirstNormalObjectId in src/include/access/transam.h) are the server's own.

// queryVersion yields one row that differs after any change which Load could see.
//
// A row version is known by its oid and xmin, which freezing keeps. Relations are taken by name and kind instead: TRUNCATE, ANALYZE
// and CREATE INDEX rewrite their rows and change nothing that matters. Temporary tables come and go and are left out.
const queryVersion = `SELECT pg_catalog.sum(n), pg_catalog.sum(h) FROM (
SELECT 1 AS n, pg_catalog.hashint8extended(oid::pg_catalog.int8, xmin::pg_catalog.text::pg_catalog.int8) AS h FROM pg_catalog.pg_proc WHERE oid >= 16384
UNION ALL SELECT 1, pg_catalog.hashint8extended(oid::pg_catalog.int8, xmin::pg_catalog.text::pg_catalog.int8 + 1) FROM pg_catalog.pg_trigger WHERE (NOT tgisinternal OR tgconstraint = 0)
UNION ALL SELECT 1, pg_catalog.hashint8extended(oid::pg_catalog.int8, xmin::pg_catalog.text::pg_catalog.int8 + 2) FROM pg_catalog.pg_rewrite WHERE oid >= 16384
UNION ALL SELECT 1, pg_catalog.hashint8extended(oid::pg_catalog.int8, xmin::pg_catalog.text::pg_catalog.int8 + 3) FROM pg_catalog.pg_attrdef
UNION ALL SELECT 1, pg_catalog.hashint8extended(oid::pg_catalog.int8, xmin::pg_catalog.text::pg_catalog.int8 + 4) FROM pg_catalog.pg_constraint WHERE oid >= 16384 AND contype IN ('c', 'f')
UNION ALL SELECT 1, pg_catalog.hashint8extended(oid::pg_catalog.int8, xmin::pg_catalog.text::pg_catalog.int8 + 5) FROM pg_catalog.pg_policy
UNION ALL SELECT 1, pg_catalog.hashint8extended(indexrelid::pg_catalog.int8, 6) FROM pg_catalog.pg_index WHERE indexprs IS NOT NULL OR indpred IS NOT NULL
UNION ALL SELECT 1, pg_catalog.hashint8extended(inhrelid::pg_catalog.int8, inhparent::pg_catalog.int8) FROM pg_catalog.pg_inherits
UNION ALL SELECT 1, pg_catalog.hashint8extended(oid::pg_catalog.int8, xmin::pg_catalog.text::pg_catalog.int8 + 7) FROM pg_catalog.pg_operator WHERE oid >= 16384
UNION ALL SELECT 1, pg_catalog.hashint8extended(oid::pg_catalog.int8, xmin::pg_catalog.text::pg_catalog.int8 + 8) FROM pg_catalog.pg_cast WHERE oid >= 16384
UNION ALL SELECT 1, pg_catalog.hashint8extended(oid::pg_catalog.int8, xmin::pg_catalog.text::pg_catalog.int8 + 9) FROM pg_catalog.pg_amproc WHERE oid >= 16384
UNION ALL SELECT 1, pg_catalog.hashint8extended(oid::pg_catalog.int8, xmin::pg_catalog.text::pg_catalog.int8 + 10) FROM pg_catalog.pg_event_trigger
UNION ALL SELECT 1, pg_catalog.hashint8extended(oid::pg_catalog.int8, xmin::pg_catalog.text::pg_catalog.int8 + 11) FROM pg_catalog.pg_extension
UNION ALL SELECT 1, pg_catalog.hashint8extended(oid::pg_catalog.int8, xmin::pg_catalog.text::pg_catalog.int8 + 12) FROM pg_catalog.pg_type WHERE oid >= 16384 AND typtype IN ('d', 'e', 'r')
UNION ALL SELECT 1, pg_catalog.hashtextextended(relname::pg_catalog.text || relkind::pg_catalog.text || relpersistence::pg_catalog.text,
	(oid::pg_catalog.int8 << 32) | relnamespace::pg_catalog.int8) FROM pg_catalog.pg_class
WHERE oid >= 16384 AND relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND relpersistence <> 't'
UNION ALL SELECT 1, pg_catalog.hashtextextended(a.attname::pg_catalog.text, (k.oid::pg_catalog.int8 << 16) | a.attnum) FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = ANY (k.confkey) WHERE k.contype = 'f' AND k.confupdtype IN ('c', 'n', 'd')
UNION ALL SELECT 1, pg_catalog.hashtextextended(nspname::pg_catalog.text, oid::pg_catalog.int8) FROM pg_catalog.pg_namespace
WHERE NOT nspname::pg_catalog.text ^@ 'pg_') AS all_rows`

// queryServer yields server_version_num.
const queryServer = `SELECT pg_catalog.current_setting('server_version_num')`

// queryFunctions yields oid, schema, name, language, the extension that owns it or 0, whether one argument is enough to call it, whether that may be a row,
// volatility, whether only the server can call it (an argument or the result is internal, a handler or a trigger's), and the body. For language internal
// the body is the names of built-in functions that are the same code.
const queryFunctions = `SELECT p.oid, n.nspname, p.proname, CASE WHEN p.prokind = 'a' THEN 'aggregate' ELSE l.lanname END,
COALESCE(d.refobjid, 0), p.prokind = 'f' AND p.pronargs > 0 AND p.pronargs - p.pronargdefaults <= 1,
t.typtype IN ('c', 'd', 'p'), p.provolatile, ` + hiddenColumn + `,
CASE WHEN l.lanname = 'internal' THEN i.names WHEN l.lanname IN ('sql', 'plpgsql') THEN p.prosrc END
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_language l ON l.oid = p.prolang
LEFT JOIN pg_catalog.pg_type t ON t.oid = p.proargtypes[0]
LEFT JOIN pg_catalog.pg_depend d ON d.classid = 1255 AND d.objid = p.oid AND d.objsubid = 0 AND d.deptype = 'e'
LEFT JOIN (SELECT a.oid, pg_catalog.string_agg(b.proname, ' ') AS names FROM pg_catalog.pg_proc a JOIN pg_catalog.pg_proc b ON b.prosrc = a.prosrc
	WHERE a.oid >= 16384 AND a.prolang = 12 AND b.oid < 16384 AND b.prolang = 12 GROUP BY a.oid) AS i ON i.oid = p.oid
WHERE p.oid >= 16384`

// hiddenColumn says that no statement can call p: 2281 is internal; the results are internal, trigger, event_trigger, and the handlers of languages,
// foreign data wrappers, index and table access methods and sampling methods (src/include/catalog/pg_type.dat).
const hiddenColumn = `(p.prorettype IN (2281, 2279, 3838, 2280, 3115, 325, 269, 3310) OR 2281 = ANY (p.proargtypes::pg_catalog.oid[]))`

// queryKnown yields names that may look like a function call and are the server's own or a type's.
const queryKnown = `SELECT proname FROM pg_catalog.pg_proc WHERE oid < 16384
UNION SELECT typname FROM pg_catalog.pg_type WHERE oid >= 16384 AND typtype IN ('d', 'e', 'r')`

// queryBuiltins yields oid, name, volatility, fewest and most arguments, type of the first or 0, and whether only the server can call it, of the
// server's own functions that are of these volatilities or of a name that is listed. It has three verbs: volatilities and names in quotes, and a regular
// expression for other names.
const queryBuiltins = `SELECT p.oid, p.proname, p.provolatile, p.pronargs - p.pronargdefaults - (p.provariadic <> 0)::pg_catalog.int4,
CASE WHEN p.provariadic <> 0 THEN 1024 ELSE p.pronargs END, COALESCE(p.proargtypes[0], 0), ` + hiddenColumn + `
FROM pg_catalog.pg_proc p WHERE p.oid < 16384 AND (p.provolatile IN (%s) OR p.proname IN (%s) OR p.proname ~ '%s')`

// queryRelations yields oid, schema, name, kind, persistence and the extension that owns it or 0.
const queryRelations = `SELECT c.oid, n.nspname, c.relname, c.relkind, c.relpersistence, COALESCE(d.refobjid, 0)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_depend d ON d.classid = 1259 AND d.objid = c.oid AND d.objsubid = 0 AND d.deptype = 'e'
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND c.relpersistence <> 't' AND n.nspname <> 'pg_toast'`

// queryOperators yields oid, schema, name, and whether both operands are of types of the server itself.
const queryOperators = `SELECT o.oid, n.nspname, o.oprname, o.oprleft BETWEEN 1 AND 16383 AND o.oprright BETWEEN 1 AND 16383 FROM pg_catalog.pg_operator o
JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace WHERE o.oid >= 16384`

// notOurs leaves out the guards that pgtier itself puts on tables of which buckets move (resharder/DESIGN.md): they change no row and no setting, and
// take locks that end with the transaction. Only the owner of schema pgtier can have functions there.
const notOurs = ` AND tgfoid NOT IN (SELECT p.oid FROM pg_catalog.pg_proc p WHERE p.prorettype = 2279 AND p.pronamespace = pg_catalog.to_regnamespace('pgtier'))`

// queryParts yields the objects that tie functions to relations: kind, oid, name, relation, detail and other. Detail and other depend on
// the kind, see graph.part. Internal triggers are those of constraints, and before PostgreSQL 15 those that partitions have from their parent.
const queryParts = `SELECT 'trigger', oid, tgname, tgrelid, CASE WHEN tgtype & 32 <> 0 THEN 'truncate' WHEN tgtype & 3 = 3 AND tgtype & 24 <> 0 THEN 'before' ELSE '' END, tgfoid FROM pg_catalog.pg_trigger WHERE (NOT tgisinternal OR tgconstraint = 0) AND tgenabled <> 'D'` + notOurs + `
UNION ALL SELECT 'rule', oid, rulename, ev_class, ev_type::pg_catalog.text, 0 FROM pg_catalog.pg_rewrite WHERE oid >= 16384 AND ev_enabled <> 'D'
UNION ALL SELECT 'default', d.oid, a.attname, d.adrelid, (a.attgenerated <> '')::pg_catalog.text, 0 FROM pg_catalog.pg_attrdef d
	JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
UNION ALL SELECT 'check', oid, conname, conrelid, '', contypid FROM pg_catalog.pg_constraint WHERE oid >= 16384 AND contype = 'c'
UNION ALL SELECT 'foreign key', oid, conname, conrelid, CASE WHEN confdeltype IN ('c', 'n', 'd') THEN 'd' ELSE '' END || CASE WHEN confupdtype IN ('c', 'n', 'd') THEN 'u' ELSE '' END, confrelid
	FROM pg_catalog.pg_constraint WHERE contype = 'f'
UNION ALL SELECT 'policy', oid, polname, polrelid, '', 0 FROM pg_catalog.pg_policy
UNION ALL SELECT 'index', c.oid, c.relname, i.indrelid, '', 0 FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
	WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL
UNION ALL SELECT 'inherits', 0, '', inhrelid, '', inhparent FROM pg_catalog.pg_inherits
UNION ALL SELECT 'event trigger', oid, evtname, 0, '', evtfoid FROM pg_catalog.pg_event_trigger WHERE evtenabled <> 'D' AND evtevent <> 'login'`

// queryKeys yields a table and a column that a foreign key with an action on UPDATE refers to; ” stands for all, where an UPDATE may set columns that its
// text does not: by row triggers (src/include/catalog/pg_trigger.h) or because the column is computed of others.
const queryKeys = `SELECT k.confrelid, CASE WHEN a.attgenerated = '' THEN a.attname::pg_catalog.text ELSE '' END FROM pg_catalog.pg_constraint k
JOIN pg_catalog.pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = ANY (k.confkey) WHERE k.contype = 'f' AND k.confupdtype IN ('c', 'n', 'd')
UNION SELECT tgrelid, '' FROM pg_catalog.pg_trigger WHERE tgtype & 19 = 19 AND tgenabled <> 'D'` + notOurs

// queryDepends yields classid, objid, refclassid and refobjid of everything that depends on a function or an operator, and of functions, rules and policies
// that depend on a relation.
const queryDepends = `SELECT CASE WHEN t.typtype = 'd' THEN 1 ELSE d.classid END, d.objid, d.refclassid, d.refobjid FROM pg_catalog.pg_depend d
LEFT JOIN pg_catalog.pg_type t ON d.classid = 1247 AND t.oid = d.objid
WHERE d.refobjid >= 16384 AND (d.refclassid IN (1255, 2617) OR d.refclassid = 1259 AND d.classid IN (1255, 2618, 3256))`

// queryTrees yields what expressions use of the server's own objects, on which pg_depend has no rows: classid, objid, a kind and what it is. The
// kinds are funcid (a function of queryBuiltins, by oid), relid (a relation, by oid), lock (rows are locked) and setting (a call of
// current_setting, with its constant first argument as the bytes of a varlena, or nothing). Expressions are searched as stored node trees; a view of
// the server itself is given as its relation. It has two verbs: more branches for newer servers, and the functions of queryBuiltins.
const queryTrees = `WITH trees AS (
SELECT 2618 AS class, oid, ev_action::pg_catalog.text || ev_qual::pg_catalog.text AS tree FROM pg_catalog.pg_rewrite WHERE oid >= 16384
UNION ALL SELECT 2, ev_class, ev_action::pg_catalog.text FROM pg_catalog.pg_rewrite WHERE oid < 16384 AND ev_type = '1'
UNION ALL SELECT 2604, oid, adbin::pg_catalog.text FROM pg_catalog.pg_attrdef
UNION ALL SELECT 2606, oid, conbin::pg_catalog.text FROM pg_catalog.pg_constraint WHERE conbin IS NOT NULL
UNION ALL SELECT 3256, oid, pg_catalog.concat(polqual::pg_catalog.text, polwithcheck::pg_catalog.text) FROM pg_catalog.pg_policy
UNION ALL SELECT 1259, indexrelid, pg_catalog.concat(indexprs::pg_catalog.text, indpred::pg_catalog.text) FROM pg_catalog.pg_index
	WHERE indexprs IS NOT NULL OR indpred IS NOT NULL
UNION ALL SELECT 1259, partrelid, partexprs::pg_catalog.text FROM pg_catalog.pg_partitioned_table WHERE partexprs IS NOT NULL
UNION ALL SELECT 2620, oid, tgqual::pg_catalog.text FROM pg_catalog.pg_trigger WHERE tgqual IS NOT NULL
UNION ALL SELECT 1255, oid, proargdefaults::pg_catalog.text FROM pg_catalog.pg_proc WHERE oid >= 16384 AND proargdefaults IS NOT NULL%s
UNION ALL SELECT 1, oid, typdefaultbin::pg_catalog.text FROM pg_catalog.pg_type WHERE typdefaultbin IS NOT NULL),
watched AS (SELECT oid FROM pg_catalog.unnest('{%s}'::pg_catalog.oid[]) AS oid),
uses AS (SELECT DISTINCT class, oid, m[1] = 'relid' AS relation, m[2]::pg_catalog.oid AS used
	FROM trees, pg_catalog.regexp_matches(tree, ':(funcid|opfuncid|aggfnoid|winfnoid|relid) ([0-9]+)', 'g') AS m)
SELECT class, oid, 'relid', used::pg_catalog.text FROM uses WHERE relation AND used <> 0 AND used < 16384
UNION ALL SELECT class, oid, 'funcid', used::pg_catalog.text FROM uses WHERE NOT relation AND used IN (SELECT oid FROM watched)
UNION ALL SELECT class, oid, 'lock', '' FROM trees WHERE tree ~~ '%%{ROWMARKCLAUSE %%'
UNION ALL SELECT class, oid, 'setting', m[1] FROM trees,
	pg_catalog.regexp_matches(tree, ':funcid (?:2077|3294) [^{}]*:args \((?:\{CONST [^{}]*:constvalue [0-9]+ \[([-0-9 ]*)\])?', 'g') AS m
	WHERE tree ~~ '%%:funcid 2077 %%' OR tree ~~ '%%:funcid 3294 %%'
UNION ALL SELECT 2617, o.oid, 'funcid', r.oid::pg_catalog.text FROM pg_catalog.pg_operator o JOIN watched r ON r.oid IN (o.oprcode, o.oprrest, o.oprjoin)
	WHERE o.oid >= 16384
UNION ALL SELECT 2605, c.oid, 'funcid', r.oid::pg_catalog.text FROM pg_catalog.pg_cast c JOIN watched r ON r.oid = c.castfunc WHERE c.oid >= 16384
UNION ALL SELECT 1255, a.aggfnoid::pg_catalog.oid, 'funcid', r.oid::pg_catalog.text FROM pg_catalog.pg_aggregate a JOIN watched r
	ON r.oid IN (a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)`

// queryBodies is the branch of queryTrees for BEGIN ATOMIC bodies, which PostgreSQL has since version 14.
const queryBodies = `
UNION ALL SELECT 1255, oid, prosqlbody::pg_catalog.text FROM pg_catalog.pg_proc WHERE oid >= 16384 AND prosqlbody IS NOT NULL`

// bodiesSince is the first server_version_num with prosqlbody.
const bodiesSince = 140000
