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
)

// keeper is what a database has for its cache.
type keeper struct {
	cache *cache.Cache
	judge atomic.Pointer[session.Judge]
	feed  atomic.Pointer[feed] // nil: writes past the proxy are not followed
}

// configureCache puts the configuration of d's cache in force. Sessions, which all lists, may have transactions under way that began before
// there was one.
func (d *database) configureCache(p *Proxy, all func() []*session.Session) {
	conf := d.conf.Load().Cache
	config := cache.Config{Memory: int64(conf.Memory), MaxEntry: int64(conf.MaxEntry), TTL: conf.TTL, MaxDelay: conf.MaxDelay, StaleOnError: conf.StaleOnError}
	now := d.shared.Keeper.Load()
	switch {
	case !conf.Enabled:
		if now != nil {
			now.Cache.StandAside(cache.SwitchedOff, true)
			d.shared.Keeper.Store(nil)
			d.configureFeed(p, 0)
		}
		return
	case now != nil:
		now.Cache.Configure(config)
		d.configureFeed(p, config.MaxDelay)
		return
	}
	k := &keeper{cache: cache.New(config)}
	d.catalog.Want(catalog.Relations, catalog.Answers)
	d.keeper.Store(k)
	d.configureFeed(p, config.MaxDelay)
	k.cache.StandAside(cache.Starting, true)
	d.shared.Keeper.Store(&session.Keeper{Cache: k.cache, Judge: func() *session.Judge { return k.judged(d.catalog.Snapshot()) },
		Doubt: func(w *cache.Write, server string, pid uint32) { d.doubt(p, k.cache, w, server, pid) }})
	sessions := all() // those that log in later find it
	if len(sessions) == 0 {
		k.cache.StandAside(cache.Starting, false)
		return
	}
	began := p.env.Now()
	d.fleets.Go(func() { // ends with d's context
		defer k.cache.StandAside(cache.Starting, false)
		for _, s := range sessions {
			for s.Info().Database == d.name && !s.Settled(began) && pause(d.ctx, settledPoll) {
			}
		}
	})
}

// configureFeed has the cache told of writes past the proxy, unless maxDelay is 0.
func (d *database) configureFeed(p *Proxy, maxDelay time.Duration) {
	k := d.keeper.Load()
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
		next := &session.Judge{Snapshot: snapshot, Tags: tags.New(snapshot)}
		if f != nil {
			next.Unfollowed = k.unfollowed
		}
		if k.judge.CompareAndSwap(now, next) {
			k.cache.Flush()
			if f != nil {
				f.follower.Refresh() // there may be tables that it does not know
			}
			return next
		}
	}
}

// doubt finds out when a transaction is over whose connection to the server was lost, and ends w. A server process that is
// gone has committed what it ever will, and everybody sees that.
func (d *database) doubt(p *Proxy, c *cache.Cache, w *cache.Write, server string, pid uint32) {
	c.Unknown.Add(1)
	d.fleets.Go(func() { // ends with the doubt, or with d's context
		defer c.Unknown.Add(-1)
		wait := doubtFirst
		for {
			over, err := d.isOver(p, server, pid)
			if over {
				break
			}
			if err != nil {
				d.log.Debug("fate of a transaction not known yet", zap.String("server", server), zap.Error(err))
			}
			if !pause(d.ctx, wait) {
				return // and nothing is served any more
			}
			wait = min(2*wait, doubtMost)
		}
		d.partOf(server).shared.Wrote(nil, true)
		if w.All() {
			d.catalog.Touch() // it may have changed that
		}
		c.End(w, true)
	})
}

// Bounds of the time between two questions for the fate of a transaction.
const (
	doubtFirst = 5 * time.Millisecond
	doubtMost  = time.Second
)

// isOver reports whether the server process pid is gone. A server that is the manager no more does not matter.
func (d *database) isOver(p *Proxy, server string, pid uint32) (over bool, err error) {
	part := d.partOf(server)
	if f := part.shared.Fleet.Load(); f != nil {
		v := f.View()
		if v.Manager >= 0 && v.Hosts[v.Manager].Name != server {
			return true, nil
		}
	}
	ctx, stop := context.WithTimeout(d.ctx, askTimeout)
	defer stop()
	conn, err := p.dialer.Dial(ctx, p.target(d, d.server(server), d.ownRoleOn(part), nil))
	if err != nil {
		return false, err
	}
	defer conn.Terminate()
	over = true
	err = conn.Exec(wire.AppendQuery(nil, fmt.Sprintf("SELECT FROM pg_catalog.pg_stat_activity WHERE pid = %d", pid)), askTimeout, func(f wire.Frame) {
		over = over && f.Type != wire.MsgDataRow
	})
	return over && err == nil, err
}

// forgetAnswers gives up what was kept, and what is being asked, because another server may be the manager: what the one
// before has acknowledged may be lost.
func (d *database) forgetAnswers() {
	if d.shared.Keeper.Load() == nil {
		return
	}
	k := d.keeper.Load()
	k.cache.Flush()
	if f := k.feed.Load(); f != nil {
		f.follower.Reset("another server is the manager")
	}
}
