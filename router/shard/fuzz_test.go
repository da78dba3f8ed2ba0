package shard

import (
	"bytes"
	"math/big"
	"strings"
	"testing"
)

// FuzzBucket reads any bytes, of any type and format, for columns of every type. What it reads of one type it reads the same way again from
// its own text, and the integers are those of another reader.
func FuzzBucket(f *testing.F) {
	for _, d := range plain() {
		for _, text := range edges(d.typ)[:2] {
			f.Add(uint32(d.typ), int16(TextFormat), []byte(text))
		}
		f.Add(uint32(d.typ), int16(BinaryFormat), []byte{0, 1, 0, 0, 0x40, 0, 0, 0, 0, 7})
	}
	var keys []*Key
	for _, d := range declarations() {
		keys = append(keys, key(f, Hash, MaxBuckets, d))
		if d.typ == Int2 || d.typ == Int4 || d.typ == Int8 {
			keys = append(keys, key(f, Modulo, 16, d))
		}
	}
	f.Fuzz(func(t *testing.T, typ uint32, format int16, data []byte) {
		before := bytes.Clone(data)
		v := Parameter(Type(typ), Format(format), data)
		v.ASCII()
		for _, k := range keys {
			bucket, ok := k.Bucket(v)
			if ok && int(bucket) >= k.Buckets() {
				t.Errorf("%v: bucket %d of %d", v, bucket, k.Buckets())
			}
			column := k.Columns()[0]
			if again, okAgain := k.Bucket(Literal(Unknown, data)); Format(format) == TextFormat && column.Type == v.typ && data != nil && (again != bucket || okAgain != ok) {
				t.Errorf("%q for %s: %d, %v of its type, %d, %v of none", data, column.Type, bucket, ok, again, okAgain)
			}
		}
		checkInteger(t, data)
		if !bytes.Equal(before, data) {
			t.Errorf("%q became %q", before, data)
		}
	})
}

func checkInteger(t *testing.T, data []byte) {
	n, ok := parseInteger(data)
	want, parsed := new(big.Int).SetString(strings.Trim(string(data), " \t\n\v\f\r"), 10)
	if ok != (parsed && want.IsInt64()) || ok && want.Int64() != n {
		t.Errorf("%q: got %d, %v, want %v", data, n, ok, want)
	}
}

// FuzzNumeric compares numerics with big.Rat, and holds that the ways to write a number change nothing.
func FuzzNumeric(f *testing.F) {
	for _, text := range append(edges(Numeric), odd(Numeric)...) {
		if len(text) < 100 {
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		var n number
		if !n.read(Literal(Numeric, []byte(text))) || n.special {
			return
		}
		want, ok := new(big.Rat).SetString(string(trimSpace([]byte(text))))
		if !ok {
			t.Fatalf("%q: read as %v, but is no number", text, n)
		}
		if got := n.rat(); got.Cmp(want) != 0 {
			t.Fatalf("%q: got %s, want %s", text, got.RatString(), want.RatString())
		}
		if i, ok := n.integer(); ok != (want.IsInt() && want.Num().IsInt64()) || ok && want.Num().Int64() != i {
			t.Errorf("%q: as an integer it is %d, %v", text, i, ok)
		}
		if n.size > 0 && (n.digit(0) == 0 || n.digit(n.size-1) == 0) {
			t.Errorf("%q: zeros at an end of %v", text, n)
		}
	})
}

// rat is the number's value.
func (n *number) rat() *big.Rat {
	sum, base := new(big.Int), big.NewInt(numericBase)
	for i := range n.size {
		sum.Add(sum.Mul(sum, base), big.NewInt(int64(n.digit(i))))
	}
	if n.negative {
		sum.Neg(sum)
	}
	power := n.weight - n.size + 1
	scale := new(big.Int).Exp(base, big.NewInt(int64(max(power, -power))), nil)
	if power < 0 {
		return new(big.Rat).SetFrac(sum, scale)
	}
	return new(big.Rat).SetInt(sum.Mul(sum, scale))
}
