package proxy

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"pgtier/proxy/cache"
	"pgtier/proxy/session"
	"pgtier/proxy/wire"
	"pgtier/router/catalog"
	"pgtier/router/tags"
	"pgtier/router/topology"
)

// keeper is what a shard of a database has for its cache. A database without shards has one.
type keeper struct {
	d     *database
	part  *part
	cache *cache.Cache
	judge atomic.Pointer[session.Judge]
	feed  atomic.Pointer[feed] // nil: writes past the proxy are not followed
}

// index is what a catalog says of tags, which all shards go by.
type index struct {
	of   *catalog.Snapshot
	tags *tags.Index
}

// configureCache puts the configuration of d's cache in force, on each of its shards. Sessions, which all lists, may have transactions under way that
// began before there was one.
func (d *database) configureCache(p *Proxy, all func() []*session.Session) {
	parts := *d.parts.Load()
	conf := d.conf.Load().Cache
	config := cache.Config{Memory: int64(conf.Memory) / int64(len(parts)), MaxEntry: int64(conf.MaxEntry), TTL: conf.TTL, MaxDelay: conf.MaxDelay, StaleOnError: conf.StaleOnError}
	var fresh []*keeper
	for _, part := range parts {
		if !conf.Enabled {
			d.dropKeeper(p, part)
			continue
		}
		if k := d.keep(p, part, config); k != nil {
			fresh = append(fresh, k)
		}
	}
	if len(fresh) == 0 {
		return
	}
	started := func() {
		for _, k := range fresh {
			k.cache.StandAside(cache.Starting, false)
		}
	}
	sessions := all() // those that log in later find it
	if len(sessions) == 0 {
		started()
		return
	}
	began := p.env.Now()
	d.fleets.Go(func() { // ends with d's context
		defer started()
		for _, s := range sessions {
			for s.Info().Database == d.name && !s.Settled(began) && pause(d.ctx, settledPoll) {
			}
		}
	})
}

// keep has answers of part kept, and returns its keeper if it has not had one: nothing is served yet then.
func (d *database) keep(p *Proxy, part *part, config cache.Config) *keeper {
	if part.shared.Keeper.Load() != nil {
		k := part.keeper.Load()
		k.cache.Configure(config)
		d.configureFeed(p, k, config.MaxDelay)
		return nil
	}
	k := &keeper{d: d, part: part, cache: cache.New(config)}
	if first := d.keepers(); len(first) > 0 {
		k.cache = first[0].cache.Sibling(config)
	}
	d.catalog.Want(catalog.Relations, catalog.Answers)
	part.keeper.Store(k)
	d.configureFeed(p, k, config.MaxDelay)
	k.cache.StandAside(cache.Starting, true)
	part.shared.Keeper.Store(&session.Keeper{Cache: k.cache, Judge: func() *session.Judge { return k.judged(d.catalog.Snapshot()) },
		Doubt: func(w *cache.Write, server string, pid uint32, prepared string) {
			k.doubt(p, w, doubtful{server, pid, prepared})
		}, Apart: d.apart})
	return k
}

// dropKeeper has no answers of part kept any more.
func (d *database) dropKeeper(p *Proxy, part *part) {
	if part.shared.Keeper.Load() == nil {
		return
	}
	k := part.keeper.Load()
	k.cache.StandAside(cache.SwitchedOff, true)
	part.shared.Keeper.Store(nil)
	k.cache.Purge() // answers of other shards may hold on to it
	d.configureFeed(p, k, 0)
}

// keepers are those of d's shards that keep answers, in the order of the shards.
func (d *database) keepers() (list []*keeper) {
	for _, part := range *d.parts.Load() {
		if part.shared.Keeper.Load() != nil {
			list = append(list, part.keeper.Load())
		}
	}
	return list
}

// apart has nothing kept until somebody resets the cache: the schema of a shard may not be the one by which statements are judged.
func (d *database) apart() {
	for _, k := range d.keepers() {
		k.cache.StandAside(cache.Apart, true)
	}
}

// changedCatalog has the catalog read again, and what follows the shards' writes look for new tables.
func (d *database) changedCatalog() {
	d.catalog.Touch()
	for _, k := range d.keepers() {
		if f := k.feed.Load(); f != nil {
			f.follower.Refresh()
		}
	}
}

// configureFeed has the cache told of writes past the proxy, unless maxDelay is 0.
func (d *database) configureFeed(p *Proxy, k *keeper, maxDelay time.Duration) {
	now := k.feed.Load()
	switch {
	case maxDelay > 0 && now == nil:
		k.feed.Store(d.startFeed(p, k))
	case maxDelay == 0 && now != nil:
		k.feed.Store(nil)
		now.stop()
		<-now.over // its last word is that nothing is followed
		k.cache.StandAside(cache.Unfollowed, false)
	}
}

// settledPoll is how often it is looked whether a transaction that began before there was a cache is over.
const settledPoll = 20 * time.Millisecond

