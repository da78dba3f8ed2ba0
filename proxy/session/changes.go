package session

import (
	"bytes"
	"slices"

	"pgtier/parser"
	"pgtier/proxy/backend"
	"pgtier/proxy/cache"
	"pgtier/proxy/wire"
	"pgtier/router/tags"
)

// What a transaction may change is claimed in the cache before its server can commit it, and let go when it is over, before
// the client hears of that. In between nothing that depends on it is served or kept. Claiming too much or too early costs
// hits; what is not claimed in time is served wrong.

// changes notes what the turn's statements may change, and claims it if the turn may commit something.
func (s *Session) changes(req []byte) {
	k := s.at.Keeper.Load()
	if k == nil {
		return
	}
	w := s.writeIn(k)
	for i := range s.items {
		it := &s.items[i]
		switch it.typ {
		case wire.MsgQuery:
			text, _ := queryText(req[it.off : it.off+it.size])
			s.change(k, it.st, tags.Values{SQL: text, ASCII: s.circumstances().ASCII})
		case wire.MsgParse:
			if s.raw && it.st != nil {
				s.keep.named = s.keep.named || s.maySchema(k.Judge(), it.st)
			}
		case wire.MsgBind:
			s.changeBound(k, i, req)
		case wire.MsgFunction:
			s.changeCalled(k, w, req[it.off:it.off+it.size])
		}
	}
	if w.Any() && s.mayCommit(req) {
		k.Cache.Claim(w)
	}
}

// writeIn is the session's Write in k. What it did before there was k is not known.
func (s *Session) writeIn(k *Keeper) *cache.Write {
	return s.keep.in(k, s.tx != wire.TxIdle)
}

// in is the Write in k. inside: in a transaction, of which nobody knows what it did before there was k.
func (w *writing) in(k *Keeper, inside bool) *cache.Write {
	if w.of != k {
		w.forget()
		w.of = k
		if inside {
			k.Cache.NoteAll(&w.write)
		}
	}
	return &w.write
}

// forget ends what is over: it ran on another shard, where it has been undone, or for a cache that has been switched off.
func (w *writing) forget() {
	if w.of != nil {
		w.of.Cache.End(&w.write, true)
	}
	w.part = ""
}

// changeBound notes what the i-th message, a Bind, runs.
func (s *Session) changeBound(k *Keeper, i int, req []byte) {
	it := &s.items[i]
	if it.names == 0 {
		return // the server says what is wrong
	}
	if s.raw && !s.parsesBefore(i) { // names are the server's there
		s.changeRaw(k, i, req)
		return
	}
	st, text, types := s.boundText(i, req)
	if st == nil {
		return // the server says that there is none
	}
	values := tags.Values{}
	if b, ok := splitBound(req[it.off:it.off+it.size], types, s.kept.values[:0]); ok {
		s.kept.values = b.params
		values = tags.Values{SQL: text, Params: b.params, ASCII: s.circumstances().ASCII}
	}
	s.change(k, st, values)
}

// changeRaw is changeBound on a connection that is the session's own, for what was prepared before the request.
func (s *Session) changeRaw(k *Keeper, i int, req []byte) {
	it := &s.items[i]
	seen := s.keep.rawIn == k // else something may have run there of which k knows nothing
	pending := false
	var ran *parser.Statement
	if it.name == 0 {
		ran = s.rawUnnamed(i)
	} else if seen {
		frame := req[it.off : it.off+it.size]
		name := frame[it.names-it.name-1 : it.names-1]
		if ran = s.rawStatement(name); ran == nil && s.mayBeCoded() && !s.rawNames.coded {
			pending = s.awaitCatalog()
			ran = s.rawStatement(name)
		}
	}
	if ran != nil {
		s.change(k, ran, tags.Values{})
		return
	}
	pending = pending || s.awaitCatalog()
	k.Cache.NoteAll(&s.keep.write)
	s.keep.defines = s.namedDefines(k, pending) || s.keep.defines
}

// namedDefines reports whether a name of which nobody knows what it means, on a connection that is the session's own, may change the catalog. pending: it is being read.
func (s *Session) namedDefines(k *Keeper, pending bool) bool {
	may := s.keep.rawIn != k || s.keep.named || s.rawNames.coded || pending || s.givenMaySchema(k.Judge())
	if may {
		s.apart(k, s.keep.hinted)
	}
	return may
}

// changeCalled notes what a function call by the protocol may change.
func (s *Session) changeCalled(k *Keeper, w *cache.Write, frame []byte) {
	if s.raw && largeObjectCall(frame) { // changes no catalog
		k.Cache.NoteAll(w)
		return
	}
	s.changeAll(k, w, s.keep.hinted)
}

