package shard

// hashBool hashes a value for a column of bool.
func hashBool(_ *Column, v Value) (uint64, bool) {
	value, ok := readBool(v)
	if value {
		return hashInteger(1), ok
	}
	return hashInteger(0), ok
}

func readBool(v Value) (value, ok bool) {
	switch {
	case v.typ != Bool:
		return false, false
	case v.format == TextFormat:
		return parseBool(trimSpace(v.data))
	case v.format == BinaryFormat && len(v.data) == 1:
		return v.data[0] != 0, true // bool.c, boolrecv
	}
	return false, false
}

// parseBool reads the words for truth, and the beginnings of them that are not ambiguous (bool.c, parse_bool_with_len).
func parseBool(data []byte) (value, ok bool) {
	if len(data) == 0 {
		return false, false
	}
	switch lower(data[0]) {
	case 't':
		return true, prefixFold(data, "true")
	case 'f':
		return false, prefixFold(data, "false")
	case 'y':
		return true, prefixFold(data, "yes")
	case 'n':
		return false, prefixFold(data, "no")
	case 'o':
		if equalFold(data, "on") {
			return true, true
		}
		return false, len(data) > 1 && prefixFold(data, "off")
	case '1':
		return true, len(data) == 1
	case '0':
		return false, len(data) == 1
	}
	return false, false
}
