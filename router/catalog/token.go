package catalog

import "strings"

// maxName is the length in bytes at which PostgreSQL cuts identifiers: NAMEDATALEN - 1 of its src/include/pg_config_manual.h.
const maxName = 63

// tokenKind says what a token is to the scanner.
type tokenKind uint8

const (
	tokenWord    tokenKind = iota // identifier or keyword; text is folded to lower case
	tokenQuoted                   // "identifier"; text is what the quotes hold
	tokenLiteral                  // '…' or $tag$…$tag$; text is the value
	tokenEscaped                  // a literal with escapes that are not resolved; text is as written
	tokenSymbol                   // one byte of anything else: operators, parentheses, digits
	tokenBad                      // text that servers may read in several ways, or not at all
)

// token is a piece of a function's body.
type token struct {
	kind tokenKind
	text string
}

// is says whether t is one of these unquoted words or symbols.
func (t token) is(texts ...string) bool {
	if t.kind != tokenWord && t.kind != tokenSymbol {
		return false
	}
	for _, text := range texts {
		if t.text == text {
			return true
		}
	}
	return false
}

// tokens cuts a body by the rules of PostgreSQL's src/backend/parser/scan.l and leaves out comments and white space.
// It takes any bytes.
func tokens(body string) []token {
	var out []token
	for i := 0; i < len(body); {
		c := body[i]
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v':
			i++
		case strings.HasPrefix(body[i:], "--"):
			i = lineEnd(body, i)
		case strings.HasPrefix(body[i:], "/*"):
			end, ok := commentEnd(body, i)
			if !ok {
				out = append(out, token{kind: tokenBad})
			}
			i = end
		default:
			var t token
			t, i = next(body, i)
			out = append(out, t)
		}
	}
	return out
}

// next reads the token at i, which is no space and no comment.
func next(body string, i int) (token, int) {
	c := body[i]
	switch {
	case c == '\'':
		return quotes(body, i, false)
	case c == '"':
		return quotedName(body, i)
	case c == '$':
		return dollar(body, i)
	case !startsWord(c):
		return token{tokenSymbol, body[i : i+1]}, i + 1
	}
	if i+1 < len(body) && body[i+1] == '\'' {
		switch c {
		case 'e', 'E':
			return quotes(body, i+1, true)
		case 'b', 'B', 'x', 'X', 'n', 'N':
			return quotes(body, i+1, false)
		}
	}
	if (c == 'u' || c == 'U') && i+2 < len(body) && body[i+1] == '&' && (body[i+2] == '\'' || body[i+2] == '"') {
		return token{kind: tokenBad}, i + 2 // escapes may spell any name
	}
	end := wordEnd(body, i)
	return token{tokenWord, fold(body[i:end])}, end
}

// quotes reads a literal whose opening quote is at i. Segments on later lines that continue it are tokens of their own:
// a run of literals never counts as a plain one.
func quotes(body string, i int, escapes bool) (token, int) {
	start := i + 1
	doubled, escaped := false, false
	for i = start; i < len(body); i++ {
		switch {
		case body[i] == '\\' && escapes:
			escaped = true
			i++
		case body[i] == '\\' && i+1 < len(body) && body[i+1] == '\'':
			// With standard_conforming_strings off the literal goes on, with it on it ends here.
			return token{kind: tokenBad}, i + 2
		case body[i] == '\'' && i+1 < len(body) && body[i+1] == '\'':
			doubled = true
			i++
		case body[i] == '\'':
			t := token{tokenLiteral, body[start:i]}
			if escaped {
				t.kind = tokenEscaped
			} else if doubled {
				t.text = strings.ReplaceAll(t.text, "''", "'")
			}
			return t, i + 1
		}
	}
	return token{kind: tokenBad}, len(body)
}

func quotedName(body string, i int) (token, int) {
	start := i + 1
	for i = start; i < len(body); i++ {
		if body[i] != '"' {
			continue
		}
		if i+1 < len(body) && body[i+1] == '"' {
			i++
			continue
		}
		return token{tokenQuoted, cut(strings.ReplaceAll(body[start:i], `""`, `"`))}, i + 1
	}
	return token{kind: tokenBad}, len(body)
}

// dollar reads $tag$…$tag$, or gives back the dollar of a parameter as a symbol.
func dollar(body string, i int) (token, int) {
	j := i + 1
	if j < len(body) && startsWord(body[j]) {
		for j < len(body) && body[j] != '$' && continuesWord(body[j]) {
			j++
		}
	}
	if j >= len(body) || body[j] != '$' {
		return token{tokenSymbol, "$"}, i + 1
	}
	tag := body[i : j+1]
	length := strings.Index(body[j+1:], tag)
	if length < 0 {
		return token{kind: tokenBad}, len(body)
	}
	end := j + 1 + length
	return token{tokenLiteral, body[j+1 : end]}, end + len(tag)
}

func lineEnd(body string, i int) int {
	for i < len(body) && body[i] != '\n' && body[i] != '\r' {
		i++
	}
	return i
}

// commentEnd finds the end of a block comment; they nest.
func commentEnd(body string, i int) (end int, ok bool) {
	depth := 0
	for i < len(body) {
		switch {
		case strings.HasPrefix(body[i:], "/*"):
			depth++
			i += 2
		case strings.HasPrefix(body[i:], "*/"):
			depth--
			i += 2
			if depth == 0 {
				return i, true
			}
		default:
			i++
		}
	}
	return len(body), false
}

func startsWord(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= 0x80
}

func continuesWord(c byte) bool { return startsWord(c) || c >= '0' && c <= '9' || c == '$' }

func wordEnd(text string, i int) int {
	for i < len(text) && continuesWord(text[i]) {
		i++
	}
	return i
}

// fold lowers ASCII letters only, as servers with a multi-byte encoding do, and cuts the name where they do.
func fold(word string) string {
	for i := 0; i < len(word); i++ {
		if c := word[i]; c >= 'A' && c <= 'Z' {
			lower := []byte(word)
			for ; i < len(lower); i++ {
				if c := lower[i]; c >= 'A' && c <= 'Z' {
					lower[i] = c + 'a' - 'A'
				}
			}
			return cut(string(lower))
		}
	}
	return cut(word)
}

func cut(name string) string {
	if len(name) <= maxName {
		return name
	}
	end := maxName
	for end > 0 && name[end]&0xC0 == 0x80 { // not within a character
		end--
	}
	return name[:end]
}
