package shard

// uuidSize is the bytes of a uuid (uuid.h, UUID_LEN).
const uuidSize = 16

// hashUUID hashes a value for a column of uuid.
func hashUUID(_ *Column, v Value) (uint64, bool) {
	switch {
	case v.typ != UUID:
		return 0, false
	case v.format == TextFormat:
		id, ok := parseUUID(v.data)
		return hashBytes(id[:]), ok
	case v.format == BinaryFormat && len(v.data) == uuidSize:
		return hashBytes(v.data), true
	}
	return 0, false
}

// parseUUID reads 32 hexadecimal digits, perhaps in braces, perhaps with hyphens behind each four (uuid.c, string_to_uuid).
func parseUUID(data []byte) (id [uuidSize]byte, ok bool) {
	if len(data) >= 2 && data[0] == '{' && data[len(data)-1] == '}' {
		data = data[1 : len(data)-1]
	}
	for i := range id {
		if len(data) < 2 {
			return id, false
		}
		if id[i], ok = hexByte(data[0], data[1]); !ok {
			return id, false
		}
		data = data[2:]
		if len(data) > 0 && data[0] == '-' && i%2 == 1 && i < uuidSize-1 {
			data = data[1:]
		}
	}
	return id, len(data) == 0
}

// hexByte reads two hexadecimal digits.
func hexByte(high, low byte) (byte, bool) {
	h, l := hexDigit(high), hexDigit(low)
	return h<<4 | l, h < 16 && l < 16
}

// hexDigit returns a digit's value, or 16.
func hexDigit(c byte) byte {
	switch c = lower(c); {
	case isDigit(c):
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	}
	return 16
}
