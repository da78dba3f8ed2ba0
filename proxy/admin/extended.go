package admin

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	"pgtier/proxy/wire"
)

// maxNamed bounds the prepared statements of a client, and its portals: drivers
// keep at most some hundreds.
const maxNamed = 1000

// portal is a statement bound to its result formats.
type portal struct {
	plan    plan
	formats []int16
	rows    [][]any // still to be fetched; valid once ran
	ran     bool
	done    bool
}

// SQLSTATEs of the extended protocol.
const (
	codeDuplicateStatement = "42P05"
	codeDuplicateCursor    = "42P03"
	codeInvalidCursor      = "34000"
)

// reader takes a message apart; after the first fault bad is set.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n < 0 || n > len(r.b) {
		r.bad = true
		return make([]byte, max(0, min(n, 8)))
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte { return r.take(1)[0] }
func (r *reader) int16() int { return int(binary.BigEndian.Uint16(r.take(2))) }
func (r *reader) int32() int { return int(int32(binary.BigEndian.Uint32(r.take(4)))) }

func (r *reader) string() string {
	i := bytes.IndexByte(r.b, 0)
	if i < 0 {
		r.bad = true
		return ""
	}
	return string(r.take(i + 1)[:i])
}

// ended reports whether the message was well-formed to its last byte.
func (r *reader) ended() bool { return !r.bad && len(r.b) == 0 }

// extended serves a message of the extended protocol. e goes to the client, err
// ends the visit.
func (c *Console) extended(ctx context.Context, v *Visit, f wire.Frame) (e *wire.Error, err error) {
	r := &reader{b: f.Body()}
	switch f.Type {
	case wire.MsgParse:
		e = c.parse(v, r)
	case wire.MsgBind:
		e = c.bind(v, r)
	case wire.MsgDescribe:
		e = c.describe(v, r)
	case wire.MsgExecute:
		return c.execute(ctx, v, r)
	case wire.MsgClose:
		e = c.close(v, r)
	default:
		return nil, fmt.Errorf("message of type %q: %w", f.Type, wire.ErrBroken)
	}
	return e, nil
}

func malformed() *wire.Error {
	return wire.NewError(wire.CodeProtocolViolation, "invalid message format", "")
}

func (c *Console) parse(v *Visit, r *reader) *wire.Error {
	name, text := r.string(), r.string()
	r.take(4 * r.int16()) // types of parameters, which no command has
	if !r.ended() {
		return malformed()
	}
	if name == "" {
		delete(v.statements, name)
	} else if _, taken := v.statements[name]; taken {
		return wire.NewError(codeDuplicateStatement, fmt.Sprintf("prepared statement %q already exists", name), "")
	}
	if len(v.statements) >= maxNamed {
		return wire.NewError(wire.CodeLimitExceeded, "too many prepared statements", "Close those that are no longer used.")
	}
	statements := split(text)
	if len(statements) > 1 {
		return wire.NewError(codeSyntax, "cannot insert multiple commands into a prepared statement", "")
	}
	var p plan
	if len(statements) == 1 {
		var e *wire.Error
		if p, e = c.prepare(statements[0], v.Admin); e != nil {
			return e
		}
	}
	v.statements[name] = p
	v.out = wire.AppendEmpty(v.out, wire.MsgParseComplete)
	return nil
}

func (c *Console) bind(v *Visit, r *reader) *wire.Error {
	name, statement := r.string(), r.string()
	r.take(2 * r.int16())
	params := r.int16()
	for range params {
		if size := r.int32(); size > 0 {
			r.take(size)
		}
		if r.bad {
			break
		}
	}
	raw := r.take(2 * r.int16())
	if !r.ended() {
		return malformed()
	}
	p, e := v.statement(statement)
	if e != nil {
		return e
	}
	if params > 0 {
		return wire.NewError(wire.CodeProtocolViolation, "commands of the admin console have no parameters", "Write the argument into the command.")
	}
	formats := make([]int16, 0, len(raw)/2)
	for i := 0; i < len(raw); i += 2 {
		format := int16(binary.BigEndian.Uint16(raw[i:]))
		if format != textFormat && format != binaryFormat {
			return wire.NewError(wire.CodeInvalidParameter, fmt.Sprintf("unsupported format code: %d", format), "")
		}
		formats = append(formats, format)
	}
	if n := p.width(); len(formats) > 1 && len(formats) != n {
		return wire.NewError(wire.CodeProtocolViolation, fmt.Sprintf("bind message has %d result formats but query has %d columns", len(formats), n), "")
	}
	if _, taken := v.portals[name]; taken && name != "" {
		return wire.NewError(codeDuplicateCursor, fmt.Sprintf("cursor %q already exists", name), "")
	}
	if len(v.portals) >= maxNamed {
		return wire.NewError(wire.CodeLimitExceeded, "too many portals", "Close those that are no longer used.")
	}
	v.portals[name] = &portal{plan: p, formats: formats}
	v.out = wire.AppendEmpty(v.out, wire.MsgBindComplete)
	return nil
}

