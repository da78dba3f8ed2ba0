package proxy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"pgtier/proxy/backend"
	"pgtier/proxy/session"
	"pgtier/proxy/shardmap"
	"pgtier/proxy/wire"
	"pgtier/router/catalog"
	"pgtier/router/plan"
	"pgtier/router/shard"
	"pgtier/router/topology"
)

// cluster is what the shards of one database share: the map and the planner, and what settles transactions. It does
// nothing while the database is not sharded.
type cluster struct {
	p       *Proxy
	d       *database
	settler *settler
	running sync.WaitGroup // watchers; they end with the database

	watcher atomic.Pointer[shardmap.Watcher]
	layout  atomic.Pointer[madeLayout]

	mu       sync.Mutex                 // held to make a layout, and to configure
	started  bool                       // guarded by mu
	numbered map[string]uint32          // guarded by mu; the table of each sequence that was seen to
	queriers map[string]*catalogQuerier // guarded by mu; by server name
}

// madeLayout is a layout and what it was made of.
type madeLayout struct {
	*session.Layout
	snapshot *catalog.Snapshot
	shards   *shard.Map
	parts    *[]*part
	conf     *Database
	err      error
}

func newCluster(p *Proxy, d *database) *cluster {
	c := &cluster{p: p, d: d, queriers: map[string]*catalogQuerier{}, numbered: map[string]uint32{}}
	c.settler = newSettler(p, d)
	return c
}

// configure puts the database's configuration in force. d.parts and d.conf are set.
func (c *cluster) configure() {
	conf := c.d.conf.Load()
	if !conf.Sharded() {
		c.d.shared.Cluster.Store(nil)
		c.d.catalog.Want()
		return
	}
	c.d.catalog.Want(catalog.Relations)
	c.watch(conf)
	c.d.shared.Cluster.Store(&session.Cluster{Layout: c.current, Unsettled: c.settler.Nudge, Prefix: c.d.prefix(), Decision: c.decision})
	c.start()
}

// watch gives the watcher of the map what the configuration says of it.
func (c *cluster) watch(conf *Database) {
	c.mu.Lock()
	defer c.mu.Unlock()
	function, _ := shard.ParseFunction(conf.Sharding.Function) // Validate has checked it
	config := shardmap.Config{Database: c.d.name, Buckets: conf.Sharding.Buckets, Function: function, Home: shard.Name(conf.HomeShard()), Who: whoAmI()}
	for name, table := range conf.Sharding.Tables {
		config.Tables = append(config.Tables, declared(name, table.Key))
	}
	for _, name := range conf.Sharding.Reference {
		config.Tables = append(config.Tables, declared(name, nil))
	}
	shards := map[shard.Name]shardmap.Querier{}
	for _, part := range *c.d.parts.Load() {
		config.Shards = append(config.Shards, shard.Name(part.name()))
		shards[shard.Name(part.name())] = c.querier("shard "+part.name(), func() topology.Server { return part.manager() })
	}
	cfg := c.p.face.Load().cfg
	var control shardmap.Querier
	if cfg.Control == (topology.Server{}) {
		control = shards[config.Shards[0]]
	} else {
		at := cfg.ControlOf(c.d.name)
		control = c.querier("control", func() topology.Server { return at })
	}
	if w := c.watcher.Load(); w != nil {
		w.Configure(config, control, shards)
		return
	}
	c.watcher.Store(shardmap.New(config, control, shards, shardmap.DefaultInterval, c.d.log))
}

// whoAmI names this proxy in the maps that it makes.
func whoAmI() string {
	host, _ := os.Hostname()
	return host
}

// declared is a table of the configuration. Validate has checked its name.
func declared(name string, key []string) shardmap.Table {
	table, _ := ParseTableName(name)
	return shardmap.Table{Schema: table.Schema, Name: table.Name, Key: key}
}

// querier asks a server over a connection of its own. mu is held.
func (c *cluster) querier(name string, server func() topology.Server) *catalogQuerier {
	if q := c.queriers[name]; q != nil {
		return q
	}
	q := &catalogQuerier{dial: func(ctx context.Context) (*backend.Conn, error) {
		at := server()
		role := at.User
		if role == "" {
			role = c.d.ownRole()
		}
		target := c.p.target(c.d, at, role, nil)
		if at.User == role && !at.Password.IsZero() { // the control database may be none of the shards
			target.Credential = passwordOf(at)
		}
		return c.p.dialer.Dial(ctx, target)
	}}
	c.queriers[name] = q
	return q
}

// start starts what watches the shards, once a role is known to ask as.
func (c *cluster) start() {
	if c.d.ownRole() == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	w := c.watcher.Load()
	if w == nil || c.started {
		return
	}
	c.started = true
	c.running.Go(func() { w.Run(c.d.ctx) })         // ends with the database; close waits
	c.running.Go(func() { c.settler.run(c.d.ctx) }) // ends with the database; close waits
}

