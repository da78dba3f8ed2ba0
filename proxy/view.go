package proxy

import (
	"cmp"
	"crypto/tls"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"pgtier/proxy/admin"
	"pgtier/proxy/backend"
	"pgtier/proxy/pool"
	"pgtier/proxy/session"
	"pgtier/proxy/wire"
)

// adminDatabase is the console's own line, by the name PgBouncer's tools expect.
const adminDatabase = "pgbouncer"

// viewPools lists the pools in order of database and user, the console's last.
func (p *Proxy) viewPools() []admin.Pool {
	var out []admin.Pool
	p.registry.Each(func(pl *pool.Pool[*backend.Conn]) {
		key, st := pl.Key(), pl.Stats()
		out = append(out, admin.Pool{
			Database: key.Database, User: key.Role,
			ClientsActive: max(st.Clients-st.Waiting, 0), ClientsWaiting: st.Waiting,
			Active: st.Active, Idle: st.Idle, Used: st.Used, Tested: st.Tested, LoggingIn: st.Login,
			MaxWait: st.MaxWait, Mode: string(pl.Config().Mode),
		})
	})
	slices.SortFunc(out, func(a, b admin.Pool) int {
		return cmp.Or(strings.Compare(a.Database, b.Database), strings.Compare(a.User, b.User))
	})
	out = mergePools(out, p.sessionsOf())
	return append(out, admin.Pool{Database: adminDatabase, User: adminDatabase, ClientsActive: len(p.visits()), Mode: "statement"})
}

// login is whose pools PgBouncer has one for.
type login struct{ database, user string }

// sessionsOf counts the clients of each login.
func (p *Proxy) sessionsOf() map[login]int {
	out := map[login]int{}
	for _, s := range p.Sessions() {
		i := s.Info()
		out[login{i.Database, i.Role}]++
	}
	return out
}

// mergePools sums neighbours of the same database and user: PgBouncer has one
// pool for both, here there is one for each server. A client that uses several is one of clients.
func mergePools(sorted []admin.Pool, clients map[login]int) []admin.Pool {
	var out []admin.Pool
	for _, p := range sorted {
		n := len(out) - 1
		if n < 0 || out[n].Database != p.Database || out[n].User != p.User {
			out = append(out, p)
			continue
		}
		sum := &out[n]
		sum.ClientsWaiting += p.ClientsWaiting
		sum.ClientsActive = max(clients[login{p.Database, p.User}]-sum.ClientsWaiting, 0)
		sum.Active, sum.Idle, sum.Used = sum.Active+p.Active, sum.Idle+p.Idle, sum.Used+p.Used
		sum.Tested, sum.LoggingIn, sum.MaxWait = sum.Tested+p.Tested, sum.LoggingIn+p.LoggingIn, max(sum.MaxWait, p.MaxWait)
	}
	return out
}

// viewClients lists sessions and the console's clients.
func (p *Proxy) viewClients() []admin.Socket {
	var out []admin.Socket
	now := time.Now()
	for _, s := range p.Sessions() {
		out = append(out, clientSocket(s.Info(), now))
	}
	for _, v := range p.visits() {
		out = append(out, v.info)
	}
	return out
}

// clientSocket shows a session in PgBouncer's terms: idle is a client without a server.
func clientSocket(i session.Info, now time.Time) admin.Socket {
	s := admin.Socket{
		ID: i.ID, User: i.Role, Database: i.Database, Replication: "none", State: "idle",
		Connected: i.Connected, Requested: i.Since, Link: i.ServerID, TLS: i.TLS, AppName: i.AppName,
		Prepared: i.Prepared, Pin: i.Pin, Pinned: i.Pinned,
	}
	switch i.State {
	case session.StateIdleTx, session.StateActive:
		s.State = "active"
	case session.StateWaiting:
		s.State, s.Wait = "waiting", max(now.Sub(i.Since), 0)
	}
	s.Addr, s.Port = endpoint(i.Addr)
	s.LocalAddr, s.LocalPort = endpoint(i.Local)
	return s
}

// endpoint splits an address; sockets in the file system are "unix".
func endpoint(address string) (host string, port int) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		return "unix", 0
	}
	port, _ = strconv.Atoi(text)
	return host, port
}

func tlsName(c *wire.Conn) string {
	state, ok := c.TLS()
	if !ok {
		return ""
	}
	return tls.VersionName(state.Version) + "/" + tls.CipherSuiteName(state.CipherSuite)
}

// viewServers lists the open server connections by their number.
func (p *Proxy) viewServers() []admin.Socket {
	links := map[uint64]session.Info{}
	for _, s := range p.Sessions() {
		if i := s.Info(); i.ServerID != 0 {
			links[i.ServerID] = i
		}
	}
	var out []admin.Socket
	p.registry.Each(func(pl *pool.Pool[*backend.Conn]) {
		for _, c := range pl.Connections() {
			out = append(out, serverSocket(pl, c, links))
		}
	})
	slices.SortFunc(out, func(a, b admin.Socket) int { return cmp.Compare(a.ID, b.ID) })
	return out
}

