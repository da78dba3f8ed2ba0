package session

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"

	"pgtier/parser"
	"pgtier/proxy/backend"
	"pgtier/proxy/cache"
	"pgtier/proxy/fleet"
	"pgtier/proxy/wire"
	"pgtier/router"
	"pgtier/router/balance"
	"pgtier/router/catalog"
	"pgtier/router/plan"
	"pgtier/router/tags"
)

// Keeper is the cache of a database, or of one of its shards, with what is known of whose answers it may keep.
type Keeper struct {
	Cache *cache.Cache
	// Judge judges statements by the catalog as it was last read.
	Judge func() *Judge
	// Doubt finds out what has become of a transaction whose connection to a server was lost, and ends its Write: when the server's process pid is gone, if
	// it is not 0, and when nothing is prepared by the name prepared, if it is not "".
	Doubt func(w *cache.Write, server string, pid uint32, prepared string)
	// Apart is told that a statement may have changed the schema of one shard alone. Nothing is kept of any shard then: all are judged by one catalog.
	Apart func()
}

// Judge tells which answers may be kept, what they depend on and what writes may change. Immutable.
type Judge struct {
	Snapshot *catalog.Snapshot
	Tags     *tags.Index
	// Unfollowed is why writes past the proxy to what a statement reads may not be seen, "" if they are; nil: they are not followed.
	Unfollowed func(judge *Judge, kept *catalog.Keeping) string
}

// writing is what one transaction may change on one server. The zero value is that of one that has changed nothing.
type writing struct {
	write cache.Write
	of    *Keeper // that has it; nil: none has yet
	part  string  // its name where it is prepared, or may be; "" where it is not
}

// keeping is a session's part in the cache.
type keeping struct {
	writing
	spans   bool        // the turn under way is a read of several shards
	hinted  bool        // a hint or a setting has chosen the shard of the turn under way
	defines bool        // it may have changed the catalog, by code that nobody has read
	named   bool        // one that may is prepared on a connection that is the session's own, under a name that may mean anything
	given   given       // what that connection was given when it became so
	rawIn   *Keeper     // that has seen all that ran there; nil: none has
	fill    *cache.Fill // of the turn under way
	keeper  *Keeper     // where the turn's answer was looked for
	// face stands for the session's role, settings and parameters as they were when it was asked for.
	face     cache.Face
	faceOf   *cache.Cache
	settings *backend.Settings
	params   *backend.Params
	passes   bool        // under those settings nothing is served
	looked   bool        // the turn's answer was looked for, in keeper; key stands for it
	saves    bool        // it is being gathered
	replayed balance.LSN // of the replica that the turn went to, at least
	on       string      // that replica; "" for the manager
}

// kept is what a turn whose answer may be kept gathers; reused.
type kept struct {
	key    []byte // of its answer
	tags   []tags.Tag
	found  []tags.Tag
	values []plan.Param
	parts  []cache.Part // of what it depends on
	copies []string     // reference tables that it reads
	coarse []tags.Tag   // of those
	answer []byte       // so far
}

// maxAsked bounds the request whose answer is kept, in bytes: longer ones are hardly asked twice.
const maxAsked = 4 << 10

// sharedWait bounds how long a read waits for another session's question. One that takes longer is asked by itself.
const sharedWait = time.Second

// fromCache answers the requests if their answer is known. Otherwise it may leave a Fill for the turn to end.
func (s *Session) fromCache(req []byte) (done, ok bool) {
	k := s.at.Keeper.Load()
	if k == nil || !s.plain || s.raw || (s.tx != wire.TxIdle || s.server != nil) && !cache.GuardOwn.Off() || s.opening != nil || s.openingFailed || s.wide != nil ||
		len(req) > maxAsked || s.piped.only || s.planned == nil && s.db.Cluster.Load() != nil {
		return false, true
	}
	st, _ := s.pipedStatement(req, true)
	if st == nil || !selects(st) || st.Conforming || len(st.Hints) > 0 {
		return false, true
	}
	return s.search(k, st, nil, req)
}

