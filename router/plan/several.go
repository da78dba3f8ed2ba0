package plan

import (
	"bytes"

	"pgtier/parser"
)

// several plans a text of more than one statement: all of them must go to the same shard.
func (p *Statement) several(st *parser.Statement, sql []byte, changed bool) {
	pieces := pieces(sql)
	if len(pieces) != len(st.Commands) {
		p.refuse(refuse("text of several statements that cannot be told apart", hintSplit))
		return
	}
	p.textual, p.clean = true, true
	p.kind, p.reason = Session, "transaction control and settings"
	for i := range st.Commands {
		one := &Statement{schema: p.schema, textual: true, byItself: One}
		w := work{schema: p.schema, st: st, sql: pieces[i], command: &st.Commands[i], changed: changed, Statement: one}
		w.plan()
		p.join(one)
		if p.refusal != nil {
			return
		}
	}
	if p.kind == Everywhere && (p.mixed || p.empties) {
		p.refuse(refuse("several statements in one text that do not all go to one shard", hintSplit))
	}
}

// join adds one of several statements.
func (p *Statement) join(one *Statement) {
	if p.homeTable == "" {
		p.homeTable = one.homeTable
	}
	p.advances = p.advances || one.advances
	p.clean = p.clean && (one.clean || one.kind == Session)
	p.whole = "several statements in one text over rows of several buckets"
	p.empties = p.empties || one.empties
	split := refuse("several statements in one text that do not all go to one shard", hintSplit)
	switch {
	case one.refusal != nil:
		p.refusal, p.hinted, p.copies = one.refusal, one.hinted, p.copies || one.copies
		return
	case one.kind == Session:
		p.mixed = true
		return
	case one.kind == Everywhere && !one.outside && (p.kind == Everywhere || p.kind == Session && !p.mixed):
		p.onlyCopies = one.onlyCopies && (p.kind == Session || p.onlyCopies)
		p.kind, p.reason, p.write, p.copies = Everywhere, one.reason, p.write || one.write, p.copies || one.copies
		for _, l := range one.locks {
			p.locks = addLock(p.locks, l)
		}
		return
	case p.kind == Everywhere, one.kind != One && one.kind != Any || one.insert != nil && !one.insert.whole:
		p.refuse(split)
		return
	}
	if one.kind == One || p.kind == Session {
		p.reason = one.reason
	}
	if one.kind == One || p.kind != One {
		p.kind = one.kind
	}
	p.pins = mergePins(p.pins, one.pins)
	p.checks = append(p.checks, one.checks...)
	p.inserts = p.inserts || one.inserts
	p.home = p.home || one.home
	p.write = p.write || one.write
	if p.loose == "" {
		p.loose = one.loose
	}
	if p.keyed == nil {
		p.keyed = one.keyed
	}
	p.narrow = split
}

// mergePins adds the pins that are not there yet.
func mergePins(list, more []pin) []pin {
	for _, p := range more {
		if !containsPin(list, p) {
			list = append(list, p)
		}
	}
	return list
}

func containsPin(list []pin, p pin) bool {
	for i := range list {
		if list[i].equal(&p) {
			return true
		}
	}
	return false
}

// pieces are the statements of a text, cut at its semicolons; those that are empty are left out.
func pieces(sql []byte) (out [][]byte) {
	start := 0
	cut := func(end int) {
		piece := sql[start:end]
		if len(parser.Tokens(piece, nil)) > 0 {
			out = append(out, piece)
		}
	}
	for _, t := range parser.Tokens(sql, nil) {
		if bytes.Equal(sql[t.Start:t.End], []byte(";")) {
			cut(t.Start)
			start = t.End
		}
	}
	cut(len(sql))
	return out
}
