package catalog

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The queries of this file hold to the rules of queries.go. Columns that only some versions of PostgreSQL have are read through to_jsonb, so
// that one text serves 13 to 18.

// userRelation chooses the tables and views that have a Relation, as c.
const userRelation = `c.oid >= 16384 AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't'`

// queryShapesVersion is what queryVersion lacks for Relations: it differs after any change of columns, keys and row security. Columns are told by how many
// rows each transaction left, and which: rows that change get a new xmin. Grouping by it costs 0.5 µs a column, hashing each
// 2 µs.
const queryShapesVersion = `SELECT pg_catalog.sum(n), pg_catalog.sum(h) FROM (
SELECT pg_catalog.count(*) AS n, pg_catalog.hashint8extended(pg_catalog.sum((a.attrelid::pg_catalog.int8 * 2048 + a.attnum) % 1000000007)::pg_catalog.int8,
	a.xmin::pg_catalog.text::pg_catalog.int8) AS h
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid WHERE ` + userRelation + ` AND a.attnum > 0 GROUP BY a.xmin
UNION ALL SELECT 1, pg_catalog.hashint8extended(oid::pg_catalog.int8, 1) FROM pg_catalog.pg_class c WHERE ` + userRelation + ` AND relrowsecurity
UNION ALL SELECT 1, pg_catalog.hashint8extended(oid::pg_catalog.int8, xmin::pg_catalog.text::pg_catalog.int8 + 2)
	FROM pg_catalog.pg_constraint WHERE contype = 'n' AND NOT convalidated
UNION ALL SELECT 1, pg_catalog.hashtextextended(pg_catalog.concat(i.indisvalid, i.indisprimary, i.indimmediate, k.oid, ' ', x.relname), i.indexrelid::pg_catalog.int8)
	FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid
	LEFT JOIN pg_catalog.pg_constraint k ON k.conindid = i.indexrelid AND k.contype IN ('p', 'u', 'x')
	WHERE (i.indisunique OR i.indisexclusion) AND i.indexrelid >= 16384 AND x.relpersistence <> 't') AS all_rows`

// queryDatabase yields how the database's default collation compares (see collation) and its encoding.
const queryDatabase = `SELECT COALESCE(pg_catalog.to_jsonb(d)->>'datlocprovider', 'c'), d.datcollate, pg_catalog.pg_encoding_to_char(d.encoding)
FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()`

// queryCollations yields the collations that compare bytes or are not deterministic: oid, whether deterministic. ICU's are of the third kind, and so
// is C.UTF-8 of the operating system, which sorts by code point in some of its versions only.
const queryCollations = `SELECT oid, collisdeterministic FROM pg_catalog.pg_collation
WHERE NOT collisdeterministic OR collprovider = 'b' OR collprovider = 'c' AND collcollate IN ('C', 'POSIX')`

// queryDomains yields oid, base type, typmod, whether NULL is refused and whether there is a default.
const queryDomains = `SELECT oid, typbasetype, typtypmod, typnotnull, typdefaultbin IS NOT NULL FROM pg_catalog.pg_type WHERE typtype = 'd'`

// queryShapes yields oid, schema, name, kind and row security of the relations, those of the server itself too.
const queryShapes = `SELECT c.oid, n.nspname, c.relname, c.relkind, c.relrowsecurity FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relpersistence <> 't' AND n.nspname <> 'pg_toast'`

// queryColumns yields relation, number, name, type, typmod, collation, and four flags: not null, default, identity, generated. Since PostgreSQL 18
// attnotnull is set while the constraint is not proved yet.
const queryColumns = `SELECT a.attrelid, a.attnum, a.attname, a.atttypid, a.atttypmod, a.attcollation,
CASE WHEN a.attnotnull AND u.conrelid IS NULL THEN 't' ELSE 'f' END || CASE WHEN a.atthasdef THEN 't' ELSE 'f' END
	|| CASE WHEN a.attidentity = '' THEN '-' ELSE a.attidentity::pg_catalog.text END || CASE WHEN a.attgenerated = '' THEN '-' ELSE a.attgenerated::pg_catalog.text END
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
LEFT JOIN pg_catalog.pg_constraint u ON u.contype = 'n' AND NOT u.convalidated AND u.conrelid = a.attrelid AND u.conkey[1] = a.attnum
WHERE ` + userRelation + ` AND a.attnum > 0 AND NOT a.attisdropped`

