package plan

import (
	"slices"
	"strings"

	"pgtier/parser"
	"pgtier/router/catalog"
)

// The sequences behind columns of sharded tables step by shard, so that no two shards give one number. What would set them otherwise is refused, by hints
// too: rows may come before anybody has looked at them again.

// ownSequence is behind pgtier.next_id().
const ownSequence = "pgtier.ids"

// numberSequences notes which sequences those are.
func (p *placer) numberSequences() {
	p.numbered = map[string]bool{ownSequence: true}
	for _, t := range p.byOID {
		if !t.sharded() {
			continue
		}
		for i := range t.relation.Columns {
			if name := t.relation.Columns[i].Sequence; name != "" {
				p.numbered[name] = true
			}
		}
	}
}

// numbersRows says whether a name may be that of such a sequence; schema is "" where search_path decides.
func (s *Schema) numbersRows(schema, name string) bool {
	if schema != "" {
		return s.numbered[catalog.QualifiedName(schema, name)]
	}
	for known := range s.numbered {
		if strings.HasSuffix(known, "."+name) {
			return true
		}
	}
	return false
}

// refuseNumbers is why what sets such a sequence is refused.
func refuseNumbers(what string) *Refusal {
	return refuse(what+" of a sequence that numbers the rows of a sharded table, and steps by shard",
		"Leave it as it is: it goes on above what it has given. To begin higher, set it on every server past pgtier and RELOAD: pgtier then numbers anew above that.")
}

// renumbers says why DDL that sets such sequences is refused, nil if it sets none.
func (w *work) renumbers(text *words) *Refusal {
	if text.begins("alter", "sequence") {
		at := 2
		if text.is(at, "if") && text.is(at+1, "exists") {
			at += 2
		}
		schema, name := "", text.at(at)
		if text.at(at+1) == "." {
			schema, name, at = name, text.at(at+2), at+2
		}
		if !text.isFrom(at+1, "increment", "minvalue", "maxvalue", "start", "restart", "cycle", "as", "no") || !w.schema.numbersRows(schema, name) {
			return nil
		}
		return refuseNumbers("ALTER SEQUENCE")
	}
	if !text.is(0, "alter") || !text.is(1, "table", "foreign") {
		return nil
	}
	for _, t := range w.command.Tables {
		known := w.schema.lookup(t.Schema, t.Name, w.changed)
		if t.Access&parser.Alters == 0 || !known.sharded() {
			continue
		}
		if text.addsColumn() && text.has("serial", "bigserial", "smallserial", "serial2", "serial4", "serial8", "identity") {
			return refuse("ALTER TABLE … ADD COLUMN that numbers the rows of sharded table \""+known.name+"\", whose shards would give the same numbers",
				"Add the column without numbers, then ALTER COLUMN … SET DEFAULT nextval(…) or ADD GENERATED …, and fill the rows by UPDATE … SET column = DEFAULT.")
		}
		if text.resetsNumbers() {
			return refuseNumbers("ALTER TABLE … ALTER COLUMN … RESTART or SET")
		}
	}
	return nil
}

// restarts says why TRUNCATE … RESTART IDENTITY is refused, nil if it begins no such sequence anew.
func (w *work) restarts() *Refusal {
	text := wordsOf(w.sql)
	if !text.has("restart") {
		return nil
	}
	names := w.schema.catalog.Behind(w.command).Changed
	tables := make([]*table, 0, len(names))
	for _, name := range names {
		tables = append(tables, w.schema.byName(name))
	}
	for _, t := range w.command.Tables {
		tables = append(tables, w.schema.lookup(t.Schema, t.Name, w.changed))
	}
	for _, t := range tables {
		if t == nil || t.relation == nil {
			continue
		}
		for i := range t.relation.Columns {
			if name := t.relation.Columns[i].Sequence; t.sharded() || w.schema.numbered[name] {
				return refuse("TRUNCATE … RESTART IDENTITY of sharded table \""+t.name+"\", whose shards would give the same numbers", "Leave RESTART IDENTITY out: numbers go on.")
			}
		}
	}
	return nil
}

// sets says why setval() is refused even on one shard: nil if the sequence is certainly another.
func (w *work) sets(call *parser.Expr) *Refusal {
	w.textual = true // the name is read
	if len(call.Args) > 0 {
		e := call.Args[0]
		for e.Kind == parser.ExprCast && len(e.Args) == 1 {
			e = e.Args[0]
		}
		if e.Kind == parser.ExprConstant && e.Value.Kind == parser.ValueConstant && !w.schema.numbersText(e.Value.Text) {
			return nil
		}
	}
	return refuseNumbers("setval()")
}

// numbersText is numbersRows for a name as regclass reads it. What is not plain may be any.
func (s *Schema) numbersText(text string) bool {
	schema, name, qualified := strings.Cut(text, ".")
	if !qualified {
		schema, name = "", text
	}
	if strings.ContainsAny(text, "\"") || strings.Contains(name, ".") {
		return true
	}
	return s.numbersRows(strings.ToLower(strings.TrimSpace(schema)), strings.ToLower(strings.TrimSpace(name)))
}

// at is the i-th token, "" behind the last.
func (w *words) at(i int) string {
	if i >= len(w.text) {
		return ""
	}
	return w.text[i]
}

// isFrom says whether one of these words stands at i or behind it.
func (w *words) isFrom(i int, list ...string) bool {
	for ; i < len(w.text); i++ {
		if w.is(i, list...) {
			return true
		}
	}
	return false
}

// addsColumn says whether ALTER TABLE may add a column: ADD without what else it adds.
func (w *words) addsColumn() bool {
	for i := range w.text {
		if w.is(i, "add") && !w.is(i+1, "generated", "constraint", "primary", "unique", "foreign", "check", "exclude") {
			return true
		}
	}
	return false
}

// resetsNumbers says whether ALTER TABLE may change how an identity column counts.
func (w *words) resetsNumbers() bool {
	options := []string{"increment", "minvalue", "maxvalue", "start", "cycle", "no", "sequence"}
	for i := range w.text {
		if w.is(i, "restart") || w.is(i, "set") && w.is(i+1, options...) {
			return slices.ContainsFunc(w.text[:i], func(word string) bool { return word == "alter" })
		}
	}
	return false
}