// search answers the requests, which run st, if their answer is known in k. over are the shards that they go to if they are several: then the key is known.
func (s *Session) search(k *Keeper, st *parser.Statement, over []int, req []byte) (done, ok bool) {
	c, now := k.Cache, s.turnTime
	rec := c.Record(st)
	if rec.Rests(now) { // first: it is here to cost nothing
		return false, true
	}
	order := c.Order() // before anything is judged by a catalog that may change meanwhile
	if s.db.Hazards.Pending() || s.passesCache(c) {
		return false, true
	}
	judge := k.Judge()
	kept := judge.Snapshot.Keeping(st)
	if !kept.Kept && !cache.GuardClock.Off() {
		rec.Refuse(&kept.Reason)
		return false, true
	}
	if over == nil {
		s.kept.key = s.appendKey(s.kept.key[:0], req)
	}
	s.keep.looked, s.keep.keeper = true, k
	if a := c.Lookup(s.kept.key, now); a != nil && s.mayShow(a) && s.keepsLayout() {
		c.Hit(rec, now)
		return true, s.giveCached(a, unwritten, req)
	}
	c.Miss(rec, now)
	return s.askCached(k, judge, st, over, order, req)
}

// askCached readies the turn for its answer to be kept, or waits for that of somebody who asks the same.
func (s *Session) askCached(k *Keeper, judge *Judge, st *parser.Statement, over []int, order cache.Order, req []byte) (done, ok bool) {
	c, rec := k.Cache, k.Cache.Record(st)
	kept := judge.Snapshot.Keeping(st)
	if l := s.planned; l != nil {
		if why := l.Schema.Unkept(kept.Tables); why != "" {
			rec.Refuse(&why)
			return false, true
		}
	}
	if why := judge.unfollowed(kept); why != "" {
		rec.Refuse(&why)
		return false, true
	}
	set := judge.Tags.Read(st)
	if set == nil {
		return false, true
	}
	values, plain := s.valuesOf(judge, req)
	if !plain {
		return false, true
	}
	s.kept.tags = set.Append(s.kept.tags[:0], values)
	of := cache.Depends{On: s.kept.tags, Found: s.kept.tags}
	if over == nil { // of several shards a row on one proves nothing of the others
		s.kept.found = set.AppendFound(s.kept.found[:0], values)
		of.Found = s.kept.found
	}
	if ok, why := s.besides(&of, k, judge, kept, over); !ok {
		if why != "" {
			rec.Refuse(&why)
		}
		return false, true
	}
	f, waits := c.Ask(s.kept.key, of, order, s.turnTime)
	if !waits {
		rec.Refuse(nil)
		if f != nil {
			f.Tables, f.Record = kept.Tables, rec
		}
		s.keep.fill = f
		return false, true
	}
	a := s.waitFor(f)
	if e := s.stopped(); e != nil {
		return true, s.refuseAll(e)
	}
	if a == nil || !s.mayShow(a) || !s.keepsLayout() {
		s.turnTime = s.env.now()
		return false, true
	}
	c.Shared.Add(1)
	return true, s.giveCached(a, unwritten, req)
}

// unfollowed is why writes past the proxy to what is kept may not be seen, "" if they are or nobody asks for it.
func (j *Judge) unfollowed(kept *catalog.Keeping) string {
	if j.Unfollowed == nil {
		return ""
	}
	return j.Unfollowed(j, kept)
}

// waitFor waits for another session's answer; nil: this one asks by itself.
func (s *Session) waitFor(f *cache.Fill) *cache.Answer {
	stop := make(chan struct{})
	s.mu.Lock()
	stopped := s.killed != nil
	s.canceled = false
	s.stopWait = func(error) {
		if !stopped {
			stopped = true
			close(stop)
		}
	}
	s.mu.Unlock()
	s.enterAt(StateWaiting, s.turnTime)
	a := f.Wait(stop, sharedWait)
	s.mu.Lock()
	s.stopWait = nil
	s.mu.Unlock()
	return a
}