// parsesBefore reports whether a Parse without a name stands before the i-th message, a Bind of that, in the same request: both are carried out, or neither.
func (s *Session) parsesBefore(i int) bool {
	if s.items[i].name > 0 {
		return false
	}
	for i--; i >= 0 && !s.items[i].end; i-- {
		if s.items[i].typ == wire.MsgParse && !s.items[i].named {
			return true
		}
	}
	return false
}

// change notes what st may change.
func (s *Session) change(k *Keeper, st *parser.Statement, values tags.Values) {
	s.changeIn(k, &s.keep.write, st, values, s.keep.hinted)
}

// changeIn notes in w, which is k's, what st may change. hinted: on one shard, whatever the planner thinks of it.
func (s *Session) changeIn(k *Keeper, w *cache.Write, st *parser.Statement, values tags.Values, hinted bool) {
	c := k.Cache
	order := c.Order()
	if st == nil || st.Pin != "" && len(st.Commands) == 0 || s.misread(st) {
		s.changeAll(k, w, hinted)
		return
	}
	pending := s.db.Hazards.Pending() && !s.reads(st)
	if cache.GuardSides.Off() && !pending {
		return
	}
	set := k.Judge().Tags.Write(st)
	if set.Code() {
		w.Runs(order)
	}
	s.kept.tags = set.Append(s.kept.tags[:0], values)
	if slices.Contains(s.kept.tags, tags.Everything) {
		s.keep.defines = true
		s.apart(k, hinted)
	}
	if pending { // it is judged by what may not be true any more
		c.NoteAll(w)
		return
	}
	c.Note(w, s.kept.tags, order)
}

// changeAll notes that what runs may change anything.
func (s *Session) changeAll(k *Keeper, w *cache.Write, hinted bool) {
	k.Cache.NoteAll(w)
	s.keep.defines = true
	s.apart(k, hinted)
}

// apart has nothing kept any more if what runs may change the catalog, and runs on one shard: by a hint, or because the session keeps its connection there, whose
// names and messages without their Sync are not planned.
func (s *Session) apart(k *Keeper, hinted bool) {
	if (hinted || s.raw && s.db.Cluster.Load() != nil) && !cache.GuardApart.Off() {
		k.Apart()
	}
}

// changesExecuted is changes for cmd, an EXECUTE, of what SQL has prepared.
func (s *Session) changesExecuted(cmd *parser.Command, st *parser.Statement) {
	k := s.at.Keeper.Load()
	if k == nil {
		return
	}
	w := s.writeIn(k)
	s.change(k, st, tags.Values{})
	if len(cmd.Calls)+len(cmd.Functions) > 0 { // what it passes may be made by a function that writes
		s.changeAll(k, w, s.keep.hinted)
	}
	if w.Any() && s.tx == wire.TxIdle {
		k.Cache.Claim(w)
	}
}

// changesCalled notes what a function call in a duplex may change, and claims it.
func (s *Session) changesCalled(frame []byte) {
	if k := s.at.Keeper.Load(); k != nil {
		w := s.writeIn(k)
		s.changeCalled(k, w, frame)
		k.Cache.Claim(w)
	}
}

// changesNamed notes that what runs by a name in a duplex may change anything, and claims it.
func (s *Session) changesNamed() {
	if k := s.at.Keeper.Load(); k != nil {
		w := s.writeIn(k)
		k.Cache.NoteAll(w)
		s.namedDefines(k, s.db.Hazards.Pending())
		s.keep.defines = true
		k.Cache.Claim(w)
	}
}

// mayCommit reports whether a server that gets the turn may commit something before it is over.
func (s *Session) mayCommit(req []byte) bool {
	if s.tx == wire.TxIdle && s.opened == nil {
		return true
	}
	if s.rollsBack() && !cache.GuardRollback.Off() {
		return false
	}
	bound, portal := false, []byte(nil)
	for i := range s.items {
		it := &s.items[i]
		frame := req[it.off : it.off+it.size]
		if it.typ == wire.MsgBind {
			portal, _, _, bound = splitBind(frame)
		}
		st := it.facts()
		switch {
		case it.typ == wire.MsgExecute && !(bound && (executes(frame, portal) || cache.GuardUnsent.Off())): // of a portal that was bound before
			return true
		case it.typ == wire.MsgQuery, it.typ == wire.MsgBind:
			if st == nil || st.Unparsed || st.Effects&parser.EndsTransaction != 0 {
				return true
			}
		case st != nil && st.Effects&parser.EndsTransaction != 0: // parsed, and bound behind it
			return true
		}
	}
	return false
}

// executes reports whether frame, an Execute, runs that portal.
func executes(frame, portal []byte) bool {
	name, _, ok := cutZero(frame[wire.HeaderBytes:])
	return ok && bytes.Equal(name, portal)
}