// querySequences yields relation, column, and schema and name of the sequence whose next value is the column's default or identity, nothing else being done
// with it. The few expressions that depend on a sequence are found before they are searched. 1574 is nextval(regclass); 480 and 714 make its value an integer or smallint.
const querySequences = `WITH k AS MATERIALIZED (
SELECT f.adrelid AS relation, f.adnum AS number, d.refobjid AS sequence, f.adbin::pg_catalog.text AS tree
	FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_attrdef f ON f.oid = d.objid
	WHERE d.classid = 2604 AND d.refclassid = 1259 AND d.refobjsubid = 0
UNION ALL SELECT refobjid, refobjsubid, objid, NULL FROM pg_catalog.pg_depend WHERE classid = 1259 AND refclassid = 1259 AND refobjsubid > 0 AND deptype = 'i')
SELECT k.relation, k.number, n.nspname, s.relname FROM k
JOIN pg_catalog.pg_class s ON s.oid = k.sequence AND s.relkind = 'S' JOIN pg_catalog.pg_namespace n ON n.oid = s.relnamespace
WHERE k.tree IS NULL OR k.tree ~ '^\{FUNCEXPR :funcid ((480|714) [^{}]*:args \(\{FUNCEXPR :funcid )?1574 [^{}]*:args \(\{CONST '`

// queryUnique yields relation, name, numbers of the key columns (0 for an expression), their count, primary, constraint, partial, deferrable, and for
// exclusion constraints the names of the operators.
const queryUnique = `SELECT i.indrelid, x.relname, i.indkey, i.indnkeyatts, i.indisprimary, k.conindid IS NOT NULL, i.indpred IS NOT NULL, NOT i.indimmediate,
COALESCE(k.operators, '')
FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
LEFT JOIN (SELECT conindid, (SELECT pg_catalog.string_agg(o.oprname, ' ' ORDER BY e.place)
	FROM pg_catalog.unnest(conexclop) WITH ORDINALITY AS e (id, place) JOIN pg_catalog.pg_operator o ON o.oid = e.id) AS operators
	FROM pg_catalog.pg_constraint WHERE contype IN ('p', 'u', 'x')) AS k ON k.conindid = i.indexrelid
WHERE (i.indisunique OR i.indisexclusion) AND i.indisvalid AND ` + userRelation

// queryForeignKeys yields relation, name, column numbers, the referenced relation with its column numbers, whether the key acts, the numbers of the columns
// that it sets ON DELETE, and whether it sets any ON UPDATE. The columns of SET NULL (…) are in a column of the catalog since PostgreSQL 15.
const queryForeignKeys = `SELECT conrelid, conname, pg_catalog.array_to_string(conkey, ' '), confrelid, pg_catalog.array_to_string(confkey, ' '),
confdeltype IN ('c', 'n', 'd') OR confupdtype IN ('c', 'n', 'd'),
CASE WHEN confdeltype IN ('n', 'd') THEN COALESCE(pg_catalog.translate(pg_catalog.to_jsonb(c) ->> 'confdelsetcols', '[,]', '   '),
	pg_catalog.array_to_string(conkey, ' ')) ELSE '' END,
confupdtype IN ('c', 'n', 'd') FROM pg_catalog.pg_constraint c WHERE contype = 'f'`

// queryParents yields child and parent, in the child's order.
const queryParents = `SELECT inhrelid, inhparent FROM pg_catalog.pg_inherits ORDER BY inhrelid, inhseqno`

// queryUses yields a view and a relation that it names.
const queryUses = `SELECT DISTINCT r.ev_class, d.refobjid FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
WHERE d.classid = 2618 AND d.refclassid = 1259 AND d.refobjid >= 16384 AND d.refobjid <> r.ev_class AND r.ev_type = '1'`

