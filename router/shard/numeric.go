package shard

import (
	"encoding/binary"
	"math"
)

const (
	// numericBase is the base of a numeric's digits, baseDigits the decimal digits in each (numeric.c, NBASE and DEC_DIGITS).
	numericBase, baseDigits = 10000, 4
	// maxDecimals is the longest numeric that is read, in decimal digits, and the largest exponent: the largest precision that can be
	// declared (numeric.h, NUMERIC_MAX_PRECISION).
	maxDecimals = 1000
	// maxDigits is the same in base 10000: the first and the last digit may hold one decimal digit only.
	maxDigits = maxDecimals/baseDigits + 2
	// The signs of the binary format (numeric.c, NUMERIC_POS and so on).
	numericPositive, numericNegative     = 0x0000, 0x4000
	numericNaN, numericPInf, numericNInf = 0xC000, 0xD000, 0xF000
	// maxScale is the largest display scale (numeric.c, NUMERIC_DSCALE_MASK).
	maxScale = 0x3FFF
)

// number is a numeric in PostgreSQL's own digits, without zeros at either end. The zero value is 0.
type number struct {
	special  bool // NaN or infinite; nothing else counts then
	infinite bool
	negative bool
	weight   int // the power of 10000 of the first digit
	size     int // of digits; 0 if the number is 0
	// digits holds each digit in two bytes, the low one first: as a little-endian server has them in memory, for hashBytes.
	digits [2 * maxDigits]byte
}

// hashNumeric hashes a value for a column of numeric (numeric.c, hash_numeric_extended). The sign does not count there.
func hashNumeric(c *Column, v Value) (uint64, bool) {
	var n number
	if !n.read(v) || !n.keptBy(c.Modifier) {
		return 0, false
	}
	switch {
	case n.special:
		return hashSeed, true
	case n.size == 0:
		return hashSeed - 1, true
	}
	return hashBytes(n.digits[:2*n.size]) ^ uint64(int64(n.weight)), true
}

// read reads a value of numeric or of an integer type into a zero n.
func (n *number) read(v Value) bool {
	switch {
	case v.typ == Int2 || v.typ == Int4 || v.typ == Int8:
		i, ok := integer(v)
		n.setInteger(i)
		return ok
	case v.typ != Numeric:
		return false
	case v.format == TextFormat:
		return n.parse(trimSpace(v.data))
	case v.format == BinaryFormat:
		return n.receive(v.data)
	}
	return false
}

// keptBy reports whether a column stores n as it is, or refuses it: it rounds to its scale (numeric.c, apply_typmod).
func (n *number) keptBy(modifier int32) bool {
	switch {
	case modifier == NoModifier:
		return true
	case n.special:
		return !n.infinite
	}
	// numeric.c, numeric_typmod_scale: the lowest 11 bits, signed.
	scale := ((int(modifier)-modifierHeader)&0x7ff ^ 1024) - 1024
	return n.size == 0 || n.lastDecimal() >= -scale
}

// lastDecimal returns the power of 10 of the last decimal digit that is not 0. n is not 0.
func (n *number) lastDecimal() int {
	power := (n.weight - n.size + 1) * baseDigits
	for digit := n.digit(n.size - 1); digit%10 == 0; digit /= 10 {
		power++
	}
	return power
}

func (n *number) digit(i int) int { return int(binary.LittleEndian.Uint16(n.digits[2*i:])) }

// add appends a digit; there must be room.
func (n *number) add(digit int) {
	binary.LittleEndian.PutUint16(n.digits[2*n.size:], uint16(digit))
	n.size++
}

// strip takes the zeros off the end; whoever adds digits leaves those at the beginning out.
func (n *number) strip() {
	for n.size > 0 && n.digit(n.size-1) == 0 {
		n.size--
	}
}

func (n *number) setInteger(i int64) {
	magnitude := uint64(i)
	if i < 0 {
		n.negative, magnitude = true, -magnitude
	}
	unit := uint64(1)
	for magnitude/unit >= numericBase {
		unit *= numericBase
		n.weight++
	}
	for ; magnitude > 0 && unit > 0; unit /= numericBase {
		n.add(int(magnitude / unit % numericBase))
	}
	n.strip()
}

