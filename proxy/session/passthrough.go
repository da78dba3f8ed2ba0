package session

import (
	"errors"
	"io"
	"net"

	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
)

// PassThrough joins a client and a server connection of its own until either
// ends: replication connections, whose commands and streams are not for sharing.
// It closes both.
func PassThrough(h *Hello, server *backend.Conn, bufs *wire.Buffers) error {
	client := h.Conn
	out := wire.AppendAuth(nil, wire.AuthOK, nil)
	out = server.Params().AppendChanges(out, nil)
	out = wire.AppendBackendKey(out, server.PID(), server.Secret())
	err := client.Write(wire.AppendReady(out, wire.TxIdle))
	if err == nil && h.in.Len() > 0 {
		err = server.Write(h.in.Bytes())
	}
	h.in.Drop()
	if err != nil {
		_ = client.Close()
		server.Terminate()
		return err
	}
	back := make(chan error, 1)
	go func() { // ends when the server connection ends; the loop below closes it
		err := pipe(server.Conn, client, bufs)
		_ = client.Close()
		back <- err
	}()
	err = pipe(client, server.Conn, bufs)
	_ = server.Conn.Close()
	return errors.Join(err, <-back)
}

// pipe copies bytes until from ends.
func pipe(from, to *wire.Conn, bufs *wire.Buffers) error {
	p := &pipeHandler{from: from, to: to, bufs: bufs}
	err := from.Loop(nil, p)
	if err == nil {
		err = p.err
	}
	if errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) {
		return nil // one end left, and the other was closed after it
	}
	return err
}

type pipeHandler struct {
	from, to *wire.Conn
	bufs     *wire.Buffers
	err      error
}

// Readable moves what is there.
func (p *pipeHandler) Readable() bool {
	buf := p.bufs.Get(wire.SmallBuffer)
	defer buf.Free()
	n, err := p.from.Take(buf.B)
	if n > 0 {
		p.err = p.to.Write(buf.B[:n])
		return p.err == nil
	}
	p.err = err
	return err == nil
}