// queryAmends yields a relation, and whether it has rules that are no view's, and row triggers before INSERT and before UPDATE (src/include/catalog/pg_trigger.h).
const queryAmends = `SELECT relation, pg_catalog.bool_or(rule), pg_catalog.bool_or(inserted), pg_catalog.bool_or(updated) FROM (
SELECT tgrelid AS relation, false AS rule, tgtype & 4 <> 0 AS inserted, tgtype & 16 <> 0 AS updated FROM pg_catalog.pg_trigger WHERE tgtype & 3 = 3 AND tgenabled <> 'D'` + notOurs + `
UNION ALL SELECT ev_class, true, false, false FROM pg_catalog.pg_rewrite WHERE ev_type <> '1') AS x GROUP BY relation`

// querySignatures yields schema, name, fewest and most arguments, the worst volatility, and whether there is an aggregate, a window function, one that
// returns a set, or one that is not the server's own. What an aggregate sorts (WITHIN GROUP) counts as arguments or does not.
const querySignatures = `SELECT n.nspname, s.proname, s.least, s.most, pg_catalog.max(s.provolatile::pg_catalog.text), pg_catalog.bool_or(s.prokind = 'a'),
pg_catalog.bool_or(s.prokind = 'w'), pg_catalog.bool_or(s.proretset), pg_catalog.bool_or(s.oid >= 16384) FROM (
SELECT p.oid, p.pronamespace, p.proname, COALESCE(a.aggnumdirectargs, p.pronargs - p.pronargdefaults - (p.provariadic <> 0)::pg_catalog.int4) AS least,
	CASE WHEN p.provariadic <> 0 THEN 1024 ELSE p.pronargs END AS most, p.provolatile, p.prokind, p.proretset
FROM pg_catalog.pg_proc p LEFT JOIN pg_catalog.pg_aggregate a ON a.aggfnoid = p.oid AND a.aggkind <> 'n') AS s
JOIN pg_catalog.pg_namespace n ON n.oid = s.pronamespace GROUP BY n.nspname, s.proname, s.least, s.most`

// defaultCollation is the oid of the collation that stands for the database's (DEFAULT_COLLATION_OID).
const defaultCollation = 100

// domain is what stands behind a type.
type domain struct {
	base            uint32
	typmod          int32
	notNull, filled bool
}

// queryDefaults yields relation and number of the columns with a default, and what it is: "constant" if it is made of constants by immutable functions (most
// are one constant, or one that a function brings to the column's type), "shared" if a function or a word in it is the same for all rows of a statement or
// may be, else "own". Shared ones come with an expression for their value in ISO 8601, where it is a date or time by the server's own functions, else "".
const queryDefaults = `WITH d AS (SELECT d.oid, d.adrelid, d.adnum, a.atttypid, a.atttypmod, d.adbin::pg_catalog.text AS tree FROM pg_catalog.pg_attrdef d
	JOIN pg_catalog.pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum WHERE a.attgenerated = ''),
f AS (SELECT d.oid, pg_catalog.bool_or(p.provolatile = 's') AS stable, pg_catalog.bool_or(p.provolatile = 'v') AS volatile, pg_catalog.bool_or(p.oid >= 16384) AS foreigner
	FROM d, pg_catalog.regexp_matches(d.tree, ':(?:funcid|opfuncid) ([0-9]+)', 'g') AS m JOIN pg_catalog.pg_proc p ON p.oid = m[1]::pg_catalog.oid GROUP BY 1),
k AS (SELECT d.*, f.volatile, f.foreigner, CASE
	WHEN d.tree !~ '\{(?!CONST |FUNCEXPR |OPEXPR |RELABELTYPE |ARRAYEXPR |BOOLEXPR )' AND NOT COALESCE(f.stable OR f.volatile, false) THEN 'constant'
	WHEN COALESCE(f.stable, false) OR d.tree ~ '\{(SQLVALUEFUNCTION |COERCEVIAIO |ARRAYCOERCEEXPR |COERCETODOMAIN )' THEN 'shared' ELSE 'own' END AS kind
	FROM d LEFT JOIN f ON f.oid = d.oid)
SELECT adrelid, adnum, kind, CASE WHEN kind = 'shared' AND atttypid IN (1082, 1083, 1114, 1184, 1266) AND NOT COALESCE(volatile OR foreigner, false)
	THEN 'pg_catalog.to_json((' || pg_catalog.pg_get_expr((SELECT a.adbin FROM pg_catalog.pg_attrdef a WHERE a.oid = k.oid), adrelid)
		|| ')::' || pg_catalog.format_type(atttypid, atttypmod) || ') OPERATOR(pg_catalog.#>>) ''{}''' ELSE '' END
FROM k`

