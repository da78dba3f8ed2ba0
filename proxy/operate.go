package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"pgtier/proxy/admin"
	"pgtier/proxy/backend"
	"pgtier/proxy/pool"
	"pgtier/proxy/wire"
)

// operations is what operators see of the proxy and do to it.
type operations struct {
	// Fixed after New.
	version  string
	console  *admin.Console
	metrics  *prometheus.Registry
	stopping chan struct{} // closed when SHUTDOWN is through
	// Fixed after Start.
	ctx  context.Context // ends with the proxy
	http *http.Server    // nil: none
	addr net.Addr        // of http

	logins   atomic.Uint64
	history  history
	probes   probes
	failures failures
	once     sync.Once // closes stopping

	mu     sync.Mutex
	visits map[uint32]*visit // by cancel key's PID
}

func (o *operations) now() time.Time { return time.Now() }

// WithVersion tells the console and the metrics what runs; "dev" if not given.
func WithVersion(version string) Option {
	return func(p *Proxy) { p.ops.version = version }
}

// ShutdownRequested is closed when the admin command SHUTDOWN has done what it
// waits for: the owner then calls Close and ends the process.
func (p *Proxy) ShutdownRequested() <-chan struct{} { return p.ops.stopping }

// HTTPAddr is the address of metrics and health, nil if there is none. Valid after Start.
func (p *Proxy) HTTPAddr() net.Addr { return p.ops.addr }

// prepareOperations makes what Start needs; New calls it last.
func (p *Proxy) prepareOperations() {
	o := &p.ops
	if o.version == "" {
		o.version = "dev"
	}
	o.visits = make(map[uint32]*visit)
	o.stopping = make(chan struct{})
	o.failures.byCode = make(map[string]uint64)
	o.console = admin.New(admin.View{
		Pools: p.viewPools, Clients: p.viewClients, Servers: p.viewServers, Hosts: p.viewHosts, Shards: p.viewShards, Moves: p.moves.Moves, Caches: p.viewCaches, Routes: p.viewRoutes, Pipelines: p.viewPipelines, Databases: p.viewDatabases, Users: p.viewUsers,
		Stats: p.viewStats, Settings: p.viewSettings, Memory: p.viewMemory, Counts: p.viewCounts, Explain: p.explain,
		Paused: func() bool { return p.registry.Paused(pool.Scope{}) },
	}, admin.Actions{
		Pause: p.Pause, Resume: p.Resume, Kill: p.Kill, KillClient: p.KillClient, Disable: p.Disable, Enable: p.Enable,
		Reconnect: p.Reconnect, ResetCache: p.resetCache, Reshard: p.moves.Reshard, WaitClose: p.WaitClose, Reload: p.reloadByCommand, Shutdown: p.shutdownByCommand,
	}, o.version, p.env.Bufs, p.log)
	o.metrics = p.newMetrics()
}

// operate starts what serves operators. It ends with ctx.
func (p *Proxy) operate(ctx context.Context) error {
	p.ops.ctx = ctx
	p.running.Go(func() { p.keepHistory(ctx) }) // ends with ctx; Close waits
	return p.serveHTTP(ctx)
}

// scopeOf is the scope of a command for database, "" for all.
func (p *Proxy) scopeOf(database string) (pool.Scope, error) {
	if database == "" {
		return pool.Scope{}, nil
	}
	_, err := p.namedDatabase(database)
	return pool.Scope{Database: database}, err
}

// namedDatabase is find for a name that an operator typed.
func (p *Proxy) namedDatabase(name string) (*database, error) {
	if isAdmin(name) {
		return nil, wire.NewError(wire.CodeFeatureNotSupported, fmt.Sprintf("%q is the admin database itself", name), "")
	}
	d, err := p.find(name)
	if err != nil {
		return nil, wire.NewError(wire.CodeInvalidDatabase, "no such database: "+name, "SHOW DATABASES lists them.")
	}
	return d, nil
}

// errPaused is told to whoever pauses twice.
func errPaused(database string) error {
	if database == "" {
		return wire.NewError(wire.CodeNotInState, "already suspended/paused", "RESUME ends it.")
	}
	return wire.NewError(wire.CodeNotInState, fmt.Sprintf("database %s is already paused", database), "RESUME "+database+" ends it.")
}

// Pause stops lending server connections of database ("" is all) and returns
// when all are closed. Clients wait meanwhile. When ctx ends first the pause is
// taken back.
func (p *Proxy) Pause(ctx context.Context, database string) error {
	scope, err := p.scopeOf(database)
	if err != nil {
		return err
	}
	if p.registry.Paused(scope) {
		return errPaused(database)
	}
	err = p.registry.Pause(ctx, scope)
	if err != nil && ctx.Err() != nil {
		p.registry.Resume(scope)
		return ctx.Err()
	}
	return err
}

// Resume ends a Pause or Kill of database, "" for one of all.
func (p *Proxy) Resume(database string) error {
	scope, err := p.scopeOf(database)
	if err == nil && p.registry.Paused(scope) {
		p.forgetAnswers(database) // other servers may be there now
	}
	switch {
	case err != nil:
		return err
	case p.registry.Resume(scope):
		return nil
	case database == "":
		return wire.NewError(wire.CodeNotInState, "pooler is not paused/suspended", "")
	}
	return wire.NewError(wire.CodeNotInState, "database "+database+" is not paused", "")
}

