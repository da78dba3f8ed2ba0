package plan

import (
	"pgtier/router/catalog"
	"pgtier/router/shard"
)

// family is a group of types whose values are equal under = exactly if their hashes are those of one value. Columns of one family may be equal to each
// other, and equality is transitive among them. The zero value is a type that is not known to have that.
type family uint8

// The families.
const (
	familyNone family = iota
	familyInteger
	familyText // text and varchar: compared as text, byte by byte unless the collation says otherwise
	familyBPChar
	familyUUID
	familyDate
	familyTimestamp
	familyTimestampTZ
	familyNumeric
	familyBytea
	familyBool
)

func familyOf(oid uint32) family {
	switch shard.Type(oid) {
	case shard.Int2, shard.Int4, shard.Int8:
		return familyInteger
	case shard.Text, shard.Varchar:
		return familyText
	case shard.BPChar:
		return familyBPChar
	case shard.UUID:
		return familyUUID
	case shard.Date:
		return familyDate
	case shard.Timestamp:
		return familyTimestamp
	case shard.TimestampTZ:
		return familyTimestampTZ
	case shard.Numeric:
		return familyNumeric
	case shard.Bytea:
		return familyBytea
	case shard.Bool:
		return familyBool
	}
	return familyNone
}

// columnFamily is the family of a column, none where equal values may differ in their bytes.
func columnFamily(c *catalog.Column) family {
	if c.Collation == catalog.CollationNondeterministic {
		return familyNone
	}
	return familyOf(c.Type)
}

// castType is the type that a text casts to by this name, 0 if it is none of the keys' types.
func castType(schema, name string) shard.Type {
	if schema != "" && schema != "pg_catalog" {
		return 0
	}
	switch name {
	case "int2", "smallint":
		return shard.Int2
	case "int4", "int", "integer":
		return shard.Int4
	case "int8", "bigint":
		return shard.Int8
	case "text":
		return shard.Text
	case "varchar":
		return shard.Varchar
	case "uuid":
		return shard.UUID
	case "date":
		return shard.Date
	case "timestamp":
		return shard.Timestamp
	case "timestamptz":
		return shard.TimestampTZ
	case "numeric":
		return shard.Numeric
	case "bytea":
		return shard.Bytea
	case "bool":
		return shard.Bool
	}
	return 0
}
