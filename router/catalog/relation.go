package catalog

import (
	"cmp"
	"slices"
)

// Extra is a part of a snapshot that costs time and is read only where asked for.
type Extra uint8

const (
	// Relations asks for what Relation, Relations and Function answer, which routing between shards needs.
	Relations Extra = 1
	// Answers asks for what Keeping and KeepsParameter answer, which a cache of answers needs.
	Answers Extra = 2
)

// Relation is what a planner needs to know of a table or view that is not the server's own. It is immutable. Temporary ones are in no snapshot.
type Relation struct {
	OID          uint32
	Schema, Name string
	// Kind is pg_class.relkind: r table, p partitioned table, v view, m materialized view, f foreign table.
	Kind byte
	// Columns are in the order of the table, without dropped ones.
	Columns []Column
	// Unique are the valid unique and exclusion constraints and unique indexes, the primary key first, then by name.
	Unique []Unique
	// ForeignKeys are those that this table has on others, by name.
	ForeignKeys []ForeignKey
	// Parents are the partitioned table, or those that the table inherits from, in order: one at most, nearly always.
	Parents []*Relation
	// Children says that there are tables with this one among their parents.
	Children    bool
	RowSecurity bool
	// Rules: rules change what INSERT, UPDATE or DELETE of the relation do.
	Rules bool
	// BeforeInsert and BeforeUpdate: triggers see a row before it is stored, and may store another.
	BeforeInsert, BeforeUpdate bool
	// Uses are the tables and views that a view or materialized view names itself, by name; those of the server are left out.
	Uses []*Relation
}

// String returns the name with its schema, not quoted.
func (r *Relation) String() string { return r.Schema + "." + r.Name }

// Column finds a column by its name, or returns nil.
func (r *Relation) Column(name string) *Column {
	for i := range r.Columns {
		if r.Columns[i].Name == name {
			return &r.Columns[i]
		}
	}
	return nil
}

// Column is one column of a relation.
type Column struct {
	Name string
	// Type is the OID of the type, or of what a domain stands for at last; Domain says that it is one. Types that are not the server's
	// own (16384 and above) have other OIDs on other servers.
	Type   uint32
	Domain bool
	// Typmod is pg_attribute.atttypmod, or the domain's; −1 is none.
	Typmod    int32
	Collation Collation
	// NotNull: the column, or its domain, takes no NULL.
	NotNull bool
	// HasDefault: an INSERT that leaves the column out gives it something else than NULL, be it an expression, a domain's default or a number of
	// Sequence. A generated column has none.
	HasDefault bool
	// DefaultConstant: the default is an expression of constants and immutable functions, the same on all servers.
	DefaultConstant bool
	// DefaultShared: the default, or a part of it, is one value for all rows of a statement or may be, such as the time. DefaultValue is an expression that
	// tells that value as a text that dates and times are read from alike under all settings; "" where there is none.
	DefaultShared bool
	DefaultValue  string
	// Sequence is the name (QualifiedName) of the sequence whose next value is the default: serial, identity, DEFAULT nextval('name'). Otherwise "".
	Sequence string
	// Identity is pg_attribute.attidentity: 0 none, a always, d by default.
	Identity byte
	// Generated: the column is computed from others, and cannot be written.
	Generated bool
}

// Collation says how the values of a column compare.
type Collation uint8

// The kinds of collations.
const (
	CollationNone             Collation = iota // no collation: not text
	CollationBytes                             // byte by byte: C, POSIX, and those of the builtin provider
	CollationOther                             // equality is that of bytes, order is the server's alone
	CollationNondeterministic                  // texts of different bytes may be equal
)

// Unique is a constraint or index that keeps rows apart.
type Unique struct {
	Name string
	// Columns are those of the key, without INCLUDE, expressions, and columns that an exclusion constraint compares by another operator than =.
	Columns []string
	Primary bool
	// Constraint: it is a constraint, which ON CONFLICT ON CONSTRAINT may name, not only an index.
	Constraint bool
	// Partial: only rows that fulfil its WHERE count. Expressions: it has expressions as well, or compares by other operators than =.
	Partial, Expressions bool
	// Exclusion: rows of equal Columns may stand beside each other. The constraint forbids more, or less, than that.
	Exclusion bool
	// Deferrable: it may be broken until the transaction ends, and ON CONFLICT does not take it.
	Deferrable bool
}

