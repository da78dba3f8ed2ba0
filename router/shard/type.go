package shard

import "strconv"

// Type is the type of a value or of a key column: PostgreSQL's OID of it (pg_type.dat). 0 is no type.
type Type uint32

// The types that key columns may have, and Unknown: a quoted literal, or a parameter of that type, that takes the type of the column it
// is compared with.
const (
	Bool        Type = 16
	Bytea       Type = 17
	Int8        Type = 20
	Int2        Type = 21
	Int4        Type = 23
	Text        Type = 25
	Unknown     Type = 705
	BPChar      Type = 1042
	Varchar     Type = 1043
	Date        Type = 1082
	Timestamp   Type = 1114
	TimestampTZ Type = 1184
	Numeric     Type = 1700
	UUID        Type = 2950
)

// NoModifier is the Modifier of a column without one.
const NoModifier = -1

// modifierHeader is what the modifiers of varchar, bpchar and numeric are raised by (VARHDRSZ in c.h).
const modifierHeader = 4

// kind is what there is to know of a type of key columns.
type kind struct {
	// name is the type in SQL.
	name string
	// hash reads a value as one of the column's type and hashes it; false if it is not sure of the value. The value is not NULL, and not Unknown.
	hash func(c *Column, v Value) (uint64, bool)
	// expression is the SQL of the same hash, of 64 bits or of the lowest maxExpressionBits; # stands for the column. It is NULL for NULL.
	expression string
	// modifier tells whether pg_attribute.atttypmod may have this value, other than NoModifier; nil if none may.
	modifier func(modifier int32) bool
}

// The functions below are those of the hash operator classes (pg_amproc.dat) where SQL can call them. PostgreSQL 18 has new ones for bool,
// bytea, date and timestamptz, with the results of the old. Text is hashed under "C": all collations that are deterministic hash alike,
// and this one needs no look into the column's.
const (
	hashOfInt  = "pg_catalog.hashint8extended(#, " + seedSQL + ")"
	hashOfText = "pg_catalog.hashtextextended(# COLLATE pg_catalog.\"C\", " + seedSQL + ")"
	// hashcharextended takes no bool, but hashes 0 and 1 as integers are hashed.
	hashOfBool = "pg_catalog.hashint8extended(#::pg_catalog.int4, " + seedSQL + ")"
	// A date is hashed as its days since 2000, the infinite ones as the ends of int4 (date.h, DATEVAL_NOBEGIN and DATEVAL_NOEND).
	hashOfDate = "pg_catalog.hashint8extended(CASE WHEN pg_catalog.isfinite(#) THEN # " + opMinus + " " + epochSQL + " WHEN # " + opGreater + " " + epochSQL +
		" THEN 2147483647 WHEN # " + opLess + " " + epochSQL + " THEN -2147483648 END, " + seedSQL + ")"
	epochSQL = "'2000-01-01'::pg_catalog.date"
	// A timestamptz is hashed as the timestamp that it is in UTC.
	hashOfTimestamp   = "pg_catalog.timestamp_hash_extended(#, " + seedSQL + ")"
	hashOfTimestampTZ = "pg_catalog.timestamp_hash_extended(pg_catalog.timezone('UTC', #), " + seedSQL + ")"
	// hashvarlenaextended cannot be called from SQL. An array of one element hashes to 31 + the element's hash (arrayfuncs.c,
	// hash_array_extended); 31 is taken off the lowest bits, where nothing overflows.
	hashOfBytea = "((CASE WHEN # IS NOT NULL THEN pg_catalog.hash_array_extended(ARRAY[#], " + seedSQL + ") END " + opAnd + " " + expressionMaskSQL + ") " + opMinus + " 31)"
)

// kindOf is the table of the types of key columns.
func kindOf(t Type) (kind, bool) {
	switch t {
	case Int2:
		return kind{"int2", hashInt, hashOfInt, nil}, true
	case Int4:
		return kind{"int4", hashInt, hashOfInt, nil}, true
	case Int8:
		return kind{"int8", hashInt, hashOfInt, nil}, true
	case Bool:
		return kind{"bool", hashBool, hashOfBool, nil}, true
	case Text:
		return kind{"text", hashText, hashOfText, nil}, true
	case Varchar:
		return kind{"varchar", hashText, hashOfText, lengthModifier}, true
	case BPChar:
		return kind{"bpchar", hashBPChar, "pg_catalog.hashbpcharextended(# COLLATE pg_catalog.\"C\", " + seedSQL + ")", lengthModifier}, true
	case UUID:
		return kind{"uuid", hashUUID, "pg_catalog.uuid_hash_extended(#, " + seedSQL + ")", nil}, true
	case Bytea:
		return kind{"bytea", hashBytea, hashOfBytea, nil}, true
	case Date:
		return kind{"date", hashDate, hashOfDate, nil}, true
	case Timestamp:
		return kind{"timestamp", hashTimestamp, hashOfTimestamp, timestampModifier}, true
	case TimestampTZ:
		return kind{"timestamptz", hashTimestamp, hashOfTimestampTZ, timestampModifier}, true
	case Numeric:
		return kind{"numeric", hashNumeric, "pg_catalog.hash_numeric_extended(#, " + seedSQL + ")", numericModifier}, true
	}
	return kind{}, false
}

// lengthModifier: varchar and bpchar have 4 + n, n at least 1 (varchar.c, anychar_typmodin).
func lengthModifier(m int32) bool { return m > modifierHeader }

// timestampModifier: the number of fractional digits (timestamp.h, MAX_TIMESTAMP_PRECISION).
func timestampModifier(m int32) bool { return m >= 0 && m <= maxTimestampDigits }

// numericModifier: 4 + precision<<16 + scale, precision at least 1 (numeric.c, make_numeric_typmod).
func numericModifier(m int32) bool { return m >= modifierHeader+1<<16 }

// String returns the type's name in SQL, or its number.
func (t Type) String() string {
	if k, ok := kindOf(t); ok {
		return k.name
	}
	if t == Unknown {
		return "unknown"
	}
	return "type " + strconv.FormatUint(uint64(t), 10)
}
