package session

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"pgtier/proxy/backend"
	"pgtier/proxy/cache"
	"pgtier/proxy/wire"
	"pgtier/router"
)

// wide is what a session does on several shards: a transaction, or the statements up to a Sync. The session itself holds
// no server connection meanwhile; the branches do. It belongs to the session's goroutine.
type wide struct {
	s        *Session
	cluster  *Cluster
	l        *Layout
	branches []*branch // in the order in which they joined

	explicit bool   // inside a transaction block, as the client knows it
	begin    string // what began it
	failed   bool   // the transaction has failed: everything but its end is refused
	open     bool   // messages of the extended protocol since the last Sync
	skipping bool   // one of them failed: what comes up to the Sync is ignored
	single   bool   // the request is one statement, and none came ahead of it: it needs no transaction on the servers if it only reads
	told     bool   // the client has been sent a part of the statement's answer
	sent     bool   // the client has been sent something
	away     bool   // no server of a shard could be asked, which is not what a server has said
	unread   bool   // nobody knows what a transaction that is committed has changed of the session
	portals  map[string]*portal
	held     int            // bytes of the messages in portals
	waiting  *portal        // a Describe of it is to be answered; the Execute that comes next may do that
	fresh    []string       // names of statements prepared since the last Sync, of which no shard has heard
	cursors  map[string]int // the shards of cursors made on several shards
	copying  *copyIn        // a COPY FROM STDIN that takes rows
	out      []byte         // for the client
	owed     int            // ReadyForQuery that the requests under way still bring
	tagged   int            // where the last CommandComplete begins in out
	managers bool           // replicas have refused the statement
	looked   *Layout        // by which the answer of the requests was looked for in the cache; nil: it was not
	shown    []cache.ShownBy
}

// portal is a Bind that was not executed yet.
type portal struct {
	st    *backend.Statement
	frame []byte // the Bind
	b     bound
	wants bool // a Describe waits for the Execute that answers it
}

// goWide makes what follows the business of several shards. What the session has begun on one is taken along.
func (s *Session) goWide(cluster *Cluster, l *Layout) *wide {
	x := &wide{s: s, cluster: cluster, l: l}
	if s.server == nil { // what it tells is of a transaction that is over
		s.story.clear()
	}
	switch {
	case s.opening != nil:
		text, _ := queryText(s.opening)
		x.explicit, x.begin = true, string(text)
		s.opening = nil
	case s.openingFailed:
		x.explicit, x.begin, x.failed = true, beginText(&s.openingAs), true
		s.openingFailed = false
	case s.server != nil:
		if s.story.begin == "" { // by a text that nobody has noted
			s.story.wrote, s.story.untold = true, "It began before the database was sharded."
		}
		x.explicit, x.begin, x.failed = true, s.story.begin, s.tx == wire.TxFailed
		b := s.suspend(l.index(s.at))
		b.wrote = s.story.wrote
		x.branches = append(x.branches, b)
	}
	s.story.inside, s.story.failed = x.explicit, false
	s.wide = x
	s.wideRests()
	return x
}

// wideRests makes the session's own state say what the client knows of the transaction.
func (s *Session) wideRests() {
	x := s.wide
	switch {
	case x.explicit && x.failed:
		s.tx = wire.TxFailed
	case x.explicit:
		s.tx = wire.TxActive
	default:
		s.tx = wire.TxIdle
	}
}

// serveWide answers the requests on several shards. false ends the session.
func (s *Session) serveWide(x *wide, req []byte) bool {
	began := s.enter(StateActive)
	s.harmless, s.effects, s.restores = nil, 0, false
	x.single, x.owed, x.managers = s.statements() == 1 && !x.hasBegun(), s.ends(), false
	s.identify(req) // so that reads are known, and may go to replicas
	for i := range s.items {
		it := &s.items[i]
		frame := req[it.off : it.off+it.size]
		var err error
		if x.copying != nil { // what came along with its query
			if it.end {
				x.owed--
			}
			_, err = x.copyMessage(frame)
		} else {
			err = x.message(it, frame)
		}
		if err != nil {
			return x.lost(err)
		}
	}
	if x.open && x.copying == nil {
		if err := x.idle(); err != nil {
			return x.lost(err)
		}
	}
	if x.copying != nil {
		ok := s.send(x.out)
		x.out = nil
		return ok && s.checkKilled() == nil
	}
	ok := s.endWide(x)
	s.account(began, s.ends())
	return ok
}

