package session

import (
	"hash/maphash"
	"slices"

	"pgtier/parser"
	"pgtier/proxy/cache"
	"pgtier/proxy/wire"
	"pgtier/router/catalog"
	"pgtier/router/plan"
	"pgtier/router/tags"
)

// The answer of a read that several shards make together is kept in the Cache of one of them, and depends on tags in all of theirs. So does an answer that
// depends on reference tables, of which each member has a copy: it is kept and served only while no copy is being written.

// serveSpan answers requests that go to several shards, and begin there what they do.
func (s *Session) serveSpan(cluster *Cluster, l *Layout, v *survey, req []byte) bool {
	s.keep.looked = false
	done, ok := s.fromSpan(l, v, req)
	if done {
		s.dropFill()
		return ok
	}
	s.planned = nil
	x := s.goWide(cluster, l)
	if s.keep.looked {
		x.looked = l
		s.kept.answer = s.kept.answer[:0]
	}
	ok = s.serveWide(x, req)
	s.dropFill()
	return ok
}

// fromSpan answers the requests if they are a read of several shards whose answer is known. Otherwise it may leave a Fill.
func (s *Session) fromSpan(l *Layout, v *survey, req []byte) (done, ok bool) {
	over := v.why.Shards
	if v.why.Kind != plan.Scatter || len(over) == 0 || len(v.ran) != 1 || !selects(v.ran[0].st) || v.hinted || s.tx != wire.TxIdle || s.opening != nil || s.openingFailed || len(req) > maxAsked {
		return false, true
	}
	first := l.Shards[over[0]].Keeper.Load()
	if first == nil {
		return false, true
	}
	s.turnTime = s.env.now()
	if first.Cache.Record(v.ran[0].st).Rests(s.turnTime) {
		return false, true
	}
	st := s.spanStatement(req)
	if st == nil || st != v.ran[0].st || s.db.Hazards.Pending() || s.db.Hazards.Pins(st) != "" || s.passesCache(first.Cache) {
		return false, true
	}
	for _, at := range over {
		if l.Fault(at) != nil {
			return false, true
		}
	}
	s.planned, s.keep.spans = l, true
	s.kept.key = s.appendKey(s.kept.key[:0], req)
	k := l.Shards[over[maphash.Bytes(spanSeed, s.kept.key)%uint64(len(over))]].Keeper.Load()
	if k == nil || !first.Cache.Related(k.Cache) {
		return false, true
	}
	s.routeShards(l, &v.why, over...)
	return s.search(k, st, over, req)
}

// spanSeed spreads the answers of several shards over these.
var spanSeed = maphash.MakeSeed()

// spanStatement is the one statement of the requests, nil if they do anything but run it to its end, or it may not mean what it says.
func (s *Session) spanStatement(req []byte) *parser.Statement {
	if s.txn.reads.changed || s.txn.code {
		return nil
	}
	if !s.identify(req) {
		return nil
	}
	for i := range s.items {
		if it := &s.items[i]; it.typ == wire.MsgBind && (it.own != nil && !s.asRead(it.own) || it.own == nil && (it.name > 0 || !s.reparsed)) {
			return nil
		}
	}
	st, _ := s.pipedStatement(req, true)
	if st == nil || !st.Plain || !selects(st) || st.Conforming || len(st.Hints) > 0 {
		return nil
	}
	return st
}

// besides adds to of, the tags of an answer that is kept in k, what it depends on in the Caches of other shards. ok is false where the answer must not be
// kept; why is the reason if that will last.
func (s *Session) besides(of *cache.Depends, k *Keeper, judge *Judge, kept *catalog.Keeping, over []int) (ok bool, why string) {
	l, m := s.planned, &s.kept
	if l == nil {
		return true, ""
	}
	m.copies = l.Schema.References(m.copies[:0], kept.Tables)
	if len(over) == 0 && len(m.copies) == 0 {
		return true, ""
	}
	m.coarse = append(m.coarse[:0], tags.Everything)
	for _, name := range m.copies {
		m.coarse = judge.Tags.Every(m.coarse, name)
	}
	m.parts = m.parts[:0]
	for at, db := range l.Shards {
		asked := slices.Contains(over, at)
		if !asked && (len(m.copies) == 0 || !l.member(at)) {
			continue
		}
		other := db.Keeper.Load()
		switch {
		case other == k:
			continue
		case other == nil || !k.Cache.Related(other.Cache):
			return false, ""
		}
		part := cache.Part{Of: other.Cache, Order: other.Cache.Order(), On: of.On, Found: of.Found}
		theirs := other.Judge() // behind the order
		if theirs.Snapshot != judge.Snapshot {
			return false, ""
		}
		if why := theirs.unfollowed(kept); why != "" {
			return false, why
		}
		if !asked && len(m.copies) < len(kept.Tables) { // it has rows of its own in the other tables, of which the answer has none
			part.On, part.Found = m.coarse, m.coarse
		}
		m.parts = append(m.parts, part)
	}
	of.Beside = m.parts
	return true, ""
}

// gathers adds what the client is about to be sent to the answer that may be kept.
func (x *wide) gathers() {
	if x.looked != nil && x.s.keep.fill != nil {
		x.s.saveAnswer(x.out)
	}
}

// keepAnswer keeps the answer that was gathered, if it is nothing else and the shards were asked by the layout that it was looked for by.
func (x *wide) keepAnswer() {
	s := x.s
	if x.looked == nil || s.keep.fill == nil {
		return
	}
	if x.explicit || x.open || x.l.Epoch != x.looked.Epoch || !onlyRows(s.kept.answer) || !s.keepsFace() {
		s.dropFill()
		return
	}
	f := s.takeFill(true)
	f.Shards = x.shown
	f.Keep(s.kept.answer, cache.Shown{})
	s.forgetAnswer()
}

// onlyRows reports whether the messages are the answer of a read outside transactions, and tell the client nothing else.
func onlyRows(answer []byte) bool {
	for len(answer) > 0 {
		size, ok := wire.FrameSize(answer)
		if !ok || size == 0 || size > len(answer) {
			return false
		}
		switch answer[0] {
		case wire.MsgParseComplete, wire.MsgBindComplete, wire.MsgRowDescription, wire.MsgDataRow, wire.MsgCommandComplete:
		case wire.MsgReadyForQuery:
			return size == len(answer) && answer[size-1] == wire.TxIdle
		default:
			return false
		}
		answer = answer[size:]
	}
	return false
}

// shows notes what a shard has shown whose branch is given back.
func (x *wide) shows(b *branch) {
	if s := x.s; x.looked != nil && s.keep.fill != nil {
		s.keep.on = b.replica
		x.shown = append(x.shown, cache.ShownBy{Shard: b.index, Shown: s.shows()})
	}
}

// lastAnswer puts the last answer that there was in the place of an error, if no server could be asked, that is wanted, and the client has been sent nothing
// yet. The session holds no connection.
func (x *wide) lastAnswer() bool {
	if x.looked == nil || !x.away || x.sent {
		return false
	}
	a, notice := x.s.staleAnswer()
	if a == nil {
		return false
	}
	x.s.sawAnswer(x.looked, a, unreached)
	x.out = append(append(x.out[:0], notice...), a.Bytes...)
	return true
}
