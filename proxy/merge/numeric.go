package merge

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math/big"
	"strconv"

	"pgtier/proxy/wire"
)

// Ranks of numerics in their order (cmp_numerics, src/backend/utils/adt/numeric.c): NaN is equal to itself and above all.
const (
	numericMinusInfinity = iota + 1 // 0 is no special value in decimal
	numericNegative
	numericZero
	numericPositive
	numericInfinity
	numericNaN
)

// What numeric_send writes as sign, and of infinities as scale (src/backend/utils/adt/numeric.c: NUMERIC_POS …; the scale is
// what NUMERIC_DSCALE makes of the header of an infinity).
const (
	signPositive         = 0x0000
	signNegative         = 0x4000
	signNaN              = 0xC000
	signInfinity         = 0xD000
	signMinusInfinity    = 0xF000
	infinityScale        = 0x20
	numericHeader        = 8      // bytes before the digits
	numericDigits        = 4      // DEC_DIGITS: decimal digits of one digit of base 10,000
	numericBase          = 10000  // NBASE
	numericMaxScale      = 0x3FFF // NUMERIC_DSCALE_MASK
	numericMaxWeight     = 32767  // NUMERIC_WEIGHT_MAX
	minSignificantDigits = 16     // NUMERIC_MIN_SIG_DIGITS
	maxDisplayScale      = 1000   // NUMERIC_MAX_DISPLAY_SCALE
)

// compareNumerics orders two numerics decoded from the same format.
func compareNumerics(a, b *datum) int {
	if a.number != b.number {
		return cmp.Compare(a.number, b.number)
	}
	if a.number != numericPositive && a.number != numericNegative {
		return 0
	}
	order := cmp.Compare(a.second, b.second)
	if order == 0 {
		order = bytes.Compare(a.bytes, b.bytes) // digits go on without trailing zeros, so a prefix is smaller
	}
	if a.number == numericNegative {
		return -order
	}
	return order
}

// decodeNumeric reads the binary format: the digits of base 10,000 without zeros at either end, and the weight of the first.
func decodeNumeric(raw []byte, d *datum) error {
	n, err := readNumeric(raw)
	if err != nil {
		return err
	}
	d.number, d.second, d.bytes = n.rank, 0, nil
	if n.rank != numericPositive && n.rank != numericNegative {
		return nil
	}
	digits, weight := n.digits, n.weight
	for len(digits) > 0 && digits[0] == 0 && digits[1] == 0 {
		digits, weight = digits[2:], weight-1
	}
	for len(digits) > 0 && digits[len(digits)-1] == 0 && digits[len(digits)-2] == 0 {
		digits = digits[:len(digits)-2]
	}
	if len(digits) == 0 {
		d.number = numericZero
		return nil
	}
	d.second, d.bytes = int64(weight), digits
	return nil
}

// wireNumeric is a numeric in the binary format, checked.
type wireNumeric struct {
	rank          int64 // numericPositive for zero too
	weight, scale int
	digits        []byte // two bytes each
}

func readNumeric(raw []byte) (wireNumeric, error) {
	if len(raw) < numericHeader || len(raw) != numericHeader+2*int(binary.BigEndian.Uint16(raw)) {
		return wireNumeric{}, malformed("numeric")
	}
	n := wireNumeric{weight: int(int16(binary.BigEndian.Uint16(raw[2:]))), scale: int(binary.BigEndian.Uint16(raw[6:])), digits: raw[numericHeader:]}
	switch binary.BigEndian.Uint16(raw[4:]) {
	case signPositive:
		n.rank = numericPositive
	case signNegative:
		n.rank = numericNegative
	case signNaN:
		n.rank = numericNaN
	case signInfinity:
		n.rank = numericInfinity
	case signMinusInfinity:
		n.rank = numericMinusInfinity
	default:
		return wireNumeric{}, malformed("numeric")
	}
	if n.scale > numericMaxScale {
		return wireNumeric{}, malformed("numeric")
	}
	for i := 0; i < len(n.digits); i += 2 {
		if binary.BigEndian.Uint16(n.digits[i:]) >= numericBase {
			return wireNumeric{}, malformed("numeric")
		}
	}
	return n, nil
}

