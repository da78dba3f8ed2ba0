package catalog

import (
	"fmt"
	"strconv"
)

// answers is what Keeping needs beside the graph. It is not changed once it is loaded.
type answers struct {
	// named are types of namedTypes, by name, and all that are made of one: arrays, domains, ranges, rows. namedOIDs are the same.
	named     map[string]bool
	namedOIDs map[uint32]bool
	// dated are those of datedTypes in the same way. The value says whether a call of that name is a conversion to it: rows have none.
	dated     map[string]bool
	datedOIDs map[uint32]bool
	// times are types of timeType in the same way; timeOIDs are the same.
	times    map[string]bool
	timeOIDs map[uint32]bool
	// texts are the relations that have a column of a name, by it, whose values are texts or arrays of them.
	texts map[string][]uint32
	// textOperators are operators, not the server's own, that return a text.
	textOperators map[string]bool
	// values are relations and functions that have, take or return values of named types; timed those of type time, with their names in timedNames;
	// datedFunctions those of dated types.
	values, timed, datedFunctions map[node]bool
	timedNames                    map[string]bool
	// stored are the names, with schema, of materialized views.
	stored map[string]bool
	// shown are sources that stored expressions have in themselves.
	shown []source
}

func newAnswers() *answers {
	return &answers{named: map[string]bool{}, namedOIDs: map[uint32]bool{}, dated: map[string]bool{}, datedOIDs: map[uint32]bool{},
		times: map[string]bool{}, timeOIDs: map[uint32]bool{}, texts: map[string][]uint32{},
		textOperators: map[string]bool{}, values: map[node]bool{}, timed: map[node]bool{}, datedFunctions: map[node]bool{}, timedNames: map[string]bool{},
		stored: map[string]bool{}}
}

// answerRelation chooses the tables, views and composite types whose columns count, as c.
const answerRelation = `c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'c') AND c.relpersistence <> 't'`

// queryAnswersVersion is what queryVersion lacks for Answers: it differs after any change of columns' names and types, of types, and of what the functions of
// keptBuiltins look up. Columns are told as in queryShapesVersion.
const queryAnswersVersion = `SELECT pg_catalog.sum(n), pg_catalog.sum(h) FROM (
SELECT pg_catalog.count(*) AS n, pg_catalog.hashint8extended(pg_catalog.sum((a.attrelid::pg_catalog.int8 * 2048 + a.attnum) % 1000000007)::pg_catalog.int8,
	a.xmin::pg_catalog.text::pg_catalog.int8) AS h
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid WHERE ` + answerRelation + ` AND a.attnum > 0 GROUP BY a.xmin
UNION ALL SELECT 1, pg_catalog.hashint8extended(oid::pg_catalog.int8, xmin::pg_catalog.text::pg_catalog.int8) FROM pg_catalog.pg_enum
UNION ALL SELECT 1, pg_catalog.hashint8extended(oid::pg_catalog.int8, xmin::pg_catalog.text::pg_catalog.int8 + 1) FROM pg_catalog.pg_type
	WHERE oid >= 16384 AND typtype IN ('b', 'm') AND typelem = 0
UNION ALL SELECT 1, pg_catalog.hashint8extended(oid::pg_catalog.int8, xmin::pg_catalog.text::pg_catalog.int8 + 2) FROM pg_catalog.pg_collation WHERE oid >= 16384
UNION ALL SELECT 1, pg_catalog.hashint8extended(oid::pg_catalog.int8, xmin::pg_catalog.text::pg_catalog.int8 + 3) FROM pg_catalog.pg_conversion WHERE oid >= 16384
UNION ALL SELECT 1, pg_catalog.hashint8extended(oid::pg_catalog.int8, xmin::pg_catalog.text::pg_catalog.int8 + 4) FROM pg_catalog.pg_ts_config
UNION ALL SELECT 1, pg_catalog.hashint8extended(oid::pg_catalog.int8, xmin::pg_catalog.text::pg_catalog.int8 + 5) FROM pg_catalog.pg_ts_dict
UNION ALL SELECT pg_catalog.count(*), pg_catalog.hashint8extended(pg_catalog.sum(mapcfg::pg_catalog.int8 * 64 + maptokentype)::pg_catalog.int8,
	xmin::pg_catalog.text::pg_catalog.int8) FROM pg_catalog.pg_ts_config_map GROUP BY xmin) AS all_rows`

