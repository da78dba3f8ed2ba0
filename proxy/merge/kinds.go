package merge

import (
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"strconv"
)

// OIDs of types (src/include/catalog/pg_type.dat).
const (
	oidBool        = 16
	oidBytea       = 17
	oidChar        = 18
	oidName        = 19
	oidInt8        = 20
	oidInt2        = 21
	oidInt4        = 23
	oidText        = 25
	oidOid         = 26
	oidFloat4      = 700
	oidFloat8      = 701
	oidUnknown     = 705
	oidBpchar      = 1042
	oidVarchar     = 1043
	oidDate        = 1082
	oidTime        = 1083
	oidTimestamp   = 1114
	oidTimestamptz = 1184
	oidInterval    = 1186
	oidNumeric     = 1700
	oidUUID        = 2950
)

// Formats of values in the protocol.
const (
	formatText   = 0
	formatBinary = 1
)

// decoder reads a value that is not NULL for comparisons. The datum aliases raw.
type decoder func(raw []byte, d *datum) error

// converter adds a value, which is not NULL, in its other format.
type converter func(dst, raw []byte, settings *Settings) ([]byte, error)

// form is what can be done with the values of a type in one format.
type form struct {
	// decode is nil where values cannot be compared.
	decode decoder
	// equal: decode is good for equality only.
	equal bool
	// fits says whether the session's settings are such that values can be read; nil: they don't matter.
	fits func(*Settings) bool
	// convert writes the other format, nil where that is not done here; converts says for which settings, nil: for all.
	convert  converter
	converts func(*Settings) bool
}

// kind is what is known of a type.
type kind struct {
	name     string
	class    class
	collated bool
	text     form
	binary   form
}

// kindOf returns what is known of a type; nil: nothing. To add a type is to add a line here; the tests against a server run over all.
func kindOf(oid uint32) *kind {
	switch oid {
	case oidBool:
		return &kindBool
	case oidInt2:
		return &kindInt2
	case oidInt4:
		return &kindInt4
	case oidInt8:
		return &kindInt8
	case oidOid:
		return &kindOid
	case oidFloat4:
		return &kindFloat4
	case oidFloat8:
		return &kindFloat8
	case oidNumeric:
		return &kindNumeric
	case oidDate:
		return &kindDate
	case oidTime:
		return &kindTime
	case oidTimestamp:
		return &kindTimestamp
	case oidTimestamptz:
		return &kindTimestamptz
	case oidInterval:
		return &kindInterval
	case oidUUID:
		return &kindUUID
	case oidBytea:
		return &kindBytea
	case oidText:
		return &kindText
	case oidVarchar:
		return &kindVarchar
	case oidName:
		return &kindName
	case oidBpchar:
		return &kindBpchar
	case oidChar:
		return &kindChar
	}
	return nil
}

// nameInterval is the type's name where errors ask for it.
const nameInterval = "interval"