// decodeNumericText reads the text format: the digits with their point but without zeros at either end, and how many stand before the point.
func decodeNumericText(raw []byte, d *datum) error {
	d.second, d.bytes = 0, nil
	switch string(raw) {
	case "NaN":
		d.number = numericNaN
		return nil
	case "Infinity":
		d.number = numericInfinity
		return nil
	case "-Infinity":
		d.number = numericMinusInfinity
		return nil
	}
	negative, digits, point, ok := plainDecimal(raw)
	if !ok {
		return malformed("numeric")
	}
	start, end := 0, len(digits)
	for start < point && digits[start] == '0' {
		start++
	}
	for end > point && (digits[end-1] == '0' || digits[end-1] == '.') {
		end--
	}
	d.number = numericPositive
	switch {
	case start == end:
		d.number = numericZero
		return nil
	case negative:
		d.number = numericNegative
	}
	d.second, d.bytes = int64(point-start), digits[start:end]
	return nil
}

// plainDecimal checks that raw is [-]ddd[.ddd] and returns what stands behind the sign, and where the point is in it or would be.
func plainDecimal(raw []byte) (negative bool, digits []byte, point int, ok bool) {
	if len(raw) > 0 && raw[0] == '-' {
		negative, raw = true, raw[1:]
	}
	point = len(raw)
	for i, c := range raw {
		switch {
		case c == '.' && point == len(raw) && i > 0 && i < len(raw)-1:
			point = i
		case c < '0' || c > '9':
			return false, nil, 0, false
		}
	}
	return negative, raw, point, len(raw) > 0 && len(raw) <= numericMaxWeight*numericDigits+2*numericMaxScale
}

// decimal is a numeric to calculate with: unscaled × 10^-scale, where scale is the display scale, or a special value.
type decimal struct {
	special  int64 // numericNaN, numericInfinity, numericMinusInfinity; 0 for a number
	unscaled big.Int
	scale    int
}

// readDecimal reads a numeric or an integer in a format.
func readDecimal(raw []byte, oid uint32, format int16) (*decimal, error) {
	if size := integerSize(oid); size > 0 {
		number, ok := readInteger(raw, size)
		if format == formatText {
			number, ok = parseInteger(raw, size*8)
		}
		if !ok {
			return nil, malformed("integer")
		}
		out := &decimal{}
		out.unscaled.SetInt64(number)
		return out, nil
	}
	if format == formatText {
		return parseDecimal(raw)
	}
	n, err := readNumeric(raw)
	if err != nil {
		return nil, err
	}
	if n.rank != numericPositive && n.rank != numericNegative {
		return &decimal{special: n.rank}, nil
	}
	return n.decimal()
}

// chunkDigits is how many digits of base 10,000 are taken at once: what fits into 64 bits.
const chunkDigits = 4

func (n *wireNumeric) decimal() (*decimal, error) {
	out := &decimal{scale: n.scale}
	var factor, part big.Int
	for digits := n.digits; len(digits) > 0; {
		take := min(len(digits), 2*chunkDigits)
		power, chunk := uint64(1), uint64(0)
		for i := 0; i < take; i += 2 {
			power, chunk = power*numericBase, chunk*numericBase+uint64(binary.BigEndian.Uint16(digits[i:]))
		}
		out.unscaled.Mul(&out.unscaled, factor.SetUint64(power))
		out.unscaled.Add(&out.unscaled, part.SetUint64(chunk))
		digits = digits[take:]
	}
	// The last digit has the weight 10,000^(weight-count+1).
	shift := (n.weight-len(n.digits)/2+1)*numericDigits + n.scale
	if shift < 0 {
		var rest big.Int
		out.unscaled.QuoRem(&out.unscaled, powerOfTen(-shift), &rest)
		if rest.Sign() != 0 {
			return nil, malformed("numeric") // digits that the scale hides: no server sends them
		}
	} else if out.unscaled.Sign() != 0 {
		out.unscaled.Mul(&out.unscaled, powerOfTen(shift))
	}
	if n.rank == numericNegative {
		out.unscaled.Neg(&out.unscaled)
	}
	return out, nil
}

