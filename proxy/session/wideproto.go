package session

import (
	"encoding/binary"
	"fmt"
	"strings"

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
		x.fresh = append(x.fresh, string(p.name))
	}
	x.out = wire.AppendEmpty(x.out, wire.MsgParseComplete)
	return nil
}

// unname takes back a name that was given to a statement which turns out to be none: a server would not have prepared it.
func (x *wide) unname(st *backend.Statement) {
	for _, name := range x.fresh {
		if x.s.names[name] == st {
			x.s.setName(name, nil)
			x.s.forget(st)
		}
	}
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
	name = p.b.portal
	if old := x.portals[string(name)]; old != nil {
		if len(name) > 0 {
			return &wire.Error{Code: "42P03", Message: fmt.Sprintf("cursor %q already exists", name)}
		}
		x.dropPortal(name)
	}
	if x.held += len(p.frame); x.held > x.s.env.limit().SessionMemory {
		return &wire.Error{Code: wire.CodeOutOfMemory, Message: "too many portals in this session", Detail: "They take more than limits.session_memory."}
	}
	if x.portals == nil {
		x.portals = make(map[string]*portal)
	}
	x.portals[string(name)] = p
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
		p.wants, x.waiting = true, p
		return nil, nil
	}
	st, refusal := x.named(name)
	if refusal != nil {
		return refusal, nil
	}
	return x.describeStatement(st, nil)
}

// describeWaiting answers the Describe of a portal that waits, unless the next message is the Execute that does.
func (x *wide) describeWaiting(it *item, frame []byte) (refusal *wire.Error, err error) {
	p := x.waiting
	if p == nil {
		return nil, nil
	}
	x.waiting = nil
	if it.typ == wire.MsgExecute {
		if name, _, ok := cutZero(frame[wire.HeaderBytes:]); ok && x.portals[string(name)] == p {
			return nil, nil
		}
	}
	p.wants = false
	if controls(p.st.Facts) || len(p.st.Facts.Commands) == 0 && !p.st.Facts.Unparsed {
		x.out = wire.AppendEmpty(x.out, wire.MsgNoData)
		return nil, nil
	}
	return x.describeStatement(p.st, p)
}

// dropPortal forgets a portal.
func (x *wide) dropPortal(name []byte) {
	if p := x.portals[string(name)]; p != nil {
		x.held -= len(p.frame)
		delete(x.portals, string(name))
	}
}

// dropPortals forgets all portals, which end with their transaction.
func (x *wide) dropPortals() {
	clear(x.portals)
	x.held, x.waiting = 0, nil
}

// describeStatement has one shard describe a statement, or its portal p: they all have the same tables.
func (x *wide) describeStatement(st *backend.Statement, p *portal) (refusal *wire.Error, err error) {
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
		switch {
		case f.Type == wire.MsgRowDescription && p != nil:
			raw, err := withFormats(f.Raw, fieldsOf(b.fields, formatsOf(p.b.formats)))
			if err != nil {
				return nil, err
			}
			x.out = append(x.out, raw...)
		case f.Type == wire.MsgParameterDescription && p == nil, f.Type == wire.MsgRowDescription, f.Type == wire.MsgNoData:
			x.out = append(x.out, f.Raw...)
		}
	}
	if b.failed != nil {
		x.out = x.out[:mark]
		x.unname(st)
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
	x.dropPortal(name)
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
	if controls(p.st.Facts) && p.wants {
		x.out = wire.AppendEmpty(x.out, wire.MsgNoData)
	}
	refusal, err = x.statement(&job{st: p.st.Facts, text: p.st.Text, types: p.st.Types, head: p.b.head, params: p.b.params, formats: p.b.formats, describe: p.wants, extended: true})
	if refusal != nil && strings.HasPrefix(refusal.Code, "42") { // syntax and names, which a server looks at in Parse
		x.unname(p.st)
	}
	return refusal, err
}

// closeName forgets a statement or portal.
func (x *wide) closeName(frame []byte) *wire.Error {
	kind, name, ok := splitTarget(frame)
	if !ok {
		return protocolError("invalid Close message")
	}
	switch {
	case kind == 'P':
		x.dropPortal(name)
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