// queryAnswers yields a kind, a flag, an oid and a name. Flags are n for namedTypes, d for datedTypes, t for timeType and s for texts, and for what is made of
// them; arrays and domains alone are for texts. Kinds are type; row, the type of a relation's rows; column, with its relation's oid; function, with n, d and t;
// operator and cast, with the flag of what they return. Conversions by CREATE CAST … WITH INOUT read text.
const queryAnswers = `WITH RECURSIVE parts AS (
SELECT oid AS whole, typelem AS part, true AS texts FROM pg_catalog.pg_type WHERE typcategory = 'A' AND typelem <> 0
UNION ALL SELECT oid, typbasetype, true FROM pg_catalog.pg_type WHERE typtype = 'd'
UNION ALL SELECT rngtypid, rngsubtype, false FROM pg_catalog.pg_range
UNION ALL SELECT (pg_catalog.to_jsonb(r)->>'rngmultitypid')::pg_catalog.oid, rngsubtype, false FROM pg_catalog.pg_range r
UNION ALL SELECT t.oid, a.atttypid, false FROM pg_catalog.pg_type t JOIN pg_catalog.pg_attribute a ON a.attrelid = t.typrelid
	WHERE t.typrelid <> 0 AND a.attnum > 0 AND NOT a.attisdropped),
holds AS (
SELECT oid, f.flag FROM pg_catalog.pg_type JOIN (VALUES ('n', '{` + namedTypes + `}'::pg_catalog.oid[]), ('d', '{` + datedTypes + `}'), ('t', '{` + timeType + `}')) AS f (flag, types)
	ON oid = ANY (f.types)
UNION ALL SELECT oid, 's' FROM pg_catalog.pg_type WHERE typcategory = 'S'
UNION SELECT p.whole, h.flag FROM holds h JOIN parts p ON p.part = h.oid WHERE p.whole IS NOT NULL AND (p.texts OR h.flag <> 's'))
SELECT CASE WHEN t.typtype = 'c' THEN 'row' ELSE 'type' END, h.flag, h.oid, t.typname::pg_catalog.text FROM holds h JOIN pg_catalog.pg_type t ON t.oid = h.oid
	WHERE h.flag <> 's' AND (t.typrelid = 0 OR t.oid >= 16384)
UNION ALL SELECT 'column', h.flag, a.attrelid, a.attname FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
	JOIN holds h ON h.oid = a.atttypid WHERE ` + answerRelation + ` AND c.relkind <> 'c' AND a.attnum > 0 AND NOT a.attisdropped AND h.flag <> 'd'
UNION ALL SELECT DISTINCT 'function', h.flag, p.oid, '' FROM pg_catalog.pg_proc p,
	pg_catalog.unnest(pg_catalog.array_append(COALESCE(p.proallargtypes, p.proargtypes::pg_catalog.oid[]), p.prorettype)) AS x (type)
	JOIN holds h ON h.oid = x.type WHERE p.oid >= 16384 AND h.flag <> 's'
UNION ALL SELECT 'operator', h.flag, o.oid, o.oprname FROM pg_catalog.pg_operator o JOIN holds h ON h.oid = o.oprresult WHERE o.oid >= 16384 AND h.flag = 's'
UNION ALL SELECT 'cast', h.flag, c.oid, '' FROM pg_catalog.pg_cast c JOIN holds h ON h.oid = c.casttarget
	WHERE c.oid >= 16384 AND c.castmethod = 'i' AND h.flag IN ('n', 'd')`

// readAnswers reads the types that count, and what has them.
func (l *loader) readAnswers() error {
	if l.g.answers == nil {
		return nil
	}
	return l.rows(queryAnswers, 4, func(v []string) error {
		oid, err := oids(v[2])
		if err != nil {
			return err
		}
		return l.g.answers.add(l.g, v[0], v[1], oid[0], v[3])
	})
}

// add notes one row of queryAnswers.
func (a *answers) add(g *graph, kind, flag string, oid uint32, name string) error {
	place := inRead
	switch kind {
	case "type", "row":
		switch flag {
		case "n":
			a.named[name], a.namedOIDs[oid] = true, true
		case "t":
			a.times[name], a.timeOIDs[oid] = true, true
		default:
			a.dated[name], a.datedOIDs[oid] = a.dated[name] || kind == "type", true
		}
		return nil
	case "operator":
		a.textOperators[name] = true
		return nil
	case "cast":
		a.shown = append(a.shown, source{node{place: inAll}, "a conversion reads dates or names from text"})
		return nil
	case "column":
		if flag == "s" {
			a.texts[name] = append(a.texts[name], oid)
			return nil
		}
		if flag == "t" {
			a.timedNames[g.relations[oid].name] = true
		}
	case "function":
		place = inFunction
		if f := g.functions[oid]; f != nil && flag == "t" {
			a.timedNames[f.name] = true
		}
	default:
		return fmt.Errorf("unknown kind %q", kind)
	}
	switch flag {
	case "n":
		a.values[node{place, oid}] = true
	case "t":
		a.timed[node{place, oid}] = true
	case "d":
		a.datedFunctions[node{place, oid}] = true
	}
	return nil
}

