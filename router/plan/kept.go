package plan

import (
	"strings"

	"pgtier/parser"
)

// Unkept is why an answer must not be kept that depends on rows of the tables, "schema.name" each: "" if it may. Only rows that one shard has, and no
// other, are written there alone.
func (s *Schema) Unkept(tables []string) string {
	for _, name := range tables {
		if strings.HasPrefix(name, ownSchema) {
			return "reads " + name + ", which pgtier itself writes"
		}
		switch t := s.byName(name); {
		case t == nil:
			return "reads " + name + ", which is not in the catalog that shards are planned by"
		case t.place == placeReference:
			return "reads reference table " + name + ", of which each shard has a copy: a write is seen in one before it is in another"
		case t.place != placeSharded && t.place != placeHome:
			return "reads " + name + ", and where its rows are is not certain"
		}
	}
	return ""
}

// ownSchema begins the names of what pgtier keeps in the databases.
const ownSchema = "pgtier."

// UnkeptPlan is why the answer of a statement that is planned so is not kept, as far as the plan tells; "" if it may be.
func UnkeptPlan(p *Plan) string {
	switch p.Kind {
	case Scatter, CopyOut, Everywhere, Spread:
		return "reads several shards, each from a snapshot of its own"
	}
	return ""
}

// UnkeptText is why the answer of a text is not kept, which goes to shards by these parameters, as Explain takes them; "" if it may be.
func (s *Schema) UnkeptText(st *parser.Statement, sql []byte, params []string) string {
	p := s.Statement(st, sql).Route(explained(sql, params), nil)
	if why := UnkeptPlan(&p); why != "" {
		return why
	}
	return s.Unkept(s.catalog.Keeping(st).Tables)
}
