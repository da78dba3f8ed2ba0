package proxy

import (
	"pgtier/proxy/session"
	"pgtier/proxy/wire"
)

// console serves the admin database.
func (p *Proxy) console(h *session.Hello) error {
	h.Refuse(wire.Fatal(wire.CodeInvalidDatabase, "the admin database is being built"))
	return nil
}
