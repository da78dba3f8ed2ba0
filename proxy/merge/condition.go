package merge

import (
	"math"
	"strconv"
	"strings"
)

// truth is a value of SQL's three-valued logic. Its order makes AND the least and OR the greatest of its parts.
type truth uint8

const (
	isFalse truth = iota
	isUnknown
	isTrue
)

func truthOf(b bool) truth {
	if b {
		return isTrue
	}
	return isFalse
}

// predicate is a Condition over the outputs of a group.
type predicate func(values [][]byte) (truth, error)

// maxDepth bounds how deep conditions are nested, as the stack of a server bounds it.
const maxDepth = 1000

// condition checks a Condition and makes a predicate of it.
func (c *checker) condition(cond *Condition, depth int) (predicate, error) {
	if cond == nil || depth > maxDepth {
		return nil, internal("condition")
	}
	switch cond.Kind {
	case And, Or, Not:
		parts := make([]predicate, 0, len(cond.Args))
		for _, arg := range cond.Args {
			part, err := c.condition(arg, depth+1)
			if err != nil {
				return nil, err
			}
			parts = append(parts, part)
		}
		return connect(cond.Kind, parts)
	case IsNull:
		side, err := c.operand(cond.Left)
		if err != nil {
			return nil, err
		}
		return func(values [][]byte) (truth, error) { return truthOf(side.value(values) == nil), nil }, nil
	case IsTrue:
		return c.boolean(cond)
	case Compare:
		return c.comparison(cond)
	}
	return nil, internal("condition")
}

// connect joins predicates. All parts are evaluated, so that a malformed value is found wherever it stands.
func connect(kind ConditionKind, parts []predicate) (predicate, error) {
	if kind == Not {
		if len(parts) != 1 {
			return nil, internal("condition")
		}
		return func(values [][]byte) (truth, error) {
			result, err := parts[0](values)
			return isTrue - result, err
		}, nil
	}
	return func(values [][]byte) (truth, error) {
		result := truthOf(kind == And)
		for _, part := range parts {
			one, err := part(values)
			if err != nil {
				return isUnknown, err
			}
			if kind == And {
				result = min(result, one)
			} else {
				result = max(result, one)
			}
		}
		return result, nil
	}, nil
}

// side is an operand: an output, or a constant in raw (nil for NULL).
type side struct {
	output   int
	constant bool
	raw      []byte
	field    Field // of a quoted literal's type 0 until it is known
}

// value returns the side's value in a row.
func (s *side) value(values [][]byte) []byte {
	if s.constant {
		return s.raw
	}
	return values[s.output]
}

func (c *checker) operand(o Operand) (side, error) {
	if !o.Constant {
		if o.Index < 0 || o.Index >= len(c.m.outputs) {
			return side{}, internal("operand %d", o.Index)
		}
		return side{output: o.Index, field: c.m.outputs[o.Index].field}, nil
	}
	if o.Index < 0 || o.Index >= len(c.spec.Constants) {
		return side{}, internal("constant %d", o.Index)
	}
	constant := c.spec.Constants[o.Index]
	s := side{constant: true, field: Field{constant.Type, constant.Format}}
	if s.field.OID == oidUnknown {
		s.field.OID = 0
	}
	if !constant.Null {
		s.raw = own(nil, constant.Value)
		if s.raw == nil {
			s.raw = []byte{}
		}
	}
	return s, nil
}

// boolean is a predicate that is an operand by itself.
func (c *checker) boolean(cond *Condition) (predicate, error) {
	s, err := c.operand(cond.Left)
	if err != nil {
		return nil, err
	}
	if s.field.OID != oidBool {
		return nil, refuse("HAVING of type "+typeName(s.field.OID), "", hintRefused)
	}
	decode := kindBool.in(s.field.Format).decode
	return func(values [][]byte) (truth, error) {
		raw := s.value(values)
		if raw == nil {
			return isUnknown, nil
		}
		var d datum
		err := decode(raw, &d)
		return truthOf(d.number == 1), err
	}, nil
}