// pause waits, and reports whether ctx goes on.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// unfollowed is that of the feed in force, "" if there is none any more.
func (k *keeper) unfollowed(judge *session.Judge, kept *catalog.Keeping) string {
	if f := k.feed.Load(); f != nil {
		return f.unfollowed(judge, kept)
	}
	return ""
}

// judged is the Judge by the catalog as it was last read. Another catalog, or another answer to whether writes past the proxy are
// followed, ends what was kept.
func (k *keeper) judged(snapshot *catalog.Snapshot) *session.Judge {
	for {
		now, f := k.judge.Load(), k.feed.Load()
		if now != nil && now.Snapshot == snapshot && (now.Unfollowed != nil) == (f != nil) {
			return now
		}
		next := &session.Judge{Snapshot: snapshot, Tags: k.d.indexOf(snapshot)}
		if f != nil {
			next.Unfollowed = k.unfollowed
			f.follower.Refresh() // there may be tables that it does not know; first: nobody is judged by next until it is asked to look
		}
		if k.judge.CompareAndSwap(now, next) {
			if now != nil && now.Snapshot != snapshot {
				k.cache.Redefine()
			} else {
				k.cache.Flush()
			}
			return next
		}
	}
}

// indexOf is what a catalog says of tags.
func (d *database) indexOf(snapshot *catalog.Snapshot) *tags.Index {
	if now := d.index.Load(); now != nil && now.of == snapshot {
		return now.tags
	}
	next := &index{snapshot, tags.New(snapshot)}
	d.index.Store(next)
	return next.tags
}

// doubtful is a transaction of which nobody knows whether it is over: as long as the process pid of a server, if that is not 0, is there, or something is prepared
// on the shard by the name prepared, if that is not "".
type doubtful struct {
	server   string
	pid      uint32
	prepared string
}

// doubt finds out when a transaction is over whose connection to the server was lost, and ends w. A server process that is
// gone has committed what it ever will, and everybody sees that. So it is with what is prepared no more.
func (k *keeper) doubt(p *Proxy, w *cache.Write, x doubtful) {
	c, d := k.cache, k.d
	c.Unknown.Add(1)
	d.fleets.Go(func() { // ends with the doubt, or with d's context
		defer c.Unknown.Add(-1)
		wait := doubtFirst
		for {
			over, err := k.isOver(p, x)
			if over {
				break
			}
			if err != nil {
				d.log.Debug("fate of a transaction not known yet", zap.String("server", x.server), zap.Error(err))
			}
			if !pause(d.ctx, wait) {
				return // and nothing is served any more
			}
			wait = min(2*wait, doubtMost)
		}
		k.part.shared.Wrote(nil, true)
		if w.All() {
			d.changedCatalog() // it may have changed that
		}
		c.End(w, true)
	})
}

// Bounds of the time between two questions for the fate of a transaction.
const (
	doubtFirst = 5 * time.Millisecond
	doubtMost  = time.Second
)

// isOver reports whether x is over. The process comes first: as long as it is there it may still prepare something.
func (k *keeper) isOver(p *Proxy, x doubtful) (over bool, err error) {
	if x.pid != 0 {
		if over, err = k.isGone(p, x.server, x.pid); !over || err != nil {
			return false, err
		}
	}
	if x.prepared == "" {
		return true, nil
	}
	return k.none(p, k.part.manager(), "SELECT FROM pg_catalog.pg_prepared_xacts WHERE gid = "+literal(x.prepared))
}

// isGone reports whether the server process pid is gone. A server that is the manager no more does not matter.
func (k *keeper) isGone(p *Proxy, server string, pid uint32) (gone bool, err error) {
	if f := k.part.shared.Fleet.Load(); f != nil {
		v := f.View()
		if v.Manager >= 0 && v.Hosts[v.Manager].Name != server {
			return true, nil
		}
	}
	return k.none(p, k.d.server(server), fmt.Sprintf("SELECT FROM pg_catalog.pg_stat_activity WHERE pid = %d", pid))
}

// none reports whether a query of ours finds nothing on a server of the shard.
func (k *keeper) none(p *Proxy, server topology.Server, sql string) (none bool, err error) {
	ctx, stop := context.WithTimeout(k.d.ctx, askTimeout)
	defer stop()
	conn, err := p.dialer.Dial(ctx, p.target(k.d, server, k.d.ownRoleOn(k.part), nil))
	if err != nil {
		return false, err
	}
	defer conn.Terminate()
	none = true
	err = conn.Exec(wire.AppendQuery(nil, sql), askTimeout, func(f wire.Frame) {
		none = none && f.Type != wire.MsgDataRow
	})
	return none && err == nil, err
}

// forgetAnswers gives up what was kept of a shard, and what is being asked, because another server may be the manager: what the one
// before has acknowledged may be lost.
func (k *keeper) forgetAnswers() {
	k.cache.Flush()
	if f := k.feed.Load(); f != nil {
		f.follower.Reset("another server is the manager")
	}
}

// forgetAnswers is that of all shards.
func (d *database) forgetAnswers() {
	for _, k := range d.keepers() {
		k.forgetAnswers()
	}
}