// queryShown yields what expressions of readers take from elsewhere without a function: classid, objid, a kind and what it is. Kinds are keyword
// (SQLValueFunctionOp of src/include/nodes/primnodes.h), read (a text is read as a value of this type), column (the number of a system column) and node, of
// which the start of an aggregate is none: it is read from text each time.
// It has one verb: more branches for newer servers.
const queryShown = `WITH trees AS (
SELECT 2618 AS class, oid, ev_action::pg_catalog.text || ev_qual::pg_catalog.text AS tree FROM pg_catalog.pg_rewrite WHERE oid >= 16384
UNION ALL SELECT 2606, oid, conbin::pg_catalog.text FROM pg_catalog.pg_constraint WHERE contypid <> 0 AND conbin IS NOT NULL
UNION ALL SELECT 3256, oid, pg_catalog.concat(polqual::pg_catalog.text, polwithcheck::pg_catalog.text) FROM pg_catalog.pg_policy
UNION ALL SELECT 1255, oid, proargdefaults::pg_catalog.text FROM pg_catalog.pg_proc WHERE oid >= 16384 AND proargdefaults IS NOT NULL%s)
SELECT DISTINCT class, oid, CASE WHEN m[1] IS NOT NULL THEN 'keyword' WHEN m[2] IS NOT NULL THEN 'read' WHEN m[3] IS NOT NULL THEN 'column' ELSE 'node' END,
	COALESCE(m[1], m[2], m[3], m[4]) FROM trees, pg_catalog.regexp_matches(tree,
	'\{SQLVALUEFUNCTION :op ([0-9]+)|:resulttype ([0-9]+) :resultcollid|:varattno (-[0-9]+) |\{(TABLESAMPLECLAUSE|TABLEFUNC|JSONEXPR) ', 'g') AS m
UNION ALL SELECT 1255, aggfnoid::pg_catalog.oid, 'node', 'INITCOND' FROM pg_catalog.pg_aggregate
	WHERE aggfnoid >= 16384 AND pg_catalog.concat(agginitval, ' ', aggminitval) ~* 'now|today|tomorrow|yesterday'`

// keywordNumbers are those of SQLValueFunctionOp that are in keywordReasons.
var keywordNumbers = map[string]string{"0": "current_date", "1": "current_time", "2": "current_time", "3": "current_timestamp", "4": "current_timestamp",
	"5": "localtime", "6": "localtime", "7": "localtimestamp", "8": "localtimestamp", "12": "session_user", "14": "current_schema"}

// readShown finds sources inside stored expressions.
func (l *loader) readShown() error {
	if l.g.answers == nil {
		return nil
	}
	more := ""
	if l.server >= bodiesSince {
		more = queryBodies
	}
	return l.rows(fmt.Sprintf(queryShown, more), 4, func(v []string) error {
		id, err := oids(v[0], v[1])
		if err != nil {
			return err
		}
		why, err := l.g.answers.shows(v[2], v[3])
		if err != nil || why == "" {
			return err
		}
		for _, n := range l.g.owner(l.parts, object{id[0], id[1]}) {
			l.g.answers.shown = append(l.g.answers.shown, source{n, why})
		}
		return nil
	})
}

// lastKeyword is the highest SQLValueFunctionOp of PostgreSQL 15: SVFOP_CURRENT_SCHEMA.
const lastKeyword = 14

// shows is the reason why what an expression shows is a source, "" if it is none.
func (a *answers) shows(kind, what string) (string, error) {
	n, err := strconv.Atoi(what)
	if err != nil && kind != "node" {
		return "", fmt.Errorf("read what an expression shows: %w", err)
	}
	switch kind {
	case "keyword":
		if n > lastKeyword {
			return "a keyword that is not known", nil
		}
		return keywordReasons[keywordNumbers[what]], nil
	case "read":
		switch {
		case a.datedOIDs[uint32(n)]:
			return readsDate, nil
		case a.namedOIDs[uint32(n)]:
			return "names of the catalogs read from text", nil
		}
		return "", nil
	case "column":
		const tableoid = -6 // TableOidAttributeNumber of src/include/access/sysattr.h
		if n == tableoid {
			return "", nil
		}
		return "how rows are stored", nil
	}
	switch what {
	case "TABLESAMPLECLAUSE":
		return "a sample of the rows", nil
	}
	return readsDate, nil
}

// readsDate is the reason where a word such as now may come from data.
const readsDate = "a date or time read from text, which may say now"
