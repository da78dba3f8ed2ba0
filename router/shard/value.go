package shard

// Format is how a value travels, by the protocol's number.
type Format int16

// The two formats of the protocol. A value in any other is never sure.
const (
	TextFormat   Format = 0
	BinaryFormat Format = 1
)

// Value is a value for a key column as a client sent it. The zero value is one that nobody can read: a Key has no bucket for it. A Value
// keeps the bytes that it was made of, unread: they must not change while it is used.
//
// Text is taken to be in the server's encoding. A caller whose client speaks another one has to ask ASCII first.
type Value struct {
	data   []byte
	typ    Type
	format Format
	null   bool
}

// Null is NULL, of any type.
func Null() Value { return Value{null: true} }

// Parameter is a parameter of a statement: its type as the server takes it, its format, and its bytes; nil bytes are NULL. Type 0, "the
// server decides", is never sure: a caller that knows that the server will decide for the column's type passes that.
func Parameter(t Type, f Format, data []byte) Value {
	if data == nil {
		return Null()
	}
	return Value{data: data, typ: t, format: f}
}

// Literal is a quoted constant without its quotes and escapes: of type Unknown, or of the type that it is cast to. A cast with a
// modifier (varchar(3)) may change the value and is not one of these.
func Literal(t Type, data []byte) Value { return Value{data: data, typ: t} }

// Number is a constant without quotes, with its sign: of type Unknown, or of the numeric type that it is cast to. Casts to other types
// are never sure: 007::text is '7'.
func Number(t Type, data []byte) Value {
	switch t {
	case Unknown:
		t = Numeric // every integer constant is also this numeric
	case Int2, Int4, Int8, Numeric:
	default:
		return Value{}
	}
	return Value{data: data, typ: t}
}

// Param is a parameter's value in a Bind.
type Param struct {
	OID    uint32 // declared in Parse; 0: the server infers it
	Binary bool
	Null   bool
	Value  []byte
}

// IsNull reports whether the value is NULL. No row has a key column equal to it, but a row may be stored with it.
func (v Value) IsNull() bool { return v.null }

// ASCII reports whether the value means the same in every encoding that a client may have. Of binary values only those of text depend
// on it.
func (v Value) ASCII() bool {
	if v.format == BinaryFormat && v.typ != Text && v.typ != Varchar && v.typ != BPChar {
		return true
	}
	return ascii(v.data)
}

// as is v with the type t if it has none of its own yet.
func (v Value) as(t Type) Value {
	if v.typ == Unknown && v.format == TextFormat {
		v.typ = t
	}
	return v
}
