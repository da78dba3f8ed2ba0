// Package proxy is the daemon: it listens, lets clients in within their limits,
// carries cancels, keeps the time limits, re-reads its configuration and drains.
package proxy

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"pgtier/parser"
	"pgtier/proxy/admin"
	"pgtier/proxy/auth"
	"pgtier/proxy/backend"
	"pgtier/proxy/pool"
	"pgtier/proxy/session"
	"pgtier/proxy/wire"
	"pgtier/router"
)

// Proxy is one running daemon. Safe for concurrent use.
type Proxy struct {
	// Fixed after New.
	log      *zap.Logger
	env      *session.Env
	door     *session.Door
	dialer   *backend.Dialer
	limits   *pool.Limits
	registry *pool.Registry[*backend.Conn]
	reload   func() ([]string, error)
	started  time.Time
	lease    time.Duration // of the control database; 0: shardmap.DefaultLease. Tests shorten it
	moves    Moves
	ops      operations

	face atomic.Pointer[face] // what a reload replaces as a whole

	mu        sync.Mutex
	listeners []net.Listener
	databases map[string]*database
	sessions  map[uint32]*session.Session // by cancel key's PID
	through   map[*backend.Conn]bool      // of replication clients
	greeting  greeting                    // clients that have not logged in yet
	draining  bool
	closed    bool
	ctx       context.Context // of Start; ends with Close
	stop      context.CancelFunc

	running sync.WaitGroup
}

// face is the configuration in force with what was loaded for it. Immutable.
type face struct {
	cfg  Config
	auth *auth.Authenticator
	tls  *tls.Config
}

// Option changes a Proxy before it starts.
type Option func(*Proxy)

// WithReload gives the admin command RELOAD what SIGHUP does: re-read the
// configuration, call Proxy.Reload and return what changed.
func WithReload(reload func() ([]string, error)) Option {
	return func(p *Proxy) { p.reload = reload }
}

// Moves are the jobs that move buckets, which are no matter of the proxy's own. Its methods are called by any goroutine.
type Moves interface {
	// Moves are those of each database's job under way, or of the last one, as they were known a moment ago.
	Moves() []admin.Move
	// Reshard writes down what is wanted of a database's job. Its error is told to the client.
	Reshard(ctx context.Context, wish, database string) error
}

// WithMoves has console and metrics tell of jobs that move buckets.
func WithMoves(moves Moves) Option { return func(p *Proxy) { p.moves = moves } }

// WithRest has sessions looked after, and doze, that have rested that long, instead of the default of session.DefaultRest.
func WithRest(rest time.Duration) Option {
	return func(p *Proxy) { p.env.RestFor = rest }
}

// WithEagerPipelines lets every read that may share a pipeline do so at once, before its record says that it is small and
// fast, and has pipelines stand longer between two reads. Tests use it.
func WithEagerPipelines() Option {
	return func(p *Proxy) { p.env.EagerPipelines = true }
}

// New loads what cfg names (users, certificates, rules) and returns a proxy
// that serves nobody yet.
func New(cfg Config, log *zap.Logger, options ...Option) (*Proxy, error) {
	f, err := load(cfg, nil)
	if err != nil {
		return nil, err
	}
	bufs := wire.NewBuffers()
	p := &Proxy{
		log: log, limits: pool.NewLimits(), dialer: &backend.Dialer{Bufs: bufs}, started: time.Now(),
		databases: make(map[string]*database), sessions: make(map[uint32]*session.Session), through: make(map[*backend.Conn]bool),
		env: &session.Env{Bufs: bufs, Parser: parser.NewCache(int64(cfg.Limits.StatementCache)), Log: log, RestFor: session.DefaultRest, Epoch: time.Now()},
	}
	p.moves = noMoves{}
	for _, option := range options {
		option(p)
	}
	p.registry = pool.New(p.dial, p.limits, log)
	p.door = &session.Door{Env: p.env,
		Auth:    func() *auth.Authenticator { return p.face.Load().auth },
		TLS:     func() *tls.Config { return p.face.Load().tls },
		TLSMode: func() string { return p.face.Load().cfg.TLS.Client.EffectiveMode() },
		Query:   p.querySecret,
		Cancel:  p.cancel,
	}
	p.apply(f)
	p.prepareOperations()
	return p, nil
}

