package parser

import (
	"errors"
	"fmt"
)

var (
	errEditOrder = errors.New("edits that overlap or are not in order")
	errEditRange = errors.New("edit behind the end of the text")
	errEditPlace = errors.New("edit without a place")
	errEditText  = errors.New("edit that changes the tokens around it")
)

// Edit replaces the tokens of Span by Text. A Span without tokens, From equal to To, puts Text before that token, or behind the last.
type Edit struct {
	Span
	Text string
}

// Splice returns sql with the edits, which are sorted by Span and do not overlap; those at one place follow one another. Everything else stays
// as it is, comments too; those inside replaced tokens go. It is an error if an edit does not leave the tokens around it as they are, such as
// one with a quote that does not end, or if a Span is zero, which stands for a place that is not known.
func Splice(sql []byte, edits []Edit) ([]byte, error) {
	tokens := Tokens(sql, nil)
	size := len(sql)
	for i, e := range edits {
		switch {
		case e.Span == (Span{}):
			return nil, fmt.Errorf("splice statement: %w", errEditPlace)
		case e.From < 0 || e.To < e.From || i > 0 && e.From < edits[i-1].To:
			return nil, fmt.Errorf("splice statement: %w", errEditOrder)
		case e.To > len(tokens):
			return nil, fmt.Errorf("splice statement: %w", errEditRange)
		}
		size += len(e.Text) + len("  ")
	}
	out, at := make([]byte, 0, size), 0
	for _, e := range edits {
		start, end := places(tokens, e.Span)
		out = appendApart(out, sql[at:start])
		out = appendApart(out, []byte(e.Text))
		at = end
	}
	out = appendApart(out, sql[at:])
	if !isSpliced(out, sql, tokens, edits) {
		return nil, fmt.Errorf("splice statement: %w", errEditText)
	}
	return out, nil
}

// isSpliced says whether out has the tokens of sql, but for those of the edits.
func isSpliced(out, sql []byte, tokens []Token, edits []Edit) bool {
	rest := Tokens(out, nil)
	take := func(src []byte, list []Token) bool {
		if len(rest) < len(list) {
			return false
		}
		for i, t := range list {
			if string(out[rest[i].Start:rest[i].End]) != string(src[t.Start:t.End]) {
				return false
			}
		}
		rest = rest[len(list):]
		return true
	}
	at := 0
	for _, e := range edits {
		text := []byte(e.Text)
		if !take(sql, tokens[at:e.From]) || !take(text, Tokens(text, nil)) {
			return false
		}
		at = e.To
	}
	return take(sql, tokens[at:]) && len(rest) == 0
}

// places are the bytes that a span covers.
func places(tokens []Token, s Span) (start, end int) {
	switch {
	case len(tokens) == 0:
		return 0, 0
	case s.From == s.To && s.From == len(tokens):
		end = tokens[s.From-1].End // before a comment that ends the text
		return end, end
	case s.From == s.To:
		return tokens[s.From].Start, tokens[s.From].Start
	}
	return tokens[s.From].Start, tokens[s.To-1].End
}

// appendApart appends text, behind a space if there is none.
func appendApart(out, text []byte) []byte {
	if len(out) > 0 && len(text) > 0 && classes[out[len(out)-1]]&classSpace == 0 && classes[text[0]]&classSpace == 0 {
		out = append(out, ' ')
	}
	return append(out, text...)
}
