package plan

import (
	"fmt"
	"strings"

	"pgtier/parser"
	"pgtier/proxy/merge"
)

// Fact is one line of an explanation: what was asked, the answer, and why; Reason may be "".
type Fact struct{ Item, Value, Reason string }

// Explain says which shards a text goes to with these parameters, given as text, and what makes one answer of theirs. None stands for parameters that
// are not known.
func (s *Schema) Explain(st *parser.Statement, sql []byte, params []string) []Fact {
	if len(st.Commands) == 0 && !st.Unparsed {
		return nil
	}
	p := s.Statement(st, sql).Route(explained(sql, params), nil)
	if st.Unparsed && p.Kind == Refused && p.Refusal.Code == notSupported {
		return []Fact{{"shards", "none", "shard " + string(s.config.Shards[s.config.Home]) + " is asked to parse it, and says the error; if it takes it, it is refused"},
			{"hint", p.Refusal.Hint, ""}}
	}
	facts := []Fact{{"shards", s.where(&p), p.Kind.String() + ": " + p.Reason}}
	switch {
	case p.Kind == Refused:
		facts[0] = Fact{"shards", "none", "refused with " + p.Refusal.Code + ": " + p.Refusal.Message}
		return append(facts, Fact{"hint", p.Refusal.Hint, ""})
	case p.Open:
		facts[0].Value, facts[0].Reason = "one", "by its parameters; give them behind the statement"
	}
	if p.Parts != nil && p.Needs == nil {
		for i := range p.Shards {
			text, err := p.Parts.Text(i, sql)
			if err == nil {
				facts = append(facts, Fact{"sends", string(text), "to " + string(s.config.Shards[p.Shards[i]])})
			}
			if p.Parts.Rows(i) == nil && p.Parts.own == nil {
				facts[len(facts)-1].Reason = "to each"
				break
			}
		}
	}
	if p.Kind == Scatter {
		facts = append(facts, Fact{"merge", described(p.Merge), ""})
	}
	if p.Final != nil {
		if text, err := p.finalText(sql); err == nil {
			facts = append(facts, Fact{"finishes", string(text), "on " + string(s.config.Shards[p.Shards[0]]) + ", with the groups as parameters"})
		}
	}
	if p.Needs != nil {
		facts = append(facts, Fact{"key", fmt.Sprintf("%d of %s", p.Needs.Count, p.Needs.Sequence), "the next numbers of the home shard's sequence decide"})
	}
	return facts
}

// finalText is the text of Final, its parameters behind those of the statement.
func (p *Plan) finalText(sql []byte) ([]byte, error) {
	part, err := p.Parts.Text(0, sql)
	if err != nil {
		return nil, err
	}
	return p.Final.Text(part, sql, max(1, len(paramsOf(sql))))
}

// explained are the values of a text with parameters in text format.
func explained(sql []byte, params []string) *Values {
	values := &Values{SQL: sql, Known: len(params) > 0}
	for _, p := range params {
		values.Params = append(values.Params, Param{Value: []byte(p)})
	}
	return values
}

// where names the shards of a plan.
func (s *Schema) where(p *Plan) string {
	switch p.Kind {
	case One:
		return string(s.config.Shards[p.Shard])
	case Any:
		return "any one"
	case Session:
		return "that of the transaction"
	}
	if p.Needs != nil {
		return "by the new keys"
	}
	var names []string
	for _, i := range p.Shards {
		names = append(names, string(s.config.Shards[i]))
	}
	return strings.Join(names, ", ")
}

// described says in words what a merge does.
func described(m *merge.Spec) string {
	if m == nil {
		return "rows of one shard after the other"
	}
	var words []string
	if m.Aggregate {
		words = append(words, fmt.Sprintf("%d aggregates and keys of groups made of parts", len(m.Outputs)))
	}
	for _, w := range []struct {
		is   bool
		word string
	}{{m.Having != nil, "HAVING"}, {len(m.Distinct) > 0, "equal rows once"}, {len(m.Sort) > 0, "in order"}, {m.Limited || m.Offset > 0, "limited"}} {
		if w.is {
			words = append(words, w.word)
		}
	}
	if len(words) == 0 {
		return "rows of one shard after the other"
	}
	return strings.Join(words, ", ")
}
