package proxy

import (
	"slices"

	"pgtier/parser"
	"pgtier/router"
	"pgtier/router/plan"
)

// ShardFacts puts what is known of the shards into an explanation of sql.
func ShardFacts(facts []router.Fact, schema *plan.Schema, st *parser.Statement, sql string, params []string) []router.Fact {
	facts = slices.DeleteFunc(facts, func(f router.Fact) bool { return f.Item == "key" })
	for i := range facts {
		switch facts[i].Item {
		case "parameter":
			facts[i].Reason = ""
		case "cache":
			if facts[i].Value != "kept" {
				continue
			}
			if why := schema.UnkeptStatement(st); why != "" {
				facts[i].Value, facts[i].Reason = "not kept", why
			}
		}
	}
	for _, f := range schema.Explain(st, []byte(sql), params) {
		facts = append(facts, router.Fact(f))
	}
	return facts
}