// The kinds, never written to.
var (
	kindBool = kind{name: "boolean", class: classNumber,
		text:   form{decode: decodeBoolText, convert: boolToBinary},
		binary: form{decode: decodeBool, convert: boolToText}}
	kindInt2 = integerKind("smallint", 2)
	kindInt4 = integerKind("integer", 4)
	kindInt8 = integerKind("bigint", 8)
	kindOid  = kind{name: "oid", class: classNumber,
		text:   form{decode: decodeOidText, convert: oidToBinary},
		binary: form{decode: decodeOid, convert: oidToText}}
	kindFloat4  = floatKind("real", 4)
	kindFloat8  = floatKind("double precision", 8)
	kindNumeric = kind{name: "numeric", class: classNumeric,
		text:   form{decode: decodeNumericText, convert: numericToBinary},
		binary: form{decode: decodeNumeric, convert: numericToText}}
	kindDate = kind{name: "date", class: classNumber,
		text:   form{decode: decodeDateText, fits: isISO, convert: dateToBinary, converts: isISO},
		binary: form{decode: fixed("date", 4)}}
	kindTime = kind{name: "time", class: classNumber,
		text:   form{decode: decodeTimeText, convert: timeToBinary},
		binary: form{decode: fixed("time", 8)}}
	kindTimestamp = kind{name: "timestamp", class: classNumber,
		text:   form{decode: decodeTimestampText, fits: isISO, convert: timestampToBinary, converts: isISO},
		binary: form{decode: fixed("timestamp", 8)}}
	// The text of a moment depends on TimeZone, that of an interval is long to read: they are asked for in binary.
	kindTimestamptz = kind{name: "timestamp with time zone", class: classNumber,
		binary: form{decode: fixed("timestamp with time zone", 8)}}
	kindInterval = kind{name: nameInterval, class: classPair,
		binary: form{decode: decodeInterval, convert: intervalToText, converts: isIntervalPostgres}}
	kindUUID = kind{name: "uuid", class: classBytes,
		text:   form{decode: decodeUUIDText, convert: uuidToBinary},
		binary: form{decode: decodeUUID, convert: uuidToText}}
	kindBytea = kind{name: "bytea", class: classBytes,
		text:   form{decode: decodeByteaText, convert: byteaToBinary},
		binary: form{decode: decodeBytes, convert: byteaToText, converts: isByteaHex}}
	kindText    = textKind("text")
	kindVarchar = textKind("character varying")
	kindName    = textKind("name")
	kindBpchar  = kind{name: "character", class: classBytes, collated: true,
		text:   form{decode: decodeBpchar, fits: isOwn, convert: copyValue},
		binary: form{decode: decodeBpchar, fits: isOwn, convert: copyValue}}
	// The text of a "char" above 127 is octal since PostgreSQL 16, and the zero byte's is empty.
	kindChar = kind{name: `"char"`, class: classBytes,
		text:   form{decode: decodeBytes, equal: true},
		binary: form{decode: decodeChar}}
)

func integerKind(name string, size int) kind {
	bits := size * 8
	return kind{name: name, class: classNumber,
		text: form{
			decode: func(raw []byte, d *datum) error {
				number, ok := parseInteger(raw, bits)
				if !ok {
					return malformed(name)
				}
				d.number = number
				return nil
			},
			convert: func(dst, raw []byte, _ *Settings) ([]byte, error) {
				number, ok := parseInteger(raw, bits)
				if !ok {
					return dst, malformed(name)
				}
				return appendInteger(dst, number, size), nil
			}},
		binary: form{
			decode: fixed(name, size),
			convert: func(dst, raw []byte, _ *Settings) ([]byte, error) {
				number, ok := readInteger(raw, size)
				if !ok {
					return dst, malformed(name)
				}
				return strconv.AppendInt(dst, number, 10), nil
			}}}
}

func floatKind(name string, size int) kind {
	return kind{name: name, class: classFloat,
		text: form{
			decode: func(raw []byte, d *datum) (err error) {
				d.float, err = parseFloat(raw, size)
				return err
			},
			fits: isShortest,
			convert: func(dst, raw []byte, _ *Settings) ([]byte, error) {
				value, err := parseFloat(raw, size)
				return appendFloat(dst, value, size), err
			},
			converts: isShortest},
		binary: form{
			decode: func(raw []byte, d *datum) (err error) {
				d.float, err = readFloat(raw, size)
				return err
			},
			convert: func(dst, raw []byte, _ *Settings) ([]byte, error) {
				value, err := readFloat(raw, size)
				if err != nil {
					return dst, err
				}
				return appendFloatText(dst, value, size*8), nil
			},
			converts: isShortest}}
}

func textKind(name string) kind {
	bytewise := form{decode: decodeBytes, fits: isOwn, convert: copyValue}
	return kind{name: name, class: classBytes, collated: true, text: bytewise, binary: bytewise}
}

