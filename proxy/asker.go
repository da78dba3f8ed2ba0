package proxy

import (
	"context"

	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
)

// asker runs the proxy's own statements on the managers of a database's shards, over connections of its own that are
// closed when a piece of work is done. It belongs to one goroutine.
type asker struct {
	p     *Proxy
	d     *database
	conns map[string]*backend.Conn // by shard and role
}

// ask runs one simple query on a shard's manager.
func (a *asker) ask(ctx context.Context, part *part, role, sql string, visit func(fields [][]byte)) error {
	key := part.name() + " " + role
	c := a.conns[key]
	if c == nil {
		var err error
		if c, err = a.p.dialer.Dial(ctx, a.p.target(a.d, part.manager(), role, nil)); err != nil {
			return err
		}
		if a.conns == nil {
			a.conns = map[string]*backend.Conn{}
		}
		a.conns[key] = c
	}
	err := c.Exec(wire.AppendQuery(nil, sql), askTimeout, func(f wire.Frame) {
		if f.Type != wire.MsgDataRow || visit == nil {
			return
		}
		if fields, err := wire.RowFields(f.Body()); err == nil {
			visit(fields)
		}
	})
	if c.Spoiled() != "" {
		c.Terminate()
		delete(a.conns, key)
	}
	return err
}

// hangUp closes the connections. A transaction that was left open on one is rolled back.
func (a *asker) hangUp() {
	for key, c := range a.conns {
		c.Terminate()
		delete(a.conns, key)
	}
}
