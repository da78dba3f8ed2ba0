package parser

import "encoding/binary"

// shape is a text that a template was made of, with the places of its integers. A text that is the same but for those
// integers has the same tokens, and so the same template: the comparison takes a tenth of the time that cutting it
// into tokens does. Clients that send simple queries mostly send texts of this kind, and those that send parameters the
// very same text. Immutable.
type shape struct {
	text  string
	spans []span // of the integers, in order; none if the text has none
	place uint64 // shapePlace of text
}

// span is text[start:end].
type span struct{ start, end int }

const (
	// maxShape is the longest text, in bytes, whose shape is kept: longer ones cost more in parsing anyway.
	maxShape = 1 << 10
	// maxShapeDigits is how many digits make an integer whatever they are: longer ones may be numeric (fitsInt4).
	maxShapeDigits = 9
	// shapePrefix is how many bytes of a text choose its place.
	shapePrefix = 24
	// shapePlaces is the number of places: a power of two, with shapeWays sixteen kilobytes of pointers.
	shapePlaces = 512
	// shapeWays is how many shapes may have the same place: "a + 5" and "a + -5" are two, and pgbench sends either at random.
	shapeWays = 4
)

// shapePlace chooses the place of a text. Texts that differ in a number within the first bytes are found by their
// templates.
func shapePlace(text []byte) uint64 {
	if len(text) < shapePrefix {
		var padded [shapePrefix]byte
		copy(padded[:], text)
		text = padded[:]
	}
	const odd = 0x9e3779b97f4a7c15 // 2^64 divided by the golden ratio: spreads what differs anywhere over the upper bits
	h := binary.LittleEndian.Uint64(text)
	h = h*odd ^ binary.LittleEndian.Uint64(text[8:])
	h = h*odd ^ binary.LittleEndian.Uint64(text[16:])
	return h * odd >> 32 % shapePlaces
}

// shapeOf returns the shape of a text that has a template; nil when it is too long.
func shapeOf(text string) *shape {
	if len(text) > maxShape {
		return nil
	}
	s := &shape{text: text, place: shapePlace([]byte(text))}
	l := lexer{src: []byte(text)}
	for {
		switch t := l.next(); t.kind {
		case tokenEnd:
			return s
		case tokenInteger:
			if t.end-t.start <= maxShapeDigits {
				s.spans = append(s.spans, span{t.start, t.end})
			}
		}
	}
}

// matches reports whether text is s but for its integers. It does not allocate.
func (s *shape) matches(text []byte) bool {
	from, at := 0, 0 // what is compared already of s.text and of text
	for _, one := range s.spans {
		n := one.start - from
		if len(text)-at <= n || string(text[at:at+n]) != s.text[from:one.start] {
			return false
		}
		at += n
		digits := 0
		for at < len(text) && classes[text[at]]&classDigit != 0 {
			at++
			digits++
		}
		if digits == 0 || digits > maxShapeDigits {
			return false
		}
		from = one.end
	}
	return string(text[at:]) == s.text[from:]
}

// bytes estimates the memory of s.
func (s *shape) bytes() int64 {
	const spanBytes, shapeBytes = 16, 48
	if s == nil {
		return 0
	}
	return shapeBytes + spanBytes*int64(cap(s.spans)) + int64(len(s.text))
}
