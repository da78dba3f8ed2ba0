package proxy

import (
	"context"
	"fmt"

	"pgtier/proxy/pool"
	"pgtier/proxy/wire"
)

// Reload puts cfg in force for new clients and, where that can be, for present
// ones: users, rules, certificates, pool sizes, limits and databases. Listen
// addresses stay as they were. An error changes nothing.
func (p *Proxy) Reload(cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return err
	}
	old := p.face.Load()
	if err := staysPut(old.cfg.Databases, cfg.Databases); err != nil {
		return err
	}
	cfg.Listen, cfg.HTTP = old.cfg.Listen, old.cfg.HTTP
	f, err := load(cfg, old)
	if err != nil {
		return fmt.Errorf("reload: %w", err)
	}
	p.apply(f)
	p.running.Go(func() { f.auth.Prepare(context.Background()) }) // ends by itself: a millisecond a user
	p.reloadDatabases(cfg)
	p.registry.Reconfigure(func(key pool.Key) *pool.Config {
		d, err := p.find(key.Database)
		if err != nil {
			return &cfg.Pool
		}
		return &d.conf.Load().Pool
	})
	p.warm()
	return nil
}

// reloadDatabases applies the new entries; connections to servers that moved
// are replaced, clients of databases that are gone are told to go.
func (p *Proxy) reloadDatabases(cfg Config) {
	for _, d := range p.allDatabases() {
		conf, ok := cfg.Databases[d.name]
		if !ok {
			conf, ok = cfg.Databases[AnyDatabase]
		}
		if !ok {
			p.removeDatabase(d)
			continue
		}
		before := d.conf.Load()
		moved := d.configure(conf)
		switch {
		case moved:
			d.configureParts(p)
		case fleetConfig(before) != fleetConfig(&conf):
			d.configureFleets(p)
		}
		d.readsOf(&conf, cfg.Zone)
		d.configureCache(p, p.Sessions)
		if moved {
			d.forgetWelcomes()
			p.registry.Reconnect(pool.Scope{Database: d.name})
		}
		if moved || fleetConfig(before) != fleetConfig(&conf) {
			d.forgetAnswers() // behind Reconnect: nothing is asked of the servers before any more
		}
	}
}

func (p *Proxy) removeDatabase(d *database) {
	p.mu.Lock()
	delete(p.databases, d.name)
	p.mu.Unlock()
	for _, s := range p.Sessions() {
		if s.Info().Database == d.name {
			s.Kill(wire.Fatal(wire.CodeAdminShutdown, "terminating connection: the database is no longer configured"))
		}
	}
	p.registry.Retire(func(key pool.Key) bool { return key.Database == d.name })
	d.close()
}
