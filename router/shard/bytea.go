package shard

// byteaBuffer is room for the bytes of keys of common lengths, so that reading them allocates nothing.
const byteaBuffer = 128

// hashBytea hashes a value for a column of bytea.
func hashBytea(_ *Column, v Value) (uint64, bool) {
	switch {
	case v.typ != Bytea:
		return 0, false
	case v.format == TextFormat:
		var buffer [byteaBuffer]byte
		key, ok := appendBytea(buffer[:0], v.data)
		return hashBytes(key), ok
	case v.format == BinaryFormat:
		return hashBytes(v.data), true
	}
	return 0, false
}

// appendBytea reads bytea in either of its text forms (varlena.c, byteain). Letters beyond ASCII change with the client's encoding.
func appendBytea(dst, data []byte) ([]byte, bool) {
	if !ascii(data) {
		return dst, false
	}
	if len(data) >= 2 && data[0] == '\\' && data[1] == 'x' {
		return appendHex(dst, data[2:])
	}
	return appendEscaped(dst, data)
}

// appendHex reads pairs of hexadecimal digits with white space between pairs (encode.c, hex_decode).
func appendHex(dst, data []byte) ([]byte, bool) {
	for len(data) > 0 {
		if c := data[0]; c == ' ' || c == '\n' || c == '\t' || c == '\r' {
			data = data[1:]
			continue
		}
		if len(data) < 2 {
			return dst, false
		}
		b, ok := hexByte(data[0], data[1])
		if !ok {
			return dst, false
		}
		dst = append(dst, b)
		data = data[2:]
	}
	return dst, true
}

// appendEscaped reads bytes as they are, \\ for a backslash, and \ooo for the byte of that octal number.
func appendEscaped(dst, data []byte) ([]byte, bool) {
	for len(data) > 0 {
		switch {
		case data[0] == 0:
			return dst, false
		case data[0] != '\\':
			dst = append(dst, data[0])
			data = data[1:]
		case len(data) >= 2 && data[1] == '\\':
			dst = append(dst, '\\')
			data = data[2:]
		case len(data) >= 4 && octal(data[1], '3') && octal(data[2], '7') && octal(data[3], '7'):
			dst = append(dst, (data[1]-'0')<<6|(data[2]-'0')<<3|(data[3]-'0'))
			data = data[4:]
		default:
			return dst, false
		}
	}
	return dst, true
}

func octal(c, most byte) bool { return c >= '0' && c <= most }
