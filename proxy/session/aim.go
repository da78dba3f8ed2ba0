package session

import (
	"cmp"
	"fmt"
	"strings"

	"pgtier/parser"
	"pgtier/proxy/backend"
	"pgtier/proxy/wire"
	"pgtier/router"
	"pgtier/router/balance"
	"pgtier/router/catalog"
)

// aim is where a turn goes, and why. The zero value is the manager.
type aim struct {
	replica  bool // every statement is proved to read only
	level    router.Level
	cause    router.Cause
	reason   string
	why      balance.Why        // of the choice between replicas
	readings []*catalog.Reading // of its statements; reused
	begins   bool               // it begins a READ ONLY transaction
	frozen   bool               // whose statements all see the same
	shown    bool               // as of a read in the turn; true also if the turn leaves no transaction behind
	blind    bool               // it looks at settings alone
	proved   bool               // every statement of the turn was proved to read only, wherever it goes
	turn     uint64             // number of its choice between replicas; 0: none was made yet
}

// draw is the number of the turn's choice between replicas, the same however often it is made.
func (a *aim) draw(db *Database) uint64 {
	if a.turn == 0 {
		a.turn = db.turns.Add(1)
	}
	return a.turn
}

// manager aims at the manager.
func (a *aim) manager(cause router.Cause, reason string) {
	a.replica, a.cause, a.reason = false, cause, reason
}

// refused aims at the manager because no replica serves.
func (a *aim) refused(why balance.Why) {
	a.why = why
	switch why {
	case balance.AllBehind:
		a.manager(router.Behind, why.String())
	case balance.AllLagging:
		a.manager(router.Lagging, why.String())
	default:
		a.manager(router.NoReplica, why.String())
	}
}

// level is the session's consistency level.
func (s *Session) level() router.Level {
	if s.floorUnknown {
		return router.Manager // nobody knows what it must see
	}
	if v, _ := s.settings.Value(router.SettingConsistency); v != "" { // RESET leaves it empty
		if l, err := router.ParseLevel(v); err == nil {
			return l
		}
		return router.Manager // set to nonsense where nobody could refuse it
	}
	return s.db.Reads().Level
}

// aims reports whether there is anything for aimTurn to do: replicas, or what a turn with replicas has left.
func (s *Session) aims() bool { return s.at.Fleet.Load() != nil || s.aim.replica || s.aim.proved }

// aimTurn decides where the statements of s.items go. pin is why the session must keep the connection. A refusal is for
// the client.
func (s *Session) aimTurn(pin string) *wire.Error {
	if s.at.Fleet.Load() == nil {
		if s.aim.replica || s.aim.proved { // of a turn before a reload: it says nothing of this one
			s.aim = aim{readings: s.aim.readings[:0]}
		}
		return nil
	}
	if s.server != nil && !s.raw && s.replica != "" && !s.comesBack() {
		return s.aimInside(pin)
	}
	a := &s.aim
	*a = aim{replica: true, cause: router.ToReplica, readings: a.readings[:0], level: s.level()}
	switch {
	case s.raw || pin != "" || s.pin != "":
		a.manager(router.OwnConnection, "keeps its connection")
	case s.server != nil:
		a.manager(router.InTransaction, "in a read-write transaction")
	case s.opening != nil && !s.openingReadOnly:
		a.manager(router.InTransaction, router.Begins(&s.openingAs))
	}
	if a.begins = s.opening != nil; a.begins {
		a.frozen = s.frozen(&s.openingAs)
	}
	a.blind = !a.begins
	found, parsed := false, false
	for i := range s.items {
		it := &s.items[i]
		a.shown = a.shown || parsed && it.typ == wire.MsgBind && it.facts() == nil // of what was parsed last
		if it.typ == wire.MsgFunction && a.replica {
			a.manager(router.NotProved, "function call by the protocol")
		}
		st := it.facts()
		if st == nil || it.typ == wire.MsgDescribe {
			continue
		}
		found = true
		a.blind = a.blind && len(st.Commands) == 1 && (st.Commands[0].Kind == parser.Show || st.Commands[0].Kind == parser.Set)
		before := len(a.readings)
		if e := s.aimStatement(a, st); e != nil {
			return e
		}
		a.sees(st, it.typ != wire.MsgParse && len(a.readings) > before)
		if it.typ == wire.MsgParse {
			parsed = len(a.readings) > before
		}
	}
	a.proved = a.replica && found && !a.begins
	switch {
	case a.replica && !a.begins && s.serializable():
		a.manager(router.NotProved, "a replica serves no serializable transaction")
	case a.replica && a.begins && !a.frozen && a.level == router.Strong:
		// Each statement must see what was acknowledged before it, and the replica was chosen for the first.
		a.manager(router.InTransaction, "a transaction of level strong that is not REPEATABLE READ")
	case a.replica && a.begins && !a.shown && a.level == router.Strong:
		// What it will see is settled by a read to come, and what has been acknowledged until then may not be on the replica.
		a.manager(router.InTransaction, "a transaction of level strong whose first read comes later")
	case a.level == router.Manager && a.replica:
		a.manager(router.AsAsked, "consistency level manager")
	case !found && a.replica:
		a.manager(router.NotProved, "no statement")
	}
	return nil
}

