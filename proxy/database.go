package proxy

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"pgtier/proxy/auth"
	"pgtier/proxy/backend"
	"pgtier/proxy/pool"
	"pgtier/proxy/session"
	"pgtier/proxy/wire"
	"pgtier/router/catalog"
	"pgtier/router/topology"
)

// database is one database that clients may ask for: its servers, its pools'
// configuration, and what its sessions share.
type database struct {
	name   string
	shared *session.Database // of the home shard, the only one of most databases
	log    *zap.Logger

	conf     atomic.Pointer[Database]
	reads    atomic.Pointer[session.Reads]
	servers  atomic.Pointer[topology.Database]
	parts    atomic.Pointer[[]*part] // one a shard, in the order of servers
	disabled atomic.Bool
	stats    session.Stats
	inDoubt  atomic.Int64 // transactions over several shards that were prepared when somebody last looked
	// oldestInDoubt is how long, in nanoseconds, the oldest of those had been prepared then; 0 if there was none.
	oldestInDoubt atomic.Int64
	cluster       *cluster              // what its shards share
	index         atomic.Pointer[index] // of the catalog, for its caches

	mu       sync.Mutex
	creds    map[string]auth.Credential // by role: what its last login proved
	welcomes map[string]*session.Welcomes
	listener *session.SharedListener

	fleets sync.WaitGroup // goroutines of fleets
	served bool           // a client's login has given a role to ask as

	// The catalog is watched from the first client on; stop ends that.
	catalog  *catalog.Watcher
	querier  *catalogQuerier
	watching sync.Once
	ctx      context.Context
	stop     context.CancelFunc
}

// find returns the database that clients call name, making one for a wildcard
// entry. The error is for the client.
func (p *Proxy) find(name string) (*database, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d := p.databases[name]; d != nil {
		return d, nil
	}
	cfg := p.face.Load().cfg
	conf, ok := cfg.Databases[name]
	if !ok {
		conf, ok = cfg.Databases[AnyDatabase]
	}
	if !ok {
		return nil, &wire.Error{Code: wire.CodeInvalidDatabase, Message: fmt.Sprintf("database %q does not exist", name)}
	}
	d := p.newDatabase(name, conf)
	p.databases[name] = d
	return d, nil
}

// newDatabase wires a database up. p.mu is held.
func (p *Proxy) newDatabase(name string, conf Database) *database {
	d := &database{name: name, log: p.log.With(zap.String("database", name)),
		creds: make(map[string]auth.Credential), welcomes: make(map[string]*session.Welcomes)}
	d.configure(conf)
	d.ctx, d.stop = context.WithCancel(context.Background())
	d.querier = &catalogQuerier{dial: func(ctx context.Context) (*backend.Conn, error) { return p.dialAs(ctx, d, d.ownRole()) }}
	d.catalog = catalog.NewWatcher(d.querier, catalogInterval, d.log)
	d.shared = d.newShared(p, backend.NewStatements(int64(p.face.Load().cfg.Limits.PreparedStatements)))
	d.listener = session.NewSharedListener(p.env, d.shared, func(ctx context.Context) (*backend.Conn, error) {
		return p.dialAs(ctx, d, d.ownRole())
	}, d.log)
	d.shared.Listener = d.listener
	d.cluster = newCluster(p, d)
	d.configureParts(p)
	d.configureCache(p, func() []*session.Session { return nil })
	return d
}

// newShared is what sessions share of d on one shard.
func (d *database) newShared(p *Proxy, statements *backend.Statements) *session.Database {
	return &session.Database{
		Name:       d.name,
		Statements: statements,
		Hazards:    d.catalog,
		Config:     func() *pool.Config { return &d.conf.Load().Pool },
		OnDDL:      d.changedCatalog,
		Redial:     p.redial,
		Reads:      func() *session.Reads { return d.reads.Load() },
		Stats:      &d.stats,
		Attach: func(role, server string) *pool.Pool[*backend.Conn] {
			return p.registry.Attach(pool.Key{Database: d.name, Role: role, Server: server}, &d.conf.Load().Pool)
		},
	}
}

