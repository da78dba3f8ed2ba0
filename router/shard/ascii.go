package shard

// ascii reports whether there is nothing beyond ASCII, whose bytes are the same in every encoding.
func ascii(data []byte) bool {
	for _, c := range data {
		if c >= 0x80 {
			return false
		}
	}
	return true
}

// trimSpace cuts the white space off both ends, as the input functions of bool, numbers and times do with isspace. What other bytes a
// server's locale calls white space is not known here.
func trimSpace(data []byte) []byte {
	for len(data) > 0 && isSpace(data[0]) {
		data = data[1:]
	}
	for len(data) > 0 && isSpace(data[len(data)-1]) {
		data = data[:len(data)-1]
	}
	return data
}

func isSpace(c byte) bool { return c == ' ' || c >= '\t' && c <= '\r' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

// equalFold compares with an ASCII word in lower case.
func equalFold(data []byte, word string) bool {
	return len(data) == len(word) && prefixFold(data, word)
}

// prefixFold reports whether an ASCII word in lower case begins with data.
func prefixFold(data []byte, word string) bool {
	if len(data) > len(word) {
		return false
	}
	for i, c := range data {
		if lower(c) != word[i] {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}
