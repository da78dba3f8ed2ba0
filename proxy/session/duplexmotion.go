package session

import (
	"pgtier/parser"
	"pgtier/proxy/wire"
	"pgtier/router/plan"
)

// pumpHolds returns the layout by which a message of a duplex waits for a move of buckets, nil if it does not. mu is held.
func (s *Session) pumpHolds(d *duplex, it *item, frame []byte) *Layout {
	cluster := s.db.Cluster.Load()
	if cluster == nil || d.copying || d.skipping || s.tx == wire.TxFailed || it.typ != wire.MsgQuery && it.typ != wire.MsgBind && it.typ != wire.MsgFunction {
		return nil
	}
	l, err := cluster.Layout()
	if err != nil || !l.Holds || s.trail.meets(l) {
		return nil
	}
	v := survey{at: -1}
	switch st, values := s.pumped(it, frame); {
	case st != nil:
		s.surveyStatement(l, &v, st, values.SQL, values)
	case it.typ == wire.MsgFunction || s.raw:
		v.held = true // nobody knows what it touches
	}
	if !v.held || v.refusal != nil {
		return nil
	}
	return l
}

// pumped is the statement that a message runs and its values, nil if it is not known.
func (s *Session) pumped(it *item, frame []byte) (*parser.Statement, plan.Values) {
	if it.typ == wire.MsgQuery {
		text, ok := queryText(frame)
		if !ok {
			return nil, plan.Values{}
		}
		return s.facts(text), plan.Values{SQL: text, Known: true}
	}
	_, name, _, ok := splitBind(frame)
	if !ok {
		return nil, plan.Values{}
	}
	st := s.ownNamed(name)
	if st == nil {
		return nil, plan.Values{}
	}
	b, whole := splitBound(frame, st.Types, nil)
	if !whole {
		return nil, plan.Values{}
	}
	return st.Runs, plan.Values{SQL: st.Text, Params: b.params, Known: true}
}

// pumpWaits waits while the message at the head of the input is held. What the server answers to those before it travels meanwhile. false: the session
// ends, because in the middle of a request no answer can be put in the place of the server's.
func (s *Session) pumpWaits() bool {
	cluster := s.db.Cluster.Load()
	if cluster == nil {
		return true
	}
	h := holding{s: s, cluster: cluster}
	defer func() {
		if h.began != 0 {
			h.end()
			s.enter(StateActive)
		}
	}()
	for {
		d := s.dx
		d.mu.Lock()
		it, next := s.pumpNext(s.in.Bytes())
		var l *Layout
		if next == gatherServe && !d.done {
			l = s.pumpHolds(d, &it, s.in.Bytes()[:min(it.size, s.in.Len())])
		}
		d.mu.Unlock()
		if l == nil {
			return true
		}
		if e := h.wait(l); e != nil {
			e.Severity = "FATAL"
			s.Kill(e)
			return false
		}
	}
}