// sees notes whether st, a read or what begins or ends a transaction, settles what the transaction sees.
func (a *aim) sees(st *parser.Statement, read bool) {
	switch {
	case st.Effects&parser.EndsTransaction != 0:
		a.shown = !chains(st)
	case st.Effects&parser.BeginsTransaction != 0:
		a.shown = false
	case read:
		a.shown = true
	}
}

// chains reports whether st ends a transaction and begins another.
func chains(st *parser.Statement) bool {
	for i := range st.Commands {
		if st.Commands[i].Chain {
			return true
		}
	}
	return false
}

// aimStatement adds one statement to the turn's aim.
func (s *Session) aimStatement(a *aim, st *parser.Statement) *wire.Error {
	if e := a.hinted(st); e != nil || !a.replica {
		return e
	}
	if len(st.Commands) == 1 {
		switch cmd := &st.Commands[0]; cmd.Kind {
		case parser.Begin:
			if !s.readOnly(&cmd.Transaction) {
				a.manager(router.InTransaction, router.Begins(&cmd.Transaction))
			}
			a.reason = cmp.Or(a.reason, "begins a READ ONLY transaction")
			a.begins, a.frozen = true, s.frozen(&cmd.Transaction)
			return nil
		case parser.SetTransaction:
			if a.begins {
				if asksManager(&cmd.Transaction) {
					a.manager(router.InTransaction, "SET TRANSACTION asks for what no replica serves")
				}
				return nil
			}
		case parser.Commit, parser.Rollback, parser.Savepoint, parser.Release, parser.RollbackTo:
			if a.begins {
				return nil
			}
		}
	}
	s.aimReading(a, st, s.db.Hazards.Reading(st))
	return nil
}

// other is the aim of what is not a turn.
func (s *Session) other(cause router.Cause, reason string) {
	s.aim = aim{readings: s.aim.readings[:0], level: s.level()}
	s.aim.manager(cause, reason)
}

// hinted takes the level that a leading comment of st asks for.
func (a *aim) hinted(st *parser.Statement) *wire.Error {
	if st.HintError != "" {
		return &wire.Error{Code: wire.CodeInvalidParameter, Message: st.HintError}
	}
	for _, h := range st.Hints {
		if h.Name == "consistency" {
			a.level, _ = router.ParseLevel(h.Value)
		}
	}
	return nil
}

// aimReading adds what is proved of a statement.
func (s *Session) aimReading(a *aim, st *parser.Statement, r *catalog.Reading) {
	switch {
	case r.Verdict == catalog.Local:
		a.manager(router.ServerLocal, r.Reason)
	case r.Verdict != catalog.Read:
		a.manager(router.NotProved, r.Reason)
	case s.at.distrusted(st):
		a.manager(router.NotProved, "a replica has refused it as a write")
	default:
		a.reason = r.Reason
		a.readings = append(a.readings, r)
	}
}

// readOnly reports whether a transaction that asks for t can be served by a replica whole.
func (s *Session) readOnly(t *parser.Transaction) bool {
	isolation, set := s.settings.Value("default_transaction_isolation")
	if !set && s.at.serializable.Load() {
		isolation = "serializable"
	}
	on, _ := s.settings.Value("default_transaction_read_only")
	return router.ReadOnly(t, isolation, on == "on")
}