// comparison is a predicate that compares two operands, if their types compare here as on a server.
func (c *checker) comparison(cond *Condition) (predicate, error) {
	left, err := c.operand(cond.Left)
	if err != nil {
		return nil, err
	}
	right, err := c.operand(cond.Right)
	if err != nil {
		return nil, err
	}
	// A quoted literal, and a NULL without a type, take the type of the other side.
	if left.field.OID == 0 {
		left.field.OID = right.field.OID
	}
	if right.field.OID == 0 {
		right.field.OID = left.field.OID
	}
	accept, err := accepts(cond.Operator)
	if err != nil {
		return nil, err
	}
	compare, err := c.comparer(&left, &right, cond)
	if err != nil {
		return nil, err
	}
	return func(values [][]byte) (truth, error) {
		a, b := left.value(values), right.value(values)
		if a == nil || b == nil {
			return isUnknown, nil
		}
		order, err := compare(a, b)
		return truthOf(accept(order)), err
	}, nil
}

// accepts says which orders make a comparison true.
func accepts(operator Operator) (func(order int) bool, error) {
	switch operator {
	case Equal:
		return func(order int) bool { return order == 0 }, nil
	case NotEqual:
		return func(order int) bool { return order != 0 }, nil
	case Less:
		return func(order int) bool { return order < 0 }, nil
	case LessOrEqual:
		return func(order int) bool { return order <= 0 }, nil
	case Greater:
		return func(order int) bool { return order > 0 }, nil
	case GreaterOrEqual:
		return func(order int) bool { return order >= 0 }, nil
	}
	return nil, internal("operator %d", operator)
}

// comparer compares two raw values that are not NULL.
type comparer func(a, b []byte) (int, error)

// comparer finds how two sides compare: numbers of all types with each other, else values of one type.
func (c *checker) comparer(left, right *side, cond *Condition) (comparer, error) {
	kindLeft, err := c.readable(c.readAs(left), false, "HAVING")
	if err != nil {
		return nil, err
	}
	if _, err := c.readable(c.readAs(right), false, "HAVING"); err != nil {
		return nil, err
	}
	rank := max(numberRank(left.field.OID), numberRank(right.field.OID))
	if numberRank(left.field.OID) > 0 && numberRank(right.field.OID) > 0 {
		return numberComparer(left, right, rank)
	}
	if left.field.OID != right.field.OID && !bothPlainText(left.field.OID, right.field.OID) {
		return nil, refuse("HAVING with a comparison of "+typeName(left.field.OID)+" and "+typeName(right.field.OID), "", "Cast one to the type of the other.")
	}
	if kindLeft.collated {
		if err := checkCollation(cond.Collation, cond.Operator != Equal && cond.Operator != NotEqual, "HAVING of type "+kindLeft.name); err != nil {
			return nil, err
		}
	}
	return c.sameComparer(left, right, kindLeft)
}

// readAs is how a side will be read: a constant in text, whose forms are checked when it is read, does not depend on settings.
func (c *checker) readAs(s *side) Field {
	if s.constant {
		return Field{s.field.OID, formatBinary}
	}
	return s.field
}

func bothPlainText(a, b uint32) bool {
	return (a == oidText || a == oidVarchar) && (b == oidText || b == oidVarchar)
}

// numberRank orders the types of numbers by which of two both are taken as: integers, numeric, floats; 0 for others.
func numberRank(oid uint32) int {
	switch oid {
	case oidInt2, oidInt4, oidInt8:
		return 1
	case oidNumeric:
		return 2
	case oidFloat4, oidFloat8:
		return 3
	}
	return 0
}

// numberComparer compares as the operators of the greater rank do.
func numberComparer(left, right *side, rank int) (comparer, error) {
	if rank == 3 {
		return preparedComparer(left, right, floatOf, compareFloats)
	}
	return preparedComparer(left, right, decimalOf, (*decimal).compare)
}

// preparedComparer reads constants once.
func preparedComparer[T any](left, right *side, read func(raw []byte, field Field) (T, error), compare func(a, b T) int) (comparer, error) {
	reader := func(s *side) (func(raw []byte) (T, error), error) {
		if !s.constant || s.raw == nil {
			return func(raw []byte) (T, error) { return read(raw, s.field) }, nil
		}
		raw := s.raw
		if s.field.OID == oidNumeric && s.field.Format == formatText {
			raw = plainNumeric(raw)
		}
		value, err := read(raw, s.field)
		if err != nil {
			return nil, unreadable(s.field.OID)
		}
		return func([]byte) (T, error) { return value, nil }, nil
	}
	readLeft, err := reader(left)
	if err != nil {
		return nil, err
	}
	readRight, err := reader(right)
	if err != nil {
		return nil, err
	}
	return func(a, b []byte) (int, error) {
		x, err := readLeft(a)
		if err != nil {
			return 0, err
		}
		y, err := readRight(b)
		if err != nil {
			return 0, err
		}
		return compare(x, y), nil
	}, nil
}

