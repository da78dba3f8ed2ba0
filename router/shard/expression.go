package shard

import (
	"strconv"
	"strings"
)

const (
	// seedSQL is hashSeed as a bigint.
	seedSQL = "8816678312871386365"
	// combineShift is the bits that a combination moves the hash before it down by: its lowest n bits need n + 7 of those (hashfn.h,
	// hash_combine64).
	combineShift = 7
	// maxExpressionBits is how many of a hash's lowest bits an expression may use: sums of three numbers of 62 bits less one fit a bigint.
	// expressionMaskSQL is 2^62 - 1.
	maxExpressionBits = 62
	expressionMaskSQL = "4611686018427387903"
)

// Expression returns SQL that computes the bucket of a row inside a server, as a bigint: the same number that Bucket returns for the row's
// values, NULL included. Columns are written with the name of a relation before them, quoted, or alone where relation is "": "new" and
// "old" for triggers, or an alias.
//
// It is immutable, raises no error for any value, uses built-in functions only and no subquery, so a trigger's WHEN, an index, a
// partition's check and a publication's row filter take it. PostgreSQL 13 to 18 have all of it, and give the same. Its operators are
// found by the search path: it must be parsed where nothing stands before pg_catalog.
//
// All but the last column stand in it more than once, the first of n columns 2^(n-1) times: seven columns make 40 kB of text.
func (k *Key) Expression(relation string) string {
	if k.function == Modulo {
		return "coalesce(" + k.columns[0].reference(relation) + "::int8 & " + mask(k.bits()) + ", 0)"
	}
	// Each step has the lowest bits of what hash_combine64 returns, as many as the steps after it need. Its a << 54 moves bits of its own
	// a to where no step looks: the first step, which alone looks that far, has none.
	bits := k.bits() + combineShift*(len(k.columns)-1)
	row := ""
	for _, column := range k.columns {
		hash := strings.ReplaceAll(column.expression, "#", column.reference(relation))
		sum := "(" + hash + " & " + mask(bits) + ") + " + strconv.FormatUint(combineConstant&(1<<bits-1), 10)
		if row == "" {
			row = "(coalesce(" + sum + ", 0) & " + mask(bits) + ")"
		} else {
			row = "((" + row + " # coalesce(" + sum + " + (" + row + " >> " + strconv.Itoa(combineShift) + "), 0)) & " + mask(bits) + ")"
		}
		bits -= combineShift
	}
	return row
}

// bits is how many of a hash's lowest bits are the bucket.
func (k *Key) bits() int {
	bits := 0
	for 1<<bits <= k.mask {
		bits++
	}
	return bits
}

// mask is the bigint of so many bits.
func mask(bits int) string { return strconv.FormatUint(1<<bits-1, 10) }

// reference is the column in SQL.
func (c Column) reference(relation string) string {
	if relation == "" {
		return quoteIdentifier(c.Name)
	}
	return quoteIdentifier(relation) + "." + quoteIdentifier(c.Name)
}

// quoteIdentifier quotes a name so that it is no keyword and is not folded.
func quoteIdentifier(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
