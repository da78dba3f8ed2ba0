package parser

import "bytes"

// maxTimed is the longest value, in bytes, that TimeWord looks through, in 25 µs. Longer ones are rare and may have any word.
const maxTimed = 16 << 10

// TimeWord says whether a text may have, for an input function of a date or time type, one of the words whose meaning the clock decides: now,
// today, tomorrow and yesterday (datetktbl in src/backend/utils/adt/datetime.c; epoch, infinity and allballs always mean the same). The input
// functions cut a text into runs of letters and ignore case, spaces, most punctuation and what stands beside, as in "today 04:05", and those of arrays,
// ranges, rows and domains hand them parts of theirs. So a word counts wherever it stands between other bytes than ASCII letters, also if it is put
// together by leaving out backslashes and double quotes. A text of which this is false is read as the same value at any time, but for type timetz, whose
// zone may be that of today. It does not allocate, and says true of values longer than 16 KiB.
func TimeWord(value []byte) bool {
	if len(value) > maxTimed {
		return true
	}
	return timeWord(value, false) || (bytes.IndexByte(value, '\\') >= 0 || bytes.IndexByte(value, '"') >= 0) && timeWord(value, true)
}

// longestTimeWord is yesterday's.
const longestTimeWord = len("yesterday")

// timeWord looks for a word. joins leaves out backslashes and double quotes.
func timeWord(value []byte, joins bool) bool {
	var word [longestTimeWord]byte
	n := 0 // letters since a word began, at most one more than fit
	for _, c := range value {
		switch {
		case c|0x20 >= 'a' && c|0x20 <= 'z':
			if n < len(word) {
				word[n] = c | 0x20
			}
			if n <= len(word) {
				n++
			}
		case joins && (c == '\\' || c == '"'):
		case n > 0:
			if isTimeWord(&word, n) {
				return true
			}
			n = 0
		}
	}
	return n > 0 && isTimeWord(&word, n)
}

// isTimeWord says whether the first n bytes are one of the words.
func isTimeWord(word *[longestTimeWord]byte, n int) bool {
	switch n {
	case len("now"), len("today"), len("tomorrow"), len("yesterday"):
		switch string(word[:n]) {
		case "now", "today", "tomorrow", "yesterday":
			return true
		}
	}
	return false
}

// TimeWords says whether TimeWord is true of a literal of the SQL text, or of what may be one, where standard_conforming_strings is on. A text without such
// a word anywhere costs one look at each byte, and at its tokens if a literal may have escapes or go on in another line. It allocates only for a literal that
// goes on or has doubled quotes.
func TimeWords(sql []byte) bool {
	if len(sql) > maxTimed {
		return true
	}
	return (TimeWord(sql) || spells(sql)) && timeLiteral(sql, nil)
}

// spells says whether a literal of the text may say what the text does not show: by escapes, or in several pieces.
func spells(sql []byte) bool {
	return bytes.IndexByte(sql, '\\') >= 0 || bytes.Contains(sql, []byte("&'")) ||
		bytes.IndexByte(sql, '\'') >= 0 && (bytes.IndexByte(sql, '\n') >= 0 || bytes.IndexByte(sql, '\r') >= 0)
}

// timeLiteral says whether a literal of sql may have a time word, but for those that begin at one of the offsets, which are sorted.
func timeLiteral(sql []byte, without []int) bool {
	l := lexer{src: sql}
	for t := l.next(); t.kind != tokenEnd; t = l.next() {
		for len(without) > 0 && without[0] < t.start {
			without = without[1:]
		}
		if len(without) > 0 && without[0] == t.start {
			continue
		}
		switch t.kind {
		case tokenBad, tokenUString:
			return true
		case tokenEscape:
			if bytes.IndexByte(sql[t.start:t.end], '\\') >= 0 || TimeWord(quotedValue(sql, t)) {
				return true
			}
		case tokenString, tokenNational, tokenDollar:
			if TimeWord(literalOf(sql, t).Value) {
				return true
			}
		}
	}
	return false
}