// refused are the names of common types that nothing is done with here, for error messages.
func refused(oid uint32) string {
	switch oid {
	case 114:
		return "json"
	case 3802:
		return "jsonb"
	case 142:
		return "xml"
	case 790:
		return "money"
	case 1266:
		return "time with time zone"
	case 869:
		return "inet"
	case 650:
		return "cidr"
	case 829:
		return "macaddr"
	case 1560:
		return "bit"
	case 1562:
		return "bit varying"
	case 2249:
		return "record"
	}
	return fmt.Sprintf("with OID %d", oid)
}

// typeName returns a type's name for messages.
func typeName(oid uint32) string {
	if k := kindOf(oid); k != nil {
		return k.name
	}
	return refused(oid)
}

// in returns what can be done with the kind's values in a format.
func (k *kind) in(format int16) *form {
	if format == formatBinary {
		return &k.binary
	}
	return &k.text
}

// comparable says whether values of a format can be compared under the settings: for order, or for equality.
func (k *kind) comparable(format int16, order bool, settings *Settings) bool {
	f := k.in(format)
	return f.decode != nil && !(order && f.equal) && (f.fits == nil || f.fits(settings))
}

// convertible says whether values of a format can be written in the other one under the settings.
func (k *kind) convertible(format int16, settings *Settings) bool {
	f := k.in(format)
	return f.convert != nil && (f.converts == nil || f.converts(settings))
}

// fixed decodes integers of a size.
func fixed(name string, size int) decoder {
	return func(raw []byte, d *datum) error {
		number, ok := readInteger(raw, size)
		if !ok {
			return malformed(name)
		}
		d.number = number
		return nil
	}
}

// integerSize is how many bytes an integer has; 0 for other types.
func integerSize(oid uint32) int {
	switch oid {
	case oidInt2:
		return 2
	case oidInt4:
		return 4
	case oidInt8:
		return 8
	}
	return 0
}

// readInteger reads a binary integer of size bytes.
func readInteger(raw []byte, size int) (int64, bool) {
	if len(raw) != size {
		return 0, false
	}
	switch size {
	case 2:
		return int64(int16(binary.BigEndian.Uint16(raw))), true
	case 4:
		return int64(int32(binary.BigEndian.Uint32(raw))), true
	default:
		return int64(binary.BigEndian.Uint64(raw)), true
	}
}

// appendInteger adds a binary integer of size bytes.
func appendInteger(dst []byte, number int64, size int) []byte {
	switch size {
	case 2:
		return binary.BigEndian.AppendUint16(dst, uint16(number))
	case 4:
		return binary.BigEndian.AppendUint32(dst, uint32(number))
	default:
		return binary.BigEndian.AppendUint64(dst, uint64(number))
	}
}

// parseInteger reads an integer as servers write it, within bits.
func parseInteger(raw []byte, bits int) (int64, bool) {
	digits := raw
	negative := len(raw) > 0 && raw[0] == '-'
	if negative {
		digits = raw[1:]
	}
	if len(digits) == 0 || len(digits) > 19 {
		return 0, false
	}
	var sum uint64 // below 10^19 < 2^64
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		sum = sum*10 + uint64(c-'0')
	}
	bound := uint64(1) << (bits - 1)
	if negative {
		return -int64(sum), sum <= bound // 2^63 is its own negative
	}
	return int64(sum), sum < bound
}

func decodeBool(raw []byte, d *datum) error {
	if len(raw) != 1 || raw[0] > 1 {
		return malformed("boolean")
	}
	d.number = int64(raw[0])
	return nil
}

func decodeBoolText(raw []byte, d *datum) error {
	if len(raw) != 1 || raw[0] != 't' && raw[0] != 'f' {
		return malformed("boolean")
	}
	d.number = 0
	if raw[0] == 't' {
		d.number = 1
	}
	return nil
}

func boolToText(dst, raw []byte, _ *Settings) ([]byte, error) {
	var d datum
	if err := decodeBool(raw, &d); err != nil {
		return dst, err
	}
	return append(dst, "ft"[d.number]), nil
}

func boolToBinary(dst, raw []byte, _ *Settings) ([]byte, error) {
	var d datum
	err := decodeBoolText(raw, &d)
	return append(dst, byte(d.number)), err
}

