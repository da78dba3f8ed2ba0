package plan

import (
	"slices"
	"strconv"
	"strings"

	"pgtier/parser"
	"pgtier/router/shard"
)

// pin is what is known of the key in one use of a sharded table, or several: for each key column the lists of values that it must be in. The rows
// that matter are on the shards of those values.
type pin struct {
	table   *table
	columns [][]*values
}

// pinOf is the pin of a use of a sharded table; ok is false if a column of its key has no values.
func pinOf(n *node) (p pin, ok bool) {
	p = pin{table: n.table, columns: make([][]*values, len(n.table.columns))}
	for i, c := range n.table.columns {
		p.columns[i] = n.facts.pinned(n.columns[c].variable)
		if len(p.columns[i]) == 0 {
			return p, false
		}
	}
	return p, true
}

// equal says whether two pins are the same shards, whatever the values are.
func (p *pin) equal(o *pin) bool {
	if len(p.columns) != len(o.columns) {
		return false
	}
	for i := range p.columns {
		if !slices.Equal(p.columns[i], o.columns[i]) || familyOf(p.table.keyColumn(i).Type) != familyOf(o.table.keyColumn(i).Type) {
			return false
		}
	}
	return true
}

// maxKeys bounds the keys that the lists of a pin are multiplied to.
const maxKeys = 1 << 14

// shards are those of the pin's keys. ok is false if a value cannot be read for certain.
func (p *pin) shards(r *reader) (found set, ok bool) {
	if len(p.columns) == 1 {
		return p.single(r)
	}
	lists := make([][]shard.Value, len(p.columns))
	count := 1
	for i := range p.columns {
		for _, list := range p.columns[i] {
			if lists[i], ok = r.list(list); ok {
				break
			}
		}
		count *= len(lists[i])
		if !ok || count > maxKeys {
			return found, false
		}
	}
	keys := make([]shard.Value, len(lists))
	return found, p.multiply(r, lists, keys, 0, &found)
}

// multiply adds the shards of all combinations of values from column i on.
func (p *pin) multiply(r *reader, lists [][]shard.Value, key []shard.Value, i int, found *set) bool {
	if i == len(lists) {
		b, ok := p.table.key.Bucket(key...)
		if ok {
			found.add(r.owner(b))
		}
		return ok
	}
	for _, v := range lists[i] {
		key[i] = v
		if !v.IsNull() && !p.multiply(r, lists, key, i+1, found) {
			return false
		}
	}
	return true
}

// single is shards for a key of one column: those in all lists that can be read.
func (p *pin) single(r *reader) (found set, ok bool) {
	found = r.schema.all
	for _, list := range p.columns[0] {
		var these set
		if !p.listed(r, list, &these) {
			continue
		}
		found.intersect(&these)
		ok = true
	}
	return found, ok
}

// listed adds the shards of a list's values.
func (p *pin) listed(r *reader, list *values, found *set) bool {
	if list.array {
		elements, ok := r.list(list)
		if !ok {
			return false
		}
		for _, v := range elements {
			if !p.value(r, v, found) {
				return false
			}
		}
		return true
	}
	for i := range list.list {
		v, ok := r.value(&list.list[i])
		if !ok || !p.value(r, v, found) {
			return false
		}
	}
	return !r.mixed(list)
}

// value adds the shard of one value; no row has a key equal to NULL.
func (p *pin) value(r *reader, v shard.Value, found *set) bool {
	if v.IsNull() {
		return true
	}
	b, ok := p.table.key.Bucket(v)
	if ok {
		found.add(r.owner(b))
	}
	return ok
}

// reader reads the values of one execution.
type reader struct {
	schema   *Schema
	values   *Values
	c        *Circumstances
	textual  bool // constants are those of the text that was planned
	literals []parser.Literal
	read     bool
	// buckets are those of all values read that decide, where they are collected. It points elsewhere so that the compiler keeps the values of an
	// execution, which a reader holds too, off the heap.
	buckets *[]shard.Bucket
}

// literal is the literal of that index in the text at hand.
func (r *reader) literal(i int) (parser.Literal, bool) {
	if !r.read {
		r.read = true
		r.literals, _ = parser.Literals(r.values.SQL, nil)
	}
	if i >= len(r.literals) {
		return parser.Literal{}, false
	}
	return r.literals[i], true
}

// list reads all values of a list.
func (r *reader) list(l *values) (out []shard.Value, ok bool) {
	if l.array {
		return r.array(&l.list[0])
	}
	for i := range l.list {
		v, ok := r.value(&l.list[i])
		if !ok {
			return nil, false
		}
		out = append(out, v)
	}
	return out, !r.mixed(l)
}

