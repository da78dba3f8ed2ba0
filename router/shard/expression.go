package shard

import (
	"encoding/hex"
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

// The operators of expressions, with their schema: an operator of the same name in another schema would else be found where the search path has that first.
// All of them bind alike, from the left.
const (
	opPlus    = "OPERATOR(pg_catalog.+)"
	opMinus   = "OPERATOR(pg_catalog.-)"
	opAnd     = "OPERATOR(pg_catalog.&)"
	opXor     = "OPERATOR(pg_catalog.#)"
	opRight   = "OPERATOR(pg_catalog.>>)"
	opLess    = "OPERATOR(pg_catalog.<)"
	opGreater = "OPERATOR(pg_catalog.>)"
)

// Expression returns SQL that computes the bucket of a row inside a server, as a bigint: the same number that Bucket returns for the row's
// values, NULL included. Columns are written with the name of a relation before them, quoted, or alone where relation is "": "new" and
// "old" for triggers, or an alias.
//
// It is immutable, raises no error for any value, uses built-in functions only and no subquery, so a trigger's WHEN, an index, a
// partition's check and a publication's row filter take it. PostgreSQL 13 to 18 have all of it, and give the same. What it means does not
// depend on the search path.
//
// All but the last column stand in it more than once, the first of n columns 2^(n-1) times: seven columns make 80 kB of text.
func (k *Key) Expression(relation string) string {
	references := make([]string, len(k.columns))
	for i, c := range k.columns {
		references[i] = c.reference(relation)
	}
	return k.ExpressionOf(references...)
}

// ExpressionOf is Expression with the SQL of each column of the key given, in order.
func (k *Key) ExpressionOf(references ...string) string {
	if k.function == Modulo {
		return "coalesce(" + references[0] + "::pg_catalog.int8 " + opAnd + " " + mask(k.bits()) + ", 0)"
	}
	// Each step has the lowest bits of what hash_combine64 returns, as many as the steps after it need. Its a << 54 moves bits of its own
	// a to where no step looks: the first step, which alone looks that far, has none.
	bits := k.bits() + combineShift*(len(k.columns)-1)
	row := ""
	for i, column := range k.columns {
		hash := withColumn(column.expression, references[i])
		sum := "(" + hash + " " + opAnd + " " + mask(bits) + ") " + opPlus + " " + strconv.FormatUint(combineConstant&(1<<bits-1), 10)
		if row == "" {
			row = "(coalesce(" + sum + ", 0) " + opAnd + " " + mask(bits) + ")"
		} else {
			row = "((" + row + " " + opXor + " coalesce(" + sum + " " + opPlus + " (" + row + " " + opRight + " " + strconv.Itoa(combineShift) + "), 0)) " + opAnd + " " + mask(bits) + ")"
		}
		bits -= combineShift
	}
	return row
}

// withColumn puts a column into the SQL of its hash.
func withColumn(expression, reference string) string {
	return strings.ReplaceAll(expression, "#", reference)
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

// maxSpansSQL is up to how many spans are compared with one by one: each computes the bucket twice.
const maxSpansSQL = 2

// Outside returns SQL of a condition: the bucket of a row is in none of the spans, of which there must be one at least. bucket is what Expression or
// ExpressionOf returns. It is immutable, not NULL for any row, raises no error, and depends on nothing outside. A server that has no statistics of it takes it for
// nearly always true (selfuncs.h, DEFAULT_RANGE_INEQ_SEL and DEFAULT_EQ_SEL), so that it chooses no other plan for it.
func (k *Key) Outside(bucket string, spans []Span) string {
	if len(spans) > maxSpansSQL {
		return k.outsideBits(bucket, spans)
	}
	var text strings.Builder
	for i, s := range spans {
		if i > 0 {
			text.WriteString(" AND ")
		}
		text.WriteString("NOT (" + bucket + " OPERATOR(pg_catalog.>=) " + strconv.Itoa(int(s.First)) + " AND " + bucket + " OPERATOR(pg_catalog.<=) " + strconv.Itoa(int(s.Last)) + ")")
	}
	return text.String()
}

// outsideBits is Outside by a map with one bit a bucket.
func (k *Key) outsideBits(bucket string, spans []Span) string {
	bits := make([]byte, (k.Buckets()+7)/8)
	for _, s := range spans {
		for b := int(s.First); b <= int(s.Last); b++ {
			bits[b/8] |= 1 << (b % 8) // get_bit counts from the lowest of each byte
		}
	}
	return "pg_catalog.get_bit(pg_catalog.decode('" + hex.EncodeToString(bits) + "', 'hex'), (" + bucket + ")::pg_catalog.int4) OPERATOR(pg_catalog.<>) 1"
}
