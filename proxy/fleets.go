package proxy

import (
	"context"
	"sync"
	"time"

	"go.uber.org/zap"

	"pgtier/proxy/backend"
	"pgtier/proxy/fleet"
	"pgtier/proxy/pool"
	"pgtier/proxy/session"
	"pgtier/proxy/wire"
	"pgtier/router"
	"pgtier/router/balance"
	"pgtier/router/topology"
)

// configureFleets has the servers of d's shards watched that its configuration names now, where there are replicas among
// them. The watches before end. They begin with d's first client, whose login gives a role to ask as.
func (d *database) configureFleets(p *Proxy) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.readsOf(d.conf.Load(), p.face.Load().cfg.Zone)
	for _, part := range *d.parts.Load() {
		d.configureFleet(p, part)
	}
}

// configureFleet is configureFleets for one shard. d.mu is held.
func (d *database) configureFleet(p *Proxy, part *part) {
	part.endFleet()
	shard := part.servers.Load()
	if len(shard.Replicas) == 0 {
		part.shared.Fleet.Store(nil)
		return
	}
	f := fleet.New(*shard, fleetConfig(d.conf.Load()), func(ctx context.Context, server topology.Server) (*backend.Conn, error) {
		return p.dialer.Dial(ctx, p.target(d, server, d.ownRoleOn(part), nil))
	}, d.log)
	if part.lastFleet != nil {
		f.Continue(part.lastFleet) // sessions and Writes hold its tickets
	}
	part.lastFleet = f
	ctx, stop := context.WithCancel(d.ctx)
	part.stopFleet = stop
	part.startOnce = sync.OnceFunc(func() {
		d.fleets.Go(func() { f.Run(ctx) })                // ends with ctx; close waits
		d.fleets.Go(func() { p.follow(ctx, d, part, f) }) // ends with ctx; close waits
	})
	unwatched := part.shared.Fleet.Swap(f) == nil
	if unwatched && d.conf.Load().Sharded() { // the shard may have won buckets that its replicas do not have yet
		part.shared.Floor.Store(session.NewFloor(f))
	}
	if unwatched && d.served {
		part.shared.Inherit(f)
	}
	if d.served {
		part.startOnce()
	}
}

// watchFleets starts the watch of d's servers unless it runs.
func (d *database) watchFleets() {
	d.mu.Lock()
	d.served = true
	var start []func()
	for _, part := range *d.parts.Load() {
		if part.startOnce != nil {
			start = append(start, part.startOnce)
		}
	}
	d.mu.Unlock()
	for _, begin := range start {
		begin()
	}
}

// readsOf puts conf's part about replicas in force. Values were checked by Validate.
func (d *database) readsOf(conf *Database, zone string) {
	level, _ := router.ParseLevel(conf.Reads.Consistency)
	policy, _ := balance.ParsePolicy(conf.Reads.Balance)
	d.reads.Store(&session.Reads{Level: level, Policy: policy, MaxLag: conf.Reads.MaxLag, Zone: zone, Failover: conf.Failover.Wait})
}

func fleetConfig(conf *Database) fleet.Config {
	c := fleet.DefaultConfig()
	c.MaxLag, c.FailoverWait, c.Promote = conf.Reads.MaxLag, conf.Failover.Wait, conf.Failover.Promote
	return c
}

// followEvery is how late a change of the manager may be noticed by those who wait for the old one.
const followEvery = 20 * time.Millisecond

// follow acts on changes of part's manager until ctx ends: nobody waits for the old one any more, and what still runs there
// is ended, because what it writes would be lost.
func (p *Proxy) follow(ctx context.Context, d *database, part *part, f *fleet.Fleet) {
	tick := time.NewTicker(followEvery)
	defer tick.Stop()
	manager, epoch := -1, uint64(0)
	for ticks := 0; ; ticks++ {
		v := f.View()
		if v.Manager >= 0 && v.Epoch != epoch {
			switch manager {
			case -1: // the first that this fleet sees
				giveAnswersUp(part)
			case v.Manager: // it may have come back without what it had acknowledged and not flushed
				giveAnswersUp(part)
				if part == d.home() {
					d.catalog.Touch()
				}
			default:
				p.leaveManager(d, part, v.Hosts[manager].Name, v.Hosts[v.Manager].Name)
			}
			manager, epoch = v.Manager, v.Epoch
		}
		if ticks%silentEvery == 0 {
			p.leaveSilent(d, part, v)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// giveAnswersUp empties part's cache.
func giveAnswersUp(part *part) {
	if k := part.keeper.Load(); k != nil {
		k.cache.Flush()
	}
}

// silentEvery is how many rounds of follow lie between two looks at who waits for a silent replica: a second.
const silentEvery = int(time.Second / followEvery)

// leaveSilent takes reads away from replicas that do not answer. What waits for a silent manager goes on waiting: it may be
// done all the same, and until there is another manager nothing is gained by not knowing.
func (p *Proxy) leaveSilent(d *database, part *part, v *fleet.View) {
	for i := range v.Hosts {
		if h := &v.Hosts[i]; h.Silent && h.Role == fleet.Replica {
			for _, s := range p.Sessions() {
				s.LeaveSilent(d.name, h.Name, fleet.DefaultConfig().Silence)
			}
			part.shared.Pipelines.Leave(h.Name, p.env.Now(), fleet.DefaultConfig().Silence)
		}
	}
}

// leaveManager ends the use of a server as part's manager.
func (p *Proxy) leaveManager(d *database, part *part, old, next string) {
	d.log.Warn("another server is the manager now", zap.String("was", old), zap.String("is", next))
	d.forgetWelcomes()
	for _, s := range p.Sessions() {
		s.Leave(d.name, old, &wire.Error{Severity: "FATAL", Code: wire.CodeConnectionFailure,
			Message: "the server is no longer the manager", Hint: "Connect again; the transaction was not committed."})
	}
	part.shared.Pipelines.Leave(old, p.env.Now(), 0)
	if k := part.keeper.Load(); k != nil {
		k.forgetAnswers()
	}
	p.registry.Abandon(pool.Scope{Database: d.name, Server: old})
	if part != d.home() {
		return
	}
	d.listener.Leave()
	d.fleets.Go(d.querier.Leave) // ends when the question under way does, which it ends
	d.catalog.Touch()
}
