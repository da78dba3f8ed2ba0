package tags

// Tag names rows that change together, as a hash of words. It is the same in every process. Two tags that happen to be equal cost an answer that is
// forgotten for nothing.
type Tag uint64

// Everything is what every answer depends on. A change of the catalog touches it, and a write of which is not known what it changes.
const Everything Tag = 0x65766572797468 // a word; those of tables are mixed

// The kinds of tags that a table has.
const (
	ofTable byte = 't' // any change of the table's rows
	ofWhole byte = 'w' // a change of rows of which the values of a column are not known
	ofMade  byte = 'm' // new rows alone, whose values of a unique column are not known
	ofRow   byte = 'r' // a change of rows that have this value in the column
)

// Table is the tag of all rows of a table. Every write to it touches this.
func Table(schema, name string) Tag {
	return Tag(mix(word(word(word(begin(ofTable), schema), "."), name)))
}

// named is Table for a name with its schema before a point.
func named(name string) Tag { return Tag(mix(word(begin(ofTable), name))) }

// ofColumn is the hash of a kind of tag of a table's column.
func ofColumn(kind byte, table, column string) uint64 {
	return mix(word(word(word(begin(kind), table), "\x00"), column))
}

// row is the tag of the rows that have a value of this hash in a column.
func row(column, hash uint64) Tag { return Tag(mix(column ^ mix(hash))) }

// The hash of words is FNV-1a (hash/fnv), which needs no memory, with its weak upper bits mixed at the end.
const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

func begin(kind byte) uint64 { return (fnvOffset ^ uint64(kind)) * fnvPrime }

func word(h uint64, text string) uint64 {
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * fnvPrime
	}
	return h
}

// mix is the finalizer of splitmix64 (Vigna): every bit of the result depends on every bit of h.
func mix(h uint64) uint64 {
	h ^= h >> 30
	h *= 0xbf58476d1ce4e5b9
	h ^= h >> 27
	h *= 0x94d049bb133111eb
	return h ^ h>>31
}