func serverSocket(pl *pool.Pool[*backend.Conn], c pool.Connection[*backend.Conn], links map[uint64]session.Info) admin.Socket {
	key, conn := pl.Key(), c.Server
	link := links[conn.ID()]
	s := admin.Socket{
		ID: conn.ID(), User: key.Role, Database: key.Database, Replication: "none", State: "idle",
		Connected: conn.CreatedAt(), Requested: c.Since, CloseNeeded: c.Doomed, Link: link.ID, PID: int(conn.PID()),
		TLS: tlsName(conn.Conn), AppName: link.AppName, Prepared: conn.PreparedCount(),
	}
	switch delay := pl.Config().CheckDelay; {
	case c.State == pool.Leased:
		s.State = "active"
	case c.State == pool.Checking:
		s.State = "tested"
	case delay > 0 && time.Since(c.Since) >= delay:
		s.State = "used"
	}
	s.Addr, s.Port = endpoint(conn.RemoteAddr().String())
	s.LocalAddr, s.LocalPort = endpoint(conn.LocalAddr().String())
	return s
}

// listed are the databases of the configuration and those made for its wildcard.
func (p *Proxy) listed() map[string]*database {
	out := map[string]*database{}
	for _, d := range p.allDatabases() {
		out[d.name] = d
	}
	for name := range p.face.Load().cfg.Databases {
		if name == AnyDatabase {
			continue
		}
		if d, err := p.find(name); err == nil {
			out[name] = d
		}
	}
	return out
}

func (p *Proxy) viewDatabases() []admin.Database {
	base := p.face.Load().cfg.Pool
	clients := map[string]int{}
	for _, s := range p.Sessions() {
		clients[s.Info().Database]++
	}
	all := p.listed()
	var out []admin.Database
	for _, name := range slices.Sorted(maps.Keys(all)) {
		d := all[name]
		m, c := d.manager(), d.conf.Load().Pool
		servers, _ := p.limits.Servers(name, "")
		row := admin.Database{
			Name: name, Host: m.Host, Port: int(m.Port), Database: m.Database,
			PoolSize: c.Size, MinPoolSize: c.MinIdle, ReserveSize: c.Reserve, Lifetime: c.MaxLifetime,
			MaxConnections: c.MaxDatabaseConnections, Connections: servers, MaxClients: c.MaxDatabaseClients, Clients: clients[name],
			Paused: p.registry.Paused(pool.Scope{Database: name}), Disabled: d.disabled.Load(),
		}
		if c.Mode != base.Mode {
			row.Mode = string(c.Mode)
		}
		out = append(out, row)
	}
	return append(out, admin.Database{Name: adminDatabase, Port: p.port(), Database: adminDatabase, ForceUser: adminDatabase,
		Mode: "statement", Clients: len(p.visits())})
}

// port is that of the first TCP address, for the console's own line.
func (p *Proxy) port() int {
	for _, a := range p.Addrs() {
		if _, port := endpoint(a.String()); port > 0 {
			return port
		}
	}
	return 0
}

func (p *Proxy) viewUsers() []admin.User {
	f := p.face.Load()
	clients := map[string]int{}
	for _, name := range f.auth.Users().Names() {
		clients[name] = 0
	}
	for _, s := range p.Sessions() {
		clients[s.Info().Role]++
	}
	for _, v := range p.visits() {
		clients[v.User]++
	}
	p.registry.Each(func(pl *pool.Pool[*backend.Conn]) { clients[pl.Key().Role] += 0 })
	var out []admin.User
	for _, name := range slices.Sorted(maps.Keys(clients)) {
		_, servers := p.limits.Servers("", name)
		out = append(out, admin.User{Name: name, MaxConnections: f.cfg.Pool.MaxUserConnections, Connections: servers,
			MaxClients: f.cfg.Pool.MaxUserClients, Clients: clients[name]})
	}
	return out
}

func (p *Proxy) viewCounts() admin.Counts {
	p.mu.Lock()
	greeting := p.greeting.order.Len()
	p.mu.Unlock()
	pools := 1 // the console's
	p.registry.Each(func(*pool.Pool[*backend.Conn]) { pools++ })
	return admin.Counts{Users: len(p.viewUsers()), Pools: pools, Greeting: greeting}
}

// viewMemory lists what has a limit in the configuration.
func (p *Proxy) viewMemory() []admin.Memory {
	cache := p.env.Parser.Stats()
	out := []admin.Memory{{Name: "statement_cache", Used: int(cache.Entries), Total: cache.Bytes}}
	all := p.listed()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, admin.Memory{Name: "prepared_statements." + name, Total: all[name].shared.Statements.Bytes()})
	}
	return out
}

// viewPipelines shows each database's pipelines.
func (p *Proxy) viewPipelines() []admin.Pipeline {
	all := p.listed()
	var out []admin.Pipeline
	for _, name := range slices.Sorted(maps.Keys(all)) {
		out = append(out, all[name].pipelines())
	}
	return out
}

// pipelines sums those of the shards.
func (d *database) pipelines() admin.Pipeline {
	sum := admin.Pipeline{Database: d.name}
	for _, part := range *d.parts.Load() {
		l := &part.shared.Pipelines
		sum.Open, sum.UnderWay = sum.Open+l.Open(), sum.UnderWay+l.Depth.Load()
		sum.Requests, sum.Batches = sum.Requests+l.Requests.Load(), sum.Batches+l.Batches.Load()
		sum.SentAgain, sum.Evicted = sum.SentAgain+l.Replays.Load(), sum.Evicted+l.Evictions.Load()
	}
	return sum
}

// Pipelines shows a database's pipelines, as SHOW PIPELINES does.
func (p *Proxy) Pipelines(database string) admin.Pipeline {
	d, err := p.find(database)
	if err != nil {
		return admin.Pipeline{Database: database}
	}
	return d.pipelines()
}