// Kill ends all clients and server connections of database ("" is all) at once.
// New clients wait until Resume.
func (p *Proxy) Kill(database string) error {
	scope, err := p.scopeOf(database)
	if err != nil {
		return err
	}
	p.registry.Kill(scope)
	for _, s := range p.Sessions() {
		if database == "" || s.Info().Database == database {
			s.Kill(forced())
		}
	}
	return nil
}

// forced is what clients are told that an operator ended.
func forced() *wire.Error {
	e := shutdown()
	e.Detail = "An operator ended this connection."
	return e
}

// KillClient ends one client, by the number SHOW CLIENTS gives it.
func (p *Proxy) KillClient(id uint64) error {
	for _, s := range p.Sessions() {
		if s.ID() == id {
			s.Kill(forced())
			return nil
		}
	}
	if p.endVisit(id, forced()) {
		return nil
	}
	return wire.NewError(wire.CodeNotInState, fmt.Sprintf("client %d not found", id), "SHOW CLIENTS has the number in column id.")
}

// Disable turns new clients of database away; present ones stay.
func (p *Proxy) Disable(database string) error { return p.setDisabled(database, true) }

// Enable lets new clients of database in again.
func (p *Proxy) Enable(database string) error { return p.setDisabled(database, false) }

func (p *Proxy) setDisabled(database string, disabled bool) error {
	d, err := p.namedDatabase(database)
	if err != nil {
		return err
	}
	d.disabled.Store(disabled)
	return nil
}

// Reconnect replaces the server connections of database ("" is all) as they come back.
func (p *Proxy) Reconnect(database string) error {
	scope, err := p.scopeOf(database)
	if err != nil {
		return err
	}
	for _, d := range p.allDatabases() {
		if database == "" || d.name == database {
			d.forgetWelcomes()
		}
	}
	p.registry.Reconnect(scope)
	p.forgetAnswers(database)
	return nil
}

// forgetAnswers has caches give up the answers of database, "" for all.
func (p *Proxy) forgetAnswers(database string) {
	for _, d := range p.allDatabases() {
		if database == "" || d.name == database {
			d.forgetAnswers()
		}
	}
}

// waitClosePoll is how late WaitClose may notice.
const waitClosePoll = 20 * time.Millisecond

// WaitClose returns when every server connection that Reconnect or a reload
// wants replaced is closed, or when ctx ends.
func (p *Proxy) WaitClose(ctx context.Context, database string) error {
	scope, err := p.scopeOf(database)
	if err != nil {
		return err
	}
	tick := time.NewTicker(waitClosePoll)
	defer tick.Stop()
	for p.doomed(scope) {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
	return nil
}

// doomed reports whether a connection in scope is still to be replaced.
func (p *Proxy) doomed(scope pool.Scope) bool {
	found := false
	p.registry.Each(func(pl *pool.Pool[*backend.Conn]) {
		if found || !scope.Match(pl.Key()) {
			return
		}
		for _, c := range pl.Connections() {
			found = found || c.Doomed
		}
	})
	return found
}

func (p *Proxy) reloadByCommand() ([]string, error) {
	if p.reload == nil {
		return nil, errors.New("this proxy was not started from a configuration that can be read again")
	}
	return p.reload()
}

// shutdownByCommand begins the end. ShutdownRequested is closed when it is time
// to Close.
func (p *Proxy) shutdownByCommand(mode admin.ShutdownMode) error {
	p.mu.Lock()
	p.draining = true
	p.mu.Unlock()
	p.closeListeners()
	finish := func() { p.ops.once.Do(func() { close(p.ops.stopping) }) }
	switch mode {
	case admin.ShutdownWaitForServers:
		p.running.Go(func() { // ends when the clients are gone, or with the proxy
			if p.Drain(p.ops.ctx) == nil {
				finish()
			}
		})
	case admin.ShutdownWaitForClients:
		p.running.Go(func() { // ends when the clients are gone, or with the proxy
			if p.clientsGone(p.ops.ctx) {
				finish()
			}
		})
	default:
		for _, s := range p.Sessions() {
			s.Kill(shutdown())
		}
		finish()
	}
	return nil
}

// clientsGone waits until all clients have left by themselves; false when ctx ended first.
func (p *Proxy) clientsGone(ctx context.Context) bool {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for len(p.Sessions()) > 0 {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

// failures counts logins that failed, by SQLSTATE. There are few SQLSTATEs, but
// auth_query may bring in a server's: beyond maxCodes they are one.
type failures struct {
	mu     sync.Mutex
	byCode map[string]uint64
}

const maxCodes = 50

// loginFailed counts a client that did not get in.
func (p *Proxy) loginFailed(err error) {
	code := "other"
	var stated interface{ SQLState() string }
	if errors.As(err, &stated) {
		code = stated.SQLState()
	}
	f := &p.ops.failures
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, known := f.byCode[code]; !known && len(f.byCode) >= maxCodes {
		code = "other"
	}
	f.byCode[code]++
}
