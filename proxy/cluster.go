package proxy

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
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
	breaker *breaker
	running sync.WaitGroup // watchers; they end with the database

	watcher atomic.Pointer[shardmap.Watcher]
	layout  atomic.Pointer[madeLayout]
	touched atomic.Bool // the catalog was read again for what the proxy itself has created

	mu       sync.Mutex                 // held to make a layout, and to configure
	started  bool                       // guarded by mu
	epoch    uint64                     // guarded by mu; of the last layout planned anew
	numbered map[string]uint32          // guarded by mu; the table of each sequence that gives no number on two shards
	queriers map[string]*catalogQuerier // guarded by mu; by server name
}

// madeLayout is a layout and what it was made of.
type madeLayout struct {
	*session.Layout
	snapshot *catalog.Snapshot
	state    *shardmap.State
	parts    *[]*part
	conf     *Database
	err      error
	renumber time.Time // when sequences that could not be looked at are looked at again; zero: never
}

// due reports whether sequences have to be looked at again.
func (m *madeLayout) due() bool { return !m.renumber.IsZero() && time.Now().After(m.renumber) }

// like reports whether both are planned for alike, whatever statements wait for.
func (m *madeLayout) like(o *madeLayout) bool {
	a, b := m.state, o.state
	return m.snapshot == o.snapshot && m.parts == o.parts && m.conf == o.conf && a.Map == b.Map && slices.Equal(a.Members, b.Members) &&
		slices.Equal(a.Motion.Moving, b.Motion.Moving) && a.Motion.Frozen == b.Motion.Frozen
}

func newCluster(p *Proxy, d *database) *cluster {
	c := &cluster{p: p, d: d, queriers: map[string]*catalogQuerier{}, numbered: map[string]uint32{}}
	c.settler, c.breaker = newSettler(p, d), newBreaker(p, d)
	return c
}

// configure puts the database's configuration in force. d.parts and d.conf are set.
func (c *cluster) configure() {
	conf := c.d.conf.Load()
	if !conf.Sharded() {
		c.d.shared.Cluster.Store(nil)
		if conf.Cache.Enabled {
			c.d.catalog.Want(catalog.Relations, catalog.Answers)
		} else {
			c.d.catalog.Want()
		}
		return
	}
	if conf.Cache.Enabled {
		c.d.catalog.Want(catalog.Relations, catalog.Answers)
	} else {
		c.d.catalog.Want(catalog.Relations)
	}
	c.watch(conf)
	c.d.shared.Cluster.Store(&session.Cluster{Layout: c.current, Number: c.watcher.Load().Number, Touch: c.touch, Finish: c.settler.insist, Unsettled: c.settler.Nudge, Stuck: c.breaker.Nudge, Prefix: c.d.prefix(), Decision: c.decision})
	c.start()
}

// watch gives the watcher of the map what the configuration says of it.
func (c *cluster) watch(conf *Database) {
	c.mu.Lock()
	defer c.mu.Unlock()
	function, _ := shard.ParseFunction(conf.Sharding.Function) // Validate has checked it
	config := shardmap.Config{Database: c.d.name, Buckets: conf.Sharding.Buckets, Function: function, Home: shard.Name(conf.HomeShard()), Who: whoAmI(), Lease: c.p.lease}
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
	w := shardmap.New(config, control, shards, shardmap.DefaultInterval, c.d.log)
	w.Underway = c.underway
	w.Begins = c.d.catalog.Touch // what code may lock rows has to be known by then: the schema is frozen
	c.watcher.Store(w)
}

