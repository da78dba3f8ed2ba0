package session

import (
	"encoding/binary"
	"fmt"

	"pgtier/parser"
	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
	"pgtier/router/plan"
)

// extended serves a message of the extended protocol other than Sync. A refusal makes the server of PostgreSQL's protocol
// skip to the Sync, and so does the session.
func (x *wide) extended(it *item, frame []byte) (refusal *wire.Error, err error) {
	switch it.typ {
	case wire.MsgParse:
		return x.parse(frame), nil
	case wire.MsgBind:
		return x.bind(frame), nil
	case wire.MsgDescribe:
		return x.describe(frame)
	case wire.MsgExecute:
		return x.execute(frame)
	case wire.MsgClose:
		return x.closeName(frame), nil
	case wire.MsgFlush:
		return nil, nil
	}
	return notWide("a function call by the protocol", "Use SELECT."), nil
}

func protocolError(message string) *wire.Error {
	return &wire.Error{Code: wire.CodeProtocolViolation, Message: message}
}

// parse keeps a statement under its name. Whether it is right the shards say when it is described or executed.
func (x *wide) parse(frame []byte) *wire.Error {
	s := x.s
	p, ok := splitParse(frame)
	if !ok {
		return protocolError("invalid Parse message")
	}
	facts := s.facts(p.text)
	if len(p.name) > 0 && s.names[string(p.name)] != nil {
		return &wire.Error{Code: "42P05", Message: fmt.Sprintf("prepared statement %q already exists", p.name)}
	}
	if x.failed && !endsTransaction(facts) {
		return failedTransaction()
	}
	if len(facts.Commands) > 1 {
		return &wire.Error{Code: "42601", Message: "cannot insert multiple commands into a prepared statement"}
	}
	s.db.Stats.ClientParses.Add(1)
	st := s.db.Statements.Acquire(backend.StatementKey{Text: p.text, Types: p.types, Under: s.readingOf(facts)}, facts)
	if len(p.name) == 0 {
		s.setUnnamed(st)
	} else {
		s.setName(string(p.name), st)
	}
	x.out = wire.AppendEmpty(x.out, wire.MsgParseComplete)
	return nil
}

// named is the client's prepared statement of that name.
func (x *wide) named(name []byte) (*backend.Statement, *wire.Error) {
	st := x.s.unnamed
	if len(name) > 0 {
		st = x.s.names[string(name)]
	}
	switch {
	case st != nil:
		return st, nil
	case len(name) == 0:
		return nil, &wire.Error{Code: wire.CodeInvalidStatement, Message: "unnamed prepared statement does not exist"}
	}
	return nil, &wire.Error{Code: wire.CodeInvalidStatement, Message: fmt.Sprintf("prepared statement %q does not exist", name)}
}

// bind keeps a portal until it is executed.
func (x *wide) bind(frame []byte) *wire.Error {
	_, name, _, ok := splitBind(frame)
	if !ok {
		return protocolError("invalid Bind message")
	}
	st, refusal := x.named(name)
	if refusal != nil {
		return refusal
	}
	if x.failed && !endsTransaction(st.Facts) {
		return failedTransaction()
	}
	p := &portal{st: st, frame: append([]byte(nil), frame...)}
	if p.b, ok = splitBound(p.frame, st.Types, nil); !ok {
		return protocolError("invalid Bind message")
	}
	if x.portals == nil {
		x.portals = make(map[string]*portal)
	}
	x.portals[string(p.b.portal)] = p
	x.s.db.Stats.Binds.Add(1)
	x.out = wire.AppendEmpty(x.out, wire.MsgBindComplete)
	return nil
}

// endsTransaction reports whether a statement may run in a transaction that has failed.
func endsTransaction(st *parser.Statement) bool {
	return len(st.Commands) == 1 && (st.Effects&parser.EndsTransaction != 0 || st.Commands[0].Kind == parser.RollbackTo)
}

// describe tells of a statement's parameters and columns. That of a portal waits for the Execute behind it, whose
// answer has the columns.
func (x *wide) describe(frame []byte) (refusal *wire.Error, err error) {
	kind, name, ok := splitTarget(frame)
	if !ok {
		return protocolError("invalid Describe message"), nil
	}
	if kind == 'P' {
		p := x.portals[string(name)]
		if p == nil {
			return &wire.Error{Code: "34000", Message: fmt.Sprintf("portal %q does not exist", name)}, nil
		}
		p.wants = true
		return nil, nil
	}
	st, refusal := x.named(name)
	if refusal != nil {
		return refusal, nil
	}
	return x.describeStatement(st)
}

// describeStatement has one shard describe a statement: they all have the same tables.
func (x *wide) describeStatement(st *backend.Statement) (refusal *wire.Error, err error) {
	at := x.cursorShard(&job{st: st.Facts})
	if p := x.s.planOf(x.l, st.Facts, st.Text, &plan.Values{SQL: st.Text}); p.Kind == plan.One && !p.Open {
		at = p.Shard
	}
	b, err := x.branch(at, x.explicit)
	if err != nil {
		return asRefusal(err)
	}
	b.c.SetUnnamed(nil)
	msgs := wire.AppendSync(appendDescribeStatement(wire.AppendParse(nil, "", st.Text, st.Types)))
	if err := b.send(msgs); err != nil {
		return nil, err
	}
	b.loud = x
	mark := len(x.out)
	for {
		f, done, err := b.next(x.s)
		if err != nil {
			return nil, err
		}
		if done {
			break
		}
		if f.Type == wire.MsgParameterDescription || f.Type == wire.MsgRowDescription || f.Type == wire.MsgNoData {
			x.out = append(x.out, f.Raw...)
		}
	}
	if b.failed != nil {
		x.out = x.out[:mark]
	}
	return b.failed, nil
}

// execute runs a portal to its end.
func (x *wide) execute(frame []byte) (refusal *wire.Error, err error) {
	name, rest, ok := cutZero(frame[wire.HeaderBytes:])
	if !ok || len(rest) != 4 {
		return protocolError("invalid Execute message"), nil
	}
	p := x.portals[string(name)]
	if p == nil {
		return &wire.Error{Code: "34000", Message: fmt.Sprintf("portal %q does not exist", name)}, nil
	}
	delete(x.portals, string(name))
	if most := binary.BigEndian.Uint32(rest); most > 0 {
		return notWide("Execute with a row limit", "Fetch all rows, or ask for them by the key of their table."), nil
	}
	if len(p.st.Facts.Commands) == 0 && !p.st.Facts.Unparsed {
		if p.wants {
			x.out = wire.AppendEmpty(x.out, wire.MsgNoData)
		}
		x.out = wire.AppendEmpty(x.out, wire.MsgEmptyQueryResponse)
		return nil, nil
	}
	return x.statement(&job{st: p.st.Facts, text: p.st.Text, types: p.st.Types, head: p.b.head, params: p.b.params, formats: p.b.formats, describe: p.wants, extended: true})
}

// closeName forgets a statement or portal.
func (x *wide) closeName(frame []byte) *wire.Error {
	kind, name, ok := splitTarget(frame)
	if !ok {
		return protocolError("invalid Close message")
	}
	switch {
	case kind == 'P':
		delete(x.portals, string(name))
	case len(name) == 0:
		x.s.setUnnamed(nil)
	default:
		if st := x.s.names[string(name)]; st != nil {
			x.s.setName(string(name), nil)
			x.s.forget(st)
		}
	}
	x.out = wire.AppendEmpty(x.out, wire.MsgCloseComplete)
	return nil
}