// endWide sends what is left of an answer, and lets go of the shards where nothing is under way. false ends the session.
func (s *Session) endWide(x *wide) bool {
	if !x.explicit && !x.open {
		s.wide = nil
		s.txn.clear() // of what has joined no shard
	}
	if s.wide != nil || !x.lastAnswer() {
		x.gathers()
		x.keepAnswer()
	}
	ok := s.send(x.out)
	x.out = nil
	s.rest()
	if s.wide == nil {
		s.deliver()
	}
	return ok && s.checkKilled() == nil
}

// serveAhead answers messages that come without their Sync, where the shard is not known that the rest will go to. They
// are served as if a Flush stood behind each.
func (s *Session) serveAhead(cluster *Cluster) bool {
	x := s.wide
	if x == nil {
		s.underway.at.Store(nil)
		s.rowless = false
		l, err := cluster.Layout()
		if err != nil {
			return s.fatal(asError(err))
		}
		x = s.goWide(cluster, l)
	}
	if len(s.items) == 0 { // the beginning of rows that no COPY waits for
		return s.refuse("unexpected message during a query over shards") == gatherServe
	}
	last := s.items[len(s.items)-1]
	n := last.off + last.size
	ok := s.serveWide(x, s.in.Bytes()[:n])
	s.in.Skip(n)
	return ok
}

// idle gives the branches back between messages if nothing holds them: none has begun a transaction, and no portal and no
// error waits for a Sync.
func (x *wide) idle() error {
	if x.explicit || x.skipping || x.failed || len(x.portals) > 0 {
		return nil
	}
	if x.hasBegun() {
		return nil
	}
	x.open = false
	if len(x.branches) == 0 {
		return nil
	}
	return x.release()
}

// hasBegun reports whether a branch is in a transaction: that of a block, or of what came of the request before.
func (x *wide) hasBegun() bool {
	return slices.ContainsFunc(x.branches, func(b *branch) bool { return b.tx != wire.TxIdle })
}

// statements is the number of statements that the requests under way run.
func (s *Session) statements() (n int) {
	for i := range s.items {
		if t := s.items[i].typ; t == wire.MsgQuery || t == wire.MsgExecute || t == wire.MsgFunction {
			n++
		}
	}
	return n
}

// message serves one message. An error ends the session.
func (x *wide) message(it *item, frame []byte) error {
	if x.skipping && it.typ != wire.MsgSync {
		return nil
	}
	x.open = true
	refusal, err := x.describeWaiting(it, frame)
	if refusal == nil && err == nil {
		switch it.typ {
		case wire.MsgQuery:
			return x.query(it, frame)
		case wire.MsgFunction:
			x.refuse(notWide("a function call by the protocol", "Use SELECT."))
			return x.sync()
		case wire.MsgSync:
			return x.sync()
		}
		refusal, err = x.extended(it, frame)
	}
	if err != nil || refusal == nil {
		return err
	}
	x.refuse(refusal)
	x.skipping = true
	if it.typ == wire.MsgSync {
		return x.sync()
	}
	return nil
}

// query serves a simple query.
func (x *wide) query(it *item, frame []byte) error {
	x.s.setUnnamed(nil)
	x.tagged = len(x.out)
	var refusal *wire.Error
	var err error
	text, ok := queryText(frame)
	switch {
	case !ok:
		refusal = wire.NewError(wire.CodeProtocolViolation, "invalid Query message", "")
	case len(it.st.Commands) == 0 && !it.st.Unparsed:
		x.out = wire.AppendEmpty(x.out, wire.MsgEmptyQueryResponse)
	default:
		refusal, err = x.statement(&job{st: it.st, text: text, head: noParams, describe: true})
	}
	if err != nil || x.copying != nil {
		return err
	}
	if refusal != nil {
		x.refuse(refusal)
	}
	return x.endQuery()
}

// endQuery ends a simple query: its CommandComplete tells that it is committed, so that an error takes its place.
func (x *wide) endQuery() error {
	refusal, err := x.finishRequest()
	if refusal != nil || err != nil {
		x.out = x.out[:min(x.tagged, len(x.out))]
	}
	return x.ready(refusal, err)
}

