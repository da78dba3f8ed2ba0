package proxy

import (
	"context"
	"slices"
	"sync/atomic"
	"time"

	"pgtier/proxy/cache"
	"pgtier/proxy/follow"
	"pgtier/proxy/session"
	"pgtier/proxy/wire"
	"pgtier/router/catalog"
	"pgtier/router/tags"
)

// feed tells a shard's cache what is written to its manager past the proxy.
type feed struct {
	k        *keeper
	d        *database
	follower *follow.Follower
	stop     context.CancelFunc
	over     chan struct{} // closed when the follower has ended
	tables   atomic.Pointer[follow.Tables]

	// Owned by the goroutine that tells it.
	open   map[*follow.Commit]*cache.Write
	tags   []tags.Tag
	change tags.Change
}

// startFeed follows the manager's writes for k, until d closes or stop is called.
func (d *database) startFeed(p *Proxy, k *keeper) *feed {
	f := &feed{k: k, d: d, open: map[*follow.Commit]*cache.Write{}, over: make(chan struct{})}
	f.tables.Store(&follow.Tables{})
	k.cache.StandAside(cache.Unfollowed, true)
	f.follower = follow.New(follow.DefaultConfig(), func(ctx context.Context, params []wire.Param) (*wire.Conn, error) {
		c, err := p.dialer.Dial(ctx, p.target(d, k.part.manager(), d.ownRoleOn(k.part), params))
		if err != nil {
			return nil, err
		}
		return c.Conn, nil
	}, f, d.log)
	ctx, stop := context.WithCancel(d.ctx)
	f.stop = stop
	d.fleets.Go(func() { // ends with ctx; close waits
		defer close(f.over)
		f.follower.Run(ctx)
		f.letGo()
	})
	d.fleets.Go(func() { f.tick(ctx, p.env.Epoch) }) // ends with ctx; close waits
	return f
}

// freshEvery is how often the cache is told up to when everything is known. It adds to the delay.
const freshEvery = 5 * time.Millisecond

// tick tells the cache how far the follower has come, in the sessions' clock, which begins at epoch.
func (f *feed) tick(ctx context.Context, epoch time.Time) {
	ticker := time.NewTicker(freshEvery)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if at := f.follower.Fresh(); !at.IsZero() {
			f.k.cache.Fresh(int64(at.Sub(epoch)))
		}
	}
}

// Changing implements follow.Sink.
func (f *feed) Changing(c *follow.Commit) {
	w, order := &cache.Write{}, f.k.cache.Order()
	judge := f.k.judged(f.d.catalog.Snapshot())
	index, ascii := judge.Tags, judge.Snapshot.Encoding() != "UTF8"
	f.tags = f.tags[:0]
	if c.Whole {
		for _, t := range c.Tables {
			f.change = tags.Change{Kind: byte(follow.Truncate), Schema: t.Schema, Table: t.Name}
			f.tags = index.Changed(f.tags, &f.change)
		}
	}
	for i := range c.Changes {
		f.describe(&c.Changes[i], ascii)
		f.tags = index.Changed(f.tags, &f.change)
	}
	slices.Sort(f.tags)
	f.tags = slices.Compact(f.tags)
	if !cache.GuardPast.Off() {
		f.k.cache.Note(w, f.tags, order)
		f.k.cache.Claim(w)
	}
	f.open[c] = w
}

// describe puts a changed row into f.change. ascii: the database's encoding is not that of the values, so that of those
// beyond ASCII nothing is known.
func (f *feed) describe(c *follow.Change, ascii bool) {
	x := &f.change
	x.Kind, x.Schema, x.Table = byte(c.Kind), c.Table.Schema, c.Table.Name
	x.Columns, x.Identity, x.Key = x.Columns[:0], x.Identity[:0], false
	rows := c.New
	if rows == nil {
		rows = c.Old
	}
	for i, column := range rows {
		x.Columns = append(x.Columns, column.Name)
		x.Identity = append(x.Identity, c.Table.Identifies(i))
	}
	x.Old, x.New = data(x.Old[:0], c.Old, ascii), data(x.New[:0], c.New, ascii)
	if c.Old == nil {
		x.Old = nil
	}
}

// data appends the values of a row.
func data(dst []tags.Datum, row []follow.Column, ascii bool) []tags.Datum {
	for _, column := range row {
		d := tags.Datum{Text: column.Value}
		switch column.State {
		case follow.Value:
			if !ascii || !slices.ContainsFunc(column.Value, func(b byte) bool { return b >= 0x80 }) {
				d.Kind = 't'
			}
		case follow.Null:
			d.Kind = 'n'
		case follow.Unchanged:
			d.Kind = 'u'
		}
		dst = append(dst, d)
	}
	return dst
}

// Changed implements follow.Sink.
func (f *feed) Changed(c *follow.Commit) {
	w := f.open[c]
	delete(f.open, c)
	names := make([]string, 0, len(c.Tables))
	for _, t := range c.Tables {
		names = append(names, t.Schema+"."+t.Name)
	}
	f.k.part.shared.Wrote(names, w.All())
	f.k.cache.End(w, true)
}

// Resumed implements follow.Sink.
func (f *feed) Resumed(t *follow.Tables) {
	f.tables.Store(t)
	f.k.part.shared.Wrote(nil, true) // what nobody told is visible on the manager, and may not be on replicas whose answers are to be kept
	f.k.cache.Flush()                // of tables that were not followed until now
	f.k.cache.StandAside(cache.Unfollowed, false)
}

// Lost implements follow.Sink.
func (f *feed) Lost() {
	f.k.cache.StandAside(cache.Unfollowed, true)
	f.letGo()
}

// letGo ends what nobody will tell of any more.
func (f *feed) letGo() {
	for c, w := range f.open {
		f.k.cache.End(w, true)
		delete(f.open, c)
	}
}

// unfollowed is why writes to what a statement reads may not be told, "" if they are.
func (f *feed) unfollowed(judge *session.Judge, kept *catalog.Keeping) string {
	if len(kept.Stored) > 0 {
		return "a refresh of " + kept.Stored[0] + " past the proxy is not seen"
	}
	home := f.k.part == f.d.home()
	if !home && !f.follower.Looked() {
		return "whether writes past the proxy are seen is being looked at"
	}
	followed := f.tables.Load()
	for _, name := range kept.Tables {
		r := judge.Tags.Relation(name)
		if r == nil || home && !followed.Has(r.OID) || !home && !followed.Names(name) { // the catalog has the home shard's numbers
			return "writes to " + name + " past the proxy are not seen: it has no replica identity, or is not in the publication " + follow.Publication
		}
	}
	return ""
}
