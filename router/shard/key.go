package shard

import (
	"errors"
	"fmt"
	"strings"
)

// MaxColumns is the most columns of a key. Expression works on bigint without overflow: 16 bits of bucket and 7 more for each further
// column leave 4 of 62 bits at seven columns.
const MaxColumns = 7

// Function is how a key becomes a bucket.
type Function uint8

// The functions. The zero value is Hash.
const (
	// Hash is PostgreSQL's extended hash of a partition key, by remainder: the one for which satisfies_hash_partition is true.
	Hash Function = iota
	// Modulo is the remainder of one integer, counted so that negative keys have buckets from 0 too.
	Modulo
)

// functionWords are the functions' words in the configuration, in order.
var functionWords = [...]string{Hash: "hash", Modulo: "modulo"}

// ParseFunction reads a function's word of the configuration.
func ParseFunction(word string) (Function, error) {
	for f, known := range functionWords {
		if word == known {
			return Function(f), nil
		}
	}
	return 0, fmt.Errorf("%q is not a function; write %s", word, strings.Join(functionWords[:], " or "))
}

// String returns the function's word in the configuration.
func (f Function) String() string {
	if int(f) < len(functionWords) {
		return functionWords[f]
	}
	return fmt.Sprintf("function %d", uint8(f))
}

// Column is a column of a key.
type Column struct {
	// Name is the column's name as the server has it, without quotes.
	Name string
	// Type is the column's type. Domains and enums are none of these. Text must have a deterministic collation (pg_collation): the bytes are hashed.
	Type Type
	// Modifier is the column's pg_attribute.atttypmod: NoModifier for none. It decides which values are stored otherwise than they are sent.
	Modifier int32
}

// Key says how the rows of a table fall into buckets. Make it by NewKey.
type Key struct {
	function Function
	mask     uint64
	columns  []keyColumn
}

// keyColumn is a column with what is known of its type.
type keyColumn struct {
	Column
	kind
}

// NewKey checks a key's columns, in the order in which they are hashed. The error says what is wrong with which column.
func NewKey(function Function, buckets int, columns ...Column) (*Key, error) {
	if err := ValidBuckets(buckets); err != nil {
		return nil, err
	}
	if len(columns) == 0 || len(columns) > MaxColumns {
		return nil, fmt.Errorf("a key has 1 to %d columns, not %d", MaxColumns, len(columns))
	}
	k := &Key{function: function, mask: uint64(buckets) - 1}
	for i, column := range columns {
		known, err := column.check()
		if err != nil {
			return nil, err
		}
		for _, other := range columns[:i] {
			if other.Name == column.Name {
				return nil, fmt.Errorf("column %q stands twice", column.Name)
			}
		}
		k.columns = append(k.columns, keyColumn{column, known})
	}
	if err := k.checkFunction(); err != nil {
		return nil, err
	}
	return k, nil
}

func (c Column) check() (kind, error) {
	switch known, ok := kindOf(c.Type); {
	case c.Name == "" || strings.ContainsRune(c.Name, 0):
		return kind{}, fmt.Errorf("%q is not a column's name", c.Name)
	case !ok:
		return kind{}, fmt.Errorf("column %q: %s cannot be hashed; use an integer, text, uuid, bytea, bool, numeric, date or timestamp", c.Name, c.Type)
	case c.Modifier != NoModifier && (known.modifier == nil || !known.modifier(c.Modifier)):
		return kind{}, fmt.Errorf("column %q: %s has no modifier %d", c.Name, c.Type, c.Modifier)
	default:
		return known, nil
	}
}

func (k *Key) checkFunction() error {
	switch k.function {
	case Hash:
		return nil
	case Modulo:
		if len(k.columns) != 1 {
			return errors.New("modulo takes a key of one column; use hash")
		}
		if c := k.columns[0]; c.Type != Int2 && c.Type != Int4 && c.Type != Int8 {
			return fmt.Errorf("column %q: modulo takes an integer, not %s; use hash", c.Name, c.Type)
		}
		return nil
	}
	return fmt.Errorf("%s does not exist", k.function)
}

// Function returns how the key becomes a bucket.
func (k *Key) Function() Function { return k.function }

// Buckets returns the number of buckets that the key falls into.
func (k *Key) Buckets() int { return int(k.mask) + 1 }

// Columns returns the columns, in order, in a slice of the caller's own.
func (k *Key) Columns() []Column {
	columns := make([]Column, len(k.columns))
	for i, c := range k.columns {
		columns[i] = c.Column
	}
	return columns
}

// Bucket returns the bucket of a key with these values, one for each column, in order. ok is false if one of them cannot be read for
// certain as the server would read it, or not as a value that the column stores unchanged: the key may be in any bucket then.
//
// NULL counts as PostgreSQL has it in partitions: it adds nothing to the hash, and a key of nothing else is in bucket 0, with both
// functions. Whether a row with NULL in its key may be, or a comparison with NULL matches, is for the caller to decide.
func (k *Key) Bucket(values ...Value) (bucket Bucket, ok bool) {
	if k.function == Modulo && len(values) == 1 {
		return k.modulo(values[0])
	}
	row, ok := k.Hash(values...)
	return Bucket(row & k.mask), ok
}

// Hash returns PostgreSQL's hash of a key with these values, whatever the key's function: the same for values that are equal, and nearly always another
// for others. ok is as Bucket has it.
func (k *Key) Hash(values ...Value) (hash uint64, ok bool) {
	if len(values) != len(k.columns) {
		return 0, false
	}
	row := uint64(0)
	for i := range k.columns {
		column, value := &k.columns[i], values[i]
		if value.null {
			continue
		}
		hash, ok := column.hash(&column.Column, value.as(column.Type))
		if !ok {
			return 0, false
		}
		row = combine(row, hash)
	}
	return row, true
}

func (k *Key) modulo(v Value) (bucket Bucket, ok bool) {
	if v.null {
		return 0, true
	}
	column := &k.columns[0].Column
	n, ok := readInteger(column, v.as(column.Type))
	if !ok {
		return 0, false
	}
	return Bucket(uint64(n) & k.mask), true // of a power of two, the lowest bits are the remainder from 0 up
}
