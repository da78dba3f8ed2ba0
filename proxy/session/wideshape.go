package session

import (
	"encoding/binary"
	"strconv"
	"sync"
	"sync/atomic"

	"pgtier/parser"
	"pgtier/proxy/merge"
	"pgtier/proxy/wire"
)

// shape is what is known of the columns of a statement's answer before it runs.
type shape struct {
	formats []int16 // to ask the shards for
	asked   []int16 // by the client
	known   *columns
	hidden  int
	groups  *merge.Arrays // takes what the merge makes, where a server makes the answer of that
	values  []merge.Field // the columns of that
}

// columns are those of a statement, as a server has described them. Immutable.
type columns struct {
	parts       []field // of the text that the shards are sent
	whole       []field // of the client's own text
	description []byte  // RowDescription of the latter
}

// Shapes remembers columns by statement. The zero value is empty; safe for concurrent use.
type Shapes struct {
	known sync.Map // shapeKey → *columns
	count atomic.Int64
}

type shapeKey struct {
	st      *parser.Statement
	types   string
	variant string // of the plan
}

// maxShapes bounds what is remembered; forgetting costs a question each.
const maxShapes = 1000

func (m *Shapes) keep(key shapeKey, c *columns) {
	if m.count.Add(1) > maxShapes {
		m.known.Clear()
		m.count.Store(1)
	}
	m.known.Store(key, c)
}

// shape finds out how j's columns must be asked for, from b's server if nobody has before.
func (x *wide) shape(j *job, b *branch) (*shape, error) {
	sh := &shape{formats: j.resultFormats(), asked: j.resultFormats()}
	if j.plan.Merge == nil {
		return sh, nil
	}
	sh.hidden = j.plan.Merge.Hidden
	c, err := x.columns(j, b)
	if err != nil {
		return nil, err
	}
	sh.known = c
	out := fieldsOf(c.whole, sh.asked)
	if j.plan.Final != nil {
		if out, err = sh.gathered(j, x.mergeConfig()); err != nil {
			return nil, err
		}
	}
	sh.formats, err = j.plan.Merge.Formats(fieldsOf(c.parts, nil), out, x.mergeConfig().Settings)
	return sh, err
}

// columns asks b's server for the columns of j's text, and of that which the shards are sent.
func (x *wide) columns(j *job, b *branch) (*columns, error) {
	key := shapeKey{st: j.st, types: typesKey(j.types), variant: j.plan.Variant}
	if c, ok := x.l.Shapes.known.Load(key); ok {
		return c.(*columns), nil
	}
	text := j.text
	var err error
	if j.plan.Parts != nil {
		if text, err = j.plan.Parts.Text(0, j.text); err != nil {
			return nil, err
		}
	}
	b.c.SetUnnamed(nil)
	msgs := appendDescribeStatement(wire.AppendParse(nil, "", text, j.types))
	msgs = appendDescribeStatement(wire.AppendParse(msgs, "", j.text, j.types))
	if err := b.send(wire.AppendSync(msgs)); err != nil {
		return nil, err
	}
	c := &columns{}
	for first := true; ; {
		f, done, err := b.next(x.s)
		switch {
		case err != nil:
			return nil, err
		case done && b.failed != nil:
			return nil, b.failed
		case done:
			x.l.Shapes.keep(key, c)
			return c, nil
		case f.Type == wire.MsgRowDescription && first:
			c.parts, first = b.fields, false
		case f.Type == wire.MsgRowDescription:
			c.whole, c.description = b.fields, append([]byte(nil), f.Raw...)
		}
	}
}

func typesKey(types []uint32) string {
	var out []byte
	for _, t := range types {
		out = binary.BigEndian.AppendUint32(out, t)
	}
	return string(out)
}

// fieldsOf are columns as a merge takes them, in formats as a Bind has them: one for all, or one each.
func fieldsOf(fields []field, formats []int16) []merge.Field {
	out := make([]merge.Field, len(fields))
	for i, f := range fields {
		out[i] = merge.Field{OID: f.oid}
		switch {
		case len(formats) == 1:
			out[i].Format = formats[0]
		case i < len(formats):
			out[i].Format = formats[i]
		}
	}
	return out
}

// columns are what a merge takes and gives, and the description for the client, by the answer that b has begun.
func (sh *shape) columns(b *branch) (in, out []merge.Field, description []byte, err error) {
	in = fieldsOf(b.fields, sh.formats)
	if sh.known == nil {
		return in, in, b.described, nil
	}
	out = fieldsOf(sh.known.whole, sh.asked)
	if description, err = withFormats(sh.known.description, out); sh.groups != nil {
		out = sh.values
	}
	return in, out, description, err
}

// withFormats is a RowDescription with other formats.
func withFormats(raw []byte, fields []merge.Field) ([]byte, error) {
	out := append([]byte(nil), raw...)
	body := out[wire.HeaderBytes:]
	if len(body) < 2 {
		return nil, errGarbage
	}
	body = body[2:]
	for i := range fields {
		_, rest, ok := cutZero(body)
		if !ok || len(rest) < 18 {
			return nil, errGarbage
		}
		binary.BigEndian.PutUint16(rest[16:], uint16(fields[i].Format))
		body = rest[18:]
	}
	return out, nil
}

// mergeConfig is what merging depends on beside the plan.
func (x *wide) mergeConfig() merge.Config {
	p := x.s.params
	value := func(name string) string {
		if v, ok := x.s.settings.Value(name); ok {
			return v
		}
		return p.Value(name)
	}
	digits, err := strconv.Atoi(value("extra_float_digits"))
	if err != nil {
		digits = 1 // PostgreSQL's own, since version 12
	}
	return merge.Config{Memory: int64(x.s.env.limit().SessionMemory), Settings: merge.Settings{DateStyle: value("DateStyle"),
		IntervalStyle: value("IntervalStyle"), ByteaOutput: value("bytea_output"), ExtraFloatDigits: digits, Foreign: x.s.circumstances().ASCII}}
}
