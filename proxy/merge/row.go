package merge

import (
	"encoding/binary"
	"math"

	"pgtier/proxy/wire"
)

// nullLength is the length field of a NULL in a DataRow.
const nullLength = math.MaxUint32

// split reads the body of a DataRow into values, one for each column; nil is NULL. The values alias body.
func split(body []byte, values [][]byte) error {
	if len(body) < 2 {
		return brokenRow()
	}
	if int(binary.BigEndian.Uint16(body)) != len(values) {
		return wire.NewError(wire.CodeProtocolViolation, "a shard sent a row with another number of columns than announced", "")
	}
	at := 2
	for i := range values {
		if len(body)-at < 4 {
			return brokenRow()
		}
		length := binary.BigEndian.Uint32(body[at:])
		at += 4
		if length == nullLength {
			values[i] = nil
			continue
		}
		if uint64(length) > uint64(len(body)-at) {
			return brokenRow()
		}
		values[i] = body[at : at+int(length) : at+int(length)]
		at += int(length)
	}
	if at != len(body) {
		return brokenRow()
	}
	return nil
}

// beginRow starts the body of a DataRow.
func beginRow(dst []byte, columns int) []byte {
	return binary.BigEndian.AppendUint16(dst[:0], uint16(columns))
}

// appendValue adds a value as it is; nil is NULL.
func appendValue(dst, value []byte) []byte {
	if value == nil {
		return binary.BigEndian.AppendUint32(dst, nullLength)
	}
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(value))), value...)
}

// appendConverted adds a value that convert writes.
func appendConverted(dst, value []byte, convert converter, settings *Settings) ([]byte, error) {
	at := len(dst)
	dst, err := convert(append(dst, 0, 0, 0, 0), value, settings)
	if err != nil {
		return dst, err
	}
	binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	return dst, nil
}
