package plan

import (
	"slices"
	"strings"

	"pgtier/parser"
	"pgtier/router/shard"
)

// Copy is a COPY of rows between client and shards.
type Copy struct {
	// Columns is how many fields a row has.
	Columns int
	// Key are the indexes, among the fields, of the key's columns.
	Key    []int
	Format CopyFormat
	// Clocks are the indexes of fields whose text a server may read by its clock: of dates and times, and of types that may have such inside.
	Clocks []int

	table  *table
	schema *Schema
	// stamps are columns that no row has and that get one value for all of them.
	stamps stamps
	// rows is a SELECT of the columns that a row has; query are the tokens of one, of COPY (query) TO.
	rows  string
	query parser.Span
}

// Rows is a SELECT whose columns are those of the rows of the COPY with this text, "" if there is none.
func (c *Copy) Rows(sql []byte) string {
	tokens := parser.Tokens(sql, nil)
	if c.query == (parser.Span{}) || c.query.To > len(tokens) {
		return c.rows
	}
	return string(sql[tokens[c.query.From].Start:tokens[c.query.To-1].End])
}

// rowsOf is a SELECT of the columns that a COPY names, or of all.
func rowsOf(t *table, columns []string) string {
	list := "*"
	if columns != nil {
		quoted := make([]string, len(columns))
		for i, name := range columns {
			quoted[i] = quoteName(name)
		}
		list = strings.Join(quoted, ", ")
	}
	return "SELECT " + list + " FROM " + quoteName(t.relation.Schema) + "." + quoteName(t.relation.Name)
}

// CopyFormat is how the rows of a COPY are written.
type CopyFormat struct {
	// Name is "text", "csv" or "binary".
	Name string
	// Delimiter, Quote and Escape are one byte each; Null is the text of NULL.
	Delimiter, Quote, Escape byte
	Null                     string
	// Header: the first line holds names.
	Header bool
	// Match: the server compares those names with its columns.
	Match bool
	// ForceNull and ForceNotNull say of each field, csv only, that quoted or unquoted ones are read otherwise.
	ForceNull, ForceNotNull []bool
}

// CopyField is one field of a row: its bytes as the format has them, without quotes and escapes.
type CopyField struct {
	Null  bool
	Value []byte
}

// Field is the at-th field of the key as the server reads it: null and value are what the row has without regard to FORCE_NULL and FORCE_NOT_NULL.
func (c *Copy) Field(at int, null bool, value []byte) CopyField {
	forced := func(list []bool) bool { return c.Key[at] < len(list) && list[c.Key[at]] }
	switch {
	case null && forced(c.Format.ForceNotNull):
		null = false
	case !null && forced(c.Format.ForceNull) && string(value) == c.Format.Null:
		null = true
	}
	return CopyField{Null: null, Value: value}
}

// NullKey is why a row with these fields of the key is refused, nil if none of them is NULL. certain: the servers refuse it too, and can say more.
func (c *Copy) NullKey(key []CopyField) (why *Refusal, certain bool) {
	for at, f := range key {
		if f.Null {
			return nullKey(c.table, c.table.keyColumn(at).Name), c.table.keyColumn(at).NotNull
		}
	}
	return nil, false
}

// Shard is the shard of the row with these fields of the key, in the order of Key. ok is false if that is not certain: the COPY must fail.
func (c *Copy) Shard(key []CopyField) (i int, ok bool) {
	b, ok := c.Bucket(key)
	if !ok {
		return 0, false
	}
	return c.schema.owner(b), true
}

// Bucket is the bucket of the row with these fields of the key; ok as Shard has it.
func (c *Copy) Bucket(key []CopyField) (b shard.Bucket, ok bool) {
	values := make([]shard.Value, len(key))
	for at, f := range key {
		if f.Null {
			return 0, false
		}
		values[at] = c.value(at, f)
	}
	return c.table.key.Bucket(values...)
}

// TellsTime says whether a field of Clocks is one that each shard would read by its own clock: the COPY must fail.
func (c *Copy) TellsTime(f CopyField) bool { return !f.Null && tellsTime(f.Value) }

// timeless are types whose texts have no dates (pg_type.dat): numbers, text, bytea, bool, uuid, JSON, bits, intervals, addresses.
var timeless = []uint32{16, 17, 18, 19, 20, 21, 23, 25, 26, 114, 142, 650, 700, 701, 774, 790, 829, 869, 1042, 1043, 1186, 1560, 1562, 1700, 2950, 3614, 3615, 3802}

// clocksOf are the fields of a COPY whose text may tell the time, but those of the key.
func clocksOf(t *table, columns []string, key []int) (list []int) {
	for i, name := range columns {
		if c := t.relation.Column(name); c != nil && !slices.Contains(timeless, c.Type) && !slices.Contains(key, i) {
			list = append(list, i)
		}
	}
	return list
}

// ASCII reports whether the key means the same in every encoding that a client may have. Where the client's is not the database's own, Shard
// must not be asked for others: the server hashes what it has converted.
func (c *Copy) ASCII(key []CopyField) bool {
	for at, f := range key {
		if !f.Null && !c.value(at, f).ASCII() {
			return false
		}
	}
	return true
}

// value is the field of the key's column at.
func (c *Copy) value(at int, f CopyField) shard.Value {
	column := c.table.keyColumn(at)
	if c.Format.Name == "binary" {
		return shard.Parameter(shard.Type(column.Type), shard.BinaryFormat, f.Value)
	}
	return shard.Literal(shard.Type(column.Type), f.Value)
}
