package parser

import (
	"bytes"
	"math"
	"unicode/utf8"
)

// template appends to dst the key under which sql is remembered: its tokens with single spaces between them, literals replaced by
// marks, comments dropped unless they are hints for the proxy. Two texts with one template have parse trees that are equal but for their constants.
//
// verbatim says that the whole text must be the key, because its literals decide the facts or the lexer is not sure of them.
// ok is false if the template does not fit dst's capacity; dst never grows.
func template(dst, sql []byte) (key []byte, verbatim, ok bool) {
	if !utf8.Valid(sql) || bytes.IndexByte(sql, 0) >= 0 {
		return nil, true, true
	}
	l := lexer{src: sql}
	first := true // at the beginning of a statement
	sized := false
	for {
		t := l.next()
		if t.kind == tokenEnd {
			break
		}
		text := sql[t.start:t.end]
		mark := ""
		switch t.kind {
		case tokenBad, tokenUnicode, tokenUString, tokenEscape:
			return nil, true, true
		case tokenComment:
			if !isHint(text) {
				continue
			}
		case tokenIdent:
			if first && !takesTemplate(text) || literalsMatter(text) {
				return nil, true, true
			}
			first = false
		case tokenQuoted:
			if first || literalsMatter(text[1:len(text)-1]) {
				return nil, true, true
			}
		case tokenString, tokenDollar:
			mark = "$s"
		case tokenInteger:
			mark = "$n"
			if !fitsInt4(text) {
				mark = "$f"
			}
		case tokenNumber:
			mark = "$f"
		case tokenBits:
			mark = "$b"
		case tokenNational:
			mark = "$c"
		case tokenSelf:
			if text[0] == ';' {
				first = true
			} else if text[0] == '(' && sized {
				return nil, true, true
			}
		}
		if t.kind != tokenComment {
			sized = t.kind == tokenIdent && sizeIsStructure(text)
		}
		if len(dst)+1+max(len(text), len(mark)) > cap(dst) {
			return nil, false, false
		}
		if len(dst) > 0 {
			dst = append(dst, ' ')
		}
		if mark != "" {
			dst = append(dst, mark...)
		} else {
			dst = append(dst, text...)
		}
	}
	return dst, l.backslash, true
}

// fitsInt4 says whether decimal digits are an integer to the grammar; larger ones are numeric, and not allowed everywhere.
func fitsInt4(digits []byte) bool {
	n := 0
	for _, d := range digits {
		if n = n*10 + int(d-'0'); n > math.MaxInt32 {
			return false
		}
	}
	return true
}

// foldMatch says whether word is the lower-case name, ASCII case aside.
func foldMatch(word []byte, name string) bool {
	if len(word) != len(name) {
		return false
	}
	return hasFoldPrefix(word, name)
}

// hasFoldPrefix says whether word begins with the lower-case prefix, ASCII case aside.
func hasFoldPrefix(word []byte, prefix string) bool {
	if len(word) < len(prefix) {
		return false
	}
	for i := 0; i < len(prefix); i++ {
		c := word[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != prefix[i] {
			return false
		}
	}
	return true
}

// takesTemplate says whether literals may be taken out of a statement that begins with word. Elsewhere a
// literal is a name (SET, LISTEN), code (DO), or not a constant in the tree (FETCH 5, FLOAT(24)).
func takesTemplate(word []byte) bool {
	switch word[0] | 0x20 {
	case 's':
		return foldMatch(word, "select")
	case 'i':
		return foldMatch(word, "insert")
	case 'u':
		return foldMatch(word, "update")
	case 'd':
		return foldMatch(word, "delete")
	case 'w':
		return foldMatch(word, "with")
	case 'v':
		return foldMatch(word, "values")
	case 'm':
		return foldMatch(word, "merge")
	}
	return false
}

// literalsMatter says whether word is a function whose literal arguments change the facts.
func literalsMatter(word []byte) bool {
	if len(word) < len("dblink") {
		return false
	}
	switch word[0] | 0x20 {
	case 's':
		return foldMatch(word, "set_config")
	case 'd':
		return hasFoldPrefix(word, "dblink")
	case 'p':
		return hasFoldPrefix(word, "pg_create_") || hasFoldPrefix(word, "pg_copy_")
	}
	return false
}

// sizeIsStructure says whether a number in parentheses behind word becomes part of the tree's
// structure: FLOAT(24) is another type than FLOAT(25), CURRENT_TIME(3) holds a plain number.
func sizeIsStructure(word []byte) bool {
	switch word[0] | 0x20 {
	case 'f':
		return foldMatch(word, "float")
	case 'c':
		return hasFoldPrefix(word, "current_time")
	case 'l':
		return hasFoldPrefix(word, "localtime")
	}
	return false
}

// isHint says whether a comment speaks to the proxy: /* pgtier: … */.
func isHint(comment []byte) bool {
	body, block := bytes.CutPrefix(comment, []byte("/*"))
	return block && bytes.HasPrefix(bytes.TrimLeft(body, " \t\r\n"), []byte("pgtier:"))
}
