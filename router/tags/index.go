package tags

import (
	"pgtier/parser"
	"pgtier/router/catalog"
	"pgtier/router/shard"
)

// maxColumns bounds the columns of a table that tags name values of: each costs a tag, some 50 ns, in every write.
const maxColumns = 4

// Index knows the tags of one snapshot's tables. It is immutable but for what it remembers, and safe for concurrent use. Sets of two Indexes have nothing to do
// with each other: see DESIGN.md for what a change of Index asks for.
type Index struct {
	snapshot *catalog.Snapshot
	tables   map[tableName]*table
	names    map[string]*table // by "schema.name"
	// reads and writes remember the Sets, by the address of the Statement.
	reads, writes catalog.Memo
}

type tableName struct{ schema, name string }

// table is a relation with rows.
type table struct {
	relation *catalog.Relation
	tag      Tag
	columns  []*column
	// below are the tags of the tables that inherit from it, of parts of parts too.
	below []Tag
}

// column is a column of whose values there are tags.
type column struct {
	*catalog.Column
	whole, made Tag
	row         uint64
	key         *shard.Key
	// unique: no two rows have the same value.
	unique bool
}

// Relation is the table of that name, as "schema.name"; nil if the snapshot has none or was read without Relations.
func (x *Index) Relation(name string) *catalog.Relation {
	if t := x.names[name]; t != nil {
		return t.relation
	}
	return nil
}

// New makes the Index of a snapshot. Without Relations in it there are tags of tables only; nil knows nothing.
func New(s *catalog.Snapshot) *Index {
	x := &Index{snapshot: s, tables: map[tableName]*table{}, names: map[string]*table{}}
	below := map[*catalog.Relation][]*catalog.Relation{}
	for _, r := range s.Relations() {
		for _, parent := range r.Parents {
			below[parent] = append(below[parent], r)
		}
	}
	for _, r := range s.Relations() {
		if r.Kind == 'v' {
			continue
		}
		t := &table{relation: r, tag: Table(r.Schema, r.Name)}
		if !s.ShadowsEqual() {
			t.columns = columnsOf(r)
		}
		t.addBelow(below, r, map[*catalog.Relation]bool{r: true})
		x.tables[tableName{r.Schema, r.Name}] = t
		if other := x.names[r.String()]; other != nil { // "a.b".c and a."b.c"
			t.columns, other.columns = nil, nil
		}
		x.names[r.String()] = t
	}
	return x
}

func (t *table) addBelow(below map[*catalog.Relation][]*catalog.Relation, r *catalog.Relation, seen map[*catalog.Relation]bool) {
	for _, child := range below[r] {
		if !seen[child] {
			seen[child] = true
			t.below = append(t.below, Table(child.Schema, child.Name))
			t.addBelow(below, child, seen)
		}
	}
}

// columnsOf are the columns of whose values there are tags: unique ones, the primary key first, and the first of each foreign key. A table that shares its
// rows with parents or children has none, nor has one whose writes rules change.
func columnsOf(r *catalog.Relation) (list []*column) {
	if r.Kind != 'r' || r.Children || len(r.Parents) > 0 || r.Rules {
		return nil
	}
	add := func(name string, unique bool) {
		for _, c := range list {
			if c.Name == name {
				c.unique = c.unique || unique
				return
			}
		}
		if c := columnOf(r, name); c != nil && len(list) < maxColumns {
			c.unique = unique
			list = append(list, c)
		}
	}
	for i := range r.Unique {
		if u := &r.Unique[i]; u.Proves() && len(u.Columns) == 1 {
			add(u.Columns[0], !u.Deferrable)
		}
	}
	for i := range r.ForeignKeys {
		if columns := r.ForeignKeys[i].Columns; len(columns) > 0 {
			add(columns[0], false)
		}
	}
	return list
}

// columnOf is a column by its name, nil if its values cannot be told apart for certain. Not those of domains, whose parameters have another type in INSERT than
// in a comparison, and not generated ones, which change with others.
func columnOf(r *catalog.Relation, name string) *column {
	c := r.Column(name)
	if c == nil || c.Domain || c.Generated || c.Collation == catalog.CollationNondeterministic {
		return nil
	}
	switch shard.Type(c.Type) {
	case shard.Int2, shard.Int4, shard.Int8, shard.Text, shard.Varchar, shard.UUID, shard.Date, shard.Numeric:
	default:
		return nil
	}
	key, err := shard.NewKey(shard.Hash, 1, shard.Column{Name: c.Name, Type: shard.Type(c.Type), Modifier: c.Typmod})
	if err != nil {
		return nil
	}
	table := r.String()
	return &column{Column: c, key: key, row: ofColumn(ofRow, table, name),
		whole: Tag(ofColumn(ofWhole, table, name)), made: Tag(ofColumn(ofMade, table, name))}
}

// isText says whether the column compares bytes of text.
func (c *column) isText() bool {
	return shard.Type(c.Type) == shard.Text || shard.Type(c.Type) == shard.Varchar
}

// memoSize is a guess of the bytes of a Set beside its Statement, which the memo keeps too.
const memoSize = 2 << 10

// Read is what the answer of a text depends on, which must be read with standard_conforming_strings on where the Statement is Conforming; nil if it is not SELECTs alone that the catalog proves to be readings. What was asked for before takes no memory.
func (x *Index) Read(st *parser.Statement) *Set {
	if s, ok := x.reads.Find(st).(*Set); ok {
		return s
	}
	s := x.read(st)
	if st.Template != "" {
		x.reads.Add(st, s, memoSize+len(st.Template))
	}
	return s
}

// Write is what a text may change, an empty Set if that is nothing. What was asked for before takes no memory.
func (x *Index) Write(st *parser.Statement) *Set {
	if s, ok := x.writes.Find(st).(*Set); ok {
		return s
	}
	s := x.write(st)
	if st.Template != "" {
		x.writes.Add(st, s, memoSize+len(st.Template))
	}
	return s
}

// is says whether a use of a table in a text is t for certain.
func (x *Index) is(t *table, use *parser.Table) bool {
	r, _ := x.snapshot.Relation(use.Schema, use.Name)
	return r == t.relation && (use.Schema != "" || !x.snapshot.SystemRelation("", use.Name))
}

// mayBe says whether a use of a table in a text may be t.
func mayBe(t *table, use *parser.Table) bool {
	return use.Name == t.relation.Name && (use.Schema == "" || use.Schema == t.relation.Schema)
}