// passesCache reports whether nothing may be served to the session under its settings; where something may be, s.keep.face
// stands for it.
func (s *Session) passesCache(c *cache.Cache) bool {
	m := &s.keep
	if m.settings != s.settings || m.params != s.params || m.faceOf != c && !c.Related(m.faceOf) {
		m.settings, m.params, m.faceOf = s.settings, s.params, c
		off, _ := s.settings.Value(router.SettingCache)
		m.passes = off == "off" || s.serializable()
		m.face = c.Face(s.appendFace(nil))
	}
	return m.passes || s.floorUnknown || s.level() == router.Manager
}

// appendFace spells what an answer depends on beside the statement and its values.
func (s *Session) appendFace(dst []byte) []byte {
	if cache.GuardFace.Off() {
		return dst
	}
	dst = wire.AppendString(dst, s.role)
	for _, p := range s.settings.All() {
		if strings.HasPrefix(p.Name, router.OwnPrefix) {
			continue
		}
		dst = wire.AppendString(wire.AppendString(dst, p.Name), p.Value)
	}
	dst = append(dst, 0)
	for _, p := range s.params.All() {
		dst = wire.AppendString(wire.AppendString(dst, p.Name), p.Value)
	}
	return dst
}

// keepsFace reports whether the session is still as it was when the question was asked: a server connection may have told it of other
// settings before the answer.
func (s *Session) keepsFace() bool {
	m := &s.keep
	if m.params == s.params {
		return true
	}
	face := m.faceOf.Face(s.appendFace(nil))
	same := face == m.face
	m.face, m.params = face, s.params
	return same
}

// keepsLayout reports whether what the turn was planned by is still in force: then it was in force whenever an answer was asked for that is
// found by its number, and the shard had the rows.
func (s *Session) keepsLayout() bool {
	return s.planned == nil || !s.planned.outdated() || cache.GuardLayout.Off()
}

// appendKey spells the requests, whose one statement is pipedStatement's: their messages as they are, with the number of a
// prepared statement that sessions share in the place of its name.
func (s *Session) appendKey(dst, req []byte) []byte {
	dst = binary.BigEndian.AppendUint64(dst, uint64(s.keep.face))
	if s.planned != nil && !cache.GuardLayout.Off() {
		dst = binary.BigEndian.AppendUint64(dst, s.planned.Epoch)
	}
	if s.keep.spans {
		dst = append(dst, spansMark)
	}
	parsed := false
	for i := range s.items {
		it := &s.items[i]
		frame := req[it.off : it.off+it.size]
		dst = append(dst, it.typ)
		switch it.typ {
		case wire.MsgQuery, wire.MsgParse:
			parsed = true
			dst = append(dst, frame[wire.HeaderBytes:]...)
		case wire.MsgBind:
			if !parsed { // one made before a change of the catalog may answer in other columns, of which its client knows nothing
				dst = binary.BigEndian.AppendUint64(dst, it.own.ID)
			}
			rest := frame[it.names:]
			if cache.GuardFormat.Off() {
				rest = nil
			}
			dst = binary.BigEndian.AppendUint32(dst, uint32(len(rest)))
			dst = append(dst, rest...)
		}
	}
	return dst
}

// spansMark stands in keys of answers that several shards have made together, where others have a message's type: the same text may go to one of them by a setting.
const spansMark = 0

// valuesOf gives the values of the requests' one statement. plain is false where one of them may be read as a time that
// passes, or they cannot be read.
func (s *Session) valuesOf(judge *Judge, req []byte) (v tags.Values, plain bool) {
	v.ASCII = s.circumstances().ASCII
	for i := range s.items {
		it := &s.items[i]
		frame := req[it.off : it.off+it.size]
		switch it.typ {
		case wire.MsgQuery:
			v.SQL, plain = queryText(frame)
		case wire.MsgBind:
			var types []uint32
			_, v.SQL, types = s.boundText(i, req)
			for _, oid := range types {
				if !judge.Snapshot.KeepsParameter(oid) {
					return v, false
				}
			}
			b, ok := splitBound(frame, types, s.kept.values[:0])
			if !ok {
				return v, false
			}
			s.kept.values, v.Params, plain = b.params, b.params, true
			for i := range b.params {
				if parser.TimeWord(b.params[i].Value) {
					return v, false
				}
			}
		}
	}
	return v, plain && !parser.TimeWords(v.SQL)
}

