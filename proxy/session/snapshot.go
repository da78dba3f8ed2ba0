package session

import (
	"pgtier/proxy/wire"
	"pgtier/router/plan"
)

// A transaction of REPEATABLE READ or SERIALIZABLE sees its shard as of its first statement. A bucket that has moved there since is not in that
// snapshot, or as the mover had brought it until then, and one that has moved away is elsewhere: such a transaction is told to begin again (40001)
// when it comes to rows of that bucket. What is known of a snapshot is the layout that was in force before it can have been taken (sinceLayout).

// surveySnapshot notes that no snapshot of the transaction under way can be older than l, where none has been taken yet.
func (s *Session) surveySnapshot(l *Layout) {
	if s.between() || s.opening != nil {
		s.sinceLayout = l
	}
}

// renewSnapshot is surveySnapshot for a transaction over several shards.
func (x *wide) renewSnapshot() {
	for _, b := range x.branches {
		if b.tx != wire.TxIdle {
			return
		}
	}
	x.s.sinceLayout = x.l
}

// chainsFrom notes that the requests, planned by l, end a transaction and begin another.
func (s *Session) chainsFrom(l *Layout, v *survey) {
	binds, runs := 0, 0
	for i := range s.items {
		switch s.items[i].typ {
		case wire.MsgBind:
			binds++
		case wire.MsgExecute:
			runs++
		}
	}
	for _, r := range v.ran {
		for i := range r.st.Commands {
			if r.st.Commands[i].Chain && runs >= binds { // what is only bound ends nothing
				s.sinceLayout = l
			}
		}
	}
}

// aged reports whether a statement may touch rows of buckets that have changed owner since the transaction under way may have taken its snapshot.
func (s *Session) aged(l *Layout, p *plan.Plan) bool {
	return s.sinceLayout != nil && s.sinceLayout != l && l.Schema.Regiven(s.sinceLayout.Schema, &p.Touches)
}

// strictSnapshot asks the session's server whether the transaction under way keeps one snapshot. It takes none by that. Where the server does not
// answer, the turn finds out why.
func (s *Session) strictSnapshot() bool {
	level := ""
	err := s.server.Exec(wire.AppendQuery(nil, showLevel), readBackTimeout, func(f wire.Frame) {
		if f.Type != wire.MsgDataRow {
			return
		}
		if fields, err := wire.RowFields(f.Body()); err == nil && len(fields) == 1 {
			level = string(fields[0])
		}
	})
	return err == nil && !together(level)
}

// agedWide is aged for a statement over several shards, or for one of a transaction that may go on to more: a refusal where its snapshot is
// too old.
func (x *wide) agedWide(p *plan.Plan) (refusal *wire.Error, err error) {
	if !x.s.aged(x.l, p) {
		return nil, nil
	}
	if err := x.askLevels(nil); err != nil {
		return nil, err
	}
	for _, b := range x.branches {
		if b.tells {
			b.tells = false
			if err := b.rows(x.s, b.takeLevel); err != nil {
				return nil, err
			}
		}
		if b.tx != wire.TxIdle && (b.level == "" || !together(b.level)) {
			return movedBefore(), nil
		}
	}
	return nil, nil
}

// importedSnapshot refuses another transaction's snapshot where buckets may have moved since it was taken, which nobody knows. Before the second map none
// has, and those that move after the import are older than sinceLayout as with any snapshot.
func importedSnapshot() *wire.Error {
	return &wire.Error{Code: wire.CodeFeatureNotSupported, Message: "SET TRANSACTION SNAPSHOT is not supported once buckets have moved between shards",
		Detail: "Rows that have come to a shard since the snapshot was taken would be missing from it.", Hint: "Connect to the shard's own server to share a snapshot."}
}

// movedBefore is movedAway where no fence has said so, and nothing can be sent again.
func movedBefore() *wire.Error {
	e := movedAway()
	e.Cause = nil
	return e
}

// tooStrict refuses a transaction that has asked for more than several shards give together. One that has come to a second shard because buckets
// have moved since it began may succeed when it begins again.
func (x *wide) tooStrict(level string) *wire.Error {
	if x.s.aged(x.l, &plan.Plan{Touches: plan.Touches{Reach: plan.AnyBucket}}) {
		return movedBefore()
	}
	return strictLevel(level)
}
