package plan

import (
	"encoding/binary"
	"strconv"

	"pgtier/parser"
	"pgtier/proxy/merge"
	"pgtier/router/shard"
)

// number reads an integer for LIMIT or OFFSET, as bigint. ok is false if it is not one for certain.
func (r *reader) number(v *value) (n int64, null, ok bool) {
	if v.Kind == parser.ValueParam {
		return r.numberParam(v)
	}
	if v.Null {
		return 0, true, true
	}
	text := []byte(v.Text)
	if v.Literal >= 0 && !r.textual {
		l, ok := r.literal(v.Literal)
		if !ok || l.Kind != parser.LiteralInteger && l.Kind != parser.LiteralNumber && l.Kind != parser.LiteralString {
			return 0, false, false
		}
		text = l.Value
		if v.Negative {
			text = append([]byte("-"), text...)
		}
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	return n, false, err == nil
}

func (r *reader) numberParam(v *value) (n int64, null, ok bool) {
	if v.Param > len(r.values.Params) {
		return 0, false, false
	}
	p := &r.values.Params[v.Param-1]
	var size int
	switch shard.Type(p.OID) {
	case 0, shard.Unknown:
		if v.doubtful && p.Binary && !p.Null {
			return 0, false, false
		}
		size = len(p.Value)
	case shard.Int8:
		size = 8
	case shard.Int4:
		size = 4
	case shard.Int2:
		size = 2
	default:
		return 0, false, false
	}
	switch {
	case p.Null:
		return 0, true, true
	case !p.Binary:
		n, err := strconv.ParseInt(string(p.Value), 10, 64)
		return n, false, err == nil
	case len(p.Value) != size:
		return 0, false, false
	case size == 8:
		return int64(binary.BigEndian.Uint64(p.Value)), false, true
	case size == 4:
		return int64(int32(binary.BigEndian.Uint32(p.Value))), false, true
	case size == 2:
		return int64(int16(binary.BigEndian.Uint16(p.Value))), false, true
	}
	return 0, false, false
}

// OIDs of types that constants have (pg_type.dat).
const (
	int4Type    = 23
	int8Type    = 20
	numericType = 1700
	boolType    = 16
)

// constant reads a constant of HAVING.
func (r *reader) constant(v *value, to *merge.Constant) bool {
	if v.Kind == parser.ValueParam {
		if v.Param > len(r.values.Params) || v.cast != 0 {
			return false
		}
		p := &r.values.Params[v.Param-1]
		*to = merge.Constant{Null: p.Null, Value: p.Value, Type: p.OID}
		if shard.Type(p.OID) == shard.Unknown {
			to.Type = 0
		}
		if p.Binary {
			to.Format = 1
		}
		// Without a declared type it is of that of what it is compared with, if it stands nowhere else.
		return to.Type != 0 || !v.doubtful
	}
	switch {
	case v.Null:
		to.Null = true
		return true
	case v.cast != 0:
		return false
	case v.Literal < 0 || r.textual:
		return r.written(v, to)
	}
	l, ok := r.literal(v.Literal)
	if !ok {
		return false
	}
	value := l.Value
	if v.Negative {
		value = append([]byte("-"), value...)
	}
	to.Value = value
	switch l.Kind {
	case parser.LiteralString:
		to.Type = 0
	case parser.LiteralInteger:
		to.Type = int4Type
	case parser.LiteralNumber:
		to.Type = numericType
		if _, err := strconv.ParseInt(string(value), 10, 64); err == nil {
			to.Type = int8Type
		}
	default:
		return false
	}
	return true
}

// written reads a constant that stays in the template. Whether it stood in quotes is not known.
func (r *reader) written(v *value, to *merge.Constant) bool {
	if v.Text != "true" && v.Text != "false" {
		return false
	}
	to.Value, to.Type = []byte(v.Text), boolType
	return true
}
