package merge

import (
	"math"
)

// state is what a function has seen of its group.
type state struct {
	seen     bool // anything that is not NULL; of First anything
	replaced bool // Min and Max: the row just added is the one
	number   int64
	count    int64 // of Avg
	float    float64
	interval interval
	decimal  *decimal
	value    []byte // of First, Min, Max and Beside: its own copy
	key      datum  // of Min and Max
	counted  int64  // bytes that growth has told
}

// reset makes the state new, and keeps its memory.
func (s *state) reset() { *s = state{value: s.value[:0]} }

// growth returns how many bytes the state has grown since the last call.
func (s *state) growth() int64 {
	size := int64(cap(s.value))
	if s.decimal != nil {
		size += decimalBytes + int64(s.decimal.unscaled.BitLen()/8)
	}
	grown := size - s.counted
	s.counted = size
	return grown
}

// decimalBytes is about what a decimal costs beside its digits.
const decimalBytes = 64

// own copies a value into memory of its own, buffer's if it fits; nil stays nil.
func own(buffer, value []byte) []byte {
	if value == nil {
		return nil
	}
	if buffer == nil {
		buffer = make([]byte, 0, len(value))
	}
	return append(buffer[:0], value...)
}

// adder adds the value of a row to a state; nil is NULL. Avg has the count in second. d is to decode into: a datum of the adder's own
// would be allocated for each value.
type adder func(s *state, value, second []byte, d *datum) error

// finisher adds the result in binary to dst, of a state that has seen something; nothing for NULL.
type finisher func(s *state, dst []byte) ([]byte, error)

func integerFinisher(size int) finisher {
	return func(s *state, dst []byte) ([]byte, error) { return appendInteger(dst, s.number, size), nil }
}

func boolFinisher(s *state, dst []byte) ([]byte, error) { return append(dst, byte(s.number)), nil }

func decimalFinisher(s *state, dst []byte) ([]byte, error) { return s.decimal.appendBinary(dst) }

func intervalFinisher(s *state, dst []byte) ([]byte, error) { return s.interval.appendBinary(dst), nil }

func floatFinisher(size int) finisher {
	return func(s *state, dst []byte) ([]byte, error) { return appendFloat(dst, s.float, size), nil }
}

// addFirst keeps the first value.
func addFirst(s *state, value, _ []byte, _ *datum) error {
	if !s.seen {
		s.seen, s.value = true, own(s.value, value)
	}
	return nil
}

// integersAdder adds bigints, as int8pl does.
func integersAdder(decode decoder) adder {
	return func(s *state, value, _ []byte, d *datum) error {
		if value == nil {
			return nil
		}
		if err := decode(value, d); err != nil {
			return err
		}
		sum := s.number + d.number
		if s.number < 0 == (d.number < 0) && sum < 0 != (d.number < 0) {
			return outOfRange("bigint")
		}
		s.seen, s.number = true, sum
		return nil
	}
}

// decimalsAdder adds numerics, or integers as numerics.
func decimalsAdder(oid uint32, format int16) adder {
	return func(s *state, value, _ []byte, _ *datum) error {
		if value == nil {
			return nil
		}
		next, err := readDecimal(value, oid, format)
		if err != nil {
			return err
		}
		if !s.seen {
			s.seen, s.decimal = true, next
			return nil
		}
		s.decimal.add(next)
		return nil
	}
}

// floatsAdder adds as float8_pl and float4_pl do (src/include/utils/float.h). The state of an average begins at 0, that of a sum
// at the first value, which matters for -0.
func floatsAdder(decode decoder, size int, fromZero bool) adder {
	return func(s *state, value, _ []byte, d *datum) error {
		if value == nil {
			return nil
		}
		if err := decode(value, d); err != nil {
			return err
		}
		if !s.seen && !fromZero {
			s.seen, s.float = true, d.float
			return nil
		}
		s.seen = true
		sum := s.float + d.float
		if size == 4 {
			sum = float64(float32(s.float) + float32(d.float))
		}
		if math.IsInf(sum, 0) && !math.IsInf(s.float, 0) && !math.IsInf(d.float, 0) {
			return floatOverflow()
		}
		s.float = sum
		return nil
	}
}