// shaper fills shapes.
type shaper struct {
	l          *loader
	out        *shapes
	relations  map[uint32]*Relation
	columns    map[uint32][]int16 // numbers of the columns, sorted as Relation.Columns once they are read
	collations map[uint32]Collation
	domains    map[uint32]domain
	words      map[string]string // one copy of each column name
}

// shapes reads what Relations asks for.
func (l *loader) shapes() (*shapes, error) {
	s := shaper{l: l, relations: map[uint32]*Relation{}, columns: map[uint32][]int16{}, collations: map[uint32]Collation{}, domains: map[uint32]domain{},
		words: map[string]string{},
		out:   &shapes{names: map[string][]*Relation{}, system: map[string][]string{}, functions: map[string][]signature{}}}
	for _, step := range []struct {
		act string
		run func() error
	}{
		{"read collation of the database", s.database},
		{"read collations", s.readCollations},
		{"read domains", s.readDomains},
		{"read tables and views", s.readRelations},
		{"read columns", s.readColumns},
		{"read sequences of columns", s.readSequences},
		{"read which defaults are constant", s.readDefaults},
		{"read unique indexes", s.readUnique},
		{"read foreign keys", s.readForeignKeys},
		{"read parents", s.readParents},
		{"read what views use", s.readUses},
		{"read rules and triggers that change rows", s.readAmends},
		{"read signatures of functions", s.readSignatures},
	} {
		if err := step.run(); err != nil {
			return nil, fmt.Errorf("%s: %w", step.act, err)
		}
	}
	s.finish()
	return s.out, nil
}

func (s *shaper) database() error {
	return s.l.rows(queryDatabase, 3, func(v []string) error {
		s.out.collation = collation(v[0], v[1])
		s.out.encoding = v[2]
		return nil
	})
}

// collation says how the default collation of a database compares, by its provider and LC_COLLATE. All of the builtin provider's compare bytes;
// a database has no nondeterministic one (CREATE DATABASE has no word for it).
func collation(provider, collate string) Collation {
	if provider == "b" || provider == "c" && (collate == "C" || collate == "POSIX") {
		return CollationBytes
	}
	return CollationOther
}

func (s *shaper) readCollations() error {
	s.collations[0] = CollationNone
	err := s.l.rows(queryCollations, 2, func(v []string) error {
		oid, err := oids(v[0])
		if err != nil {
			return err
		}
		s.collations[oid[0]] = CollationBytes
		if v[1] != "t" {
			s.collations[oid[0]] = CollationNondeterministic
		}
		return nil
	})
	s.collations[defaultCollation] = s.out.collation
	return err
}

func (s *shaper) readDomains() error {
	return s.l.rows(queryDomains, 5, func(v []string) error {
		oid, err := oids(v[0], v[1])
		if err != nil {
			return err
		}
		typmod, err := number(v[2], 32)
		s.domains[oid[0]] = domain{base: oid[1], typmod: int32(typmod), notNull: v[3] == "t", filled: v[4] == "t"}
		return err
	})
}

func (s *shaper) readRelations() error {
	return s.l.rows(queryShapes, 5, func(v []string) error {
		oid, err := oids(v[0])
		if err != nil {
			return err
		}
		if oid[0] < firstNormalObject {
			s.out.system[v[2]] = append(s.out.system[v[2]], s.word(v[1]))
			return nil
		}
		if len(v[3]) != 1 {
			return fmt.Errorf("relation %d has kind %q", oid[0], v[3])
		}
		s.relations[oid[0]] = &Relation{OID: oid[0], Schema: s.word(v[1]), Name: v[2], Kind: v[3][0], RowSecurity: v[4] == "t"}
		return nil
	})
}

// firstNormalObject is the least oid that is not the server's own (FirstNormalObjectId).
const firstNormalObject = 16384

// word returns one copy of a text for all its places.
func (s *shaper) word(text string) string {
	if known, ok := s.words[text]; ok {
		return known
	}
	s.words[text] = text
	return text
}

