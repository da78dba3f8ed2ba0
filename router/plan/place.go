package plan

import (
	"pgtier/router/catalog"
	"pgtier/router/shard"
)

// place is where the rows of a table are.
type place uint8

// The places. placeUnsure is one that cannot be told; table.why says why.
const (
	placeUnsure    place = iota
	placeSharded         // each row on the shard of its key
	placeReference       // all rows on every shard
	placeHome            // all rows on the home shard, none on others
	placeServer          // every server has its own: the catalogs
)

func (p place) String() string {
	return [...]string{"unsure", "sharded", "reference", "home", "server"}[p]
}

// table is a relation with its place. Immutable once the Schema is made.
type table struct {
	// name is for messages: with its schema where that is known.
	name string
	// relation is nil for tables that the catalog does not have.
	relation *catalog.Relation
	place    place
	// view: reading it runs a query that the statement's text does not show.
	view bool
	// key and columns are of placeSharded: indexes into relation.Columns, in the key's order.
	key     *shard.Key
	columns []int
	// why is why the place is not sure, or the rows cannot be written: nil for none.
	why, unwritable *Refusal
	// referenced are foreign keys of other tables on this one whose rows may be on other shards; followers are tables whose rows foreign keys
	// change with those of this one, on the same shard.
	referenced []reference
	followers  []*table
}

// reference is a foreign key of another table on this one.
type reference struct {
	from *table
	key  *catalog.ForeignKey
}

// sharded says whether the table's rows are spread by a key.
func (t *table) sharded() bool { return t.place == placeSharded }

// isKey is the place of a column in the key, -1 if it is none of its columns.
func (t *table) isKey(name string) int {
	for i, c := range t.columns {
		if t.relation.Columns[c].Name == name {
			return i
		}
	}
	return -1
}

// keyColumn is a column of the key.
func (t *table) keyColumn(i int) *catalog.Column { return &t.relation.Columns[t.columns[i]] }

// keyNames are the names of the key's columns, for messages.
func (t *table) keyNames() string {
	text := ""
	for i := range t.columns {
		if i > 0 {
			text += ", "
		}
		text += t.keyColumn(i).Name
	}
	return text
}