// refuse tells the client of an error, which fails the transaction block it is in.
func (x *wide) refuse(e *wire.Error) {
	plain := *e
	plain.Severity = ""
	x.out = plain.Append(x.out)
	x.failed = true
}

// sync ends a request of the extended protocol.
func (x *wide) sync() error { return x.ready(x.finishRequest()) }

// finishRequest commits what is not in a transaction block, or rolls it back after an error. A refusal is for the client.
func (x *wide) finishRequest() (refusal *wire.Error, err error) {
	x.open, x.skipping, x.waiting = false, false, nil
	x.fresh = x.fresh[:0]
	if x.explicit {
		return nil, nil
	}
	x.dropPortals()
	if x.failed {
		err = x.rollback()
	} else {
		refusal, err = x.commit()
	}
	x.failed = false
	return refusal, err
}

// ready tells the client that a request is answered, behind the error that it has ended in.
func (x *wide) ready(refusal *wire.Error, err error) error {
	if err != nil {
		return err
	}
	if refusal != nil {
		x.out = refusal.Append(x.out)
	}
	x.tellParams()
	x.s.wideRests()
	x.out = wire.AppendReady(x.out, x.s.tx)
	x.owed--
	return nil
}

// tellParams tells the client what the server that answers for all reports otherwise than it was told last.
func (x *wide) tellParams() {
	for _, b := range x.branches {
		if b.c.Spoiled() == "" {
			x.s.tellParams(b.c, x.write)
			return
		}
	}
}

// write adds to what the client is sent.
func (x *wide) write(b []byte) bool {
	x.out = append(x.out, b...)
	return true
}

// flush sends the client what there is, if it is much.
func (x *wide) flush() error {
	if len(x.out) < wire.SmallBuffer {
		return nil
	}
	x.told, x.sent = true, true
	x.gathers()
	ok := x.s.send(x.out)
	x.out, x.tagged = x.out[:0], 0
	if !ok {
		return errClientGone
	}
	return nil
}

// errClientGone ends what is done for a client that does not take its answer.
var errClientGone = errors.New("client left")