// width is the number of columns of the result.
func (p plan) width() int {
	if p.cmd == nil {
		return 0
	}
	return len(p.cmd.columns)
}

func (v *Visit) statement(name string) (plan, *wire.Error) {
	p, ok := v.statements[name]
	if !ok {
		return plan{}, wire.NewError(wire.CodeInvalidStatement, fmt.Sprintf("prepared statement %q does not exist", name), "")
	}
	return p, nil
}

func (v *Visit) portal(name string) (*portal, *wire.Error) {
	p, ok := v.portals[name]
	if !ok {
		return nil, wire.NewError(codeInvalidCursor, fmt.Sprintf("portal %q does not exist", name), "")
	}
	return p, nil
}

func (c *Console) describe(v *Visit, r *reader) *wire.Error {
	kind, name := r.byte(), r.string()
	if !r.ended() {
		return malformed()
	}
	var p plan
	var formats []int16
	switch kind {
	case 'S':
		var e *wire.Error
		if p, e = v.statement(name); e != nil {
			return e
		}
		var at int
		v.out, at = wire.Begin(v.out, wire.MsgParameterDescription)
		v.out = wire.End(append(v.out, 0, 0), at)
	case 'P':
		pt, e := v.portal(name)
		if e != nil {
			return e
		}
		p, formats = pt.plan, pt.formats
	default:
		return malformed()
	}
	if p.width() == 0 {
		v.out = wire.AppendEmpty(v.out, wire.MsgNoData)
	} else {
		v.out = appendRowDescription(v.out, p.cmd.columns, formats)
	}
	return nil
}

// execute runs a portal, or fetches more of one that has run.
func (c *Console) execute(ctx context.Context, v *Visit, r *reader) (*wire.Error, error) {
	name, limit := r.string(), r.int32()
	if !r.ended() {
		return malformed(), nil
	}
	p, e := v.portal(name)
	if e != nil {
		return e, nil
	}
	if p.plan.cmd == nil {
		v.out = wire.AppendEmpty(v.out, wire.MsgEmptyQueryResponse)
		return nil, nil
	}
	if !p.ran {
		k, e := c.perform(ctx, v, p.plan)
		if k != nil {
			v.notices(k)
		}
		if e != nil {
			return e, nil
		}
		p.rows, p.ran = k.rows, true
	} else if p.plan.width() == 0 || p.done {
		return wire.NewError(wire.CodeNotInState, fmt.Sprintf("portal %q cannot be run", name), ""), nil
	}
	n := len(p.rows)
	if limit > 0 {
		n = min(n, limit)
	}
	for _, row := range p.rows[:n] {
		v.out = appendRow(v.out, p.plan.cmd.columns, p.formats, row)
		if len(v.out) >= flushAt {
			if err := v.flush(); err != nil {
				return nil, err
			}
		}
	}
	p.rows = p.rows[n:]
	if len(p.rows) > 0 || limit > 0 && n == limit {
		v.out = wire.AppendEmpty(v.out, wire.MsgPortalSuspended)
		return nil, nil
	}
	p.done = true
	v.out = wire.AppendCommandComplete(v.out, p.plan.cmd.tag)
	return nil, nil
}

func (c *Console) close(v *Visit, r *reader) *wire.Error {
	kind, name := r.byte(), r.string()
	if !r.ended() {
		return malformed()
	}
	switch kind {
	case 'S':
		delete(v.statements, name)
	case 'P':
		delete(v.portals, name)
	default:
		return malformed()
	}
	v.out = wire.AppendEmpty(v.out, wire.MsgCloseComplete)
	return nil
}
