package parser

import (
	"bytes"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	pg "github.com/pganalyze/pg_query_go/v5"
)

// grammarTokens cuts text with PostgreSQL's own scanner; ok is false if it rejects the text.
func grammarTokens(text string) (tokens []*pg.ScanToken, ok bool) {
	grammarLock.Lock()
	defer grammarLock.Unlock()
	result, err := pg.Scan(text)
	if err != nil {
		return nil, false
	}
	for _, t := range result.Tokens {
		if t.Token != pg.Token_SQL_COMMENT && t.Token != pg.Token_C_COMMENT {
			tokens = append(tokens, t)
		}
	}
	return tokens, true
}

// sameClass says whether PostgreSQL's scanner takes our token for the same sort of thing.
func sameClass(text string, ours token, theirs *pg.ScanToken) bool {
	is := func(all ...pg.Token) bool { return slices.Contains(all, theirs.Token) }
	word := text[ours.start:ours.end]
	switch ours.kind {
	case tokenIdent:
		return is(pg.Token_IDENT) || theirs.KeywordKind != pg.KeywordKind_NO_KEYWORD
	case tokenQuoted:
		return is(pg.Token_IDENT)
	case tokenInteger:
		return fitsInt4([]byte(word)) && is(pg.Token_ICONST) || !fitsInt4([]byte(word)) && is(pg.Token_FCONST)
	case tokenNumber:
		return is(pg.Token_FCONST)
	case tokenParam:
		return is(pg.Token_PARAM)
	case tokenString, tokenEscape, tokenDollar:
		return is(pg.Token_SCONST)
	case tokenBits:
		return is(pg.Token_BCONST, pg.Token_XCONST)
	case tokenOperator:
		return is(pg.Token_Op, pg.Token_TYPECAST, pg.Token_DOT_DOT, pg.Token_COLON_EQUALS, pg.Token_EQUALS_GREATER,
			pg.Token_LESS_EQUALS, pg.Token_GREATER_EQUALS, pg.Token_NOT_EQUALS)
	case tokenSelf:
		return int(theirs.Token) == int(word[0]) // ASCII_40 is 40
	}
	return false
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
			tokens = append(tokens, token{kind: tokenIdent, start: t.start, end: t.start + 1})
			t.kind, t.start = tokenString, t.start+1
		}
		tokens = append(tokens, t)
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
		if ours[i].start != int(theirs[i].Start) || ours[i].end != int(theirs[i].End) {
			t.Fatalf("token %d is %q, PostgreSQL has %q, in %q", i,
				text[ours[i].start:ours[i].end], text[theirs[i].Start:theirs[i].End], text)
		}
		if !sameClass(text, ours[i], theirs[i]) {
			t.Fatalf("token %d, %q, is of kind %d, PostgreSQL has %s, in %q", i,
				text[ours[i].start:ours[i].end], ours[i].kind, theirs[i].Token, text)
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
	if compared < 400 {
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
	for text, want := range map[string]bool{`'a\b'`: true, `E'a\b'`: false, `E'ä\b'`: true, `E'\ä'`: false, `"a\b"`: false, `$$\$$`: false, `'a'`: false, `-- '\'`: false} {
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