// integer returns n if it is a whole number that int64 holds.
func (n *number) integer() (int64, bool) {
	if n.special || n.size > 0 && n.lastDecimal() < 0 {
		return 0, false
	}
	// Counted below zero, where there is one number more.
	sum := int64(0)
	for i := 0; n.size > 0 && i <= n.weight; i++ {
		digit := int64(0)
		if i < n.size {
			digit = int64(n.digit(i))
		}
		if sum < math.MinInt64/numericBase || sum*numericBase < math.MinInt64+digit {
			return 0, false
		}
		sum = sum*numericBase - digit
	}
	if n.negative {
		return sum, true
	}
	return -sum, sum != math.MinInt64
}

// receive reads the binary format (numeric.c, numeric_recv).
func (n *number) receive(data []byte) bool {
	if len(data) < 8 {
		return false
	}
	size := int(binary.BigEndian.Uint16(data))
	weight := int(int16(binary.BigEndian.Uint16(data[2:])))
	sign := binary.BigEndian.Uint16(data[4:])
	scale := int(binary.BigEndian.Uint16(data[6:]))
	data = data[8:]
	if len(data) != 2*size || size > maxDigits || scale > maxScale {
		return false
	}
	n.weight = weight
	for ; len(data) > 0; data = data[2:] {
		digit := int(binary.BigEndian.Uint16(data))
		if digit >= numericBase {
			return false
		}
		if n.size == 0 && digit == 0 {
			n.weight--
			continue
		}
		n.add(digit)
	}
	n.strip()
	return n.setSign(sign) && (n.special || n.size == 0 || n.lastDecimal() >= -scale) // the server cuts off what the scale hides
}

func (n *number) setSign(sign uint16) bool {
	switch sign {
	case numericPositive:
	case numericNegative:
		n.negative = true
	case numericNaN:
		n.special = true
	case numericPInf, numericNInf:
		n.special, n.infinite, n.negative = true, true, sign == numericNInf
	default:
		return false
	}
	return true
}

// parse reads the text format without white space around: a sign, digits with a point, an exponent, or the name of a special value
// (numeric.c, numeric_in).
func (n *number) parse(data []byte) bool {
	if len(data) == 0 || len(data) > maxDecimals {
		return false
	}
	if equalFold(data, "nan") {
		n.special = true
		return true
	}
	if data[0] == '-' || data[0] == '+' {
		n.negative = data[0] == '-'
		data = data[1:]
	}
	if equalFold(data, "infinity") || equalFold(data, "inf") {
		n.special, n.infinite = true, true
		return true
	}
	mantissa, exponent, ok := splitExponent(data)
	return ok && n.setDecimals(mantissa, exponent)
}

// splitExponent cuts the exponent off, which is 0 where there is none.
func splitExponent(data []byte) (mantissa []byte, exponent int, ok bool) {
	for i, c := range data {
		if c != 'e' && c != 'E' {
			continue
		}
		written := data[i+1:]
		if len(written) == 0 || isSpace(written[0]) {
			return nil, 0, false
		}
		n, ok := parseInteger(written)
		return data[:i], int(n), ok && n >= -maxDecimals && n <= maxDecimals
	}
	return data, 0, true
}

// setDecimals sets n to a row of decimal digits with at most one point, times a power of 10.
func (n *number) setDecimals(mantissa []byte, exponent int) bool {
	point, count := -1, 0
	for i, c := range mantissa {
		switch {
		case isDigit(c):
			count++
		case c == '.' && point < 0:
			point = i
		default:
			return false
		}
	}
	if count == 0 {
		return false
	}
	if point < 0 {
		point = len(mantissa)
	}
	n.group(mantissa, point+exponent-1)
	return true
}

// group makes digits of decimal ones; power is the power of 10 of the first.
func (n *number) group(mantissa []byte, power int) {
	digit, started := 0, false
	for _, c := range mantissa {
		if c == '.' {
			continue
		}
		if !started && c != '0' {
			started = true
			n.weight = floorDivide(power, baseDigits)
		}
		if started {
			digit = digit*10 + int(c-'0')
			if power%baseDigits == 0 {
				n.add(digit)
				digit = 0
			}
		}
		power--
	}
	if digit > 0 {
		for ; (power+1)%baseDigits != 0; power-- {
			digit *= 10
		}
		n.add(digit)
	}
	n.strip()
}

func floorDivide(n, by int) int {
	if n < 0 {
		return (n+1)/by - 1
	}
	return n / by
}