// frozen reports whether the statements of a READ ONLY transaction that asks for t all see the same.
func (s *Session) frozen(t *parser.Transaction) bool {
	isolation := t.Isolation
	if isolation == "" {
		isolation, _ = s.settings.Value("default_transaction_isolation")
	}
	return isolation == "repeatable read"
}

// serializable reports whether a transaction is serializable that does not say what it is.
func (s *Session) serializable() bool {
	if isolation, ok := s.settings.Value("default_transaction_isolation"); ok {
		return isolation == "serializable"
	}
	return s.at.serializable.Load()
}

// aimInside refuses what a replica would silently answer otherwise, in a READ ONLY transaction that it serves. What may
// write fails there as it would on the manager.
func (s *Session) aimInside(pin string) *wire.Error {
	reason, ended := pin, false
	for i := range s.items {
		it := &s.items[i]
		st := it.facts()
		if it.typ == wire.MsgBind && st == nil {
			st = s.bound(i, s.in.Bytes())
		}
		if st == nil || reason != "" {
			continue
		}
		e := s.hintedInside(st)
		if e != nil {
			return e
		}
		if reason = s.localTo(st); reason == "" {
			reason = s.newInside(st, ended)
		}
		if runs := it.typ == wire.MsgQuery || it.typ == wire.MsgBind; runs && reason == "" {
			reason = s.behindEnd(st, ended)
		}
		ended = ended || st.Effects&parser.EndsTransaction != 0
	}
	if reason == "" {
		return nil
	}
	return notHere(reason)
}

// hintedInside refuses a hint that asks for more than the replica was chosen for, or means nothing.
func (s *Session) hintedInside(st *parser.Statement) *wire.Error {
	var a aim
	a.level = s.inside
	if e := a.hinted(st); e != nil {
		return e
	}
	if a.level == s.inside || a.level == router.Eventual || a.level == router.Session && s.inside == router.Strong {
		return nil
	}
	return notHere("its hint asks for level " + a.level.String() + ", and the transaction is of level " + s.inside.String())
}

// newInside is why a statement would see less than level strong promises: what it sees is settled after the replica was
// chosen. ended: a statement before it ends the transaction.
func (s *Session) newInside(st *parser.Statement, ended bool) string {
	if s.inside != router.Strong {
		return ""
	}
	goesOn := ended && st.Effects&parser.EndsTransaction == 0 || chains(st)
	for i := range st.Commands {
		kind := st.Commands[i].Kind
		goesOn = goesOn || (kind == parser.Commit || kind == parser.Rollback) && i < len(st.Commands)-1
	}
	if !goesOn {
		return ""
	}
	return "goes on behind the end of a transaction of level strong"
}

// behindEnd is why a statement cannot run where the transaction was. ended: one before it in the same request ends the
// transaction. A replica refuses writes, and transactions begun there would not be what they were asked to be.
func (s *Session) behindEnd(st *parser.Statement, ended bool) string {
	for i := range st.Commands {
		cmd := &st.Commands[i]
		if ended && !s.goesBehind(cmd) {
			return cmd.Kind.String() + " stands behind the end of the transaction in one request, which goes to one server"
		}
		ended = ended || cmd.Kind == parser.Commit || cmd.Kind == parser.Rollback
	}
	return ""
}

// goesBehind reports whether cmd does on a replica, behind the end of a transaction there, what it does elsewhere.
func (s *Session) goesBehind(cmd *parser.Command) bool {
	switch cmd.Kind {
	case parser.Begin:
		return s.readOnly(&cmd.Transaction)
	case parser.Commit, parser.Rollback, parser.Savepoint, parser.RollbackTo, parser.Release, parser.SetTransaction, parser.Show,
		parser.Reset, parser.ResetAll, parser.DiscardAll, parser.DiscardPlans, parser.DiscardSequences, parser.DiscardTemp:
		return true
	case parser.Set:
		return !strings.HasPrefix(cmd.Assigned.Name, router.OwnPrefix) // what follows would be of the level before
	}
	return s.db.Hazards.CommandReading(cmd).Verdict == catalog.Read
}