// mixed says whether a parameter that is sent as an integer stands in a list with a number that is none: the server takes both for numeric then.
func (r *reader) mixed(l *values) bool {
	integer, other := false, false
	for i := 0; i < len(l.list) && len(l.list) > 1; i++ {
		v := &l.list[i]
		switch {
		case v.Kind == parser.ValueParam && v.cast == 0:
			p := &r.values.Params[v.Param-1]
			undeclared := p.OID == 0 || shard.Type(p.OID) == shard.Unknown
			integer = integer || undeclared && p.Binary && familyOf(v.inferred) == familyInteger
			other = other || familyOf(p.OID) == familyNumeric
		case v.cast != 0:
			other = other || familyOf(v.cast) == familyNumeric
		case v.Literal >= 0 && !r.textual:
			literal, ok := r.literal(v.Literal)
			other = other || !ok || literal.Kind == parser.LiteralNumber
		default:
			other = other || !v.Null && strings.ContainsAny(v.Text, ".eE")
		}
	}
	return integer && other
}

// value reads one constant or parameter; ok is false if what the server makes of it is not certain.
func (r *reader) value(v *value) (out shard.Value, ok bool) {
	if v.Kind == parser.ValueParam {
		if out, ok = param(v, r.values); ok {
			out, ok = r.sure(out)
		}
		return out, ok
	}
	if v.Null {
		return shard.Null(), true
	}
	if v.Literal < 0 || r.textual {
		return r.sure(constant(v))
	}
	l, ok := r.literal(v.Literal)
	if !ok {
		return out, false
	}
	return r.sure(literal(v, l))
}

// sure is v unless its bytes mean something else to the server than to the client.
func (r *reader) sure(v shard.Value) (shard.Value, bool) { return v, !r.c.ASCII || v.ASCII() }

// castOf is the type that a value is read as.
func castOf(v *value) shard.Type {
	if v.cast == 0 {
		return shard.Unknown
	}
	return shard.Type(v.cast)
}

// literal is a literal of the text as a value.
func literal(v *value, l parser.Literal) shard.Value {
	switch l.Kind {
	case parser.LiteralString:
		return shard.Literal(castOf(v), l.Value)
	case parser.LiteralInteger, parser.LiteralNumber:
		text := l.Value
		if v.Negative {
			text = append([]byte{'-'}, text...)
		}
		return shard.Number(castOf(v), text)
	}
	return shard.Value{} // bits, and N'…'
}

// constant is a constant of the text that was planned. Whether it was written in quotes is not known, and matters where a number becomes text.
func constant(v *value) shard.Value {
	if f := familyOf(v.cast); f == familyText && strings.Trim(v.Text, "+-.0123456789eE") == "" {
		return shard.Value{}
	}
	return shard.Literal(castOf(v), []byte(v.Text))
}

// param is a parameter's value.
func param(v *value, values *Values) (out shard.Value, ok bool) {
	if v.Param > len(values.Params) {
		return out, false
	}
	p := &values.Params[v.Param-1]
	if p.Null {
		return shard.Null(), true
	}
	declared := shard.Type(p.OID)
	if declared == 0 || declared == shard.Unknown {
		if v.doubtful && !v.plainly(p) {
			return out, false
		}
		declared = shard.Type(v.kind())
		if p.Binary && familyOf(v.kind()) == familyInteger {
			declared = integerOf(len(p.Value))
		}
	}
	format := shard.TextFormat
	if p.Binary {
		format = shard.BinaryFormat
	}
	if v.cast != 0 && uint32(declared) != v.cast && !sameWords(declared, shard.Type(v.cast)) {
		return out, false
	}
	data := p.Value
	if data == nil {
		data = []byte{}
	}
	return shard.Parameter(declared, format, data), true
}

// plainly says whether a text is the same whole number whatever type of numbers the server takes it for: real holds these, and no more.
func (v *value) plainly(p *Param) bool {
	if p.Binary || v.cast != 0 || familyOf(v.inferred) != familyInteger {
		return false
	}
	n, err := strconv.ParseInt(string(p.Value), 10, 32)
	return err == nil && -maxReal <= n && n <= maxReal
}

// maxReal is the largest number up to which real has every integer.
const maxReal = 1 << 24

// integerOf is the integer type of that many bytes, 0 if there is none.
func integerOf(size int) shard.Type {
	switch size {
	case 2:
		return shard.Int2
	case 4:
		return shard.Int4
	case 8:
		return shard.Int8
	}
	return 0
}

// sameWords says whether a cast between two types keeps every value that it does not refuse.
func sameWords(a, b shard.Type) bool {
	f := familyOf(uint32(a))
	return f == familyOf(uint32(b)) && (f == familyInteger || f == familyText)
}
