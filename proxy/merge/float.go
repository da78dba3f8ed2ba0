package merge

import (
	"encoding/binary"
	"math"
	"math/big"
	"strconv"
)

// readFloat reads a binary real or double precision; a real's value is exact.
func readFloat(raw []byte, size int) (float64, error) {
	switch {
	case size == 4 && len(raw) == 4:
		return float64(math.Float32frombits(binary.BigEndian.Uint32(raw))), nil
	case size == 8 && len(raw) == 8:
		return math.Float64frombits(binary.BigEndian.Uint64(raw)), nil
	}
	return 0, malformed("double precision")
}

// appendFloat adds a binary real or double precision.
func appendFloat(dst []byte, value float64, size int) []byte {
	if size == 4 {
		return binary.BigEndian.AppendUint32(dst, math.Float32bits(float32(value)))
	}
	return binary.BigEndian.AppendUint64(dst, math.Float64bits(value))
}

// nanBits is the NaN that servers make of its text (get_float8_nan, src/include/utils/float.h).
const nanBits = 0x7FF8 << 48

// parseFloat reads a real or double precision as servers write it.
func parseFloat(raw []byte, size int) (float64, error) {
	switch string(raw) {
	case "NaN":
		return math.Float64frombits(nanBits), nil
	case "Infinity":
		return math.Inf(1), nil
	case "-Infinity":
		return math.Inf(-1), nil
	}
	if len(raw) == 0 || raw[0] == '+' {
		return 0, malformed("double precision")
	}
	for _, c := range raw {
		// strconv takes more, such as hexadecimal and underscores.
		if (c < '0' || c > '9') && c != '.' && c != 'e' && c != '-' && c != '+' {
			return 0, malformed("double precision")
		}
	}
	value, err := strconv.ParseFloat(string(raw), size*8)
	if err != nil {
		return 0, malformed("double precision")
	}
	return value, nil
}

// Exponents from which on the shortest text has one: double_to_shortest_decimal_buf and float_to_shortest_decimal_buf print
// those of at least -4 and below these without (src/common/d2s.c, f2s.c).
const (
	fixedExponentMin   = -4
	fixedExponentMax64 = 15
	fixedExponentMax32 = 6
)

// appendFloatText adds the shortest text that reads back as the value, as PostgreSQL writes it with extra_float_digits of 1 to 3.
func appendFloatText(dst []byte, value float64, bits int) []byte {
	switch {
	case value != value:
		return append(dst, "NaN"...)
	case math.IsInf(value, 1):
		return append(dst, "Infinity"...)
	case math.IsInf(value, -1):
		return append(dst, "-Infinity"...)
	case value == 0 && math.Signbit(value):
		return append(dst, "-0"...)
	case value == 0:
		return append(dst, '0')
	}
	if value < 0 {
		dst, value = append(dst, '-'), -value
	}
	digits, exponent := shortest(value, bits)
	limit := fixedExponentMax64
	if bits == 32 {
		limit = fixedExponentMax32
	}
	if exponent < fixedExponentMin || exponent >= limit {
		return appendScientific(dst, digits, exponent)
	}
	return appendFixed(dst, digits, exponent)
}

// appendFixed adds d.ddd × 10^exponent without an exponent.
func appendFixed(dst, digits []byte, exponent int) []byte {
	if exponent < 0 {
		dst = append(dst, "0."...)
		for range -exponent - 1 {
			dst = append(dst, '0')
		}
		return append(dst, digits...)
	}
	for i := 0; i <= exponent || i < len(digits); i++ {
		if i == exponent+1 {
			dst = append(dst, '.')
		}
		if i < len(digits) {
			dst = append(dst, digits[i])
		} else {
			dst = append(dst, '0')
		}
	}
	return dst
}

// appendScientific adds d.ddde+xx, with two digits of exponent at least.
func appendScientific(dst, digits []byte, exponent int) []byte {
	dst = append(dst, digits[0])
	if len(digits) > 1 {
		dst = append(append(dst, '.'), digits[1:]...)
	}
	sign := byte('+')
	if exponent < 0 {
		sign, exponent = '-', -exponent
	}
	dst = append(dst, 'e', sign)
	if exponent < 10 {
		dst = append(dst, '0')
	}
	return strconv.AppendInt(dst, int64(exponent), 10)
}

// shortest returns the digits of value, a positive finite number, and the exponent of the first. PostgreSQL takes the shortest decimal
// that lies strictly between the midpoints to the neighbours, strconv one on a midpoint too where a reader would round it to even. Of the
// decimals of that length it takes the closest, of two equally close the even one.
func shortest(value float64, bits int) (digits []byte, exponent int) {
	var buffer [32]byte
	digits, exponent = scientific(strconv.AppendFloat(buffer[:0], value, 'e', -1, bits))
	if onMidpoint(digits, exponent, value, bits) {
		for length := len(digits); ; length++ {
			if digits, exponent = closest(value, bits, length); digits != nil {
				return digits, exponent
			}
		}
	}
	near, nearExponent := scientific(strconv.AppendFloat(buffer[:0], value, 'e', len(digits)-1, 64))
	if (nearExponent != exponent || string(near) != string(digits)) && within(near, nearExponent, value, bits) {
		return near, nearExponent
	}
	return digits, exponent
}

