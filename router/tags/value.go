package tags

import (
	"pgtier/parser"
	"pgtier/router/shard"
)

// maxValues bounds the values that a column is pinned to: more are the whole table.
const maxValues = 8

// Values are what a text is executed with.
type Values struct {
	// SQL is the text, whose literals are read where a Set needs them.
	SQL []byte
	// Params are those of the Bind.
	Params []shard.Param
	// ASCII: client_encoding is not the database's own, so that values beyond ASCII are not read.
	ASCII bool
}

// operand is where a value stands.
type operand struct {
	param int // from 1; 0: a constant
	// literal is the index among the literals of the text; -1: the constant is text in all of the template.
	literal  int
	negative bool
	text     []byte
	// doubtful: the server may infer another type than the column's for the parameter, from another place where it stands.
	doubtful bool
}

// operandOf is the operand of a value that is compared with a column or stored in it; ok is false if no execution could read it for certain. A cast is not
// looked through. NULL depends on transform_null_equals where it is compared.
func operandOf(c *column, v *parser.Value) (o operand, ok bool) {
	switch {
	case v.Cast != parser.Named{} || v.Null:
		return o, false
	case v.Kind == parser.ValueParam:
		return operand{param: v.Param}, true
	case v.Kind != parser.ValueConstant:
		return o, false
	case v.Literal < 0 && c.isText(): // it may have been a number or bits, which become another text than they are written
		return o, false
	}
	return operand{literal: v.Literal, negative: v.Negative, text: []byte(v.Text)}, true
}

// doubt marks the parameters of pins that stand in places whose type is not known to be the column's.
func doubt(st *parser.Statement, pins []*pin) {
	places := placesOf(st.Template)
	types := map[int]map[shard.Type]int{}
	for _, p := range pins {
		for _, o := range p.values {
			if o.param > 0 {
				if types[o.param] == nil {
					types[o.param] = map[shard.Type]int{}
				}
				types[o.param][shard.Type(p.column.Type)]++
			}
		}
	}
	for _, p := range pins {
		for i := range p.values {
			o := &p.values[i]
			o.doubtful = o.param > 0 && (st.Template == "" || types[o.param][shard.Type(p.column.Type)] != places[o.param])
		}
	}
}

// placesOf counts where parameters stand in a template: $ and a number. What is not one, such as a part of a name, makes the count only greater.
func placesOf(template string) map[int]int {
	places := map[int]int{}
	for i := 0; i < len(template); i++ {
		if template[i] != '$' {
			continue
		}
		n, j := 0, i+1
		for ; j < len(template) && template[j] >= '0' && template[j] <= '9' && n <= maxParam; j++ {
			n = 10*n + int(template[j]-'0')
		}
		if j > i+1 {
			places[n]++
		}
	}
	return places
}

// maxParam is the most parameters that a Bind can have: it counts them in 16 bits.
const maxParam = 1<<16 - 1

// reader reads the values of one execution.
type reader struct {
	Values
	literals []parser.Literal
}

// value reads the i-th value of a pin; ok is false if what the server makes of it is not certain.
func (r *reader) value(p *pin, i int) (v shard.Value, ok bool) {
	if o := &p.values[i]; o.param > 0 {
		v, ok = r.param(p, o)
	} else {
		v, ok = r.constant(o)
	}
	return v, ok && (!r.ASCII || v.ASCII())
}

// param reads a parameter. One without a declared type is of the column's.
func (r *reader) param(p *pin, o *operand) (v shard.Value, ok bool) {
	if o.param > len(r.Params) {
		return v, false
	}
	given := &r.Params[o.param-1]
	if given.Null {
		return shard.Null(), true
	}
	t, format, data := shard.Type(given.OID), shard.TextFormat, given.Value
	if undeclared(given) {
		if o.doubtful || given.Binary && !r.alone(p) {
			return v, false
		}
		t = shard.Type(p.column.Type)
	}
	if given.Binary {
		format = shard.BinaryFormat
	}
	if data == nil {
		data = []byte{}
	}
	return shard.Parameter(t, format, data), true
}

// undeclared says whether the server infers the type of a parameter.
func undeclared(p *shard.Param) bool { return p.OID == 0 || shard.Type(p.OID) == shard.Unknown }

// alone says whether no other value of a list may give its parameters another type than the column's: the server takes one type for the whole list.
func (r *reader) alone(p *pin) bool {
	if p.apart || len(p.values) == 1 {
		return true
	}
	for i := range p.values {
		n := p.values[i].param
		if n == 0 || n > len(r.Params) || !undeclared(&r.Params[n-1]) {
			return false
		}
	}
	return true
}

func (r *reader) constant(o *operand) (v shard.Value, ok bool) {
	if o.literal < 0 {
		return shard.Literal(shard.Unknown, o.text), true
	}
	if o.literal >= len(r.literals) {
		return v, false
	}
	switch l := &r.literals[o.literal]; l.Kind {
	case parser.LiteralString:
		return shard.Literal(shard.Unknown, l.Value), true
	case parser.LiteralInteger, parser.LiteralNumber:
		text := l.Value
		if o.negative {
			text = append([]byte{'-'}, text...)
		}
		return shard.Number(shard.Unknown, text), true
	}
	return v, false // bits, and N'…'
}
