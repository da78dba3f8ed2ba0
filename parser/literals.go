package parser

import (
	"bytes"
)

// Literal is a constant that the template takes out of a text.
type Literal struct {
	Kind LiteralKind
	// Value is what the constant says: a string without quotes, an integer without leading zeros, another number as written, the digits of
	// bits. It is a part of the text where that has it in one piece.
	Value []byte
}

// LiteralKind is how a literal is written. All texts of a template have the same kind at the same place, but that LiteralBits and LiteralHex
// may stand for each other.
type LiteralKind uint8

// The kinds of literals.
const (
	LiteralString   LiteralKind = iota // '…' and $$…$$
	LiteralInteger                     // of four bytes
	LiteralNumber                      // any other number
	LiteralBits                        // B'…'
	LiteralHex                         // X'…'
	LiteralNational                    // N'…', a bpchar
)

// Literals appends to dst the literals that the template takes out of sql, in order: Value.Literal is an index of this list. ok is false if
// the whole text is the key of its Statement, whose constants are then in Value.Text; dst is returned as it came. Values are valid as long as sql is
// not changed. It allocates only for doubled quotes and for literals that go on in another line.
func Literals(sql []byte, dst []Literal) (list []Literal, ok bool) {
	list = dst
	if !takeOut(sql, func(t token) { list = append(list, literalOf(sql, t)) }) {
		return dst, false
	}
	return list, true
}

// literalPlaces are the offsets at which the grammar sees the literals that the template of sql takes out: that of N'…' is its quote.
func literalPlaces(sql []byte) (offsets []int) {
	ok := takeOut(sql, func(t token) {
		if t.kind == tokenNational {
			t.start++
		}
		offsets = append(offsets, t.start)
	})
	if !ok {
		return nil
	}
	return offsets
}

// literalOf reads one literal.
func literalOf(sql []byte, t token) Literal {
	text := sql[t.start:t.end]
	switch t.kind {
	case tokenInteger:
		digits := text[:len(text)-1]
		zeros := len(digits) - len(bytes.TrimLeft(digits, "0"))
		kind := LiteralNumber
		if fitsInt4(text) {
			kind, text = LiteralInteger, text[zeros:]
		}
		return Literal{kind, text}
	case tokenNumber:
		return Literal{LiteralNumber, text}
	case tokenDollar:
		tag := bytes.IndexByte(text[1:], '$') + len("$$")
		return Literal{LiteralString, text[tag : len(text)-tag]}
	}
	kind := LiteralString
	switch text[0] {
	case 'b', 'B':
		kind = LiteralBits
	case 'x', 'X':
		kind = LiteralHex
	case 'n', 'N':
		kind = LiteralNational
	}
	return Literal{kind, quotedValue(sql, t)}
}

// text is the literal as the grammar has it (constantText), behind a minus sign if it is negative.
func (l Literal) text(negative bool) string {
	switch l.Kind {
	case LiteralInteger, LiteralNumber:
		if negative && string(l.Value) != "0" {
			return "-" + string(l.Value)
		}
	case LiteralBits:
		return "b" + string(l.Value)
	case LiteralHex:
		return "x" + string(l.Value)
	}
	return string(l.Value)
}

// quotedValue is what stands between the quotes of a literal, its segments joined. No backslash escapes in it.
func quotedValue(sql []byte, t token) []byte {
	l := lexer{src: sql}
	quote := t.start
	if sql[quote] != '\'' {
		quote++
	}
	var joined []byte
	for {
		end, _ := l.segment(quote+1, t.kind)
		text := sql[quote+1 : end-1]
		plain := bytes.IndexByte(text, '\'') < 0
		if plain && end >= t.end && joined == nil {
			return text
		}
		joined = append(joined, bytes.ReplaceAll(text, []byte("''"), []byte("'"))...)
		if end >= t.end {
			return joined
		}
		quote, _ = l.continuation(end)
	}
}
