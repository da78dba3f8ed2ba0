package parser

// Span is a range of tokens of a text, [From, To), as Tokens numbers them: it holds for every text of one template. The zero Span is not known.
type Span struct{ From, To int }

// Token is the place of a token in a text: sql[Start:End].
type Token struct{ Start, End int }

// Tokens appends the tokens of sql to dst. Comments are none, those with hints neither, so that a token has the same number in every text of a
// template; a literal that is continued on another line is one token.
func Tokens(sql []byte, dst []Token) []Token {
	l := lexer{src: sql}
	for t := l.nextCode(); t.kind != tokenEnd; t = l.nextCode() {
		dst = append(dst, Token{t.start, t.end})
	}
	return dst
}
