package merge

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
)

// datum is a value made ready for comparisons. Which fields count says its type's class.
type datum struct {
	null bool
	// number is an integer; of a numeric its rank (numericMinusInfinity …), of an interval its days.
	number int64
	// second is the exponent of a numeric, or the microseconds of an interval within its day.
	second int64
	float  float64
	// bytes is what compares bytewise, the digits of a numeric. It aliases the row.
	bytes []byte
}

// class is how the values of a type compare.
type class uint8

const (
	classNumber  class = iota // by number
	classFloat                // by float as float8_cmp_internal does: NaN is equal to itself and above all
	classBytes                // by bytes
	classPair                 // by number, then second
	classNumeric              // as cmp_numerics does; datums of the same format only
)

// compare returns the order of two values that are not NULL.
func (c class) compare(a, b *datum) int {
	switch c {
	case classNumber:
		return cmp.Compare(a.number, b.number)
	case classFloat:
		return compareFloats(a.float, b.float)
	case classBytes:
		return bytes.Compare(a.bytes, b.bytes)
	case classPair:
		if order := cmp.Compare(a.number, b.number); order != 0 {
			return order
		}
		return cmp.Compare(a.second, b.second)
	default:
		return compareNumerics(a, b)
	}
}

// compareFloats is float8_cmp_internal (src/include/utils/float.h): NaN above all, -0 equal to 0.
func compareFloats(a, b float64) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	case a == b:
		return 0
	case a != a && b != b:
		return 0
	case a != a:
		return 1
	default:
		return -1
	}
}

// appendKey adds bytes that are equal for equal values and for no others, of the same class and format. They end
// themselves, so that keys of several values can follow each other.
func (c class) appendKey(dst []byte, d *datum) []byte {
	if d.null {
		return append(dst, 0)
	}
	dst = append(dst, 1)
	switch c {
	case classNumber:
		return binary.BigEndian.AppendUint64(dst, uint64(d.number))
	case classFloat:
		float := d.float
		switch {
		case float == 0:
			float = 0 // -0 too
		case float != float:
			float = math.NaN()
		}
		return binary.BigEndian.AppendUint64(dst, math.Float64bits(float))
	case classPair:
		dst = binary.BigEndian.AppendUint64(dst, uint64(d.number))
		return binary.BigEndian.AppendUint64(dst, uint64(d.second))
	case classNumeric:
		dst = append(dst, byte(d.number))
		dst = binary.BigEndian.AppendUint32(dst, uint32(d.second))
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(d.bytes)))
	return append(dst, d.bytes...)
}

// keep makes d own its bytes, in buffer, which it returns for the next time.
func (d *datum) keep(buffer []byte) []byte {
	if d.bytes == nil {
		return buffer
	}
	buffer = append(buffer[:0], d.bytes...)
	d.bytes = buffer
	return buffer
}
