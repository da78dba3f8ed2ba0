package session

import (
	"encoding/binary"

	"pgtier/proxy/wire"
	"pgtier/router/plan"
)

// bound is a Bind taken apart. Its slices are parts of the message.
type bound struct {
	portal, statement []byte
	// head are the parameters with their formats, as they stand in the message.
	head []byte
	// formats are the result formats asked for, two bytes each.
	formats []byte
	params  []plan.Param
}

// splitBound takes a Bind apart; its parameters are appended to params. types are those that the Parse declared. ok is
// false for a message that the server would not take either.
func splitBound(frame []byte, types []uint32, params []plan.Param) (b bound, ok bool) {
	var rest int
	if b.portal, b.statement, rest, ok = splitBind(frame); !ok {
		return b, false
	}
	body := frame[rest:]
	from := body
	if len(body) < 2 {
		return b, false
	}
	n := int(binary.BigEndian.Uint16(body))
	if body = body[2:]; len(body) < 2*n+2 {
		return b, false
	}
	formats := body[:2*n]
	body = body[2*n:]
	count := int(binary.BigEndian.Uint16(body))
	body = body[2:]
	if n > 1 && n != count {
		return b, false
	}
	for i := range count {
		p := plan.Param{Binary: formatOf(formats, i) == 1}
		if i < len(types) {
			p.OID = types[i]
		}
		if len(body) < 4 {
			return b, false
		}
		size := int(int32(binary.BigEndian.Uint32(body)))
		body = body[4:]
		switch {
		case size == -1:
			p.Null = true
		case size < 0 || size > len(body):
			return b, false
		default:
			p.Value, body = body[:size], body[size:]
		}
		params = append(params, p)
	}
	b.head = from[:len(from)-len(body)]
	b.params = params
	if len(body) < 2 || len(body) != 2+2*int(binary.BigEndian.Uint16(body)) {
		return b, false
	}
	b.formats = body[2:]
	return b, true
}

// formatOf is the format of the i-th value: one given is for all, none is text.
func formatOf(formats []byte, i int) int16 {
	switch len(formats) / 2 {
	case 0:
		return 0
	case 1:
		i = 0
	}
	if 2*i+2 > len(formats) {
		return 0
	}
	return int16(binary.BigEndian.Uint16(formats[2*i:]))
}

// noParams is the head of a Bind without parameters.
var noParams = []byte{0, 0, 0, 0}

// appendBound appends a Bind of the unnamed statement to the unnamed portal: the parameters of head, results in formats.
func appendBound(dst, head []byte, formats []int16) []byte {
	dst, at := wire.Begin(dst, wire.MsgBind)
	dst = append(dst, 0, 0)
	dst = append(dst, head...)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(formats)))
	for _, f := range formats {
		dst = binary.BigEndian.AppendUint16(dst, uint16(f))
	}
	return wire.End(dst, at)
}

// appendParams appends the head of a Bind with these parameters.
func appendParams(dst []byte, params []plan.Param) []byte {
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(params)))
	for i := range params {
		format := uint16(0)
		if params[i].Binary {
			format = 1
		}
		dst = binary.BigEndian.AppendUint16(dst, format)
	}
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(params)))
	for i := range params {
		if params[i].Null {
			dst = binary.BigEndian.AppendUint32(dst, 1<<32-1)
			continue
		}
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(params[i].Value)))
		dst = append(dst, params[i].Value...)
	}
	return dst
}
