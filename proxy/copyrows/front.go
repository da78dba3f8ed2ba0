package copyrows

import (
	"encoding/binary"
	"errors"
	"math"
	"strings"
)

// Front are fields that each row of a stream gets in front of its own. Immutable.
type Front struct {
	kind  Kind
	count int
	// fields and names are what is put in front of a row and of the line of names, with the delimiters behind them; names is nil if that line is not read.
	fields, names []byte
}

// errReadAsNull is returned for a value that the stream's format would read as NULL.
var errReadAsNull = errors.New("the text of NULL is that of the value")

// NewFront returns the fields with these names and values, as the format writes them: text without NULLs, or bytes for Binary.
func NewFront(format Format, names []string, values [][]byte) (*Front, error) {
	f := &Front{kind: format.Kind, count: len(values)}
	for i := range values {
		if format.Kind == Binary {
			f.fields = binary.BigEndian.AppendUint32(f.fields, uint32(len(values[i])))
			f.fields = append(f.fields, values[i]...)
			continue
		}
		value, name := format.field(string(values[i])), format.field(names[i])
		if value == format.Null || name == format.Null {
			return nil, errReadAsNull
		}
		f.fields = append(append(f.fields, value...), format.Delimiter)
		if format.Match {
			f.names = append(append(f.names, name...), format.Delimiter)
		}
	}
	return f, nil
}

// Append adds a piece of the stream to dst, with the fields in front if it is a row, or with their names if it is the line of names and that is read.
func (f *Front) Append(dst, piece []byte, part Part) []byte {
	switch {
	case f == nil || part == End:
	case part == Head:
		dst = append(dst, f.names...)
	case f.kind != Binary:
		dst = append(dst, f.fields...)
	case len(piece) >= 2:
		count := int(binary.BigEndian.Uint16(piece))
		if count > math.MaxInt16-f.count { // which no server takes
			break
		}
		dst = binary.BigEndian.AppendUint16(dst, uint16(count+f.count))
		return append(append(dst, f.fields...), piece[2:]...)
	}
	return append(dst, piece...)
}

// Count is how many fields there are.
func (f *Front) Count() int {
	if f == nil {
		return 0
	}
	return f.count
}

// Cut takes the fields, or their names, off what a server says behind the number of a line: `: "line"`, or `: "beginning..."` of a long one.
func (f *Front) Cut(text string) string {
	if f == nil || f.kind == Binary {
		return text
	}
	for _, front := range []string{string(f.fields), string(f.names)} {
		if shown, cut := strings.CutSuffix(text, `..."`); cut && len(shown) > 3 && strings.HasPrefix(`: "`+front, shown) {
			return ""
		}
		if rest, ok := strings.CutPrefix(text, `: "`+front); ok && front != "" {
			return `: "` + rest
		}
	}
	return text
}

// field writes a value as a field of Text or CSV (CopyAttributeOutText and CopyAttributeOutCSV in src/backend/commands/copyto.c); of CSV always in quotes,
// so that it is not NULL.
func (f *Format) field(value string) string {
	var out strings.Builder
	if f.Kind == CSV {
		out.WriteByte(f.Quote)
		for i := range len(value) {
			if value[i] == f.Quote || value[i] == f.Escape {
				out.WriteByte(f.Escape)
			}
			out.WriteByte(value[i])
		}
		out.WriteByte(f.Quote)
		return out.String()
	}
	for i := range len(value) {
		b := value[i]
		if at := strings.IndexByte("\b\f\n\r\t\v", b); at >= 0 {
			out.WriteByte('\\')
			b = "bfnrtv"[at]
		} else if b == '\\' || b == f.Delimiter {
			out.WriteByte('\\')
		}
		out.WriteByte(b)
	}
	return out.String()
}
