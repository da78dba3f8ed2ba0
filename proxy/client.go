package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime/debug"
	"time"

	"go.uber.org/zap"

	"pgtier/proxy/session"
	"pgtier/proxy/wire"
)

// client serves one connection from hello to goodbye. A panic closes that
// client alone.
func (p *Proxy) client(nc net.Conn) {
	defer func() {
		if r := recover(); r != nil {
			p.log.Error("session panicked", zap.Any("panic", r), zap.ByteString("stack", debug.Stack()))
			_ = nc.Close()
		}
	}()
	h, err := p.door.Greet(nc, p.face.Load().cfg.Pool.ClientLoginTimeout)
	p.greeted(nc)
	if err != nil {
		p.loginFailed(err)
		p.log.Info("login failed", zap.String("client", nc.RemoteAddr().String()), zap.Error(err))
		return
	}
	if h == nil {
		return
	}
	if err := p.welcome(h); err != nil {
		p.log.Info("client ended", zap.String("client", nc.RemoteAddr().String()), zap.String("role", h.User),
			zap.String("database", h.Database), zap.Error(err))
	}
}

// welcome gives an authenticated client what it asked for.
func (p *Proxy) welcome(h *session.Hello) error {
	p.ops.logins.Add(1)
	if isAdmin(h.Database) {
		return p.console(h)
	}
	d, err := p.find(h.Database)
	if err != nil {
		h.Refuse(session.AsError(err))
		return err
	}
	if d.disabled.Load() {
		e := &wire.Error{Code: wire.CodeCannotConnectNow, Message: fmt.Sprintf("database %q is disabled", d.name)}
		h.Refuse(e)
		return e
	}
	conf := &d.conf.Load().Pool
	if err := p.limits.Admit(d.name, h.User, conf); err != nil {
		h.Refuse(session.AsError(err))
		return err
	}
	defer p.limits.Leave(d.name, h.User)
	fresh := d.learn(h.User, h.Credential())
	if h.Replication() {
		return p.replication(d, h)
	}
	settings, err := h.Settings()
	if err != nil {
		h.Refuse(session.AsError(err))
		return err
	}
	pl := p.registry.Attach(d.key(h.User), conf)
	defer pl.Detach()
	if fresh {
		pl.Retry()
	}
	p.watchCatalog(d)
	d.watchFleet()
	s := session.New(p.env, d.shared, h, pl)
	if !p.register(s) {
		h.Refuse(shutdown())
		return errors.New("shutting down")
	}
	defer p.unregister(s)
	if err := s.Open(settings, d.welcome(h.User)); err != nil {
		h.Refuse(session.AsError(err))
		return fmt.Errorf("open session: %w", err)
	}
	return s.Serve()
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