// rollsBack reports whether all that the turn does is to end a transaction that it does not commit.
func (s *Session) rollsBack() bool {
	if s.tx == wire.TxIdle || s.raw || s.ends() != 1 {
		return false
	}
	ran, bound := 0, false
	for i := range s.items {
		it := &s.items[i]
		switch it.typ {
		case wire.MsgBind:
			bound = true
		case wire.MsgExecute:
			if !bound {
				return false
			}
			continue
		case wire.MsgQuery:
		case wire.MsgFunction:
			return false
		default:
			continue
		}
		st := it.facts()
		if st == nil && it.typ == wire.MsgBind && i > 0 {
			st = s.items[i-1].st // of a Parse just before
		}
		if st == nil || st.Unparsed || len(st.Commands) != 1 {
			return false
		}
		cmd := &st.Commands[0]
		if cmd.Chain || cmd.Kind != parser.Rollback && (cmd.Kind != parser.Commit || s.tx != wire.TxFailed) {
			return false
		}
		ran++
	}
	return ran == 1
}

// changesAhead notes what a message of a duplex may change, and claims it at once: nobody knows when its transaction ends.
func (s *Session) changesAhead(st *parser.Statement, values tags.Values) {
	k := s.at.Keeper.Load()
	if k == nil {
		return
	}
	w := s.writeIn(k)
	s.change(k, st, values)
	k.Cache.Claim(w)
}

// claimsAhead claims what was noted: messages go out before it is known whether they end the transaction.
func (s *Session) claimsAhead() {
	if k := s.at.Keeper.Load(); k != nil {
		k.Cache.Claim(s.writeIn(k))
	}
}

// ended is changed where the server has said that it is through. What was not claimed although it may have been committed ends
// late rather than never.
func (s *Session) ended(changed, rolledBack bool) {
	w := &s.keep.writing
	if s.tx == wire.TxIdle && changed && !rolledBack && !cache.GuardUnsent.Off() && w.of != nil && w.write.Any() && !w.write.Claimed() {
		w.of.Cache.Claim(&w.write)
	}
	s.changed(changed)
}

// changed lets go of what was claimed: the turn is over, or a transaction. changed is false where it is certain that
// nothing was.
func (s *Session) changed(changed bool) {
	w := &s.keep.writing
	if !w.write.Any() {
		w.part = ""
		return
	}
	if s.keep.defines && changed && (s.tx == wire.TxIdle || w.write.Claimed()) {
		s.db.OnDDL() // first: what it has made in the catalog, by code that nobody has read, is known to those that come behind it
	}
	s.keep.defines = s.keep.defines && s.tx != wire.TxIdle
	switch {
	case w.part != "" && !cache.GuardPrepared.Off():
		w.of.Doubt(w.write.Take(), s.pool.Key().Server, 0, w.part)
		w.part = ""
	case s.tx == wire.TxIdle:
		w.of.Cache.End(&w.write, changed)
	case w.write.Claimed():
		w.of.Cache.Release(&w.write)
	}
}

// Settled reports whether what the session did at the time since, of the sessions' clock, is over. Safe for concurrent use.
func (s *Session) Settled(since int64) bool {
	began := s.txSince.Load() // 0 in a transaction that no server has seen
	state := State(s.state.Load())
	return state == StateIdle || state == StateIdleTx && began == 0 || began > since
}

// failedWhole reports whether the turn that has just been answered was one transaction, and failed.
func (s *Session) failedWhole() bool {
	return s.relay.errors > 0 && s.ends() == 1 && !s.keep.write.All() && !slices.ContainsFunc(s.items, func(it item) bool {
		st := it.facts()
		if st == nil { // a name on a connection that is the session's own may mean COMMIT
			return s.raw && it.typ == wire.MsgBind
		}
		return st.Effects&parser.TransactionControl != 0
	})
}

// changedFor is changed where c is given up: by a client that has left, or because it cannot be used.
func (s *Session) changedFor(c *backend.Conn) {
	if c.Spoiled() != "" {
		s.doubts(c)
		return
	}
	s.changed(true)
}

// doubts has somebody find out what became of the transaction, whose connection is lost. Until then what it may have
// changed is neither served nor kept.
func (s *Session) doubts(c *backend.Conn) {
	w := &s.keep.writing
	s.keep.defines = false
	switch {
	case !w.write.Claimed():
		w.write = cache.Write{} // no server was told to commit it
	case cache.GuardDoubt.Off():
		w.forget()
	default:
		w.of.Doubt(w.write.Take(), s.pool.Key().Server, c.PID(), w.part)
	}
	w.part = ""
}
