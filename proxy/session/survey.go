package session

import (
	"cmp"
	"fmt"
	"strings"

	"pgtier/parser"
	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
	"pgtier/router"
	"pgtier/router/catalog"
	"pgtier/router/plan"
)

// survey is what the requests under way need of the shards.
type survey struct {
	at     int  // the one shard that they go to; -1: any
	wide   bool // several
	writes bool
	why    plan.Plan // of the last statement that is not the session's own business
	// refusal is for the client.
	refusal *wire.Error
	ran     []ran
	aged    bool  // a statement may need a younger snapshot than that of the transaction under way
	hinted  bool  // a hint or a setting has chosen a shard
	held    bool  // a statement waits for a move of buckets
	changes bool  // a statement changes the schema
	stays   []int // groups of buckets of which a statement may lock rows, see stays
	relies  bool  // such a statement may do more than lock, in the same transaction
	trail   trail // what it may write
	failed  bool  // in a transaction that has failed: statements bring only errors, up to its end or a savepoint
}

// ran is a statement that the requests run.
type ran struct {
	st   *parser.Statement
	text []byte
}

// serveSharded decides where the requests go. done is false where they go to one shard, which the session has then moved to.
func (s *Session) serveSharded(cluster *Cluster, req []byte) (done, ok bool) {
	s.planned, s.keep.hinted, s.keep.spans, s.changing, s.staying = nil, false, false, false, nil
	s.underway.at.Store(nil) // before it is planned
	s.rebind()
	if s.wide != nil {
		return true, s.serveWide(s.wide, req)
	}
	if cluster == nil { // since a reload
		if s.server == nil {
			s.moveTo(s.db)
		}
		return false, true
	}
	if s.openingFailed {
		if _, err := cluster.Layout(); err != nil {
			return true, s.refuseHere(asError(err))
		}
		return false, true
	}
	l, v, waited := s.surveyed(cluster, req)
	if waited != nil {
		return true, s.refuseHere(waited)
	}
	if v.refusal == nil {
		v.refusal = s.unasked(&v)
	}
	kept := s.server != nil || s.raw || s.pinned() != ""
	switch {
	case v.refusal != nil && s.ends() > 1 && !s.raw && s.pinned() == "": // the others are not refused with it
		return true, s.serveWide(s.goWide(cluster, l), req)
	case v.refusal != nil:
		return true, s.refuseHere(v.refusal)
	case s.raw || s.pinned() != "":
		if at := l.index(s.at); v.wide || v.at >= 0 && v.at != at {
			return true, s.refuseHere(&wire.Error{Code: wire.CodeFeatureNotSupported, Message: "the session keeps its connection to shard " + s.at.Shard() + " and can use no other",
				Detail: "It keeps it for: " + s.pinned() + ".", Hint: "DISCARD ALL ends that."})
		}
	case kept && l.index(s.at) < 0 && (v.wide || v.at >= 0):
		return true, s.refuseHere(&wire.Error{Code: wire.CodeFeatureNotSupported, Message: "the shard of the transaction is not in the configuration any more",
			Hint: "COMMIT or ROLLBACK, and begin again."})
	case v.aged && !v.wide && v.at >= 0 && l.Shards[v.at] == s.at && s.server != nil && s.strictSnapshot():
		return true, s.refuseHere(movedAway())
	case v.wide && !kept:
		return true, s.serveSpan(cluster, l, &v, req)
	case v.wide, kept && v.at >= 0 && l.Shards[v.at] != s.at,
		v.changes && (s.tx != wire.TxIdle || s.opening != nil) && s.ends() > 1: // where a change is refused the others are not refused with it
		return true, s.serveWide(s.goWide(cluster, l), req)
	case !kept && v.at >= 0:
		s.moveTo(l.Shards[v.at])
	case !kept && !l.member(l.index(s.at)):
		s.moveTo(l.Shards[l.Home])
	case !kept:
		s.moveTo(s.at)
	}
	at := l.index(s.at)
	rows := v.why.Reason != "" || v.at >= 0
	if at >= 0 && rows {
		if err := l.Fault(at); err != nil {
			return true, s.refuseHere(asError(err))
		}
	}
	if s.rowless = !rows && !s.raw; s.rowless && s.server != nil {
		s.server.Bind(nil)
	}
	s.chainsFrom(l, &v)
	s.tell(&v)
	s.trail.add(&v.trail)
	s.planned, s.keep.hinted, s.changing = l, v.hinted, v.changes
	if len(v.stays) > 0 {
		s.staying = s.stays(l, &v, at)
	}
	if v.why.Reason != "" && at >= 0 {
		s.routeShards(l, &v.why, at)
	}
	s.underway.at.Store(s.at)
	return false, true
}

