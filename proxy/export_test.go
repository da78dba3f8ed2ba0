package proxy

import (
	"pgtier/proxy/fleet"
	"pgtier/proxy/session"
)

// SharedOf is what the sessions of a database share, for tests that read its counters.
func (p *Proxy) SharedOf(name string) *session.Database {
	d, err := p.find(name)
	if err != nil {
		return nil
	}
	return d.shared
}

// ViewOf is what is known of a database's servers; nil where there is a manager alone.
func (p *Proxy) ViewOf(name string) *fleet.View {
	if f := p.SharedOf(name).Fleet.Load(); f != nil {
		return f.View()
	}
	return nil
}