// close waits for what start started, whose context has ended, and hangs up.
func (c *cluster) close() {
	c.running.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, q := range c.queriers {
		q.Close()
	}
}

// layoutWait bounds how long a statement waits for the catalog and the map to be read.
const layoutWait = 5 * time.Second

// current returns the layout in force, made anew where the catalog, the map or the configuration has changed.
func (c *cluster) current() (*session.Layout, error) {
	if c.d.catalog.Pending() {
		ctx, stop := context.WithTimeout(c.d.ctx, layoutWait)
		err := c.d.catalog.Wait(ctx)
		stop()
		if err != nil {
			return nil, noLayout("the catalog of database " + c.d.name + " could not be read yet")
		}
	}
	state, err := c.state()
	if err != nil {
		return nil, noLayout(err.Error())
	}
	snapshot, parts, conf := c.d.catalog.Snapshot(), c.d.parts.Load(), c.d.conf.Load()
	if m := c.layout.Load(); m != nil && m.snapshot == snapshot && m.shards == state.Map && m.parts == parts && m.conf == conf {
		return m.Layout, m.err
	}
	return c.make(snapshot, state.Map, parts, conf)
}

// state is what is known of the map; an error where nothing may be sent to the shards.
func (c *cluster) state() (*shardmap.State, error) {
	w := c.watcher.Load()
	if w == nil {
		return nil, errors.New("the database is not sharded")
	}
	s := w.State()
	if s.Map == nil && s.Refusal != nil {
		ctx, stop := context.WithTimeout(c.d.ctx, layoutWait)
		defer stop()
		var err error
		if s, err = w.Wait(ctx); err != nil {
			return nil, errors.New("the map of buckets to shards could not be read yet")
		}
	}
	if s.Refusal != nil {
		return nil, s.Refusal
	}
	return s, nil
}

// fault says why nothing may be sent to a shard now: its server may be another's, or cannot take part in transactions.
func (c *cluster) fault(name shard.Name) error {
	if err := c.watcher.Load().State().Unprepared[name]; err != nil {
		return wire.NewError(wire.CodeCannotConnectNow, fmt.Sprintf("shard %s cannot be used yet: %s", name, err), "SHOW SHARDS in the admin database lists what is wrong.")
	}
	return nil
}

// decision is the statement by which an anchor decides.
func (c *cluster) decision(gid string) (string, error) {
	s, err := c.state()
	if err != nil {
		return "", noLayout(err.Error())
	}
	return s.Seal.Decide(gid), nil
}

func noLayout(message string) error {
	return wire.NewError(wire.CodeCannotConnectNow, message, "Statements are planned for shards by it; the log says more. Try again.")
}

// make makes a layout.
func (c *cluster) make(snapshot *catalog.Snapshot, shards *shard.Map, parts *[]*part, conf *Database) (*session.Layout, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.layout.Load(); m != nil && m.snapshot == snapshot && m.shards == shards && m.parts == parts && m.conf == conf {
		return m.Layout, m.err
	}
	m := &madeLayout{snapshot: snapshot, shards: shards, parts: parts, conf: conf}
	config := conf.Planning()
	schema, findings, err := plan.NewSchema(config, snapshot, shards)
	if err != nil {
		m.err = noLayout(fmt.Sprintf("database %s cannot be planned for: %s", c.d.name, err))
		c.layout.Store(m)
		c.d.log.Error("shards cannot be planned for", zap.Error(err))
		return nil, m.err
	}
	for _, f := range findings {
		c.d.log.Warn("a table does not fit the sharding", zap.String("table", f.Table), zap.String("why", f.Message), zap.String("hint", f.Hint))
	}
	m.Layout = &session.Layout{Schema: schema, Home: config.Home, Fault: func(i int) error { return c.fault(config.Shards[i]) }}
	for _, part := range *parts {
		m.Shards = append(m.Shards, part.shared)
	}
	if old := c.layout.Load(); old != nil && old.parts != parts {
		clear(c.numbered) // other shards
	}
	m.Unnumbered = c.number(conf, snapshot, *parts)
	c.layout.Store(m)
	return m.Layout, nil
}

// numberLimit bounds the time for sequences when the catalog has changed. Statements wait for it.
const numberLimit = 10 * time.Second

// number keeps the sequences of sharded tables apart. It returns why not, by table.
func (c *cluster) number(conf *Database, snapshot *catalog.Snapshot, parts []*part) map[string]error {
	sequences := sequencesOf(conf, snapshot)
	if len(sequences) == 0 || len(parts) < 2 {
		return nil
	}
	ctx, stop := context.WithTimeout(c.d.ctx, numberLimit)
	defer stop()
	n := numberer{asker: asker{p: c.p, d: c.d}, parts: parts}
	return n.number(ctx, sequences, c.numbered)
}