// scientific takes d.ddde±xx apart.
func scientific(text []byte) (digits []byte, exponent int) {
	for i, c := range text {
		if c == 'e' {
			exponent, _ = strconv.Atoi(string(text[i+1:]))
			break
		}
		if c != '.' {
			digits = append(digits, c)
		}
	}
	for len(digits) > 1 && digits[len(digits)-1] == '0' {
		digits = digits[:len(digits)-1]
	}
	return digits, exponent
}

// decimalRat is d.ddd × 10^exponent.
func decimalRat(digits []byte, exponent int) *big.Rat {
	number, _ := new(big.Int).SetString(string(digits), 10)
	exponent -= len(digits) - 1
	power := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(max(exponent, -exponent))), nil)
	if exponent < 0 {
		return new(big.Rat).SetFrac(number, power)
	}
	return new(big.Rat).SetInt(number.Mul(number, power))
}

// onMidpoint says whether what strconv makes of value is no decimal strictly between the midpoints to its neighbours.
func onMidpoint(digits []byte, exponent int, value float64, bits int) bool {
	if isOdd(value, bits) {
		return false // strconv takes no midpoint for it
	}
	// A midpoint of a normal number below these has more digits than the 17 and 9 that the shortest text may have.
	if bits == 64 && value >= 1e-300 && value < 1<<50 || bits == 32 && value >= 1e-37 && value < 1<<21 {
		return false
	}
	return !within(digits, exponent, value, bits)
}

// within says whether a decimal lies strictly between the midpoints to the neighbours of value.
func within(digits []byte, exponent int, value float64, bits int) bool {
	low, high := midpoints(value, bits)
	x := decimalRat(digits, exponent)
	return x.Cmp(low) > 0 && x.Cmp(high) < 0
}

// isOdd says whether the mantissa is odd.
func isOdd(value float64, bits int) bool {
	if bits == 32 {
		return math.Float32bits(float32(value))&1 == 1
	}
	return math.Float64bits(value)&1 == 1
}

// midpoints are halfway between value and its neighbours.
func midpoints(value float64, bits int) (low, high *big.Rat) {
	var below, above *big.Rat
	if bits == 32 {
		u := math.Float32bits(float32(value))
		below = new(big.Rat).SetFloat64(float64(math.Float32frombits(u - 1)))
		above = nextUp(value, float64(math.Float32frombits(u+1)), below)
	} else {
		u := math.Float64bits(value)
		below = new(big.Rat).SetFloat64(math.Float64frombits(u - 1))
		above = nextUp(value, math.Float64frombits(u+1), below)
	}
	exact, half := new(big.Rat).SetFloat64(value), big.NewRat(1, 2)
	return below.Add(below, exact).Mul(below, half), above.Add(above, exact).Mul(above, half)
}

// nextUp is the neighbour above, which for the greatest number is what would come if the exponent went on.
func nextUp(value, above float64, below *big.Rat) *big.Rat {
	if !math.IsInf(above, 0) {
		return new(big.Rat).SetFloat64(above)
	}
	exact := new(big.Rat).SetFloat64(value)
	return exact.Add(exact, new(big.Rat).Sub(exact, below))
}

// closest returns the decimal of length digits that lies strictly between the midpoints and closest to value, nil if none does.
func closest(value float64, bits, length int) ([]byte, int) {
	low, high := midpoints(value, bits)
	exact := new(big.Rat).SetFloat64(value)
	near, exponent := scientific(strconv.AppendFloat(nil, value, 'e', length-1, 64))
	for len(near) < length {
		near = append(near, '0')
	}
	unit := decimalRat([]byte{'1'}, exponent-length+1)
	var best []byte
	var bestDistance *big.Rat
	for _, step := range [3]int64{0, -1, 1} {
		number, _ := new(big.Int).SetString(string(near), 10)
		number.Add(number, big.NewInt(step))
		x := new(big.Rat).SetInt(number)
		x.Mul(x, unit)
		if number.Sign() <= 0 || x.Cmp(low) <= 0 || x.Cmp(high) >= 0 {
			continue
		}
		distance := new(big.Rat).Sub(x, exact)
		distance.Abs(distance)
		if best == nil || distance.Cmp(bestDistance) < 0 {
			best, bestDistance = []byte(number.String()), distance
		}
	}
	if best == nil {
		return nil, 0
	}
	exponent += len(best) - length
	for len(best) > 1 && best[len(best)-1] == '0' {
		best = best[:len(best)-1]
	}
	return best, exponent
}