// configure puts conf in force and reports whether the servers changed.
func (d *database) configure(conf Database) (moved bool) {
	servers := conf.Topology(d.name)
	for i := range servers.Shards {
		shard := &servers.Shards[i]
		for _, server := range append([]*topology.Server{&shard.Manager}, pointers(shard.Replicas)...) {
			if server.Database == "" {
				server.Database = d.name
			}
		}
	}
	old := d.servers.Swap(&servers)
	d.conf.Store(&conf)
	return old != nil && !slices.EqualFunc(old.Shards, servers.Shards, sameServers)
}

func pointers(servers []topology.Server) (out []*topology.Server) {
	for i := range servers {
		out = append(out, &servers[i])
	}
	return out
}

// sameServers reports whether two shards are at the same places, by the same names.
func sameServers(a, b topology.Shard) bool {
	return a.Name == b.Name && a.Manager == b.Manager && slices.Equal(a.Replicas, b.Replicas)
}

// manager is the server that takes writes on the home shard.
func (d *database) manager() topology.Server { return d.home().manager() }

// all are the servers of the configuration.
func (d *database) all() (servers []topology.Server) {
	for _, shard := range d.servers.Load().Shards {
		servers = append(append(servers, shard.Manager), shard.Replicas...)
	}
	return servers
}

// server is the one of that name; one that is gone is the manager.
func (d *database) server(name string) topology.Server {
	for _, server := range d.all() {
		if server.Name == name {
			return server
		}
	}
	return d.manager()
}

