package copyrows

import "encoding/binary"

// signature begins a binary stream (BinarySignature in src/backend/commands/copyfromparse.c).
const signature = "PGCOPY\n\377\r\n\x00"

// binary returns the length of the piece at c.from and what it is, 0 if it is not whole.
func (c *Cutter) binary() (n int, part Part, err error) {
	b := c.buf[c.from:]
	if !c.begun {
		return c.binaryHead(b)
	}
	if len(b) < 2 {
		return 0, Row, nil
	}
	count := int(int16(binary.BigEndian.Uint16(b)))
	if count == -1 {
		return 2, End, nil
	}
	if count < 0 {
		return 0, Row, errBinary
	}
	clear(c.fields)
	n = 2
	for i := range count {
		if len(b) < n+4 {
			return 0, Row, nil
		}
		size := int(int32(binary.BigEndian.Uint32(b[n:])))
		n += 4
		switch {
		case size == -1:
			c.keep(i, nil, true)
			continue
		case size < 0 || size > MaxRow:
			return 0, Row, errBinary
		case len(b) < n+size:
			return 0, Row, nil
		}
		c.keep(i, b[n:n+size], false)
		n += size
	}
	return n, Row, nil
}

// binaryHead cuts the signature, the flags and the extension.
func (c *Cutter) binaryHead(b []byte) (n int, part Part, err error) {
	const fixed = len(signature) + 8
	if len(b) < fixed {
		return 0, Head, nil
	}
	extension := int(int32(binary.BigEndian.Uint32(b[fixed-4:])))
	if string(b[:len(signature)]) != signature || extension < 0 || extension > MaxRow {
		return 0, Head, errBinary
	}
	if len(b) < fixed+extension {
		return 0, Head, nil
	}
	c.begun = true
	return fixed + extension, Head, nil
}
