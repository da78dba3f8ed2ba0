package proxy

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"pgtier/proxy/session"
	"pgtier/proxy/wire"
	"pgtier/router/catalog"
	"pgtier/router/plan"
	"pgtier/router/shard"
)

// cluster is what the shards of one database share: the planner, made of configuration, catalog and map, and what
// settles transactions. It does nothing while the database is not sharded.
type cluster struct {
	p       *Proxy
	d       *database
	settler *settler
	running sync.WaitGroup // watchers; they end with the database
	once    sync.Once

	mu     sync.Mutex // held to make a layout
	layout atomic.Pointer[madeLayout]
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
	c := &cluster{p: p, d: d}
	c.settler = newSettler(p, d)
	return c
}

// configure puts the database's configuration in force. d.parts and d.conf are set.
func (c *cluster) configure() {
	if !c.d.conf.Load().Sharded() {
		c.d.shared.Cluster.Store(nil)
		return
	}
	c.d.shared.Cluster.Store(&session.Cluster{
		Layout: c.current, Unsettled: c.settler.Nudge, Identity: c.d.name,
		Decision: func(gid string) string { return decisionOf(gid, "commit") },
	})
	c.start()
}

// start starts what watches the shards, once a role is known to ask as.
func (c *cluster) start() {
	if c.d.ownRole() == "" || !c.d.conf.Load().Sharded() {
		return
	}
	c.once.Do(func() {
		c.running.Go(func() { c.settler.run(c.d.ctx) }) // ends with the database; close waits
	})
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
	snapshot, parts, conf := c.d.catalog.Snapshot(), c.d.parts.Load(), c.d.conf.Load()
	shards, err := c.shards()
	if err != nil {
		return nil, noLayout(err.Error())
	}
	if m := c.layout.Load(); m != nil && m.snapshot == snapshot && m.shards == shards && m.parts == parts && m.conf == conf {
		return m.Layout, m.err
	}
	return c.make(snapshot, shards, parts, conf)
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
	config, err := c.planning(conf, *parts)
	var schema *plan.Schema
	var findings []plan.Finding
	if err == nil {
		schema, findings, err = plan.NewSchema(config, snapshot, shards)
	}
	if err != nil {
		m.err = noLayout(fmt.Sprintf("database %s cannot be planned for: %s", c.d.name, err))
		c.layout.Store(m)
		c.d.log.Error("shards cannot be planned for", zap.Error(err))
		return nil, m.err
	}
	for _, f := range findings {
		c.d.log.Warn("a table does not fit the sharding", zap.String("table", f.Table), zap.String("why", f.Message), zap.String("hint", f.Hint))
	}
	m.Layout = &session.Layout{Schema: schema, Home: config.Home}
	for _, part := range *parts {
		m.Shards = append(m.Shards, part.shared)
	}
	c.layout.Store(m)
	return m.Layout, nil
}

// planning is the configuration as planners take it.
func (c *cluster) planning(conf *Database, parts []*part) (*plan.Config, error) {
	function, err := shard.ParseFunction(conf.Sharding.Function)
	if err != nil {
		return nil, err
	}
	out := &plan.Config{Buckets: conf.Sharding.Buckets, Function: function, Tables: map[string][]string{}, Reference: conf.Sharding.Reference}
	for i, part := range parts {
		out.Shards = append(out.Shards, shard.Name(part.name()))
		if part.shared == c.d.shared {
			out.Home = i
		}
	}
	for name, table := range conf.Sharding.Tables {
		out.Tables[name] = []string{table.Key}
	}
	return out, nil
}

// shards is the map in force.
func (c *cluster) shards() (*shard.Map, error) { return nil, errors.New("no map") }