func (s *shaper) readColumns() error {
	return s.l.rows(queryColumns, 7, func(v []string) error {
		oid, err := oids(v[0], v[3], v[5])
		if err != nil {
			return err
		}
		place, err := number(v[1], 16)
		if err != nil {
			return err
		}
		typmod, err := number(v[4], 32)
		if err != nil {
			return err
		}
		r, flags := s.relations[oid[0]], v[6]
		if r == nil { // made meanwhile: the next poll tells
			return nil
		}
		if len(flags) != 4 {
			return fmt.Errorf("column %s of relation %d has flags %q", v[2], oid[0], flags)
		}
		c := Column{Name: s.word(v[2]), Type: oid[1], Typmod: int32(typmod), NotNull: flags[0] == 't', HasDefault: flags[1] == 't' || flags[2] != '-', Generated: flags[3] != '-'}
		if flags[2] != '-' {
			c.Identity = flags[2]
		}
		s.resolve(&c, oid[2])
		if c.Generated {
			c.HasDefault = false
		}
		numbers := s.columns[oid[0]]
		at, _ := slices.BinarySearch(numbers, int16(place))
		s.columns[oid[0]] = slices.Insert(numbers, at, int16(place))
		r.Columns = slices.Insert(r.Columns, at, c)
		return nil
	})
}

// resolve looks through domains, and finds the collation's kind.
func (s *shaper) resolve(c *Column, collation uint32) {
	for d, ok := s.domains[c.Type]; ok; d, ok = s.domains[c.Type] {
		c.Type, c.Domain = d.base, true
		if c.Typmod < 0 {
			c.Typmod = d.typmod
		}
		c.NotNull = c.NotNull || d.notNull
		c.DefaultShared = c.DefaultShared || d.filled && !c.HasDefault // it may be anything
		c.HasDefault = c.HasDefault || d.filled
	}
	kind, ok := s.collations[collation]
	if !ok {
		kind = CollationOther
	}
	c.Collation = kind
}

// number reads a signed number.
func number(text string, bits int) (int64, error) {
	n, err := strconv.ParseInt(text, 10, bits)
	if err != nil {
		return 0, fmt.Errorf("read number: %w", err)
	}
	return n, nil
}

// column finds a column by its number, or returns nil.
func (s *shaper) column(relation uint32, place int16) *Column {
	at, ok := slices.BinarySearch(s.columns[relation], place)
	if !ok {
		return nil
	}
	return &s.relations[relation].Columns[at]
}

// names are those of columns given by their numbers; whole says that all were found, which 0, an expression, is not.
func (s *shaper) names(relation uint32, numbers []string) (names []string, whole bool, err error) {
	whole = true
	for _, text := range numbers {
		place, err := number(text, 16)
		if err != nil {
			return nil, false, err
		}
		if c := s.column(relation, int16(place)); c != nil {
			names = append(names, c.Name)
		} else {
			whole = false
		}
	}
	return names, whole, nil
}

// placed is the column that a row's first two values give, relation and number; nil if it is of no relation that was read.
func (s *shaper) placed(v []string) (*Column, error) {
	oid, err := oids(v[0])
	if err != nil {
		return nil, err
	}
	place, err := number(v[1], 16)
	if err != nil {
		return nil, err
	}
	return s.column(oid[0], int16(place)), nil
}

func (s *shaper) readSequences() error {
	return s.l.rows(querySequences, 4, func(v []string) error {
		c, err := s.placed(v)
		if c != nil {
			c.Sequence = QualifiedName(v[2], v[3])
		}
		return err
	})
}

// readDefaults notes what defaults are.
func (s *shaper) readDefaults() error {
	return s.l.rows(queryDefaults, 4, func(v []string) error {
		c, err := s.placed(v)
		if c != nil {
			c.DefaultConstant, c.DefaultShared, c.DefaultValue = v[2] == "constant", v[2] == "shared", s.word(v[3])
		}
		return err
	})
}

