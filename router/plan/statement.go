package plan

import (
	"pgtier/parser"
)

// Statement is what is known of a text before its values are. It is immutable, and belongs to the Schema that made it.
type Statement struct {
	schema *Schema
	// kind is that of the plans, where it does not depend on values: One and Scatter, One and Spread otherwise have it One.
	kind   Kind
	reason string
	// refusal is why the text is refused; hinted says that a hint for one shard lifts it.
	refusal *Refusal
	hinted  bool
	// pins are those of all uses of sharded tables; loose is the use without one that keeps the statement from being One, "" if all have.
	pins  []pin
	loose string
	// simple is the only pin, of one column and one value.
	simple *value
	// home: tables of the home shard are used too.
	home bool
	// wide is how it goes to several shards; nil: it does not, and narrow says why.
	wide   *wide
	narrow *Refusal

	insert *insert
	copy   *Copy
	// checks are rows none of whose key may be NULL.
	checks []checked
	// places are the literals that the plan rests on.
	places []int

	write, explain, mixed, outside, apart bool
	// homeTable is a table that it touches whose rows are at home alone, "" for none; advances: it calls nextval().
	homeTable string
	advances  bool
	// empties: DDL that makes rows makes them on the home shard only.
	empties bool
	// keyed is a sharded table of the statement, for the type of a sharding key that a hint or a setting gives.
	keyed *table
	// copies: it writes to all copies of a reference table, which no hint may narrow.
	copies bool
	// onlyCopies, of Everywhere: it touches reference tables and no others.
	onlyCopies bool
	// locks are those of the reference tables that it writes, and of those that it reads for that.
	locks []Lock
	// params are its parameters, without whose values nothing is known: where they stand, and the slots there.
	params map[*parser.Expr]uint32
	// vague are the parameters for which the server may take another type, by their number, if another place comes first.
	vague []int
	// inserts: it may make rows of sharded tables.
	inserts bool
	// textual: constants are those of the text that was planned, because no other text shares the Statement.
	textual bool
	// backslash: a literal has a backslash that may be read otherwise (parser.Statement.Conforming).
	backslash bool
	// own is how each shard leaves out rows that it does not own, where buckets move; nil: it cannot, and whole says what is in the way, "" for nothing in
	// particular. byItself is the kind of a plan for one shard that does so.
	own      *own
	whole    string
	byItself Kind
	// clean: it touches no rows of sharded tables, by itself or behind it, whatever it is refused for.
	clean bool
	// hints are those of the text.
	shardHint, keyHint string
}

// memoSize is a guess, in bytes, of what a Statement takes beside the text's length times memoFactor: its tree is kept by what is bound to it.
const (
	memoSize   = 2 << 10
	memoFactor = 64
)

// Statement plans a text as far as it goes without values. It remembers that by st, which must be sql's. sql is not retained.
func (s *Schema) Statement(st *parser.Statement, sql []byte) *Statement {
	switch found := s.memo.Find(st).(type) {
	case *Statement:
		return found
	case *variants:
		return found.find(s, st, sql)
	}
	p := s.text(st, sql, false)
	switch {
	case p.textual || st.Template == "":
	case len(p.places) == 0:
		s.memo.Add(st, p, memoSize+memoFactor*len(sql))
	case len(p.places) <= maxPlaces:
		s.memo.Add(st, newVariants(p, sql), maxVariants*(memoSize+memoFactor*len(sql)))
	}
	return p
}

// Changed is Statement for a transaction that has changed the catalog: what is not known in it is refused. It is not remembered.
func (s *Schema) Changed(st *parser.Statement, sql []byte) *Statement { return s.text(st, sql, true) }

// text plans a text of any number of statements.
func (s *Schema) text(st *parser.Statement, sql []byte, changed bool) *Statement {
	p := &Statement{schema: s, byItself: One}
	switch {
	case st.HintError != "":
		p.refusal = &Refusal{Code: "22023", Message: st.HintError}
		return p
	case st.Unparsed:
		p.refuse(refuse("statement that cannot be parsed", "If a server takes it, say which shard with /* pgtier: shard=… */."))
	case len(st.Commands) == 0:
		p.kind, p.reason = Session, "no statement"
	case len(st.Commands) == 1:
		w := work{schema: s, st: st, sql: sql, command: &st.Commands[0], changed: changed, Statement: p}
		w.plan()
	default:
		p.several(st, sql, changed)
	}
	for _, h := range st.Hints {
		switch h.Name {
		case "shard":
			p.shardHint = h.Value
		case "sharding_key":
			p.keyHint = h.Value
		}
	}
	if p.refusal != nil && p.copies && p.refusal.Hint == hintPin { // which no hint lifts
		r := *p.refusal
		r.Hint = "The copies of a reference table might differ. Compute the values first, and write them by a statement of their own."
		p.refusal = &r
	}
	p.backslash = st.Conforming
	p.doubt()
	p.simplify()
	return p
}

// refuse makes the plan a refusal that a hint for one shard lifts.
func (p *Statement) refuse(r *Refusal) { p.refusal, p.hinted = r, true }

// forbid makes the plan a refusal that no hint lifts.
func (p *Statement) forbid(r *Refusal) { p.refusal, p.hinted = r, false }

// simplify notes the pin of one value, which most statements have.
func (p *Statement) simplify() {
	if p.kind != One || p.refusal != nil || len(p.pins) != 1 || p.loose != "" || p.insert != nil && !p.insert.whole {
		return
	}
	columns := p.pins[0].columns
	if len(columns) == 1 && len(columns[0]) == 1 && !columns[0][0].array && len(columns[0][0].list) == 1 {
		p.simple = &columns[0][0].list[0]
	}
}
