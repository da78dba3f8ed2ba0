package copyrows

import "bytes"

// line returns the length of the line at c.from with its end, 0 if that has not come yet. Lines end with a newline
// (CopyReadLineText in src/backend/commands/copyfromparse.c); one that only a carriage return ends is read as a part of
// the next, and the server refuses it.
func (c *Cutter) line() int {
	if c.format.Kind == CSV {
		return c.lineCSV()
	}
	for i := c.at; i < len(c.buf); i++ {
		switch c.buf[i] {
		case '\\':
			i++ // whatever follows is data
			if i >= len(c.buf) {
				c.at = i - 1
				return 0
			}
		case '\n':
			return i + 1 - c.from
		}
	}
	c.at = len(c.buf)
	return 0
}

// lineCSV is line where a newline inside quotes is data.
func (c *Cutter) lineCSV() int {
	escapes := c.format.Escape != c.format.Quote // two quotes end the quoted part and begin it again
	for i := c.at; i < len(c.buf); i++ {
		b := c.buf[i]
		escape := escapes && b == c.format.Escape
		if c.quoted && escape {
			c.escape = !c.escape
		}
		if b == c.format.Quote && !c.escape {
			c.quoted = !c.quoted
		}
		if !escape {
			c.escape = false
		}
		if b == '\n' && !c.quoted {
			return i + 1 - c.from
		}
	}
	c.at = len(c.buf)
	return 0
}

// fieldsText reads the fields of a line of Text (CopyReadAttributesText).
func (c *Cutter) fieldsText(line []byte) {
	for i := 0; ; i++ {
		end, escaped := len(line), false
		for j := 0; j < len(line); j++ {
			if line[j] == '\\' {
				escaped = true
				j++
			} else if line[j] == c.format.Delimiter {
				end = j
				break
			}
		}
		if c.wants(i) {
			field := line[:end]
			null := string(field) == c.format.Null
			if escaped && !null {
				field = c.unescape(field)
			}
			c.keep(i, field, null)
		}
		if end >= len(line) {
			return
		}
		line = line[end+1:]
	}
}

// unescape takes the backslashes out of a field of Text.
func (c *Cutter) unescape(field []byte) []byte {
	from := len(c.spare)
	for i := 0; i < len(field); i++ {
		b := field[i]
		if b != '\\' || i+1 >= len(field) {
			c.spare = append(c.spare, b)
			continue
		}
		i++
		switch b = field[i]; b {
		case 'b':
			b = '\b'
		case 'f':
			b = '\f'
		case 'n':
			b = '\n'
		case 'r':
			b = '\r'
		case 't':
			b = '\t'
		case 'v':
			b = '\v'
		case 'x':
			if v, n := number(field[i+1:], 16, 2); n > 0 {
				b, i = v, i+n
			}
		case '0', '1', '2', '3', '4', '5', '6', '7':
			v, n := number(field[i:], 8, 3)
			b, i = v, i+n-1
		}
		c.spare = append(c.spare, b)
	}
	return c.spare[from:len(c.spare):len(c.spare)]
}

// number reads up to most digits.
func number(b []byte, base, most int) (value byte, n int) {
	v := 0
	for n < len(b) && n < most {
		d := digit(b[n])
		if d >= base {
			break
		}
		v, n = v*base+d, n+1
	}
	return byte(v), n
}

func digit(b byte) int {
	switch {
	case b >= '0' && b <= '9':
		return int(b - '0')
	case b >= 'a' && b <= 'f':
		return int(b-'a') + 10
	case b >= 'A' && b <= 'F':
		return int(b-'A') + 10
	}
	return 16
}

// fieldsCSV reads the fields of a line of CSV (CopyReadAttributesCSV).
func (c *Cutter) fieldsCSV(line []byte) {
	for i := 0; ; i++ {
		n, value, quoted := c.fieldCSV(line)
		if c.wants(i) {
			c.keep(i, value, !quoted && string(value) == c.format.Null)
		}
		if n >= len(line) {
			return
		}
		line = line[n+1:]
	}
}

// fieldCSV reads the first field of a line: its length there, and its value.
func (c *Cutter) fieldCSV(line []byte) (n int, value []byte, quoted bool) {
	if at := bytes.IndexByte(line, c.format.Delimiter); bytes.IndexByte(line[:max(at, 0)], c.format.Quote) < 0 && (at >= 0 || bytes.IndexByte(line, c.format.Quote) < 0) {
		if at < 0 {
			at = len(line)
		}
		return at, line[:at], false
	}
	from := len(c.spare)
	inside := false
	for n < len(line) {
		b := line[n]
		switch {
		case !inside && b == c.format.Delimiter:
			return n, c.spare[from:len(c.spare):len(c.spare)], quoted
		case !inside && b == c.format.Quote:
			inside, quoted = true, true
		case inside && b == c.format.Escape && n+1 < len(line) && (line[n+1] == c.format.Escape || line[n+1] == c.format.Quote):
			n++
			c.spare = append(c.spare, line[n])
		case inside && b == c.format.Quote:
			inside = false
		default:
			c.spare = append(c.spare, b)
		}
		n++
	}
	return n, c.spare[from:len(c.spare):len(c.spare)], quoted
}