// load reads the files that cfg names. old hands its mock secrets on, so that a
// reload does not show which users exist.
func load(cfg Config, old *face) (*face, error) {
	var mock *auth.Mock
	if old != nil {
		mock = old.auth.Mock()
	}
	a, err := auth.New(cfg.Auth, mock)
	if err != nil {
		return nil, err
	}
	t, err := cfg.TLS.Client.ClientTLS()
	if err != nil {
		return nil, fmt.Errorf("tls.client: %w", err)
	}
	if _, err := cfg.TLS.Server.ServerTLS("localhost"); err != nil {
		return nil, fmt.Errorf("tls.server: %w", err)
	}
	return &face{cfg: cfg, auth: a, tls: t}, nil
}

// apply puts f in force.
func (p *Proxy) apply(f *face) {
	p.face.Store(f)
	l := f.cfg.Limits
	p.env.Limits.Store(&session.Limits{MaxMessage: int(l.MaxMessage), MaxQuery: int(l.MaxQuery), SessionMemory: int(l.SessionMemory)})
	p.env.SlowQuery.Store(int64(f.cfg.SlowQuery))
}

// Start listens, warms the pools and returns; ctx ends everything at once.
func (p *Proxy) Start(ctx context.Context) error {
	ctx, p.stop = context.WithCancel(ctx)
	p.ctx = ctx
	for _, entry := range p.face.Load().cfg.Listen {
		l, err := listen(ctx, entry)
		if err != nil {
			p.closeListeners()
			return fmt.Errorf("listen on %s: %w", entry, err)
		}
		p.listeners = append(p.listeners, l)
	}
	for _, w := range p.face.Load().auth.Warnings() {
		p.log.Warn(w)
	}
	p.env.Dozer = wire.NewDozer() // before anything runs that looks at it
	p.running.Go(p.env.Dozer.Run) // ends with ctx
	context.AfterFunc(ctx, p.env.Dozer.Close)
	if err := p.operate(ctx); err != nil {
		p.closeListeners()
		return err
	}
	p.warm()
	p.running.Go(func() { p.face.Load().auth.Prepare(ctx) }) // ends by itself, early with ctx
	p.running.Go(func() { p.sweep(ctx) })                    // ends with ctx; Close waits
	for _, l := range p.listeners {
		p.log.Info("listening", zap.String("address", l.Addr().String()))
		p.running.Go(func() { p.accept(l) }) // ends when l is closed
	}
	return nil
}

// listen opens a socket. A unix socket left by a proxy that died is replaced.
func listen(ctx context.Context, entry string) (net.Listener, error) {
	network, address, err := ParseListen(entry)
	if err != nil {
		return nil, err
	}
	lc := net.ListenConfig{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: time.Minute, Interval: 10 * time.Second, Count: 6}}
	if network == "unix" {
		if err := os.MkdirAll(filepath.Dir(address), 0o755); err != nil {
			return nil, fmt.Errorf("make socket directory: %w", err)
		}
		if c, err := net.DialTimeout("unix", address, time.Second); err == nil {
			_ = c.Close()
			return nil, errors.New("another process listens there")
		}
		_ = os.Remove(address)
	}
	l, err := lc.Listen(ctx, network, address)
	if err == nil && network == "unix" {
		err = os.Chmod(address, 0o777)
	}
	return l, err
}

// Addrs are the addresses listened on.
func (p *Proxy) Addrs() []net.Addr {
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []net.Addr
	for _, l := range p.listeners {
		out = append(out, l.Addr())
	}
	return out
}

func (p *Proxy) closeListeners() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.listeners {
		_ = l.Close()
	}
}

// accept lets clients in until the listener closes.
func (p *Proxy) accept(l net.Listener) {
	pause := time.Duration(0)
	for {
		nc, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			// Out of descriptors, most likely: back off instead of spinning.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			p.log.Warn("accept failed", zap.Error(err), zap.Duration("pause", pause))
			time.Sleep(pause)
			continue
		}
		pause = 0
		if !p.mayGreet(nc) {
			p.turnAway(nc, shutdown())
			continue
		}
		p.running.Add(1) // until the client ends, awake or dozing
		go p.client(nc)  // ends with the client, or when it dozes; Close ends it
	}
}

// register makes the session known to cancels, the sweeper and the console.
func (p *Proxy) register(s *session.Session) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.draining {
		return false
	}
	p.sessions[s.Key().PID] = s
	return true
}

func (p *Proxy) unregister(s *session.Session) {
	p.mu.Lock()
	delete(p.sessions, s.Key().PID)
	p.mu.Unlock()
}

