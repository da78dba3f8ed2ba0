package parser

import "unicode/utf8"

// tokenKind says what a token is to the grammar.
type tokenKind uint8

const (
	tokenEnd      tokenKind = iota // no more tokens
	tokenBad                       // bytes that PostgreSQL rejects, or that its versions read differently
	tokenComment                   // -- or /* */
	tokenIdent                     // unquoted identifier or keyword
	tokenQuoted                    // "identifier"
	tokenUnicode                   // U&"identifier"
	tokenInteger                   // decimal digits only
	tokenNumber                    // with point or exponent
	tokenParam                     // $1
	tokenString                    // '…'
	tokenEscape                    // E'…'
	tokenDollar                    // $tag$…$tag$
	tokenUString                   // U&'…'
	tokenBits                      // B'…' and X'…'
	tokenNational                  // N'…'
	tokenOperator                  // an operator of any length that is not in tokenSelf
	tokenSelf                      // one of , ( ) [ ] . ; : + - * / % ^ < > =
)

// token is a piece of the text: src[start:end].
type token struct {
	kind       tokenKind
	start, end int
}

// lexer cuts SQL into tokens by PostgreSQL's rules (src/backend/parser/scan.l, standard_conforming_strings on).
// It accepts any bytes, never panics and never allocates. The zero pos is the beginning of src.
type lexer struct {
	src []byte
	pos int
	// backslash is set once a plain '…' literal held a backslash, which a session with
	// standard_conforming_strings off reads differently, or one with escapes held it behind a byte beyond ASCII,
	// to which it belongs in encodings such as SJIS.
	backslash bool
}

// byteClass is a set of properties of one byte.
type byteClass uint8

const (
	classSpace byteClass = 1 << iota
	classIdentStart
	classDigit
	classIdentCont // letters, digits, $, _ and high-bit bytes
	classOperator
	classSelf
)

// classes is indexed by byte; it is never written after package load.
var classes = func() (t [256]byteClass) {
	for _, c := range []byte(" \t\n\r\f") {
		t[c] |= classSpace
	}
	for c := 0; c < 256; c++ {
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
		digit := c >= '0' && c <= '9'
		if letter {
			t[c] |= classIdentStart | classIdentCont
		}
		if digit {
			t[c] |= classDigit | classIdentCont
		}
	}
	t['$'] |= classIdentCont
	for _, c := range []byte("~!@#^&|`?+-*/%<>=") {
		t[c] |= classOperator
	}
	for _, c := range []byte(",()[].;:+-*/%^<>=") {
		t[c] |= classSelf
	}
	return t
}()

// at is the byte at i, or 0 behind the end.
func (l *lexer) at(i int) byte {
	if i < len(l.src) {
		return l.src[i]
	}
	return 0
}

// next returns the next token, comments included, and moves behind it.
func (l *lexer) next() token {
	src, i := l.src, l.pos
	for i < len(src) && classes[src[i]]&classSpace != 0 {
		i++
	}
	start := i
	if i >= len(src) {
		l.pos = i
		return token{tokenEnd, i, i}
	}
	var kind tokenKind
	c := src[i]
	switch cl := classes[c]; {
	case cl&classIdentStart != 0:
		kind, i = l.word(i)
	case cl&classDigit != 0 || c == '.' && classes[l.at(i+1)]&classDigit != 0:
		kind, i = l.number(i)
	case c == '\'':
		kind, i = l.quotes(i, tokenString)
	case c == '"':
		kind, i = l.quotedIdent(i, tokenQuoted)
	case c == '$':
		kind, i = l.dollar(i)
	case c == '-' && l.at(i+1) == '-':
		kind, i = tokenComment, l.lineEnd(i)
	case c == '/' && l.at(i+1) == '*':
		kind, i = l.blockComment(i)
	case c == ':' && (l.at(i+1) == ':' || l.at(i+1) == '='), c == '.' && l.at(i+1) == '.':
		kind, i = tokenOperator, i+2
	case cl&classOperator != 0:
		kind, i = l.operator(i)
	case cl&classSelf != 0:
		kind, i = tokenSelf, i+1
	default:
		kind, i = tokenBad, i+1
	}
	l.pos = i
	return token{kind, start, i}
}

// nextCode is next without comments.
func (l *lexer) nextCode() token {
	for {
		if t := l.next(); t.kind != tokenComment {
			return t
		}
	}
}

// word reads an identifier, or the literal that a one-letter prefix announces.
func (l *lexer) word(i int) (tokenKind, int) {
	if l.at(i+1) == '\'' {
		switch l.src[i] {
		case 'e', 'E':
			return l.quotes(i+1, tokenEscape)
		case 'b', 'B', 'x', 'X':
			return l.quotes(i+1, tokenBits)
		case 'n', 'N':
			return l.quotes(i+1, tokenNational)
		}
	}
	if (l.src[i] == 'u' || l.src[i] == 'U') && l.at(i+1) == '&' {
		switch l.at(i + 2) {
		case '\'':
			return l.quotes(i+2, tokenUString)
		case '"':
			return l.quotedIdent(i+2, tokenUnicode)
		}
	}
	for i < len(l.src) && classes[l.src[i]]&classIdentCont != 0 {
		i++
	}
	return tokenIdent, i
}

// quotes reads a quoted literal whose first quote is at i, with the segments that continue it on later lines.
func (l *lexer) quotes(i int, kind tokenKind) (tokenKind, int) {
	for {
		end, ok := l.segment(i+1, kind)
		if !ok {
			return tokenBad, end
		}
		next, more := l.continuation(end)
		if !more {
			return kind, end
		}
		i = next
	}
}

