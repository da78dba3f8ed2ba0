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
)

// The queries read only catalogs that every role may read, take no locks on relations (no pg_get_*def) and do not call functions
// outside pg_catalog. Objects below 16384 (FirstNormalObjectId in src/include/access/transam.h) are the server's own.

// queryVersion yields one row that differs after any change which Load could see.
//
// A row version is known by its oid and xmin, which freezing keeps. Relations are taken by name and kind instead: TRUNCATE, ANALYZE
// and CREATE INDEX rewrite their rows and change nothing that matters. Temporary tables come and go and are left out.
const queryVersion = `SELECT pg_catalog.sum(n), pg_catalog.sum(h) FROM (
SELECT 1 AS n, pg_catalog.hashint8extended(oid::pg_catalog.int8, xmin::pg_catalog.text::pg_catalog.int8) AS h FROM pg_catalog.pg_proc WHERE oid >= 16384
UNION ALL SELECT 1, pg_catalog.hashint8extended(oid::pg_catalog.int8, xmin::pg_catalog.text::pg_catalog.int8 + 1) FROM pg_catalog.pg_trigger WHERE NOT tgisinternal
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
UNION ALL SELECT 1, pg_catalog.hashtextextended(relname::pg_catalog.text || relkind::pg_catalog.text, oid::pg_catalog.int8) FROM pg_catalog.pg_class
WHERE oid >= 16384 AND relkind IN ('r', 'p', 'v', 'm', 'f') AND relpersistence <> 't') AS all_rows`

// queryServer yields server_version_num.
const queryServer = `SELECT pg_catalog.current_setting('server_version_num')`

// queryFunctions yields oid, schema, name, language, whether an extension owns it, whether one argument is enough to call it, whether that may be a row, and the
// body. For language internal the body is the names of built-in functions that are the same code.
const queryFunctions = `SELECT p.oid, n.nspname, p.proname, CASE WHEN p.prokind = 'a' THEN 'aggregate' ELSE l.lanname END,
EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 1255 AND d.objid = p.oid AND d.objsubid = 0 AND d.deptype = 'e'),
p.prokind = 'f' AND p.pronargs > 0 AND p.pronargs - p.pronargdefaults <= 1,
t.typtype IN ('c', 'd', 'p'),
CASE WHEN l.lanname = 'internal' THEN (SELECT pg_catalog.string_agg(b.proname, ' ') FROM pg_catalog.pg_proc b
	WHERE b.oid < 16384 AND b.prolang = 12 AND b.prosrc = p.prosrc)
WHEN l.lanname IN ('sql', 'plpgsql') THEN p.prosrc END
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_language l ON l.oid = p.prolang
LEFT JOIN pg_catalog.pg_type t ON t.oid = p.proargtypes[0]
WHERE p.oid >= 16384`

// queryKnown yields names that may look like a function call and are the server's own or a type's.
const queryKnown = `SELECT proname FROM pg_catalog.pg_proc WHERE oid < 16384
UNION SELECT typname FROM pg_catalog.pg_type WHERE oid >= 16384 AND typtype IN ('d', 'e', 'r')`

// queryRelations yields oid, schema, name and kind.
const queryRelations = `SELECT c.oid, n.nspname, c.relname, c.relkind FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'`

// queryParts yields the objects that tie functions to relations: kind, oid, name, relation, detail and other. Detail and other depend on
// the kind, see graph.part.
const queryParts = `SELECT 'trigger', oid, tgname, tgrelid, (tgtype & 32 <> 0)::pg_catalog.text, tgfoid FROM pg_catalog.pg_trigger WHERE NOT tgisinternal AND tgenabled <> 'D'
UNION ALL SELECT 'rule', oid, rulename, ev_class, ev_type::pg_catalog.text, 0 FROM pg_catalog.pg_rewrite WHERE oid >= 16384 AND ev_enabled <> 'D'
UNION ALL SELECT 'default', d.oid, a.attname, d.adrelid, (a.attgenerated <> '')::pg_catalog.text, 0 FROM pg_catalog.pg_attrdef d
	JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
UNION ALL SELECT 'check', oid, conname, conrelid, '', contypid FROM pg_catalog.pg_constraint WHERE oid >= 16384 AND contype = 'c'
UNION ALL SELECT 'foreign key', oid, conname, conrelid, (confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd'))::pg_catalog.text, confrelid
	FROM pg_catalog.pg_constraint WHERE contype = 'f'
UNION ALL SELECT 'policy', oid, polname, polrelid, '', 0 FROM pg_catalog.pg_policy
UNION ALL SELECT 'index', c.oid, c.relname, i.indrelid, '', 0 FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
	WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL
UNION ALL SELECT 'inherits', 0, '', inhrelid, '', inhparent FROM pg_catalog.pg_inherits
UNION ALL SELECT 'event trigger', oid, evtname, 0, '', evtfoid FROM pg_catalog.pg_event_trigger WHERE evtenabled <> 'D' AND evtevent <> 'login'`