// Sessions returns the sessions in order of their number.
func (p *Proxy) Sessions() []*session.Session {
	p.mu.Lock()
	out := make([]*session.Session, 0, len(p.sessions))
	for _, s := range p.sessions {
		out = append(out, s)
	}
	p.mu.Unlock()
	slices.SortFunc(out, func(a, b *session.Session) int { return int(a.ID()) - int(b.ID()) })
	return out
}

// Load is how many clients are in and how many server connections serve them.
func (p *Proxy) Load() (clients, servers int) {
	p.registry.Each(func(pl *pool.Pool[*backend.Conn]) {
		st := pl.Stats()
		servers += st.Active + st.Idle + st.Used + st.Tested
	})
	return len(p.Sessions()), servers
}

// Reads counts, over all databases with replicas, the requests that were proved to read only outside read-write
// transactions, and how many of them replicas have answered.
func (p *Proxy) Reads() (proved, replicas uint64) {
	for _, d := range p.allDatabases() {
		n, by := d.proved()
		proved, replicas = proved+n, replicas+by
	}
	return proved, replicas
}

// proved is Reads for one database.
func (d *database) proved() (all, replicas uint64) {
	routes := &d.stats.Routes
	for _, cause := range []router.Cause{router.ToReplica, router.AsAsked, router.Behind, router.Lagging, router.NoReplica, router.SentAgain} {
		all += routes[cause].Load()
	}
	return all, routes[router.ToReplica].Load()
}

// cancel carries out a CancelRequest; a key that fits nobody is ignored, as in
// PostgreSQL.
func (p *Proxy) cancel(k session.Key) {
	p.mu.Lock()
	s := p.sessions[k.PID]
	p.mu.Unlock()
	if s != nil {
		s.CancelBy(k)
		return
	}
	p.cancelVisit(k)
	p.cancelPassing(k)
}

// passing makes the server connection of a replication client known to cancels
// until the returned function is called.
func (p *Proxy) passing(c *backend.Conn) (done func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.through[c] = true
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.through, c)
	}
}

// cancelPassing cancels at the server whose key the client was given.
func (p *Proxy) cancelPassing(k session.Key) {
	p.mu.Lock()
	var found *backend.Conn
	for c := range p.through {
		if k.Matches(session.Key{PID: c.PID(), Secret: string(c.Secret())}) {
			found = c
			found.BeginCancel()
		}
	}
	p.mu.Unlock()
	if found == nil {
		return
	}
	ctx, stop := context.WithTimeout(p.ctx, closeTimeout)
	defer stop()
	if err := found.Cancel(ctx); err != nil {
		p.log.Warn("cancel of a replication command failed", zap.Error(err))
	}
}

// shutdown is what clients are told when the proxy goes.
func shutdown() *wire.Error {
	return wire.Fatal(wire.CodeAdminShutdown, "terminating connection due to administrator command")
}

// Drain stops letting clients in and waits until the present ones have ended
// their transactions; each is then told to go. It returns early with ctx.
func (p *Proxy) Drain(ctx context.Context) error {
	p.mu.Lock()
	p.draining = true
	p.mu.Unlock()
	p.closeListeners()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		left := p.Sessions()
		if len(left) == 0 {
			return nil
		}
		for _, s := range left {
			if s.AtRest() {
				s.Kill(shutdown())
			}
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("drain: %d clients left: %w", len(left), ctx.Err())
		case <-tick.C:
		}
	}
}

// Draining reports whether the proxy is on its way out.
func (p *Proxy) Draining() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.draining
}

// closeTimeout bounds how long Close waits for server connections.
const closeTimeout = 15 * time.Second

// Close ends everything now and waits for it.
func (p *Proxy) Close() {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return
	}
	p.closed, p.draining = true, true
	for nc := range p.greeting.places {
		_ = nc.Close() // it may have a minute left to say who it is
	}
	p.mu.Unlock()
	p.closeListeners()
	for _, s := range p.Sessions() {
		s.Kill(shutdown())
	}
	if p.stop != nil {
		p.stop()
	}
	for _, d := range p.allDatabases() {
		d.close()
	}
	ctx, stop := context.WithTimeout(context.Background(), closeTimeout)
	defer stop()
	if err := p.registry.Close(ctx); err != nil {
		p.log.Warn("close pools", zap.Error(err))
	}
	p.running.Wait()
}
