package shard

import (
	"encoding/binary"
	"math"
)

// hashInt hashes a value for a column of int2, int4 or int8.
func hashInt(c *Column, v Value) (uint64, bool) {
	n, ok := readInteger(c, v)
	return hashInteger(n), ok
}

// readInteger reads an integer that the column can hold: from any integer type, or from a numeric that is whole.
func readInteger(c *Column, v Value) (int64, bool) {
	n, ok := int64(0), false
	switch v.typ {
	case Int2, Int4, Int8:
		n, ok = integer(v)
	case Numeric:
		n, ok = wholeNumeric(v)
	}
	return n, ok && fits(c.Type, n)
}

// integer reads a value of int2, int4 or int8.
func integer(v Value) (int64, bool) {
	switch {
	case v.format == TextFormat:
		n, ok := parseInteger(v.data)
		return n, ok && fits(v.typ, n)
	case v.format != BinaryFormat:
		return 0, false
	case v.typ == Int2 && len(v.data) == 2:
		return int64(int16(binary.BigEndian.Uint16(v.data))), true
	case v.typ == Int4 && len(v.data) == 4:
		return int64(int32(binary.BigEndian.Uint32(v.data))), true
	case v.typ == Int8 && len(v.data) == 8:
		return int64(binary.BigEndian.Uint64(v.data)), true
	}
	return 0, false
}

// wholeNumeric reads a value of numeric that is an integer.
func wholeNumeric(v Value) (int64, bool) {
	if v.format == TextFormat {
		if n, ok := parseInteger(v.data); ok {
			return n, true
		}
	}
	var n number
	if !n.read(v) {
		return 0, false
	}
	return n.integer()
}

// parseInteger reads what the input functions of all integer types take in every version: a sign, decimal digits, white space around
// (numutils.c, pg_strtoint64). Since version 16 they take more.
func parseInteger(data []byte) (int64, bool) {
	data = trimSpace(data)
	negative := false
	if len(data) > 0 && (data[0] == '-' || data[0] == '+') {
		negative = data[0] == '-'
		data = data[1:]
	}
	if len(data) == 0 {
		return 0, false
	}
	// Counted below zero, where there is one number more.
	n := int64(0)
	for _, c := range data {
		if !isDigit(c) || n < math.MinInt64/10 {
			return 0, false
		}
		digit := int64(c - '0')
		if n*10 < math.MinInt64+digit {
			return 0, false
		}
		n = n*10 - digit
	}
	if negative {
		return n, true
	}
	return -n, n != math.MinInt64
}

// fits reports whether an integer type holds n.
func fits(t Type, n int64) bool {
	switch t {
	case Int2:
		return n >= math.MinInt16 && n <= math.MaxInt16
	case Int4:
		return n >= math.MinInt32 && n <= math.MaxInt32
	}
	return true
}