// localTo is why a statement is true of the server alone that runs it, "" if it is not or says so itself.
func (s *Session) localTo(st *parser.Statement) string {
	if len(st.Commands) == 0 {
		return ""
	}
	r := s.db.Hazards.Reading(st)
	if r.Verdict != catalog.Local {
		return ""
	}
	said := 0
	for i := range st.Commands {
		switch cmd := &st.Commands[i]; cmd.Kind {
		case parser.Show, parser.Explain, parser.Fetch, parser.Close, parser.CloseAll, parser.Set, parser.SetTransaction:
			said++
		default:
			if one := s.db.Hazards.CommandReading(cmd); one.Verdict == catalog.Local {
				return one.Reason
			}
		}
	}
	if said > 0 {
		return "" // it is those that are
	}
	return r.Reason // of the text as a whole
}

// notHere refuses what a replica must not serve in a READ ONLY transaction that is there.
func notHere(reason string) *wire.Error {
	return &wire.Error{Code: codeReadOnly, Message: "cannot run this in a READ ONLY transaction that a replica serves", Detail: reason,
		Hint: "SET pgtier.consistency = 'manager' before BEGIN."}
}

// codeReadOnly is read_only_sql_transaction.
const codeReadOnly = "25006"

// routed records where the turn goes, for the metrics and for SHOW pgtier.last_route, which does not tell of itself.
func (s *Session) routed() {
	if s.at.Fleet.Load() == nil {
		return
	}
	s.db.Stats.Routes[s.aim.cause].Add(1)
	if s.tells {
		return
	}
	s.route = route{replica: s.replica, server: s.pool.Key().Server, level: s.aim.level, reason: s.aim.reason, why: s.aim.why, shards: s.route.shards}
}

// route is where the last turn went.
type route struct {
	replica string // of several shards those that were asked, "" where all were managers
	server  string
	level   router.Level
	reason  string
	why     balance.Why
	shards  shardRoute // where there are shards
	cached  bool       // nowhere: it was answered from the cache
}

// beside adds the replicas of other shards that take part in the turn.
func (r *route) beside(o route) {
	switch {
	case o.replica == "" || o.replica == r.replica:
	case r.replica == "":
		r.replica, r.reason, r.why = o.replica, o.reason, o.why
	default:
		r.replica = o.replica + ", " + r.replica
	}
}

// String is what SHOW pgtier.last_route says.
func (r route) String() string {
	switch {
	case r.cached && r.shards.first != "":
		return r.shards.String() + "; cache: " + r.reason
	case r.cached:
		return fmt.Sprintf("cache: %s (%s)", r.reason, r.level)
	case r.shards.first != "" && r.replica != "":
		return r.shards.String() + "; replica " + r.replica + ": " + r.reason
	case r.shards.first != "" && r.server != "" && len(r.shards.others) == 0:
		return r.shards.String() + "; manager " + r.server + ": " + r.reason
	case r.shards.first != "":
		return r.shards.String()
	case r.server == "":
		return ""
	case r.replica == "":
		return fmt.Sprintf("manager %s: %s (%s)", r.server, r.reason, r.level)
	}
	return fmt.Sprintf("replica %s: %s (%s; %s)", r.replica, r.reason, r.level, strings.ToLower(r.why.String()))
}

// aimExecute decides where EXECUTE in the text st goes; reading is of what was prepared as prepared.
func (s *Session) aimExecute(st *parser.Statement, prepared *backend.Statement, reading *catalog.Reading) *wire.Error {
	if s.at.Fleet.Load() == nil {
		return nil
	}
	a := &s.aim
	*a = aim{replica: true, cause: router.ToReplica, readings: a.readings[:0], level: s.level()}
	if s.server != nil && s.replica != "" {
		if e := s.hintedInside(st); e != nil {
			return e
		}
	}
	if e := a.hinted(st); e != nil {
		return e
	}
	cmd := &st.Commands[0]
	switch {
	case s.raw || s.pin != "":
		a.manager(router.OwnConnection, "keeps its connection")
	case s.server != nil && s.replica == "":
		a.manager(router.InTransaction, "in a read-write transaction")
	case len(cmd.Calls) > 0 || len(cmd.Functions) > 0:
		a.manager(router.NotProved, "EXECUTE calls functions")
	case s.serializable():
		a.manager(router.NotProved, "a replica serves no serializable transaction")
	default:
		s.aimReading(a, prepared.Facts, reading)
	}
	a.proved = a.replica && s.server == nil
	if a.replica && a.level == router.Manager {
		a.manager(router.AsAsked, "consistency level manager")
	}
	if s.server != nil && s.replica != "" && a.cause == router.ServerLocal {
		return notHere(a.reason)
	}
	return nil
}