func decodeOid(raw []byte, d *datum) error {
	if len(raw) != 4 {
		return malformed("oid")
	}
	d.number = int64(binary.BigEndian.Uint32(raw))
	return nil
}

func decodeOidText(raw []byte, d *datum) error {
	number, ok := parseInteger(raw, 64)
	if !ok || number < 0 || number > math.MaxUint32 {
		return malformed("oid")
	}
	d.number = number
	return nil
}

func oidToText(dst, raw []byte, _ *Settings) ([]byte, error) {
	var d datum
	err := decodeOid(raw, &d)
	return strconv.AppendInt(dst, d.number, 10), err
}

func oidToBinary(dst, raw []byte, _ *Settings) ([]byte, error) {
	var d datum
	err := decodeOidText(raw, &d)
	return appendInteger(dst, d.number, 4), err
}

func decodeBytes(raw []byte, d *datum) error {
	d.bytes = raw
	return nil
}

// decodeBpchar leaves out trailing blanks, as bcTruelen does (src/backend/utils/adt/varchar.c).
func decodeBpchar(raw []byte, d *datum) error {
	end := len(raw)
	for end > 0 && raw[end-1] == ' ' {
		end--
	}
	d.bytes = raw[:end]
	return nil
}

func decodeChar(raw []byte, d *datum) error {
	if len(raw) != 1 {
		return malformed(`"char"`)
	}
	d.bytes = raw
	return nil
}

func copyValue(dst, raw []byte, _ *Settings) ([]byte, error) { return append(dst, raw...), nil }

func decodeUUID(raw []byte, d *datum) error {
	if len(raw) != 16 {
		return malformed("uuid")
	}
	d.bytes = raw
	return nil
}

// decodeUUIDText: the order of lower-case hexadecimal digits is that of the bytes.
func decodeUUIDText(raw []byte, d *datum) error {
	if len(raw) != 36 {
		return malformed("uuid")
	}
	for i, c := range raw {
		dash := i == 8 || i == 13 || i == 18 || i == 23
		if dash != (c == '-') || !dash && !isHex(c) {
			return malformed("uuid")
		}
	}
	d.bytes = raw
	return nil
}

// isHex says whether c is a hexadecimal digit as servers write it.
func isHex(c byte) bool { return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' }

func uuidToText(dst, raw []byte, _ *Settings) ([]byte, error) {
	if len(raw) != 16 {
		return dst, malformed("uuid")
	}
	for i, length := range []int{4, 2, 2, 2, 6} {
		if i > 0 {
			dst = append(dst, '-')
		}
		dst = hex.AppendEncode(dst, raw[:length])
		raw = raw[length:]
	}
	return dst, nil
}

func uuidToBinary(dst, raw []byte, _ *Settings) ([]byte, error) {
	var d datum
	if err := decodeUUIDText(raw, &d); err != nil {
		return dst, err
	}
	digits := make([]byte, 0, 32)
	for _, c := range raw {
		if c != '-' {
			digits = append(digits, c)
		}
	}
	return hex.AppendDecode(dst, digits)
}

// decodeByteaText takes the hex format, whose order is that of the bytes. Of the escape format, whose texts never begin with
// \x because it doubles backslashes, nothing is known.
func decodeByteaText(raw []byte, d *datum) error {
	if len(raw) < 2 || raw[0] != '\\' || raw[1] != 'x' || len(raw)%2 != 0 {
		return refuse("comparing values of type bytea in escape format", "", "Set bytea_output to hex.")
	}
	for _, c := range raw[2:] {
		if !isHex(c) {
			return malformed("bytea")
		}
	}
	d.bytes = raw
	return nil
}

func byteaToText(dst, raw []byte, _ *Settings) ([]byte, error) {
	return hex.AppendEncode(append(dst, `\x`...), raw), nil
}

func byteaToBinary(dst, raw []byte, _ *Settings) ([]byte, error) {
	var d datum
	if err := decodeByteaText(raw, &d); err != nil {
		return dst, err
	}
	return hex.AppendDecode(dst, raw[2:])
}
