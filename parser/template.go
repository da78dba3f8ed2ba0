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
	m := newMarker(sql)
	for {
		t, mark, sure := m.next()
		if !sure {
			return nil, true, true
		}
		if t.kind == tokenEnd {
			break
		}
		text := sql[t.start:t.end]
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
	return dst, m.l.backslash, true
}

// takenOut are the offsets of the literals that the template of sql takes out, in order; none if the whole text is the key.
func takenOut(sql []byte) (offsets []int) {
	if !takeOut(sql, func(t token) { offsets = append(offsets, t.start) }) {
		return nil
	}
	return offsets
}

// takeOut calls take with each literal that the template of sql takes out, in order. ok is false if the whole text is the key: what take saw
// then is to be forgotten.
func takeOut(sql []byte, take func(token)) (ok bool) {
	if !utf8.Valid(sql) || bytes.IndexByte(sql, 0) >= 0 {
		return false
	}
	m := newMarker(sql)
	for {
		t, mark, sure := m.next()
		switch {
		case !sure:
			return false
		case t.kind == tokenEnd:
			return !m.l.backslash
		case mark != "":
			take(t)
		}
	}
}

// marker cuts a text into the tokens of its template.
type marker struct {
	l      lexer
	first  bool     // at the beginning of a statement
	before wordRole // of the token before
	keeps  int      // parentheses open since a keepingWord
}

func newMarker(sql []byte) marker { return marker{l: lexer{src: sql}, first: true} }

// next is the next token of the template, and the mark that stands for it there, "" if it stands for itself. sure is false if the whole
// text must be the key.
func (m *marker) next() (t token, mark string, sure bool) {
	t = m.l.next()
	for t.kind == tokenComment && !isHint(m.l.src[t.start:t.end]) {
		t = m.l.next()
	}
	text := m.l.src[t.start:t.end]
	role := plainWord
	switch t.kind {
	case tokenBad, tokenUnicode, tokenUString, tokenEscape:
		return t, "", false
	case tokenComment:
		return t, "", true
	case tokenIdent:
		role = roleOf(text)
		if m.first && !takesTemplate(text) || role == wholeTextWord {
			return t, "", false
		}
		m.first = false
	case tokenQuoted:
		role = roleOf(text[1 : len(text)-1])
		if m.first || role == wholeTextWord {
			return t, "", false
		}
		if role == sizedWord {
			role = plainWord
		}
	case tokenSelf:
		switch text[0] {
		case ';':
			m.first = true
		case '(':
			if m.before == sizedWord {
				return t, "", false
			}
			if m.before == keepingWord || m.keeps > 0 {
				m.keeps++
			}
		case ')':
			m.keeps = max(m.keeps-1, 0)
		}
	default:
		if m.keeps == 0 {
			mark = markOf(t.kind, text)
		}
	}
	m.before = role
	return t, mark, true
}

// wordRole is what a word does to the literals in the parentheses behind it.
type wordRole uint8

const (
	plainWord     wordRole = iota
	keepingWord            // they stay in the template
	sizedWord              // a number becomes part of the tree's structure
	wholeTextWord          // they change the facts
)

func roleOf(word []byte) wordRole {
	if len(word) < len("float") {
		return plainWord
	}
	switch word[0] | 0x20 {
	case 'c', 'd', 'f', 'l', 'p', 's':
	default:
		return plainWord
	}
	switch {
	case literalsMatter(word):
		return wholeTextWord
	case keepsLiterals(word):
		return keepingWord
	case sizeIsStructure(word):
		return sizedWord
	}
	return plainWord
}

// markOf is what stands for a literal in a template, "" for tokens of other kinds.
func markOf(kind tokenKind, text []byte) string {
	switch kind {
	case tokenString, tokenDollar:
		return "$s"
	case tokenInteger:
		if fitsInt4(text) {
			return "$n"
		}
		return "$f"
	case tokenNumber:
		return "$f"
	case tokenBits:
		return "$b"
	case tokenNational:
		return "$c"
	}
	return ""
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

// keepsLiterals says whether word is a function whose literal arguments stay in the template, because its Called.First is a fact.
func keepsLiterals(word []byte) bool {
	return len(word) == len("current_setting") && foldMatch(word, "current_setting")
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