func (s *shaper) readUnique() error {
	return s.l.rows(queryUnique, 9, func(v []string) error {
		oid, err := oids(v[0])
		if err != nil {
			return err
		}
		keys, err := strconv.Atoi(v[3])
		if err != nil {
			return fmt.Errorf("read number: %w", err)
		}
		r, numbers, operators := s.relations[oid[0]], strings.Fields(v[2]), strings.Fields(v[8])
		if r == nil {
			return nil
		}
		if keys > len(numbers) {
			return fmt.Errorf("index %s has %d columns of %d", v[1], len(numbers), keys)
		}
		u := Unique{Name: v[1], Primary: v[4] == "t", Constraint: v[5] == "t", Partial: v[6] == "t", Deferrable: v[7] == "t", Exclusion: len(operators) > 0}
		numbers = numbers[:keys]
		for i := range operators {
			if operators[i] != "=" && i < keys {
				numbers[i] = "0"
			}
		}
		columns, whole, err := s.names(oid[0], numbers)
		u.Columns, u.Expressions = columns, !whole
		r.Unique = append(r.Unique, u)
		return err
	})
}

func (s *shaper) readForeignKeys() error {
	return s.l.rows(queryForeignKeys, 8, func(v []string) error {
		oid, err := oids(v[0], v[3])
		if err != nil {
			return err
		}
		r, other := s.relations[oid[0]], s.relations[oid[1]]
		if r == nil || other == nil {
			return nil
		}
		columns, _, err := s.names(oid[0], strings.Fields(v[2]))
		if err != nil {
			return err
		}
		references, _, err := s.names(oid[1], strings.Fields(v[4]))
		if err != nil {
			return err
		}
		loses, _, err := s.names(oid[0], strings.Fields(v[6]))
		r.ForeignKeys = append(r.ForeignKeys, ForeignKey{Name: v[1], Columns: columns, References: other, RefColumns: references, Acts: v[5] == "t",
			Loses: loses, Follows: v[7] == "t"})
		return err
	})
}

func (s *shaper) readParents() error {
	return s.pairs(queryParents, func(child, parent *Relation) {
		child.Parents = append(child.Parents, parent)
		parent.Children = true
	})
}

func (s *shaper) readUses() error {
	return s.pairs(queryUses, func(view, used *Relation) { view.Uses = append(view.Uses, used) })
}

func (s *shaper) readAmends() error {
	return s.l.rows(queryAmends, 4, func(v []string) error {
		oid, err := oids(v[0])
		if err != nil {
			return err
		}
		if r := s.relations[oid[0]]; r != nil {
			r.Rules, r.BeforeInsert, r.BeforeUpdate = v[1] == "t", v[2] == "t", v[3] == "t"
		}
		return nil
	})
}

// pairs runs a query of two relations a row.
func (s *shaper) pairs(sql string, visit func(a, b *Relation)) error {
	return s.l.rows(sql, 2, func(v []string) error {
		oid, err := oids(v[0], v[1])
		if err != nil {
			return err
		}
		if a, b := s.relations[oid[0]], s.relations[oid[1]]; a != nil && b != nil {
			visit(a, b)
		}
		return nil
	})
}

func (s *shaper) readSignatures() error {
	return s.l.rows(querySignatures, 9, func(v []string) error {
		least, err := strconv.Atoi(v[2])
		if err != nil {
			return fmt.Errorf("read number: %w", err)
		}
		most, err := strconv.Atoi(v[3])
		if err != nil {
			return fmt.Errorf("read number: %w", err)
		}
		if len(v[4]) != 1 {
			return fmt.Errorf("function %s has volatility %q", v[1], v[4])
		}
		s.out.functions[v[1]] = append(s.out.functions[v[1]], signature{schema: s.word(v[0]), args: arity{least, most},
			facts: FunctionFacts{Volatility: v[4][0], Aggregate: v[5] == "t", Window: v[6] == "t", Set: v[7] == "t", Foreign: v[8] == "t"}})
		return nil
	})
}

// finish puts everything in order.
func (s *shaper) finish() {
	for _, r := range s.relations {
		slices.SortFunc(r.Unique, func(a, b Unique) int {
			if a.Primary != b.Primary {
				if a.Primary {
					return -1
				}
				return 1
			}
			return cmp.Compare(a.Name, b.Name)
		})
		slices.SortFunc(r.ForeignKeys, func(a, b ForeignKey) int { return cmp.Compare(a.Name, b.Name) })
		slices.SortFunc(r.Uses, order)
		s.out.relations = append(s.out.relations, r)
	}
	slices.SortFunc(s.out.relations, order)
	for _, r := range s.out.relations {
		s.out.names[r.Name] = append(s.out.names[r.Name], r)
	}
}