// ownRole is the role for the proxy's own questions: the URL's, else one that
// has logged in.
func (d *database) ownRole() string {
	if u := d.manager().User; u != "" {
		return u
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	for role := range d.creds {
		return role
	}
	return ""
}

func (d *database) key(role string) pool.Key {
	return pool.Key{Database: d.name, Role: role, Server: d.manager().Name}
}

// learn keeps what a client's login proved, for opening server connections, and
// reports whether that is new: attempts that failed are then worth repeating.
func (d *database) learn(role string, cred auth.Credential) (fresh bool) {
	if cred.Zero() {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	fresh = !cred.Equal(d.creds[role])
	d.creds[role] = cred
	return fresh
}

// credential is what to log in with as role, to a server of the shard of that manager.
func (d *database) credential(manager topology.Server, role string) auth.Credential {
	if manager.User == role && !manager.Password.IsZero() {
		return passwordOf(manager)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.creds[role]
}

// passwordOf is the password of a server's URL.
func passwordOf(server topology.Server) auth.Credential {
	return auth.PasswordCredential(server.Password.Reveal())
}

// welcome returns what is remembered of role's logins.
func (d *database) welcome(role string) *session.Welcomes {
	d.mu.Lock()
	defer d.mu.Unlock()
	w := d.welcomes[role]
	if w == nil {
		w = &session.Welcomes{}
		d.welcomes[role] = w
	}
	return w
}

func (d *database) forgetWelcomes() {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, w := range d.welcomes {
		w.Forget()
	}
}

func (d *database) close() {
	d.stop()
	d.cluster.close()
	for _, part := range *d.parts.Load() {
		part.shared.Pipelines.Close()
	}
	d.fleets.Wait()
	d.querier.Close()
	d.listener.Close()
}

func (p *Proxy) allDatabases() []*database {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]*database, 0, len(p.databases))
	for _, d := range p.databases {
		out = append(out, d)
	}
	return out
}

// warm watches the servers of every configured database whose URL names a role, and opens min_idle connections.
func (p *Proxy) warm() {
	for name := range p.face.Load().cfg.Databases {
		if name == AnyDatabase {
			continue
		}
		d, err := p.find(name)
		if err != nil {
			continue
		}
		role := d.manager().User
		if role == "" {
			continue
		}
		d.watchFleets() // so that the first client finds it done
		if d.conf.Load().Pool.MinIdle == 0 {
			continue
		}
		for _, server := range d.all() {
			p.registry.Keep(pool.Key{Database: d.name, Role: role, Server: server.Name}, &d.conf.Load().Pool)
		}
	}
}

// dial opens a connection for a pool.
func (p *Proxy) dial(ctx context.Context, key pool.Key) (*backend.Conn, error) {
	d, err := p.find(key.Database)
	if err != nil {
		return nil, err
	}
	return p.dialer.Dial(ctx, p.target(d, d.server(key.Server), key.Role, nil))
}

func (p *Proxy) dialAs(ctx context.Context, d *database, role string) (*backend.Conn, error) {
	return p.dialer.Dial(ctx, p.target(d, d.manager(), role, nil))
}

// redial opens a connection like c whose own defaults are params.
func (p *Proxy) redial(ctx context.Context, c *backend.Conn, params []wire.Param) (*backend.Conn, error) {
	t := *c.Target()
	t.Params = params
	return p.dialer.Dial(ctx, t)
}

// target is server m of d, as role.
func (p *Proxy) target(d *database, m topology.Server, role string, params []wire.Param) backend.Target {
	network, address := m.Address()
	part := d.partOf(m.Name)
	t := backend.Target{Name: m.Name, Network: network, Address: address, Host: m.Host, Database: m.Database,
		User: role, Protocol: wire.Protocol32, Credential: d.credential(part.manager(), role), TLS: p.face.Load().cfg.TLS.Server, Params: params,
		Together: part.shared.Fleet.Load() != nil}
	if m.TLS.Mode != "" {
		t.TLS.Mode = m.TLS.Mode
	}
	if m.TLS.RootCert != "" {
		t.TLS.CA = m.TLS.RootCert
	}
	if m.TLS.Cert != "" {
		t.TLS.Cert, t.TLS.Key = m.TLS.Cert, m.TLS.Key
	}
	if binding, err := auth.ParseChannelBinding(m.TLS.ChannelBinding); err == nil {
		t.Binding = binding
	}
	return t
}

// querySecret asks auth_query for a user's secret, over a pooled connection of
// the role that may ask.
func (p *Proxy) querySecret(ctx context.Context, name, user string) (auth.Secret, bool, error) {
	cfg := p.face.Load().cfg.Auth
	if cfg.QueryDatabase != "" {
		name = cfg.QueryDatabase
	}
	d, err := p.find(name)
	if err != nil {
		return auth.Secret{}, false, err
	}
	role := cfg.QueryUser
	if role == "" {
		role = d.manager().User
	}
	if u, ok := p.face.Load().auth.Users().Lookup(role); ok {
		if cred, ok := u.Secret.Credential(); ok && d.credential(d.manager(), role).Zero() {
			d.learn(role, cred)
		}
	}
	var shadow *string
	found := false
	err = p.ask(ctx, d, role, cfg.Query, &user, func(fields [][]byte) {
		if len(fields) < 2 || found {
			return
		}
		found = true
		if fields[1] != nil {
			s := string(fields[1])
			shadow = &s
		}
	})
	if err != nil || !found {
		return auth.Secret{}, false, err
	}
	secret, err := auth.SecretFromQueryRow(shadow)
	return secret, err == nil, err
}

// ask runs one query with at most one parameter over a pooled connection of role.
func (p *Proxy) ask(ctx context.Context, d *database, role, sql string, param *string, visit func([][]byte)) error {
	pl := p.registry.Attach(d.key(role), &d.conf.Load().Pool)
	defer pl.Detach()
	w := pool.NewWaiter[*backend.Conn]()
	stop := context.AfterFunc(ctx, func() { w.Close(ctx.Err()) })
	defer stop()
	c, err := pl.Acquire(w, pool.Want[*backend.Conn]{})
	if err != nil {
		return err
	}
	msgs, _ := c.AppendAdopt(nil, nil)
	if len(msgs) > 0 {
		if err := c.Exec(msgs, askTimeout, nil); err != nil {
			pl.Discard(c, "settings reset failed")
			return err
		}
		c.Adopted(nil)
	}
	msgs = wire.AppendParse(msgs[:0], "", []byte(sql), nil)
	var params []*string
	if param != nil {
		params = []*string{param}
	}
	msgs = wire.AppendSync(wire.AppendExecute(wire.AppendBindText(msgs, "", params)))
	c.SetUnnamed(nil)
	err = c.Exec(msgs, askTimeout, func(f wire.Frame) {
		if f.Type == wire.MsgDataRow {
			if fields, err := wire.RowFields(f.Body()); err == nil {
				visit(fields)
			}
		}
	})
	if reason := c.Spoiled(); reason != "" {
		pl.Discard(c, reason)
	} else {
		pl.Release(c)
	}
	return err
}

// askTimeout bounds the proxy's own questions.
const askTimeout = 15 * time.Second
