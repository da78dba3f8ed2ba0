package session

import (
	"encoding/binary"
	"strconv"
	"unicode/utf8"

	"pgtier/proxy/wire"
)

// rename tells how a query that went out differs from the client's text: by
// characters more (or fewer) from the end of a name on. The zero value is no
// difference.
type rename struct {
	by   int // characters
	from int // position of the name's first character, from 1
}

// renamed is the difference that writing name in place of text[start:end] makes.
func renamed(text []byte, start, end int, name string) rename {
	return rename{by: utf8.RuneCountInString(name) - utf8.RuneCount(text[start:end]), from: utf8.RuneCount(text[:start]) + 1}
}

// position corrects the position field of an ErrorResponse in place, so that
// the client's caret stands where it would without the proxy, and returns by how
// many bytes the frame became shorter. A position with more digits than before
// is left as it is: it does not fit.
func (n rename) position(frame []byte) (shorter int) {
	body := frame[wire.HeaderBytes:]
	for at := 0; at < len(body) && body[at] != 0; {
		value, _, ok := cutZero(body[at+1:])
		if !ok {
			return 0
		}
		if body[at] != 'P' {
			at += len(value) + 2
			continue
		}
		p, err := strconv.Atoi(string(value))
		if err != nil || p <= n.from {
			return 0
		}
		text := strconv.AppendInt(nil, int64(p-n.by), 10)
		if len(text) > len(value) {
			return 0
		}
		shorter = len(value) - len(text)
		copy(body[at+1:], text)
		copy(body[at+1+len(text):], body[at+1+len(value):])
		binary.BigEndian.PutUint32(frame[1:], uint32(len(frame)-1-shorter))
		return shorter
	}
	return 0
}