// routeShards notes where a statement goes, for SHOW pgtier.last_route. It does not allocate, but for the most shards so far.
func (s *Session) routeShards(l *Layout, p *plan.Plan, shards ...int) {
	to := shardRoute{reason: p.Reason, kind: p.Kind, others: s.route.shards.others[:0]}
	for i, at := range shards {
		if i == 0 {
			to.first = l.Shards[at].Shard()
			continue
		}
		to.others = append(to.others, l.Shards[at].Shard())
	}
	s.route = route{shards: to}
}

// shardRoute is where a statement went, and why. The zero value is nowhere.
type shardRoute struct {
	first  string
	others []string
	reason string
	kind   plan.Kind
}

func (r shardRoute) String() string {
	return fmt.Sprintf("%s: %s (%s)", strings.Join(append([]string{r.first}, r.others...), ", "), r.reason, r.kind)
}

// survey plans every statement that the requests run.
func (s *Session) survey(l *Layout, req []byte) survey {
	if s.between() {
		s.trail.clear()
	}
	s.surveySnapshot(l)
	v := survey{at: -1, ran: s.ranBuffer[:0], trail: trail{buckets: s.trailBuffer[:0]}, failed: s.tx == wire.TxFailed}
	defer func() { s.ranBuffer, s.trailBuffer = v.ran, v.trail.buckets }()
	for i := range s.items {
		it := &s.items[i]
		frame := req[it.off : it.off+it.size]
		switch it.typ {
		case wire.MsgQuery:
			text, _ := queryText(frame)
			s.surveyStatement(l, &v, it.st, text, plan.Values{SQL: text, Known: true})
		case wire.MsgParse:
			s.surveyParse(l, &v, frame)
		case wire.MsgBind:
			s.surveyBind(l, &v, i, req)
		case wire.MsgExecute:
			s.surveyExecute(l, &v, i, req)
		case wire.MsgFunction:
			v.writes = true
			v.to(l.Home)
			v.unknown(l)
			if !largeObjectCall(frame) {
				v.lockedUnseen(l)
			}
		}
		if v.refusal != nil {
			return v
		}
	}
	return v
}

// unknown notes a statement of which nobody knows what rows it touches.
func (v *survey) unknown(l *Layout) {
	v.held = v.held || l.Holds
	v.trail.any, v.trail.cursors = true, true
}

// to notes that a statement goes to one shard.
func (v *survey) to(shard int) {
	v.wide = v.wide || v.at >= 0 && v.at != shard
	v.at = shard
}

// surveyParse plans a statement that is prepared, as far as its parameters do not matter: so that a transaction that it
// begins is begun where it goes.
func (s *Session) surveyParse(l *Layout, v *survey, frame []byte) {
	if u := s.unnamed; v.failed || u != nil && u.IsParse(frame) {
		return
	}
	p, ok := splitParse(frame)
	if !ok {
		return
	}
	st := s.facts(p.text)
	if len(st.Commands) != 1 {
		return
	}
	switch way := s.planOf(l, st, p.text, &plan.Values{SQL: p.text}); {
	case way.Kind == plan.One && !way.Open:
		v.to(way.Shard)
	case way.Kind == plan.Refused && !st.Unparsed: // else the server says what is wrong with it, and a Bind is refused
		v.refusal = planRefusal(way.Refusal)
	}
}

