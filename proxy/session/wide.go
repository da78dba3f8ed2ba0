package session

import (
	"context"
	"errors"
	"slices"

	"pgtier/parser"
	"pgtier/proxy/backend"
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
	single   bool   // the request is one statement: it needs no transaction on the servers if it only reads
	told     bool   // the client has been sent a part of the statement's answer
	portals  map[string]*portal
	cursors  map[string]int // the shards of cursors made on several shards
	copying  *copyIn        // a COPY FROM STDIN that takes rows
	out      []byte         // for the client
}

// portal is a Bind that was not executed yet.
type portal struct {
	st      *backend.Statement
	text    []byte
	facts   *parser.Statement
	frame   []byte // the Bind
	b       bound
	wants   bool // a Describe waits for the Execute that answers it
	sources int
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
	case s.server != nil:
		x.explicit, x.begin, x.failed = true, s.story.begin, s.tx == wire.TxFailed
		b := s.suspend(l.index(s.at))
		b.wrote = s.story.wrote
		x.branches = append(x.branches, b)
	}
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
	x.single = s.statements() == 1
	ends := 0
	for i := range s.items {
		it := &s.items[i]
		if it.end {
			ends++
		}
		if err := x.message(it, req[it.off:it.off+it.size]); err != nil {
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
	s.account(began, ends)
	return s.endWide(x)
}

// endWide sends what is left of an answer, and lets go of the shards where nothing is under way. false ends the session.
func (s *Session) endWide(x *wide) bool {
	if !x.explicit && !x.open {
		s.wide = nil
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
		l, err := cluster.Layout()
		if err != nil {
			return s.fatal(asError(err))
		}
		x = s.goWide(cluster, l)
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
	for _, b := range x.branches {
		if b.tx != wire.TxIdle {
			return nil
		}
	}
	x.open = false
	if len(x.branches) == 0 {
		return nil
	}
	return x.release()
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
	switch it.typ {
	case wire.MsgQuery:
		return x.query(it, frame)
	case wire.MsgSync:
		return x.sync()
	}
	refusal, err := x.extended(it, frame)
	if err == nil && refusal != nil {
		err = x.refuse(refusal)
		x.skipping = true
	}
	return err
}

// query serves a simple query.
func (x *wide) query(it *item, frame []byte) error {
	x.s.setUnnamed(nil)
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
	if err == nil && refusal != nil {
		err = x.refuse(refusal)
	}
	if err != nil || x.copying != nil {
		return err
	}
	return x.sync()
}

// refuse tells the client of an error, which fails the transaction block it is in.
func (x *wide) refuse(e *wire.Error) error {
	plain := *e
	plain.Severity = ""
	x.out = plain.Append(x.out)
	x.failed = true
	return nil
}

// sync ends a request: what is not in a transaction block is committed, or rolled back after an error.
func (x *wide) sync() error {
	x.open, x.skipping = false, false
	clear(x.portals)
	var err error
	if !x.explicit {
		if x.failed {
			err = x.rollback()
		} else if refusal, lost := x.commit(); lost != nil {
			err = lost
		} else if refusal != nil {
			x.out = refusal.Append(x.out)
		}
		x.failed = false
	}
	x.s.wideRests()
	x.out = wire.AppendReady(x.out, x.s.tx)
	return err
}

// flush sends the client what there is, if it is much.
func (x *wide) flush() error {
	if len(x.out) < wire.SmallBuffer {
		return nil
	}
	x.told = true
	ok := x.s.send(x.out)
	x.out = x.out[:0]
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
		if b.index == index {
			return b, nil
		}
	}
	if err := x.l.Fault(index); err != nil {
		return nil, err
	}
	s := x.s
	s.moveTo(x.l.Shards[index])
	if begins {
		s.other(router.InTransaction, "in a transaction over several shards")
	} else if e := s.aimTurn(""); e != nil {
		return nil, e
	}
	s.tx = wire.TxIdle
	c, replay, err := s.lease()
	if err == nil {
		if err = s.replayNow(c, &replay); err != nil {
			s.dropServer()
		}
	}
	if err != nil {
		s.wideRests()
		return nil, asError(err)
	}
	b := s.suspend(index)
	s.wideRests()
	x.branches = append(x.branches, b)
	if begins {
		if err := x.join(b); err != nil {
			return nil, err
		}
	}
	return b, nil
}

// join brings a branch into the transaction: begins it there, and repeats what has changed settings and made savepoints.
func (x *wide) join(b *branch) error {
	begin := x.begin
	if begin == "" {
		begin = "BEGIN"
	}
	if err := b.exec(x.s, wire.AppendQuery(nil, begin)); err != nil {
		return err
	}
	if why := x.s.story.untold; why != "" {
		return &wire.Error{Code: wire.CodeFeatureNotSupported, Message: "the transaction cannot go on to another shard",
			Detail: why, Hint: "Run the first statement for each shard before that."}
	}
	for _, text := range x.s.story.told {
		if err := b.exec(x.s, wire.AppendQuery(nil, text)); err != nil && b.c.Spoiled() != "" {
			return err
		}
	}
	return nil
}

// lost ends what is under way because a server was lost, the client is gone or the session is to end. It returns whether
// the session goes on.
func (x *wide) lost(err error) bool {
	s := x.s
	explicit := x.explicit
	told := x.told
	x.close()
	s.wide = nil
	s.logLost(err)
	var stated *wire.Error
	switch {
	case errors.Is(err, errClientGone):
		s.leaving = true
		return false
	case s.checkKilled() != nil:
		return false
	case !errors.As(err, &stated):
		stated = &wire.Error{Code: wire.CodeConnectionFailure, Message: lostMessage, Cause: err}
	}
	if told || explicit && stated.Code != codeFateUnknown || len(x.out) > 0 && x.out[0] == wire.MsgDataRow {
		return s.fatal(stated)
	}
	plain := *stated
	plain.Severity = ""
	s.tx = wire.TxIdle
	out := plain.Append(nil)
	for range max(1, s.ends()) {
		out = wire.AppendReady(out, wire.TxIdle)
	}
	s.rest()
	return s.send(out)
}

// close gives up all branches: rolled back and reused where that is certain, closed where it is not.
func (x *wide) close() {
	s := x.s
	for _, b := range slices.Clone(x.branches) {
		if b.busy {
			b.c.Spoil("left in the middle of a statement")
			x.stop(b)
		}
		b.in.Drop()
		s.resume(b)
		s.dropServer()
	}
	x.branches = nil
	s.tx = wire.TxIdle
	s.txn.clear()
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