// underway tells the shards to which sessions have something under way that may have been planned by a motion before that of the number; ok is false where it may be
// any of them.
func (c *cluster) underway(number int64) (names []shard.Name, ok bool) {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	for _, s := range c.p.sessions {
		planned, at, some := s.Underway(c.d.shared)
		if !some || planned >= number {
			continue
		}
		if at == nil {
			return nil, false
		}
		if name := shard.Name(at.Shard()); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, true
}

// tie is the lease of a shard as its connections know it: a backend.Bond.
type tie struct {
	c    *cluster
	part *part
	bond atomic.Pointer[shardmap.Bond] // once there is a watcher
}

// of is the shard's bond; nil while there is none, or the database is not sharded.
func (t *tie) of() *shardmap.Bond {
	if t.c.d.shared.Cluster.Load() == nil {
		return nil
	}
	b := t.bond.Load()
	if w := t.c.watcher.Load(); b == nil && w != nil {
		b = w.Bond(shard.Name(t.part.name()))
		t.bond.Store(b)
	}
	return b
}

// Breaks is that of shardmap.Bond.
func (t *tie) Breaks() int64 {
	if b := t.of(); b != nil {
		return b.Breaks()
	}
	return 0
}

// Unbroken is that of shardmap.Bond.
func (t *tie) Unbroken(breaks int64) bool {
	b := t.of()
	return b == nil || b.Unbroken(breaks)
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
	c.running.Go(func() { c.breaker.run(c.d.ctx) }) // ends with the database; close waits
}

// close waits for what start started, whose context has ended, and hangs up.
func (c *cluster) close() {
	c.running.Wait()
	if w := c.watcher.Load(); w != nil {
		ctx, stop := context.WithTimeout(context.Background(), leaveLimit)
		if err := w.Leave(ctx); err != nil {
			c.d.log.Warn("this proxy is still written down as serving; moves of buckets wait for it for twice its lease", zap.Error(err))
		}
		stop()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, q := range c.queriers {
		q.Close()
	}
}

// leaveLimit bounds how long the end of a proxy waits for the control database.
const leaveLimit = 2 * time.Second

// touch has the map of buckets and the motion asked for.
func (c *cluster) touch() {
	if w := c.watcher.Load(); w != nil {
		w.Touch()
	}
}

// layoutWait bounds how long a statement waits for the catalog and the map to be read.
const layoutWait = 5 * time.Second

// current returns the layout in force, made anew where the catalog, the map or the configuration has changed.
func (c *cluster) current() (*session.Layout, error) {
	state, err := c.state()
	for waited := (*shardmap.State)(nil); err == nil && state != waited && c.d.catalog.Pending(); state, err = c.state() { // the state may be why
		ctx, stop := context.WithTimeout(c.d.ctx, layoutWait)
		waited, err = state, c.d.catalog.Wait(ctx)
		stop()
		if err != nil {
			return nil, noLayout("the catalog of database " + c.d.name + " could not be read yet")
		}
	}
	if err != nil {
		return nil, noLayout(err.Error())
	}
	if !c.touched.Load() && prepared(state) && !c.touched.Swap(true) {
		c.d.catalog.Touch() // it may have been read before the shards were given what pgtier needs there
		return c.current()
	}
	snapshot, parts, conf := c.d.catalog.Snapshot(), c.d.parts.Load(), c.d.conf.Load()
	if m := c.layout.Load(); m != nil && m.state == state && m.snapshot == snapshot && m.parts == parts && m.conf == conf && !m.due() {
		return m.Layout, m.err
	}
	return c.make(snapshot, state, parts, conf)
}

// prepared reports whether all members have been given what pgtier needs there.
func prepared(state *shardmap.State) bool {
	return !slices.ContainsFunc(state.Members, func(name shard.Name) bool { return state.Unprepared[name] != nil })
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
	w := c.watcher.Load()
	if err := w.State().Unprepared[name]; err != nil {
		return wire.NewError(wire.CodeCannotConnectNow, fmt.Sprintf("shard %s cannot be used yet: %s", name, err), "SHOW SHARDS in the admin database lists what is wrong.")
	}
	if !w.Leased(name) {
		return wire.NewError(wire.CodeCannotConnectNow, fmt.Sprintf("shard %s cannot be used now: the control database does not answer, and buckets may have been moved meanwhile", name),
			"Look at the control database, and at the network between it and this proxy; SHOW SHARDS in the admin database tells how old what is known is.")
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
func (c *cluster) make(snapshot *catalog.Snapshot, state *shardmap.State, parts *[]*part, conf *Database) (*session.Layout, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	old := c.layout.Load()
	if old != nil && old.state == state && old.snapshot == snapshot && old.parts == parts && old.conf == conf && !old.due() {
		return old.Layout, old.err
	}
	m := &madeLayout{snapshot: snapshot, state: state, parts: parts, conf: conf}
	if old != nil && old.err == nil && old.like(m) && !old.due() { // what has been planned stays so
		same := *old.Layout
		m.Layout, m.renumber = &same, old.renumber
	} else if err := c.plan(m, old); err != nil {
		m.err = noLayout(fmt.Sprintf("database %s cannot be planned for: %s", c.d.name, err))
		c.layout.Store(m)
		c.d.log.Error("shards cannot be planned for", zap.Error(err))
		return nil, m.err
	}
	m.Motion, m.Holds, m.Replaced = state.Motion, state.Motion.Holds(), state.Replaced()
	c.layout.Store(m)
	return m.Layout, nil
}

// plan makes m's layout anew. old is the one in force, nil before the first. mu is held.
func (c *cluster) plan(m, old *madeLayout) error {
	config, members := m.conf.Planning(), m.state.Members
	placement := plan.Placement{Map: m.state.Map, Members: members, Moving: m.state.Motion.Moving, Frozen: m.state.Motion.Frozen}
	schema, findings, err := plan.NewSchema(config, m.snapshot, placement)
	if err != nil {
		return err
	}
	again := old != nil && old.err == nil && old.snapshot == m.snapshot && old.conf == m.conf
	for _, f := range findings {
		if !again {
			c.d.log.Warn("a table does not fit the sharding", zap.String("table", f.Table), zap.String("why", f.Message), zap.String("hint", f.Hint))
		}
	}
	unnumbered := map[string]error{}
	c.epoch++
	m.Layout = &session.Layout{Schema: schema, Epoch: c.epoch, Home: config.Home, Shapes: new(session.Shapes), Fault: func(i int) error { return c.fault(config.Shards[i]) },
		Fits: func(ctx context.Context, home catalog.Querier, all []catalog.Querier) error {
			after, err := fits(ctx, home, config, placement, findings)
			if err != nil {
				return err
			}
			return c.numberInside(ctx, m.conf, after, unnumbered, all, members)
		}}
	var joined []*part
	for i, part := range *m.parts {
		m.Shards = append(m.Shards, part.shared)
		if slices.Contains(members, shard.Name(part.name())) {
			m.Members, joined = append(m.Members, i), append(joined, part)
		}
	}
	switch {
	case again && old.parts == m.parts && slices.Equal(old.state.Members, members) && !old.due():
		maps.Copy(unnumbered, old.Unnumbered)
		m.renumber = old.renumber
	default:
		if old != nil && (old.parts != m.parts || old.state.Members != nil && !slices.Equal(old.state.Members, members)) {
			clear(c.numbered) // other shards
		}
		limit := numberLimit
		if old != nil && old.due() {
			limit = renumberLimit
		}
		began := time.Now()
		maps.Copy(unnumbered, c.number(m.conf, m.snapshot, joined, limit))
		for _, why := range unnumbered {
			if session.Passes(why) { // statements wait for it for a tenth of the time at most
				m.renumber = time.Now().Add(max(renumberPause, 10*time.Since(began)))
			}
		}
	}
	m.Unnumbered = unnumbered
	c.raiseFloors(m, old)
	return nil
}

// raiseFloors has replicas of the shards that have won buckets be asked only when they have all that their managers have now, and of all shards where
// buckets have ceased to move: statements do not leave out any more what the last ones deleted. Nobody plans by m yet. mu is held.
func (c *cluster) raiseFloors(m, old *madeLayout) {
	ceased := false
	if old != nil && old.state.Map != nil {
		for b := range shard.Bucket(old.state.Map.Len()) {
			ceased = ceased || shard.InSpans(old.state.Motion.Moving, b) && !shard.InSpans(m.state.Motion.Moving, b)
		}
	}
	for i, name := range c.d.shardNames(m.parts) {
		// No map before the second has moved anything.
		won := ceased || (old == nil || old.state.Map == nil) && m.state.Map.Version() > 1
		if old != nil && old.state.Map != nil && old.state.Map != m.state.Map {
			for _, b := range m.state.Map.Buckets(name) {
				if before, _ := old.state.Map.Owner(b); before != name {
					won = true
					break
				}
			}
		}
		if f := m.Shards[i].Fleet.Load(); won && f != nil {
			m.Shards[i].Floor.Store(session.NewFloor(f))
		}
	}
}

// shardNames are the names of parts.
func (d *database) shardNames(parts *[]*part) []shard.Name {
	names := make([]shard.Name, len(*parts))
	for i, part := range *parts {
		names[i] = shard.Name(part.name())
	}
	return names
}

// fits returns the catalog that q sees, or why the schema that it sees, which is in a transaction that has changed it, cannot be the next one: something
// keeps statements about a table from being exact that was not found before. A table that has gone is no such thing.
func fits(ctx context.Context, q catalog.Querier, config *plan.Config, at plan.Placement, before []plan.Finding) (*catalog.Snapshot, error) {
	snapshot, err := catalog.Load(ctx, q, catalog.Relations)
	if err != nil {
		return nil, err
	}
	_, findings, err := plan.NewSchema(config, snapshot, at)
	if err != nil {
		return nil, err
	}
	for _, f := range findings {
		if f.Missing || slices.Contains(before, f) {
			continue
		}
		return nil, wire.NewError(wire.CodeFeatureNotSupported, fmt.Sprintf("table %q: %s", f.Table, f.Message), f.Hint)
	}
	return snapshot, nil
}

// numberLimit bounds the time for sequences when the catalog has changed. Statements wait for it.
const numberLimit = 10 * time.Second

const (
	// renumberPause is the least time after which sequences that could not be looked at, because a shard was away, are looked at again: somewhat more than
	// a server takes to come back after a crash in which little was lost.
	renumberPause = 500 * time.Millisecond
	// renumberLimit is numberLimit for that: a shard that is there answers much sooner.
	renumberLimit = time.Second
)
