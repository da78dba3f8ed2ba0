package session

import "bytes"

// readsClock reports whether a text may hold a date or time literal that means
// the moment it is read: 'now', 'today', 'tomorrow', 'yesterday'. PostgreSQL reads
// it when the statement is prepared, so such a statement cannot be shared, nor
// prepared again elsewhere. A word too many only costs a pin.
func readsClock(text []byte) bool {
	for _, word := range [][]byte{[]byte("now"), []byte("today"), []byte("tomorrow"), []byte("yesterday")} {
		for rest := text; ; {
			at := indexFold(rest, word)
			if at < 0 {
				break
			}
			if quoted(rest[:at]) {
				return true
			}
			rest = rest[at+len(word):]
		}
	}
	return false
}

// indexFold finds word, which is in lower case, in any case; -1 if it is not there.
func indexFold(text, word []byte) int {
	for from := 0; from+len(word) <= len(text); {
		at := bytes.IndexAny(text[from:], string([]byte{word[0], word[0] - 'a' + 'A'}))
		if at < 0 || from+at+len(word) > len(text) {
			return -1
		}
		from += at
		if bytes.EqualFold(text[from:from+len(word)], word) {
			return from
		}
		from++
	}
	return -1
}

// quoted reports whether a quote opens behind which there is only white space.
func quoted(before []byte) bool {
	before = bytes.TrimRight(before, " \t\r\n\f\v")
	return len(before) > 0 && (before[len(before)-1] == '\'' || before[len(before)-1] == '$')
}
