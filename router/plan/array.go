package plan

import (
	"bytes"
	"encoding/binary"

	"pgtier/parser"
	"pgtier/router/shard"
)

// arrayTypes are the OIDs of arrays by those of their elements (pg_type.dat).
var arrayTypes = map[shard.Type]uint32{
	shard.Bool: 1000, shard.Bytea: 1001, shard.Int2: 1005, shard.Int4: 1007, shard.Int8: 1016, shard.Text: 1009, shard.BPChar: 1014,
	shard.Varchar: 1015, shard.Date: 1182, shard.Timestamp: 1115, shard.TimestampTZ: 1185, shard.Numeric: 1231, shard.UUID: 2951,
}

// elementType is the type of an array's elements, 0 if it is not known.
func elementType(array uint32) shard.Type {
	for element, oid := range arrayTypes {
		if oid == array {
			return element
		}
	}
	return 0
}

// array reads the elements of an array that a column is compared with. NULL has none.
func (r *reader) array(v *value) (out []shard.Value, ok bool) {
	element := castOf(v)
	if v.Kind != parser.ValueParam {
		text := []byte(v.Text)
		if v.Null {
			return nil, true
		}
		if v.Literal >= 0 && !r.textual {
			l, ok := r.literal(v.Literal)
			if !ok || l.Kind != parser.LiteralString {
				return nil, false
			}
			text = l.Value
		}
		return r.textArray(element, text)
	}
	if v.Param > len(r.values.Params) {
		return nil, false
	}
	p := &r.values.Params[v.Param-1]
	if p.Null {
		return nil, true
	}
	declared := shard.Type(v.inferred)
	if v.cast != 0 {
		declared = shard.Type(v.cast)
	}
	undeclared := p.OID == 0 || shard.Type(p.OID) == shard.Unknown
	if v.doubtful && undeclared && !p.Binary { // in binary the array itself tells the type
		return nil, false
	}
	if !undeclared {
		declared = elementType(p.OID)
	}
	if element == shard.Unknown {
		element = declared
	}
	if declared == 0 || element != declared && !sameWords(element, declared) {
		return nil, false
	}
	if p.Binary {
		return r.binaryArray(declared, p.Value)
	}
	return r.textArray(declared, p.Value)
}

// textArray reads one dimension of an array in its text form, {a,"b c",NULL}. Other forms are not read.
func (r *reader) textArray(element shard.Type, text []byte) (out []shard.Value, ok bool) {
	text = bytes.Trim(text, " \t\r\n\v\f")
	if len(text) < 2 || text[0] != '{' || text[len(text)-1] != '}' {
		return nil, false
	}
	text = text[1 : len(text)-1]
	if len(bytes.Trim(text, " \t\r\n\v\f")) == 0 {
		return nil, true
	}
	for {
		v, rest, ok := arrayElement(element, text)
		if !ok {
			return nil, false
		}
		if v, ok = r.sure(v); !ok {
			return nil, false
		}
		out = append(out, v)
		if len(rest) == 0 {
			return out, true
		}
		text = rest[1:]
	}
}

// arrayElement reads the first element; rest is empty or begins with the comma behind it.
func arrayElement(element shard.Type, text []byte) (v shard.Value, rest []byte, ok bool) {
	text = bytes.TrimLeft(text, " \t\r\n\v\f")
	if len(text) > 0 && text[0] == '"' {
		var value []byte
		i := 1
		for ; i < len(text) && text[i] != '"'; i++ {
			if text[i] == '\\' {
				i++
			}
			if i < len(text) {
				value = append(value, text[i])
			}
		}
		if i >= len(text) {
			return v, nil, false
		}
		rest = bytes.TrimLeft(text[i+1:], " \t\r\n\v\f")
		if value == nil {
			value = []byte{}
		}
		return shard.Literal(element, value), rest, len(rest) == 0 || rest[0] == ','
	}
	end := bytes.IndexByte(text, ',')
	if end < 0 {
		end = len(text)
	}
	word := bytes.TrimRight(text[:end], " \t\r\n\v\f")
	if len(word) == 0 || bytes.ContainsAny(word, `{}"\`) {
		return v, nil, false
	}
	if bytes.EqualFold(word, []byte("null")) {
		return shard.Null(), text[end:], true
	}
	return shard.Literal(element, word), text[end:], true
}

// binaryArray reads an array of one dimension in its binary form (arrayfuncs.c, array_send).
func (r *reader) binaryArray(element shard.Type, data []byte) (out []shard.Value, ok bool) {
	if len(data) < 12 || shard.Type(binary.BigEndian.Uint32(data[8:])) != element {
		return nil, false
	}
	dimensions := binary.BigEndian.Uint32(data)
	if dimensions == 0 {
		return nil, len(data) == 12
	}
	if dimensions != 1 || len(data) < 20 {
		return nil, false
	}
	count := binary.BigEndian.Uint32(data[12:])
	data = data[20:]
	for range count {
		if len(data) < 4 {
			return nil, false
		}
		size := int32(binary.BigEndian.Uint32(data))
		data = data[4:]
		if size < 0 {
			out = append(out, shard.Null())
			continue
		}
		if int(size) > len(data) {
			return nil, false
		}
		v, ok := r.sure(shard.Parameter(element, shard.BinaryFormat, data[:size:size]))
		if !ok {
			return nil, false
		}
		out = append(out, v)
		data = data[size:]
	}
	return out, len(data) == 0
}
