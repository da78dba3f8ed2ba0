package admin

import "strings"

// statement is one command as it was typed.
type statement struct {
	text  string // without the semicolon and the space around
	words []word // empty: nothing but space and comments
}

// word is a name, a number, a quoted text or a sign.
type word struct {
	text   string
	quoted bool // stood in quotes, which are taken off
	symbol bool // a sign such as = or ,
}

// split divides text into its statements. Comments are dropped, quotes are
// PostgreSQL's; one that is not closed reaches to the end, as a symbol, which no
// command accepts. What stands behind EXPLAIN ROUTE is SQL, whose ends only its own
// grammar knows, so it is all the rest. An empty text has no statement.
func split(text string) []statement {
	var out []statement
	var words []word
	begin, i := 0, 0
	finish := func(end int) {
		st := statement{text: strings.TrimSpace(text[begin:end]), words: words}
		if len(words) > 0 {
			out = append(out, st)
		}
		words = nil
	}
	for i < len(text) {
		if n := blank(text[i:]); n > 0 {
			i += n
			continue
		}
		if text[i] == ';' {
			finish(i)
			i++
			begin = i
			continue
		}
		w, n := nextWord(text[i:])
		if len(words) == 0 {
			begin = i // comments in front are not quoted in errors
		}
		words = append(words, w)
		i += n
		if len(words) == 2 && isWord(words[0], "EXPLAIN") && isWord(words[1], "ROUTE") {
			return append(out, statement{text: strings.TrimSpace(text[begin:]), words: words})
		}
	}
	finish(len(text))
	return out
}

// blank returns how many bytes of space and comment s begins with.
func blank(s string) int {
	switch {
	case strings.IndexByte(" \t\n\r\f\v", s[0]) >= 0:
		return 1
	case strings.HasPrefix(s, "--"):
		if end := strings.IndexByte(s, '\n'); end >= 0 {
			return end + 1
		}
		return len(s)
	case strings.HasPrefix(s, "/*"):
		depth, i := 1, 2
		for i < len(s) && depth > 0 {
			switch {
			case strings.HasPrefix(s[i:], "/*"):
				depth, i = depth+1, i+2
			case strings.HasPrefix(s[i:], "*/"):
				depth, i = depth-1, i+2
			default:
				i++
			}
		}
		return i
	}
	return 0
}

// nextWord reads the word that s, which is not blank, begins with.
func nextWord(s string) (w word, size int) {
	switch c := s[0]; {
	case c == '"' || c == '\'':
		return quoted(s)
	case plain(c):
		n := 1
		for n < len(s) && plain(s[n]) && !strings.HasPrefix(s[n:], "--") {
			n++
		}
		return word{text: s[:n]}, n
	}
	return word{text: s[:1], symbol: true}, 1
}

// plain reports whether c may stand in a word without quotes. More may than in
// PostgreSQL: names of databases with a dash need no quotes.
func plain(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c >= 0x80 || strings.IndexByte("_$.-*", c) >= 0
}

func quoted(s string) (word, int) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		if s[i] != s[0] {
			b.WriteByte(s[i])
			continue
		}
		if i+1 < len(s) && s[i+1] == s[0] {
			i++
			b.WriteByte(s[i])
			continue
		}
		return word{text: b.String(), quoted: true}, i + 1
	}
	return word{text: s, symbol: true}, len(s)
}

func isWord(w word, text string) bool {
	return !w.quoted && !w.symbol && strings.EqualFold(w.text, text)
}

// behind cuts the first n words off a statement's text.
func behind(text string, n int) string {
	for i := 0; ; {
		switch {
		case i >= len(text):
			return ""
		case blank(text[i:]) > 0:
			i += blank(text[i:])
		default:
			_, size := nextWord(text[i:])
			if i += size; n == 1 {
				return text[i:]
			}
			n--
		}
	}
}

// oneOf reports whether text stands in options ("|A|B|"), in any case.
func oneOf(options, text string) bool {
	return !strings.Contains(text, "|") && strings.Contains(options, "|"+strings.ToUpper(text)+"|")
}