// parseDecimal reads a numeric's text.
func parseDecimal(raw []byte) (*decimal, error) {
	var d datum
	if err := decodeNumericText(raw, &d); err != nil {
		return nil, err
	}
	switch d.number {
	case numericNaN, numericInfinity, numericMinusInfinity:
		return &decimal{special: d.number}, nil
	}
	_, digits, point, _ := plainDecimal(raw)
	out := &decimal{scale: max(len(digits)-point-1, 0)}
	if out.scale > numericMaxScale {
		return nil, malformed("numeric")
	}
	text := append(append(make([]byte, 0, len(digits)), digits[:point]...), digits[min(point+1, len(digits)):]...)
	if _, ok := out.unscaled.SetString(string(text), 10); !ok {
		return nil, malformed("numeric")
	}
	if d.number == numericNegative {
		out.unscaled.Neg(&out.unscaled)
	}
	return out, nil
}

func powerOfTen(exponent int) *big.Int {
	if exponent <= 18 {
		power := int64(1)
		for range exponent {
			power *= 10
		}
		return big.NewInt(power)
	}
	return new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(exponent)), nil)
}

// add adds b to a, as sum(numeric) does: the scale is the greatest of all (accum_sum_add), NaN wins, and infinities of both signs make NaN.
func (a *decimal) add(b *decimal) {
	if a.special != 0 || b.special != 0 {
		switch {
		case a.special == 0:
			a.special = b.special
		case b.special != 0 && a.special != b.special:
			a.special = numericNaN
		}
		return
	}
	switch {
	case a.scale < b.scale:
		a.unscaled.Mul(&a.unscaled, powerOfTen(b.scale-a.scale))
		a.scale = b.scale
		a.unscaled.Add(&a.unscaled, &b.unscaled)
	case a.scale > b.scale:
		var aligned big.Int
		aligned.Mul(&b.unscaled, powerOfTen(a.scale-b.scale))
		a.unscaled.Add(&a.unscaled, &aligned)
	default:
		a.unscaled.Add(&a.unscaled, &b.unscaled)
	}
}

// compare orders by value.
func (a *decimal) compare(b *decimal) int {
	if a.special != 0 || b.special != 0 {
		return cmp.Compare(a.rank(), b.rank())
	}
	x, y := &a.unscaled, &b.unscaled
	switch {
	case a.scale < b.scale:
		x = new(big.Int).Mul(x, powerOfTen(b.scale-a.scale))
	case a.scale > b.scale:
		y = new(big.Int).Mul(y, powerOfTen(a.scale-b.scale))
	}
	return x.Cmp(y)
}

// rank is the special value's, or one for all numbers.
func (a *decimal) rank() int64 {
	if a.special != 0 {
		return a.special
	}
	if a.unscaled.Sign() == 0 {
		return numericZero
	}
	return numericPositive
}

// leading returns the weight and the first digit of base 10,000, zeros for zero.
func (a *decimal) leading() (weight, digit int) {
	if a.unscaled.Sign() == 0 {
		return 0, 0
	}
	var magnitude big.Int
	text := magnitude.Abs(&a.unscaled).Append(nil, 10)
	exponent := len(text) - 1 - a.scale // of the first decimal digit
	weight = exponent / numericDigits
	if exponent < 0 && exponent%numericDigits != 0 {
		weight--
	}
	for i := range exponent - weight*numericDigits + 1 {
		digit *= 10
		if i < len(text) {
			digit += int(text[i] - '0')
		}
	}
	return weight, digit
}

// divisionScale is select_div_scale (src/backend/utils/adt/numeric.c): the display scale of a quotient.
func divisionScale(a, b *decimal) int {
	weightA, digitA := a.leading()
	weightB, digitB := b.leading()
	weight := weightA - weightB
	if digitA <= digitB {
		weight--
	}
	scale := minSignificantDigits - weight*numericDigits
	return min(max(scale, a.scale, b.scale, 0), maxDisplayScale)
}