// mayShow reports whether the session sees nothing with a that is older than what it has to see. A token that it was given may
// be of what another proxy wrote, and what is known of a is how far it may be, not how far it is at least.
func (s *Session) mayShow(*cache.Answer) bool { return s.floor == 0 }

// Why an answer is given from the cache, for SHOW pgtier.last_route.
const (
	unwritten = "answered before, and nothing was written since"
	unreached = "no server can be asked, and this is what one answered last"
)

// giveCached sends the answer, and does to the session what the requests would have done.
func (s *Session) giveCached(a *cache.Answer, why string, req []byte) bool {
	s.unnamedBy(req)
	s.sawAnswer(s.planned, a, why)
	now := s.env.now()
	took := uint64(now - s.turnTime)
	s.enterAt(StateIdle, now)
	s.txSince.Store(0)
	s.db.Stats.Queries.Add(1)
	s.db.Stats.Transactions.Add(1)
	s.db.Stats.QueryTime.Add(took)
	s.queries.Add(1)
	return s.send(a.Bytes)
}

// sawAnswer raises what the session must see from now on of each shard that has made the answer, which was found by l.
func (s *Session) sawAnswer(l *Layout, a *cache.Answer, why string) {
	if l != nil || s.at.Fleet.Load() != nil {
		s.route = route{cached: true, reason: why, level: s.level(), shards: s.route.shards}
	}
	if len(a.Shards) == 0 {
		s.sawCached(a.Shown)
		return
	}
	for i := range a.Shards {
		s.moveTo(l.Shards[a.Shards[i].Shard])
		s.sawCached(a.Shards[i].Shown)
	}
}

// sawCached raises what the session must see from now on of the shard that it is at.
func (s *Session) sawCached(shown cache.Shown) {
	if s.at.Fleet.Load() == nil {
		return
	}
	t := fleet.Ticket(shown.Ticket)
	s.ticket = max(s.ticket, t) // on whichever replica it reads next: the one that it has seen may be behind that of the answer
	if shown.Replica == "" {
		return
	}
	if s.seenOn == "" || t > s.seen {
		s.seen, s.seenOn, s.seenAt = t, shown.Replica, s.env.Epoch.Add(time.Duration(shown.At))
	}
}

// giveStale answers the turn with the last answer that there was, if nobody can be asked and that is wanted.
func (s *Session) giveStale(req []byte) (done, ok bool) {
	a, notice := s.staleAnswer()
	if a == nil {
		return false, true
	}
	return true, s.send(notice) && s.giveCached(a, unreached, req)
}

// staleAnswer is the last answer that there was to what was looked for, with a notice that says so; nil if none is wanted.
func (s *Session) staleAnswer() (a *cache.Answer, notice []byte) {
	if a = s.lastKept(); a == nil {
		return nil, nil
	}
	s.keep.keeper.Cache.Stale.Add(1)
	told := &wire.Error{Severity: "NOTICE", Code: codeWarning, Message: fmt.Sprintf("no server can be asked: this is what one answered %s ago", a.Age(s.env.now()).Round(time.Millisecond)),
		Hint: "The configuration's cache.stale_on_error allows that."}
	return a, told.AppendNotice(nil)
}

// lastKept is the last answer that there was to what was looked for, if it may be given where no server can be asked.
func (s *Session) lastKept() *cache.Answer {
	if !s.keep.looked {
		return nil
	}
	c := s.keep.keeper.Cache
	if c.Config().StaleOnError == 0 {
		return nil
	}
	if a := c.Last(s.kept.key, s.env.now()); a != nil && s.mayShow(a) {
		return a
	}
	return nil
}

// codeWarning is warning, the class of what is no error.
const codeWarning = "01000"