// Proves says whether no two rows have the same values, none of them NULL, in Columns.
func (u *Unique) Proves() bool {
	return !u.Partial && !u.Expressions && !u.Exclusion && len(u.Columns) > 0
}

// ForeignKey is a reference of one table to another.
type ForeignKey struct {
	Name       string
	Columns    []string
	References *Relation
	RefColumns []string // as many as Columns, in their order
	// Acts: ON DELETE or ON UPDATE does CASCADE, SET NULL or SET DEFAULT.
	Acts bool
	// Loses are those of Columns that ON DELETE SET NULL or SET DEFAULT gives another value. Follows: ON UPDATE gives Columns another one.
	Loses   []string
	Follows bool
}

// FunctionFacts is what is known of the functions that a call may mean.
type FunctionFacts struct {
	// Volatility is the worst of theirs: i, s or v.
	Volatility byte
	// Aggregate, Window and Set say that one of them is an aggregate, a window function, or returns a set of rows.
	Aggregate, Window, Set bool
	// Foreign says that one of them is not the server's own.
	Foreign bool
}

// shapes is what a snapshot knows if asked for Relations. Immutable.
type shapes struct {
	relations []*Relation
	names     map[string][]*Relation // by name, each list by schema
	system    map[string][]string    // schemas of the server's own relations, by name
	functions map[string][]signature // by name
	collation Collation
	encoding  string
}

// signature is what functions of one name in one schema that take the same numbers of arguments have in common.
type signature struct {
	schema string
	args   arity
	facts  FunctionFacts
}

// Relation finds a table or view by the names of a text. With a schema exactly; without one by the name alone: if several schemas have it,
// it is ambiguous and r is nil, because the snapshot does not know the session's search_path. Nothing is found in a snapshot without Relations.
func (s *Snapshot) Relation(schema, name string) (r *Relation, ambiguous bool) {
	if s == nil || s.shapes == nil {
		return nil, false
	}
	list := s.shapes.names[name]
	if schema == "" {
		if len(list) == 1 {
			return list[0], false
		}
		return nil, len(list) > 1
	}
	for _, r := range list {
		if r.Schema == schema {
			return r, false
		}
	}
	return nil, false
}

// Relations lists all tables and views that are not the server's own, by schema and name. The caller must not change the list.
func (s *Snapshot) Relations() []*Relation {
	if s == nil || s.shapes == nil {
		return nil
	}
	return s.shapes.relations
}

// SystemRelation says whether the server itself has a relation of the name: with a schema in that schema, without one in pg_catalog, which
// comes before the schemas of search_path unless that says otherwise.
func (s *Snapshot) SystemRelation(schema, name string) bool {
	if s == nil || s.shapes == nil {
		return false
	}
	if schema == "" {
		schema = "pg_catalog"
	}
	return slices.Contains(s.shapes.system[name], schema)
}

// DefaultCollation is the database's own, CollationNone where that is not known.
func (s *Snapshot) DefaultCollation() Collation {
	if s == nil || s.shapes == nil {
		return CollationNone
	}
	return s.shapes.collation
}

// Encoding is the database's, as PostgreSQL spells it ("UTF8", "SQL_ASCII"), "" where that is not known. Keys are hashed in it.
func (s *Snapshot) Encoding() string {
	if s == nil || s.shapes == nil {
		return ""
	}
	return s.shapes.encoding
}

// Function tells of a call of name with args arguments; schema is "" where the text has none, and then any schema's function counts. known is false if
// none fits. It does not allocate.
func (s *Snapshot) Function(schema, name string, args int) (f FunctionFacts, known bool) {
	if s == nil || s.shapes == nil {
		return f, false
	}
	for i := range s.shapes.functions[name] {
		g := &s.shapes.functions[name][i]
		if schema != "" && g.schema != schema || !g.args.takes(args) {
			continue
		}
		if !known || worse(g.facts.Volatility, f.Volatility) {
			f.Volatility = g.facts.Volatility
		}
		f.Aggregate = f.Aggregate || g.facts.Aggregate
		f.Window = f.Window || g.facts.Window
		f.Set = f.Set || g.facts.Set
		f.Foreign = f.Foreign || g.facts.Foreign
		known = true
	}
	return f, known
}

// worse compares volatilities: v, then s, then i.
func worse(a, b byte) bool { return a > b }

// order sorts relations by schema and name.
func order(a, b *Relation) int {
	return cmp.Or(cmp.Compare(a.Schema, b.Schema), cmp.Compare(a.Name, b.Name))
}
