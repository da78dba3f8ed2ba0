package plan

import "pgtier/router/shard"

// Copy is a COPY of rows between client and shards.
type Copy struct {
	// Columns is how many fields a row has.
	Columns int
	// Key are the indexes, among the fields, of the key's columns.
	Key    []int
	Format CopyFormat

	table  *table
	schema *Schema
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
	// ForceNull and ForceNotNull say of each field, csv only, that quoted or unquoted ones are read otherwise.
	ForceNull, ForceNotNull []bool
}

// CopyField is one field of a row: its bytes as the format has them, without quotes and escapes.
type CopyField struct {
	Null  bool
	Value []byte
}

// Shard is the shard of the row with these fields of the key, in the order of Key. ok is false if that is not certain: the COPY must fail.
func (c *Copy) Shard(key []CopyField) (i int, ok bool) {
	values := make([]shard.Value, len(key))
	for at, f := range key {
		if f.Null {
			return 0, false
		}
		column := c.table.keyColumn(at)
		if c.Format.Name == "binary" {
			values[at] = shard.Parameter(shard.Type(column.Type), shard.BinaryFormat, f.Value)
		} else {
			values[at] = shard.Literal(shard.Type(column.Type), f.Value)
		}
	}
	b, ok := c.table.key.Bucket(values...)
	if !ok {
		return 0, false
	}
	return c.schema.owner(b), true
}
