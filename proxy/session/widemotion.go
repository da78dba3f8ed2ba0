package session

import (
	"errors"
	"slices"

	"pgtier/proxy/wire"
	"pgtier/router/catalog"
	"pgtier/router/plan"
)

// errStale is the cause of the refusal of a statement whose plan has been overtaken before anything of it was sent; no client hears it.
var errStale = errors.New("the layout has changed")

// errFenced is the cause of what clients are told where the servers' fence refuses a statement.
var errFenced = errors.New("refused by the fence")

// renew puts the layout in force in the place of an outdated one. Shards that take part keep their connections, but for those to replicas outside transactions:
// these are chosen again.
func (x *wide) renew() *wire.Error {
	if !x.l.outdated() {
		return nil
	}
	now, err := x.cluster.Layout()
	if err != nil {
		return asError(err)
	}
	if now == x.l {
		return nil
	}
	for _, b := range x.branches {
		if now.index(b.db) < 0 {
			return &wire.Error{Code: wire.CodeFeatureNotSupported, Message: "the shard of the transaction is not in the configuration any more", Hint: "COMMIT or ROLLBACK, and begin again."}
		}
	}
	for _, b := range x.branches {
		b.index = now.index(b.db)
	}
	for name, at := range x.cursors {
		x.cursors[name] = now.index(x.l.Shards[at])
	}
	x.l = now
	for _, b := range slices.Clone(x.branches) {
		if b.replica != "" && b.tx == wire.TxIdle { // it may not have the rows that its shard has won
			x.letGo(b.index)
		}
	}
	return nil
}

// stale reports whether what was planned has been overtaken while it waited for server connections. It is planned again then.
func (x *wide) stale() bool {
	if !x.l.outdated() {
		return false
	}
	now, err := x.cluster.Layout()
	return err != nil || now.Schema != x.l.Schema || now.Holds
}

// begins reports whether the statement to come is the whole of its transaction so far, so that it may be sent again when it has been undone.
func (x *wide) begins() bool {
	if !x.explicit {
		return x.single
	}
	return len(x.branches) == 0 && len(x.s.story.told) == 0 && x.s.story.untold == ""
}

// plan plans a statement by the layout in force, waiting while it is held. A refusal is for the client.
func (x *wide) plan(j *job, h *holding) (refusal *wire.Error, err error) {
	s := x.s
	if s.between() && len(x.branches) == 0 {
		s.trail.clear()
	}
	for {
		if refusal = x.renew(); refusal == nil {
			x.renewSnapshot()
			refusal = x.l.frozen(j.st)
		}
		if refusal != nil {
			return refusal, nil
		}
		j.plan = s.planOf(x.l, j.st, j.text, &plan.Values{SQL: j.text, Params: j.params, Known: true})
		if !x.l.holds(&j.plan) || s.trail.meets(x.l) {
			break
		}
		if !x.explicit && x.single && len(x.branches) > 0 { // connections that others may use meanwhile
			if err := x.rollback(); err != nil {
				return nil, err
			}
		}
		if refusal = h.wait(x.l); refusal != nil {
			return x.ends(refusal)
		}
		s.enter(StateActive)
	}
	if refusal, err = x.agedWide(&j.plan); refusal != nil || err != nil {
		return refusal, err
	}
	for _, index := range x.shards(j) {
		if err := x.l.Fault(index); err != nil {
			return asError(err), nil
		}
	}
	if j.plan.Write || s.db.Hazards.Reading(j.st).Verdict != catalog.Read {
		s.noteTrail(&s.trail, j.st, &j.plan)
	}
	return nil, nil
}

// fenced undoes a statement that the servers' fence has refused, and waits for a layout by which it may be planned again. why is what the client hears where none comes.
func (x *wide) fenced(h *holding, why *wire.Error) (refusal *wire.Error, err error) {
	x.s.db.Stats.Fenced.Add(1)
	begin := x.begin
	if err := x.stopOthers(); err != nil {
		return nil, err
	}
	if err := x.rollback(); err != nil {
		return nil, err
	}
	x.begin, h.fence = begin, why
	if refusal = h.newer(x.l); refusal != nil {
		return x.ends(refusal)
	}
	x.s.enter(StateActive)
	return nil, nil
}

// ends tells what has ended a wait from what ends the session.
func (x *wide) ends(refusal *wire.Error) (*wire.Error, error) {
	if x.s.killedNow() {
		return nil, errSessionEnds
	}
	return refusal, nil
}

// endHold accounts for a wait, if there was one. The session goes on with what it does.
func (x *wide) endHold(h *holding) {
	if h.began != 0 {
		h.end()
		x.s.enter(StateActive)
	}
}