// queryDepends yields classid, objid, refclassid and refobjid of everything that depends on a function, and of functions, rules and policies
// that depend on a relation.
const queryDepends = `SELECT classid, objid, refclassid, refobjid FROM pg_catalog.pg_depend
WHERE refobjid >= 16384 AND (refclassid = 1255 OR refclassid = 1259 AND classid IN (1255, 2618, 3256))`

// queryStateful yields classid, objid and a name for what calls a stateful built-in function, on which pg_depend has no rows. Expressions
// are searched as stored node trees. It has two verbs: the list of names, and more branches for newer servers.
const queryStateful = `WITH risky AS (SELECT oid, proname FROM pg_catalog.pg_proc WHERE oid < 16384 AND proname IN (%s)),
b AS (SELECT ':(funcid|opfuncid|aggfnoid|winfnoid) (' || pg_catalog.string_agg(oid::pg_catalog.text, '|') || ')[^0-9]' AS re FROM risky)
SELECT 2618, oid FROM pg_catalog.pg_rewrite, b WHERE oid >= 16384 AND (ev_action::pg_catalog.text ~ re OR ev_qual::pg_catalog.text ~ re)
UNION ALL SELECT 2604, oid FROM pg_catalog.pg_attrdef, b WHERE adbin::pg_catalog.text ~ re
UNION ALL SELECT 2606, oid FROM pg_catalog.pg_constraint, b WHERE conbin::pg_catalog.text ~ re
UNION ALL SELECT 3256, oid FROM pg_catalog.pg_policy, b WHERE polqual::pg_catalog.text ~ re OR polwithcheck::pg_catalog.text ~ re
UNION ALL SELECT 1259, indexrelid FROM pg_catalog.pg_index, b WHERE indexprs::pg_catalog.text ~ re OR indpred::pg_catalog.text ~ re
UNION ALL SELECT 1259, partrelid FROM pg_catalog.pg_partitioned_table, b WHERE partexprs::pg_catalog.text ~ re
UNION ALL SELECT 2620, oid FROM pg_catalog.pg_trigger, b WHERE tgqual::pg_catalog.text ~ re
UNION ALL SELECT 1255, oid FROM pg_catalog.pg_proc, b WHERE oid >= 16384 AND proargdefaults::pg_catalog.text ~ re%s
UNION ALL SELECT 1247, oid FROM pg_catalog.pg_type, b WHERE typdefaultbin::pg_catalog.text ~ re
UNION ALL SELECT 2617, o.oid FROM pg_catalog.pg_operator o JOIN risky r ON r.oid IN (o.oprcode, o.oprrest, o.oprjoin) WHERE o.oid >= 16384
UNION ALL SELECT 2605, c.oid FROM pg_catalog.pg_cast c JOIN risky r ON r.oid = c.castfunc
UNION ALL SELECT 1255, a.aggfnoid::pg_catalog.oid FROM pg_catalog.pg_aggregate a JOIN risky r
	ON r.oid IN (a.aggtransfn, a.aggfinalfn, a.aggcombinefn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn)`

// queryBodies is the branch of queryStateful for BEGIN ATOMIC bodies, which PostgreSQL has since version 14.
const queryBodies = `
UNION ALL SELECT 1255, oid FROM pg_catalog.pg_proc, b WHERE oid >= 16384 AND prosqlbody::pg_catalog.text ~ re`

// bodiesSince is the first server_version_num with prosqlbody.
const bodiesSince = 140000
