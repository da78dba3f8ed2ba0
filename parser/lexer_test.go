package parser

import (
	"bytes"
	"strings"
	"testing"
	"unicode/utf8"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// grammarTokens cuts text with PostgreSQL's own scanner; ok is false if it rejects the text.
func grammarTokens(text string) (tokens []token, ok bool) {
	grammarLock.Lock()
	defer grammarLock.Unlock()
	result, err := pg.Scan(text)
	if err != nil {
		return nil, false
	}
	for _, t := range result.Tokens {
		if t.Token != pg.Token_SQL_COMMENT && t.Token != pg.Token_C_COMMENT {
			tokens = append(tokens, token{start: int(t.Start), end: int(t.End)})
		}
	}
	return tokens, true
}

func withoutComments(text string) string {
	src := []byte(text)
	blankComments(src)
	return string(src)
}

// ourTokens cuts text with our lexer; sure is false if it met bytes it does not vouch for. It differs from pg_query's scanner on purpose where that
// reports other offsets than the grammar uses: the N of N'…' alone, an empty range for U&'…'.
func ourTokens(text string) (tokens []token, sure bool) {
	l := lexer{src: []byte(text)}
	sure = true
	for t := l.nextCode(); t.kind != tokenEnd; t = l.nextCode() {
		sure = sure && t.kind != tokenBad && t.kind != tokenUString && t.kind != tokenUnicode
		if t.kind == tokenNational {
			tokens = append(tokens, token{start: t.start, end: t.start + 1})
			t.start++
		}
		tokens = append(tokens, token{start: t.start, end: t.end})
	}
	return tokens, sure
}

// checkLexer holds that the tokens cover the text in order, and where both lexers accept it, agree with PostgreSQL's.
func checkLexer(t *testing.T, text string) {
	t.Helper()
	l := lexer{src: []byte(text)}
	last := 0
	for tok := l.next(); tok.kind != tokenEnd; tok = l.next() {
		if tok.start < last || tok.end <= tok.start || tok.end > len(text) {
			t.Fatalf("token %v after offset %d in %q", tok, last, text)
		}
		if strings.Trim(text[last:tok.start], " \t\n\r\f") != "" {
			t.Fatalf("lost %q in %q", text[last:tok.start], text)
		}
		last = tok.end
	}
	ours, sure := ourTokens(text)
	if !sure || !utf8.ValidString(text) || strings.Contains(text, "\x00") {
		return
	}
	theirs, ok := grammarTokens(withoutComments(text))
	if !ok {
		return
	}
	if len(ours) != len(theirs) {
		t.Fatalf("%d tokens %v, PostgreSQL has %d %v, in %q", len(ours), ours, len(theirs), theirs, text)
	}
	for i := range ours {
		if ours[i].start != theirs[i].start || ours[i].end != theirs[i].end {
			t.Fatalf("token %d is %q, PostgreSQL has %q, in %q", i,
				text[ours[i].start:ours[i].end], text[theirs[i].start:theirs[i].end], text)
		}
	}
}

func TestLexerAgreesWithPostgreSQL(t *testing.T) {
	compared := 0
	for _, text := range seeds() {
		checkLexer(t, text)
		if _, sure := ourTokens(text); sure {
			if _, ok := grammarTokens(withoutComments(text)); ok {
				compared++
			}
		}
	}
	if compared < 35 {
		t.Errorf("only %d of %d seeds were compared", compared, len(seeds()))
	}
}

func TestLexerKinds(t *testing.T) {
	for _, c := range []struct {
		text string
		want []tokenKind
	}{
		{`a "b" U&"c"`, []tokenKind{tokenIdent, tokenQuoted, tokenUnicode}},
		{`'a' E'\'' U&'x' b'1' X'f' n'x' $$x$$ $a$ $$ $a$`, []tokenKind{tokenString, tokenEscape, tokenUString, tokenBits, tokenBits, tokenNational, tokenDollar, tokenDollar}},
		{`1 1.5 .5e3 $1`, []tokenKind{tokenInteger, tokenNumber, tokenNumber, tokenParam}},
		{`1a 1_0 0x1 $1a "" 'a`, []tokenKind{tokenBad, tokenBad, tokenBad, tokenBad, tokenBad, tokenBad}},
		{`+ <> :: -- c`, []tokenKind{tokenSelf, tokenOperator, tokenOperator, tokenComment}},
	} {
		l := lexer{src: []byte(c.text)}
		for i, want := range c.want {
			if got := l.next(); got.kind != want {
				t.Errorf("token %d of %q is of kind %d, want %d", i, c.text, got.kind, want)
			}
		}
		if got := l.next(); got.kind != tokenEnd {
			t.Errorf("%q has more tokens: %v", c.text, got)
		}
	}
}

func TestLexerNotesBackslashes(t *testing.T) {
	for text, want := range map[string]bool{`'a\b'`: true, `E'a\b'`: false, `"a\b"`: false, `$$\$$`: false, `'a'`: false, `-- '\'`: false} {
		if _, got := quotes([]byte(text)); got != want {
			t.Errorf("backslash in %s: %v, want %v", text, got, want)
		}
	}
}

func FuzzLexer(f *testing.F) {
	for _, s := range seeds() {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) > 4096 || bytes.Count(text, []byte("(")) > 500 {
			return
		}
		checkLexer(t, string(text))
	})
}
