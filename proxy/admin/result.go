package admin

import (
	"encoding/binary"
	"fmt"
	"strconv"

	"pgtier/proxy/wire"
)

// Type is a column's PostgreSQL type, by its OID.
type Type uint32

// The types of the console's columns (PostgreSQL's pg_type.dat).
const (
	Int8    Type = 20
	Int4    Type = 23
	Text    Type = 25
	Numeric Type = 1700
)

// Column is one column of a result.
type Column struct {
	Name string
	Type Type
}

// size is the type's typlen.
func (t Type) size() int16 {
	switch t {
	case Int8:
		return 8
	case Int4:
		return 4
	}
	return -1
}

// Formats of a value on the wire.
const (
	textFormat   = 0
	binaryFormat = 1
)

// formatOf returns the format of column i, given the formats of a Bind: none
// means text, one is for all.
func formatOf(formats []int16, i int) int16 {
	switch len(formats) {
	case 0:
		return textFormat
	case 1:
		return formats[0]
	}
	return formats[i]
}

func appendRowDescription(dst []byte, columns []Column, formats []int16) []byte {
	dst, at := wire.Begin(dst, wire.MsgRowDescription)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(columns)))
	for i, c := range columns {
		dst = wire.AppendString(dst, c.Name)
		dst = append(dst, 0, 0, 0, 0, 0, 0) // of no table
		dst = binary.BigEndian.AppendUint32(dst, uint32(c.Type))
		dst = binary.BigEndian.AppendUint16(dst, uint16(c.Type.size()))
		dst = append(dst, 0xff, 0xff, 0xff, 0xff) // no modifier
		dst = binary.BigEndian.AppendUint16(dst, uint16(formatOf(formats, i)))
	}
	return wire.End(dst, at)
}

// appendRow adds a DataRow. Values are string, int, int64, uint64, bool (1 or 0)
// or nil; in an integer column only numbers.
func appendRow(dst []byte, columns []Column, formats []int16, values []any) []byte {
	dst, at := wire.Begin(dst, wire.MsgDataRow)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(values)))
	for i, v := range values {
		if v == nil {
			dst = binary.BigEndian.AppendUint32(dst, ^uint32(0))
			continue
		}
		sizeAt := len(dst)
		dst = append(dst, 0, 0, 0, 0)
		if formatOf(formats, i) == binaryFormat {
			dst = appendBinary(dst, columns[i].Type, v)
		} else {
			dst = appendText(dst, v)
		}
		binary.BigEndian.PutUint32(dst[sizeAt:], uint32(len(dst)-sizeAt-4))
	}
	return wire.End(dst, at)
}

func appendText(dst []byte, v any) []byte {
	if s, ok := v.(string); ok {
		return append(dst, s...)
	}
	return strconv.AppendInt(dst, number(v), 10)
}

func appendBinary(dst []byte, t Type, v any) []byte {
	switch t {
	case Int4:
		return binary.BigEndian.AppendUint32(dst, uint32(int32(number(v))))
	case Int8:
		return binary.BigEndian.AppendUint64(dst, uint64(number(v)))
	case Numeric:
		return appendNumeric(dst, number(v))
	}
	return appendText(dst, v)
}

// number is the value of an integer. Anything else is a fault of a command.
func number(v any) int64 {
	switch n := v.(type) {
	case int:
		return int64(n)
	case int64:
		return n
	case uint64:
		return int64(n)
	case bool:
		if n {
			return 1
		}
		return 0
	}
	panic(fmt.Sprintf("a column of numbers has a %T", v))
}

// appendNumeric writes a whole number in numeric's binary form: digits to the
// base of 10,000 (numeric_send in PostgreSQL's numeric.c).
func appendNumeric(dst []byte, n int64) []byte {
	const positive, negative = 0x0000, 0x4000
	sign, left := uint16(positive), uint64(n)
	if n < 0 {
		sign, left = negative, uint64(-n)
	}
	var digits []uint16 // the lowest first
	for ; left > 0; left /= 10000 {
		digits = append(digits, uint16(left%10000))
	}
	weight := uint16(0)
	if len(digits) > 0 {
		weight = uint16(len(digits) - 1)
	}
	for _, v := range []uint16{uint16(len(digits)), weight, sign, 0} {
		dst = binary.BigEndian.AppendUint16(dst, v)
	}
	for i := len(digits) - 1; i >= 0; i-- {
		dst = binary.BigEndian.AppendUint16(dst, digits[i])
	}
	return dst
}

// appendNotice adds a NoticeResponse.
func appendNotice(dst []byte, e *wire.Error) []byte {
	dst, at := wire.Begin(dst, wire.MsgNoticeResponse)
	for _, f := range []struct {
		code  byte
		value string
	}{{'S', e.Severity}, {'V', e.Severity}, {'C', e.Code}, {'M', e.Message}, {'D', e.Detail}, {'H', e.Hint}} {
		if f.value != "" {
			dst = wire.AppendString(append(dst, f.code), f.value)
		}
	}
	return wire.End(append(dst, 0), at)
}