// divide returns a divided by count, which is positive, as numeric_div does: rounded half away from zero.
func (a *decimal) divide(count int64) *decimal {
	if a.special != 0 {
		return &decimal{special: a.special}
	}
	divisor := &decimal{}
	divisor.unscaled.SetInt64(count)
	out := &decimal{scale: divisionScale(a, divisor)}
	var numerator, denominator big.Int
	numerator.Abs(&a.unscaled)
	denominator.Set(&divisor.unscaled)
	if shift := out.scale - a.scale; shift >= 0 {
		numerator.Mul(&numerator, powerOfTen(shift))
	} else {
		denominator.Mul(&denominator, powerOfTen(-shift))
	}
	numerator.Lsh(&numerator, 1).Add(&numerator, &denominator)
	out.unscaled.Quo(&numerator, denominator.Lsh(&denominator, 1))
	if a.unscaled.Sign() < 0 {
		out.unscaled.Neg(&out.unscaled)
	}
	return out
}

// appendBinary adds the binary format as numeric_send writes it.
func (a *decimal) appendBinary(dst []byte) ([]byte, error) {
	switch a.special {
	case numericNaN:
		return appendNumericHeader(dst, 0, 0, signNaN, 0), nil
	case numericInfinity:
		return appendNumericHeader(dst, 0, 0, signInfinity, infinityScale), nil
	case numericMinusInfinity:
		return appendNumericHeader(dst, 0, 0, signMinusInfinity, infinityScale), nil
	}
	if a.unscaled.Sign() == 0 {
		return appendNumericHeader(dst, 0, 0, signPositive, a.scale), nil
	}
	pad := (numericDigits - a.scale%numericDigits) % numericDigits
	var magnitude big.Int
	magnitude.Abs(&a.unscaled)
	text := magnitude.Append(nil, 10)
	for range pad {
		text = append(text, '0')
	}
	head := len(text) % numericDigits // decimal digits of the first digit, 0 for all four
	count := (len(text) + numericDigits - 1) / numericDigits
	weight := count - 1 - (a.scale+pad)/numericDigits
	if weight > numericMaxWeight {
		return dst, wire.NewError(codeNumericOutOfRange, "value overflows numeric format", "")
	}
	digits := make([]uint16, 0, count)
	for at := 0; at < len(text); {
		take := numericDigits
		if at == 0 && head != 0 {
			take = head
		}
		number, err := strconv.ParseUint(string(text[at:at+take]), 10, 16)
		if err != nil {
			return dst, err
		}
		digits, at = append(digits, uint16(number)), at+take
	}
	for len(digits) > 0 && digits[len(digits)-1] == 0 {
		digits = digits[:len(digits)-1]
	}
	sign := signPositive
	if a.unscaled.Sign() < 0 {
		sign = signNegative
	}
	dst = appendNumericHeader(dst, len(digits), weight, sign, a.scale)
	for _, digit := range digits {
		dst = binary.BigEndian.AppendUint16(dst, digit)
	}
	return dst, nil
}

func appendNumericHeader(dst []byte, digits, weight, sign, scale int) []byte {
	for _, field := range [4]int{digits, weight, sign, scale} {
		dst = binary.BigEndian.AppendUint16(dst, uint16(field))
	}
	return dst
}

// appendText adds the text format.
func (a *decimal) appendText(dst []byte) []byte {
	switch a.special {
	case numericNaN:
		return append(dst, "NaN"...)
	case numericInfinity:
		return append(dst, "Infinity"...)
	case numericMinusInfinity:
		return append(dst, "-Infinity"...)
	}
	if a.unscaled.Sign() < 0 {
		dst = append(dst, '-')
	}
	var magnitude big.Int
	text := magnitude.Abs(&a.unscaled).Append(nil, 10)
	if missing := a.scale + 1 - len(text); missing > 0 {
		text = append(bytes.Repeat([]byte{'0'}, missing), text...)
	}
	dst = append(dst, text[:len(text)-a.scale]...)
	if a.scale > 0 {
		dst = append(append(dst, '.'), text[len(text)-a.scale:]...)
	}
	return dst
}

func numericToText(dst, raw []byte, _ *Settings) ([]byte, error) {
	value, err := readDecimal(raw, oidNumeric, formatBinary)
	if err != nil {
		return dst, err
	}
	return value.appendText(dst), nil
}

func numericToBinary(dst, raw []byte, _ *Settings) ([]byte, error) {
	value, err := parseDecimal(raw)
	if err != nil {
		return dst, err
	}
	return value.appendBinary(dst)
}
