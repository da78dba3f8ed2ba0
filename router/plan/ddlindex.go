package plan

import "slices"

// uniqueOutside refuses CREATE UNIQUE INDEX CONCURRENTLY of a sharded table without its key's columns. Other changes of the schema are looked at in their
// transaction, when they are made; this one has none, and would stay.
func (w *work) uniqueOutside(text *words) *Refusal {
	if !text.begins("create", "unique", "index", "concurrently") {
		return nil
	}
	for _, named := range w.command.Tables {
		t := w.schema.lookup(named.Schema, named.Name, w.changed)
		if !t.sharded() {
			continue
		}
		name, columns, ok := text.indexed()
		if !ok {
			return refuse("CREATE UNIQUE INDEX CONCURRENTLY of sharded table \""+t.name+"\" whose text is not understood", "Leave CONCURRENTLY out.")
		}
		for i := range t.columns {
			if !slices.Contains(columns, t.keyColumn(i).Name) {
				return refuse("table \""+t.name+"\": "+lacksKey(t, name), hintAddKey)
			}
		}
	}
	return nil
}

// indexed reads the name of an index and its columns, without expressions and those of INCLUDE, from CREATE UNIQUE INDEX CONCURRENTLY (gram.y, IndexStmt).
func (w *words) indexed() (name string, columns []string, ok bool) {
	at := 4 // behind CONCURRENTLY
	if w.is(at, "if") && w.is(at+1, "not") && w.is(at+2, "exists") {
		at += 3
	}
	if !w.is(at, "on") {
		name = w.at(at)
		at++
	}
	if !w.is(at, "on") {
		return "", nil, false
	}
	for at < len(w.text) && !w.is(at, "(") {
		at++
	}
	for depth := 0; at < len(w.text); at++ {
		switch {
		case w.is(at, "("):
			depth++
		case w.is(at, ")"):
			if depth--; depth == 0 {
				return name, columns, true
			}
		}
		if depth == 1 && w.is(at, "(", ",") && (w.quotedAt(at+1) || isName(w.at(at+1)+" ")) && !w.is(at+2, "(", ".") {
			columns = append(columns, w.at(at+1))
		}
	}
	return "", nil, false
}

// quotedAt says whether the i-th token is a quoted name.
func (w *words) quotedAt(i int) bool { return i < len(w.quoted) && w.quoted[i] }