// branch is that of a shard, joining it if it takes no part yet. begins: inside the transaction. A refusal is for the client.
func (x *wide) branch(index int, begins bool) (*branch, error) {
	for _, b := range x.branches {
		if b.index == index && (!begins || b.tx != wire.TxIdle) {
			return b, nil
		}
		if b.index == index && b.replica == "" { // it has only been asked so far
			return b, x.join(b)
		}
	}
	x.letGo(index)
	if err := x.l.Fault(index); err != nil {
		return nil, err
	}
	s := x.s
	s.moveTo(x.l.Shards[index])
	if begins {
		s.other(router.InTransaction, "in a transaction over several shards")
	} else if x.managers {
		s.other(router.SentAgain, "a replica could not serve it")
	} else if e := s.aimTurn(""); e != nil {
		return nil, e
	}
	s.tx = wire.TxIdle
	c, replay, err := s.lease()
	if s.keep.fill != nil && !s.provesFill(s.replica, s.keep.replayed) {
		s.dropFill()
	}
	if err == nil {
		if err = s.replayNow(c, &replay); err != nil {
			s.returnUnused()
		}
	}
	if err != nil {
		s.wideRests()
		e := asError(err)
		x.away = x.away || away(e)
		return nil, e
	}
	before := s.route
	s.tells = false
	s.routed()
	if !x.managers {
		s.route.beside(before)
	}
	b := s.suspend(index)
	b.writing.of = b.db.Keeper.Load() // it has done nothing yet
	s.wideRests()
	x.branches = append(x.branches, b)
	if begins {
		if err := x.join(b); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// letGo gives back the branch of a shard that is in no transaction, if there is one.
func (x *wide) letGo(index int) {
	at := slices.IndexFunc(x.branches, func(b *branch) bool { return b.index == index })
	if at < 0 {
		return
	}
	s, b := x.s, x.branches[at]
	x.branches = slices.Delete(x.branches, at, at+1)
	s.resume(b)
	s.seeing(&written{})
	s.changedFor(b.c)
	s.release(b.c)
	s.wideRests()
}

// join brings a branch into the transaction: begins it there, and repeats what has changed settings and made savepoints. One
// that cannot be brought in takes no part.
func (x *wide) join(b *branch) error {
	if why := x.s.story.untold; why != "" {
		x.letGo(b.index)
		return &wire.Error{Code: wire.CodeFeatureNotSupported, Message: "the transaction cannot go on to another shard",
			Detail: why, Hint: "Run the first statement for each shard before that."}
	}
	if err := x.askLevels(b); err != nil {
		return err
	}
	texts := []string{cmp.Or(x.begin, "BEGIN")}
	for _, t := range x.s.story.told {
		texts = append(texts, t.text)
	}
	texts[len(texts)-1] += "\n; " + showLevel
	var err error
	for i := 0; i < len(texts) && err == nil; i++ {
		err = b.query(x.s, texts[i], b.takeLevel)
	}
	refusal, lost := x.agreeInLevel()
	switch {
	case lost != nil:
		return lost
	case err == nil && refusal != nil:
		err = refusal
	}
	if err == nil || b.c.Spoiled() != "" {
		return err
	}
	if b.tx != wire.TxIdle {
		if lost := b.exec(x.s, wire.AppendQuery(nil, "ROLLBACK")); lost != nil {
			return lost
		}
	}
	x.letGo(b.index)
	return err
}

// lost ends what is under way because a server was lost, the client is gone or the session is to end. It returns whether
// the session goes on.
func (x *wide) lost(err error) bool {
	s := x.s
	explicit, changes := x.explicit, s.txn.ofSession()
	x.close()
	s.wide = nil
	s.logLost(err)
	var stated *wire.Error
	errors.As(err, &stated)
	s.mu.Lock()
	if stated != nil && stated.Code == codeFateUnknown && s.killed != nil && s.killed.Code == wire.CodeConnectionFailure {
		s.killed = stated // nobody knows whether it was committed
	}
	s.mu.Unlock()
	switch {
	case errors.Is(err, errClientGone):
		s.leaving = true
		return false
	case s.checkKilled() != nil:
		return false
	case stated == nil:
		stated = &wire.Error{Code: wire.CodeConnectionFailure, Message: lostMessage, Cause: err}
	}
	plain := *stated
	plain.Severity, plain.Sent = "", nil
	if explicit && plain.Code != codeFateUnknown || x.unread || changes && plain.Code == codeFateUnknown {
		return s.send(x.out) && s.fatal(&plain)
	}
	s.tx, x.away = wire.TxIdle, x.away || away(&plain)
	if x.owed > 0 && x.lastAnswer() {
		s.rest()
		return s.send(x.out)
	}
	out := plain.Append(x.out)
	for i := range x.owed {
		if i > 0 { // nothing of it was done
			out = plain.Append(out)
		}
		out = wire.AppendReady(out, wire.TxIdle)
	}
	if x.owed <= 0 { // its Sync is still to come
		s.wide = &wide{s: s, cluster: x.cluster, l: x.l, open: true, skipping: true, failed: true}
	}
	s.rest()
	return s.send(out)
}

// close gives up all branches: rolled back and reused where that is certain, closed where it is not.
func (x *wide) close() {
	s := x.s
	changed, wrote := !s.txn.empty(), s.txn.wrote
	for _, b := range slices.Clone(x.branches) {
		if changed && b.tx == wire.TxIdle {
			b.c.Spoil("committed settings that were not read back")
		}
		if b.alone {
			b.c.Spoil("has left the session's role")
		}
		if b.busy {
			b.c.Spoil("left in the middle of a statement")
			x.stop(b)
		}
		b.in.Drop()
		s.resume(b)
		seen := written{}
		if b.wrote { // and it may be committed
			seen = wrote
			seen.any = true
		}
		s.seeing(&seen)
		s.dropServer()
	}
	x.branches = nil
	s.tx = wire.TxIdle
	s.drops()
	s.story.clear()
}

// stop cancels what a branch's server is doing.
func (x *wide) stop(b *branch) {
	ctx, done := context.WithTimeout(context.Background(), x.s.cancelWait())
	defer done()
	b.c.BeginCancel()
	_ = b.c.Cancel(ctx)
}

// stopOthers ends the answers under way of all branches, because one of them has failed.
func (x *wide) stopOthers() error {
	for _, b := range x.branches {
		if !b.busy {
			continue
		}
		x.stop(b)
		if err := b.drain(x.s); err != nil {
			return err
		}
	}
	return nil
}