// addInterval adds intervals in binary.
func addInterval(s *state, value, _ []byte, _ *datum) error {
	if value == nil {
		return nil
	}
	next, err := readInterval(value)
	if err != nil {
		return err
	}
	if !s.seen {
		s.seen, s.interval = true, next
		return nil
	}
	s.interval, err = s.interval.add(next)
	return err
}

// floatAveragesAdder adds the sums of an average. PostgreSQL's avg carries the sum of squared deviations along and fails where that
// overflows (float8_combine, src/backend/utils/adt/float.c), so the part of it that comes from the shards' different means is looked at too.
func floatAveragesAdder(decode, counts decoder) adder {
	add := floatsAdder(decode, 8, true)
	return func(s *state, value, second []byte, d *datum) error {
		if value == nil {
			return nil
		}
		if err := counts(second, d); err != nil {
			return err
		}
		before, count := float64(s.count-d.number), float64(d.number)
		if err := decode(value, d); err != nil {
			return err
		}
		if before > 0 && !math.IsInf(s.float, 0) && !math.IsInf(d.float, 0) {
			apart := s.float/before - d.float/count
			if math.IsInf(before*count*apart*apart/(before+count), 0) {
				return floatOverflow()
			}
		}
		return add(s, value, nil, d)
	}
}

// averageAdder adds the sum with sum, behind the count in second.
func averageAdder(sum adder, decode decoder) adder {
	return func(s *state, value, second []byte, d *datum) error {
		if second == nil {
			return malformed("bigint")
		}
		if err := decode(second, d); err != nil {
			return err
		}
		if d.number < 0 || (d.number == 0) != (value == nil) {
			return internal("a sum and its count do not fit")
		}
		if s.count += d.number; s.count < 0 {
			return outOfRange("bigint")
		}
		return sum(s, value, second, d)
	}
}

// decimalAverage is numeric_avg and int8_avg.
func decimalAverage(s *state, dst []byte) ([]byte, error) {
	if s.count == 0 {
		return dst, nil
	}
	return s.decimal.divide(s.count).appendBinary(dst)
}

// floatAverage is float8_avg.
func floatAverage(s *state, dst []byte) ([]byte, error) {
	if s.count == 0 {
		return dst, nil
	}
	return appendFloat(dst, s.float/float64(s.count), 8), nil
}

// intervalAverage is interval_avg.
func intervalAverage(s *state, dst []byte) ([]byte, error) {
	if s.count == 0 {
		return dst, nil
	}
	result, err := s.interval.divide(s.count)
	return result.appendBinary(dst), err
}

// extremeAdder keeps the smallest value (sign -1) or the greatest (sign 1). Of equal ones that look different PostgreSQL keeps the
// last (numeric_larger, interval_larger …), of type character the first (bpchar_larger).
func extremeAdder(decode decoder, compare class, sign int, first bool) adder {
	return func(s *state, value, _ []byte, d *datum) error {
		s.replaced = false
		if value == nil {
			return nil
		}
		if err := decode(value, d); err != nil {
			return err
		}
		if s.seen {
			order := compare.compare(&s.key, d) * sign
			if order > 0 || order == 0 && first {
				return nil
			}
		}
		s.seen, s.replaced, s.value = true, true, own(s.value, value)
		return decode(s.value, &s.key)
	}
}

// bitsAdder combines integers and booleans.
func bitsAdder(decode decoder, combine func(a, b int64) int64) adder {
	return func(s *state, value, _ []byte, d *datum) error {
		if value == nil {
			return nil
		}
		if err := decode(value, d); err != nil {
			return err
		}
		if !s.seen {
			s.seen, s.number = true, d.number
			return nil
		}
		s.number = combine(s.number, d.number)
		return nil
	}
}

func bitAnd(a, b int64) int64 { return a & b }
func bitOr(a, b int64) int64  { return a | b }
func bitXor(a, b int64) int64 { return a ^ b }