// away reports whether err says that there is no server to ask.
func away(e *wire.Error) bool {
	return e.Code == wire.CodeCannotConnectNow || strings.HasPrefix(e.Code, "08")
}

// unnamedBy makes what the requests make the session's unnamed statement.
func (s *Session) unnamedBy(req []byte) {
	it := &s.items[0]
	switch it.typ {
	case wire.MsgQuery:
		s.setUnnamed(nil)
		return
	case wire.MsgParse:
	default:
		return
	}
	s.db.Stats.ClientParses.Add(1)
	old := s.unnamed
	switch fresh := it.own != nil && s.db.Statements.Fresh(it.own, s.readingOf(it.st)); {
	case fresh && it.own == old:
		return
	case fresh && s.takeRecent(it.own):
		s.unnamed = it.own
	default:
		p, _ := splitParse(req[it.off : it.off+it.size])
		s.unnamed = s.db.Statements.Acquire(backend.StatementKey{Text: p.text, Types: p.types, Under: s.readingOf(it.st)}, it.st)
	}
	s.retire(old)
}

// takeFill hands the turn's Fill over to who gets the answer from the server. proved: the server is known to show every
// write that anybody was told of before the Fill began.
func (s *Session) takeFill(proved bool) *cache.Fill {
	f := s.keep.fill
	s.keep.fill = nil
	if f != nil && !proved {
		f.Drop()
		return nil
	}
	return f
}

// dropFill ends the turn's Fill, if it has one still.
func (s *Session) dropFill() {
	if s.keep.fill != nil {
		s.keep.fill.Drop()
		s.keep.fill = nil
		s.forgetAnswer()
	}
	s.keep.saves = false
}

// forgetAnswer lets go of the memory of an answer that was gathered, if it was long.
func (s *Session) forgetAnswer() {
	if cap(s.kept.answer) > keptRequest {
		s.kept.answer = nil
	}
}

// provesFill reports whether the replica that the turn goes to shows every write of the tables that it reads: whoever was
// told of one has drawn a ticket for it by then.
func (s *Session) provesFill(replica string, replayed balance.LSN) bool {
	if replica == "" || cache.GuardReplay.Off() {
		return true
	}
	f := s.at.Fleet.Load()
	if f == nil {
		return false
	}
	need, known := f.Position(s.at.Writes.latest(s.aim.readings))
	return known && replayed >= need
}

// savesAnswer begins to gather the turn's answer if it may be kept.
func (s *Session) savesAnswer() {
	s.keep.saves = false
	if s.keep.fill == nil {
		return
	}
	if !s.provesFill(s.replica, s.keep.replayed) {
		s.dropFill()
		return
	}
	s.kept.answer, s.keep.saves, s.keep.on = s.kept.answer[:0], true, s.replica
}

// saveAnswer adds to it.
func (s *Session) saveAnswer(part []byte) {
	answer := &s.kept.answer
	if s.keep.fill == nil || s.keep.fill.TooLong(len(*answer)+len(part)) {
		s.dropFill()
		return
	}
	*answer = append(*answer, part...)
}

// keepAnswer keeps it, tail included, if the turn was nothing else.
func (s *Session) keepAnswer(tail []byte) {
	k := &s.keep
	if !k.saves || s.tx != wire.TxIdle || !s.keepsFace() {
		return
	}
	s.saveAnswer(tail)
	f := s.takeFill(true)
	if f == nil {
		return
	}
	k.saves = false
	f.Keep(s.kept.answer, s.shows())
	s.forgetAnswer()
}

// shows is where the session stands behind the turn.
func (s *Session) shows() cache.Shown {
	switch {
	case s.at.Fleet.Load() == nil:
		return cache.Shown{}
	case s.keep.on != "": // s.seeing has been there
		return cache.Shown{Ticket: uint64(s.seen), Replica: s.keep.on, At: int64(s.seenAt.Sub(s.env.Epoch))}
	}
	return cache.Shown{Ticket: uint64(s.ticket)}
}