// segment reads up to and with the closing quote; i is behind the opening one.
func (l *lexer) segment(i int, kind tokenKind) (end int, ok bool) {
	src := l.src
	for i < len(src) {
		switch src[i] {
		case '\'':
			if kind == tokenBits || l.at(i+1) != '\'' {
				return i + 1, true
			}
			i += 2
		case '\\':
			l.backslash = l.backslash || kind != tokenEscape || src[i-1] >= utf8.RuneSelf
			i++
			if kind == tokenEscape {
				i++ // whatever is escaped
			}
		default:
			i++
		}
	}
	return len(src), false
}

// continuation looks behind a closing quote for white space with a line break and another quote,
// which PostgreSQL takes as more of the same literal.
func (l *lexer) continuation(i int) (quote int, more bool) {
	newline := false
	for i < len(l.src) {
		c := l.src[i]
		switch {
		case c == '\n' || c == '\r':
			newline = true
			i++
		case classes[c]&classSpace != 0:
			i++
		case c == '-' && l.at(i+1) == '-':
			i = l.lineEnd(i)
		case c == '\'' && newline:
			return i, true
		default:
			return 0, false
		}
	}
	return 0, false
}

func (l *lexer) quotedIdent(i int, kind tokenKind) (tokenKind, int) {
	quote := i
	for i = quote + 1; i < len(l.src); i++ {
		if l.src[i] != '"' {
			continue
		}
		if l.at(i+1) == '"' {
			i++
			continue
		}
		if i == quote+1 {
			return tokenBad, i + 1 // PostgreSQL refuses ""
		}
		return kind, i + 1
	}
	return tokenBad, len(l.src)
}

// dollar reads $1 or $tag$…$tag$.
func (l *lexer) dollar(i int) (tokenKind, int) {
	j := i + 1
	if classes[l.at(j)]&classDigit != 0 {
		for classes[l.at(j)]&classDigit != 0 {
			j++
		}
		if classes[l.at(j)]&classIdentStart != 0 {
			return l.junk(j)
		}
		return tokenParam, j
	}
	if classes[l.at(j)]&classIdentStart != 0 {
		for j < len(l.src) && l.src[j] != '$' && classes[l.src[j]]&classIdentCont != 0 {
			j++
		}
	}
	if l.at(j) != '$' {
		return tokenBad, i + 1
	}
	j++
	tag := l.src[i:j]
	for k := j; k+len(tag) <= len(l.src); k++ {
		if l.src[k] == '$' && string(l.src[k:k+len(tag)]) == string(tag) {
			return tokenDollar, k + len(tag)
		}
	}
	return tokenBad, len(l.src)
}

// number reads a decimal constant. Letters that touch it, underscores and other bases are tokenBad: versions differ on them.
func (l *lexer) number(i int) (tokenKind, int) {
	kind := tokenInteger
	i = l.digits(i)
	if l.at(i) == '.' && l.at(i+1) != '.' {
		kind = tokenNumber
		i = l.digits(i + 1)
	}
	if c := l.at(i); c == 'e' || c == 'E' {
		j := i + 1
		if c := l.at(j); c == '+' || c == '-' {
			j++
		}
		if classes[l.at(j)]&classDigit != 0 {
			kind = tokenNumber
			i = l.digits(j)
		}
	}
	if classes[l.at(i)]&classIdentStart != 0 {
		return l.junk(i)
	}
	return kind, i
}

func (l *lexer) digits(i int) int {
	for classes[l.at(i)]&classDigit != 0 {
		i++
	}
	return i
}

// junk takes the letters that follow a number as part of a bad token.
func (l *lexer) junk(i int) (tokenKind, int) {
	for i < len(l.src) && classes[l.src[i]]&classIdentCont != 0 {
		i++
	}
	return tokenBad, i
}

func (l *lexer) lineEnd(i int) int {
	for i < len(l.src) && l.src[i] != '\n' && l.src[i] != '\r' {
		i++
	}
	return i
}

// blockComment reads a comment; PostgreSQL nests them.
func (l *lexer) blockComment(i int) (tokenKind, int) {
	depth := 0
	for i < len(l.src) {
		switch {
		case l.src[i] == '/' && l.at(i+1) == '*':
			depth++
			i += 2
		case l.src[i] == '*' && l.at(i+1) == '/':
			depth--
			i += 2
			if depth == 0 {
				return tokenComment, i
			}
		default:
			i++
		}
	}
	return tokenBad, len(l.src)
}

// maxOperator is the longest run of operator bytes that is cut up: each sign given back is read again, in PostgreSQL's scanner too, which
// is quadratic. An operator's name has at most 63 bytes.
const maxOperator = 256

// operator reads the longest operator: it stops before a comment, and gives back a trailing + or -
// unless one of ~ ! @ # ^ & | ` ? % makes it PostgreSQL's own to keep.
func (l *lexer) operator(i int) (tokenKind, int) {
	start := i
	keepsSign := false
	for i < len(l.src) && classes[l.src[i]]&classOperator != 0 {
		if c := l.src[i]; i > start && (c == '-' && l.at(i+1) == '-' || c == '/' && l.at(i+1) == '*') {
			break
		}
		i++
	}
	if i-start > maxOperator {
		return tokenBad, i
	}
	for _, c := range l.src[start:i] {
		switch c {
		case '~', '!', '@', '#', '^', '&', '|', '`', '?', '%':
			keepsSign = true
		}
	}
	for !keepsSign && i-start > 1 && (l.src[i-1] == '+' || l.src[i-1] == '-') {
		i--
	}
	if i-start == 1 && classes[l.src[start]]&classSelf != 0 {
		return tokenSelf, i
	}
	return tokenOperator, i
}
