package plan

import (
	"strings"

	"pgtier/parser"
)

// hidden judges what the statement touches without naming it: functions, triggers, policies, actions of foreign keys. It says whether it refused.
func (w *work) hidden() bool {
	if w.changed && w.unknownCalls() {
		return true
	}
	behind := w.schema.catalog.Behind(w.command)
	if behind.All {
		why := "function or trigger whose tables cannot be seen"
		if len(behind.Functions) > 0 {
			why += ": " + strings.Join(behind.Functions, ", ")
		}
		w.refuse(refuse(why, hintPin))
		return true
	}
	for _, name := range behind.Reads {
		if w.behindCode(name, behind.Functions, false) {
			return true
		}
	}
	for _, name := range behind.Writes {
		if w.behindCode(name, behind.Functions, true) {
			return true
		}
	}
	for _, t := range w.written() {
		for i := range t.columns {
			if name := t.keyColumn(i).Name; behind.TriggersName(name) {
				w.refuse(refuse("trigger that may change key column "+t.relation.Name+"."+name+": "+strings.Join(behind.Functions, ", "), hintPin))
				return true
			}
		}
	}
	named := w.named()
	for _, name := range behind.Related {
		if t := w.schema.byName(name); t != nil && !related(t, named) && w.behindTable(t, false) {
			return true
		}
	}
	for _, name := range behind.Changed {
		if t := w.schema.byName(name); t != nil && !related(t, w.written()) && !w.cascades(t) && w.behindTable(t, true) {
			return true
		}
	}
	w.functions = behind.Functions
	return false
}

// unknownCalls refuses functions that the catalog does not have, in a transaction that may just have made them.
func (w *work) unknownCalls() bool {
	for _, call := range w.tree.Calls {
		if _, known := w.schema.catalog.Function(call.Schema, call.Name, len(call.Args)); !known {
			w.refuse(refuse("function "+call.Name+"() is not in the catalog as it was last read", hintCommit))
			return true
		}
	}
	return false
}

// behindCode judges a table that functions may touch.
func (w *work) behindCode(name string, functions []string, written bool) bool {
	t := w.schema.byName(name)
	if t == nil || t.place == placeReference && !written {
		return false
	}
	if t.place == placeHome {
		w.home, w.homeBehind = true, true
		return false
	}
	w.refuse(refuse("function or trigger that touches table \""+t.name+"\": "+strings.Join(functions, ", "), hintPin))
	return true
}

// behindTable judges a table that comes with those of the text.
func (w *work) behindTable(t *table, written bool) bool {
	switch {
	case t.place == placeReference && !written:
		return false
	case t.place == placeHome:
		w.home, w.homeBehind = true, true
		return false
	}
	w.refuse(refuse("table \""+t.name+"\", which a view, rule, policy or foreign key touches", hintPin))
	return true
}

// named are the tables of the text, with those below its views.
func (w *work) named() (list []*table) {
	var add func(t *table)
	add = func(t *table) {
		for _, other := range list {
			if other == t {
				return
			}
		}
		list = append(list, t)
		if t.relation == nil {
			return
		}
		for _, r := range t.relation.Uses {
			if used := w.schema.byOID[r.OID]; used != nil {
				add(used)
			}
		}
	}
	for _, t := range w.tables() {
		add(t)
	}
	return list
}

// written are the tables that the text writes, with those below its views.
func (w *work) written() (list []*table) {
	for _, n := range w.bind.targets {
		list = append(list, n.table)
	}
	if len(list) == 0 { // COPY, TRUNCATE
		for _, t := range w.command.Tables {
			if t.Access&parser.Alters != 0 {
				list = append(list, w.schema.lookup(t.Schema, t.Name, w.changed))
			}
		}
	}
	for _, t := range list {
		if t.view {
			return w.named()
		}
	}
	return list
}

// related says whether a table is one of a list, a part of one, or has one as a part.
func related(t *table, list []*table) bool {
	for _, other := range list {
		if t == other || other.relation != nil && (partOf(t.relation, other.relation, 0) || partOf(other.relation, t.relation, 0)) {
			return true
		}
	}
	return false
}

// cascades says whether a table's rows change only with rows of the tables written that are where they are, along keys.
func (w *work) cascades(t *table) bool {
	reached := w.written()
	for i := 0; i < len(reached); i++ {
		if reached[i] == t {
			return true
		}
		for _, r := range reached[i].followers {
			if !containsTable(reached, r) {
				reached = append(reached, r)
			}
		}
	}
	return false
}

func containsTable(list []*table, t *table) bool {
	for _, other := range list {
		if other == t {
			return true
		}
	}
	return false
}