// surveyBind plans the statement that the i-th message of the requests binds.
func (s *Session) surveyBind(l *Layout, v *survey, i int, req []byte) {
	it := &s.items[i]
	frame := req[it.off : it.off+it.size]
	facts, text, types := s.boundText(i, req)
	if facts == nil {
		if s.raw && !s.onOneShard() { // whose names are the server's
			v.refusal = notWide("a prepared statement of a session that keeps its connection", "DISCARD ALL ends that; SET pgtier.shard names one shard for the session.")
		}
		if s.raw {
			v.unknown(l)
			if at := l.index(s.at); at >= 0 {
				v.to(at)
			}
			_, name, _, ok := splitBind(frame)
			if ok && !v.failed && s.mayChangeSchema(name) {
				v.changes = true
				v.refusal = cmp.Or(v.refusal, l.frozenNow())
			}
			if ok && !v.failed {
				meant := s.rawUnnamed(i)
				if len(name) > 0 {
					meant = s.rawStatement(name)
				}
				s.lockedNamed(l, v, meant)
			}
		}
		return // else the server says that there is none
	}
	b, ok := splitBound(frame, types, s.boundBuffer[:0])
	if !ok {
		return
	}
	s.boundBuffer = b.params
	s.surveyStatement(l, v, facts, text, plan.Values{SQL: text, Params: b.params, Known: true})
}

// surveyExecute notes what the i-th message of the requests may do that executes a portal of earlier ones.
func (s *Session) surveyExecute(l *Layout, v *survey, i int, req []byte) {
	if v.failed || s.tx == wire.TxIdle {
		return
	}
	frame := func(it *item) []byte { return req[it.off : it.off+it.size] }
	for j := i - 1; j >= 0; j-- {
		if it := &s.items[j]; it.typ == wire.MsgBind {
			if portal, _, _, ok := splitBind(frame(it)); ok && executes(frame(&s.items[i]), portal) {
				return // surveyBind has
			}
		}
	}
	if at := l.index(s.at); at >= 0 {
		v.to(at)
	}
	s.resumed(l, v)
}

// boundText is the statement that a Bind binds: what the session has prepared, or a Parse of the same requests.
func (s *Session) boundText(i int, req []byte) (facts *parser.Statement, text []byte, types []uint32) {
	it := &s.items[i]
	_, name, _, ok := splitBind(req[it.off : it.off+it.size])
	if !ok {
		return nil, nil, nil
	}
	for j := i - 1; j >= 0; j-- {
		parse := &s.items[j]
		if parse.typ != wire.MsgParse {
			continue
		}
		frame := req[parse.off : parse.off+parse.size]
		if u := s.unnamed; len(name) == 0 && u != nil && u.IsParse(frame) {
			return u.Facts, u.Text, u.Types
		}
		if p, ok := splitParse(frame); ok && string(p.name) == string(name) {
			return s.facts(p.text), p.text, backend.DecodeOIDs(p.types)
		}
	}
	st := s.ownNamed(name)
	if st == nil {
		return nil, nil, nil
	}
	return st.Runs, st.Text, st.Types
}

// surveyStatement plans one statement.
func (s *Session) surveyStatement(l *Layout, v *survey, st *parser.Statement, text []byte, values plan.Values) {
	if len(st.Commands) == 0 && !st.Unparsed || v.failed && !leavesFailed(st) {
		return
	}
	v.failed = false
	if e := s.surveyOwn(l, st); e != nil {
		v.refusal = e
		return
	}
	if e := l.unnumbered(st); e != nil {
		v.refusal = e
		return
	}
	if e := l.frozen(st); e != nil {
		v.refusal = e
		return
	}
	if values.Known {
		v.ran = append(v.ran, ran{st, text})
	}
	v.changes = v.changes || changesSchema(st)
	p := s.planOf(l, st, text, &values)
	v.held, v.aged, v.hinted = v.held || l.holds(&p), v.aged || s.aged(l, &p), v.hinted || p.Hinted
	reads := s.db.Hazards.Reading(st).Verdict == catalog.Read
	if p.Write || !reads {
		s.noteTrail(&v.trail, st, &p)
		s.locked(l, v, st, &p)
	}
	s.fetched(l, v, st)
	v.writes = v.writes || p.Write || !reads && !onlyBegins(st)
	if p.Kind != plan.Session {
		v.why = p
	}
	switch p.Kind {
	case plan.Refused:
		v.refusal = planRefusal(p.Refusal)
		if st.Unparsed && !s.raw && s.pinned() == "" { // a server says what is wrong with it
			v.refusal, v.wide = nil, true
		}
	case plan.One:
		v.to(p.Shard)
	case plan.Scatter, plan.Spread, plan.Everywhere, plan.CopyIn, plan.CopyOut:
		v.wide = true
	case plan.Any:
		if !reads { // locks and sequences are the same for all sessions on one shard only
			v.to(l.Home)
		}
	case plan.Session:
		if st.Effects&(parser.Listens|parser.Unlistens|parser.Notifies) != 0 {
			v.to(l.Home)
		}
	}
}

