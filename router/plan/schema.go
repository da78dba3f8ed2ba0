package plan

import (
	"cmp"
	"slices"
	"strings"

	"pgtier/parser"
	"pgtier/router/catalog"
	"pgtier/router/shard"
)

// Schema is a database as planners see it: its configuration, its catalog and where its rows are. It is immutable but for the statements that it remembers; a
// change of any of the three makes a new one.
type Schema struct {
	config  *Config
	catalog *catalog.Snapshot
	version shard.Version
	// owners are the shards by bucket.
	owners []uint8
	// all are the shards that own buckets, list the same in order; members are those that have the schema and may be asked.
	all     set
	list    []int
	members []int
	member  set
	// moving are the buckets whose rows may stand on two shards; frozen says that changes of the schema are refused.
	// foreign are, by shard, those of them that it does not own. sole is the shard that owns all buckets, -1 if several do.
	moving  []shard.Span
	foreign [][]shard.Span
	sole    int
	frozen  bool
	tables  map[string][]*table
	byOID   map[uint32]*table
	// missing are names of the configuration that no relation has: the last part, and the whole.
	missing map[string]string
	// numbered are the sequences, by catalog.QualifiedName, that give the rows of sharded tables their numbers.
	numbered map[string]bool
	// blurred: some column has a collation under which texts of different bytes are equal.
	blurred bool
	memo    catalog.Memo
	calm    Circumstances // those of a session without settings
}

// NewSchema puts together what is known of a database. The findings say what is wrong; a Schema is made all the same, and refuses what they concern.
// An error means that configuration and placement do not fit each other, or are wrong by themselves. The snapshot must have catalog.Relations.
func NewSchema(c *Config, snapshot *catalog.Snapshot, at Placement) (*Schema, []Finding, error) {
	if err := c.Validate(); err != nil {
		return nil, nil, err
	}
	s := &Schema{config: c, catalog: snapshot, tables: map[string][]*table{}, byOID: map[uint32]*table{}, missing: map[string]string{}}
	if err := s.settle(&at); err != nil {
		return nil, nil, err
	}
	p := placer{Schema: s}
	p.placeAll()
	slices.SortFunc(p.findings, func(a, b Finding) int {
		return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(a.Message, b.Message))
	})
	return s, p.findings, nil
}

// Version is that of the map.
func (s *Schema) Version() shard.Version { return s.version }

// owner is the shard of a bucket.
func (s *Schema) owner(b shard.Bucket) int { return int(s.owners[b]) }

// Owner is the index of the shard that owns a bucket of the map.
func (s *Schema) Owner(b shard.Bucket) int { return s.owner(b) }

// lookup finds the table that a text names. The result is never nil: what is not known is at home if that is no risk, else unsure.
func (s *Schema) lookup(schema, name string, changed bool) *table {
	if schema == "pg_temp" || strings.HasPrefix(schema, "pg_temp_") {
		return &table{name: schema + "." + name, place: placeHome}
	}
	if s.catalog.SystemRelation(schema, name) {
		return &table{name: name, place: placeServer}
	}
	var found []*table
	for _, t := range s.tables[name] {
		if schema == "" || schema == t.relation.Schema {
			found = append(found, t)
		}
	}
	switch {
	case len(found) == 1:
		return found[0]
	case len(found) > 1 && slices.ContainsFunc(found, func(t *table) bool { return t.place != placeHome || t.view }):
		return &table{name: name, why: refuse("table \""+name+"\" is in several schemas", "Write its schema before its name.")}
	case len(found) > 1:
		return &table{name: name, place: placeHome}
	}
	return s.unknown(schema, name, changed)
}

// unknown is a table that the catalog does not have. The server says so, unless it was made a moment ago.
func (s *Schema) unknown(schema, name string, changed bool) *table {
	whole := name
	if schema != "" {
		whole = schema + "." + name
	}
	_, declared := s.missing[name]
	if declared || changed {
		r := refuse("table \""+whole+"\" is not in the catalog as it was last read", hintCommit)
		return &table{name: whole, why: r}
	}
	return &table{name: whole, place: placeHome}
}

// declares says whether a name may be one that the configuration spreads over shards.
func (s *Schema) declares(schema, name string) bool {
	means := func(declared string) bool {
		at, last, qualified := strings.Cut(declared, ".")
		if !qualified {
			return declared == name
		}
		return last == name && (schema == "" || schema == at)
	}
	for declared := range s.config.Tables {
		if means(declared) {
			return true
		}
	}
	return slices.ContainsFunc(s.config.Reference, means)
}

// byName is the table of "schema.name", nil if there is none.
func (s *Schema) byName(name string) *table {
	schema, last, _ := strings.Cut(name, ".")
	for _, t := range s.tables[last] {
		if t.relation.Schema == schema {
			return t
		}
	}
	return nil
}

// place is that of a table that a statement names.
func (s *Schema) place(t parser.Table, changed bool) place {
	return s.lookup(t.Schema, t.Name, changed).place
}
