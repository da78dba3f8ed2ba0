package proxy

import (
	"slices"

	"pgtier/proxy/admin"
	"pgtier/proxy/session"
	"pgtier/proxy/wire"
)

// visit is one client of the console.
type visit struct {
	*admin.Visit
	id    uint64
	hello *session.Hello
	info  admin.Socket // as SHOW CLIENTS lists it
}

// console serves the admin database to users that may be there.
func (p *Proxy) console(h *session.Hello) error {
	rules := p.face.Load().cfg.Auth
	isAdmin := slices.Contains(rules.Admins, h.User)
	if !isAdmin && !slices.Contains(rules.StatsUsers, h.User) {
		e := admin.NotAllowed()
		h.Refuse(e)
		return e
	}
	v := p.newVisit(h, isAdmin)
	if !p.enterConsole(v) {
		h.Refuse(shutdown())
		return shutdown()
	}
	defer p.leaveConsole(v)
	return p.ops.console.Serve(p.ops.ctx, v.Visit)
}

func (p *Proxy) newVisit(h *session.Hello, isAdmin bool) *visit {
	id, key := p.env.NextKey(h.Version)
	v := &visit{id: id, hello: h, Visit: &admin.Visit{
		Conn: h.Conn, Input: h.Input(), User: h.User, Admin: isAdmin, PID: key.PID, Secret: key.Secret,
	}}
	now := p.ops.now()
	v.info = admin.Socket{ID: id, User: h.User, Database: h.Database, Replication: "none", State: "active",
		Connected: now, Requested: now, AppName: h.Startup.Value("application_name"), TLS: tlsName(h.Conn)}
	v.info.Addr, v.info.Port = endpoint(h.Addr())
	v.info.LocalAddr, v.info.LocalPort = endpoint(h.Conn.LocalAddr().String())
	return v
}

// maxVisits bounds the clients of the console: they are people and agents, and
// they do not count against max_clients, so that an operator gets in when the
// proxy is full.
const maxVisits = 100

func (p *Proxy) enterConsole(v *visit) bool {
	p.ops.mu.Lock()
	defer p.ops.mu.Unlock()
	if p.ops.ctx.Err() != nil || len(p.ops.visits) >= maxVisits {
		return false
	}
	p.ops.visits[v.PID] = v
	return true
}

func (p *Proxy) leaveConsole(v *visit) {
	p.ops.mu.Lock()
	delete(p.ops.visits, v.PID)
	p.ops.mu.Unlock()
}

// visits are the clients of the console in order of their number.
func (p *Proxy) visits() []*visit {
	p.ops.mu.Lock()
	defer p.ops.mu.Unlock()
	var out []*visit
	for _, v := range p.ops.visits {
		out = append(out, v)
	}
	slices.SortFunc(out, func(a, b *visit) int { return int(a.id) - int(b.id) })
	return out
}

// cancelVisit cancels the console's command that k is the key of.
func (p *Proxy) cancelVisit(k session.Key) {
	p.ops.mu.Lock()
	v := p.ops.visits[k.PID]
	p.ops.mu.Unlock()
	if v != nil && k.Matches(session.Key{PID: v.PID, Secret: v.Secret}) {
		v.Cancel()
	}
}

// endVisit ends the console of that number and reports whether there was one.
func (p *Proxy) endVisit(id uint64, e *wire.Error) bool {
	for _, v := range p.visits() {
		if v.id == id {
			v.End(e)
			return true
		}
	}
	return false
}