// onlyBegins reports whether st is a BEGIN and nothing else: no reading, but the shard where it runs has nothing to commit by it.
func onlyBegins(st *parser.Statement) bool {
	return len(st.Commands) == 1 && st.Commands[0].Kind == parser.Begin
}

// planOf plans one statement as the session's settings have it.
func (s *Session) planOf(l *Layout, st *parser.Statement, text []byte, values *plan.Values) plan.Plan {
	if s.txn.ddl { // the catalog that is known is not what the transaction sees
		return l.Schema.Changed(st, text).Route(values, s.circumstances())
	}
	return l.Schema.Statement(st, text).Route(values, s.circumstances())
}

// circumstances are what a plan depends on beside the statement and its values. The result is valid until the next call.
func (s *Session) circumstances() *plan.Circumstances {
	c := &s.circumstance
	c.Shard, _ = s.settings.Value(router.SettingShard)
	c.ShardingKey, _ = s.settings.Value(router.SettingShardingKey)
	if now := s.params; now != s.circumstanceOf {
		s.circumstanceOf = now
		c.ASCII = now.Value("client_encoding") != now.Value("server_encoding")
		c.Backslashes = readsBackslashes(now)
	}
	return c
}

// surveyOwn refuses what is not served where there are shards, and what the session's settings cannot take.
func (s *Session) surveyOwn(l *Layout, st *parser.Statement) *wire.Error {
	if st.Effects&(parser.SQLPrepare|parser.SQLExecute) != 0 && !s.raw {
		return notWide("PREPARE and EXECUTE as statements", "Use the driver's prepared statements, which go through the protocol.")
	}
	if s.raw && st.Effects&(parser.ResetsAll|parser.DiscardsPlans) == parser.ResetsAll {
		return notWide("RESET ALL in a session that keeps its connection", "DISCARD ALL ends that.")
	}
	if !s.raw {
		if pin := router.Route(st, s.routeFacts(st), s.db.Hazards).Pin; pin != "" {
			if e := s.unkept(pin); e != nil {
				return e
			}
		}
	}
	for i := range st.Commands {
		if st.Commands[i].Transaction.Snapshot && l.Schema.Version() > 1 {
			return importedSnapshot()
		}
		a := &st.Commands[i].Assigned
		if a.Name != router.SettingShard && a.Name != router.SettingShardingKey {
			continue
		}
		switch {
		case s.tx != wire.TxIdle || s.opening != nil || len(st.Commands) > 1:
			return &wire.Error{Code: wire.CodeFeatureNotSupported, Message: fmt.Sprintf("setting %q cannot be set inside a transaction", a.Name),
				Hint: "SET it before BEGIN, or begin a statement with /* pgtier: … */."}
		case s.raw:
			return notWide("a change of "+a.Name+" in a session that keeps its connection", "DISCARD ALL ends that.")
		case a.Name == router.SettingShard && a.Value != "" && !l.named(a.Value):
			return &wire.Error{Code: wire.CodeInvalidParameter, Message: fmt.Sprintf("invalid value for setting %q: %q", a.Name, a.Value), Hint: "SHOW SHARDS in the admin database lists them."}
		}
	}
	return nil
}

// unkept refuses what would keep the session's connection where there are shards: what comes next may be for another. It is
// nil where a setting names one shard for all.
func (s *Session) unkept(pin string) *wire.Error {
	if s.raw || s.db.Cluster.Load() == nil || s.onOneShard() {
		return nil
	}
	return notWide(fmt.Sprintf("a statement that needs a connection of its own (%s)", pin), "SET pgtier.shard names one shard for the session.")
}

// onOneShard reports whether the session's own settings name a shard for everything it does.
func (s *Session) onOneShard() bool {
	name, _ := s.settings.Value(router.SettingShard)
	return name != ""
}
