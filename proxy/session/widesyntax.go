package session

import (
	"pgtier/proxy/wire"
)

// syntax asks the home shard what is wrong with a text that the proxy cannot parse. It is asked to parse it and no more, so that a text which a newer
// server takes is not carried out by one shard for all: that is refused as before.
func (x *wide) syntax(j *job, refusal *wire.Error) (*wire.Error, error) {
	b, err := x.branch(x.l.Home, x.explicit)
	if err != nil {
		return asRefusal(err)
	}
	if err := b.send(wire.AppendSync(wire.AppendParse(nil, "", j.text, j.types))); err != nil {
		return nil, err
	}
	if err := b.drain(x.s); err != nil {
		return nil, err
	}
	if b.failed != nil && isSyntax(b.failed) {
		return b.failed, nil
	}
	return refusal, nil
}

// isSyntax reports whether an error is one of the grammar, which says where: that a text has several statements is none, it is of the way of asking.
func isSyntax(e *wire.Error) (found bool) {
	wire.ErrorFields(e.Sent, func(field byte, _ string) { found = found || field == 'P' })
	return found && e.Code == wire.CodeSyntaxError
}
