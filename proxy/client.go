package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"time"

	"go.uber.org/zap"

	"pgtier/proxy/backend"
	"pgtier/proxy/pool"
	"pgtier/proxy/session"
	"pgtier/proxy/wire"
)

// client serves one connection from hello to goodbye. A panic closes that client alone. Its frame is there as long as
// the client is awake, so everything that needs room on the stack is done elsewhere: an idle client then fits into 2 KiB of it.
func (p *Proxy) client(nc net.Conn) {
	dozes := false
	defer func() {
		if !dozes {
			p.running.Done()
		}
	}()
	defer p.recovered(nc)
	if g := p.admit(nc); g != nil {
		dozes = g.serve()
	}
}

// serve serves a session until it ends, or dozes: then it is gone on with in a goroutine that comes when there is something to do.
func (g *guest) serve() (dozes bool) {
	defer func() {
		if !dozes {
			g.leave()
		}
	}()
	dozes, err := g.session.Serve(g.wake)
	if err != nil {
		g.p.ended(g.nc, g.role, g.database, err)
	}
	return dozes
}

// awake goes on with a session that has dozed, as client does.
func (g *guest) awake() {
	dozes := false
	defer func() {
		if !dozes {
			g.p.running.Done()
		}
	}()
	defer g.p.recovered(g.nc)
	dozes = g.serve()
}

// recovered is deferred around a client.
func (p *Proxy) recovered(nc net.Conn) {
	if r := recover(); r != nil {
		p.log.Error("session panicked", zap.Any("panic", r), zap.ByteString("stack", debug.Stack()))
		_ = nc.Close()
	}
}

// ended logs why a client's session is over.
func (p *Proxy) ended(nc net.Conn, role, database string, err error) {
	p.log.Info("client ended", zap.String("client", nc.RemoteAddr().String()), zap.String("role", role), zap.String("database", database), zap.Error(err))
}

// admit logs a client in. nil: there is nobody to serve any more, and the log knows why.
func (p *Proxy) admit(nc net.Conn) *guest {
	h, err := p.door.Greet(nc, p.face.Load().cfg.Pool.ClientLoginTimeout)
	p.greeted(nc)
	if err != nil {
		p.loginFailed(err)
		p.log.Info("login failed", zap.String("client", nc.RemoteAddr().String()), zap.Error(err))
		return nil
	}
	if h == nil {
		return nil
	}
	g, err := p.welcome(h)
	if err != nil {
		p.ended(nc, h.User, h.Database, err)
	}
	return g
}

// guest is a client with a session, and what it holds of the proxy.
type guest struct {
	p              *Proxy
	nc             net.Conn
	wake           func() // awake
	role, database string
	pool           *pool.Pool[*backend.Conn] // attached to
	session        *session.Session          // registered
}

// leave gives back what the client holds.
func (g *guest) leave() {
	if g.session != nil {
		g.p.unregister(g.session)
	}
	if g.pool != nil {
		g.pool.Detach()
	}
	g.p.limits.Leave(g.database, g.role)
}

// welcome gives an authenticated client what it asked for: a session for the caller to serve, or all of it.
func (p *Proxy) welcome(h *session.Hello) (*guest, error) {
	p.ops.logins.Add(1)
	if isAdmin(h.Database) {
		return nil, p.console(h)
	}
	d, err := p.find(h.Database)
	if err != nil {
		h.Refuse(session.AsError(err))
		return nil, err
	}
	if d.disabled.Load() {
		e := &wire.Error{Code: wire.CodeCannotConnectNow, Message: fmt.Sprintf("database %q is disabled", d.name)}
		h.Refuse(e)
		return nil, e
	}
	if err := p.limits.Admit(d.name, h.User, &d.conf.Load().Pool); err != nil {
		h.Refuse(session.AsError(err))
		return nil, err
	}
	g, in := &guest{p: p, nc: h.Conn.NetConn(), role: h.User, database: d.name}, false
	g.wake = g.awake
	defer func() {
		if !in {
			g.leave()
		}
	}()
	fresh := d.learn(h.User, h.Credential())
	if h.Replication() {
		return nil, p.replication(d, h)
	}
	if err := p.open(g, d, h, fresh); err != nil {
		return nil, err
	}
	in = true
	return g, nil
}

// open gives g its session.
func (p *Proxy) open(g *guest, d *database, h *session.Hello, fresh bool) error {
	settings, err := h.Settings()
	if err != nil {
		h.Refuse(session.AsError(err))
		return err
	}
	g.pool = p.registry.Attach(d.key(h.User), &d.conf.Load().Pool)
	if fresh {
		g.pool.Retry()
	}
	p.watchCatalog(d)
	d.watchFleets()
	s := session.New(p.env, d.shared, h, g.pool)
	if !p.register(s) {
		h.Refuse(shutdown())
		return errors.New("shutting down")
	}
	g.session = s
	if err := s.Open(settings, d.welcome(h.User)); err != nil {
		h.Refuse(session.AsError(err))
		return fmt.Errorf("open session: %w", err)
	}
	return nil
}

// replication gives a replication client a server connection of its own.
func (p *Proxy) replication(d *database, h *session.Hello) error {
	var params []wire.Param
	for _, param := range h.Startup.Params {
		if param.Name != "user" && param.Name != "database" {
			params = append(params, param)
		}
	}
	ctx, stop := context.WithTimeout(context.Background(), max(d.conf.Load().Pool.ConnectTimeout, time.Second))
	target := p.target(d, d.manager(), h.User, params)
	target.Protocol = h.Version // the client gets the server's own cancel key
	c, err := p.dialer.Dial(ctx, target)
	stop()
	if err != nil {
		h.Refuse(session.AsError(err))
		return err
	}
	defer context.AfterFunc(p.ctx, func() { // Close ends both
		_ = h.Conn.Close()
		_ = c.Conn.Close()
	})()
	defer p.passing(c)()
	return session.PassThrough(h, c, p.env.Bufs)
}

// isAdmin reports whether name is the console's; tools made for PgBouncer ask for it by that name.
func isAdmin(name string) bool { return name == "pgtier" || name == "pgbouncer" }