// unreadable is the error of a constant in a form that is not read here, though a server might.
func unreadable(oid uint32) error {
	return refuse("HAVING with this constant of type "+typeName(oid), "", "Write it in its plain form.")
}

// decimalOf takes an integer or a numeric as numeric.
func decimalOf(raw []byte, field Field) (*decimal, error) {
	return readDecimal(raw, field.OID, field.Format)
}

// floatOf takes a number as double precision, rounding to nearest as int8_float8 and numeric_float8 do.
func floatOf(raw []byte, field Field) (float64, error) {
	k := kindOf(field.OID)
	if k.class != classNumeric {
		var d datum
		if err := k.in(field.Format).decode(raw, &d); err != nil {
			return 0, err
		}
		if k.class == classFloat {
			return d.float, nil
		}
		return float64(d.number), nil
	}
	value, err := readDecimal(raw, field.OID, field.Format)
	if err != nil {
		return 0, err
	}
	switch value.special {
	case numericNaN:
		return math.NaN(), nil
	case numericInfinity:
		return math.Inf(1), nil
	case numericMinusInfinity:
		return math.Inf(-1), nil
	}
	out, err := parseFloat(value.appendText(nil), 8)
	if err != nil || out == 0 && value.unscaled.Sign() != 0 {
		return 0, outOfRange("double precision") // as float8in_internal refuses overflow and underflow
	}
	return out, nil
}

// sameComparer compares values of one type. Constants are brought into the format of the other side.
func (c *checker) sameComparer(left, right *side, k *kind) (comparer, error) {
	format := left.field.Format
	if left.constant {
		format = right.field.Format
	}
	for _, s := range []*side{left, right} {
		if s.constant && k == &kindBool && s.field.Format == formatText {
			s.raw = plainBool(s.raw)
		}
		if s.field.Format == format || s.raw == nil && s.constant {
			continue
		}
		if !s.constant || !k.convertible(s.field.Format, &c.m.settings) && s.field.Format != formatText || k.in(s.field.Format).convert == nil {
			return nil, refuse("HAVING with this comparison of type "+k.name, "One value is text and the other binary.", hintRefused)
		}
		raw, err := k.in(s.field.Format).convert(nil, s.raw, &c.m.settings)
		if err != nil {
			return nil, unreadable(s.field.OID)
		}
		s.raw, s.field.Format = raw, format
	}
	decode := k.in(format).decode
	for _, s := range []*side{left, right} {
		var d datum
		if s.constant && s.raw != nil && decode(s.raw, &d) != nil {
			return nil, unreadable(s.field.OID)
		}
	}
	return func(a, b []byte) (int, error) {
		var x, y datum
		if err := decode(a, &x); err != nil {
			return 0, err
		}
		if err := decode(b, &y); err != nil {
			return 0, err
		}
		return k.class.compare(&x, &y), nil
	}, nil
}

// plainBool writes TRUE and FALSE as servers do.
func plainBool(raw []byte) []byte {
	switch strings.ToLower(string(raw)) {
	case "true":
		return []byte("t")
	case "false":
		return []byte("f")
	}
	return raw
}

// maxConstantExponent bounds 1e… in constants: more is hardly meant.
const maxConstantExponent = 400

// plainNumeric writes .5, 5. and 5e-1 as servers write numbers. What is no number stays as it is.
func plainNumeric(raw []byte) []byte {
	mantissa, exponentText, scientific := strings.Cut(strings.ToLower(string(raw)), "e")
	exponent := 0
	if scientific {
		var err error
		if exponent, err = strconv.Atoi(exponentText); err != nil || exponent > maxConstantExponent || exponent < -maxConstantExponent {
			return raw
		}
	}
	unsigned := strings.TrimPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(unsigned, ".")
	digits := whole + fraction
	if digits == "" || strings.Trim(digits, "0123456789") != "" {
		return raw
	}
	point := len(whole) + exponent
	if point < 1 {
		digits, point = strings.Repeat("0", 1-point)+digits, 1
	}
	digits += strings.Repeat("0", max(point-len(digits), 0))
	out := mantissa[:len(mantissa)-len(unsigned)] + digits[:point]
	if point < len(digits) {
		out += "." + digits[point:]
	}
	return []byte(out)
}
