package parser

import (
	"slices"
	"strings"
)

// tokenText is a text with its tokens, comments left out, numbered as Tokens does.
type tokenText struct {
	src    []byte
	tokens []token
	// closes holds for each opening parenthesis or bracket its partner, -1 if there is none; for other tokens 0.
	closes []int
	// start is the first token of what is read: no token before it says what one behind it is.
	start int
}

func newTokenText(src []byte) *tokenText {
	t := &tokenText{src: src}
	l := lexer{src: src}
	for k := l.nextCode(); k.kind != tokenEnd; k = l.nextCode() {
		t.tokens = append(t.tokens, k)
	}
	t.closes = make([]int, len(t.tokens))
	var open []int
	for i, k := range t.tokens {
		if k.kind != tokenSelf {
			continue
		}
		switch src[k.start] {
		case '(', '[':
			t.closes[i] = -1
			open = append(open, i)
		case ')', ']':
			if len(open) > 0 {
				t.closes[open[len(open)-1]] = i
				open = open[:len(open)-1]
			}
		}
	}
	return t
}

// text is what s covers, with the white space inside.
func (t *tokenText) text(s Span) string {
	if s.From >= s.To {
		return ""
	}
	return string(t.src[t.tokens[s.From].start:t.tokens[s.To-1].end])
}

// is says whether token i is this sign.
func (t *tokenText) is(i int, sign byte) bool {
	return i >= 0 && i < len(t.tokens) && t.tokens[i].kind == tokenSelf && t.src[t.tokens[i].start] == sign
}

// word is token i in lower case if it is an unquoted word that stands neither behind a dot nor as a label behind AS, else "".
func (t *tokenText) word(i int) string {
	if i < 0 || i >= len(t.tokens) || t.tokens[i].kind != tokenIdent || i > t.start && (t.is(i-1, '.') || t.word(i-1) == "as") {
		return ""
	}
	return strings.ToLower(string(t.src[t.tokens[i].start:t.tokens[i].end]))
}

// at is the number of the token that begins at a byte offset, -1 if none does.
func (t *tokenText) at(offset int) int {
	i, found := slices.BinarySearchFunc(t.tokens, offset, func(k token, offset int) int { return k.start - offset })
	if !found {
		return -1
	}
	return i
}

// past is the token behind token i, and behind what i opens; ok is false if that does not end before end.
func (t *tokenText) past(i, end int) (next int, ok bool) {
	if t.closes[i] == 0 {
		return i + 1, i < end
	}
	return t.closes[i] + 1, t.closes[i] > 0 && t.closes[i] < end
}

// split cuts s at the commas outside parentheses; nil if parentheses do not fit.
func (t *tokenText) split(s Span) (items []Span) {
	from := s.From
	for i := s.From; i < s.To; {
		if t.is(i, ',') {
			items = append(items, Span{from, i})
			from = i + 1
		}
		next, ok := t.past(i, s.To)
		if !ok {
			return nil
		}
		i = next
	}
	return append(items, Span{from, s.To})
}

// find is the first token of s outside parentheses that is this word, -2 if there is none.
func (t *tokenText) find(s Span, word string) int {
	for i := s.From; i < s.To; {
		if t.word(i) == word {
			return i
		}
		next, ok := t.past(i, s.To)
		if !ok {
			break
		}
		i = next
	}
	return -2
}
